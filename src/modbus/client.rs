//! One open link: asks one request at a time and gives its words, or says precisely why not.
//!
//! **A late answer is never taken for the next one.**
//!
//! - Modbus TCP: every request has its own transaction id. Answers with another id are dropped and counted. A unit whose
//!   answer is missing owes it here, too: requests must not pile up in front of a device that is slow. Where a gateway
//!   numbers its answers by itself, so that any id is taken, a connection on which an answer is missing is given up.
//! - RTU (on a serial port or through a TCP gateway) has no such id: a late answer of the same unit, function and
//!   length looks exactly like the one that is waited for. So a unit whose answer is missing *owes* it: it is not
//!   asked again until the answer has come, or a full answer time (the timeout of the link) has passed beyond the
//!   timeout. Other units may be asked meanwhile; an owed answer that comes then is recognised by its unit, dropped
//!   and counted. A device that answers later than twice the timeout is outside what this can tell apart: the
//!   timeout must be chosen above half the slowest answer.
//! - After a bad frame on RTU everything is drained until the line has been quiet.

mod exchange;
mod objects;
mod reopen;
mod write;

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Accepted, Endpoint, SerialSettings};
use crate::model::UnitId;
use crate::profile::Table;

use super::error::{Came, PollError};
use super::frame::{self, ReadRequest};
use super::rtu::{STRAY_MAX, Shape};
use super::trace::Traced;
use super::transport::{Inbound, Transport};
use exchange::{Asked, RtuRequest};
use reopen::Reopening;

pub use reopen::OnClose;

/// Shortest wait for a connection: one lost SYN is sent again after a second.
const CONNECT_AT_LEAST: Duration = Duration::from_secs(2);
/// A serial line counts as quiet after this: USB adapters hand over bytes every 16 ms.
const QUIET_SERIAL: Duration = Duration::from_millis(20);
/// A stream through a gateway counts as quiet after this: bytes of one frame may come in several segments.
const QUIET_GATEWAY: Duration = Duration::from_millis(50);
/// Silence between frames above 19,200 baud (Modbus over Serial Line 1.02, 2.5.1.1).
const SILENCE_FAST: Duration = Duration::from_micros(1750);
const FAST_ABOVE_BAUD: u32 = 19_200;
/// So many requests in a row without a single byte back: the connection itself is in doubt.
const SILENT_REQUESTS_MAX: u32 = 3;

/// So many requests in a row without an answer, while answers to earlier ones come: the connection is out of step.
const LATE_REQUESTS_MAX: u32 = 3;
/// So many requests whose answers are missing are remembered by their transaction ids.
const MISSING_MAX: usize = 16;

/// Bytes that belonged to no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stray {
    /// How many.
    pub bytes: u64,
    /// Around how many answers.
    pub answers: u64,
}

/// Sees every byte that crosses a link.
pub type Tracer = Box<dyn FnMut(Traced<'_>) + Send + Sync>;

/// A Modbus client on one open endpoint.
pub struct Client {
    tracer: Option<Tracer>,
    transport: Transport,
    line: Line,
    timeout: Duration,
    /// How long the next answer is waited for; at most the timeout.
    patience: Duration,
    /// From the end of the last request to the first byte of its answer.
    turnaround: Duration,
    inbound: Inbound,
    /// When the last byte was seen, or will have left.
    last_activity: Instant,
    silent_requests: u32,
    transaction: u16,
    stale_units: Vec<u8>,
    /// Something other than a good answer was seen on an RTU line: drain before the next request.
    unsettled: bool,
    owed: Vec<OwedAnswer>,
    /// Transaction ids of requests on this connection whose answers may still come.
    missing: Vec<u16>,
    /// Requests in a row that had no answer while the answer to an earlier one came.
    late_requests: u32,
    /// The answer to an earlier request came while the present one was waited for.
    was_late: bool,
    /// A byte has come since the last request went out.
    is_heard: bool,
    /// An answer is missing that nothing tells apart from the next one: no more is asked on this connection.
    is_spent: bool,
    stray: Stray,
    accepted: Accepted,
    reopening: Reopening,
    /// Whether the last answer on an RTU line came behind the echo of its request; `None` before the first one.
    hears_itself: Option<bool>,
}

/// How frames are told apart on this endpoint.
enum Line {
    /// By their MBAP header.
    Tcp,
    /// By length, CRC and silence.
    Rtu(Pace),
}

/// The times of an RTU line.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// One character.
    character: Duration,
    /// Between frames.
    silence: Duration,
    /// After which nothing more comes.
    quiet: Duration,
}

/// An RTU answer that has not come in time and may still come.
struct OwedAnswer {
    unit: u8,
    function: u8,
    until: Instant,
}

impl Client {
    /// Opens the endpoint. `timeout` is the longest wait for the first byte of an answer; a TCP connection is given
    /// at least two seconds. A text link and everything the system refuses is [`PollError::LinkDown`].
    pub async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Self, PollError> {
        let wait = timeout.max(CONNECT_AT_LEAST);
        let transport = Transport::open(endpoint, wait).await.map_err(PollError::LinkDown)?;
        Ok(Self::over(transport, endpoint, timeout))
    }

    /// The end of a stream in memory, with the framing and pace of `endpoint`.
    #[cfg(test)]
    pub(crate) fn in_memory(stream: tokio::io::DuplexStream, endpoint: &Endpoint, timeout: Duration) -> Self {
        Self::over(Transport::Memory(stream), endpoint, timeout)
    }

    fn over(transport: Transport, endpoint: &Endpoint, timeout: Duration) -> Self {
        let line = match endpoint {
            Endpoint::Rtu(settings) => rtu_line(settings),
            Endpoint::RtuOverTcp { .. } => {
                Line::Rtu(Pace { character: Duration::ZERO, silence: Duration::ZERO, quiet: QUIET_GATEWAY })
            }
            Endpoint::Tcp { .. } | Endpoint::Text(_) => Line::Tcp,
        };
        Self {
            tracer: None,
            transport,
            line,
            timeout,
            patience: timeout,
            turnaround: Duration::ZERO,
            inbound: Inbound::new(),
            last_activity: Instant::now(),
            silent_requests: 0,
            transaction: 0,
            stale_units: Vec::new(),
            unsettled: true,
            owed: Vec::new(),
            missing: Vec::new(),
            late_requests: 0,
            was_late: false,
            is_heard: false,
            is_spent: false,
            stray: Stray::default(),
            accepted: Accepted::default(),
            reopening: Reopening::new(endpoint.clone()),
            hears_itself: None,
        }
    }

    /// Reads `count` registers or bits from `address` of `table` of `unit` into `into`, which is cleared first: one
    /// word a register, or one word 0 or 1 a bit. Gives the moment at which the last byte was seen.
    ///
    /// After an error for which [`PollError::ends_session`] holds, the client is of no further use.
    pub async fn read(
        &mut self,
        unit: UnitId,
        table: Table,
        address: u16,
        count: u16,
        into: &mut Vec<u16>,
    ) -> Result<Instant, PollError> {
        into.clear();
        let request = ReadRequest { unit, table, address, count };
        request.check()?;
        let answer = self.read_once(&request, into).await;
        match answer {
            Err(error) if self.may_ask_anew(&error) => {
                self.reopen().await?;
                self.read_once(&request, into).await
            }
            answer => answer,
        }
    }

    async fn read_once(&mut self, request: &ReadRequest, into: &mut Vec<u16>) -> Result<Instant, PollError> {
        let (function, data) = (request.table.read_function(), request.data_bytes());
        let asked = Asked { unit: request.unit, function, patience: self.patience };
        let take = |unit, pdu: &[u8]| request.take_answer(unit, pdu, into);
        match self.line {
            Line::Tcp => self.exchange_tcp(asked, |number| request.to_tcp(number), Some(data), take).await?,
            Line::Rtu(pace) => {
                let wanted = RtuRequest { bytes: &request.to_rtu(), shape: Shape::Data(data), may_echo: true };
                let heard = self.exchange_rtu(asked, pace, wanted, take).await;
                if matches!(heard.answer, Ok(()) | Err(PollError::Exception(_))) {
                    self.hears_itself = Some(heard.had_echo);
                }
                heard.answer?;
            }
        }
        Ok(self.last_activity)
    }

    /// From now on `tracer` sees what is sent and received.
    pub fn trace(&mut self, tracer: Tracer) {
        self.tracer = Some(tracer);
    }

    /// From now on the first byte of an answer is waited for no longer than `span`, or the timeout if that is less. How
    /// long a missing answer may still come, and its unit is not asked, follows from the timeout all the same.
    pub fn wait_at_most(&mut self, span: Duration) {
        self.patience = span.min(self.timeout);
    }

    /// From the end of the last request that was answered to the first byte of its answer.
    pub fn turnaround(&self) -> Duration {
        self.turnaround
    }

    /// From now on answers are taken by these terms. Those that come too late are told apart by their transaction id: where
    /// it may be any, a TCP connection on which an answer is missing is given up.
    pub fn accept(&mut self, accepted: Accepted) {
        self.accepted = accepted;
    }

    /// Hears what still comes until the link is quiet: for the tracer, once no more is asked.
    pub async fn hear_out(&mut self) {
        let bound = Instant::now() + self.timeout;
        let quiet = match self.line {
            Line::Tcp => QUIET_GATEWAY,
            Line::Rtu(pace) => pace.quiet,
        };
        while !self.inbound.is_full() && matches!(self.receive(bound.min(Instant::now() + quiet)).await, Ok(true)) {}
    }

    /// Waits until the link has been silent for `span`; zero does not wait.
    pub async fn rest(&self, span: Duration) {
        if !span.is_zero() {
            sleep_until(self.last_activity + span).await;
        }
    }

    /// Until when `unit` owes an answer and is better not asked: [`read`](Self::read) would wait. `None` when it may
    /// be asked now.
    pub fn ready_at(&self, unit: UnitId) -> Option<Instant> {
        let now = Instant::now();
        self.owed.iter().find(|owed| owed.unit == unit.get() && owed.until > now).map(|owed| owed.until)
    }

    /// Error when the other side has closed the connection while nothing was asked.
    pub fn check_open(&mut self) -> Result<(), PollError> {
        match self.is_spent {
            true => Err(given_up_for_its_late_answer()),
            false => self.catch_up(),
        }
    }

    /// True after three requests in a row to which not one byte came back: a connection that looks open may be dead,
    /// and an unplugged serial adapter may just be silent.
    pub fn is_in_doubt(&self) -> bool {
        self.silent_requests >= SILENT_REQUESTS_MAX
    }

    /// True after three requests over TCP in a row that had no answer in time while the answer to an earlier one came:
    /// a device that has skipped one answer gives each answer one request late until the connection is made anew.
    pub fn is_behind(&self) -> bool {
        self.late_requests >= LATE_REQUESTS_MAX
    }

    /// Bytes around answers that belonged to nothing, since the last call: how many, around how many answers.
    pub fn take_stray(&mut self) -> Stray {
        std::mem::take(&mut self.stray)
    }

    /// Units whose late answers were dropped since the last call, once for each.
    pub fn take_stale(&mut self) -> std::vec::Drain<'_, u8> {
        self.stale_units.drain(..)
    }

    /// Before a request on RTU: drains what should not be there, waits for an answer that the unit owes, and keeps
    /// the silence between frames. Ends at the latest after twice the timeout; a line that is never quiet is
    /// [`PollError::Garbage`].
    async fn settle(&mut self, unit: UnitId, silence: Duration, quiet: Duration) -> Result<(), PollError> {
        self.catch_up()?;
        // What came late while nobody was asked is counted as such.
        while self.drop_owed() {}
        self.drop_trailing();
        self.unsettled |= !self.inbound.is_empty();
        let mut seen = self.inbound.filled().len();
        let bound = Instant::now() + 2 * self.timeout + quiet;
        loop {
            let now = Instant::now();
            self.owed.retain(|owed| owed.until > now);
            let until = match self.ready_at(unit) {
                _ if self.unsettled => self.last_activity + quiet,
                Some(until) => until,
                None => break,
            };
            if now > bound {
                return Err(PollError::Garbage { came: Came::counted(seen, self.inbound.filled()) });
            }
            if self.inbound.is_full() {
                self.inbound.clear();
            }
            let before = self.inbound.filled().len();
            if self.receive(until).await? {
                seen += self.inbound.filled().len() - before;
                self.unsettled = true;
            } else if self.unsettled {
                while self.drop_owed() {}
                self.inbound.clear();
                self.unsettled = false;
            }
        }
        sleep_until_if_later(self.last_activity + silence).await;
        Ok(())
    }

    /// An answer over TCP that nobody waits for any more.
    fn came_late(&mut self, transaction: u16, unit: u8) {
        self.missing.retain(|missing| *missing != transaction);
        self.stale_units.push(unit);
        if let Some(position) = self.owed.iter().position(|owed| owed.unit == unit) {
            self.owed.swap_remove(position);
        }
    }

    /// The answer to what went out at `out` may still come.
    fn owes(&mut self, unit: UnitId, function: u8, out: Instant) {
        let now = Instant::now();
        self.owed.retain(|owed| owed.until > now);
        self.owed.push(OwedAnswer { unit: unit.get(), function, until: out + 2 * self.timeout });
    }

    /// Drops the frame at the front of what has arrived when it is an answer that some unit owes. True when it was.
    ///
    /// While a unit is asked it owes nothing, so its own answer is never dropped here.
    fn drop_owed(&mut self) -> bool {
        if self.owed.is_empty() {
            return false;
        }
        let filled = self.inbound.filled();
        let found = (0..=filled.len().min(STRAY_MAX)).find_map(|start| {
            let frame = frame::split_rtu(&filled[start..])?;
            let is_it = |owed: &OwedAnswer| owed.unit == frame.unit && owed.function == frame.function;
            Some((self.owed.iter().position(is_it)?, frame.unit, start + frame.length))
        });
        let Some((position, unit, end)) = found else { return false };
        self.owed.swap_remove(position);
        self.stale_units.push(unit);
        self.inbound.drop_front(end);
        true
    }

    /// A few bytes behind an answer that was taken, with nothing owed, are stray: a line without bias gives them when the
    /// direction changes, and the next request has waited long enough when they are through.
    fn drop_trailing(&mut self) {
        let count = self.inbound.filled().len();
        if !self.unsettled && self.owed.is_empty() && (1..=STRAY_MAX).contains(&count) {
            self.inbound.clear();
            self.strayed(count);
        }
    }

    fn strayed(&mut self, bytes: usize) {
        if bytes > 0 {
            self.stray.bytes += bytes as u64;
            self.stray.answers += 1;
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), PollError> {
        let deadline = Instant::now() + self.timeout;
        if let Some(tracer) = &mut self.tracer {
            tracer(Traced::Sent(bytes));
        }
        self.is_heard = false;
        match timeout_at(deadline, self.transport.write_all(bytes)).await {
            Ok(written) => written.map_err(PollError::LinkDown)?,
            Err(_) => return Err(PollError::LinkDown(io::Error::new(io::ErrorKind::TimedOut, "nothing can be sent"))),
        }
        self.last_activity = Instant::now();
        Ok(())
    }

    /// Waits for bytes until the given moment; false when none came.
    async fn receive(&mut self, until: Instant) -> Result<bool, PollError> {
        match timeout_at(until, self.transport.read(self.inbound.space())).await {
            Ok(read) => {
                let count = read.map_err(PollError::LinkDown)?;
                self.arrived(count);
            }
            Err(_) => return Ok(false),
        }
        self.last_activity = Instant::now();
        self.silent_requests = 0;
        Ok(true)
    }

    /// Takes what arrived while nothing was asked.
    fn catch_up(&mut self) -> Result<(), PollError> {
        while !self.inbound.is_full() {
            match self.transport.try_read(self.inbound.space()).map_err(PollError::LinkDown)? {
                0 => break,
                count => {
                    self.arrived(count);
                    self.last_activity = Instant::now();
                    self.silent_requests = 0;
                }
            }
        }
        Ok(())
    }

    fn arrived(&mut self, count: usize) {
        let before = self.inbound.filled().len();
        self.inbound.add(count);
        self.is_heard = true;
        self.reopening.carried();
        if let Some(tracer) = &mut self.tracer {
            tracer(Traced::Received(&self.inbound.filled()[before..]));
        }
    }

    fn no_answer(&mut self) -> PollError {
        self.silent_requests += 1;
        PollError::NoAnswer { waited: self.patience }
    }
}

fn given_up_for_its_late_answer() -> PollError {
    let reason = "given up: an answer is missing, and by its number nothing would tell it from the next one";
    PollError::LinkDown(io::Error::new(io::ErrorKind::NotConnected, reason))
}

fn rtu_line(settings: &SerialSettings) -> Line {
    let character = settings.character_time();
    let silence = if settings.baud_rate > FAST_ABOVE_BAUD { SILENCE_FAST } else { character * 7 / 2 };
    Line::Rtu(Pace { character, silence, quiet: QUIET_SERIAL.max(silence) })
}

async fn sleep_until_if_later(moment: Instant) {
    if moment > Instant::now() {
        sleep_until(moment).await;
    }
}
