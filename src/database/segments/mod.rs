//! A plain log of segments: batches are appended to the newest file, an index in memory knows where each key stands.
//!
//! Nothing is ever changed in place. A segment of which little is alive is given up: what is alive in it is appended
//! anew and made durable, then the file goes. Opening builds the index: from a small summary of each full segment, and
//! from the newest one itself. Where a summary is missing, or a value turned out to be damaged, the segment is read and
//! every checksum in it checked: what is damaged is passed over operation by operation, also where the head of a batch
//! is lost, and what an end cut off in the middle of a write is taken away. Segments with damage are given up, so that
//! it is found once. Batches that nothing proves durable are written once more before they count: after a failed `fsync` the
//! system may show them although the disk never got them.

mod files;
mod format;
mod index;
mod ledger;
mod open;
mod scan;
mod summary;
mod tidy;
mod verify;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::flusher::Flusher;
use super::{Change, DatabaseError, Engine, Verification, Visit, of_io, only_to_be_read, unavailable};
use format::{BATCH_HEAD, BatchHead, Deed, KEY_MAX, OPERATION_HEAD, Operation, Span, VALUE_MAX};
use index::{Index, Key, Location};
use ledger::Ledger;

/// Whether a database of this engine is in the directory `path`.
pub fn is_in(path: &Path) -> bool {
    files::list(path).is_ok_and(|segments| !segments.is_empty())
}

/// Removes what spares looking at the segments in the directory `path`.
pub fn distrust(path: &Path) {
    if let Err(error) = summary::remove_others(path, &[]) {
        tracing::debug!(%error, "summaries of segments cannot be removed");
    }
}

/// An open log.
#[derive(Debug)]
pub struct SegmentLog {
    log: RefCell<Log>,
    /// None when the log was opened only to be read.
    flusher: Option<Flusher<Dirty>>,
    /// After an error of the disk nothing is believed until the log is opened again.
    is_broken: Cell<bool>,
    path: PathBuf,
}

/// The files as they are to be, and what is known about them.
#[derive(Debug)]
struct Log {
    directory: PathBuf,
    index: Index,
    ledger: Ledger,
    /// The newest segment: the only one that grows.
    current: File,
    segment: u32,
    /// Another segment, open because it was read last.
    read: Option<(u32, File)>,
    /// Number of the next batch.
    next: u64,
    /// What `next` was when the log was opened.
    opened_at: u64,
    /// Number of the last batch that is durable.
    durable: u64,
    /// The name of the newest segment is not durable.
    is_new: bool,
    has_losses: bool,
    /// Segments in which something is damaged.
    damaged: BTreeSet<u32>,
    /// Whether those may go: what can be read of them is copied then.
    is_given_up: bool,
    /// The end that was cut off.
    leftovers: Vec<u8>,
    /// Nothing is written, and nothing removed.
    is_only_read: bool,
}

/// What a flush has to make durable.
#[derive(Debug)]
struct Dirty {
    file: File,
    directory: Option<PathBuf>,
}

impl SegmentLog {
    /// Opens the log in the directory `path`, or begins a new one there.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let log = std::fs::create_dir_all(path).and_then(|()| Log::open(path)).map_err(|error| of_io(path, error))?;
        let flusher = Flusher::start(path, {
            let path = path.to_owned();
            move |dirty: Dirty| dirty.sync().map_err(|error| unavailable(&path, error))
        });
        let flusher = flusher.map_err(|error| unavailable(path, error))?;
        Ok(Self { log: RefCell::new(log), flusher: Some(flusher), is_broken: Cell::new(false), path: path.to_owned() })
    }

    /// Opens the log in the directory `path` to be read, without changing a byte of it.
    pub fn open_to_read(path: &Path) -> Result<Self, DatabaseError> {
        let log = Log::open_to_read(path).map_err(|error| of_io(path, error))?;
        Ok(Self { log: RefCell::new(log), flusher: None, is_broken: Cell::new(false), path: path.to_owned() })
    }

    fn with<T>(&self, deed: impl FnOnce(&mut Log) -> io::Result<T>) -> Result<T, DatabaseError> {
        if self.is_broken.get() {
            return Err(unavailable(&self.path, io::Error::other("it has to be opened again after an error")));
        }
        deed(&mut self.log.borrow_mut()).map_err(|error| {
            self.is_broken.set(error.kind() != io::ErrorKind::InvalidInput);
            of_io(&self.path, error)
        })
    }
}

impl Engine for SegmentLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        let Some(key) = Key::new(key) else { return Ok(None) };
        self.with(|log| match log.index.get(&key) {
            Some(location) => log.read(&key, location).map(Some),
            None => Ok(None),
        })
    }

    fn visit(&self, first: &[u8], last: &[u8], visit: &mut Visit<'_>) -> Result<(), DatabaseError> {
        let mut cursor = (at_most(first), true);
        if cursor.0.as_slice() != first {
            cursor.1 = false;
        }
        loop {
            // Read one by one: nothing is held while `visit` runs.
            let some = self.with(|log| Ok(log.index.some_from(&cursor.0, cursor.1)))?;
            let Some((newest, _)) = some.last() else { return Ok(()) };
            cursor = (*newest, false);
            for (key, location) in some {
                if key.as_slice() > last {
                    return Ok(());
                }
                let value = self.with(|log| log.read(&key, location))?;
                if visit(key.as_slice(), &value).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn last_key(&self, first: &[u8], last: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        let found = self.with(|log| Ok(log.index.last_up_to(&at_most(last))))?;
        Ok(found.map(|key| key.as_slice().to_vec()).filter(|key| key.as_slice() >= first))
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), DatabaseError> {
        if self.flusher.is_none() {
            return Err(only_to_be_read(&self.path));
        }
        self.with(|log| log.apply(changes))
    }

    fn flush(&self) -> Result<(), DatabaseError> {
        let Some(flusher) = &self.flusher else { return Ok(()) };
        let Some(dirty) = self.with(|log| log.dirty())? else { return Ok(()) };
        let last = self.log.borrow().next - 1;
        let flushed = flusher.flush(dirty, || {});
        self.is_broken.set(flushed.is_err());
        flushed?;
        self.with(|log| {
            log.durable = last;
            log.is_new = false;
            Ok(())
        })?;
        // What was to be flushed is. Should tidying fail, the next call says so.
        self.with(Log::tidy).ok();
        Ok(())
    }

    fn count(&self, first: &[u8], last: &[u8]) -> Option<u64> {
        Some(self.log.borrow().index.count(&at_most(first), &at_most(last)))
    }

    fn has_losses(&self) -> bool {
        self.log.borrow().has_losses
    }

    fn take_leftovers(&self) -> Vec<u8> {
        std::mem::take(&mut self.log.borrow_mut().leftovers)
    }

    fn give_up_damaged(&self) {
        self.log.borrow_mut().is_given_up = true;
    }

    fn verify(&self) -> Result<Verification, DatabaseError> {
        self.with(|log| log.verify())
    }
}

impl Drop for SegmentLog {
    /// Proves the last batch durable, so that damage to it can be told from an end that was cut off.
    fn drop(&mut self) {
        let log = self.log.get_mut();
        if !self.is_broken.get() && log.durable + 1 == log.next && log.next > log.opened_at {
            log.append(Vec::new()).and_then(|()| log.current.sync_data()).ok();
        }
    }
}

/// The longest key that is not above `bytes`.
fn at_most(bytes: &[u8]) -> Key {
    Key::new(&bytes[..bytes.len().min(KEY_MAX)]).expect("a key cut to the longest length")
}

impl Dirty {
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.directory.as_deref().map_or(Ok(()), files::sync)
    }
}

impl Log {
    fn apply(&mut self, changes: Vec<Change>) -> io::Result<()> {
        let is_too_long = |change: &Change| match change {
            Change::Put { key, value } => key.len() > KEY_MAX || value.len() > VALUE_MAX,
            Change::Remove { .. } => false,
        };
        if changes.iter().any(is_too_long) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key or a value is too long"));
        }
        self.append(changes)
    }

    /// Appends a batch of `changes` and notes it in the index. After an error the index is ahead of the file.
    fn append(&mut self, changes: Vec<Change>) -> io::Result<()> {
        self.begin_segment_if_full()?;
        let start = self.ledger.bytes(self.segment);
        let mut batch = vec![0; BATCH_HEAD];
        let mut operations = 0;
        for change in changes {
            operations += u32::from(self.write(&change, start, &mut batch));
        }
        self.finish(&mut batch, operations, start)
    }

    /// Writes one change to `batch`, which will stand at `start`. Says whether it changes anything.
    fn write(&mut self, change: &Change, start: u64, batch: &mut Vec<u8>) -> bool {
        let offset = start + batch.len() as u64;
        match change {
            Change::Put { key, value } => {
                let Some(known) = Key::new(key) else { return false };
                let location =
                    Location { segment: self.segment, offset, length: value.len() as u32, oldest: self.segment };
                self.put(known, location);
                Operation { deed: Deed::Put, key, value }.write(batch, self.segment, offset);
            }
            Change::Remove { key } => {
                let Some(span) = Key::new(key).and_then(|key| self.take(&key)) else { return false };
                Operation { deed: Deed::Remove(span), key, value: &[] }.write(batch, self.segment, offset);
                self.ledger.add_removal(self.segment, span, removal_bytes(key));
            }
        }
        true
    }

    /// Completes `batch` and appends it to the newest segment.
    fn finish(&mut self, batch: &mut [u8], operations: u32, start: u64) -> io::Result<()> {
        let length = u32::try_from(batch.len() - BATCH_HEAD)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "a batch of more than 4 GiB"))?;
        let head = BatchHead { operations, length, number: self.next, durable: self.durable };
        head.write(batch, self.segment, start);
        self.current.write_all_at(batch, start)?;
        self.next += 1;
        self.ledger.set_bytes(self.segment, start + batch.len() as u64);
        Ok(())
    }

    /// Notes where `key` stands now.
    fn put(&mut self, key: Key, mut location: Location) {
        if let Some(before) = self.index.get(&key) {
            self.ledger.take_live(before.segment, put_bytes(&key, before.length));
            location.oldest = before.oldest.min(location.oldest);
        }
        self.ledger.add_live(location.segment, put_bytes(&key, location.length));
        self.index.insert(key, location);
    }

    /// Forgets `key`. Says in which segments it may still stand; `None` when it was not there.
    fn take(&mut self, key: &Key) -> Option<Span> {
        let before = self.index.remove(key)?;
        self.ledger.take_live(before.segment, put_bytes(key, before.length));
        Some(Span { from: before.oldest, to: before.segment })
    }

    fn begin_segment_if_full(&mut self) -> io::Result<()> {
        let is_given_up = self.is_given_up && self.damaged.contains(&self.segment);
        if self.ledger.bytes(self.segment) < self.ledger.segment_bytes() && !is_given_up {
            return Ok(());
        }
        // A new segment follows only what is durable.
        if let Some(dirty) = self.dirty()? {
            dirty.sync()?;
            self.durable = self.next - 1;
        }
        if let Err(error) = summary::write(&self.directory, self.segment) {
            tracing::debug!(%error, segment = self.segment, "no summary of a segment");
        }
        self.current = files::create(&self.directory, self.segment + 1)?;
        self.segment += 1;
        self.is_new = true;
        self.ledger.set_bytes(self.segment, format::SEGMENT_HEAD.len() as u64);
        Ok(())
    }

    /// What has to be synced to make everything durable; `None` when everything is.
    fn dirty(&self) -> io::Result<Option<Dirty>> {
        if self.durable + 1 == self.next && !self.is_new {
            return Ok(None);
        }
        let directory = self.is_new.then(|| self.directory.clone());
        Ok(Some(Dirty { file: self.current.try_clone()?, directory }))
    }

    /// The value of `key`, which stands at `location`.
    fn read(&mut self, key: &Key, location: Location) -> io::Result<Vec<u8>> {
        self.read_checked(key, location).inspect_err(|_| self.doubt(location.segment))
    }

    fn read_checked(&mut self, key: &Key, location: Location) -> io::Result<Vec<u8>> {
        let head = OPERATION_HEAD + key.as_slice().len();
        let mut bytes = vec![0; head + location.length as usize];
        self.file(location.segment)?.read_exact_at(&mut bytes, location.offset)?;
        let operation = Operation::read(&bytes, location.segment, location.offset);
        if operation.is_none_or(|operation| operation.key != key.as_slice()) {
            let text = format!("segment {:08x} at {}: checksum does not match", location.segment, location.offset);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        bytes.drain(..head);
        Ok(bytes)
    }

    /// Has the next opening look at the whole `segment`.
    fn doubt(&self, segment: u32) {
        if !self.is_only_read
            && let Err(error) = summary::remove(&self.directory, segment)
        {
            tracing::debug!(%error, segment, "summary of a damaged segment cannot be removed");
        }
    }

    fn file(&mut self, segment: u32) -> io::Result<&File> {
        if segment == self.segment {
            return Ok(&self.current);
        }
        if self.read.as_ref().is_none_or(|(open, _)| *open != segment) {
            self.read = Some((segment, files::open(&self.directory, segment)?));
        }
        let (_, file) = self.read.as_ref().expect("it was opened in the line above");
        Ok(file)
    }
}

/// Bytes that a put takes in its segment.
fn put_bytes(key: &Key, length: u32) -> u64 {
    (OPERATION_HEAD + key.as_slice().len()) as u64 + u64::from(length)
}

/// Bytes that a removal takes in its segment.
fn removal_bytes(key: &[u8]) -> u64 {
    (OPERATION_HEAD + key.len() + 8) as u64
}
