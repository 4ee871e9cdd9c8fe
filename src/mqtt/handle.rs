//! How the rest of the agent publishes.

use tokio::sync::{mpsc, oneshot, watch};

use super::message::{Delivery, Message};
use super::state::{Connected, SessionState, SessionStatus};

/// Publishes through the session. Clones share the session; who publishes first is served first.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) state: watch::Receiver<SessionState>,
    pub(super) status: watch::Receiver<SessionStatus>,
}

/// One publish on its way to the session.
#[derive(Debug)]
pub(super) struct Request {
    pub message: Message,
    pub answer: oneshot::Sender<Delivery>,
}

impl SessionHandle {
    /// Publishes `message` and waits until the broker has answered.
    ///
    /// Without a connection the answer is [`Delivery::SessionLost`] at once: wait with
    /// [`connected`](Self::connected) before trying again. Dropping the future does not take the message back.
    pub async fn publish(&self, message: Message) -> Delivery {
        let (answer, delivery) = oneshot::channel();
        if self.requests.send(Request { message, answer }).await.is_err() {
            return Delivery::SessionLost;
        }
        delivery.await.unwrap_or(Delivery::SessionLost)
    }

    /// Waits until there is a connection. `None` when the session has ended.
    pub async fn connected(&self) -> Option<Connected> {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| matches!(state, SessionState::Connected(_))).await.ok()?;
        match &*connected {
            SessionState::Connected(connected) => Some(connected.clone()),
            SessionState::Connecting { .. } => None,
        }
    }

    /// The connection as it changes.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }

    /// State and counters; changes with every publish.
    pub fn status(&self) -> watch::Receiver<SessionStatus> {
        self.status.clone()
    }
}
