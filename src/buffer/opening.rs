//! Opening the database beside the thread of the store: on a slow or broken disk that takes long, and polling does not
//! wait for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::loaded::Loaded;
use super::mark::Noted;
use super::place::{Place, mark_format};
use super::restoring::Beside;
use super::salvage::{Missing, missing, unseen_commits};
use crate::database::{DatabaseError, EngineKind, distrust, look_before_opening};

/// A database that is being opened.
#[derive(Debug)]
pub struct Opening(mpsc::Receiver<Result<Loaded, DatabaseError>>);

impl Opening {
    /// Begins to open the database in `place`, or to make a new one. Beside it is known what `beside` says.
    pub fn begin(place: &Place, beside: Beside) -> io::Result<Self> {
        let (answer, answers) = mpsc::sync_channel(1);
        // What a copy was when the process ended is worth nothing: the database is whole.
        if let Err(error) = place.remove_copy() {
            tracing::debug!(%error, "the copy of the database cannot be removed for now");
        }
        let (directory, path, for_new) = (place.path().to_owned(), place.database(), place.engine());
        let open_there = move || {
            let unavailable = |source| DatabaseError::Unavailable { path: directory.clone(), source };
            let opened = mark_format(&directory).map_err(unavailable).and_then(|()| open(&path, for_new, &beside));
            // Nobody may be left to hear the answer; then the database is closed again.
            drop(answer.send(opened));
        };
        std::thread::Builder::new().name("store-open".into()).spawn(open_there)?;
        Ok(Self(answers))
    }

    /// What came of it, when it comes within `patience`. `None` while it goes on.
    pub fn result(&self, patience: Duration, path: PathBuf) -> Option<Result<Loaded, DatabaseError>> {
        match self.0.recv_timeout(patience) {
            Ok(result) => Some(result),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let detail = "the thread that opens it panicked".to_owned();
                Some(Err(DatabaseError::Damaged { path, detail }))
            }
        }
    }
}

/// Opens the database at `path`, or makes a new one. What is damaged of it is put together again.
pub fn open(path: &Path, for_new: EngineKind, beside: &Beside) -> Result<Loaded, DatabaseError> {
    let mut unseen = Vec::new();
    let mut open = || {
        unseen.extend(look(path, beside)?);
        Loaded::open(path, for_new, beside, &mut unseen)
    };
    open().or_else(|error| match error {
        // Perhaps no more than what was believed without looking.
        DatabaseError::Damaged { .. } => {
            distrust(path);
            open()
        }
        error => Err(error),
    })
}

/// Keeps an engine that overwrites what it takes for damaged from doing so: what is to be delivered is saved first.
/// Returns what it will not see and nothing speaks of, since the mark is damaged.
fn look(path: &Path, beside: &Beside) -> Result<Vec<Vec<u8>>, DatabaseError> {
    let Some(unseen) = look_before_opening(path)? else { return Ok(Vec::new()) };
    // After a power cut the note may be old: what was delivered and removed since is gone for good reason.
    let is_exact = |noted: &Noted| noted.boot.is_some() && noted.boot == beside.boot;
    let would_lose = |noted: &Noted| match missing(path, noted, &unseen) {
        Missing::Nothing => false,
        Missing::Gone => is_exact(noted),
        Missing::Unseen => true,
    };
    let known = match beside.noted.as_ref().filter(|noted| noted.is_full) {
        Some(noted) if would_lose(noted) => None,
        Some(noted) if !noted.is_damaged_in(beside.boot) => Some(Vec::new()),
        noted => unseen_commits(path, noted, &unseen),
    };
    known.ok_or_else(|| {
        let detail = "not everything that is to be delivered is in its files".to_owned();
        DatabaseError::Damaged { path: path.to_owned(), detail }
    })
}
