//! Answers to commands that are refused or known already: every one gets its answer, at a pace that a flood cannot raise.
//! Pure: time is an argument.
//!
//! Senders with a key and strangers wait in lines of their own: a stranger's flood does not delay the answer to somebody
//! who has a key. A line has an end: the last answer that fits says so, and what comes behind it is only counted.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Answer;
use super::reply::Reply;

/// Answers that wait in one line: several seconds of its pace, and less memory than one batch.
const WAITING_MAX: usize = 128;

/// Their size in all, in bytes: correlation data may be long.
const WAITING_BYTES_MAX: usize = 128 << 10;

/// Answers in a line, those that went out included, may come so fast at once.
const BURST: u32 = 10;

/// Answers a second to strangers in the long run: a twentieth of what a broker on a slow link takes.
const TO_STRANGERS: u32 = 20;

/// The same to senders with a key.
const TO_KEYS: u32 = 50;

/// Where an answer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A signature says who asked.
    Known,
    /// Nobody knows who asked.
    Stranger,
}

/// Answers that wait for their turn.
pub(super) struct Refusals {
    known: Line,
    strangers: Line,
}

struct Line {
    pause: Duration,
    waiting: VecDeque<(Answer, Reply)>,
    bytes: usize,
    /// When an answer goes out that nobody has asked for yet: the present, or the past after a quiet time.
    next: Instant,
    /// The last one says that further ones are left out.
    is_closed: bool,
}

impl Refusals {
    pub fn new(now: Instant) -> Self {
        Self { known: Line::new(TO_KEYS, now), strangers: Line::new(TO_STRANGERS, now) }
    }

    /// Puts an answer in its line. False when the line is full.
    pub fn wait(&mut self, sender: Sender, answer: Answer, reply: Reply) -> bool {
        match sender {
            Sender::Known => self.known.wait(answer, reply),
            Sender::Stranger => self.strangers.wait(answer, reply),
        }
    }

    /// When the next answer is due; nothing when none waits.
    pub fn due(&self) -> Option<Instant> {
        [&self.known, &self.strangers].into_iter().filter(|line| !line.waiting.is_empty()).map(|line| line.next).min()
    }

    /// The next answer, when it is due.
    pub fn take(&mut self, now: Instant) -> Option<(Answer, Reply)> {
        self.known.take(now).or_else(|| self.strangers.take(now))
    }
}

impl Line {
    fn new(per_second: u32, now: Instant) -> Self {
        let pause = Duration::from_secs(1) / per_second;
        Self { pause, waiting: VecDeque::new(), bytes: 0, next: now, is_closed: false }
    }

    fn wait(&mut self, mut answer: Answer, reply: Reply) -> bool {
        let size = size(&answer, &reply);
        if self.is_closed || self.bytes + size > WAITING_BYTES_MAX {
            return false;
        }
        if self.waiting.len() + 1 == WAITING_MAX {
            let reason = answer.reason.unwrap_or_default();
            answer.reason = Some(format!(
                "{reason}; so many commands are refused just now that the next ones get no answer: send fewer"
            ));
            self.is_closed = true;
        }
        self.bytes += size;
        self.waiting.push_back((answer, reply));
        true
    }

    fn take(&mut self, now: Instant) -> Option<(Answer, Reply)> {
        if self.next > now {
            return None;
        }
        let (answer, reply) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&answer, &reply));
        self.is_closed &= !self.waiting.is_empty();
        let earliest = now.checked_sub(self.pause * BURST).unwrap_or(now);
        self.next = self.next.max(earliest) + self.pause;
        Some((answer, reply))
    }
}

fn size(answer: &Answer, reply: &Reply) -> usize {
    // The reason of the last one grows after it was measured: what a sender can make long counts, not that.
    answer.id.len() + reply.size()
}
