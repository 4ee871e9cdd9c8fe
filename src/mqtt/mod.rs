//! A session with the broker: publish, and learn what became of it.
//!
//! # Invariants
//!
//! - [`SessionHandle::publish`] says [`Delivery::Acknowledged`] only after the broker's PUBACK without an error reason.
//!   With MQTT 3.1.1, whose PUBACK has no reasons, a message of that size must also have come back on that topic
//!   (`proof.rs`).
//! - Nothing is queued here. When a connection ends, every publish that waits is told [`Delivery::SessionLost`], the
//!   client is thrown away with all it remembers, and the next connection begins with a fresh one. Whoever published
//!   still has the records and publishes them again; the receiver discards repeats by identity. So there are no stale
//!   replays, no packet ids from another life, and no second queue beside the buffer.
//! - What is unacknowledged never exceeds what the broker takes (Receive Maximum), and no packet id is used again
//!   before it is answered (`in_flight.rs`).
//! - One task owns the client and its event loop and is the only one that polls it. A poll that has begun is carried
//!   to its end: dropped half way, the client forgets what it was writing.
//!
//! The client library is named in `v5.rs` and `v4.rs` and nowhere else.

pub mod backoff;
mod connection;
mod echo;
mod expiry;
mod explained;
mod failure;
mod handle;
mod in_flight;
mod learned_limit;
mod message;
mod online;
mod passing_size;
mod port_check;
mod proof;
mod proving;
mod session;
mod settings;
mod state;
mod tls;
pub mod topics;
mod v4;
mod v5;
mod validity;
mod visitor;

pub use expiry::expiry_warnings;
pub use handle::SessionHandle;
pub use message::{Delivery, Inbox, Message, Received};
pub use session::Session;
pub use settings::{Protocol, SessionError, SessionSettings, TlsSettings};
pub use state::{BrokerLimits, Connected, PacketSizes, SessionState, SessionStatus, TopicProof, Unproven};
pub use tls::TlsError;
pub use topics::Topics;
pub use visitor::{VisitError, Visitor};

/// Shared bytes of a payload: cloning does not copy.
pub use tokio_util::bytes::Bytes;
