//! By how much the times of a boot were wrong, once it is known.

use serde::{Deserialize, Serialize};

use super::ids::BootId;
use super::reading::Row;
use super::record::CommitHeader;
use super::time::{ClockState, Timestamp};

/// A record: the wall clock was set right. It corrects the times of the same boot that were taken before, with an
/// unsynchronised clock; those records stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// The boot whose times it corrects.
    pub boot: BootId,
    /// How far the machine had run when the clock was right, in milliseconds since it booted.
    pub monotonic_ms: i64,
    /// Right time minus time since boot, in milliseconds.
    pub wall_minus_monotonic_ms: i64,
}

impl ClockOffset {
    /// When the clock was right, in right time.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.monotonic_ms.saturating_add(self.wall_minus_monotonic_ms))
    }
}

/// What is known of the clocks of boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockOffsets(Vec<ClockOffset>);

impl ClockOffsets {
    /// Takes up `offset`; nothing happens when it is known.
    pub fn note(&mut self, offset: ClockOffset) {
        if !self.0.contains(&offset) {
            self.0.push(offset);
        }
    }

    /// Forgets all but the newest `count`.
    pub fn keep_newest(&mut self, count: usize) {
        self.0.drain(..self.0.len().saturating_sub(count));
    }

    /// What has to be added to a time of a commit, in milliseconds; nothing where the clock was right, or where it is not
    /// known how wrong it was.
    pub fn correction_ms(&self, header: &CommitHeader, time: Timestamp) -> Option<i64> {
        if header.clock != ClockState::Unsynchronised {
            return None;
        }
        // A clock that loses its source and finds it again is set more than once: the next time counts.
        let taken_ms = time.0.saturating_sub(header.wall_minus_monotonic_ms);
        let later = self.0.iter().filter(|offset| offset.boot == header.boot && offset.monotonic_ms >= taken_ms);
        let next = later.min_by_key(|offset| offset.monotonic_ms)?;
        Some(next.wall_minus_monotonic_ms.saturating_sub(header.wall_minus_monotonic_ms))
    }

    /// The time as it would have been with a clock that was right, as far as that is known.
    pub fn correct(&self, header: &CommitHeader, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.correction_ms(header, time).unwrap_or(0)))
    }

    /// The row at the time it would have had with a clock that was right, as far as that is known.
    pub fn corrected(&self, header: &CommitHeader, mut row: Row) -> Row {
        row.time = self.correct(header, row.time);
        row
    }

    /// All of them, in the order they became known.
    pub fn iter(&self) -> impl Iterator<Item = &ClockOffset> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Sequence};

    fn header(boot: u8, clock: ClockState, wall_minus_monotonic_ms: i64) -> CommitHeader {
        let (epoch, sequence, boot) = (Epoch([0; 16]), Sequence(1), BootId([boot; 16]));
        CommitHeader { epoch, sequence, boot, clock, wall_minus_monotonic_ms }
    }

    #[test]
    fn an_offset_corrects_what_was_taken_before_it_in_its_boot_with_a_clock_that_was_not_right() {
        let mut offsets = ClockOffsets::default();
        // Booted at 1,000,000 in right time, with a clock that began at 5.
        for (boot, monotonic_ms, wall) in [(1, 60_000, 1_000_000), (1, 90_000, 1_000_200), (2, 10, 7)] {
            offsets.note(ClockOffset { boot: BootId([boot; 16]), monotonic_ms, wall_minus_monotonic_ms: wall });
        }

        let unsynchronised = header(1, ClockState::Unsynchronised, 5);
        assert_eq!(offsets.correct(&unsynchronised, Timestamp(30_005)), Timestamp(1_030_000));
        assert_eq!(offsets.correct(&unsynchronised, Timestamp(60_005)), Timestamp(1_060_000));
        assert_eq!(offsets.correct(&unsynchronised, Timestamp(60_006)), Timestamp(1_060_201));
        assert_eq!(offsets.correction_ms(&unsynchronised, Timestamp(90_006)), None);
        assert_eq!(offsets.correction_ms(&header(1, ClockState::Synchronised, 5), Timestamp(30_005)), None);
        assert_eq!(offsets.correction_ms(&header(3, ClockState::Unsynchronised, 5), Timestamp(30_005)), None);
    }
}
