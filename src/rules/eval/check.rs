//! What can be said about an expression without any series: what is refused, what it selects, how far it looks back.

use std::time::Duration;

use promql_parser::label::Matcher;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{AtModifier, Expr, Offset, VectorSelector, token};

use super::{labels, millis};
use crate::rules::plan::matchers;

/// Most steps of a subquery, as in Prometheus.
const STEPS_MAX: u128 = 11_000;

/// Further back than anything is kept, in milliseconds: a thousand years.
const EVER: i64 = 1000 * 365 * 86_400_000;

/// A selector of an expression.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Its matchers, that of the name among them.
    pub matchers: Vec<Matcher>,
    /// How far before the evaluation it looks, in milliseconds, without the look-back; a thousand years for a fixed
    /// time.
    pub reach: i64,
    /// It looks at a fixed time, whenever it is evaluated.
    pub is_fixed: bool,
}

/// Everything for which an expression cannot be evaluated here; `step` is that of subqueries that do not say.
pub fn refusals(expression: &Expr, step: Duration) -> Vec<String> {
    let mut found = Vec::new();
    if matches!(expression.value_type(), ValueType::Matrix | ValueType::String) {
        found.push(format!("the result of a rule is a vector or a number, this is a {}", expression.value_type()));
    }
    refuse(expression, step, &mut found);
    found
}

fn refuse(expression: &Expr, step: Duration, found: &mut Vec<String>) {
    match expression {
        Expr::Call(call) => {
            let name = call.func.name;
            match name {
                "double_exponential_smoothing" | "histogram_fraction" => {}
                "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev" | "histogram_stdvar" => {
                    found.push(format!("{name} is about native histograms, which do not exist here"));
                }
                _ if call.func.experimental => {
                    found.push(format!("{name} is an experimental function of Prometheus, and not known here"));
                }
                _ => {}
            }
            found.extend(labels::refused(call));
        }
        Expr::Aggregate(aggregate) => {
            found.extend(labels::refused_name(aggregate));
            if matches!(aggregate.op.id(), token::T_LIMITK | token::T_LIMIT_RATIO) {
                let name = aggregate.op.to_string();
                found.push(format!("{name} is an experimental aggregation of Prometheus, and not known here"));
            }
        }
        Expr::Binary(binary) => {
            let fill = binary.modifier.as_ref().map(|modifier| &modifier.fill_values);
            if fill.is_some_and(|fill| fill.lhs.is_some() || fill.rhs.is_some()) {
                found.push("fill is an experimental modifier of Prometheus, and not known here".to_owned());
            }
        }
        Expr::Subquery(subquery) => {
            let step = subquery.step.unwrap_or(step).max(Duration::from_millis(1));
            if subquery.range.as_millis() / step.as_millis() > STEPS_MAX {
                found.push(format!("a subquery of more than {STEPS_MAX} steps: {subquery}"));
            }
        }
        Expr::VectorSelector(selector) => refuse_selector(selector, found),
        Expr::MatrixSelector(matrix) => refuse_selector(&matrix.vs, found),
        Expr::Paren(_) | Expr::Unary(_) | Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
    inner(expression).into_iter().for_each(|inner| refuse(inner, step, found));
}

fn refuse_selector(selector: &VectorSelector, found: &mut Vec<String>) {
    if !selector.matchers.or_matchers.is_empty() {
        found.push(format!("alternatives joined by or in a selector are no part of PromQL: {selector}"));
    }
}

/// Expressions that an expression is made of.
fn inner(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::Call(call) => call.args.args.iter().map(|argument| &**argument).collect(),
        Expr::Aggregate(aggregate) => aggregate.param.iter().map(|it| &**it).chain([&*aggregate.expr]).collect(),
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Paren(paren) => vec![&paren.expr],
        Expr::Unary(unary) => vec![&unary.expr],
        Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => Vec::new(),
    }
}

/// The selectors of an expression, in the order in which they stand; those with alternatives are left out.
pub fn selectors(expression: &Expr, step: Duration) -> Vec<Selected> {
    let mut found = Vec::new();
    collect(expression, 0, false, step, &mut found);
    found
}

fn collect(expression: &Expr, reach: i64, is_fixed: bool, step: Duration, found: &mut Vec<Selected>) {
    let mut take = |selector: &VectorSelector, span: Duration| {
        if let Some(matchers) = matchers(selector) {
            let reach = reach + behind(selector.offset.as_ref()) + millis(span);
            let is_fixed = is_fixed || is_at_fixed_time(selector.at.as_ref());
            let reach = if is_fixed { EVER } else { reach };
            found.push(Selected { matchers, reach, is_fixed });
        }
    };
    match expression {
        Expr::VectorSelector(selector) => take(selector, Duration::ZERO),
        Expr::MatrixSelector(matrix) => take(&matrix.vs, matrix.range),
        Expr::Subquery(subquery) => {
            let step = subquery.step.unwrap_or(step);
            let reach = reach + behind(subquery.offset.as_ref()) + millis(subquery.range) + millis(step);
            collect(&subquery.expr, reach, is_fixed || is_at_fixed_time(subquery.at.as_ref()), step, found);
        }
        other => inner(other).into_iter().for_each(|inner| collect(inner, reach, is_fixed, step, found)),
    }
}

fn is_at_fixed_time(at: Option<&AtModifier>) -> bool {
    matches!(at, Some(AtModifier::At(_)))
}

fn behind(offset: Option<&Offset>) -> i64 {
    match offset {
        None => 0,
        Some(Offset::Pos(span)) => millis(*span),
        Some(Offset::Neg(span)) => -millis(*span),
    }
}
