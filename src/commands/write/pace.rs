//! When each tag was written last: remembered in a file before the write goes out, so that a kill or a restart gives
//! nobody a second write within the interval of the owner. Blocks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Wish;
use super::guard::tag;
use crate::clock::Clock;
use crate::commands::log_file::LogFile;
use crate::model::{ClockState, Timestamp};

/// A tag that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// `press-1/setpoint_c`.
    pub tag: String,
    /// By the wall clock.
    time: Timestamp,
    /// The boot in which it was written.
    boot: String,
    /// Milliseconds since that boot.
    since_boot_ms: u64,
}

impl Written {
    /// Written now.
    pub fn now(wish: &Wish, clock: &dyn Clock) -> Self {
        let since_boot_ms = millis(clock.monotonic());
        Self { tag: tag(wish), time: clock.wall(), boot: clock.boot().to_string(), since_boot_ms }
    }

    /// How long ago it was, at least. After another boot the time since that boot has surely passed, and more only by a
    /// clock that is set.
    pub fn passed(&self, clock: &dyn Clock) -> Duration {
        let up = clock.monotonic();
        if self.boot == clock.boot().to_string() {
            return up.saturating_sub(Duration::from_millis(self.since_boot_ms));
        }
        match clock.state() {
            ClockState::Synchronised | ClockState::Local if clock.wall() > self.time => {
                up.max(clock.wall().since(self.time))
            }
            ClockState::Synchronised | ClockState::Local | ClockState::Unsynchronised => up,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The last write of every tag.
#[derive(Debug)]
pub struct Pace {
    path: PathBuf,
    all: Vec<Written>,
}

impl Pace {
    /// What is known of the time before.
    ///
    /// # Errors
    /// Nobody knows when which tag was written.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let path = directory.join("pace");
        if !path.exists() {
            return Ok(Self { path, all: Vec::new() });
        }
        let is_empty = std::fs::metadata(&path).is_ok_and(|file| file.len() == 0);
        let (_, lines) = LogFile::open::<Vec<Written>>(&path).map_err(|error| error.to_string())?;
        match lines.into_iter().next_back() {
            Some(all) => Ok(Self { path, all }),
            // Made, and ended before the first line came.
            None if is_empty => Ok(Self { path, all: Vec::new() }),
            // Its one line is put there whole or not at all, so it did not break off.
            None => Err(format!("{}: line 1 is damaged", path.display())),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Written] {
        &self.all
    }

    /// A tag is about to be written; durable when this returns. Only tags that `may_be_written` are kept.
    ///
    /// # Errors
    /// It is not remembered: the tag must not be written.
    pub fn note(&mut self, written: Written, may_be_written: impl Fn(&str) -> bool) -> Result<(), String> {
        let is_kept = |known: &&Written| known.tag != written.tag && may_be_written(&known.tag);
        let mut all: Vec<Written> = self.all.iter().filter(is_kept).cloned().collect();
        all.push(written);
        let stored = LogFile::open::<Vec<Written>>(&self.path).and_then(|(mut file, _)| file.rewrite([&all]));
        stored.map_err(|error| error.to_string())?;
        self.all = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;

    #[derive(Clone, Copy)]
    struct TestClock {
        wall_s: i64,
        boot: u8,
        up_s: u64,
        state: ClockState,
    }

    impl Clock for TestClock {
        fn wall(&self) -> Timestamp {
            Timestamp(self.wall_s * 1000)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.up_s)
        }

        fn state(&self) -> ClockState {
            self.state
        }

        fn boot(&self) -> BootId {
            BootId([self.boot; 16])
        }
    }

    const NOW: TestClock = TestClock { wall_s: 1_000_000, boot: 1, up_s: 500, state: ClockState::Synchronised };

    fn wish(point: &str) -> Wish {
        Wish { device: "a".to_owned(), point: point.to_owned(), value: 1.0, dry_run: false, span: None }
    }

    #[test]
    fn the_last_write_of_each_tag_is_known_after_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        let mut pace = Pace::open(directory.path()).unwrap();
        for (point, up_s) in [("x", 1), ("y", 2), ("x", 3), ("gone", 4)] {
            pace.note(Written::now(&wish(point), &TestClock { up_s, ..NOW }), |_| true).unwrap();
        }
        pace.note(Written::now(&wish("z"), &TestClock { up_s: 5, ..NOW }), |tag| tag != "a/gone").unwrap();

        let pace = Pace::open(directory.path()).unwrap();

        let known: Vec<(&str, u64)> =
            pace.all().iter().map(|written| (written.tag.as_str(), written.passed(&NOW).as_secs())).collect();
        assert_eq!(known, [("a/y", 498), ("a/x", 497), ("a/z", 495)]);
        std::fs::write(directory.path().join("pace"), "00000000 []\n").unwrap();
        assert!(Pace::open(directory.path()).unwrap_err().contains("line 1 is damaged"));
    }

    #[test]
    fn no_clock_that_is_set_makes_it_longer_ago_in_the_same_boot_and_none_that_is_not_set_after_another() {
        let written = Written::now(&wish("x"), &NOW);
        let passed = |clock: TestClock| written.passed(&clock).as_secs();

        assert_eq!(passed(TestClock { up_s: 510, wall_s: NOW.wall_s + 86_400, ..NOW }), 10);
        let booted = TestClock { boot: 2, up_s: 7, ..NOW };
        assert_eq!(passed(TestClock { wall_s: NOW.wall_s + 60, ..booted }), 60);
        assert_eq!(passed(TestClock { wall_s: NOW.wall_s - 60, ..booted }), 7);
        assert_eq!(passed(TestClock { wall_s: NOW.wall_s + 86_400, state: ClockState::Unsynchronised, ..booted }), 7);
    }
}
