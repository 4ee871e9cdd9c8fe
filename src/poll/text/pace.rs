//! When an instrument is asked next: aligned to the wall clock, less and less often while it does not answer. Pure.

use std::time::Duration;

use crate::model::Timestamp;

/// Failures in a row after which a device counts as silent and is only probed.
pub const FAILURES_TO_BACK_OFF: u32 = 3;

const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(1);
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since boot.
    pub monotonic: Duration,
    /// UTC.
    pub wall: Timestamp,
}

/// The schedule of one device. Due times are on the monotonic clock.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    due: Duration,
    failures: u32,
}

impl Pace {
    /// Due at the next multiple of `interval` on the wall clock; zero means at once and again without pause.
    pub fn new(interval: Duration, now: Moment) -> Self {
        let due = first_after(now, now.monotonic + interval, interval);
        Self { interval, due, failures: 0 }
    }

    /// When it is due next.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// True from the third failure in a row until an answer.
    pub fn is_backed_off(&self) -> bool {
        self.failures >= FAILURES_TO_BACK_OFF
    }

    /// True from the first failure until an answer.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The device answered.
    pub fn answered(&mut self) {
        self.failures = 0;
    }

    /// The device did not answer as it should.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Makes it due now.
    pub fn hurry(&mut self, now: Moment) {
        self.due = now.monotonic;
    }

    /// There is reason to believe that it answers again: due at the next multiple of the interval, if not earlier.
    pub fn resume(&mut self, now: Moment) {
        self.due = self.due.min(first_after(now, now.monotonic + self.interval, self.interval));
    }

    /// Sets the next due time after the one that was just served; returns how many were missed meanwhile.
    pub fn advance(&mut self, now: Moment) -> u64 {
        let planned = self.due + self.wait();
        self.due = first_after(now, planned, self.interval);
        let late = now.monotonic.saturating_sub(planned);
        let missed = late.as_nanos().checked_div(self.interval.as_nanos()).unwrap_or(0);
        u64::try_from(missed).unwrap_or(u64::MAX)
    }

    fn wait(&self) -> Duration {
        let doublings = match self.failures.checked_sub(FAILURES_TO_BACK_OFF) {
            None => return self.interval,
            Some(further) => further.min(16) + 1,
        };
        let wait = self.interval.saturating_mul(1 << doublings);
        wait.clamp(PROBE_INTERVAL_MIN * (1 << (doublings - 1).min(5)), PROBE_INTERVAL_MAX).max(self.interval)
    }
}

/// The multiple of `interval` on the wall clock that is nearest to `planned`, but not past.
///
/// Nearest, so that a clock that is being slewed pulls the schedule along without a poll too many or too few.
fn first_after(now: Moment, planned: Duration, interval: Duration) -> Duration {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    let planned = if planned <= now.monotonic { now.monotonic + interval } else { planned };
    if interval_ms == 0 {
        return planned;
    }
    let wall = now.wall.after(planned.saturating_sub(now.monotonic)).0;
    let past = wall.rem_euclid(interval_ms);
    let milliseconds = |count: i64| Duration::from_millis(count.unsigned_abs());
    if past > interval_ms / 2 {
        return planned + milliseconds(interval_ms - past);
    }
    let aligned = planned.saturating_sub(milliseconds(past));
    if aligned > now.monotonic { aligned } else { aligned + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(monotonic_ms: u64, wall_ms: i64) -> Moment {
        Moment { monotonic: Duration::from_millis(monotonic_ms), wall: Timestamp(wall_ms) }
    }

    /// Wall clock time at which `pace` is due, for a wall clock that is `offset_ms` ahead of the monotonic one.
    fn due_wall_ms(pace: &Pace, offset_ms: i64) -> i64 {
        i64::try_from(pace.due().as_millis()).unwrap() + offset_ms
    }

    #[test]
    fn polls_stand_on_multiples_of_the_interval() {
        let mut pace = Pace::new(SECOND, at(10_000, 77_300));
        assert_eq!(due_wall_ms(&pace, 67_300), 78_000);
        assert_eq!(pace.advance(at(10_750, 78_050)), 0);
        assert_eq!(due_wall_ms(&pace, 67_300), 79_000);
    }

    #[test]
    fn polls_that_were_missed_are_skipped_and_counted() {
        let mut pace = Pace::new(SECOND, at(0, 0));
        assert_eq!(pace.due(), SECOND);
        assert_eq!(pace.advance(at(4_300, 4_300)), 2, "those of 2 s and 3 s are gone; 4 s is the one that is late");
        assert_eq!(pace.due(), SECOND * 5);
    }

    #[test]
    fn after_a_step_of_the_wall_clock_the_phase_is_taken_again() {
        let mut pace = Pace::new(SECOND, at(0, 0));
        // The wall clock jumps ahead by an hour and 400 ms during the first poll.
        pace.advance(at(1_100, 1_100 + 3_600_400));
        assert_eq!(due_wall_ms(&pace, 3_600_400) % 1000, 0);
        assert!((Duration::from_millis(1_500)..=Duration::from_millis(2_500)).contains(&pace.due()));
    }

    #[test]
    fn a_timer_that_wakes_a_little_early_does_not_poll_twice() {
        let mut pace = Pace::new(SECOND, at(0, 0));
        pace.advance(at(999, 999));
        assert_eq!(pace.due(), SECOND * 2);
    }

    #[test]
    fn without_an_interval_it_is_due_at_once() {
        let mut pace = Pace::new(Duration::ZERO, at(5, 5));
        assert_eq!(pace.due(), Duration::from_millis(5));
        assert_eq!(pace.advance(at(9, 9)), 0);
        assert_eq!(pace.due(), Duration::from_millis(9));
    }

    #[test]
    fn the_third_failure_in_a_row_backs_off_and_probes_double_up_to_a_minute() {
        for (interval, expected) in [
            (Duration::from_millis(500), [500, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]),
            (Duration::ZERO, [0, 0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]),
            (SECOND * 90, [90_000; 10]),
        ] {
            let mut now = at(0, 0);
            let mut pace = Pace::new(interval, now);
            let waits = expected.map(|_| {
                now = at(pace.due().as_millis() as u64, pace.due().as_millis() as i64);
                pace.failed();
                pace.advance(now);
                (pace.due() - now.monotonic).as_millis() as u64
            });
            assert_eq!(waits, expected, "{interval:?}");
            pace.answered();
            assert!(!pace.is_backed_off() && !pace.is_failing());
        }
    }
}
