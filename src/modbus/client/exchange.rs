//! One request and its answer on either framing.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, MISSING_MAX, Pace, given_up_for_its_late_answer};
use crate::modbus::PollError;
use crate::modbus::frame::FRAME_MAX;
use crate::modbus::mbap::{self, Step};
use crate::modbus::rtu::{Awaited, Failed, Progress, STRAY_MAX, Shape};
use crate::model::UnitId;

/// Who is asked for what, and how long the first byte of the answer is waited for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) unit: UnitId,
    pub(super) function: u8,
    pub(super) patience: Duration,
}

/// A request on RTU.
pub(super) struct RtuRequest<'a> {
    pub(super) bytes: &'a [u8],
    /// What the answer looks like.
    pub(super) shape: Shape<'a>,
    /// The line may give the request back before the answer.
    pub(super) may_echo: bool,
}

/// An answer on RTU, and whether the echo of the request came before it.
pub(super) struct Heard<T> {
    pub(super) answer: Result<T, PollError>,
    pub(super) had_echo: bool,
}

impl Client {
    /// Sends the request that `framed` makes with a transaction id and gives what `take` makes of unit and PDU of its
    /// answer. `data_bytes` is the byte count of the answer, where it has one.
    pub(super) async fn exchange_tcp<T, B: AsRef<[u8]>>(
        &mut self,
        asked: Asked,
        framed: impl FnOnce(u16) -> B,
        data_bytes: Option<usize>,
        mut take: impl FnMut(u8, &[u8]) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        self.is_heard = false;
        if self.is_spent {
            return Err(given_up_for_its_late_answer());
        }
        self.catch_up()?;
        self.drop_what_nobody_asked();
        // 0 is not used: two stray bytes before a frame with this number would look like a header.
        self.transaction = self.transaction.checked_add(1).unwrap_or(1);
        self.send(framed(self.transaction).as_ref()).await?;
        let out = self.last_activity;
        let deadline = out + asked.patience;
        self.was_late = false;
        let mut foreign = None;
        loop {
            match self.awaited(asked, data_bytes).step(self.inbound.filled()) {
                Step::Answer { unit, pdu, before, end } => {
                    let answer = take(if self.accepted.any_unit { asked.unit.get() } else { unit }, pdu);
                    self.turnaround = self.last_activity.saturating_duration_since(out);
                    self.inbound.drop_front(end);
                    self.late_requests = 0;
                    self.strayed(before);
                    self.drop_what_nobody_asked();
                    return answer;
                }
                Step::Other { transaction, unit, end } => {
                    self.inbound.drop_front(end);
                    if self.missing.contains(&transaction) {
                        self.came_late(transaction, unit);
                        self.was_late = true;
                    } else {
                        foreign = Some(transaction);
                    }
                    continue;
                }
                Step::More => {}
            }
            if self.inbound.is_full() || !self.receive(deadline).await? {
                return Err(self.unanswered(asked, data_bytes, foreign, out));
            }
        }
    }

    fn awaited(&self, asked: Asked, data_bytes: Option<usize>) -> mbap::Awaited<'_> {
        mbap::Awaited {
            transaction: (!self.accepted.any_transaction).then_some(self.transaction),
            missing: &self.missing,
            unit: (!self.accepted.any_unit).then_some(asked.unit.get()),
            function: asked.function,
            data_bytes,
        }
    }

    /// No answer came over TCP in time; `foreign` is the number of a frame that answers nothing that was asked.
    fn unanswered(&mut self, asked: Asked, data_bytes: Option<usize>, foreign: Option<u16>, out: Instant) -> PollError {
        if !self.inbound.is_empty() {
            return PollError::OutOfStep(self.awaited(asked, data_bytes).failed(self.inbound.filled()));
        }
        self.late_requests = if self.was_late { self.late_requests + 1 } else { 0 };
        self.is_spent = self.accepted.any_transaction;
        if self.missing.len() == MISSING_MAX {
            self.missing.remove(0);
        }
        self.missing.push(self.transaction);
        match foreign {
            Some(answered) => PollError::WrongTransaction { asked: self.transaction, answered },
            None => {
                self.owes(asked.unit, asked.function, out);
                self.no_answer()
            }
        }
    }

    /// Drops what has arrived over TCP and answers no open request; the beginning of an answer that is missing stays.
    fn drop_what_nobody_asked(&mut self) {
        let (late, kept) = mbap::overdue(self.inbound.filled(), &self.missing);
        let whole: usize = late.iter().map(|late| late.bytes).sum();
        let stray = self.inbound.filled().len() - whole - kept;
        self.inbound.drop_front(whole + stray);
        late.iter().for_each(|late| self.came_late(late.transaction, late.unit));
        self.strayed(stray);
    }

    /// Sends a request on an RTU line that is quiet and gives what `take` makes of unit and PDU of its answer.
    pub(super) async fn exchange_rtu<T>(
        &mut self,
        asked: Asked,
        pace: Pace,
        request: RtuRequest<'_>,
        take: impl FnMut(u8, &[u8]) -> Result<T, PollError>,
    ) -> Heard<T> {
        let mut had_echo = false;
        let answer = self.settle_and_ask(asked, pace, request, &mut had_echo, take).await;
        Heard { answer, had_echo }
    }

    async fn settle_and_ask<T>(
        &mut self,
        asked: Asked,
        pace: Pace,
        request: RtuRequest<'_>,
        had_echo: &mut bool,
        take: impl FnMut(u8, &[u8]) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        let Asked { unit, function, .. } = asked;
        self.is_heard = false;
        UnitId::serial(unit.get().into()).map_err(|reason| PollError::UnitId { unit, reason })?;
        self.settle(unit, pace.silence, pace.quiet).await?;
        self.send(request.bytes).await?;
        self.last_activity += pace.character * request.bytes.len() as u32;
        let out = self.last_activity;
        let answer = self.hear(asked, pace, request, out, had_echo, take).await;
        // What it means for the next request.
        match &answer {
            Ok(_) | Err(PollError::Exception(_)) => {}
            // Of the right shape in every byte but the checksum: this was the answer.
            Err(PollError::BadChecksum { .. }) => self.unsettled = true,
            Err(error) => {
                self.unsettled |= !matches!(error, PollError::NoAnswer { .. });
                self.owes(unit, function, out);
            }
        }
        answer
    }

    async fn hear<T>(
        &mut self,
        asked: Asked,
        pace: Pace,
        request: RtuRequest<'_>,
        out: Instant,
        had_echo: &mut bool,
        mut take: impl FnMut(u8, &[u8]) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        let (unit, function) = (asked.unit.get(), asked.function);
        let echo = request.may_echo.then_some(request.bytes);
        let mut awaited = Awaited { unit, function, echo, shape: request.shape, behind_max: STRAY_MAX };
        // The timeout is for the first byte; the rest may take as long as the line needs, twice over.
        let transmission = pace.character * (2 * longest(&request)) as u32 + pace.quiet;
        let mut deadline = out + asked.patience;
        let mut progress = Progress::Partial;
        loop {
            let until = match progress {
                Progress::Unexpected => deadline.min(self.last_activity + pace.quiet),
                Progress::Partial | Progress::Whole { .. } | Progress::Echo { .. } => deadline,
            };
            let was_empty = self.inbound.is_empty();
            let more = !self.inbound.is_full() && self.receive(until).await?;
            if more && was_empty {
                deadline = deadline.max(self.last_activity + transmission);
                self.turnaround = self.last_activity.saturating_duration_since(out);
            }
            while self.drop_owed() {}
            // Behind the answer there may be that of a unit that owes one.
            awaited.behind_max = if self.owed.is_empty() { STRAY_MAX } else { usize::MAX };
            progress = awaited.progress(self.inbound.filled());
            if let Progress::Echo { end } = progress {
                *had_echo = true;
                awaited.echo = None;
                self.inbound.drop_front(end);
                progress = awaited.progress(self.inbound.filled());
            }
            if !more {
                awaited.echo = None;
                progress = awaited.progress(self.inbound.filled());
            }
            match progress {
                Progress::Whole { start, end } => return self.take_rtu(start, end, take),
                Progress::Partial | Progress::Unexpected | Progress::Echo { .. } if more => {}
                Progress::Partial | Progress::Unexpected | Progress::Echo { .. } => {
                    return self.take_nothing(&awaited, &mut take);
                }
            }
        }
    }

    /// The answer stands between `start` and `end` of what has arrived.
    fn take_rtu<T>(
        &mut self,
        start: usize,
        end: usize,
        mut take: impl FnMut(u8, &[u8]) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        let frame = &self.inbound.filled()[start..end - 2];
        let answer = match frame {
            [unit, pdu @ ..] => take(*unit, pdu),
            [] => Err(self.no_answer()),
        };
        self.inbound.drop_front(end);
        let behind = if self.owed.is_empty() { self.inbound.filled().len() } else { 0 };
        self.inbound.drop_front(behind);
        self.strayed(start + behind);
        answer
    }

    /// No answer came on the line; whatever came is dropped.
    fn take_nothing<T>(
        &mut self,
        awaited: &Awaited<'_>,
        take: &mut impl FnMut(u8, &[u8]) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        if self.inbound.is_empty() {
            return Err(self.no_answer());
        }
        let answer = match awaited.failed(self.inbound.filled()) {
            Failed::Other { unit, pdu } => take(unit, pdu),
            Failed::Useless(error) => Err(error),
        };
        self.inbound.clear();
        answer
    }
}

/// Most bytes of the answer to a request, CRC included.
fn longest(request: &RtuRequest<'_>) -> usize {
    match request.shape {
        Shape::Data(bytes) => request.bytes.len() + bytes,
        Shape::Objects => FRAME_MAX,
        Shape::Frame(frame) => request.bytes.len() + frame.len(),
    }
}
