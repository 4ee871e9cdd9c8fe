//! What the blocks of one round answered.

use crate::model::{Fault, Timestamp};

/// What the blocks of one round answered. Kept between rounds for its memory.
#[derive(Default)]
pub(in crate::poll) struct Answers {
    answers: Vec<Answer>,
    asked: usize,
}

#[derive(Default)]
struct Answer {
    words: Vec<u16>,
    time: Timestamp,
    fault: Option<Fault>,
    /// It was not asked.
    is_skipped: bool,
}

impl Answers {
    /// Forgets all answers.
    pub(in crate::poll) fn clear(&mut self) {
        self.asked = 0;
    }

    /// Room for the words of the next block; [`finish`](Self::finish) completes it.
    pub(in crate::poll) fn next_words(&mut self) -> &mut Vec<u16> {
        if self.answers.len() == self.asked {
            self.answers.push(Answer::default());
        }
        &mut self.answers[self.asked].words
    }

    /// Completes the block begun with [`next_words`](Self::next_words).
    pub(in crate::poll) fn finish(&mut self, time: Timestamp, fault: Option<Fault>) {
        self.next_words();
        self.answers[self.asked].time = time;
        self.answers[self.asked].fault = fault;
        self.answers[self.asked].is_skipped = false;
        self.asked += 1;
    }

    /// The next block is not asked in this round.
    pub(in crate::poll) fn skip(&mut self) {
        self.next_words();
        self.answers[self.asked].is_skipped = true;
        self.asked += 1;
    }

    /// Why the device gave nothing at all; `None` when it said something, or was not asked.
    pub(super) fn silence(&self) -> Option<Fault> {
        let asked = || self.answers[..self.asked].iter().filter(|answer| !answer.is_skipped);
        let said = |answer: &Answer| answer.fault.is_none_or(|fault| matches!(fault, Fault::Exception(_)));
        if asked().any(said) { None } else { asked().find_map(|answer| answer.fault) }
    }

    /// Completes `blocks` blocks that were not asked, for one reason.
    pub(in crate::poll) fn finish_all(&mut self, blocks: usize, time: Timestamp, fault: Fault) {
        (0..blocks).for_each(|_| self.finish(time, Some(fault)));
    }

    pub(super) fn get(&self, block: usize) -> Option<(Timestamp, Result<&[u16], Fault>)> {
        let answer = self.answers[..self.asked].get(block).filter(|answer| !answer.is_skipped)?;
        Some((answer.time, answer.fault.map_or(Ok(answer.words.as_slice()), Err)))
    }
}
