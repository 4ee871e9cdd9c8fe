//! Commits that go out although no disk has taken them, under an epoch of this process alone. Pure.
//!
//! While the store cannot be written, the uplink is given what waits in memory. From then on such a commit has its
//! identity, in the volatile epoch, and never becomes durable under another one.

use std::collections::VecDeque;

use super::ReadLimit;
use super::commit::{Codec, seal};
use super::lane::LaneState;
use super::store::at;
use super::tally::Tallies;
use super::waiting::{Closed, Waiting};
use crate::model::{Commit, Epoch, Gap, Lane, Sequence};

/// Most bytes in one lane that were handed over and are not delivered: what waits longer may still become durable.
const BYTES_AHEAD: usize = 512 << 10;

/// The lanes of the volatile epoch.
#[derive(Debug)]
pub struct Volatile {
    /// Identity of its commits.
    pub epoch: Epoch,
    lanes: [VolatileLane; 2],
    delivered: u64,
}

#[derive(Debug)]
struct VolatileLane {
    state: LaneState,
    commits: VecDeque<(u64, Closed)>,
    bytes: usize,
}

impl Volatile {
    /// Empty lanes of `epoch`.
    pub fn new(epoch: Epoch) -> Self {
        let lane = |lane| VolatileLane { state: LaneState::new(lane), commits: VecDeque::new(), bytes: 0 };
        Self { epoch, lanes: Lane::ALL.map(lane), delivered: 0 }
    }

    /// Takes over the oldest of what waits in `lane`, as far as there is room. What was lost before it is named by a
    /// gap record, which `close` makes a commit of. Returns how many records that says are lost, and the position of
    /// the last commit.
    pub fn take_over(
        &mut self,
        lane: Lane,
        waiting: &mut Waiting,
        close: impl FnOnce(Gap) -> Option<Closed>,
    ) -> (u64, Option<u64>) {
        let mine = &mut self.lanes[at(lane)];
        if mine.bytes >= BYTES_AHEAD || waiting.is_empty() {
            return (0, None);
        }
        let (lost, taken) = waiting.take(BYTES_AHEAD - mine.bytes);
        let position = taken.last().map(|closed| closed.position);
        let gap = lost.map(|lost| mine.state.name_lost(lost)).and_then(close);
        for mut closed in gap.into_iter().chain(taken) {
            let sequence = mine.state.next;
            mine.state.next += 1;
            seal(&mut closed.bytes, self.epoch, Sequence(sequence));
            mine.state.pending.add(Tallies::of_stored(&closed.bytes));
            mine.bytes += closed.bytes.len();
            mine.commits.push_back((sequence, closed));
        }
        (lost.map_or(0, |lost| lost.records), position)
    }

    /// Undelivered commits of `lane`: the first unbroken run within `limit`, but at least one.
    pub fn read(&self, lane: Lane, limit: ReadLimit, codec: &mut Codec) -> Vec<Commit> {
        let mut commits: Vec<Commit> = Vec::new();
        let mut records = 0;
        for (sequence, closed) in &self.lanes[at(lane)].commits {
            records += closed.records as usize;
            let full = commits.len() >= limit.commits || records > limit.records;
            let follows = commits.last().is_none_or(|last| last.header.sequence.0 + 1 == *sequence);
            if !commits.is_empty() && (full || !follows) {
                break;
            }
            match codec.decode(&closed.bytes) {
                Ok((_, commit)) => commits.push(commit),
                Err(error) => tracing::error!(%error, "a commit in memory cannot be read"),
            }
        }
        commits
    }

    /// Forgets the commits from `first` to `last`, which were delivered.
    pub fn delivered(&mut self, lane: Lane, first: Sequence, last: Sequence, codec: &mut Codec) {
        let VolatileLane { state, commits, bytes } = &mut self.lanes[at(lane)];
        let is_delivered = |entry: &(u64, Closed)| (first.0..=last.0).contains(&entry.0);
        for (sequence, closed) in commits.iter().filter(|entry| is_delivered(entry)) {
            state.settle(*sequence, *sequence);
            state.pending.take(Tallies::of_stored(&closed.bytes));
            *bytes -= closed.bytes.len();
            codec.named(&closed.bytes).iter().for_each(|gap| state.settle_dropped(gap.first.0, gap.last.0));
            if closed.is_new {
                self.delivered += u64::from(closed.records);
            }
        }
        commits.retain(|entry| !is_delivered(entry));
    }

    /// Whatever is older in `lane` was delivered, or is named in a gap record that was.
    pub fn oldest_undelivered(&self, lane: Lane) -> Sequence {
        Sequence(self.lanes[at(lane)].state.oldest_undelivered())
    }

    /// Commits and records of `lane` that are to be delivered.
    pub fn pending(&self, lane: Lane) -> (u64, u64) {
        let pending = self.lanes[at(lane)].state.pending.total();
        (pending.commits, pending.records)
    }

    /// Whether there ever was a commit of it.
    pub fn is_used(&self) -> bool {
        self.lanes.iter().any(|lane| lane.state.last() > 0)
    }

    /// Records that were delivered without ever being stored.
    pub fn records_delivered(&self) -> u64 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::commit::ClockReading;
    use crate::model::{BootId, ClockState, Observed, Records, Row, SeriesId, Timestamp, Value};

    fn closed(codec: &mut Codec, lane: Lane, records: &Records) -> Closed {
        let clock = ClockReading { boot: BootId([1; 16]), state: ClockState::Local, wall_minus_monotonic_ms: 0 };
        Closed::encode(codec, lane, records, clock).unwrap()
    }

    fn reading(number: i64) -> Records {
        let observed = vec![Observed::Good(Value::Int(number))];
        Records::Readings(vec![Row { series: [SeriesId(0)].into(), time: Timestamp(number), observed }])
    }

    #[test]
    fn what_was_lost_before_is_named_first_and_what_is_delivered_is_forgotten() {
        let mut codec = Codec::new().unwrap();
        let lane = Lane::Telemetry;
        let mut waiting = Waiting::default();
        waiting.lose(super::super::waiting::Lost::of(&closed(&mut codec, lane, &reading(1))));
        (2..5).for_each(|number| waiting.push(closed(&mut codec, lane, &reading(number))));
        let mut volatile = Volatile::new(Epoch([7; 16]));

        let mut codec_of_gap = Codec::new().unwrap();
        let (lost, _) =
            volatile.take_over(lane, &mut waiting, |gap| Some(closed(&mut codec_of_gap, lane, &Records::Gap(gap))));
        let all = ReadLimit { commits: usize::MAX, records: usize::MAX };
        let commits = volatile.read(lane, all, &mut codec);

        assert_eq!((lost, waiting.is_empty()), (1, true));
        let sequences: Vec<u64> = commits.iter().map(|commit| commit.header.sequence.0).collect();
        assert_eq!(sequences, [2, 3, 4, 5]);
        assert!(
            matches!(&commits[0].records, Records::Gap(gap) if (gap.first.0, gap.last.0, gap.records) == (1, 1, 1))
        );
        assert!(commits.iter().all(|commit| commit.header.epoch == Epoch([7; 16])));
        assert_eq!(volatile.oldest_undelivered(lane), Sequence(1));
        volatile.delivered(lane, Sequence(2), Sequence(4), &mut codec);
        assert_eq!(volatile.oldest_undelivered(lane), Sequence(5));
        assert_eq!((volatile.pending(lane), volatile.records_delivered()), ((1, 1), 2));
    }
}
