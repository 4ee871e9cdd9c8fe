//! Asking for the identification objects of a device.

use super::exchange::{Asked, RtuRequest};
use super::{Client, Line};
use crate::modbus::PollError;
use crate::modbus::objects::{FUNCTION, Objects, ObjectsRequest};
use crate::modbus::rtu::Shape;
use crate::model::UnitId;

impl Client {
    /// Reads identification objects of `unit` from `object` on; `code` is 1 for the basic ones, 2 for the regular and 3
    /// for the extended. What does not fit one answer follows from [`Objects::next`].
    ///
    /// After an error for which [`PollError::ends_session`] holds, the client is of no further use.
    pub async fn read_objects(&mut self, unit: UnitId, code: u8, object: u8) -> Result<Objects, PollError> {
        let request = ObjectsRequest { unit, code, object };
        let answer = self.objects_once(request).await;
        match answer {
            Err(error) if self.may_ask_anew(&error) => {
                self.reopen().await?;
                self.objects_once(request).await
            }
            answer => answer,
        }
    }

    async fn objects_once(&mut self, request: ObjectsRequest) -> Result<Objects, PollError> {
        let asked = Asked { unit: request.unit, function: FUNCTION, patience: self.patience };
        let take = |unit, pdu: &[u8]| request.take_answer(unit, pdu);
        match self.line {
            Line::Tcp => self.exchange_tcp(asked, |number| request.to_tcp(number), None, take).await,
            Line::Rtu(pace) => {
                let wanted = RtuRequest { bytes: &request.to_rtu(), shape: Shape::Objects, may_echo: true };
                self.exchange_rtu(asked, pace, wanted, take).await.answer
            }
        }
    }
}
