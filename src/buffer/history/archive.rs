//! The store of an agent that does not run, read without changing a byte of it.
//!
//! Both engines write when they open: they finish what a kill left undone. So the files of the database are copied, under
//! a lock that keeps the agent out for as long as the copying takes, and the copy is opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HistoryError, HistorySource, HistorySpan, Overview, Page, page};
use crate::buffer::loaded::Loaded;
use crate::buffer::mark::Mark;
use crate::buffer::place::{Guest, io_text};
use crate::buffer::restoring::Beside;
use crate::buffer::{BufferError, Catalogue};
use crate::database::{DatabaseError, EngineKind};
use crate::model::{Gap, Lane, Sequence};

/// A copy of a store.
pub struct Archive {
    loaded: Loaded,
    missing: Vec<Gap>,
    path: PathBuf,
}

impl Archive {
    /// Copies the database of the store in `path` into the empty directory `copy`, and opens the copy.
    ///
    /// # Errors
    /// The directory is no store, of a newer format, in use, or cannot be read; there is no room for the copy; the
    /// database is too damaged to be opened.
    pub fn open(path: &Path, copy: &Path) -> Result<Self, BufferError> {
        let guest = Guest::visit(path)?;
        let unavailable =
            |path: &Path, error: &io::Error| BufferError::Unavailable { path: path.to_owned(), reason: io_text(error) };
        let database = copy.join("database");
        check_room(&guest.database(), copy)?;
        copy_all(&guest.database(), &database).map_err(|error| unavailable(&guest.database(), &error))?;
        // There is none before the first flush.
        fs::copy(path.join("mark"), copy.join("mark")).ok();
        drop(guest);
        if EngineKind::found_in(&database).is_none() {
            return Err(BufferError::NoStore { path: path.to_owned() });
        }
        let beside = Beside { noted: Mark::beside(copy).read(), ..Beside::default() };
        let mut loaded =
            Loaded::open(&database, EngineKind::default(), &beside, &mut Vec::new()).map_err(|error| match error {
                DatabaseError::Damaged { detail, .. } => BufferError::Damaged { path: path.to_owned(), detail },
                other => BufferError::Unavailable { path: path.to_owned(), reason: other.to_string() },
            })?;
        let missing = loaded.damage.take().map(|damage| damage.gaps).unwrap_or_default();
        Ok(Self { loaded, missing, path: path.to_owned() })
    }

    /// Sequences that had been given, as the mark beside the database says, and that the database does not know.
    pub fn missing(&self) -> &[Gap] {
        &self.missing
    }

    fn unavailable(&self, error: DatabaseError) -> HistoryError {
        let reason = error.to_string();
        BufferError::Unavailable { path: self.path.clone(), reason }.into()
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
