//! A connection that the other side has closed is made anew.
//!
//! Some devices close TCP after each answer, so that a request goes out on a connection that is already being closed. A
//! request that only reads is asked once more on a new one, when not a byte of its answer has come. A write never is: nobody
//! knows whether the device has done it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Client;
use crate::config::Endpoint;
use crate::modbus::PollError;
use crate::modbus::transport::Transport;

/// Before a second attempt where the connection has carried nothing: a device that takes one connection only has to
/// notice first that the one before is gone.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(50);

/// So long the other side has to close a connection that this one has ended.
const CLOSED_WITHIN: Duration = Duration::from_millis(250);

/// What becomes of a reading request whose connection was closed before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnClose {
    /// It fails.
    #[default]
    GiveUp,
    /// It is asked once more, on a new connection.
    AskAgain,
}

pub(super) struct Reopening {
    endpoint: Endpoint,
    on_close: OnClose,
    after_connect: Duration,
    /// Since it was last asked for.
    count: u32,
    /// The present connection has carried something.
    has_carried: bool,
}

impl Reopening {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, on_close: OnClose::default(), after_connect: Duration::ZERO, count: 0, has_carried: false }
    }

    pub(super) fn carried(&mut self) {
        self.has_carried = true;
    }
}

impl Client {
    /// What becomes from now on of a reading request whose connection is closed before its answer.
    pub fn on_close(&mut self, on_close: OnClose) {
        self.reopening.on_close = on_close;
    }

    /// How long a device needs from the connection to the first request.
    pub fn after_connect(&mut self, pause: Duration) {
        self.reopening.after_connect = pause;
    }

    /// How often the connection was made anew since the last call.
    pub fn take_reopened(&mut self) -> u32 {
        std::mem::take(&mut self.reopening.count)
    }

    /// Makes the connection anew. What was missing on the one before does not come on this one.
    ///
    /// # Errors
    ///
    /// [`PollError::LinkDown`] when there is none; the client is of no further use.
    pub async fn reopen(&mut self) -> Result<(), PollError> {
        if !self.reopening.has_carried {
            sleep(AFTER_A_REFUSAL).await;
        }
        self.transport = Transport::open(&self.reopening.endpoint, self.timeout).await.map_err(PollError::LinkDown)?;
        sleep(self.reopening.after_connect).await;
        self.reopening.count += 1;
        self.reopening.has_carried = false;
        self.inbound.clear();
        self.owed.clear();
        self.missing.clear();
        (self.silent_requests, self.late_requests) = (0, 0);
        (self.is_spent, self.unsettled, self.hears_itself) = (false, true, None);
        self.last_activity = Instant::now();
        Ok(())
    }

    /// Closes the connection, and waits a moment until the other side has done so, too. The client is of no further use.
    pub async fn close(&mut self) {
        if !self.transport.is_tcp() || self.transport.end().await.is_err() {
            return;
        }
        let bound = Instant::now() + CLOSED_WITHIN;
        while matches!(self.receive(bound).await, Ok(true)) {
            self.inbound.clear();
        }
    }

    /// True when a request that only reads, and that has failed so, may be asked once more on a new connection.
    pub(super) fn may_ask_anew(&self, error: &PollError) -> bool {
        self.reopening.on_close == OnClose::AskAgain
            && self.transport.is_tcp()
            && (self.is_spent || error.is_closed_by_peer() && !self.is_heard)
    }
}
