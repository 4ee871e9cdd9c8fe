//! Asking for the identification objects of a device.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, Line};
use crate::modbus::PollError;
use crate::modbus::frame;
use crate::modbus::objects::{self, FUNCTION, Objects, ObjectsRequest};
use crate::model::UnitId;

impl Client {
    /// Reads identification objects of `unit` from `object` on; `code` is 1 for the basic ones, 2 for the regular and 3
    /// for the extended. What does not fit one answer follows from [`Objects::next`].
    ///
    /// After an error for which [`PollError::ends_session`] holds, the client is of no further use.
    pub async fn read_objects(&mut self, unit: UnitId, code: u8, object: u8) -> Result<Objects, PollError> {
        let request = ObjectsRequest { unit, code, object };
        match self.line {
            Line::Tcp => self.objects_tcp(request).await,
            Line::Rtu { character, silence, quiet } => {
                UnitId::serial(unit.get().into()).map_err(|reason| PollError::UnitId { unit, reason })?;
                self.settle(unit, silence, quiet).await?;
                let frame = request.to_rtu();
                self.send(&frame).await?;
                self.last_activity += character * frame.len() as u32;
                let out = self.last_activity;
                let answer = self.objects_rtu(request, out, character, quiet).await;
                if !matches!(answer, Ok(_) | Err(PollError::Exception(_))) {
                    self.unsettled |= !matches!(answer, Err(PollError::NoAnswer { .. }));
                    self.owes(unit, FUNCTION, out);
                }
                answer
            }
        }
    }

    async fn objects_tcp(&mut self, request: ObjectsRequest) -> Result<Objects, PollError> {
        self.catch_up()?;
        self.transaction = self.transaction.wrapping_add(1);
        self.send(&request.to_tcp(self.transaction)).await?;
        let out = self.last_activity;
        let deadline = out + self.patience;
        loop {
            while let Some(frame) = frame::split_tcp(self.inbound.filled())? {
                let length = frame.length;
                if frame.transaction == self.transaction {
                    self.turnaround = self.last_activity - out;
                    let answer = request.take_answer(frame.unit, frame.pdu);
                    self.inbound.drop_front(length);
                    return answer;
                }
                let unit = frame.unit;
                self.inbound.drop_front(length);
                self.came_late(unit);
            }
            if !self.receive(deadline).await? {
                return Err(if self.inbound.is_empty() {
                    self.owes(request.unit, FUNCTION, out);
                    self.no_answer()
                } else {
                    PollError::OutOfStep { reason: "an answer broke off" }
                });
            }
        }
    }

    async fn objects_rtu(
        &mut self,
        request: ObjectsRequest,
        out: Instant,
        character: Duration,
        quiet: Duration,
    ) -> Result<Objects, PollError> {
        let echo = request.to_rtu();
        let longest = character * (2 * frame::FRAME_MAX) as u32 + quiet;
        let mut deadline = out + self.patience;
        loop {
            let was_empty = self.inbound.is_empty();
            let more = !self.inbound.is_full() && self.receive(deadline).await?;
            if more && was_empty {
                deadline = deadline.max(self.last_activity + longest);
                self.turnaround = self.last_activity.saturating_duration_since(out);
            }
            while self.drop_owed() {}
            if self.inbound.filled().starts_with(&echo) {
                self.inbound.drop_front(echo.len());
            }
            let filled = self.inbound.filled();
            let is_whole = objects::rtu_length(filled).is_some_and(|length| length <= filled.len());
            if more && !is_whole {
                continue;
            }
            if filled.is_empty() {
                return Err(self.no_answer());
            }
            let answer = objects::rtu_parts(filled).and_then(|(unit, pdu)| request.take_answer(unit, pdu));
            self.inbound.clear();
            return answer;
        }
    }
}
