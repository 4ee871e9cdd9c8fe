//! Frames of Modbus TCP and Modbus RTU: bytes of a request, meaning of an answer. Pure.
//!
//! An answer is only believed when everything that can be checked fits the request: unit, function, byte count, that all
//! its data are there, on TCP the transaction id and on RTU the CRC. Where it begins and ends among the bytes that came is
//! found by [`rtu`](super::rtu) and [`mbap`](super::mbap).

use crate::model::UnitId;
use crate::profile::Table;

use super::error::{Came, Mismatch, PollError, StreamFault};
use super::objects;
use super::write;

/// Longest frame, either framing: 260 bytes on TCP (Modbus Messaging on TCP/IP 1.0b, 4.1), 256 on RTU.
pub const FRAME_MAX: usize = 260;
/// Bytes of a read request on RTU.
pub const RTU_REQUEST: usize = 8;
/// Bytes of a read request on TCP.
pub const TCP_REQUEST: usize = 12;

/// MBAP header without the unit: transaction, protocol, length.
pub(super) const MBAP_PREFIX: usize = 6;
/// Set in the function code of an exception (Modbus Application Protocol 1.1b3, 7).
pub(super) const EXCEPTION_BIT: u8 = 0x80;
/// Unit, function, byte count before the data and CRC behind it.
pub(super) const RTU_OVERHEAD: usize = 5;
/// Unit, function, exception code, CRC.
pub(super) const RTU_EXCEPTION: usize = 5;

/// One request for contiguous registers or bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// Who is asked.
    pub unit: UnitId,
    /// Which table.
    pub table: Table,
    /// First address, from 0, as on the wire.
    pub address: u16,
    /// How many registers or bits.
    pub count: u16,
}

impl ReadRequest {
    /// Refuses a count that no answer can carry: 1 to 125 registers (62 of 32 bits), 1 to 2000 bits.
    pub fn check(&self) -> Result<(), PollError> {
        let limit = self.table.items_per_read();
        let fits = (1..=limit).contains(&self.count);
        if fits { Ok(()) } else { Err(PollError::Refused { count: self.count, limit }) }
    }

    /// Data bytes of the answer, after the byte count.
    pub fn data_bytes(&self) -> usize {
        self.table.data_bytes(self.count)
    }

    /// The request as a Modbus TCP frame.
    pub fn to_tcp(&self, transaction: u16) -> [u8; TCP_REQUEST] {
        let [t0, t1] = transaction.to_be_bytes();
        let [unit, function, a0, a1, c0, c1] = self.body();
        [t0, t1, 0, 0, 0, 6, unit, function, a0, a1, c0, c1]
    }

    /// The request as a Modbus RTU frame.
    pub fn to_rtu(&self) -> [u8; RTU_REQUEST] {
        let body = self.body();
        let [unit, function, a0, a1, c0, c1] = body;
        let [low, high] = crc16(&body).to_le_bytes();
        [unit, function, a0, a1, c0, c1, low, high]
    }

    fn body(&self) -> [u8; 6] {
        let [a0, a1] = self.address.to_be_bytes();
        let [c0, c1] = self.count.to_be_bytes();
        [self.unit.get(), self.table.read_function(), a0, a1, c0, c1]
    }

    /// Checks an answer and puts its words into `into` (cleared first): registers, high word first where they have 32 bits, or
    /// one word 0 or 1 for each bit.
    ///
    /// `pdu` begins with the function code and ends with the last data byte.
    pub fn take_answer(&self, unit: u8, pdu: &[u8], into: &mut Vec<u16>) -> Result<(), PollError> {
        if unit != self.unit.get() {
            return Err(PollError::WrongUnit { asked: self.unit, answered: unit });
        }
        let asked = self.table.read_function();
        let expected = self.data_bytes();
        match *pdu {
            [function, code, ..] if function == asked | EXCEPTION_BIT => Err(PollError::Exception(code)),
            [function, bytes, ref data @ ..] if function == asked => match data.get(..expected) {
                // What stands behind the data that were asked for is none of them.
                Some(data) if usize::from(bytes) == expected => {
                    self.unpack(data, into);
                    Ok(())
                }
                Some(_) | None => {
                    let (announced, answered) = (bytes.into(), data.len());
                    Err(PollError::WrongAnswer(Mismatch::Length { expected, announced, answered }))
                }
            },
            [function, ..] if function != asked => {
                Err(PollError::WrongAnswer(Mismatch::Function { asked, answered: function }))
            }
            _ => Err(PollError::WrongAnswer(Mismatch::Length { expected, announced: 0, answered: 0 })),
        }
    }

    fn unpack(&self, data: &[u8], into: &mut Vec<u16>) {
        into.clear();
        if self.table.holds_bits() {
            let bit = |index: usize| u16::from(data[index / 8] >> (index % 8) & 1);
            into.extend((0..usize::from(self.count)).map(bit));
        } else {
            into.extend(data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])));
        }
    }
}

/// One frame at the head of a Modbus TCP stream.
#[derive(Debug, PartialEq, Eq)]
pub struct TcpFrame<'a> {
    /// Which request it answers.
    pub transaction: u16,
    /// Who answers.
    pub unit: u8,
    /// From the function code on.
    pub pdu: &'a [u8],
    /// Bytes the frame takes of the stream.
    pub length: usize,
}

/// The frame at the head of `stream`, `None` while it is not all there.
///
/// # Errors
///
/// A header that cannot be one (protocol not 0, length not 2 to 254): the bytes begin with something else.
pub fn split_tcp(stream: &[u8]) -> Result<Option<TcpFrame<'_>>, StreamFault> {
    let [t0, t1, p0, p1, l0, l1, rest @ ..] = stream else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    if [*p0, *p1] != [0, 0] || !(2..=FRAME_MAX - MBAP_PREFIX).contains(&length) {
        return Err(StreamFault::NoHeader(Came::new(stream)));
    }
    let Some([unit, pdu @ ..]) = rest.get(..length) else { return Ok(None) };
    let transaction = u16::from_be_bytes([*t0, *t1]);
    Ok(Some(TcpFrame { transaction, unit: *unit, pdu, length: MBAP_PREFIX + length }))
}

/// An answer to some read request at the head of RTU bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtuFrame {
    /// Who answers.
    pub unit: u8,
    /// What was asked; without the exception bit.
    pub function: u8,
    /// Bytes the frame takes.
    pub length: usize,
}

/// The answer to a read request (functions 1 to 4, or identification objects), to one that writes, or the exception at the head of `received`, whatever follows it.
pub fn split_rtu(received: &[u8]) -> Option<RtuFrame> {
    let (unit, answered, length) = match *received {
        [unit, function @ (0x81..=0x86 | 0x8F | 0x90 | 0x96 | 0x97), ..] => (unit, function, RTU_EXCEPTION),
        [unit, function @ (5 | 6 | 15 | 16), ..] => (unit, function, write::RTU_ANSWER),
        [unit, 22, ..] => (unit, 22, write::RTU_MASK_ANSWER),
        [unit, function @ (1..=4 | 23), bytes, ..] => (unit, function, RTU_OVERHEAD + usize::from(bytes)),
        [unit, objects::FUNCTION, ..] => (unit, objects::FUNCTION, objects::rtu_length(received)?),
        _ => return None,
    };
    rtu_parts(received.get(..length)?)?;
    Some(RtuFrame { unit, function: answered & !EXCEPTION_BIT, length })
}

/// Unit and PDU of an RTU frame whose CRC is right.
pub(super) fn rtu_parts(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (body, crc) = frame.split_last_chunk::<2>()?;
    let [unit, pdu @ ..] = body else { return None };
    (!pdu.is_empty() && crc16(body) == u16::from_le_bytes(*crc)).then_some((*unit, pdu))
}

/// CRC of an RTU frame (Modbus over Serial Line 1.02, 6.2.2): polynomial 0xA001 reflected, start 0xFFFF; sent low
/// byte first.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| (crc >> 8) ^ CRC_TABLE[usize::from((crc as u8) ^ byte)])
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(table: Table, address: u16, count: u16) -> ReadRequest {
        ReadRequest { unit: UnitId::tcp(1).unwrap(), table, address, count }
    }

    fn with_crc(body: &[u8]) -> Vec<u8> {
        [body, &crc16(body).to_le_bytes()].concat()
    }

    fn rtu(request: ReadRequest, body: &[u8]) -> Result<Vec<u16>, PollError> {
        let (mut words, frame) = (Vec::new(), with_crc(body));
        let (unit, pdu) = rtu_parts(&frame).unwrap();
        request.take_answer(unit, pdu, &mut words).map(|()| words)
    }

    #[test]
    fn requests_are_the_bytes_of_the_specification() {
        let request = ask(Table::HoldingRegisters, 0x006B, 3);

        assert_eq!(request.to_tcp(0x1501), [0x15, 0x01, 0, 0, 0, 6, 1, 3, 0, 0x6B, 0, 3]);
        assert_eq!(request.to_rtu(), [1, 3, 0, 0x6B, 0, 3, 0x74, 0x17]);
        assert_eq!(crc16(b"123456789"), 0x4B37);
    }

    #[test]
    fn registers_and_bits_are_unpacked_in_order() {
        assert_eq!(rtu(ask(Table::HoldingRegisters, 0, 2), &[1, 3, 4, 0x12, 0x34, 0, 1]).unwrap(), [0x1234, 1]);
        let bits = rtu(ask(Table::Coils, 0, 10), &[1, 1, 2, 0b0000_0101, 0b1111_1110]).unwrap();
        assert_eq!(bits, [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn every_mismatch_has_its_own_error() {
        let request = ask(Table::InputRegisters, 0, 1);

        assert!(matches!(rtu(request, &[1, 0x84, 2]), Err(PollError::Exception(2))));
        assert!(matches!(rtu(request, &[2, 4, 2, 0, 1]), Err(PollError::WrongUnit { answered: 2, .. })));
        assert!(matches!(
            rtu(request, &[1, 3, 2, 0, 1]),
            Err(PollError::WrongAnswer(Mismatch::Function { asked: 4, answered: 3 }))
        ));
        assert!(matches!(
            rtu(request, &[1, 4, 4, 0, 1, 0, 2]),
            Err(PollError::WrongAnswer(Mismatch::Length { expected: 2, announced: 4, answered: 4 }))
        ));
        let torn = rtu(request, &[1, 4, 74, 0, 1]).unwrap_err().to_string();
        assert!(torn.ends_with("2 data bytes were expected; it announces 74, 2 came"), "{torn}");
        // What stands behind the data that were asked for is none of them.
        assert_eq!(rtu(request, &[1, 4, 2, 0, 1, 0x5F]).unwrap(), [1]);
    }

    #[test]
    fn a_tcp_stream_is_split_at_its_frames() {
        let stream = [0, 7, 0, 0, 0, 5, 1, 3, 2, 0, 9, 0, 8];

        let frame = split_tcp(&stream).unwrap().unwrap();

        assert_eq!(frame, TcpFrame { transaction: 7, unit: 1, pdu: &[3, 2, 0, 9], length: 11 });
        assert_eq!(split_tcp(&stream[..10]).unwrap(), None);
        assert!(split_tcp(&[0, 7, 0, 1, 0, 5]).is_err());
        assert!(split_tcp(&[0, 7, 0, 0, 9, 9]).is_err());
        assert!(split_tcp(&[0, 7, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn more_than_fits_one_answer_is_refused() {
        assert!(ask(Table::HoldingRegisters, 0, 126).check().is_err());
        assert!(ask(Table::Coils, 0, 2000).check().is_ok());
        assert!(ask(Table::Coils, 0, 0).check().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_none_but_a_fitting_frame_gives_words(
            bytes in proptest::collection::vec(0_u8.., 0..300), count in 1_u16..=125,
        ) {
            let request = ask(Table::HoldingRegisters, 0, count);
            let mut words = Vec::new();
            if request.take_answer(1, &bytes, &mut words).is_ok() {
                proptest::prop_assert!(words.len() == usize::from(count) && bytes.len() >= 2 + request.data_bytes());
            }
            let _ = split_tcp(&bytes);
        }
    }
}
