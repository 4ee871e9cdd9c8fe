//! Functions that change labels, or make them up.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{AggregateExpr, Call, Expr, token};

use super::{Element, EvalError, all_matchers, distinct};
use crate::model::go_regex::GoRegex;
use crate::rules::live::{Labels, NAME};

/// `{device="press-1"}`, as Prometheus shows labels.
pub fn shown(labels: &BTreeMap<String, String>) -> String {
    let name = labels.get(NAME).map_or("", String::as_str);
    let others = labels.iter().filter(|(key, _)| *key != NAME).map(|(key, value)| format!("{key}={value:?}"));
    let others: Vec<String> = others.collect();
    if others.is_empty() && !name.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", others.join(", ")) }
}

/// The labels among `names`.
pub(super) fn kept(labels: &Labels, names: &[String]) -> Labels {
    let wanted = names.iter().filter_map(|name| Some((name.clone(), labels.get(name)?.clone())));
    Labels::new(wanted.collect())
}

/// The labels without `names`, and without the name of the series if that is asked.
pub(super) fn left_out(labels: &Labels, names: &[String], drops_name: bool) -> Labels {
    let goes = |key: &String| (drops_name && key == NAME) || names.contains(key);
    if !labels.keys().any(goes) {
        return labels.clone();
    }
    let kept = labels.iter().filter(|(key, _)| !goes(key));
    Labels::new(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// `label_replace`: where the whole of `source` matches, `target` becomes the template with its groups filled in.
pub(super) fn replace(elements: Vec<Element>, texts: &[String]) -> Result<Vec<Element>, EvalError> {
    let [target, template, source, pattern] = texts else {
        return Err(EvalError::Argument("label_replace takes four texts".to_owned()));
    };
    check_name("label_replace", target)?;
    let regex = whole_pattern(pattern)?;
    let replaced = |element: Element| {
        let value = element.labels.get(source).map_or("", String::as_str);
        let Some(new) = regex.expand(value, template) else { return element };
        Element { labels: with(&element.labels, target, new), ..element }
    };
    distinct(elements.into_iter().map(replaced).collect())
}

/// What the constant arguments of a call make impossible, whatever series there are.
pub(super) fn refused(call: &Call) -> Vec<String> {
    let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| bare(argument)).collect();
    let checked = match (call.func.name, arguments.as_slice()) {
        ("label_replace", [_, target, _, _, pattern]) => vec![
            constant(target).map(|name| check_name("label_replace", name)),
            constant(pattern).map(|pattern| whole_pattern(pattern).map(drop)),
        ],
        ("label_join", [_, target, _, sources @ ..]) => {
            let names = std::iter::once(target).chain(sources);
            names.map(|name| constant(name).map(|name| check_name("label_join", name))).collect()
        }
        ("double_exponential_smoothing", [_, Expr::NumberLiteral(smoothing), Expr::NumberLiteral(trend)]) => {
            vec![Some(super::ranges::check_factors(smoothing.val, trend.val))]
        }
        _ => Vec::new(),
    };
    checked.into_iter().flatten().filter_map(Result::err).map(|error| error.to_string()).collect()
}

/// As [`refused`], of an aggregation.
pub(super) fn refused_name(aggregate: &AggregateExpr) -> Option<String> {
    let name = aggregate.param.as_deref().map(bare).and_then(constant)?;
    let is_name = aggregate.op.id() == token::T_COUNT_VALUES;
    is_name.then(|| check_name("count_values", name).err().map(|error| error.to_string())).flatten()
}

fn bare(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(paren) => bare(&paren.expr),
        other => other,
    }
}

fn constant(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::StringLiteral(text) => Some(&text.val),
        _ => None,
    }
}

fn whole_pattern(pattern: &str) -> Result<GoRegex, EvalError> {
    GoRegex::whole(pattern).map_err(|reason| {
        EvalError::Argument(format!("invalid regular expression in label_replace(): {pattern}: {reason}"))
    })
}

/// `label_join`: `target` becomes the values of the other labels, one after the other.
pub(super) fn join(elements: Vec<Element>, texts: &[String]) -> Result<Vec<Element>, EvalError> {
    let [target, separator, sources @ ..] = texts else {
        return Err(EvalError::Argument("label_join takes a label, a separator and labels to join".to_owned()));
    };
    for name in [target].into_iter().chain(sources) {
        check_name("label_join", name)?;
    }
    let joined = |element: Element| {
        let values = sources.iter().map(|source| element.labels.get(source).map_or("", String::as_str));
        let new = values.collect::<Vec<_>>().join(separator);
        Element { labels: with(&element.labels, target, new), ..element }
    };
    distinct(elements.into_iter().map(joined).collect())
}

fn with(labels: &Labels, name: &str, value: String) -> Labels {
    let mut changed = (**labels).clone();
    if value.is_empty() {
        changed.remove(name)
    } else {
        changed.insert(name.to_owned(), value)
    };
    Labels::new(changed)
}

/// Names of labels are as in Prometheus up to 2: what JSON, Sparkplug and templates can name too.
pub(super) fn check_name(function: &str, name: &str) -> Result<(), EvalError> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(EvalError::Argument(format!("invalid label name in {function}(): {name:?}")))
}

/// Labels of what is absent: those that the selector says are equal to something.
pub(super) fn of_absent(expression: &Expr) -> Result<Labels, EvalError> {
    let matchers: Vec<Matcher> = match expression {
        Expr::Paren(paren) => return of_absent(&paren.expr),
        Expr::VectorSelector(selector) => all_matchers(selector)?,
        Expr::MatrixSelector(matrix) => all_matchers(&matrix.vs)?,
        _ => return Ok(Labels::default()),
    };
    let (mut labels, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for matcher in matchers.into_iter().filter(|matcher| matcher.name != NAME) {
        if matches!(matcher.op, MatchOp::Equal) && seen.insert(matcher.name.clone()) {
            labels.insert(matcher.name, matcher.value);
        } else {
            labels.remove(&matcher.name);
        }
    }
    labels.retain(|_, value| !value.is_empty());
    Ok(Labels::new(labels))
}
