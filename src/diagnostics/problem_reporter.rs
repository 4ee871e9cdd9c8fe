//! The list of problems to the broker: a small retained message, so that whoever connects sees it at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::problems::{Problem, Severity};
use super::{Board, Status};
use crate::model::Timestamp;
use crate::mqtt::{Delivery, Message, SessionHandle};

/// How often the list is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Least time between two messages.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(10);

/// Figures in the texts of the same problems may be so old.
const TEXTS_INTERVAL: Duration = Duration::from_secs(600);

/// Most bytes of the message: every broker takes it, and a phone shows it.
const PAYLOAD_MAX: usize = 32 << 10;

/// Bytes of a packet beside topic and payload, rounded up.
const PUBLISH_OVERHEAD: usize = 64;

/// What `type` says in the message.
pub const TYPE: &str = "problems";

/// The message on the topic `problems`, field by field as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemsMessage {
    /// `problems`.
    #[serde(rename = "type")]
    pub message: String,
    /// 1.
    pub format: u32,
    /// Site of the gateway.
    pub site: String,
    /// The gateway.
    pub gateway: String,
    /// When the list was made, in milliseconds since 1970.
    pub time: Timestamp,
    /// The most urgent first; empty when all is well.
    pub problems: Vec<Problem>,
    /// How many problems were left out to keep the message small.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The task that publishes the list.
pub struct ProblemReporter {
    board: Board,
    session: SessionHandle,
    topic: String,
    /// The list that the broker has.
    published: Option<Published>,
    /// Whether the last message was.
    refused: bool,
}

struct Published {
    problems: Vec<Problem>,
    generation: u64,
    at: Instant,
}

impl Published {
    /// Whether a list of `problems` on the connection `generation` has to be published at `now`.
    fn is_outdated(&self, problems: &[Problem], generation: u64, now: Instant) -> bool {
        let keys = |problems: &[Problem]| -> Vec<(String, Severity)> {
            problems.iter().map(|problem| (problem.key.clone(), problem.severity)).collect()
        };
        let age = now.saturating_duration_since(self.at);
        let is_other = keys(&self.problems) != keys(problems);
        let is_older = age >= TEXTS_INTERVAL && self.problems != problems;
        self.generation != generation || (age >= PUBLISH_INTERVAL && is_other) || is_older
    }
}

impl ProblemReporter {
    /// Reports the problems that `board` shows through `session`.
    pub fn new(board: Board, session: SessionHandle, topic: String) -> Self {
        Self { board, session, topic, published: None, refused: false }
    }

    /// Publishes the list at once on each connection, and when it changes, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        let Some(connected) = self.session.connected().await else { return };
        let status = self.board.snapshot();
        let (generation, now) = (connected.generation, Instant::now());
        if self.published.as_ref().is_some_and(|it| !it.is_outdated(&status.problems, generation, now)) {
            return;
        }
        let limit = connected.sizes(&self.topic).most.saturating_sub(self.topic.len() + PUBLISH_OVERHEAD);
        let Some(payload) = payload(&status, limit.min(PAYLOAD_MAX)) else { return };
        let message = Message {
            topic: self.topic.clone(),
            payload: payload.into(),
            retain: true,
            content_type: Some("application/json"),
            expiry: None,
            correlation_data: None,
        };
        let delivery = self.session.publish(message).await;
        // Where the broker does not take it, the next change is the next attempt.
        match &delivery {
            Delivery::SessionLost => return,
            Delivery::Acknowledged | Delivery::NoSubscribers => self.refused = false,
            Delivery::Refused { .. } | Delivery::TooLarge { .. } | Delivery::Unproven { .. } => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!(%delivery, "the broker does not take the list of problems");
                }
            }
        }
        self.published = Some(Published { problems: status.problems, generation, at: now });
    }
}

/// The message of at most `limit` bytes; the least urgent problems are left out where it would be longer.
fn payload(status: &Status, limit: usize) -> Option<Vec<u8>> {
    let mut message = ProblemsMessage {
        message: TYPE.to_owned(),
        format: 1,
        site: status.site.clone(),
        gateway: status.gateway.clone(),
        time: status.time,
        problems: status.problems.clone(),
        left_out: 0,
    };
    loop {
        let payload = serde_json::to_vec(&message).ok()?;
        if payload.len() <= limit || message.problems.pop().is_none() {
            return Some(payload);
        }
        message.left_out += 1;
    }
}
