//! A database whose files only grow is written anew beside itself, and takes its own place.
//!
//! Everything goes on meanwhile: after each save a slice is copied, and every change is made in both. Once the copy is
//! whole and durable the two directories change their names in one step of the file system, so a kill or a power cut at
//! any moment leaves exactly one whole database under its name, with the same epoch, the same sequences and the same
//! state of the lanes; what lies beside it is removed when it is opened. Whenever anything goes wrong before, the copy is
//! thrown away.

use std::ops::ControlFlow;

use super::place::Place;
use super::retention::Disk;
use super::store::Store;
use crate::database::{Batch, Database, DatabaseError, disk_bytes};

/// Bytes copied after one save, at least: little enough to hold up nobody.
const SLICE_BYTES: u64 = 2 << 20;

/// Bytes copied for each byte of the save before: so the copy gets ahead however much comes.
const SLICE_OF_SAVED: u64 = 4;

/// Bytes copied before the directory is looked at again.
const STEP_BYTES: usize = 128 << 10;

/// How often it is waited for the new files to open, a second each: less than what waits in memory meanwhile.
const OPENING_TRIES: u32 = 3;

/// Higher than any key.
const END: &[u8] = &[0xff];

/// A database that is being written anew.
#[derive(Debug)]
pub struct Rewrite {
    database: Database,
    /// Everything below this key is copied.
    from: Vec<u8>,
}

/// How far a copy is.
enum Progress {
    /// There is more to copy.
    Going,
    /// It holds everything, and is durable.
    Whole,
    /// It would take the directory above its limit.
    TooLarge,
}

impl Rewrite {
    /// Begins a copy in `place` of a database of the same engine as `of`.
    fn begin(place: &Place, of: &Database) -> Result<Self, DatabaseError> {
        place.remove_copy().map_err(|source| DatabaseError::Unavailable { path: place.copy(), source })?;
        Ok(Self { database: Database::open(&place.copy(), of.kind())?, from: vec![0] })
    }

    /// Copies `slice` bytes of `source`, as long as the directory of `place` keeps below `most` bytes.
    fn advance(&mut self, source: &Database, place: &Place, slice: u64, most: u64) -> Result<Progress, DatabaseError> {
        let mut copied = 0;
        while copied < slice {
            let (bytes, is_whole) = self.step(source)?;
            if disk_bytes(place.path()) > most {
                return Ok(Progress::TooLarge);
            }
            if is_whole {
                self.database.flush()?;
                return Ok(Progress::Whole);
            }
            copied += bytes as u64;
        }
        // Slice by slice: a slow card is busy with all of it at once for longer than anybody should wait.
        self.database.flush()?;
        Ok(Progress::Going)
    }

    /// Copies the next pairs of `source`. Returns how many bytes they took, and whether there are no more.
    fn step(&mut self, source: &Database) -> Result<(usize, bool), DatabaseError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut next = None;
        source.visit(&self.from, END, |key, value| {
            if bytes >= STEP_BYTES {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            bytes += key.len() + value.len();
            batch.put(key, value);
            ControlFlow::Continue(())
        })?;
        self.database.apply(batch)?;
        let is_whole = next.is_none();
        self.from = next.unwrap_or_else(|| END.to_vec());
        Ok((bytes, is_whole))
    }
}

impl Store {
    /// Makes `batch` durable, here and, if there is one, in the copy, which becomes durable when it is whole.
    pub(super) fn write(&mut self, batch: Batch) -> Result<(), DatabaseError> {
        if let Some(copy) = &self.copy
            && let Err(error) = copy.database.apply(batch.clone())
        {
            self.give_up_copy(&error.to_string());
        }
        let database = self.database.as_ref().expect("writing needs an open database");
        database.apply(batch).and_then(|()| database.flush())
    }

    /// Takes note of what the directory takes on disk.
    pub(super) fn see_disk(&mut self) -> Disk {
        let disk = disk_bytes(self.place.path());
        if disk > self.limit_bytes && self.place.remove_oldest_set_aside() {
            tracing::warn!("oldest damaged database removed to keep the limit");
        }
        let around = self.place.disk(disk);
        self.budget.see_disk(around);
        self.counters.disk_bytes = disk;
        around
    }

    /// The same after a save of `saved` bytes, and does what keeps it within its limit.
    pub(super) fn look_at_disk(&mut self, saved: u64) {
        let around = self.see_disk();
        if self.copy.is_some() || self.wants_copy(around) {
            self.compact(saved);
            self.counters.disk_bytes = disk_bytes(self.place.path());
        }
    }

    fn wants_copy(&self, disk: Disk) -> bool {
        let alive = self.lanes.iter().map(|lane| lane.stored.bytes).sum();
        let only_grows = self.database.as_ref().is_some_and(|database| database.kind().only_grows());
        only_grows && self.in_doubt.is_none() && self.budget.wants_copy(disk, alive)
    }

    /// Begins a copy, or goes on with the one under way.
    fn compact(&mut self, saved: u64) {
        let Some(database) = &self.database else { return };
        if self.copy.is_none() {
            match Rewrite::begin(&self.place, database) {
                Ok(copy) => self.copy = Some(copy),
                Err(error) => return self.give_up_copy(&error.to_string()),
            }
        }
        let Some(copy) = &mut self.copy else { return };
        let slice = SLICE_BYTES.max(SLICE_OF_SAVED * saved);
        match copy.advance(database, &self.place, slice, self.budget.copy_most()) {
            Ok(Progress::Going) => {}
            Ok(Progress::Whole) => self.take_over(),
            Ok(Progress::TooLarge) => {
                self.budget.lower();
                self.give_up_copy("it would be too large; less is kept from now on");
            }
            Err(error) => self.give_up_copy(&error.to_string()),
        }
    }

    fn give_up_copy(&mut self, reason: &str) {
        tracing::debug!(reason, "the copy of the database is given up");
        self.copy = None;
        self.budget.note_copy(disk_bytes(&self.place.database()));
        if let Err(error) = self.place.remove_copy() {
            tracing::debug!(%error, "the copy cannot be removed for now");
        }
    }

    /// Puts the copy, which is whole and durable, in the place of the database, and opens it.
    fn take_over(&mut self) {
        let before = disk_bytes(self.place.path());
        let closed = self.database.take().map(Database::close).into_iter();
        let closed: Result<(), DatabaseError> =
            closed.chain(self.copy.take().map(|copy| copy.database.close())).collect();
        match closed.map_err(|error| error.to_string()) {
            Ok(()) => {
                if let Err(error) = self.place.exchange() {
                    tracing::warn!(%error, "the files of the store cannot be written anew");
                }
            }
            Err(error) => tracing::debug!(error, "the copy of the database is given up"),
        }
        let after = disk_bytes(self.place.path());
        tracing::debug!(before, after, "the files of the store were written anew");
        self.budget.note_copy(after);
        // If it takes longer still, the next save goes on with it.
        for _ in 0..OPENING_TRIES {
            if self.is_open_again() {
                return self.end_trouble();
            }
            if self.opening.is_none() {
                return;
            }
        }
    }
}
