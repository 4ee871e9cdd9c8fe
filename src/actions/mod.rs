//! The task that does what alarms ask for beside telling: poll faster for a while, send the readings around an event,
//! publish a message.
//!
//! What is asked is done after the transition that asks for it is durable, and at most once: a kill in between leaves
//! it out, but a capture that still waits for its last readings is remembered with the state of the rules. A tag is
//! written only through the guard of the agent, within the bounds that the owner set; without `[[write]]` it is refused
//! and counted.

mod capture;
mod messages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::buffer::{BufferHandle, Catalogue};
use crate::clock::Clock;
use crate::model::{Name, Timestamp};
use crate::mqtt::{SessionHandle, Topics};
use crate::poll::LinkHandle;
use crate::rules::spec::{Action, ActionSpec};
use capture::Captured;
use messages::Messages;

/// Actions between ingest and this task: a flood of alarms asks for no more at once.
pub const ACTIONS_QUEUED: usize = 256;

/// What actions can reach; changes when a configuration is loaded.
#[derive(Clone, Default)]
pub struct Reach {
    /// Link of each device.
    pub devices: HashMap<String, LinkHandle>,
    /// The guard that writes pass; nothing where nothing may be written.
    pub guard: Option<mpsc::Sender<RuleWrite>>,
    /// The broker, and where messages go.
    pub broker: Option<(SessionHandle, Topics)>,
}

/// A tag that an alarm wants written.
#[derive(Debug)]
pub struct RuleWrite {
    /// The alarm.
    pub alarm: String,
    /// Name of the device.
    pub device: String,
    /// Name of its point.
    pub point: String,
    /// Engineering value.
    pub value: f64,
    /// The rule, or what it looks at, was pushed.
    pub from_afar: bool,
    /// Whether it was written; otherwise why not.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// What was done since the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ActionsStatus {
    /// Actions done.
    pub done: u64,
    /// Actions refused or failed.
    pub failed: u64,
    /// Readings sent by captures.
    pub captured: u64,
    /// Messages that wait for the broker.
    pub messages_waiting: usize,
    /// The last that was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailedAction>,
}

/// An action that was not done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedAction {
    /// When.
    pub time: Timestamp,
    /// The alarm that asked for it.
    pub alarm: String,
    /// What, in a few words.
    pub action: String,
    /// Why it was not done, for people.
    pub reason: String,
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
enum ActionError {
    #[error("nothing may be written on this gateway: its configuration has no [[write]]")]
    NoGuard,
    #[error("{0}")]
    Write(String),
    #[error("there is no device {0:?}")]
    NoDevice(String),
    #[error(transparent)]
    Poll(#[from] crate::modbus::PollError),
    #[error("{0}")]
    Selection(#[from] crate::model::SelectionError),
    #[error("no series is selected")]
    NothingSelected,
    #[error("{0}")]
    Store(#[from] crate::buffer::BufferError),
    #[error("{waiting} messages wait for the broker already")]
    TooManyMessages { waiting: usize },
    #[error("the broker does not take the message: {0}")]
    Delivery(crate::mqtt::Delivery),
}

/// The task.
pub struct Actions {
    queue: mpsc::Receiver<Action>,
    buffer: BufferHandle,
    clock: Arc<dyn Clock>,
    reach: watch::Receiver<Reach>,
    catalogue: watch::Sender<Arc<Catalogue>>,
    captured: Captured,
    messages: Messages,
    status: watch::Sender<ActionsStatus>,
}

impl Actions {
    /// A task that does what comes through `queue`.
    pub fn new(
        queue: mpsc::Receiver<Action>,
        buffer: BufferHandle,
        clock: Arc<dyn Clock>,
        reach: watch::Receiver<Reach>,
        catalogue: watch::Sender<Arc<Catalogue>>,
    ) -> Self {
        let messages = Messages::new(reach.clone());
        let status = watch::Sender::default();
        Self { queue, buffer, clock, reach, catalogue, captured: Captured::default(), messages, status }
    }

    /// What was done.
    pub fn status(&self) -> watch::Receiver<ActionsStatus> {
        self.status.subscribe()
    }

    /// Runs until told to stop, or until nobody asks for anything any more.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                (action, outcome) = self.messages.next() => self.note(&action, outcome),
                action = self.queue.recv() => match action {
                    Some(action) => self.act(action).await,
                    None => break,
                },
            }
            let waiting = self.messages.len();
            self.status.send_if_modified(|status| std::mem::replace(&mut status.messages_waiting, waiting) != waiting);
        }
        if self.messages.len() > 0 {
            tracing::warn!(messages = self.messages.len(), "messages of rules did not reach the broker before the end");
        }
    }

    /// Has a tag written by whoever guards that.
    async fn write(&mut self, action: &Action) -> Result<(), ActionError> {
        let ActionSpec::Write { device, point, value, from_afar } = action.what.clone() else { return Ok(()) };
        let guard = self.reach.borrow().guard.clone().ok_or(ActionError::NoGuard)?;
        let (reply, answer) = oneshot::channel();
        let wanted = RuleWrite { alarm: action.alarm.clone(), device, point, value, from_afar, reply };
        guard.send(wanted).await.map_err(|_| ActionError::NoGuard)?;
        answer.await.unwrap_or(Err("the agent is stopping".to_owned())).map_err(ActionError::Write)
    }

    async fn act(&mut self, action: Action) {
        // What asked for it must not be forgotten by a power cut after it was done.
        if let Err(error) = self.buffer.flush().await {
            self.note(&action, Err(error.into()));
            return;
        }
        let outcome = match &action.what {
            ActionSpec::Write { .. } => self.write(&action).await,
            ActionSpec::PollFaster { device, interval, lasts } => {
                // After a restart it may be about what is long over.
                let lasts = lasts.saturating_sub(self.clock.wall().since(action.time));
                self.poll_faster(device, *interval, lasts).await
            }
            ActionSpec::Capture { .. } => self.capture(&action).await,
            ActionSpec::Publish { .. } => match self.messages.add(action.clone()) {
                Ok(()) => return,
                Err(refused) => Err(refused),
            },
        };
        self.note(&action, outcome);
    }

    async fn poll_faster(&mut self, device: &str, interval: Duration, lasts: Duration) -> Result<(), ActionError> {
        let link = self.reach.borrow().devices.get(device).cloned();
        match (link, Name::new(device)) {
            (Some(link), Ok(name)) if !lasts.is_zero() => Ok(link.hasten(&name, interval, lasts).await?),
            (Some(_), Ok(_)) => Ok(()),
            _ => Err(ActionError::NoDevice(device.to_owned())),
        }
    }

    async fn capture(&mut self, action: &Action) -> Result<(), ActionError> {
        let readings = self.captured.capture(action, &self.buffer, &self.catalogue).await?;
        tracing::info!(alarm = action.alarm, readings, "readings around an event are sent");
        self.status.send_modify(|status| status.captured += readings);
        Ok(())
    }

    fn note(&self, action: &Action, outcome: Result<(), ActionError>) {
        let Err(error) = outcome else {
            self.status.send_modify(|status| status.done += 1);
            return;
        };
        let reason = error.to_string();
        let (time, alarm, action) = (self.clock.wall(), action.alarm.clone(), action.what.to_string());
        tracing::warn!(alarm, action, reason, "what an alarm asks for is not done");
        self.status.send_modify(|status| {
            status.failed += 1;
            status.last_failure = Some(FailedAction { time, alarm, action, reason });
        });
    }
}
