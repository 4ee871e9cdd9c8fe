//! What the buffer keeps: commits of records.

use serde::{Deserialize, Serialize};

use super::alarm::AlarmRecord;
use super::clock_offset::ClockOffset;
use super::ids::{BootId, Epoch, Lane, Sequence};
use super::reading::Row;
use super::thinned::Thinned;
use super::time::{ClockState, Timestamp};

/// One stored value: its identity and its records. Same sequence, same content, for ever.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Where it belongs.
    pub header: CommitHeader,
    /// What it holds.
    pub records: Records,
}

/// Identity of a commit and the clock its times were taken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitHeader {
    /// Life of the database it was written to.
    pub epoch: Epoch,
    /// Position in its lane; the lane follows from the records.
    pub sequence: Sequence,
    /// Boot in which the readings were taken.
    pub boot: BootId,
    /// How far the wall clock could be trusted then.
    pub clock: ClockState,
    /// Wall clock minus monotonic clock at the commit, in milliseconds: lets an offset that is known
    /// only later be applied to the times of this boot.
    pub wall_minus_monotonic_ms: i64,
}

/// The records of one commit; all of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Records {
    /// Readings. The index of a reading counts through the rows in order.
    Readings(Vec<Row>),
    /// One gap record, index 0.
    Gap(Gap),
    /// Aggregates in the place of readings. The index counts through the aggregates.
    Thinned(Thinned),
    /// Alarm transitions, in order.
    Alarms(Vec<AlarmRecord>),
    /// By how much times of a boot were wrong, index 0.
    ClockOffset(ClockOffset),
}

impl Records {
    /// How many records there are: one more than the highest index.
    pub fn count(&self) -> usize {
        match self {
            Self::Readings(rows) => rows.iter().map(|row| row.observed.len()).sum(),
            Self::Gap(_) | Self::ClockOffset(_) => 1,
            Self::Thinned(thinned) => thinned.aggregates.len(),
            Self::Alarms(alarms) => alarms.len(),
        }
    }
}

/// Says which records of the lane it stands in are gone without having been delivered, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Lane that lost records.
    pub lane: Lane,
    /// First lost sequence.
    pub first: Sequence,
    /// Last lost sequence.
    pub last: Sequence,
    /// How many records were lost.
    pub records: u64,
    /// Time of the oldest lost record. Where damage has left nothing to tell it, nothing is older than this; 0 when that
    /// is not known either.
    pub first_time: Timestamp,
    /// Time of the newest lost record, or, in the same way, nothing is newer.
    pub last_time: Timestamp,
    /// Why.
    pub reason: GapReason,
}

/// Why records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The store had reached its limit.
    StoreFull,
    /// The disk took nothing for so long that memory did not suffice.
    NotWritable,
    /// The stored bytes failed their checksum.
    Damaged,
    /// One record alone is larger than the largest message the broker takes.
    TooLarge,
}
