//! Functions that change labels, or make them up.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::Expr;
use regex::Regex;

use super::{Element, EvalError, all_matchers, distinct};
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
    let regex = Regex::new(&format!("^(?s:{pattern})$"))
        .map_err(|_| EvalError::Argument(format!("invalid regular expression in label_replace(): {pattern}")))?;
    let replaced = |element: Element| {
        let value = element.labels.get(source).map_or("", String::as_str);
        let Some(groups) = regex.captures(value) else { return element };
        let mut new = String::new();
        groups.expand(template, &mut new);
        Element { labels: with(&element.labels, target, new), ..element }
    };
    distinct(elements.into_iter().map(replaced).collect())
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
