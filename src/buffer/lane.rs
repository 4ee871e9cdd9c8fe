//! What is known about one lane besides its commits: one small value, written in the same batch as the commits.

use super::commit::Envelope;
use super::ranges::Ranges;
use super::varint::{self, Malformed, Reader};
use super::waiting::Lost;
use crate::model::{Gap, GapReason, Lane, Sequence};

const VERSION: u8 = 1;

/// What a stored commit takes beside its own bytes: its key, and what the engine notes about it.
const OVERHEAD: u64 = 32;

/// Commits added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes they take in the database.
    pub bytes: u64,
}

impl Tally {
    /// One commit of `records` records in `length` bytes.
    pub fn of(records: u32, length: usize) -> Self {
        Self { commits: 1, records: u64::from(records), bytes: length as u64 + OVERHEAD }
    }

    /// One stored commit. A damaged one may lie about its records, but not beyond what one can hold.
    pub fn of_stored(value: &[u8]) -> Self {
        let records = Envelope::read(value).map_or(0, |envelope| envelope.records);
        Self::of(records.min(super::commit::RECORDS_MAX as u32), value.len())
    }

    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.commits += other.commits;
        self.records += other.records;
        self.bytes += other.bytes;
    }

    /// Takes `other` away. Damage may have falsified a number, so none falls below zero, and nothing is nothing.
    pub fn take(&mut self, other: Self) {
        self.commits = self.commits.saturating_sub(other.commits);
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        if self.commits == 0 {
            *self = Self::default();
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        [self.commits, self.records, self.bytes].into_iter().for_each(|number| varint::put(out, number));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { commits: reader.number()?, records: reader.number()?, bytes: reader.number()? })
    }
}

/// Sequences and sums of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// Which lane.
    pub lane: Lane,
    /// The sequence that the next commit gets. Kept when all commits are gone, so that it never goes back.
    pub next: u64,
    /// Records of all commits that ever were, gap records not counted.
    pub records_ever: u64,
    /// Sequences the consumer knows all about: delivered, or named in a gap record that was delivered.
    pub settled: Ranges,
    /// Sequences that are gone and named in a gap record that is still to be delivered. Disjoint from `settled`.
    pub dropped: Ranges,
    /// All stored commits.
    pub stored: Tally,
    /// Stored commits still to be delivered.
    pub pending: Tally,
    /// No stored commit below this sequence is settled.
    pub history_from: u64,
}

impl LaneState {
    /// A lane in which nothing ever was.
    pub fn new(lane: Lane) -> Self {
        Self {
            lane,
            next: Sequence::FIRST.0,
            records_ever: 0,
            settled: Ranges::default(),
            dropped: Ranges::default(),
            stored: Tally::default(),
            pending: Tally::default(),
            history_from: Sequence::FIRST.0,
        }
    }

    /// The last sequence given.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The oldest sequence that the consumer may still lack; one past the last when it lacks none.
    pub fn oldest_undelivered(&self) -> u64 {
        self.settled.first_absent(Sequence::FIRST.0)
    }

    /// The first run of stored, undelivered sequences from `from` on.
    pub fn pending_run(&self, from: u64) -> Option<(u64, u64)> {
        let mut first = from.max(Sequence::FIRST.0);
        loop {
            let next = self.dropped.first_absent(self.settled.first_absent(first));
            if next == first {
                break;
            }
            first = next;
        }
        let ends = [self.settled.first_present(first), self.dropped.first_present(first), Some(self.next)];
        let end = ends.into_iter().flatten().min()?;
        (first < end).then(|| (first, end - 1))
    }

    /// Notes that `first` to `last` are gone and that a gap record says so.
    pub fn drop_run(&mut self, first: u64, last: u64) {
        self.dropped.insert(first, last);
    }

    /// Notes that the consumer knows all about `first` to `last`.
    pub fn settle(&mut self, first: u64, last: u64) {
        self.settled.insert(first, last);
        self.dropped.remove(first, last);
        self.history_from = self.history_from.min(first);
    }

    /// Notes that a gap record that names `first` to `last` was delivered.
    pub fn settle_dropped(&mut self, first: u64, last: u64) {
        let named: Vec<(u64, u64)> = self.dropped.iter().filter(|run| run.0 <= last && run.1 >= first).collect();
        named.into_iter().for_each(|run| self.settle(run.0.max(first), run.1.min(last)));
    }

    /// Gives sequences to commits that were lost before they had any, and says so.
    pub fn name_lost(&mut self, lost: Lost) -> Gap {
        let first = self.next;
        self.next += lost.commits;
        self.drop_run(first, self.last());
        Gap {
            lane: self.lane,
            first: Sequence(first),
            last: Sequence(self.last()),
            records: lost.records,
            first_time: lost.first_time,
            last_time: lost.last_time,
            reason: GapReason::NotWritable,
        }
    }

    /// The state as it is stored; `generation` numbers the batch it is part of.
    pub fn encode(&self, generation: u64) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::put(&mut out, generation);
        varint::put(&mut out, self.next);
        varint::put(&mut out, self.records_ever);
        self.settled.encode(&mut out);
        self.dropped.encode(&mut out);
        self.stored.encode(&mut out);
        self.pending.encode(&mut out);
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// The state that `bytes` hold, and the number of the batch it was part of.
    pub fn decode(lane: Lane, bytes: &[u8]) -> Result<(Self, u64), Malformed> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(Malformed("bytes end early"))?;
        if crc32c::crc32c(body).to_le_bytes() != *checksum {
            return Err(Malformed("checksum does not match"));
        }
        let mut reader = Reader::new(body);
        if reader.array()? != [VERSION] {
            return Err(Malformed("unknown version"));
        }
        let generation = reader.number()?;
        let state = Self {
            next: reader.number()?.max(Sequence::FIRST.0),
            records_ever: reader.number()?,
            settled: Ranges::decode(&mut reader)?,
            dropped: Ranges::decode(&mut reader)?,
            stored: Tally::decode(&mut reader)?,
            pending: Tally::decode(&mut reader)?,
            ..Self::new(lane)
        };
        reader.finish()?;
        Ok((state, generation))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_of_pending_sequences_ends_where_something_was_delivered_or_dropped() {
        let mut lane = LaneState { next: 21, ..LaneState::new(Lane::Telemetry) };
        lane.settle(1, 3);
        lane.drop_run(4, 6);
        lane.settle(10, 12);

        assert_eq!(lane.pending_run(0), Some((7, 9)));
        assert_eq!(lane.pending_run(8), Some((8, 9)));
        assert_eq!(lane.pending_run(10), Some((13, 20)));
        assert_eq!(lane.pending_run(21), None);
        assert_eq!(lane.oldest_undelivered(), 4);
    }

    #[test]
    fn the_state_of_a_lane_comes_back_as_it_was() {
        let mut lane = LaneState { next: 900, records_ever: 77, ..LaneState::new(Lane::Alarms) };
        lane.settle(5, 9);
        lane.drop_run(1, 2);
        lane.stored = Tally { commits: 4, records: 70, bytes: 9000 };
        lane.history_from = 1;

        assert_eq!(LaneState::decode(Lane::Alarms, &lane.encode(12)), Ok((lane, 12)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_state_or_an_error(bytes: Vec<u8>) {
            let _ = LaneState::decode(Lane::Telemetry, &bytes);
        }
    }
}
