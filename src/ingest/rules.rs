//! The rules at work: what the engine says becomes rows, alarms and state in one append.
//!
//! After a restart windows are rebuilt from the store, and evaluations that were due before the last stored reading are
//! made up for. Arrival needs no making up: what a reading led to is stored with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::LiveRows;
use super::built_in::State;
use super::rules_status::{NAMED_MAX, RulesStatus};
use super::timeline::Timeline;
use crate::buffer::{BufferError, BufferHandle, Catalogue, Evaluated, ReadLimit};
use crate::clock::Clock;
use crate::model::{AlarmRecord, Fault, Observed, Records, Row, Scale, Sequence, SeriesId, SeriesInfo, Timestamp};
use crate::model::{Value, ValueKind};
use crate::rules::alarm::NotPossible;
use crate::rules::engine::{Acted, Action, AlarmRequest, AlarmView, Engine, EngineError, Outcome, RuleSetup};
use crate::rules::live::{Labels, NAME, SeriesSpec};

/// Evaluations wait so long for readings that were taken before they were due and are still on their way.
const SETTLE: Duration = Duration::from_millis(100);

/// State is written at least this often, so that little has to be made up for after a restart.
const STATE_INTERVAL: Duration = Duration::from_secs(60);

/// Between looks at how much memory windows take: with many series that is as much work as all rules together.
const MEASURE_INTERVAL: Duration = Duration::from_secs(10);

/// An engine further behind than this, after the machine slept or its clock was set, goes on from now.
const BEHIND_MOST: Duration = Duration::from_secs(120);

/// A pause between stored readings longer than this is a hole, however long samples stand for their series.
const HOLE_LEAST: Duration = Duration::from_secs(5);

/// Commits read at once when windows are rebuilt.
const COMMITS_AT_ONCE: usize = 64;

/// Said to whoever asks while the agent stops.
const GONE: &str = "nobody evaluates it now: the agent is stopping";

/// Requests that may wait: what a few people ask at once.
const REQUESTS_QUEUED: usize = 8;

pub(super) enum RuleRequest {
    Replace { setup: RuleSetup, reply: oneshot::Sender<Result<(), Vec<EngineError>>> },
    View(oneshot::Sender<Vec<AlarmView>>),
    InterlockDevices { text: String, reply: oneshot::Sender<Result<BTreeSet<String>, String>> },
    Interlock { text: String, reply: oneshot::Sender<Result<(), String>> },
    Act { wanted: Wanted, reply: oneshot::Sender<Vec<Result<Acted, NotPossible>>> },
}

/// What a person wants of some alarms.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Name of the alarms.
    pub name: String,
    /// Labels that they must have.
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub request: AlarmRequest,
    /// Who wants it.
    pub by: String,
}

/// Asks the rules. Clones ask the same ones.
#[derive(Debug, Clone)]
pub struct RulesHandle {
    requests: mpsc::Sender<RuleRequest>,
    status: watch::Receiver<Option<RulesStatus>>,
    buffer: BufferHandle,
    raising: mpsc::Sender<AlarmRecord>,
}

impl RulesHandle {
    pub(super) fn new(
        status: watch::Receiver<Option<RulesStatus>>,
        buffer: BufferHandle,
        raising: mpsc::Sender<AlarmRecord>,
    ) -> (Self, mpsc::Receiver<RuleRequest>) {
        let (requests, received) = mpsc::channel(REQUESTS_QUEUED);
        (Self { requests, status, buffer, raising }, received)
    }

    /// Puts other rules in force; alarms and windows go on. Without groups there are no rules, and they cost nothing.
    ///
    /// # Errors
    /// Every rule that cannot be evaluated; the rules in force stay in force.
    pub async fn replace(&self, setup: RuleSetup) -> Result<(), Vec<EngineError>> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(RuleRequest::Replace { setup, reply }).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    /// Alarms that are not normal, and those about to be.
    pub async fn alarms(&self) -> Vec<AlarmView> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(RuleRequest::View(reply)).await;
        if sent.is_ok() { answer.await.unwrap_or_default() } else { Vec::new() }
    }

    /// Names of the devices whose series an interlock looks at.
    ///
    /// # Errors
    /// No interlock that is written so is in force.
    pub async fn interlock_devices(&self, text: &str) -> Result<BTreeSet<String>, String> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(RuleRequest::InterlockDevices { text: text.to_owned(), reply }).await;
        if sent.is_ok() { answer.await.unwrap_or_else(|_| Err(GONE.to_owned())) } else { Err(GONE.to_owned()) }
    }

    /// Whether an interlock allows a write now; what was polled before this is asked counts.
    ///
    /// # Errors
    /// Why not.
    pub async fn allows(&self, text: &str) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(RuleRequest::Interlock { text: text.to_owned(), reply }).await;
        if sent.is_ok() { answer.await.unwrap_or_else(|_| Err(GONE.to_owned())) } else { Err(GONE.to_owned()) }
    }

    /// Does what a person wants of alarms. Empty when no alarm fits. What was done is durable when this returns: who
    /// was told that an alarm is acknowledged must not find it otherwise after a power cut.
    ///
    /// # Errors
    /// It was done, but cannot be stored for now; it is stored when the store can be written again.
    pub async fn act(&self, wanted: Wanted) -> Result<Vec<Result<Acted, NotPossible>>, BufferError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(RuleRequest::Act { wanted, reply }).await;
        let answers = if sent.is_ok() { answer.await.unwrap_or_default() } else { Vec::new() };
        // The asker waits for the flush, and not the task that takes the readings.
        if answers.iter().any(Result::is_ok) {
            self.buffer.flush().await?;
        }
        Ok(answers)
    }

    /// Takes alarms that no rule makes, from those who raise and clear them.
    pub fn raised(&self) -> mpsc::Sender<AlarmRecord> {
        self.raising.clone()
    }

    /// Figures; nothing while there are no rules.
    pub fn status(&self) -> watch::Receiver<Option<RulesStatus>> {
        self.status.clone()
    }
}

/// What the rules need of the agent.
#[derive(Clone)]
pub struct RuleParts {
    /// The store.
    pub buffer: BufferHandle,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Told when a rule records a new series.
    pub catalogue: watch::Sender<Arc<Catalogue>>,
    /// What alarms ask to have done.
    pub actions: mpsc::Sender<Action>,
}

/// Rules in force.
pub(super) struct Rules {
    engine: Engine,
    parts: RuleParts,
    /// Readers of the live stream see what is recorded, too.
    live: broadcast::Sender<LiveRows>,
    timeline: Timeline,
    ids: HashMap<Labels, SeriesId>,
    saved: Timestamp,
    measured: Timestamp,
    /// What has to be remembered of alarms that no rule makes.
    built_ins: State,
    is_unsaved: bool,
    pub(super) status: RulesStatus,
}

impl Rules {
    /// Puts the rules of `setup` in force: takes up `remembered`, rebuilds windows from the store, and makes up for
    /// evaluations that were missed. What comes of that is appended.
    pub async fn start(
        (parts, live): (RuleParts, broadcast::Sender<LiveRows>),
        setup: RuleSetup,
        remembered: &[u8],
        built_ins: State,
    ) -> Result<Self, Vec<EngineError>> {
        let (timeline, remembered) = Timeline::resume(&parts.clock, remembered);
        let now = timeline.now(&parts.clock);
        let mut engine = Engine::new(setup, now)?;
        let mut ids = HashMap::new();
        for (id, spec) in recorded_before(&engine, &parts.catalogue.borrow()) {
            ids.insert(spec.labels.clone(), id);
            engine.add_series(spec);
        }
        let mut rules = Self {
            engine,
            parts,
            live,
            timeline,
            ids,
            saved: now,
            measured: Timestamp(i64::MIN),
            built_ins,
            is_unsaved: false,
            status: RulesStatus::default(),
        };
        let mut outcome = Outcome::default();
        let until = rules.engine.restore(remembered, now, &mut outcome);
        if rules.engine.is_empty() {
            // What was active is ended, and nothing is left to remember.
        } else if let Err(error) = rules.rebuild(until, now, &mut outcome).await {
            tracing::error!(%error, "windows of the rules could not be rebuilt from the store");
        }
        outcome.is_changed = true;
        rules.finish(Vec::new(), Vec::new(), outcome).await;
        Ok(rules)
    }

    async fn rebuild(
        &mut self,
        until: Option<Timestamp>,
        now: Timestamp,
        outcome: &mut Outcome,
    ) -> Result<(), BufferError> {
        let oldest = until.unwrap_or(now).min(now);
        let span = i64::try_from(self.engine.longest().as_millis()).unwrap_or(i64::MAX);
        let from = Timestamp(oldest.0.saturating_sub(span));
        let pause = self.engine.shortest_look_back().unwrap_or_default().max(HOLE_LEAST);
        if let Some(until) = until {
            self.engine.skip_to(until);
        }
        let offsets = self.parts.buffer.overview().await?.clock_offsets;
        let (mut after, mut newest) = (Sequence(0), None::<Timestamp>);
        loop {
            let limit = ReadLimit { commits: COMMITS_AT_ONCE, records: usize::MAX };
            let commits = self.parts.buffer.recent(self.timeline.to_wall(from), after, limit).await?;
            let Some(last) = commits.last() else { break };
            after = last.header.sequence;
            for commit in commits {
                let Records::Readings(rows) = commit.records else { continue };
                for row in rows {
                    let row = self.timeline.stored_row(offsets.corrected(&commit.header, row));
                    let seen = newest.unwrap_or(row.time);
                    if row.time.since(seen) > pause {
                        self.engine.note_hole(seen, row.time);
                        self.engine.break_delays();
                    }
                    // Nothing to make up for where nothing was read, and certainly not years of a clock that was wrong.
                    if newest.or(until).is_some_and(|reached| row.time.since(reached) > BEHIND_MOST) {
                        self.engine.skip_to(before_settle(row.time));
                    }
                    newest = Some(seen.max(row.time));
                    if until.is_some() {
                        self.engine.advance(before_settle(row.time), outcome);
                    }
                    self.engine.take_history(std::slice::from_ref(&row));
                }
            }
        }
        if let Some(newest) = newest {
            if until.is_some() {
                self.engine.advance(newest.min(before_settle(now)), outcome);
            }
            if now.since(newest) > pause {
                self.engine.note_hole(newest, now);
                self.engine.break_delays();
            }
        }
        self.engine.skip_to(before_settle(now));
        Ok(())
    }

    /// What the engine remembers, for rules that come after these.
    pub fn remembered(&self) -> Vec<u8> {
        self.timeline.remember(self.engine.remember())
    }

    /// How long until an evaluation is due.
    pub fn due_in(&self) -> Option<Duration> {
        let due = self.engine.due()?.after(SETTLE);
        // Looked at again at least each second: the clock may be set meanwhile.
        Some(due.since(self.timeline.now(&self.parts.clock)).min(Duration::from_secs(1)))
    }

    /// Stores rows and alarms of a poller with what the rules make of them.
    pub async fn take(&mut self, rows: Vec<Row>, alarms: Vec<AlarmRecord>) {
        let mut outcome = Outcome::default();
        self.timeline.see(&self.parts.clock);
        self.engine.take(&self.timeline.rows(&rows, self.parts.clock.monotonic()), &mut outcome);
        self.finish(rows, alarms, outcome).await;
    }

    /// Notes an alarm that no rule makes: it may explain others.
    pub fn note_foreign(&mut self, alarm: &AlarmRecord) {
        self.engine.note_foreign(alarm);
    }

    /// What has to be remembered of alarms that no rule makes, with the next append.
    pub fn remember_built_ins(&mut self, state: State) {
        self.built_ins = state;
        self.is_unsaved = true;
    }

    /// Stores what became of alarms that no rule makes.
    pub async fn tell(&mut self, alarms: Vec<AlarmRecord>) {
        let outcome = Outcome { is_changed: true, ..Outcome::default() };
        self.finish(Vec::new(), alarms, outcome).await;
    }

    /// Evaluates what is due by now.
    pub async fn advance(&mut self) {
        self.timeline.see(&self.parts.clock);
        let now = before_settle(self.timeline.now(&self.parts.clock));
        let Some(due) = self.engine.due() else { return };
        if now.since(due) > BEHIND_MOST || due.since(now) > self.engine.longest_interval() + BEHIND_MOST {
            tracing::warn!("the machine slept: evaluations go on from now");
            self.engine.skip_to(now);
            let mut outcome = Outcome::default();
            self.engine.release_captures(now, &mut outcome);
            self.finish(Vec::new(), Vec::new(), outcome).await;
            return;
        }
        let mut outcome = Outcome::default();
        self.engine.advance(now, &mut outcome);
        self.finish(Vec::new(), Vec::new(), outcome).await;
    }

    /// What people want of alarms.
    pub async fn act(&mut self, wanted: &Wanted) -> Vec<Result<Acted, NotPossible>> {
        self.timeline.see(&self.parts.clock);
        let now = self.timeline.now(&self.parts.clock);
        let mut answers = self.engine.request(now, &wanted.name, &wanted.labels, wanted.request, &wanted.by);
        for acted in answers.iter_mut().flatten() {
            self.timeline.alarm(&mut acted.record);
            acted.shelved_until = acted.shelved_until.map(|until| self.timeline.to_wall(until));
        }
        let alarms: Vec<AlarmRecord> = answers.iter().flatten().map(|acted| acted.record.clone()).collect();
        if !alarms.is_empty() {
            let outcome = Outcome { is_changed: true, ..Outcome::default() };
            self.finish(Vec::new(), alarms, outcome).await;
        }
        answers
    }

    /// Names of the devices whose series an interlock looks at.
    pub fn interlock_devices(&self, text: &str) -> Result<BTreeSet<String>, String> {
        self.engine.interlock_devices(text)
    }

    /// Whether an interlock allows a write now.
    pub fn allows(&mut self, text: &str) -> Result<(), String> {
        self.timeline.see(&self.parts.clock);
        self.engine.allows(text, self.timeline.now(&self.parts.clock))
    }

    /// Alarms that are not normal, and those about to be.
    pub fn views(&self) -> Vec<AlarmView> {
        self.engine.views().into_iter().map(|view| self.timeline.view(view)).collect()
    }

    /// The last word before the agent stops.
    pub async fn close(&mut self) {
        let outcome = Outcome { is_changed: true, ..Outcome::default() };
        self.finish(Vec::new(), Vec::new(), outcome).await;
    }

    async fn finish(&mut self, mut rows: Vec<Row>, mut alarms: Vec<AlarmRecord>, outcome: Outcome) {
        let Outcome { alarms: transitions, recorded, actions, is_changed, ended: _ } = self.timeline.outcome(outcome);
        self.status.transitions += transitions.len() as u64;
        self.status.recorded += recorded.len() as u64;
        alarms.extend(transitions);
        let polled = rows.len();
        for result in recorded {
            if let Some(id) = self.id_of(&result.labels).await {
                let observed = if result.value.is_finite() {
                    Observed::Good(Value::F64(result.value))
                } else {
                    Observed::Bad(Fault::NotANumber)
                };
                rows.push(Row { series: [id].into(), time: result.time, observed: vec![observed] });
            }
        }
        if rows.len() > polled && self.live.receiver_count() > 0 {
            // An error means that the last reader has just gone.
            let _ = self.live.send(Arc::new(rows[polled..].to_vec()));
        }
        let now = self.timeline.now(&self.parts.clock);
        let is_changed = is_changed || std::mem::take(&mut self.is_unsaved);
        let is_state_due =
            is_changed || self.timeline.take_unsaved() || now.since(self.saved) >= STATE_INTERVAL || now < self.saved;
        let state = is_state_due.then(|| {
            self.saved = now;
            let own = if self.engine.is_empty() { Vec::new() } else { self.remembered() };
            self.built_ins.within(own)
        });
        let has_alarms = !alarms.is_empty();
        if rows.is_empty() && !has_alarms && state.is_none() {
            self.status.failing = self.engine.failing();
            self.status.failing.truncate(NAMED_MAX);
            return;
        }
        if let Err(error) = self.parts.buffer.append_evaluated(Evaluated { rows, alarms, state }).await {
            tracing::error!(%error, "readings could not be handed to the store");
        }
        self.hand_on(actions);
        if now.since(self.measured) >= MEASURE_INTERVAL || now < self.measured {
            self.measured = now;
            self.engine.measure();
        }
        self.status.engine = self.engine.status();
        self.status.failing = self.engine.failing();
        self.status.failing.truncate(NAMED_MAX);
        if is_changed || has_alarms {
            let mut alarms = self.views();
            alarms.retain(|view| view.pending_since.is_none());
            alarms.truncate(NAMED_MAX);
            self.status.alarms = alarms;
        }
    }

    /// What is to be done follows what is appended: it is done when that is durable.
    fn hand_on(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.status.actions += 1;
            if let Err(refused) = self.parts.actions.try_send(action) {
                self.status.actions_dropped += 1;
                let action = refused.into_inner();
                tracing::warn!(alarm = action.alarm, action = ?action.what, "too much to do at once: left out");
            }
        }
    }

    /// The id of a recorded series, which is new at its first result.
    async fn id_of(&mut self, labels: &Labels) -> Option<SeriesId> {
        if let Some(known) = self.ids.get(labels) {
            return Some(*known);
        }
        let mut others = (**labels).clone();
        let info = SeriesInfo {
            name: others.remove(NAME).unwrap_or_default(),
            labels: Arc::new(others),
            unit: String::new(),
            kind: ValueKind::F64,
            scale: Scale::ONE,
            states: BTreeMap::new(),
        };
        let registered = match self.parts.buffer.register(vec![info]).await {
            Ok(ids) => ids.first().copied(),
            Err(error) => {
                tracing::error!(%error, "a recorded series could not be registered");
                None
            }
        };
        let id = registered?;
        self.ids.insert(labels.clone(), id);
        if let Ok(catalogue) = self.parts.buffer.catalogue().await {
            self.parts.catalogue.send_replace(Arc::new(catalogue));
        }
        Some(id)
    }
}

/// Series of the catalogue that the rules record: their windows are rebuilt too.
fn recorded_before(engine: &Engine, catalogue: &Catalogue) -> Vec<(SeriesId, SeriesSpec)> {
    let recordings = engine.recordings();
    let spec = |(id, info): &(SeriesId, Arc<SeriesInfo>)| {
        let look_back = *recordings.get(&info.name)?;
        let mut labels = (*info.labels).clone();
        labels.insert(NAME.to_owned(), info.name.clone());
        Some((*id, SeriesSpec { id: Some(*id), labels: Arc::new(labels), scale: info.scale, look_back }))
    };
    catalogue.series.iter().filter_map(spec).collect()
}

fn before_settle(time: Timestamp) -> Timestamp {
    Timestamp(time.0 - SETTLE.as_millis() as i64)
}
