//! A Modbus server for tests that misbehaves as told, on TCP or on a pseudo terminal.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lineside::config::{Endpoint, Parity, SerialSettings};
use lineside::modbus::frame::crc16;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_serial::{SerialPort, SerialStream};

/// A request as the peer saw it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub transaction: u16,
    pub unit: u8,
    pub function: u8,
    pub address: u16,
    pub count: u16,
    /// How many came before it.
    pub number: usize,
    pub at: Instant,
}

/// What the peer does, one after the other, before it looks at the next request.
#[derive(Debug, Clone)]
pub enum Deed {
    Wait(Duration),
    /// A PDU, framed as on this link and sent as this unit.
    Answer(u8, Vec<u8>),
    /// The same, but nothing at all when it has become later than this: a machine that is busy must not make an answer
    /// later than it is meant to be.
    AnswerBy(Instant, u8, Vec<u8>),
    /// Bytes as they are.
    Raw(Vec<u8>),
    Close,
}

pub type Behaviour = Arc<dyn Fn(Asked) -> Vec<Deed> + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Mbap,
    Rtu,
}

/// A running peer; ends with the runtime.
pub struct Peer {
    pub endpoint: Endpoint,
    pub asked: mpsc::Receiver<Asked>,
    /// Keeps the pseudo terminal open while no client is there.
    _line: Option<File>,
}

/// The register that says who and where it is.
pub fn register(unit: u8, address: u16) -> u16 {
    u16::from(unit) * 5000 + address
}

/// The PDU of a truthful answer.
pub fn truth(asked: Asked) -> Vec<u8> {
    let data: Vec<u8> = if asked.function <= 2 {
        let bits = (0..asked.count).map(|index| (asked.address + index).is_multiple_of(3));
        bits.collect::<Vec<bool>>().chunks(8).map(pack).collect()
    } else {
        (0..asked.count).flat_map(|index| register(asked.unit, asked.address + index).to_be_bytes()).collect()
    };
    [vec![asked.function, u8::try_from(data.len()).unwrap()], data].concat()
}

fn pack(bits: &[bool]) -> u8 {
    bits.iter().enumerate().map(|(index, bit)| u8::from(*bit) << index).sum()
}

pub fn with_crc(body: &[u8]) -> Vec<u8> {
    [body, &crc16(body).to_le_bytes()].concat()
}

/// A peer on a TCP port of its own.
pub async fn on_tcp(framing: Framing, behaviour: Behaviour) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (host, port) = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
    let (log, asked) = mpsc::channel(10_000);
    tokio::spawn(accept(listener, framing, behaviour, log));
    let endpoint = match framing {
        Framing::Mbap => Endpoint::Tcp { host, port },
        Framing::Rtu => Endpoint::RtuOverTcp { host, port },
    };
    Peer { endpoint, asked, _line: None }
}

/// Serves every connection made to `listener`.
pub async fn accept(listener: TcpListener, framing: Framing, behaviour: Behaviour, log: mpsc::Sender<Asked>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        tokio::spawn(serve(stream, framing, Arc::clone(&behaviour), log.clone()));
    }
}

/// A peer on a pseudo terminal. No bytes are paced: the baud rate only shapes what the client does.
pub fn on_pty(baud_rate: u32, behaviour: Behaviour) -> Peer {
    let (master, mut line) = SerialStream::pair().unwrap();
    let port = PathBuf::from(line.name().unwrap());
    line.set_exclusive(false).unwrap();
    let no_terminal = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    let held = File::options().read(true).write(true).custom_flags(no_terminal).open(&port).unwrap();
    drop(line);
    let (log, asked) = mpsc::channel(10_000);
    tokio::spawn(serve(master, Framing::Rtu, behaviour, log));
    let settings = SerialSettings { port, baud_rate, parity: Parity::None, data_bits: 8, stop_bits: 1, rs485: false };
    Peer { endpoint: Endpoint::Rtu(settings), asked, _line: Some(held) }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    framing: Framing,
    behaviour: Behaviour,
    log: mpsc::Sender<Asked>,
) {
    let mut number = 0;
    while let Some(asked) = next_request(&mut stream, framing, number).await {
        number += 1;
        let _ = log.try_send(asked);
        for deed in behaviour(asked) {
            let bytes = match deed {
                Deed::Wait(span) => {
                    tokio::time::sleep(span).await;
                    continue;
                }
                Deed::Close => return,
                Deed::Raw(bytes) => bytes,
                Deed::AnswerBy(latest, ..) if Instant::now() > latest => continue,
                Deed::AnswerBy(_, unit, pdu) => framed(framing, asked.transaction, unit, &pdu),
                Deed::Answer(unit, pdu) => framed(framing, asked.transaction, unit, &pdu),
            };
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

pub fn framed(framing: Framing, transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let body = [&[unit], pdu].concat();
    match framing {
        Framing::Rtu => with_crc(&body),
        Framing::Mbap => {
            let length = u16::try_from(body.len()).unwrap();
            [&transaction.to_be_bytes(), &[0, 0][..], &length.to_be_bytes(), &body].concat()
        }
    }
}

async fn next_request(stream: &mut (impl AsyncRead + Unpin), framing: Framing, number: usize) -> Option<Asked> {
    let mut frame = [0; 12];
    let body = match framing {
        Framing::Mbap => {
            stream.read_exact(&mut frame).await.ok()?;
            &frame[6..]
        }
        Framing::Rtu => {
            stream.read_exact(&mut frame[..8]).await.ok()?;
            assert_eq!(with_crc(&frame[..6]), frame[..8], "the request has a bad checksum");
            &frame[..6]
        }
    };
    let pair = |index: usize| u16::from_be_bytes([body[index], body[index + 1]]);
    Some(Asked {
        transaction: u16::from_be_bytes([frame[0], frame[1]]),
        unit: body[0],
        function: body[1],
        address: pair(2),
        count: pair(4),
        number,
        at: Instant::now(),
    })
}
