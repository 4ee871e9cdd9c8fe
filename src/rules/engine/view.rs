//! What people see of alarms, and what they ask of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{AlarmRecord, AlarmState, Priority, Timestamp};

/// What a person wants of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmRequest {
    /// I have seen it.
    Acknowledge,
    /// Release the latch.
    Reset,
    /// Do not tell for so long.
    Shelve(Duration),
    /// Tell again.
    Unshelve,
    /// Out of service until it is returned.
    RemoveFromService,
    /// Back in service.
    ReturnToService,
}

/// Who makes an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmSource {
    /// A rule.
    #[default]
    Rule,
    /// The agent itself: a device is silent, the store is damaged, the broker refuses.
    BuiltIn,
}

/// What came of a person's request.
#[derive(Debug, Clone, PartialEq)]
pub struct Acted {
    /// The transition.
    pub record: AlarmRecord,
    /// Shelved until then.
    pub shelved_until: Option<Timestamp>,
    /// The longest that this alarm can be shelved, where more was asked for.
    pub limit: Option<Duration>,
}

/// An alarm as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmView {
    /// Name of the alarm.
    pub name: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// Who makes it.
    #[serde(default)]
    pub source: AlarmSource,
    /// State as the standard names it; `pending` alarms are normal still.
    pub state: AlarmState,
    /// How soon somebody has to act.
    pub priority: Priority,
    /// The condition began to hold then, before any delay.
    #[serde(default, skip)]
    pub began: Option<Timestamp>,
    /// The condition holds since then, not yet long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Timestamp>,
    /// Active since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Timestamp>,
    /// Shelved until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelved_until: Option<Timestamp>,
    /// The value that decided it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Raised so often that it is held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// Texts for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
