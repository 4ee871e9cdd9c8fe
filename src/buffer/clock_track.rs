//! Which clock a row was taken with, although it is stored a moment later. Pure.
//!
//! A commit says one thing about its clock, which holds for all its rows. So a step of the clock, or its synchronisation,
//! ends the open commit; rows that were on their way meanwhile go with the clock that they were taken with, which is the
//! one that makes them youngest.

use std::time::Duration;

use super::commit::ClockReading;
use crate::model::{ClockState, Row, Timestamp};

/// Rows are this long on their way at most: the queues hold five seconds, and a write may take a minute.
const ON_THE_WAY: Duration = Duration::from_secs(120);

/// The clock of the open commit, and the one before the last change.
#[derive(Debug, Clone, Copy)]
pub struct ClockTrack {
    current: ClockReading,
    previous: Option<(ClockReading, Duration)>,
}

/// Rows with the clock that they were taken with.
#[derive(Debug, Default, PartialEq)]
pub struct Split {
    /// Those of the clock before the change.
    pub before: Vec<Row>,
    /// Those of the clock as it is.
    pub now: Vec<Row>,
}

impl ClockTrack {
    /// A change of the wall clock against the monotonic one by more than this, in milliseconds, is a step. Below it is the
    /// slewing of a time daemon (0.5 ms each second) and what lies between two looks at the clocks.
    pub const STEP_MS: i64 = 100;

    /// A track that begins with `current`.
    pub fn new(current: ClockReading) -> Self {
        Self { current, previous: None }
    }

    /// The clock that rows are taken with now.
    pub fn current(&self) -> ClockReading {
        self.current
    }

    /// The clock before the last change, as long as rows of it may be on their way.
    pub fn previous(&self) -> Option<ClockReading> {
        self.previous.map(|(reading, _)| reading)
    }

    /// Takes note of the clock at `monotonic` since boot. True when it was set or can be trusted otherwise than before,
    /// so that the open commit has to be closed with the [`previous`](Self::previous) clock.
    pub fn see(&mut self, now: ClockReading, monotonic: Duration) -> bool {
        if self.previous.is_some_and(|(_, changed)| monotonic.saturating_sub(changed) > ON_THE_WAY) {
            self.previous = None;
        }
        let step = now.wall_minus_monotonic_ms.saturating_sub(self.current.wall_minus_monotonic_ms);
        let has_changed = step.saturating_abs() > Self::STEP_MS || now.state != self.current.state;
        if has_changed {
            self.previous = Some((self.current, monotonic));
        }
        self.current = now;
        has_changed
    }

    /// The clock that a row of this time, handed over at `monotonic`, was taken with.
    pub fn taken_with(&self, time: Timestamp, monotonic: Duration) -> ClockReading {
        let Some((previous, changed)) = self.previous else { return self.current };
        let monotonic_ms = i64::try_from(monotonic.as_millis()).unwrap_or(i64::MAX);
        let age = |reading: ClockReading| {
            reading.wall_minus_monotonic_ms.saturating_add(monotonic_ms).saturating_sub(time.0).saturating_abs()
        };
        let step = self.current.wall_minus_monotonic_ms.saturating_sub(previous.wall_minus_monotonic_ms);
        let is_of_previous = if step.saturating_abs() > Self::STEP_MS {
            age(previous) < age(self.current)
        } else {
            // Only the trust changed: what was taken before says so, unless less is said now.
            let since = i64::try_from(monotonic.saturating_sub(changed).as_millis()).unwrap_or(i64::MAX);
            self.current.state != ClockState::Unsynchronised && age(self.current) > since
        };
        if is_of_previous { previous } else { self.current }
    }

    /// Parts `rows`, handed over at `monotonic`, by the clock that they were taken with.
    pub fn split(&self, rows: Vec<Row>, monotonic: Duration) -> Split {
        if self.previous.is_none() {
            return Split { before: Vec::new(), now: rows };
        }
        let is_of_previous = |row: &Row| self.taken_with(row.time, monotonic) != self.current;
        let (before, now) = rows.into_iter().partition(is_of_previous);
        Split { before, now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, Fault, SeriesId};

    fn reading(state: ClockState, wall_minus_monotonic_ms: i64) -> ClockReading {
        ClockReading { boot: BootId([1; 16]), state, wall_minus_monotonic_ms }
    }

    fn rows(times: &[i64]) -> Vec<Row> {
        times.iter().map(|time| Row::all_bad([SeriesId(1)].into(), Timestamp(*time), Fault::Timeout)).collect()
    }

    fn times(rows: &[Row]) -> Vec<i64> {
        rows.iter().map(|row| row.time.0).collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn rows_on_their_way_during_a_step_go_with_the_clock_they_were_taken_with() {
        for step in [3_600_000, -3_600_000, 1_000] {
            let mut track = ClockTrack::new(reading(ClockState::Unsynchronised, 0));
            assert!(!track.see(reading(ClockState::Unsynchronised, 3), at(99)));
            assert!(track.see(reading(ClockState::Synchronised, step), at(100)));

            let split = track.split(rows(&[99_900, 100_000 + step, 99_950, 100_050 + step]), at(100));

            assert_eq!(times(&split.before), [99_900, 99_950]);
            assert_eq!(times(&split.now), [100_000 + step, 100_050 + step]);
            assert!(!track.see(reading(ClockState::Synchronised, step), at(221)));
            assert_eq!(track.previous(), None);
        }
    }

    #[test]
    fn what_was_taken_before_the_clock_was_synchronised_says_so_though_it_was_not_set() {
        let mut track = ClockTrack::new(reading(ClockState::Unsynchronised, 0));
        assert!(track.see(reading(ClockState::Synchronised, 5), at(100)));
        let split = track.split(rows(&[99_990, 101_000]), at(101));
        assert_eq!((times(&split.before), times(&split.now)), (vec![99_990], vec![101_000]));

        assert!(track.see(reading(ClockState::Unsynchronised, 5), at(200)));
        assert_eq!(times(&track.split(rows(&[199_990, 200_000]), at(200)).now), [199_990, 200_000]);
    }

    #[test]
    fn slewing_is_no_step() {
        let mut track = ClockTrack::new(reading(ClockState::Synchronised, 0));
        assert!((1..1000).all(|second| !track.see(reading(ClockState::Synchronised, second / 2), at(second as u64))));
    }
}
