//! A serial line on a pseudo-terminal, where bytes take the time they take on a wire.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_serial::{SerialPort, SerialStream};

use super::SimulatorError;
use super::server::{Given, Responder, Response};
use super::tcp::sleep_until;
use super::wire::{Received, Request};
use crate::config::{Parity, SerialSettings};

/// Bytes are handed over in pieces of about this time, as a USB adapter does.
const PIECE: Duration = Duration::from_millis(4);
/// Above 19,200 baud the silence between frames is fixed (Modbus over Serial Line 1.02, 2.5.1.1).
const FRAME_SILENCE_MIN: Duration = Duration::from_micros(1750);
/// A pause inside a request means that the client began anew. Longer than any adapter holds bytes back.
const REQUEST_PAUSE: Duration = Duration::from_millis(100);

/// Frame format of a simulated line, and whether its bytes take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineFormat {
    /// Bits a second.
    pub baud_rate: u32,
    /// Parity bit.
    pub parity: Parity,
    /// 7 or 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
    /// What a byte costs.
    pub pace: Pace,
}

/// What bytes cost on a simulated line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Nothing: as fast as the machine.
    Free,
    /// The time of the baud rate and the frame format; whoever speaks on the line has to set that baud rate.
    Real,
}

impl LineFormat {
    /// Eight data bits, even parity, one stop bit: the default of Modbus (over Serial Line 1.02, 2.5.1).
    pub fn modbus(baud_rate: u32, pace: Pace) -> Self {
        Self { baud_rate, parity: Parity::Even, data_bits: 8, stop_bits: 1, pace }
    }

    /// Eight data bits, no parity, one stop bit.
    pub fn plain(baud_rate: u32, pace: Pace) -> Self {
        Self { parity: Parity::None, ..Self::modbus(baud_rate, pace) }
    }

    /// How to open the port that follows this format.
    pub fn settings(&self, port: PathBuf) -> SerialSettings {
        let Self { baud_rate, parity, data_bits, stop_bits, .. } = *self;
        SerialSettings { port, baud_rate, parity, data_bits, stop_bits, rs485: false }
    }

    fn character_time(&self) -> Duration {
        match self.pace {
            Pace::Free => Duration::ZERO,
            Pace::Real => self.settings(PathBuf::new()).character_time(),
        }
    }
}

/// One end of a pseudo-terminal. The other is a serial port that clients open by its path.
#[derive(Debug)]
pub(super) struct Line {
    near: SerialStream,
    /// Held open so that a client may close the port and open it again without a hang-up here.
    far: File,
    character: Duration,
    /// Bytes at another baud rate are garbage; `None` where bytes cost nothing and it does not matter.
    baud_rate: Option<u32>,
    /// When the line is silent again, by the wire's own time.
    free_from: Instant,
    /// How much later than on a wire the last byte was handed over: timers are coarser than bytes. The client's next
    /// request comes that much later too, and is put back in time by it, so that the mean is right.
    lateness: Duration,
}

/// When the bytes of a frame were on the wire, by the wire's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnWire {
    pub first: Instant,
    pub last: Instant,
    /// False when some were lost because nobody reads.
    pub whole: bool,
}

impl Line {
    /// Opens a pseudo-terminal in raw mode.
    pub(super) fn open(format: LineFormat) -> Result<(Self, SerialSettings), SimulatorError> {
        let (near, far) = SerialStream::pair().map_err(|error| SimulatorError::Terminal(error.to_string()))?;
        let path = PathBuf::from(far.name().unwrap_or_default());
        let held =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(&path);
        let held = held.map_err(|error| SimulatorError::Terminal(format!("{}: {error}", path.display())))?;
        let line = Self {
            near,
            far: held,
            character: format.character_time(),
            baud_rate: (format.pace == Pace::Real).then_some(format.baud_rate),
            free_from: Instant::now(),
            lateness: Duration::ZERO,
        };
        Ok((line, format.settings(path)))
    }

    /// Whether whoever has the port open speaks at the baud rate of the line: otherwise nobody on it understands a byte.
    pub(super) fn is_understood(&self) -> bool {
        // The near end of a pseudo-terminal shows the baud rate of the far one. Of parity the system keeps nothing there.
        self.baud_rate.is_none_or(|baud_rate| self.near.baud_rate().is_ok_and(|set| set == baud_rate))
    }

    /// Silence between two frames: 3.5 characters (Modbus over Serial Line 1.02, 2.5.1.1). Nothing on a free line.
    pub(super) fn frame_silence(&self) -> Duration {
        let silence = self.character * 7 / 2;
        if self.character.is_zero() { silence } else { silence.max(FRAME_SILENCE_MIN) }
    }

    /// Throws away what no client has read, as a port does that nobody has open, and says how many bytes.
    pub(super) fn discard_unread(&mut self) -> usize {
        let mut unread = [0; 4096];
        self.far.read(&mut unread).unwrap_or(0)
    }

    /// Appends what arrives; 0 bytes at the end of the terminal. Cancel safe.
    pub(super) async fn read(&mut self, input: &mut Vec<u8>) -> std::io::Result<usize> {
        AsyncReadExt::read_buf(&mut self.near, input).await
    }

    /// When `length` bytes that have just been read were on the wire.
    pub(super) fn arrived(&mut self, length: usize) -> OnWire {
        let duration = self.character * u32::try_from(length).unwrap_or(u32::MAX);
        let put_back = std::mem::take(&mut self.lateness).min(duration);
        let now = Instant::now();
        let first = now.checked_sub(put_back).unwrap_or(now).max(self.free_from);
        let last = first + duration;
        self.free_from = last + self.frame_silence();
        OnWire { first, last, whole: true }
    }

    /// Sends `bytes` from `start` on, or as soon as the line is free, and returns when the last is out.
    ///
    /// What nobody reads is lost, as on a wire.
    pub(super) async fn send(&mut self, bytes: &[u8], start: Instant) -> OnWire {
        let first = start.max(self.free_from.checked_sub(self.frame_silence()).unwrap_or(self.free_from));
        let piece = PIECE.as_nanos().checked_div(self.character.as_nanos()).unwrap_or(u128::MAX);
        let piece = usize::try_from(piece).unwrap_or(usize::MAX).max(1);
        let mut due = first;
        let mut whole = true;
        for bytes in bytes.chunks(piece) {
            due += self.character * u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due).await;
            // A full terminal means that nobody reads.
            whole &= matches!(self.near.try_write(bytes), Ok(length) if length == bytes.len());
        }
        self.lateness = Instant::now().saturating_duration_since(due);
        self.free_from = due + self.frame_silence();
        OnWire { first, last: due, whole }
    }
}

/// Modbus RTU devices on a line.
#[derive(Debug)]
pub(super) struct RtuLine {
    line: Line,
    input: Vec<u8>,
    last_input: Instant,
    late: Vec<LateAnswer>,
}

/// An answer that comes when nobody waits for it any more.
#[derive(Debug)]
struct LateAnswer {
    due: Instant,
    asked: Instant,
    frame: Vec<u8>,
    given: Given,
    words: Vec<u16>,
}

impl RtuLine {
    pub(super) fn open(format: LineFormat) -> Result<(Self, SerialSettings), SimulatorError> {
        let (line, settings) = Line::open(format)?;
        let this = Self { line, input: Vec::new(), last_input: Instant::now(), late: Vec::new() };
        Ok((this, settings))
    }

    /// Serves until its task is ended. Every arm may be cancelled: each takes something only when it is complete.
    pub(super) async fn run(mut self, mut responder: Responder) {
        responder.count(|counters| counters.connections = 1);
        loop {
            let next_due = self.late.iter().map(|late| late.due).min();
            let known = self.input.len();
            tokio::select! {
                biased;
                order = responder.next_order() => { responder.obey(order); }
                read = self.line.read(&mut self.input) => match read {
                    Ok(length) if length > 0 => self.take(&mut responder, known).await,
                    Ok(_) | Err(_) => break,
                },
                () = sleep_until(next_due) => self.send_late(&mut responder).await,
            }
        }
    }

    /// Answers what has arrived, of which `known` bytes were there before.
    async fn take(&mut self, responder: &mut Responder, known: usize) {
        responder.count(|counters| counters.bytes_in += (self.input.len() - known) as u64);
        if known > 0 && self.last_input.elapsed() > REQUEST_PAUSE {
            self.input.drain(..known);
        }
        self.last_input = Instant::now();
        loop {
            let input = std::mem::take(&mut self.input);
            let (taken, more) = match responder.framing().receive(&input) {
                Received::Incomplete | Received::Garbage | Received::Request(_) if !self.line.is_understood() => {
                    self.line.arrived(input.len());
                    responder.count(|counters| counters.garbage += 1);
                    (input.len(), false)
                }
                Received::Incomplete => (0, false),
                Received::Garbage => {
                    self.line.arrived(input.len());
                    responder.count(|counters| counters.garbage += 1);
                    (input.len(), false)
                }
                Received::Request(request) => {
                    self.exchange(responder, &request).await;
                    (request.bytes.len(), true)
                }
            };
            self.input = input;
            self.input.drain(..taken);
            if !more {
                break;
            }
        }
    }

    async fn exchange(&mut self, responder: &mut Responder, request: &Request<'_>) {
        let asked = self.line.arrived(request.bytes.len());
        let silence = self.line.frame_silence();
        let mut frame = Vec::with_capacity(256);
        let response = responder.respond(request, &mut frame);
        responder.count(|counters| counters.requests += 1);
        match response {
            Response::Nothing | Response::Close => responder.count(|counters| {
                counters.unanswered += 1;
                counters.busy += asked.last - asked.first + silence;
            }),
            Response::Frame(timing, given) if timing.in_turn => {
                let words = responder.words(given);
                let answered = self.line.send(&frame, asked.last + timing.delay.max(silence)).await;
                responder.count(|counters| counters.busy += answered.last - asked.first + silence);
                if answered.whole {
                    responder.sent_later(given, frame.len(), &words, answered.last - asked.last);
                }
            }
            Response::Frame(timing, given) => {
                responder.count(|counters| counters.busy += asked.last - asked.first + silence);
                let (due, words) = (asked.last + timing.delay, responder.words(given));
                self.late.push(LateAnswer { due, asked: asked.last, frame, given, words });
            }
        }
    }

    async fn send_late(&mut self, responder: &mut Responder) {
        let now = Instant::now();
        let due: Vec<LateAnswer> = self.late.extract_if(.., |late| late.due <= now).collect();
        for late in due {
            let on_wire = self.line.send(&late.frame, late.due).await;
            responder.count(|counters| counters.busy += on_wire.last - on_wire.first + self.line.frame_silence());
            if on_wire.whole {
                responder.sent_later(late.given, late.frame.len(), &late.words, on_wire.last - late.asked);
            }
        }
    }
}
