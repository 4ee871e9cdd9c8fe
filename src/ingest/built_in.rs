//! Alarms that no rule makes: a device does not answer or is another one, the store is damaged, the broker refuses.
//!
//! ```text
//! pollers --with their cycles--.
//! uplink ------ a channel -----+--> BuiltIns --> records for the store, state for the next start
//! store --- its status --------'        `------> views, and what people want of them
//! ```
//!
//! They live as those of rules do (ISA-18.2): they can be acknowledged, those of devices also shelved and taken out of
//! service, and that survives a restart. What they rest on is known only to those who raise them, so after a restart
//! an alarm that nobody raises again within [`CONFIRM_WITHIN`] has ended. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::buffer::Catalogue;
use crate::model::{AlarmRecord, Observed, Row, Timestamp, Transition};
use crate::rules::alarm::{Alarm, AlarmPolicy, Condition, NotPossible};
use crate::rules::engine::{Acted, AlarmRequest, AlarmSource, AlarmView};

/// The longest that one can be shelved: as with rules that do not say.
const SHELVE_MOST: Duration = Duration::from_secs(24 * 3600);

/// After a restart an alarm is raised again within this time, or has ended: a poller has asked each device by then.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(600);

/// Alarms of devices: whoever repairs one need not hear of it. The others say that data is at risk.
const OF_DEVICES: [&str; 4] = ["DeviceSilent", "DeviceUnreachable", "FirmwareUnknown", "WrongDevice"];

/// Key of the state of these alarms within that of the rules.
const KEY: &str = "built_in";

type Labels = BTreeMap<String, String>;

/// All of them that are not normal.
#[derive(Debug, Default)]
pub(super) struct BuiltIns {
    alarms: BTreeMap<(String, Labels), BuiltIn>,
    /// What changed is not remembered yet.
    is_unsaved: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct BuiltIn {
    alarm: Alarm,
    /// As it was raised last.
    record: AlarmRecord,
    /// The condition holds.
    holds: bool,
    /// Raised before the restart; until then somebody has to raise it again.
    #[serde(skip)]
    unconfirmed_until: Option<Timestamp>,
}

impl BuiltIn {
    fn evaluate(&mut self, now: Timestamp) -> Option<AlarmRecord> {
        let condition = if self.holds { Condition::Holds(f64::NAN) } else { Condition::Gone(None) };
        let change = self.alarm.evaluate(now, condition, false, &AlarmPolicy::default())?;
        Some(AlarmRecord { time: now, transition: change.transition, state: change.state, ..self.record.clone() })
    }

    fn of_device(&self) -> bool {
        OF_DEVICES.contains(&self.record.name.as_str())
    }
}

impl BuiltIns {
    /// Takes transitions of those who raise such alarms; returns those to be told.
    pub fn take(&mut self, records: Vec<AlarmRecord>) -> Vec<AlarmRecord> {
        records.into_iter().filter_map(|record| self.take_one(record)).collect()
    }

    fn take_one(&mut self, record: AlarmRecord) -> Option<AlarmRecord> {
        let key = (record.name.clone(), record.labels.clone());
        let holds = match record.transition {
            Transition::Raised => true,
            Transition::Cleared => false,
            // Nobody but people makes the others.
            Transition::Acknowledged
            | Transition::Reset
            | Transition::Shelved
            | Transition::Unshelved
            | Transition::Suppressed
            | Transition::Unsuppressed
            | Transition::RemovedFromService
            | Transition::ReturnedToService => return Some(record),
        };
        self.is_unsaved = true;
        if !holds && !self.alarms.contains_key(&key) {
            return Some(record);
        }
        let known = self.alarms.entry(key.clone()).or_insert_with(|| BuiltIn {
            alarm: Alarm::default(),
            record: record.clone(),
            holds,
            unconfirmed_until: None,
        });
        (known.holds, known.unconfirmed_until) = (holds, None);
        if holds {
            known.record = record.clone();
        }
        let told = known.evaluate(record.time).map(|told| AlarmRecord { annotations: record.annotations, ..told });
        if known.alarm.is_idle() {
            self.alarms.remove(&key);
        }
        told
    }

    /// A device whose readings are good has none of these troubles, whoever raised them and is gone. Returns what is to
    /// be told.
    pub fn see(&mut self, rows: &[Row], catalogue: &Catalogue) -> Vec<AlarmRecord> {
        if !self.alarms.values().any(|known| known.holds && known.of_device()) {
            return Vec::new();
        }
        let mut told = Vec::new();
        for row in rows {
            let mut readings = row.series.iter().zip(&row.observed);
            let Some((id, _)) = readings.find(|(_, observed)| matches!(observed, Observed::Good(_))) else { continue };
            let Some(device) = catalogue.get(*id).and_then(|info| info.labels.get("device")) else { continue };
            let is_its_own = |known: &BuiltIn| {
                let since = known.alarm.active_since().unwrap_or(known.record.time);
                let is_about = known.record.labels.get("device") == Some(device);
                known.holds && known.of_device() && is_about && row.time > since
            };
            let over: Vec<AlarmRecord> =
                self.alarms.values().filter(|known| is_its_own(known)).map(|known| known.record.clone()).collect();
            let cleared = |record| over_at(record, row.time, format!("{device} gives good readings again"));
            told.extend(self.take(over.into_iter().map(cleared).collect()));
        }
        told
    }

    /// Makes the alarms of the store those that are in force there. The store tells of them itself; returned is the end of
    /// those that it does not know any more since a restart.
    pub fn follow_store(&mut self, in_force: &[AlarmRecord], names: &[&str], now: Timestamp) -> Vec<AlarmRecord> {
        let is_over = |known: &&BuiltIn| {
            let name = known.record.name.as_str();
            names.contains(&name) && !in_force.iter().any(|record| record.name == name)
        };
        let over: Vec<BuiltIn> = self.alarms.values().filter(is_over).cloned().collect();
        let mut told = Vec::new();
        for known in over {
            let ended = over_at(known.record, now, "the store is in order since the restart".to_owned());
            let ended = self.take_one(ended);
            told.extend(ended.filter(|_| known.unconfirmed_until.is_some()));
        }
        let is_new = |record: &&AlarmRecord| {
            let known = self.alarms.get(&(record.name.clone(), record.labels.clone()));
            known.is_none_or(|known| !known.holds || known.unconfirmed_until.is_some())
        };
        let raised: Vec<AlarmRecord> = in_force.iter().filter(is_new).cloned().collect();
        self.take(raised);
        told
    }

    /// When something is to be told of although nothing happened.
    pub fn due(&self) -> Option<Timestamp> {
        let due = |known: &BuiltIn| known.alarm.shelved_until().into_iter().chain(known.unconfirmed_until).min();
        self.alarms.values().filter_map(due).min()
    }

    /// Ends what has lasted long enough: shelves, and alarms that nobody raised again after the restart.
    pub fn advance(&mut self, now: Timestamp) -> Vec<AlarmRecord> {
        let is_over = |known: &&BuiltIn| known.unconfirmed_until.is_some_and(|until| until <= now);
        let over: Vec<AlarmRecord> = self.alarms.values().filter(is_over).map(|known| known.record.clone()).collect();
        let ended = |record| over_at(record, now, "it was not raised again after a restart".to_owned());
        let mut told = self.take(over.into_iter().map(ended).collect());
        for known in self.alarms.values_mut() {
            told.extend(known.evaluate(now));
        }
        self.is_unsaved |= !told.is_empty();
        self.alarms.retain(|_, known| !known.alarm.is_idle());
        told
    }

    /// Alarms whose condition holds: they may explain those of rules.
    pub fn active(&self) -> impl Iterator<Item = &AlarmRecord> {
        self.alarms.values().filter(|known| known.holds).map(|known| &known.record)
    }

    pub fn views(&self) -> impl Iterator<Item = AlarmView> {
        self.alarms.values().map(|known| AlarmView {
            name: known.record.name.clone(),
            labels: known.record.labels.clone(),
            source: AlarmSource::BuiltIn,
            state: known.alarm.state(),
            priority: known.record.priority,
            began: None,
            pending_since: None,
            active_since: known.alarm.active_since(),
            shelved_until: known.alarm.shelved_until(),
            value: None,
            flapping: false,
            annotations: known.record.annotations.clone(),
        })
    }

    /// Does what a person wants of the alarms with this name whose labels contain `labels`. Empty when there is none.
    pub fn request(
        &mut self,
        now: Timestamp,
        name: &str,
        labels: &Labels,
        request: AlarmRequest,
        by: &str,
    ) -> Vec<Result<Acted, NotPossible>> {
        let fits = |known: &&mut BuiltIn| {
            let has = |(key, value): (&String, &String)| known.record.labels.get(key) == Some(value);
            known.record.name == name && labels.iter().all(has)
        };
        let mut answers = Vec::new();
        for known in self.alarms.values_mut().filter(fits) {
            let may_rest = known.of_device();
            let alarm = &mut known.alarm;
            let mut limit = None;
            let change = match request {
                AlarmRequest::Acknowledge => alarm.acknowledge(),
                AlarmRequest::Reset => alarm.reset(),
                AlarmRequest::Shelve(_) | AlarmRequest::RemoveFromService if !may_rest => Err(NotPossible::DataAtRisk),
                AlarmRequest::Shelve(span) => {
                    limit = (span > SHELVE_MOST).then_some(SHELVE_MOST);
                    alarm.shelve(now.after(span.min(SHELVE_MOST)))
                }
                AlarmRequest::Unshelve => alarm.unshelve(),
                AlarmRequest::RemoveFromService => alarm.remove_from_service(),
                AlarmRequest::ReturnToService => alarm.return_to_service(),
            };
            answers.push(change.map(|change| Acted {
                record: AlarmRecord {
                    time: now,
                    transition: change.transition,
                    state: change.state,
                    by: Some(by.to_owned()),
                    ..known.record.clone()
                },
                shelved_until: known.alarm.shelved_until(),
                limit,
            }));
        }
        self.is_unsaved |= answers.iter().any(Result::is_ok);
        self.alarms.retain(|_, known| !known.alarm.is_idle());
        answers
    }

    /// What has to be remembered, where it changed since this was asked last.
    pub fn take_unsaved(&mut self) -> Option<State> {
        std::mem::take(&mut self.is_unsaved).then(|| self.state())
    }

    /// What has to be remembered.
    pub fn state(&self) -> State {
        let alarms: Vec<&BuiltIn> = self.alarms.values().collect();
        State((!alarms.is_empty()).then(|| serde_json::to_value(alarms).unwrap_or_default()))
    }

    /// Takes up what was remembered; `now` is when the agent started.
    pub fn restore(&mut self, remembered: &[u8], now: Timestamp) {
        let (_, alarms) = split(remembered);
        for known in alarms {
            let unconfirmed_until = known.holds.then(|| now.after(CONFIRM_WITHIN));
            let key = (known.record.name.clone(), known.record.labels.clone());
            self.alarms.insert(key, BuiltIn { unconfirmed_until, ..known });
        }
    }
}

/// What has to be remembered of these alarms.
#[derive(Debug, Clone, Default)]
pub(super) struct State(Option<serde_json::Value>);

impl State {
    /// The state of the rules with that of these alarms in it.
    pub fn within(&self, rules: Vec<u8>) -> Vec<u8> {
        let Some(alarms) = &self.0 else { return rules };
        let (head, tail) = rules.split_at(rules.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(tail).unwrap_or_default();
        object.insert(KEY.to_owned(), alarms.clone());
        let mut bytes = head.to_vec();
        bytes.extend(serde_json::to_vec(&object).unwrap_or_default());
        bytes
    }
}

/// What is remembered of the rules alone.
pub(super) fn of_rules(remembered: Vec<u8>) -> Vec<u8> {
    split(&remembered).0.unwrap_or(remembered)
}

/// The state of the rules, where that of these alarms had to be taken out of it, and these alarms.
fn split(remembered: &[u8]) -> (Option<Vec<u8>>, Vec<BuiltIn>) {
    let start = remembered.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (head, tail) = remembered.split_at(start);
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(tail).unwrap_or_default();
    let Some(alarms) = object.remove(KEY) else { return (None, Vec::new()) };
    let alarms = serde_json::from_value(alarms).unwrap_or_else(|error| {
        tracing::warn!(%error, "the state of built-in alarms cannot be read; they begin anew");
        Vec::new()
    });
    if object.is_empty() {
        return (Some(Vec::new()), alarms);
    }
    let mut rest = head.to_vec();
    rest.extend(serde_json::to_vec(&object).unwrap_or_default());
    (Some(rest), alarms)
}

/// The record that ends an alarm.
fn over_at(record: AlarmRecord, time: Timestamp, summary: String) -> AlarmRecord {
    let annotations = [("summary".to_owned(), summary)].into();
    AlarmRecord { time, transition: Transition::Cleared, annotations, ..record }
}

#[cfg(test)]
mod tests;
