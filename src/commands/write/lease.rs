//! Values that return to a safe one: remembered in a file, so that they return after a restart as well. Blocks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Wish;
use crate::clock::Clock;
use crate::commands::log_file::LogFile;
use crate::model::{ClockState, Timestamp};

/// A value that does not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// Name of the device.
    pub device: String,
    /// Name of its point.
    pub point: String,
    /// When it returns to the safe one.
    pub until: Timestamp,
    /// The boot in which it was set.
    #[serde(default)]
    pub boot: String,
    /// When it returns, in milliseconds since that boot: a clock that is set makes no lease longer.
    #[serde(default)]
    pub until_since_boot_ms: u64,
    /// Set from afar: it returns as well when the broker is away.
    #[serde(default)]
    pub from_afar: bool,
}

impl Leased {
    /// A value that returns after `span` from now on.
    pub fn new(wish: &Wish, span: Duration, from_afar: bool, clock: &dyn Clock) -> Self {
        Self {
            device: wish.device.clone(),
            point: wish.point.clone(),
            from_afar,
            until: clock.wall().after(span),
            boot: clock.boot().to_string(),
            until_since_boot_ms: millis(clock.monotonic() + span),
        }
    }

    /// Whether it has to return now. After another boot only a clock that is set can tell that it need not yet.
    pub fn is_over(&self, clock: &dyn Clock) -> bool {
        match self.boot == clock.boot().to_string() {
            true => millis(clock.monotonic()) >= self.until_since_boot_ms,
            false => clock.wall() >= self.until || clock.state() == ClockState::Unsynchronised,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
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
        let is_empty = std::fs::metadata(&path).is_ok_and(|file| file.len() == 0);
        let (_, lines) = LogFile::open::<Vec<Leased>>(&path).map_err(|error| error.to_string())?;
        match lines.into_iter().next_back() {
            Some(all) => Ok(Self { path, all }),
            // Made, and ended before the first line came.
            None if is_empty => Ok(Self { path, all: Vec::new() }),
            // Its one line is put there whole or not at all, so it did not break off.
            None => Err(format!("{}: line 1 is damaged", path.display())),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Leased] {
        &self.all
    }

    /// When a value returns, if it does.
    pub fn of(&self, device: &str, point: &str) -> Option<&Leased> {
        self.all.iter().find(|leased| leased.device == device && leased.point == point)
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

    fn wish(point: &str) -> Wish {
        Wish { device: "a".to_owned(), point: point.to_owned(), value: 1.0, dry_run: false, span: None }
    }

    const NOW: TestClock = TestClock { wall_s: 1_000_000, boot: 1, up_s: 50, state: ClockState::Synchronised };

    #[test]
    fn what_is_leased_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let leased = |point: &str, span| Leased::new(&wish(point), Duration::from_secs(span), true, &NOW);
        let mut leases = Leases::open(directory.path()).unwrap();
        leases.begin(leased("x", 5)).unwrap();
        leases.begin(leased("y", 6)).unwrap();
        leases.begin(leased("x", 7)).unwrap();

        let mut leases = Leases::open(directory.path()).unwrap();
        assert_eq!(leases.all(), [leased("y", 6), leased("x", 7)]);
        leases.end("a", "x").unwrap();

        assert_eq!(Leases::open(directory.path()).unwrap().all(), [leased("y", 6)]);
    }

    #[test]
    fn no_clock_that_is_set_and_no_boot_makes_a_lease_longer() {
        let leased = Leased::new(&wish("x"), Duration::from_secs(60), true, &NOW);
        let is_over = |clock: TestClock| leased.is_over(&clock);

        assert!(!is_over(TestClock { up_s: 109, ..NOW }));
        assert!(is_over(TestClock { up_s: 110, ..NOW }));
        // Set back by an hour, and by ten years in the same boot.
        assert!(is_over(TestClock { up_s: 110, wall_s: NOW.wall_s - 3600, ..NOW }));
        assert!(!is_over(TestClock { up_s: 55, wall_s: NOW.wall_s + 315_360_000, ..NOW }));
        // After another boot the wall clock decides, when it is set; else it is over.
        let booted = TestClock { boot: 2, up_s: 3, ..NOW };
        assert!(!is_over(TestClock { wall_s: NOW.wall_s + 59, ..booted }));
        assert!(is_over(TestClock { wall_s: NOW.wall_s + 60, ..booted }));
        assert!(is_over(TestClock { wall_s: 0, state: ClockState::Unsynchronised, ..booted }));
    }
}
