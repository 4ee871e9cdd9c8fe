//! The task between the pollers and the store: whatever was polled becomes durable, in the order it came.
//!
//! Readers of the live stream (`tail`) are served on the side: they may miss rows, the store never does.

mod rules;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::buffer::BufferHandle;
use crate::model::{AlarmRecord, Observed, Row};
use crate::poll::PollCycle;
use crate::rules::engine::{EngineError, RuleSetup};
pub use rules::{RuleParts, RulesHandle, RulesStatus, Wanted};
use rules::{RuleRequest, Rules};

/// Cycles taken from the queue in one go.
const CYCLES_AT_ONCE: usize = 64;

/// Said when interlocks are asked for and there are none.
const NO_INTERLOCKS: &str = "no interlock is in force";

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
    parts: RuleParts,
    /// Nothing where no rules are configured: then they cost nothing.
    rules: Option<Box<Rules>>,
    requests: mpsc::Receiver<RuleRequest>,
    rules_status: watch::Sender<Option<RulesStatus>>,
}

impl Ingest {
    /// An ingest that stores what comes through `cycles`, without rules for now.
    pub fn new(cycles: mpsc::Receiver<PollCycle>, parts: RuleParts) -> (Self, LiveHandle, RulesHandle) {
        let live = broadcast::Sender::new(LIVE_CYCLES);
        let handle = LiveHandle(live.clone());
        let rules_status = watch::Sender::default();
        let (rules, requests) = RulesHandle::new(rules_status.subscribe(), parts.buffer.clone());
        let ingest = Self {
            cycles,
            buffer: parts.buffer.clone(),
            live,
            status: watch::Sender::default(),
            parts,
            rules: None,
            requests,
            rules_status,
        };
        (ingest, handle, rules)
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
            let due_in = self.rules.as_ref().and_then(|rules| rules.due_in());
            tokio::select! {
                biased;
                () = wait(due_in) => self.advance().await,
                Some(request) = self.requests.recv() => self.serve(request).await,
                taken = self.cycles.recv_many(&mut cycles, CYCLES_AT_ONCE) => match taken {
                    0 => break,
                    _ => self.store(&mut cycles).await,
                },
                () = stop.cancelled() => break,
            }
        }
        if let Some(rules) = &mut self.rules {
            rules.close().await;
        }
    }

    async fn advance(&mut self) {
        if let Some(rules) = &mut self.rules {
            rules.advance().await;
            self.rules_status.send_replace(Some(rules.status.clone()));
        }
    }

    async fn serve(&mut self, request: RuleRequest) {
        // Whoever asked may be gone; then nobody misses the answer.
        match request {
            RuleRequest::Replace { setup, reply } => drop(reply.send(self.replace(setup).await)),
            RuleRequest::View(reply) => {
                drop(reply.send(self.rules.as_ref().map(|rules| rules.views()).unwrap_or_default()));
            }
            RuleRequest::InterlockDevices { text, reply } => {
                let rules = self.rules.as_ref().ok_or_else(|| NO_INTERLOCKS.to_owned());
                drop(reply.send(rules.and_then(|rules| rules.interlock_devices(&text))));
            }
            RuleRequest::Interlock { text, reply } => {
                self.catch_up().await;
                let rules = self.rules.as_mut().ok_or_else(|| NO_INTERLOCKS.to_owned());
                drop(reply.send(rules.and_then(|rules| rules.allows(&text))));
            }
            RuleRequest::Act { wanted, reply } => {
                let answers = match &mut self.rules {
                    Some(rules) => rules.act(wanted).await,
                    None => Vec::new(),
                };
                drop(reply.send(answers));
            }
        }
    }

    /// Takes what has been polled by now.
    async fn catch_up(&mut self) {
        let mut cycles = Vec::new();
        for _ in 0..self.cycles.len() {
            cycles.extend(self.cycles.try_recv());
        }
        self.store(&mut cycles).await;
    }

    /// Puts other rules in force. They take up where those before, or those before the start, left off.
    async fn replace(&mut self, setup: RuleSetup) -> Result<(), Vec<EngineError>> {
        let remembered = match &self.rules {
            Some(rules) => rules.remembered(),
            None => self.buffer.rule_state().await.unwrap_or_default(),
        };
        if setup.is_empty() && self.rules.is_none() && remembered.is_empty() {
            return Ok(());
        }
        // Windows are rebuilt from what is durable. At the start there is nothing else, but for what was taken up.
        let has_taken_up = self.buffer.status().borrow().open_commit.taken_up > 0;
        if (has_taken_up || self.status.borrow().cycles > 0)
            && let Err(error) = self.buffer.flush().await
        {
            tracing::warn!(%error, "the latest readings are missing in the windows of the rules");
        }
        let (has_rules, is_needed) = (!setup.groups.is_empty(), !setup.is_empty());
        let rules = Rules::start(self.parts.clone(), setup, &remembered).await?;
        self.rules_status.send_replace(has_rules.then(|| rules.status.clone()));
        self.rules = is_needed.then(|| Box::new(rules));
        Ok(())
    }

    async fn store(&mut self, cycles: &mut Vec<PollCycle>) {
        self.status.send_modify(|status| cycles.iter().for_each(|cycle| status.count(cycle)));
        let mut alarms: Vec<AlarmRecord> = Vec::new();
        for cycle in cycles.drain(..) {
            if self.live.receiver_count() > 0 {
                // An error means that the last reader has just gone.
                let _ = self.live.send(Arc::new(cycle.rows.clone()));
            }
            match &mut self.rules {
                Some(rules) => rules.take(cycle.rows, cycle.alarms).await,
                None => {
                    alarms.extend(cycle.alarms);
                    if let Err(error) = self.buffer.append(cycle.rows).await {
                        tracing::error!(%error, "readings could not be handed to the store");
                    }
                }
            }
        }
        if !alarms.is_empty()
            && let Err(error) = self.buffer.append_alarms(alarms).await
        {
            tracing::error!(%error, "alarms could not be handed to the store");
        }
    }
}

/// Waits so long, or for ever.
async fn wait(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}
