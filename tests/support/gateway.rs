//! A session with a broker as the agent would run it.

use std::sync::Arc;
use std::time::Duration;

use lineside::clock::SystemClock;
use lineside::mqtt::{
    Bytes, Connected, Delivery, Inbox, Message, Protocol, Session, SessionHandle, SessionSettings, SessionState,
    SessionStatus,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::within;

/// Where the test gateway says that it is online.
pub const STATE: &str = "lineside/v1/lyon/gw-01/state";
/// Where it sends batches.
pub const BATCH: &str = "lineside/v1/lyon/gw-01/batch";
/// Where it sends to itself.
pub const PROBE: &str = "lineside/v1/lyon/gw-01/probe";

/// Settings for a broker on loopback without TLS.
pub fn settings(protocol: Protocol, port: u16) -> SessionSettings {
    SessionSettings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        protocol,
        client_id: "lineside-lyon-gw-01".to_owned(),
        username: None,
        password_file: None,
        keep_alive: Duration::from_secs(30),
        will: Message { retain: true, ..message(STATE, "offline") },
        probe_topic: PROBE.to_owned(),
        batch_topic: BATCH.to_owned(),
        proven_topics: vec![BATCH.to_owned()],
        in_flight: 8,
        max_packet: 256 * 1024,
        patience: Duration::from_secs(30),
    }
}

/// A message as the agent would send it.
pub fn message(topic: &str, payload: &str) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: Bytes::from(payload.to_owned()),
        retain: false,
        content_type: Some("text/plain"),
        expiry: None,
        correlation_data: None,
    }
}

/// A running session.
pub struct Gateway {
    pub handle: SessionHandle,
    pub online: watch::Sender<Bytes>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Starts a session that says "online" while it is connected.
    pub fn start(settings: SessionSettings) -> Self {
        Self::start_with(settings, None)
    }

    /// The same with subscriptions.
    pub fn start_with(settings: SessionSettings, inbox: Option<Inbox>) -> Self {
        let (online, payload) = watch::channel(Bytes::from("online"));
        let (session, handle) = Session::new(settings, payload, inbox, Arc::new(SystemClock::new(true))).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(session.run(stop.clone()));
        Self { handle, online, stop, task }
    }

    pub async fn connected(&self) -> Connected {
        within("a connection", self.handle.connected()).await.expect("the session runs")
    }

    /// Waits for a connection after the one numbered `generation`.
    pub async fn connected_after(&self, generation: u64) -> Connected {
        let mut state = self.handle.state();
        let newer = |state: &SessionState| matches!(state, SessionState::Connected(c) if c.generation > generation);
        within("a new connection", state.wait_for(newer)).await.expect("the session runs");
        self.connected().await
    }

    /// Waits until an attempt to connect has failed, and says with which text.
    pub async fn failure(&self) -> String {
        let mut state = self.handle.state();
        let failed = |state: &SessionState| matches!(state, SessionState::Connecting { last_error: Some(_), .. });
        let seen = within("a failed attempt", state.wait_for(failed)).await.expect("the session runs").clone();
        match seen {
            SessionState::Connecting { last_error: Some(text), .. } => text,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until people are warned while connected, and says with which text.
    pub async fn warning(&self) -> String {
        let mut state = self.handle.state();
        let warned = |state: &SessionState| matches!(state, SessionState::Connected(c) if c.warning.is_some());
        let seen = within("a warning", state.wait_for(warned)).await.expect("the session runs").clone();
        match seen {
            SessionState::Connected(Connected { warning: Some(text), .. }) => text,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the counters say so.
    pub async fn counted(&self, what: &str, fact: impl FnMut(&SessionStatus) -> bool) {
        within(what, self.handle.status().wait_for(fact)).await.expect("the session runs");
    }

    pub async fn publish(&self, message: Message) -> Delivery {
        within("an answer to a publish", self.handle.publish(message)).await
    }

    /// Stops as the agent would and waits until the session has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        within("the session to end", self.task).await.unwrap();
    }
}
