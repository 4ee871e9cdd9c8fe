//! sled as an engine: the only file that names it.
//!
//! Its own flush stops at `sync_file_range`, which leaves data in a disk's volatile cache, so each flush here ends with
//! `fdatasync` on its files; those of large pages it syncs not at all. It does not open what a power cut left of a database that it was making: so a new one is
//! made in a directory beside, `<name>.new`, made durable, and gets its name last.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::flusher::Flusher;
use super::{
    Change, DatabaseError, Engine, Verification, Visit, damaged, guarded, is_of_the_surroundings, only_to_be_read,
    sync_parent, unavailable,
};

/// Pages kept in memory. The engine counts only payload, so the process grows by about four times this.
const CACHE_BYTES: u64 = 1 << 20;

/// How often a new large value is looked up. The engine evicts pages only after so many accesses, 16,384 in all, and
/// pages written once and never read hardly count: without this they take 17 MB until the first is evicted, with it 10.
const ACCESSES_OF_LARGE: usize = 8;

/// Shorter values share a page with others, which is accessed often enough.
const LARGE_VALUE: usize = 512;

/// How long a database that was closed a moment ago may still hold its own lock: the engine frees memory lazily.
const LOCK_LINGERS: Duration = Duration::from_secs(5);

/// How often opening is tried while the disk does not read: one error in passing is no damage.
const OPENINGS: u32 = 3;

/// Holds no data; written only to wake a flush that waits for a write that has failed.
const NUDGE_KEY: &[u8] = b"~";

/// Whether a database of this engine is in the directory `path`.
pub fn is_in(path: &Path) -> bool {
    path.join("db").exists() || path.join("conf").exists()
}

/// What the engine is told of a database in the directory `path`.
fn config(path: &Path) -> sled::Config {
    sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None)
}

/// An open database.
#[derive(Debug)]
pub struct SledEngine {
    // Dropped in this order: the thread holds the engine too.
    // None when the database was opened only to be read.
    flusher: Option<Flusher<()>>,
    engine: Option<sled::Db>,
    path: PathBuf,
}

impl SledEngine {
    /// Opens the database in the directory `path`, or makes a new one there.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let surroundings = |source| unavailable(path, source);
        if !is_in(path) {
            make(path)?;
        }
        let engine = open_unlocked(path)?;
        sync_overflow_files(path).and_then(|()| sync_all_files(path)).map_err(surroundings)?;
        let file = File::open(path.join("db")).map_err(surroundings)?;
        let (flushed, files) = (engine.clone(), path.to_owned());
        let flusher = Flusher::start(path, move |()| flush(&flushed, &file, &files)).map_err(surroundings)?;
        Ok(Self { flusher: Some(flusher), engine: Some(engine), path: path.to_owned() })
    }

    /// Opens a copy, made in the directory `scratch`, of the database in `path`: the engine writes when it opens.
    pub fn open_to_read(path: &Path, scratch: &Path) -> Result<Self, DatabaseError> {
        copy_files(path, scratch).map_err(|error| unavailable(path, error))?;
        let engine = open_unlocked(scratch)?;
        Ok(Self { flusher: None, engine: Some(engine), path: scratch.to_owned() })
    }

    fn with<T>(&self, deed: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, DatabaseError> {
        let engine = self.engine.as_ref().expect("a database has an engine until it is dropped");
        deed(engine).map_err(|error| of_sled(&self.path, error))
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        self.with(|engine| Ok(engine.get(key)?.map(|value| value.to_vec())))
    }

    fn visit(&self, first: &[u8], last: &[u8], visit: &mut Visit<'_>) -> Result<(), DatabaseError> {
        self.with(|engine| {
            for pair in engine.range(first..=last) {
                let (key, value) = pair?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn last_key(&self, first: &[u8], last: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        self.with(|engine| match engine.range(first..=last).next_back() {
            Some(pair) => Ok(Some(pair?.0.to_vec())),
            None => Ok(None),
        })
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), DatabaseError> {
        if self.flusher.is_none() {
            return Err(only_to_be_read(&self.path));
        }
        let mut batch = sled::Batch::default();
        let mut large = Vec::new();
        for change in changes {
            match change {
                Change::Put { key, value } => {
                    batch.insert(key.as_slice(), value.as_slice());
                    if value.len() >= LARGE_VALUE {
                        large.push(key);
                    }
                }
                Change::Remove { key } => batch.remove(key),
            }
        }
        self.with(|engine| {
            engine.apply_batch(batch)?;
            for key in large {
                for _ in 0..ACCESSES_OF_LARGE {
                    engine.get(&key)?;
                }
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), DatabaseError> {
        let Some(flusher) = &self.flusher else { return Ok(()) };
        // The engine can miss the signal that a write failed; a further write repeats the signal.
        flusher.flush((), || {
            guarded(&self.path, || self.with(|engine| engine.insert(NUDGE_KEY, &[]).map(drop))).ok();
        })
    }

    fn count(&self, _first: &[u8], _last: &[u8]) -> Option<u64> {
        None
    }

    /// It refuses damage as a whole, or takes it for the end of its log.
    fn has_losses(&self) -> bool {
        false
    }

    fn take_leftovers(&self) -> Vec<u8> {
        Vec::new()
    }

    fn give_up_damaged(&self) {}

    /// It looks at the checksum of a page when it reads it. Behind a damaged page it cannot find the next.
    fn verify(&self) -> Result<Verification, DatabaseError> {
        let mut verification = Verification::default();
        self.with(|engine| {
            for pair in engine.iter() {
                match pair {
                    Ok((key, value)) => {
                        verification.values += 1;
                        verification.bytes += (key.len() + value.len()) as u64;
                    }
                    Err(error) => {
                        verification.add_damage(format!("after {} values: {error}", verification.values));
                        break;
                    }
                }
            }
            Ok(())
        })?;
        Ok(verification)
    }
}

fn flush(engine: &sled::Db, file: &File, path: &Path) -> Result<(), DatabaseError> {
    // Before the log that speaks of them, so that a power cut does not leave the log without them.
    sync_overflow_files(path).map_err(|error| unavailable(path, error))?;
    guarded(path, || engine.flush().map(drop).map_err(|error| of_sled(path, error)))?;
    // And those that the flush itself made.
    sync_overflow_files(path).and_then(|()| file.sync_data()).map_err(|error| unavailable(path, error))
}

/// The engine moves very large pages to files of their own, and syncs neither those nor their directory.
fn sync_overflow_files(path: &Path) -> io::Result<()> {
    let overflow = path.join("blobs");
    let mut is_used = false;
    for entry in fs::read_dir(&overflow)?.flatten() {
        match File::open(entry.path()) {
            // The engine removes them as it goes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => file?.sync_data()?,
        }
        is_used = true;
    }
    if is_used { File::open(&overflow)?.sync_all() } else { Ok(()) }
}

/// Makes a new database in the directory `path`, where there is none: whole, or not at all.
fn make(path: &Path) -> Result<(), DatabaseError> {
    let surroundings = |source| unavailable(path, source);
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    let beside = path.with_file_name(name);
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(surroundings(error)),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(&beside).map_err(surroundings)?;
    drop(open_unlocked(&beside)?);
    sync_all_files(&beside).map_err(surroundings)?;
    match fs::rename(&beside, path) {
        // Files that are no database, and no directory to be replaced.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(damaged(path, &error.to_string())),
        renamed => renamed.and_then(|()| sync_parent(path)).map_err(surroundings),
    }
}

/// The engine writes a snapshot of its index under another name first, but takes what it finds under that for a
/// snapshot too, and refuses a database in which a power cut left half of one. It needs none: the log has everything.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the files of a database findable after a power cut: they, their directory and its parent.
fn sync_all_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        File::open(entry.path())?.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    sync_parent(path)
}

fn open_unlocked(path: &Path) -> Result<sled::Db, DatabaseError> {
    let begun = Instant::now();
    let mut failed = 0;
    loop {
        // An opening that failed may have left one, too.
        remove_unfinished_snapshots(path).map_err(|error| unavailable(path, error))?;
        let error = match catch_unwind(AssertUnwindSafe(|| config(path).open())) {
            Ok(Ok(engine)) => return Ok(engine),
            Ok(Err(error)) => error,
            Err(panic) => return guarded(path, || std::panic::resume_unwind(panic)),
        };
        let is_locked = error.to_string().contains("could not acquire lock");
        failed += u32::from(!is_locked);
        if is_locked && begun.elapsed() > LOCK_LINGERS {
            let source = io::Error::new(io::ErrorKind::ResourceBusy, "the database is still locked");
            return Err(unavailable(path, source));
        }
        let is_of_the_disk = matches!(&error, sled::Error::Io(source) if source.raw_os_error().is_some());
        if !is_locked && (!is_of_the_disk || failed >= OPENINGS) {
            return Err(of_sled(path, error));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the engine has let go of the files in `path`: it frees memory lazily, and with it goes what it had put off
/// doing to them.
pub fn wait_until_released(path: &Path) -> Result<(), DatabaseError> {
    /// As often as memory is freed.
    const PINS: usize = 256;
    let begun = Instant::now();
    let file = File::open(path.join("db")).map_err(|source| unavailable(path, source))?;
    while file.try_lock().is_err() {
        if begun.elapsed() > LOCK_LINGERS {
            return Err(unavailable(path, io::Error::new(io::ErrorKind::ResourceBusy, "the database is still locked")));
        }
        (0..PINS).for_each(|_| drop(sled::pin()));
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What an error of the engine means for the database in `path`.
fn of_sled(path: &Path, error: sled::Error) -> DatabaseError {
    match error {
        // It passes errors of the system on without their numbers. A disk that does not write is no damage.
        sled::Error::Io(source) if is_of_the_surroundings(&source) || is_readable(path) => unavailable(path, source),
        error => damaged(path, &error.to_string()),
    }
}

/// Whether every byte of the log can be read.
fn is_readable(path: &Path) -> bool {
    let Ok(mut file) = File::open(path.join("db")) else { return false };
    let mut bytes = vec![0; 64 << 10];
    loop {
        match file.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
