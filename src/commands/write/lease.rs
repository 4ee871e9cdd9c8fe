//! Values that return to a safe one: remembered in a file, so that they return after a restart as well. Blocks.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::commands::log_file::LogFile;
use crate::model::Timestamp;

/// A value that does not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// Name of the device.
    pub device: String,
    /// Name of its point.
    pub point: String,
    /// When it returns to the safe one.
    pub until: Timestamp,
}

/// All values that do not stay.
#[derive(Debug)]
pub struct Leases {
    path: PathBuf,
    all: Vec<Leased>,
}

impl Leases {
    /// Those that were running when the agent ended.
    ///
    /// # Errors
    /// Nobody knows which those were.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let path = directory.join("leases");
        if !path.exists() {
            return Ok(Self { path, all: Vec::new() });
        }
        let (_, lines) = LogFile::open::<Vec<Leased>>(&path).map_err(|error| error.to_string())?;
        Ok(Self { path, all: lines.into_iter().next_back().unwrap_or_default() })
    }

    /// All of them.
    pub fn all(&self) -> &[Leased] {
        &self.all
    }

    /// When a value returns, if it does.
    pub fn until(&self, device: &str, point: &str) -> Option<Timestamp> {
        let found = self.all.iter().find(|leased| leased.device == device && leased.point == point);
        found.map(|leased| leased.until)
    }

    /// From now on the value returns at `until`; durable when this returns.
    ///
    /// # Errors
    /// It is not remembered: the value must not be written.
    pub fn begin(&mut self, leased: Leased) -> Result<(), String> {
        let mut all = self.without(&leased.device, &leased.point);
        all.push(leased);
        self.store(all)
    }

    /// The value has returned, or stays.
    ///
    /// # Errors
    /// After a restart it would return again, which does no harm.
    pub fn end(&mut self, device: &str, point: &str) -> Result<(), String> {
        let all = self.without(device, point);
        if all.len() == self.all.len() { Ok(()) } else { self.store(all) }
    }

    fn without(&self, device: &str, point: &str) -> Vec<Leased> {
        self.all.iter().filter(|leased| leased.device != device || leased.point != point).cloned().collect()
    }

    fn store(&mut self, all: Vec<Leased>) -> Result<(), String> {
        let stored = LogFile::open::<Vec<Leased>>(&self.path).and_then(|(mut file, _)| file.rewrite([&all]));
        stored.map_err(|error| error.to_string())?;
        self.all = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_leased_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let leased =
            |point: &str, until| Leased { device: "a".to_owned(), point: point.to_owned(), until: Timestamp(until) };
        let mut leases = Leases::open(directory.path()).unwrap();
        leases.begin(leased("x", 5)).unwrap();
        leases.begin(leased("y", 6)).unwrap();
        leases.begin(leased("x", 7)).unwrap();

        let mut leases = Leases::open(directory.path()).unwrap();
        assert_eq!(leases.all(), [leased("y", 6), leased("x", 7)]);
        leases.end("a", "x").unwrap();

        assert_eq!(Leases::open(directory.path()).unwrap().all(), [leased("y", 6)]);
    }
}
