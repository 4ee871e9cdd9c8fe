//! The serial port of one text instrument: open it, listen to it, ask it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_serial::{SerialPortBuilderExt, SerialStream};

use crate::clock::Clock;
use crate::config::{Parity, SerialSettings};
use crate::kernel::switch_rs485_by_driver;
use crate::model::{Fault, Timestamp};
use crate::port;

use super::frame::{Frame, LineCutter};
use super::pattern::{LineReader, LineReading};

/// Bytes taken from the port at once: 45 ms of a line at 115,200 baud.
const CHUNK: usize = 512;

/// Bytes of a line that is shown because nothing understands it.
const SHOWN_MAX: usize = 80;

/// How many timeouts in all to wait for an instrument to fall silent. One that talks without end never does.
const QUIET_WITHIN: u32 = 4;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum InstrumentError {
    /// The port is missing, in use by another program, or refuses the settings.
    #[error("{source}")]
    Open {
        /// Device file.
        port: PathBuf,
        /// What the system said, with the port and what to do.
        source: io::Error,
    },
    /// The port was unplugged: end of file, or another device stands at its path.
    #[error("serial port {}: gone", port.display())]
    Gone {
        /// Device file.
        port: PathBuf,
    },
    /// Reading or writing failed.
    #[error("serial port {}: {source}", port.display())]
    Broken {
        /// Device file.
        port: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No line that is an answer came in time.
    #[error("serial port {}: no answer within {timeout:?}", port.display())]
    NoAnswer {
        /// Device file.
        port: PathBuf,
        /// How long the answer was waited for.
        timeout: Duration,
    },
}

impl InstrumentError {
    /// True when the port has to be opened again.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Gone { .. } | Self::Broken { .. } => true,
            Self::NoAnswer { .. } => false,
        }
    }

    /// What it makes of the readings that were due.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Open { .. } | Self::Gone { .. } | Self::Broken { .. } => Fault::LinkDown,
            Self::NoAnswer { .. } => Fault::Timeout,
        }
    }
}

/// A line that was heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// When the bytes with the end of the line were taken from the port.
    pub time: Timestamp,
    /// What the line says.
    pub reading: LineReading,
    /// The line as it came, printable and cut to 80 bytes, where it says nothing that is understood.
    pub raw: Option<Box<str>>,
}

/// An open port and the lines that come through it.
pub struct Instrument<P = SerialStream> {
    path: PathBuf,
    port: P,
    /// Device and inode numbers of the device file when it was opened.
    opened: Option<(u64, u64, u64)>,
    cutter: LineCutter,
    reader: Arc<LineReader>,
    clock: Arc<dyn Clock>,
    chunk: Box<[u8; CHUNK]>,
    /// The part of `chunk` that is not cut into lines yet, and when it was read.
    unread: std::ops::Range<usize>,
    read_at: Timestamp,
    /// An ask was given up: its answer may still come.
    owes_an_answer: bool,
    late_lines: u64,
}

impl Instrument<SerialStream> {
    /// Opens the port, for this process alone.
    ///
    /// # Errors
    /// [`InstrumentError::Open`] when it is missing, in use or refuses the settings.
    pub fn open(
        settings: &SerialSettings,
        frame_end: &[u8],
        frame_max: usize,
        reader: Arc<LineReader>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InstrumentError> {
        let path = &settings.port;
        let port = tokio_serial::new(path.to_string_lossy(), settings.baud_rate)
            .parity(match settings.parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            })
            .data_bits(if settings.data_bits == 7 {
                tokio_serial::DataBits::Seven
            } else {
                tokio_serial::DataBits::Eight
            })
            .stop_bits(if settings.stop_bits == 2 { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One })
            .open_native_async()
            .map_err(|error| {
                let source = port::explained(path, &error.into());
                InstrumentError::Open { port: path.clone(), source }
            })?;
        if settings.rs485 {
            switch_rs485_by_driver(&port).map_err(|source| InstrumentError::Open { port: path.clone(), source })?;
        }
        let opened = file_identity(path);
        Ok(Self { opened, ..Self::over(port, path, LineCutter::new(frame_end, frame_max), reader, clock) })
    }

    /// Says whether the port is still the one at its path.
    ///
    /// Some adapters say nothing when they are pulled out: the open port stays silent for ever, while a new device
    /// file takes its place.
    ///
    /// # Errors
    /// [`InstrumentError::Gone`] when it is not.
    pub fn check_plugged(&self) -> Result<(), InstrumentError> {
        if file_identity(&self.path) == self.opened {
            Ok(())
        } else {
            Err(InstrumentError::Gone { port: self.path.clone() })
        }
    }
}

/// Bytes as people can read them.
fn printable(line: &[u8]) -> Box<str> {
    let shown = &line[..line.len().min(SHOWN_MAX)];
    let more = if shown.len() < line.len() { "..." } else { "" };
    format!("{}{more}", shown.escape_ascii()).into()
}

/// What tells one device file from a later one at the same path.
fn file_identity(path: &Path) -> Option<(u64, u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino(), file.rdev()))
}

impl<P: AsyncRead + AsyncWrite + Unpin> Instrument<P> {
    fn over(port: P, path: &Path, cutter: LineCutter, reader: Arc<LineReader>, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.to_owned(),
            port,
            opened: None,
            cutter,
            reader,
            clock,
            chunk: Box::new([0; CHUNK]),
            unread: 0..0,
            read_at: Timestamp::default(),
            owes_an_answer: false,
            late_lines: 0,
        }
    }

    /// The next line, whenever it comes. Nothing is lost when the wait is cancelled.
    ///
    /// # Errors
    /// [`InstrumentError::Gone`] and [`InstrumentError::Broken`]: the port is of no use any more.
    pub async fn next(&mut self) -> Result<Heard, InstrumentError> {
        loop {
            let mut input = &self.chunk[self.unread.clone()];
            let frame = self.cutter.take(&mut input);
            self.unread.start = self.unread.end - input.len();
            if let Some(frame) = frame {
                let (reading, line) = match frame {
                    Frame::Line(line) => (self.reader.read(line), line),
                    Frame::TooLong => (LineReading::Garbage, &[][..]),
                };
                let raw = match reading {
                    LineReading::NoMatch | LineReading::BadChecksum { .. } => Some(printable(line)),
                    LineReading::Points { .. } | LineReading::Ignored | LineReading::Garbage => None,
                };
                return Ok(Heard { time: self.read_at, reading, raw });
            }
            self.fill().await?;
        }
    }

    /// Sends `request` and gives the first line after it that the profile does not ignore.
    ///
    /// Whatever came before the request is not its answer and is dropped.
    ///
    /// # Errors
    /// [`InstrumentError::NoAnswer`] after `patience`; [`settle`](Self::settle) before the next request then.
    /// [`InstrumentError::Gone`] and [`InstrumentError::Broken`]: the port is of no use any more.
    pub async fn ask(&mut self, request: &[u8], patience: Duration) -> Result<Heard, InstrumentError> {
        self.settle(patience).await?;
        self.drop_stale().await?;
        self.owes_an_answer = true;
        match timeout(patience, self.exchange(request)).await {
            Ok(answer) => {
                self.owes_an_answer = answer.is_err();
                answer
            }
            Err(_) => Err(InstrumentError::NoAnswer { port: self.path.clone(), timeout: patience }),
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Heard, InstrumentError> {
        let written = async {
            self.port.write_all(request).await?;
            self.port.flush().await
        };
        written.await.map_err(|source| InstrumentError::Broken { port: self.path.clone(), source })?;
        loop {
            let heard = self.next().await?;
            if heard.reading != LineReading::Ignored {
                return Ok(heard);
            }
        }
    }

    /// After an ask that was given up: waits until nothing came for the time an answer may take, so that a late
    /// answer is not taken for the next one. Returns at once otherwise.
    ///
    /// # Errors
    /// [`InstrumentError::Gone`] and [`InstrumentError::Broken`]: the port is of no use any more.
    pub async fn settle(&mut self, patience: Duration) -> Result<(), InstrumentError> {
        if !self.owes_an_answer {
            return Ok(());
        }
        let give_up = Instant::now() + patience * QUIET_WITHIN;
        loop {
            self.drop_unread();
            match timeout_at(give_up.min(Instant::now() + patience), self.fill()).await {
                Ok(filled) => filled?,
                Err(_) => break,
            }
        }
        self.owes_an_answer = false;
        Ok(())
    }

    /// Lines that were dropped since the last call because they came before the request they would have answered.
    pub fn take_late_lines(&mut self) -> u64 {
        std::mem::take(&mut self.late_lines)
    }

    /// Drops what lies in the port and what is left of earlier reads.
    async fn drop_stale(&mut self) -> Result<(), InstrumentError> {
        // Lets the runtime look at the port: bytes it has not been told of would pass for the answer.
        tokio::task::yield_now().await;
        loop {
            self.drop_unread();
            match timeout(Duration::ZERO, self.fill()).await {
                Ok(filled) => filled?,
                Err(_) => break,
            }
        }
        self.cutter.forget();
        Ok(())
    }

    /// Cuts what was read into lines and counts them instead of reading them.
    fn drop_unread(&mut self) {
        let mut input = &self.chunk[self.unread.clone()];
        while self.cutter.take(&mut input).is_some() {
            self.late_lines += 1;
        }
        self.unread = 0..0;
    }

    /// Waits for bytes. Called only when all bytes read before are cut into lines.
    async fn fill(&mut self) -> Result<(), InstrumentError> {
        match self.port.read(&mut self.chunk[..]).await {
            Ok(0) => Err(InstrumentError::Gone { port: self.path.clone() }),
            Ok(count) => {
                self.read_at = self.clock.wall();
                self.unread = 0..count;
                Ok(())
            }
            Err(source) => Err(InstrumentError::Broken { port: self.path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests;
