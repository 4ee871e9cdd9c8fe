//! The embedded database: one ordered map of bytes, kept by one of two engines.
//!
//! A [`Batch`] is applied whole or not at all, in the order applied, and what was applied before a
//! [`flush`](Database::flush) that returned `Ok` survives a power cut. Every call blocks; one thread owns the database.
//! Nothing an engine does wrong gets out as a panic.
//!
//! The engines are a plain log of segments of our own ([`EngineKind::Segments`]) and [`sled`](EngineKind::Sled), which
//! comes as a crate; `cargo bench --bench store_figures` prints what each of them costs, `deploy/store-engines.md` what
//! that means. The files of a database say which engine wrote them, and that engine opens them: the configured one
//! begins new databases.

mod flusher;
mod segments;
mod sled_engine;
mod sled_log;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use flusher::FLUSH_LONGEST;
pub use sled_log::Unseen;

/// Which engine keeps a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum EngineKind {
    /// The crate of this name.
    Sled,
    /// The log of segments: less written, less memory, and damage costs only what is damaged.
    #[default]
    Segments,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Segments];

    /// The word for it in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Segments => "segments",
        }
    }

    /// The least that a directory may be allowed to take on disk for this engine to keep within it, in bytes.
    pub fn limit_least(self) -> u64 {
        match self {
            // Its file was measured to take up to eight times what is alive, and a fresh one four times, besides whole
            // segments of half a MiB: less than this leaves nothing worth having.
            Self::Sled => 16 << 20,
            Self::Segments => 4 << 20,
        }
    }

    /// Whether its files only grow, however much is removed, so that they are to be written anew now and then.
    pub fn only_grows(self) -> bool {
        match self {
            Self::Sled => true,
            Self::Segments => false,
        }
    }

    /// Whether [`Database::open_to_read`] reads the files where they are, and needs no room for a copy.
    pub fn reads_in_place(self) -> bool {
        match self {
            Self::Sled => false,
            Self::Segments => true,
        }
    }

    /// The engine that wrote the files in the directory `path`; `None` when there are none of any.
    pub fn found_in(path: &Path) -> Option<Self> {
        if segments::is_in(path) {
            return Some(Self::Segments);
        }
        sled_engine::is_in(path).then_some(Self::Sled)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

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
#[derive(Debug, Clone, Default)]
pub struct Batch(Vec<Change>);

/// One change of a batch.
#[derive(Debug, Clone)]
enum Change {
    Put { key: Vec<u8>, value: Vec<u8> },
    Remove { key: Vec<u8> },
}

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push(Change::Put { key: key.to_vec(), value: value.to_vec() });
    }

    /// Removes `key`; nothing happens when it is not there.
    pub fn remove(&mut self, key: &[u8]) {
        self.0.push(Change::Remove { key: key.to_vec() });
    }
}

/// Gets one pair after the other until it breaks off.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What keeps a database. The promises are those of [`Database`].
trait Engine: fmt::Debug + Send {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError>;
    fn visit(&self, first: &[u8], last: &[u8], visit: &mut Visit<'_>) -> Result<(), DatabaseError>;
    fn last_key(&self, first: &[u8], last: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError>;
    fn apply(&self, changes: Vec<Change>) -> Result<(), DatabaseError>;
    fn flush(&self) -> Result<(), DatabaseError>;
    fn count(&self, first: &[u8], last: &[u8]) -> Option<u64>;
    fn has_losses(&self) -> bool;
    fn take_leftovers(&self) -> Vec<u8>;
    fn give_up_damaged(&self);
    fn verify(&self) -> Result<Verification, DatabaseError>;
}

/// What was found when every checksum of a database was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Values that were read, also those that are superseded and stand in the files still.
    pub values: u64,
    /// Bytes that were read, about.
    pub bytes: u64,
    /// Places that are damaged.
    pub damaged: u64,
    /// What is damaged, for people: the first [`DAMAGE_TOLD`](Self::DAMAGE_TOLD).
    pub damage: Vec<String>,
}

impl Verification {
    /// As much as anybody reads.
    pub const DAMAGE_TOLD: usize = 100;

    fn add_damage(&mut self, what: String) {
        self.damaged += 1;
        if self.damage.len() < Self::DAMAGE_TOLD {
            self.damage.push(what);
        }
    }
}

/// An open database. Dropping it closes it.
#[derive(Debug)]
pub struct Database {
    engine: Option<Box<dyn Engine>>,
    kind: EngineKind,
    path: PathBuf,
}

impl Database {
    /// Opens the database in the directory `path` with the engine that wrote it, or makes a new one of the engine
    /// `for_new`.
    pub fn open(path: &Path, for_new: EngineKind) -> Result<Self, DatabaseError> {
        let kind = EngineKind::found_in(path).unwrap_or(for_new);
        let engine = guarded(path, || -> Result<Box<dyn Engine>, DatabaseError> {
            match kind {
                EngineKind::Sled => Ok(Box::new(sled_engine::SledEngine::open(path)?)),
                EngineKind::Segments => Ok(Box::new(segments::SegmentLog::open(path)?)),
            }
        })?;
        Ok(Self { engine: Some(engine), kind, path: path.to_owned() })
    }

    /// Opens the database in the directory `path` only to be read. Not a byte of it is changed and no lock is taken:
    /// whoever calls sees to it that nobody writes meanwhile. An engine that [does not read in
    /// place](EngineKind::reads_in_place) gets a copy in the directory `scratch`, which must be empty and have room for
    /// half as much again as the database takes. [`apply`](Self::apply) is refused.
    pub fn open_to_read(path: &Path, scratch: &Path) -> Result<Self, DatabaseError> {
        let none = || unavailable(path, io::Error::new(io::ErrorKind::NotFound, "there is no database"));
        let kind = EngineKind::found_in(path).ok_or_else(none)?;
        let engine = guarded(path, || -> Result<Box<dyn Engine>, DatabaseError> {
            match kind {
                EngineKind::Sled => Ok(Box::new(sled_engine::SledEngine::open_to_read(path, scratch)?)),
                EngineKind::Segments => Ok(Box::new(segments::SegmentLog::open_to_read(path)?)),
            }
        })?;
        Ok(Self { engine: Some(engine), kind, path: path.to_owned() })
    }

    /// The engine that keeps it.
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Whether what had been durable was found damaged when it was opened, and is gone without an error: keys that
    /// were there may be missing, and removed ones may be there.
    pub fn has_losses(&self) -> bool {
        self.engine().has_losses()
    }

    /// The end of the files that does not count any more, in which whole values stand among anything: a power cut in the
    /// middle of a write leaves such an end, and so does damage to the last write. Given once.
    pub fn take_leftovers(&self) -> Vec<u8> {
        self.engine().take_leftovers()
    }

    /// What can be read is taken out of damaged files as it becomes possible, and they go: the owner knows what is lost.
    pub fn give_up_damaged(&self) {
        self.engine().give_up_damaged();
    }

    /// Looks at every checksum in the files. Takes as long as reading them all; of a database that has been open for long
    /// an engine may look at pages that it has in memory.
    pub fn verify(&self) -> Result<Verification, DatabaseError> {
        guarded(&self.path, || self.engine().verify())
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        guarded(&self.path, || self.engine().get(key))
    }

    /// Shows each pair from `first` to `last`, both included, in order, until `visit` breaks off.
    pub fn visit(
        &self,
        first: &[u8],
        last: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), DatabaseError> {
        guarded(&self.path, || self.engine().visit(first, last, &mut visit))
    }

    /// The last key from `first` to `last`, both included.
    pub fn last_key(&self, first: &[u8], last: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        guarded(&self.path, || self.engine().last_key(first, last))
    }

    /// How many keys there are from `first` to `last`, both included; `None` when only reading them all would tell.
    pub fn count(&self, first: &[u8], last: &[u8]) -> Option<u64> {
        self.engine().count(first, last)
    }

    /// Applies `batch` whole or not at all. Durable only after the next [`flush`](Self::flush). After an error close,
    /// open again, look.
    pub fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        guarded(&self.path, || self.engine().apply(batch.0))
    }

    /// Makes durable what was applied. After an error nothing is known about it: close, open again, look.
    pub fn flush(&self) -> Result<(), DatabaseError> {
        guarded(&self.path, || self.engine().flush())
    }

    /// Closes it, and waits until nothing of it is left in memory that could still touch its files.
    pub fn close(self) -> Result<(), DatabaseError> {
        let (kind, path) = (self.kind, self.path.clone());
        drop(self);
        match kind {
            EngineKind::Sled => guarded(&path, || sled_engine::wait_until_released(&path)),
            EngineKind::Segments => Ok(()),
        }
    }

    fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("a database has an engine until it is dropped")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let engine = self.engine.take();
        if let Err(error) = guarded(&self.path, || {
            drop(engine);
            Ok(())
        }) {
            tracing::warn!(%error, "database closed in disorder");
        }
    }
}

/// Looks at the files in the directory `path` before an engine does that overwrites what it takes for damaged. Returns
/// what this engine will not see; nothing when the files are of an engine that overwrites nothing.
///
/// # Errors
/// Something is damaged that no power cut explains: opening would make it worse.
pub fn look_before_opening(path: &Path) -> Result<Option<Unseen>, DatabaseError> {
    match EngineKind::found_in(path) {
        Some(EngineKind::Sled) => guarded(path, || sled_log::look(path).map(Some)),
        Some(EngineKind::Segments) | None => Ok(None),
    }
}

/// Has the next opening of the database in the directory `path` look at every checksum that it can.
pub fn distrust(path: &Path) {
    segments::distrust(path);
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

/// Makes the name of the directory `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
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

/// What an error means that may come of the system or of what is in the files in `path`.
///
/// A disk that does not write is no damage, and no reason to set aside what it holds. Nor is one that does not read now;
/// where it reads only some sectors, the engines pass over the others as over damage.
fn of_io(path: &Path, error: io::Error) -> DatabaseError {
    if error.raw_os_error().is_some() || is_of_the_surroundings(&error) {
        unavailable(path, error)
    } else {
        damaged(path, &error.to_string())
    }
}

fn unavailable(path: &Path, source: io::Error) -> DatabaseError {
    DatabaseError::Unavailable { path: path.to_owned(), source }
}

fn only_to_be_read(path: &Path) -> DatabaseError {
    unavailable(path, io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it was opened only to be read"))
}

fn damaged(path: &Path, detail: &str) -> DatabaseError {
    let first_line = detail.lines().next().unwrap_or_default();
    DatabaseError::Damaged { path: path.to_owned(), detail: first_line.to_owned() }
}

/// Turns a panic of the engine into an error.
fn guarded<T>(path: &Path, deed: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    catch_unwind(AssertUnwindSafe(deed)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("the engine panicked");
        Err(damaged(path, said))
    })
}

#[cfg(test)]
mod tests;
