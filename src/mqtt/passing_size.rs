//! The packet size that a broker passes on, learned from the messages that came back and from those that did not. Pure.
//!
//! A message that does not come back was too large, or its topic is forbidden. Smaller messages tell the two apart: the
//! size is quartered until one comes back, or until a message cannot be made smaller. Then it is doubled while that stays
//! well below what did not come back: a trial that fails costs seconds, one that succeeds nothing.

use std::time::Duration;

use tokio::time::Instant;

/// No broker is set to less: the smallest batch with its topic, in bytes.
const SMALLEST: usize = 256;

/// A message that cannot be cut and stays away so often is too large, where smaller ones come back.
const TRIES: u32 = 3;

/// How long what was learned counts: the broker may have been set up differently since.
const COUNTS_FOR: Duration = Duration::from_secs(3600);

/// What is known about one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PassingSize {
    learned: Option<Learned>,
    /// No message came back, not even the smallest.
    is_held: bool,
    /// A message that could not be cut, and how often it stayed away.
    uncut: Option<(usize, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Learned {
    /// Size worth aiming at.
    aim: usize,
    /// Smallest size that stayed away.
    missed: usize,
    /// Larger ones are certain to be discarded.
    most: Option<usize>,
    at: Instant,
}

/// What to do about a message that stayed away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send less at once.
    Smaller,
    /// Keep the records and try again later.
    Hold,
}

impl PassingSize {
    /// Size of a packet worth aiming at, in bytes; `None` while nothing speaks against any.
    pub fn aim(&self) -> Option<usize> {
        self.learned.map(|learned| learned.aim)
    }

    /// Larger packets are certain to be discarded.
    pub fn most(&self) -> Option<usize> {
        self.learned.and_then(|learned| learned.most)
    }

    /// A packet of `bytes` came back.
    pub fn returned(&mut self, bytes: usize) {
        if self.is_held {
            // Nothing came back before, whatever its size: it was no question of size.
            *self = Self::default();
        }
        if let Some(learned) = &mut self.learned
            && bytes > learned.aim / 2
            && learned.aim * 2 <= learned.missed - learned.missed / 8
        {
            learned.aim *= 2;
        }
        self.uncut = self.uncut.filter(|(size, _)| *size > bytes);
    }

    /// A packet of `bytes`, sent at `sent`, did not come back; on this connection packets of up to `proven` bytes did.
    pub fn missing(&mut self, bytes: usize, sent: Instant, proven: usize, now: Instant) -> Next {
        if self.learned.is_some_and(|learned| sent <= learned.at) {
            // It was on its way before less was sent.
            return Next::Smaller;
        }
        let aim = self.aim().unwrap_or(usize::MAX);
        let missed = self.learned.map_or(bytes, |learned| learned.missed.min(bytes));
        if bytes > SMALLEST && bytes <= aim {
            let aim = (bytes / 4).max(proven).max(SMALLEST);
            self.learned = Some(Learned { aim, missed, most: self.most(), at: now });
            return Next::Smaller;
        }
        if proven == 0 {
            self.is_held = true;
            return Next::Hold;
        }
        let tries = self.uncut.filter(|(size, _)| *size == bytes).map_or(1, |(_, tries)| tries + 1);
        if tries < TRIES {
            self.uncut = Some((bytes, tries));
            return Next::Hold;
        }
        self.uncut = None;
        self.learned = Some(Learned { aim: aim.min(bytes - 1), missed, most: Some(bytes - 1), at: now });
        Next::Smaller
    }

    /// Forgets what was learned long ago.
    pub fn expire(&mut self, now: Instant) {
        if self.learned.is_some_and(|learned| now >= learned.at + COUNTS_FOR) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packets as large as is worth aiming at, at least `least`, to a broker that passes on up to `limit`.
    fn sizes(limit: usize, least: usize) -> (Vec<usize>, PassingSize) {
        let (mut passing, mut now, mut tried, mut proven) = (PassingSize::default(), Instant::now(), Vec::new(), 0);
        for _ in 0..20 {
            now += Duration::from_secs(1);
            let size = passing.aim().unwrap_or(100_000).max(least);
            if size == proven {
                break;
            }
            tried.push(size);
            if size <= limit {
                passing.returned(size);
                proven = size;
                continue;
            }
            if passing.missing(size, now, proven, now) == Next::Hold {
                break;
            }
        }
        (tried, passing)
    }

    #[test]
    fn the_size_is_found_within_a_factor_of_two_and_with_few_messages_that_stay_away() {
        for (limit, all) in [
            (16_384, &[100_000, 25_000, 6250, 12_500][..]),
            (4096, &[100_000, 25_000, 6250, 1562, 3124]),
            (5500, &[100_000, 25_000, 6250, 1562, 3124]),
            (30_000, &[100_000, 25_000, 50_000]),
        ] {
            let (tried, passing) = sizes(limit, 200);

            assert_eq!(tried, all, "{limit}");
            let aim = passing.aim().unwrap();
            assert!(aim <= limit && 4 * aim > limit, "{limit}: {aim}");
        }
    }

    #[test]
    fn where_not_even_the_smallest_message_comes_back_the_records_are_held_until_one_does() {
        let (tried, mut passing) = sizes(0, 700);
        assert_eq!(tried.last(), Some(&700));

        passing.returned(700);

        assert_eq!(passing.aim(), None, "the right was missing, so any size may pass");
    }

    #[test]
    fn four_messages_under_way_at_once_count_as_one_trial() {
        let (mut passing, sent) = (PassingSize::default(), Instant::now());
        let later = sent + Duration::from_secs(5);

        let all = [0; 4].map(|_| passing.missing(80_000, sent, 0, later));

        assert_eq!((all, passing.aim()), ([Next::Smaller; 4], Some(20_000)));
    }

    #[test]
    fn a_message_that_cannot_be_cut_is_too_large_only_where_smaller_ones_come_back() {
        let (mut passing, mut now) = (PassingSize::default(), Instant::now());
        let mut missing = |passing: &mut PassingSize| {
            now += Duration::from_secs(60);
            passing.missing(5000, now, 900, now)
        };

        let all = [0; 4].map(|_| missing(&mut passing));

        assert_eq!(all, [Next::Smaller, Next::Hold, Next::Hold, Next::Smaller]);
        assert_eq!(passing.most(), Some(4999));
    }

    #[test]
    fn what_was_learned_is_tried_again_after_an_hour() {
        let (_, mut passing) = sizes(16_384, 300);

        passing.expire(Instant::now() + 2 * COUNTS_FOR);

        assert_eq!(passing.aim(), None);
    }
}
