//! The task that empties the store into the broker: next durable commits, encode, publish, wait for the PUBACK, mark
//! delivered. Live data and catch-up after an outage travel this one road: one behind the other, oldest first, or what
//! is new at once and what was kept beside it at a bounded rate ([`backlog`]). A batch says which of the two it is.
//!
//! A record is marked delivered when the session says so ([`crate::mqtt::Delivery`]), and only then. A refusal keeps the
//! records, backs off and raises the alarm `BrokerRefuses`. A lost session puts everything under way back to the start.

mod again;
mod aside;
mod backlog;
mod catalogue;
mod flight;
mod forward;
mod others;
mod packing;
mod progress;
mod settling;
mod sizing;
mod status;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use forward::{ForwardRule, ForwardTable};
pub use status::UplinkStatus;

use crate::buffer::{BufferError, BufferHandle, Catalogue, ReadLimit, Watermarks};
use crate::clock::Clock;
use crate::config::{BacklogConfig, BatchConfig};
use crate::encoding::columnar::Encoder;
use crate::encoding::{EncodeError, Order};
use crate::model::{AlarmRecord, Epoch, Lane, Name, Sequence};
use crate::mqtt::{Connected, Delivery, SessionHandle, SessionState, Topics};
use backlog::{Backlog, Bucket};
use flight::{Flight, Outcome, Shipment};
use others::OtherProgress;
use packing::{Packer, Packing};
use progress::{LaneProgress, Passed};
use sizing::{BatchSizer, PayloadSizes};

/// Wait for the PUBACK under way when the agent stops.
const FAREWELL: Duration = Duration::from_millis(1500);

/// How long a store that cannot be read is left alone.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Commits of which nothing is sent wait at most this long for a batch that says so: they stay undelivered until then.
const SILENCE: Duration = Duration::from_secs(60);

/// When deliveries take longer than this, one batch of the backlog is under way at a time: live data waits behind it.
const SLOW: Duration = Duration::from_secs(2);

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
    /// How what was kept during an outage is sent.
    pub backlog: BacklogConfig,
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
    /// When the catalogue is tried again that did not pass the broker.
    catalogue_retry_at: Option<Instant>,
    /// The catalogue on its way.
    cataloguing: Option<Outcome>,
    alarms: LaneProgress,
    telemetry: LaneProgress,
    /// Epoch of the commits in both lanes.
    epoch: Epoch,
    others: OtherProgress,
    /// Telemetry that was kept during an outage, where it goes beside what is new.
    backlog: Option<Backlog>,
    bucket: Bucket,
    /// Whether the last delivery took long.
    is_slow: bool,
    flight: Flight,
    sizer: BatchSizer,
    /// Payload size worth trying after a refusal whose reason may be the size.
    refused_size: Option<usize>,
    /// Kept because its memory is large and worth using again.
    encoder: Option<Encoder>,
    forward: watch::Receiver<Arc<ForwardTable>>,
    /// Takes its own alarms.
    raised: mpsc::Sender<AlarmRecord>,
    /// When free memory was last given back.
    trimmed: Option<Instant>,
    status: watch::Sender<UplinkStatus>,
}

impl Uplink {
    /// An uplink from `buffer` to `session`. `catalogue` must change whenever series were registered; `forward` says
    /// what of them is sent; `raised` takes its own alarms.
    pub fn new(
        settings: UplinkSettings,
        buffer: BufferHandle,
        session: SessionHandle,
        clock: Arc<dyn Clock>,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        forward: watch::Receiver<Arc<ForwardTable>>,
        raised: mpsc::Sender<AlarmRecord>,
    ) -> Self {
        Self {
            epoch: buffer.watermarks().borrow().epoch,
            bucket: Bucket::new(settings.backlog.rate, Instant::now()),
            backlog: None,
            is_slow: false,
            watermarks: buffer.watermarks(),
            session_state: session.state(),
            settings,
            buffer,
            session,
            clock,
            catalogue,
            generation: None,
            catalogue_due: true,
            catalogue_retry_at: None,
            refused_size: None,
            cataloguing: None,
            alarms: LaneProgress::new(),
            telemetry: LaneProgress::new(),
            others: OtherProgress::default(),
            flight: Flight::default(),
            sizer: BatchSizer::default(),
            encoder: None,
            forward,
            raised,
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
        let retries = [self.alarms.retry_at, self.telemetry.retry_at, self.others_deadline(), self.catalogue_retry_at];
        let backlog = self.backlog_has_room().then(|| now + self.bucket.wait(now));
        let dues = batch.filter(|_| self.flight.has_room()).into_iter().chain(backlog);
        retries.into_iter().flatten().chain(dues).filter(|due| *due > now).min()
    }

    async fn send_due(&mut self) -> Result<(), UplinkError> {
        let state = self.session_state.borrow_and_update().clone();
        let SessionState::Connected(connected) = state else { return Ok(()) };
        if self.generation != Some(connected.generation) {
            self.begin_session(connected.generation, connected.session_present);
        }
        self.follow_epoch();
        let alarms = self.send_alarms_due(&connected).await;
        if self.publishes_catalogue(self.sizes(&connected, &self.settings.topics.catalogue("1")).aim) {
            return self.note_unreadable(alarms);
        }
        let mut sizes = self.sizes(&connected, &self.settings.topics.batch());
        sizes.aim = self.refused_size.map_or(sizes.aim, |size| size.min(sizes.aim));
        let sent = match alarms {
            Ok(()) => self.send_lanes(sizes).await,
            failed => failed,
        };
        // A store that cannot be read for now has said so; what is in memory goes out all the same.
        self.send_others(sizes).await?;
        self.note_unreadable(sent)
    }

    /// Sizes of the payloads of batches and parts of the catalogue, which go to `topic`.
    fn sizes(&self, connected: &Connected, topic: &str) -> PayloadSizes {
        let (packets, most) = (connected.sizes(topic), self.settings.batch.max_size);
        let aim = payload_of(packets.aim, topic).min(most);
        PayloadSizes { most: payload_of(packets.most, topic).min(most), aim }
    }

    /// A store that cannot be read is tried again later; anything else is for the caller.
    fn note_unreadable(&mut self, sent: Result<(), UplinkError>) -> Result<(), UplinkError> {
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

    /// Alarms explain themselves: they need not wait for the catalogue.
    async fn send_alarms_due(&mut self, connected: &Connected) -> Result<(), UplinkError> {
        let topic = self.settings.topics.alarm();
        let most = payload_of(connected.sizes(&topic).most, &topic);
        self.retry_held_alarms();
        while self.alarms_are_due() {
            if !self.send_alarms(most).await? {
                break;
            }
        }
        Ok(())
    }

    async fn send_lanes(&mut self, sizes: PayloadSizes) -> Result<(), UplinkError> {
        self.let_go_of_what_lags();
        while self.flight.has_room() && self.telemetry_is_due(sizes.aim) {
            if !self.send_batch(sizes, Order::Live).await? {
                break;
            }
        }
        while self.backlog_has_room() && self.bucket.wait(Instant::now()).is_zero() {
            self.send_batch(sizes, Order::Backlog).await?;
            // What has become due meanwhile does not wait for a second one.
            if self.flight.has_room() && self.telemetry_is_due(sizes.aim) {
                self.send_batch(sizes, Order::Live).await?;
            }
        }
        self.send_again(sizes).await
    }

    fn progress(&mut self, lane: Lane) -> &mut LaneProgress {
        match lane {
            Lane::Alarms => &mut self.alarms,
            Lane::Telemetry => &mut self.telemetry,
        }
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

    /// Sends the next commit of alarms. False when there was none. An alarm whose payload has more than `most` bytes
    /// becomes a gap record: sent again and again, it would hold up those after it.
    async fn send_alarms(&mut self, most: usize) -> Result<bool, UplinkError> {
        let limit = ReadLimit { commits: 1, records: usize::MAX };
        let commits = self.buffer.read(Lane::Alarms, self.alarms.live.next, limit).await?;
        let Some(commit) = commits.into_iter().next() else { return Ok(false) };
        let (epoch, sequence) = (commit.header.epoch, commit.header.sequence);
        let oldest = self.watermarks.borrow().alarms.oldest_undelivered;
        let mut messages = self.packing(oldest).alarms(&commit);
        let all = messages.len();
        messages.retain(|message| message.payload.len() <= most);
        if messages.len() < all {
            self.buffer.append_gap(packing::gap_of_alarms(&commit, all - messages.len())).await?;
        }
        self.alarms.live.next = sequence.next();
        let (first, last, records) = (sequence, sequence, commit.records.count());
        let shipment = Shipment {
            epoch,
            is_other: false,
            is_repeat: false,
            lane: Lane::Alarms,
            first,
            last,
            records,
            withheld: 0,
            bytes: 0,
            order: Order::Live,
            sent: Instant::now(),
        };
        self.launch(shipment, messages);
        Ok(true)
    }

    /// Sends the next batch of telemetry. False when there was nothing to send.
    async fn send_batch(&mut self, sizes: PayloadSizes, order: Order) -> Result<bool, UplinkError> {
        let limit = ReadLimit { commits: usize::MAX, records: self.sizer.readings(sizes.aim) };
        let (from, until) = match (order, &self.backlog) {
            (Order::Backlog, Some(backlog)) => backlog.next(),
            (Order::Live, _) | (Order::Backlog, None) => (self.telemetry.live.next, Sequence(u64::MAX)),
        };
        let commits = self.buffer.read_until(Lane::Telemetry, from, until, limit).await?;
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else {
            self.note_empty(order);
            return Ok(false);
        };
        let epoch = first.header.epoch;
        let (first, last, count) = (first.header.sequence, last.header.sequence, commits.len());
        let is_backlog = order == Order::Backlog || last <= self.telemetry.backlog_until;
        let records: usize = commits.iter().map(|commit| commit.records.count()).sum();
        let oldest = self.watermarks.borrow().telemetry.oldest_undelivered;
        let packing = self.packing(oldest);
        let encoder = self.take_encoder()?;
        let (forward, catalogue) = (self.forward.borrow_and_update().clone(), self.catalogue.borrow().clone());
        let stream = self.stream(order);
        stream.filter.set_table(&forward, &catalogue);
        let (passed, says_nothing) = (stream.passed, stream.says_nothing);
        let filter = std::mem::take(&mut stream.filter);
        let packer = Packer {
            packing,
            encoder,
            filter,
            sizes,
            is_backlog,
            covers_from: passed.map(|passed| passed.first),
            says_nothing: says_nothing || passed.is_some_and(|passed| passed.since.elapsed() >= SILENCE),
        };
        let (packed, filter) = self.pack(packer, commits).await?;
        if order == Order::Live {
            self.telemetry.waiting_since = None;
        }
        let stream = self.stream(order);
        stream.filter = filter;
        stream.next = last.next();
        stream.note_batch(count, records);
        if packed.messages.is_empty() && packed.too_large.is_empty() {
            let begun = Passed { first, readings: 0, since: Instant::now() };
            stream.passed.get_or_insert(begun).readings += records;
            return Ok(true);
        }
        stream.passed = None;
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
            order,
            sent: Instant::now(),
            is_repeat: false,
        };
        let bytes: usize = packed.messages.iter().map(|message| message.payload.len()).sum();
        match order {
            Order::Live => self.bucket.note_live(bytes, shipment.sent),
            Order::Backlog => self.bucket.take(bytes, shipment.sent),
        }
        self.launch(shipment, packed.messages);
        Ok(true)
    }
}

/// Bytes of the payload in a packet of `packet` bytes to `topic`.
fn payload_of(packet: usize, topic: &str) -> usize {
    packet.saturating_sub(topic.len() + PUBLISH_OVERHEAD).max(1)
}
