//! How far the uplink has come in a lane.

use tokio::time::Instant;

use crate::buffer::LaneWatermark;
use crate::model::Sequence;
use crate::mqtt::backoff::Backoff;

/// Progress of one lane.
pub(super) struct LaneProgress {
    /// The next commit to send.
    pub next: Sequence,
    /// Commits up to here waited already when the connection came.
    pub backlog_until: Sequence,
    /// When a record that is not under way yet was first seen.
    pub waiting_since: Option<Instant>,
    /// Not before this, after a refusal.
    pub retry_at: Option<Instant>,
    pub refusals: Backoff,
    pub refused: bool,
    /// Commits of which nothing is sent, since the last batch.
    pub passed: Option<Passed>,
}

/// Commits that were withheld whole and which no batch covers yet.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    pub first: Sequence,
    pub readings: usize,
    pub since: Instant,
}

impl LaneProgress {
    pub fn new() -> Self {
        Self {
            next: Sequence::FIRST,
            backlog_until: Sequence(0),
            waiting_since: None,
            retry_at: None,
            refusals: Backoff::default(),
            refused: false,
            passed: None,
        }
    }

    /// Begins again with what is not delivered.
    pub fn start_over(&mut self) {
        self.next = Sequence::FIRST;
        self.passed = None;
    }

    pub fn may_retry(&self) -> bool {
        self.retry_at.is_none_or(|retry_at| retry_at <= Instant::now())
    }

    pub fn has_more(&self, mark: &LaneWatermark) -> bool {
        mark.durable_last >= self.next && mark.durable_last >= mark.oldest_undelivered
    }
}
