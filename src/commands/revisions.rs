//! Configurations from afar, on disk: which was tried, which is in force, and what became of each. Blocks.
//!
//! ```text
//! remote/revisions           one line for each step of each revision
//! remote/r12-3f9a0c1d/       the files of one revision, the latest five
//! ```
//!
//! A revision that is on trial when the agent ends is rolled back at the next start: in force is always exactly one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::log_file::{LogFile, read_lines, sync_directory};
use super::signature::digest;
use crate::config::{self, Config, ConfigError};
use crate::model::Timestamp;
use crate::settings::FileFault;

/// Revisions whose files are kept.
const KEPT: usize = 5;

/// Where a revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Being tried.
    Trial,
    /// It proved itself, and is in force until another one does.
    Confirmed,
    /// It did not prove itself, and is not tried again.
    RolledBack,
    /// It has faults, and was not tried.
    Refused,
}

/// Why a revision is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// File of the revision.
    pub file: String,
    /// Key in it; empty where it is about the whole.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl Reason {
    /// A reason about a file or key.
    pub fn new(file: &str, key: &str, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), key: key.to_owned(), reason: reason.into() }
    }
}

impl From<FileFault> for Reason {
    fn from(fault: FileFault) -> Self {
        let reason = match fault.line {
            Some(line) => format!("line {line}: {}", fault.reason),
            None => fault.reason,
        };
        Self { reason, key: fault.key, file: fault.file }
    }
}

/// One step of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Rises; 0 is the owner's own configuration.
    pub revision: u64,
    /// SHA-256 of the signed text; empty for the owner's own.
    pub digest: String,
    /// Who sent it.
    pub by: String,
    /// When.
    pub time: Timestamp,
    /// Where it stands.
    pub standing: Standing,
    /// Why it is not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

/// All that is known of them.
#[derive(Debug)]
pub struct Revisions {
    directory: PathBuf,
    /// Nothing where they are only looked at.
    file: Option<LogFile>,
    steps: Vec<Revision>,
}

impl Revisions {
    /// Opens what lies in `directory`, which is made if need be. A revision that was on trial is rolled back.
    ///
    /// # Errors
    /// It cannot be read or written; nobody knows what is in force.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, String> {
        let trouble = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(directory).map_err(trouble)?;
        let opened = LogFile::open(&directory.join("revisions"));
        let (file, steps) = opened.map_err(|error| error.to_string())?;
        let mut revisions = Self { directory: directory.to_owned(), file: Some(file), steps };
        if let Some(tried) = revisions.steps.last().filter(|step| step.standing == Standing::Trial).cloned() {
            let reasons = vec![Reason::new("", "", "the agent ended while it was tried")];
            revisions.note(Revision { standing: Standing::RolledBack, reasons, time: now, ..tried })?;
        }
        Ok(revisions)
    }

    /// What lies in `directory`, without changing anything: it may belong to an agent that runs.
    fn look(directory: &Path) -> Result<Self, String> {
        let steps = read_lines(&directory.join("revisions")).map_err(|error| error.to_string())?;
        Ok(Self { directory: directory.to_owned(), file: None, steps })
    }

    /// The configuration at `path` with the revision in force over it, and why that one could not be laid over it.
    ///
    /// # Errors
    /// The faults of the owner's own file.
    pub fn load(path: &Path) -> Result<(Config, Vec<String>), ConfigError> {
        let base = config::load(path)?;
        let directory = base.store.path.join("remote");
        if !directory.join("revisions").exists() {
            return Ok((base, Vec::new()));
        }
        let laid_over = Self::look(&directory).map_err(|trouble| vec![trouble]).and_then(|revisions| {
            let Some(step) = revisions.in_force() else { return Ok(base.clone()) };
            let gone = || vec![format!("the files of revision {} are gone", step.revision)];
            let files = revisions.files(step).ok_or_else(gone)?;
            let told = |error: ConfigError| error.faults.iter().map(ToString::to_string).collect::<Vec<_>>();
            config::lay_over(&base, &files).map_err(told)
        });
        Ok(laid_over.map_or_else(|troubles| (base, troubles), |config| (config, Vec::new())))
    }

    /// The remote revision in force for a gateway whose store is at `store`; 0 is the owner's own file. Changes nothing
    /// there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn in_force_at(store: &Path) -> Result<u64, String> {
        let directory = store.join("remote");
        if !directory.join("revisions").exists() {
            return Ok(0);
        }
        Ok(Self::look(&directory)?.revision())
    }

    /// The step by which the configuration in force was confirmed; nothing for the owner's own.
    pub fn in_force(&self) -> Option<&Revision> {
        let confirmed = self.steps.iter().rev().find(|step| step.standing == Standing::Confirmed);
        confirmed.filter(|step| step.revision > 0)
    }

    /// The revision in force; 0 is the owner's own configuration.
    pub fn revision(&self) -> u64 {
        self.in_force().map_or(0, |step| step.revision)
    }

    /// The highest revision ever seen.
    pub fn highest(&self) -> u64 {
        self.steps.iter().map(|step| step.revision).max().unwrap_or(0)
    }

    /// Where the revision with this digest stands, if it is known.
    pub fn standing(&self, digest: &str) -> Option<&Revision> {
        self.steps.iter().rev().find(|step| step.digest == digest)
    }

    /// The last step of each revision, oldest first.
    pub fn history(&self) -> Vec<Revision> {
        let mut last: BTreeMap<(u64, &str), &Revision> = BTreeMap::new();
        for step in &self.steps {
            last.insert((step.revision, &step.digest), step);
        }
        last.into_values().cloned().collect()
    }

    /// The step that was taken last.
    pub fn latest(&self) -> Option<&Revision> {
        self.steps.last()
    }

    /// Where the files of a revision are, while they are kept.
    pub fn files(&self, step: &Revision) -> Option<PathBuf> {
        let directory = self.directory.join(name(step));
        directory.is_dir().then_some(directory)
    }

    /// Puts the files of a revision on disk, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn stage(&self, step: &Revision, files: &BTreeMap<String, String>) -> Result<PathBuf, String> {
        let place = self.directory.join(name(step));
        let new = self.directory.join("staging");
        let write = || -> std::io::Result<()> {
            if new.exists() {
                fs::remove_dir_all(&new)?;
            }
            for (file, text) in files {
                let path = new.join(file);
                fs::create_dir_all(path.parent().unwrap_or(&new))?;
                let mut written = fs::File::create(&path)?;
                written.write_all(text.as_bytes())?;
                written.sync_all()?;
                sync_directory(&path)?;
            }
            fs::create_dir_all(&new)?;
            sync_directory(&new.join("x"))?;
            if place.exists() {
                fs::remove_dir_all(&place)?;
            }
            fs::rename(&new, &place)?;
            sync_directory(&place)
        };
        write().map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(place)
    }

    /// Remembers a step; durable when this returns. Files of old revisions go.
    ///
    /// # Errors
    /// It is not known to be durable.
    pub fn note(&mut self, step: Revision) -> Result<(), String> {
        let file = self.file.as_mut().ok_or("these revisions are only looked at")?;
        file.append(&step).map_err(|error| error.to_string())?;
        self.steps.push(step);
        self.forget_files();
        Ok(())
    }

    /// Keeps the files of the latest five, and of the one in force.
    fn forget_files(&self) {
        let in_force = self.in_force().map(name);
        let mut names: Vec<String> = self.history().iter().map(name).collect();
        names.reverse();
        for old in names.into_iter().skip(KEPT).filter(|old| Some(old) != in_force.as_ref()) {
            // Gone already, most of them.
            let _ = fs::remove_dir_all(self.directory.join(old));
        }
    }
}

fn name(step: &Revision) -> String {
    format!("r{}-{}", step.revision, step.digest.get(..8).unwrap_or_default())
}

/// SHA-256 of the signed text of a configuration.
pub fn digest_of(text: &str) -> String {
    digest(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(revision: u64, standing: Standing) -> Revision {
        Revision {
            revision,
            digest: digest_of(&revision.to_string()),
            by: "eve".to_owned(),
            time: Timestamp(1),
            standing,
            reasons: Vec::new(),
        }
    }

    #[test]
    fn one_on_trial_is_rolled_back_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let mut revisions = Revisions::open(directory.path(), Timestamp(1)).unwrap();
        revisions.note(step(3, Standing::Trial)).unwrap();
        revisions.note(step(3, Standing::Confirmed)).unwrap();
        revisions.note(step(4, Standing::Trial)).unwrap();
        drop(revisions);

        let revisions = Revisions::open(directory.path(), Timestamp(2)).unwrap();

        assert_eq!(revisions.in_force().unwrap().revision, 3);
        assert_eq!(revisions.standing(&digest_of("4")).unwrap().standing, Standing::RolledBack);
        assert_eq!((revisions.highest(), revisions.history().len()), (4, 2));
    }

    #[test]
    fn five_are_kept_and_the_one_in_force_however_old() {
        let directory = tempfile::tempdir().unwrap();
        let mut revisions = Revisions::open(directory.path(), Timestamp(1)).unwrap();
        let files = BTreeMap::from([
            ("configuration.toml".to_owned(), String::new()),
            ("rules/a.yml".to_owned(), "x".to_owned()),
        ]);
        for revision in 1..=9 {
            let standing = if revision == 1 { Standing::Confirmed } else { Standing::RolledBack };
            let place = revisions.stage(&step(revision, standing), &files).unwrap();
            assert_eq!(fs::read_to_string(place.join("rules/a.yml")).unwrap(), "x");
            revisions.note(step(revision, standing)).unwrap();
        }

        let kept: Vec<u64> =
            (1..=9).filter(|revision| revisions.files(&step(*revision, Standing::Trial)).is_some()).collect();
        assert_eq!(kept, [1, 5, 6, 7, 8, 9]);
    }
}
