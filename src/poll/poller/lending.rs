//! The link is somebody else's for a while: a person who looks for devices on it, or watches its frames.

use std::io;
use std::ops::ControlFlow;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Poller;
use crate::modbus::PollError;
use crate::model::Fault;
use crate::poll::PollCycle;
use crate::poll::link::{Request, WriteFailure};

/// Why nothing is asked.
const LENT: &str = "lent to a diagnostic command";

impl Poller {
    /// Closes the port or connection and leaves it alone until `returned` ends; then it is opened again, and every device
    /// is asked who it is. What is not polled meanwhile is bad once, and counted as skipped.
    pub(super) async fn lend(
        &mut self,
        mut returned: oneshot::Receiver<()>,
        reply: oneshot::Sender<Result<(), PollError>>,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        self.connection.rest(LENT).await;
        tracing::warn!(link = %self.link, "lent to a diagnostic command: nothing is polled until it ends");
        self.publish_status(Instant::now());
        let now = self.clock.wall();
        let rows = self.devices.iter().flat_map(|device| device.plan.all_bad(now, Fault::LinkDown)).collect();
        let flow = self.hand_on(PollCycle { rows, alarms: Vec::new() }).await;
        // Whoever asked may have gone away: then it is returned at once.
        let _ = reply.send(Ok(()));
        loop {
            tokio::select! {
                _ = &mut returned => break,
                () = stop.cancelled() => break,
                // Nothing waits for the end of a loan: least of all a write, which would come when nobody expects it.
                Some(request) = self.requests.recv() => refuse(*request),
            }
        }
        tracing::info!(link = %self.link, "the diagnostic command has returned the link");
        self.connection.go_on();
        self.load.was_lent();
        self.own_since = Instant::now();
        flow
    }
}

/// Says that the link is lent. Whoever asked may have gone away.
fn refuse(request: Request) {
    let lent = || PollError::LinkDown(io::Error::other(LENT));
    match request {
        Request::Raw { reply, .. } => drop(reply.send(Err(lent()))),
        Request::Write { reply, .. } => drop(reply.send(Err(WriteFailure::NotSent(lent())))),
        Request::PollNow { reply, .. } | Request::Device { reply, .. } => drop(reply.send(Err(lent()))),
        Request::Forget { reply, .. } => drop(reply.send(Err(lent()))),
        Request::Lend { reply, .. } | Request::Hasten { reply, .. } => drop(reply.send(Err(lent()))),
    }
}
