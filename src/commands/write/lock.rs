//! `lineside writes off`: a file, so that it holds across restarts, and a restart of everything else.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::commands::log_file::sync_directory;

/// Whether writing from afar is locked.
#[derive(Debug, Clone)]
pub struct WriteLock {
    file: PathBuf,
}

impl WriteLock {
    /// The lock in the directory of the journal.
    pub fn in_directory(directory: &Path) -> Self {
        Self { file: directory.join("writes-off") }
    }

    /// Locked, also when nobody can tell.
    pub fn is_locked(&self) -> bool {
        !matches!(self.file.try_exists(), Ok(false))
    }

    /// Locks; durable when this returns.
    pub fn lock(&self) -> io::Result<()> {
        if let Some(directory) = self.file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        File::create(&self.file)?.sync_all()?;
        sync_directory(&self.file)
    }

    /// Lifts the lock.
    pub fn lift(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.and_then(|()| sync_directory(&self.file)),
        }
    }
}
