//! Do our messages come back? MQTT 3.1.1 acknowledges a message that an access rule forbids as if it had been taken,
//! so the session sends to itself now and then.

use tokio::time::Instant;

use std::time::Duration;

/// How long after the broker took the probe it must be back.
const RETURN_TIME: Duration = Duration::from_secs(10);
/// How often a working broker is probed: an access rule may change under a running session.
const INTERVAL: Duration = Duration::from_secs(300);
/// How often a broker is probed that returns nothing.
const INTERVAL_MISSING: Duration = Duration::from_secs(60);

/// Probes of one connection.
#[derive(Debug)]
pub(super) struct Echo {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The next probe is due at this time.
    Resting(Instant),
    /// This payload was given out to be published.
    Published(String),
    /// The broker acknowledged this payload; it must be back by then.
    Awaited(String, Instant),
}

/// What a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker passes our messages on.
    Returned,
    /// It took the probe and did not pass it on.
    Missing,
}

impl Echo {
    /// The first probe is due now.
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: Phase::Resting(now) }
    }

    /// The payload of a probe to publish, when one is due. `nonce` makes it unlike any earlier one.
    pub(super) fn due(&mut self, now: Instant, nonce: u64) -> Option<String> {
        match self.phase {
            Phase::Resting(until) if until <= now => {
                let payload = format!("{nonce:016x}");
                self.phase = Phase::Published(payload.clone());
                Some(payload)
            }
            Phase::Resting(_) | Phase::Published(_) | Phase::Awaited(..) => None,
        }
    }

    /// The broker acknowledged the probe.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        if let Phase::Published(payload) = &mut self.phase {
            self.phase = Phase::Awaited(std::mem::take(payload), now + RETURN_TIME);
        }
    }

    /// Something arrived on the probe topic; it may come before the acknowledgement.
    pub(super) fn arrived(&mut self, payload: &[u8], now: Instant) -> Option<Verdict> {
        match &self.phase {
            Phase::Published(expected) | Phase::Awaited(expected, _) if expected.as_bytes() == payload => {
                self.phase = Phase::Resting(now + INTERVAL);
                Some(Verdict::Returned)
            }
            Phase::Resting(_) | Phase::Published(_) | Phase::Awaited(..) => None,
        }
    }

    /// Says once that a probe is overdue.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Verdict> {
        match self.phase {
            Phase::Awaited(_, until) if until <= now => {
                self.phase = Phase::Resting(now + INTERVAL_MISSING);
                Some(Verdict::Missing)
            }
            Phase::Resting(_) | Phase::Published(_) | Phase::Awaited(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_comes_back_is_repeated_after_a_rest() {
        let start = Instant::now();
        let mut echo = Echo::new(start);
        let payload = echo.due(start, 7).unwrap();
        echo.acknowledged(start);

        assert_eq!(echo.arrived(payload.as_bytes(), start), Some(Verdict::Returned));
        assert_eq!(echo.overdue(start + RETURN_TIME), None);
        assert_eq!(echo.due(start + INTERVAL / 2, 8), None);
        assert!(echo.due(start + INTERVAL, 8).is_some());
    }

    #[test]
    fn a_probe_that_stays_away_is_reported_once_and_tried_again() {
        let start = Instant::now();
        let mut echo = Echo::new(start);
        echo.due(start, 7).unwrap();
        echo.acknowledged(start);

        assert_eq!(echo.overdue(start + RETURN_TIME / 2), None);
        assert_eq!(echo.overdue(start + RETURN_TIME), Some(Verdict::Missing));
        assert_eq!(echo.overdue(start + RETURN_TIME * 2), None);
        assert!(echo.due(start + RETURN_TIME + INTERVAL_MISSING, 8).is_some());
    }

    #[test]
    fn the_probe_of_an_earlier_connection_proves_nothing() {
        let start = Instant::now();
        let mut echo = Echo::new(start);
        echo.due(start, 7).unwrap();

        assert_eq!(echo.arrived(b"0000000000000006", start), None);
    }
}
