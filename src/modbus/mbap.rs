//! The answer among the bytes of a Modbus TCP stream. Pure.
//!
//! Frames are walked one after the other by their headers, as long as each begins with the number of a request: the one
//! that is waited for, or an earlier one whose answer is missing. Anything else may be what a device sends beyond its
//! frames, or the rest of a frame that was dropped: then the answer is searched by all that is known of it (transaction
//! id, protocol 0, unit, function, byte count), so that no byte of something else is read as a header.

use super::error::{Came, StreamFault};
use super::frame::{self, EXCEPTION_BIT, FRAME_MAX, MBAP_PREFIX};

/// Transaction id, protocol, length, unit.
const HEADER: usize = MBAP_PREFIX + 1;

/// The answer that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    /// The number of the request; `None` where a gateway numbers its answers by itself.
    pub transaction: Option<u16>,
    /// Requests of this connection whose answers may still come.
    pub missing: &'a [u16],
    /// Who was asked; `None` where a gateway answers with another unit id than was asked.
    pub unit: Option<u8>,
    /// What was asked.
    pub function: u8,
    /// The byte count of the answer, where it has one.
    pub data_bytes: Option<usize>,
}

/// What is at the head of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// More bytes are needed to tell.
    More,
    /// An answer to the request that is waited for.
    Answer {
        /// Who answers.
        unit: u8,
        /// From the function code to the last byte that belongs to it.
        pdu: &'a [u8],
        /// Bytes before it that belong to nothing.
        before: usize,
        /// Bytes of the stream up to its end.
        end: usize,
    },
    /// A frame that answers something else.
    Other {
        /// The number that it carries.
        transaction: u16,
        /// Who answers.
        unit: u8,
        /// Bytes of the stream up to its end.
        end: usize,
    },
}

/// A header that can be one.
struct Header {
    transaction: u16,
    unit: u8,
    /// Bytes of the whole frame.
    length: usize,
}

/// The header at the head of `stream`; `None` when there is none, or not yet.
fn header(stream: &[u8]) -> Option<Header> {
    let [t0, t1, 0, 0, l0, l1, unit, ..] = *stream else { return None };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let fits = (2..=FRAME_MAX - MBAP_PREFIX).contains(&length);
    fits.then_some(Header { transaction: u16::from_be_bytes([t0, t1]), unit, length: MBAP_PREFIX + length })
}

/// A request or an answer: header and PDU.
pub fn framed(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let [t0, t1] = transaction.to_be_bytes();
    let [l0, l1] = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX).to_be_bytes();
    [&[t0, t1, 0, 0, l0, l1, unit][..], pdu].concat()
}

impl Awaited<'_> {
    /// What is at the head of `stream`.
    pub fn step<'s>(&self, stream: &'s [u8]) -> Step<'s> {
        let first = header(stream);
        let is_known = |id: u16| self.missing.contains(&id) || self.transaction.is_none_or(|asked| asked == id);
        match &first {
            Some(first) if is_known(first.transaction) => self.at_head(stream, first),
            Some(_) | None => match self.search(stream) {
                Some(before) => match self.step(&stream[before..]) {
                    Step::Answer { unit, pdu, before: _, end } => Step::Answer { unit, pdu, before, end: before + end },
                    Step::More | Step::Other { .. } => Step::More,
                },
                None => match &first {
                    Some(first) if first.length <= stream.len() => {
                        Step::Other { transaction: first.transaction, unit: first.unit, end: first.length }
                    }
                    Some(_) | None => Step::More,
                },
            },
        }
    }

    fn at_head<'s>(&self, stream: &'s [u8], first: &Header) -> Step<'s> {
        let Header { transaction, unit, length } = *first;
        if self.transaction.is_some_and(|asked| asked != transaction) {
            return match stream.len() < length {
                true => Step::More,
                false => Step::Other { transaction, unit, end: length },
            };
        }
        // What the function and the byte count say goes before the length in the header: some gateways count a byte
        // too many there, and some a byte that they do not send.
        let by_itself = match (stream.get(HEADER..), self.data_bytes) {
            (Some([function, ..]), _) if *function == self.function | EXCEPTION_BIT => Some(HEADER + 2),
            (Some([function, bytes, ..]), Some(expected)) if *function == self.function => {
                (usize::from(*bytes) == expected).then_some(HEADER + 2 + expected)
            }
            (Some(_) | None, _) => None,
        };
        let end = by_itself.unwrap_or(length);
        match stream.get(HEADER..end) {
            Some(pdu) => Step::Answer { unit, pdu, before: 0, end },
            None => Step::More,
        }
    }

    /// Where the answer begins behind bytes that are something else.
    fn search(&self, stream: &[u8]) -> Option<usize> {
        (1..stream.len()).find(|start| self.is_beginning(&stream[*start..]))
    }

    fn is_beginning(&self, stream: &[u8]) -> bool {
        let Some(found) = header(stream) else { return false };
        let is_asked = self.transaction.is_none_or(|asked| asked == found.transaction)
            && self.unit.is_none_or(|asked| asked == found.unit);
        match (stream.get(HEADER..), self.data_bytes) {
            (Some([function, _, ..]), _) if *function == self.function | EXCEPTION_BIT => is_asked,
            (Some([function, bytes, ..]), Some(expected)) if *function == self.function => {
                is_asked && usize::from(*bytes) == expected
            }
            (Some([function, _, ..]), None) if *function == self.function => is_asked,
            (Some(_) | None, _) => false,
        }
    }

    /// Why `stream`, to which nothing was added in time, holds no answer.
    pub fn failed(&self, stream: &[u8]) -> StreamFault {
        let came = Came::new(stream);
        match header(stream) {
            Some(found) => StreamFault::BrokenOff { announced: found.length, came: came.bytes },
            None if frame::rtu_parts(stream).is_some_and(|(_, pdu)| pdu.len() >= 2) => StreamFault::RtuFrame(came),
            None => StreamFault::NoHeader(came),
        }
    }
}

/// An answer that came when nobody waited for it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Which request it answers.
    pub transaction: u16,
    /// Who answers.
    pub unit: u8,
    /// Bytes that it takes of the stream.
    pub bytes: usize,
}

/// Answers that are missing, at the head of a `stream` that came while nothing was asked; and how many bytes at its end may
/// be the beginning of another. What is between belongs to nothing.
pub fn overdue(stream: &[u8], missing: &[u16]) -> (Vec<Late>, usize) {
    let mut at = 0;
    let mut found = Vec::new();
    while let Some(next) = header(&stream[at..]).filter(|next| missing.contains(&next.transaction)) {
        if at + next.length > stream.len() {
            return (found, stream.len() - at);
        }
        found.push(Late { transaction: next.transaction, unit: next.unit, bytes: next.length });
        at += next.length;
    }
    (found, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: [u16; 1] = [6];

    /// Two registers of unit 1, asked with number 7.
    fn awaited() -> Awaited<'static> {
        Awaited { transaction: Some(7), missing: &MISSING, unit: Some(1), function: 3, data_bytes: Some(4) }
    }

    const PDU: [u8; 6] = [3, 4, 0, 1, 0, 2];

    fn answer() -> Vec<u8> {
        framed(7, 1, &PDU)
    }

    fn pdu_of(stream: &[u8]) -> (&[u8], usize, usize) {
        match awaited().step(stream) {
            Step::Answer { pdu, before, end, .. } => (pdu, before, end),
            other => panic!("{other:?} in {stream:02x?}"),
        }
    }

    #[test]
    fn an_answer_in_one_byte_after_the_other_is_there_at_its_last() {
        let answer = answer();
        for length in 0..answer.len() {
            assert_eq!(awaited().step(&answer[..length]), Step::More, "{length} bytes");
        }
        assert_eq!(pdu_of(&answer), (&PDU[..], 0, 13));
    }

    #[test]
    fn bytes_before_behind_and_inside_do_no_harm() {
        for junk in [0x00, 0x03, 0x5F, 0xFF] {
            for count in 1..=12 {
                let before = [vec![junk; count], answer()].concat();
                assert_eq!(pdu_of(&before), (&PDU[..], count, count + 13), "{before:02x?}");
                let behind = [answer(), vec![junk; count]].concat();
                assert_eq!(pdu_of(&behind), (&PDU[..], 0, 13), "{behind:02x?}");
                let mut inside = behind;
                inside[5] += u8::try_from(count).unwrap();
                assert_eq!(pdu_of(&inside), (&PDU[..], 0, 13), "{inside:02x?}");
            }
        }
        let exception = framed(7, 1, &[0x83, 2, 0]);
        assert_eq!(pdu_of(&exception), (&[0x83, 2][..], 0, 9));
        let mut too_long_by_its_header = answer();
        too_long_by_its_header[5] = 13;
        assert_eq!(pdu_of(&too_long_by_its_header), (&PDU[..], 0, 13));
    }

    #[test]
    fn the_rest_of_a_late_answer_is_never_read_as_a_header() {
        let late = framed(6, 1, &[3, 8, 0, 0, 0, 0, 0, 5, 1, 3]);
        for cut in 1..late.len() {
            let stream = [&late[cut..], &answer()].concat();
            assert_eq!(pdu_of(&stream), (&PDU[..], late.len() - cut, stream.len()), "{stream:02x?}");
        }
        let stream = [late.clone(), answer()].concat();
        assert_eq!(awaited().step(&stream), Step::Other { transaction: 6, unit: 1, end: late.len() });
    }

    #[test]
    fn a_frame_of_another_request_is_no_answer() {
        let other = framed(9, 1, &PDU);
        assert_eq!(awaited().step(&other), Step::Other { transaction: 9, unit: 1, end: 13 });
        assert_eq!(awaited().step(&other[..12]), Step::More);
        let any = Awaited { transaction: None, ..awaited() };
        assert!(matches!(any.step(&other), Step::Answer { unit: 1, .. }));
    }

    #[test]
    fn an_answer_that_announces_something_else_is_given_whole_to_be_named() {
        let other = framed(7, 1, &[3, 74, 0, 1, 0, 2]);
        assert_eq!(pdu_of(&other).0, &other[HEADER..]);
        let torn = &answer()[..11];
        assert_eq!(awaited().failed(torn), StreamFault::BrokenOff { announced: 13, came: 11 });
        assert!(matches!(awaited().failed(&[0x55; 30]), StreamFault::NoHeader(_)));
        assert!(matches!(awaited().failed(&super::super::rtu::with_crc(&[1, 3, 2, 0, 7])), StreamFault::RtuFrame(_)));
    }

    #[test]
    fn what_came_while_nothing_was_asked_is_late_or_belongs_to_nothing() {
        let late = framed(6, 4, &PDU);
        let found = vec![Late { transaction: 6, unit: 4, bytes: late.len() }];
        assert_eq!(overdue(&late, &MISSING), (found.clone(), 0));
        assert_eq!(overdue(&late[..9], &MISSING), (vec![], 9));
        assert_eq!(overdue(&[0x5F], &MISSING), (vec![], 0));
        assert_eq!(overdue(&[&late[..], &[0x5F]].concat(), &MISSING), (found, 0));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(stream in proptest::collection::vec(0_u8.., 0..300)) {
            let any = Awaited { transaction: None, unit: None, data_bytes: None, ..awaited() };
            for awaited in [awaited(), any] {
                let _ = (awaited.step(&stream), awaited.failed(&stream), overdue(&stream, &MISSING));
            }
        }
    }
}
