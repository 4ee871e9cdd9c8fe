//! Ask a poller for something between two polls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Endpoint;
use crate::modbus::PollError;
use crate::model::{Name, Row, UnitId};
use crate::profile::Table;

use super::poller::writing::WriteOrder;
use super::status::LinkStatus;

/// Requests that may wait for a link: what a few people ask at once. More wait at the caller.
const REQUESTS_QUEUED: usize = 8;

/// Verbs for one link. Clones speak to the same poller.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    /// In boxes: the channel keeps room for many, and there is one for each link.
    requests: mpsc::Sender<Box<Request>>,
    endpoint: Arc<Endpoint>,
    status: watch::Receiver<LinkStatus>,
}

/// One thing asked of a poller.
pub(super) enum Request {
    Raw {
        unit: UnitId,
        table: Table,
        address: u16,
        count: u16,
        reply: oneshot::Sender<Result<Vec<u16>, PollError>>,
    },
    Write {
        order: Box<WriteOrder>,
        reply: oneshot::Sender<Result<(), WriteFailure>>,
    },
    /// As a poll of all groups: what is read is handed on.
    PollNow {
        device: Name,
        reply: oneshot::Sender<Result<Vec<Row>, PollError>>,
    },
    Device {
        device: Name,
        reply: oneshot::Sender<Result<Vec<Row>, PollError>>,
    },
    Lend {
        returned: oneshot::Receiver<()>,
        reply: oneshot::Sender<Result<(), PollError>>,
    },
    Forget {
        device: Name,
        reply: oneshot::Sender<Result<bool, PollError>>,
    },
    Hasten {
        device: Name,
        interval: Duration,
        lasts: Duration,
        reply: oneshot::Sender<Result<(), PollError>>,
    },
}

/// A link that its poller leaves alone until this is dropped.
#[derive(Debug)]
pub struct Loan {
    _returned: oneshot::Sender<()>,
}

/// Why nothing is known to have been written.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// The request did not go out.
    #[error("{0}")]
    NotSent(PollError),
    /// Who knows what the register means there.
    #[error("the device is not known to be what its profile says, or its firmware is not")]
    NotIdentified,
    /// The firmware of the device has the point at another place, or with another meaning.
    #[error("the firmware of the device has this point elsewhere, or with another encoding or scale")]
    Elsewhere,
    /// The device says no: it is not written.
    #[error("{0}")]
    Refused(PollError),
    /// The request went out, and nobody knows what came of it.
    #[error("{0}")]
    Unanswered(PollError),
}

impl LinkHandle {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        status: watch::Receiver<LinkStatus>,
    ) -> (Self, mpsc::Receiver<Box<Request>>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_QUEUED);
        (Self { requests, endpoint, status }, receiver)
    }

    /// Where the link leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Reads registers (or bits, one word 0 or 1 each) of any unit on the link now. Nothing is stored.
    pub async fn read_raw(&self, unit: UnitId, table: Table, address: u16, count: u16) -> Result<Vec<u16>, PollError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Raw { unit, table, address, count, reply }).await?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// Reads all tags of a device now. Blocks that fail are bad rows; an error means that nothing could be asked.
    /// Nothing is stored.
    pub async fn read_device(&self, device: &Name) -> Result<Vec<Row>, PollError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Device { device: device.clone(), reply }).await?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// Polls what a device is polled for more slowly at this interval, which is not zero, for a while. What is on its
    /// way already ends later if that is later, and stays faster if it is faster.
    ///
    /// # Errors
    /// The device is not on this link, or speaks when it likes.
    pub async fn hasten(&self, device: &Name, interval: Duration, lasts: Duration) -> Result<(), PollError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Hasten { device: device.clone(), interval, lasts, reply }).await?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// Writes to a device that is known to be what its profile says. The request goes out at most once.
    ///
    /// # Errors
    /// [`WriteFailure::Unanswered`] leaves open whether it took effect; with all others it did not.
    pub async fn write(&self, order: WriteOrder) -> Result<(), WriteFailure> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Write { order: Box::new(order), reply }).await.map_err(WriteFailure::NotSent)?;
        answer.await.unwrap_or(Err(WriteFailure::Unanswered(PollError::Stopped)))
    }

    /// Has the port or connection closed, and nothing polled on the link until the loan is dropped.
    ///
    /// # Errors
    /// The instrument on this link speaks lines of text, or the link is no longer polled.
    pub async fn lend(&self) -> Result<Loan, PollError> {
        let (reply, answer) = oneshot::channel();
        let (loan, returned) = oneshot::channel();
        self.ask(Request::Lend { returned, reply }).await?;
        answer.await.unwrap_or(Err(PollError::Stopped))?;
        Ok(Loan { _returned: loan })
    }

    /// Drops what was learned of a device. True when there was something.
    pub async fn forget(&self, device: &Name) -> Result<bool, PollError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Forget { device: device.clone(), reply }).await?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// Polls all tags of a device now, out of turn; what it says is stored, and returned.
    pub async fn poll_now(&self, device: &Name) -> Result<Vec<Row>, PollError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::PollNow { device: device.clone(), reply }).await?;
        answer.await.unwrap_or(Err(PollError::Stopped))
    }

    /// What the link and its devices do; renewed a few times a second.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    async fn ask(&self, request: Request) -> Result<(), PollError> {
        self.requests.send(Box::new(request)).await.map_err(|_| PollError::Stopped)
    }
}
