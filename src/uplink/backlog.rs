//! What was kept during an outage, sent beside what is new and at a bounded rate. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::progress::Stream;
use crate::model::Sequence;

/// The least that the backlog may take when the configuration says nothing, in bytes a second.
const RATE_LEAST: f64 = 200.0 * 1024.0;

/// When the configuration says nothing, the backlog goes so much faster than what is new.
const TIMES_LIVE: f64 = 10.0;

/// What is saved up for at most, as time at the full rate.
const SAVED: Duration = Duration::from_secs(1);

/// Over which time the rate of what is new is measured.
const MEASURED: Duration = Duration::from_secs(60);

/// Most ranges: each begins with an outage, or with live data that could not keep up.
const RANGES_MAX: usize = 64;

/// Ranges of commits that wait, and how far the first of them has come.
pub(super) struct Backlog {
    pub stream: Stream,
    /// Last commit of the range in which `stream` is.
    until: Sequence,
    later: VecDeque<(Sequence, Sequence)>,
}

impl Backlog {
    /// The commits from `first` to `last`.
    pub fn new(first: Sequence, last: Sequence) -> Self {
        Self { stream: Stream::from(first), until: last, later: VecDeque::new() }
    }

    /// What is to be read next: from here, up to there.
    pub fn next(&self) -> (Sequence, Sequence) {
        (self.stream.next, self.until)
    }

    /// Adds what comes after all others. False when there are so many ranges that one more would be too much.
    pub fn add(&mut self, first: Sequence, last: Sequence) -> bool {
        let has_room = self.later.len() < RANGES_MAX;
        if has_room {
            self.later.push_back((first, last));
        }
        has_room
    }

    /// Goes to the next range. False when there is none.
    pub fn go_on(&mut self) -> bool {
        let Some((first, last)) = self.later.pop_front() else { return false };
        self.stream.next = first;
        self.stream.says_nothing = false;
        self.until = last;
        true
    }
}

/// How many bytes of the backlog may go.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes a second, as configured.
    fixed: Option<f64>,
    bytes: f64,
    filled: Instant,
    live: LiveRate,
}

/// Bytes a second of what is new, as a mean that forgets.
#[derive(Debug)]
struct LiveRate {
    bytes_per_second: f64,
    at: Instant,
}

impl Bucket {
    /// Lets `bytes_per_second` go, or as many as there is reason for.
    pub fn new(bytes_per_second: Option<u64>, now: Instant) -> Self {
        let fixed = bytes_per_second.map(|rate| rate as f64);
        Self { fixed, bytes: 0.0, filled: now, live: LiveRate { bytes_per_second: 0.0, at: now } }
    }

    /// Takes note of bytes of what is new.
    pub fn note_live(&mut self, bytes: usize, now: Instant) {
        self.live.bytes_per_second = self.live.at(now) + bytes as f64 / MEASURED.as_secs_f64();
        self.live.at = now;
    }

    /// Takes bytes of the backlog out; there may be fewer, then the next wait for longer.
    pub fn take(&mut self, bytes: usize, now: Instant) {
        let rate = self.rate(now);
        let saved = (now - self.filled).as_secs_f64() * rate;
        self.bytes = (self.bytes + saved).min(rate * SAVED.as_secs_f64()) - bytes as f64;
        self.filled = now;
    }

    /// How long to wait for the next.
    pub fn wait(&self, now: Instant) -> Duration {
        let rate = self.rate(now);
        let missing = -self.bytes - (now - self.filled).as_secs_f64() * rate;
        Duration::try_from_secs_f64(missing / rate).unwrap_or_default()
    }

    fn rate(&self, now: Instant) -> f64 {
        self.fixed.unwrap_or_else(|| RATE_LEAST.max(TIMES_LIVE * self.live.at(now)))
    }
}

impl LiveRate {
    fn at(&self, now: Instant) -> f64 {
        let age = (now - self.at).as_secs_f64() / MEASURED.as_secs_f64();
        self.bytes_per_second * (-age).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sent_one_after_the_other_up_to_their_end() {
        let mut backlog = Backlog::new(Sequence(1), Sequence(90));
        assert!(backlog.add(Sequence(95), Sequence(120)));
        backlog.stream.next = Sequence(91);

        assert_eq!(backlog.next(), (Sequence(91), Sequence(90)));
        assert!(backlog.go_on());
        assert_eq!(backlog.next(), (Sequence(95), Sequence(120)));
        assert!(!backlog.go_on());
    }

    #[test]
    fn the_backlog_takes_no_more_than_its_rate() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(Some(1000), begin);
        let mut now = begin;
        let mut sent = 0;
        while now - begin < Duration::from_secs(10) {
            bucket.take(300, now);
            sent += 300;
            now += bucket.wait(now);
        }
        assert!((9_000..=11_000).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_rate_it_goes_ten_times_as_fast_as_what_is_new() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(None, begin);
        assert_eq!(bucket.rate(begin), RATE_LEAST);
        let mut now = begin;
        for _ in 0..600 {
            now += Duration::from_secs(1);
            bucket.note_live(100_000, now);
        }

        assert!((bucket.rate(now) - 1_000_000.0).abs() < 20_000.0, "{}", bucket.rate(now));
        bucket.take(2_000_000, now);
        assert!(bucket.wait(now) > Duration::from_millis(900));
    }
}
