//! A command as it travels: an envelope, and in it the signed text. Pure.
//!
//! ```json
//! {"command": "{\"id\":\"7f3a\",\"gateway\":\"lyon/gw-01\",...}", "key": "anna", "signature": "9c02..."}
//! ```
//!
//! The signed text is itself JSON ([`Order`]). It travels as a string, so that the bytes that were signed are the bytes
//! that are checked, whatever is done to the JSON around them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Timestamp;

/// Longest message with a command, in bytes.
pub const COMMAND_MAX: usize = 16 << 10;

/// Longest id of a command, in characters.
pub const ID_MAX: usize = 64;

/// What is published: the signed text, by whom, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The signed text: an [`Order`] in JSON.
    pub command: String,
    /// Name of the key; without one the command is unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Ed25519 signature of the text, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What the sender wants, of whom, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Chosen by the sender, unique: 1 to 64 letters, digits, `_` and `-`. The last level of the topic says the same.
    pub id: String,
    /// Who is meant: `<site>/<gateway>`.
    pub gateway: String,
    /// After this moment it must not be carried out any more.
    pub expires: Timestamp,
    /// Higher than that of every command before with this key; milliseconds since 1970 will do.
    pub counter: u64,
    /// What to do.
    pub command: String,
    /// With what.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub arguments: Value,
}

/// Why a message is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Not the JSON that was expected.
    #[error("not a command: {0}")]
    Json(String),
    /// An id that could not be a level of a topic.
    #[error("the id must be 1 to {ID_MAX} letters, digits, '_' and '-'")]
    Id,
    /// The signed text is for another topic.
    #[error("the id in the command is {inside:?}, that in the topic {outside:?}")]
    OtherId {
        /// In the signed text.
        inside: String,
        /// In the topic.
        outside: String,
    },
}

/// Whether `id` can be that of a command.
pub fn is_id(id: &str) -> bool {
    let all_allowed = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (1..=ID_MAX).contains(&id.len()) && all_allowed
}

/// Reads the message that came for the command `id`.
pub fn parse(payload: &[u8], id: &str) -> Result<(Envelope, Order), OrderError> {
    let json = |error: serde_json::Error| OrderError::Json(error.to_string());
    if !is_id(id) {
        return Err(OrderError::Id);
    }
    let envelope: Envelope = serde_json::from_slice(payload).map_err(json)?;
    let order: Order = serde_json::from_str(&envelope.command).map_err(json)?;
    if order.id != id {
        return Err(OrderError::OtherId { inside: order.id.chars().take(ID_MAX).collect(), outside: id.to_owned() });
    }
    Ok((envelope, order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_signed() {
        let signed = r#"{"id":"7","gateway":"lyon/gw-01","expires":5,"counter":1,"command":"status"}"#;
        let envelope = Envelope { command: signed.to_owned(), key: Some("anna".to_owned()), signature: None };

        let (read, order) = parse(&serde_json::to_vec(&envelope).unwrap(), "7").unwrap();

        assert_eq!(read.command, signed);
        assert_eq!((order.command.as_str(), order.expires, order.arguments), ("status", Timestamp(5), Value::Null));
    }

    #[test]
    fn what_is_no_command_is_refused_with_the_reason() {
        let with = |command: &str| serde_json::to_vec(&serde_json::json!({ "command": command })).unwrap();
        let good = r#"{"id":"7","gateway":"g","expires":5,"counter":1,"command":"status"}"#;

        assert!(parse(&with(good), "7").is_ok());
        assert_eq!(parse(&with(good), "7/8"), Err(OrderError::Id));
        assert_eq!(parse(&with(good), &"7".repeat(65)), Err(OrderError::Id));
        assert!(matches!(parse(&with(good), "8"), Err(OrderError::OtherId { .. })));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"id":"7"}"#,
            r#"{"id":"7","gateway":"g","expires":5,"counter":-1,"command":"status"}"#,
            r#"{"id":"7","gateway":"g","expires":5,"expires":6,"counter":1,"command":"status"}"#,
            r#"{"id":"7","gateway":"g","expires":5,"counter":1,"command":"status","more":1}"#,
        ] {
            assert!(matches!(parse(&with(bad), "7"), Err(OrderError::Json(_))), "{bad}");
        }
        let nested = "[".repeat(100_000);
        assert!(matches!(parse(nested.as_bytes(), "7"), Err(OrderError::Json(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..400), text in ".*") {
            let _ = parse(&bytes, "7");
            let envelope = Envelope { command: text, key: None, signature: None };
            let _ = parse(&serde_json::to_vec(&envelope).unwrap(), "7");
        }
    }
}
