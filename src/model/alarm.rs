//! The record of an alarm transition, in the words of ISA-18.2 (ANSI/ISA-18.2-2016, 5.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// One transition of one alarm, complete in itself: a consumer needs no earlier record to read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// Name of the alarm, for example `DeviceSilent`. With the labels it says which alarm this is.
    pub name: String,
    /// What it is about: `device`, `link`, ...
    pub labels: BTreeMap<String, String>,
    /// When the transition happened.
    pub time: Timestamp,
    /// What happened.
    pub transition: Transition,
    /// State after the transition.
    pub state: AlarmState,
    /// How soon somebody has to act.
    pub priority: Priority,
    /// The value that decided it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Text for people: `summary`, `description`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The readings that decided it, as far as they are few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<AlarmReading>,
    /// Who asked for it, when it was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A reading that had a part in a transition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmReading {
    /// The series, as `name{label="value"}`.
    pub series: String,
    /// When the reading was taken.
    pub time: Timestamp,
    /// Its engineering value; nothing where that is not a finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

/// What happened to an alarm (ANSI/ISA-18.2-2016, 5.3; the names of the standard in brackets).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The condition became true [alarm occurs, re-alarm].
    Raised,
    /// The condition is no longer true [return to normal].
    Cleared,
    /// A person has seen it [acknowledge].
    Acknowledged,
    /// A person has released the latch [reset].
    Reset,
    /// A person does not want to hear of it for a while [shelve].
    Shelved,
    /// The while is over, or a person has ended it [un-shelve].
    Unshelved,
    /// Another alarm explains this one [suppress by design].
    Suppressed,
    /// The other alarm is gone [un-suppress].
    Unsuppressed,
    /// A person has taken it out of service, for maintenance [remove from service].
    RemovedFromService,
    /// It counts again [return to service].
    ReturnedToService,
}

/// States of an alarm (ANSI/ISA-18.2-2016, figure 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// The condition is not true and nothing waits for a person.
    Normal,
    /// The condition is true and nobody has acknowledged it.
    UnacknowledgedActive,
    /// The condition is true and somebody has acknowledged it.
    AcknowledgedActive,
    /// The condition is gone before anybody acknowledged it.
    ReturnedUnacknowledged,
    /// The condition is gone, the alarm is held until somebody acknowledges and resets it.
    LatchedUnacknowledged,
    /// As before, and acknowledged: only the reset is missing.
    LatchedAcknowledged,
    /// Put aside by a person, for a limited time.
    Shelved,
    /// Put aside by the design of the rules, because another alarm explains it.
    SuppressedByDesign,
    /// Put aside by a person, until it is returned to service.
    OutOfService,
}

/// How soon somebody has to act (ANSI/ISA-18.2-2016, 9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Within the shift.
    Low,
    /// Within the hour.
    Medium,
    /// Within minutes.
    High,
    /// Now.
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stored_before_there_were_rules_still_read() {
        let stored = r#"{"name": "DeviceSilent", "labels": {"device": "press-1"}, "time": 5, "transition": "raised",
            "state": "unacknowledged_active", "priority": "medium"}"#;

        let record: AlarmRecord = serde_json::from_str(stored).unwrap();

        assert_eq!((record.transition, record.state), (Transition::Raised, AlarmState::UnacknowledgedActive));
        assert_eq!((record.readings, record.by), (Vec::new(), None));
    }
}
