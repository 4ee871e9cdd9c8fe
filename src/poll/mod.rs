//! Keep a schedule: one task per link asks the devices behind it and hands on what they say.
//!
//! What decides is pure ([`schedule`], [`health`]); [`poller`] acts. Device faults, timeouts and broken links are
//! normal life and become bad readings here; nothing of it ends the task.
//!
//! What a device refuses is found out and avoided, and how fast it answers is measured ([`learned`]): a block that
//! answers with exception 2 or 3 is divided, a few requests at a time between the polls of others. An answer that says
//! that the device has no time is asked for again shortly. See [`crate::modbus::exception`] for each code.
//!
//! A device whose profile says how is identified on every connection and after every silence, before its first poll:
//! its firmware decides by which map it is read. A firmware that the profile does not know makes readings uncertain, a
//! device that is another makes them bad, and both raise an alarm. A series means the same whatever the firmware: tags
//! that a firmware does not have are bad once, each time the device is identified, and are not asked for.

mod alarm;
mod closings;
mod connection;
mod cycle;
pub mod forecast;
pub mod health;
mod identity;
pub mod learned;
pub mod link;
pub mod poller;
pub mod schedule;
pub mod status;
pub mod text;

use crate::model::{AlarmRecord, Row};

pub use crate::modbus::PollError;
pub use link::{LinkHandle, Loan, WriteFailure};
pub use poller::writing::WriteOrder;
pub use poller::{Poller, PollerError};
pub use status::{DeviceStatus, LinkStatus};
pub use text::{NotATextLink, TextPoller};

/// What one due round of blocks of a device gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PollCycle {
    /// One row for each block, in the order of the blocks.
    pub rows: Vec<Row>,
    /// Alarms that were raised or cleared by it.
    pub alarms: Vec<AlarmRecord>,
}
