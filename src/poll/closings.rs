//! Whether the other side closes the connection after each answer, as some small TCP stacks do. Pure.

use std::time::{Duration, Instant};

/// So many connections in a row that end in the same way are a habit.
const HABIT: u32 = 3;
/// A connection that has carried more answers was not closed because of one.
const ANSWERS_MAX: u32 = 4;
/// One that was quiet for longer may have been closed for that.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// How the connections of a link ended.
#[derive(Debug, Default)]
pub(super) struct Closings {
    /// Answers on the present connection.
    answers: u32,
    last_answer: Option<Instant>,
    /// Connections in a row that were closed after a few answers.
    in_a_row: u32,
    /// How many answers the last one carried.
    carried: u32,
}

impl Closings {
    /// The present connection has carried an answer.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answers = self.answers.saturating_add(1);
        self.last_answer = Some(now);
        if self.answers > ANSWERS_MAX {
            self.in_a_row = 0;
        }
    }

    /// The other side has closed the present connection.
    pub(super) fn closed(&mut self, now: Instant) {
        let was_quiet = self.last_answer.is_none_or(|last| now - last > QUIET_MAX);
        // One that carried nothing is the second half of a close that was seen too late.
        if self.answers > 0 {
            let is_short = self.answers <= ANSWERS_MAX && !was_quiet;
            self.in_a_row = if is_short { self.in_a_row.saturating_add(1) } else { 0 };
            self.carried = self.answers;
        }
        self.answers = 0;
    }

    /// The present connection ended in another way.
    pub(super) fn broke(&mut self) {
        *self = Self::default();
    }

    /// After so many answers the other side closes each connection; `None` where it does not.
    pub(super) fn habit(&self) -> Option<u32> {
        (self.in_a_row >= HABIT).then_some(self.carried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_connections_that_end_behind_an_answer_are_a_habit() {
        for answers in [1, 2] {
            let (mut closings, now) = (Closings::default(), Instant::now());
            for _ in 0..3 {
                assert_eq!(closings.habit(), None);
                (0..answers).for_each(|_| closings.answered(now));
                closings.closed(now);
            }
            assert_eq!(closings.habit(), Some(answers));
            closings.closed(now);
            assert_eq!(closings.habit(), Some(answers), "one that was closed before its first answer tells nothing");

            (0..5).for_each(|_| closings.answered(now));

            assert_eq!(closings.habit(), None, "it is cured");
        }
    }

    #[test]
    fn a_connection_that_is_closed_because_it_is_idle_is_no_habit() {
        let (mut closings, mut now) = (Closings::default(), Instant::now());
        for _ in 0..10 {
            closings.answered(now);
            now += Duration::from_secs(60);
            closings.closed(now);
        }
        assert_eq!(closings.habit(), None);
    }
}
