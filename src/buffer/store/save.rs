//! What one save is made of, and what is counted.

use std::time::Duration;

use crate::buffer::lane::LaneState;
use crate::buffer::room::{Gone, Run};
use crate::buffer::tally::Tallies;
use crate::buffer::waiting::{Closed, Lost};
use crate::buffer::wal::Positions;
use crate::model::Lane;

/// Counters since the start of the process.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    pub(in crate::buffer) readings_stored: u64,
    pub(in crate::buffer) commits: u64,
    pub(in crate::buffer) bytes_written: u64,
    pub(in crate::buffer) flushes: u64,
    pub(in crate::buffer) longest_flush: Duration,
    pub(in crate::buffer) damaged: u64,
    pub(in crate::buffer) thinned: u64,
    pub(in crate::buffer) dropped: u64,
    pub(in crate::buffer) quarantined: u64,
    pub(in crate::buffer) disk_bytes: u64,
    pub(in crate::buffer) taken_up: u64,
}

/// Commits found damaged: to be removed, and named in a gap record, with the next save.
#[derive(Debug, Clone)]
pub struct LostRun {
    pub(in crate::buffer) lane: Lane,
    pub run: Run,
    pub tally: Tallies,
}

/// What a batch holds, for the time when it is known to be durable, or not.
pub struct Save {
    pub(in crate::buffer) generation: u64,
    pub(in crate::buffer) lanes: [LaneState; 2],
    pub(in crate::buffer) closed: Vec<Closed>,
    pub(in crate::buffer) lost: [Option<Lost>; 2],
    pub(in crate::buffer) names_all: bool,
    pub(in crate::buffer) gone: Gone,
    pub(in crate::buffer) bytes: u64,
    pub(in crate::buffer) rule_state: Option<u64>,
    pub(in crate::buffer) ids: usize,
    pub(in crate::buffer) resend: u64,
    pub(in crate::buffer) clocks: u64,
    /// What of the write-ahead log is in the database with it.
    pub(in crate::buffer) positions: Positions,
}
