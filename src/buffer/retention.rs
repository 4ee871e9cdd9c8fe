//! How much may be kept. Pure.
//!
//! The files of an engine hold garbage besides what is alive. So what is alive is held below the limit for the
//! directory, and further below when the directory is seen to grow all the same.

use crate::database::EngineKind;

/// Share of the room that may be alive, in percent, when the disk has less room than the limit.
const ALIVE_OF_ROOM_PERCENT: u64 = 60;

/// Share below which the aim is not lowered, in percent.
const ALIVE_PERCENT_LEAST: u64 = 8;

/// What an engine makes of the room it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    /// Bytes that come and go while one save is written and tidied up after.
    passing: u64,
    /// Share of the rest that may be alive at first, in percent.
    alive: u64,
    /// Share of the limit at which the directory counts as too large, in percent.
    disk: u64,
}

impl Shares {
    fn of(engine: EngineKind) -> Self {
        match engine {
            // Its file never shrinks: a store that is full and goes on was measured to take 3.6 to 4.1 times the room.
            EngineKind::Sled => Self { passing: 0, alive: 20, disk: 60 },
            // Garbage is a third of what is alive at most, and two segments; a save is a mebibyte.
            EngineKind::Segments => Self { passing: 5 << 18, alive: 55, disk: 90 },
        }
    }
}

/// Share of the disk that is left to others, in percent, but at most so many bytes.
const RESERVE_PERCENT: u64 = 5;
const RESERVE_MOST: u64 = 64 << 20;

/// What the disk holds and what of it the directory takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// Size of the disk.
    pub total: u64,
    /// Free for this process.
    pub free: u64,
    /// Taken by the directory.
    pub used: u64,
}

impl Disk {
    /// What is left to others.
    fn reserve(&self) -> u64 {
        (self.total / 100 * RESERVE_PERCENT).min(RESERVE_MOST)
    }
}

/// How many bytes may be alive in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    /// The limit, or what the disk has room for.
    room: u64,
    alive: u64,
    disk_seen: u64,
    disk_percent: u64,
}

impl Budget {
    /// A budget for a directory that may take `limit` bytes on disk, kept by `engine`.
    pub fn new(limit: u64, engine: EngineKind) -> Self {
        let Shares { passing, alive, disk } = Shares::of(engine);
        let alive = limit.saturating_sub(passing) / 100 * alive;
        Self { limit, room: limit, alive, disk_seen: 0, disk_percent: disk }
    }

    /// Takes note of the disk: lowers the budget when the directory takes more than was seen before and comes near the
    /// limit. When the disk has less room than that, the directory grows only as long as the reserve is left.
    pub fn see_disk(&mut self, disk: Disk) {
        if disk.used > self.disk_seen && disk.used > self.limit / 100 * self.disk_percent {
            self.alive = (self.alive - self.alive / 10).max(self.limit / 100 * ALIVE_PERCENT_LEAST);
        }
        self.disk_seen = disk.used;
        self.room = self.limit.min(disk.used + disk.free.saturating_sub(disk.reserve()));
    }

    /// The most that the directory may take now: the limit, or what the disk has room for.
    pub fn room(&self) -> u64 {
        self.room
    }

    /// Bytes that may be alive.
    pub fn alive(&self) -> u64 {
        self.alive.min(self.room / 100 * ALIVE_OF_ROOM_PERCENT)
    }

    /// Bytes to free before `incoming` bytes join `alive` ones; zero while they fit. More than needed at once, so that
    /// removing is rare and one gap record speaks for many commits.
    pub fn excess(&self, alive: u64, incoming: u64) -> u64 {
        let (wanted, most) = (alive + incoming, self.alive());
        if wanted <= most { 0 } else { wanted - most + most / 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: u64 = 1 << 40;

    fn used(used: u64) -> Disk {
        Disk { total: PLENTY, free: PLENTY, used }
    }

    #[test]
    fn nothing_is_freed_while_everything_fits_and_some_more_when_not() {
        let budget = Budget::new(1000, EngineKind::Sled);
        assert_eq!(budget.excess(100, 100), 0);
        assert_eq!(budget.excess(100, 101), 1 + 6);
    }

    #[test]
    fn a_directory_that_grows_towards_the_limit_lowers_the_budget_and_never_to_nothing() {
        let mut budget = Budget::new(1000, EngineKind::Sled);
        budget.see_disk(used(600));
        assert_eq!(budget.alive(), 200);
        budget.see_disk(used(900));
        assert_eq!(budget.alive(), 180);
        budget.see_disk(used(900));
        assert_eq!(budget.alive(), 180);
        (901..2000).for_each(|disk| budget.see_disk(used(disk)));
        assert_eq!(budget.alive(), 80);
    }

    #[test]
    fn a_disk_that_others_fill_leaves_less_room_and_gives_it_back() {
        let mut budget = Budget::new(100_000, EngineKind::Sled);
        let disk = |free, used| Disk { total: 1_000_000, free, used };
        budget.see_disk(disk(500_000, 30_000));
        assert_eq!((budget.room(), budget.alive()), (100_000, 20_000));
        budget.see_disk(disk(50_500, 30_000));
        assert_eq!((budget.room(), budget.alive()), (30_500, 18_300), "a twentieth is left to others");
        budget.see_disk(disk(0, 30_000));
        assert_eq!((budget.room(), budget.alive()), (30_000, 18_000), "what is there stays");
        budget.see_disk(disk(500_000, 30_000));
        assert_eq!(budget.alive(), 20_000);
    }

    #[test]
    fn the_log_of_segments_uses_half_of_a_large_directory() {
        assert_eq!(Budget::new(512 << 20, EngineKind::Segments).alive() >> 20, 280);
        assert_eq!(Budget::new(4 << 20, EngineKind::Segments).alive() >> 10, 1548);
    }
}
