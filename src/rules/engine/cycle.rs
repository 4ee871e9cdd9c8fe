//! What no rule may be: dependent on what it records itself, suppressed by itself, through others or not, or about a
//! fixed time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::EngineError;
use crate::rules::eval::check::{Selected, selectors};
use crate::rules::live::NAME;
use crate::rules::spec::{GroupSpec, RuleKind, RuleSpec};

/// Every recording rule whose result depends on itself.
pub(super) fn cycles(groups: &[GroupSpec]) -> Vec<EngineError> {
    let rules: Vec<(&GroupSpec, &RuleSpec, Vec<Selected>)> = groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
        .filter(|(_, rule)| matches!(rule.kind, RuleKind::Record))
        .map(|(group, rule)| (group, rule, selectors(&rule.expression, group.interval)))
        .collect();
    let depends: BTreeMap<usize, Vec<usize>> = (0..rules.len())
        .map(|rule| {
            let others = (0..rules.len())
                .filter(|other| rules[rule].2.iter().any(|selected| may_select(selected, rules[*other].1)));
            (rule, others.collect())
        })
        .collect();
    let cyclic = (0..rules.len()).filter(|rule| reaches(*rule, &depends));
    cyclic
        .map(|rule| EngineError::Cycle {
            group: rules[rule].0.name.clone(),
            rule: rules[rule].1.name.clone(),
            place: rules[rule].1.place.clone(),
        })
        .collect()
}

/// Every rule that looks at a fixed time.
pub(super) fn fixed_times(groups: &[GroupSpec]) -> Vec<EngineError> {
    let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let is_fixed = |(group, rule): &(&GroupSpec, &RuleSpec)| {
        let clear = match &rule.kind {
            RuleKind::Alert(alert) => alert.clear.as_ref(),
            RuleKind::Record => None,
        };
        let expressions = std::iter::once(&rule.expression).chain(clear);
        expressions.flat_map(|it| selectors(it, group.interval)).any(|selected| selected.is_fixed)
    };
    rules
        .filter(is_fixed)
        .map(|(group, rule)| EngineError::FixedTime {
            group: group.name.clone(),
            rule: rule.name.clone(),
            place: rule.place.clone(),
        })
        .collect()
}

/// Whether a selector may take a result of a rule: of the labels only those that the rule sets are known.
fn may_select(selected: &Selected, rule: &RuleSpec) -> bool {
    selected.matchers.iter().all(|matcher| match matcher.name.as_str() {
        NAME => matcher.is_match(&rule.name),
        label => rule.labels.get(label).is_none_or(|value| matcher.is_match(value)),
    })
}

/// Every alarm that is suppressed by itself.
pub(super) fn suppressions(groups: &[GroupSpec]) -> Vec<EngineError> {
    let alerts: Vec<(&GroupSpec, &RuleSpec, &[String])> = groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
        .filter_map(|(group, rule)| match &rule.kind {
            RuleKind::Alert(alert) => Some((group, rule, alert.suppressed_by.as_slice())),
            RuleKind::Record => None,
        })
        .collect();
    let explains = |by: &RuleSpec, (_, rule, names): &(&GroupSpec, &RuleSpec, &[String])| {
        names.contains(&by.name) && may_agree(&by.labels, &rule.labels)
    };
    let depends: BTreeMap<usize, Vec<usize>> = (0..alerts.len())
        .map(|alert| (alert, (0..alerts.len()).filter(|by| explains(alerts[*by].1, &alerts[alert])).collect()))
        .collect();
    let cyclic = (0..alerts.len()).filter_map(|alert| Some((alert, path(alert, &depends)?)));
    cyclic
        .map(|(alert, path)| {
            let (group, rule, _) = alerts[alert];
            let path: Vec<&str> = path.into_iter().map(|step| alerts[step].1.name.as_str()).collect();
            let (group, name, place) = (group.name.clone(), rule.name.clone(), rule.place.clone());
            EngineError::Suppression { group, rule: name, path: path.join(" by "), place }
        })
        .collect()
}

/// Whether alarms with these labels can be about the same thing: what a template gives is not known.
fn may_agree(some: &BTreeMap<String, String>, others: &BTreeMap<String, String>) -> bool {
    let is_known = |value: &str| !value.contains("{{");
    some.iter().all(|(label, value)| {
        others.get(label).is_none_or(|other| other == value || !is_known(value) || !is_known(other))
    })
}

fn reaches(start: usize, depends: &BTreeMap<usize, Vec<usize>>) -> bool {
    path(start, depends).is_some()
}

/// A shortest way from `start` back to it, both ends included.
fn path(start: usize, depends: &BTreeMap<usize, Vec<usize>>) -> Option<Vec<usize>> {
    let (mut seen, mut open) = (BTreeSet::new(), VecDeque::from([vec![start]]));
    while let Some(path) = open.pop_front() {
        for next in path.last().map(|last| depends[last].as_slice()).unwrap_or_default() {
            let longer = || path.iter().chain([next]).copied().collect::<Vec<usize>>();
            if *next == start {
                return Some(longer());
            }
            if seen.insert(*next) {
                open.push_back(longer());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::file::parse;

    fn suppressed(rules: &[&str]) -> Vec<String> {
        let text = |rule: &&str| format!("      - {{ alert: {rule} }}\n");
        let rules: String = rules.iter().map(text).collect();
        let groups = parse(&format!("groups:\n  - name: g\n    rules:\n{rules}"), "r.yml").unwrap();
        let shown = |error: &EngineError| format!("{}:{}: {error}", error.place().file, error.place().line);
        suppressions(&groups).iter().map(shown).collect()
    }

    #[test]
    fn alarms_that_suppress_themselves_are_found_with_their_place_and_the_way() {
        let found = suppressed(&[
            "Own, expr: a, edge: { suppressed_by: [Own] }",
            "One, expr: a, edge: { suppressed_by: [Two, Other] }",
            "Two, expr: a, edge: { suppressed_by: [Three] }",
            "Three, expr: a, edge: { suppressed_by: [One] }",
            "Behind, expr: a, edge: { suppressed_by: [One] }",
            "Other, expr: a",
        ]);

        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            found[0].starts_with("r.yml:4: alarm Own of group g is suppressed by itself (Own by Own)"),
            "{found:?}"
        );
        assert!(found[1].contains("r.yml:5:") && found[1].contains("(One by Two by Three by One)"), "{found:?}");
    }

    #[test]
    fn alarms_of_one_name_whose_labels_differ_may_suppress_each_other() {
        let severe = "Hot, expr: a, labels: { severity: critical }";
        let mild =
            |severity| format!("Hot, expr: a, labels: {{ severity: {severity} }}, edge: {{ suppressed_by: [Hot] }}");

        // The mild one names its own name too, and that is a cycle of one.
        assert_eq!(suppressed(&[severe, &mild("low")]).len(), 1);
        assert_eq!(suppressed(&[severe, "Warm, expr: a, edge: { suppressed_by: [Hot] }"]), [""; 0]);
    }
}
