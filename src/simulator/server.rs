//! The devices behind one endpoint: who answers what, and how tests steer and watch it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::SimulatorError;
use super::device::{Access, Device};
use super::fault::{Misbehaviour, Reaction};
use super::line::{LineFormat, RtuLine};
use super::log::{Answer, AnswerLog, Counters};
use super::tcp::TcpServer;
use super::text::{Instrument, TextLine, TextPort};
use super::wire::{Framing, Request};
use crate::clock::{Clock, SystemClock};
use crate::config::SerialSettings;
use crate::modbus::encode::Quantity;
use crate::profile::Table;

/// Orders waiting for one endpoint: those who give them wait for the answer, so few ever queue.
const ORDERS_QUEUED: usize = 8;
/// Answer of a gateway for a unit that is not there (Modbus Application Protocol 1.1b3, 7).
const GATEWAY_TARGET_FAILED: u8 = 11;

/// Whether an endpoint remembers its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Every answer, for as long as it runs.
    Answers,
    /// Counters only: for load tests.
    Counters,
}

/// Running servers. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Servers {
    tasks: JoinSet<()>,
}

impl Servers {
    /// Serves `devices` at a free port of the loopback address: Modbus TCP, or RTU frames over TCP.
    pub async fn tcp(
        &mut self,
        framing: Framing,
        devices: Vec<Device>,
        keep: Keep,
    ) -> Result<Endpoint, SimulatorError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(SimulatorError::Listen)?;
        let place = Place::Tcp(listener.local_addr().map_err(SimulatorError::Listen)?);
        let (responder, endpoint) = Responder::new(framing, place, devices, keep)?;
        self.tasks.spawn(TcpServer::new(listener, responder).run());
        Ok(endpoint)
    }

    /// Serves `devices` on one end of a pseudo-terminal; the other end is a serial port to be opened by its path.
    pub fn rtu(&mut self, format: LineFormat, devices: Vec<Device>, keep: Keep) -> Result<Endpoint, SimulatorError> {
        let (line, settings) = RtuLine::open(format)?;
        let (responder, endpoint) = Responder::new(Framing::Rtu, Place::Serial(settings), devices, keep)?;
        self.tasks.spawn(line.run(responder));
        Ok(endpoint)
    }

    /// Connects a text instrument to one end of a pseudo-terminal.
    pub fn text(&mut self, format: LineFormat, instrument: Instrument) -> Result<TextPort, SimulatorError> {
        let (line, port) = TextLine::open(format, instrument)?;
        self.tasks.spawn(line.run());
        Ok(port)
    }

    /// Ends all servers and waits until their ports are closed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Where an endpoint is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A listening socket.
    Tcp(SocketAddr),
    /// A serial port and how to open it.
    Serial(SerialSettings),
}

/// Steers and watches one running endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    place: Place,
    orders: mpsc::Sender<Order>,
    counters: watch::Receiver<Counters>,
}

impl Endpoint {
    /// Where it is found.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The socket address.
    ///
    /// # Panics
    /// When the endpoint is a serial line.
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Serial(settings) => panic!("{} is a serial line", settings.port.display()),
        }
    }

    /// The path of the serial port.
    ///
    /// # Panics
    /// When the endpoint is a socket.
    pub fn port(&self) -> PathBuf {
        match &self.place {
            Place::Tcp(address) => panic!("{address} is a socket"),
            Place::Serial(settings) => settings.port.clone(),
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        *self.counters.borrow()
    }

    /// Returns once the counters fulfil `condition`, or the endpoint has ended.
    pub async fn wait_for(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut counters = self.counters.clone();
        // An endpoint that ended leaves its last counters behind.
        let _ended = counters.wait_for(condition).await.map(|_| ());
        *counters.borrow()
    }

    /// Lets a device misbehave from now on, or (`None`) answer as it should.
    pub async fn misbehave(&self, unit: u8, misbehaviour: Option<Misbehaviour>) -> Result<(), SimulatorError> {
        self.order(|done| Order::Misbehave { unit, misbehaviour, done }).await?
    }

    /// Shows an engineering value at a point that no course moves.
    pub async fn set(&self, unit: u8, point: &str, value: f64) -> Result<(), SimulatorError> {
        self.order(|done| Order::Set { unit, point: point.to_owned(), value, done }).await?
    }

    /// Puts raw words at an address of a device.
    pub async fn write(&self, unit: u8, table: Table, address: u16, words: &[u16]) -> Result<(), SimulatorError> {
        self.order(|done| Order::Write { unit, table, address, words: words.to_vec(), done }).await?
    }

    /// Puts another device in the place of the one with its unit id, as a change of firmware does: it starts anew, so
    /// all connections are closed with it.
    pub async fn replace(&self, device: Device) -> Result<(), SimulatorError> {
        self.order(|done| Order::Replace { device: Box::new(device), done }).await?
    }

    /// Closes all connections; new ones are accepted. Of no effect on a serial line.
    pub async fn disconnect(&self) -> Result<(), SimulatorError> {
        self.order(|done| Order::Disconnect { done }).await?
    }

    /// All answers given so far; empty when only counters are kept.
    pub async fn log(&self) -> Result<AnswerLog, SimulatorError> {
        self.order(|reply| Order::Log { reply }).await
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, SimulatorError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| SimulatorError::Ended)?;
        answer.await.map_err(|_| SimulatorError::Ended)
    }
}

type Done = oneshot::Sender<Result<(), SimulatorError>>;

/// What an [`Endpoint`] asks of its server.
#[derive(Debug)]
pub(super) enum Order {
    Misbehave { unit: u8, misbehaviour: Option<Misbehaviour>, done: Done },
    Set { unit: u8, point: String, value: f64, done: Done },
    Write { unit: u8, table: Table, address: u16, words: Vec<u16>, done: Done },
    Replace { device: Box<Device>, done: Done },
    Disconnect { done: Done },
    Log { reply: oneshot::Sender<AnswerLog> },
}

/// What an order asks of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Disconnect,
}

/// What a request leads to, with the frame already in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    Nothing,
    Close,
    Frame(Timing, Given),
}

/// When an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    pub delay: Duration,
    pub in_turn: bool,
}

/// What kind of answer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// A client has to take it for what it asked.
    Answer(Granted),
    Exception,
    Spoiled,
}

/// What the log will say about an answer once it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub unit: u8,
    pub access: Access,
}

/// Owns the devices of one endpoint.
#[derive(Debug)]
pub(super) struct Responder {
    framing: Framing,
    devices: Vec<Device>,
    started: Instant,
    clock: SystemClock,
    log: Option<AnswerLog>,
    counters: watch::Sender<Counters>,
    orders: mpsc::Receiver<Order>,
    pdu: Vec<u8>,
}

impl Responder {
    fn new(
        framing: Framing,
        place: Place,
        mut devices: Vec<Device>,
        keep: Keep,
    ) -> Result<(Self, Endpoint), SimulatorError> {
        devices.sort_by_key(|device| device.unit);
        if let Some(pair) = devices.windows(2).find(|pair| pair[0].unit == pair[1].unit) {
            return Err(SimulatorError::UnitTwice { unit: pair[0].unit });
        }
        let (order_sender, orders) = mpsc::channel(ORDERS_QUEUED);
        let (counters, counters_seen) = watch::channel(Counters::default());
        let responder = Self {
            framing,
            devices,
            started: Instant::now(),
            clock: SystemClock::new(true),
            log: (keep == Keep::Answers).then(AnswerLog::default),
            counters,
            orders,
            pdu: Vec::new(),
        };
        Ok((responder, Endpoint { place, orders: order_sender, counters: counters_seen }))
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Appends the frame that answers `request` to `out` and says what shall happen with it.
    pub(super) fn respond(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> Response {
        let now = self.started.elapsed();
        let Ok(index) = self.devices.binary_search_by_key(&request.unit, |device| device.unit) else {
            return self.respond_for_nobody(request, out);
        };
        let device = &mut self.devices[index];
        if device.is_out(now) {
            return Response::Nothing;
        }
        device.advance(now);
        self.pdu.clear();
        let granted = device.answer(request.pdu, &mut self.pdu).ok();
        let reaction = match device.misbehaviour {
            Some(misbehaviour) => misbehaviour.spoil(self.framing, request, &mut self.pdu, out),
            None => {
                self.framing.frame(request.transaction, request.unit, &self.pdu, out);
                Reaction::Answer { delay: Duration::ZERO, in_turn: true, intact: true }
            }
        };
        match reaction {
            Reaction::Nothing => Response::Nothing,
            Reaction::Close => Response::Close,
            Reaction::Answer { delay, in_turn, intact } => {
                let timing = Timing { delay: device.answer_delay + delay, in_turn };
                let given = match granted {
                    _ if !intact => Given::Spoiled,
                    Some(access) if self.pdu[0] & 0x80 == 0 => Given::Answer(Granted { unit: request.unit, access }),
                    Some(_) | None => Given::Exception,
                };
                Response::Frame(timing, given)
            }
        }
    }

    /// A gateway answers for devices that it cannot reach; on a serial line there is silence.
    fn respond_for_nobody(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> Response {
        match self.framing {
            Framing::Rtu => Response::Nothing,
            Framing::Tcp => {
                let pdu = [request.pdu[0] | 0x80, GATEWAY_TARGET_FAILED];
                self.framing.frame(request.transaction, request.unit, &pdu, out);
                Response::Frame(Timing { delay: Duration::ZERO, in_turn: true }, Given::Exception)
            }
        }
    }

    /// The words of an answer that will be sent later, when the registers may show others.
    pub(super) fn words(&self, given: Given) -> Vec<u16> {
        let Given::Answer(Granted { unit, access }) = given else { return Vec::new() };
        self.device(unit).map(|device| device.words(access).to_vec()).unwrap_or_default()
    }

    /// Counts an answer of `length` bytes sent just now, and notes it with the registers as they are.
    pub(super) fn sent(&mut self, given: Given, length: usize) {
        self.count_sent(given, length);
        if let Given::Answer(Granted { unit, access }) = given
            && let Some(log) = &mut self.log
            && let Ok(index) = self.devices.binary_search_by_key(&unit, |device| device.unit)
        {
            let words = self.devices[index].words(access);
            log.note(Answer { time: self.clock.wall(), after: Duration::ZERO, unit, access, words });
        }
    }

    /// Counts an answer of `length` bytes that was sent `after` its request, and notes the words it carried.
    pub(super) fn sent_later(&mut self, given: Given, length: usize, words: &[u16], after: Duration) {
        self.count_sent(given, length);
        if let Given::Answer(Granted { unit, access }) = given
            && let Some(log) = &mut self.log
        {
            log.note(Answer { time: self.clock.wall(), after, unit, access, words });
        }
    }

    fn count_sent(&self, given: Given, length: usize) {
        self.count(|counters| {
            counters.bytes_out += length as u64;
            match given {
                Given::Answer(_) => counters.answers += 1,
                Given::Exception => counters.exceptions += 1,
                Given::Spoiled => counters.spoiled += 1,
            }
        });
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.counters.send_modify(change);
    }

    /// The next order; never returns once all [`Endpoint`]s are gone. Cancel safe.
    pub(super) async fn next_order(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }

    /// Carries out an order. Who gave it may be gone; that is no reason not to.
    pub(super) fn obey(&mut self, order: Order) -> Effect {
        match order {
            Order::Misbehave { unit, misbehaviour, done } => {
                let _gone = done.send(self.device_mut(unit).map(|device| device.misbehaviour = misbehaviour));
            }
            Order::Set { unit, point, value, done } => {
                let set = self.device_mut(unit).and_then(|device| device.set(&point, Quantity::Number(value)));
                let _gone = done.send(set);
            }
            Order::Write { unit, table, address, words, done } => {
                let _gone = done.send(self.device_mut(unit).map(|device| device.write(table, address, &words)));
            }
            Order::Replace { device, done } => {
                let _gone = done.send(self.device_mut(device.unit).map(|old| *old = *device));
                return Effect::Disconnect;
            }
            Order::Log { reply } => {
                let _gone = reply.send(self.log.clone().unwrap_or_default());
            }
            Order::Disconnect { done } => {
                let _gone = done.send(Ok(()));
                return Effect::Disconnect;
            }
        }
        Effect::None
    }

    fn device(&self, unit: u8) -> Result<&Device, SimulatorError> {
        let index = self.devices.binary_search_by_key(&unit, |device| device.unit);
        index.map(|index| &self.devices[index]).map_err(|_| SimulatorError::NoSuchUnit { unit })
    }

    fn device_mut(&mut self, unit: u8) -> Result<&mut Device, SimulatorError> {
        let index = self.devices.binary_search_by_key(&unit, |device| device.unit);
        index.map(|index| &mut self.devices[index]).map_err(|_| SimulatorError::NoSuchUnit { unit })
    }
}
