//! The health message: the state of every stage, whole once in a while, and what changed since then in between.
//!
//! ```json
//! { "type": "health", "format": 1, "id": "5f0c21d9", "detail": "full", "status": { "version": "0.1.0", "links": [] } }
//! { "type": "health", "format": 1, "base": "5f0c21d9", "number": 7, "add": [0, 60, 0.0125], "set": [], "drop": [] }
//! ```
//!
//! Both are JSON in a zstd frame. The second kind is always told against the last whole one, never against another of
//! its kind: a receiver that missed some of them is complete again with the next, and one that missed the whole one
//! sees a `base` that it does not know and waits.
//!
//! # The columns of `add`
//!
//! The numbers of a document fall into columns: numbers at the same place in all elements of a list. `links.*.busy_ms` is
//! a column of one number for each link. Counters of a column grow by about the same amount, so a column of differences
//! is nearly constant and takes next to nothing. [`changes`] says how the columns are ordered.

mod changes;
mod tree;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::FORMAT;
use super::{DecodeError, EncodeError, frame};
pub use changes::Entry;
pub use tree::Node;

/// What `type` says in a health message.
pub const TYPE: &str = "health";

/// MIME type of a health message.
pub const CONTENT_TYPE: &str = "application/json+zstd";

/// Most bytes of a health message before compression: three times what two hundred devices take. As values they take a
/// hundred times as much memory.
const MESSAGE_BYTES_MAX: usize = 512 << 10;

/// Beyond this level a message of this size becomes no smaller.
const ZSTD_LEVEL: i32 = 9;

/// Any health message.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthMessage {
    /// The whole state.
    Whole(Whole),
    /// Differences from a whole state.
    Changes(Changes),
}

/// The whole state of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    /// `health`.
    #[serde(rename = "type")]
    pub message: String,
    /// 1.
    pub format: u32,
    /// Names this message for those that build on it.
    pub id: String,
    /// How much of the state it holds: `full`, `summary` or `totals`.
    pub detail: String,
    /// The state, as `lineside status --json` prints it.
    pub status: Value,
}

/// The differences of a state from a whole one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// `health`.
    #[serde(rename = "type")]
    pub message: String,
    /// 1.
    pub format: u32,
    /// The `id` of the whole message that this one builds on.
    pub base: String,
    /// Counts the messages since that one, from 1: a receiver sees whether one is missing or came twice.
    pub number: u64,
    /// One entry for each number of the base, column by column.
    pub add: Vec<Entry>,
    /// Places with a new value, and the value.
    #[serde(default)]
    pub set: Vec<(Vec<Step>, Value)>,
    /// Places that are gone.
    #[serde(default)]
    pub drop: Vec<Vec<Step>>,
}

/// One step on the way to a place in a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// Element of a list, from 0.
    Index(usize),
    /// Member of an object.
    Key(String),
}

/// The whole state, called `id` by later messages.
///
/// # Errors
/// The compressor gives up.
pub fn encode_whole(id: &str, detail: &str, status: &Node<'_>) -> Result<Vec<u8>, EncodeError> {
    compress(&WholeText { message: TYPE, format: FORMAT, id, detail, status })
}

/// What changed in `status` since the whole state that `base` holds, as [`encode_whole`] made it. The message is the
/// `number`th since then.
///
/// # Errors
/// One of them is not what it should be, or the compressor gives up.
pub fn encode_changes(base: &[u8], number: u64, status: &Node<'_>) -> Result<Vec<u8>, EncodeError> {
    let failed = |error: String| EncodeError::Compressor(error);
    let base = frame::decompress(base, MESSAGE_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
    let base: BaseText<'_> = serde_json::from_slice(&base).map_err(|error| failed(error.to_string()))?;
    let differences = changes::between(&base.status, status);
    let (add, set, drop) = (&differences.add, &differences.set, &differences.drop);
    compress(&ChangesText { message: TYPE, format: FORMAT, base: &base.id, number, add, set, drop })
}

/// [`Whole`] as it is written.
#[derive(Serialize)]
struct WholeText<'a> {
    #[serde(rename = "type")]
    message: &'static str,
    format: u32,
    id: &'a str,
    detail: &'a str,
    status: &'a Node<'a>,
}

/// A whole message that is compared, its text borrowed.
#[derive(Deserialize)]
struct BaseText<'a> {
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    status: Node<'a>,
}

/// [`Changes`] as they are written.
#[derive(Serialize)]
struct ChangesText<'a> {
    #[serde(rename = "type")]
    message: &'static str,
    format: u32,
    base: &'a str,
    number: u64,
    add: &'a [Entry],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    set: &'a [(Vec<Step>, &'a Node<'a>)],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    drop: &'a [Vec<Step>],
}

impl Changes {
    /// The state that these changes make of the whole state `base`.
    ///
    /// # Errors
    /// `base` is another one, or the changes do not fit it.
    pub fn onto(&self, base: &Whole) -> Result<Value, DecodeError> {
        if self.base != base.id {
            return Err(DecodeError::damaged(format!(
                "changes of the health message {:?}, and this is {:?}",
                self.base, base.id
            )));
        }
        let mut status = base.status.clone();
        changes::apply(&mut status, self).map_err(DecodeError::damaged)?;
        Ok(status)
    }
}

/// The message in a payload that [`encode_whole`] or [`encode_changes`] made.
///
/// # Errors
/// What is wrong with the bytes, in one line.
pub fn decode(payload: &[u8]) -> Result<HealthMessage, DecodeError> {
    let text = frame::decompress(payload, MESSAGE_BYTES_MAX)?;
    decode_text(&text)
}

/// The message in the JSON text of a frame.
fn decode_text(text: &[u8]) -> Result<HealthMessage, DecodeError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "type")]
        message: String,
        format: u32,
        base: Option<String>,
    }
    let damaged = |error: serde_json::Error| DecodeError::damaged(error.to_string());
    let head: Head = serde_json::from_slice(text).map_err(damaged)?;
    match (head.message.as_str(), head.format, head.base) {
        (TYPE, FORMAT, None) => serde_json::from_slice(text).map(HealthMessage::Whole).map_err(damaged),
        (TYPE, FORMAT, Some(_)) => serde_json::from_slice(text).map(HealthMessage::Changes).map_err(damaged),
        (TYPE, other, _) => Err(DecodeError::Format(other)),
        (other, _, _) => Err(DecodeError::Foreign(format!("a message of type {other:?} in a zstd frame"))),
    }
}

fn compress(message: &impl Serialize) -> Result<Vec<u8>, EncodeError> {
    let failed = |error: String| EncodeError::Compressor(error);
    let text = serde_json::to_vec(message).map_err(|error| failed(error.to_string()))?;
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(EncodeError::TooLarge { what: "bytes", count: text.len(), limit: MESSAGE_BYTES_MAX });
    }
    zstd::bulk::compress(&text, ZSTD_LEVEL).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests;
