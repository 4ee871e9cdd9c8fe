//! Opening the database beside the thread of the store: on a slow or broken disk that takes long, and polling does not
//! wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::loaded::Loaded;
use super::place::{Place, mark_format};
use crate::database::DatabaseError;

/// A database that is being opened.
#[derive(Debug)]
pub struct Opening(mpsc::Receiver<Result<Loaded, DatabaseError>>);

impl Opening {
    /// Begins to open the database in `place`, or to make a new one.
    pub fn begin(place: &Place) -> io::Result<Self> {
        let (answer, answers) = mpsc::sync_channel(1);
        // What a copy was when the process ended is worth nothing: the database is whole.
        if let Err(error) = place.remove_copy() {
            tracing::debug!(%error, "the copy of the database cannot be removed for now");
        }
        let (directory, path, for_new) = (place.path().to_owned(), place.database(), place.engine());
        let open = move || {
            let unavailable = |source| DatabaseError::Unavailable { path: directory.clone(), source };
            let opened = mark_format(&directory).map_err(unavailable).and_then(|()| Loaded::open(&path, for_new));
            // Nobody may be left to hear the answer; then the database is closed again.
            drop(answer.send(opened));
        };
        std::thread::Builder::new().name("store-open".into()).spawn(open)?;
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
