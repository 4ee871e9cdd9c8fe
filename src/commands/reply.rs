//! How an answer gets to whoever asked.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Outlet;
use super::answer::{Answer, Outcome, Part, State};
use crate::mqtt::{Bytes, Delivery, Message, Received};

/// A command that takes longer than this is reported as running.
const LONG: Duration = Duration::from_secs(2);

/// An answer that cannot be delivered for so long is given up: the sender can ask again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the answers to one command go.
#[derive(Clone)]
pub(super) struct Reply {
    outlet: Outlet,
    /// The topic for answers to this id, and the response topic if there is one.
    topics: Vec<String>,
    correlation_data: Option<Bytes>,
}

impl Reply {
    /// Answers to the command `id` that came as `received`. A response topic outside this gateway's own does not count.
    pub fn new(outlet: &Outlet, id: &str, received: &Received) -> Self {
        let mut reply = Self::to_id(outlet, id);
        if let Some(topic) = &received.response_topic
            && outlet.topics.takes_answers(topic)
            && !reply.topics.contains(topic)
        {
            reply.topics.push(topic.clone());
        }
        reply.correlation_data.clone_from(&received.correlation_data);
        reply
    }

    /// Bytes that the sender made it take.
    pub fn size(&self) -> usize {
        let topics: usize = self.topics.iter().map(String::len).sum();
        topics + self.correlation_data.as_ref().map_or(0, Bytes::len)
    }

    /// Answers to the command `id`, wherever it came from.
    pub fn to_id(outlet: &Outlet, id: &str) -> Self {
        Self { outlet: outlet.clone(), topics: vec![outlet.topics.answer(id)], correlation_data: None }
    }

    /// Says that the command is accepted, and when it takes long that it is running, until it is carried out.
    pub async fn while_running(&self, accepted: Answer, work: impl Future<Output = Outcome>) -> Outcome {
        let running = Answer { state: State::Running, ..accepted.clone() };
        let work = async {
            tokio::pin!(work);
            tokio::select! {
                outcome = &mut work => return outcome,
                () = sleep(LONG) => {}
            }
            let (outcome, ()) = tokio::join!(work, self.send(&running));
            outcome
        };
        tokio::join!(work, self.send(&accepted)).0
    }

    /// Says the parts of a long answer.
    pub async fn parts(&self, answer: &Answer, parts: Vec<String>) {
        let count = parts.len();
        for (index, part) in parts.into_iter().enumerate() {
            let part_of = Some(Part { index, count });
            self.send(&Answer { state: State::Running, result: part.into(), part: part_of, ..answer.clone() }).await;
        }
    }

    /// Publishes an answer; tries again when the connection is lost, for a minute.
    pub async fn send(&self, answer: &Answer) {
        let Ok(payload) = serde_json::to_vec(answer) else { return };
        let payload = Bytes::from(payload);
        let until = Instant::now() + PATIENCE;
        for topic in &self.topics {
            let message = Message {
                topic: topic.clone(),
                payload: payload.clone(),
                retain: false,
                content_type: Some("application/json"),
                expiry: None,
                correlation_data: self.correlation_data.clone(),
            };
            loop {
                let sent = timeout_at(until, async {
                    self.outlet.session.connected().await?;
                    Some(self.outlet.session.publish(message.clone()).await)
                });
                match sent.await {
                    Ok(Some(Delivery::SessionLost)) => {}
                    Ok(Some(delivery)) if !delivery.is_delivered() => {
                        tracing::warn!(topic, %delivery, "the broker does not take an answer to a command");
                        break;
                    }
                    Ok(_) | Err(_) => break,
                }
            }
        }
    }
}
