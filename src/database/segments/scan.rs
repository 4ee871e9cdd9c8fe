//! Reads a segment from its beginning and finds every batch in it, also behind damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use super::format::{BATCH_HEAD, BatchHead, Deed, Lengths, MAGIC, OPERATION_HEAD, Operation, SEGMENT_HEAD};
use super::index::{Key, Location};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// What is tried one by one where a chunk cannot be read: the page of a bad sector.
const PAGE: usize = 4096;

/// How often reading is tried again in one file: one error in passing is no damage.
const ATTEMPTS: u32 = 8;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// A batch that was found.
#[derive(Debug)]
pub struct Found {
    /// Its head.
    pub head: BatchHead,
    /// Its segment.
    pub segment: u32,
    /// Where it begins.
    pub start: u64,
    /// The operations whose checksums are right.
    pub operations: Vec<FoundOperation>,
    /// Whether these are all.
    pub is_whole: bool,
    /// Whether bytes that are no batch stand before it.
    pub is_after_damage: bool,
    /// Whether it is what can be read where heads are damaged: changes of a batch, or of some, without a number.
    pub is_stray: bool,
}

/// An operation that was found.
#[derive(Debug, Clone, Copy)]
pub struct FoundOperation {
    /// What it does.
    pub deed: Deed,
    /// To which key.
    pub key: Key,
    /// Place in the segment.
    pub offset: u64,
    /// Length of the value.
    pub length: u32,
}

impl FoundOperation {
    /// Where it stands in `segment`.
    pub fn location(&self, segment: u32) -> Location {
        Location { segment, offset: self.offset, length: self.length, oldest: segment }
    }

    /// Bytes it takes in the file.
    pub fn bytes(&self) -> u64 {
        let value = if matches!(self.deed, Deed::Put) { self.length } else { 8 };
        (OPERATION_HEAD + self.key.as_slice().len()) as u64 + u64::from(value)
    }
}

/// Shows `each` batch of `file` in order. Returns the length of the file.
pub fn scan(file: &File, segment: u32, mut each: impl FnMut(Found)) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut window = Window { file, length, start: 0, bytes: Vec::new(), attempts: ATTEMPTS };
    let mut offset = SEGMENT_HEAD.len() as u64;
    let mut is_after_damage = false;
    while offset + OPERATION_HEAD as u64 <= length {
        match BatchHead::read(window.at(offset, BATCH_HEAD), segment, offset) {
            Some(head) => {
                let found = read_batch(&mut window, segment, offset, head, is_after_damage);
                is_after_damage = false;
                each(found);
                offset = head.end(offset);
            }
            None => {
                is_after_damage = true;
                let (end, operations) = read_strays(&mut window, segment, offset);
                if !operations.is_empty() {
                    each(strays(segment, offset, end, operations));
                }
                offset = end;
            }
        }
    }
    Ok(length)
}

fn read_batch(window: &mut Window<'_>, segment: u32, start: u64, head: BatchHead, is_after_damage: bool) -> Found {
    let end = head.end(start).min(window.length);
    let mut offset = start + BATCH_HEAD as u64;
    let mut operations = Vec::new();
    let mut is_whole = true;
    while offset < end {
        match operation_at(window, segment, offset, end) {
            Some(operation) => {
                offset += operation.bytes();
                operations.push(operation);
            }
            // Its lengths may be damaged too, so the next one is looked for: no checksum is right by chance where its
            // place counts.
            None => {
                is_whole = false;
                offset += 1;
            }
        }
    }
    let is_whole = is_whole && operations.len() == head.operations as usize && offset == head.end(start);
    Found { head, segment, start, operations, is_whole, is_after_damage, is_stray: false }
}

/// The operations from `start`, where no batch begins, to the next batch. Returns where that is; the end of the file
/// when there is none.
fn read_strays(window: &mut Window<'_>, segment: u32, start: u64) -> (u64, Vec<FoundOperation>) {
    let mut offset = start;
    let mut operations = Vec::new();
    while offset < window.length {
        let bytes = window.at(offset, BATCH_HEAD);
        if bytes.starts_with(&MAGIC) && BatchHead::read(bytes, segment, offset).is_some() {
            break;
        }
        match operation_at(window, segment, offset, window.length) {
            Some(operation) => {
                offset += operation.bytes();
                operations.push(operation);
            }
            None => offset += 1,
        }
    }
    (offset, operations)
}

fn strays(segment: u32, start: u64, end: u64, operations: Vec<FoundOperation>) -> Found {
    let length = (end - start).saturating_sub(BATCH_HEAD as u64) as u32;
    let head = BatchHead { operations: operations.len() as u32, length, number: 0, durable: 0 };
    Found { head, segment, start, operations, is_whole: false, is_after_damage: true, is_stray: true }
}

/// The operation at `offset`, if a whole one stands there before `end`.
fn operation_at(window: &mut Window<'_>, segment: u32, offset: u64, end: u64) -> Option<FoundOperation> {
    let lengths = Lengths::read(window.at(offset, OPERATION_HEAD))?;
    // A damaged length may claim more than there is.
    if offset + lengths.whole() as u64 > end {
        return None;
    }
    let operation = Operation::read(window.at(offset, lengths.whole()), segment, offset)?;
    let length = operation.value.len() as u32;
    Some(FoundOperation { deed: operation.deed, key: Key::new(operation.key)?, offset, length })
}

/// A part of the file in memory.
struct Window<'a> {
    file: &'a File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
    /// How often reading may still be tried again.
    attempts: u32,
}

impl Window<'_> {
    /// The `count` bytes at `offset`, fewer at the end of the file. What cannot be read is zeros: damage.
    fn at(&mut self, offset: u64, count: usize) -> &[u8] {
        let end = (offset + count as u64).min(self.length).max(offset);
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = (end - offset) as usize;
            let length = wanted.max(CHUNK).min((self.length - offset.min(self.length)) as usize);
            self.bytes.clear();
            self.bytes.resize(length, 0);
            self.start = offset;
            if self.file.read_exact_at(&mut self.bytes, offset).is_err() {
                self.read_pages(offset);
            }
        }
        let from = (offset - self.start) as usize;
        &self.bytes[from..from + (end - offset) as usize]
    }

    /// Reads page by page what could not be read at once.
    fn read_pages(&mut self, offset: u64) {
        for (page, bytes) in self.bytes.chunks_mut(PAGE).enumerate() {
            while self.file.read_exact_at(bytes, offset + (page * PAGE) as u64).is_err() {
                if self.attempts == 0 {
                    bytes.fill(0);
                    break;
                }
                self.attempts -= 1;
                thread::sleep(PAUSE);
            }
        }
    }
}
