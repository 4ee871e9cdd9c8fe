//! Messages of rules on their way to the broker, one after the other. They wait while there is no connection.
//!
//! They wait in memory, and a message is published at most once: told twice, a text without an identity could not be
//! recognised as the same. What must arrive is the transition, which waits in the store.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;

use super::{ActionError, Reach};
use crate::mqtt::{Bytes, Delivery, Message};
use crate::rules::spec::{Action, ActionSpec};

/// Messages that wait for the broker. The alarms that they come from wait in the store, without a limit.
const WAITING_MAX: usize = 64;

/// Between looks for a connection that a reload has replaced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Outcome = Pin<Box<dyn Future<Output = Result<(), ActionError>> + Send>>;

pub(super) struct Messages {
    reach: watch::Receiver<Reach>,
    waiting: VecDeque<Action>,
    under_way: Option<(Action, Outcome)>,
}

impl Messages {
    pub fn new(reach: watch::Receiver<Reach>) -> Self {
        Self { reach, waiting: VecDeque::new(), under_way: None }
    }

    /// Messages that did not reach the broker yet.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.under_way.is_some())
    }

    pub fn add(&mut self, action: Action) -> Result<(), ActionError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(ActionError::TooManyMessages { waiting: self.len() });
        }
        self.waiting.push_back(action);
        Ok(())
    }

    /// What became of the next message. Never ready while there is none. Safe to cancel.
    pub async fn next(&mut self) -> (Action, Result<(), ActionError>) {
        if self.under_way.is_none() {
            let Some(action) = self.waiting.pop_front() else { return std::future::pending().await };
            let outcome = deliver(self.reach.clone(), action.clone());
            self.under_way = Some((action, Box::pin(outcome)));
        }
        let Some((_, outcome)) = &mut self.under_way else { return std::future::pending().await };
        let outcome = outcome.await;
        match self.under_way.take() {
            Some((action, _)) => (action, outcome),
            None => std::future::pending().await,
        }
    }
}

async fn deliver(reach: watch::Receiver<Reach>, action: Action) -> Result<(), ActionError> {
    let ActionSpec::Publish { topic, payload } = action.what else { return Ok(()) };
    let payload = Bytes::from(payload);
    loop {
        // A reload may have put another session in the place of the one before.
        let broker = reach.borrow().broker.clone();
        if let Some((session, topics)) = broker {
            // The end of a session that is replaced ends the wait.
            let connected = tokio::time::timeout(LOOK_AGAIN, session.connected()).await;
            if let Ok(Some(_)) = connected {
                let (topic, payload) = (topics.event(&topic), payload.clone());
                let content_type = Some("text/plain");
                let message =
                    Message { topic, payload, retain: false, content_type, expiry: None, correlation_data: None };
                match session.publish(message).await {
                    Delivery::Acknowledged | Delivery::NoSubscribers => return Ok(()),
                    Delivery::SessionLost => {}
                    refused @ (Delivery::Refused { .. } | Delivery::TooLarge { .. } | Delivery::Unproven { .. }) => {
                        return Err(ActionError::Delivery(refused));
                    }
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
