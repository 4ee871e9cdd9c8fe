//! Records as bytes for the outside world, and back.
//!
//! | What | Module | For |
//! |---|---|---|
//! | batch, columnar | [`columnar`] | few bytes: a zstd frame around a protobuf message (`deploy/lineside.proto`) |
//! | batch, JSON | [`json`] | people and tools: names, labels, units and engineering values beside every reading |
//! | alarm | [`alarm`] | one JSON message for each transition |
//! | health | [`health`] | the state of the gateway as compressed JSON: whole, or what changed since |
//! | catalogue | [`catalogue`] | what the series ids of columnar batches mean, as retained JSON messages |
//!
//! Whatever the encoding, every record carries its identity: (gateway, epoch, lane, sequence, index in the commit).
//! Same identity, same content: how commits are cut into batches changes nothing, so a receiver that discards repeats
//! by identity ends with one set. [`decode_any`] reads all of them; bytes from outside never make it panic, and it
//! bounds every count before it allocates.
//!
//! Pure: no I/O, no clock.

pub mod alarm;
mod batch;
pub mod catalogue;
pub mod columnar;
mod frame;
pub mod health;
pub mod json;
#[cfg(test)]
mod one_set;
mod text;
mod wire;
mod withheld;

pub use alarm::AlarmMessage;
pub use batch::{Batch, BatchHeader, DecodedBatch, DecodedReading, DecodedThinned, Order, Part};
pub use catalogue::CataloguePart;
pub use health::HealthMessage;
pub use json::JsonBatch;
pub use withheld::Withheld;

use crate::model::Sequence;

/// Largest JSON message of a type that is not known here, in bytes: as values it takes a hundred times as much memory.
const OTHER_BYTES_MAX: usize = 512 << 10;

/// Why a batch cannot be encoded. Halving helps against [`TooLarge`](Self::TooLarge) alone; the others are defects.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// More than a decoder takes.
    #[error("batch of {count} {what}: at most {limit} fit in one message")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// A commit holds records that this kind of message has no place for.
    #[error("commit {sequence} holds {found}, which {message} cannot carry")]
    WrongRecords {
        /// The commit.
        sequence: Sequence,
        /// What it holds.
        found: &'static str,
        /// The kind of message.
        message: &'static str,
    },
    /// A commit that would get another identity on the wire than in the store.
    #[error("commit {sequence} does not belong in a batch of epoch {epoch}, sequences {first} to {last}")]
    ForeignCommit {
        /// The commit.
        sequence: Sequence,
        /// Epoch of the batch.
        epoch: crate::model::Epoch,
        /// First sequence covered.
        first: Sequence,
        /// Last sequence covered.
        last: Sequence,
    },
    /// A row whose readings and series do not match in number.
    #[error("commit {sequence} has a row of {series} series and {readings} readings")]
    UnevenRow {
        /// The commit.
        sequence: Sequence,
        /// How many series.
        series: usize,
        /// How many readings.
        readings: usize,
    },
    /// The compressor gave up.
    #[error("cannot compress: {0}")]
    Compressor(String),
}

/// Why bytes are not what lineside sends. One line, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing that lineside ever sends.
    #[error("not a lineside payload: {0}")]
    Foreign(String),
    /// Begins like a payload of lineside but does not hold together.
    #[error("damaged lineside payload: {0}")]
    Damaged(String),
    /// Made by another version.
    #[error("lineside payload of format {0}: this version reads format 1")]
    Format(u32),
    /// Claims to hold more than any gateway sends.
    #[error("lineside payload with more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
}

impl DecodeError {
    fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }
}

/// Any payload that lineside sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A columnar batch.
    Columnar(DecodedBatch),
    /// A JSON batch.
    Json(JsonBatch),
    /// An alarm transition, or a gap in the alarm lane.
    Alarm(Box<AlarmMessage>),
    /// A part of the catalogue.
    Catalogue(CataloguePart),
    /// A health message.
    Health(Box<HealthMessage>),
    /// Another JSON message: state, problems, responses.
    Other(serde_json::Value),
}

/// Recognises and decodes any payload that lineside sends.
///
/// # Errors
/// One line that says what is wrong with the bytes; bytes from outside never panic.
pub fn decode_any(payload: &[u8]) -> Result<Decoded, DecodeError> {
    if frame::is_frame(payload) {
        return match frame::first_byte(payload)? {
            Some(b'{') => health::decode(payload).map(Box::new).map(Decoded::Health),
            Some(_) | None => columnar::decode(payload).map(Decoded::Columnar),
        };
    }
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => Err(DecodeError::Foreign("it is empty".to_owned())),
        Some(b'{') => decode_json(payload),
        Some(_) => Err(DecodeError::Foreign("neither a zstd frame nor a JSON object".to_owned())),
    }
}

/// What the JSON messages of this module have in common.
#[derive(serde::Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    message: Option<String>,
}

fn decode_json(payload: &[u8]) -> Result<Decoded, DecodeError> {
    let foreign = |error: serde_json::Error| DecodeError::Foreign(error.to_string());
    let envelope: Envelope = serde_json::from_slice(payload).map_err(foreign)?;
    match envelope.message.as_deref() {
        Some(json::TYPE) => json::decode(payload).map(Decoded::Json),
        Some(alarm::TYPE_ALARM | alarm::TYPE_GAP) => alarm::decode(payload).map(Box::new).map(Decoded::Alarm),
        Some(catalogue::TYPE) => catalogue::decode(payload).map(Decoded::Catalogue),
        Some(_) | None if payload.len() > OTHER_BYTES_MAX => {
            Err(DecodeError::Foreign(format!("JSON of no known type, and larger than {OTHER_BYTES_MAX} bytes")))
        }
        Some(_) | None => serde_json::from_slice(payload).map(Decoded::Other).map_err(foreign),
    }
}
