//! Rules that depend on what they record themselves, through others or not.

use std::collections::{BTreeMap, BTreeSet};

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

/// Whether a selector may take a result of a rule: of the labels only those that the rule sets are known.
fn may_select(selected: &Selected, rule: &RuleSpec) -> bool {
    selected.matchers.iter().all(|matcher| match matcher.name.as_str() {
        NAME => matcher.is_match(&rule.name),
        label => rule.labels.get(label).is_none_or(|value| matcher.is_match(value)),
    })
}

fn reaches(start: usize, depends: &BTreeMap<usize, Vec<usize>>) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), depends[&start].clone());
    while let Some(rule) = open.pop() {
        if rule == start {
            return true;
        }
        if seen.insert(rule) {
            open.extend(&depends[&rule]);
        }
    }
    false
}
