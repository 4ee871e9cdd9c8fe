//! What is in a segment that is full, in a small file beside it: opening reads that instead of the segment.
//!
//! ```text
//! head (16): "lineside sum 1", two zeros; length of the segment u64, number of its last batch u64,
//! each operation: kind u8, place u64, length of value u32, span u32 u32, length of key u8, key; CRC32C
//! ```
//!
//! A summary says nothing that the segment does not say: one that is missing, damaged or of another length is passed
//! over, and the segment is read. It is written when the segment is durable, and the checksum makes it good or nothing.
//! When a value turns out to be damaged, the summary goes, so that the next opening looks at the whole segment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use super::format::{BATCH_HEAD, BatchHead, Deed, SEGMENT_HEAD, Span};
use super::index::Key;
use super::scan::{Found, FoundOperation, scan};

const ENDING: &str = ".summary";

const HEAD: &[u8; 16] = b"lineside sum 1\0\0";

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// Writes the summary of `segment`, which is durable and grows no more. None is written of a damaged one.
pub fn write(directory: &Path, segment: u32) -> io::Result<()> {
    let mut last = 0;
    let mut end = SEGMENT_HEAD.len() as u64;
    let mut is_whole = true;
    let mut operations = Vec::new();
    let length = scan(&files::open(directory, segment)?, segment, |found| {
        last = found.head.number;
        end = found.head.end(found.start);
        is_whole &= found.is_whole && !found.is_after_damage;
        found.operations.iter().for_each(|operation| put_operation(&mut operations, operation));
    })?;
    if !is_whole || end != length || operations.is_empty() {
        return Ok(());
    }
    let mut bytes = [&HEAD[..], &length.to_le_bytes(), &last.to_le_bytes(), operations.as_slice()].concat();
    bytes.extend(checksum(segment, &bytes).to_le_bytes());
    fs::write(path(directory, segment), bytes)
}

/// The operations of `segment` as one batch, as its summary tells them; `None` when there is none that is right.
pub fn read(directory: &Path, segment: u32) -> Option<Found> {
    let bytes = fs::read(path(directory, segment)).ok()?;
    let (body, sum) = bytes.split_last_chunk()?;
    if u32::from_le_bytes(*sum) != checksum(segment, body) {
        return None;
    }
    let mut rest = body.strip_prefix(HEAD)?;
    let length = u64::from_le_bytes(take(&mut rest)?);
    let last = u64::from_le_bytes(take(&mut rest)?);
    if fs::metadata(files::path(directory, segment)).ok()?.len() != length {
        return None;
    }
    let mut operations = Vec::new();
    while !rest.is_empty() {
        operations.push(take_operation(&mut rest)?);
    }
    let start = SEGMENT_HEAD.len() as u64;
    let head = BatchHead {
        operations: operations.len() as u32,
        length: u32::try_from(length.checked_sub(start + BATCH_HEAD as u64)?).ok()?,
        number: last,
        durable: last,
    };
    Some(Found { head, segment, start, operations, is_whole: true, is_after_damage: false, is_stray: false })
}

/// Removes the summary of `segment`, if there is one.
pub fn remove(directory: &Path, segment: u32) -> io::Result<()> {
    match fs::remove_file(path(directory, segment)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the summaries of every segment that is not one of `full`: its number may be given again.
pub fn remove_others(directory: &Path, full: &[u32]) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_suffix(ENDING)) else { continue };
        if !u32::from_str_radix(number, 16).is_ok_and(|number| full.contains(&number)) {
            fs::remove_file(directory.join(&name))?;
        }
    }
    Ok(())
}

fn path(directory: &Path, segment: u32) -> PathBuf {
    directory.join(format!("{segment:08x}{ENDING}"))
}

fn put_operation(out: &mut Vec<u8>, operation: &FoundOperation) {
    let (kind, span) = match operation.deed {
        Deed::Put => (PUT, Span { from: 0, to: 0 }),
        Deed::Remove(span) => (REMOVE, span),
    };
    out.push(kind);
    out.extend(operation.offset.to_le_bytes());
    out.extend(operation.length.to_le_bytes());
    out.extend(span.from.to_le_bytes());
    out.extend(span.to.to_le_bytes());
    let key = operation.key.as_slice();
    out.push(key.len() as u8);
    out.extend(key);
}

fn take_operation(rest: &mut &[u8]) -> Option<FoundOperation> {
    let [kind] = take(rest)?;
    let offset = u64::from_le_bytes(take(rest)?);
    let length = u32::from_le_bytes(take(rest)?);
    let span = Span { from: u32::from_le_bytes(take(rest)?), to: u32::from_le_bytes(take(rest)?) };
    let [key_length] = take(rest)?;
    let (key, after) = rest.split_at_checked(usize::from(key_length))?;
    *rest = after;
    let deed = match kind {
        PUT => Deed::Put,
        REMOVE => Deed::Remove(span),
        _ => return None,
    };
    Some(FoundOperation { deed, key: Key::new(key)?, offset, length })
}

fn take<const COUNT: usize>(rest: &mut &[u8]) -> Option<[u8; COUNT]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn checksum(segment: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), bytes)
}
