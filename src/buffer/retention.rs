//! How much may be kept. Pure.
//!
//! The engine's file holds garbage besides what is alive, and never shrinks. So what is alive is held well below the
//! limit for the directory, and further below when the directory is seen to grow all the same.

/// Share of the limit that may be alive at first, in percent: a store that is full and goes on was measured to take
/// 3.6 times the room.
const ALIVE_PERCENT: u64 = 25;

/// Share below which the aim is not lowered, in percent.
const ALIVE_PERCENT_LEAST: u64 = 8;

/// Share of the limit at which the directory counts as too large, in percent.
const DISK_PERCENT: u64 = 75;

/// How many bytes may be alive in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    alive: u64,
    disk_seen: u64,
}

impl Budget {
    /// A budget for a directory that may take `limit` bytes on disk.
    pub fn new(limit: u64) -> Self {
        Self { limit, alive: limit / 100 * ALIVE_PERCENT, disk_seen: 0 }
    }

    /// Takes note that the directory takes `disk` bytes: lowers the budget when that is more than was seen before and
    /// near the limit.
    pub fn see_disk(&mut self, disk: u64) {
        if disk > self.disk_seen && disk > self.limit / 100 * DISK_PERCENT {
            self.alive = (self.alive - self.alive / 10).max(self.limit / 100 * ALIVE_PERCENT_LEAST);
        }
        self.disk_seen = disk;
    }

    /// Bytes that may be alive.
    pub fn alive(&self) -> u64 {
        self.alive
    }

    /// Bytes to free before `incoming` bytes join `alive` ones; zero while they fit. More than needed at once, so that
    /// removing is rare and one gap record speaks for many commits.
    pub fn excess(&self, alive: u64, incoming: u64) -> u64 {
        let wanted = alive + incoming;
        if wanted <= self.alive { 0 } else { wanted - self.alive + self.alive / 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_freed_while_everything_fits_and_some_more_when_not() {
        let budget = Budget::new(1000);
        assert_eq!(budget.excess(150, 100), 0);
        assert_eq!(budget.excess(150, 101), 1 + 7);
    }

    #[test]
    fn a_directory_that_grows_towards_the_limit_lowers_the_budget_and_never_to_nothing() {
        let mut budget = Budget::new(1000);
        budget.see_disk(750);
        assert_eq!(budget.alive(), 250);
        budget.see_disk(900);
        assert_eq!(budget.alive(), 225);
        budget.see_disk(900);
        assert_eq!(budget.alive(), 225);
        (901..2000).for_each(|disk| budget.see_disk(disk));
        assert_eq!(budget.alive(), 80);
    }
}
