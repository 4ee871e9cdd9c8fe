//! Reading what was stored since some time, delivered or not: windows are rebuilt from it.

use std::ops::ControlFlow;

use super::commit::Envelope;
use super::loaded::{commit_key, sequence_of};
use super::store::Store;
use super::{BufferError, ReadLimit};
use crate::model::{Commit, Lane, Sequence, Timestamp};

impl Store {
    /// Durable telemetry from the first commit on that may hold a record of `from` or later and comes after the commit
    /// `after`, within `limit` but at least one. What is damaged is passed over. Empty when there is no more.
    pub fn recent(&mut self, from: Timestamp, after: Sequence, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        let lane = Lane::Telemetry;
        let last = self.lane(lane).last();
        let first = if after == Sequence(0) { self.first_since(from, last)? } else { after.0 + 1 };
        let mut commits: Vec<Commit> = Vec::new();
        let mut records = 0;
        let Some(database) = &self.database else { return Err(self.not_writable()) };
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

    /// The first sequence whose commit ends at `from` or later. Sequences rise with time but for the odd clock that was
    /// set; what is missing is older than what is there.
    fn first_since(&self, from: Timestamp, last: u64) -> Result<u64, BufferError> {
        let Some(database) = &self.database else { return Err(self.not_writable()) };
        let (mut low, mut high) = (1, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let value = database.get(&commit_key(Lane::Telemetry, middle)).map_err(|_| self.not_writable())?;
            let is_old = value.is_none_or(|value| Envelope::read(&value).is_ok_and(|it| it.last_time < from));
            if is_old { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}
