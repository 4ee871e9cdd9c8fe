//! One round: all blocks of a group, or those that were put off, and the probe of a device that was left alone.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Poller;
use crate::modbus::PollError;
use crate::modbus::exception::{Treatment, treatment};
use crate::modbus::plan::Block;
use crate::model::{AlarmRecord, Row, SeriesId};
use crate::poll::PollCycle;
use crate::poll::cycle::Answers;
use crate::poll::schedule::Due;

/// Requests in one round that may stay without an answer before the rest of the round is given up.
const SILENCES_MAX: u32 = 2;
/// How often a device that has no time, or whose blocks are being divided, is asked again before its next poll.
const AGAIN_MAX: u32 = 3;
/// First wait for a device that has no time; doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Rows of a poll that are bad for now: what the device says when it is asked again takes their place.
pub(super) struct Pending {
    group: usize,
    rows: Vec<Row>,
    attempt: u32,
}

/// What became of the blocks of a round.
#[derive(Default)]
pub(super) struct Round {
    /// Blocks for which the device has no time now, or whose answer was no good and cannot be asked for at once.
    busy: Vec<usize>,
    /// Some of them were no good.
    is_put_off: bool,
    /// Blocks in which something is refused, with the exception code.
    pub(super) refused: Vec<(usize, u8)>,
    /// At least one block was given.
    pub(super) is_given: bool,
    answered: bool,
    silences: u32,
    last_error: Option<PollError>,
}

impl Round {
    /// Notes a failure; `may_repeat` when a bad frame is worth another try later.
    fn note(&mut self, block: usize, error: PollError, may_repeat: bool) {
        if error.is_bad_frame() && may_repeat {
            self.busy.push(block);
            self.is_put_off = true;
        }
        self.answered |= error.is_answer();
        self.silences += u32::from(is_silence(&error));
        if let PollError::Exception(code) = error {
            match treatment(code) {
                Treatment::AskAgain => self.busy.push(block),
                Treatment::Divide | Treatment::Avoid => self.refused.push((block, code)),
                Treatment::Report | Treatment::Unreachable => {}
            }
        }
        self.last_error = Some(error);
    }
}

impl Poller {
    pub(super) async fn poll_group(&mut self, due: Due, group: usize, stop: &CancellationToken) -> PollCycle {
        self.status.polls_due += 1 + due.missed;
        self.status.polls_skipped += due.missed;
        self.status.polls_done += 1;
        self.status.devices[due.device].polls_due += 1 + due.missed;
        self.status.devices[due.device].polls_skipped += due.missed;
        self.note_lateness(due, group);
        let given_up = self.devices[due.device].pending.take_if(|pending| pending.group == group);
        let mut cycle =
            PollCycle { rows: given_up.map(|pending| pending.rows).unwrap_or_default(), alarms: Vec::new() };
        let round = self.read_group(due.device, group, None, stop, &mut cycle.alarms).await;
        let rows = self.devices[due.device].plan.rows(group, &self.answers, self.clock.wall());
        cycle.rows.extend(self.put_off(due.device, group, &round, rows, 0));
        // What is asked again is judged then.
        if round.is_put_off && !round.answered && self.devices[due.device].pending.is_none() {
            cycle.alarms.extend(self.judge(due.device, round.last_error.as_ref()));
        }
        if self.devices[due.device].pending.is_none() && self.look_again(due.device, group, stop).await.is_break() {
            self.schedule.again(due.device, group, Instant::now());
        }
        cycle.rows.extend(self.absent_rows(due.device));
        cycle
    }

    fn note_lateness(&mut self, due: Due, group: usize) {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let interval = ms(self.devices[due.device].plan.groups[group].interval);
        if let Some(shown) = self.status.intervals.iter_mut().find(|shown| shown.interval_ms == interval) {
            // What was due while the link was lent is not late by its load.
            let late = due.late.min(self.own_since.elapsed());
            shown.late_max_ms = shown.late_max_ms.max(ms(late));
        }
    }

    /// What was put off: goes on with dividing blocks, then asks for what is still missing.
    pub(super) async fn poll_again(&mut self, device: usize, group: usize, stop: &CancellationToken) -> PollCycle {
        if self.study(device, stop).await.is_break() {
            self.schedule.again(device, group, Instant::now());
            return PollCycle::default();
        }
        if self.devices[device].pending.is_none() && self.look_again(device, group, stop).await.is_break() {
            self.schedule.again(device, group, Instant::now());
        }
        let mut cycle = PollCycle::default();
        let Some(pending) = self.devices[device].pending.take_if(|pending| pending.group == group) else {
            return cycle;
        };
        let wanted: Vec<SeriesId> = pending.rows.iter().flat_map(|row| row.series.iter().copied()).collect();
        let asked = self.devices[device].plan.blocks_with(group, &wanted);
        let round = self.read_group(device, group, Some(&asked), stop, &mut cycle.alarms).await;
        let mut rows = self.devices[device].plan.rows(group, &self.answers, self.clock.wall());
        rows.retain(|row| row.series.iter().any(|id| wanted.contains(id)));
        if rows.is_empty() {
            // Stopped, or nothing of it is asked for any more.
            cycle.rows = pending.rows;
            return cycle;
        }
        cycle.rows = self.put_off(device, group, &round, rows, pending.attempt + 1);
        cycle
    }

    /// Keeps back rows that are worth another try before the next poll; gives the others.
    fn put_off(&mut self, device: usize, group: usize, round: &Round, rows: Vec<Row>, attempt: u32) -> Vec<Row> {
        let now = Instant::now();
        // By the plan of this round: what is learned from it may change the plan.
        let plan = &self.devices[device].plan;
        let mut held = plan.series_of(group, &plan.with_factors(group, &round.busy));
        let refused: Vec<usize> = round.refused.iter().map(|(block, _)| *block).collect();
        let refused = plan.series_of(group, &plan.with_factors(group, &refused));
        let is_studied = self.begin_study(device, group, round);
        let wait = match (is_studied, round.busy.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => AGAIN_AFTER * (1 << attempt.min(AGAIN_MAX)),
            (false, true) => return rows,
        };
        if is_studied {
            held.extend(refused);
        }
        let (kept, given): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| held.iter().any(|series| Arc::ptr_eq(series, &row.series)));
        // A poll that comes before takes its place, and what was kept back is handed on as it is.
        if attempt >= AGAIN_MAX || kept.is_empty() || !self.schedule.again(device, group, now + wait) {
            return kept.into_iter().chain(given).collect();
        }
        self.devices[device].pending = Some(Pending { group, rows: kept, attempt });
        given
    }

    /// Asks for the blocks of a group, all or those `asked`, and judges the device by them. Leaves the answers in
    /// `self.answers`.
    pub(super) async fn read_group(
        &mut self,
        device: usize,
        group: usize,
        asked: Option<&[bool]>,
        stop: &CancellationToken,
        alarms: &mut Vec<AlarmRecord>,
    ) -> Round {
        let identified = match self.devices[device].identity.is_plain() {
            true => Ok(()),
            false => Box::pin(self.identify(device, stop, alarms)).await,
        };
        self.answers.clear();
        let blocks = self.devices[device].plan.groups[group].blocks.len();
        if let Err(error) = identified {
            if !matches!(error, PollError::Stopped) {
                self.answers.finish_all(blocks, self.clock.wall(), error.fault());
                alarms.extend(self.judge(device, Some(&error)));
            }
            return Round::default();
        }
        if let Some(fault) = self.devices[device].plan.barred() {
            self.answers.finish_all(blocks, self.clock.wall(), fault);
            alarms.extend(self.judge(device, None));
            return Round::default();
        }
        let mut answers = std::mem::take(&mut self.answers);
        let mut round = Round::default();
        for index in 0..blocks {
            if asked.is_some_and(|asked| !asked.get(index).is_some_and(|asked| *asked)) {
                answers.skip();
                continue;
            }
            let is_first = asked.is_none();
            if self.ask_for(device, (group, index, is_first), &mut round, &mut answers, stop).await.is_break() {
                break;
            }
        }
        self.answers = answers;
        self.judge_round(device, &round, alarms);
        round
    }

    /// One block of a round; break when there is to be no other.
    async fn ask_for(
        &mut self,
        device: usize,
        (group, index, is_first): (usize, usize, bool),
        round: &mut Round,
        answers: &mut Answers,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        if index > 0 && stop.is_cancelled() {
            return ControlFlow::Break(());
        }
        if round.silences > 0 && (!round.answered || round.silences >= SILENCES_MAX) {
            answers.finish(self.clock.wall(), self.devices[device].last_fault);
            return ControlFlow::Continue(());
        }
        let outcome = self.ask_block(device, group, index, answers.next_words(), stop).await;
        if matches!(outcome, Err(PollError::Stopped)) {
            return ControlFlow::Break(());
        }
        answers.finish(self.clock.wall(), outcome.as_ref().err().map(PollError::fault));
        match outcome {
            Ok(()) => (round.answered, round.is_given) = (true, true),
            Err(error) => {
                self.devices[device].last_fault = Some(error.fault());
                let may_repeat = is_first && self.connection.is_owed_by(self.devices[device].plan.unit);
                round.note(index, error, may_repeat);
            }
        }
        ControlFlow::Continue(())
    }

    fn judge_round(&mut self, device: usize, round: &Round, alarms: &mut Vec<AlarmRecord>) {
        if round.answered {
            self.conclude(device, true, alarms);
            alarms.extend(self.judge(device, None));
        } else if let Some(error) = round.last_error.as_ref().filter(|_| !round.is_put_off) {
            alarms.extend(self.judge(device, Some(error)));
        }
    }

    /// The cheapest request to a device that was left alone. Only a failure gives readings: all tags bad, once.
    pub(super) async fn probe(&mut self, device: usize, stop: &CancellationToken) -> PollCycle {
        let mut words = Vec::new();
        let Block { table, address, count, .. } = self.devices[device].plan.probe;
        let outcome = self.ask(device, (table, address, count), None, &mut words, stop).await;
        if matches!(outcome, Err(PollError::Stopped)) {
            return PollCycle::default();
        }
        let failure = outcome.err().filter(|error| !error.is_answer());
        let alarms = self.judge(device, failure.as_ref()).into_iter().collect();
        let rows = match failure {
            Some(error) => self.devices[device].plan.all_bad(self.clock.wall(), error.fault()),
            None => Vec::new(),
        };
        PollCycle { rows, alarms }
    }
}

/// Nothing came from the device itself: a silence, or a gateway that says so for it.
fn is_silence(error: &PollError) -> bool {
    matches!(error, PollError::NoAnswer { .. } | PollError::LinkDown(_) | PollError::Stopped)
        || matches!(error, PollError::Exception(_)) && !error.is_answer()
}
