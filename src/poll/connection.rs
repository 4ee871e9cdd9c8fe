//! The one connection of a link: opened when needed, opened again with a growing wait when it is lost.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::closings::Closings;
use crate::config::{Accepted, Endpoint};
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
    accepted: Accepted,
    state: State,
    wait: Duration,
    wait_max: Duration,
    /// The present connection has carried an answer.
    is_proven: bool,
    /// The present connection replaces one that carried no answer either: no news.
    is_repeat: bool,
    last_error: Option<String>,
    /// Counts the connections made, those aside that take the place of one that was closed after its answer by habit.
    made: u64,
    closings: Closings,
    counts: ConnectionCounts,
}

/// How often a connection took the place of another, and why.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConnectionCounts {
    /// The other side had closed it.
    pub(super) closed: u64,
    /// Its answers came one request late.
    pub(super) behind: u64,
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
    pub(super) fn new(
        link: Name,
        endpoint: Arc<Endpoint>,
        timeout: Duration,
        after_connect: Duration,
        accepted: Accepted,
    ) -> Self {
        let wait_max = match *endpoint {
            Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } => WAIT_MAX_TCP,
            Endpoint::Rtu(_) | Endpoint::Text(_) => WAIT_MAX_SERIAL,
        };
        let attempt = open(Arc::clone(&endpoint), timeout, after_connect, accepted);
        Self {
            link,
            endpoint,
            timeout,
            after_connect,
            accepted,
            state: State::Opening { attempt, awaited: true },
            wait: WAIT_FIRST,
            wait_max,
            is_proven: false,
            is_repeat: false,
            last_error: None,
            made: 0,
            closings: Closings::default(),
            counts: ConnectionCounts::default(),
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
        self.look_whether_it_is_open().await;
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

    /// A connection that the other side has closed meanwhile is made anew: quietly where that is its habit.
    async fn look_whether_it_is_open(&mut self) {
        let State::Up(client) = &mut self.state else { return };
        let Err(error) = client.check_open() else { return };
        if !error.is_closed_by_peer() {
            return self.lost(&error);
        }
        self.closings.closed(Instant::now().into_std());
        if self.closings.habit().is_none() {
            self.counts.closed += 1;
            return self.lost(&error);
        }
        match client.reopen().await {
            Ok(()) => self.counts.closed += u64::from(client.take_reopened()),
            Err(error) => self.lost(&error),
        }
    }

    /// After a request on the present connection: it may have been made anew for it.
    pub(super) fn note_reopened(&mut self, times: u32) {
        if times == 0 {
            return;
        }
        self.counts.closed += u64::from(times);
        self.closings.closed(Instant::now().into_std());
        match self.closings.habit() {
            Some(_) => {
                tracing::debug!(link = %self.link, endpoint = %self.endpoint, "closed after an answer; connected again")
            }
            None => {
                tracing::info!(link = %self.link, endpoint = %self.endpoint, "closed by the other side; connected again");
                self.made += 1;
            }
        }
    }

    /// After so many answers the other side closes each connection; `None` where it does not.
    pub(super) fn closes_after(&self) -> Option<u32> {
        self.closings.habit()
    }

    pub(super) fn counts(&self) -> ConnectionCounts {
        self.counts
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
        self.closings.answered(Instant::now().into_std());
    }

    /// Each answer comes one request late: a new connection begins at the right one.
    pub(super) fn is_behind(&mut self) {
        self.counts.behind += 1;
        // Once it is known, each further time is no news.
        self.is_proven &= self.counts.behind == 1;
        let reason = "each answer was that of the request before; only a new connection cures that";
        self.lost(&PollError::LinkDown(io::Error::new(io::ErrorKind::InvalidData, reason)));
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
        match error.is_closed_by_peer() {
            true => self.closings.closed(Instant::now().into_std()),
            false => self.closings.broke(),
        }
        self.last_error = Some(error.reason());
        self.start(true);
    }

    /// Closes the connection, for the `reason` that is given as the last error, until it is to [go on](Self::go_on). The other
    /// side has noticed it by then, if it notices soon: many devices take one connection only.
    pub(super) async fn rest(&mut self, reason: &str) {
        if let State::Up(client) = &mut self.state {
            client.close().await;
        }
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
        let attempt = open(Arc::clone(&self.endpoint), self.timeout, self.after_connect, self.accepted);
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
                let text = error.reason();
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

fn open(endpoint: Arc<Endpoint>, timeout: Duration, after_connect: Duration, accepted: Accepted) -> Attempt {
    Box::pin(async move {
        let mut client = Client::connect(&endpoint, timeout).await?;
        client.accept(accepted);
        client.after_connect(after_connect);
        sleep(after_connect).await;
        Ok(client)
    })
}
