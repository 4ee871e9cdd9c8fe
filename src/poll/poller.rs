//! The task of one link: asks its devices when they are due and hands on what they say.

mod identifying;
mod requests;
pub(super) mod writing;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{DeviceConfig, LinkConfig};
use crate::modbus::PollError;
use crate::modbus::objects::Objects;
use crate::modbus::plan::{Block, PlanError};
use crate::modbus::write::WriteRequest;
use crate::model::{AlarmRecord, Fault, Name, SeriesId, Transition, UnitId};
use crate::profile::Table;

use super::PollCycle;
use super::alarm::{Matter, device_alarm};
use super::connection::Connection;
use super::cycle::{Answers, DevicePlan};
use super::health::{Change, DeviceState, Health};
use super::identity::DeviceIdentity;
use super::link::{LinkHandle, Request};
use super::schedule::{Due, Schedule, Work};
use super::status::{LinkStatus, Load};

/// At least this often the clocks are compared and the status is renewed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The status is renewed at most this often.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Requests in one round that may stay without an answer before the rest of the round is given up.
const SILENCES_MAX: u32 = 2;

/// A link that cannot be polled as configured.
#[derive(Debug, thiserror::Error)]
pub enum PollerError {
    /// The points of a device cannot be planned.
    #[error("device {device}: {source}")]
    Plan {
        /// Name of the device.
        device: Name,
        /// Why.
        source: PlanError,
    },
    /// A device without unit id, or with a profile that is not a Modbus one.
    #[error("device {device}: a Modbus link needs a unit id and a Modbus profile")]
    NotModbus {
        /// Name of the device.
        device: Name,
    },
}

/// Owns one link: its connection, its schedule and the health of its devices.
pub struct Poller {
    link: Name,
    devices: Vec<Device>,
    schedule: Schedule,
    connection: Connection,
    clock: Arc<dyn Clock>,
    cycles: mpsc::Sender<PollCycle>,
    requests: mpsc::Receiver<Request>,
    status: LinkStatus,
    published: watch::Sender<LinkStatus>,
    load: Load,
    renewed_at: Instant,
    answers: Answers,
}

struct Device {
    plan: DevicePlan,
    health: Health,
    last_fault: Option<Fault>,
    identity: DeviceIdentity,
    /// What the device does not have is still to be told.
    tells_absent: bool,
}

/// One request, and which connection it may go out on: on another one the device may be another one.
struct Question<'a> {
    wanted: Wanted<'a>,
    /// `None` where it does not matter.
    on: Option<u64>,
}

/// What is asked, and where the answer goes.
enum Wanted<'a> {
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

impl Poller {
    /// Prepares the polling of `link`; `series` holds, for each device and in the order of its tags, the series ids.
    /// What is read goes to `cycles`. Connects only once it [runs](Self::run).
    pub fn new(
        link: LinkConfig,
        series: Vec<Vec<SeriesId>>,
        clock: Arc<dyn Clock>,
        cycles: mpsc::Sender<PollCycle>,
    ) -> Result<(Self, LinkHandle), PollerError> {
        let devices = link.devices.iter().zip(&series).map(|(device, series)| Device::new(device, series));
        let devices = devices.collect::<Result<Vec<Device>, PollerError>>()?;
        let groups = devices.iter().enumerate().flat_map(|(index, device)| {
            let groups = device.plan.groups.iter().enumerate();
            groups.map(move |(group, plan)| (index, group, plan.interval))
        });
        let now = Instant::now();
        let schedule = Schedule::new(&groups.collect::<Vec<_>>(), now, clock.wall());
        let after_connect = devices.iter().map(|device| device.plan.pacing.after_connect).max().unwrap_or_default();
        let names = devices.iter().map(|device| device.plan.name.clone());
        let status = LinkStatus::new(link.name.clone(), link.endpoint.to_string(), names);
        let (published, receiver) = watch::channel(status.clone());
        let (handle, requests) = LinkHandle::new(receiver);
        let poller = Self {
            connection: Connection::new(link.name.clone(), link.endpoint, link.timeout, after_connect),
            link: link.name,
            devices,
            schedule,
            clock,
            cycles,
            requests,
            status,
            published,
            load: Load::new(now),
            renewed_at: now,
            answers: Answers::default(),
        };
        Ok((poller, handle))
    }

    /// Polls until told to stop, or until nobody takes the readings any more. A request in hand is finished, which
    /// takes no longer than its timeout, and what was read is handed on.
    pub async fn run(mut self, stop: CancellationToken) {
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        loop {
            let now = Instant::now();
            self.schedule.follow(now, self.clock.wall());
            self.renew_status(now);
            let wake = self.schedule.next_due().map_or(now + LOOK_EVERY, |due| due.min(now + LOOK_EVERY));
            // All arms but the last may be cancelled: they only wait.
            let flow = tokio::select! {
                biased;
                () = &mut stopped => ControlFlow::Break(()),
                Some(request) = self.requests.recv() => self.serve(request, &stop).await,
                () = self.connection.reconnected() => self.greet(),
                () = wait_until(wake, now) => self.poll_due(&stop).await,
            };
            if flow.is_break() {
                break;
            }
        }
    }

    async fn poll_due(&mut self, stop: &CancellationToken) -> ControlFlow<()> {
        let Some(due) = self.schedule.take(Instant::now()) else { return ControlFlow::Continue(()) };
        let cycle = match due.work {
            Work::Group(group) => self.poll_group(due, group, stop).await,
            Work::Probe => self.probe(due.device, stop).await,
        };
        self.hand_on(cycle).await
    }

    async fn poll_group(&mut self, due: Due, group: usize, stop: &CancellationToken) -> PollCycle {
        self.status.polls_due += 1 + due.missed;
        self.status.polls_skipped += due.missed;
        self.status.polls_done += 1;
        let mut cycle = PollCycle::default();
        self.read_group(due.device, group, stop, &mut cycle.alarms).await;
        cycle.rows = self.devices[due.device].plan.rows(group, &self.answers);
        cycle.rows.extend(self.absent_rows(due.device));
        cycle
    }

    /// Asks for all blocks of a group and judges the device by them. Leaves the answers in `self.answers`.
    async fn read_group(
        &mut self,
        device: usize,
        group: usize,
        stop: &CancellationToken,
        alarms: &mut Vec<AlarmRecord>,
    ) {
        let identified = self.identify(device, stop, alarms).await;
        let mut answers = std::mem::take(&mut self.answers);
        answers.clear();
        let mut answered = false;
        let mut silences = 0;
        let mut last_error = None;
        if let Err(error) = identified {
            if !matches!(error, PollError::Stopped) {
                answers.finish_all(
                    self.devices[device].plan.groups[group].blocks.len(),
                    self.clock.wall(),
                    error.fault(),
                );
                alarms.extend(self.judge(device, Some(&error)));
            }
            self.answers = answers;
            return;
        }
        if let Some(fault) = self.devices[device].plan.barred() {
            answers.finish_all(self.devices[device].plan.groups[group].blocks.len(), self.clock.wall(), fault);
            self.answers = answers;
            alarms.extend(self.judge(device, None));
            return;
        }
        for index in 0..self.devices[device].plan.groups[group].blocks.len() {
            if index > 0 && stop.is_cancelled() {
                break;
            }
            if silences > 0 && (!answered || silences >= SILENCES_MAX) {
                answers.finish(self.clock.wall(), self.devices[device].last_fault);
                continue;
            }
            let outcome = self.ask_block(device, group, index, answers.next_words(), stop).await;
            if matches!(outcome, Err(PollError::Stopped)) {
                break;
            }
            answers.finish(self.clock.wall(), outcome.as_ref().err().map(PollError::fault));
            match outcome {
                Ok(()) => answered = true,
                Err(error) => {
                    answered |= error.is_answer();
                    silences += u32::from(is_silence(&error));
                    self.devices[device].last_fault = Some(error.fault());
                    last_error = Some(error);
                }
            }
        }
        self.answers = answers;
        if answered {
            self.conclude(device, true, alarms);
            alarms.extend(self.judge(device, None));
        } else if let Some(error) = last_error {
            alarms.extend(self.judge(device, Some(&error)));
        }
    }

    async fn ask_block(
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

    /// The cheapest request to a device that was left alone. Only a failure gives readings: all tags bad, once.
    async fn probe(&mut self, device: usize, stop: &CancellationToken) -> PollCycle {
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

    /// One request to a device, with one retry after a bad frame.
    async fn ask(
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
            let retry = outcome.as_ref().is_err_and(PollError::is_bad_frame) && !stop.is_cancelled();
            if !retry {
                break;
            }
        }
        outcome
    }

    async fn ask_once(
        &mut self,
        device: Option<usize>,
        unit: UnitId,
        pause: Duration,
        question: &mut Question<'_>,
        stop: &CancellationToken,
    ) -> Result<(), PollError> {
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
        client.rest(pause).await;
        let (took, outcome) = Self::ask_client(client, unit, question).await;
        self.load.busy += took;
        for unit in client.take_stale() {
            if let Some(late) = self.devices.iter().position(|device| device.plan.unit.get() == unit) {
                self.status.devices[late].stale_dropped += 1;
            }
        }
        if let (Some(device), Some(until)) = (device, client.ready_at(unit)) {
            self.schedule.hold(device, until);
        }
        let in_doubt = client.is_in_doubt();
        self.count(device, took, outcome.as_ref().copied());
        match &outcome {
            Ok(()) | Err(PollError::Exception(_)) => self.connection.proven(),
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

    /// Draws the consequences of one round: back-off, return, and the alarm that tells of it.
    fn judge(&mut self, device: usize, failure: Option<&PollError>) -> Option<AlarmRecord> {
        let now = Instant::now();
        let Device { plan, health, last_fault, identity, .. } = &mut self.devices[device];
        let change = match failure {
            None => health.answered(),
            Some(error) => {
                *last_fault = Some(error.fault());
                identity.forget();
                identity.start_over();
                health.failed()
            }
        };
        self.status.devices[device].state = health.state();
        let name = plan.name.clone();
        match change {
            Change::None => None,
            Change::WentSilent(wait) => {
                self.schedule.suspend(device, now + wait);
                let reason = failure.map_or_else(String::new, ToString::to_string);
                tracing::warn!(link = %self.link, device = %name, reason, "device does not answer");
                let summary = format!("{name} on {} does not answer: {reason}", self.link);
                Some(device_alarm(Matter::Silent, &self.link, &name, self.clock.wall(), Transition::Raised, summary))
            }
            Change::StillSilent(wait) => {
                self.schedule.suspend(device, now + wait);
                None
            }
            Change::CameBack => {
                self.schedule.resume(device, now);
                tracing::info!(link = %self.link, device = %name, "device answers again");
                let summary = format!("{name} on {} answers again", self.link);
                Some(device_alarm(Matter::Silent, &self.link, &name, self.clock.wall(), Transition::Cleared, summary))
            }
        }
    }

    /// The link is up again: devices that were given up because of it are probed at once.
    fn greet(&mut self) -> ControlFlow<()> {
        let now = Instant::now();
        for (index, device) in self.devices.iter().enumerate() {
            if device.health.state() == DeviceState::BackedOff && device.last_fault == Some(Fault::LinkDown) {
                self.schedule.suspend(index, now);
            }
        }
        ControlFlow::Continue(())
    }

    async fn hand_on(&mut self, cycle: PollCycle) -> ControlFlow<()> {
        if cycle.rows.is_empty() && cycle.alarms.is_empty() {
            return ControlFlow::Continue(());
        }
        match self.cycles.send(cycle).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn renew_status(&mut self, now: Instant) {
        if now >= self.renewed_at + STATUS_EVERY {
            self.publish_status(now);
        }
    }

    fn publish_status(&mut self, now: Instant) {
        self.renewed_at = now;
        self.status.busy_ratio = self.load.ratio(now);
        self.status.busy_ms = u64::try_from(self.load.busy.as_millis()).unwrap_or(u64::MAX);
        self.status.connected = self.connection.is_up();
        self.status.last_error = self.connection.last_error().map(str::to_owned);
        self.status.clock_steps = self.schedule.steps();
        self.published.send_modify(|status| status.clone_from(&self.status));
    }
}

impl Device {
    fn new(device: &DeviceConfig, series: &[SeriesId]) -> Result<Self, PollerError> {
        let plan = DevicePlan::new(device, series)?;
        let shortest = plan.groups.iter().map(|group| group.interval).min().unwrap_or_default();
        let identity = match plan.modbus() {
            Some(modbus) => DeviceIdentity::new(modbus, device.firmware.clone()),
            None => return Err(PollerError::NotModbus { device: device.name.clone() }),
        };
        Ok(Self { plan, health: Health::new(shortest), last_fault: None, identity, tells_absent: false })
    }
}

fn connected_anew() -> PollError {
    let reason = "connected anew; the device is identified first";
    PollError::LinkDown(io::Error::new(io::ErrorKind::ConnectionReset, reason))
}

/// Nothing came from the device itself: a silence, or a gateway that says so for it.
fn is_silence(error: &PollError) -> bool {
    matches!(error, PollError::NoAnswer { .. } | PollError::LinkDown(_) | PollError::Stopped)
        || matches!(error, PollError::Exception(_)) && !error.is_answer()
}

async fn wait_until(wake: Instant, now: Instant) {
    if wake > now {
        sleep_until(wake).await;
    }
}
