//! What has to be remembered across a restart, and what a person asks of alarms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Moment};
use super::{Acted, Action, AlarmRequest, AlarmView, Engine, Outcome, Rule};
use crate::model::{AlarmRecord, Timestamp};
use crate::rules::alarm::{Alarm, NotPossible};

const VERSION: u32 = 1;

/// What has to be remembered: as JSON, because it outlives releases.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    version: u32,
    /// Everything up to then was evaluated.
    until: Timestamp,
    /// The newest reading that was evaluated when it arrived.
    #[serde(default)]
    arrived: Timestamp,
    alarms: Vec<RememberedAlarm>,
    /// Captures whose last readings were not taken yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Action>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RememberedAlarm {
    name: String,
    labels: BTreeMap<String, String>,
    alarm: Alarm,
    /// Its newest value, for what is said when it clears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
}

impl Engine {
    /// What has to be remembered.
    pub fn remember(&self) -> Vec<u8> {
        let of = |alert: &Alert| -> Vec<RememberedAlarm> {
            let alarm = |(labels, alarm, value): (&BTreeMap<String, String>, &Alarm, Option<f64>)| RememberedAlarm {
                name: alert.name().clone(),
                labels: labels.clone(),
                alarm: alarm.clone(),
                value: value.filter(|value| value.is_finite()),
            };
            alert.remembered().map(alarm).collect()
        };
        let alarms = self.alerts().flat_map(of).collect();
        let waiting = self.waiting.captures().to_vec();
        serde_json::to_vec(&Memory { version: VERSION, until: self.evaluated, arrived: self.arrived, alarms, waiting })
            .unwrap_or_default()
    }

    /// Takes up what was remembered. Alarms whose rule is gone end, which is announced in `outcome`. Returns until when
    /// everything was evaluated; nothing when there is nothing to remember.
    pub fn restore(&mut self, remembered: &[u8], now: Timestamp, outcome: &mut Outcome) -> Option<Timestamp> {
        if remembered.is_empty() {
            return None;
        }
        let memory: Memory = match serde_json::from_slice(remembered) {
            Ok(memory) => memory,
            Err(error) => {
                tracing::warn!(%error, "state of the rules cannot be read; they begin anew");
                return None;
            }
        };
        for RememberedAlarm { name, labels, mut alarm, value } in memory.alarms {
            match self.alerts_mut().find(|alert| *alert.name() == name) {
                Some(alert) => alert.remember(labels, alarm, value),
                None => {
                    outcome.is_changed = true;
                    outcome.alarms.extend(alarm.retire().map(|change| AlarmRecord {
                        name,
                        labels,
                        time: now,
                        transition: change.transition,
                        state: change.state,
                        priority: crate::model::Priority::Low,
                        value: None,
                        annotations: [("summary".to_owned(), "the rule is no longer in force".to_owned())].into(),
                        readings: Vec::new(),
                        by: None,
                    }));
                }
            }
        }
        self.waiting.take_up(memory.waiting);
        self.arrived = memory.arrived;
        self.resumed = memory.until.max(memory.arrived).min(now);
        Some(memory.until)
    }

    /// Does what a person wants of the alarms with this name whose labels contain `labels`. Empty when there is none.
    pub fn request(
        &mut self,
        now: Timestamp,
        name: &str,
        labels: &BTreeMap<String, String>,
        request: AlarmRequest,
        by: &str,
    ) -> Vec<Result<Acted, NotPossible>> {
        let mut answers = Vec::new();
        let Self { groups, table, holes, .. } = self;
        for rule in groups.iter_mut().flat_map(|group| &mut group.rules) {
            if let Rule::Alert(alert) = rule
                && alert.name() == name
            {
                let at =
                    Moment { time: now, active: &[], limit: 0, touched: None, holes, resumed: Timestamp(i64::MIN) };
                answers.extend(alert.request(table, &at, labels, request, by));
            }
        }
        answers
    }

    /// Alarms that are not normal, and those about to be.
    pub fn views(&self) -> Vec<AlarmView> {
        let time = self.evaluated.max(self.arrived);
        self.alerts().flat_map(|alert| alert.views(&self.table, time)).collect()
    }

    /// As [`views`](Self::views), without what the alarms say.
    pub fn states(&self) -> Vec<AlarmView> {
        self.alerts().flat_map(Alert::states).collect()
    }

    pub(super) fn alerts(&self) -> impl Iterator<Item = &Alert> + Clone {
        self.groups.iter().flat_map(|group| &group.rules).filter_map(|rule| match rule {
            Rule::Alert(alert) => Some(&**alert),
            Rule::Record(_) => None,
        })
    }

    pub(super) fn alerts_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        self.groups.iter_mut().flat_map(|group| &mut group.rules).filter_map(|rule| match rule {
            Rule::Alert(alert) => Some(&mut **alert),
            Rule::Record(_) => None,
        })
    }
}
