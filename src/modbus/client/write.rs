//! Writing: one request, sent once.

use super::exchange::{Asked, RtuRequest};
use super::{Client, Line};
use crate::modbus::PollError;
use crate::modbus::rtu::Shape;
use crate::modbus::write::{WriteRequest, WriteWith};

impl Client {
    /// Sends a request that writes, once. An error other than an exception leaves open whether the device has done it:
    /// only reading back can tell.
    ///
    /// On RTU a device answers the writing of one item with the request itself. Whether the line hears itself, so that
    /// the first copy is only the echo, is known from the last read on this connection; without one a single copy is no
    /// answer.
    pub async fn write(&mut self, request: &WriteRequest) -> Result<(), PollError> {
        request.check()?;
        let asked = Asked { unit: request.unit, function: request.function(), patience: self.timeout };
        let take = |unit, pdu: &[u8]| request.take_answer(unit, pdu);
        match self.line {
            Line::Tcp => self.exchange_tcp(asked, |number| request.to_tcp(number), None, take).await,
            Line::Rtu(pace) => {
                let (bytes, answer) = (request.to_rtu(), request.rtu_answer());
                // Where echo and answer are the same bytes, one copy is an answer only if the line is known not to hear
                // itself.
                let may_echo = !request.answer_is_the_request() || self.hears_itself != Some(false);
                let shape = match request.with {
                    WriteWith::ReadWrite => Shape::Data(2 * request.words.len()),
                    WriteWith::Single | WriteWith::Multiple | WriteWith::Mask | WriteWith::ReadModifyWrite => {
                        Shape::Frame(&answer)
                    }
                };
                let wanted = RtuRequest { bytes: &bytes, shape, may_echo };
                let answer = self.exchange_rtu(asked, pace, wanted, take).await.answer;
                self.unsettled |= !matches!(answer, Ok(()) | Err(PollError::Exception(_)));
                answer
            }
        }
    }
}
