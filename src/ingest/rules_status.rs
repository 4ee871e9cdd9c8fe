//! What the rules tell of themselves.

use serde::Serialize;

use crate::rules::engine::{AlarmView, EngineStatus, FailingRule};

/// Most alarms, and most failing rules, that the status names: it goes out with every health message.
pub(super) const NAMED_MAX: usize = 20;

/// What was evaluated, and what is active.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RulesStatus {
    /// Figures of the engine.
    #[serde(flatten)]
    pub engine: EngineStatus,
    /// Transitions since the start of the process.
    pub transitions: u64,
    /// Results recorded since the start of the process.
    pub recorded: u64,
    /// What alarms asked to have done, since the start of the process.
    pub actions: u64,
    /// Of these what was left out because too much was asked at once.
    pub actions_dropped: u64,
    /// Rules that could not be evaluated when that was tried last; the first ones where there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingRule>,
    /// Alarms of rules that are not normal, pending ones aside; the first ones where there are many. They go out as
    /// problems.
    #[serde(skip)]
    pub alarms: Vec<AlarmView>,
}
