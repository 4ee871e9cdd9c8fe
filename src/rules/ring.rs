//! The samples of one series, as long as some window needs them. Pure.
//!
//! Samples lie in chunks of [`CHUNK`] ([`chunk`](super::chunk)), and whole chunks go when they are too old. A window knows
//! its chunks by their number, which counts from the first that ever was.

use std::collections::VecDeque;
use std::time::Duration;

pub use super::chunk::CHUNK;
use super::chunk::{Closed, Open};
use crate::model::Timestamp;

/// A clock that goes back by more than this was set; what was before belongs to another time.
const CLOCK_SET: Duration = Duration::from_secs(10);

/// One number at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was taken.
    pub time: Timestamp,
    /// The engineering value.
    pub value: f64,
}

/// A value that is no sample but the mark that a series has ended: the same not-a-number as in Prometheus.
pub const END: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a value is the mark of an end.
pub fn is_end(value: f64) -> bool {
    value.to_bits() == END.to_bits()
}

impl Sample {
    /// Whether it is a sample, and not the mark of an end.
    pub fn is_value(&self) -> bool {
        !is_end(self.value)
    }
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is the newest now.
    Kept,
    /// It is not newer than the newest: Prometheus drops such samples, and so does this.
    OutOfOrder,
    /// The clock was set back: everything before is forgotten.
    BeganAnew,
}

/// Samples in the order of their times.
#[derive(Debug, Default)]
pub struct Ring {
    closed: VecDeque<Closed>,
    /// The newest chunk, where it has samples.
    open: Open,
    /// How many chunks are gone.
    dropped: u64,
    last: Option<Sample>,
}

impl Ring {
    /// Adds a sample.
    pub fn push(&mut self, sample: Sample) -> Pushed {
        let mut pushed = Pushed::Kept;
        if let Some(last) = self.last.filter(|last| sample.time <= last.time) {
            if last.time.since(sample.time) <= CLOCK_SET {
                return Pushed::OutOfOrder;
            }
            self.forget();
            pushed = Pushed::BeganAnew;
        }
        if !self.open.push(sample) {
            if self.closed.len() == self.closed.capacity() {
                // There will be as many as the longest window has, and not twice as many.
                self.closed.reserve_exact((self.closed.len() / 8).max(2));
            }
            self.closed.push_back(self.open.close());
            // An empty chunk takes any sample.
            self.open.push(sample);
        }
        self.last = Some(sample);
        pushed
    }

    /// Forgets chunks in which no sample is newer than `time`; the newest chunk stays in any case.
    pub fn forget_until(&mut self, time: Timestamp) {
        while self.closed.front().is_some_and(|chunk| chunk.last() <= time) {
            self.closed.pop_front();
            self.dropped += 1;
        }
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.dropped = self.end_chunk();
        self.closed.clear();
        self.open.clear();
        self.last = None;
    }

    /// The newest sample.
    pub fn last(&self) -> Option<Sample> {
        self.last
    }

    /// The newest sample that is not after `time`; nothing when that is the mark of an end.
    pub fn at(&self, time: Timestamp) -> Option<Sample> {
        if let Some(last) = self.last.filter(|last| last.time <= time) {
            return Some(last).filter(Sample::is_value);
        }
        let open = self.open.samples().rev().find(|sample| sample.time <= time);
        let found = match open {
            Some(found) => found,
            None => {
                let chunk = self.closed.iter().rev().find(|chunk| chunk.first() <= time)?;
                chunk.samples().rev().find(|sample| sample.time <= time)?
            }
        };
        Some(found).filter(Sample::is_value)
    }

    /// The samples after `from` and not after `to`, in order.
    pub fn range(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Sample> {
        let first = self.closed.partition_point(|chunk| chunk.last() <= from);
        let samples = self.closed.range(first..).flat_map(Closed::samples).chain(self.open.samples());
        let inside = samples.skip_while(move |sample| sample.time <= from).take_while(move |sample| sample.time <= to);
        inside.filter(Sample::is_value)
    }

    /// The newest samples not after `to`, newest first.
    pub fn newest(&self, to: Timestamp) -> impl Iterator<Item = Sample> {
        let closed = self.closed.iter().rev().flat_map(|chunk| chunk.samples().rev());
        let samples = self.open.samples().rev().chain(closed);
        samples.skip_while(move |sample| sample.time > to).filter(Sample::is_value)
    }

    /// Number of the oldest chunk.
    pub(super) fn first_chunk(&self) -> u64 {
        self.dropped
    }

    /// Number of the chunk after the newest.
    pub(super) fn end_chunk(&self) -> u64 {
        self.dropped + self.closed.len() as u64 + u64::from(self.open.len() > 0)
    }

    /// Time of the last sample of a chunk, and whether the chunk takes no more samples.
    pub(super) fn span(&self, number: u64) -> Option<(Timestamp, bool)> {
        match self.closed(number) {
            Some(chunk) => Some((chunk.last(), true)),
            None => self.open(number).and_then(|open| Some((open.samples().next_back()?.time, false))),
        }
    }

    /// The samples of a chunk.
    pub(super) fn samples(&self, number: u64) -> impl Iterator<Item = Sample> {
        let closed = self.closed(number).into_iter().flat_map(Closed::samples);
        let open = self.open(number).into_iter().flat_map(Open::samples);
        closed.chain(open).filter(Sample::is_value)
    }

    fn closed(&self, number: u64) -> Option<&Closed> {
        self.closed.get(usize::try_from(number.checked_sub(self.dropped)?).ok()?)
    }

    fn open(&self, number: u64) -> Option<&Open> {
        (number == self.dropped + self.closed.len() as u64).then_some(&self.open)
    }

    /// Bytes that the samples take.
    pub fn bytes(&self) -> usize {
        let room = self.closed.capacity() - self.closed.len();
        self.closed.iter().map(Closed::bytes).sum::<usize>() + room * size_of::<Closed>() + self.open.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64) -> Sample {
        Sample { time: Timestamp(second * 1000), value: second as f64 }
    }

    fn ring(seconds: i64) -> Ring {
        let mut ring = Ring::default();
        for second in 1..=seconds {
            ring.push(sample(second));
        }
        ring
    }

    #[test]
    fn ranges_are_open_on_the_left_and_closed_on_the_right() {
        let ring = ring(300);

        let seconds: Vec<f64> = ring.range(Timestamp(100_000), Timestamp(103_000)).map(|sample| sample.value).collect();

        assert_eq!(seconds, [101.0, 102.0, 103.0]);
        assert_eq!(ring.at(Timestamp(103_999)), Some(sample(103)));
        assert_eq!(ring.at(Timestamp(999)), None);
        let newest: Vec<f64> = ring.newest(Timestamp(130_500)).take(2).map(|sample| sample.value).collect();
        assert_eq!(newest, [130.0, 129.0]);
    }

    #[test]
    fn old_chunks_go_and_the_newest_sample_stays() {
        let mut ring = ring(300);
        let before = ring.bytes();

        ring.forget_until(Timestamp(200_000));
        assert!(ring.bytes() < before);
        assert_eq!(ring.range(Timestamp(200_000), Timestamp(300_000)).count(), 100);
        ring.forget_until(Timestamp(i64::MAX));

        assert_eq!(ring.last(), Some(sample(300)));
        assert!(ring.at(Timestamp(300_000)).is_some());
    }

    #[test]
    fn what_is_not_newer_is_dropped_unless_the_clock_was_set() {
        let mut ring = ring(300);

        assert_eq!(ring.push(sample(300)), Pushed::OutOfOrder);
        assert_eq!(ring.push(sample(295)), Pushed::OutOfOrder);
        assert_eq!(ring.push(sample(100)), Pushed::BeganAnew);
        assert_eq!(ring.range(Timestamp(0), Timestamp(i64::MAX)).count(), 1);
    }
}
