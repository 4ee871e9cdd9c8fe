//! The answer among the bytes that came in on an RTU line. Pure.
//!
//! ```text
//!   00   01 03 02 00 D7 F8 1A   FF
//!   |    `---- the answer ----'  |
//!   `-- stray                    `-- stray
//! ```
//!
//! A line without bias or termination gives a byte or two when the direction changes. They stand before or behind an
//! otherwise whole frame: the frame is taken where unit, function, length and CRC are those of the answer that is
//! waited for, and at most [`STRAY_MAX`] bytes stand on either side of it. An answer of a neighbour, a second copy of the
//! answer and the echo of the request are all longer than that.

use super::error::{Came, PollError};
use super::frame::{self, EXCEPTION_BIT, RTU_EXCEPTION, RTU_OVERHEAD, crc16};
use super::objects;

/// Most bytes on either side of a frame that are taken for stray ones: fewer than the shortest frame has.
pub const STRAY_MAX: usize = 4;

/// The answer that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    /// Who was asked.
    pub unit: u8,
    /// What was asked.
    pub function: u8,
    /// The request, while the line may still give it back.
    pub echo: Option<&'a [u8]>,
    /// What stands behind the function code.
    pub shape: Shape<'a>,
    /// Most bytes that may stand behind the frame.
    pub behind_max: usize,
}

/// How the length of an answer is known.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// A byte count, which is this, and so many bytes.
    Data(usize),
    /// Identification objects, each with its length.
    Objects,
    /// Exactly this frame.
    Frame(&'a [u8]),
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed to tell.
    Partial,
    /// The answer, or an exception, stands between these two.
    Whole {
        /// Its first byte.
        start: usize,
        /// Behind its last byte.
        end: usize,
    },
    /// The line gave back our own request: some RS-485 adapters hear themselves. It is to be dropped.
    Echo {
        /// Behind its last byte.
        end: usize,
    },
    /// Not the answer that was asked for; where it ends only silence can tell.
    Unexpected,
}

/// What can be said of bytes in which no answer was found.
#[derive(Debug)]
pub enum Failed<'a> {
    /// A frame with a right CRC, but another one.
    Other {
        /// Who sent it.
        unit: u8,
        /// From the function code on.
        pdu: &'a [u8],
    },
    /// Nothing that can be used.
    Useless(PollError),
}

/// What the bytes from some place on are by their beginning.
enum Fit {
    /// Not the answer.
    Not,
    /// It may become the answer.
    Open,
    /// The answer, if its CRC is right; so long, CRC included.
    Length(usize),
}

impl Awaited<'_> {
    /// Judges the bytes received so far.
    pub fn progress(&self, received: &[u8]) -> Progress {
        let starts = 0..=received.len().min(STRAY_MAX);
        if let Some(echo) = self.echo
            && let Some(start) = starts.clone().find(|start| received[*start..].starts_with(echo))
        {
            return Progress::Echo { end: start + echo.len() };
        }
        let mut may_come = false;
        for start in starts {
            let tail = &received[start..];
            // An answer that begins like the request is only read as one when it cannot be an echo.
            let may_be_echo = self.echo.is_some_and(|echo| echo.starts_with(tail));
            match self.fit(tail) {
                _ if may_be_echo => may_come = true,
                Fit::Not => {}
                Fit::Open => may_come = true,
                Fit::Length(length) if tail.len() < length => may_come = true,
                Fit::Length(length) => {
                    if is_sealed(&tail[..length]) && tail.len() - length <= self.behind_max {
                        return Progress::Whole { start, end: start + length };
                    }
                }
            }
        }
        if may_come { Progress::Partial } else { Progress::Unexpected }
    }

    /// What came instead, when no more comes.
    pub fn failed<'b>(&self, received: &'b [u8]) -> Failed<'b> {
        let fits = (0..=received.len().min(STRAY_MAX)).map(|start| (start, self.fit(&received[start..])));
        let length = fits.filter_map(|(start, fit)| match fit {
            Fit::Length(length) => Some((&received[start..], length)),
            Fit::Not | Fit::Open => None,
        });
        let found: Vec<(&[u8], usize)> = length.collect();
        if let Some((body, crc)) = found.iter().find_map(|(tail, length)| tail.get(..*length)?.split_last_chunk::<2>())
            && crc16(body) != u16::from_le_bytes(*crc)
            && other(received).is_none()
        {
            let (carried, computed) = (u16::from_le_bytes(*crc), crc16(body));
            return Failed::Useless(PollError::BadChecksum { carried, computed });
        }
        if let Some((unit, pdu)) = other(received) {
            return Failed::Other { unit, pdu };
        }
        Failed::Useless(match found.first() {
            Some((tail, announced)) if tail.len() < *announced => {
                PollError::BrokenOff { announced: *announced, came: tail.len() }
            }
            Some(_) | None => PollError::Garbage { came: Came::new(received) },
        })
    }

    fn fit(&self, tail: &[u8]) -> Fit {
        match *tail {
            [] => Fit::Open,
            [unit, ..] if unit != self.unit => Fit::Not,
            [_] => Fit::Open,
            [_, answered, ..] if answered == self.function | EXCEPTION_BIT => Fit::Length(RTU_EXCEPTION),
            [_, answered, ..] if answered != self.function => Fit::Not,
            [_, _, ref rest @ ..] => match (self.shape, rest) {
                (Shape::Data(_), []) => Fit::Open,
                (Shape::Data(expected), [bytes, ..]) if usize::from(*bytes) == expected => {
                    Fit::Length(RTU_OVERHEAD + expected)
                }
                (Shape::Data(_), [_, ..]) => Fit::Not,
                (Shape::Objects, _) => objects::rtu_length(tail).map_or(Fit::Open, Fit::Length),
                (Shape::Frame(frame), _) if frame.starts_with(tail) || tail.starts_with(frame) => {
                    Fit::Length(frame.len())
                }
                (Shape::Frame(_), _) => Fit::Not,
            },
        }
    }
}

/// Unit and PDU of the frame that the bytes are, some stray ones aside.
fn other(received: &[u8]) -> Option<(u8, &[u8])> {
    let ends = (0..=STRAY_MAX).filter_map(|behind| received.len().checked_sub(behind));
    let spans = ends.flat_map(|end| (0..=STRAY_MAX).map(move |start| start..end));
    // Shorter than an exception there is no frame, and a CRC of two bytes is right by chance now and then.
    let mut frames = spans.filter(|span| span.len() >= RTU_EXCEPTION);
    frames.find_map(|span| frame::rtu_parts(received.get(span)?))
}

fn is_sealed(frame: &[u8]) -> bool {
    frame.split_last_chunk::<2>().is_some_and(|(body, crc)| crc16(body) == u16::from_le_bytes(*crc))
}

/// `body`, from the unit id on, with its CRC behind it.
pub fn with_crc(body: &[u8]) -> Vec<u8> {
    [body, &crc16(body).to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::frame::ReadRequest;
    use crate::model::UnitId;
    use crate::profile::Table;

    const ASKED: [u8; 8] = [1, 3, 0, 0, 0, 2, 0xC4, 0x0B];

    fn awaited() -> Awaited<'static> {
        Awaited { unit: 1, function: 3, echo: Some(&ASKED), shape: Shape::Data(4), behind_max: STRAY_MAX }
    }

    fn answer() -> Vec<u8> {
        with_crc(&[1, 3, 4, 0, 1, 0, 2])
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte() {
        let answer = answer();
        for length in 0..answer.len() {
            assert_eq!(awaited().progress(&answer[..length]), Progress::Partial, "{length} bytes");
        }
        assert_eq!(awaited().progress(&answer), Progress::Whole { start: 0, end: 9 });
        assert_eq!(awaited().progress(&[&answer[..], &answer].concat()), Progress::Unexpected);
        assert_eq!(awaited().progress(&[1, 3, 6, 0, 0, 0]), Progress::Unexpected);
    }

    #[test]
    fn up_to_four_stray_bytes_on_either_side_do_no_harm() {
        for stray in [0x00, 0xFF, 0x01, 0x5F] {
            for (before, behind) in [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (4, 4)] {
                for frame in [answer(), with_crc(&[1, 0x83, 2])] {
                    let bytes = [vec![stray; before], frame.clone(), vec![stray; behind]].concat();
                    let whole = Progress::Whole { start: before, end: before + frame.len() };
                    assert_eq!(awaited().progress(&bytes), whole, "{bytes:02x?}");
                    let cut = before + frame.len() - 1;
                    assert_eq!(awaited().progress(&bytes[..cut]), Progress::Partial, "{bytes:02x?}");
                }
            }
            let bytes = [vec![stray; 5], answer()].concat();
            assert!(!matches!(awaited().progress(&bytes), Progress::Whole { .. }), "{bytes:02x?}");
        }
    }

    #[test]
    fn an_echo_is_dropped_with_what_stands_before_it_and_never_read_as_an_answer() {
        assert_eq!(awaited().progress(&[&[0][..], &ASKED].concat()), Progress::Echo { end: 9 });
        for address in 0..=u16::MAX {
            for (table, count) in [(Table::Coils, 5), (Table::HoldingRegisters, 1), (Table::Coils, 24)] {
                let request = ReadRequest { unit: UnitId::tcp(1).unwrap(), table, address, count };
                let echo = [&[0][..], &request.to_rtu()].concat();
                let awaited = Awaited {
                    function: table.read_function(),
                    echo: Some(&echo[1..]),
                    shape: Shape::Data(request.data_bytes()),
                    ..awaited()
                };
                for received in [&echo[..], &echo[1..]] {
                    let mut seen = (1..=received.len()).map(|length| awaited.progress(&received[..length]));
                    assert!(seen.all(|progress| !matches!(progress, Progress::Whole { .. })), "{request:?}");
                }
            }
        }
    }

    #[test]
    fn what_came_instead_is_named() {
        let text = |received: &[u8]| match awaited().failed(received) {
            Failed::Other { unit, pdu } => format!("unit {unit} {pdu:02x?}"),
            Failed::Useless(error) => error.to_string(),
        };
        let mut damaged = answer();
        damaged[4] ^= 1;
        assert!(text(&damaged).starts_with("bad checksum: the answer carries"), "{}", text(&damaged));
        assert_eq!(text(&answer()[..6]), "the answer broke off: it announces 9 bytes, 6 came");
        assert_eq!(text(&[&[0xFF][..], &with_crc(&[2, 0x83, 4])].concat()), "unit 2 [83, 04]");
        assert_eq!(text(&[0x55; 3]), "the answer could not be understood: 3 bytes (55 55 55) that are no frame");
        assert!(text(&[0x55; 30]).contains("30 bytes (55 55 55 55 55 55 55 55 55 55 55 55 ...)"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_only_a_sealed_frame_is_whole(
            bytes in proptest::collection::vec(0_u8.., 0..300), expected in 1_usize..=250,
        ) {
            for shape in [Shape::Data(expected), Shape::Objects, Shape::Frame(&ASKED)] {
                let awaited = Awaited { shape, ..awaited() };
                let _ = awaited.failed(&bytes);
                if let Progress::Whole { start, end } = awaited.progress(&bytes) {
                    proptest::prop_assert!(start <= STRAY_MAX && is_sealed(&bytes[start..end]));
                }
            }
        }
    }
}
