//! Proof of delivery on one connection: does what `proof.rs` decides, and keeps what was learned for the next connection.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::connection::{MESSAGES_QUEUED, Sender, Subscription};
use super::handle::Request;
use super::in_flight::PacketId;
use super::message::{Delivery, Received};
use super::online::{Online, Purpose};
use super::passing_size::{Next, PassingSize};
use super::proof::{Control, Judged, Proofs, Verdict};
use super::state::{TopicProof, Unproven};
use crate::model::Timestamp;

/// Who waits for a message.
type Answer = oneshot::Sender<Delivery>;

/// Proofs of one connection, and subscriptions that are not answered.
pub(super) struct Proving {
    proofs: Proofs<Answer>,
    /// Handed to the client, id not known yet; oldest first.
    handed: VecDeque<Asked>,
    /// Sent under an id.
    sent: Vec<(PacketId, Asked)>,
    /// Subscriptions and their ends that the client has not sent.
    unsent: usize,
}

/// Who asked for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The connection, when it began.
    Connection,
    /// A topic whose messages must come back.
    Proof(usize),
}

/// What is known about one topic beyond a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Passing {
    size: PassingSize,
    /// Sizes that stayed away since a message last came back: smallest and largest.
    tried: Option<(usize, usize)>,
    unproven: Option<Unproven>,
}

impl Proving {
    pub(super) fn new(filters: &[String], session_present: bool) -> Self {
        Self { proofs: Proofs::new(filters, session_present), handed: VecDeque::new(), sent: Vec::new(), unsent: 0 }
    }

    /// Whether one more message may wait for a subscription.
    pub(super) fn has_room(&self) -> bool {
        self.proofs.has_room()
    }

    /// `asked` was handed to the client as a SUBSCRIBE.
    pub(super) fn subscribing(&mut self, asked: Asked) {
        self.handed.push_back(asked);
        self.unsent += 1;
    }

    /// The client sent the oldest of them under `id`.
    pub(super) fn subscribe_sent(&mut self, id: PacketId) {
        self.control_sent();
        self.sent.extend(self.handed.pop_front().map(|asked| (id, asked)));
    }

    /// The client sent a SUBSCRIBE or an UNSUBSCRIBE.
    pub(super) fn control_sent(&mut self) {
        self.unsent = self.unsent.saturating_sub(1);
    }

    /// The broker answered the SUBSCRIBE of `id`: who had asked.
    pub(super) fn subscribed(&mut self, id: PacketId) -> Option<Asked> {
        let at = self.sent.iter().position(|(known, _)| *known == id)?;
        Some(self.sent.remove(at).1)
    }

    /// The broker answered the subscription of the topic at `at`.
    pub(super) fn granted(&mut self, at: usize, is_granted: bool) {
        self.proofs.topic(at).answered(is_granted);
    }

    /// Everybody who waits here. The connection is over.
    pub(super) fn drain(&mut self) -> Vec<Answer> {
        self.proofs.drain()
    }

    fn control(&mut self, sender: &Sender, now: Instant) -> bool {
        let Some((at, control)) = self.proofs.control(now) else { return false };
        match control {
            Control::Subscribe(filter) => match sender.subscribe(&[Subscription { filter, lasting: false }]) {
                Ok(()) => self.subscribing(Asked::Proof(at)),
                Err(_) => {
                    self.granted(at, false);
                    return false;
                }
            },
            Control::Unsubscribe(filter) => match sender.unsubscribe(&filter) {
                Ok(()) => self.unsent += 1,
                Err(_) => return false,
            },
        }
        true
    }
}

impl Passing {
    /// As people see it; packets of up to `proven` bytes came back on this connection.
    pub(super) fn shown(&self, filter: &str, proven: usize) -> TopicProof {
        TopicProof {
            topic: filter.to_owned(),
            proven_bytes: proven,
            aim_bytes: self.size.aim(),
            most_bytes: self.size.most(),
            unproven: self.unproven.clone(),
        }
    }

    /// A packet of `bytes` came back. Says whether none did before.
    fn returned(&mut self, bytes: usize) -> bool {
        self.size.returned(bytes);
        self.tried = None;
        self.unproven.take().is_some()
    }

    /// A packet did not come back.
    fn missing(&mut self, judged: &Judged<Answer>, proven: usize, now: Instant, wall: Timestamp) -> Next {
        let bytes = judged.bytes;
        let (smallest, largest) =
            self.tried.map_or((bytes, bytes), |(least, most)| (least.min(bytes), most.max(bytes)));
        self.tried = Some((smallest, largest));
        let is_granted = judged.verdict != Verdict::NotGranted;
        let next = if is_granted { self.size.missing(bytes, judged.sent, proven, now) } else { Next::Hold };
        if next == Next::Hold {
            let since = self.unproven.as_ref().map_or(wall, |unproven| unproven.since);
            let (smallest_bytes, largest_bytes) = (smallest, largest);
            self.unproven = Some(Unproven { since, smallest_bytes, largest_bytes, is_granted });
        }
        next
    }
}

impl Online<'_> {
    /// Publishes, or keeps the message until its topic is subscribed, so that it can be seen to come back.
    pub(super) fn publish(&mut self, request: Request) {
        let Request { message, answer } = request;
        let bytes = self.sender.packet_size(&message);
        if let Some(at) = self.proving.proofs.find(&message.topic).filter(|_| bytes <= self.max_packet) {
            let topic = self.proving.proofs.topic(at);
            if !topic.counts(bytes, Instant::now()) {
                return topic.park(message, bytes, answer);
            }
        }
        self.hand_over(message, Purpose::Caller(answer));
    }

    /// Subscribes and unsubscribes as the proofs need it, and publishes what waited for it.
    pub(super) fn steer_proofs(&mut self) {
        self.proving.proofs.forget(oneshot::Sender::is_closed);
        let now = Instant::now();
        if self.proving.unsent == 0 && self.in_flight.has_free_id() && self.proving.control(&self.sender, now) {
            self.in_flight.took_id();
        }
        while self.in_flight.has_room() && self.in_flight.unsent() < MESSAGES_QUEUED {
            let Some((at, message, answer)) = self.proving.proofs.ready() else { return };
            let bytes = self.sender.packet_size(&message);
            let id = self.proving.proofs.topic(at).published(message.payload.clone(), bytes, answer, now);
            self.hand_over(message, Purpose::Trial { at, id });
        }
    }

    /// What became of the publish of trial `id`.
    pub(super) fn settle_trial(&mut self, at: usize, id: u64, delivery: Delivery) {
        let topic = self.proving.proofs.topic(at);
        if delivery.is_delivered() {
            if let Some(judged) = topic.acknowledged(id, Instant::now()) {
                self.judge_trial(at, judged);
            }
        } else if let Some(answer) = topic.given_up(id) {
            // Whoever asked may have given up waiting.
            _ = answer.send(delivery);
        }
    }

    /// Whether a message that came in is one of ours, which ends its trial.
    pub(super) fn is_returned(&mut self, received: &Received) -> bool {
        if self.proving.proofs.find(&received.topic).is_none() {
            return false;
        }
        if let Some((at, Some(judged))) = self.proving.proofs.received(received, Instant::now()) {
            self.judge_trial(at, judged);
        }
        true
    }

    /// Ends the trials whose time is over.
    pub(super) fn look_after_proofs(&mut self, now: Instant) {
        for passing in &mut self.session.passing {
            passing.size.expire(now);
        }
        for (at, judged) in self.proving.proofs.overdue(now) {
            self.judge_trial(at, judged);
        }
    }

    fn judge_trial(&mut self, at: usize, judged: Judged<Answer>) {
        let (now, wall) = (Instant::now(), self.session.wall());
        let proven = self.proving.proofs.proven(at, now);
        let topic = self.session.settings.proven_topics.get(at).cloned().unwrap_or_default();
        let Some(passing) = self.session.passing.get_mut(at) else { return };
        let delivery = match judged.verdict {
            Verdict::Returned => {
                if passing.returned(judged.bytes) {
                    info!(topic, "the broker returns what is published");
                }
                self.session.count(|status| status.proven += 1);
                Delivery::Acknowledged
            }
            Verdict::Missing | Verdict::NotGranted => {
                let was_held = passing.unproven.is_some();
                let next = passing.missing(&judged, proven, now, wall);
                let held = passing.unproven.as_ref().filter(|_| next == Next::Hold);
                let held = held.map(|held| format!("{}; {}", held.fault(&topic), Unproven::REMEDY));
                let smaller =
                    || format!("{} bytes to {topic} did not come back: smaller messages are tried", judged.bytes);
                let text = held.unwrap_or_else(smaller);
                if !was_held {
                    warn!(reason = %text, "the broker acknowledges a message and was not seen to pass it on");
                }
                self.session.count(|status| status.unproven += 1);
                Delivery::Unproven { tries_smaller: next == Next::Smaller, text }
            }
        };
        // Who waits looks at the sizes next.
        self.show_proofs();
        _ = judged.waiting.send(delivery);
    }

    fn show_proofs(&mut self) {
        let now = Instant::now();
        let filters = self.session.settings.proven_topics.iter().zip(&self.session.passing).enumerate();
        let proofs = filters.map(|(at, (filter, passing))| passing.shown(filter, self.proving.proofs.proven(at, now)));
        self.session.show_proofs(proofs.collect());
    }
}
