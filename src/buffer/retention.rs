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
    /// The most of the limit that is written in one batch, as a divisor.
    batch: u64,
}

/// Bytes of commits in one batch, at most: what one save holds in memory twice.
const BATCH_MOST: u64 = 1 << 20;

/// Share of the limit, in percent, above which files that only grow are written anew. With a copy, which takes at most
/// four times what is alive, and what comes meanwhile, the directory stays within the limit.
const COPY_PERCENT: u64 = 50;

/// How much the files grow, as a share of the limit in percent, before they are written anew once more.
const GROWTH_PERCENT: u64 = 10;

/// How far below the limit a copy is given up: what an engine writes at once.
const COPY_MARGIN: u64 = 1 << 20;

/// How often what is alive fits into its copy.
const COPY_FACTOR: u64 = 4;

impl Shares {
    fn of(engine: EngineKind) -> Self {
        match engine {
            // Its files only grow and are written anew: freshly written they were measured to take 2.4 to 4.0 times what is
            // alive, a batch three times its bytes.
            EngineKind::Sled => Self { passing: 0, alive: 10, disk: 96, batch: 128 },
            // Garbage is a third of what is alive at most, and two segments; a save is a mebibyte.
            EngineKind::Segments => Self { passing: 5 << 18, alive: 55, disk: 90, batch: 1 },
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
    batch_bytes: u64,
    /// What the directory took when its files were last written anew, or when that was tried.
    copied_at: u64,
}

impl Budget {
    /// A budget for a directory that may take `limit` bytes on disk, kept by `engine`.
    pub fn new(limit: u64, engine: EngineKind) -> Self {
        let Shares { passing, alive, disk, batch } = Shares::of(engine);
        let alive = limit.saturating_sub(passing) / 100 * alive;
        let batch_bytes = (limit / batch).min(BATCH_MOST);
        Self { limit, room: limit, alive, disk_seen: 0, disk_percent: disk, batch_bytes, copied_at: 0 }
    }

    /// Takes note of the disk: lowers the budget when the directory takes more than was seen before and comes near the
    /// limit. When the disk has less room than that, the directory grows only as long as the reserve is left.
    pub fn see_disk(&mut self, disk: Disk) {
        if disk.used > self.disk_seen && disk.used > self.limit / 100 * self.disk_percent {
            self.lower();
        }
        self.disk_seen = disk.used;
        self.room = self.limit.min(disk.used + disk.free.saturating_sub(disk.reserve()));
    }

    /// Less may be alive from now on.
    pub fn lower(&mut self) {
        let least = self.alive.min(self.limit / 100 * ALIVE_PERCENT_LEAST);
        self.alive = (self.alive - self.alive / 10).max(least);
    }

    /// Most bytes of commits in one batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes as usize
    }

    /// Whether files that only grow are to be written anew: they take much of the limit, have grown since they last were,
    /// and the disk has room for a copy of the `alive` bytes. What is above the budget goes before.
    pub fn wants_copy(&self, disk: Disk, alive: u64) -> bool {
        let is_large = disk.used > self.limit / 100 * COPY_PERCENT;
        let has_grown = disk.used > self.copied_at + self.limit / 100 * GROWTH_PERCENT;
        let is_settled = alive <= self.alive() + self.alive() / 10;
        let has_room = disk.free.saturating_sub(disk.reserve()) > COPY_FACTOR * alive;
        is_large && has_grown && is_settled && has_room
    }

    /// What the directory may take with the copy. One that is above its limit, because that was lowered, gets there only
    /// by a copy.
    pub fn copy_most(&self) -> u64 {
        let most = self.limit.saturating_sub(COPY_MARGIN);
        if self.disk_seen > most { u64::MAX } else { most }
    }

    /// Takes note that the files were written anew, or that it was tried; the directory takes `disk` bytes.
    pub fn note_copy(&mut self, disk: u64) {
        self.copied_at = disk;
        self.disk_seen = disk;
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
        let budget = Budget::new(2000, EngineKind::Sled);
        assert_eq!(budget.excess(100, 100), 0);
        assert_eq!(budget.excess(100, 101), 1 + 6);
    }

    #[test]
    fn a_directory_that_grows_towards_the_limit_lowers_the_budget_and_never_to_nothing() {
        let mut budget = Budget::new(1000, EngineKind::Sled);
        budget.see_disk(used(960));
        assert_eq!(budget.alive(), 100);
        budget.see_disk(used(970));
        assert_eq!(budget.alive(), 90);
        budget.see_disk(used(970));
        assert_eq!(budget.alive(), 90);
        (971..2000).for_each(|disk| budget.see_disk(used(disk)));
        assert_eq!(budget.alive(), 80);
    }

    #[test]
    fn a_disk_that_others_fill_leaves_less_room_and_gives_it_back() {
        let mut budget = Budget::new(100_000, EngineKind::Sled);
        let disk = |free, used| Disk { total: 1_000_000, free, used };
        budget.see_disk(disk(500_000, 10_000));
        assert_eq!((budget.room(), budget.alive()), (100_000, 10_000));
        budget.see_disk(disk(50_500, 10_000));
        assert_eq!((budget.room(), budget.alive()), (10_500, 6_300), "a twentieth is left to others");
        budget.see_disk(disk(0, 10_000));
        assert_eq!((budget.room(), budget.alive()), (10_000, 6_000), "what is there stays");
        budget.see_disk(disk(500_000, 10_000));
        assert_eq!(budget.alive(), 10_000);
    }

    #[test]
    fn files_are_written_anew_when_they_are_large_and_again_when_they_have_grown() {
        let mut budget = Budget::new(1000, EngineKind::Sled);
        assert!(!budget.wants_copy(used(500), 100), "they are not large");
        assert!(!budget.wants_copy(used(600), 111), "more is alive than may be, and goes first");
        let full = Disk { total: PLENTY, free: (64 << 20) + 399, used: 600 };
        assert!(!budget.wants_copy(full, 100), "there is no room for a copy");
        assert!(budget.wants_copy(used(600), 100));
        budget.note_copy(580);
        assert!(!budget.wants_copy(used(600), 100) && budget.wants_copy(used(700), 100));
    }

    #[test]
    fn the_least_that_sled_may_be_given_leaves_what_the_log_of_segments_has_of_its_own_least() {
        let alive = |kind: EngineKind| Budget::new(kind.limit_least(), kind).alive() >> 10;
        assert_eq!(EngineKind::ALL.map(alive), [1638, 1548]);
    }

    #[test]
    fn the_log_of_segments_uses_half_of_a_large_directory() {
        assert_eq!(Budget::new(512 << 20, EngineKind::Segments).alive() >> 20, 280);
    }
}
