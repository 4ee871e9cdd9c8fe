//! A sliding window whose summary costs the same however long it is. Pure.
//!
//! ```text
//! chunks of the ring   | head |  front: one summary from each chunk to the end of the front  | back: one summary | open |
//! ```
//!
//! Whole chunks enter at the back and leave at the front; when the front is empty, the back becomes the front (the
//! queue of two stacks). A sample is so summed up three times in its life, and the two chunks at the ends are run
//! through at each evaluation: a bounded number of samples. Times of evaluations only rise; where one does not, the
//! window is put together anew.

use std::time::Duration;

use super::ring::{Ring, Sample};
use super::summary::Summary;
use crate::model::Timestamp;

/// The summaries of one window over one series.
#[derive(Debug)]
pub struct Window<S> {
    span: Duration,
    /// The chunk in which the window begins.
    head: u64,
    /// From the chunk after `head` on, the oldest last.
    front: Vec<S>,
    /// The chunk after those of the front.
    middle: u64,
    back: Option<S>,
    /// The chunk after those of the back.
    end: u64,
    evaluated: Timestamp,
}

impl<S: Summary> Window<S> {
    /// A window over the time after `span` ago.
    pub fn new(span: Duration) -> Self {
        Self { span, head: 0, front: Vec::new(), middle: 0, back: None, end: 0, evaluated: Timestamp(i64::MIN) }
    }

    /// What there is to say about the samples after `now` less the span and not after `now`; nothing when there are
    /// none.
    pub fn evaluate(&mut self, ring: &Ring, now: Timestamp) -> Option<S> {
        let from = Timestamp(now.0.saturating_sub(i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX)));
        if now < self.evaluated {
            *self = Self::new(self.span);
        }
        self.evaluated = now;
        self.enter(ring, now);
        self.leave(ring, from);
        let inside = |sample: &Sample| from < sample.time && sample.time <= now;
        let run = |chunk: u64| ring.samples(chunk).filter(inside).map(S::of).reduce(S::and);
        let head = run(self.head);
        let whole = [self.front.last().copied(), self.back];
        let open = (self.end..ring.end_chunk()).map(run);
        [head].into_iter().chain(whole).chain(open).flatten().reduce(S::and)
    }

    /// Takes whole chunks into the back: those that take no more samples and are not after `now`.
    fn enter(&mut self, ring: &Ring, now: Timestamp) {
        if self.head < ring.first_chunk() || self.end == 0 {
            self.begin_at(ring.first_chunk());
        }
        while ring.span(self.end).is_some_and(|(last, is_full)| is_full && last <= now) {
            self.back = merge(self.back, summary_of(ring, self.end));
            self.end += 1;
        }
    }

    /// Lets chunks go in which no sample is after `from`.
    fn leave(&mut self, ring: &Ring, from: Timestamp) {
        while ring.span(self.head).is_some_and(|(last, is_full)| is_full && last <= from) {
            self.head += 1;
            if self.front.pop().is_some() {
                continue;
            }
            if self.middle < self.end { self.turn(ring) } else { self.begin_at(self.head) }
        }
    }

    /// The back becomes the front, but for its first chunk, in which the window begins now.
    fn turn(&mut self, ring: &Ring) {
        let mut suffix: Option<S> = None;
        self.front.reserve_exact(usize::try_from(self.end - self.head).unwrap_or(0).saturating_sub(1));
        for chunk in (self.head + 1..self.end).rev() {
            suffix = merge(summary_of(ring, chunk), suffix);
            self.front.extend(suffix);
        }
        self.middle = self.end;
        self.back = None;
    }

    fn begin_at(&mut self, chunk: u64) {
        self.front.clear();
        self.back = None;
        (self.head, self.middle, self.end) = (chunk, chunk + 1, chunk + 1);
    }

    /// Bytes beside the samples.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.front.capacity() * size_of::<S>()
    }
}

fn summary_of<S: Summary>(ring: &Ring, chunk: u64) -> Option<S> {
    ring.samples(chunk).map(S::of).reduce(S::and)
}

fn merge<S: Summary>(earlier: Option<S>, later: Option<S>) -> Option<S> {
    match (earlier, later) {
        (Some(earlier), Some(later)) => Some(earlier.and(later)),
        (earlier, later) => earlier.or(later),
    }
}

#[cfg(test)]
mod tests;
