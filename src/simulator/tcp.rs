//! One listening socket: all its connections are served by one task, so that nothing has to be shared.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::server::{Effect, Given, Order, Responder, Response};
use super::wire::{Framing, REQUEST_LENGTH_MAX, Received};

/// A pause of a client inside a request means that it began anew.
const REQUEST_PAUSE: Duration = Duration::from_millis(500);
/// Room for several requests sent at once.
const INPUT_BYTES: usize = 4 * REQUEST_LENGTH_MAX;

#[derive(Debug)]
pub(super) struct TcpServer {
    listener: TcpListener,
    responder: Responder,
    connections: Vec<Connection>,
    delayed: Vec<Delayed>,
    /// Frame under construction.
    frame: Vec<u8>,
    accepted: u64,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    last_input: Instant,
    /// A slow answer holds up those behind it.
    free_from: Instant,
}

/// An answer that is not due yet.
#[derive(Debug)]
struct Delayed {
    due: Instant,
    asked: Instant,
    connection: u64,
    frame: Vec<u8>,
    given: Given,
    words: Vec<u16>,
}

impl TcpServer {
    pub(super) fn new(listener: TcpListener, responder: Responder) -> Self {
        Self { listener, responder, connections: Vec::new(), delayed: Vec::new(), frame: Vec::new(), accepted: 0 }
    }

    /// Serves until its task is ended. Every arm may be cancelled: each takes something only when it is complete.
    pub(super) async fn run(mut self) {
        loop {
            let next_due = self.delayed.iter().map(|delayed| delayed.due).min();
            tokio::select! {
                biased;
                (index, input) = next_input(&mut self.connections) => self.take(index, input),
                () = sleep_until(next_due) => self.send_due(),
                order = self.responder.next_order() => self.obey(order),
                accepted = self.listener.accept() => self.connect(accepted.map(|(stream, _)| stream)),
            }
        }
    }

    fn connect(&mut self, accepted: io::Result<TcpStream>) {
        // A client that is gone before it was accepted is nobody's fault.
        let Ok(stream) = accepted.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) else { return };
        let now = Instant::now();
        self.accepted += 1;
        self.connections.push(Connection {
            id: self.accepted,
            stream,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            last_input: now,
            free_from: now,
        });
        self.responder.count(|counters| counters.connections += 1);
    }

    fn obey(&mut self, order: Order) {
        match self.responder.obey(order) {
            Effect::None => {}
            Effect::Disconnect => {
                self.connections.clear();
                self.delayed.clear();
            }
        }
    }

    /// Answers all requests that are complete. Closes the connection at its end or when it makes no sense.
    fn take(&mut self, index: usize, input: io::Result<usize>) {
        let length = match input {
            Ok(length) if length > 0 => length,
            Ok(_) | Err(_) => {
                self.connections.swap_remove(index);
                return;
            }
        };
        let now = Instant::now();
        self.responder.count(|counters| counters.bytes_in += length as u64);
        let connection = &mut self.connections[index];
        if connection.filled > 0 && now.duration_since(connection.last_input) > REQUEST_PAUSE {
            connection.input.copy_within(connection.filled..connection.filled + length, 0);
            connection.filled = 0;
        }
        connection.last_input = now;
        connection.filled += length;
        let stays = answer_all(connection, &mut self.responder, &mut self.delayed, &mut self.frame, now);
        if !stays {
            self.connections.swap_remove(index);
        }
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        let mut due: Vec<Delayed> = self.delayed.extract_if(.., |delayed| delayed.due <= now).collect();
        due.sort_by_key(|delayed| delayed.due);
        for delayed in due {
            let Some(connection) = self.connections.iter().find(|connection| connection.id == delayed.connection)
            else {
                continue;
            };
            if send(connection, &delayed.frame) {
                let Delayed { given, frame, words, asked, .. } = delayed;
                self.responder.sent_later(given, frame.len(), &words, now.duration_since(asked));
            }
        }
    }
}

/// Answers what the input buffer holds; false when the connection shall be closed.
fn answer_all(
    connection: &mut Connection,
    responder: &mut Responder,
    delayed: &mut Vec<Delayed>,
    frame: &mut Vec<u8>,
    now: Instant,
) -> bool {
    let mut taken = 0;
    loop {
        let request = match responder.framing().receive(&connection.input[taken..connection.filled]) {
            Received::Incomplete => break,
            Received::Garbage => {
                responder.count(|counters| counters.garbage += 1);
                match responder.framing() {
                    Framing::Tcp => return false,
                    // A serial line behind a gateway goes on with the next frame.
                    Framing::Rtu => {
                        taken = connection.filled;
                        break;
                    }
                }
            }
            Received::Request(request) => request,
        };
        taken += request.bytes.len();
        frame.clear();
        let response = responder.respond(&request, frame);
        responder.count(|counters| counters.requests += 1);
        match response {
            Response::Nothing => responder.count(|counters| counters.unanswered += 1),
            Response::Close => {
                responder.count(|counters| counters.unanswered += 1);
                return false;
            }
            Response::Frame(timing, given) => {
                let start = if timing.in_turn { connection.free_from.max(now) } else { now };
                let due = start + timing.delay;
                if timing.in_turn {
                    connection.free_from = due;
                }
                if due > now {
                    let (connection, words) = (connection.id, responder.words(given));
                    delayed.push(Delayed { due, asked: now, connection, frame: frame.clone(), given, words });
                } else if send(connection, frame) {
                    responder.sent(given, frame.len());
                }
            }
        }
    }
    connection.input.copy_within(taken..connection.filled, 0);
    connection.filled -= taken;
    true
}

/// Sends one frame; false when the peer is gone or does not read, which its next read will find.
fn send(connection: &Connection, frame: &[u8]) -> bool {
    matches!(connection.stream.try_write(frame), Ok(length) if length == frame.len())
}

/// The next connection that received something, and how much; 0 at its end. Cancel safe.
async fn next_input(connections: &mut [Connection]) -> (usize, io::Result<usize>) {
    poll_fn(|context| {
        for (index, connection) in connections.iter_mut().enumerate() {
            let mut room = ReadBuf::new(&mut connection.input[connection.filled..]);
            if let Poll::Ready(result) = Pin::new(&mut connection.stream).poll_read(context, &mut room) {
                return Poll::Ready((index, result.map(|()| room.filled().len())));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for a moment, or for ever when there is none.
pub(super) async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
