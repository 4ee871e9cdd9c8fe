//! Which message comes next: the whole state, or what changed since. Pure.

use tokio::time::Instant;

use super::detail::Detail;
use crate::diagnostics::Status;
use crate::encoding::EncodeError;
use crate::encoding::health::{Node, encode_changes, encode_whole};
use crate::mqtt::Bytes;

/// The last whole state that the broker took.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// The message, as it was sent: the compressed form takes the least memory.
    pub payload: Bytes,
    pub detail: Detail,
    /// Largest payload that was allowed for it.
    pub most: usize,
    /// When it was made.
    pub taken: Instant,
    /// Messages since then.
    pub number: u64,
}

/// What decides about the next message.
#[derive(Debug)]
pub(super) struct Order {
    /// What it may build on; without one it is the whole state.
    pub base: Option<Base>,
    /// The most that it may say.
    pub detail: Detail,
    /// Largest payload, in bytes.
    pub most: usize,
    /// Name of the next whole state; another one for each.
    pub id: u32,
    pub now: Instant,
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub(super) struct Made {
    pub payload: Bytes,
    /// What later messages build on, when it is the whole state.
    pub whole: Option<Base>,
}

/// The next message within the bounds of `order`. Changes that take more than half of the whole state give way to it: the
/// next ones are small again.
///
/// # Errors
/// The reason for people: also with the least detail the state is larger.
pub(super) fn make(status: &Status, order: Order) -> Result<Made, String> {
    let Order { base, detail, most, id, now } = order;
    let text = serde_json::to_string(status).map_err(|error| error.to_string())?;
    let parse = || serde_json::from_str::<Node<'_>>(&text).map_err(|error| error.to_string());
    if let Some(base) = base {
        let state = base.detail.of_state(parse()?);
        let payload = within(most, encode_changes(&base.payload, base.number + 1, &state))?;
        if let Some(payload) = payload.filter(|payload| 2 * payload.len() <= base.payload.len()) {
            return Ok(Made { payload, whole: None });
        }
    }
    for detail in detail.and_less() {
        let payload = encode_whole(&format!("{id:08x}"), detail.word(), &detail.of_state(parse()?));
        if let Some(payload) = within(most, payload)? {
            let whole = Base { payload: payload.clone(), detail, most, taken: now, number: 0 };
            return Ok(Made { payload, whole: Some(whole) });
        }
    }
    Err(format!("the broker takes payloads of {most} bytes, and the state with the least detail is larger"))
}

/// The payload; nothing when it is larger than `most`, or than a reader takes.
fn within(most: usize, made: Result<Vec<u8>, EncodeError>) -> Result<Option<Bytes>, String> {
    match made {
        Ok(payload) => Ok(Some(payload.into()).filter(|payload: &Bytes| payload.len() <= most)),
        Err(EncodeError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
