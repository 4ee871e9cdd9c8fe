//! The directory of the store: who may use it, in which format it is, and what was set aside.
//!
//! ```text
//! lock                       held by the process that uses the store
//! format                     "lineside store 1 1": the number twice, since a damaged one is no newer release
//! database/                  the database
//! database.copy/             the database written anew, while that goes on (`compaction`)
//! database.salvage-<time>/   a database that could not be used and is still to be gone through
//! newer-format-<format>-<n>/ a store that a newer release wrote, as it was
//! database.corrupt-<time>/   databases that could not be used and were gone through, the newest two
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with, statvfs};

use super::BufferError;
use super::retention::Disk;
use crate::database::EngineKind;
use crate::model::Timestamp;

/// The format that this release reads and writes.
pub const FORMAT: u32 = 1;

const FORMAT_TEXT: &str = "lineside store ";

/// How the names of databases begin that were set aside, and of those that were gone through.
const SALVAGE: &str = "database.salvage-";
const CORRUPT: &str = "database.corrupt-";

/// How the names of stores begin that a newer release wrote: its format and a number follow.
const NEWER: &str = "newer-format-";

/// How many databases that could not be used are kept.
const SET_ASIDE_KEPT: usize = 2;

/// Written to find out whether the disk takes anything: more than one save writes.
const PROBE_BYTES: usize = 256 << 10;

/// A directory that this process, and no other, uses as its store.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    engine: EngineKind,
    newer: Option<(u32, PathBuf)>,
    // Unlocked by the system when the process ends, however it does.
    lock: Option<File>,
}

impl Place {
    /// Takes the directory `path`, made if need be. Touches nothing when another process has it; a store of a newer format
    /// is set aside as it is.
    /// A disk that takes nothing is no reason to fail: [`secure`](Self::secure) takes the directory later.
    pub fn claim(path: &Path) -> Result<Self, BufferError> {
        let mut place = Self { path: path.to_owned(), engine: EngineKind::default(), newer: None, lock: None };
        match place.secure() {
            Ok(()) | Err(BufferError::Unavailable { .. }) => Ok(place),
            Err(refused) => Err(refused),
        }
    }

    /// Takes the directory if it could not be taken before.
    pub fn secure(&mut self) -> Result<(), BufferError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let lock = self.locked()?;
        if let Some(found) = read_format(&self.path).filter(|found| *found > FORMAT) {
            self.newer = Some(self.set_newer_aside(found).map_err(|error| self.unavailable(&error))?);
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// Moves the store of a newer release out of the way as it is: a directory that its release can use.
    fn set_newer_aside(&self, format: u32) -> io::Result<(u32, PathBuf)> {
        let begun = named(&self.path, NEWER).into_iter().find(|path| !path.join("format").exists());
        let free = (0..).map(|number| self.path.join(format!("{NEWER}{format}-{number}"))).find(|path| !path.exists());
        let aside = begun.or(free).expect("there are more numbers than directories");
        fs::create_dir_all(&aside)?;
        // What says which format it is goes last: a kill in the middle is no harm.
        let mut names = ["mark", "catalogue", "database"].map(|name| self.path.join(name)).to_vec();
        names.extend(named(&self.path, SALVAGE).into_iter().chain(named(&self.path, CORRUPT)));
        for path in names.into_iter().filter(|path| path.exists()).chain([self.path.join("format")]) {
            fs::rename(&path, aside.join(path.file_name().unwrap_or_default()))?;
        }
        File::open(&aside)?.sync_all()?;
        File::open(&self.path)?.sync_all()?;
        tracing::error!(format, kept = %aside.display(), "the store is of a newer release; a new one begins");
        Ok((format, aside))
    }

    /// The store of a newer release that was set aside, with its format: told once.
    pub fn take_newer(&mut self) -> Option<(u32, PathBuf)> {
        self.newer.take()
    }

    fn locked(&self) -> Result<File, BufferError> {
        let path = self.path.join("lock");
        let make = || File::options().create(true).truncate(false).write(true).open(&path).map(drop);
        let made = fs::create_dir_all(&self.path).and_then(|()| make());
        // Open to read: it does not keep the file system from being remounted read-only, and one that is read-only
        // has the lock of an earlier start.
        let lock = File::open(&path).map_err(|error| self.unavailable(&made.err().unwrap_or(error)))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(BufferError::InUse { path: self.path.clone() }),
            Err(error) => Err(self.unavailable(&error.into())),
        }
    }

    fn unavailable(&self, error: &io::Error) -> BufferError {
        BufferError::Unavailable { path: self.path.clone(), reason: io_text(error) }
    }

    /// The same place, in which new databases are made by `engine`.
    pub fn with_engine(mut self, engine: EngineKind) -> Self {
        self.engine = engine;
        if let Some(found) = EngineKind::found_in(&self.database()).filter(|found| *found != engine) {
            tracing::warn!(
                configured = %engine,
                %found,
                path = %self.path.display(),
                "the store was written by another engine, which goes on keeping it; to change over, stop the agent when \
                 everything is delivered, and move the directory away"
            );
        }
        self
    }

    /// The engine that makes new databases.
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// The engine that keeps the database that is there, or will keep a new one.
    pub fn kept_by(&self) -> EngineKind {
        EngineKind::found_in(&self.database()).unwrap_or(self.engine)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the database.
    pub fn database(&self) -> PathBuf {
        self.path.join("database")
    }

    /// The directory of a copy of the database.
    pub fn copy(&self) -> PathBuf {
        self.path.join("database.copy")
    }

    /// Removes what there is of a copy.
    pub fn remove_copy(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.copy()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Puts the copy, which is whole and durable, in the place of the database, which goes; nobody may have either open.
    /// One step of the file system changes both names, so that at no moment there is none, or half of one.
    pub fn exchange(&self) -> io::Result<()> {
        renameat_with(CWD, self.copy(), CWD, self.database(), RenameFlags::EXCHANGE)?;
        File::open(&self.path)?.sync_all()?;
        self.remove_copy()
    }

    /// The disk on which the directory is, of which it takes `used` bytes.
    pub fn disk(&self, used: u64) -> Disk {
        match statvfs(&self.path) {
            Ok(disk) => Disk {
                total: disk.f_blocks.saturating_mul(disk.f_frsize),
                free: disk.f_bavail.saturating_mul(disk.f_frsize),
                used,
            },
            // Then writing will tell.
            Err(_) => Disk { total: 0, free: u64::MAX / 2, used },
        }
    }

    /// An error when the disk does not take what is written.
    pub fn probe(&self) -> io::Result<()> {
        let path = self.path.join("probe");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; PROBE_BYTES])?;
            file.sync_data()
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// Moves the database out of the way, to be gone through. Returns where it is now.
    pub fn set_aside(&self, now: Timestamp) -> io::Result<PathBuf> {
        let time = in_a_name(now);
        let name = |extra: usize| match extra {
            0 => format!("{SALVAGE}{time}"),
            _ => format!("{SALVAGE}{time}-{extra}"),
        };
        let is_free = |path: &PathBuf| !path.exists() && !self.path.join(corrupt_name(path)).exists();
        let free = (0..).map(|extra| self.path.join(name(extra))).find(is_free);
        let aside = free.expect("there are more numbers than directories");
        fs::rename(self.database(), &aside)?;
        File::open(&self.path)?.sync_all()?;
        Ok(aside)
    }

    /// The databases that were set aside and not gone through yet.
    pub fn to_salvage(&self) -> Vec<PathBuf> {
        named(&self.path, SALVAGE)
    }

    /// Everything that could be read of the database in `path` is in the new one.
    pub fn end_salvage(&self, path: &Path) -> io::Result<()> {
        fs::rename(path, self.path.join(corrupt_name(path)))?;
        let others = self.all_set_aside();
        for oldest in others.iter().rev().skip(SET_ASIDE_KEPT) {
            fs::remove_dir_all(oldest)?;
        }
        File::open(&self.path)?.sync_all()
    }

    /// Removes the oldest database that was set aside. Says whether there was one.
    pub fn remove_oldest_set_aside(&self) -> bool {
        let oldest = self.all_set_aside().into_iter().chain(named(&self.path, NEWER)).next();
        oldest.is_some_and(|oldest| fs::remove_dir_all(oldest).is_ok())
    }

    /// The databases that were set aside, oldest first.
    fn all_set_aside(&self) -> Vec<PathBuf> {
        set_aside_in(&self.path)
    }
}

impl Drop for Place {
    /// Closing is not enough: a process that is being started at this moment holds a copy of the descriptor until it
    /// executes its program.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            flock(lock, FlockOperation::Unlock).ok();
        }
    }
}

/// Has the store in `path` say in which format it is.
pub fn mark_format(path: &Path) -> io::Result<()> {
    if read_format(path) == Some(FORMAT) {
        return Ok(());
    }
    let new = path.join("format.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT_TEXT}{FORMAT} {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, path.join("format"))?;
    File::open(path)?.sync_all()
}

/// A store that is read while no agent may begin to use it. Nothing is written.
#[derive(Debug)]
pub struct Guest {
    path: PathBuf,
    // Shared: readers do not exclude each other.
    _lock: Option<File>,
}

impl Guest {
    /// Keeps every agent away from the store in `path`.
    ///
    /// # Errors
    /// It is no store, of a newer format, in use by an agent, or cannot be read.
    pub fn visit(path: &Path) -> Result<Self, BufferError> {
        let unavailable = |source| BufferError::Unavailable { path: path.to_owned(), reason: io_text(&source) };
        let no_store = || BufferError::NoStore { path: path.to_owned() };
        match fs::metadata(path.join("format")) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(unavailable(error)),
            Err(_) => return Err(no_store()),
            Ok(_) => {}
        }
        match read_format(path) {
            Some(found) if found > FORMAT => {
                return Err(BufferError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
            }
            // The agent takes a file that holds nothing for one that was not written to its end.
            Some(_) | None => {}
        }
        Ok(Self { path: path.to_owned(), _lock: lock_shared(path)? })
    }

    /// The directory of the database.
    pub fn database(&self) -> PathBuf {
        self.path.join("database")
    }
}

/// The lock, where there is one: a store that never had a lock was never used.
fn lock_shared(path: &Path) -> Result<Option<File>, BufferError> {
    let unavailable = |source| BufferError::Unavailable { path: path.to_owned(), reason: io_text(&source) };
    let lock = match File::open(path.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unavailable)?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BufferError::InUse { path: path.to_owned() }),
        Err(error) => Err(unavailable(error.into())),
    }
}

/// The databases in the directory of a store that were set aside, oldest first.
pub fn set_aside_in(path: &Path) -> Vec<PathBuf> {
    named(path, CORRUPT)
}

fn named(path: &Path, beginning: &str) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning));
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    paths.sort();
    paths
}

/// What a database that was set aside is called once it was gone through.
fn corrupt_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().replacen(SALVAGE, CORRUPT, 1)
}

fn in_a_name(time: Timestamp) -> String {
    time.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The format the directory is in; `None` when it does not say so in words that are understood.
fn read_format(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path.join("format")).ok()?;
    let mut numbers = text.strip_prefix(FORMAT_TEXT)?.split_whitespace().map(str::parse);
    match (numbers.next()?.ok()?, numbers.next()) {
        (first, Some(Ok(second))) if first == second => Some(first),
        // As the first stores said it.
        (first, None) if first <= FORMAT => Some(first),
        _ => None,
    }
}

/// What the system said, without the number.
pub fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_use_or_of_a_newer_format_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let place = Place::claim(path).unwrap();

        assert!(matches!(Place::claim(path), Err(BufferError::InUse { .. })));
        drop(place);
        fs::write(path.join("format"), "lineside store 2 2\n").unwrap();
        assert!(matches!(Guest::visit(path), Err(BufferError::NewerFormat { found: 2, known: 1, .. })));
        let mut place = Place::claim(path).unwrap();
        assert_eq!(place.take_newer(), Some((2, path.join("newer-format-2-0"))));
        assert_eq!(read_format(&path.join("newer-format-2-0")), Some(2));
        drop(place);
        for damaged in ["\0\0", "lineside store 3 1\n", "lineside store 3\n"] {
            fs::write(path.join("format"), damaged).unwrap();
            assert!(Place::claim(path).unwrap().take_newer().is_none(), "{damaged}");
        }
        mark_format(path).unwrap();
        assert_eq!(read_format(path), Some(1));
    }

    #[test]
    fn a_copy_takes_the_place_of_the_database_which_goes() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::claim(directory.path()).unwrap();
        for (path, content) in [(place.database(), "first"), (place.copy(), "second")] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("db"), content).unwrap();
        }

        place.exchange().unwrap();

        assert_eq!(fs::read_to_string(place.database().join("db")).unwrap(), "second");
        assert!(!place.copy().exists());
        assert!(place.exchange().is_err(), "there is no copy");
        assert_eq!(fs::read_to_string(place.database().join("db")).unwrap(), "second");
        place.remove_copy().unwrap();
    }

    #[test]
    fn the_newest_two_lost_databases_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::claim(directory.path()).unwrap();

        for time in [1_000, 2_000, 2_000, 3_000] {
            fs::create_dir(place.database()).unwrap();
            let aside = place.set_aside(Timestamp(time)).unwrap();
            assert_eq!(place.to_salvage(), std::slice::from_ref(&aside));
            place.end_salvage(&aside).unwrap();
        }

        let names: Vec<String> =
            place.all_set_aside().iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["database.corrupt-19700101T000002000Z-1", "database.corrupt-19700101T000003000Z"]);
    }
}
