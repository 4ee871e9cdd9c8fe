//! Selectors that no series there is can match: most often a name that is spelt otherwise. Pure.

use std::collections::BTreeMap;

use promql_parser::label::{MatchOp, Matcher};

use super::eval::check::selectors;
use super::live::{Labels, NAME};
use super::spec::{GroupSpec, Place, RuleKind, RuleSpec};

/// A selector that takes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmatched {
    /// Where its expression stands.
    pub place: Place,
    /// The rule.
    pub rule: String,
    /// The selector.
    pub selector: String,
    /// A series with nearly the same name, where there is one.
    pub meant: Option<String>,
}

/// Every selector of the rules that takes neither one of `series` nor what a rule records.
pub fn unmatched(groups: &[GroupSpec], series: &[Labels]) -> Vec<Unmatched> {
    let rules = || groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let made: Vec<&RuleSpec> = rules().map(|(_, rule)| rule).collect();
    let mut found = Vec::new();
    for (group, rule) in rules().filter(|(_, rule)| !rule.place.file.is_empty()) {
        let mut expressions = vec![&rule.expression];
        if let RuleKind::Alert(alert) = &rule.kind {
            expressions.extend(&alert.clear);
        }
        for selected in expressions.into_iter().flat_map(|it| selectors(it, group.interval)) {
            let matchers = &selected.matchers;
            let is_taken =
                series.iter().any(|labels| takes(matchers, labels)) || made.iter().any(|it| made_by(matchers, it));
            if !is_taken {
                found.push(Unmatched {
                    place: rule.place.clone(),
                    rule: rule.name.clone(),
                    selector: shown(matchers),
                    meant: meant(matchers, series),
                });
            }
        }
    }
    found
}

/// Whether matchers take a series with these labels.
pub fn takes(matchers: &[Matcher], labels: &BTreeMap<String, String>) -> bool {
    matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name).map_or("", String::as_str)))
}

/// Whether some rule may make a series that the matchers take.
pub fn is_made(matchers: &[Matcher], groups: &[GroupSpec]) -> bool {
    groups.iter().flat_map(|group| &group.rules).any(|rule| made_by(matchers, rule))
}

/// Whether a rule may make such a series: of its labels only those that it sets are known.
pub fn made_by(matchers: &[Matcher], rule: &RuleSpec) -> bool {
    let is_name = |name: &str| match &rule.kind {
        RuleKind::Record => name == rule.name,
        RuleKind::Alert(_) => matches!(name, "ALERTS" | "ALERTS_FOR_STATE"),
    };
    let by_name: Vec<&Matcher> = matchers.iter().filter(|matcher| matcher.name == NAME).collect();
    match by_name.as_slice() {
        [Matcher { op: MatchOp::Equal, value, .. }] => is_name(value),
        several => several.iter().all(|matcher| matcher.is_match(&rule.name)),
    }
}

/// A selector as one writes it.
pub fn shown(matchers: &[Matcher]) -> String {
    let is_name = |matcher: &&Matcher| matcher.name == NAME && matches!(matcher.op, MatchOp::Equal);
    let name = matchers.iter().find(is_name).map_or("", |matcher| &matcher.value);
    let others: Vec<String> = matchers.iter().filter(|it| !is_name(it)).map(ToString::to_string).collect();
    if others.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", others.join(",")) }
}

/// The name among those of the series that is nearest to what is selected, when it is near enough to be a slip.
fn meant(matchers: &[Matcher], series: &[Labels]) -> Option<String> {
    let wanted = matchers.iter().find(|matcher| matcher.name == NAME && matches!(matcher.op, MatchOp::Equal))?;
    let names = series.iter().filter_map(|labels| labels.get(NAME));
    let near = names.map(|name| (distance(&wanted.value, name), name)).min()?;
    (near.0 > 0 && near.0 <= 3.min(wanted.value.len() / 3)).then(|| near.1.clone())
}

/// How many letters have to be put in, left out or changed (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = before + usize::from(letter != *other);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rules::file::parse;

    #[test]
    fn what_no_series_can_match_is_found_with_what_may_be_meant() {
        let labels = |name: &str, device: &str| -> Labels {
            Arc::new([(NAME, name), ("device", device)].map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        };
        let series = [labels("temperature_c", "press-1"), labels("active_power_w", "press-1")];
        let text = "groups:\n- name: a\n  rules:\n  - {record: 'power:avg', expr: avg(active_power_w)}\n  \
                    - {alert: B, expr: power:avg > 1 and temperatur_c > 1 unless ALERTS}\n  \
                    - {alert: C, expr: 'temperature_c{device=\"press-2\"} > absent(temperature_c)'}\n";
        let groups = parse(text, "r.yml").unwrap();

        let found = unmatched(&groups, &series);

        let said: Vec<(&str, &str, Option<&str>)> =
            found.iter().map(|it| (it.rule.as_str(), it.selector.as_str(), it.meant.as_deref())).collect();
        assert_eq!(
            said,
            [("B", "temperatur_c", Some("temperature_c")), ("C", "temperature_c{device=\"press-2\"}", None)]
        );
        assert_eq!(found[0].place.line, 5);
    }
}
