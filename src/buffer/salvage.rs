//! Saving what is readable of damaged files: every byte of them is gone through for commits, whatever has become of the
//! engine's own order, and those that are missing are put into the database under their old identity.
//!
//! This happens while the database is opened, beside the thread of the store; polling does not wait for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::carve::carve;
use super::commit::Envelope;
use super::lane::LaneState;
use super::loaded::commit_key;
use super::mark::Noted;
use super::ranges::Ranges;
use super::store::at;
use crate::database::{Batch, Database, DatabaseError, Unseen};
use crate::model::{Epoch, Lane};

/// Bytes read at once.
const READ: usize = 256 << 10;

/// Bytes of commits that are made durable at once: what waits in memory.
const AT_ONCE: usize = 1 << 20;

/// Most bytes of commits that are kept in memory while an engine opens a database without seeing them.
const UNSEEN_KEPT: usize = 4 << 20;

/// What is brought back, and from where.
pub struct Salvage<'a> {
    /// Takes the commits.
    pub database: &'a Database,
    /// The life to which they belong.
    pub epoch: Epoch,
    /// Sequences that are missing, by lane.
    pub wanted: [Ranges; 2],
}

impl Salvage<'_> {
    /// Goes through the files below `directory`. Returns how many commits are brought back, durably.
    pub fn run(&mut self, directory: &Path) -> Result<u64, DatabaseError> {
        let mut count = 0;
        for path in files(directory) {
            match self.go_through(&path) {
                Ok(found) => count += found?,
                Err(error) => {
                    tracing::warn!(%error, file = %path.display(), "the rest of a damaged file cannot be read")
                }
            }
        }
        Ok(count)
    }

    fn go_through(&mut self, path: &Path) -> io::Result<Result<u64, DatabaseError>> {
        let mut parts = Parts::open(path)?;
        let (mut batch, mut waiting, mut count) = (Batch::default(), 0, 0);
        while let Some((bytes, is_end)) = parts.next()? {
            let done = carve(bytes, is_end, |_, envelope, commit| {
                let (lane, sequence) = (envelope.lane, envelope.header.sequence.0);
                let wanted = &mut self.wanted[at(lane)];
                if envelope.header.epoch == self.epoch && wanted.first_present(sequence) == Some(sequence) {
                    wanted.remove(sequence, sequence);
                    batch.put(&commit_key(lane, sequence), commit);
                    waiting += commit.len();
                    count += 1;
                }
            });
            parts.take(done);
            if waiting >= AT_ONCE || (is_end && waiting > 0) {
                waiting = 0;
                let full = std::mem::take(&mut batch);
                if let Err(error) = self.database.apply(full).and_then(|()| self.database.flush()) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(count))
    }
}

/// What of all that is to be delivered, as the mark says, does not stand in files where it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Everything is there.
    Nothing,
    /// Some is nowhere.
    Gone,
    /// Some stands only where it is not seen.
    Unseen,
}

/// Looks for it in files below `directory`.
pub fn missing(directory: &Path, noted: &Noted, unseen: &Unseen) -> Missing {
    let mut wanted = noted.lanes.each_ref().map(LaneState::to_be_delivered);
    let mut hidden = Vec::new();
    each_commit(directory, unseen, |is_seen, envelope, _| {
        let (lane, sequence) = (at(envelope.lane), envelope.header.sequence.0);
        match is_seen {
            _ if envelope.header.epoch != noted.epoch => {}
            true => wanted[lane].remove(sequence, sequence),
            false => hidden.push((lane, sequence)),
        }
    });
    let is_wanted = |(lane, sequence): &(usize, u64)| wanted[*lane].first_present(*sequence) == Some(*sequence);
    if wanted.iter().all(|ranges| ranges.iter().next().is_none()) {
        Missing::Nothing
    } else if hidden.iter().any(is_wanted) {
        Missing::Unseen
    } else {
        Missing::Gone
    }
}

/// The commits that stand in files below `directory` where they are `unseen` and nowhere else, behind what `noted` knows; of
/// all when nothing is noted. Nothing when they are too many to be kept in memory.
///
/// What was delivered and removed is found too: but only below what is still there.
pub fn unseen_commits(directory: &Path, noted: Option<&Noted>, unseen: &Unseen) -> Option<Vec<Vec<u8>>> {
    let (mut seen, mut found, mut bytes) = ([Ranges::default(), Ranges::default()], BTreeMap::new(), 0);
    each_commit(directory, unseen, |is_seen, envelope, commit| {
        let (lane, sequence) = (envelope.lane, envelope.header.sequence.0);
        let is_known = noted.is_some_and(|it| it.epoch != envelope.header.epoch || sequence < it.lanes[at(lane)].next);
        if is_seen {
            seen[at(lane)].insert(sequence, sequence);
        } else if !is_known {
            bytes += commit.len();
            if bytes <= UNSEEN_KEPT {
                found.insert((at(lane), sequence), commit.to_vec());
            }
        }
    });
    let is_missing = |(lane, sequence): &(usize, u64)| {
        let seen = &seen[*lane];
        let oldest = seen.first_present(0).unwrap_or(0);
        *sequence > oldest && seen.first_present(*sequence) != Some(*sequence)
    };
    found.retain(|place, _| is_missing(place));
    (bytes <= UNSEEN_KEPT).then(|| found.into_values().collect())
}

/// The whole commits in `bytes`.
pub fn commits_in(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut commits = Vec::new();
    carve(bytes, true, |_, _, commit| commits.push(commit.to_vec()));
    commits
}

/// Shows every whole commit in files below `directory`, and whether it is seen there. What cannot be read is passed over.
fn each_commit(directory: &Path, unseen: &Unseen, mut found: impl FnMut(bool, &Envelope, &[u8])) {
    for path in files(directory) {
        let Ok(mut parts) = Parts::open(&path) else { continue };
        loop {
            let offset = parts.offset;
            let Ok(Some((bytes, is_end))) = parts.next() else { break };
            let done = carve(bytes, is_end, |at_byte, envelope, commit| {
                found(!unseen.covers(&path, offset + at_byte as u64), envelope, commit);
            });
            parts.take(done);
        }
    }
}

/// What the commits in files below `directory` say about the database that they were in.
pub fn survey(directory: &Path) -> Option<Noted> {
    let mut lives: Vec<(Epoch, u64, [u64; 2])> = Vec::new();
    each_commit(directory, &Unseen::default(), |_, envelope, _| {
        let epoch = envelope.header.epoch;
        let known = lives.iter().position(|life| life.0 == epoch).unwrap_or_else(|| {
            lives.push((epoch, 0, [0; 2]));
            lives.len() - 1
        });
        let (_, commits, last) = &mut lives[known];
        *commits += 1;
        let last = &mut last[at(envelope.lane)];
        *last = envelope.header.sequence.0.max(*last);
    });
    let (epoch, _, last) = lives.into_iter().max_by_key(|life| life.1)?;
    let lanes = Lane::ALL.map(|lane| LaneState { next: last[at(lane)] + 1, ..LaneState::new(lane) });
    Some(Noted { epoch, boot: None, generation: 0, lanes, is_full: false, is_newest: true })
}

/// A file, part by part.
struct Parts {
    file: File,
    bytes: Vec<u8>,
    /// Where those stand in the file.
    offset: u64,
    is_end: bool,
}

impl Parts {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, bytes: Vec::new(), offset: 0, is_end: false })
    }

    /// The bytes that are not done with and those after them, and whether none come after these.
    fn next(&mut self) -> io::Result<Option<(&[u8], bool)>> {
        if self.is_end {
            return Ok(None);
        }
        let before = self.bytes.len();
        self.bytes.resize(before + READ, 0);
        let read = read_some(&mut self.file, &mut self.bytes[before..])?;
        self.bytes.truncate(before + read);
        self.is_end = read == 0;
        Ok(Some((&self.bytes, self.is_end)))
    }

    /// The first `done` bytes are done with.
    fn take(&mut self, done: usize) {
        self.bytes.drain(..done);
        self.offset += done as u64;
    }
}

/// Reads on. A part that the disk cannot read is zeros.
fn read_some(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let (position, length) = (file.stream_position()?, file.metadata()?.len());
                if position + into.len() as u64 >= length {
                    return Err(error);
                }
                file.seek(SeekFrom::Current(into.len() as i64))?;
                into.fill(0);
                return Ok(into.len());
            }
            read => return read,
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    found.sort();
    found
}
