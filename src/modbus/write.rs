//! Requests that write: bytes of the request, meaning of the answer. Pure.
//!
//! The answer repeats the beginning of the request, for one item the whole of it: on a line whose adapter hears itself
//! the echo of such a request and its answer are the same bytes ([`WriteRequest::answer_is_the_request`]).

use crate::model::UnitId;
use crate::profile::Table;

use super::error::{Mismatch, PollError};
use super::frame::crc16;

/// Most registers one request writes (Modbus Application Protocol 1.1b3, 6.12).
pub const REGISTERS_PER_WRITE: usize = 123;

/// Most registers that are written while others are read (Modbus Application Protocol 1.1b3, 6.17).
pub const REGISTERS_PER_READ_WRITE: usize = 121;

/// Bytes of an answer on RTU: unit, function, address, value or count, CRC.
pub const RTU_ANSWER: usize = 8;
/// Bytes of the answer to a mask write on RTU: unit, function, address, two masks, CRC.
pub const RTU_MASK_ANSWER: usize = 10;

const EXCEPTION_BIT: u8 = 0x80;

/// What a coil is set to (Modbus Application Protocol 1.1b3, 6.5).
const COIL_ON: u16 = 0xFF00;

/// With which function a device wants to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteWith {
    /// 5 for a coil, 6 for a register.
    Single,
    /// 15 for coils, 16 for registers.
    Multiple,
    /// 22: keeps the bits of the first word of the request, sets those of the second, which are others.
    Mask,
    /// 6, with what was read just before: never goes out as it is, see [`modified`](WriteRequest::modified).
    ReadModifyWrite,
    /// 23: writes registers and reads the same ones.
    ReadWrite,
}

/// One request that writes contiguous registers or coils.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRequest {
    /// Who is written to.
    pub unit: UnitId,
    /// Coils or holding registers.
    pub table: Table,
    /// First address, from 0, as on the wire.
    pub address: u16,
    /// Registers, or one word 0 or 1 a coil.
    pub words: Vec<u16>,
    /// With which function.
    pub with: WriteWith,
}

impl WriteRequest {
    /// Refuses what no device takes: a table that cannot be written, or more than one request carries.
    pub fn check(&self) -> Result<(), PollError> {
        let (least, limit) = match self.with {
            WriteWith::Single => (1, 1),
            WriteWith::Multiple => (1, REGISTERS_PER_WRITE),
            WriteWith::Mask => (2, 2),
            WriteWith::ReadWrite => (1, REGISTERS_PER_READ_WRITE),
            // What is to be written is not known before it was read.
            WriteWith::ReadModifyWrite => (1, 0),
        };
        let is_table = match self.with {
            WriteWith::Single | WriteWith::Multiple => matches!(self.table, Table::Coils | Table::HoldingRegisters),
            WriteWith::Mask | WriteWith::ReadModifyWrite | WriteWith::ReadWrite => {
                self.table == Table::HoldingRegisters
            }
        };
        let fits = (least..=limit).contains(&self.words.len()) && is_table;
        let count = u16::try_from(self.words.len()).unwrap_or(u16::MAX);
        if fits { Ok(()) } else { Err(PollError::Refused { count, limit: limit as u16 }) }
    }

    /// The request that writes the register of a point that shares it, which reads as `word` now.
    #[must_use]
    pub fn modified(self, word: u16) -> Self {
        match (self.with, &self.words[..]) {
            (WriteWith::ReadModifyWrite, [kept, set]) => {
                Self { words: vec![word & kept | set & !kept], with: WriteWith::Single, ..self }
            }
            (_, _) => self,
        }
    }

    /// Registers or coils that are written.
    pub fn count(&self) -> u16 {
        match self.with {
            WriteWith::Mask | WriteWith::ReadModifyWrite => 1,
            WriteWith::Single | WriteWith::Multiple | WriteWith::ReadWrite => {
                u16::try_from(self.words.len()).unwrap_or(u16::MAX)
            }
        }
    }

    /// Function code: 5, 6, 15, 16, 22 or 23.
    pub fn function(&self) -> u8 {
        match (self.with, self.table.holds_bits()) {
            (WriteWith::Single, true) => 5,
            (WriteWith::Single | WriteWith::ReadModifyWrite, false) => 6,
            (WriteWith::ReadModifyWrite, true) => 5,
            (WriteWith::Multiple, true) => 15,
            (WriteWith::Multiple, false) => 16,
            (WriteWith::Mask, _) => 22,
            (WriteWith::ReadWrite, _) => 23,
        }
    }

    /// Whether the right answer is, byte for byte, the request.
    pub fn answer_is_the_request(&self) -> bool {
        match self.with {
            WriteWith::Single | WriteWith::ReadModifyWrite | WriteWith::Mask => true,
            WriteWith::Multiple | WriteWith::ReadWrite => false,
        }
    }

    /// From the function code on.
    fn pdu(&self) -> Vec<u8> {
        let mut pdu = self.answer_pdu();
        if self.with == WriteWith::ReadWrite {
            let ([a0, a1], [c0, c1]) = (self.address.to_be_bytes(), self.count().to_be_bytes());
            let data: Vec<u8> = self.words.iter().flat_map(|word| word.to_be_bytes()).collect();
            pdu = vec![self.function(), a0, a1, c0, c1, a0, a1, c0, c1, data.len() as u8];
            pdu.extend(data);
        }
        if self.with == WriteWith::Multiple {
            let data: Vec<u8> = match self.table.holds_bits() {
                true => self
                    .words
                    .chunks(8)
                    .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (*bit & 1) as u8))
                    .collect(),
                false => self.words.iter().flat_map(|word| word.to_be_bytes()).collect(),
            };
            pdu.push(data.len() as u8);
            pdu.extend(data);
        }
        pdu
    }

    /// What the device answers when it has done it; of function 23, whose answer ends with what was read, its beginning.
    fn answer_pdu(&self) -> Vec<u8> {
        let [a0, a1] = self.address.to_be_bytes();
        let first = self.words.first().copied().unwrap_or(0);
        if self.with == WriteWith::ReadWrite {
            return vec![self.function(), (2 * self.words.len()) as u8];
        }
        if self.with == WriteWith::Mask {
            let masks = self.words.iter().flat_map(|word| word.to_be_bytes());
            return [self.function(), a0, a1].into_iter().chain(masks).collect();
        }
        let second = match (self.with, self.table.holds_bits()) {
            (WriteWith::Single, true) => {
                if first == 0 {
                    0
                } else {
                    COIL_ON
                }
            }
            (WriteWith::Multiple, _) => self.words.len() as u16,
            (WriteWith::Single, false) | (WriteWith::ReadModifyWrite | WriteWith::Mask | WriteWith::ReadWrite, _) => {
                first
            }
        };
        let [s0, s1] = second.to_be_bytes();
        vec![self.function(), a0, a1, s0, s1]
    }

    /// The request as a Modbus TCP frame.
    pub fn to_tcp(&self, transaction: u16) -> Vec<u8> {
        let pdu = self.pdu();
        let length = (pdu.len() as u16 + 1).to_be_bytes();
        let [t0, t1] = transaction.to_be_bytes();
        [&[t0, t1, 0, 0, length[0], length[1], self.unit.get()][..], &pdu].concat()
    }

    /// The request as a Modbus RTU frame.
    pub fn to_rtu(&self) -> Vec<u8> {
        sealed(self.unit.get(), &self.pdu())
    }

    /// The one right answer as a Modbus RTU frame.
    pub fn rtu_answer(&self) -> Vec<u8> {
        sealed(self.unit.get(), &self.answer_pdu())
    }

    /// Checks an answer; `pdu` begins with the function code.
    pub fn take_answer(&self, unit: u8, pdu: &[u8]) -> Result<(), PollError> {
        if unit != self.unit.get() {
            return Err(PollError::WrongUnit { asked: self.unit, answered: unit });
        }
        let asked = self.function();
        match *pdu {
            [function, code, ..] if function == asked | EXCEPTION_BIT => Err(PollError::Exception(code)),
            [function, ..] if function != asked => {
                Err(PollError::WrongAnswer(Mismatch::Function { asked, answered: function }))
            }
            _ if self.with == WriteWith::ReadWrite => {
                let expected = 2 + 2 * self.words.len();
                let is_whole = pdu.starts_with(&self.answer_pdu()) && pdu.len() >= expected;
                let mismatch = Mismatch::NotRepeated;
                if is_whole { Ok(()) } else { Err(PollError::WrongAnswer(mismatch)) }
            }
            // More than belongs to it says nothing against it.
            _ if pdu.starts_with(&self.answer_pdu()) => Ok(()),
            _ => Err(PollError::WrongAnswer(Mismatch::NotRepeated)),
        }
    }
}

fn sealed(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let body = [&[unit], pdu].concat();
    let crc = crc16(&body).to_le_bytes();
    [&body[..], &crc].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(table: Table, words: &[u16], with: WriteWith) -> WriteRequest {
        WriteRequest { unit: UnitId::tcp(0x11).unwrap(), table, address: 0xAC, words: words.to_vec(), with }
    }

    #[test]
    fn requests_are_the_bytes_of_the_specification() {
        // Modbus Application Protocol 1.1b3, 6.5, 6.6, 6.11, 6.12: the examples.
        let coil = write(Table::Coils, &[1], WriteWith::Single);
        assert_eq!(coil.to_tcp(7), [0, 7, 0, 0, 0, 6, 0x11, 5, 0, 0xAC, 0xFF, 0]);
        let register = WriteRequest { address: 1, ..write(Table::HoldingRegisters, &[3], WriteWith::Single) };
        assert_eq!(register.to_rtu()[..6], [0x11, 6, 0, 1, 0, 3]);
        let coils =
            WriteRequest { address: 0x13, ..write(Table::Coils, &[1, 0, 1, 1, 0, 0, 1, 1, 1, 0], WriteWith::Multiple) };
        assert_eq!(coils.to_tcp(0)[7..], [15, 0, 0x13, 0, 0x0A, 2, 0xCD, 1]);
        let registers =
            WriteRequest { address: 1, ..write(Table::HoldingRegisters, &[0x0A, 0x0102], WriteWith::Multiple) };
        assert_eq!(registers.to_tcp(0)[7..], [16, 0, 1, 0, 2, 4, 0, 0x0A, 1, 2]);
        assert_eq!(registers.to_rtu().len(), 7 + 4 + 2);
    }

    #[test]
    fn bits_are_written_by_mask_and_registers_while_they_are_read() {
        // Modbus Application Protocol 1.1b3, 6.16: the example.
        let mask = WriteRequest { address: 4, ..write(Table::HoldingRegisters, &[0xF2, 0x25], WriteWith::Mask) };
        assert_eq!(mask.to_tcp(0)[7..], [22, 0, 4, 0, 0xF2, 0, 0x25]);
        assert!(mask.take_answer(0x11, &[22, 0, 4, 0, 0xF2, 0, 0x25]).is_ok());
        assert!(mask.take_answer(0x11, &[22, 0, 4, 0, 0xF2, 0, 0x24]).is_err());
        assert!(matches!(mask.take_answer(0x11, &[0x96, 1]), Err(PollError::Exception(1))));
        assert_eq!((mask.to_rtu().len(), mask.rtu_answer()), (RTU_MASK_ANSWER, mask.to_rtu()));
        // 6.17, with the registers that are written as those that are read.
        let both =
            WriteRequest { address: 14, ..write(Table::HoldingRegisters, &[0xFF, 0xFF, 0xFF], WriteWith::ReadWrite) };
        let sent = [23, 0, 14, 0, 3, 0, 14, 0, 3, 6, 0, 0xFF, 0, 0xFF, 0, 0xFF];
        assert_eq!(both.to_tcp(0)[7..], sent);
        let answer = [23, 6, 0, 0xFF, 0, 0xFF, 0, 0xFE];
        assert!(both.take_answer(0x11, &answer).is_ok() && both.take_answer(0x11, &answer[..7]).is_err());
    }

    #[test]
    fn a_register_that_is_shared_is_written_as_it_was_read_but_for_its_bits() {
        let order = write(Table::HoldingRegisters, &[0xFFF0, 0x0005], WriteWith::ReadModifyWrite);
        assert!(order.check().is_err());
        let written = order.modified(0xABCD);
        assert_eq!(
            (written.words.as_slice(), written.with, written.check().is_ok()),
            (&[0xABC5][..], WriteWith::Single, true)
        );
    }

    #[test]
    fn only_the_right_answer_is_believed() {
        let request = write(Table::HoldingRegisters, &[3, 4], WriteWith::Multiple);
        assert!(request.take_answer(0x11, &[16, 0, 0xAC, 0, 2]).is_ok());
        assert!(matches!(request.take_answer(0x11, &[0x90, 2]), Err(PollError::Exception(2))));
        assert!(matches!(request.take_answer(0x12, &[16, 0, 0xAC, 0, 2]), Err(PollError::WrongUnit { .. })));
        assert!(request.take_answer(0x11, &[16, 0, 0xAC, 0, 1]).is_err());
        assert!(request.take_answer(0x11, &[6, 0, 0xAC, 0, 2]).is_err());
        assert!(request.take_answer(0x11, &[]).is_err());
    }

    #[test]
    fn the_answer_to_one_item_is_the_request() {
        let single = write(Table::HoldingRegisters, &[3], WriteWith::Single);
        assert_eq!(single.rtu_answer(), single.to_rtu());
    }

    #[test]
    fn what_no_device_takes_is_refused() {
        assert!(write(Table::InputRegisters, &[1], WriteWith::Single).check().is_err());
        assert!(write(Table::HoldingRegisters, &[1, 2], WriteWith::Single).check().is_err());
        assert!(write(Table::HoldingRegisters, &[], WriteWith::Multiple).check().is_err());
        assert!(write(Table::HoldingRegisters, &[0; 123], WriteWith::Multiple).check().is_ok());
        assert!(write(Table::HoldingRegisters, &[0; 124], WriteWith::Multiple).check().is_err());
    }
}
