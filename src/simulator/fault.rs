//! What can be wrong with a simulated device.

use std::time::Duration;

use super::wire::{Framing, Request};

/// One way for a device to be wrong; stays until it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Never answers.
    Silent,
    /// Thinks this much longer; later requests on its link wait behind it.
    Slow(Duration),
    /// Answers after this time, whatever was asked meanwhile.
    Late(Duration),
    /// Answers every request with this exception code.
    Exception(u8),
    /// Answers as the next unit.
    WrongUnit,
    /// Answers another function than the one asked.
    WrongFunction,
    /// Answers one register too few (one byte too many where bits were asked), in a frame that is right by itself.
    WrongLength,
    /// A CRC that does not match; on TCP, which has none, a protocol identifier that is not Modbus.
    BadCrc,
    /// As many bytes as the answer has, without sense.
    Garbage,
    /// The first half of the answer, then silence.
    Truncated,
    /// Closes the connection instead of answering; on a serial line the same as silence.
    Disconnect,
    /// The request comes back before the answer, as from a half-duplex adapter with its receiver on.
    Echo,
}

/// A time when a device is dead, counted from the start of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Dies.
    pub from: Duration,
    /// Returns.
    pub until: Duration,
}

impl Outage {
    /// True from the death, false again from the return.
    pub fn covers(&self, now: Duration) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// What shall happen after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    Nothing,
    Close,
    Answer {
        /// Beyond what the device and the line need.
        delay: Duration,
        /// False where later requests overtake.
        in_turn: bool,
        /// True when a client has to take the answer, an exception included, for what it asked.
        intact: bool,
    },
}

impl Misbehaviour {
    /// Appends the answer as this device gives it to `out`. `pdu` is what it should have answered, and is spoiled.
    pub(super) fn spoil(
        self,
        framing: Framing,
        request: &Request<'_>,
        pdu: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Reaction {
        let start = out.len();
        let mut unit = request.unit;
        match self {
            Self::Silent | Self::Disconnect => return self.reaction(),
            Self::WrongUnit => unit = unit.wrapping_add(1),
            Self::WrongFunction => pdu[0] = neighbour(pdu[0]),
            Self::WrongLength => change_length(pdu),
            Self::Exception(code) => {
                pdu.clear();
                pdu.extend_from_slice(&[request.pdu[0] | 0x80, code]);
            }
            Self::Echo => out.extend_from_slice(request.bytes),
            Self::Slow(_) | Self::Late(_) | Self::BadCrc | Self::Garbage | Self::Truncated => {}
        }
        framing.frame(request.transaction, unit, pdu, out);
        let frame = &mut out[start..];
        match (self, framing) {
            (Self::BadCrc, Framing::Tcp) => frame[2] ^= 0x55,
            (Self::BadCrc, Framing::Rtu) => frame.iter_mut().rev().take(1).for_each(|byte| *byte ^= 0xff),
            (Self::Garbage, _) => frame.iter_mut().zip((0..=u8::MAX).cycle()).for_each(|(byte, position)| {
                *byte = position.wrapping_mul(73) ^ 0xc5;
            }),
            (Self::Truncated, _) => {
                let half = frame.len() / 2;
                out.truncate(start + half);
            }
            // Wrong in what the frame says, not in the frame; or in nothing but time.
            (_, Framing::Tcp | Framing::Rtu) => {}
        }
        self.reaction()
    }

    fn reaction(self) -> Reaction {
        let answer = |delay, in_turn, intact| Reaction::Answer { delay, in_turn, intact };
        match self {
            Self::Silent => Reaction::Nothing,
            Self::Disconnect => Reaction::Close,
            Self::Slow(delay) => answer(delay, true, true),
            Self::Late(delay) => answer(delay, false, true),
            Self::Exception(_) | Self::Echo => answer(Duration::ZERO, true, true),
            Self::WrongUnit
            | Self::WrongFunction
            | Self::WrongLength
            | Self::BadCrc
            | Self::Garbage
            | Self::Truncated => answer(Duration::ZERO, true, false),
        }
    }
}

/// Another function with an answer of the same shape.
fn neighbour(function: u8) -> u8 {
    match function & 0x7f {
        1 | 3 => function + 1,
        2 | 4 => function - 1,
        _ => function ^ 1,
    }
}

fn change_length(pdu: &mut Vec<u8>) {
    match (pdu.first(), pdu.len()) {
        (Some(3 | 4), 4..) => {
            pdu.truncate(pdu.len() - 2);
            pdu[1] -= 2;
        }
        (Some(1 | 2), 3..) => {
            pdu.push(0);
            pdu[1] += 1;
        }
        _ => pdu.push(0),
    }
}
