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
}

/// What happened to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The condition became true.
    Raised,
    /// The condition is no longer true.
    Cleared,
}

/// States of an alarm (ANSI/ISA-18.2-2016, figure 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// The condition is not true and nothing waits for a person.
    Normal,
    /// The condition is true and nobody has acknowledged it.
    UnacknowledgedActive,
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
