//! The task between the pollers and the store: whatever was polled becomes durable, in the order it came.
//!
//! Readers of the live stream (`tail`) are served on the side: they may miss rows, the store never does.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::buffer::BufferHandle;
use crate::model::{AlarmRecord, Observed, Row};
use crate::poll::PollCycle;

/// Cycles taken from the queue in one go.
const CYCLES_AT_ONCE: usize = 64;

/// Cycles a reader of the live stream may lag behind before it misses some.
const LIVE_CYCLES: usize = 256;

/// What ingest has seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IngestStatus {
    /// Poll cycles taken.
    pub cycles: u64,
    /// Readings with a value beyond doubt.
    pub good: u64,
    /// Readings with a doubtful value.
    pub uncertain: u64,
    /// Readings without a value.
    pub bad: u64,
    /// Alarm transitions of the pollers.
    pub alarms: u64,
}

impl IngestStatus {
    /// Readings of every quality.
    pub fn readings(&self) -> u64 {
        self.good + self.uncertain + self.bad
    }

    fn count(&mut self, cycle: &PollCycle) {
        self.cycles += 1;
        self.alarms += cycle.alarms.len() as u64;
        for observed in cycle.rows.iter().flat_map(|row| &row.observed) {
            match observed {
                Observed::Good(_) => self.good += 1,
                Observed::Uncertain(..) => self.uncertain += 1,
                Observed::Bad(_) => self.bad += 1,
            }
        }
    }
}

/// The rows of one poll cycle, as a reader of the live stream gets them.
pub type LiveRows = Arc<Vec<Row>>;

/// Opens live streams.
#[derive(Debug, Clone)]
pub struct LiveHandle(broadcast::Sender<LiveRows>);

impl LiveHandle {
    /// A stream of all rows from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<LiveRows> {
        self.0.subscribe()
    }
}

/// The task.
pub struct Ingest {
    cycles: mpsc::Receiver<PollCycle>,
    buffer: BufferHandle,
    live: broadcast::Sender<LiveRows>,
    status: watch::Sender<IngestStatus>,
}

impl Ingest {
    /// An ingest that stores what comes through `cycles`.
    pub fn new(cycles: mpsc::Receiver<PollCycle>, buffer: BufferHandle) -> (Self, LiveHandle) {
        let live = broadcast::Sender::new(LIVE_CYCLES);
        let handle = LiveHandle(live.clone());
        (Self { cycles, buffer, live, status: watch::Sender::default() }, handle)
    }

    /// What was seen so far.
    pub fn status(&self) -> watch::Receiver<IngestStatus> {
        self.status.subscribe()
    }

    /// Runs until every poller has gone and what they sent is stored. `stop` is not needed for that: a poller that
    /// does not stop must not cost the readings of the others, so the queue is drained before it counts.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut cycles = Vec::with_capacity(CYCLES_AT_ONCE);
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.cycles.recv_many(&mut cycles, CYCLES_AT_ONCE) => taken,
                () = stop.cancelled() => 0,
            };
            if taken == 0 {
                break;
            }
            self.store(&mut cycles).await;
        }
    }

    async fn store(&mut self, cycles: &mut Vec<PollCycle>) {
        self.status.send_modify(|status| cycles.iter().for_each(|cycle| status.count(cycle)));
        let mut alarms: Vec<AlarmRecord> = Vec::new();
        for cycle in cycles.drain(..) {
            alarms.extend(cycle.alarms);
            if self.live.receiver_count() > 0 {
                // An error means that the last reader has just gone.
                let _ = self.live.send(Arc::new(cycle.rows.clone()));
            }
            if let Err(error) = self.buffer.append(cycle.rows).await {
                tracing::error!(%error, "readings could not be handed to the store");
            }
        }
        if !alarms.is_empty()
            && let Err(error) = self.buffer.append_alarms(alarms).await
        {
            tracing::error!(%error, "alarms could not be handed to the store");
        }
    }
}
