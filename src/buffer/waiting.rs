//! Commits on their way to the database: encoded, without a sequence, bounded. Pure.

use std::collections::VecDeque;

use super::commit::{ClockReading, Codec, CommitError, Envelope, Kind};
use super::tally::Tally;
use crate::model::{Lane, Records, Timestamp};

/// Most bytes kept per lane while the database cannot be written. The newest are kept.
const BYTES_KEPT: usize = 4 << 20;

/// An encoded commit without its place in the lane.
#[derive(Debug, Clone)]
pub struct Closed {
    /// Lane it will stand in.
    pub lane: Lane,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether its records are new: no gap record, and no aggregates of what was stored before.
    pub is_new: bool,
    /// How many records it holds.
    pub records: u32,
    /// Time of its oldest record.
    pub first_time: Timestamp,
    /// Time of its newest record.
    pub last_time: Timestamp,
    /// How many rows, or alarms, were ever put into commits of its lane with it.
    pub position: u64,
    /// Whether a process that died had taken its records.
    pub is_taken_up: bool,
}

impl Closed {
    /// Encodes `records`, whose times were taken with `clock`.
    pub fn encode(codec: &mut Codec, lane: Lane, records: &Records, clock: ClockReading) -> Result<Self, CommitError> {
        let bytes = codec.encode(lane, records, clock)?;
        let envelope = Envelope::read(&bytes)?;
        let (first_time, last_time) = (envelope.first_time, envelope.last_time);
        let is_new = match records {
            Records::Readings(_) | Records::Alarms(_) => true,
            Records::Gap(_) | Records::Thinned(_) | Records::ClockOffset(_) => false,
        };
        let records = envelope.records;
        Ok(Self { lane, bytes, is_new, records, first_time, last_time, position: 0, is_taken_up: false })
    }

    /// The clock offset in the stored `value`, to be stored again when that goes; nothing when it holds other records.
    pub fn offset_again(codec: &mut Codec, value: &[u8]) -> Option<Self> {
        let envelope = Envelope::read(value).ok().filter(|envelope| envelope.kind == Kind::ClockOffset)?;
        let records = codec.decode(value).ok()?.1.records;
        Self::encode(codec, envelope.lane, &records, ClockReading::of(&envelope)).ok()
    }

    /// Bytes it takes in the database.
    pub fn stored_bytes(&self) -> u64 {
        Tally::of(self.records, self.bytes.len()).bytes
    }
}

/// Commits that had to go because the database could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// How many commits.
    pub commits: u64,
    /// How many records.
    pub records: u64,
    /// Time of the oldest.
    pub first_time: Timestamp,
    /// Time of the newest.
    pub last_time: Timestamp,
}

impl Lost {
    fn and(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            records: self.records + other.records,
            first_time: self.first_time.min(other.first_time),
            last_time: self.last_time.max(other.last_time),
        }
    }

    /// The loss of `closed`.
    pub fn of(closed: &Closed) -> Self {
        Self {
            commits: 1,
            records: u64::from(closed.records),
            first_time: closed.first_time,
            last_time: closed.last_time,
        }
    }
}

/// The commits of one lane that wait, oldest first, and what was lost before them.
#[derive(Debug, Default)]
pub struct Waiting {
    commits: VecDeque<Closed>,
    bytes: usize,
    lost: Option<Lost>,
}

impl Waiting {
    /// Adds a commit. The oldest are lost when there are too many.
    pub fn push(&mut self, closed: Closed) {
        self.bytes += closed.bytes.len();
        self.commits.push_back(closed);
        while self.bytes > BYTES_KEPT
            && self.commits.len() > 1
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.bytes.len();
            self.lose(Lost::of(&oldest));
        }
    }

    /// Notes a loss that comes before everything that waits now.
    pub fn lose(&mut self, lost: Lost) {
        self.lost = Some(self.lost.map_or(lost, |before| before.and(lost)));
    }

    /// Takes what was lost, and the oldest commits up to about `bytes`, at least one.
    pub fn take(&mut self, bytes: usize) -> (Option<Lost>, Vec<Closed>) {
        let mut taken = Vec::new();
        let mut length = 0;
        while length < bytes
            && let Some(closed) = self.commits.pop_front()
        {
            length += closed.bytes.len();
            taken.push(closed);
        }
        self.bytes -= length;
        (self.lost.take(), taken)
    }

    /// Puts back what was taken and could not be stored.
    pub fn put_back(&mut self, lost: Option<Lost>, taken: Vec<Closed>) {
        self.lost = match (lost, self.lost) {
            (Some(before), Some(now)) => Some(before.and(now)),
            (before, now) => before.or(now),
        };
        for closed in taken.into_iter().rev() {
            self.bytes += closed.bytes.len();
            self.commits.push_front(closed);
        }
    }

    /// How many commits wait, and how many records are in them.
    pub fn count(&self) -> (u64, u64) {
        (self.commits.len() as u64, self.commits.iter().map(|closed| u64::from(closed.records)).sum())
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to store and nothing to say.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.lost.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(time: i64) -> Closed {
        let time = Timestamp(time);
        Closed {
            lane: Lane::Telemetry,
            bytes: vec![0; 1 << 20],
            is_new: true,
            records: 10,
            first_time: time,
            last_time: time,
            position: 0,
            is_taken_up: false,
        }
    }

    #[test]
    fn the_newest_are_kept_and_the_loss_is_known() {
        let mut waiting = Waiting::default();

        (1..=6).for_each(|time| waiting.push(closed(time)));

        let (lost, taken) = waiting.take(usize::MAX);
        assert_eq!(lost, Some(Lost { commits: 2, records: 20, first_time: Timestamp(1), last_time: Timestamp(2) }));
        assert_eq!(taken.iter().map(|closed| closed.first_time.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_was_put_back_comes_first_again() {
        let mut waiting = Waiting::default();
        (1..=3).for_each(|time| waiting.push(closed(time)));

        let (lost, taken) = waiting.take(1);
        waiting.push(closed(4));
        waiting.put_back(lost, taken);

        let (_, taken) = waiting.take(usize::MAX);
        assert_eq!(taken.iter().map(|closed| closed.first_time.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(waiting.bytes(), 0);
    }
}
