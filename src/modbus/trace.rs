//! Frames as people read them: direction, bytes, and what they say. Pure.

use super::frame::{self, crc16};
use super::objects::{self, ObjectsRequest};
use super::rtu::STRAY_MAX;
use crate::model::{Fault, UnitId};

/// Registers and bits named in a line; more are counted.
const SHOWN: usize = 8;

/// What crossed the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traced<'a> {
    /// Bytes that went out.
    Sent(&'a [u8]),
    /// Bytes that came in, as they came.
    Received(&'a [u8]),
}

/// One frame, or bytes that are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceLine {
    /// It went out.
    pub is_sent: bool,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it says.
    pub text: String,
    /// It is an exception, or no frame that can be used.
    pub is_error: bool,
}

/// Puts the bytes of a link together to frames.
#[derive(Debug, Clone, Default)]
pub struct FrameLog {
    is_tcp: bool,
    request: Vec<u8>,
    inbound: Vec<u8>,
}

impl FrameLog {
    /// For Modbus TCP, or for RTU frames on whatever carries them.
    pub fn new(is_tcp: bool) -> Self {
        Self { is_tcp, ..Self::default() }
    }

    /// What these bytes complete. Those that wait for more come with later ones, or with [`finish`](Self::finish).
    pub fn add(&mut self, traced: Traced<'_>) -> Vec<TraceLine> {
        match traced {
            Traced::Sent(bytes) => {
                let mut lines = self.finish();
                lines.push(self.sent(bytes));
                self.request = bytes.to_vec();
                lines
            }
            Traced::Received(bytes) => {
                self.inbound.extend_from_slice(bytes);
                std::iter::from_fn(|| self.next_frame()).collect()
            }
        }
    }

    /// What is left over, at the end or before the next request: bytes that are no frame.
    pub fn finish(&mut self) -> Vec<TraceLine> {
        if self.inbound.is_empty() {
            return Vec::new();
        }
        let bytes = std::mem::take(&mut self.inbound);
        let text = match bytes.split_last_chunk::<2>() {
            Some((body, crc)) if !self.is_tcp && bytes.len() >= 5 => {
                let (carried, computed) = (u16::from_le_bytes(*crc), crc16(body));
                format!("no frame: checksum {carried:#06x}, its bytes give {computed:#06x}")
            }
            Some(_) | None => match bytes.len() {
                1 => "a byte that belongs to no frame".to_owned(),
                count => format!("{count} bytes that belong to no frame"),
            },
        };
        vec![TraceLine { is_sent: false, bytes, text, is_error: true }]
    }

    fn sent(&self, bytes: &[u8]) -> TraceLine {
        let body = if self.is_tcp { bytes.get(6..) } else { bytes.get(..bytes.len().saturating_sub(2)) };
        let text = match body {
            Some([unit, pdu @ ..]) => format!("unit {unit}: {}", request_text(pdu)),
            Some([]) | None => "no frame".to_owned(),
        };
        TraceLine { is_sent: true, bytes: bytes.to_vec(), text, is_error: false }
    }

    fn next_frame(&mut self) -> Option<TraceLine> {
        if self.is_tcp { self.next_tcp() } else { self.next_rtu() }
    }

    fn next_tcp(&mut self) -> Option<TraceLine> {
        let (length, mut text, is_error) = match frame::split_tcp(&self.inbound) {
            Ok(Some(found)) => {
                let (text, is_error) = answer_text(found.unit, found.pdu);
                let is_late = self.request.get(..2).is_some_and(|asked| asked != found.transaction.to_be_bytes());
                let late = if is_late { " (late: answers an earlier request)" } else { "" };
                (found.length, format!("unit {}: {text}{late}", found.unit), is_error || is_late)
            }
            Ok(None) => return None,
            Err(error) => (self.inbound.len(), error.to_string(), true),
        };
        if length == 0 {
            return None;
        }
        text.truncate(text.trim_end().len());
        let bytes = self.inbound.drain(..length).collect();
        Some(TraceLine { is_sent: false, bytes, text, is_error })
    }

    fn next_rtu(&mut self) -> Option<TraceLine> {
        if !self.request.is_empty() && self.inbound.starts_with(&self.request) {
            let bytes = self.inbound.drain(..self.request.len()).collect();
            let text = "echo of the request".to_owned();
            return Some(TraceLine { is_sent: false, bytes, text, is_error: false });
        }
        if let Some(before) = self.stray_before() {
            let bytes = self.inbound.drain(..before).collect();
            let text = if before == 1 { "stray byte" } else { "stray bytes" }.to_owned();
            return Some(TraceLine { is_sent: false, bytes, text, is_error: true });
        }
        let length = match frame::split_rtu(&self.inbound) {
            Some(found) => found.length,
            None if self.is_answer() => self.inbound.len(),
            None => return None,
        };
        let bytes: Vec<u8> = self.inbound.drain(..length).collect();
        let (text, is_error) = match bytes.get(..length - 2) {
            Some([unit, pdu @ ..]) => {
                let (text, is_error) = answer_text(*unit, pdu);
                let is_other = self.request.first().is_some_and(|asked| asked != unit);
                let other = if is_other { " (of another unit than was asked)" } else { "" };
                (format!("unit {unit}: {text}{other}"), is_error || is_other)
            }
            Some([]) | None => ("no frame".to_owned(), true),
        };
        Some(TraceLine { is_sent: false, bytes, text, is_error })
    }

    /// How many stray bytes stand before a frame or an echo that is all there.
    fn stray_before(&self) -> Option<usize> {
        let is_frame = |start: &usize| {
            let tail = &self.inbound[*start..];
            let is_echo = !self.request.is_empty() && tail.starts_with(&self.request);
            is_echo || frame::split_rtu(tail).is_some_and(|found| self.request.first() == Some(&found.unit))
        };
        (0..=self.inbound.len().min(STRAY_MAX)).find(is_frame).filter(|start| *start > 0)
    }

    /// True when all that has come is an answer to the function that was asked for, whichever that is.
    fn is_answer(&self) -> bool {
        let function = |bytes: &[u8]| bytes.get(1).map(|function| function & 0x7F);
        let Some((body, crc)) = self.inbound.split_last_chunk::<2>() else { return false };
        body.len() >= 3 && crc16(body) == u16::from_le_bytes(*crc) && function(body) == function(&self.request)
    }
}

fn table_name(function: u8) -> &'static str {
    match function {
        1 => "coils",
        2 => "discrete inputs",
        3 => "holding registers",
        _ => "input registers",
    }
}

fn request_text(pdu: &[u8]) -> String {
    match *pdu {
        [function @ 1..=4, a0, a1, c0, c1] => {
            let (address, count) = (u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1]));
            format!("read {count} {} from {address}", table_name(function))
        }
        [objects::FUNCTION, _, code, object] => format!("read identification objects from {object}, code {code}"),
        [function, ..] => format!("function {function}"),
        [] => "nothing".to_owned(),
    }
}

/// What an answer says, and whether that is an exception.
fn answer_text(unit: u8, pdu: &[u8]) -> (String, bool) {
    match *pdu {
        [function, code] if function & 0x80 != 0 => (Fault::Exception(code).to_string(), true),
        [1 | 2, _, ref data @ ..] => {
            let bits = data.iter().flat_map(|byte| (0..8).map(move |bit| (byte >> bit & 1).to_string()));
            (listed(&bits.collect::<Vec<_>>(), "bits"), false)
        }
        [3 | 4, _, ref data @ ..] => {
            let words = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]).to_string());
            (listed(&words.collect::<Vec<_>>(), "registers"), false)
        }
        [objects::FUNCTION, _, code, ..] => {
            let asked = UnitId::tcp(unit.into()).ok().map(|unit| ObjectsRequest { unit, code, object: 0 });
            match asked.map(|asked| asked.take_answer(unit, pdu)) {
                Some(Ok(found)) => {
                    let texts = found.objects.iter().map(|(number, text)| format!("{number} {text:?}"));
                    (format!("identification: {}", texts.collect::<Vec<_>>().join(", ")), false)
                }
                Some(Err(error)) => (error.to_string(), true),
                None => ("identification".to_owned(), false),
            }
        }
        [function, ..] => (format!("answer to function {function}"), false),
        [] => ("nothing".to_owned(), true),
    }
}

fn listed(items: &[String], what: &str) -> String {
    let more = if items.len() > SHOWN { " ..." } else { "" };
    format!("{} {what}: {}{more}", items.len(), items[..items.len().min(SHOWN)].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_crc(body: &[u8]) -> Vec<u8> {
        [body, &crc16(body).to_le_bytes()].concat()
    }

    fn texts(lines: &[TraceLine]) -> Vec<(&str, bool)> {
        lines.iter().map(|line| (line.text.as_str(), line.is_error)).collect()
    }

    #[test]
    fn requests_and_answers_are_put_into_words() {
        let mut log = FrameLog::new(false);
        let lines = log.add(Traced::Sent(&with_crc(&[1, 3, 0, 10, 0, 2])));
        assert_eq!(texts(&lines), [("unit 1: read 2 holding registers from 10", false)]);
        let answer = with_crc(&[1, 3, 4, 0, 7, 1, 0]);
        assert!(log.add(Traced::Received(&answer[..5])).is_empty());
        assert_eq!(texts(&log.add(Traced::Received(&answer[5..]))), [("unit 1: 2 registers: 7 256", false)]);

        log.add(Traced::Sent(&with_crc(&[1, 4, 0, 0, 0, 1])));
        let lines = log.add(Traced::Received(&with_crc(&[1, 0x84, 2])));
        assert_eq!(texts(&lines), [("unit 1: exception 2 (illegal data address)", true)]);
    }

    #[test]
    fn stray_bytes_are_shown_beside_the_frame_that_they_surround() {
        let mut log = FrameLog::new(false);
        log.add(Traced::Sent(&with_crc(&[1, 3, 0, 0, 0, 1])));
        let bytes = [&[0][..], &with_crc(&[1, 3, 2, 0, 7]), &[0xFF]].concat();

        let lines = log.add(Traced::Received(&bytes));

        assert_eq!(texts(&lines), [("stray byte", true), ("unit 1: 1 registers: 7", false)]);
        assert_eq!(texts(&log.finish()), [("a byte that belongs to no frame", true)]);
    }

    #[test]
    fn a_device_without_identification_objects_says_so() {
        let mut log = FrameLog::new(false);
        log.add(Traced::Sent(&with_crc(&[1, 0x2B, 0x0E, 1, 0])));

        let lines = log.add(Traced::Received(&with_crc(&[1, 0xAB, 1])));

        assert_eq!(texts(&lines), [("unit 1: exception 1 (illegal function)", true)]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut log = FrameLog::new(false);
        let request = with_crc(&[1, 3, 0, 0, 0, 1]);
        log.add(Traced::Sent(&request));
        assert_eq!(texts(&log.add(Traced::Received(&request))), [("echo of the request", false)]);
        let mut damaged = with_crc(&[1, 3, 2, 0, 7]);
        damaged[4] ^= 1;
        assert!(log.add(Traced::Received(&damaged)).is_empty());
        let left = log.add(Traced::Sent(&request));
        assert!(left[0].is_error && left[0].text.starts_with("no frame: checksum"), "{left:?}");

        let mut log = FrameLog::new(true);
        log.add(Traced::Sent(&[0, 2, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]));
        let lines = log.add(Traced::Received(&[0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 9]));
        assert_eq!(texts(&lines), [("unit 1: 1 registers: 9 (late: answers an earlier request)", true)]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_are_lost(
            chunks in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..40), 0..10),
            is_tcp in proptest::bool::ANY,
        ) {
            let mut log = FrameLog::new(is_tcp);
            let mut lines = log.add(Traced::Sent(&[1, 3, 0, 0, 0, 1, 0x84, 0x0A]));
            for chunk in &chunks {
                lines.extend(log.add(Traced::Received(chunk)));
            }
            lines.extend(log.finish());
            let seen: Vec<u8> = lines.iter().filter(|line| !line.is_sent).flat_map(|line| line.bytes.clone()).collect();
            proptest::prop_assert_eq!(seen, chunks.concat());
        }
    }
}
