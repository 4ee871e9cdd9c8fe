//! The task of one link: asks its devices when they are due and hands on what they say.

mod asking;
mod identifying;
mod judging;
mod learning;
mod lending;
mod requests;
mod round;
pub(super) mod writing;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{DeviceConfig, Endpoint, LinkConfig};
use crate::modbus::plan::PlanError;
use crate::modbus::timing;
use crate::model::{Fault, Name, SeriesId};

use super::PollCycle;
use super::alarm::Matter;
use super::connection::Connection;
use super::cycle::{Answers, DevicePlan};
use super::forecast::{IntervalForecast, forecast};
use super::health::{DeviceState, Health};
use super::identity::DeviceIdentity;
use super::learned::{Learned, LearnedDevices, Patience};
use super::link::{LinkHandle, Request};
use super::schedule::{Schedule, Work};
use super::status::{IntervalStatus, LinkStatus, Load};
use learning::Study;
use round::Pending;

/// At least this often the clocks are compared and the status is renewed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The status is renewed at most this often.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// What was learned is renewed in the status at most this often, unless something new is refused.
const LEARNED_EVERY: Duration = Duration::from_secs(10);
/// While polls wait, requests of people get one part in so many of the time.
const REQUESTS_PART: u32 = 5;

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
    endpoint: Arc<Endpoint>,
    devices: Vec<Device>,
    schedule: Schedule,
    connection: Connection,
    clock: Arc<dyn Clock>,
    cycles: mpsc::Sender<PollCycle>,
    requests: mpsc::Receiver<Box<Request>>,
    status: LinkStatus,
    published: watch::Sender<LinkStatus>,
    load: Load,
    renewed_at: Instant,
    answers: Answers,
    patience: Patience,
    learned_shown_at: Instant,
    /// While polls wait, nothing is served before.
    serves_from: Instant,
    /// Since when the link is its own: at the start, or after it was lent.
    own_since: Instant,
}

struct Device {
    plan: DevicePlan,
    health: Health,
    last_fault: Option<Fault>,
    identity: DeviceIdentity,
    /// What the device does not have is still to be told.
    tells_absent: bool,
    /// The alarm that says that it does not answer.
    silence: Matter,
    learned: Learned,
    study: Study,
    pending: Option<Pending>,
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
        Self::with_learned(link, series, clock, cycles, &LearnedDevices::default())
    }

    /// The same, with what is known of the devices from before.
    pub fn with_learned(
        link: LinkConfig,
        series: Vec<Vec<SeriesId>>,
        clock: Arc<dyn Clock>,
        cycles: mpsc::Sender<PollCycle>,
        learned: &LearnedDevices,
    ) -> Result<(Self, LinkHandle), PollerError> {
        let devices = link.devices.iter().zip(&series).map(|(device, series)| {
            let learned = learned.get(device.name.as_str()).cloned().unwrap_or_default();
            Device::new(device, series, &link, learned)
        });
        let devices = devices.collect::<Result<Vec<Device>, PollerError>>()?;
        let groups = devices.iter().enumerate().flat_map(|(index, device)| {
            let groups = device.plan.groups.iter().enumerate();
            groups.map(move |(group, plan)| (index, group, plan.interval))
        });
        let now = Instant::now();
        let schedule = Schedule::new(&groups.collect::<Vec<_>>(), now, clock.wall());
        let after_connect = devices.iter().map(|device| device.plan.pacing.after_connect).max().unwrap_or_default();
        let names = devices.iter().map(|device| device.plan.name.clone());
        let mut status = LinkStatus::new(link.name.clone(), link.endpoint.to_string(), names);
        let patience = Patience { least: link.timeout_min, most: link.timeout };
        for (device, shown) in devices.iter().zip(&mut status.devices) {
            shown.learned = device.learned.status(patience);
            shown.address_hint = device.plan.address_hint();
        }
        status.intervals = foresee(&link, &devices, now);
        let (published, receiver) = watch::channel(status.clone());
        let endpoint = Arc::new(link.endpoint);
        let (handle, requests) = LinkHandle::new(Arc::clone(&endpoint), receiver);
        let poller = Self {
            connection: Connection::new(
                link.name.clone(),
                Arc::clone(&endpoint),
                link.timeout,
                after_connect,
                link.accepted,
            ),
            endpoint,
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
            patience,
            learned_shown_at: now,
            serves_from: now,
            own_since: now,
        };
        Ok((poller, handle))
    }

    /// Polls until told to stop, or until nobody takes the readings any more. A request in hand is finished, which
    /// takes no longer than its timeout, and what was read is handed on.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, and there is one for each link")]
    pub fn run(mut self, stop: CancellationToken) -> impl Future<Output = ()> + Send {
        async move { self.poll_until(&stop).await }
    }

    async fn poll_until(&mut self, stop: &CancellationToken) {
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        self.status.predicted_ratio = self.predicted_ratio();
        loop {
            let now = Instant::now();
            self.schedule.follow(now, self.clock.wall());
            self.renew_status(now);
            let wake = self.schedule.next_due().map_or(now + LOOK_EVERY, |due| due.min(now + LOOK_EVERY));
            // All arms but the last may be cancelled: they only wait. What is rare has a box, so that every link does
            // not keep room for it.
            let flow = tokio::select! {
                biased;
                () = &mut stopped => ControlFlow::Break(()),
                Some(request) = self.requests.recv(), if wake > now || now >= self.serves_from => {
                    Box::pin(self.serve_in_turn(*request, stop)).await
                }
                () = self.connection.reconnected() => self.greet(),
                () = wait_until(wake, now) => self.poll_due(stop).await,
            };
            if flow.is_break() {
                break;
            }
        }
        (0..self.devices.len()).for_each(|device| self.show_learned(device));
        self.publish_status(Instant::now());
    }

    async fn poll_due(&mut self, stop: &CancellationToken) -> ControlFlow<()> {
        let Some(due) = self.schedule.take(Instant::now()) else { return ControlFlow::Continue(()) };
        let cycle = match due.work {
            Work::Group(group) => self.poll_group(due, group, stop).await,
            Work::Again(group) => Box::pin(self.poll_again(due.device, group, stop)).await,
            Work::Probe => self.probe(due.device, stop).await,
        };
        self.hand_on(cycle).await
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

    /// What the polls of the devices that answer take, by what is known of them now.
    fn predicted_ratio(&self) -> f64 {
        let polled = self.devices.iter().filter(|device| device.health.state() != DeviceState::BackedOff);
        polled.map(|device| device.plan.predicted_ratio(&self.endpoint, device.learned.turnaround())).sum()
    }

    fn renew_status(&mut self, now: Instant) {
        if now >= self.renewed_at + STATUS_EVERY {
            self.publish_status(now);
        }
    }

    fn publish_status(&mut self, now: Instant) {
        self.renewed_at = now;
        if now >= self.learned_shown_at + LEARNED_EVERY {
            self.learned_shown_at = now;
            self.status.predicted_ratio = self.predicted_ratio();
            (0..self.devices.len()).for_each(|device| self.show_learned(device));
        }
        self.load.show(now, &mut self.status);
        let counts = self.connection.counts();
        self.status.closes_after = self.connection.closes_after();
        (self.status.reconnects_closed, self.status.reconnects_behind) = (counts.closed, counts.behind);
        self.status.connected = self.connection.is_up();
        self.status.last_error = self.connection.last_error().map(str::to_owned);
        self.status.clock_steps = self.schedule.steps();
        self.published.send_modify(|status| status.clone_from(&self.status));
    }
}

/// The polls at each interval, and how late they are predicted to start.
fn foresee(link: &LinkConfig, devices: &[Device], now: Instant) -> Vec<IntervalStatus> {
    let known = |device: &DeviceConfig| {
        devices.iter().find(|known| known.plan.name == device.name).and_then(|known| known.learned.known_of(device))
    };
    let Ok(load) = timing::load_with(link, known) else { return Vec::new() };
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let status = |one: IntervalForecast| IntervalStatus {
        interval_ms: ms(one.interval),
        late_max_ms: 0,
        predicted_late_max_ms: ms(one.late_most),
    };
    forecast(&load, now).into_iter().map(status).collect()
}

impl Device {
    fn new(
        device: &DeviceConfig,
        series: &[SeriesId],
        link: &LinkConfig,
        learned: Learned,
    ) -> Result<Self, PollerError> {
        let learned = learned.of_device(device);
        let plan = DevicePlan::new(device, series, &link.endpoint, Arc::clone(&learned.lessons))?;
        let shortest = plan.groups.iter().map(|group| group.interval).min().unwrap_or_default();
        let identity = match plan.modbus() {
            Some(modbus) => DeviceIdentity::new(modbus, device.firmware.clone()),
            None => return Err(PollerError::NotModbus { device: device.name.clone() }),
        };
        Ok(Self {
            plan,
            health: Health::new(shortest),
            last_fault: None,
            identity,
            tells_absent: false,
            silence: Matter::Silent,
            learned,
            study: Study::default(),
            pending: None,
        })
    }
}

async fn wait_until(wake: Instant, now: Instant) {
    if wake > now {
        sleep_until(wake).await;
    }
}

#[cfg(test)]
mod tests;
