//! A buffer in a directory of its own, and readings that say which one they are.

#![allow(dead_code)] // Each test binary uses its own part of this.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lineside::buffer::{self, BufferError, BufferHandle, BufferSettings, BufferThread, ReadLimit, WalPlace, WhenFull};
use lineside::clock::{Clock, SystemClock};
use lineside::database::EngineKind;
use lineside::model::{
    AlarmRecord, AlarmState, BootId, ClockState, Commit, Lane, Observed, Priority, Records, Row, Sequence, SeriesId,
    Timestamp, Transition, Value,
};

/// More than any test stores.
pub const ALL: ReadLimit = ReadLimit { commits: usize::MAX, records: usize::MAX };

/// Longest wait for something that is certain to happen.
const CERTAIN: Duration = Duration::from_secs(60);

/// So long that only a test's own `flush` saves.
pub const NEVER: Duration = Duration::from_secs(3600);

/// The engine under test: the test program `segments` runs the same tests over the log of segments.
pub fn engine() -> EngineKind {
    if module_path!().starts_with("segments::") { EngineKind::Segments } else { EngineKind::Sled }
}

/// The full name of the test `name` beside `module`, to run it alone in a process of its own.
pub fn test_name(module: &str, name: &str) -> String {
    module.split_once("::").map_or_else(|| name.to_owned(), |(_, module)| format!("{module}::{name}"))
}

/// The clock of this machine in another boot.
struct OtherBoot(SystemClock);

impl Clock for OtherBoot {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn state(&self) -> ClockState {
        self.0.state()
    }

    fn boot(&self) -> BootId {
        BootId([1; 16])
    }
}

/// An open buffer.
pub struct Store {
    pub handle: BufferHandle,
    pub thread: BufferThread,
    pub path: PathBuf,
}

impl Store {
    /// Opens the store in `path`.
    pub fn try_open(path: &Path, limit_bytes: u64, commit_interval: Duration) -> Result<Self, BufferError> {
        Self::try_open_engine(path, limit_bytes, commit_interval, engine())
    }

    fn try_open_engine(
        path: &Path,
        limit_bytes: u64,
        commit_interval: Duration,
        engine: EngineKind,
    ) -> Result<Self, BufferError> {
        let (path, when_full) = (path.to_owned(), WhenFull::DropOldest);
        let commit_interval_max = commit_interval;
        Self::with(BufferSettings { path, limit_bytes, commit_interval, commit_interval_max, engine, when_full })
    }

    /// Opens a store as `settings` say.
    pub fn with(settings: BufferSettings) -> Result<Self, BufferError> {
        Self::with_clock(settings, Arc::new(SystemClock::new(true)))
    }

    /// Opens the store in `path`, which was last used before the machine was switched off, or lost its power.
    pub fn in_another_boot(path: &Path, limit_bytes: u64, commit_interval: Duration) -> Result<Self, BufferError> {
        let (path, when_full, engine) = (path.to_owned(), WhenFull::DropOldest, engine());
        let commit_interval_max = commit_interval;
        let settings = BufferSettings { path, limit_bytes, commit_interval, commit_interval_max, engine, when_full };
        Self::with_clock(settings, Arc::new(OtherBoot(SystemClock::new(true))))
    }

    /// Opens the store in `path`, kept by `engine` and saved only on demand, whose open commit is kept in `runtime`.
    pub fn with_open_commit(path: &Path, runtime: &Path, engine: EngineKind) -> Self {
        let (path, when_full, limit_bytes) = (path.to_owned(), WhenFull::DropOldest, 64 << 20);
        let (commit_interval, commit_interval_max) = (NEVER, NEVER);
        let settings =
            BufferSettings { path: path.clone(), limit_bytes, commit_interval, commit_interval_max, engine, when_full };
        let place = WalPlace::In(vec![runtime.to_owned()]);
        let (thread, handle) = buffer::open_with_wal(settings, place, Arc::new(SystemClock::new(true))).unwrap();
        Self { handle, thread, path }
    }

    fn with_clock(settings: BufferSettings, clock: Arc<dyn Clock>) -> Result<Self, BufferError> {
        let path = settings.path.clone();
        let (thread, handle) = buffer::open(settings, clock)?;
        // A machine that builds and tests something else may take longer than the buffer itself waits.
        let begun = Instant::now();
        while handle.status().borrow().not_writable_because.as_deref() == Some("the database takes long to open") {
            assert!(begun.elapsed() < CERTAIN, "the database in {} does not open", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { handle, thread, path })
    }

    /// Opens the store in `path`, saved only on demand; when it is full it thins.
    pub fn thinning(path: &Path, limit_bytes: u64) -> Self {
        let (path, when_full) = (path.to_owned(), WhenFull::Thin);
        let (commit_interval, commit_interval_max, engine) = (NEVER, NEVER, engine());
        Self::with(BufferSettings { path, limit_bytes, commit_interval, commit_interval_max, engine, when_full })
            .unwrap()
    }

    /// Opens the store in `path`, saved only on demand; when it is full it drops.
    pub fn open(path: &Path, limit_bytes: u64) -> Self {
        Self::try_open(path, limit_bytes, NEVER).unwrap()
    }

    /// The same, kept by `engine`.
    pub fn open_engine(path: &Path, limit_bytes: u64, engine: EngineKind) -> Self {
        Self::try_open_engine(path, limit_bytes, NEVER, engine).unwrap()
    }

    /// Closes the store.
    pub async fn close(self) {
        self.handle.close().await.unwrap();
        self.thread.join().unwrap();
    }

    /// Marks `first` to `last` of the store's own epoch as delivered.
    pub async fn deliver(&self, lane: Lane, first: u64, last: u64) {
        let epoch = self.handle.watermarks().borrow().epoch;
        self.handle.delivered(epoch, lane, Sequence(first), Sequence(last)).await.unwrap();
    }

    /// Every undelivered commit of `lane`, run by run.
    pub async fn read_all(&self, lane: Lane, limit: ReadLimit) -> Vec<Commit> {
        let mut commits: Vec<Commit> = Vec::new();
        loop {
            let from = commits.last().map_or(Sequence::FIRST, |commit| commit.header.sequence.next());
            let read = self.handle.read(lane, from, limit).await.unwrap();
            if read.is_empty() {
                return commits;
            }
            commits.extend(read);
        }
    }
}

/// Odd, so that multiplying by it loses nothing; large, so that the product does not compress.
const SCRAMBLE: i64 = 0x5e37_79b9_7f4a_7c15;

/// What undoes the multiplication.
fn unscramble(value: i64) -> i64 {
    // Newton's iteration for the inverse modulo 2^64 doubles the number of right bits each time.
    let inverse =
        (0..6).fold(SCRAMBLE, |inverse, _| inverse.wrapping_mul(2_i64.wrapping_sub(SCRAMBLE.wrapping_mul(inverse))));
    value.wrapping_mul(inverse)
}

/// Counts readings: the value of each says its number and takes its eight bytes.
#[derive(Debug, Default)]
pub struct Counter(pub i64);

impl Counter {
    /// A row of `length` readings with the next numbers; its time is its first number.
    pub fn row(&mut self, length: usize) -> Row {
        let first = self.0;
        self.0 += length as i64;
        Row {
            series: (0..length as u32).map(SeriesId).collect(),
            time: Timestamp(first),
            observed: (first..self.0).map(|number| Observed::Good(Value::Int(number.wrapping_mul(SCRAMBLE)))).collect(),
        }
    }

    /// Rows of these lengths.
    pub fn rows(&mut self, lengths: &[usize]) -> Vec<Row> {
        lengths.iter().map(|length| self.row(*length)).collect()
    }
}

/// The numbers of the readings of a commit; none for other records.
pub fn numbers(commit: &Commit) -> Vec<i64> {
    let Records::Readings(rows) = &commit.records else { return Vec::new() };
    let number = |observed: &Observed| match observed {
        Observed::Good(Value::Int(value)) => unscramble(*value),
        other => panic!("{other:?} was never stored"),
    };
    rows.iter().flat_map(|row| row.observed.iter().map(number)).collect()
}

/// An alarm whose value is its number.
pub fn alarm(number: i64) -> AlarmRecord {
    AlarmRecord {
        name: "Test".into(),
        labels: Default::default(),
        time: Timestamp(number),
        transition: Transition::Raised,
        state: AlarmState::UnacknowledgedActive,
        priority: Priority::Low,
        value: Some(number as f64),
        annotations: Default::default(),
        readings: Vec::new(),
        by: None,
    }
}

/// Every file below a directory, in the order of their names.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
