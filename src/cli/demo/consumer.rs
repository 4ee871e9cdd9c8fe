//! What a data person would run: subscribes, decodes, discards repeats by identity.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{mpsc, oneshot, watch};

use crate::encoding::alarm::AlarmContent;
use crate::encoding::{self, Decoded};
use crate::model::{Epoch, Identity, Observed, SeriesId, SeriesInfo, Timestamp, Transition};

/// Largest message, in bytes.
const PACKET_MAX: u32 = 2 << 20;

/// Figures of the consumer while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrived {
    pub batches: u64,
    pub payload_bytes: u64,
    /// Readings, repeats not counted.
    pub readings: u64,
    /// Readings that had been there already.
    pub repeats: u64,
    pub alarms: u64,
    /// Transitions of the rule.
    pub rule_fired: u64,
    pub rule_cleared: u64,
    pub undecodable: u64,
}

/// One reading as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken {
    pub series: SeriesId,
    pub time: Timestamp,
    pub observed: Observed,
}

/// Everything that arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Harvest {
    pub arrived: Arrived,
    pub readings: BTreeMap<Identity, Taken>,
    pub series: HashMap<(Epoch, SeriesId), SeriesInfo>,
    /// Identities that came twice with different content.
    pub contradictions: u64,
}

/// A consumer that runs.
pub(super) struct Consumer {
    pub arrived: watch::Receiver<Arrived>,
    ask: mpsc::Sender<oneshot::Sender<Harvest>>,
    task: tokio::task::JoinHandle<()>,
}

impl Consumer {
    /// Subscribes to everything of every gateway, and returns when the broker has confirmed that.
    pub async fn start(broker: SocketAddr) -> anyhow::Result<Self> {
        let mut options = MqttOptions::new("lineside-demo-consumer", broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(10));
        options.set_max_packet_size(Some(PACKET_MAX));
        let (client, mut events) = AsyncClient::new(options, 16);
        client.subscribe("lineside/v1/#", QoS::AtLeastOnce).await?;
        loop {
            if let Event::Incoming(Packet::SubAck(_)) = events.poll().await? {
                break;
            }
        }
        let (arrived_sender, arrived) = watch::channel(Arrived::default());
        let (ask, questions) = mpsc::channel(1);
        let task = tokio::spawn(consume(client, events, arrived_sender, questions));
        Ok(Self { arrived, ask, task })
    }

    /// Everything that arrived so far.
    pub async fn harvest(&self) -> anyhow::Result<Harvest> {
        let (reply, answer) = oneshot::channel();
        self.ask.send(reply).await?;
        Ok(answer.await?)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn consume(
    // Kept because the event loop ends when its last client goes.
    _client: AsyncClient,
    mut events: EventLoop,
    arrived: watch::Sender<Arrived>,
    mut questions: mpsc::Receiver<oneshot::Sender<Harvest>>,
) {
    let mut harvest = Harvest::default();
    loop {
        tokio::select! {
            event = events.poll() => match event {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    take(&publish.topic, &publish.payload, &mut harvest);
                    arrived.send_replace(harvest.arrived);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the consumer of the demo lost its broker");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            },
            Some(reply) = questions.recv() => {
                // Whoever asked may have gone.
                let _ = reply.send(harvest.clone());
            }
        }
    }
}

fn take(topic: &[u8], payload: &[u8], harvest: &mut Harvest) {
    let topic = String::from_utf8_lossy(topic);
    let is_ours = ["/batch", "/alarm"].iter().any(|end| topic.ends_with(end)) || topic.contains("/catalogue/");
    if !is_ours {
        return;
    }
    match encoding::decode_any(payload) {
        Ok(Decoded::Columnar(batch)) => {
            harvest.arrived.batches += 1;
            harvest.arrived.payload_bytes += payload.len() as u64;
            for reading in &batch.readings {
                let identity = batch.identity(reading.sequence, reading.index);
                let taken = Taken { series: reading.series, time: reading.time, observed: reading.observed.clone() };
                keep(identity, taken, harvest);
            }
        }
        Ok(Decoded::Catalogue(part)) => {
            let epoch = part.epoch;
            for entry in part.series {
                harvest.series.insert((epoch, entry.id), entry.into_info());
            }
        }
        Ok(Decoded::Alarm(alarm)) => {
            harvest.arrived.alarms += 1;
            if let AlarmContent::Transition(transition) = &alarm.content
                && transition.name == "MachineIdle"
            {
                harvest.arrived.rule_fired += u64::from(transition.transition == Transition::Raised);
                harvest.arrived.rule_cleared += u64::from(transition.transition == Transition::Cleared);
            }
        }
        Ok(Decoded::Json(_) | Decoded::Health(_) | Decoded::Other(_)) => {}
        Err(error) => {
            tracing::warn!(%topic, %error, "a payload of the demo cannot be decoded");
            harvest.arrived.undecodable += 1;
        }
    }
}

/// Keeps a reading once; a repeat must say the same.
fn keep(identity: Identity, taken: Taken, harvest: &mut Harvest) {
    match harvest.readings.entry(identity) {
        Entry::Vacant(place) => {
            place.insert(taken);
            harvest.arrived.readings += 1;
        }
        Entry::Occupied(known) => {
            harvest.arrived.repeats += 1;
            harvest.contradictions += u64::from(*known.get() != taken);
        }
    }
}
