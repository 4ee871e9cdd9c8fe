//! The task that keeps a connection to the broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::connection::{self, Event, Events, Sender, Up};
use super::explained::{Explained, explained};
use super::failure::{Failure, Refusal};
use super::handle::{Request, SessionHandle};
use super::learned_limit::LearnedLimit;
use super::message::{Delivery, Inbox};
use super::online::Online;
use super::proving::Passing;
use super::settings::{Protocol, SessionError, SessionSettings};
use super::state::{Connected, SessionState, SessionStatus, TopicProof};
use super::tls;
use crate::clock::Clock;
use crate::model::Timestamp;

/// Publishes that wait for room in the window. Small, so that an alarm is not behind a row of batches.
const REQUESTS_WAITING: usize = 1;

/// Resolving the name, TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to the broker, stays connected, and answers every publish.
pub struct Session {
    pub(super) settings: SessionSettings,
    pub(super) inbox: Option<Inbox>,
    pub(super) online: watch::Receiver<Bytes>,
    pub(super) requests: mpsc::Receiver<Request>,
    state: watch::Sender<SessionState>,
    status: watch::Sender<SessionStatus>,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    generation: u64,
    pub(super) learned: LearnedLimit,
    /// What is known about the topics where a message must come back, in the order of the settings.
    pub(super) passing: Vec<Passing>,
    /// What another look at the port has shown about a failure.
    explained: Option<Explained>,
    /// Some brokers refuse a will that asks to be retained; they are asked without.
    retain: bool,
}

/// Why there is no connection any more.
pub(super) enum End {
    Stopped,
    Failed(Failure),
}

impl Session {
    /// A session that is not connected yet. `online` is the payload of the state topic while connected; it is
    /// published on every connection and whenever it changes.
    ///
    /// Fails when the settings or the files they name cannot be used.
    pub fn new(
        settings: SessionSettings,
        online: watch::Receiver<Bytes>,
        inbox: Option<Inbox>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, SessionHandle), SessionError> {
        settings.check()?;
        let (request_sender, requests) = mpsc::channel(REQUESTS_WAITING);
        let first = SessionState::Connecting { since: clock.wall(), attempts: 0, last_error: None };
        let (state, state_receiver) = watch::channel(first.clone());
        let (status, status_receiver) = watch::channel(SessionStatus::new(first));
        let handle = SessionHandle { requests: request_sender, state: state_receiver, status: status_receiver };
        let session = Self {
            explained: None,
            passing: vec![Passing::default(); settings.proven_topics.len()],
            settings,
            inbox,
            online,
            requests,
            state,
            status,
            clock,
            backoff: Backoff::default(),
            generation: 0,
            learned: LearnedLimit::default(),
            retain: true,
        };
        Ok((session, handle))
    }

    /// Keeps a connection until `stop`; then says that the gateway is offline and disconnects, within two seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let end = match self.connect(&stop).await {
                Ok((sender, events, up)) => self.stay(sender, events, up, &stop).await,
                Err(end) => end,
            };
            match end {
                End::Stopped => return,
                End::Failed(failure) => self.failed(&failure),
            }
            if self.rest(&stop).await.is_none() {
                return;
            }
        }
    }

    /// One attempt. Whoever publishes meanwhile learns at once that there is no session.
    async fn connect(&mut self, stop: &CancellationToken) -> Result<(Sender, Events, Up), End> {
        let (sender, mut events) = connection::open(&self.settings, self.retain).map_err(End::Failed)?;
        let answer = {
            let first = timeout(CONNECT_TIMEOUT, events.next());
            tokio::pin!(first);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Err(End::Stopped),
                    answer = &mut first => break answer,
                    Some(request) = self.requests.recv() => lost(request),
                }
            }
        };
        match answer {
            Err(_) => Err(End::Failed(Failure::TimedOut)),
            Ok(Err(failure)) => Err(End::Failed(failure.unanswered())),
            Ok(Ok(Event::Up(up))) if up.takes_qos_1 => Ok((sender, events, up)),
            Ok(Ok(Event::Up(_))) => Err(End::Failed(Failure::NoQos1)),
            Ok(Ok(other)) => {
                Err(End::Failed(Failure::Protocol(format!("{other:?} before the connection was accepted"))))
            }
        }
    }

    /// From the broker's acceptance to the end of the connection.
    async fn stay(&mut self, sender: Sender, events: Events, mut up: Up, stop: &CancellationToken) -> End {
        self.generation += 1;
        let limits = &mut up.limits;
        limits.max_packet = self.learned.most().map_or(limits.max_packet, |most| most.min(limits.max_packet));
        limits.aim_packet = self.learned.aim().map_or(limits.max_packet, |aim| aim.min(limits.max_packet));
        let connected = Connected {
            generation: self.generation,
            since: self.clock.wall(),
            session_present: up.session_present,
            limits: up.limits.clone(),
            warning: None,
            proofs: self.proofs(),
        };
        info!(
            host = %self.settings.host,
            port = self.settings.port,
            session_present = up.session_present,
            "connected to the broker"
        );
        self.count(|status| status.connects += 1);
        self.enter(SessionState::Connected(connected));
        let begin = Instant::now();
        let end = Online::new(self, sender, &up).run(events, stop).await;
        self.backoff.connection_lasted(begin.elapsed());
        self.learned.connection_lasted(begin.elapsed());
        end
    }

    /// The connection ended while packets of up to `largest` bytes were not acknowledged.
    pub(super) fn learn(&mut self, failure: &Failure, largest: usize) {
        if failure.is_closed_by_broker() && self.learned.closed(largest, failure.says_too_large()) {
            let limit = self.learned.aim();
            warn!(largest, limit, "the broker does not take large messages: smaller ones from now on");
            // What is tried next is something else, and needs no waiting.
            self.backoff = Backoff::default();
        }
    }

    fn failed(&mut self, failure: &Failure) {
        if matches!(failure, Failure::Refused(Refusal::Retain)) {
            self.retain = false;
        }
        if matches!(failure, Failure::Stalled) {
            self.count(|status| status.rebuilt += 1);
        }
        let text = self.explain(failure);
        let (since, attempts, known) = match &*self.state.borrow() {
            SessionState::Connecting { since, attempts, last_error } => {
                (*since, *attempts, last_error.as_ref() == Some(&text))
            }
            SessionState::Connected(_) => (self.clock.wall(), 0, false),
        };
        if known {
            debug!(error = %text, attempts, "still no connection to the broker");
        } else {
            warn!(error = %text, "no connection to the broker");
        }
        self.enter(SessionState::Connecting { since, attempts: attempts.saturating_add(1), last_error: Some(text) });
    }

    /// The failure in words; what another look at the port shows comes later.
    fn explain(&mut self, failure: &Failure) -> String {
        let text = failure.text(&self.settings);
        if failure.may_be_certificate()
            && let Some(tls) = &self.settings.tls
            && let Some(fault) = tls::certificate_fault(tls, self.clock.wall())
        {
            return fault;
        }
        if let Some(known) = self.explained.as_ref().filter(|known| known.is_about(&text)) {
            return known.better.clone().unwrap_or(text);
        }
        self.explained = Explained::begin(failure, &text, &self.settings);
        text
    }

    /// Shows what another look at the port has shown.
    fn show_explained(&mut self, better: Option<String>) {
        let Some(explained) = &mut self.explained else { return };
        explained.looking = None;
        explained.better.clone_from(&better);
        let state = self.state.borrow().clone();
        if let (Some(text), SessionState::Connecting { since, attempts, .. }) = (better, state) {
            warn!(error = %text, "no connection to the broker");
            self.enter(SessionState::Connecting { since, attempts, last_error: Some(text) });
        }
    }

    /// Waits before the next attempt, and for another look at the port. `None` when told to stop.
    async fn rest(&mut self, stop: &CancellationToken) -> Option<()> {
        let until = Instant::now() + self.backoff.after_failure(fastrand::f64());
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep_until(until), if self.explained.as_ref().is_none_or(Explained::is_done) => {
                    return Some(());
                }
                better = explained(&mut self.explained) => self.show_explained(better),
                Some(request) = self.requests.recv() => lost(request),
            }
        }
    }

    /// Changes the counters.
    pub(super) fn count(&self, change: impl FnOnce(&mut SessionStatus)) {
        self.status.send_modify(change);
    }

    /// Shows what a person should look at while connected, or that there is nothing any more.
    pub(super) fn warn_people(&self, warning: Option<String>) {
        let state = self.state.borrow().clone();
        match state {
            SessionState::Connected(connected) => {
                self.enter(SessionState::Connected(Connected { warning, ..connected }))
            }
            SessionState::Connecting { .. } => {}
        }
    }

    /// Shows what came back on the topics where that counts.
    pub(super) fn show_proofs(&self, proofs: Vec<TopicProof>) {
        let state = self.state.borrow().clone();
        match state {
            SessionState::Connected(connected) if connected.proofs != proofs => {
                self.enter(SessionState::Connected(Connected { proofs, ..connected }))
            }
            SessionState::Connected(_) | SessionState::Connecting { .. } => {}
        }
    }

    /// The topics where a message must come back, before any did on this connection.
    fn proofs(&self) -> Vec<TopicProof> {
        match self.settings.protocol {
            Protocol::V5 => Vec::new(),
            Protocol::V311 => {
                let topics = self.settings.proven_topics.iter().zip(&self.passing);
                topics.map(|(filter, passing)| passing.shown(filter, 0)).collect()
            }
        }
    }

    /// The time, for people.
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    fn enter(&self, state: SessionState) {
        self.status.send_modify(|status| status.state = state.clone());
        self.state.send_replace(state);
    }
}

fn lost(request: Request) {
    // Whoever asked may have given up waiting.
    _ = request.answer.send(Delivery::SessionLost);
}
