//! The session while it is connected: one connection from CONNACK to its end.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{Answer, Event, Events, MESSAGES_QUEUED, Sender, Subscription, Up};
use super::echo::{Echo, Verdict};
use super::failure::Failure;
use super::in_flight::{InFlight, Window};
use super::message::{Delivery, Message, Received};
use super::proving::{Asked, Proving};
use super::session::{End, Session};
use super::settings::Protocol;

/// How often the connection is looked at: overdue acknowledgements and probes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long saying goodbye may take.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// Bytes a second of the slowest line worth waiting for.
const SLOWEST_LINE: usize = 1024;

/// MQTT 5, 3.4.2.1.
const TOPIC_NAME_INVALID: u8 = 0x90;

/// One connection.
pub(super) struct Online<'a> {
    pub(super) session: &'a mut Session,
    pub(super) sender: Sender,
    pub(super) in_flight: InFlight<Waiting>,
    pub(super) max_packet: usize,
    retain_available: bool,
    /// What the session itself has to say; goes before what others publish.
    own: VecDeque<Own>,
    subscriptions: Vec<Subscription>,
    /// Only where refusals are silent.
    echo: Option<Echo>,
    /// For the topics where a message must come back.
    pub(super) proving: Proving,
    warnings: Warnings,
    /// When something was acknowledged last, or the first message went out after everything had been.
    progress: Instant,
    farewell_until: Option<Instant>,
    warned_no_subscribers: bool,
}

/// A publish that is not answered yet.
pub(super) struct Waiting {
    topic: String,
    /// Of the packet.
    bytes: usize,
    purpose: Purpose,
}

pub(super) enum Purpose {
    Caller(oneshot::Sender<Delivery>),
    /// A message that has to come back: its topic and its trial.
    Trial {
        at: usize,
        id: u64,
    },
    State,
    Probe,
    Farewell,
}

/// Messages of the session itself.
#[derive(Debug, PartialEq, Eq)]
enum Own {
    State,
    Probe(String),
    Farewell,
}

#[derive(Debug, Default)]
struct Warnings {
    echo: Option<String>,
    subscriptions: Option<String>,
}

impl<'a> Online<'a> {
    pub(super) fn new(session: &'a mut Session, sender: Sender, up: &Up) -> Self {
        let window = Window { publishes: usize::from(up.limits.in_flight), packet_ids: up.packet_ids };
        let (echo, filters) = match session.settings.protocol {
            Protocol::V5 => (None, &[][..]),
            Protocol::V311 => (Some(Echo::new(Instant::now())), &session.settings.proven_topics[..]),
        };
        let proving = Proving::new(filters, up.session_present);
        let lasting = session.inbox.iter().flat_map(|inbox| &inbox.filters);
        let mut subscriptions: Vec<_> =
            lasting.map(|filter| Subscription { filter: filter.clone(), lasting: true }).collect();
        if echo.is_some() {
            subscriptions.push(Subscription { filter: session.settings.probe_topic.clone(), lasting: false });
        }
        Self {
            session,
            sender,
            in_flight: InFlight::new(window),
            max_packet: usize::try_from(up.limits.max_packet).unwrap_or(usize::MAX),
            retain_available: up.limits.retain_available,
            own: VecDeque::from([Own::State]),
            subscriptions,
            echo,
            proving,
            warnings: Warnings::default(),
            progress: Instant::now(),
            farewell_until: None,
            warned_no_subscribers: false,
        }
    }

    /// Serves publishes until the connection ends or `stop`. Nobody is left without an answer.
    pub(super) async fn run(mut self, mut events: Events, stop: &CancellationToken) -> End {
        self.subscribe();
        self.session.online.mark_unchanged();
        let end = self.serve(&mut events, stop).await;
        let refused = match &end {
            // Acknowledgements come in the order of the messages (MQTT 5, 4.6): it was about the oldest.
            End::Failed(Failure::UnreadableRefusal { reason, text }) => {
                let delivery = Delivery::Refused { reason: *reason, text: (*text).to_owned() };
                self.in_flight.take_oldest_sent().map(|waiting| (waiting, delivery))
            }
            End::Failed(_) | End::Stopped => None,
        };
        let unanswered: Vec<_> = self.in_flight.drain().collect();
        if let End::Failed(failure) = &end {
            let largest = unanswered.iter().map(|waiting| waiting.bytes).max().unwrap_or(0);
            self.session.learn(failure, refused.as_ref().map_or(largest, |(waiting, _)| waiting.bytes));
        }
        if let Some((waiting, delivery)) = refused {
            self.settle(waiting, delivery);
        }
        for waiting in unanswered {
            self.settle(waiting, Delivery::SessionLost);
        }
        for answer in self.proving.drain() {
            // Whoever asked may have given up waiting.
            _ = answer.send(Delivery::SessionLost);
        }
        end
    }

    fn subscribe(&mut self) {
        if self.subscriptions.is_empty() {
            return;
        }
        if self.sender.subscribe(&self.subscriptions).is_ok() {
            self.proving.subscribing(Asked::Connection);
            self.in_flight.took_id();
        } else {
            self.warnings.subscriptions = Some("a subscription is not a valid topic filter".to_owned());
            self.show_warnings();
        }
    }

    async fn serve(&mut self, events: &mut Events, stop: &CancellationToken) -> End {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The client must not be dropped half way through a write, so this future outlives the inner loop's turns.
            let next = events.next();
            tokio::pin!(next);
            let event = loop {
                self.publish_own();
                self.steer_proofs();
                tokio::select! {
                    event = &mut next => break event,
                    Some(request) = self.session.requests.recv(), if self.takes_requests() => self.publish(request),
                    Ok(()) = self.session.online.changed() => self.queue_state(),
                    _ = look.tick() => if let Some(end) = self.look(Instant::now()) { return end },
                    () = stop.cancelled(), if self.farewell_until.is_none() => self.say_farewell(),
                }
            };
            match event {
                Ok(Event::Disconnected) if self.farewell_until.is_some() => return End::Stopped,
                // Nobody here asked for it: the client library takes its leave of a broker that breaks the protocol, such as
                // by a topic alias that it never explained (MQTT 5.0, 3.3.2.3.4). A new connection begins anew.
                Ok(Event::Disconnected) => return End::Failed(broken_protocol()),
                Ok(event) => self.happened(event),
                Err(_) if self.farewell_until.is_some() => return End::Stopped,
                Err(failure) => return End::Failed(failure),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.has_room() && self.in_flight.unsent() < MESSAGES_QUEUED
    }

    fn takes_requests(&self) -> bool {
        self.has_room() && self.own.is_empty() && self.farewell_until.is_none() && self.proving.has_room()
    }

    fn publish_own(&mut self) {
        while self.has_room() {
            let Some(own) = self.own.pop_front() else { return };
            let will = &self.session.settings.will;
            let (message, purpose) = match own {
                Own::State => {
                    let payload = self.session.online.borrow().clone();
                    (Message { payload, ..will.clone() }, Purpose::State)
                }
                Own::Farewell => (will.clone(), Purpose::Farewell),
                Own::Probe(nonce) => {
                    let topic = self.session.settings.probe_topic.clone();
                    let payload = Bytes::from(nonce);
                    let message = Message {
                        topic,
                        payload,
                        retain: false,
                        content_type: None,
                        expiry: None,
                        correlation_data: None,
                    };
                    (message, Purpose::Probe)
                }
            };
            self.hand_over(message, purpose);
        }
    }

    fn queue_state(&mut self) {
        if !self.own.contains(&Own::State) && self.farewell_until.is_none() {
            self.own.push_back(Own::State);
        }
    }

    fn say_farewell(&mut self) {
        self.farewell_until = Some(Instant::now() + FAREWELL_TIME);
        self.own.clear();
        self.own.push_back(Own::Farewell);
    }

    pub(super) fn hand_over(&mut self, mut message: Message, purpose: Purpose) {
        message.retain &= self.retain_available;
        let packet = self.sender.packet_size(&message);
        let waiting = Waiting { topic: message.topic.clone(), bytes: packet, purpose };
        if packet > self.max_packet {
            return self.settle(waiting, Delivery::TooLarge { limit: self.max_packet });
        }
        let payload = message.payload.len() as u64;
        if self.sender.publish(message).is_err() {
            let text = "the topic holds a wildcard".to_owned();
            return self.settle(waiting, Delivery::Refused { reason: TOPIC_NAME_INVALID, text });
        }
        if self.in_flight.is_empty() {
            self.progress = Instant::now();
        }
        self.in_flight.handed(waiting, packet);
        self.session.count(|status| {
            status.publishes += 1;
            status.payload_bytes += payload;
        });
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Sent(id) => self.in_flight.sent(id),
            Event::Answered(id, answer) => {
                self.progress = Instant::now();
                if let Some(waiting) = self.in_flight.answered(id) {
                    self.session.learned.acknowledged(waiting.bytes);
                    let delivery = match answer {
                        Answer::Taken => Delivery::Acknowledged,
                        Answer::NoSubscribers => Delivery::NoSubscribers,
                        Answer::Refused { reason, text } => Delivery::Refused { reason, text },
                    };
                    self.settle(waiting, delivery);
                }
            }
            Event::Received(received) => self.receive(received),
            Event::SubscribeSent(id) => self.proving.subscribe_sent(id),
            Event::UnsubscribeSent => self.proving.control_sent(),
            Event::Subscribed { id, refused } => match self.proving.subscribed(id) {
                Some(Asked::Connection) => self.subscribed(&refused),
                Some(Asked::Proof(at)) => self.proving.granted(at, refused.is_empty()),
                None => {}
            },
            Event::Up(_) | Event::Disconnected | Event::Other => {}
        }
    }

    /// Counts what became of a publish and tells whoever waits.
    fn settle(&mut self, waiting: Waiting, delivery: Delivery) {
        self.count(&waiting.topic, &delivery);
        match waiting.purpose {
            // Whoever asked may have given up waiting.
            Purpose::Caller(answer) => _ = answer.send(delivery),
            Purpose::Trial { at, id } => self.settle_trial(at, id, delivery),
            Purpose::State => {
                if !delivery.is_delivered() && delivery != Delivery::SessionLost {
                    warn!(topic = %waiting.topic, ?delivery, "the broker does not show that this gateway is online");
                }
            }
            Purpose::Probe => {
                if let Some(echo) = self.echo.as_mut().filter(|_| delivery.is_delivered()) {
                    echo.acknowledged(Instant::now());
                }
            }
            Purpose::Farewell => {
                if self.sender.disconnect().is_err() {
                    self.farewell_until = Some(Instant::now());
                }
            }
        }
    }

    fn count(&mut self, topic: &str, delivery: &Delivery) {
        if topic == self.session.settings.batch_topic {
            self.count_batch(delivery);
        }
        self.session.count(|status| match delivery {
            Delivery::Acknowledged => status.acknowledged += 1,
            Delivery::NoSubscribers => status.no_subscribers += 1,
            Delivery::TooLarge { .. } => status.too_large += 1,
            Delivery::SessionLost => status.lost += 1,
            Delivery::Unproven { .. } => status.unproven += 1,
            Delivery::Refused { reason, text } => {
                let count = status.refused.entry(*reason).or_default();
                *count += 1;
                if *count == 1 {
                    warn!(%topic, reason, %text, "the broker refuses messages");
                }
                status.last_refusal = Some(format!("{topic}: {text} (reason 0x{reason:02X})"));
            }
        });
    }

    /// Warns once a connection when batches go to nobody.
    fn count_batch(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::NoSubscribers => {
                let now = self.session.wall();
                self.session.count(|status| _ = status.batches_to_nobody_since.get_or_insert(now));
                if !std::mem::replace(&mut self.warned_no_subscribers, true) {
                    warn!(
                        topic = %self.session.settings.batch_topic,
                        "nobody subscribes to the batches: the broker takes them and gives them to nobody"
                    );
                }
            }
            Delivery::Acknowledged => self.session.count(|status| status.batches_to_nobody_since = None),
            Delivery::Refused { .. }
            | Delivery::TooLarge { .. }
            | Delivery::Unproven { .. }
            | Delivery::SessionLost => {}
        }
    }

    fn receive(&mut self, received: Received) {
        if let Some(echo) = self.echo.as_mut().filter(|_| received.topic == self.session.settings.probe_topic) {
            let verdict = echo.arrived(&received.payload, Instant::now());
            return self.judge(verdict);
        }
        if self.is_returned(&received) {
            return;
        }
        let Some(inbox) = &self.session.inbox else { return };
        match inbox.messages.try_send(received) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_) | mpsc::error::TrySendError::Closed(_)) => {
                self.session.count(|status| status.inbox_dropped += 1);
            }
        }
    }

    fn subscribed(&mut self, refused: &[usize]) {
        let filters: Vec<_> = refused
            .iter()
            .filter_map(|at| self.subscriptions.get(*at))
            .map(|refused| refused.filter.as_str())
            .collect();
        if !filters.is_empty() {
            let text = format!("the broker refuses the subscription to {}", filters.join(", "));
            warn!(warning = %text, "subscriptions refused");
            self.warnings.subscriptions = Some(text);
            self.show_warnings();
        }
    }

    /// Looks after what should have happened by now; says why the connection ends, if it does.
    fn look(&mut self, now: Instant) -> Option<End> {
        if let Some(until) = self.farewell_until {
            return (until <= now).then_some(End::Stopped);
        }
        self.look_after_proofs(now);
        if self.is_stalled(now) {
            return Some(End::Failed(Failure::Stalled));
        }
        if let Some(echo) = &mut self.echo {
            if let Some(nonce) = echo.due(now, fastrand::u64(..)) {
                self.own.push_back(Own::Probe(nonce));
            }
            let verdict = echo.overdue(now);
            self.judge(verdict);
        }
        None
    }

    /// Whether nothing was acknowledged for longer than patience and the bytes on the way explain.
    fn is_stalled(&self, now: Instant) -> bool {
        self.in_flight.oldest_bytes().is_some_and(|bytes| {
            let on_the_way = Duration::from_secs((bytes / SLOWEST_LINE) as u64);
            now >= self.progress + self.session.settings.patience + on_the_way
        })
    }

    fn judge(&mut self, verdict: Option<Verdict>) {
        let warning = match verdict {
            None => return,
            Some(Verdict::Returned) => {
                self.session.count(|status| status.probes_returned += 1);
                None
            }
            Some(Verdict::Missing) => Some(format!(
                "the broker does not return what is published to {}: an access rule may discard messages silently",
                self.session.settings.probe_topic
            )),
        };
        if warning == self.warnings.echo {
            return;
        }
        match &warning {
            Some(warning) => warn!(%warning, "messages may be lost at the broker"),
            None => info!("the broker returns our messages again"),
        }
        self.warnings.echo = warning;
        self.show_warnings();
    }

    fn show_warnings(&self) {
        let Warnings { echo, subscriptions } = &self.warnings;
        let texts: Vec<&str> = echo.iter().chain(subscriptions).map(String::as_str).collect();
        self.session.warn_people((!texts.is_empty()).then(|| texts.join("; ")));
    }
}

/// The broker sent what MQTT does not allow (reason 0x82, protocol error: MQTT 5.0, 4.13).
fn broken_protocol() -> Failure {
    Failure::Disconnected { reason: 0x82, text: "it sent what MQTT does not allow".to_owned() }
}
