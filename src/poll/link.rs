//! What others may ask of the task that owns a link, and what it says about itself.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{Fault, Name, Row, Timestamp, UnitId};
use crate::profile::Table;

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Nothing usable arrived in time.
    #[error("no answer within {} ms", waited.as_millis())]
    NoAnswer {
        /// The timeout of the link.
        waited: Duration,
    },
    /// The endpoint cannot be opened, or broke.
    #[error("link down: {0}")]
    LinkDown(#[source] io::Error),
    /// The link has no device of that name.
    #[error("no device of that name on this link")]
    UnknownDevice,
    /// The device has no registers.
    #[error("the instrument on this link speaks lines of text: it has no registers to read")]
    NoRegisters,
    /// The poller of the link has ended.
    #[error("the link is no longer polled")]
    Stopped,
}

/// One request to the task that owns a link.
#[derive(Debug)]
pub enum LinkRequest {
    /// Read registers or bits now.
    Raw {
        /// Unit to ask.
        unit: UnitId,
        /// Table to read.
        table: Table,
        /// First address.
        address: u16,
        /// Registers or bits.
        count: u16,
        /// Where the words go.
        reply: oneshot::Sender<Result<Vec<u16>, PollError>>,
    },
    /// Read all tags of one device now.
    Device {
        /// Name of the device.
        device: Name,
        /// Where the rows go.
        reply: oneshot::Sender<Result<Vec<Row>, PollError>>,
    },
}

/// Asks the task that owns a link.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    requests: mpsc::Sender<LinkRequest>,
    status: watch::Receiver<LinkStatus>,
}

impl LinkHandle {
    /// A handle that sends its requests here and shows this status.
    pub fn new(requests: mpsc::Sender<LinkRequest>, status: watch::Receiver<LinkStatus>) -> Self {
        Self { requests, status }
    }

    /// Reads registers or bits now, between polls.
    ///
    /// # Errors
    /// As the device answers; [`PollError::Stopped`] when the poller has ended.
    pub async fn read_raw(&self, unit: UnitId, table: Table, address: u16, count: u16) -> Result<Vec<u16>, PollError> {
        let (reply, answer) = oneshot::channel();
        let request = LinkRequest::Raw { unit, table, address, count, reply };
        self.requests.send(request).await.map_err(|_| PollError::Stopped)?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// Reads all tags of a device now, between polls.
    ///
    /// # Errors
    /// As the device answers; [`PollError::Stopped`] when the poller has ended.
    pub async fn read_device(&self, device: &Name) -> Result<Vec<Row>, PollError> {
        let (reply, answer) = oneshot::channel();
        let request = LinkRequest::Device { device: device.clone(), reply };
        self.requests.send(request).await.map_err(|_| PollError::Stopped)?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// The newest status of the link.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }
}

/// How a link does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkStatus {
    /// Name of the link.
    pub name: String,
    /// Where it leads.
    pub endpoint: String,
    /// Connected, or port open.
    pub connected: bool,
    /// Polls whose time came.
    pub polls_due: u64,
    /// Polls that were made.
    pub polls_done: u64,
    /// Polls that were skipped because the link or its reader was behind.
    pub polls_skipped: u64,
    /// Its devices.
    pub devices: Vec<DeviceStatus>,
}

/// How a device does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceStatus {
    /// Name of the device.
    pub name: String,
    /// Whether it answers.
    pub state: DeviceState,
    /// Requests sent.
    pub requests: u64,
    /// Answers that could be used; for a stream, lines.
    pub answers: u64,
    /// Requests without an answer; for a stream, silences.
    pub timeouts: u64,
    /// Frames with a bad checksum.
    pub checksum_errors: u64,
    /// Frames that could not be understood.
    pub garbage: u64,
    /// Answers that came too late and were dropped.
    pub stale_dropped: u64,
    /// When the last answer came.
    pub last_answer: Option<Timestamp>,
    /// Why the last poll failed.
    pub last_fault: Option<String>,
}

/// Whether a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// The last poll was answered.
    Answering,
    /// The last poll failed.
    Failing,
    /// Three or more in a row failed: it is only probed.
    BackedOff,
}

impl DeviceStatus {
    /// A device that was not asked yet.
    pub fn new(name: &Name) -> Self {
        Self {
            name: name.to_string(),
            state: DeviceState::Answering,
            requests: 0,
            answers: 0,
            timeouts: 0,
            checksum_errors: 0,
            garbage: 0,
            stale_dropped: 0,
            last_answer: None,
            last_fault: None,
        }
    }

    /// Counts a poll that failed.
    pub fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Timeout => self.timeouts += 1,
            Fault::BadChecksum => self.checksum_errors += 1,
            Fault::Garbage | Fault::NoMatch => self.garbage += 1,
            _ => {}
        }
        self.last_fault = Some(fault.to_string());
    }
}
