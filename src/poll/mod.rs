//! Keep a schedule: one task per link asks the devices behind it and hands on what they say.
//!
//! What decides is pure ([`schedule`], [`health`]); [`poller`] acts. Device faults, timeouts and broken links are
//! normal life and become bad readings here; nothing of it ends the task.

mod alarm;
mod connection;
mod cycle;
pub mod health;
pub mod link;
pub mod poller;
pub mod schedule;
pub mod status;

use crate::model::{AlarmRecord, Row};

pub use crate::modbus::PollError;
pub use link::LinkHandle;
pub use poller::{Poller, PollerError};
pub use status::{DeviceStatus, LinkStatus};

/// What one due round of blocks of a device gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PollCycle {
    /// One row for each block, in the order of the blocks.
    pub rows: Vec<Row>,
    /// Alarms that were raised or cleared by it.
    pub alarms: Vec<AlarmRecord>,
}
