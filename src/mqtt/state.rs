//! What the session tells the outside about itself.

use std::collections::BTreeMap;

use serde::Serialize;

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
}

/// What the broker takes, from its CONNACK and our own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerLimits {
    /// Largest packet, in bytes: topic, properties and header included.
    pub max_packet: u32,
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
