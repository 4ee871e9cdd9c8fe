//! The store of an agent that does not run, read without changing a byte of it.
//!
//! Both engines write when they open: they finish what a kill left undone. So the files of the database are copied, under
//! a lock that keeps the agent out for as long as the copying takes, and the copy is opened as the agent would open it:
//! what is damaged is named, and what is not is read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HistoryError, HistorySource, HistorySpan, Overview, Page, page};
use crate::buffer::loaded::Loaded;
use crate::buffer::mark::Mark;
use crate::buffer::names::NameCopy;
use crate::buffer::opening;
use crate::buffer::place::{Guest, io_text};
use crate::buffer::restoring::{Beside, Damage};
use crate::buffer::{BufferError, Catalogue};
use crate::database::{Database, DatabaseError, EngineKind, distrust};
use crate::model::{Gap, Lane, Sequence};

/// A copy of a store.
pub struct Archive {
    loaded: Loaded,
    missing: Vec<Gap>,
    damage: Vec<String>,
    lost_history: u64,
    path: PathBuf,
}

impl Archive {
    /// Copies the database of the store in `path` into the empty directory `copy`, and opens the copy.
    ///
    /// # Errors
    /// The directory is no store, of a newer format, in use, or cannot be read; there is no room for the copy.
    pub fn open(path: &Path, copy: &Path) -> Result<Self, BufferError> {
        let guest = Guest::visit(path)?;
        let unavailable =
            |path: &Path, error: &io::Error| BufferError::Unavailable { path: path.to_owned(), reason: io_text(error) };
        let database = copy.join("database");
        if guest.database().is_dir() {
            check_room(&guest.database(), copy)?;
            copy_all(&guest.database(), &database).map_err(|error| unavailable(&guest.database(), &error))?;
        }
        // There are none before the first flush.
        for name in ["mark", "catalogue"] {
            fs::copy(path.join(name), copy.join(name)).ok();
        }
        drop(guest);
        let mut damage = damage_in(&database);
        let noted = Mark::beside(copy).read();
        // Only what is known counts as given: whether there was more is for the agent to say.
        let boot = noted.as_ref().and_then(|noted| noted.boot);
        let beside = Beside { noted, boot, ..Beside::default() };
        let mut loaded = load(&database, beside, &mut damage).map_err(|error| of(path, error))?;
        let Damage { gaps: missing, lost_history, .. } = loaded.damage.take().unwrap_or_default();
        loaded.ids.take_over(&NameCopy::beside(copy).read(true));
        Ok(Self { loaded, missing, damage, lost_history, path: path.to_owned() })
    }

    /// How many commits that were delivered are gone although the database counts them.
    pub fn lost_history(&self) -> u64 {
        self.lost_history
    }

    /// What was found damaged in the files, whether anything is lost by it or not.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Sequences that had been given, as the mark beside the database says, and that the database does not know.
    pub fn missing(&self) -> &[Gap] {
        &self.missing
    }

    fn unavailable(&self, error: DatabaseError) -> HistoryError {
        of(&self.path, error).into()
    }
}

impl HistorySource for Archive {
    fn overview(&mut self) -> Result<Overview, HistoryError> {
        let Loaded { database, epoch, lanes, resend, clocks, .. } = &self.loaded;
        Overview::of(&self.path, database, *epoch, lanes, resend, clocks).map_err(|error| self.unavailable(error))
    }

    fn catalogue(&mut self) -> Result<Catalogue, HistoryError> {
        Ok(Catalogue { epoch: self.loaded.epoch, series: self.loaded.ids.all(), others: Vec::new() })
    }

    fn page(&mut self, lane: Lane, span: HistorySpan, from: Sequence) -> Result<Page, HistoryError> {
        let last = Sequence(u64::MAX);
        let offsets = self.loaded.clocks.offsets();
        page(&self.loaded.database, offsets, lane, span, from, last).map_err(|error| self.unavailable(error))
    }
}

/// What an error of the copy is for the store in `path`.
fn of(path: &Path, error: DatabaseError) -> BufferError {
    match error {
        DatabaseError::Damaged { detail, .. } => BufferError::Damaged { path: path.to_owned(), detail },
        other => BufferError::Unavailable { path: path.to_owned(), reason: other.to_string() },
    }
}

/// What the checksums in the files say, of an engine that can be read without being opened.
fn damage_in(database: &Path) -> Vec<String> {
    match EngineKind::found_in(database) {
        None => vec!["there is no database; the agent begins a new one when it starts".to_owned()],
        Some(kind) if !kind.reads_in_place() => Vec::new(),
        Some(_) => match Database::open_to_read(database, database).and_then(|database| database.verify()) {
            Ok(verification) => verification.damage,
            // Opening says more.
            Err(_) => Vec::new(),
        },
    }
}

/// Opens the copy `database`, all of it looked at. One that does not open is gone through for what can be read.
fn load(database: &Path, mut beside: Beside, damage: &mut Vec<String>) -> Result<Loaded, DatabaseError> {
    let kind = EngineKind::found_in(database).unwrap_or_default();
    distrust(database);
    match opening::open(database, kind, &beside) {
        Err(DatabaseError::Damaged { detail, .. }) => {
            damage.push(detail);
            let aside = database.with_file_name("aside");
            let unavailable = |source| DatabaseError::Unavailable { path: database.to_owned(), source };
            fs::rename(database, &aside).map_err(unavailable)?;
            beside.aside.push(aside);
            opening::open(database, kind, &beside)
        }
        opened => opened,
    }
}

/// Half as much again as the copy takes: the engine writes when it opens.
fn check_room(database: &Path, copy: &Path) -> Result<(), BufferError> {
    let needed = crate::database::disk_bytes(database) / 2 * 3;
    let free = rustix::fs::statvfs(copy).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match free {
        Ok(free) if free < needed => Err(BufferError::Unavailable {
            path: copy.parent().unwrap_or(copy).to_owned(),
            reason: format!(
                "has {} MiB free, and a copy of the database needs {} MiB; --scratch names another directory",
                free >> 20,
                needed.div_ceil(1 << 20)
            ),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_all(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
