//! The health message: the counters of every stage, each minute, to the broker.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Board;
use crate::mqtt::{Delivery, Message, SessionHandle};

/// How often the gateway says how it is.
const HEALTH_INTERVAL: Duration = Duration::from_secs(60);

/// The task that publishes health.
pub struct HealthReporter {
    board: Board,
    session: SessionHandle,
    topic: String,
    /// Whether the last one was.
    refused: bool,
}

impl HealthReporter {
    /// Reports what `board` says through `session`.
    pub fn new(board: Board, session: SessionHandle, topic: String) -> Self {
        Self { board, session, topic, refused: false }
    }

    /// Publishes once a minute, and first when the connection stands, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.publish() => {}
            }
        }
    }

    async fn publish(&mut self) {
        if self.session.connected().await.is_none() {
            return;
        }
        let Ok(payload) = serde_json::to_vec(&self.board.snapshot()) else { return };
        let message = Message {
            topic: self.topic.clone(),
            payload: payload.into(),
            retain: false,
            content_type: Some("application/json"),
            // A health message is worth nothing when the next one is there.
            expiry: Some(2 * HEALTH_INTERVAL),
            correlation_data: None,
        };
        // Nothing to do when it is lost: the next one says more.
        match self.session.publish(message).await {
            Delivery::Acknowledged | Delivery::NoSubscribers => self.refused = false,
            Delivery::SessionLost => {}
            refusal @ (Delivery::Refused { .. } | Delivery::TooLarge { .. } | Delivery::Unproven { .. }) => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!(%refusal, "the broker does not take health messages");
                }
            }
        }
    }
}
