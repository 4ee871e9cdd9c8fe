//! Asking a device who it is, before its first poll on a connection, and what follows from its answers.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Poller;
use super::asking::{Question, Wanted, connected_anew};
use crate::modbus::PollError;
use crate::modbus::identify::{Ask, Identity, Reply, Verdict};
use crate::modbus::objects::Objects;
use crate::model::{AlarmRecord, Row, Transition};
use crate::poll::alarm::{Matter, device_alarm};
use crate::poll::identity::IdentityStatus;

impl Poller {
    /// Asks what is not known yet about who a device is. An error ends the round; the next one goes on.
    pub(super) async fn identify(
        &mut self,
        device: usize,
        stop: &CancellationToken,
        alarms: &mut Vec<AlarmRecord>,
    ) -> Result<(), PollError> {
        let connection = self.connect(stop).await?;
        if self.devices[device].identity.begin(connection) {
            self.devices[device].plan.doubt_all();
        }
        while let Some(ask) = self.devices[device].identity.next() {
            // A link that is down says nothing about the question.
            if self.connect(stop).await? != connection {
                return Err(connected_anew());
            }
            let outcome = self.ask_identity(device, ask, connection, stop).await;
            if matches!(outcome, Err(PollError::Stopped)) {
                return outcome.map(|_| ());
            }
            self.devices[device].identity.take(ask, outcome.as_ref().cloned());
            match outcome {
                Err(error) if !error.is_answer() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        self.conclude(device, false, alarms);
        Ok(())
    }

    /// The number of the connection, once there is one.
    async fn connect(&mut self, stop: &CancellationToken) -> Result<u64, PollError> {
        tokio::select! {
            biased;
            client = self.connection.client() => client.map(|(_, made)| made),
            () = stop.cancelled() => Err(PollError::Stopped),
        }
    }

    async fn ask_identity(
        &mut self,
        device: usize,
        ask: Ask,
        connection: u64,
        stop: &CancellationToken,
    ) -> Result<Reply, PollError> {
        let unit = self.devices[device].plan.unit;
        let pause = self.devices[device].plan.pacing.between_requests;
        match ask {
            Ask::Registers { table, address, count } => {
                let mut words = Vec::new();
                let wanted = Wanted::Words { table, address, count, into: &mut words };
                let question = Question { wanted, on: Some(connection) };
                self.ask_with_retry(device, unit, pause, question, stop).await.map(|()| Reply::Words(words))
            }
            Ask::Objects { code, object } => {
                let mut objects = Objects::default();
                let wanted = Wanted::Objects { code, object, into: &mut objects };
                let question = Question { wanted, on: Some(connection) };
                self.ask_with_retry(device, unit, pause, question, stop).await.map(|()| Reply::Objects(objects))
            }
        }
    }

    async fn ask_with_retry(
        &mut self,
        device: usize,
        unit: crate::model::UnitId,
        pause: Duration,
        mut question: Question<'_>,
        stop: &CancellationToken,
    ) -> Result<(), PollError> {
        let outcome = self.ask_once(Some(device), unit, pause, &mut question, stop).await;
        let is_bad = outcome.as_ref().is_err_and(PollError::is_bad_frame);
        if is_bad && !stop.is_cancelled() && !self.connection.is_owed_by(unit) {
            return self.ask_once(Some(device), unit, pause, &mut question, stop).await;
        }
        outcome
    }

    /// Takes what is known now as who the device is; `was_heard` when it answered a poll.
    pub(super) fn conclude(&mut self, device: usize, was_heard: bool, alarms: &mut Vec<AlarmRecord>) {
        let known = &mut self.devices[device];
        let Some(modbus) = known.plan.modbus() else { return };
        let Some(identity) = known.identity.conclude(modbus, was_heard) else { return };
        let status = IdentityStatus::new(&identity, modbus);
        known.plan.adopt(&identity);
        if matches!(identity.verdict, Verdict::WrongDevice(_)) {
            known.identity.forget();
        }
        let before = self.status.devices[device].identity.replace(status.clone());
        if before.as_ref() != Some(&status) {
            self.announce(device, &identity, &status);
            alarms.extend(self.identity_alarms(device, before.as_ref(), &status));
        }
        self.learn_identity(device);
        self.publish_status(Instant::now());
        self.devices[device].tells_absent = !matches!(identity.verdict, Verdict::WrongDevice(_));
    }

    fn announce(&self, device: usize, identity: &Identity, status: &IdentityStatus) {
        let name = &self.devices[device].plan.name;
        let (link, model) = (&self.link, status.model.as_deref().unwrap_or("not told"));
        let firmware = status.firmware.as_deref().unwrap_or("not told");
        let map = status.map.as_deref().unwrap_or("the only one");
        match &identity.verdict {
            Verdict::Accepted => tracing::info!(%link, device = %name, model, firmware, map, "device identified"),
            Verdict::UnknownFirmware => tracing::warn!(
                %link, device = %name, model, firmware, map,
                "the profile does not know this firmware: readings are uncertain, nothing is written"
            ),
            Verdict::WrongDevice(reason) => tracing::warn!(
                %link, device = %name, reason,
                "another device than the profile is for: readings are bad, nothing is written"
            ),
        }
    }

    /// What was the matter and is no more, and what is now.
    fn identity_alarms(
        &self,
        device: usize,
        before: Option<&IdentityStatus>,
        now: &IdentityStatus,
    ) -> Vec<AlarmRecord> {
        let name = &self.devices[device].plan.name;
        let firmware = now.firmware.as_deref().unwrap_or("not told");
        let alarm = |matter, transition, summary| {
            device_alarm(matter, &self.link, name, self.clock.wall(), transition, summary)
        };
        let (was, is) = (before.and_then(matter), matter(now));
        let mut alarms = Vec::new();
        if let Some(was) = was.filter(|was| Some(*was) != is) {
            alarms.push(alarm(was, Transition::Cleared, format!("{name} on {} is identified again", self.link)));
        }
        if let Some(is) = is.filter(|is| Some(*is) != was) {
            let summary = match &now.reason {
                Some(reason) => format!("{name} on {} is not what its profile is for: it {reason}", self.link),
                None => format!("{name} on {} runs a firmware that its profile does not know: {firmware}", self.link),
            };
            alarms.push(alarm(is, Transition::Raised, summary));
        }
        alarms
    }

    /// The tags that the firmware of a device does not have, bad, once after each identification.
    pub(super) fn absent_rows(&mut self, device: usize) -> Option<Row> {
        let now = self.clock.wall();
        let device = &mut self.devices[device];
        std::mem::take(&mut device.tells_absent).then(|| device.plan.absent_row(now)).flatten()
    }

    /// Waits no longer than a timeout; counts what came of one question.
    pub(super) async fn ask_client(
        client: &mut crate::modbus::Client,
        unit: crate::model::UnitId,
        closes: bool,
        question: &mut Question<'_>,
    ) -> (Duration, Result<(), PollError>) {
        let begun = Instant::now();
        let outcome = match &mut question.wanted {
            Wanted::Words { table, address, count, into } => {
                client.read(unit, *table, *address, *count, into).await.map(|_| ())
            }
            Wanted::Write { request, was_sent } => {
                // What the other side is about to close must not take a write with it: that is never asked twice.
                match if closes { client.reopen().await } else { Ok(()) } {
                    Ok(()) => {
                        **was_sent = true;
                        client.write(request).await
                    }
                    Err(error) => Err(error),
                }
            }
            Wanted::Objects { code, object, into } => {
                client.read_objects(unit, *code, *object).await.map(|objects| **into = objects)
            }
        };
        (begun.elapsed(), outcome)
    }
}

fn matter(status: &IdentityStatus) -> Option<Matter> {
    use crate::poll::identity::IdentityState;
    match status.state {
        IdentityState::Accepted => None,
        IdentityState::UnknownFirmware => Some(Matter::FirmwareUnknown),
        IdentityState::WrongDevice => Some(Matter::WrongDevice),
    }
}
