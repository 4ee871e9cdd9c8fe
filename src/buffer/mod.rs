//! Keeps records until the broker has them, and for a while after.
//!
//! # Invariants
//!
//! 1. **Durable or not there.** [`read`](BufferHandle::read) and the [`Watermarks`] know only commits that survive a
//!    power cut. An error while writing never makes a commit durable that is not. While the disk takes nothing, what
//!    waits may be [read too](BufferHandle::read_other), under a volatile epoch of this process alone.
//! 2. **Sequences count.** Each lane counts its commits from 1 without a hole. A sequence is never given twice and
//!    never goes back within an epoch, not even when the lane is empty and the store is opened again. What a sequence
//!    means never changes.
//! 3. **Nothing goes in silence.** A commit leaves the lane when it was delivered, or when it is dropped, damaged or
//!    could not be written; then a gap record with its own sequence names it, or aggregates that take its place do, in
//!    the same batch that removes it. `oldest_undelivered` passes such a commit only when that record was delivered.
//! 4. **Atomic.** Commits, removals, gap records and what is known about the lanes change in one batch. An append
//!    that fits into a commit is never split over two.
//! 5. **Bounded.** The directory stays within its limit; files that only grow are written anew for that (`compaction`).
//!    History goes first, oldest first. Then the oldest undelivered readings become aggregates of a minute, and the
//!    oldest of those of ten minutes (`thinning`), under sequences of their own that name what they replace; then the
//!    oldest are dropped, alarms last. In memory at most a few MiB wait for a disk that does not take them.
//! 6. **It starts.** What is undamaged of a damaged database goes on under its epoch and sequences, what is not is named
//!    in gap records, and an alarm record says so; one that cannot be opened is set aside, and what can be read of it is
//!    put into a new one (`restoring`). A mark beside the database tells which sequences were given and what was
//!    delivered (`mark`). On a disk that is full or read-only it works in memory until the disk can be used. A store of
//!    a newer format is set aside as it is. Only another process in the same directory prevents it.
//!
//! 7. **A kill costs nothing.** What is accepted stands in a write-ahead log in memory outside the process (`wal`) until it
//!    is durable; the next start takes it up, once.
//!
//! One thread owns the database (`thread`); everybody else has a [`BufferHandle`]. Rows are gathered (`gather`)
//! into commits (`commit`), which wait (`waiting`) until one batch and one flush make them durable (`store`).

mod carve;
mod catalogue;
mod clock_track;
mod clocks;
mod commit;
mod compaction;
mod gather;
pub mod history;
mod lane;
mod loaded;
mod mark;
mod names;
mod open_commit;
mod opening;
mod others;
mod pace;
mod place;
mod ranges;
mod reading;
mod recent;
mod reckon;
mod recovery;
mod resend;
mod restoring;
mod retention;
mod room;
mod rule_state;
mod salvage;
mod status;
mod store;
mod tally;
mod thin;
mod thinning;
mod thread;
mod varint;
mod volatile;
mod waiting;
mod wal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::clock::Clock;
pub use crate::config::WhenFull;
use crate::database::{EngineKind, FLUSH_LONGEST};
use crate::model::{AlarmRecord, Commit, Epoch, Gap, Lane, Row, Sequence, SeriesId, SeriesInfo, Timestamp};
pub use catalogue::Catalogue;
pub use clock_track::{ClockTrack, Split};
pub use commit::{ClockReading, Codec, CommitError, RECORDS_MAX, seal};
use history::{HistorySpan, Overview, Page};
pub use others::{OtherCommits, OtherMarks};
pub use recovery::STORE_ALARMS;
pub use resend::Resent;
pub use status::{BufferStatus, LaneWatermark, Watermarks};
pub use tally::Tally;
pub use wal::{WalPlace, WalStatus, is_in_memory};

/// Requests that wait while a flush hangs, until the thread goes on without it: fifty devices, four blocks each, once a
/// second.
const REQUESTS_QUEUED: usize = 50 * 4 * FLUSH_LONGEST.as_secs() as usize;

/// Readings in those requests: fifty devices, fifty points each, once a second, and some more. Bounds their memory to
/// about 2 MiB.
const READINGS_QUEUED: usize = 65_536;

const _: () = assert!(READINGS_QUEUED > 50 * 50 * FLUSH_LONGEST.as_secs() as usize);

/// How the buffer keeps records.
#[derive(Debug, Clone)]
pub struct BufferSettings {
    /// Directory of the store. Made when it is not there.
    pub path: PathBuf,
    /// The most bytes that the directory may take on disk. At least what its engine [needs](EngineKind::limit_least).
    pub limit_bytes: u64,
    /// The longest that a reading waits to become durable: what a power cut can cost.
    pub commit_interval: Duration,
    /// The same while a backlog is worked off; not less than `commit_interval`.
    pub commit_interval_max: Duration,
    /// What makes a new database. One that is there is kept by the engine that wrote it.
    pub engine: EngineKind,
    /// What happens to undelivered telemetry that no longer fits.
    pub when_full: WhenFull,
}

/// What belongs together: readings, the transitions they led to, and what the rules have to remember from then on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluated {
    /// Readings, and results of rules.
    pub rows: Vec<Row>,
    /// Transitions of alarms.
    pub alarms: Vec<AlarmRecord>,
    /// Replaces what [`rule_state`](BufferHandle::rule_state) returns.
    pub state: Option<Vec<u8>>,
}

/// How much one [`read`](BufferHandle::read) may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Most commits.
    pub commits: usize,
    /// Most records. The first commit is returned however many it holds.
    pub records: usize,
}

/// Why the buffer did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// Another process uses the store.
    #[error("{path}: in use by another process", path = .path.display())]
    InUse {
        /// Directory of the store.
        path: PathBuf,
    },
    /// The store was written by a newer release.
    #[error("{path}: format {found} of a newer release; this one knows formats up to {known}", path = .path.display())]
    NewerFormat {
        /// Directory of the store.
        path: PathBuf,
        /// Format found.
        found: u32,
        /// Newest format known.
        known: u32,
    },
    /// There is no store.
    #[error("{path}: no store of lineside", path = .path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// The database does not open.
    #[error("{path}: the database does not open: {detail}; an agent that starts sets it aside and begins a new one", path = .path.display())]
    Damaged {
        /// Directory of the store.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
    /// The directory cannot be used.
    #[error("{path}: cannot be used: {reason}", path = .path.display())]
    Unavailable {
        /// Directory of the store.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The store cannot be written, or read, for now. What was appended waits in memory.
    #[error("the store cannot be used for now: {reason}")]
    NotWritable {
        /// What the system said.
        reason: String,
    },
    /// A row cannot be stored.
    #[error("a row of {series} series and {observed} observations; both must be equal and at most {RECORDS_MAX}")]
    BadRow {
        /// Series of the row.
        series: usize,
        /// Observations of the row.
        observed: usize,
    },
    /// The buffer was closed.
    #[error("the buffer is closed")]
    Closed,
}

/// Opens the store and starts its thread.
///
/// Blocks while the database opens, but for no more than a second or two. Fails when another process uses the
/// directory; neither damage, nor a newer format, nor a disk that takes nothing is a reason to fail.
pub fn open(settings: BufferSettings, clock: Arc<dyn Clock>) -> Result<(BufferThread, BufferHandle), BufferError> {
    open_with_wal(settings, WalPlace::Off, clock)
}

/// As [`open`], with a write-ahead log of what is not yet durable: the death of the process costs nothing. What a process
/// that died left in it is taken up.
pub fn open_with_wal(
    settings: BufferSettings,
    wal: WalPlace,
    clock: Arc<dyn Clock>,
) -> Result<(BufferThread, BufferHandle), BufferError> {
    let place = place::Place::claim(&settings.path)?.with_engine(settings.engine);
    let store = store::Store::open(place, &settings, wal, clock)?;
    let wal = store.wal.clone();
    let (keeper, watermarks, status) = thread::Keeper::new(store, pace::Pace::new(&settings));
    let (requests, received) = mpsc::channel(REQUESTS_QUEUED);
    let thread = std::thread::Builder::new()
        .name("store".into())
        .spawn(move || keeper.run(received))
        .map_err(|error| BufferError::Unavailable { path: settings.path, reason: place::io_text(&error) })?;
    let room = Arc::new(Semaphore::new(READINGS_QUEUED));
    Ok((BufferThread(thread), BufferHandle { requests, wal, room, watermarks, status }))
}

/// The thread that owns the database. It ends when it is told to close, or when every handle is gone.
#[derive(Debug)]
pub struct BufferThread(std::thread::JoinHandle<Result<(), BufferError>>);

impl BufferThread {
    /// Waits for the end of the thread; blocks. An error says what could not be made durable, or that it panicked.
    pub fn join(self) -> Result<(), BufferError> {
        self.0.join().unwrap_or(Err(BufferError::Closed))
    }

    /// Whether the thread has ended. It ends by itself only when the engine hangs for good: a new process is needed.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Asks the buffer. Clones ask the same buffer.
#[derive(Debug, Clone)]
pub struct BufferHandle {
    requests: mpsc::Sender<thread::Request>,
    wal: wal::Wal,
    room: Arc<Semaphore>,
    watermarks: watch::Receiver<Watermarks>,
    status: watch::Receiver<BufferStatus>,
}

impl BufferHandle {
    /// Adds readings that belong together to the telemetry lane. Durable within the commit interval. Waits while the
    /// thread is behind.
    pub async fn append(&self, rows: Vec<Row>) -> Result<(), BufferError> {
        let (rows, room) = self.room_for(rows).await?;
        if rows.is_empty() {
            return Ok(());
        }
        self.accept(rows, Vec::new(), None, Some(room)).await
    }

    /// Checks `rows` and waits until there is room for them.
    async fn room_for(&self, rows: Vec<Row>) -> Result<(Vec<Row>, OwnedSemaphorePermit), BufferError> {
        let is_even = |row: &&Row| row.series.len() == row.observed.len() && row.observed.len() <= RECORDS_MAX;
        if let Some(row) = rows.iter().find(|row| !is_even(row)) {
            return Err(BufferError::BadRow { series: row.series.len(), observed: row.observed.len() });
        }
        let rows: Vec<Row> = rows.into_iter().filter(|row| !row.observed.is_empty()).collect();
        let readings: usize = rows.iter().map(|row| row.observed.len()).sum();
        let permits = readings.min(READINGS_QUEUED) as u32;
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| BufferError::Closed)?;
        Ok((rows, room))
    }

    /// Adds readings, what the rules made of them, and what the rules have to remember, so that after a kill at any
    /// time the alarms and the state agree. With alarms it is committed and flushed as soon as the thread gets to it,
    /// else within the commit interval.
    pub async fn append_evaluated(&self, evaluated: Evaluated) -> Result<(), BufferError> {
        let Evaluated { rows, alarms, state } = evaluated;
        let (rows, room) = self.room_for(rows).await?;
        self.accept(rows, alarms, state, Some(room)).await
    }

    /// From here on the death of the process costs nothing of it: the log is written before the queue.
    async fn accept(
        &self,
        rows: Vec<Row>,
        alarms: Vec<AlarmRecord>,
        state: Option<Vec<u8>>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), BufferError> {
        let place = self.requests.reserve().await.map_err(|_| BufferError::Closed)?;
        let accepted = wal::Accepted { rows, alarms, state, room };
        let send = |accepted| place.send(thread::Request::Append(accepted));
        self.wal.append(accepted, send);
        Ok(())
    }

    /// What the rules had to remember; empty when there is nothing.
    pub async fn rule_state(&self) -> Result<Vec<u8>, BufferError> {
        self.ask(thread::Request::RuleState).await
    }

    /// Adds alarm transitions to the alarm lane, which are committed and flushed as soon as the thread gets to them.
    pub async fn append_alarms(&self, alarms: Vec<AlarmRecord>) -> Result<(), BufferError> {
        if alarms.is_empty() {
            return Ok(());
        }
        self.accept(Vec::new(), alarms, None, None).await
    }

    /// Adds a gap record to the lane that it speaks of: for a record that nobody can take.
    pub async fn append_gap(&self, gap: Gap) -> Result<(), BufferError> {
        self.send(thread::Request::AppendGap(gap)).await
    }

    /// Durable, undelivered commits of `lane`: the first unbroken run of sequences from `from` on, within `limit` but
    /// at least one. Empty when there is none.
    pub async fn read(&self, lane: Lane, from: Sequence, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        self.read_until(lane, from, Sequence(u64::MAX), limit).await
    }

    /// As [`read`](Self::read), and nothing behind the commit `until`.
    pub async fn read_until(
        &self,
        lane: Lane,
        from: Sequence,
        until: Sequence,
        limit: ReadLimit,
    ) -> Result<Vec<Commit>, BufferError> {
        self.ask(|reply| thread::Request::Read { lane, from, until, limit, reply }).await
    }

    /// Durable telemetry, delivered or not, that may hold records of `from` or later, from the commit after `after` on (0
    /// for the beginning), within `limit` but at least one commit. Empty when there is no more.
    pub async fn recent(&self, from: Timestamp, after: Sequence, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        self.ask(|reply| thread::Request::Recent { from, after, limit, reply }).await
    }

    /// The store as a whole, now.
    pub async fn overview(&self) -> Result<Overview, BufferError> {
        self.ask(thread::Request::Overview).await
    }

    /// Stored commits of `lane` in `span`, delivered or not, from `from` on: a page of them, and where the next begins.
    pub async fn page(&self, lane: Lane, span: HistorySpan, from: Sequence) -> Result<Page, BufferError> {
        self.ask(|reply| thread::Request::Page { lane, span, from, reply }).await
    }

    /// Wants the stored commits `runs` of `lane` sent again, under their old sequences; what is settled stays as it is.
    /// Durable when this returns.
    pub async fn send_again(&self, lane: Lane, runs: Vec<(u64, u64)>) -> Result<Resent, BufferError> {
        let resent = self.ask(|reply| thread::Request::SendAgain { lane, runs, reply }).await?;
        self.flush().await?;
        Ok(resent)
    }

    /// Commits of `lane` to be sent again: the first unbroken run of sequences from `from` on, within `limit` but at
    /// least one. Empty when there is none.
    pub async fn read_again(&self, lane: Lane, from: Sequence, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        self.ask(|reply| thread::Request::ReadAgain { lane, from, limit, reply }).await
    }

    /// Notes that the commits from `first` to `last` went out again. Durable within the commit interval.
    pub async fn sent_again(&self, lane: Lane, first: Sequence, last: Sequence) -> Result<(), BufferError> {
        self.send(thread::Request::SentAgain { lane, first, last }).await
    }

    /// The next undelivered commits of another epoch, within `limit` but at least one; alarms first. While the store
    /// cannot be written these are the newest records, which go out without being stored.
    pub async fn read_other(&self, limit: ReadLimit) -> Result<Option<OtherCommits>, BufferError> {
        self.ask(|reply| thread::Request::ReadOther { limit, reply }).await
    }

    /// Notes that the commits from `first` to `last` of `epoch` were delivered. Durable within the commit interval.
    pub async fn delivered(
        &self,
        epoch: Epoch,
        lane: Lane,
        first: Sequence,
        last: Sequence,
    ) -> Result<(), BufferError> {
        self.send(thread::Request::Delivered { epoch, lane, first, last }).await
    }

    /// The ids of `series`, in their order: the same as ever for one that is equal, a new one for one that is not.
    /// New ones are durable no later than the first readings that use them.
    pub async fn register(&self, series: Vec<SeriesInfo>) -> Result<Vec<SeriesId>, BufferError> {
        self.ask(|reply| thread::Request::Register { series, reply }).await
    }

    /// Every series that has an id in this epoch.
    pub async fn catalogue(&self) -> Result<Catalogue, BufferError> {
        self.ask(thread::Request::Catalogue).await
    }

    /// Makes durable all that was asked before. An error says why it is not; it goes on waiting then.
    pub async fn flush(&self) -> Result<(), BufferError> {
        self.ask(thread::Request::Flush).await
    }

    /// What is durable and what is still to be delivered; changes after each flush and delivery.
    pub fn watermarks(&self) -> watch::Receiver<Watermarks> {
        self.watermarks.clone()
    }

    /// Counters and sums of the buffer.
    pub fn status(&self) -> watch::Receiver<BufferStatus> {
        self.status.clone()
    }

    /// Makes everything durable, closes the database and ends the thread. Later requests get
    /// [`BufferError::Closed`].
    pub async fn close(&self) -> Result<(), BufferError> {
        self.ask(thread::Request::Close).await
    }

    async fn send(&self, request: thread::Request) -> Result<(), BufferError> {
        self.requests.send(request).await.map_err(|_| BufferError::Closed)
    }

    async fn ask<T>(&self, request: impl FnOnce(thread::Reply<T>) -> thread::Request) -> Result<T, BufferError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await?;
        answer.await.unwrap_or(Err(BufferError::Closed))
    }
}
