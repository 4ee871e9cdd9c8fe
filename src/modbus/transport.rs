//! The two ways bytes travel, a TCP connection or a serial port, and the bytes that have arrived.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use crate::config::{Endpoint, Parity, SerialSettings};
use crate::kernel::switch_rs485_by_driver;
use crate::port;

/// An open connection or port.
pub(super) enum Transport {
    Tcp(TcpStream),
    Serial(SerialStream),
    /// For tests under paused time, where nothing but the runtime may wait.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl Transport {
    /// Opens the endpoint, or gives up after `wait`.
    pub(super) async fn open(endpoint: &Endpoint, wait: Duration) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } | Endpoint::RtuOverTcp { host, port } => {
                let connecting = TcpStream::connect((host.as_str(), *port));
                let connected = tokio::time::timeout(wait, connecting).await;
                let stream =
                    connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Rtu(settings) => {
                let opened = open_port(settings).map_err(|error| port::explained(&settings.port, &error));
                Ok(Self::Serial(opened?))
            }
            Endpoint::Text(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "a text link speaks no Modbus")),
        }
    }

    /// True for a TCP connection, whatever is framed on it.
    pub(super) fn is_tcp(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Serial(_) => false,
            #[cfg(test)]
            Self::Memory(_) => false,
        }
    }

    /// Hands the bytes to the kernel. A serial port may still be sending them when this returns.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Serial(port) => port.write_all(bytes).await,
            #[cfg(test)]
            Self::Memory(stream) => stream.write_all(bytes).await,
        }
    }

    /// Says that nothing more is sent.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Serial(_) => Ok(()),
            #[cfg(test)]
            Self::Memory(stream) => stream.shutdown().await,
        }
    }

    /// Waits for bytes. The end of the stream is an error. May be cancelled.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Tcp(stream) => stream.read(into).await,
            Self::Serial(port) => port.read(into).await,
            #[cfg(test)]
            Self::Memory(stream) => stream.read(into).await,
        };
        ended(read)
    }

    /// Takes what has already arrived; 0 when there is nothing. The end of the stream is an error.
    pub(super) fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(into),
            Self::Serial(port) => port.try_read(into),
            #[cfg(test)]
            Self::Memory(stream) => read_what_is_there(stream, into),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            read => ended(read),
        }
    }
}

#[cfg(test)]
fn read_what_is_there(stream: &mut tokio::io::DuplexStream, into: &mut [u8]) -> io::Result<usize> {
    use tokio::io::AsyncRead;
    let mut buffer = tokio::io::ReadBuf::new(into);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(stream).poll_read(&mut context, &mut buffer) {
        std::task::Poll::Ready(read) => read.map(|()| buffer.filled().len()),
        std::task::Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn ended(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other side")),
        read => read,
    }
}

fn open_port(settings: &SerialSettings) -> io::Result<SerialStream> {
    let data_bits = if settings.data_bits == 7 { DataBits::Seven } else { DataBits::Eight };
    let stop_bits = if settings.stop_bits == 2 { StopBits::Two } else { StopBits::One };
    let parity = match settings.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    let builder = tokio_serial::new(settings.port.to_string_lossy(), settings.baud_rate)
        .data_bits(data_bits)
        .stop_bits(stop_bits)
        .parity(parity)
        .flow_control(FlowControl::None);
    let port = SerialStream::open(&builder)?;
    if settings.rs485 {
        switch_rs485_by_driver(&port).map_err(|error| {
            let reason = format!("rs485 = \"driver\": the driver of this port cannot switch the direction ({error})");
            io::Error::new(error.kind(), reason)
        })?;
    }
    Ok(port)
}

/// Room for three of the longest frames: an answer never comes with more than a stale one before it.
const INBOUND_BYTES: usize = 1024;

/// Bytes that have arrived and are not used up yet.
pub(super) struct Inbound {
    bytes: Box<[u8; INBOUND_BYTES]>,
    length: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self { bytes: Box::new([0; INBOUND_BYTES]), length: 0 }
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == INBOUND_BYTES
    }

    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    pub(super) fn add(&mut self, count: usize) {
        self.length += count;
    }

    pub(super) fn drop_front(&mut self, count: usize) {
        self.bytes.copy_within(count..self.length, 0);
        self.length -= count;
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }
}
