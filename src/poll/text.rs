//! The task that owns a text link: a serial port with one instrument that speaks lines of text.
//!
//! An instrument that is asked gives one row with all its tags for each poll. One that talks by itself gives a row
//! for each line that says something; a tag that is not heard for three intervals becomes bad once, and nothing more
//! is said of it until it is heard again.

mod port;
mod report;
mod shapes;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Endpoint, LinkConfig};
use crate::instrument::{Heard, LineReader, LineReading};
use crate::model::{AlarmRecord, Fault, Name, Row, SeriesId};
use crate::profile::Protocol;

use super::health::{Change, DeviceState, Health};
use super::link::{Request, WriteFailure};
use super::schedule::Schedule;
use super::{LinkHandle, PollCycle, PollError};

use port::{Failure, Port};
use report::Report;
use shapes::Shapes;
use silence::Silence;

/// A text link has one device.
const THE_DEVICE: usize = 0;

/// At least this often the clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    schedule: Schedule,
    health: Health,
    last_fault: Option<Fault>,
    shapes: Shapes,
    report: Report,
    clock: Arc<dyn Clock>,
    requests: mpsc::Receiver<Box<Request>>,
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
        plug_check: Instant,
    },
}

/// What ended a wait.
enum Wake {
    Request(Box<Request>),
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
        let now = Instant::now();
        let patience = link.timeout;
        let reader = Arc::new(LineReader::new(profile));
        let shapes = Shapes::new(&reader, &device.tags, ids);
        let intervals = || device.tags.iter().map(|tag| tag.interval);
        let interval = intervals().min().unwrap_or(patience);
        let (mode, interval) = match &profile.ask {
            Some(request) => (Mode::Ask(request.clone()), interval),
            None => {
                let silence = Silence::new(intervals(), patience, now);
                let newest = vec![None; reader.pattern_count()];
                (Mode::Stream { silence, newest, plug_check: now }, interval.max(patience))
            }
        };
        let port = Port::new(settings.clone(), profile.clone(), reader, Arc::clone(&clock), patience);
        let (report, status) = Report::new(&link, &device.name);
        let (handle, requests) = LinkHandle::new(Arc::new(link.endpoint), status);
        let poller = Self {
            device: device.name.clone(),
            patience,
            mode,
            port,
            schedule: Schedule::new(&[(THE_DEVICE, 0, interval)], now, clock.wall()),
            health: Health::new(interval),
            last_fault: None,
            shapes,
            report,
            clock,
            requests,
            cycles,
        };
        Ok((poller, handle))
    }

    /// Polls or listens until told to stop. An answer that was asked for is waited for, which takes no longer than its
    /// timeout, and what was read is handed on.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wake = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                wake = self.next_wake() => wake,
            };
            let cycle = self.act(wake).await;
            let is_empty = cycle.rows.is_empty() && cycle.alarms.is_empty();
            if !is_empty && self.cycles.send(cycle).await.is_err() {
                break;
            }
        }
    }

    /// Waits for something to do. May be cancelled: nothing was asked yet.
    async fn next_wake(&mut self) -> Wake {
        self.port.settle().await;
        self.wait().await
    }

    async fn act(&mut self, wake: Wake) -> PollCycle {
        match wake {
            Wake::Request(request) => self.serve(*request).await,
            Wake::Line(Ok(heard)) => self.hear(&heard),
            Wake::Line(Err(failure)) => self.lose_port(&failure),
            Wake::Timer => self.tick().await,
        }
    }

    async fn wait(&mut self) -> Wake {
        let now = Instant::now();
        self.schedule.follow(now, self.clock.wall());
        let timer = self.next_timer().unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY);
        let listens = matches!(self.mode, Mode::Stream { .. });
        tokio::select! {
            Some(request) = self.requests.recv() => Wake::Request(request),
            heard = self.port.listen(), if listens => Wake::Line(heard),
            () = sleep_until(timer) => Wake::Timer,
        }
    }

    /// When there is something to do even if nothing happens.
    fn next_timer(&self) -> Option<Instant> {
        let poll = self.schedule.next_due();
        match (&self.mode, self.port.retry_at()) {
            (_, Some(retry_at)) => poll.into_iter().chain([retry_at]).min(),
            (Mode::Ask(_), None) => poll,
            (Mode::Stream { silence, plug_check, .. }, None) => {
                silence.deadline().into_iter().chain([*plug_check]).min()
            }
        }
    }

    async fn tick(&mut self) -> PollCycle {
        let now = Instant::now();
        if self.port.retry_at().is_some_and(|retry_at| retry_at <= now) {
            self.reopen(now);
        }
        match (&self.mode, self.port.why_closed().cloned()) {
            (Mode::Ask(request), _) => {
                let Some(due) = self.schedule.take(now) else { return PollCycle::default() };
                let request = request.clone();
                self.poll(&request, due.missed).await
            }
            (Mode::Stream { .. }, Some(failure)) => match self.schedule.take(now) {
                Some(_) => self.fail(self.shapes.full_bad_row(self.clock.wall(), failure.fault), &failure),
                None => PollCycle::default(),
            },
            (Mode::Stream { .. }, None) => self.tell_silence(now),
        }
    }

    fn reopen(&mut self, now: Instant) {
        let opened = self.port.open();
        self.report.port(opened.as_ref().copied());
        if opened.is_err() {
            return;
        }
        match &mut self.mode {
            // A device that was given up because of its port is probed at once.
            Mode::Ask(_)
                if self.health.state() == DeviceState::BackedOff && self.last_fault == Some(Fault::LinkDown) =>
            {
                self.schedule.suspend(THE_DEVICE, now);
            }
            Mode::Ask(_) => {}
            Mode::Stream { silence, plug_check, .. } => {
                silence.restart(now);
                *plug_check = now + PLUG_CHECK_INTERVAL;
            }
        }
    }

    /// One due poll, or probe, of an instrument that is asked.
    async fn poll(&mut self, request: &[u8], missed: u64) -> PollCycle {
        let cycle = match self.ask(request).await {
            Ok((row, None)) => PollCycle { alarms: self.succeed(&row).into_iter().collect(), rows: vec![row] },
            Ok((row, Some(failure))) => self.fail(row, &failure),
            Err(failure) => self.fail(self.shapes.full_bad_row(self.clock.wall(), failure.fault), &failure),
        };
        self.report.polled(missed, self.schedule.steps());
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
            self.report.not_understood(&heard);
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
        let begun = Instant::now();
        let heard = self.port.ask(request).await;
        let took = begun.elapsed();
        match &heard {
            Err(failure) if !self.port.is_open() => self.report.port(Err(failure)),
            Ok(_) | Err(_) => self.report.port(Ok(())),
        }
        self.report.asked(took, self.port.take_late_lines());
        if heard.is_ok() {
            self.report.round_trip(took);
        }
        heard
    }

    /// One line of a stream.
    fn hear(&mut self, heard: &Heard) -> PollCycle {
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
            self.report.not_understood(heard);
        } else if let Some(row) = &row {
            self.port.proved_good();
            cycle.alarms.extend(self.succeed(row));
        }
        let Mode::Stream { silence, newest, .. } = &mut self.mode else { return cycle };
        if let Some(row) = row {
            let now = Instant::now();
            self.shapes.tags(pattern).iter().for_each(|tag| silence.heard(*tag, now));
            newest[pattern] = Some(row.clone());
            cycle.rows.push(row);
        }
        cycle
    }

    /// The port of a stream is gone: the first bad readings at once, the others at their time.
    fn lose_port(&mut self, failure: &Failure) -> PollCycle {
        self.report.port(Err(failure));
        match self.health.state() {
            DeviceState::Answering => {
                self.schedule.resume(THE_DEVICE, Instant::now());
                self.fail(self.shapes.full_bad_row(self.clock.wall(), failure.fault), failure)
            }
            DeviceState::Failing | DeviceState::BackedOff => PollCycle::default(),
        }
    }

    /// Tags of a stream that were not heard for too long.
    fn tell_silence(&mut self, now: Instant) -> PollCycle {
        let Mode::Stream { silence, plug_check, .. } = &mut self.mode else { return PollCycle::default() };
        let due = silence.deadline().is_some_and(|deadline| deadline <= now);
        if due || *plug_check <= now {
            *plug_check = now + PLUG_CHECK_INTERVAL;
            if let Err(failure) = self.port.check_plugged() {
                return self.lose_port(&failure);
            }
        }
        let tags = silence.newly_silent(now);
        let time = self.clock.wall();
        let Some(row) = self.shapes.bad_tags(&tags, time, Fault::Timeout) else { return PollCycle::default() };
        let failure = Failure { fault: Fault::Timeout, reason: "nothing heard for three intervals".to_owned() };
        let alarm = self.report.failed(&failure, silence.is_complete(), time);
        PollCycle { alarms: alarm.into_iter().collect(), rows: vec![row] }
    }

    fn succeed(&mut self, row: &Row) -> Option<AlarmRecord> {
        self.last_fault = None;
        if self.health.answered() == Change::CameBack {
            self.schedule.resume(THE_DEVICE, Instant::now());
        }
        self.report.answered(row.time)
    }

    fn fail(&mut self, row: Row, failure: &Failure) -> PollCycle {
        self.last_fault = Some(failure.fault);
        match self.health.failed() {
            Change::None | Change::CameBack => {}
            Change::WentSilent(wait) | Change::StillSilent(wait) => {
                self.schedule.suspend(THE_DEVICE, Instant::now() + wait);
            }
        }
        let silent = self.health.state() == DeviceState::BackedOff;
        let alarm = self.report.failed(failure, silent, row.time);
        PollCycle { alarms: alarm.into_iter().collect(), rows: vec![row] }
    }

    /// Answers one request from outside. Its readings go to whoever asked, not into the store.
    async fn serve(&mut self, request: Request) -> PollCycle {
        match request {
            // A caller that has gone away needs no answer.
            Request::Raw { reply, .. } => drop(reply.send(Err(PollError::NoRegisters))),
            Request::Lend { reply, .. } => drop(reply.send(Err(PollError::NoRegisters))),
            Request::Forget { reply, .. } => drop(reply.send(Ok(false))),
            Request::Device { device, reply } => {
                let rows = if device == self.device { self.read_now().await } else { Err(PollError::UnknownDevice) };
                drop(reply.send(rows));
            }
            Request::Hasten { device, interval, lasts, reply } => {
                drop(reply.send(self.hasten(&device, interval, lasts)));
            }
            Request::Write { reply, .. } => drop(reply.send(Err(WriteFailure::NotSent(PollError::NoRegisters)))),
            Request::PollNow { device, reply } => {
                let rows = if device == self.device { self.read_now().await } else { Err(PollError::UnknownDevice) };
                // What a stream said is stored already.
                let to_store = match (&self.mode, &rows) {
                    (Mode::Ask(_), Ok(rows)) => rows.clone(),
                    (Mode::Ask(_), Err(_)) | (Mode::Stream { .. }, _) => Vec::new(),
                };
                drop(reply.send(rows));
                return PollCycle { rows: to_store, alarms: Vec::new() };
            }
        }
        PollCycle::default()
    }

    fn hasten(&mut self, device: &Name, interval: Duration, lasts: Duration) -> Result<(), PollError> {
        match &self.mode {
            _ if *device != self.device => Err(PollError::UnknownDevice),
            Mode::Stream { .. } => Err(PollError::NotAsked),
            Mode::Ask(_) => {
                let now = Instant::now();
                self.schedule.hasten(THE_DEVICE, interval, now + lasts, now);
                Ok(())
            }
        }
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
