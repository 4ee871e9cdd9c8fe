//! The open commit: rows that no commit holds yet, and the clock that they were taken with. Pure.

use std::time::Duration;

use super::clock_track::{ClockTrack, Split};
use super::commit::ClockReading;
use super::gather::Gather;
use crate::model::Row;

/// Makes a commit of rows that were taken with one clock. Returns the length of its bytes.
pub type Close<'a> = dyn FnMut(Vec<Row>, ClockReading) -> usize + 'a;

/// Rows on their way into a commit.
#[derive(Debug)]
pub struct OpenCommit {
    gather: Gather,
    track: ClockTrack,
}

impl OpenCommit {
    /// An empty one, under the clock as it is now.
    pub fn new(clock: ClockReading) -> Self {
        Self { gather: Gather::default(), track: ClockTrack::new(clock) }
    }

    /// Takes note of the clock at `monotonic` since boot. A commit says one thing about its clock: when the clock is set,
    /// or can be trusted from now on, the open one ends.
    pub fn see(&mut self, clock: ClockReading, monotonic: Duration, close: &mut Close<'_>) {
        if self.track.see(clock, monotonic)
            && let Some(previous) = self.track.previous()
        {
            self.close_with(previous, close);
        }
    }

    /// Adds rows that were handed over at `monotonic` since boot. Of these the first `skipped`, in the order in which they
    /// are put into commits, are left out.
    pub fn append(&mut self, rows: Vec<Row>, skipped: usize, monotonic: Duration, close: &mut Close<'_>) {
        let Split { mut before, mut now } = self.track.split(rows, monotonic);
        let skipped_before = skipped.min(before.len());
        before.drain(..skipped_before);
        now.drain(..(skipped - skipped_before).min(now.len()));
        if let Some(previous) = self.track.previous().filter(|_| !before.is_empty()) {
            // On their way while the clock was set: they go with the clock they were taken with.
            self.close(close);
            self.gather.add(before, |rows| close(rows, previous));
            self.close_with(previous, close);
        }
        if !now.is_empty() {
            let current = self.track.current();
            self.gather.add(now, |rows| close(rows, current));
        }
    }

    /// Closes it, if there is something in it.
    pub fn close(&mut self, close: &mut Close<'_>) {
        self.close_with(self.track.current(), close);
    }

    fn close_with(&mut self, clock: ClockReading, close: &mut Close<'_>) {
        self.gather.close(|rows| close(rows, clock));
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.gather.is_empty()
    }
}
