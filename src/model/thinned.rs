//! What is left of readings that no longer fit: a few numbers for each series and window of time.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{Sequence, SeriesId};
use super::time::Timestamp;

/// How much time one aggregate stands for. Readings go through both, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// One minute.
    Minute,
    /// Ten minutes.
    TenMinutes,
}

impl Window {
    /// How long it is.
    pub fn length(self) -> Duration {
        Duration::from_secs(self.seconds().into())
    }

    /// How long it is, in seconds: the number on the wire.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::TenMinutes => 600,
        }
    }

    /// The window of this many seconds, if there is one.
    pub fn from_seconds(seconds: u32) -> Option<Self> {
        [Self::Minute, Self::TenMinutes].into_iter().find(|window| window.seconds() == seconds)
    }

    /// The beginning of the window that `time` falls into; windows are aligned to UTC.
    pub fn start(self, time: Timestamp) -> Timestamp {
        let length_ms = i64::from(self.seconds()) * 1000;
        Timestamp(time.0.saturating_sub(time.0.rem_euclid(length_ms)))
    }
}

/// Aggregates in the place of commits that were removed undelivered because the store was full.
///
/// A receiver that has the replaced records keeps those; for one that has not, these are all there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Thinned {
    /// Time that one aggregate stands for.
    pub window: Window,
    /// The commits that are gone, lowest first. Ranges neither overlap nor touch.
    pub replaces: Vec<Replaced>,
    /// In order of series and time. Where a window was cut its readings are spread over two neighbouring records; they
    /// add up.
    pub aggregates: Vec<Aggregate>,
}

/// A run of commits of the telemetry lane that thinned records stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// First commit.
    pub first: Sequence,
    /// Last commit.
    pub last: Sequence,
    /// Readings that were in them.
    pub readings: u64,
}

/// The readings of one series in one window of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which series.
    pub series: SeriesId,
    /// Beginning of the window.
    pub start: Timestamp,
    /// Readings with a value, good or uncertain.
    pub count: u32,
    /// Readings without one.
    pub bad: u32,
    /// Time of the newest reading with a value; `start` when there is none.
    pub last_time: Timestamp,
    /// What the values come to.
    pub summary: Summary,
}

/// What the values of one window come to, before scale and offset.
#[derive(Debug, Clone, PartialEq)]
pub enum Summary {
    /// No reading had a value.
    Nothing,
    /// Numbers; bits count as 0 and 1.
    Numbers {
        /// Lowest.
        min: f64,
        /// Highest.
        max: f64,
        /// Arithmetic mean, exact to one part in 2^32 of `max - min`.
        mean: f64,
        /// Newest.
        last: f64,
    },
    /// Text has nothing but its newest value.
    Text(Arc<str>),
}

/// Parts that the place of a mean between minimum and maximum is counted in.
const MEAN_PARTS: f64 = u32::MAX as f64;

impl Summary {
    /// Numbers with a mean as exact as it is kept. `min` must not be above `max`; all must be finite.
    pub fn numbers(min: f64, max: f64, mean: f64, last: f64) -> Self {
        Self::with_mean_at(mean_place(min, max, mean), min, max, last)
    }

    /// Numbers whose mean lies at `place` between `min` and `max`, as [`mean_place`] counts it.
    pub fn with_mean_at(place: u32, min: f64, max: f64, last: f64) -> Self {
        let part = f64::from(place) / MEAN_PARTS;
        let mean = min * (1.0 - part) + max * part;
        let mean = if mean < min { min } else { mean };
        Self::Numbers { min, max, mean: if mean > max { max } else { mean }, last }
    }
}

/// Where `mean` lies between `min`, 0, and `max`, 2^32 - 1.
pub fn mean_place(min: f64, max: f64, mean: f64) -> u32 {
    // Halves, because the range of two doubles may be more than a double holds.
    let place = (mean / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0);
    if place.is_finite() { (place.clamp(0.0, 1.0) * MEAN_PARTS).round() as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_utc_also_before_1970() {
        assert_eq!(Window::Minute.start(Timestamp(119_999)), Timestamp(60_000));
        assert_eq!(Window::TenMinutes.start(Timestamp(-1)), Timestamp(-600_000));
        assert_eq!(Window::from_seconds(600), Some(Window::TenMinutes));
        assert_eq!(Window::from_seconds(0), None);
    }

    #[test]
    fn a_mean_is_exact_to_a_small_part_of_its_range_and_stays_what_it_is() {
        let Summary::Numbers { mean, .. } = Summary::numbers(229.5, 231.25, 230.123_456_789, 230.0) else { panic!() };
        assert!((mean - 230.123_456_789).abs() < 1.75 / 4e9, "{mean}");
        let again = Summary::with_mean_at(mean_place(229.5, 231.25, mean), 229.5, 231.25, 230.0);
        assert_eq!(again, Summary::Numbers { min: 229.5, max: 231.25, mean, last: 230.0 });
        let level = Summary::numbers(5.0, 5.0, 5.0, 5.0);
        assert_eq!(level, Summary::Numbers { min: 5.0, max: 5.0, mean: 5.0, last: 5.0 });
    }
}
