//! Who may: every check that a command passes before it is journalled, in this order. Pure: time is an argument.
//!
//! Retained, size, parse, key and role, signature, gateway, expiry against a trusted clock; then, because a command that
//! is known gets its answer again, whether its id is known; then counter and rate.

use std::collections::HashMap;
use std::time::Duration;

use super::order::{self, COMMAND_MAX, Order, OrderError};
use super::signature::{self, FOR_COMMAND};
use super::verb::Verb;
use crate::config::{RemoteConfig, Role};
use crate::model::{ClockState, Timestamp};

/// An expiry further ahead than this is refused: nothing may wait in a broker for days.
pub const EXPIRY_FURTHEST: Duration = Duration::from_secs(24 * 3600);

/// Commands of one key that may come at once.
const BURST: f64 = 20.0;

/// Commands of one key a second, in the long run.
const PER_SECOND: f64 = 1.0;

/// Who sends commands without signature, where that is allowed. No key can have this name.
pub const UNSIGNED: &str = "(unsigned)";

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It lay in the broker.
    #[error("retained messages are never carried out: publish without retain")]
    Retained,
    /// Longer than any command.
    #[error("{bytes} bytes: a command has at most {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most it may have.
        most: usize,
    },
    /// Not a command.
    #[error(transparent)]
    Malformed(#[from] OrderError),
    /// No such command, or arguments that do not fit it.
    #[error("{0}")]
    NotUnderstood(String),
    /// No signature where one is needed.
    #[error("unsigned: a command needs a key and a signature")]
    Unsigned,
    /// The configuration has no key of this name.
    #[error("no key {0:?} is configured on this gateway")]
    UnknownKey(String),
    /// The key is good for less.
    #[error("{command} needs the role {needed}, key {key:?} has {has}")]
    Role {
        /// What was asked.
        command: String,
        /// Who asked.
        key: String,
        /// Least role.
        needed: Role,
        /// Role of the key.
        has: Role,
    },
    /// Another key, or other bytes.
    #[error("the signature does not fit key and text")]
    Signature,
    /// Meant for another one.
    #[error("meant for {meant:?}, this is {here:?}")]
    OtherGateway {
        /// In the signed text.
        meant: String,
        /// This one.
        here: String,
    },
    /// Nobody knows what time it is.
    #[error(
        "the clock of this gateway is not set, so nobody can tell whether the command has expired; set it, or trust it \
         with [clock] trust = \"local\""
    )]
    ClockUntrusted,
    /// Too late.
    #[error("expired at {expires}, it is {now}")]
    Expired {
        /// In the signed text.
        expires: Timestamp,
        /// Here.
        now: Timestamp,
    },
    /// Would wait too long.
    #[error("expires at {expires}, more than 24 h from now ({now})")]
    TooFarAhead {
        /// In the signed text.
        expires: Timestamp,
        /// Here.
        now: Timestamp,
    },
    /// Another command had this id.
    #[error("another command had the id {0:?}")]
    IdUsed(String),
    /// Not higher than one before.
    #[error("counter {counter}: key {key:?} has used {last} already; it must rise")]
    Counter {
        /// In the signed text.
        counter: u64,
        /// Who asked.
        key: String,
        /// The highest so far.
        last: u64,
    },
    /// Too many.
    #[error("too many commands: key {0:?} may send one a second, twenty at once")]
    Rate(String),
    /// Too many at once.
    #[error("busy with other commands; try again")]
    Busy,
    /// The guard does not let a write pass.
    #[error("{0}")]
    Write(String),
    /// What must be remembered cannot be.
    #[error("nothing that changes anything is carried out while the journal cannot be used: {0}")]
    Journal(String),
}

impl Refusal {
    /// A word for counters and the audit log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retained => "retained",
            Self::TooLarge { .. } => "size",
            Self::Malformed(_) => "malformed",
            Self::NotUnderstood(_) => "not-understood",
            Self::Unsigned => "unsigned",
            Self::UnknownKey(_) => "unknown-key",
            Self::Role { .. } => "role",
            Self::Signature => "signature",
            Self::OtherGateway { .. } => "gateway",
            Self::ClockUntrusted => "clock",
            Self::Expired { .. } => "expired",
            Self::TooFarAhead { .. } => "expiry-too-far",
            Self::IdUsed(_) => "id-used",
            Self::Counter { .. } => "counter",
            Self::Rate(_) => "rate",
            Self::Busy => "busy",
            Self::Write(_) => "write",
            Self::Journal(_) => "journal",
        }
    }
}

/// A command that is genuine, meant for this gateway, and in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Genuine {
    /// The signed text, read.
    pub order: Order,
    /// What to do.
    pub verb: Verb,
    /// Who wants it.
    pub key: String,
    /// What the sender may do.
    pub role: Role,
    /// Of the signed text: the same command has the same.
    pub digest: String,
}

/// The time, and whether it is known.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Wall clock.
    pub time: Timestamp,
    /// How far it can be trusted.
    pub clock: ClockState,
    /// Since boot.
    pub monotonic: Duration,
}

/// Remembers the counter of every key, and how often it came lately.
#[derive(Debug, Default)]
pub struct Gate {
    counters: HashMap<String, u64>,
    rates: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Gate {
    /// A gate that goes on from what was journalled.
    pub fn new(counters: HashMap<String, u64>) -> Self {
        Self { counters, rates: HashMap::new() }
    }

    /// Every check of the message itself.
    ///
    /// # Errors
    /// The first check that it does not pass.
    pub fn verify(
        &self,
        config: &RemoteConfig,
        here: &str,
        id: &str,
        (payload, retained): (&[u8], bool),
        now: Now,
    ) -> Result<Genuine, Refusal> {
        if retained {
            return Err(Refusal::Retained);
        }
        if payload.len() > COMMAND_MAX {
            return Err(Refusal::TooLarge { bytes: payload.len(), most: COMMAND_MAX });
        }
        let (envelope, order) = order::parse(payload, id)?;
        let verb = Verb::parse(&order.command, &order.arguments).map_err(Refusal::NotUnderstood)?;
        let (key, role, public) = match &envelope.key {
            // Never for what moves a machine.
            None if config.insecure && envelope.signature.is_none() && !matches!(verb, Verb::Write(_)) => {
                (UNSIGNED.to_owned(), Role::Operator, None)
            }
            None => return Err(Refusal::Unsigned),
            Some(name) => {
                let known = config.keys.iter().find(|key| key.name.as_str() == name);
                let known = known.ok_or_else(|| Refusal::UnknownKey(name.chars().take(64).collect()))?;
                (name.clone(), known.role, Some(known.public))
            }
        };
        if role < verb.role() {
            return Err(Refusal::Role { command: order.command, key, needed: verb.role(), has: role });
        }
        if let Some(public) = public {
            let signature = envelope.signature.as_deref().and_then(signature::from_hex);
            let is_signed =
                |signature: Vec<u8>| signature::is_signed(&public, FOR_COMMAND, &envelope.command, &signature);
            if !signature.is_some_and(is_signed) {
                return Err(Refusal::Signature);
            }
        }
        if order.gateway != here {
            return Err(Refusal::OtherGateway { meant: order.gateway, here: here.to_owned() });
        }
        in_time(order.expires, now)?;
        let digest = signature::digest(envelope.command.as_bytes());
        Ok(Genuine { order, verb, key, role, digest })
    }

    /// Whether a command that is not known may be carried out now: its counter rises, and its key does not send too
    /// many. Nothing is remembered of it yet.
    ///
    /// # Errors
    /// [`Refusal::Counter`] or [`Refusal::Rate`].
    pub fn admit(&mut self, genuine: &Genuine, now: Now) -> Result<(), Refusal> {
        let (key, counter) = (&genuine.key, genuine.order.counter);
        if let Some(last) = self.counters.get(key).copied().filter(|last| counter <= *last) {
            return Err(Refusal::Counter { counter, key: key.clone(), last });
        }
        self.pace(key, now)
    }

    /// Whether `who` has not sent too many.
    ///
    /// # Errors
    /// [`Refusal::Rate`].
    pub fn pace(&mut self, who: &str, now: Now) -> Result<(), Refusal> {
        let bucket = self.rates.entry(who.to_owned()).or_insert(Bucket { left: BURST, at: now.monotonic });
        let passed = now.monotonic.saturating_sub(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * PER_SECOND).min(BURST);
        bucket.at = now.monotonic;
        if bucket.left < 1.0 {
            return Err(Refusal::Rate(who.to_owned()));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    /// The counter was used.
    pub fn used(&mut self, key: &str, counter: u64) {
        let last = self.counters.entry(key.to_owned()).or_default();
        *last = counter.max(*last);
    }
}

/// Whether `expires` lies ahead, by a clock that can be trusted, and not too far.
pub fn in_time(expires: Timestamp, now: Now) -> Result<(), Refusal> {
    match now.clock {
        ClockState::Synchronised | ClockState::Local => {}
        ClockState::Unsynchronised => return Err(Refusal::ClockUntrusted),
    }
    if expires <= now.time {
        return Err(Refusal::Expired { expires, now: now.time });
    }
    if expires.since(now.time) > EXPIRY_FURTHEST {
        return Err(Refusal::TooFarAhead { expires, now: now.time });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
