//! The largest packet that a broker takes, when it does not say so. Pure.
//!
//! MQTT 3.1.1 has no word for it: the broker closes the connection, and a batch that is sent again and again would
//! close it for ever. So a connection that ends while something larger than ever is unacknowledged is a hint, and a
//! second one in a row is taken as a limit of half that size.

use std::time::Duration;

/// No broker takes less: a reading and its topic fit.
const SMALLEST: usize = 1024;

/// Losses in a row that are no accident.
const LOSSES: u32 = 2;

/// After a connection that held this long, large packets are tried again on the next: the broker may have changed.
const GOOD_CONNECTION: Duration = Duration::from_secs(3600);

/// Nor does any take less than this, whatever it says.
const FLOOR: usize = 256;

/// What was learned about one broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LearnedLimit {
    /// Size worth aiming at.
    aim: Option<usize>,
    /// Smallest packet that it was seen not to take.
    refused: Option<usize>,
    /// The largest packet it acknowledged.
    taken: usize,
    /// Connections in a row that ended on something larger.
    losses: u32,
}

impl LearnedLimit {
    /// Size of a packet worth aiming at, in bytes; `None` while nothing speaks against any size.
    pub fn aim(&self) -> Option<u32> {
        self.aim.map(|aim| u32::try_from(aim).unwrap_or(u32::MAX))
    }

    /// Largest packet that was not seen to be refused, in bytes. What cannot be cut to the size aimed at may still pass.
    pub fn most(&self) -> Option<u32> {
        self.refused.map(|refused| u32::try_from(refused - 1).unwrap_or(u32::MAX))
    }

    /// The broker acknowledged a packet of `bytes`.
    pub fn acknowledged(&mut self, bytes: usize) {
        if bytes > self.taken {
            self.taken = bytes;
            self.losses = 0;
        }
    }

    /// The broker ended the connection while packets of up to `largest` bytes were unacknowledged. True when smaller
    /// ones are to be sent from now on; at once when the broker said that a packet was `too_large`.
    pub fn closed(&mut self, largest: usize, too_large: bool) -> bool {
        if too_large {
            self.taken = self.taken.min(largest.saturating_sub(1));
        }
        let floor = if too_large { FLOOR } else { SMALLEST };
        if largest <= self.taken.max(floor) {
            self.losses = 0;
            return false;
        }
        self.losses += 1;
        let is_lower = too_large || self.losses >= LOSSES;
        if is_lower {
            let aim = (largest / 2).max(self.taken).max(floor);
            self.aim = Some(self.aim.map_or(aim, |known| known.min(aim)));
            self.refused = Some(self.refused.map_or(largest, |known| known.min(largest)));
        }
        is_lower
    }

    /// The connection lasted `span`.
    pub fn connection_lasted(&mut self, span: Duration) {
        if span >= GOOD_CONNECTION {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_found_by_halving_and_kept() {
        let mut learned = LearnedLimit::default();
        let mut size = 20_000;
        let mut connections = 0;

        // A broker that takes 2,000 bytes, and packets as large as allowed.
        while size > 2000 {
            learned.acknowledged(200);
            learned.closed(size, false);
            size = learned.aim().map_or(size, |limit| limit as usize);
            connections += 1;
        }
        learned.acknowledged(size);

        assert_eq!((size, connections), (1250, 5));
        assert!(!learned.closed(1250, false) && !learned.closed(1250, false));
        assert_eq!(learned.aim(), Some(1250));
    }

    #[test]
    fn an_unsteady_network_is_not_taken_for_a_limit() {
        let mut learned = LearnedLimit::default();
        learned.closed(90_000, false);
        learned.acknowledged(100_000);

        assert!((0..10).all(|_| !learned.closed(100_000, false)));
        assert_eq!(learned.aim(), None);
    }

    #[test]
    fn a_broker_that_says_so_is_believed_at_once() {
        let mut learned = LearnedLimit::default();

        assert!(learned.closed(100_000, true));

        assert_eq!(learned.aim(), Some(50_000));
    }

    #[test]
    fn what_no_broker_refuses_is_not_divided_and_a_good_connection_ends_the_lesson() {
        let mut learned = LearnedLimit::default();
        assert!((0..10).all(|_| !learned.closed(500, false) && !learned.closed(200, true)));
        learned.closed(5000, true);

        learned.connection_lasted(Duration::from_secs(7200));

        assert_eq!(learned.aim(), None);
    }
}
