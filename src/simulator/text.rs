//! Text instruments on pseudo-terminals: a weighing scale that is asked, and a weather sensor that talks by itself.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::SimulatorError;
use super::line::{Line, LineFormat};
use super::log::LineLog;
use super::nmea::WeatherSensor;
use super::scale::WeighingScale;
use super::tcp::sleep_until;
use crate::clock::{Clock, SystemClock};
use crate::config::SerialSettings;

/// Orders waiting for one instrument: those who give them wait for the answer, so few ever queue.
const ORDERS_QUEUED: usize = 8;
/// Longest command that an instrument keeps; what is longer is none.
const COMMAND_LENGTH_MAX: usize = 64;

/// What is connected to the line.
#[derive(Debug)]
pub enum Instrument {
    /// Asked with MT-SICS commands.
    Scale(WeighingScale),
    /// Sends NMEA 0183 sentences by itself.
    Weather(WeatherSensor),
}

/// One way for an instrument to be wrong; stays until it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextMisbehaviour {
    /// Says nothing.
    Silent,
    /// Checksums do not match; of no effect on the scale, which sends none.
    BadChecksum,
    /// Lines without sense.
    Garbage,
    /// The scale is busy (`S I`); of no effect on the weather sensor.
    Busy,
    /// Too much on the scale (`S +`); of no effect on the weather sensor.
    Overload,
    /// The pan is missing (`S -`); of no effect on the weather sensor.
    Underload,
}

/// What a text instrument has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TextCounters {
    /// Lines received.
    pub commands: u64,
    /// Lines sent as they should be.
    pub lines: u64,
    /// Lines spoiled by a fault.
    pub spoiled: u64,
    /// Lines sent while nobody had the port open.
    pub unread: u64,
}

/// Steers and watches one text instrument.
#[derive(Debug, Clone)]
pub struct TextPort {
    settings: SerialSettings,
    orders: mpsc::Sender<TextOrder>,
    counters: watch::Receiver<TextCounters>,
}

#[derive(Debug)]
enum TextOrder {
    Misbehave { misbehaviour: Option<TextMisbehaviour>, done: oneshot::Sender<()> },
    Log { reply: oneshot::Sender<LineLog> },
}

impl TextPort {
    /// The serial port and how to open it.
    pub fn settings(&self) -> &SerialSettings {
        &self.settings
    }

    /// What the instrument has done so far.
    pub fn counters(&self) -> TextCounters {
        *self.counters.borrow()
    }

    /// Returns once the counters fulfil `condition`, or the instrument has ended.
    pub async fn wait_for(&self, condition: impl FnMut(&TextCounters) -> bool) -> TextCounters {
        let mut counters = self.counters.clone();
        // An instrument that ended leaves its last counters behind.
        let _ended = counters.wait_for(condition).await.map(|_| ());
        *counters.borrow()
    }

    /// Lets the instrument misbehave from now on, or (`None`) do as it should.
    pub async fn misbehave(&self, misbehaviour: Option<TextMisbehaviour>) -> Result<(), SimulatorError> {
        let (done, answer) = oneshot::channel();
        let order = TextOrder::Misbehave { misbehaviour, done };
        self.orders.send(order).await.map_err(|_| SimulatorError::Ended)?;
        answer.await.map_err(|_| SimulatorError::Ended)
    }

    /// All good lines sent so far to an open port.
    pub async fn log(&self) -> Result<LineLog, SimulatorError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(TextOrder::Log { reply }).await.map_err(|_| SimulatorError::Ended)?;
        answer.await.map_err(|_| SimulatorError::Ended)
    }
}

/// A line to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Utterance {
    /// Without its end.
    pub text: String,
    pub delay: Duration,
    pub spoiled: bool,
}

/// The task of one instrument.
#[derive(Debug)]
pub(super) struct TextLine {
    line: Line,
    instrument: Instrument,
    misbehaviour: Option<TextMisbehaviour>,
    started: Instant,
    next_sentences: Option<Instant>,
    input: Vec<u8>,
    clock: SystemClock,
    log: LineLog,
    /// Lines of the log that may still turn out to be unread.
    unsure: usize,
    orders: mpsc::Receiver<TextOrder>,
    counters: watch::Sender<TextCounters>,
}

impl TextLine {
    pub(super) fn open(format: LineFormat, instrument: Instrument) -> Result<(Self, TextPort), SimulatorError> {
        let (line, settings) = Line::open(format)?;
        let (order_sender, orders) = mpsc::channel(ORDERS_QUEUED);
        let (counters, counters_seen) = watch::channel(TextCounters::default());
        let started = Instant::now();
        let next_sentences = match &instrument {
            Instrument::Scale(_) => None,
            Instrument::Weather(sensor) => Some(started + sensor.period()),
        };
        let this = Self {
            line,
            instrument,
            misbehaviour: None,
            started,
            next_sentences,
            input: Vec::new(),
            clock: SystemClock::new(true),
            log: LineLog::default(),
            unsure: 0,
            orders,
            counters,
        };
        Ok((this, TextPort { settings, orders: order_sender, counters: counters_seen }))
    }

    /// Speaks until its task is ended. Every arm may be cancelled: each takes something only when it is complete.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                order = next_order(&mut self.orders) => self.obey(order),
                read = self.line.read(&mut self.input) => match read {
                    Ok(length) if length > 0 => self.listen().await,
                    Ok(_) | Err(_) => break,
                },
                () = sleep_until(self.next_sentences) => self.talk().await,
            }
        }
    }

    fn obey(&mut self, order: TextOrder) {
        match order {
            TextOrder::Misbehave { misbehaviour, done } => {
                self.misbehaviour = misbehaviour;
                // Who gave the order may be gone; that is no reason not to carry it out.
                let _gone = done.send(());
            }
            TextOrder::Log { reply } => {
                let _gone = reply.send(self.log.clone());
            }
        }
    }

    /// Answers every command that is complete.
    async fn listen(&mut self) {
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let command: Vec<u8> = self.input.drain(..=end).collect();
            let command = String::from_utf8_lossy(&command);
            self.line.arrived(command.len());
            self.counters.send_modify(|counters| counters.commands += 1);
            let answer = match &mut self.instrument {
                Instrument::Scale(scale) => scale.answer(command.trim(), self.started.elapsed(), self.misbehaviour),
                Instrument::Weather(_) => None,
            };
            if let Some(answer) = answer {
                self.say(answer).await;
            }
        }
        if self.input.len() > COMMAND_LENGTH_MAX {
            self.input.clear();
        }
    }

    /// Sends what the weather sensor measures now.
    async fn talk(&mut self) {
        let Instrument::Weather(sensor) = &mut self.instrument else { return };
        let sentences = sensor.sentences(self.misbehaviour);
        self.next_sentences = self.next_sentences.map(|due| (due + sensor.period()).max(Instant::now()));
        if self.line.discard_unread() > 0 {
            self.log.lines.truncate(self.log.lines.len() - self.unsure);
            let unread = self.unsure as u64;
            self.counters.send_modify(|counters| {
                counters.unread += unread;
                counters.lines -= unread;
            });
        }
        self.unsure = 0;
        for sentence in sentences {
            self.say(sentence).await;
        }
    }

    async fn say(&mut self, utterance: Utterance) {
        let Utterance { text, delay, spoiled } = utterance;
        let mut bytes = text.clone().into_bytes();
        bytes.extend_from_slice(b"\r\n");
        let sent = self.line.send(&bytes, Instant::now() + delay).await;
        if spoiled {
            self.counters.send_modify(|counters| counters.spoiled += 1);
        } else if sent.whole {
            self.log.lines.push((self.clock.wall(), text));
            self.unsure += 1;
            self.counters.send_modify(|counters| counters.lines += 1);
        }
    }
}

/// The next order; never returns once all [`TextPort`]s are gone. Cancel safe.
async fn next_order(orders: &mut mpsc::Receiver<TextOrder>) -> TextOrder {
    match orders.recv().await {
        Some(order) => order,
        None => std::future::pending().await,
    }
}
