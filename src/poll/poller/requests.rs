//! What is asked of a poller between two polls.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asking::{Question, Wanted};
use super::{Poller, REQUESTS_PART};
use crate::modbus::PollError;
use crate::model::{AlarmRecord, Row};
use crate::poll::PollCycle;
use crate::poll::link::Request;

/// Turns of finding out what a device refuses before a person gets what is known by then.
const STUDY_TURNS_MAX: u32 = 50;

impl Poller {
    /// Serves a request of a person. While polls wait, the next one waits for a while in which they have the link.
    pub(super) async fn serve_in_turn(&mut self, request: Request, stop: &CancellationToken) -> ControlFlow<()> {
        let begun = Instant::now();
        let is_loan = matches!(request, Request::Lend { .. });
        let flow = self.serve(request, stop).await;
        // What was lent may have been away for as long as somebody looked around.
        let took = if is_loan { Duration::ZERO } else { begun.elapsed() };
        self.serves_from = Instant::now() + took * (REQUESTS_PART - 1);
        flow
    }

    async fn serve(&mut self, request: Request, stop: &CancellationToken) -> ControlFlow<()> {
        match request {
            Request::Raw { unit, table, address, count, reply } => {
                let mut words = Vec::new();
                let device = self.devices.iter().position(|device| device.plan.unit == unit);
                let pause = device.map_or(Duration::ZERO, |device| self.devices[device].plan.pacing.between_requests);
                let wanted = Wanted::Words { table, address, count, into: &mut words };
                let mut question = Question { wanted, on: None };
                let outcome = self.ask_once(device, unit, pause, &mut question, stop).await;
                // Whoever asked may have gone away.
                let _ = reply.send(outcome.map(|()| words));
                ControlFlow::Continue(())
            }
            Request::Device { device, reply } => {
                let Some(device) = self.devices.iter().position(|known| known.plan.name == device) else {
                    let _ = reply.send(Err(PollError::UnknownDevice));
                    return ControlFlow::Continue(());
                };
                let mut alarms = Vec::new();
                let _ = reply.send(self.read_device(device, stop, &mut alarms).await);
                self.hand_on(PollCycle { rows: Vec::new(), alarms }).await
            }
            Request::Write { order, reply } => self.serve_write(&order, reply, stop).await,
            Request::PollNow { device, reply } => self.poll_now(&device, reply, stop).await,
            Request::Hasten { device, interval, lasts, reply } => {
                let known = self.devices.iter().position(|known| known.plan.name == device);
                if let Some(device) = known {
                    let now = Instant::now();
                    self.schedule.hasten(device, interval, now + lasts, now);
                }
                let _ = reply.send(known.map(|_| ()).ok_or(PollError::UnknownDevice));
                ControlFlow::Continue(())
            }
            Request::Lend { returned, reply } => self.lend(returned, reply, stop).await,
            Request::Forget { device, reply } => {
                let found = self.devices.iter().position(|known| known.plan.name == device);
                let _ = reply.send(match found {
                    Some(device) => Ok(self.forget(device)),
                    None => Err(PollError::UnknownDevice),
                });
                ControlFlow::Continue(())
            }
        }
    }

    pub(super) async fn read_device(
        &mut self,
        device: usize,
        stop: &CancellationToken,
        alarms: &mut Vec<AlarmRecord>,
    ) -> Result<Vec<Row>, PollError> {
        self.connection.client().await?;
        let mut rows = Vec::new();
        for group in 0..self.devices[device].plan.groups.len() {
            let round = self.read_group(device, group, None, stop, alarms).await;
            if !round.refused.is_empty() {
                if self.begin_study(device, group, &round) {
                    self.study_to_its_end(device, stop).await;
                }
                // What was learned has changed the plan: answers belong to the blocks that were asked for.
                self.read_group(device, group, None, stop, alarms).await;
            }
            rows.extend(self.devices[device].plan.rows(group, &self.answers, self.clock.wall()));
        }
        rows.extend(self.devices[device].plan.absent_row(self.clock.wall()));
        Ok(rows)
    }

    /// Finds out what of its blocks a device refuses, so that a person sees what it gives; not for ever.
    async fn study_to_its_end(&mut self, device: usize, stop: &CancellationToken) {
        for _ in 0..STUDY_TURNS_MAX {
            if self.study(device, stop).await.is_continue() {
                return;
            }
        }
    }
}
