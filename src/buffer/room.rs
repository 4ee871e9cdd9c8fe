//! Making room: which stored commits go, and what the consumer is told about it.

use std::ops::ControlFlow;

use super::commit::{Codec, Envelope, Kind, RECORDS_MAX};
use super::lane::LaneState;
use super::loaded::{commit_key, sequence_of};
use super::tally::{Tallies, Tally};
use super::thin::Stage;
use super::waiting::Closed;
use crate::database::{Batch, Database, DatabaseError};
use crate::model::{Epoch, Gap, GapReason, Lane, Records, Sequence, Timestamp};

/// Removes stored commits as part of one batch.
pub struct Room<'a> {
    /// The database as it is.
    pub database: &'a Database,
    /// Life of the database.
    pub epoch: Epoch,
    /// Decodes what has to go, and encodes what takes its place.
    pub codec: &'a mut Codec,
    /// Takes the removals.
    pub batch: &'a mut Batch,
    /// Takes the gap records to write in the same batch.
    pub gaps: &'a mut Vec<Gap>,
    /// Takes the aggregates to write in the same batch.
    pub aggregates: &'a mut Vec<Closed>,
    /// Bytes that each stage of thinning may take before it is thinned further; without it nothing is thinned.
    pub share: Option<u64>,
    /// At least so many bytes of what is undelivered go at once.
    pub chunk: u64,
}

/// Readings that went undelivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// Aggregates stand for these.
    pub thinned: u64,
    /// Nothing stands for these.
    pub dropped: u64,
}

impl Room<'_> {
    /// Frees `need` bytes: history first, then the oldest undelivered telemetry, thinned as long as it can be,
    /// undelivered alarms last. Thinning may leave the rest of a large need for the next time.
    pub fn free(&mut self, lanes: &mut [LaneState; 2], need: u64) -> Result<Gone, DatabaseError> {
        let [alarms, telemetry] = lanes;
        let mut left = need;
        for lane in [&mut *telemetry, &mut *alarms] {
            left = left.saturating_sub(self.remove_history(lane, left)?);
        }
        let mut gone = Gone::default();
        if left > 0 {
            left = self.thin_oldest(telemetry, left, &mut gone)?;
        }
        for lane in [telemetry, alarms] {
            if left > 0 {
                let (freed, records) = self.drop_pending(lane, left.max(self.chunk))?;
                left = left.saturating_sub(freed);
                gone.dropped += records;
            }
        }
        Ok(gone)
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
        let mut freed = Tallies::default();
        let mut records = 0;
        let mut from = 0;
        while let Some((first, last)) = lane.pending_run(from).filter(|_| freed.total().bytes < need) {
            let mut run = Run::from(first);
            let (batch, codec, gaps) = (&mut *self.batch, &mut *self.codec, &mut *self.gaps);
            let again = &mut *self.aggregates;
            self.database.visit(&commit_key(lane.lane, first), &commit_key(lane.lane, last), |key, value| {
                if freed.total().bytes >= need {
                    return ControlFlow::Break(());
                }
                freed.add(Tallies::of_stored(value));
                batch.remove(key);
                run.add(sequence_of(key), value);
                records += say_what_goes(codec, value, gaps);
                again.extend(Closed::offset_again(codec, value));
                ControlFlow::Continue(())
            })?;
            if freed.total().bytes < need {
                run.last = last;
            }
            lane.drop_run(run.first, run.last);
            records += run.records;
            from = run.last + 1;
            self.gaps.push(run.gap(lane.lane, GapReason::StoreFull));
        }
        lane.stored.take(freed.total());
        lane.pending.take(freed);
        Ok((freed.total().bytes, records))
    }

    /// Removes the oldest undelivered aggregates of ten minutes until `need` bytes are free. Returns how many bytes are
    /// free and how many readings are gone with them.
    pub(super) fn drop_aggregates(&mut self, lane: &mut LaneState, need: u64) -> Result<(u64, u64), DatabaseError> {
        let mut freed = Tallies::default();
        let mut readings = 0;
        if lane.pending.ten_minutes.commits == 0 {
            return Ok((0, 0));
        }
        let mut from = lane.pending_from(Stage::TenMinutes);
        while let Some((first, last)) = lane.pending_run(from).filter(|_| freed.total().bytes < need) {
            let (batch, codec, gaps) = (&mut *self.batch, &mut *self.codec, &mut *self.gaps);
            let mut gone = Vec::new();
            from = last + 1;
            self.database.visit(&commit_key(lane.lane, first), &commit_key(lane.lane, last), |key, value| {
                if freed.total().bytes >= need {
                    from = sequence_of(key);
                    return ControlFlow::Break(());
                }
                let tallies = Tallies::of_stored(value);
                if tallies.ten_minutes.commits == 0 {
                    return ControlFlow::Continue(());
                }
                freed.add(tallies);
                batch.remove(key);
                let mut run = Run::from(sequence_of(key));
                run.add(sequence_of(key), value);
                gaps.push(run.gap(lane.lane, GapReason::StoreFull));
                readings += say_what_goes(codec, value, gaps);
                gone.push(sequence_of(key));
                ControlFlow::Continue(())
            })?;
            gone.into_iter().for_each(|sequence| lane.drop_run(sequence, sequence));
        }
        lane.note_none_below(Stage::TenMinutes, from);
        lane.stored.take(freed.total());
        lane.pending.take(freed);
        Ok((freed.total().bytes, readings))
    }
}

/// What a stored commit that goes says about others is said again: that a gap record itself is gone loses nothing, and
/// with aggregates go the readings they stand for. Returns how many those were.
fn say_what_goes(codec: &mut Codec, value: &[u8], gaps: &mut Vec<Gap>) -> u64 {
    let is_thinned = Envelope::read(value).is_ok_and(|envelope| matches!(envelope.kind, Kind::Thinned(_)));
    let named = codec.named(value);
    let readings = if is_thinned { named.iter().map(|gap| gap.records).sum() } else { 0 };
    gaps.extend(named);
    readings
}

/// Joins gap records of which one goes on where the other ends.
pub fn join(gaps: &mut Vec<Gap>) {
    gaps.sort_by_key(|gap| (gap.lane, gap.reason as u8, gap.first));
    gaps.dedup_by(|next, gap| {
        let joins = (gap.lane, gap.reason, gap.last.next()) == (next.lane, next.reason, next.first);
        if joins {
            (gap.first_time, gap.last_time) = match (has_times(gap), has_times(next)) {
                (true, true) => (gap.first_time.min(next.first_time), gap.last_time.max(next.last_time)),
                (true, false) => (gap.first_time, gap.last_time),
                (false, _) => (next.first_time, next.last_time),
            };
            gap.last = next.last;
            gap.records += next.records;
        }
        joins
    });
}

/// A run of which nothing is known but its sequences has no times.
fn has_times(gap: &Gap) -> bool {
    (gap.first_time, gap.last_time) != <(Timestamp, Timestamp)>::default()
}

impl Codec {
    /// What `value` says to be gone: the range of a gap record, or the ranges that aggregates stand for. Nothing when it
    /// holds other records or is damaged.
    pub fn named(&mut self, value: &[u8]) -> Vec<Gap> {
        let Ok(envelope) = Envelope::read(value) else { return Vec::new() };
        if !matches!(envelope.kind, Kind::Gap | Kind::Thinned(_)) {
            return Vec::new();
        }
        let lane = envelope.lane;
        let (first_time, last_time) = (envelope.first_time, envelope.last_time);
        match self.decode(value).map(|found| found.1.records) {
            Ok(Records::Gap(gap)) => vec![gap],
            Ok(Records::Thinned(thinned)) => {
                let gap = |replaced: crate::model::Replaced| Gap {
                    lane,
                    first: replaced.first,
                    last: replaced.last,
                    records: replaced.readings,
                    first_time,
                    last_time,
                    reason: GapReason::StoreFull,
                };
                thinned.replaces.into_iter().map(gap).collect()
            }
            Ok(Records::Readings(_) | Records::Alarms(_) | Records::ClockOffset(_)) | Err(_) => Vec::new(),
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
    /// Records lost, as far as known. Gap records and aggregates do not count: what they stand for does.
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
        self.records += match envelope.kind {
            Kind::Readings | Kind::Alarms => u64::from(envelope.records),
            Kind::Gap | Kind::Thinned(_) | Kind::ClockOffset => 0,
        };
        let (first, last) = self.times.unwrap_or((envelope.first_time, envelope.last_time));
        self.times = Some((first.min(envelope.first_time), last.max(envelope.last_time)));
    }

    /// The run with bounds for its times, when nothing of it is left to tell them: those of the commits beside it.
    pub fn among_neighbours(self, database: &Database, lane: Lane) -> Result<Self, DatabaseError> {
        if self.times.is_some() {
            return Ok(self);
        }
        let times = |sequence| {
            let value = database.get(&commit_key(lane, sequence))?;
            let envelope = value.and_then(|value| Envelope::read(&value).ok());
            let envelope = envelope.filter(|it| !matches!(it.kind, Kind::Gap | Kind::ClockOffset));
            Ok::<_, DatabaseError>(envelope.map(|it| (it.first_time, it.last_time)))
        };
        let (before, after) = (times(self.first - 1)?, times(self.last + 1)?);
        let bounds = before.zip(after).map(|(before, after)| (before.0.min(after.0), before.1.max(after.1)));
        Ok(Self { times: bounds, ..self })
    }

    /// The gap record about this run.
    pub fn gap(&self, lane: Lane, reason: GapReason) -> Gap {
        let (first_time, last_time) = self.times.unwrap_or_default();
        let (first, last) = (Sequence(self.first), Sequence(self.last));
        Gap { lane, first, last, records: self.records, first_time, last_time, reason }
    }
}
