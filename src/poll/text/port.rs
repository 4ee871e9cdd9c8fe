//! The serial port of a text link: opened when it is there, opened again after it was lost.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::SerialSettings;
use crate::instrument::{Heard, Instrument, InstrumentError, LineReader};
use crate::model::Fault;
use crate::profile::TextProfile;

const REOPEN_MIN: Duration = Duration::from_millis(500);
const REOPEN_MAX: Duration = Duration::from_secs(5);

/// Why there is nothing to read, kept for as long as it is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the readings that were due are marked with.
    pub fault: Fault,
    /// In words.
    pub reason: String,
}

impl From<&InstrumentError> for Failure {
    fn from(error: &InstrumentError) -> Self {
        Self { fault: error.fault(), reason: error.to_string() }
    }
}

/// A port that may be gone.
pub struct Port {
    settings: SerialSettings,
    profile: TextProfile,
    reader: Arc<LineReader>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    state: State,
    reopen_wait: Duration,
}

enum State {
    Open(Box<Instrument>),
    Closed {
        /// When it is tried next.
        retry_at: Instant,
        why: Failure,
    },
}

impl Port {
    /// A port that is opened as soon as it is used.
    pub fn new(
        settings: SerialSettings,
        profile: TextProfile,
        reader: Arc<LineReader>,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Self {
        let why = Failure { fault: Fault::LinkDown, reason: "not opened yet".to_owned() };
        let state = State::Closed { retry_at: Instant::now(), why };
        Self { settings, profile, reader, clock, patience, state, reopen_wait: REOPEN_MIN }
    }

    /// True when the port is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// When a closed port is worth trying again.
    pub fn retry_at(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_) => None,
            State::Closed { retry_at, .. } => Some(*retry_at),
        }
    }

    /// Why the port is closed, if it is.
    pub fn why_closed(&self) -> Option<&Failure> {
        match &self.state {
            State::Open(_) => None,
            State::Closed { why, .. } => Some(why),
        }
    }

    /// Opens the port if it is closed and it is time to try. The wait for the next try doubles, up to five seconds,
    /// until the instrument was heard.
    ///
    /// # Errors
    /// Why it is still closed.
    pub fn open(&mut self) -> Result<(), Failure> {
        match &self.state {
            State::Open(_) => return Ok(()),
            State::Closed { retry_at, why } if Instant::now() < *retry_at => return Err(why.clone()),
            State::Closed { .. } => {}
        }
        let Self { settings, profile, reader, clock, .. } = self;
        match Instrument::open(settings, &profile.frame_end, profile.frame_max, Arc::clone(reader), Arc::clone(clock)) {
            Ok(instrument) => {
                self.state = State::Open(Box::new(instrument));
                Ok(())
            }
            Err(error) => Err(self.close(&error)),
        }
    }

    /// Asks the instrument; opens the port first if need be.
    ///
    /// # Errors
    /// The port cannot be opened, was lost, or no answer came.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Heard, Failure> {
        self.open()?;
        let instrument = match &mut self.state {
            State::Open(instrument) => instrument,
            State::Closed { why, .. } => return Err(why.clone()),
        };
        let heard = match instrument.ask(request, self.patience).await {
            Err(error) if !error.ends_session() => instrument.check_plugged().and(Err(error)),
            heard => heard,
        };
        heard.map_err(|error| self.failure(&error))
    }

    /// The next line of a stream; waits for ever while the port is closed. May be cancelled.
    ///
    /// # Errors
    /// The port was lost.
    pub async fn listen(&mut self) -> Result<Heard, Failure> {
        let heard = match &mut self.state {
            State::Open(instrument) => instrument.next().await,
            State::Closed { .. } => pending().await,
        };
        heard.map_err(|error| self.failure(&error))
    }

    /// Waits until an answer that was given up can no longer come.
    pub async fn settle(&mut self) {
        if let State::Open(instrument) = &mut self.state
            && let Err(error) = instrument.settle(self.patience).await
        {
            self.failure(&error);
        }
    }

    /// Notices that the port was pulled out without a word.
    ///
    /// # Errors
    /// The port was lost.
    pub fn check_plugged(&mut self) -> Result<(), Failure> {
        let State::Open(instrument) = &self.state else { return Ok(()) };
        instrument.check_plugged().map_err(|error| self.failure(&error))
    }

    /// The instrument was understood: a port that is lost from now on is tried again soon.
    pub fn proved_good(&mut self) {
        self.reopen_wait = REOPEN_MIN;
    }

    /// Late answers that were dropped since the last call.
    pub fn take_late_lines(&mut self) -> u64 {
        match &mut self.state {
            State::Open(instrument) => instrument.take_late_lines(),
            State::Closed { .. } => 0,
        }
    }

    fn failure(&mut self, error: &InstrumentError) -> Failure {
        if error.ends_session() { self.close(error) } else { error.into() }
    }

    fn close(&mut self, error: &InstrumentError) -> Failure {
        let why = Failure::from(error);
        self.state = State::Closed { retry_at: Instant::now() + self.reopen_wait, why: why.clone() };
        self.reopen_wait = (self.reopen_wait * 2).min(REOPEN_MAX);
        why
    }
}
