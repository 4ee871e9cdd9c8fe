//! What a simulated endpoint did: every good answer, and counters.

use std::time::Duration;

use serde::Serialize;

use super::device::Access;
use crate::model::Timestamp;
use crate::profile::Point;

/// Every answer that a client had to take for what it asked, in the order sent. Complete, so it grows.
///
/// Exceptions and spoiled answers are only counted.
#[derive(Debug, Clone, Default)]
pub struct AnswerLog {
    answers: Vec<Entry>,
    words: Vec<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    time: Timestamp,
    after_ms: u32,
    unit: u8,
    access: Access,
    words_end: usize,
}

/// One answer as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// When its last byte was handed over.
    pub time: Timestamp,
    /// How long after the request was complete; a client may have given up meanwhile.
    pub after: Duration,
    /// Who answered.
    pub unit: u8,
    /// What was asked.
    pub access: Access,
    /// The registers, or bits as 0 and 1, that were read or written.
    pub words: &'a [u16],
}

impl<'a> Answer<'a> {
    /// The words of `point`, when this answer read all of them.
    pub fn words_of(&self, point: &Point) -> Option<&'a [u16]> {
        let is_read = self.access.function == point.table.read_function();
        let offset =
            usize::from(point.address.checked_sub(self.access.address)?) * usize::from(point.table.item_words());
        let words = self.words.get(offset..offset + usize::from(point.encoding.width()));
        words.filter(|_| is_read)
    }
}

impl AnswerLog {
    /// Adds one answer.
    pub fn note(&mut self, answer: Answer<'_>) {
        self.words.extend_from_slice(answer.words);
        self.answers.push(Entry {
            time: answer.time,
            after_ms: u32::try_from(answer.after.as_millis()).unwrap_or(u32::MAX),
            unit: answer.unit,
            access: answer.access,
            words_end: self.words.len(),
        });
    }

    /// All answers in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = Answer<'_>> {
        let starts = std::iter::once(0).chain(self.answers.iter().map(|entry| entry.words_end));
        self.answers.iter().zip(starts).map(|(entry, start)| Answer {
            time: entry.time,
            after: Duration::from_millis(u64::from(entry.after_ms)),
            unit: entry.unit,
            access: entry.access,
            words: &self.words[start..entry.words_end],
        })
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// True before the first answer.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

/// What a text instrument sent: lines that were right and went out whole, in order.
#[derive(Debug, Clone, Default)]
pub struct LineLog {
    /// When, and the line without its end.
    pub lines: Vec<(Timestamp, String)>,
}

/// What an endpoint has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections accepted; 1 for a serial line.
    pub connections: u64,
    /// Requests that were understood.
    pub requests: u64,
    /// Answers that a client had to take.
    pub answers: u64,
    /// Exceptions, asked for by a fault or not.
    pub exceptions: u64,
    /// Answers that were spoiled.
    pub spoiled: u64,
    /// Requests that got no answer: silent or dead devices, unknown units on a serial line.
    pub unanswered: u64,
    /// Times when what came was no request.
    pub garbage: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// How long the line was occupied: bytes both ways, the turnaround, and the silence each frame needs behind it.
    pub busy: Duration,
}
