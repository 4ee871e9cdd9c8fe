//! Which series an alarm is about.

use std::collections::BTreeMap;

use crate::rules::live::{LiveTable, NAME};

type Own = BTreeMap<String, String>;

/// Series of selectors that have the labels of an alarm, as far as both have them.
pub(super) fn inputs(table: &LiveTable, selectors: &[usize], labels: &Own, most: usize) -> Vec<usize> {
    let agrees = |position: &usize| agree(&table.series(*position).spec.labels, labels);
    let mut found = Vec::new();
    for selector in selectors {
        for position in table.members(*selector, None).filter(agrees).take(most) {
            if found.len() < most && !found.contains(&position) {
                found.push(position);
            }
        }
    }
    found
}

/// Whether labels that both have are equal.
pub(super) fn agree(some: &Own, others: &Own) -> bool {
    some.iter().all(|(key, value)| key == NAME || others.get(key).is_none_or(|other| other == value))
}

/// `name{label="value"}`, without what is the same for all series of a gateway.
pub(super) fn shown(labels: &Own) -> String {
    let name = labels.get(NAME).map_or("", String::as_str);
    let others = labels.iter().filter(|(key, _)| !matches!(key.as_str(), NAME | "site" | "gateway"));
    let others: Vec<String> = others.map(|(key, value)| format!("{key}={value:?}")).collect();
    format!("{name}{{{}}}", others.join(","))
}
