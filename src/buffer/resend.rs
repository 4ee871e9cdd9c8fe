//! What goes out once more although it was delivered: a durable set of sequences for each lane, beside what is settled,
//! which stays as it is. Written in the same batch as everything else.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::loaded::{commit_key, sequence_of};
use super::ranges::Ranges;
use super::store::{Store, at};
use super::varint::{Malformed, Reader};
use super::{BufferError, ReadLimit};
use crate::database::{Batch, Database, DatabaseError};
use crate::model::{Commit, Lane, Sequence};

const KEY: &[u8] = b"q";

const VERSION: u8 = 1;

/// What became of a wish to send again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resent {
    /// Commits that will be sent again.
    pub commits: u64,
    /// Commits of the span that are still to be delivered, and are sent anyway.
    pub undelivered: u64,
}

/// The set of both lanes, and whether it is on disk.
#[derive(Debug, Default)]
pub struct Resend {
    lanes: [Ranges; 2],
    /// Counts the changes.
    number: u64,
    saved: u64,
}

impl Resend {
    /// What `database` holds. A damaged value counts as none: nothing is lost by it.
    pub fn load(database: &Database) -> Result<Self, DatabaseError> {
        let lanes = database.get(KEY)?.map(|bytes| decode(&bytes)).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "what was to be sent again is not known any more");
            None
        });
        Ok(Self { lanes: lanes.unwrap_or_default(), number: 0, saved: 0 })
    }

    /// The set of `lane`.
    pub fn of(&self, lane: Lane) -> &Ranges {
        &self.lanes[at(lane)]
    }

    fn change(&mut self, lane: Lane) -> &mut Ranges {
        self.number += 1;
        &mut self.lanes[at(lane)]
    }

    /// Whether it has to be written.
    pub fn is_unsaved(&self) -> bool {
        self.number != self.saved
    }

    /// Puts the set into `batch` when that is due. Returns its number, for [`adopt`](Self::adopt).
    pub fn put(&self, batch: &mut Batch) -> u64 {
        if self.is_unsaved() {
            let mut bytes = vec![VERSION];
            self.lanes.iter().for_each(|lane| lane.encode(&mut bytes));
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            batch.put(KEY, &bytes);
        }
        self.number
    }

    /// The set with this number is durable.
    pub fn adopt(&mut self, number: u64) {
        self.saved = number;
    }

    /// A new database has begun: what was in the old one is not there to be sent.
    pub fn begin_anew(&mut self) {
        *self = Self { lanes: Default::default(), number: self.number + 1, saved: self.saved };
    }
}

fn decode(bytes: &[u8]) -> Result<[Ranges; 2], Malformed> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(Malformed("bytes end early"))?;
    if crc32c::crc32c(body).to_le_bytes() != *checksum {
        return Err(Malformed("checksum does not match"));
    }
    let mut reader = Reader::new(body);
    if reader.array()? != [VERSION] {
        return Err(Malformed("unknown version"));
    }
    let lanes = [Ranges::decode(&mut reader)?, Ranges::decode(&mut reader)?];
    reader.finish()?;
    Ok(lanes)
}

impl Store {
    /// Wants the stored commits `runs` of `lane` sent again, of what was delivered. Durable with the next save.
    pub fn send_again(&mut self, lane: Lane, runs: &[(u64, u64)]) -> Resent {
        let mut resent = Resent::default();
        for &(first, last) in runs {
            let mut from = first;
            while let Some(begin) = self.lane(lane).settled.first_present(from).filter(|begin| *begin <= last) {
                let end = (self.lane(lane).settled.first_absent(begin) - 1).min(last);
                resent.undelivered += begin - from;
                resent.commits += end - begin + 1;
                self.resend.change(lane).insert(begin, end);
                from = end + 1;
            }
            resent.undelivered += (last + 1).saturating_sub(from);
        }
        resent
    }

    /// The first unbroken run of commits to be sent again, from `from` on, within `limit` but at least one. What is not
    /// stored any more, or is damaged, is given up.
    pub fn read_again(&mut self, lane: Lane, from: Sequence, limit: ReadLimit) -> Result<Vec<Commit>, BufferError> {
        let mut commits: Vec<Commit> = Vec::new();
        let mut records = 0;
        let Some(first) = self.resend.of(lane).first_present(from.0) else { return Ok(commits) };
        let last = self.resend.of(lane).first_absent(first) - 1;
        let (mut expected, mut lost) = (first, Vec::new());
        let Some(database) = &self.database else { return Err(self.not_writable()) };
        let codec = &mut self.codec;
        let visited = database.visit(&commit_key(lane, first), &commit_key(lane, last), |key, value| {
            let sequence = sequence_of(key);
            let is_full = commits.len() >= limit.commits || records >= limit.records;
            let ends = is_full || sequence != expected;
            if !commits.is_empty() && ends {
                return ControlFlow::Break(());
            }
            if sequence != expected {
                lost.push((expected, sequence - 1));
            }
            expected = sequence + 1;
            match codec.decode(value) {
                Ok((_, commit)) => {
                    records += commit.records.count();
                    commits.push(commit);
                    ControlFlow::Continue(())
                }
                Err(_) if !commits.is_empty() => ControlFlow::Break(()),
                Err(error) => {
                    tracing::warn!(%lane, sequence, %error, "a damaged commit is not sent again");
                    lost.push((sequence, sequence));
                    ControlFlow::Continue(())
                }
            }
        });
        self.note_read(&visited);
        visited.map_err(|_| self.not_writable())?;
        if commits.is_empty() {
            lost.push((first, last));
        }
        for (first, last) in lost {
            tracing::info!(%lane, first, last, "not stored any more, so not sent again");
            self.resend.change(lane).remove(first, last);
        }
        Ok(commits)
    }

    /// Notes that `first` to `last` went out again.
    pub fn sent_again(&mut self, lane: Lane, first: Sequence, last: Sequence) {
        self.resend.change(lane).remove(first.0, last.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_sent_again_survives_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path(), crate::database::EngineKind::Sled).unwrap();
        let mut resend = Resend::default();
        resend.change(Lane::Alarms).insert(3, 9);
        resend.change(Lane::Telemetry).insert(100, 200);
        let mut batch = Batch::default();

        let number = resend.put(&mut batch);
        database.apply(batch).unwrap();
        resend.adopt(number);
        let loaded = Resend::load(&database).unwrap();

        assert!(!resend.is_unsaved());
        assert_eq!(loaded.lanes, resend.lanes);
    }
}
