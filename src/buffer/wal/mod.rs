//! The write-ahead log of what is accepted and not yet durable: the open commit, closed commits that wait for their
//! flush, and those in the queue of the store's thread. The death of the process costs none of it.
//!
//! ```text
//! append --write--> log (memory: /run) --queue--> thread of the store --batch, flush--> database
//!                    ^                                                                    |
//!                    `------------------------------ cut ---------------------------------'
//! ```
//!
//! It is a file in a file system in memory, so it costs no flash, and it is never synced: a power cut takes it and
//! whatever it held. A kill, a panic, an abort, or the kernel that runs out of memory does not.
//!
//! # Format
//!
//! ```text
//! head (44): "lswal  1"; boot 16; epoch 16; CRC-32C of these
//! frames:    length u32; CRC-32C of the payload u32; payload: kind u8, and
//!   1 appended    positions before it; clock state u8; wall minus monotonic clock, ms; time since boot, ms; readings;
//!                 oldest time, ms; rows as columns (as in a commit); alarms as JSON; state of the rules
//!   2 series      id; series as JSON
//!   3 save        generation; positions
//!   4 handed over positions
//! ```
//!
//! Numbers in payloads are variable-length, bytes follow their length. *Positions* count what was ever appended: rows,
//! alarms, states of the rules, series.
//!
//! # What is taken up
//!
//! The first start after a death puts what no commit holds into commits of their own. A batch of the database is
//! numbered by a *generation*, and a `save` frame tells before it is applied what it holds. So the generation that the
//! database has tells to the row what is stored in it: that is left out, and the rest is stored, once. Only durable
//! commits are ever published, so no published identity can be that of a record in the log. What went out without being
//! stored (`handed over`) is left out too.
//!
//! - Another boot: the log is emptied. Another epoch: the ids of its series mean something else, and it is emptied.
//! - A frame that is cut off at the end was being written when the process died: its append had not returned.
//! - A frame with a wrong checksum: it and all that follows is dropped, counted and said.
//! - A log that is not ours, or cannot be written, holds nothing from then on; the status says why. Every append tries
//!   anew, and every save opens it anew once in a while.
//!
//! # Invariants
//!
//! 1. A row is in the log before it is in the queue, in the same order.
//! 2. A `save` frame is in the log before the batch is applied; without it the log holds no frame.
//! 3. A frame is cut off only when all it holds is durable.

mod frame;
mod log;
mod place;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::clock::Clock;
use crate::model::{AlarmRecord, BootId, Epoch, Row, SeriesId, Timestamp};
use frame::Encoder;
pub use frame::{Appended, Frame, Frames, Positions};
use log::{HEAD, Log};
pub use place::{WalPlace, is_in_memory};

/// What is appended to the buffer in one go.
pub struct Accepted {
    /// Readings, and results of rules.
    pub rows: Vec<Row>,
    /// Transitions of alarms.
    pub alarms: Vec<AlarmRecord>,
    /// What the rules have to remember from then on.
    pub state: Option<Vec<u8>>,
    /// Room in the queue of the store's thread, given back when it was taken from there.
    pub room: Option<OwnedSemaphorePermit>,
}

/// What is known about the write-ahead log, for people and for health messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WalStatus {
    /// Whether the death of the process costs nothing now.
    pub kept: bool,
    /// The file.
    pub path: Option<PathBuf>,
    /// Bytes in it.
    pub bytes: u64,
    /// Why it is not kept; nothing when the owner switched it off.
    pub not_kept_because: Option<String>,
    /// Since when.
    pub not_kept_since: Option<Timestamp>,
    /// Readings that the process before had taken and not stored, and this one took up.
    pub taken_up: u64,
    /// Bytes that it could not take up: damaged, or of another epoch.
    pub discarded_bytes: u64,
}

/// What a process that died left behind.
pub struct Found {
    /// The epoch it belongs to.
    pub epoch: Epoch,
    /// Positions at its end.
    pub end: Positions,
    bytes: Vec<u8>,
    boot: BootId,
}

impl Found {
    /// The frames, oldest first.
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(&self.bytes, self.boot)
    }

    /// Bytes of the frames.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What needs not be taken up when the database has come to `generation`.
    pub fn placed(&self, generation: u64) -> Positions {
        let mut placed = Positions::default();
        for frame in self.frames() {
            match frame {
                Frame::Save { generation: saved, positions } if saved <= generation => placed = positions,
                Frame::HandedOver(positions) => placed = positions,
                Frame::Save { .. } | Frame::Appended(_) | Frame::Series { .. } => {}
            }
        }
        placed
    }
}

/// The write-ahead log. Clones are the same one.
///
/// Whoever appends writes to it, and not the thread of the store: that may wait for a slow disk just then. The lock is
/// held for as long as memory takes to be copied.
#[derive(Clone)]
pub struct Wal(Arc<Mutex<Log>>);

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log of the store in the directory `store`, whose epoch is `epoch` as far as is known, and gives what is
    /// found in it.
    pub fn open(place: WalPlace, store: &Path, epoch: Epoch, clock: Arc<dyn Clock>) -> (Self, Option<Found>) {
        let mut log = Log::new(place, place::name(store), epoch, clock);
        let found = log.open();
        (Self(Arc::new(Mutex::new(log))), found)
    }

    /// Puts what is appended into the log, and then sends it on: the queue has the order of the log.
    pub fn append(&self, accepted: Accepted, send: impl FnOnce(Accepted)) {
        let mut log = self.lock();
        log.append(&accepted.rows, &accepted.alarms, accepted.state.as_deref());
        send(accepted);
    }

    /// Adds new series: readings that use them may follow.
    pub fn add_series<'a>(&self, series: impl Iterator<Item = (SeriesId, &'a [u8])>) {
        self.lock().add_series(series);
    }

    /// Notes that the batch numbered `generation`, which is about to be applied, holds everything up to `positions`.
    pub fn note_save(&self, generation: u64, positions: &Positions) {
        let mut log = self.lock();
        log.note(|out| Encoder::save(out, generation, positions));
        log.add_checkpoint();
    }

    /// Notes that everything up to `positions` may go out without having been stored.
    pub fn hand_over(&self, positions: &Positions) {
        let mut log = self.lock();
        log.note(|out| Encoder::handed_over(out, positions));
        log.cut(positions);
    }

    /// Everything up to `positions` is durable.
    pub fn made_durable(&self, positions: &Positions) {
        let mut log = self.lock();
        log.open_again();
        log.cut(positions);
    }

    /// The life of the database turned out to be `epoch`. Frames that this process wrote belong to it.
    pub fn set_epoch(&self, epoch: Epoch) {
        self.lock().set_epoch(epoch);
    }

    /// What was found, of `length` bytes, is of no use: only what this process wrote stays.
    pub fn discard(&self, length: u64) {
        let mut log = self.lock();
        log.discarded_bytes += length;
        log.cut_to(HEAD + length);
    }

    /// The store was closed, and everything in the log is durable.
    pub fn remove(&self) {
        self.lock().remove();
    }

    /// Everything that was ever appended.
    pub fn ends(&self) -> Positions {
        self.lock().ends
    }

    /// What is known about it.
    pub fn status(&self) -> WalStatus {
        self.lock().status()
    }

    /// A panic of another thread leaves at worst a frame that is cut off.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Positions after `frame`, which begins at `at`.
fn end_after(at: Positions, frame: &Frame) -> Positions {
    match frame {
        Frame::Appended(appended) => Positions {
            rows: appended.at.rows + appended.rows.len() as u64,
            alarms: appended.at.alarms + appended.alarms.len() as u64,
            states: appended.at.states + u64::from(appended.state.is_some()),
            series: appended.at.series,
        },
        Frame::Series { .. } => Positions { series: at.series + 1, ..at },
        // An append that could not be written leaves a hole.
        Frame::Save { positions, .. } | Frame::HandedOver(positions) if positions.covers(&at) => *positions,
        Frame::Save { .. } | Frame::HandedOver(_) => at,
    }
}

#[cfg(test)]
mod tests;
