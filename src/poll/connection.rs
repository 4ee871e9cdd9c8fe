//! The one connection of a link: opened when needed, opened again with a growing wait when it is lost.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::config::Endpoint;
use crate::modbus::{Client, PollError};
use crate::model::{Name, UnitId};

/// First wait before another attempt.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait for a TCP endpoint: a gateway that was rebooted is back in use this soon.
const WAIT_MAX_TCP: Duration = Duration::from_secs(15);
/// Longest wait for a serial port: to look whether it is there costs nothing.
const WAIT_MAX_SERIAL: Duration = Duration::from_secs(1);

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
    /// The present connection has carried an answer.
    is_proven: bool,
    /// The present connection replaces one that carried no answer either: no news.
    is_repeat: bool,
    last_error: Option<String>,
    /// Counts the connections made.
    made: u64,
}

enum State {
    Up(Box<Client>),
    /// `awaited`: the first attempt after a connection (or at the start) is worth waiting for.
    Opening {
        attempt: Attempt,
        awaited: bool,
    },
    Down {
        retry_at: Instant,
    },
}

impl Connection {
    pub(super) fn new(link: Name, endpoint: Arc<Endpoint>, timeout: Duration, after_connect: Duration) -> Self {
        let wait_max = match *endpoint {
            Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } => WAIT_MAX_TCP,
            Endpoint::Rtu(_) | Endpoint::Text(_) => WAIT_MAX_SERIAL,
        };
        let attempt = open(Arc::clone(&endpoint), timeout, after_connect);
        Self {
            link,
            endpoint,
            timeout,
            after_connect,
            state: State::Opening { attempt, awaited: true },
            wait: WAIT_FIRST,
            wait_max,
            is_proven: false,
            is_repeat: false,
            last_error: None,
            made: 0,
        }
    }

    /// The connection is this one, as if it had been made just now.
    #[cfg(test)]
    pub(super) fn set(&mut self, client: Client) {
        self.made += 1;
        self.state = State::Up(Box::new(client));
    }

    /// The client, and how many connections were made up to this one. Waits only for the first attempt after a connection; otherwise a link that is down
    /// is an error at once. May be cancelled.
    pub(super) async fn client(&mut self) -> Result<(&mut Client, u64), PollError> {
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
            State::Up(client) => Ok((client, self.made)),
            State::Opening { .. } | State::Down { .. } => {
                let reason = self.last_error.as_deref().unwrap_or("not connected");
                Err(PollError::LinkDown(io::Error::new(io::ErrorKind::NotConnected, reason)))
            }
        }
    }

    /// Ends when a connection has been made to an endpoint that was down. May be cancelled.
    pub(super) async fn reconnected(&mut self) {
        loop {
            match &mut self.state {
                State::Up(_) => pending().await,
                State::Opening { attempt, awaited } => {
                    let was_down = !*awaited;
                    let outcome = attempt.as_mut().await;
                    if self.opened(outcome) && was_down {
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

    /// The connection has carried an answer.
    pub(super) fn proven(&mut self) {
        self.is_proven = true;
        self.wait = WAIT_FIRST;
    }

    /// The connection is of no further use, or looks open and may be dead. It is opened again at once: one device that
    /// spoils it must not cost the others a poll. Should it be spoiled again and again, the devices that do so are
    /// soon asked less often; only an endpoint that cannot be opened is waited for.
    pub(super) fn lost(&mut self, error: &PollError) {
        self.is_repeat = !std::mem::take(&mut self.is_proven);
        if self.is_repeat {
            tracing::debug!(link = %self.link, endpoint = %self.endpoint, %error, "connection given up again");
        } else {
            tracing::warn!(link = %self.link, endpoint = %self.endpoint, %error, "connection given up");
        }
        self.last_error = Some(error.to_string());
        self.start(true);
    }

    /// Closes the connection, for the `reason` that is given as the last error, until it is to [go on](Self::go_on).
    pub(super) fn rest(&mut self, reason: &str) {
        self.last_error = Some(reason.to_owned());
        self.state = State::Down { retry_at: Instant::now() };
    }

    /// Opens the connection again.
    pub(super) fn go_on(&mut self) {
        self.is_repeat = false;
        self.start(true);
    }

    /// True while an answer of this unit may still come: to ask it now would hold up all others.
    pub(super) fn is_owed_by(&self, unit: UnitId) -> bool {
        match &self.state {
            State::Up(client) => client.ready_at(unit).is_some(),
            State::Opening { .. } | State::Down { .. } => false,
        }
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
                if self.is_repeat {
                    tracing::debug!(link = %self.link, endpoint = %self.endpoint, "connected again");
                } else {
                    tracing::info!(link = %self.link, endpoint = %self.endpoint, "connected");
                }
                self.last_error = None;
                self.made += 1;
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
                self.is_repeat = false;
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
