//! The zstd frame around a message.

use std::io::Read;

use super::DecodeError;

/// First bytes of every zstd frame (RFC 8878, 3.1.1).
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Largest zstd window accepted, as a power of two: that of the largest batch.
const WINDOW_LOG_MAX: u32 = 22;

/// Whether `payload` begins as a zstd frame does.
pub(super) fn is_frame(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC)
}

/// The first byte of the message in the frame: `{` of JSON, or a tag of protobuf.
pub(super) fn first_byte(payload: &[u8]) -> Result<Option<u8>, DecodeError> {
    let mut first = Vec::new();
    decoder(payload)?.take(1).read_to_end(&mut first).map_err(broken)?;
    Ok(first.first().copied())
}

/// The message in the frame that `payload` is.
///
/// # Errors
/// It is no frame, holds more than `limit` bytes, or something stands behind it.
pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    if !is_frame(payload) {
        return Err(DecodeError::Foreign("it does not begin with a zstd frame".to_owned()));
    }
    let mut frame = decoder(payload)?;
    let mut message = Vec::new();
    (&mut frame).take(limit as u64 + 1).read_to_end(&mut message).map_err(broken)?;
    if message.len() > limit {
        return Err(DecodeError::TooLarge { what: "bytes", limit });
    }
    if frame.finish().is_empty() { Ok(message) } else { Err(DecodeError::damaged("bytes after its end")) }
}

fn decoder(payload: &[u8]) -> Result<zstd::Decoder<'static, &[u8]>, DecodeError> {
    let mut frame = zstd::Decoder::with_buffer(payload).map_err(broken)?.single_frame();
    frame.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
    Ok(frame)
}

fn broken(error: std::io::Error) -> DecodeError {
    DecodeError::damaged(format!("zstd: {error}"))
}
