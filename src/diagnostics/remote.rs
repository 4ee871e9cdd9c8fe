//! What came from afar and what became of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::configuration::RefusedRevision;

/// Counters of remote commands since the start of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RemoteStatus {
    /// Messages that were looked at.
    pub received: u64,
    /// Commands that passed every check.
    pub accepted: u64,
    /// Commands that were carried out.
    pub done: u64,
    /// Commands that could not be.
    pub failed: u64,
    /// Commands that were known, and got their old answer.
    pub repeated: u64,
    /// Refusals by kind.
    pub refused: BTreeMap<&'static str, u64>,
    /// Refusals that got no answer, because too many waited for one.
    pub unanswered: u64,
    /// Revision of the configuration in force; 0 is the owner's own.
    pub config_revision: u64,
    /// The last remote configuration, when it was refused or rolled back; nothing once a later one is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_revision: Option<RefusedRevision>,
    /// Why nothing that changes anything is carried out, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What somebody has to look after: a damaged log, configurations that cannot be remembered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub concerns: Vec<String>,
}

impl RemoteStatus {
    /// Nothing yet.
    pub fn new(trouble: Option<&str>, concerns: Vec<String>) -> Self {
        Self { trouble: trouble.map(str::to_owned), concerns, ..Self::default() }
    }
}
