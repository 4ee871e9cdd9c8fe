//! What a sender is told. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Timestamp;

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It passed every check and is journalled.
    Accepted,
    /// It takes a while; or, with a part, one part of its answer.
    Running,
    /// It was carried out.
    Done,
    /// It was begun and could not be carried out.
    Failed,
    /// A check refused it; nothing was done.
    Rejected,
    /// It came too late; nothing was done.
    Expired,
    /// It is known: this is what came of it the first time.
    Duplicate,
    /// The agent ended while it was carried out: nobody knows whether it took effect. It is not carried out again.
    Unknown,
}

impl State {
    /// Whether nothing more is said about the command.
    pub fn is_final(self) -> bool {
        match self {
            Self::Accepted | Self::Running => false,
            Self::Done | Self::Failed | Self::Rejected | Self::Expired | Self::Duplicate | Self::Unknown => true,
        }
    }
}

/// One answer to one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Id of the command.
    pub id: String,
    /// `<site>/<gateway>`.
    pub gateway: String,
    /// When this was said.
    pub time: Timestamp,
    /// How far it has come.
    pub state: State,
    /// For a duplicate: how far it had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<State>,
    /// The command, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Who sent it, where a signature says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// Which part of a long answer this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// A part of an answer that is too long for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// What came of carrying out a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `Done`, `Failed` or `Unknown`.
    pub state: State,
    /// Why it is not done.
    pub reason: Option<String>,
    /// What came of it.
    pub result: Value,
    /// Parts that go out before.
    pub parts: Vec<String>,
}

impl Outcome {
    /// It was done.
    pub fn done(result: Value) -> Self {
        Self { state: State::Done, reason: None, result, parts: Vec::new() }
    }

    /// It could not be done.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { state: State::Failed, reason: Some(reason.into()), result: Value::Null, parts: Vec::new() }
    }
}
