//! What is known about one lane besides its commits: one small value, written in the same batch as the commits.

use super::ranges::Ranges;
use super::tally::{Tallies, Tally};
use super::thin::Stage;
use super::varint::{self, Malformed, Reader};
use super::waiting::Lost;
use crate::model::{Gap, GapReason, Lane, Sequence};

/// Version 1 did not tell how far what is pending has been thinned: nothing was.
const VERSION: u8 = 2;

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
    pub pending: Tallies,
    /// For each stage of thinning a sequence below which no commit of that stage waits to be thinned further.
    pub(super) none_below: [u64; 3],
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
            pending: Tallies::default(),
            none_below: [Sequence::FIRST.0; 3],
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

    /// Whether the consumer may lack `sequence` and no gap record names it.
    pub fn is_to_be_delivered(&self, sequence: u64) -> bool {
        self.settled.first_absent(sequence) == sequence && self.dropped.first_absent(sequence) == sequence
    }

    /// The sequences that the consumer may lack and that no gap record names.
    pub fn to_be_delivered(&self) -> Ranges {
        let mut wanted = Ranges::default();
        let mut from = Sequence::FIRST.0;
        while let Some((first, last)) = self.pending_run(from) {
            wanted.insert(first, last);
            from = last + 1;
        }
        wanted
    }

    /// Where to begin to look for commits of `stage`.
    pub fn pending_from(&self, stage: Stage) -> u64 {
        self.none_below[stage as usize]
    }

    /// Notes that no commit of `stage` below `sequence` waits to be thinned further.
    pub fn note_none_below(&mut self, stage: Stage, sequence: u64) {
        let known = &mut self.none_below[stage as usize];
        *known = sequence.max(*known);
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
        Stage::ALL.into_iter().for_each(|stage| self.pending.at(stage).encode(&mut out));
        self.none_below.into_iter().for_each(|sequence| varint::put(&mut out, sequence));
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
        let [version] = reader.array()?;
        if version == 0 || version > VERSION {
            return Err(Malformed("unknown version"));
        }
        let generation = reader.number()?;
        let mut state = Self {
            next: reader.number()?.max(Sequence::FIRST.0),
            records_ever: reader.number()?,
            settled: Ranges::decode(&mut reader)?,
            dropped: Ranges::decode(&mut reader)?,
            stored: Tally::decode(&mut reader)?,
            ..Self::new(lane)
        };
        state.pending.raw = Tally::decode(&mut reader)?;
        if version >= 2 {
            state.pending.minutes = Tally::decode(&mut reader)?;
            state.pending.ten_minutes = Tally::decode(&mut reader)?;
            for sequence in &mut state.none_below {
                *sequence = reader.number()?;
            }
        }
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
        lane.pending.minutes = Tally { commits: 2, records: 50, bytes: 900 };
        lane.none_below = [12, 40, 3];
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
