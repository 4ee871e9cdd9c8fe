//! Read Device Identification: function 0x2B with MEI type 0x0E (Modbus Application Protocol 1.1b3, 6.21). Pure.

use crate::model::UnitId;

use super::error::{Mismatch, PollError};
use super::frame::crc16;

/// Function code: encapsulated interface transport.
pub const FUNCTION: u8 = 0x2B;
/// MEI type: Read Device Identification.
const MEI_TYPE: u8 = 0x0E;
/// Set in the function code of an exception.
const EXCEPTION_BIT: u8 = 0x80;
/// Function, MEI type, code, conformity level, more follows, next object, number of objects.
const HEADER: usize = 7;

/// One request for objects, from `object` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectsRequest {
    /// Who is asked.
    pub unit: UnitId,
    /// 1 basic, 2 regular, 3 extended objects.
    pub code: u8,
    /// The first object.
    pub object: u8,
}

/// Objects of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects {
    /// Numbers and texts, in the order of the answer. Bytes that are no UTF-8 are replaced.
    pub objects: Vec<(u8, String)>,
    /// The object to go on with, when there are more.
    pub next: Option<u8>,
}

impl ObjectsRequest {
    /// The request from the function code on.
    pub fn pdu(&self) -> [u8; 4] {
        [FUNCTION, MEI_TYPE, self.code, self.object]
    }

    /// The request as a Modbus TCP frame.
    pub fn to_tcp(self, transaction: u16) -> [u8; 11] {
        let [t0, t1] = transaction.to_be_bytes();
        let [function, mei, code, object] = self.pdu();
        [t0, t1, 0, 0, 0, 5, self.unit.get(), function, mei, code, object]
    }

    /// The request as a Modbus RTU frame.
    pub fn to_rtu(self) -> [u8; 7] {
        let [function, mei, code, object] = self.pdu();
        let body = [self.unit.get(), function, mei, code, object];
        let [low, high] = crc16(&body).to_le_bytes();
        [body[0], body[1], body[2], body[3], body[4], low, high]
    }

    /// Reads an answer; `pdu` begins with the function code and ends with the last byte before any checksum.
    ///
    /// # Errors
    ///
    /// An exception, another unit or function, or objects that do not fit their lengths.
    pub fn take_answer(&self, unit: u8, pdu: &[u8]) -> Result<Objects, PollError> {
        if unit != self.unit.get() {
            return Err(PollError::WrongUnit { asked: self.unit, answered: unit });
        }
        match *pdu {
            [function, code, ..] if function == FUNCTION | EXCEPTION_BIT => Err(PollError::Exception(code)),
            [FUNCTION, MEI_TYPE, _, _, more, next, count, ref list @ ..] => {
                let torn = Mismatch::Objects { bytes: pdu.len() };
                let objects = take_objects(count, list).ok_or(PollError::WrongAnswer(torn))?;
                // An answer that goes back would have us go round in circles.
                let next = (more != 0 && next > self.object).then_some(next);
                Ok(Objects { objects, next })
            }
            [] | [FUNCTION, ..] => Err(PollError::WrongAnswer(Mismatch::Objects { bytes: pdu.len() })),
            [answered, ..] => Err(PollError::WrongAnswer(Mismatch::Function { asked: FUNCTION, answered })),
        }
    }
}

fn take_objects(count: u8, mut list: &[u8]) -> Option<Vec<(u8, String)>> {
    let mut objects = Vec::with_capacity(usize::from(count).min(list.len() / 2));
    for _ in 0..count {
        let [object, length, rest @ ..] = list else { return None };
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        objects.push((*object, String::from_utf8_lossy(text).into_owned()));
        list = rest;
    }
    Some(objects)
}

/// Bytes of the RTU answer that begins with `received`, checksum included; `None` while that cannot be told.
pub fn rtu_length(received: &[u8]) -> Option<usize> {
    match received {
        [_, function, ..] if *function == FUNCTION | EXCEPTION_BIT => Some(5),
        [_, FUNCTION, _, _, _, _, _, count, ..] => {
            let mut end = 1 + HEADER;
            for _ in 0..*count {
                end += 2 + usize::from(*received.get(end + 1)?);
            }
            Some(end + 2)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(object: u8) -> ObjectsRequest {
        ObjectsRequest { unit: UnitId::tcp(1).unwrap(), code: 1, object }
    }

    /// The example of the specification: vendor "Company identification", product code, "V2.11".
    fn answer(more: u8) -> Vec<u8> {
        let mut pdu = vec![0x2B, 0x0E, 1, 1, more, 2, 2];
        for (object, text) in [(0_u8, "Company identification"), (1, "Product code XX")] {
            pdu.extend([object, text.len() as u8]);
            pdu.extend(text.as_bytes());
        }
        pdu
    }

    #[test]
    fn requests_are_the_bytes_of_the_specification() {
        assert_eq!(ask(0).to_tcp(7), [0, 7, 0, 0, 0, 5, 1, 0x2B, 0x0E, 1, 0]);
        assert_eq!(ask(0).to_rtu()[..5], [1, 0x2B, 0x0E, 1, 0]);
    }

    #[test]
    fn objects_and_what_follows_are_read() {
        let objects = ask(0).take_answer(1, &answer(0xFF)).unwrap();

        assert_eq!(objects.objects[1], (1, "Product code XX".to_owned()));
        assert_eq!(objects.next, Some(2));
        assert_eq!(ask(2).take_answer(1, &answer(0xFF)).unwrap().next, None, "never back");
        assert!(matches!(ask(0).take_answer(1, &[0xAB, 1]), Err(PollError::Exception(1))));
        assert!(ask(0).take_answer(1, &answer(0)[..20]).is_err());
    }

    #[test]
    fn an_rtu_answer_is_whole_at_its_last_byte() {
        let body = [&[1][..], &answer(0)].concat();
        let frame = [&body[..], &crc16(&body).to_le_bytes()].concat();

        assert_eq!(rtu_length(&frame), Some(frame.len()));
        assert!((0..frame.len()).all(|cut| rtu_length(&frame[..cut]).is_none_or(|length| length > cut)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let _ = (rtu_length(&bytes), ask(0).take_answer(1, &bytes));
        }
    }
}
