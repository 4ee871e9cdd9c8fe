//! Keep a schedule: one task per link.

pub mod link;
pub mod text;

pub use link::{DeviceState, DeviceStatus, LinkHandle, LinkRequest, LinkStatus, PollError};
pub use text::TextPoller;

use crate::model::{AlarmRecord, Row};

/// What one due round of a device gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PollCycle {
    /// Readings, good and bad.
    pub rows: Vec<Row>,
    /// What changed about the device.
    pub alarms: Vec<AlarmRecord>,
}
