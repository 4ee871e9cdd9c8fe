//! Writing: one request, sent once.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, Line, OwedAnswer};
use crate::modbus::PollError;
use crate::modbus::frame;
use crate::modbus::write::WriteRequest;
use crate::model::UnitId;

impl Client {
    /// Sends a request that writes, once. An error other than an exception leaves open whether the device has done it:
    /// only reading back can tell.
    ///
    /// On RTU a device answers the writing of one item with the request itself. Whether the line hears itself, so that
    /// the first copy is only the echo, is known from the last read on this connection; without one a single copy is no
    /// answer.
    pub async fn write(&mut self, request: &WriteRequest) -> Result<(), PollError> {
        request.check()?;
        let unit = request.unit;
        match self.line {
            Line::Tcp => self.write_tcp(request).await,
            Line::Rtu { character, silence, quiet } => {
                UnitId::serial(unit.get().into()).map_err(|reason| PollError::UnitId { unit, reason })?;
                self.settle(unit, silence, quiet).await?;
                let frame = request.to_rtu();
                self.send(&frame).await?;
                self.last_activity += character * frame.len() as u32;
                let out = self.last_activity;
                let answer = self.write_rtu(request, &frame, out, character, quiet).await;
                if !matches!(answer, Ok(()) | Err(PollError::Exception(_))) {
                    self.unsettled = true;
                    let until = out + 2 * self.timeout;
                    self.owed.push(OwedAnswer { unit: unit.get(), function: request.function(), until });
                }
                answer
            }
        }
    }

    async fn write_tcp(&mut self, request: &WriteRequest) -> Result<(), PollError> {
        self.catch_up()?;
        self.transaction = self.transaction.wrapping_add(1);
        self.send(&request.to_tcp(self.transaction)).await?;
        let deadline = self.last_activity + self.timeout;
        loop {
            while let Some(frame) = frame::split_tcp(self.inbound.filled())? {
                let length = frame.length;
                if frame.transaction == self.transaction {
                    let answer = request.take_answer(frame.unit, frame.pdu);
                    self.inbound.drop_front(length);
                    return answer;
                }
                self.stale_units.push(frame.unit);
                self.inbound.drop_front(length);
            }
            if !self.receive(deadline).await? {
                return Err(if self.inbound.is_empty() {
                    self.no_answer()
                } else {
                    PollError::OutOfStep { reason: "an answer broke off" }
                });
            }
        }
    }

    async fn write_rtu(
        &mut self,
        request: &WriteRequest,
        sent: &[u8],
        out: Instant,
        character: Duration,
        quiet: Duration,
    ) -> Result<(), PollError> {
        let mut deadline = out + self.timeout;
        let transmission = character * (2 * (sent.len() + frame::RTU_REQUEST)) as u32 + quiet;
        // Where echo and answer are the same bytes, one copy is an answer only if the line is known not to hear itself.
        let mut echo_to_come = match request.answer_is_the_request() {
            true => self.hears_itself != Some(false),
            false => true,
        };
        loop {
            let was_empty = self.inbound.is_empty();
            let more = !self.inbound.is_full() && self.receive(deadline).await?;
            if more && was_empty {
                deadline = deadline.max(self.last_activity + transmission);
            }
            while self.drop_owed() {}
            if echo_to_come && self.inbound.filled().starts_with(sent) {
                self.inbound.drop_front(sent.len());
                echo_to_come = false;
            }
            if let Some(answer) = request.take_rtu(self.inbound.filled()) {
                self.inbound.clear();
                return answer;
            }
            if more {
                continue;
            }
            if self.inbound.is_empty() {
                return Err(self.no_answer());
            }
            let bytes = self.inbound.filled().len();
            self.inbound.clear();
            return Err(PollError::Garbage { bytes });
        }
    }
}
