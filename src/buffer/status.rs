//! What the buffer tells the outside about itself.

use std::time::Duration;

use serde::Serialize;

use super::others::OtherMarks;
use super::store::Store;
use super::tally::Tally;
use super::wal::WalStatus;
use crate::model::{AlarmRecord, Epoch, Lane, Sequence, Timestamp};

/// What is durable and what is still to be delivered. Only durable commits are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Watermarks {
    /// Life of the database. A new one begins when the database was lost.
    pub epoch: Epoch,
    /// Alarm transitions.
    pub alarms: LaneWatermark,
    /// Readings and gap records.
    pub telemetry: LaneWatermark,
    /// What is to be delivered under other epochs.
    pub others: OtherMarks,
}

impl Watermarks {
    /// The watermark of `lane`.
    pub fn lane(&self, lane: Lane) -> &LaneWatermark {
        match lane {
            Lane::Alarms => &self.alarms,
            Lane::Telemetry => &self.telemetry,
        }
    }
}

/// What is durable and what is still to be delivered of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LaneWatermark {
    /// The newest durable sequence; 0 when there never was one.
    pub durable_last: Sequence,
    /// Whatever is older was delivered, or is named in a gap record that was delivered.
    pub oldest_undelivered: Sequence,
    /// Commits that can be read.
    pub pending_commits: u64,
    /// Records in them.
    pub pending_readings: u64,
    /// Bytes they take in the database.
    pub pending_bytes: u64,
    /// Time of the oldest record that can be read.
    pub oldest_pending_time: Option<Timestamp>,
    /// Commits to be sent again although they were delivered.
    pub resend_commits: u64,
}

/// The state of the buffer, for people and for health messages. Counters count since the start of the process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BufferStatus {
    /// What is durable and what waits.
    pub watermarks: Watermarks,
    /// Commits that were delivered and are kept as history.
    pub history_commits: u64,
    /// Records in them.
    pub history_readings: u64,
    /// Bytes of all that is kept.
    pub live_bytes: u64,
    /// Bytes that may be kept.
    pub live_bytes_max: u64,
    /// Bytes that the directory takes on disk.
    pub disk_bytes: u64,
    /// The most that it may take.
    pub limit_bytes: u64,
    /// The most that it may take now: less than the limit when the disk has no room for that.
    pub room_bytes: u64,
    /// Bytes waiting in memory to be stored.
    pub waiting_bytes: u64,
    /// Readings that became durable.
    pub readings_stored: u64,
    /// Commits that became durable.
    pub commits: u64,
    /// Bytes handed to the engine, keys included.
    pub bytes_written: u64,
    /// Durable flushes.
    pub flushes: u64,
    /// The longest that a reading waits to become durable now: what a power cut can cost.
    pub commit_interval: Duration,
    /// The longest of them.
    pub longest_flush: Duration,
    /// Stored commits that failed their checksum or were missing.
    pub damaged: u64,
    /// Readings that aggregates took the place of, because the store was full.
    pub thinned: u64,
    /// Records dropped because the store was full or could not be written.
    pub dropped: u64,
    /// Databases set aside because they could not be opened.
    pub quarantined: u64,
    /// Whether records become durable now.
    pub writable: bool,
    /// Why not.
    pub not_writable_because: Option<String>,
    /// Since when.
    pub not_writable_since: Option<Timestamp>,
    /// Records that were delivered without having been stored, while the store could not be written.
    pub delivered_unstored: u64,
    /// What keeps the open commit when the process dies.
    pub open_commit: WalStatus,
    /// Alarms of the store itself that are in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<AlarmRecord>,
}

impl Store {
    /// Counters and sums as they are now, with the commit interval in force.
    pub fn status(&mut self, commit_interval: Duration) -> BufferStatus {
        let watermarks = self.watermarks();
        let [alarms, telemetry] = &self.lanes;
        let live = |part: fn(&Tally) -> u64| part(&alarms.stored) + part(&telemetry.stored);
        let pending = |part: fn(&Tally) -> u64| part(&alarms.pending.total()) + part(&telemetry.pending.total());
        let history = |part: fn(&Tally) -> u64| live(part).saturating_sub(pending(part));
        let counters = &self.counters;
        BufferStatus {
            watermarks,
            history_commits: history(|tally| tally.commits),
            history_readings: history(|tally| tally.records),
            live_bytes: live(|tally| tally.bytes),
            live_bytes_max: self.budget.alive(),
            disk_bytes: counters.disk_bytes,
            limit_bytes: self.limit_bytes,
            room_bytes: self.budget.room(),
            waiting_bytes: self.waiting_bytes() as u64,
            readings_stored: counters.readings_stored,
            commits: counters.commits,
            bytes_written: counters.bytes_written,
            flushes: counters.flushes,
            commit_interval,
            longest_flush: counters.longest_flush,
            damaged: counters.damaged,
            thinned: counters.thinned,
            dropped: counters.dropped,
            quarantined: counters.quarantined,
            writable: self.trouble.is_none(),
            not_writable_because: self.trouble.as_ref().map(|trouble| trouble.reason.clone()),
            not_writable_since: self.trouble.as_ref().map(|trouble| trouble.since_wall),
            delivered_unstored: self.volatile.records_delivered(),
            open_commit: WalStatus { taken_up: counters.taken_up, ..self.wal.status() },
            alarms: self.alarms.clone(),
        }
    }
}
