//! The task that empties the store into the broker: next durable commits, encode, publish, wait for the PUBACK, mark
//! delivered. Live data and catch-up after an outage travel this one road, oldest first.
//!
//! A record is marked delivered on a PUBACK that is no refusal, and only then. A refusal keeps the records, backs off
//! and raises the alarm `BrokerRefuses`. A lost session puts everything under way back to the start.

mod aside;
mod catalogue;
mod flight;
mod forward;
mod others;
mod packing;
mod progress;
mod sizing;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use forward::{ForwardRule, ForwardTable};
pub use status::UplinkStatus;

use crate::buffer::{BufferError, BufferHandle, Catalogue, ReadLimit, Watermarks};
use crate::clock::Clock;
use crate::config::BatchConfig;
use crate::encoding::EncodeError;
use crate::encoding::columnar::Encoder;
use crate::model::{Epoch, Lane, Name, Sequence};
use crate::mqtt::backoff::Backoff;
use crate::mqtt::{Delivery, Message, SessionHandle, SessionState, Topics};
use flight::{Flight, Outcome, Shipment};
use forward::ForwardFilter;
use others::OtherProgress;
use packing::{Packer, Packing};
use progress::{LaneProgress, Passed};
use sizing::BatchSizer;

/// Wait for the PUBACK under way when the agent stops.
const FAREWELL: Duration = Duration::from_millis(1500);

/// How long a store that cannot be read is left alone.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Commits of which nothing is sent wait at most this long for a batch that says so: they stay undelivered until then.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of a PUBLISH beside topic and payload: fixed header, lengths, packet id and properties (MQTT 5.0, 3.3).
const PUBLISH_OVERHEAD: usize = 128;

/// Who the gateway is and how it batches.
#[derive(Debug, Clone)]
pub struct UplinkSettings {
    /// The place.
    pub site: Name,
    /// The machine.
    pub gateway: Name,
    /// How readings are put together.
    pub batch: BatchConfig,
    /// Where messages go.
    pub topics: Topics,
}

/// Why nothing could be sent. The records stay in the store.
#[derive(Debug, thiserror::Error)]
enum UplinkError {
    #[error(transparent)]
    Buffer(#[from] BufferError),
    #[error("cannot start the encoder: {0}")]
    Encoder(EncodeError),
    #[error("the agent is stopping")]
    Stopping,
}

/// What the uplink waits for.
enum Event {
    Stop,
    Settled(Shipment, Delivery),
    NewCatalogue,
    /// The catalogue is out, or is not.
    Catalogued(Delivery),
    /// Something to send, a connection, or a time that has come.
    Changed,
}

/// The task.
pub struct Uplink {
    settings: UplinkSettings,
    buffer: BufferHandle,
    session: SessionHandle,
    clock: Arc<dyn Clock>,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    watermarks: watch::Receiver<Watermarks>,
    session_state: watch::Receiver<SessionState>,
    generation: Option<u64>,
    catalogue_due: bool,
    /// The catalogue on its way.
    cataloguing: Option<Outcome>,
    alarms: LaneProgress,
    telemetry: LaneProgress,
    /// Epoch of the commits in both lanes.
    epoch: Epoch,
    others: OtherProgress,
    flight: Flight,
    sizer: BatchSizer,
    /// Kept because its memory is large and worth using again.
    encoder: Option<Encoder>,
    forward: watch::Receiver<Arc<ForwardTable>>,
    filter: ForwardFilter,
    /// When free memory was last given back.
    trimmed: Option<Instant>,
    status: watch::Sender<UplinkStatus>,
}

impl Uplink {
    /// An uplink from `buffer` to `session`. `catalogue` must change whenever series were registered; `forward` says
    /// what of them is sent.
    pub fn new(
        settings: UplinkSettings,
        buffer: BufferHandle,
        session: SessionHandle,
        clock: Arc<dyn Clock>,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        forward: watch::Receiver<Arc<ForwardTable>>,
    ) -> Self {
        Self {
            epoch: buffer.watermarks().borrow().epoch,
            watermarks: buffer.watermarks(),
            session_state: session.state(),
            settings,
            buffer,
            session,
            clock,
            catalogue,
            generation: None,
            catalogue_due: true,
            cataloguing: None,
            alarms: LaneProgress::new(),
            telemetry: LaneProgress::new(),
            others: OtherProgress::default(),
            flight: Flight::default(),
            sizer: BatchSizer::default(),
            encoder: None,
            forward,
            filter: ForwardFilter::default(),
            trimmed: None,
            status: watch::Sender::default(),
        }
    }

    /// What was sent so far.
    pub fn status(&self) -> watch::Receiver<UplinkStatus> {
        self.status.subscribe()
    }

    /// Runs until told to stop, then waits a moment for what is under way.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            match self.next_event(&stop).await {
                Event::Stop => break,
                Event::Settled(shipment, delivery) => self.settle(shipment, delivery).await,
                Event::NewCatalogue => self.catalogue_due = true,
                Event::Catalogued(delivery) => self.settle_catalogue(&delivery),
                Event::Changed => {}
            }
            if let Err(error) = self.send_due().await {
                tracing::error!(%error, "the uplink could not send");
                self.telemetry.retry_at = Some(Instant::now() + Duration::from_secs(1));
            }
        }
        let _ = tokio::time::timeout(FAREWELL, self.farewell()).await;
    }

    async fn farewell(&mut self) {
        // What was taken since the last batch goes out too, if the broker takes it in time.
        let long_ago = Instant::now().checked_sub(self.settings.batch.max_age);
        self.telemetry.waiting_since = long_ago;
        self.others.hurry(long_ago);
        let _ = self.send_due().await;
        while !self.flight.is_empty() {
            let (shipment, delivery) = self.flight.next().await;
            self.settle(shipment, delivery).await;
        }
    }

    /// Waits until there may be something to do.
    async fn next_event(&mut self, stop: &CancellationToken) -> Event {
        let deadline = self.deadline();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            (shipment, delivery) = self.flight.next() => Event::Settled(shipment, delivery),
            delivery = catalogue::published(&mut self.cataloguing) => Event::Catalogued(delivery),
            Ok(()) = self.catalogue.changed() => Event::NewCatalogue,
            Ok(()) = self.session_state.changed() => Event::Changed,
            Ok(()) = self.watermarks.changed() => Event::Changed,
            () = timer => Event::Changed,
        }
    }

    /// When the next batch or retry is due, if nothing changes until then.
    fn deadline(&self) -> Option<Instant> {
        let batch = self.telemetry.waiting_since.map(|since| since + self.settings.batch.max_age);
        let batch = batch.map(|due| self.telemetry.retry_at.map_or(due, |retry| due.max(retry)));
        let now = Instant::now();
        let retries = [self.alarms.retry_at, self.telemetry.retry_at, self.others_deadline()];
        retries.into_iter().flatten().chain(batch.filter(|_| self.flight.has_room())).filter(|due| *due > now).min()
    }

    async fn send_due(&mut self) -> Result<(), UplinkError> {
        let state = self.session_state.borrow_and_update().clone();
        let SessionState::Connected(connected) = state else { return Ok(()) };
        if self.generation != Some(connected.generation) {
            self.begin_session(connected.generation, connected.session_present);
        }
        let overhead = self.settings.topics.batch().len() + PUBLISH_OVERHEAD;
        let payload_max = (connected.limits.max_packet as usize).saturating_sub(overhead).max(1);
        self.follow_epoch();
        let payload_max = payload_max.min(self.settings.batch.max_size);
        if self.publishes_catalogue(payload_max) {
            return Ok(());
        }
        let sent = self.send_lanes(payload_max).await;
        // A store that cannot be read for now has said so; what is in memory goes out all the same.
        self.send_others(payload_max).await?;
        match sent {
            Err(UplinkError::Buffer(BufferError::NotWritable { reason })) => {
                tracing::debug!(reason, "the store cannot be read");
                let retry = Instant::now() + STORE_RETRY;
                (self.alarms.retry_at, self.telemetry.retry_at) = (Some(retry), Some(retry));
                Ok(())
            }
            sent => sent,
        }
    }

    async fn send_lanes(&mut self, payload_max: usize) -> Result<(), UplinkError> {
        while self.flight.has_room() && self.alarms_are_due() {
            if !self.send_alarms().await? {
                break;
            }
        }
        while self.flight.has_room() && self.telemetry_is_due(payload_max) {
            if !self.send_batch(payload_max).await? {
                break;
            }
        }
        Ok(())
    }

    /// When the database was lost, sequences begin anew.
    fn follow_epoch(&mut self) {
        let marks = *self.watermarks.borrow();
        if self.epoch != marks.epoch {
            self.epoch = marks.epoch;
            for lane in Lane::ALL {
                self.abandon(lane);
                self.progress(lane).backlog_until = marks.lane(lane).durable_last;
            }
        }
    }

    fn begin_session(&mut self, generation: u64, session_present: bool) {
        let marks = *self.watermarks.borrow();
        for (lane, mark) in [(Lane::Alarms, marks.alarms), (Lane::Telemetry, marks.telemetry)] {
            self.abandon(lane);
            let progress = self.progress(lane);
            progress.backlog_until = mark.durable_last;
            progress.retry_at = None;
        }
        self.others.start_over();
        let was_interrupted = self.cataloguing.take().is_some();
        self.catalogue_due |= was_interrupted || self.generation.is_none() || !session_present;
        self.generation = Some(generation);
    }

    /// Gives up what is under way: it is still in the store and will be read again.
    fn abandon(&mut self, lane: Lane) {
        self.flight.abandon(lane);
        self.progress(lane).start_over();
        if lane == Lane::Telemetry {
            self.filter.start_over();
        }
    }

    fn progress(&mut self, lane: Lane) -> &mut LaneProgress {
        match lane {
            Lane::Alarms => &mut self.alarms,
            Lane::Telemetry => &mut self.telemetry,
        }
    }

    fn alarms_are_due(&self) -> bool {
        let mark = self.watermarks.borrow().alarms;
        self.alarms.may_retry() && self.alarms.has_more(&mark)
    }

    fn telemetry_is_due(&mut self, payload_max: usize) -> bool {
        let mark = self.watermarks.borrow_and_update().telemetry;
        if !self.telemetry.has_more(&mark) {
            self.telemetry.waiting_since = None;
            return false;
        }
        let since = *self.telemetry.waiting_since.get_or_insert_with(Instant::now);
        let is_old = since.elapsed() >= self.settings.batch.max_age;
        let passed = self.telemetry.passed.map_or(0, |passed| passed.readings);
        let under_way = (self.flight.records(Lane::Telemetry) + passed) as u64;
        let waiting = mark.pending_readings.saturating_sub(under_way);
        let is_full = waiting >= self.sizer.readings(payload_max) as u64;
        let is_backlog = self.telemetry.next <= self.telemetry.backlog_until
            && mark.oldest_undelivered <= self.telemetry.backlog_until;
        self.telemetry.may_retry() && (is_old || is_full || is_backlog)
    }

    fn packing(&self, oldest_undelivered: Sequence) -> Packing {
        Packing {
            site: self.settings.site.clone(),
            gateway: self.settings.gateway.clone(),
            topics: self.settings.topics.clone(),
            encoding: self.settings.batch.encoding,
            catalogue: self.catalogue.borrow().clone(),
            oldest_undelivered,
        }
    }

    /// Sends the next commit of alarms. False when there was none.
    async fn send_alarms(&mut self) -> Result<bool, UplinkError> {
        let limit = ReadLimit { commits: 1, records: usize::MAX };
        let commits = self.buffer.read(Lane::Alarms, self.alarms.next, limit).await?;
        let Some(commit) = commits.into_iter().next() else { return Ok(false) };
        let (epoch, sequence) = (commit.header.epoch, commit.header.sequence);
        let oldest = self.watermarks.borrow().alarms.oldest_undelivered;
        let messages = self.packing(oldest).alarms(&commit);
        self.alarms.next = sequence.next();
        let (first, last, records) = (sequence, sequence, commit.records.count());
        let shipment =
            Shipment { epoch, is_other: false, lane: Lane::Alarms, first, last, records, withheld: 0, bytes: 0 };
        self.launch(shipment, messages);
        Ok(true)
    }

    /// Sends the next batch of telemetry. False when there was nothing to send.
    async fn send_batch(&mut self, payload_max: usize) -> Result<bool, UplinkError> {
        let limit = ReadLimit { commits: usize::MAX, records: self.sizer.readings(payload_max) };
        let commits = self.buffer.read(Lane::Telemetry, self.telemetry.next, limit).await?;
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else {
            self.telemetry.waiting_since = None;
            return Ok(false);
        };
        let epoch = first.header.epoch;
        let (first, last) = (first.header.sequence, last.header.sequence);
        let is_backlog = last <= self.telemetry.backlog_until;
        let records: usize = commits.iter().map(|commit| commit.records.count()).sum();
        let oldest = self.watermarks.borrow().telemetry.oldest_undelivered;
        let packing = self.packing(oldest);
        self.filter.set_table(&self.forward.borrow_and_update(), &self.catalogue.borrow());
        let passed = self.telemetry.passed;
        let packer = Packer {
            packing,
            encoder: self.take_encoder()?,
            filter: std::mem::take(&mut self.filter),
            payload_max,
            is_backlog,
            covers_from: passed.map(|passed| passed.first),
            says_nothing: passed.is_some_and(|passed| passed.since.elapsed() >= SILENCE),
        };
        let packed = self.pack(packer, commits).await?;
        self.telemetry.next = last.next();
        self.telemetry.waiting_since = None;
        if packed.messages.is_empty() && packed.too_large.is_empty() {
            let begun = Passed { first, readings: 0, since: Instant::now() };
            self.telemetry.passed.get_or_insert(begun).readings += records;
            return Ok(true);
        }
        self.telemetry.passed = None;
        let first = passed.map_or(first, |passed| passed.first);
        let passed = passed.map_or(0, |passed| passed.readings);
        self.sizer.observe(records, packed.largest_uncut);
        for gap in packed.too_large {
            self.buffer.append_gap(gap).await?;
        }
        let cuts = packed.messages.len().saturating_sub(1) as u64;
        self.status.send_modify(|status| status.split += cuts);
        let shipment = Shipment {
            epoch,
            is_other: false,
            lane: Lane::Telemetry,
            first,
            last,
            records: records + passed,
            withheld: packed.withheld + passed,
            bytes: 0,
        };
        self.launch(shipment, packed.messages);
        Ok(true)
    }

    fn launch(&mut self, mut shipment: Shipment, messages: Vec<Message>) {
        shipment.bytes = messages.iter().map(|message| message.payload.len()).sum();
        let session = self.session.clone();
        let outcome = async move {
            for message in messages {
                match session.publish(message).await {
                    Delivery::Acknowledged | Delivery::NoSubscribers => {}
                    failed @ (Delivery::Refused { .. } | Delivery::TooLarge { .. } | Delivery::SessionLost) => {
                        return failed;
                    }
                }
            }
            Delivery::Acknowledged
        };
        self.flight.launch(shipment, Box::pin(outcome));
        self.note_flight();
    }

    fn note_flight(&self) {
        self.status.send_modify(|status| status.in_flight = self.flight.len());
    }

    async fn settle(&mut self, shipment: Shipment, delivery: Delivery) {
        match delivery {
            delivery if shipment.is_other => self.settle_other(shipment, &delivery).await,
            Delivery::Acknowledged | Delivery::NoSubscribers => self.settle_delivered(shipment).await,
            Delivery::SessionLost => {
                self.abandon(shipment.lane);
            }
            Delivery::TooLarge { .. } | Delivery::Refused { .. } => self.settle_refused(shipment, &delivery).await,
        }
        self.note_flight();
    }

    async fn settle_delivered(&mut self, shipment: Shipment) {
        let Shipment { epoch, lane, first, last, .. } = shipment;
        if let Err(error) = self.buffer.delivered(epoch, lane, first, last).await {
            tracing::error!(%error, "a delivery could not be marked; it will be repeated");
        }
        let now = self.clock.wall();
        self.status.send_modify(|status| status.count_delivered(&shipment, now));
        let progress = self.progress(lane);
        progress.refusals = Backoff::default();
        if std::mem::take(&mut progress.refused) {
            tracing::info!(%lane, "the broker takes messages again");
            self.status.send_modify(|status| status.refusing = None);
            self.raise(status::broker_takes_again(lane, now)).await;
        }
    }

    async fn settle_refused(&mut self, shipment: Shipment, delivery: &Delivery) {
        self.abandon(shipment.lane);
        let progress = self.progress(shipment.lane);
        progress.retry_at = Some(Instant::now() + progress.refusals.after_failure(fastrand::f64()));
        let is_first = !std::mem::replace(&mut progress.refused, true);
        let reason = delivery.to_string();
        self.status.send_modify(|status| status.count_refused(&reason));
        if is_first {
            tracing::warn!(lane = %shipment.lane, reason, "the broker refuses messages; they stay in the store");
            self.raise(status::broker_refuses(shipment.lane, &reason, self.clock.wall())).await;
        }
    }

    async fn raise(&mut self, alarm: crate::model::AlarmRecord) {
        if let Err(error) = self.buffer.append_alarms(vec![alarm]).await {
            tracing::error!(%error, "an alarm could not be stored");
        }
    }
}
