//! One connection to the broker, whichever MQTT version it speaks.

use std::sync::Arc;

use rustls::ClientConfig;

use super::failure::Failure;
use super::in_flight::PacketId;
use super::message::{Message, Received};
use super::settings::{Protocol, SessionSettings};
use super::state::BrokerLimits;
use super::{tls, v4, v5};

/// Messages the client may hold that are not on the wire yet: one being written and one to follow.
pub(super) const MESSAGES_QUEUED: usize = 2;

/// The client's queue: beside messages, one subscription (or its end) and our DISCONNECT find room.
pub(super) const CLIENT_QUEUE: usize = MESSAGES_QUEUED + 2;

/// Limits the kernel's buffer (it takes twice this), so that a ping is not stuck behind minutes of data: at 1 KiB/s
/// it still leaves within a keep alive of 60 s.
pub(super) const SEND_BUFFER_BYTES: u32 = 24 * 1024;

/// The client's own time limit for connecting, and in one version for each write too. A large batch on a slow line
/// takes long; the session has its own limits for both, so this one is only the last resort.
pub(super) const CLIENT_TIMEOUT_S: u64 = 600;

/// What is needed to open a connection, read from settings and files at every attempt: certificates and passwords
/// are renewed while the agent runs.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub settings: &'a SessionSettings,
    pub password: String,
    pub tls: Option<Arc<ClientConfig>>,
    /// What the broker shall do when the connection breaks, and keep.
    pub stay: Stay,
}

/// How a connection is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// With a will, retained or not, and a session that the broker keeps.
    Lasting {
        /// Whether the will may ask to be retained.
        retain: bool,
    },
    /// Without.
    Visit,
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker accepted us.
    Up(Up),
    /// The oldest message handed over and not yet sent went out under this id.
    Sent(PacketId),
    /// The broker answered a publish.
    Answered(PacketId, Answer),
    /// A message came in.
    Received(Received),
    /// A SUBSCRIBE went out under this id.
    SubscribeSent(PacketId),
    /// An UNSUBSCRIBE went out.
    UnsubscribeSent,
    /// The broker answered the subscriptions of this id: positions of those it refuses.
    Subscribed { id: PacketId, refused: Vec<usize> },
    /// Our DISCONNECT went out.
    Disconnected,
    /// Something the session need not know.
    Other,
}

/// What the broker said when it accepted us.
#[derive(Debug)]
pub(super) struct Up {
    pub session_present: bool,
    pub limits: BrokerLimits,
    /// How many packet ids the client uses in turn.
    pub packet_ids: u64,
    /// Whether the broker takes QoS 1.
    pub takes_qos_1: bool,
}

/// The broker's answer to a publish.
#[derive(Debug)]
pub(super) enum Answer {
    Taken,
    NoSubscribers,
    Refused { reason: u8, text: String },
}

/// The broker would not understand the topic.
#[derive(Debug)]
pub(super) struct Unsendable;

/// What a subscription asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub filter: String,
    /// Whether the broker keeps messages for us while we are away.
    pub lasting: bool,
}

/// Hands messages to the client. Never waits: the session gives no more than the client takes.
pub(super) enum Sender {
    V5(v5::Sender),
    V4(v4::Sender),
}

/// Yields what happens. The only one that polls the client.
pub(super) enum Events {
    V5(v5::Events),
    V4(v4::Events),
}

/// A fresh client that connects when [`Events::next`] is polled first.
pub(super) fn open(settings: &SessionSettings, retain: bool) -> Result<(Sender, Events), Failure> {
    open_to(settings, Stay::Lasting { retain })
}

/// The same for a connection that leaves nothing behind.
pub(super) fn open_visit(settings: &SessionSettings) -> Result<(Sender, Events), Failure> {
    open_to(settings, Stay::Visit)
}

fn open_to(settings: &SessionSettings, stay: Stay) -> Result<(Sender, Events), Failure> {
    let tls =
        settings.tls.as_ref().map(tls::client_config).transpose().map_err(|error| Failure::Files(error.into()))?;
    let password = settings.password().map_err(Failure::Files)?;
    let opening = Opening { settings, password, tls, stay };
    Ok(match settings.protocol {
        Protocol::V5 => {
            let (sender, events) = v5::open(opening);
            (Sender::V5(sender), Events::V5(events))
        }
        Protocol::V311 => {
            let (sender, events) = v4::open(opening);
            (Sender::V4(sender), Events::V4(events))
        }
    })
}

impl Opening<'_> {
    /// The host as the client joins it with the port: an IPv6 address needs brackets.
    pub(super) fn host(&self) -> String {
        let host = &self.settings.host;
        if host.contains(':') { format!("[{host}]") } else { host.clone() }
    }

    /// Packet ids the client may use: more than the window, so that one late answer does not close it.
    pub(super) fn packet_ids(&self) -> u16 {
        self.settings.in_flight.saturating_mul(2).saturating_add(2)
    }
}

impl Sender {
    /// Bytes of `message` on the wire.
    pub(super) fn packet_size(&self, message: &Message) -> usize {
        match self {
            Self::V5(_) => v5::packet_size(message),
            Self::V4(_) => v4::packet_size(message),
        }
    }

    pub(super) fn publish(&self, message: Message) -> Result<(), Unsendable> {
        match self {
            Self::V5(sender) => sender.publish(message),
            Self::V4(sender) => sender.publish(message),
        }
    }

    pub(super) fn subscribe(&self, subscriptions: &[Subscription]) -> Result<(), Unsendable> {
        match self {
            Self::V5(sender) => sender.subscribe(subscriptions),
            Self::V4(sender) => sender.subscribe(subscriptions),
        }
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Result<(), Unsendable> {
        match self {
            Self::V5(sender) => sender.unsubscribe(filter),
            Self::V4(sender) => sender.unsubscribe(filter),
        }
    }

    pub(super) fn disconnect(&self) -> Result<(), Unsendable> {
        match self {
            Self::V5(sender) => sender.disconnect(),
            Self::V4(sender) => sender.disconnect(),
        }
    }
}

impl Events {
    /// The next event. Not to be dropped half way; after an error the connection is over.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        match self {
            Self::V5(events) => events.next().await,
            Self::V4(events) => events.next().await,
        }
    }
}
