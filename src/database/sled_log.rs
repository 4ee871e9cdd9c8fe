//! The log of sled (0.34), read without the engine and without changing it.
//!
//! The engine answers damage by overwriting what comes after it, before it refuses, or it takes damage for the end of a
//! segment and passes over the rest. So every checksum is looked at before the engine gets to see the files.
//!
//! ```text
//! segment (512 KiB)  head (20): CRC-32, its number in the log i64, number up to which all was durable i64; messages
//! message            CRC-32, kind u8, length, number of the segment, page, in the engine's numbers of 1 to 9 bytes; body
//! ```

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{DatabaseError, damaged, of_io};

const SEGMENT: u64 = 512 << 10;
const SEGMENT_HEAD: usize = 20;

/// Closer to the end of a segment no message begins.
const MESSAGE_HEAD_MOST: u64 = 32;

const CORRUPTED: u8 = 0;
const CAP: u8 = 2;
const BATCH: u8 = 3;
const KIND_LAST: u8 = 11;

/// Where the engine may not look, and may write: places in the file `db` at and behind what it takes for the end of its log.
///
/// # Errors
/// Something is damaged that no power cut explains.
pub fn look(path: &Path) -> Result<Vec<Range<u64>>, DatabaseError> {
    let read = |error| of_io(path, error);
    let file = match File::open(path.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(path, "the file db is missing")),
        opened => opened.map_err(read)?,
    };
    let length = file.metadata().map_err(read)?.len();
    let (mut segments, mut unseen) = (Vec::new(), Vec::new());
    let mut bytes = vec![0; SEGMENT as usize];
    for start in (0..length).step_by(SEGMENT as usize) {
        let bytes = &mut bytes[..SEGMENT.min(length - start) as usize];
        file.read_exact_at(bytes, start).map_err(read)?;
        match Segment::read(bytes, start) {
            Some(segment) => segments.push(segment),
            // One that was given back, or of which a power cut has left only parts.
            None => unseen.push(start..start + SEGMENT),
        }
    }
    // As the engine does it: of a segment before which all is durable it passes over the rest behind damage, as a power cut
    // leaves it where it is overwritten with something new; behind that, the first break is the end of the log.
    segments.sort_by_key(|segment| segment.number);
    let durable = segments.iter().map(|segment| segment.durable).max().unwrap_or(0);
    let mut log_end = None;
    for segment in &segments {
        let end = if log_end.is_some() { Some(segment.start) } else { segment.ends_at };
        unseen.extend(end.map(|end| end..segment.start + SEGMENT));
        if let Some(end) = end.filter(|_| log_end.is_none() && segment.number + SEGMENT as i64 > durable) {
            log_end = Some(segment.number + (end - segment.start) as i64);
        }
    }
    check_overflow(&path.join("blobs"), path, log_end.unwrap_or(i64::MAX))?;
    Ok(unseen)
}

/// The engine keeps very large values in files of their own: CRC-32, kind, value. Each is called by the place in the log of
/// the message that speaks of it; behind the end of the log it is what a power cut left of a write.
fn check_overflow(directory: &Path, path: &Path, log_end: i64) -> Result<(), DatabaseError> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
        if number.is_some_and(|number| number >= log_end) {
            continue;
        }
        let bytes = fs::read(entry.path()).map_err(|error| of_io(path, error))?;
        let is_right = bytes.split_first_chunk().is_some_and(|(sum, body)| crc(&[body]) == u32::from_le_bytes(*sum));
        if !is_right {
            return Err(damaged(path, &format!("blobs/{} is damaged", entry.file_name().display())));
        }
    }
    Ok(())
}

/// What was found of a segment.
#[derive(Debug)]
struct Segment {
    start: u64,
    number: i64,
    durable: i64,
    /// Where messages end before the segment does; `None` when it was filled in order.
    ends_at: Option<u64>,
}

impl Segment {
    fn read(bytes: &[u8], start: u64) -> Option<Self> {
        let (sum, head) = bytes.get(..SEGMENT_HEAD)?.split_first_chunk()?;
        if u32::from_le_bytes(*sum) != crc(&[head]) ^ u32::MAX {
            return None;
        }
        let number = i64::from_le_bytes(*head.first_chunk()?) ^ i64::MAX;
        let durable = i64::from_le_bytes(*head.last_chunk()?) ^ i64::MAX;
        let ends_at = end_of_messages(bytes, number).map(|end| start + end);
        Some(Self { start, number, durable, ends_at })
    }
}

fn end_of_messages(bytes: &[u8], number: i64) -> Option<u64> {
    let mut offset = SEGMENT_HEAD as u64;
    // A batch that goes on behind the last message does not count at all.
    let mut batch: Option<(u64, i64)> = None;
    while offset + MESSAGE_HEAD_MOST <= SEGMENT {
        let Some(message) = bytes.get(offset as usize..).and_then(|rest| Message::read(rest, number / SEGMENT as i64))
        else {
            let is_torn = |(_, last): &(u64, i64)| *last >= number + offset as i64;
            return Some(batch.filter(is_torn).map_or(offset, |(begin, _)| begin));
        };
        match message.kind {
            CAP => return None,
            BATCH => batch = message.last_of_batch.map(|last| (offset, last)),
            _ => {}
        }
        offset += message.length;
    }
    None
}

/// One message whose checksum is right.
struct Message {
    kind: u8,
    length: u64,
    last_of_batch: Option<i64>,
}

impl Message {
    fn read(bytes: &[u8], segment: i64) -> Option<Self> {
        let (sum, mut rest) = bytes.split_first_chunk()?;
        let kind = *rest.split_off_first()?;
        let length = take_number(&mut rest)?;
        let of_segment = take_number(&mut rest)?;
        take_number(&mut rest)?;
        let head = bytes.len() - rest.len();
        let body = rest.get(..usize::try_from(length).ok()?)?;
        let is_right = (CORRUPTED + 1..=KIND_LAST).contains(&kind)
            && u32::from_le_bytes(*sum) == crc(&[body, &bytes[4..head]]) ^ u32::MAX
            && i64::try_from(of_segment) == Ok(segment);
        let last_of_batch = body.first_chunk().filter(|_| kind == BATCH).map(|last| i64::from_le_bytes(*last));
        is_right.then_some(Self { kind, length: head as u64 + length, last_of_batch })
    }
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let first = *rest.split_off_first()?;
    match first {
        0..=240 => Some(u64::from(first)),
        241..=248 => Some(240 + 256 * (u64::from(first) - 241) + u64::from(*rest.split_off_first()?)),
        249 => {
            let bytes: &[u8; 2] = rest.split_off(..2)?.try_into().ok()?;
            Some(2288 + 256 * u64::from(bytes[0]) + u64::from(bytes[1]))
        }
        _ => {
            let count = usize::from(first) - 247;
            let mut bytes = [0; 8];
            bytes[..count].copy_from_slice(rest.split_off(..count)?);
            Some(u64::from_le_bytes(bytes))
        }
    }
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}
