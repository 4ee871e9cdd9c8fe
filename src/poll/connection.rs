//! The one connection of a link: opened when needed, opened again with a growing wait when it is lost.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::config::Endpoint;
use crate::modbus::{Client, PollError};
use crate::model::Name;

/// First wait before another attempt.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait for a TCP endpoint: a gateway that was rebooted is back in use this soon.
const WAIT_MAX_TCP: Duration = Duration::from_secs(15);
/// Longest wait for a serial port: to look whether it is there costs nothing.
const WAIT_MAX_SERIAL: Duration = Duration::from_secs(1);
/// So many connections in a row may be lost without an answer, spoiled by one bad device each, before the endpoint
/// itself is in doubt and the other devices have to wait.
const SPOILED_MAX: u32 = 5;

type Attempt = Pin<Box<dyn Future<Output = Result<Client, PollError>> + Send>>;

/// The endpoint of a link and what is known of its connection.
pub(super) struct Connection {
    link: Name,
    endpoint: Arc<Endpoint>,
    timeout: Duration,
    after_connect: Duration,
    state: State,
    wait: Duration,
    wait_max: Duration,
    /// Connections lost since one carried an answer.
    spoiled: u32,
    last_error: Option<String>,
}

enum State {
    Up(Box<Client>),
    /// `awaited`: the first attempt after a connection that worked (or at the start) is worth waiting for.
    Opening {
        attempt: Attempt,
        awaited: bool,
    },
    Down {
        retry_at: Instant,
    },
}

impl Connection {
    pub(super) fn new(link: Name, endpoint: Endpoint, timeout: Duration, after_connect: Duration) -> Self {
        let wait_max = match endpoint {
            Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } => WAIT_MAX_TCP,
            Endpoint::Rtu(_) | Endpoint::Text(_) => WAIT_MAX_SERIAL,
        };
        let endpoint = Arc::new(endpoint);
        let attempt = open(Arc::clone(&endpoint), timeout, after_connect);
        Self {
            link,
            endpoint,
            timeout,
            after_connect,
            state: State::Opening { attempt, awaited: true },
            wait: WAIT_FIRST,
            wait_max,
            spoiled: 0,
            last_error: None,
        }
    }

    /// The client. Waits only for the first attempt after a connection that worked; otherwise a link that is down
    /// is an error at once. May be cancelled.
    pub(super) async fn client(&mut self) -> Result<&mut Client, PollError> {
        if let State::Up(client) = &mut self.state
            && let Err(error) = client.check_open()
        {
            self.lost(&error);
        }
        if let State::Opening { attempt, awaited: true } = &mut self.state {
            let outcome = attempt.as_mut().await;
            self.opened(outcome);
        }
        match &mut self.state {
            State::Up(client) => Ok(client),
            State::Opening { .. } | State::Down { .. } => {
                let reason = self.last_error.as_deref().unwrap_or("not connected");
                Err(PollError::LinkDown(io::Error::new(io::ErrorKind::NotConnected, reason)))
            }
        }
    }

    /// Ends when a connection has been made; never while there is one. May be cancelled.
    pub(super) async fn reconnected(&mut self) {
        loop {
            match &mut self.state {
                State::Up(_) => pending().await,
                State::Opening { attempt, .. } => {
                    let outcome = attempt.as_mut().await;
                    if self.opened(outcome) {
                        return;
                    }
                }
                State::Down { retry_at } => {
                    sleep_until(*retry_at).await;
                    self.start(false);
                }
            }
        }
    }

    /// The connection has carried an answer: should it break, it is opened again at once.
    pub(super) fn proven(&mut self) {
        self.spoiled = 0;
        self.wait = WAIT_FIRST;
    }

    /// The connection is of no further use.
    pub(super) fn lost(&mut self, error: &PollError) {
        tracing::warn!(link = %self.link, endpoint = %self.endpoint, %error, "connection lost");
        self.last_error = Some(error.to_string());
        self.spoiled = self.spoiled.saturating_add(1);
        if self.spoiled < SPOILED_MAX {
            self.start(true);
        } else {
            self.pause();
        }
    }

    /// Nothing has come for long: a connection may look open and be dead, so it is opened anew. Devices that are
    /// silent on a good connection stay what they are, silent: the waits for them have been pause enough.
    pub(super) fn doubted(&mut self, error: &PollError) {
        tracing::debug!(link = %self.link, endpoint = %self.endpoint, %error, "connection opened anew");
        self.last_error = Some(error.to_string());
        self.start(true);
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    fn start(&mut self, awaited: bool) {
        let attempt = open(Arc::clone(&self.endpoint), self.timeout, self.after_connect);
        self.state = State::Opening { attempt, awaited };
    }

    fn pause(&mut self) {
        self.state = State::Down { retry_at: Instant::now() + self.wait };
        self.wait = (2 * self.wait).min(self.wait_max);
    }

    fn opened(&mut self, outcome: Result<Client, PollError>) -> bool {
        match outcome {
            Ok(client) => {
                tracing::info!(link = %self.link, endpoint = %self.endpoint, "connected");
                self.last_error = None;
                self.state = State::Up(Box::new(client));
                true
            }
            Err(error) => {
                let text = error.to_string();
                if self.last_error.as_deref() == Some(text.as_str()) {
                    tracing::debug!(link = %self.link, %error, "cannot connect");
                } else {
                    tracing::warn!(link = %self.link, endpoint = %self.endpoint, %error, "cannot connect");
                }
                self.last_error = Some(text);
                self.pause();
                false
            }
        }
    }
}

fn open(endpoint: Arc<Endpoint>, timeout: Duration, after_connect: Duration) -> Attempt {
    Box::pin(async move {
        let client = Client::connect(&endpoint, timeout).await?;
        sleep(after_connect).await;
        Ok(client)
    })
}
