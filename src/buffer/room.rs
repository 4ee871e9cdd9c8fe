//! Making room: which stored commits go, and what the consumer is told about it.

use std::ops::ControlFlow;

use super::commit::{Codec, Envelope, Kind, RECORDS_MAX};
use super::lane::{LaneState, Tally};
use super::loaded::{commit_key, sequence_of};
use crate::database::{Batch, Database, DatabaseError};
use crate::model::{Gap, GapReason, Lane, Records, Sequence, Timestamp};

/// Removes stored commits as part of one batch.
pub struct Room<'a> {
    /// The database as it is.
    pub database: &'a Database,
    /// Decodes the gap records that have to go.
    pub codec: &'a mut Codec,
    /// Takes the removals.
    pub batch: &'a mut Batch,
    /// Takes the gap records to write in the same batch.
    pub gaps: &'a mut Vec<Gap>,
}

impl Room<'_> {
    /// Frees `need` bytes: history first, then the oldest undelivered telemetry, undelivered alarms last. At least
    /// `chunk` bytes at once of what is undelivered. Returns how many undelivered records are gone.
    pub fn free(&mut self, lanes: &mut [LaneState; 2], need: u64, chunk: u64) -> Result<u64, DatabaseError> {
        let [alarms, telemetry] = lanes;
        let mut left = need;
        for lane in [&mut *telemetry, &mut *alarms] {
            left = left.saturating_sub(self.remove_history(lane, left)?);
        }
        let mut dropped = 0;
        for lane in [telemetry, alarms] {
            if left > 0 {
                let (freed, records) = self.drop_pending(lane, left.max(chunk))?;
                left = left.saturating_sub(freed);
                dropped += records;
            }
        }
        Ok(dropped)
    }

    /// Removes the oldest delivered commits until `need` bytes are free. Returns how many are.
    fn remove_history(&mut self, lane: &mut LaneState, need: u64) -> Result<u64, DatabaseError> {
        let mut freed = Tally::default();
        let ranges: Vec<(u64, u64)> = lane.settled.iter().filter(|range| range.1 >= lane.history_from).collect();
        for (first, last) in ranges {
            if freed.bytes >= need {
                break;
            }
            let from = first.max(lane.history_from);
            lane.history_from = last + 1;
            self.database.visit(&commit_key(lane.lane, from), &commit_key(lane.lane, last), |key, value| {
                if freed.bytes >= need {
                    lane.history_from = sequence_of(key);
                    return ControlFlow::Break(());
                }
                freed.add(Tally::of_stored(value));
                self.batch.remove(key);
                ControlFlow::Continue(())
            })?;
        }
        lane.stored.take(freed);
        Ok(freed.bytes)
    }

    /// Removes the oldest undelivered commits until `need` bytes are free, one gap record for each unbroken run.
    /// Returns how many bytes are free and how many records are gone.
    fn drop_pending(&mut self, lane: &mut LaneState, need: u64) -> Result<(u64, u64), DatabaseError> {
        let mut freed = Tally::default();
        let mut records = 0;
        let mut from = 0;
        while let Some((first, last)) = lane.pending_run(from).filter(|_| freed.bytes < need) {
            let mut run = Run::from(first);
            let (batch, codec, gaps) = (&mut *self.batch, &mut *self.codec, &mut *self.gaps);
            self.database.visit(&commit_key(lane.lane, first), &commit_key(lane.lane, last), |key, value| {
                if freed.bytes >= need {
                    return ControlFlow::Break(());
                }
                freed.add(Tally::of_stored(value));
                batch.remove(key);
                run.add(sequence_of(key), value);
                if let Some(gap) = codec.decode_gap(value) {
                    // What a gap record says is said again; that it itself is gone loses nothing.
                    run.records -= 1;
                    say_again(gaps, gap);
                }
                ControlFlow::Continue(())
            })?;
            if freed.bytes < need {
                run.last = last;
            }
            lane.drop_run(run.first, run.last);
            records += run.records;
            from = run.last + 1;
            self.gaps.push(run.gap(lane.lane, GapReason::StoreFull));
        }
        lane.stored.take(freed);
        lane.pending.take(freed);
        Ok((freed.bytes, records))
    }
}

/// A gap record that goes before it was delivered is written anew, with its neighbour where there is one.
fn say_again(gaps: &mut Vec<Gap>, gap: Gap) {
    let neighbour = gaps
        .iter_mut()
        .find(|other| other.lane == gap.lane && other.reason == gap.reason && other.last.next() == gap.first);
    match neighbour {
        Some(other) => {
            other.last = gap.last;
            other.records += gap.records;
            other.first_time = other.first_time.min(gap.first_time);
            other.last_time = other.last_time.max(gap.last_time);
        }
        None => gaps.push(gap),
    }
}

impl Codec {
    /// The gap record in `value`; `None` when it holds other records or is damaged.
    pub fn decode_gap(&mut self, value: &[u8]) -> Option<Gap> {
        if Envelope::read(value).ok()?.kind != Kind::Gap {
            return None;
        }
        match self.decode(value).ok()?.1.records {
            Records::Gap(gap) => Some(gap),
            Records::Readings(_) | Records::Alarms(_) => None,
        }
    }
}

/// A run of sequences that is lost, as it is found out commit by commit.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// First lost sequence.
    pub first: u64,
    /// Last lost sequence.
    pub last: u64,
    /// Records lost, as far as known.
    pub records: u64,
    times: Option<(Timestamp, Timestamp)>,
}

impl Run {
    /// A run that begins with `first`.
    pub fn from(first: u64) -> Self {
        Self { first, last: first, records: 0, times: None }
    }

    /// A run of which nothing is known but its sequences.
    pub fn missing(first: u64, last: u64) -> Self {
        Self { last, ..Self::from(first) }
    }

    /// Adds the stored value of `sequence`, as far as its envelope can be believed.
    pub fn add(&mut self, sequence: u64, value: &[u8]) {
        self.last = sequence;
        let Ok(envelope) = Envelope::read(value) else { return };
        if envelope.records as usize > RECORDS_MAX {
            return;
        }
        self.records += u64::from(envelope.records);
        let (first, last) = self.times.unwrap_or((envelope.first_time, envelope.last_time));
        self.times = Some((first.min(envelope.first_time), last.max(envelope.last_time)));
    }

    /// The gap record about this run.
    pub fn gap(&self, lane: Lane, reason: GapReason) -> Gap {
        let (first_time, last_time) = self.times.unwrap_or_default();
        let (first, last) = (Sequence(self.first), Sequence(self.last));
        Gap { lane, first, last, records: self.records, first_time, last_time, reason }
    }
}
