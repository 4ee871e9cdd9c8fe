//! How long a reading may wait to become durable. Pure.
//!
//! While a backlog is worked off, each save writes what came meanwhile and how far it is delivered: saving less often
//! then spares the card most.

use std::time::Duration;

use super::BufferSettings;

/// Less than this waiting to be delivered is no backlog: some minutes of a small plant.
const BACKLOG_BYTES: u64 = 256 << 10;

/// Saves in a row without a delivery between them, after which nothing is worked off any more.
const QUIET_SAVES: u32 = 4;

/// The interval in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    least: Duration,
    most: Duration,
    now: Duration,
    quiet: u32,
}

impl Pace {
    /// The interval of the settings.
    pub fn new(settings: &BufferSettings) -> Self {
        let least = settings.commit_interval;
        Self { least, most: settings.commit_interval_max.max(least), now: least, quiet: 0 }
    }

    /// The longest that a reading waits now.
    pub fn interval(&self) -> Duration {
        self.now
    }

    /// Takes note of a save, after which `pending_bytes` are still to be delivered, and whether anything was delivered
    /// since the one before: the interval doubles up to its most, or is at once what it was.
    pub fn saved(&mut self, pending_bytes: u64, delivered: bool) {
        self.quiet = if delivered { 0 } else { self.quiet.saturating_add(1) };
        if pending_bytes < BACKLOG_BYTES || self.quiet >= QUIET_SAVES {
            self.now = self.least;
        } else if delivered {
            self.now = (self.now * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(most: Duration) -> Pace {
        Pace { least: SECOND, most, now: SECOND, quiet: 0 }
    }

    #[test]
    fn the_interval_grows_while_a_backlog_is_worked_off_and_only_then() {
        let mut pace = pace(5 * SECOND);
        pace.saved(100, true);
        pace.saved(1 << 20, false);
        assert_eq!(pace.interval(), SECOND);
        (0..3).for_each(|_| pace.saved(1 << 20, true));
        assert_eq!(pace.interval(), 5 * SECOND);
        (0..3).for_each(|_| pace.saved(1 << 20, false));
        assert_eq!(pace.interval(), 5 * SECOND);
        pace.saved(1 << 20, false);
        assert_eq!(pace.interval(), SECOND);
        pace.saved(1 << 20, true);
        pace.saved(1000, true);
        assert_eq!(pace.interval(), SECOND);
    }

    #[test]
    fn without_a_most_of_its_own_the_interval_stays() {
        let mut pace = pace(SECOND);
        pace.saved(1 << 30, true);
        assert_eq!(pace.interval(), SECOND);
    }
}
