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

/// Where the engine may not look, and may write: at and behind what it takes for the end of its log.
#[derive(Debug, Default)]
pub struct Unseen {
    /// Places in the file `db`.
    places: Vec<Range<u64>>,
    /// Numbers in the log: files of large values are called by that of the message that speaks of them.
    numbers: Vec<Range<i64>>,
}

impl Unseen {
    fn add(&mut self, segment: &Segment, from: u64) {
        let behind = (from - segment.start) as i64;
        self.places.push(from..segment.start + SEGMENT);
        self.numbers.push(segment.number + behind..segment.number + SEGMENT as i64);
    }

    /// Whether the engine passes over what stands in `file` at `place`.
    pub fn covers(&self, file: &Path, place: u64) -> bool {
        match file.file_name().and_then(|name| name.to_str()) {
            Some("db") => self.places.iter().any(|range| range.contains(&place)),
            Some(name) => name.parse().is_ok_and(|number| self.has_number(number)),
            None => false,
        }
    }

    fn has_number(&self, number: i64) -> bool {
        self.numbers.iter().any(|range| range.contains(&number))
    }
}

/// What the engine would not see of the database in the directory `path`.
///
/// # Errors
/// Something is damaged that no power cut explains.
pub fn look(path: &Path) -> Result<Unseen, DatabaseError> {
    let read = |error| of_io(path, error);
    let file = match File::open(path.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(path, "the file db is missing")),
        opened => opened.map_err(read)?,
    };
    let length = file.metadata().map_err(read)?.len();
    let (mut segments, mut unseen) = (Vec::new(), Unseen::default());
    let mut bytes = vec![0; SEGMENT as usize];
    for start in (0..length).step_by(SEGMENT as usize) {
        let bytes = &mut bytes[..SEGMENT.min(length - start) as usize];
        file.read_exact_at(bytes, start).map_err(read)?;
        match Segment::read(bytes, start) {
            Some(segment) => segments.push(segment),
            // One that was given back, or of which a power cut has left only parts.
            None => unseen.places.push(start..start + SEGMENT),
        }
    }
    // As the engine does it: of a segment before which all is durable it passes over the rest behind damage, as a power cut
    // leaves it where it is overwritten with something new; behind that, the first break is the end of the log.
    segments.sort_by_key(|segment| segment.number);
    let durable = segments.iter().map(|segment| segment.durable).max().unwrap_or(0);
    let mut has_ended = false;
    for segment in &segments {
        let end = if has_ended { Some(segment.start) } else { segment.ends_at };
        if let Some(end) = end {
            unseen.add(segment, end);
            has_ended |= segment.number + SEGMENT as i64 > durable;
        }
    }
    let behind = segments.last().map_or(0, |segment| segment.number + SEGMENT as i64);
    unseen.numbers.push(behind..i64::MAX);
    check_overflow(&path.join("blobs"), path, &unseen)?;
    Ok(unseen)
}

/// The engine keeps very large values in files of their own: CRC-32, kind, value. Those of which it sees no message are what
/// a power cut left of a write.
fn check_overflow(directory: &Path, path: &Path, unseen: &Unseen) -> Result<(), DatabaseError> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if unseen.covers(&entry.path(), 0) {
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
