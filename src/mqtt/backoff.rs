//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Ceiling of the first wait.
const FIRST: Duration = Duration::from_secs(1);
/// Ceiling of every wait from the seventh failure on.
const LONGEST: Duration = Duration::from_secs(60);
/// A wait drawn close to zero must not become a busy loop.
const SHORTEST: Duration = Duration::from_millis(100);
/// A connection that held this long was a good one: the next loss starts again with a short wait.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// Exponential back-off with full jitter: the wait is drawn between zero and a ceiling that doubles from one second
/// to one minute. The jitter keeps a thousand gateways from coming back in the same second after a broker restart.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `draw` is random, 0 to 1.
    pub fn after_failure(&mut self, draw: f64) -> Duration {
        let ceiling = FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1).min(31);
        ceiling.mul_f64(draw.clamp(0.0, 1.0)).max(SHORTEST)
    }

    /// The connection lasted `span`: long enough, and the failures before it are forgiven. A broker that accepts
    /// and then throws us out again keeps its long waits.
    pub fn connection_lasted(&mut self, span: Duration) {
        if span >= GOOD_CONNECTION {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_one_minute() {
        let mut backoff = Backoff::default();

        let ceilings: Vec<u64> = (0..9).map(|_| backoff.after_failure(1.0).as_secs()).collect();

        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn the_wait_is_drawn_from_the_whole_span_but_never_nothing() {
        let mut backoff = Backoff { failures: 3 };

        assert_eq!(backoff.after_failure(0.5), Duration::from_secs(4));
        assert_eq!(backoff.after_failure(0.0), SHORTEST);
    }

    #[test]
    fn only_a_connection_that_held_forgives_failures() {
        let mut backoff = Backoff { failures: 10 };

        backoff.connection_lasted(Duration::from_secs(59));
        assert_eq!(backoff.after_failure(1.0), LONGEST);

        backoff.connection_lasted(Duration::from_secs(60));
        assert_eq!(backoff.after_failure(1.0), FIRST);
    }

    #[test]
    fn a_year_of_failures_does_not_overflow() {
        let mut backoff = Backoff::default();

        for _ in 0..1_000_000 {
            assert!(backoff.after_failure(1.0) <= LONGEST);
        }
    }
}
