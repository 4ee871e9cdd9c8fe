//! The task that owns a text link: a serial port with one instrument that speaks lines of text.
//!
//! An instrument that is asked gives one row with all its tags for each poll. One that talks by itself gives a row
//! for each line that says something; a tag that is not heard for three intervals becomes bad once, and nothing more
//! is said of it until it is heard again.

mod pace;
mod port;
mod report;
mod shapes;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Endpoint, LinkConfig};
use crate::instrument::{Heard, LineReader, LineReading};
use crate::model::{Fault, Name, Row, SeriesId};
use crate::profile::Protocol;

use super::link::Request;
use super::{LinkHandle, PollCycle, PollError};

use pace::{Moment, Pace};
use port::{Failure, Port};
use report::Report;
use shapes::Shapes;
use silence::Silence;

/// How often to look whether the port of a stream was pulled out without a word.
const PLUG_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The configuration names a link that is not a serial port with one text instrument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link {link}: a text link has a serial port and one device whose profile has a [text] section")]
pub struct NotATextLink {
    /// Name of the link.
    pub link: Name,
}

/// Owns one text link and its instrument.
pub struct TextPoller {
    device: Name,
    patience: Duration,
    mode: Mode,
    port: Port,
    pace: Pace,
    shapes: Shapes,
    report: Report,
    clock: Arc<dyn Clock>,
    requests: mpsc::Receiver<Request>,
    cycles: mpsc::Sender<PollCycle>,
}

/// Who begins to speak.
enum Mode {
    /// The gateway: these bytes ask for one answer.
    Ask(Vec<u8>),
    /// The instrument.
    Stream {
        silence: Silence,
        /// The newest row of each pattern.
        newest: Vec<Option<Row>>,
        plug_check: Duration,
    },
}

/// What ended a wait.
enum Wake {
    Request(Request),
    Line(Result<Heard, Failure>),
    Timer,
}

impl TextPoller {
    /// The poller of `link` and the handle to ask it by. `series` holds, for the one device, the series of its tags.
    ///
    /// # Errors
    /// When the link is not a serial port with one text instrument.
    pub fn new(
        link: LinkConfig,
        series: Vec<Vec<SeriesId>>,
        clock: Arc<dyn Clock>,
        cycles: mpsc::Sender<PollCycle>,
    ) -> Result<(Self, LinkHandle), NotATextLink> {
        let (Endpoint::Text(settings), [device], [ids]) = (&link.endpoint, &link.devices[..], &series[..]) else {
            return Err(NotATextLink { link: link.name });
        };
        let Protocol::Text(profile) = &device.profile.protocol else {
            return Err(NotATextLink { link: link.name });
        };
        let now = moment(&*clock);
        let patience = link.timeout;
        let reader = Arc::new(LineReader::new(profile));
        let shapes = Shapes::new(&reader, &device.tags, ids);
        let intervals = || device.tags.iter().map(|tag| tag.interval);
        let interval = intervals().min().unwrap_or(patience);
        let (mode, interval) = match &profile.ask {
            Some(request) => (Mode::Ask(request.clone()), interval),
            None => {
                let silence = Silence::new(intervals(), patience, now.monotonic);
                let newest = vec![None; reader.pattern_count()];
                (Mode::Stream { silence, newest, plug_check: Duration::ZERO }, interval.max(patience))
            }
        };
        let port = Port::new(settings.clone(), profile.clone(), reader, Arc::clone(&clock), patience);
        let (report, status) = Report::new(&link, &device.name);
        let (handle, requests) = LinkHandle::new(status);
        let device = device.name.clone();
        let pace = Pace::new(interval, now);
        let poller = Self { device, patience, mode, port, pace, shapes, report, clock, requests, cycles };
        Ok((poller, handle))
    }

    /// Polls or listens until told to stop. What was read before is handed on.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let cycle = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                cycle = self.next_cycle() => cycle,
            };
            if self.cycles.send(cycle).await.is_err() {
                break;
            }
        }
    }

    /// Waits for something to tell. Cancelled, it loses at most an answer that had not arrived.
    async fn next_cycle(&mut self) -> PollCycle {
        loop {
            self.port.settle().await;
            let cycle = match self.wait().await {
                Wake::Request(request) => self.serve(request).await,
                Wake::Line(Ok(heard)) => self.hear(&heard),
                Wake::Line(Err(failure)) => self.lose_port(&failure),
                Wake::Timer => self.tick().await,
            };
            if !(cycle.rows.is_empty() && cycle.alarms.is_empty()) {
                return cycle;
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let wait = self.next_timer().saturating_sub(self.clock.monotonic());
        let listens = matches!(self.mode, Mode::Stream { .. });
        tokio::select! {
            Some(request) = self.requests.recv() => Wake::Request(request),
            heard = self.port.listen(), if listens => Wake::Line(heard),
            () = tokio::time::sleep(wait) => Wake::Timer,
        }
    }

    /// When there is something to do even if nothing happens, on the monotonic clock.
    fn next_timer(&self) -> Duration {
        match (&self.mode, self.port.retry_at()) {
            (_, Some(retry_at)) => retry_at.min(self.pace.due()),
            (Mode::Ask(_), None) => self.pace.due(),
            (Mode::Stream { silence, plug_check, .. }, None) => {
                silence.deadline().map_or(*plug_check, |deadline| deadline.min(*plug_check))
            }
        }
    }

    async fn tick(&mut self) -> PollCycle {
        let now = moment(&*self.clock);
        if self.port.retry_at().is_some_and(|retry_at| retry_at <= now.monotonic) {
            self.reopen(now);
        }
        let is_due = self.pace.due() <= now.monotonic;
        match (&self.mode, self.port.is_open()) {
            (Mode::Ask(request), _) if is_due => {
                let request = request.clone();
                self.poll(&request).await
            }
            (Mode::Stream { .. }, false) if is_due => self.tell_link_down(now),
            (Mode::Stream { .. }, true) => self.tell_silence(now),
            (Mode::Ask(_), _) | (Mode::Stream { .. }, false) => PollCycle::default(),
        }
    }

    fn reopen(&mut self, now: Moment) {
        let opened = self.port.open();
        self.report.port(opened.as_ref().copied());
        if opened.is_ok() {
            self.pace.resume(now);
            if let Mode::Stream { silence, plug_check, .. } = &mut self.mode {
                silence.restart(now.monotonic);
                *plug_check = now.monotonic + PLUG_CHECK_INTERVAL;
            }
        }
    }

    /// One due poll of an instrument that is asked.
    async fn poll(&mut self, request: &[u8]) -> PollCycle {
        let answer = self.ask(request).await;
        let now = moment(&*self.clock);
        let cycle = match answer {
            Ok((row, None)) => {
                self.pace.answered();
                PollCycle { alarms: self.report.answered(row.time).into_iter().collect(), rows: vec![row] }
            }
            Ok((row, Some(failure))) => self.fail(row, &failure),
            Err(failure) => self.fail(self.shapes.full_bad_row(now.wall, failure.fault), &failure),
        };
        let skipped = self.pace.advance(now);
        self.report.polled(skipped, self.port.take_late_lines());
        cycle
    }

    /// Asks, and once more after an answer that cannot be read: the row of the answer, and why it is all bad if it
    /// could not be read the second time either.
    async fn ask(&mut self, request: &[u8]) -> Result<(Row, Option<Failure>), Failure> {
        let mut heard = self.ask_once(request).await?;
        if unreadable(&heard.reading).is_some() {
            heard = self.ask_once(request).await?;
        }
        if let Some(failure) = unreadable(&heard.reading) {
            return Ok((self.shapes.full_bad_row(heard.time, failure.fault), Some(failure)));
        }
        self.port.proved_good();
        let row = match &heard.reading {
            LineReading::Points { pattern, observed } => self.shapes.full_row(*pattern, heard.time, observed),
            _ => self.shapes.full_bad_row(heard.time, Fault::NoMatch),
        };
        Ok((row, None))
    }

    async fn ask_once(&mut self, request: &[u8]) -> Result<Heard, Failure> {
        let heard = self.port.ask(request).await;
        match &heard {
            Err(failure) if !self.port.is_open() => self.report.port(Err(failure)),
            Ok(_) | Err(_) => self.report.port(Ok(())),
        }
        heard
    }

    /// One line of a stream.
    fn hear(&mut self, heard: &Heard) -> PollCycle {
        let Mode::Stream { silence, newest, .. } = &mut self.mode else { return PollCycle::default() };
        let mut cycle = PollCycle::default();
        let (pattern, row) = match &heard.reading {
            LineReading::Points { pattern, observed } => (*pattern, self.shapes.row(*pattern, heard.time, observed)),
            LineReading::BadChecksum { pattern: Some(pattern) } => {
                (*pattern, self.shapes.bad_row(*pattern, heard.time, Fault::BadChecksum))
            }
            LineReading::Ignored | LineReading::BadChecksum { pattern: None } => (0, None),
            LineReading::NoMatch | LineReading::Garbage => (0, None),
        };
        if let Some(failure) = unreadable(&heard.reading) {
            self.report.misunderstood(&failure);
        } else if row.is_some() {
            self.pace.answered();
            self.port.proved_good();
            cycle.alarms.extend(self.report.answered(heard.time));
        }
        if let Some(row) = row {
            let now = self.clock.monotonic();
            self.shapes.tags(pattern).iter().for_each(|tag| silence.heard(*tag, now));
            newest[pattern] = Some(row.clone());
            cycle.rows.push(row);
        }
        cycle
    }

    /// The port of a stream is gone: the first bad readings are due at once, the others at their time.
    fn lose_port(&mut self, failure: &Failure) -> PollCycle {
        self.report.port(Err(failure));
        let now = moment(&*self.clock);
        if self.pace.is_failing() {
            return PollCycle::default();
        }
        self.pace.hurry(now);
        self.tell_link_down(now)
    }

    fn tell_link_down(&mut self, now: Moment) -> PollCycle {
        let Some(failure) = self.port.why_closed().cloned() else { return PollCycle::default() };
        let cycle = self.fail(self.shapes.full_bad_row(now.wall, failure.fault), &failure);
        self.pace.advance(now);
        cycle
    }

    /// Tags of a stream that were not heard for too long.
    fn tell_silence(&mut self, now: Moment) -> PollCycle {
        let Mode::Stream { silence, plug_check, .. } = &mut self.mode else { return PollCycle::default() };
        let due = silence.deadline().is_some_and(|deadline| deadline <= now.monotonic);
        if due || *plug_check <= now.monotonic {
            *plug_check = now.monotonic + PLUG_CHECK_INTERVAL;
            if let Err(failure) = self.port.check_plugged() {
                return self.lose_port(&failure);
            }
        }
        let tags = silence.newly_silent(now.monotonic);
        let Some(row) = self.shapes.bad_tags(&tags, now.wall, Fault::Timeout) else { return PollCycle::default() };
        let silent = silence.is_complete();
        let failure = Failure { fault: Fault::Timeout, reason: "nothing heard for three intervals".to_owned() };
        PollCycle { alarms: self.report.failed(&failure, silent, now.wall).into_iter().collect(), rows: vec![row] }
    }

    fn fail(&mut self, row: Row, failure: &Failure) -> PollCycle {
        self.pace.failed();
        let alarm = self.report.failed(failure, self.pace.is_backed_off(), row.time);
        PollCycle { alarms: alarm.into_iter().collect(), rows: vec![row] }
    }

    /// Answers one request from outside. Its readings go to whoever asked, not into the store.
    async fn serve(&mut self, request: Request) -> PollCycle {
        match request {
            // A caller that has gone away needs no answer.
            Request::Raw { reply, .. } => drop(reply.send(Err(PollError::NoRegisters))),
            Request::Device { device, reply } => {
                let rows = if device == self.device { self.read_now().await } else { Err(PollError::UnknownDevice) };
                drop(reply.send(rows));
            }
        }
        PollCycle::default()
    }

    /// All tags: asked now, or what the stream said last, with the time at which it was said.
    async fn read_now(&mut self) -> Result<Vec<Row>, PollError> {
        let no_answer = PollError::NoAnswer { waited: self.patience };
        match &self.mode {
            Mode::Ask(request) => {
                let request = request.clone();
                match self.ask(&request).await {
                    Ok((row, _)) => Ok(vec![row]),
                    Err(failure) if failure.fault == Fault::LinkDown => Err(link_down(failure)),
                    Err(_) => Err(no_answer),
                }
            }
            Mode::Stream { silence, newest, .. } => {
                let rows: Vec<Row> = newest.iter().flatten().cloned().collect();
                match self.port.why_closed() {
                    Some(failure) => Err(link_down(failure.clone())),
                    None if silence.is_complete() || rows.is_empty() => Err(no_answer),
                    None => Ok(rows),
                }
            }
        }
    }
}

fn link_down(failure: Failure) -> PollError {
    PollError::LinkDown(std::io::Error::other(failure.reason))
}

/// Why nothing can be made of a line that is neither ignored nor understood.
fn unreadable(reading: &LineReading) -> Option<Failure> {
    let (fault, reason) = match reading {
        LineReading::Points { .. } | LineReading::Ignored => return None,
        LineReading::BadChecksum { .. } => (Fault::BadChecksum, "the checksum of the line is wrong"),
        LineReading::NoMatch => (Fault::NoMatch, "the line fits no pattern of the profile"),
        LineReading::Garbage => (Fault::Garbage, "too many bytes without an end of line"),
    };
    Some(Failure { fault, reason: reason.to_owned() })
}

fn moment(clock: &dyn Clock) -> Moment {
    Moment { monotonic: clock.monotonic(), wall: clock.wall() }
}
