//! How far the uplink has come in a lane.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::forward::ForwardFilter;
use crate::buffer::LaneWatermark;
use crate::model::Sequence;
use crate::mqtt::backoff::Backoff;

/// How closely it is known when a commit became durable.
const SEEN_EACH: Duration = Duration::from_secs(1);

/// So many moments are remembered; commits that wait for longer are known to wait for at least that long.
const SEEN_MAX: usize = 128;

/// Progress of one lane.
pub(super) struct LaneProgress {
    /// What is new, and in order also what was kept.
    pub live: Stream,
    /// Commits up to here waited already when the connection came.
    pub backlog_until: Sequence,
    /// When a record that is not under way yet was first seen.
    pub waiting_since: Option<Instant>,
    /// Not before this, after a refusal.
    pub retry_at: Option<Instant>,
    pub refusals: Backoff,
    pub refused: bool,
    /// The last message was not seen to pass the broker: one at a time until one does.
    pub is_trying: bool,
    /// Alarms only: none passes the broker for now. What was never tried goes out once; the rest waits for the retry.
    pub is_held: bool,
    /// Alarms only: the first commit that was never tried.
    pub untried: Sequence,
    /// Newest durable commits that are still to be sent, and when each was seen.
    seen: VecDeque<(Sequence, Instant)>,
}

/// How far one of the streams has come. Each keeps its own order.
pub(super) struct Stream {
    /// The next commit to send.
    pub next: Sequence,
    /// Commits of which nothing is sent, since the last batch.
    pub passed: Option<Passed>,
    pub filter: ForwardFilter,
    /// The next batch goes out even without any reading: nothing comes after it that could cover its commits.
    pub says_nothing: bool,
    /// Readings in a commit, as of the last batch.
    readings_per_commit: f64,
}

/// Commits that were withheld whole and which no batch covers yet.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    pub first: Sequence,
    pub readings: usize,
    pub since: Instant,
}

impl Stream {
    /// Begins with `next`.
    pub fn from(next: Sequence) -> Self {
        Self { next, passed: None, filter: ForwardFilter::default(), says_nothing: false, readings_per_commit: 0.0 }
    }

    /// The first commit that no batch covers.
    pub fn first_uncovered(&self) -> Sequence {
        self.passed.map_or(self.next, |passed| passed.first)
    }

    /// Begins anew with `next`: what was sent may not have arrived.
    pub fn start_over(&mut self, next: Sequence) {
        self.next = next;
        self.passed = None;
        self.filter.start_over();
    }

    /// Goes back to commits that no batch covers, if there are any, to send one that does.
    pub fn cover(&mut self) -> bool {
        let Some(passed) = self.passed.take() else { return false };
        self.next = passed.first;
        self.says_nothing = true;
        true
    }

    /// Takes note of a batch.
    pub fn note_batch(&mut self, commits: usize, readings: usize) {
        self.readings_per_commit = readings as f64 / commits.max(1) as f64;
    }

    /// About how many readings wait, up to the commit `last`.
    pub fn waiting(&self, last: Sequence) -> u64 {
        let commits = (last.0 + 1).saturating_sub(self.next.0);
        (commits as f64 * self.readings_per_commit) as u64
    }
}

impl LaneProgress {
    pub fn new() -> Self {
        Self {
            live: Stream::from(Sequence::FIRST),
            backlog_until: Sequence(0),
            waiting_since: None,
            retry_at: None,
            refusals: Backoff::default(),
            refused: false,
            is_trying: false,
            is_held: false,
            untried: Sequence::FIRST,
            seen: VecDeque::new(),
        }
    }

    pub fn may_retry(&self) -> bool {
        self.retry_at.is_none_or(|retry_at| retry_at <= Instant::now())
    }

    pub fn has_more(&self, mark: &LaneWatermark) -> bool {
        mark.durable_last >= self.live.next && mark.durable_last >= mark.oldest_undelivered
    }

    /// For how long the next commit to send has been durable, as far as is known.
    pub fn lag(&mut self, durable_last: Sequence, now: Instant) -> Duration {
        while self.seen.front().is_some_and(|(sequence, _)| *sequence < self.live.next) {
            self.seen.pop_front();
        }
        let is_new = self.seen.back().is_none_or(|(last, at)| *last < durable_last && now - *at >= SEEN_EACH);
        if is_new && durable_last >= self.live.next && self.seen.len() < SEEN_MAX {
            self.seen.push_back((durable_last, now));
        }
        self.seen.front().map_or(Duration::ZERO, |(_, at)| now - *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_time_does_not_lag_and_what_waits_does() {
        let mut lane = LaneProgress::new();
        let mut now = Instant::now();
        for sequence in 1..100 {
            now += Duration::from_secs(1);
            lane.lag(Sequence(sequence), now);
            lane.live.next = Sequence(sequence + 1);
        }
        assert_eq!(lane.lag(Sequence(99), now), Duration::ZERO);
        for sequence in 100..400 {
            now += Duration::from_secs(1);
            lane.lag(Sequence(sequence), now);
        }
        assert_eq!(lane.lag(Sequence(400), now), Duration::from_secs(299));
        lane.live.next = Sequence(401);
        assert_eq!(lane.lag(Sequence(400), now), Duration::ZERO);
    }
}
