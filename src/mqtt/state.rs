//! What the session tells the outside about itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::proof::covers;
use crate::model::Timestamp;

/// Whether there is a connection, and what the broker said on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SessionState {
    /// No connection; the session keeps trying.
    Connecting {
        /// Since when there is none.
        since: Timestamp,
        /// Attempts that failed since then.
        attempts: u32,
        /// Why the last attempt failed or the connection ended, for people.
        last_error: Option<String>,
    },
    /// Connected.
    Connected(Connected),
}

/// A connection as the broker granted it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connected {
    /// Number of this connection since the agent started, from 1.
    pub generation: u64,
    /// Since when.
    pub since: Timestamp,
    /// Whether the broker remembered us.
    pub session_present: bool,
    /// What the broker takes.
    pub limits: BrokerLimits,
    /// What a person should look at: messages may be discarded, a subscription was refused.
    pub warning: Option<String>,
    /// With MQTT 3.1.1, the topics whose messages must be seen to come back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<TopicProof>,
}

/// What came back on one of the gateway's own topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicProof {
    /// The topic; its last level may be `+`.
    pub topic: String,
    /// Largest packet that came back on this connection, in bytes; 0 for none.
    pub proven_bytes: usize,
    /// Packets are cut to this size, because larger ones did not come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim_bytes: Option<usize>,
    /// Larger packets are not sent: they did not come back, and could not be cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_bytes: Option<usize>,
    /// No message comes back, whatever its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<Unproven>,
}

/// The broker acknowledges the messages of a topic and was not seen to pass them on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unproven {
    /// Since when.
    pub since: Timestamp,
    /// Smallest packet that was tried, in bytes.
    pub smallest_bytes: usize,
    /// Largest packet that was tried, in bytes.
    pub largest_bytes: usize,
    /// Whether the broker granted the subscription to the topic.
    pub is_granted: bool,
}

impl Unproven {
    /// The step to take.
    pub const REMEDY: &str = "give the gateway read rights on its own topics, check the message size limit of the \
                              broker, or set trust_puback = true in [mqtt]";

    /// The fault, and what was tried on `topic`.
    pub fn fault(&self, topic: &str) -> String {
        let Self { smallest_bytes, largest_bytes, is_granted, .. } = self;
        let seen = if *is_granted { "does not return them" } else { "refuses the subscription that would show them" };
        let tried = match smallest_bytes == largest_bytes {
            true => format!("{smallest_bytes} bytes"),
            false => format!("{largest_bytes} down to {smallest_bytes} bytes"),
        };
        format!(
            "the broker acknowledges messages to {topic} and {seen} (tried {tried}): it may discard them, so \
             they stay in the store"
        )
    }
}

/// Sizes of packets to a topic, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSizes {
    /// Larger ones are certain not to be taken.
    pub most: usize,
    /// Size worth aiming at; what cannot be cut may be larger.
    pub aim: usize,
}

impl Connected {
    /// How large packets to `topic` may be.
    pub fn sizes(&self, topic: &str) -> PacketSizes {
        let (most, aim) = (self.limits.max_packet as usize, self.limits.aim_packet as usize);
        let proof = self.proofs.iter().find(|proof| covers(&proof.topic, topic));
        let most = proof.and_then(|proof| proof.most_bytes).map_or(most, |bytes| bytes.min(most));
        let aim = proof.and_then(|proof| proof.aim_bytes).map_or(aim, |bytes| bytes.min(aim));
        PacketSizes { most, aim: aim.min(most) }
    }
}

/// What the broker takes, from its CONNACK and our own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerLimits {
    /// Largest packet, in bytes: topic, properties and header included.
    pub max_packet: u32,
    /// Size of a packet worth aiming at, in bytes: smaller than the largest where the broker was seen to take less.
    pub aim_packet: u32,
    /// Most unacknowledged publishes.
    pub in_flight: u16,
    /// Whether it keeps retained messages.
    pub retain_available: bool,
    /// Keep alive in force, in seconds; 0 when the broker wants none.
    pub keep_alive_s: u16,
    /// How long the broker keeps the session without a connection, in seconds; MQTT 5 only.
    pub session_expiry_s: Option<u32>,
    /// Client id that the broker gave us in place of ours.
    pub assigned_client_id: Option<String>,
}

/// State and counters since the agent started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionStatus {
    /// Connection.
    #[serde(flatten)]
    pub state: SessionState,
    /// Connections made.
    pub connects: u64,
    /// Messages handed to a connection, the session's own included.
    pub publishes: u64,
    /// Their payload, in bytes.
    pub payload_bytes: u64,
    /// Messages that the broker acknowledged without a reason against them.
    pub acknowledged: u64,
    /// Messages that the broker took though nobody subscribes.
    pub no_subscribers: u64,
    /// Since when batches go to nobody, because nobody subscribes to their topic (MQTT 5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches_to_nobody_since: Option<Timestamp>,
    /// Messages that the broker acknowledged and was not seen to pass on (MQTT 3.1.1).
    pub unproven: u64,
    /// Messages that came back, which proves that the broker passes on what it acknowledges (MQTT 3.1.1).
    pub proven: u64,
    /// Refused messages by reason code (MQTT 5, 2.4).
    pub refused: BTreeMap<u8, u64>,
    /// Messages that were never sent because they are too large.
    pub too_large: u64,
    /// Messages whose connection ended before their answer.
    pub lost: u64,
    /// Connections given up because nothing was acknowledged.
    pub rebuilt: u64,
    /// Probes that came back, so that a broker which discards silently is told from one that works.
    pub probes_returned: u64,
    /// Incoming messages dropped because the inbox was full.
    pub inbox_dropped: u64,
    /// Last refusal, for people.
    pub last_refusal: Option<String>,
}

impl SessionStatus {
    pub(super) fn new(state: SessionState) -> Self {
        Self {
            state,
            connects: 0,
            publishes: 0,
            payload_bytes: 0,
            acknowledged: 0,
            no_subscribers: 0,
            batches_to_nobody_since: None,
            unproven: 0,
            proven: 0,
            refused: BTreeMap::new(),
            too_large: 0,
            lost: 0,
            rebuilt: 0,
            probes_returned: 0,
            inbox_dropped: 0,
            last_refusal: None,
        }
    }
}
