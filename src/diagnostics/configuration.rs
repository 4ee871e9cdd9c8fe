//! How the configuration stands: what was refused, and what waits for a restart.

use serde::Serialize;

use crate::model::Timestamp;

/// What became of the configuration in the owner's file since the start of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConfigurationStatus {
    /// The owner's file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The last reload, when it was refused; nothing of it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedReload>,
    /// Keys of the file that take effect at the next start, and since when they wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<WaitingKeys>,
    /// Why the remote configuration that should be in force is not; the owner's own is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlay_refused: Vec<String>,
}

/// A reload that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedReload {
    /// When it was asked for.
    pub time: Timestamp,
    /// Every reason, for people.
    pub reasons: Vec<String>,
}

/// Keys that a reload could not put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingKeys {
    /// Since when.
    pub since: Timestamp,
    /// Their names, such as `store.limit`.
    pub keys: Vec<&'static str>,
}

/// A remote configuration that was refused, or did not prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedRevision {
    /// Its number.
    pub revision: u64,
    /// Who sent it.
    pub by: String,
    /// When it was refused.
    pub time: Timestamp,
    /// True when it was tried and did not prove itself.
    pub rolled_back: bool,
    /// Every reason, for people.
    pub reasons: Vec<String>,
}
