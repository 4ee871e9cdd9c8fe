//! The embedded database: the only file that names it.
//!
//! One ordered map of bytes. A [`Batch`] is applied whole or not at all, in the order applied, and what was applied
//! before a [`flush`](Database::flush) that returned `Ok` survives a power cut. Every call blocks; one thread owns
//! the database. Nothing the engine does wrong gets out as a panic.
//!
//! The engine's own flush stops at `sync_file_range`, which leaves data in a disk's volatile cache, so each flush here
//! ends with `fdatasync` on the engine's files, and a new database with `fsync` on everything that makes it findable.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Pages kept in memory. The engine counts only payload, so the process grows by about four times this.
const CACHE_BYTES: u64 = 1 << 20;

/// How often a new large value is looked up. The engine evicts pages only after so many accesses, 16,384 in all, and
/// pages written once and never read hardly count: without this they take 17 MB until the first is evicted, with it 10.
const ACCESSES_OF_LARGE: usize = 8;

/// Shorter values share a page with others, which is accessed often enough.
const LARGE_VALUE: usize = 512;

/// When a flush takes longer than this, the engine is given a nudge: it can sleep through its own write error.
const NUDGE: Duration = Duration::from_secs(2);

/// Slower than any card that still works. After this the engine is taken for dead.
const FLUSH_LONGEST: Duration = Duration::from_secs(120);

/// How long a database that was closed a moment ago may still hold its own lock: the engine frees memory lazily.
const LOCK_LINGERS: Duration = Duration::from_secs(5);

/// Holds no data; written only to wake a flush that waits for a write that has failed.
const NUDGE_KEY: &[u8] = b"~";

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// What surrounds the files prevents it: no space, read-only, no permission. The data is not to blame.
    #[error("{path}: {source}", path = .path.display())]
    Unavailable {
        /// Directory of the database.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The files do not hold what they held.
    #[error("{path}: damaged: {detail}", path = .path.display())]
    Damaged {
        /// Directory of the database.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
    /// A flush did not end. Only a new process can open the database again.
    #[error("{path}: a flush did not end within {waited:?}", path = .path.display())]
    Stuck {
        /// Directory of the database.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// Changes that are applied together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    changes: sled::Batch,
    /// Keys of new values that fill a page.
    large: Vec<Vec<u8>>,
}

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.changes.insert(key, value);
        if value.len() >= LARGE_VALUE {
            self.large.push(key.to_vec());
        }
    }

    /// Removes `key`; nothing happens when it is not there.
    pub fn remove(&mut self, key: &[u8]) {
        self.changes.remove(key);
    }
}

/// An open database. Dropping it closes it.
#[derive(Debug)]
pub struct Database {
    engine: Option<sled::Db>,
    flusher: Option<Flusher>,
    path: PathBuf,
}

impl Database {
    /// Opens the database in the directory `path`, or makes a new one there.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let surroundings = |source| DatabaseError::Unavailable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(surroundings)?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let engine = open_unlocked(path, &config)?;
        sync_all_files(path).map_err(surroundings)?;
        let file = File::open(path.join("db")).map_err(surroundings)?;
        let flusher = Flusher::start(engine.clone(), file, path).map_err(surroundings)?;
        Ok(Self { engine: Some(engine), flusher: Some(flusher), path: path.to_owned() })
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        self.guarded(|engine| Ok(engine.get(key)?.map(|value| value.to_vec())))
    }

    /// Shows each pair from `first` to `last`, both included, in order, until `visit` breaks off.
    pub fn visit(
        &self,
        first: &[u8],
        last: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), DatabaseError> {
        self.guarded(|engine| {
            for pair in engine.range(first..=last) {
                let (key, value) = pair?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The last key from `first` to `last`, both included.
    pub fn last_key(&self, first: &[u8], last: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        self.guarded(|engine| match engine.range(first..=last).next_back() {
            Some(pair) => Ok(Some(pair?.0.to_vec())),
            None => Ok(None),
        })
    }

    /// Applies `batch` whole or not at all. Durable only after the next [`flush`](Self::flush).
    pub fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        self.guarded(|engine| {
            engine.apply_batch(batch.changes)?;
            for key in batch.large {
                for _ in 0..ACCESSES_OF_LARGE {
                    engine.get(&key)?;
                }
            }
            Ok(())
        })
    }

    /// Makes durable what was applied. After an error nothing is known about it: close, open again, look.
    pub fn flush(&self) -> Result<(), DatabaseError> {
        let flusher = self.flusher.as_ref().expect("a database has a flusher until it is dropped");
        let begun = Instant::now();
        flusher.ask();
        loop {
            match flusher.answers.recv_timeout(NUDGE) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(damaged(&self.path, "the flushing thread ended"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() > FLUSH_LONGEST => {
                    return Err(DatabaseError::Stuck { path: self.path.clone(), waited: FLUSH_LONGEST });
                }
                // The engine can miss the signal that a write failed; a further write repeats the signal.
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.guarded(|engine| engine.insert(NUDGE_KEY, &[]).map(drop)).ok();
                }
            }
        }
    }

    fn guarded<T>(&self, deed: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, DatabaseError> {
        let engine = self.engine.as_ref().expect("a database has an engine until it is dropped");
        guarded(&self.path, || deed(engine))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(flusher) = self.flusher.take() {
            flusher.stop();
        }
        let engine = self.engine.take();
        if let Err(error) = guarded(&self.path, || {
            drop(engine);
            Ok(())
        }) {
            tracing::warn!(%error, "database closed in disorder");
        }
    }
}

/// Bytes that everything below `directory` takes on disk.
pub fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Whether the system error speaks of the surroundings of a file and not of what is in it.
pub fn is_of_the_surroundings(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::FileTooLarge
            | Kind::ReadOnlyFilesystem
            | Kind::PermissionDenied
            | Kind::OutOfMemory
            | Kind::NotFound
            | Kind::NotADirectory
            | Kind::ResourceBusy
            | Kind::WouldBlock
    ) || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// The thread that flushes, so that the owner can notice a flush that never ends.
#[derive(Debug)]
struct Flusher {
    requests: mpsc::SyncSender<()>,
    answers: mpsc::Receiver<Result<(), DatabaseError>>,
    thread: thread::JoinHandle<()>,
}

impl Flusher {
    fn start(engine: sled::Db, file: File, path: &Path) -> io::Result<Self> {
        let (requests, requested) = mpsc::sync_channel(1);
        let (answer, answers) = mpsc::sync_channel(1);
        let path = path.to_owned();
        let thread = thread::Builder::new().name("store-flush".into()).spawn(move || {
            while requested.recv().is_ok() {
                if answer.send(flush(&engine, &file, &path)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, answers, thread })
    }

    fn ask(&self) {
        // Full means that an earlier flush is still under way; its answer is then taken for this one's error.
        self.requests.try_send(()).ok();
    }

    fn stop(self) {
        drop(self.requests);
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < NUDGE {
            thread::sleep(Duration::from_micros(100));
        }
        if self.thread.is_finished() {
            self.thread.join().ok();
        }
    }
}

fn flush(engine: &sled::Db, file: &File, path: &Path) -> Result<(), DatabaseError> {
    guarded(path, || engine.flush().map(drop))?;
    sync_overflow_files(path)
        .and_then(|()| file.sync_data())
        .map_err(|source| DatabaseError::Unavailable { path: path.to_owned(), source })
}

/// The engine moves very large pages to files of their own, and syncs those, but not their directory.
fn sync_overflow_files(path: &Path) -> io::Result<()> {
    let overflow = path.join("blobs");
    let mut entries = std::fs::read_dir(&overflow)?;
    if entries.next().is_some() { File::open(&overflow)?.sync_all() } else { Ok(()) }
}

/// Makes the files of a database findable after a power cut: they, their directory and its parent.
fn sync_all_files(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)?.flatten() {
        File::open(entry.path())?.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

fn open_unlocked(path: &Path, config: &sled::Config) -> Result<sled::Db, DatabaseError> {
    let begun = Instant::now();
    loop {
        let mut locked = false;
        let opened = guarded(path, || {
            config.open().inspect_err(|error| locked = error.to_string().contains("could not acquire lock"))
        });
        if !locked {
            return opened;
        }
        if begun.elapsed() > LOCK_LINGERS {
            let source = io::Error::new(io::ErrorKind::ResourceBusy, "the database is still locked");
            return Err(DatabaseError::Unavailable { path: path.to_owned(), source });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Turns whatever the engine does wrong into an error.
fn guarded<T>(path: &Path, deed: impl FnOnce() -> sled::Result<T>) -> Result<T, DatabaseError> {
    match catch_unwind(AssertUnwindSafe(deed)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(source))) if is_of_the_surroundings(&source) => {
            Err(DatabaseError::Unavailable { path: path.to_owned(), source })
        }
        Ok(Err(error)) => Err(damaged(path, &error.to_string())),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("the engine panicked");
            Err(damaged(path, said))
        }
    }
}

fn damaged(path: &Path, detail: &str) -> DatabaseError {
    let first_line = detail.lines().next().unwrap_or_default();
    DatabaseError::Damaged { path: path.to_owned(), detail: first_line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_there_after_flush_and_reopen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        let database = Database::open(&path).unwrap();
        let mut batch = Batch::default();
        batch.put(b"a1", b"one");
        batch.put(b"a2", b"two");
        batch.put(b"b1", b"other");
        batch.remove(b"a9");

        database.apply(batch).unwrap();
        database.flush().unwrap();
        drop(database);
        let database = Database::open(&path).unwrap();

        assert_eq!(database.get(b"a2").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(database.last_key(b"a", b"a\xff").unwrap().as_deref(), Some(&b"a2"[..]));
        let mut seen = Vec::new();
        database
            .visit(b"a", b"a\xff", |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen.len(), 2);
        assert!(disk_bytes(&path) > 0);
    }

    #[test]
    fn files_that_are_no_database_are_damage_and_a_missing_permission_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let garbage = directory.path().join("garbage");
        std::fs::create_dir(&garbage).unwrap();
        std::fs::write(garbage.join("conf"), [0xff; 64]).unwrap();
        std::fs::write(garbage.join("db"), [0xa5; 4096]).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();

        assert!(matches!(Database::open(&garbage), Err(DatabaseError::Damaged { .. })));
        assert!(matches!(Database::open(&file.join("below")), Err(DatabaseError::Unavailable { .. })));
    }
}
