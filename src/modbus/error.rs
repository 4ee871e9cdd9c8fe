//! What can go wrong with one request, in words for people and as a fault of the readings.

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
    /// Bytes that are no frame.
    #[error("the answer could not be understood: {bytes} bytes that are no frame")]
    Garbage {
        /// How many bytes were seen.
        bytes: usize,
    },
    /// A TCP stream in which no frame boundary can be found any more.
    #[error("the answer could not be understood: the stream is out of step ({reason})")]
    OutOfStep {
        /// What gave it away.
        reason: &'static str,
    },
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
    #[error("{expected} data bytes were expected, {answered} came")]
    Length {
        /// Data bytes that the request asks for.
        expected: usize,
        /// Data bytes in the answer.
        answered: usize,
    },
}

impl PollError {
    /// What the readings of the block are marked with.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoAnswer { .. } => Fault::Timeout,
            Self::Exception(code) => Fault::Exception(*code),
            Self::WrongUnit { .. } => Fault::WrongUnit,
            Self::WrongAnswer(_) | Self::Refused { .. } | Self::UnitId { .. } | Self::NoRegisters | Self::NotAsked => {
                Fault::WrongAnswer
            }
            Self::BadChecksum { .. } => Fault::BadChecksum,
            Self::Garbage { .. } | Self::OutOfStep { .. } => Fault::Garbage,
            Self::LinkDown(_) | Self::UnknownDevice | Self::Stopped => Fault::LinkDown,
        }
    }

    /// True when the connection or port has to be opened again before the next request.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::LinkDown(_) | Self::OutOfStep { .. } | Self::Stopped => true,
            Self::NoAnswer { .. }
            | Self::Exception(_)
            | Self::WrongUnit { .. }
            | Self::WrongAnswer(_)
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
            Self::WrongUnit { .. } | Self::WrongAnswer(_) | Self::BadChecksum { .. } | Self::Garbage { .. } => true,
            Self::NoAnswer { .. }
            | Self::Exception(_)
            | Self::OutOfStep { .. }
            | Self::Refused { .. }
            | Self::UnitId { .. }
            | Self::NoRegisters
            | Self::NotAsked
            | Self::LinkDown(_)
            | Self::UnknownDevice
            | Self::Stopped => false,
        }
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
