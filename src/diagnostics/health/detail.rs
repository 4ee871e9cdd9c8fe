//! How much of the state a health message holds. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::config::HealthDetail;
use crate::encoding::health::Node;

/// How much of the state a health message holds.
///
/// In all of them measured times (`..._us`) have two significant digits and ratios (`..._ratio`) three decimals: their
/// noise would take more bytes than everything else. `total_us` is left out, because rounded it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Everything.
    Full,
    /// Of each device only the keys of [`SUMMARY_OF_DEVICE`], and nothing about intervals.
    Summary,
    /// The keys of [`TOTALS`], and `devices`: how many there are in each state.
    Totals,
}

/// What totals say of the gateway, in 600 bytes or so.
const TOTALS: [&str; 11] =
    ["boot", "clock", "gateway", "ingest", "lanes", "process", "site", "started", "time", "uplink", "version"];

/// What a summary says of a device.
const SUMMARY_OF_DEVICE: [&str; 6] = ["name", "state", "requests", "answers", "last_answer", "last_error"];

impl Detail {
    /// The detail that the owner wants; `None` for no health message at all.
    pub fn of(wanted: HealthDetail) -> Option<Self> {
        match wanted {
            HealthDetail::Full => Some(Self::Full),
            HealthDetail::Summary => Some(Self::Summary),
            HealthDetail::Off => None,
        }
    }

    /// As messages name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Summary => "summary",
            Self::Totals => "totals",
        }
    }

    /// This detail and all lesser ones, the most first.
    pub(super) fn and_less(self) -> impl Iterator<Item = Self> {
        [Self::Full, Self::Summary, Self::Totals].into_iter().filter(move |detail| *detail >= self)
    }

    /// The part of `state` that a message of this detail holds.
    pub(super) fn of_state(self, mut state: Node<'_>) -> Node<'_> {
        round(&mut state);
        let Node::Object(members) = &mut state else { return state };
        match self {
            Self::Full => {}
            Self::Summary => {
                if let Some(Node::List(links)) = member(members, "links") {
                    links.iter_mut().for_each(summarise);
                }
            }
            Self::Totals => {
                let devices = member(members, "links").map(|links| count_states(links));
                members.retain(|(key, _)| TOTALS.contains(&key.as_ref()));
                let at = members.partition_point(|(key, _)| key.as_ref() < "devices");
                members.insert(at, ("devices".into(), devices.unwrap_or(Node::Null)));
            }
        }
        state
    }
}

type Members<'a> = Vec<(Cow<'a, str>, Node<'a>)>;

fn member<'m, 'a>(members: &'m mut Members<'a>, key: &str) -> Option<&'m mut Node<'a>> {
    members.iter_mut().find(|(known, _)| known == key).map(|(_, value)| value)
}

fn summarise(link: &mut Node<'_>) {
    let Node::Object(members) = link else { return };
    members.retain(|(key, _)| key != "intervals");
    let Some(Node::List(devices)) = member(members, "devices") else { return };
    for device in devices {
        if let Node::Object(members) = device {
            members.retain(|(key, _)| SUMMARY_OF_DEVICE.contains(&key.as_ref()));
        }
    }
}

fn count_states<'a>(links: &mut Node<'a>) -> Node<'a> {
    let Node::List(links) = links else { return Node::Null };
    let mut counts: BTreeMap<Cow<'a, str>, i64> = BTreeMap::new();
    for link in links {
        let Node::Object(members) = link else { continue };
        let Some(Node::List(devices)) = member(members, "devices") else { continue };
        for device in devices {
            let Node::Object(members) = device else { continue };
            if let Some(Node::Text(state)) = member(members, "state") {
                *counts.entry(state.clone()).or_default() += 1;
            }
        }
    }
    Node::Object(counts.into_iter().map(|(state, count)| (state, Node::Int(count))).collect())
}

fn round(node: &mut Node<'_>) {
    match node {
        Node::Object(members) => {
            members.retain(|(key, _)| key != "total_us");
            for (key, value) in members {
                match value {
                    Node::Int(number) if key.ends_with("_us") => *number = two_digits(*number),
                    Node::Float(number) if key.ends_with("_ratio") => *number = (*number * 1000.0).round() / 1000.0,
                    value => round(value),
                }
            }
        }
        Node::List(list) => list.iter_mut().for_each(round),
        Node::Null | Node::Bool(_) | Node::Int(_) | Node::Large(_) | Node::Float(_) | Node::Text(_) => {}
    }
}

/// 3 456 becomes 3 500.
fn two_digits(number: i64) -> i64 {
    let mut unit = 1;
    while number.unsigned_abs() / unit >= 100 {
        unit *= 10;
    }
    let unit = i64::try_from(unit).unwrap_or(1);
    number.saturating_add(number.signum().saturating_mul(unit / 2)) / unit * unit
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of_state(detail: Detail, state: &Value) -> Value {
        let text = state.to_string();
        let node = serde_json::from_str(&text).unwrap();
        serde_json::to_value(detail.of_state(node)).unwrap()
    }

    fn state() -> Value {
        let device = |name: &str, state: &str| {
            json!({ "name": name, "state": state, "requests": 60, "answers": 59, "last_answer": 1, "last_error": null,
                    "round_trip": { "mean_us": 3456, "total_us": 203_904 } })
        };
        json!({
            "version": "0.1.0",
            "problems": [],
            "links": [
                { "name": "a", "busy_ratio": 0.012345, "intervals": [1], "devices": [device("m", "answering")] },
                { "name": "b", "busy_ratio": 1.0, "intervals": [], "devices": [device("n", "silent"), device("o", "answering")] },
            ],
        })
    }

    #[test]
    fn measured_times_and_ratios_are_rounded() {
        let full = of_state(Detail::Full, &state());

        assert_eq!(full["links"][0]["devices"][0]["round_trip"], json!({ "mean_us": 3500 }));
        assert_eq!(full["links"][0]["busy_ratio"], 0.012);
        let rounded = [0, 7, 99, 100, 104, 105, 995, 3456, 3_449_999].map(two_digits);
        assert_eq!(rounded, [0, 7, 99, 100, 100, 110, 1000, 3500, 3_400_000]);
    }

    #[test]
    fn a_summary_keeps_the_state_of_each_device() {
        let summary = of_state(Detail::Summary, &state());

        let device = json!({ "name": "n", "state": "silent", "requests": 60, "answers": 59, "last_answer": 1, "last_error": null });
        assert_eq!(summary["links"][1]["devices"][0], device);
        assert!(summary["links"][0].get("intervals").is_none());
    }

    #[test]
    fn totals_count_devices_by_state() {
        let totals = of_state(Detail::Totals, &state());

        assert_eq!(totals, json!({ "version": "0.1.0", "devices": { "answering": 2, "silent": 1 } }));
        assert_eq!(Detail::Summary.and_less().collect::<Vec<_>>(), [Detail::Summary, Detail::Totals]);
    }
}
