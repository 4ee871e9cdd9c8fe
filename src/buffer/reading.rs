//! Reading what is to be delivered, and noting what was.

use std::ops::ControlFlow;

use super::commit::{CommitError, Envelope};
use super::loaded::{commit_key, sequence_of};
use super::room::Run;
use super::status::{LaneWatermark, Watermarks};
use super::store::{LostRun, Store, at};
use super::tally::{Tallies, Tally};
use super::{BufferError, ReadLimit};
use crate::model::{Commit, Epoch, Lane, Sequence, Timestamp};

impl Store {
    /// Durable, undelivered commits: the first unbroken run from `from` on, not behind `until`, within `limit` but at
    /// least one. A commit that is damaged or missing is passed over; a gap record will say so.
    pub fn read(
        &mut self,
        lane: Lane,
        from: Sequence,
        until: Sequence,
        limit: ReadLimit,
    ) -> Result<Vec<Commit>, BufferError> {
        while let Some((first, last)) = self.lane(lane).pending_run(from.0).filter(|run| run.0 <= until.0) {
            let commits = self.read_run(lane, first, last.min(until.0), limit)?;
            if !commits.is_empty() {
                return Ok(commits);
            }
        }
        Ok(Vec::new())
    }

    /// Reads from one run. Returns nothing only when its beginning was damaged, which is noted.
    fn read_run(&mut self, lane: Lane, first: u64, last: u64, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        let mut commits: Vec<Commit> = Vec::new();
        let mut records = 0;
        let mut expected = first;
        let mut lost: Option<(Run, Tallies)> = None;
        let epoch = self.epoch;
        let Some(database) = &self.database else { return Err(self.not_writable()) };
        let codec = &mut self.codec;
        let result = database.visit(&commit_key(lane, first), &commit_key(lane, last), |key, value| {
            let full =
                commits.len() >= limit.commits || records + Tally::of_stored(value).records as usize > limit.records;
            if !commits.is_empty() && (full || sequence_of(key) != expected) {
                return ControlFlow::Break(());
            }
            if sequence_of(key) != expected {
                lost.get_or_insert((Run::missing(expected, expected), Tallies::default())).0.last =
                    sequence_of(key) - 1;
            }
            expected = sequence_of(key) + 1;
            match codec.decode(value).and_then(|found| belongs(found, epoch, lane, sequence_of(key))) {
                Ok(commit) if lost.is_none() => {
                    records += commit.records.count();
                    commits.push(commit);
                    ControlFlow::Continue(())
                }
                // The run of damage is known to its end: note it, and read again behind it.
                Ok(_) => ControlFlow::Break(()),
                Err(_) if !commits.is_empty() => ControlFlow::Break(()),
                Err(error) => {
                    tracing::warn!(%lane, sequence = sequence_of(key), %error, "stored commit is damaged");
                    let (run, tally) = lost.get_or_insert((Run::from(sequence_of(key)), Tallies::default()));
                    run.add(sequence_of(key), value);
                    tally.add(Tallies::of_stored(value));
                    ControlFlow::Continue(())
                }
            }
        });
        let lost = result.and_then(|()| {
            let (run, tally) = lost.unwrap_or_else(|| (Run::missing(first, last), Tallies::default()));
            let is_lost = commits.is_empty();
            is_lost.then(|| Ok(LostRun { lane, run: run.among_neighbours(database, lane)?, tally })).transpose()
        });
        self.note_read(&lost);
        if let Some(lost) = lost.map_err(|_| self.not_writable())? {
            self.lose(lost);
        }
        Ok(commits)
    }

    fn lose(&mut self, lost: LostRun) {
        let (first, last) = (lost.run.first, lost.run.last);
        self.counters.damaged += last - first + 1;
        self.lane_mut(lost.lane).drop_run(first, last);
        self.tell_damage(last - first + 1);
        self.lost_runs.push(lost);
        self.unsaved = true;
    }

    /// Notes that `first` to `last` of `epoch` were delivered; durable with the next save. What is not durable itself,
    /// or was delivered or dropped before, is passed over, and so is an epoch that is no more.
    pub fn delivered(&mut self, epoch: Epoch, lane: Lane, first: Sequence, last: Sequence) {
        if epoch != self.epoch {
            self.delivered_other(epoch, lane, first, last);
            return;
        }
        let mut from = first.0;
        while let Some((begin, end)) = self.lane(lane).pending_run(from).filter(|run| run.0 <= last.0) {
            let end = end.min(last.0);
            let mut tally = Tallies::default();
            let mut named: Vec<(u64, u64)> = Vec::new();
            let Some(database) = &self.database else {
                self.deliveries_missed.push((epoch, lane, from, last.0));
                return;
            };
            let codec = &mut self.codec;
            let result = database.visit(&commit_key(lane, begin), &commit_key(lane, end), |_, value| {
                tally.add(Tallies::of_stored(value));
                named.extend(codec.named(value).iter().map(|gap| (gap.first.0, gap.last.0)));
                ControlFlow::Continue(())
            });
            self.note_read(&result);
            if result.is_err() {
                self.deliveries_missed.push((epoch, lane, from, last.0));
                return;
            }
            let state = self.lane_mut(lane);
            state.settle(begin, end);
            state.pending.take(tally);
            named.into_iter().for_each(|(first, last)| state.settle_dropped(first, last));
            self.unsaved = true;
            from = end + 1;
        }
    }

    /// What is durable and what is still to be delivered.
    pub fn watermarks(&mut self) -> Watermarks {
        Watermarks {
            epoch: self.epoch,
            alarms: self.watermark(Lane::Alarms),
            telemetry: self.watermark(Lane::Telemetry),
            others: self.other_marks(),
        }
    }

    fn watermark(&mut self, lane: Lane) -> LaneWatermark {
        let oldest_pending_time = self.lane(lane).pending_run(0).and_then(|(first, _)| self.time_of(lane, first));
        let resend_commits = self.resend.of(lane).len();
        let state = self.lane(lane);
        let pending = state.pending.total();
        LaneWatermark {
            durable_last: Sequence(state.last()),
            oldest_undelivered: Sequence(state.oldest_undelivered()),
            pending_commits: pending.commits,
            pending_readings: pending.records,
            pending_bytes: pending.bytes,
            oldest_pending_time,
            resend_commits,
        }
    }

    /// Bytes of telemetry that is still to be delivered.
    pub fn backlog_bytes(&self) -> u64 {
        self.lane(Lane::Telemetry).pending.total().bytes
    }

    /// Time of the oldest record of a stored commit: of the one asked for last, without looking again.
    fn time_of(&mut self, lane: Lane, sequence: u64) -> Option<Timestamp> {
        if self.oldest_pending[at(lane)].0 != sequence {
            let value = self.database.as_ref()?.get(&commit_key(lane, sequence)).ok()??;
            let envelope = Envelope::read(&value).ok()?;
            self.oldest_pending[at(lane)] = (sequence, Some(envelope.first_time));
        }
        self.oldest_pending[at(lane)].1
    }
}

/// A commit is only where it says that it belongs.
pub(super) fn belongs(
    (found_lane, commit): (Lane, Commit),
    epoch: Epoch,
    lane: Lane,
    sequence: u64,
) -> Result<Commit, CommitError> {
    if found_lane == lane && commit.header.epoch == epoch && commit.header.sequence.0 == sequence {
        Ok(commit)
    } else {
        Err(CommitError::Malformed(super::varint::Malformed("belongs elsewhere")))
    }
}
