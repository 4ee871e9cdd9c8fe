//! Polling a device out of turn, and writing to it: only when it is known to be what its profile says, only what was
//! meant, and once.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Poller;
use super::asking::{Question, Wanted};
use crate::modbus::PollError;
use crate::modbus::write::{WriteRequest, WriteWith};
use crate::model::{AlarmRecord, Name, Row};
use crate::poll::PollCycle;
use crate::poll::link::WriteFailure;
use crate::profile::Point;

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteOrder {
    /// To which device.
    pub device: Name,
    /// Index of the point in its profile.
    pub point: usize,
    /// The point as whoever allowed it knows it: the firmware of the device may place it elsewhere.
    pub meant: Point,
    /// Its registers, or one word 0 or 1 for a coil.
    pub words: Vec<u16>,
    /// With which function.
    pub with: WriteWith,
}

impl Poller {
    pub(super) async fn serve_write(
        &mut self,
        order: &WriteOrder,
        reply: oneshot::Sender<Result<(), WriteFailure>>,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        let mut alarms = Vec::new();
        // Whoever asked may have gone away.
        let _ = reply.send(self.write(order, stop, &mut alarms).await);
        self.hand_on(PollCycle { rows: Vec::new(), alarms }).await
    }

    /// Polls all groups of a device out of turn: what it says is stored.
    pub(super) async fn poll_now(
        &mut self,
        device: &Name,
        reply: oneshot::Sender<Result<Vec<Row>, PollError>>,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        let Some(device) = self.devices.iter().position(|known| known.plan.name == *device) else {
            let _ = reply.send(Err(PollError::UnknownDevice));
            return ControlFlow::Continue(());
        };
        let mut alarms = Vec::new();
        let outcome = self.read_device(device, stop, &mut alarms).await;
        let rows = outcome.as_ref().map(Vec::clone).unwrap_or_default();
        // Whoever asked may go by what the rules make of it.
        let flow = self.hand_on(PollCycle { rows, alarms }).await;
        let _ = reply.send(outcome);
        flow
    }

    /// Identifies the device if need be, and writes. The request goes out at most once.
    async fn write(
        &mut self,
        order: &WriteOrder,
        stop: &CancellationToken,
        alarms: &mut Vec<AlarmRecord>,
    ) -> Result<(), WriteFailure> {
        let Some(device) = self.devices.iter().position(|known| known.plan.name == order.device) else {
            return Err(WriteFailure::NotSent(PollError::UnknownDevice));
        };
        self.identify(device, stop, alarms).await.map_err(WriteFailure::NotSent)?;
        let known = &self.devices[device];
        let is_known = known.identity.asked_on().is_none()
            || self.status.devices[device].identity.as_ref().is_some_and(|identity| identity.allows_writes());
        if !is_known || known.plan.barred().is_some() {
            return Err(WriteFailure::NotIdentified);
        }
        if known.plan.point(order.point).is_none_or(|point| !is_same_place(point, &order.meant)) {
            return Err(WriteFailure::Elsewhere);
        }
        let (unit, pause, on) = (known.plan.unit, known.plan.pacing.between_requests, known.identity.asked_on());
        let request = WriteRequest {
            unit,
            table: order.meant.table,
            address: order.meant.address,
            words: order.words.clone(),
            with: order.with,
        };
        let words = self.hear_the_line(device, &request, pause, on, stop).await.map_err(WriteFailure::NotSent)?;
        let request = match words.first() {
            Some(word) => request.modified(*word),
            None => request,
        };
        let mut was_sent = false;
        let wanted = Wanted::Write { request: &request, was_sent: &mut was_sent };
        let outcome = self.ask_once(Some(device), unit, pause, &mut Question { wanted, on }, stop).await;
        match outcome {
            Ok(()) => Ok(()),
            Err(error @ PollError::Exception(_)) => Err(WriteFailure::Refused(error)),
            Err(error) if was_sent => Err(WriteFailure::Unanswered(error)),
            Err(error) => Err(WriteFailure::NotSent(error)),
        }
    }

    /// One read on the connection that the write will use: where echo and answer of a write are the same bytes, only
    /// this tells them apart. What it read is what a register that is shared holds now.
    async fn hear_the_line(
        &mut self,
        device: usize,
        request: &WriteRequest,
        pause: Duration,
        on: Option<u64>,
        stop: &CancellationToken,
    ) -> Result<Vec<u16>, PollError> {
        let mut words = Vec::new();
        let (table, address, count) = (request.table, request.address, request.count());
        let wanted = Wanted::Words { table, address, count, into: &mut words };
        self.ask_once(Some(device), request.unit, pause, &mut Question { wanted, on }, stop).await?;
        Ok(words)
    }
}

fn is_same_place(a: &Point, b: &Point) -> bool {
    (a.table, a.address, &a.scattered, a.encoding, a.word_order, a.byte_order, a.scale, a.scale_factor)
        == (b.table, b.address, &b.scattered, b.encoding, b.word_order, b.byte_order, b.scale, b.scale_factor)
}
