//! What can go wrong with one request, in words for people and as a fault of the readings.

use std::fmt;
use std::io;
use std::time::Duration;

use super::exception::{self, Treatment};
use crate::model::{Fault, UnitId, UnitIdError};

/// Why a request gave no words.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Nothing usable arrived in time.
    #[error("no answer within {} ms", waited.as_millis())]
    NoAnswer {
        /// The timeout of the link.
        waited: Duration,
    },
    /// The device refused (Modbus Application Protocol 1.1b3, 7).
    #[error("{} answered with {}", exception::speaker(*.0), Fault::Exception(*.0))]
    Exception(u8),
    /// A sound frame, but from another unit.
    #[error("unit {asked} was asked, unit {answered} answered")]
    WrongUnit {
        /// Unit in the request.
        asked: UnitId,
        /// Unit in the answer.
        answered: u8,
    },
    /// A sound frame of the right unit that does not fit the request.
    #[error("the answer does not fit the request: {0}")]
    WrongAnswer(Mismatch),
    /// The frame has the expected length but not the expected CRC.
    #[error("bad checksum: the answer carries {carried:#06x}, its bytes give {computed:#06x}")]
    BadChecksum {
        /// CRC at the end of the frame.
        carried: u16,
        /// CRC of the bytes before it.
        computed: u16,
    },
    /// A sound frame that carries the number of another request than the one that was asked, and of none that was asked
    /// before (Modbus Messaging on TCP/IP 1.0b, 4.2.1).
    #[error(
        "transaction {asked} was asked, transaction {answered} answered, which nobody has asked: where a gateway numbers \
         its answers by itself, accept_transaction_id = \"any\" takes them"
    )]
    WrongTransaction {
        /// Transaction id of the request.
        asked: u16,
        /// Transaction id of the answer.
        answered: u16,
    },
    /// Bytes that are no frame.
    #[error("the answer could not be understood: {came} that are no frame")]
    Garbage {
        /// What came.
        came: Came,
    },
    /// A frame on RTU of which the end is missing.
    #[error("the answer broke off: it announces {announced} bytes, {came} came")]
    BrokenOff {
        /// Bytes of the frame, by its own account.
        announced: usize,
        /// Bytes that came.
        came: usize,
    },
    /// A TCP stream in which no answer can be found: the connection is of no further use.
    #[error("the answer could not be understood: {0}")]
    OutOfStep(StreamFault),
    /// The request itself is not allowed.
    #[error("{count} were asked for; one request reads 1 to {limit}")]
    Refused {
        /// Registers or bits asked for.
        count: u16,
        /// Most that one request may ask for.
        limit: u16,
    },
    /// No device of a serial line can have this unit id.
    #[error("unit id {unit}: {reason}")]
    UnitId {
        /// The unit id asked for.
        unit: UnitId,
        /// What is allowed.
        reason: UnitIdError,
    },
    /// The endpoint cannot be opened, or broke.
    #[error("link down: {0}")]
    LinkDown(#[source] io::Error),
    /// The link has no device of that name.
    #[error("no device of that name on this link")]
    UnknownDevice,
    /// The device has no registers: it speaks lines of text.
    #[error("the instrument on this link speaks lines of text: it has no registers to read")]
    NoRegisters,
    /// Nobody asks the device: it says its lines by itself.
    #[error("the instrument on this link speaks by itself: it cannot be polled faster")]
    NotAsked,
    /// The poller of the link has ended.
    #[error("the link is no longer polled")]
    Stopped,
}

/// How a sound frame fails to fit its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another function code.
    #[error("function {asked} was asked, function {answered} answered")]
    Function {
        /// Function code in the request.
        asked: u8,
        /// Function code in the answer.
        answered: u8,
    },
    /// Another number of data bytes.
    #[error("{expected} data bytes were expected; it announces {announced}, {answered} came")]
    Length {
        /// Data bytes that the request asks for.
        expected: usize,
        /// Data bytes that the answer announces.
        announced: usize,
        /// Data bytes in the answer.
        answered: usize,
    },
    /// A write is answered with something else than was written.
    #[error("the answer does not repeat what was written")]
    NotRepeated,
    /// Identification objects that do not fit their own lengths.
    #[error("its {bytes} bytes hold fewer identification objects than it announces")]
    Objects {
        /// Bytes of the answer from the function code on.
        bytes: usize,
    },
}

/// Why nothing can be made of a TCP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// No header of Modbus TCP (Modbus Messaging on TCP/IP 1.0b, 4.1).
    #[error("{0} without a header of Modbus TCP")]
    NoHeader(Came),
    /// The bytes are a frame as on a serial line.
    #[error("{0}, a frame as on a serial line: the gateway passes RTU through, which is rtu_over_tcp and not tcp")]
    RtuFrame(Came),
    /// The end of a frame is missing.
    #[error("the answer broke off: it announces {announced} bytes, {came} came")]
    BrokenOff {
        /// Bytes of the frame, by its own account, header included.
        announced: usize,
        /// Bytes that came.
        came: usize,
    },
}

/// Bytes that came: how many, and the first of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// How many.
    pub bytes: usize,
    head: [u8; Came::SHOWN],
}

impl Came {
    const SHOWN: usize = 12;

    /// What came is `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self::counted(bytes.len(), bytes)
    }

    /// So many bytes came, of which `head` are some.
    pub fn counted(bytes: usize, head: &[u8]) -> Self {
        let mut shown = [0; Self::SHOWN];
        shown.iter_mut().zip(head).for_each(|(shown, byte)| *shown = *byte);
        Self { bytes, head: shown }
    }
}

/// `2 bytes (01 83)`, `30 bytes (55 55 ... )`.
impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{} (", self.bytes, if self.bytes == 1 { "" } else { "s" })?;
        for (index, byte) in self.head.iter().take(self.bytes).enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { " " })?;
        }
        f.write_str(if self.bytes > Self::SHOWN { " ...)" } else { ")" })
    }
}

impl fmt::Debug for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PollError {
    /// What the readings of the block are marked with.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoAnswer { .. } => Fault::Timeout,
            Self::Exception(code) => Fault::Exception(*code),
            Self::WrongUnit { .. } => Fault::WrongUnit,
            Self::WrongAnswer(_)
            | Self::WrongTransaction { .. }
            | Self::Refused { .. }
            | Self::UnitId { .. }
            | Self::NoRegisters
            | Self::NotAsked => Fault::WrongAnswer,
            Self::BadChecksum { .. } => Fault::BadChecksum,
            Self::Garbage { .. } | Self::BrokenOff { .. } | Self::OutOfStep(_) => Fault::Garbage,
            Self::LinkDown(_) | Self::UnknownDevice | Self::Stopped => Fault::LinkDown,
        }
    }

    /// True when the connection or port has to be opened again before the next request.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::LinkDown(_) | Self::OutOfStep(_) | Self::Stopped => true,
            Self::NoAnswer { .. }
            | Self::Exception(_)
            | Self::WrongUnit { .. }
            | Self::WrongAnswer(_)
            | Self::WrongTransaction { .. }
            | Self::BrokenOff { .. }
            | Self::BadChecksum { .. }
            | Self::Garbage { .. }
            | Self::Refused { .. }
            | Self::UnitId { .. }
            | Self::NoRegisters
            | Self::NotAsked
            | Self::UnknownDevice => false,
        }
    }

    /// True when something came back that was no good: worth one more try at once.
    pub fn is_bad_frame(&self) -> bool {
        match self {
            Self::WrongUnit { .. }
            | Self::WrongAnswer(_)
            | Self::BadChecksum { .. }
            | Self::Garbage { .. }
            | Self::BrokenOff { .. } => true,
            Self::NoAnswer { .. }
            | Self::Exception(_)
            | Self::WrongTransaction { .. }
            | Self::OutOfStep(_)
            | Self::Refused { .. }
            | Self::UnitId { .. }
            | Self::NoRegisters
            | Self::NotAsked
            | Self::LinkDown(_)
            | Self::UnknownDevice
            | Self::Stopped => false,
        }
    }

    /// True when bytes came that were no answer, good or bad: somebody is there.
    pub fn is_not_understood(&self) -> bool {
        self.is_bad_frame() || matches!(self, Self::WrongTransaction { .. } | Self::OutOfStep(_))
    }

    /// The reason without the words that say which kind it is, to be said behind those.
    pub fn reason(&self) -> String {
        match self {
            Self::LinkDown(error) => error.to_string(),
            other => other.to_string(),
        }
    }

    /// True when the other side has closed the connection.
    pub fn is_closed_by_peer(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let Self::LinkDown(error) = self else { return false };
        matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
    }

    /// Whether nothing was sent: what was asked for cannot be asked.
    pub fn is_of_the_asker(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::UnitId { .. } | Self::NoRegisters | Self::NotAsked)
    }

    /// True when the device itself has spoken: an exception, unless a gateway on the way reports that it cannot
    /// reach the device (Modbus Application Protocol 1.1b3, 7: codes 10 and 11).
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Exception(code) if exception::treatment(*code) != Treatment::Unreachable)
    }
}
