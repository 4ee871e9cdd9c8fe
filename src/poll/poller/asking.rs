//! One request on the link: what goes out, how long it is waited for, and what of it is counted.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Poller;
use crate::modbus::PollError;
use crate::modbus::client::OnClose;
use crate::modbus::objects::Objects;
use crate::modbus::plan::Block;
use crate::modbus::write::WriteRequest;
use crate::model::UnitId;
use crate::profile::Table;

/// One request, and which connection it may go out on: on another one the device may be another one.
pub(super) struct Question<'a> {
    pub(super) wanted: Wanted<'a>,
    /// `None` where it does not matter.
    pub(super) on: Option<u64>,
}

/// What is asked, and where the answer goes.
pub(super) enum Wanted<'a> {
    Words {
        table: Table,
        address: u16,
        count: u16,
        into: &'a mut Vec<u16>,
    },
    Objects {
        code: u8,
        object: u8,
        into: &'a mut Objects,
    },
    /// Says whether the request went out, whatever came of it.
    Write {
        request: &'a WriteRequest,
        was_sent: &'a mut bool,
    },
}

impl Wanted<'_> {
    /// How many registers are asked for; zero for bits and objects.
    fn registers(&self) -> u16 {
        match self {
            Wanted::Words { table, count, .. } if !table.holds_bits() => *count,
            Wanted::Words { .. } | Wanted::Objects { .. } | Wanted::Write { .. } => 0,
        }
    }
}

impl Poller {
    pub(super) async fn ask_block(
        &mut self,
        device: usize,
        group: usize,
        index: usize,
        words: &mut Vec<u16>,
        stop: &CancellationToken,
    ) -> Result<(), PollError> {
        let Block { table, address, count, .. } = self.devices[device].plan.groups[group].blocks[index].block;
        let on = self.devices[device].identity.asked_on();
        self.ask(device, (table, address, count), on, words, stop).await
    }

    /// One request to a device, with one retry after a bad frame where that holds up nobody.
    pub(super) async fn ask(
        &mut self,
        device: usize,
        (table, address, count): (Table, u16, u16),
        on: Option<u64>,
        words: &mut Vec<u16>,
        stop: &CancellationToken,
    ) -> Result<(), PollError> {
        let unit = self.devices[device].plan.unit;
        let pause = self.devices[device].plan.pacing.between_requests;
        let mut outcome = Err(PollError::Stopped);
        for _ in 0..2 {
            let mut question = Question { wanted: Wanted::Words { table, address, count, into: words }, on };
            outcome = self.ask_once(Some(device), unit, pause, &mut question, stop).await;
            let is_bad = outcome.as_ref().is_err_and(PollError::is_bad_frame);
            let retry = is_bad && !stop.is_cancelled() && !self.connection.is_owed_by(unit);
            if !retry {
                break;
            }
        }
        outcome
    }

    pub(super) async fn ask_once(
        &mut self,
        device: Option<usize>,
        unit: UnitId,
        pause: Duration,
        question: &mut Question<'_>,
        stop: &CancellationToken,
    ) -> Result<(), PollError> {
        let closes = self.connection.closes_after().is_some();
        let client = tokio::select! {
            biased;
            client = self.connection.client() => client,
            () = stop.cancelled() => Err(PollError::Stopped),
        };
        let client = match client {
            Ok((_, made)) if question.on.is_some_and(|on| on != made) => Err(connected_anew()),
            Ok((client, _)) => Ok(client),
            Err(error) => Err(error),
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                self.count(device, Duration::ZERO, Err(&error));
                return Err(error);
            }
        };
        // On another connection the device may be another one, unless it is known to close each of them.
        let may_reopen = question.on.is_none() || closes;
        client.on_close(if may_reopen { OnClose::AskAgain } else { OnClose::GiveUp });
        client.wait_at_most(device.map_or(self.patience.most, |device| self.devices[device].patience(self.patience)));
        client.rest(pause).await;
        let (took, outcome) = Self::ask_client(client, unit, closes, question).await;
        self.load.busy += took;
        let (stray, reopened, behind) = (client.take_stray(), client.take_reopened(), client.is_behind());
        for unit in client.take_stale() {
            if let Some(late) = self.devices.iter().position(|device| device.plan.unit.get() == unit) {
                self.status.devices[late].stale_dropped += 1;
            }
        }
        if let (Some(device), Some(until)) = (device, client.ready_at(unit)) {
            self.schedule.hold(device, until);
        }
        let in_doubt = client.is_in_doubt();
        let (turnaround, registers) = (client.turnaround(), question.wanted.registers());
        self.count(device, took, outcome.as_ref().copied());
        if let Some(device) = device {
            let status = &mut self.status.devices[device];
            status.stray_bytes += stray.bytes;
            status.stray_answers += stray.answers;
            status.asked_anew += u64::from(reopened);
        }
        self.connection.note_reopened(reopened);
        if let (Some(device), Ok(())) = (device, &outcome) {
            self.devices[device].learned.observe(turnaround, registers);
        }
        match &outcome {
            Ok(()) | Err(PollError::Exception(_)) => self.connection.proven(),
            Err(_) if behind => self.connection.is_behind(),
            Err(error) if error.ends_session() || in_doubt => self.connection.lost(error),
            Err(_) => {}
        }
        outcome
    }

    fn count(&mut self, device: Option<usize>, took: Duration, outcome: Result<(), &PollError>) {
        if let Some(device) = device {
            self.status.devices[device].count(self.clock.wall(), took, outcome);
        }
    }
}

pub(super) fn connected_anew() -> PollError {
    let reason = "connected anew; the device is identified first";
    PollError::LinkDown(io::Error::new(io::ErrorKind::ConnectionReset, reason))
}
