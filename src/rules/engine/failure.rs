//! Rules that cannot be evaluated: which, why, and since when.

use serde::{Deserialize, Serialize};

use super::{Engine, Rule};
use crate::model::Timestamp;

/// What of a rule it is that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailingPart {
    /// Its expression: it raises and records nothing.
    Expression,
    /// The expression of `edge.clear`: its alarms do not clear.
    Clear,
    /// A template of its labels, annotations or actions.
    Template,
}

/// A rule that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingRule {
    /// Its group.
    pub group: String,
    /// Its name.
    pub rule: String,
    /// The file where it stands; empty for what nobody wrote.
    pub file: String,
    /// Line of its expression.
    pub line: usize,
    /// What of it fails.
    pub part: FailingPart,
    /// Why.
    pub reason: String,
    /// Since then.
    pub since: Timestamp,
}

/// Whether something of a rule fails. Changes are logged, and nothing else is.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<(String, Timestamp)>);

impl Trouble {
    /// Notes whether it fails at `time`, and why. Returns whether it does.
    pub fn note(&mut self, rule: &str, reason: Option<String>, time: Timestamp) -> bool {
        match (&mut self.0, reason) {
            (None, None) => {}
            (Some((known, _)), Some(reason)) if *known == reason => {}
            (known, Some(reason)) => {
                tracing::warn!(rule, reason, "a rule cannot be evaluated");
                let since = known.as_ref().map_or(time, |(_, since)| *since);
                self.0 = Some((reason, since));
            }
            (Some(_), None) => {
                tracing::info!(rule, "a rule can be evaluated again");
                self.0 = None;
            }
        }
        self.0.is_some()
    }

    pub fn is_current(&self) -> bool {
        self.0.is_some()
    }

    /// Why, and since when.
    pub fn current(&self) -> Option<(&String, Timestamp)> {
        self.0.as_ref().map(|(reason, since)| (reason, *since))
    }
}

impl Engine {
    /// Rules that could not be evaluated when that was tried last, and why.
    pub fn failing(&self) -> Vec<FailingRule> {
        let rules =
            self.groups.iter().flat_map(|group| group.rules.iter().zip(&group.spec.rules).map(move |it| (group, it)));
        let mut failing = Vec::new();
        for (group, (rule, spec)) in rules {
            let troubles: Vec<(FailingPart, &Trouble)> = match rule {
                Rule::Record(recording) => vec![(FailingPart::Expression, &recording.trouble)],
                Rule::Alert(alert) => alert.troubles().to_vec(),
            };
            failing.extend(troubles.into_iter().filter_map(|(part, trouble)| {
                let (reason, since) = trouble.current()?;
                Some(FailingRule {
                    group: group.spec.name.clone(),
                    rule: spec.name.clone(),
                    file: spec.place.file.clone(),
                    line: spec.place.line,
                    part,
                    reason: reason.clone(),
                    since,
                })
            }));
        }
        failing
    }
}
