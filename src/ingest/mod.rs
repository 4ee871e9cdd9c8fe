//! The task between the pollers and the store: whatever was polled becomes durable, in the order it came.
//!
//! Readers of the live stream (`tail`) are served on the side: they may miss rows, the store never does.

pub mod bad_points;
mod built_in;
mod rules;
mod rules_status;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::built_in::{BuiltIns, of_rules};
use crate::buffer::{BufferHandle, BufferStatus, Evaluated, STORE_ALARMS};
use crate::model::{AlarmRecord, Observed, Row, Timestamp};
use crate::poll::PollCycle;
use crate::rules::alarm::NotPossible;
use crate::rules::engine::{Acted, EngineError, RuleSetup};
use bad_points::BadPoints;
pub use rules::{RuleParts, RulesHandle, Wanted};
use rules::{RuleRequest, Rules};
pub use rules_status::RulesStatus;

/// Alarms of the uplink on their way to ingest: it has one for each lane, and tells of changes only.
const BUILT_IN_ALARMS_QUEUED: usize = 8;

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
    /// Points whose newest reading is bad.
    #[serde(skip)]
    pub bad_points: BadPoints,
}

impl IngestStatus {
    /// Readings of every quality.
    pub fn readings(&self) -> u64 {
        self.good + self.uncertain + self.bad
    }

    fn count(&mut self, cycle: &PollCycle) {
        self.cycles += 1;
        self.alarms += cycle.alarms.len() as u64;
        cycle.rows.iter().for_each(|row| self.bad_points.take(row));
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
    /// Alarms that no rule makes.
    built_ins: BuiltIns,
    /// Those that the uplink raises and clears.
    raised: mpsc::Receiver<AlarmRecord>,
    /// Those of the store are part of its status.
    store_status: watch::Receiver<BufferStatus>,
    /// It is known which rules there are: until then what they have to remember is not touched.
    has_begun: bool,
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
        let (raising, raised) = mpsc::channel(BUILT_IN_ALARMS_QUEUED);
        let (rules, requests) = RulesHandle::new(rules_status.subscribe(), parts.buffer.clone(), raising);
        let ingest = Self {
            cycles,
            buffer: parts.buffer.clone(),
            live,
            status: watch::Sender::default(),
            built_ins: BuiltIns::default(),
            raised,
            store_status: parts.buffer.status(),
            has_begun: false,
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
        let remembered = self.buffer.rule_state().await.unwrap_or_default();
        self.built_ins.restore(&remembered, self.now());
        self.store_status.mark_changed();
        loop {
            let due_in = self.due_in();
            tokio::select! {
                biased;
                () = wait(due_in) => self.advance().await,
                Some(request) = self.requests.recv() => self.serve(request).await,
                Some(alarm) = self.raised.recv() => self.tell(vec![alarm]).await,
                Ok(()) = self.store_status.changed() => self.follow_store().await,
                taken = self.cycles.recv_many(&mut cycles, CYCLES_AT_ONCE) => match taken {
                    0 => break,
                    _ => self.store(&mut cycles).await,
                },
                () = stop.cancelled() => break,
            }
        }
        self.append(Vec::new(), Vec::new()).await;
        if let Some(rules) = &mut self.rules {
            rules.close().await;
        }
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.wall()
    }

    /// How long until something is due.
    fn due_in(&self) -> Option<Duration> {
        let of_rules = self.rules.as_ref().and_then(|rules| rules.due_in());
        // Looked at again at least each minute: the clock may be set meanwhile.
        let of_built_ins = self.built_ins.due().map(|due| due.since(self.now()).min(Duration::from_secs(60)));
        of_rules.into_iter().chain(of_built_ins).min()
    }

    async fn advance(&mut self) {
        let told = self.built_ins.advance(self.now());
        if !told.is_empty() {
            self.append(Vec::new(), told).await;
        }
        if let Some(rules) = &mut self.rules {
            rules.advance().await;
            self.rules_status.send_replace(Some(rules.status.clone()));
        }
    }

    /// Takes alarms that no rule makes.
    async fn tell(&mut self, alarms: Vec<AlarmRecord>) {
        let told = self.take_alarms(alarms);
        self.append(Vec::new(), told).await;
    }

    fn take_alarms(&mut self, alarms: Vec<AlarmRecord>) -> Vec<AlarmRecord> {
        if let Some(rules) = &mut self.rules {
            alarms.iter().for_each(|alarm| rules.note_foreign(alarm));
        }
        self.built_ins.take(alarms)
    }

    /// The store tells of its alarms itself; here they can be seen and acknowledged.
    async fn follow_store(&mut self) {
        let in_force = self.store_status.borrow_and_update().alarms.clone();
        let told = self.built_ins.follow_store(&in_force, &STORE_ALARMS, self.now());
        self.append(Vec::new(), told).await;
    }

    /// Stores rows and alarms, with what the rules make of them and what has to be remembered.
    async fn append(&mut self, rows: Vec<Row>, alarms: Vec<AlarmRecord>) {
        let unsaved = if self.has_begun { self.built_ins.take_unsaved() } else { None };
        if let Some(rules) = &mut self.rules {
            let is_changed = unsaved.is_some();
            unsaved.into_iter().for_each(|state| rules.remember_built_ins(state));
            if rows.is_empty() && (is_changed || !alarms.is_empty()) {
                rules.tell(alarms).await;
            } else if !rows.is_empty() {
                rules.take(rows, alarms).await;
            }
            return;
        }
        let state = unsaved.map(|state| state.within(Vec::new()));
        if rows.is_empty() && alarms.is_empty() && state.is_none() {
            return;
        }
        if let Err(error) = self.buffer.append_evaluated(Evaluated { rows, alarms, state }).await {
            tracing::error!(%error, "readings could not be handed to the store");
        }
    }

    async fn serve(&mut self, request: RuleRequest) {
        // Whoever asked may be gone; then nobody misses the answer.
        match request {
            RuleRequest::Replace { setup, reply } => drop(reply.send(self.replace(setup).await)),
            RuleRequest::View(reply) => {
                let of_rules = self.rules.as_ref().map(|rules| rules.views()).unwrap_or_default();
                drop(reply.send(of_rules.into_iter().chain(self.built_ins.views()).collect()));
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
                let answers = self.act(&wanted).await;
                drop(reply.send(answers));
            }
        }
    }

    /// Does what a person wants of alarms, whoever makes them.
    async fn act(&mut self, wanted: &Wanted) -> Vec<Result<Acted, NotPossible>> {
        let Wanted { name, labels, request, by } = wanted;
        let mut answers = self.built_ins.request(self.now(), name, labels, *request, by);
        let told: Vec<AlarmRecord> = answers.iter().flatten().map(|acted| acted.record.clone()).collect();
        if !told.is_empty() {
            self.append(Vec::new(), told).await;
        }
        if let Some(rules) = &mut self.rules {
            answers.extend(rules.act(wanted).await);
        }
        answers
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
            None => of_rules(self.buffer.rule_state().await.unwrap_or_default()),
        };
        self.has_begun = true;
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
        let mut rules =
            Rules::start((self.parts.clone(), self.live.clone()), setup, &remembered, self.built_ins.state()).await?;
        self.built_ins.active().for_each(|alarm| rules.note_foreign(alarm));
        self.rules_status.send_replace(has_rules.then(|| rules.status.clone()));
        self.rules = is_needed.then(|| Box::new(rules));
        Ok(())
    }

    async fn store(&mut self, cycles: &mut Vec<PollCycle>) {
        self.status.send_modify(|status| cycles.iter().for_each(|cycle| status.count(cycle)));
        for cycle in cycles.drain(..) {
            if self.live.receiver_count() > 0 {
                // An error means that the last reader has just gone.
                let _ = self.live.send(Arc::new(cycle.rows.clone()));
            }
            let mut told = self.take_alarms(cycle.alarms);
            let over = self.built_ins.see(&cycle.rows, &self.parts.catalogue.borrow());
            if let Some(rules) = &mut self.rules {
                over.iter().for_each(|alarm| rules.note_foreign(alarm));
            }
            told.extend(over);
            self.append(cycle.rows, told).await;
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
