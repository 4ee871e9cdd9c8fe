//! Reading what was stored since some time, delivered or not: windows are rebuilt from it.

use std::ops::ControlFlow;

use super::commit::{Envelope, Kind};
use super::history::{self, HistorySpan, Overview, Page};
use super::loaded::{commit_key, sequence_of};
use super::store::Store;
use super::{BufferError, ReadLimit};
use crate::database::{Database, DatabaseError};
use crate::model::{BootId, Commit, Lane, Sequence, Timestamp};

/// How often the search in one boot begins anew, when it meets a clock that was set further ahead than it knew.
const ATTEMPTS: usize = 4;

impl Store {
    /// Durable telemetry from the first commit on that may hold a record of `from` or later and comes after the commit
    /// `after`, within `limit` but at least one. What is damaged is passed over. Empty when there is no more.
    pub fn recent(&mut self, from: Timestamp, after: Sequence, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        let lane = Lane::Telemetry;
        let last = self.lane(lane).last();
        let Some(database) = &self.database else { return Err(self.not_writable()) };
        let first = match after {
            Sequence(0) => Stored { database }.first_since(from, last).map_err(|_| self.not_writable())?,
            Sequence(after) => after + 1,
        };
        let mut commits: Vec<Commit> = Vec::new();
        let mut records = 0;
        let codec = &mut self.codec;
        let visited = database.visit(&commit_key(lane, first), &commit_key(lane, last), |key, value| {
            if commits.len() >= limit.commits || records > limit.records {
                return ControlFlow::Break(());
            }
            match codec.decode(value) {
                Ok((_, commit)) => {
                    records += commit.records.count();
                    commits.push(commit);
                }
                Err(error) => tracing::debug!(sequence = sequence_of(key), %error, "stored commit passed over"),
            }
            ControlFlow::Continue(())
        });
        self.note_read(&visited);
        visited.map_err(|_| self.not_writable())?;
        Ok(commits)
    }
}

impl Store {
    /// A page of what is stored of a lane.
    pub fn page(&mut self, lane: Lane, span: HistorySpan, from: Sequence) -> Result<Page, BufferError> {
        self.looked_up(|store, database| {
            let last = Sequence(store.lane(lane).last());
            history::page(database, store.clocks.offsets(), lane, span, from, last)
        })
    }

    /// The store as a whole.
    pub fn overview(&mut self) -> Result<Overview, BufferError> {
        self.looked_up(|store, database| {
            Overview::of(store.place.path(), database, store.epoch, &store.lanes, &store.resend, &store.clocks)
        })
    }

    /// What `look` finds. Damage that nobody has met before is mended, and the rest of it looked up.
    fn looked_up<T>(&mut self, look: impl Fn(&Self, &Database) -> Result<T, DatabaseError>) -> Result<T, BufferError> {
        let mut found = self.database.as_ref().map(|database| look(self, database));
        if let Some(Err(DatabaseError::Damaged { .. })) = &found {
            self.note_read(&found.take().expect("it was matched in the line above"));
            if self.is_open_again() {
                found = self.database.as_ref().map(|database| look(self, database));
            }
        }
        let Some(found) = found else { return Err(self.not_writable()) };
        self.note_read(&found);
        found.map_err(|_| self.not_writable())
    }
}

/// Finds commits of readings by their time. Sequences have holes, of retention and of gap records between them; and the
/// wall clock may be set. But within one boot the monotonic clock only rises, and boots follow one another.
struct Stored<'a> {
    database: &'a Database,
}

/// What is known of one stored commit of readings.
#[derive(Debug, Clone, Copy)]
struct Found {
    sequence: u64,
    boot: BootId,
    /// Time of its newest reading by the clock that is never set, in milliseconds.
    monotonic_ms: i64,
    /// What the wall clock added to it.
    wall_minus_monotonic_ms: i64,
}

impl Stored<'_> {
    /// The first sequence from which on all readings of `from` or later are found, up to the commit `last`; one more
    /// than `last` when there is none. Looks back as long as boots have any.
    fn first_since(&self, from: Timestamp, last: u64) -> Result<u64, DatabaseError> {
        let mut first = last + 1;
        let mut end = last;
        while let Some(newest) = self.last_up_to(end)? {
            let begin = self.begin_of_boot(newest)?;
            let Some(found) = self.first_in_boot(begin, newest, from)? else { break };
            first = found;
            end = begin.sequence - 1;
        }
        Ok(first)
    }

    /// The first commit of readings from the sequence `first` to `last`.
    fn first_from(&self, first: u64, last: u64) -> Result<Option<Found>, DatabaseError> {
        let lane = Lane::Telemetry;
        let mut found = None;
        self.database.visit(&commit_key(lane, first), &commit_key(lane, last), |key, value| {
            found = Envelope::read(value).ok().and_then(|envelope| Found::of(sequence_of(key), &envelope));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// The last commit of readings up to the sequence `last`.
    fn last_up_to(&self, last: u64) -> Result<Option<Found>, DatabaseError> {
        let mut last = last;
        while last > 0 {
            let key = self.database.last_key(&commit_key(Lane::Telemetry, 1), &commit_key(Lane::Telemetry, last))?;
            let Some(sequence) = key.map(|key| sequence_of(&key)) else { return Ok(None) };
            if let Some(found) = self.first_from(sequence, sequence)? {
                return Ok(Some(found));
            }
            last = sequence - 1;
        }
        Ok(None)
    }

    /// The first commit of the boot in which `newest` was taken.
    fn begin_of_boot(&self, newest: Found) -> Result<Found, DatabaseError> {
        let (mut low, mut begin) = (1, newest);
        while low < begin.sequence {
            let middle = low + (begin.sequence - low) / 2;
            match self.first_from(middle, begin.sequence)? {
                Some(found) if found.boot != newest.boot => low = found.sequence + 1,
                // Nothing is between the middle and what was found.
                Some(found) if found.sequence == begin.sequence => {
                    match self.last_up_to(middle - 1)? {
                        Some(before) if before.boot == newest.boot => begin = before,
                        Some(_) | None => low = begin.sequence,
                    };
                }
                Some(found) => begin = found,
                None => low = begin.sequence,
            }
        }
        Ok(begin)
    }

    /// The first sequence of a boot, from `begin` to `newest`, whose commit may hold a reading of `from` or later.
    fn first_in_boot(&self, begin: Found, newest: Found, from: Timestamp) -> Result<Option<u64>, DatabaseError> {
        // A clock that was set back had been further ahead before: what is furthest ahead decides what may be recent.
        let mut ahead_ms = begin.wall_minus_monotonic_ms.max(newest.wall_minus_monotonic_ms);
        let mut result = None;
        for _ in 0..ATTEMPTS {
            let mut seen_ms = ahead_ms;
            let (mut low, mut high) = (begin.sequence, newest.sequence + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.first_from(middle, high - 1)? {
                    Some(found) => {
                        seen_ms = seen_ms.max(found.wall_minus_monotonic_ms);
                        if found.monotonic_ms.saturating_add(ahead_ms) < from.0 {
                            low = found.sequence + 1;
                        } else {
                            high = middle;
                        }
                    }
                    None => high = middle,
                }
            }
            result = (low <= newest.sequence).then_some(low);
            if seen_ms == ahead_ms {
                break;
            }
            ahead_ms = seen_ms;
        }
        Ok(result)
    }
}

impl Found {
    fn of(sequence: u64, envelope: &Envelope) -> Option<Self> {
        let wall_minus_monotonic_ms = envelope.header.wall_minus_monotonic_ms;
        let monotonic_ms = envelope.last_time.0.saturating_sub(wall_minus_monotonic_ms);
        let boot = envelope.header.boot;
        (envelope.kind == Kind::Readings).then_some(Self { sequence, boot, monotonic_ms, wall_minus_monotonic_ms })
    }
}

#[cfg(test)]
mod tests;
