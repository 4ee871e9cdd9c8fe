//! Commits added up.

use serde::{Deserialize, Serialize};

use super::commit::Envelope;
use super::thin::Stage;
use super::varint::{self, Malformed, Reader};

/// What a stored commit takes beside its own bytes: its key, and what the engine notes about it.
const OVERHEAD: u64 = 32;

/// Commits added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        [self.commits, self.records, self.bytes].into_iter().for_each(|number| varint::put(out, number));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { commits: reader.number()?, records: reader.number()?, bytes: reader.number()? })
    }
}

/// Commits added up by how far they have been thinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// As they were taken.
    pub raw: Tally,
    /// Thinned to minutes.
    pub minutes: Tally,
    /// Thinned to ten minutes.
    pub ten_minutes: Tally,
}

impl Tallies {
    /// One stored commit.
    pub fn of_stored(value: &[u8]) -> Self {
        let mut this = Self::default();
        let stage = Envelope::read(value).map_or(Stage::Raw, |envelope| Stage::of(envelope.kind));
        this.at_mut(stage).add(Tally::of_stored(value));
        this
    }

    /// Those of one stage.
    pub fn at(&self, stage: Stage) -> &Tally {
        match stage {
            Stage::Raw => &self.raw,
            Stage::Minutes => &self.minutes,
            Stage::TenMinutes => &self.ten_minutes,
        }
    }

    /// Those of one stage.
    pub fn at_mut(&mut self, stage: Stage) -> &mut Tally {
        match stage {
            Stage::Raw => &mut self.raw,
            Stage::Minutes => &mut self.minutes,
            Stage::TenMinutes => &mut self.ten_minutes,
        }
    }

    /// All together.
    pub fn total(&self) -> Tally {
        let mut total = self.raw;
        total.add(self.minutes);
        total.add(self.ten_minutes);
        total
    }

    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        Stage::ALL.into_iter().for_each(|stage| self.at_mut(stage).add(*other.at(stage)));
    }

    /// Takes `other` away.
    pub fn take(&mut self, other: Self) {
        Stage::ALL.into_iter().for_each(|stage| self.at_mut(stage).take(*other.at(stage)));
    }
}
