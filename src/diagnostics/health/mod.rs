//! The health message: the state of every stage to the broker, at an interval.
//!
//! Once an hour, on every new connection and on request it holds the whole state, which the broker keeps for later
//! subscribers. In between it holds what changed since that whole state. Where the whole state is larger than the broker
//! takes, parts of it are left out; see [`Detail`].

mod detail;
mod message;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Board;
use crate::config::HealthConfig;
use crate::encoding::health::CONTENT_TYPE;
use crate::kernel;
use crate::mqtt::{Connected, Delivery, Message, SessionHandle, SessionState};
pub use detail::Detail;
use message::{Base, Made, Order};

/// A receiver that missed the last whole state waits at most so long for the next.
const WHOLE_INTERVAL: Duration = Duration::from_secs(3600);

/// Bytes of a packet beside topic and payload: header, content type and expiry, rounded up.
const PUBLISH_OVERHEAD: usize = 64;

/// With MQTT 3.1.1 a broker cannot say what it takes, and may close the connection on a larger packet. So many bytes are
/// sent before any packet of that size came back: the smallest limit known of a broker in use.
const PACKET_SURE: usize = 2048;

/// MQTT 5, 3.4.2.1.
const PACKET_TOO_LARGE: u8 = 0x95;

/// Asks the reporter for a whole state. Clones ask the same reporter, also the one of a later configuration.
#[derive(Debug, Clone, Default)]
pub struct HealthRequests(Arc<Notify>);

impl HealthRequests {
    /// The next message comes at once and holds the whole state.
    pub fn ask_for_whole(&self) {
        self.0.notify_one();
    }
}

/// The task that publishes health.
pub struct HealthReporter {
    board: Board,
    session: SessionHandle,
    topic: String,
    interval: Duration,
    detail: Detail,
    /// The whole state that the broker has.
    base: Option<Base>,
    /// The connection that the last message was for.
    generation: u64,
    /// Largest payload that the broker did not refuse on this connection.
    payload_most: usize,
    /// Whether the last message was.
    refused: bool,
}

impl HealthReporter {
    /// Reports the state that `board` shows through `session`; nothing where the configuration says so.
    pub fn new(board: Board, session: SessionHandle, topic: String, settings: HealthConfig) -> Option<Self> {
        let detail = Detail::of(settings.detail)?;
        Some(Self {
            board,
            session,
            topic,
            interval: settings.interval,
            detail,
            base: None,
            generation: 0,
            payload_most: usize::MAX,
            refused: false,
        })
    }

    /// Publishes on each connection, at the interval and on request, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut state = self.session.state();
        let requests = self.board.health.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = requests.0.notified() => self.base = None,
                () = new_connection(&mut state, self.generation) => {
                    self.base = None;
                    self.payload_most = usize::MAX;
                    ticks.reset();
                }
            }
            let connected = match &*state.borrow() {
                SessionState::Connected(connected) => connected.clone(),
                // The whole state follows on the next connection.
                SessionState::Connecting { .. } => continue,
            };
            self.generation = connected.generation;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.report(&connected) => {}
            }
        }
    }

    /// Publishes one message; with less detail when the broker does not take its size.
    async fn report(&mut self, connected: &Connected) {
        let proven = connected.proofs.iter().map(|proof| proof.proven_bytes).max();
        let aim = connected.sizes(&self.topic).aim;
        let packet_most = proven.map_or(aim, |bytes| bytes.max(PACKET_SURE).min(aim));
        let most = packet_most.saturating_sub(self.topic.len() + PUBLISH_OVERHEAD);
        if self.base.as_ref().is_some_and(|base| {
            let was_cut = base.detail != self.detail && base.most < most.min(self.payload_most);
            was_cut || base.taken.elapsed() >= WHOLE_INTERVAL
        }) {
            self.base = None;
        }
        loop {
            let Some(made) = self.make(most.min(self.payload_most)).await else { return };
            let bytes = made.payload.len();
            let delivery = self.session.publish(self.message(&made)).await;
            match &delivery {
                Delivery::TooLarge { limit } => {
                    self.payload_most = limit.saturating_sub(self.topic.len() + PUBLISH_OVERHEAD).min(bytes - 1);
                }
                Delivery::Refused { reason: PACKET_TOO_LARGE, .. } => self.payload_most = bytes - 1,
                Delivery::Acknowledged | Delivery::NoSubscribers => {
                    self.refused = false;
                    return self.published(made);
                }
                // The next message says more.
                Delivery::SessionLost => return,
                Delivery::Refused { .. } | Delivery::Unproven { .. } => return self.warn(&delivery.to_string()),
            }
        }
    }

    /// The next message, made on a thread beside the tasks: it takes milliseconds for hundreds of devices.
    async fn make(&mut self, most: usize) -> Option<Made> {
        let status = self.board.snapshot();
        let order =
            Order { base: self.base.clone(), detail: self.detail, most, id: fastrand::u32(..), now: Instant::now() };
        let making = tokio::task::spawn_blocking(move || {
            let made = message::make(&status, order);
            drop(status);
            kernel::give_back_memory();
            made
        });
        match making.await.ok()? {
            Ok(made) => Some(made),
            Err(reason) => {
                self.warn(&reason);
                None
            }
        }
    }

    fn message(&self, made: &Made) -> Message {
        let is_whole = made.whole.is_some();
        // A message is worth nothing when the next one of its kind is there.
        let lasts = if is_whole { WHOLE_INTERVAL.max(self.interval) } else { self.interval };
        Message {
            topic: self.topic.clone(),
            payload: made.payload.clone(),
            retain: is_whole,
            content_type: Some(CONTENT_TYPE),
            expiry: Some(2 * lasts),
            correlation_data: None,
        }
    }

    fn published(&mut self, made: Made) {
        match (made.whole, &mut self.base) {
            (Some(whole), base) => *base = Some(whole),
            (None, Some(base)) => base.number += 1,
            (None, None) => {}
        }
    }

    fn warn(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(reason, "no health message reaches the broker");
        }
    }
}

/// Waits for a connection other than `generation`; for ever when the session has ended. Safe to cancel.
async fn new_connection(state: &mut watch::Receiver<SessionState>, generation: u64) {
    let is_new = |state: &SessionState| matches!(state, SessionState::Connected(it) if it.generation != generation);
    if state.wait_for(is_new).await.is_err() {
        std::future::pending::<()>().await;
    }
}
