//! What goes out, what becomes of it, and what comes in.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// One message to the broker, published with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic, without wildcards.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Whether the broker keeps it for later subscribers; ignored where the broker cannot.
    pub retain: bool,
    /// MIME type of the payload; MQTT 5 only.
    pub content_type: Option<&'static str>,
    /// After how long the broker may discard it undelivered, in whole seconds; MQTT 5 only.
    pub expiry: Option<Duration>,
    /// What the request that this answers asked to be given back; MQTT 5 only.
    pub correlation_data: Option<Bytes>,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// The broker has it.
    Acknowledged,
    /// The broker has it, and nobody subscribes to the topic (reason 0x10). Counts as delivered.
    NoSubscribers,
    /// The broker refuses it: not delivered. Trying again at once gets the same answer.
    Refused {
        /// Reason code, 0x80 or above (MQTT 5, 2.4).
        reason: u8,
        /// The reason for people.
        text: String,
    },
    /// Larger than the broker or the configuration takes; it was not sent.
    TooLarge {
        /// Most bytes a packet may have: payload, topic, properties and header.
        limit: usize,
    },
    /// The broker acknowledged it and did not send it back to us, so it may have been discarded (MQTT 3.1.1): not
    /// delivered.
    Unproven {
        /// Smaller messages are worth trying at once; otherwise only time helps.
        tries_smaller: bool,
        /// What was tried, for people.
        text: String,
    },
    /// There is no connection, or it ended before the answer came. It may or may not have arrived.
    SessionLost,
}

/// `acknowledged`, `refused: not authorized (0x87)`, `too large: the broker takes 1024 bytes`.
impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Acknowledged => f.write_str("acknowledged"),
            Self::NoSubscribers => f.write_str("acknowledged, nobody subscribed"),
            Self::Refused { reason, text } => write!(f, "refused: {text} ({reason:#04x})"),
            Self::TooLarge { limit } => write!(f, "too large: the broker takes {limit} bytes"),
            Self::Unproven { text, .. } => f.write_str(text),
            Self::SessionLost => f.write_str("session lost"),
        }
    }
}

impl Delivery {
    /// Whether the broker has the message.
    pub fn is_delivered(&self) -> bool {
        match self {
            Self::Acknowledged | Self::NoSubscribers => true,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Unproven { .. } | Self::SessionLost => false,
        }
    }
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Topic it was published to.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Whether it had been retained.
    pub retain: bool,
    /// Whether the broker says that it may have sent it before (DUP).
    pub is_repeat: bool,
    /// Where an answer is expected; MQTT 5 only.
    pub response_topic: Option<String>,
    /// What the answer must carry; MQTT 5 only.
    pub correlation_data: Option<Bytes>,
}

/// What the session subscribes to and where it puts what arrives. When the channel is full, messages are dropped and
/// counted: a slow receiver must not stop deliveries.
#[derive(Debug)]
pub struct Inbox {
    /// Topic filters, subscribed with QoS 1 on every connection.
    pub filters: Vec<String>,
    /// Takes what arrives.
    pub messages: mpsc::Sender<Received>,
}
