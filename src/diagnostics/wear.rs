//! What storing wears the disk: bytes written for each reading, and how long a card bears it.

use std::time::Duration;

use serde::Serialize;

use super::process::ProcessStatus;
use crate::buffer::BufferStatus;

/// Before this has passed nothing is foretold: the start writes more than the days after it.
const LEARNING: Duration = Duration::from_secs(60);

const DAY_SECONDS: f64 = 86_400.0;

/// What was written since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WearStatus {
    /// Bytes written.
    pub written_bytes: u64,
    /// Whether the kernel counted what reached block devices; otherwise, as on a file system in memory, it is what the
    /// store handed to its engine.
    pub counted_by_kernel: bool,
    /// Bytes written for each reading stored.
    pub bytes_per_reading: Option<f64>,
    /// Bytes written a day at the pace since the start.
    pub bytes_per_day: Option<u64>,
    /// What the card bears, as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_endurance_bytes: Option<u64>,
    /// How long a new card bears this pace, in days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_days: Option<u64>,
}

impl WearStatus {
    /// The wear of a process that has run for `up`.
    pub fn new(process: &ProcessStatus, store: &BufferStatus, up: Duration, card_endurance_bytes: Option<u64>) -> Self {
        // Engines write at least what they are handed; a kernel that counts less does not count this file system.
        let counted_by_kernel = process.written_bytes >= store.bytes_written && process.written_bytes > 0;
        let written_bytes = if counted_by_kernel { process.written_bytes } else { store.bytes_written };
        let pace = written_bytes as f64 / up.as_secs_f64();
        let bytes_per_day = (up >= LEARNING).then_some((pace * DAY_SECONDS) as u64);
        let lasts = |endurance: u64| endurance.checked_div(bytes_per_day?);
        Self {
            written_bytes,
            counted_by_kernel,
            bytes_per_reading: (store.readings_stored > 0)
                .then_some(written_bytes as f64 / store.readings_stored as f64),
            bytes_per_day,
            card_endurance_bytes,
            card_days: card_endurance_bytes.and_then(lasts),
        }
    }
}
