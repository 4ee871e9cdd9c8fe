//! What an interlock of a write may be: PromQL that can come to nothing. Pure.

use promql_parser::label::Matcher;
use promql_parser::parser::Expr;
use promql_parser::parser::token::{T_LAND, T_LOR, T_LUNLESS};
use promql_parser::parser::value::ValueType;

use super::engine::{FIXED_TIME, INTERLOCK_STEP};
use super::eval::check::{refusals, selectors};
use super::plan::operation;
use super::spec::InterlockSpec;
use super::syntax;

/// How far back an interlock may look, in milliseconds: its samples are kept in memory all the time.
const REACH_MAX: i64 = 24 * 3_600_000;

/// The interlock that is written as `text`.
///
/// # Errors
/// Everything for which it cannot be one.
pub fn interlock(text: &str) -> Result<InterlockSpec, Vec<String>> {
    let expression = syntax::parse(text).map_err(|reason| vec![reason])?;
    let mut faults = refusals(&expression, INTERLOCK_STEP);
    let selected = selectors(&expression, INTERLOCK_STEP);
    if selected.is_empty() {
        faults.push("looks at no series".to_owned());
    }
    if selected.iter().any(|selected| selected.is_fixed) {
        faults.push(FIXED_TIME.to_owned());
    }
    if selected.iter().any(|selected| !selected.is_fixed && selected.reach > REACH_MAX) {
        faults.push("looks back further than 24h".to_owned());
    }
    if faults.is_empty() && !may_be_empty(&expression) {
        faults.push(
            "always has a result, so it would never forbid anything: compare, without bool, as in door_open == 0"
                .to_owned(),
        );
    }
    if faults.is_empty() { Ok(InterlockSpec { text: text.to_owned(), expression }) } else { Err(faults) }
}

/// Whether the expression can be without a result although every series that it looks at has a value.
fn may_be_empty(expression: &Expr) -> bool {
    match expression {
        Expr::Binary(binary) => {
            let (left, right) = (may_be_empty(&binary.lhs), may_be_empty(&binary.rhs));
            let is_bool = binary.modifier.as_ref().is_some_and(|modifier| modifier.return_bool);
            let is_vector = expression.value_type() == ValueType::Vector;
            match binary.op.id() {
                T_LOR => left && right,
                T_LAND | T_LUNLESS => left || right,
                id => left || right || is_vector && !is_bool && operation(id).is_some_and(|it| it.compares()),
            }
        }
        Expr::Call(call) => match call.func.name {
            "absent" | "absent_over_time" => true,
            "scalar" | "vector" | "time" => false,
            _ => call.args.args.iter().any(|argument| may_be_empty(argument)),
        },
        Expr::Aggregate(aggregate) => may_be_empty(&aggregate.expr),
        Expr::Subquery(subquery) => may_be_empty(&subquery.expr),
        Expr::Paren(paren) => may_be_empty(&paren.expr),
        Expr::Unary(unary) => may_be_empty(&unary.expr),
        Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => false,
    }
}

/// What an interlock looks at.
pub fn inputs(expression: &Expr) -> Vec<Vec<Matcher>> {
    selectors(expression, INTERLOCK_STEP).into_iter().map(|selected| selected.matchers).collect()
}

/// Whether one of several series is enough for a result: people mostly mean all of them.
pub fn is_aggregated(expression: &Expr) -> bool {
    match expression {
        Expr::Aggregate(_) => true,
        Expr::Binary(binary) => is_aggregated(&binary.lhs) || is_aggregated(&binary.rhs),
        Expr::Call(call) => {
            matches!(call.func.name, "absent" | "absent_over_time")
                || call.args.args.iter().any(|argument| is_aggregated(argument))
        }
        Expr::Subquery(subquery) => is_aggregated(&subquery.expr),
        Expr::Paren(paren) => is_aggregated(&paren.expr),
        Expr::Unary(unary) => is_aggregated(&unary.expr),
        Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_forbid_something_is_an_interlock() {
        for good in [
            "door_open == 0",
            "max(door_open) == 0 and temperature_c{device=\"press-1\"} < 60",
            "avg_over_time(temperature_c[5m]) < 60",
            "count(door_open == 0) == 5",
            "absent(ALERTS{alertname=\"Pressure\"})",
            "running unless door_open > 0",
            "max_over_time((door_open == 0)[1m:1s])",
        ] {
            assert!(interlock(good).is_ok(), "{good}: {:?}", interlock(good));
        }
    }

    #[test]
    fn what_could_never_forbid_anything_or_needs_what_is_not_there_is_refused() {
        for (bad, reason) in [
            ("door_open", "always has a result"),
            ("door_open == bool 0", "always has a result"),
            ("door_open == 0 or temperature_c", "always has a result"),
            ("press-1/door_open", "always has a result"),
            ("vector(scalar(door_open == 0))", "always has a result"),
            ("1 == bool 1", "looks at no series"),
            ("door_open[5m]", "the result of a rule is"),
            ("avg_over_time(door_open[25h]) == 0", "further than 24h"),
            ("door_open @ 5 == 0", "fixed time"),
            ("door_open =", "parse"),
        ] {
            let faults = interlock(bad).unwrap_err();
            let is_said = faults.iter().any(|fault| fault.contains(reason));
            assert!(is_said || reason == "parse", "{bad}: {faults:?}");
        }
    }
}
