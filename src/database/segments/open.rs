//! Opening a log: what is in it, what of that counts, and where it goes on.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{BATCH_HEAD, Deed, SEGMENT_HEAD};
use super::index::Index;
use super::ledger::Ledger;
use super::scan::{Found, scan};
use super::{Log, files, removal_bytes, summary};
use crate::database::sync_parent;

/// A log without a batch may be one whose first write was cut off, as long as it is not longer than this.
const FIRST_WRITE: u64 = 4096;

/// Bytes written anew at once.
const CHUNK: usize = 256 << 10;

/// Most bytes of what is cut off that are kept to be asked for: many times what is written between two flushes.
const LEFTOVERS_MOST: u64 = 16 << 20;

/// Where a batch stands.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    segment: u32,
    start: u64,
    end: u64,
}

/// What is believed without looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The summaries of full segments.
    Summaries,
    /// Nothing: every checksum is looked at.
    Nothing,
}

/// A log as it was found: nothing is changed yet.
#[derive(Debug)]
struct Read {
    log: Log,
    segments: Vec<u32>,
    /// Where the last batch stands that counts.
    last: Stretch,
    /// The batches that count although nothing proves them durable.
    unproven: Vec<Found>,
    /// The batches that do not count.
    dropped: VecDeque<Found>,
}

/// Takes the batches in the order in which they stand and decides which of them count.
///
/// Up to the last number that some later batch calls durable everything counts, and what is not whole is damage.
/// Behind it whole batches count as long as no number is missing; the rest is what a power cut left.
#[derive(Debug, Default)]
struct Judge {
    durable: u64,
    /// Number of the last batch that counts.
    last: u64,
    /// Number of the last batch that was taken.
    seen: u64,
    undecided: VecDeque<Found>,
    is_after_damage: bool,
}

impl Judge {
    /// Takes the next batch. Returns those that are known to count now.
    fn take(&mut self, mut found: Found) -> Vec<Found> {
        found.is_after_damage |= std::mem::take(&mut self.is_after_damage);
        if found.is_stray {
            // At least the batch that would come next: nobody knows how many there were.
            found.head.number = self.seen + 1;
        }
        self.seen = found.head.number.max(self.seen);
        self.durable = self.durable.max(found.head.durable);
        self.undecided.push_back(found);
        let mut counting = Vec::new();
        while self.undecided.front().is_some_and(|found| found.head.number <= self.durable) {
            counting.extend(self.undecided.pop_front());
        }
        self.last = counting.last().map_or(self.last, |found: &Found| found.head.number.max(self.last));
        counting
    }

    /// The batches that count although nothing proves them durable. What stays undecided does not count.
    fn end(&mut self) -> Vec<Found> {
        let mut counting = Vec::new();
        self.last = self.last.max(self.durable);
        while self.undecided.front().is_some_and(|found| found.is_whole && found.head.number == self.last + 1) {
            counting.extend(self.undecided.pop_front());
            self.last += 1;
        }
        counting
    }
}

impl Log {
    /// Opens the log in `directory`, or begins a new one. What is in it afterwards is durable.
    pub fn open(directory: &Path) -> io::Result<Self> {
        if files::list(directory)?.is_empty() {
            files::create(directory, 1)?;
        }
        let Read { mut log, segments, last, unproven, dropped } = Self::read_all(directory, Trust::Summaries)?;
        summary::remove_others(directory, &segments[..segments.len() - 1])?;
        log.cut_off(last, dropped.front(), &segments)?;
        let mut stretches = unproven.iter().map(|found| {
            let end = found.head.end(found.start);
            Stretch { segment: found.segment, start: found.start, end }
        });
        stretches.try_for_each(|stretch| write_anew(directory, stretch))?;
        log.current.sync_all()?;
        files::sync(directory)?;
        sync_parent(directory)?;
        Ok(log)
    }

    /// Opens the log in `directory` to read what [`open`](Self::open) would find, and changes nothing.
    pub fn open_to_read(directory: &Path) -> io::Result<Self> {
        let mut log = Self::read_all(directory, Trust::Nothing)?.log;
        log.is_only_read = true;
        Ok(log)
    }

    fn read_all(directory: &Path, trust: Trust) -> io::Result<Read> {
        let segments = files::list(directory)?;
        let newest = *segments.last().ok_or(io::ErrorKind::NotFound)?;
        let mut log = Self::empty(directory, newest)?;
        let mut judge = Judge::default();
        let mut last = Stretch { segment: segments[0], start: 0, end: SEGMENT_HEAD.len() as u64 };
        let mut bytes = 0;
        for segment in &segments {
            let mut end = SEGMENT_HEAD.len() as u64;
            let mut is_damaged = false;
            let mut take = |found: Found| {
                end = found.head.end(found.start);
                is_damaged |= !found.is_whole || found.is_after_damage;
                judge.take(found).iter().for_each(|found| last = log.adopt(found));
            };
            let summary = Some(*segment).filter(|segment| trust == Trust::Summaries && *segment != newest);
            let length = match summary.and_then(|segment| summary::read(directory, segment)) {
                Some(found) => {
                    let length = found.head.end(found.start);
                    take(found);
                    length
                }
                None => scan(&files::open(directory, *segment)?, *segment, take)?,
            };
            judge.is_after_damage |= length > end;
            // What is wrong with the newest one may be no more than that its end is cut off.
            if *segment != newest && (is_damaged || length > end) {
                log.damaged.insert(*segment);
            }
            log.ledger.set_bytes(*segment, length);
            bytes += length;
        }
        let unproven = judge.end();
        unproven.iter().for_each(|found| last = log.adopt(found));
        if judge.last == 0 && bytes > FIRST_WRITE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no batch can be read"));
        }
        log.next = judge.last + 1;
        log.durable = judge.last;
        log.opened_at = log.next;
        Ok(Read { log, segments, last, unproven, dropped: judge.undecided })
    }

    fn empty(directory: &Path, segment: u32) -> io::Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            index: Index::default(),
            ledger: Ledger::default(),
            current: files::open(directory, segment)?,
            segment,
            read: None,
            next: 1,
            opened_at: 1,
            durable: 0,
            is_new: false,
            has_losses: false,
            damaged: BTreeSet::new(),
            is_given_up: false,
            leftovers: Vec::new(),
            is_only_read: false,
        })
    }

    /// Takes a batch that counts into the index. Returns where it stands.
    fn adopt(&mut self, found: &Found) -> Stretch {
        let is_gap = found.is_after_damage && found.head.number > self.next;
        if is_gap || !found.is_whole {
            tracing::warn!(
                segment = found.segment,
                at = found.start,
                batch = found.head.number,
                readable = found.operations.len(),
                of = found.head.operations,
                "damage in the log of the store; what is undamaged is kept"
            );
            self.has_losses = true;
            self.damaged.insert(found.segment);
        }
        self.next = found.head.number + 1;
        for operation in &found.operations {
            match operation.deed {
                Deed::Put => self.put(operation.key, operation.location(found.segment)),
                Deed::Remove(span) => {
                    self.take(&operation.key);
                    let bytes = removal_bytes(operation.key.as_slice());
                    self.ledger.add_removal(found.segment, span, bytes);
                }
            }
        }
        Stretch { segment: found.segment, start: found.start, end: found.head.end(found.start) }
    }

    /// Keeps what stands in `segment` from `start` on, before it goes. Where a power cut is to blame it is worth nothing;
    /// where damage is, only the owner of the database can tell.
    fn keep_leftovers(&mut self, segment: u32, start: u64) -> io::Result<()> {
        let mut file = files::open(&self.directory, segment)?;
        file.seek(SeekFrom::Start(start))?;
        let room = LEFTOVERS_MOST.saturating_sub(self.leftovers.len() as u64);
        if let Err(error) = file.take(room).read_to_end(&mut self.leftovers) {
            tracing::warn!(%error, segment, "the end of the log cannot be read");
        }
        Ok(())
    }

    /// Takes away what stands behind the `last` batch that counts: from the segment of the first that does not on.
    fn cut_off(&mut self, last: Stretch, first_dropped: Option<&Found>, segments: &[u32]) -> io::Result<()> {
        let newest = self.segment;
        let cut = first_dropped.map_or(newest, |found| found.segment);
        let end = if last.segment == cut { last.end } else { SEGMENT_HEAD.len() as u64 };
        self.keep_leftovers(cut, end)?;
        for segment in segments.iter().filter(|segment| **segment > cut) {
            self.keep_leftovers(*segment, 0)?;
        }
        for segment in segments.iter().rev().take_while(|segment| **segment > cut) {
            files::remove(&self.directory, *segment)?;
            self.ledger.remove(*segment);
        }
        summary::remove(&self.directory, cut)?;
        self.current = files::open_to_write(&self.directory, cut)?;
        self.segment = cut;
        let length = self.current.metadata()?.len();
        if length > end {
            tracing::debug!(segment = cut, from = end, to = length, "end of a write that was cut off");
            self.current.set_len(end)?;
        }
        if length < SEGMENT_HEAD.len() as u64 || end == SEGMENT_HEAD.len() as u64 {
            self.current.write_all_at(SEGMENT_HEAD, 0)?;
        }
        self.ledger.set_bytes(cut, end);
        Ok(())
    }
}

/// Writes the bytes of a batch once more: they may be in the system's memory and never have got to the disk.
fn write_anew(directory: &Path, stretch: Stretch) -> io::Result<()> {
    let file: File = files::open_to_write(directory, stretch.segment)?;
    let mut bytes = vec![0; CHUNK.min((stretch.end - stretch.start) as usize).max(BATCH_HEAD)];
    let mut offset = stretch.start;
    while offset < stretch.end {
        let part = bytes.len().min((stretch.end - offset) as usize);
        file.read_exact_at(&mut bytes[..part], offset)?;
        file.write_all_at(&bytes[..part], offset)?;
        offset += part as u64;
    }
    file.sync_all()
}
