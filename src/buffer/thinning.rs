//! Thinning as part of making room.
//!
//! Raw readings keep all the room that the stages after them leave. When minutes take more than their share, the oldest
//! of them become ten minutes; when those take more than theirs, the oldest are dropped; else the oldest readings become
//! minutes. So each stage reaches back further than the one before, and none starves another.

use std::ops::ControlFlow;

use super::commit::{Codec, Envelope, Kind};
use super::lane::LaneState;
use super::loaded::{commit_key, sequence_of};
use super::reading::belongs;
use super::room::{Gone, Room};
use super::tally::Tallies;
use super::thin::{Stage, Thinner};
use super::waiting::Closed;
use crate::database::DatabaseError;
use crate::model::{Epoch, Gap, Lane, Records, Sequence, Window};

/// Most bytes that are thinned in one save: what a limit that was lowered asks for is spread over many.
const BYTES_AT_ONCE: u64 = 4 << 20;

/// Aggregates that take more than this share of what they stand for, in percent, are not worth it.
const WORTH_PERCENT: u64 = 75;

/// What one pass over the oldest commits of a stage comes to.
struct Pass {
    lane: Lane,
    epoch: Epoch,
    stage: Stage,
    thinner: Thinner,
    /// Bytes of commits after which it is enough.
    need: u64,
    /// Commits that are in `thinner`.
    open: Taken,
    /// Commits that `records` stand for.
    done: Taken,
    records: Vec<Closed>,
    is_done: bool,
}

/// Commits that go.
#[derive(Default)]
struct Taken {
    sequences: Vec<u64>,
    tallies: Tallies,
    readings: u64,
    /// Gap records among them: said again.
    gaps: Vec<Gap>,
    gap_bytes: u64,
    /// Clock offsets among them: stored again.
    offsets: Vec<Closed>,
}

impl Taken {
    fn append(&mut self, other: &mut Self) {
        self.sequences.append(&mut other.sequences);
        self.gaps.append(&mut other.gaps);
        self.offsets.append(&mut other.offsets);
        self.tallies.add(std::mem::take(&mut other.tallies));
        self.readings += std::mem::take(&mut other.readings);
        self.gap_bytes += std::mem::take(&mut other.gap_bytes);
    }

    fn bytes(&self) -> u64 {
        self.tallies.total().bytes
    }
}

impl Room<'_> {
    /// Thins the oldest undelivered commits until `need` bytes are free, and drops the oldest aggregates of ten minutes.
    /// Returns the bytes that are still to be freed in another way.
    pub(super) fn thin_oldest(
        &mut self,
        lane: &mut LaneState,
        need: u64,
        gone: &mut Gone,
    ) -> Result<u64, DatabaseError> {
        let Some(share) = self.share else { return Ok(need) };
        let mut left = need;
        let mut work = 0;
        while left > 0 {
            let pending = lane.pending;
            let (minutes, tens) = (pending.minutes.bytes, pending.ten_minutes.bytes);
            let mut stages = vec![Stage::Raw, Stage::Minutes, Stage::TenMinutes];
            stages.sort_by_key(|stage| match stage {
                Stage::TenMinutes if tens > share => 0,
                Stage::Minutes if minutes > share => 1,
                Stage::Raw => 2,
                Stage::Minutes => 3,
                Stage::TenMinutes => 4,
            });
            let wanted = left.max(self.chunk).min(BYTES_AT_ONCE);
            let mut freed = 0;
            for stage in stages {
                freed = match stage {
                    Stage::TenMinutes => {
                        let (freed, readings) = self.drop_aggregates(lane, wanted)?;
                        gone.dropped += readings;
                        freed
                    }
                    Stage::Minutes => self.thin(lane, stage, &[Window::TenMinutes], wanted, gone)?,
                    Stage::Raw => self.thin(lane, stage, &[Window::Minute, Window::TenMinutes], wanted, gone)?,
                };
                if freed > 0 {
                    break;
                }
            }
            if freed == 0 {
                return Ok(left);
            }
            left = left.saturating_sub(freed);
            work += wanted;
            if work >= BYTES_AT_ONCE {
                return Ok(0);
            }
        }
        Ok(0)
    }

    /// Puts aggregates of the first of `windows` that is worth it in the place of the oldest commits of `stage` that take
    /// `need` bytes. Returns the bytes that are free afterwards.
    fn thin(
        &mut self,
        lane: &mut LaneState,
        stage: Stage,
        windows: &[Window],
        need: u64,
        gone: &mut Gone,
    ) -> Result<u64, DatabaseError> {
        if lane.pending.at(stage).commits == 0 {
            return Ok(0);
        }
        for window in windows {
            let pass = self.pass(lane, stage, *window, need)?;
            let made: u64 = pass.records.iter().map(Closed::stored_bytes).sum::<u64>() + pass.done.gap_bytes;
            let removed = pass.done.bytes();
            if made >= removed / 100 * WORTH_PERCENT {
                continue;
            }
            let Taken { sequences, tallies, readings, gaps, offsets, .. } = pass.done;
            for sequence in &sequences {
                self.batch.remove(&commit_key(lane.lane, *sequence));
                lane.drop_run(*sequence, *sequence);
            }
            lane.note_none_below(stage, sequences.last().map_or(0, |last| last + 1));
            lane.stored.take(tallies.total());
            lane.pending.take(tallies);
            self.gaps.extend(gaps);
            self.aggregates.extend(offsets);
            self.aggregates.extend(pass.records);
            gone.thinned += readings;
            return Ok(removed - made);
        }
        Ok(0)
    }

    fn pass(&mut self, lane: &LaneState, stage: Stage, window: Window, need: u64) -> Result<Pass, DatabaseError> {
        let mut pass = Pass {
            lane: lane.lane,
            epoch: self.epoch,
            stage,
            thinner: Thinner::new(window),
            need,
            open: Taken::default(),
            done: Taken::default(),
            records: Vec::new(),
            is_done: false,
        };
        let mut from = lane.pending_from(stage);
        while let Some((first, last)) = lane.pending_run(from).filter(|_| !pass.is_done) {
            let codec = &mut *self.codec;
            self.database.visit(&commit_key(lane.lane, first), &commit_key(lane.lane, last), |key, value| {
                pass.see(codec, sequence_of(key), value);
                if pass.is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            from = last + 1;
        }
        // A window is cut only when there is no other.
        if pass.records.is_empty() {
            pass.finish(self.codec);
        }
        Ok(pass)
    }
}

impl Pass {
    /// Takes the next stored commit if it is of the stage. What is damaged stays for who reads it.
    fn see(&mut self, codec: &mut Codec, sequence: u64, value: &[u8]) {
        let Ok(envelope) = Envelope::read(value) else { return };
        if Stage::of(envelope.kind) != self.stage {
            return;
        }
        let taken = self.done.bytes() + self.open.bytes();
        let is_far_enough = taken >= 2 * self.need;
        if is_far_enough || self.thinner.is_due(&envelope, taken >= self.need) {
            self.finish(codec);
            if self.done.bytes() >= self.need {
                self.is_done = true;
                return;
            }
        }
        let (epoch, lane) = (self.epoch, self.lane);
        let Ok(commit) = codec.decode(value).and_then(|found| belongs(found, epoch, lane, sequence)) else { return };
        let tallies = Tallies::of_stored(value);
        match commit.records {
            Records::Gap(gap) => {
                self.thinner.pass_over(Sequence(sequence));
                self.open.gaps.push(gap);
                self.open.gap_bytes += tallies.total().bytes;
            }
            Records::ClockOffset(_) => {
                let Some(again) = Closed::offset_again(codec, value) else { return };
                self.thinner.pass_over(Sequence(sequence));
                self.open.gap_bytes += tallies.total().bytes;
                self.open.offsets.push(again);
            }
            records => {
                self.thinner.add(&envelope, &records);
                self.open.readings += if envelope.kind == Kind::Readings { records.count() as u64 } else { 0 };
            }
        }
        self.open.tallies.add(tallies);
        self.open.sequences.push(sequence);
    }

    /// Makes a record of what was taken so far; without aggregates it stays as it is.
    fn finish(&mut self, codec: &mut Codec) {
        let Some((thinned, clock)) = self.thinner.finish() else {
            self.open = Taken::default();
            return;
        };
        match Closed::encode(codec, self.lane, &Records::Thinned(thinned), clock) {
            Ok(closed) => {
                self.records.push(closed);
                self.done.append(&mut self.open);
            }
            Err(error) => {
                tracing::error!(%error, "aggregates cannot be stored");
                self.open = Taken::default();
            }
        }
    }
}
