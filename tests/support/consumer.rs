//! What a data person would run behind the broker: subscribes with `mosquitto_sub`, decodes, discards repeats by
//! identity, and draws from the messages alone what is missing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::time::{Duration, Instant};

use lineside::clock::{Clock, SystemClock};
use lineside::encoding::alarm::{AlarmContent, JsonTransition};
use lineside::encoding::health::{self, HealthMessage};
use lineside::encoding::json::JsonValue;
use lineside::encoding::{
    self, AlarmMessage, BatchHeader, CataloguePart, Decoded, DecodedBatch, JsonBatch, Order, Part,
};
use lineside::model::{
    ClockOffset, Commit, Epoch, Identity, Lane, Quality, Records, Replaced, Sequence, SeriesId, SeriesInfo, Timestamp,
};
use tokio::sync::mpsc;

use super::broker::Broker;

/// Longest wait for something that is certain to come: a gateway may back off for half a minute and more.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the observer marks the end of what it waits for.
const MARK: &str = "observer/mark";

/// A subscriber that connects again by itself, as long as it takes.
pub struct Consumer {
    process: Child,
    client: String,
    messages: mpsc::Receiver<Message>,
    /// Everything that arrived so far.
    pub harvest: Harvest,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub retained: bool,
    pub topic: String,
    pub payload: Vec<u8>,
}

impl Consumer {
    /// A consumer of everything, subscribed.
    pub async fn start(broker: &Broker) -> Self {
        let client = format!("consumer-{:08x}", fastrand::u32(..));
        let mut process = broker.spawn_subscriber(&client, &["-c", "-t", "#", "-F", "%r\t%t\t%x"]);
        let lines = BufReader::new(process.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel(10_000);
        std::thread::spawn(move || read(lines, &sender));
        let consumer = Self { process, client, messages, harvest: Harvest::default() };
        consumer.subscribed(broker).await;
        consumer
    }

    /// Waits until the broker has confirmed the subscription since its last start.
    pub async fn subscribed(&self, broker: &Broker) {
        broker.logged(&format!("Sending SUBACK to {}", self.client)).await;
    }

    /// Takes what has arrived: a subscriber that nobody listens to holds the broker up, which then drops messages.
    pub fn take_arrived(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.harvest.take(message);
        }
    }

    /// Takes what arrives until the harvest says so.
    pub async fn until(&mut self, what: &str, fact: impl Fn(&Harvest) -> bool) {
        let waiting = async {
            while !fact(&self.harvest) {
                let message = self.messages.recv().await.expect("mosquitto_sub runs");
                self.harvest.take(message);
            }
        };
        let seen = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(seen, "waited {PATIENCE:?} in vain for {what}: {}", self.harvest.summary());
    }

    /// Takes everything that the broker has for this consumer by now.
    pub async fn catch_up(&mut self, broker: &Broker) {
        let mark = format!("{:016x}", fastrand::u64(..));
        broker.publish(MARK, &mark);
        self.until("the observer's mark", |harvest| harvest.marks.contains(&mark)).await;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn read(lines: BufReader<impl Read>, messages: &mpsc::Sender<Message>) {
    for line in lines.lines().map_while(Result::ok) {
        let mut parts = line.splitn(3, '\t');
        let mut part = || parts.next().expect("three parts, as the format asks for");
        let message = Message { retained: part() == "1", topic: part().to_owned(), payload: bytes(part()) };
        if messages.blocking_send(message).is_err() {
            return;
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// One reading, whatever encoding it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    pub series: SeriesId,
    pub time: Timestamp,
    /// Nothing when it is bad.
    pub number: Option<f64>,
    /// As [`Quality`] reads.
    pub quality: String,
}

/// One batch as it arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub order: Order,
    /// First commit that it covers.
    pub first: Sequence,
    /// Bytes of its payload.
    pub length: usize,
    /// Time of its newest reading.
    pub newest: Option<Timestamp>,
    pub at: Instant,
    pub wall: Timestamp,
}

/// Which records of a commit have arrived, if not all.
#[derive(Debug, Clone, Default)]
struct Pieces {
    whole: bool,
    parts: Vec<Part>,
    alarms: BTreeSet<u32>,
}

/// Everything that arrived, repeats discarded.
#[derive(Debug, Clone, Default)]
pub struct Harvest {
    pub readings: BTreeMap<Identity, Taken>,
    pub alarms: BTreeMap<Identity, AlarmMessage>,
    /// Aggregates, as text.
    pub aggregates: BTreeMap<Identity, String>,
    /// What aggregates stand for, each with the commit that says so.
    pub replaced: Vec<(Epoch, Sequence, Replaced)>,
    pub catalogue: HashMap<(Epoch, SeriesId), SeriesInfo>,
    /// Payloads of the state topic as they came.
    pub states: Vec<(bool, serde_json::Value)>,
    /// Whole states, also those that came as changes.
    pub health: Vec<serde_json::Value>,
    health_base: Option<health::Whole>,
    /// Lists of problems.
    pub problems: Vec<serde_json::Value>,
    /// Messages that rules published: last level of the topic, and text.
    pub events: Vec<(String, String)>,
    pub batches: u64,
    pub arrivals: Vec<Arrival>,
    pub largest_payload: usize,
    pub parts: u64,
    pub backlog_batches: u64,
    /// Records that had been there already.
    pub repeats: u64,
    /// By how much times of boots were wrong.
    pub clock_offsets: Vec<ClockOffset>,
    /// Whatever must never happen, in words.
    pub wrong: Vec<String>,
    commits: BTreeMap<(Epoch, Lane), BTreeMap<Sequence, Pieces>>,
    oldest_undelivered: BTreeMap<(Epoch, Lane), Sequence>,
    newest: HashMap<(Epoch, Lane, Order), Sequence>,
    gaps: Vec<(Epoch, Lane, Sequence, Sequence)>,
    marks: BTreeSet<String>,
}

impl Harvest {
    fn take(&mut self, message: Message) {
        let Message { retained, topic, payload } = message;
        if topic == MARK {
            self.marks.insert(String::from_utf8(payload).unwrap());
            return;
        }
        let decoded = encoding::decode_any(&payload);
        match (topic.rsplit('/').next().unwrap_or_default(), decoded) {
            ("batch", Ok(Decoded::Columnar(batch))) => self.take_columnar(&batch, payload.len()),
            ("batch", Ok(Decoded::Json(batch))) => self.take_json(batch, payload.len()),
            ("alarm", Ok(Decoded::Alarm(alarm))) => self.take_alarm(*alarm),
            ("state", Ok(Decoded::Other(state))) => self.states.push((retained, state)),
            ("health", Ok(Decoded::Health(health))) => self.take_health(*health),
            ("problems", Ok(Decoded::Other(problems))) => self.problems.push(problems),
            ("probe", _) => {}
            (name, _) if topic.contains("/event/") => {
                self.events.push((name.to_owned(), String::from_utf8_lossy(&payload).into_owned()));
            }
            (_, Ok(Decoded::Catalogue(part))) if topic.contains("/catalogue/") => self.take_catalogue(part),
            (_, decoded) => self.wrong.push(format!("{topic}: {decoded:?}")),
        }
    }

    fn take_health(&mut self, message: HealthMessage) {
        match (message, &self.health_base) {
            (HealthMessage::Whole(whole), _) => {
                self.health.push(whole.status.clone());
                self.health_base = Some(whole);
            }
            (HealthMessage::Changes(changes), Some(base)) if changes.base == base.id => match changes.onto(base) {
                Ok(status) => self.health.push(status),
                Err(error) => self.wrong.push(format!("health: {error}")),
            },
            // The whole state went before this consumer came.
            (HealthMessage::Changes(_), _) => {}
        }
    }

    fn take_columnar(&mut self, batch: &DecodedBatch, length: usize) {
        let newest = batch.readings.iter().map(|reading| reading.time).max();
        self.note_batch(&batch.header, length, newest);
        for (sequence, gap) in &batch.gaps {
            self.gaps.push((batch.header.epoch, gap.lane, gap.first, gap.last));
            self.cover(&batch.header, *sequence, None);
        }
        self.clock_offsets.extend(batch.clock_offsets.iter().map(|(_, offset)| *offset));
        for thinned in &batch.thinned {
            let aggregates = thinned.aggregates.iter().map(|(index, aggregate)| (*index, format!("{aggregate:?}")));
            self.take_thinned(&batch.header, thinned.sequence, &thinned.replaces, aggregates.collect());
        }
        for reading in &batch.readings {
            let taken = Taken {
                series: reading.series,
                time: reading.time,
                number: reading.observed.value().and_then(|value| value.number()),
                quality: reading.observed.quality().to_string(),
            };
            self.keep(batch.identity(reading.sequence, reading.index), taken);
        }
    }

    fn take_json(&mut self, batch: JsonBatch, length: usize) {
        let header = BatchHeader {
            site: batch.site,
            gateway: batch.gateway,
            epoch: batch.epoch,
            lane: batch.lane,
            first: batch.first_sequence,
            last: batch.last_sequence,
            oldest_undelivered: batch.oldest_undelivered,
            order: batch.order,
            part: batch.part,
        };
        let newest = batch.series.iter().flat_map(|series| &series.readings).map(|reading| reading.time).max();
        self.note_batch(&header, length, newest);
        for placed in batch.gaps {
            self.gaps.push((header.epoch, placed.gap.lost_lane, placed.gap.first_lost, placed.gap.last_lost));
        }
        for thinned in &batch.thinned {
            let of_commit = batch.series.iter().flat_map(|series| &series.aggregates);
            let of_commit = of_commit.filter(|aggregate| aggregate.sequence == thinned.sequence);
            let aggregates = of_commit.map(|aggregate| (aggregate.index, format!("{aggregate:?}"))).collect();
            self.take_thinned(&header, thinned.sequence, &thinned.replaces, aggregates);
        }
        for series in batch.series {
            for reading in series.readings {
                let number = match reading.value {
                    Some(JsonValue::Int(number)) => Some(number as f64),
                    Some(JsonValue::Number(number)) => Some(number),
                    Some(JsonValue::Bool(_) | JsonValue::Text(_)) | None => None,
                };
                let quality = reading.quality.unwrap_or_else(|| Quality::GOOD.to_string());
                let (sequence, index) = (reading.sequence, reading.index);
                let identity = Identity { epoch: header.epoch, lane: header.lane, sequence, index };
                self.keep(identity, Taken { series: series.id, time: reading.time, number, quality });
            }
        }
    }

    /// Readings that aggregates came for are not missing, if all parts of the aggregates come too.
    fn take_thinned(
        &mut self,
        header: &BatchHeader,
        sequence: Sequence,
        replaces: &[Replaced],
        aggregates: Vec<(u32, String)>,
    ) {
        for (index, aggregate) in aggregates {
            let identity = Identity { epoch: header.epoch, lane: header.lane, sequence, index };
            let known = self.aggregates.entry(identity).or_insert_with(|| aggregate.clone());
            if *known != aggregate {
                self.wrong.push(format!("{identity:?} was {known} and is {aggregate}"));
            }
        }
        self.replaced.extend(replaces.iter().map(|replaced| (header.epoch, sequence, *replaced)));
    }

    fn note_batch(&mut self, header: &BatchHeader, length: usize, newest: Option<Timestamp>) {
        let (at, wall) = (Instant::now(), SystemClock::new(true).wall());
        self.arrivals.push(Arrival { order: header.order, first: header.first, length, newest, at, wall });
        self.batches += 1;
        self.largest_payload = self.largest_payload.max(length);
        self.parts += u64::from(header.part.is_some());
        self.backlog_batches += u64::from(header.order == Order::Backlog);
        self.note_oldest(header.epoch, header.lane, header.oldest_undelivered);
        self.check_order(header);
        for sequence in header.first.0..=header.last.0 {
            self.cover(header, Sequence(sequence), header.part);
        }
    }

    /// What was not there before comes in the order of its sequence, live data and backlog each in their own, whatever
    /// is repeated in between.
    fn check_order(&mut self, header: &BatchHeader) {
        let known = self.commits.entry((header.epoch, header.lane)).or_default();
        let newest = self.newest.entry((header.epoch, header.lane, header.order)).or_insert(Sequence(0));
        let is_new = |sequence: &u64| !known.contains_key(&Sequence(*sequence));
        if let Some(late) = (header.first.0..=header.last.0).find(|sequence| is_new(sequence) && *sequence < newest.0) {
            self.wrong.push(format!("{:?}: commit {late} came for the first time after {newest}", header.order));
        }
        *newest = header.last.max(*newest);
    }

    fn cover(&mut self, header: &BatchHeader, sequence: Sequence, part: Option<Part>) {
        let lane = self.commits.entry((header.epoch, header.lane)).or_default();
        let pieces = lane.entry(sequence).or_default();
        match part {
            Some(part) => pieces.parts.push(part),
            None => pieces.whole = true,
        }
    }

    fn note_oldest(&mut self, epoch: Epoch, lane: Lane, oldest: Sequence) {
        let known = self.oldest_undelivered.entry((epoch, lane)).or_insert(oldest);
        *known = oldest.max(*known);
    }

    fn keep(&mut self, identity: Identity, taken: Taken) {
        match self.readings.entry(identity) {
            Entry::Vacant(place) => drop(place.insert(taken)),
            Entry::Occupied(known) => {
                self.repeats += 1;
                if *known.get() != taken {
                    self.wrong.push(format!("{identity:?} was {:?} and is {taken:?}", known.get()));
                }
            }
        }
    }

    fn take_alarm(&mut self, alarm: AlarmMessage) {
        let (epoch, lane) = (alarm.epoch, alarm.lane);
        self.note_oldest(epoch, lane, alarm.oldest_undelivered);
        if let AlarmContent::Gap(gap) = &alarm.content {
            self.gaps.push((epoch, gap.lost_lane, gap.first_lost, gap.last_lost));
        }
        let pieces = self.commits.entry((epoch, lane)).or_default().entry(alarm.sequence).or_default();
        pieces.alarms.insert(alarm.index);
        pieces.whole = pieces.alarms.len() == alarm.count as usize;
        let identity = Identity { epoch, lane, sequence: alarm.sequence, index: alarm.index };
        match self.alarms.entry(identity) {
            Entry::Vacant(place) => drop(place.insert(alarm)),
            Entry::Occupied(known) => {
                self.repeats += 1;
                if known.get().content != alarm.content {
                    self.wrong.push(format!("{identity:?} was {:?} and is {alarm:?}", known.get()));
                }
            }
        }
    }

    fn take_catalogue(&mut self, part: CataloguePart) {
        let epoch = part.epoch;
        for entry in part.series {
            let (id, info) = (entry.id, entry.into_info());
            let known = self.catalogue.insert((epoch, id), info.clone());
            if known.is_some_and(|known| known != info) {
                self.wrong.push(format!("series {id} became {info}"));
            }
        }
    }

    /// Adds what the store still holds, as if it had been delivered: what is in neither place is lost.
    pub fn add_stored(&mut self, commits: &[Commit]) {
        for commit in commits {
            let (epoch, sequence) = (commit.header.epoch, commit.header.sequence);
            let Records::Readings(rows) = &commit.records else { continue };
            let readings = rows.iter().flat_map(|row| {
                row.series.iter().zip(&row.observed).map(|(series, observed)| Taken {
                    series: *series,
                    time: row.time,
                    number: observed.value().and_then(|value| value.number()),
                    quality: observed.quality().to_string(),
                })
            });
            for (index, taken) in (0..).zip(readings) {
                self.keep(Identity { epoch, lane: Lane::Telemetry, sequence, index }, taken);
            }
        }
    }

    /// What the gateway owes: older than its oldest undelivered, neither received nor in a gap record.
    pub fn owed(&self) -> Vec<(Lane, Sequence)> {
        let mut owed = Vec::new();
        for ((epoch, lane), oldest) in &self.oldest_undelivered {
            let empty = BTreeMap::new();
            let commits = self.commits.get(&(*epoch, *lane)).unwrap_or(&empty);
            for sequence in (1..oldest.0).map(Sequence) {
                let is_here = commits.get(&sequence).is_some_and(Pieces::is_complete);
                let is_named = self.gaps.iter().any(|(gap_epoch, gap_lane, first, last)| {
                    (gap_epoch, gap_lane) == (epoch, lane) && (*first..=*last).contains(&sequence)
                });
                let is_replaced = *lane == Lane::Telemetry
                    && self.replaced.iter().any(|(of, by, range)| {
                        (range.first..=range.last).contains(&sequence)
                            && of == epoch
                            && commits.get(by).is_some_and(Pieces::is_complete)
                    });
                if !is_here && !is_named && !is_replaced {
                    owed.push((*lane, sequence));
                }
            }
        }
        owed
    }

    /// Commits up to `last` that have neither arrived whole nor are named in a gap record, of the only epoch.
    pub fn absent(&self, lane: Lane, last: Sequence) -> Vec<Sequence> {
        let epochs = self.epochs();
        let epoch = epochs.iter().next().expect("readings have arrived");
        let empty = BTreeMap::new();
        let commits = self.commits.get(&(*epoch, lane)).unwrap_or(&empty);
        let is_here = |sequence: &Sequence| commits.get(sequence).is_some_and(Pieces::is_complete);
        let is_named = |sequence: &Sequence| {
            self.gaps.iter().any(|gap| (gap.0, gap.1) == (*epoch, lane) && (gap.2..=gap.3).contains(sequence))
        };
        (1..=last.0).map(Sequence).filter(|sequence| !is_here(sequence) && !is_named(sequence)).collect()
    }

    /// What gap records say to be gone: epoch, lane, first and last commit.
    pub fn named(&self) -> BTreeSet<(Epoch, Lane, Sequence, Sequence)> {
        self.gaps.iter().copied().collect()
    }

    /// Fails when anything is there that must never be, or anything is owed.
    pub fn assert_sound(&self) {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        let owed = self.owed();
        assert!(owed.is_empty(), "neither received nor in a gap record: {owed:?}");
    }

    /// Good readings of one point of a device: the number, and how often it came under different identities.
    pub fn numbers(&self, device: &str, point: &str) -> BTreeMap<u64, usize> {
        let mut numbers = BTreeMap::new();
        for (identity, taken) in &self.readings {
            let Some(info) = self.catalogue.get(&(identity.epoch, taken.series)) else { continue };
            if info.name == point
                && info.labels.get("device").is_some_and(|name| name == device)
                && let Some(number) = taken.number
            {
                *numbers.entry(number as u64).or_default() += 1;
            }
        }
        numbers
    }

    /// How many readings there are of one point of a device.
    pub fn numbers_of_all(&self, device: &str, point: &str) -> usize {
        let is_of = |info: &SeriesInfo| info.name == point && info.labels.get("device").is_some_and(|it| it == device);
        let ids: BTreeSet<(Epoch, SeriesId)> =
            self.catalogue.iter().filter(|(_, info)| is_of(info)).map(|(id, _)| *id).collect();
        self.readings.iter().filter(|(identity, taken)| ids.contains(&(identity.epoch, taken.series))).count()
    }

    /// Ids used by readings that the catalogue does not list.
    pub fn unlisted(&self) -> BTreeSet<SeriesId> {
        let is_unlisted =
            |(identity, taken): &(&Identity, &Taken)| !self.catalogue.contains_key(&(identity.epoch, taken.series));
        self.readings.iter().filter(is_unlisted).map(|(_, taken)| taken.series).collect()
    }

    /// The transitions of an alarm, in order.
    pub fn transitions(&self, name: &str) -> Vec<&JsonTransition> {
        let contents = self.alarms.values().filter_map(|alarm| match &alarm.content {
            AlarmContent::Transition(transition) => Some(transition),
            AlarmContent::Gap(_) => None,
        });
        contents.filter(|transition| transition.name == name).collect()
    }

    /// Epochs of all readings: more than one only when a store was lost.
    pub fn epochs(&self) -> BTreeSet<Epoch> {
        self.readings.keys().map(|identity| identity.epoch).collect()
    }

    /// Figures for people.
    pub fn summary(&self) -> String {
        format!(
            "{} batches ({} backlog, {} parts), {} readings, {} repeats, {} alarms, {} series, oldest {:?}, wrong {:?}",
            self.batches,
            self.backlog_batches,
            self.parts,
            self.readings.len(),
            self.repeats,
            self.alarms.len(),
            self.catalogue.len(),
            self.oldest_undelivered,
            self.wrong
        )
    }
}

impl Pieces {
    fn is_complete(&self) -> bool {
        let mut parts = self.parts.clone();
        parts.sort_by_key(|part| part.first_index);
        let reached = parts
            .iter()
            .try_fold(0, |reached, part| (part.first_index <= reached).then(|| reached.max(part.end_index)));
        self.whole || reached.is_some_and(|reached| reached > 0)
    }
}
