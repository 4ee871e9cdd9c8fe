//! Evaluates rules: samples and time in, transitions and results out. Pure.
//!
//! Groups are evaluated at whole multiples of their interval, each sample counts from its own time on, and nothing
//! depends on when the engine is asked: what is run again over the same samples says the same again.

mod alert;
mod cycle;
mod failure;
mod inputs;
mod interlocks;
mod memory;
mod outcome;
mod published;
mod queries;
mod state;
mod up;
mod view;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::alert::{Alert, Moment};
use self::failure::Trouble;
pub use self::failure::{FailingPart, FailingRule};
use self::interlocks::Interlocks;
pub use self::interlocks::STEP as INTERLOCK_STEP;
pub use self::outcome::{EngineError, EngineStatus, FIXED_TIME, Outcome, Recorded, RuleSetup};
use self::published::Recording;
pub use self::published::alert_series;
use self::up::Up;
pub use self::up::{DeviceSeries, UP, answered};
pub use self::view::{Acted, AlarmRequest, AlarmSource, AlarmView};
use self::waiting::Waiting;
use super::live::{Labels, LiveTable, SeriesSpec};
use super::plan::{Cell, Planner};
use super::ring::{Pushed, Sample};
pub use super::spec::Action;
use super::spec::{GroupSpec, RuleKind, RuleSpec};
use super::text::Surroundings;
use crate::model::{AlarmRecord, Observed, Row, SeriesId, Timestamp, Value};

/// A result of a rule is looked back at for so many of its intervals.
const LOOK_BACK_INTERVALS: u32 = 3;

struct Group {
    spec: GroupSpec,
    rules: Vec<Rule>,
    /// The next evaluation.
    due: Timestamp,
}

enum Rule {
    Record(Box<Recording>),
    Alert(Box<Alert>),
}

/// All rules with what they remember.
pub struct Engine {
    external: BTreeMap<String, String>,
    /// Every evaluation up to then was made.
    evaluated: Timestamp,
    /// The newest reading that was evaluated when it arrived.
    arrived: Timestamp,
    /// What was remembered takes readings up to then into account, also those that the kill has cost.
    resumed: Timestamp,
    groups: Vec<Group>,
    table: LiveTable,
    /// For each series the alerts that are evaluated with every sample of it: group and rule.
    arrivals: Vec<Vec<(usize, usize)>>,
    /// Alarms that others raise, such as a device that does not answer.
    foreign: Vec<(String, BTreeMap<String, String>)>,
    /// Times without readings because the agent did not run.
    holes: Vec<(Timestamp, Timestamp)>,
    /// Captures whose last readings are not taken yet.
    waiting: Waiting,
    up: Up,
    touched: Vec<usize>,
    cells: Vec<Cell>,
    samples: u64,
    evaluations: u64,
    /// Evaluations without a result because the expression allows none.
    failures: u64,
    /// For so long results stand for their series, where that does not follow from the interval.
    look_back: Option<Duration>,
    /// Alarms are series too.
    publishes_alerts: bool,
    /// Names of alarms that may explain others.
    explaining: BTreeSet<String>,
    /// Bytes of samples and windows when they were last counted.
    bytes: usize,
    interlocks: Interlocks,
}

impl Engine {
    /// An engine of these rules; of the series only those that are selected are kept. `now` is when it begins.
    ///
    /// # Errors
    /// Every rule that cannot be evaluated.
    pub fn new(setup: RuleSetup, now: Timestamp) -> Result<Self, Vec<EngineError>> {
        let RuleSetup {
            groups,
            interlocks,
            series,
            devices,
            external,
            look_back,
            surroundings,
            memory_limit,
            allows_fixed_times,
        } = setup;
        let surroundings = Arc::new(surroundings);
        let mut errors = cycle::cycles(&groups);
        errors.extend(cycle::suppressions(&groups));
        if !allows_fixed_times {
            errors.extend(cycle::fixed_times(&groups));
        }
        let mut engine = Self {
            external,
            evaluated: now,
            arrived: Timestamp(i64::MIN),
            resumed: Timestamp(i64::MIN),
            groups: Vec::with_capacity(groups.len()),
            table: LiveTable::default(),
            arrivals: Vec::new(),
            foreign: Vec::new(),
            holes: Vec::new(),
            waiting: Waiting::default(),
            up: Up::default(),
            touched: Vec::new(),
            cells: Vec::new(),
            samples: 0,
            evaluations: 0,
            failures: 0,
            look_back,
            publishes_alerts: false,
            explaining: BTreeSet::new(),
            bytes: 0,
            interlocks: Interlocks::default(),
        };
        for (owner, spec) in groups.into_iter().enumerate() {
            let planner = Planner { owner, query_offset: spec.query_offset, step: spec.interval };
            let rules = spec.rules.iter().filter_map(|rule| {
                let planned = engine.plan(planner, rule, &surroundings);
                if planned.is_none() {
                    let (group, name, expression) = (spec.name.clone(), rule.name.clone(), rule.expression.to_string());
                    errors.push(EngineError::Form { group, rule: name, expression, place: rule.place.clone() });
                }
                planned
            });
            let rules: Vec<Rule> = rules.collect();
            let due = next_multiple(now, spec.interval);
            engine.groups.push(Group { spec, rules, due });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        engine.interlocks = Interlocks::new(interlocks, &mut engine.table);
        engine.publishes_alerts = engine.selects_alerts();
        engine.explaining = engine.alerts().flat_map(|alert| alert.suppressed_by()).cloned().collect();
        series.into_iter().for_each(|spec| engine.add_series(spec));
        engine.table.trim();
        engine.up = Up::new(devices, &engine.table);
        let too_large = memory_limit.map(|limit| engine.too_large(limit)).unwrap_or_default();
        if too_large.is_empty() { Ok(engine) } else { Err(too_large) }
    }

    fn plan(&mut self, planner: Planner, rule: &RuleSpec, around: &Arc<Surroundings>) -> Option<Rule> {
        let mut plan = planner.plan_any(&rule.expression, &mut self.table);
        match &rule.kind {
            RuleKind::Record => {
                let (name, labels) = (rule.name.clone(), rule.labels.clone());
                Some(Rule::Record(Box::new(Recording {
                    name,
                    labels,
                    plan,
                    published: Vec::new(),
                    trouble: Trouble::default(),
                })))
            }
            RuleKind::Alert(spec) => {
                let clear = spec.clear.as_ref().map(|clear| planner.plan_any(clear, &mut self.table));
                if let Some(bound) = &spec.bound {
                    plan = plan.bounded(bound, &mut self.table)?;
                }
                let selectors = plan.selectors(&self.table);
                queries::select(alert::templates(rule, spec), &mut self.table);
                Some(Rule::Alert(Box::new(Alert::new(rule, spec, plan, clear, selectors, around))))
            }
        }
    }

    /// Adds a series, if a rule selects it.
    pub fn add_series(&mut self, spec: SeriesSpec) {
        let Some(position) = self.table.add(spec) else { return };
        if self.arrivals.len() > position {
            return;
        }
        let mut arrivals = Vec::new();
        for (group, content) in self.groups.iter().enumerate() {
            for (number, rule) in content.rules.iter().enumerate() {
                if let Rule::Alert(alert) = rule
                    && alert.is_on_arrival()
                    && alert.selectors().iter().any(|it| self.table.selector(*it).members().last() == Some(&position))
                {
                    arrivals.push((group, number));
                }
            }
        }
        self.arrivals.push(arrivals);
    }

    /// Whether some rule looks at this series, or at whether its device answers.
    pub fn selects(&self, id: SeriesId) -> bool {
        self.table.position(id).is_some() || self.up.is_made_of(id)
    }

    /// Takes the good readings of rows, in their order, and evaluates what is evaluated with every sample.
    pub fn take(&mut self, rows: &[Row], outcome: &mut Outcome) {
        for row in rows {
            self.touched.clear();
            for (id, observed) in row.series.iter().zip(&row.observed) {
                let Some(position) = self.table.position(*id) else { continue };
                self.interlocks.note(position, observed);
                let Some(value) = number(observed) else { continue };
                let value = self.table.series(position).spec.scale.apply(value);
                if self.push(position, Sample { time: row.time, value }) && !self.arrivals[position].is_empty() {
                    self.touched.push(position);
                }
            }
            if let Some((position, sample)) = self.up.sample(row, &self.table)
                && self.push(position, sample)
                && !self.arrivals[position].is_empty()
            {
                self.touched.push(position);
                self.touched.sort_unstable();
            }
            if !self.touched.is_empty() {
                self.evaluate_touched(row.time, outcome);
            }
        }
        self.waiting.keep(outcome);
    }

    /// Takes rows that were evaluated before they were stored.
    pub fn take_history(&mut self, rows: &[Row]) {
        for row in rows {
            for (id, observed) in row.series.iter().zip(&row.observed) {
                let Some(position) = self.table.position(*id) else { continue };
                self.interlocks.note(position, observed);
                let Some(value) = number(observed) else { continue };
                let value = self.table.series(position).spec.scale.apply(value);
                self.push(position, Sample { time: row.time, value });
            }
            if let Some((position, sample)) = self.up.sample(row, &self.table) {
                self.push(position, sample);
            }
        }
    }

    /// Nobody saw the conditions hold for a while: delays that run start anew.
    pub fn break_delays(&mut self) {
        self.alerts_mut().for_each(Alert::break_delays);
    }

    /// The longest time between evaluations of a group.
    pub fn longest_interval(&self) -> Duration {
        self.groups.iter().map(|group| group.spec.interval).max().unwrap_or_default()
    }

    /// The shortest time for which a sample stands for its series; nothing without series.
    pub fn shortest_look_back(&self) -> Option<Duration> {
        self.table.all().iter().map(|series| series.spec.look_back).min()
    }

    /// Names of the series that rules record, with the time for which their samples stand.
    pub fn recordings(&self) -> BTreeMap<String, Duration> {
        let named = self.groups.iter().flat_map(|group| {
            group.rules.iter().filter_map(|rule| match rule {
                Rule::Record(recording) => Some((recording.name.clone(), group.spec.interval * LOOK_BACK_INTERVALS)),
                Rule::Alert(_) => None,
            })
        });
        named.collect()
    }

    /// Takes one sample of a series by its labels.
    pub fn take_sample(&mut self, labels: &Labels, sample: Sample) {
        if let Some(position) = self.table.position_of(labels) {
            self.push(position, sample);
        }
    }

    fn push(&mut self, position: usize, sample: Sample) -> bool {
        self.samples += 1;
        match self.table.push(position, sample) {
            Pushed::Kept | Pushed::BeganAnew => true,
            Pushed::OutOfOrder => false,
        }
    }

    fn evaluate_touched(&mut self, time: Timestamp, outcome: &mut Outcome) {
        self.arrived = self.arrived.max(time);
        let touched = std::mem::take(&mut self.touched);
        let mut rules: Vec<(usize, usize)> =
            touched.iter().flat_map(|position| self.arrivals[*position].iter().copied()).collect();
        rules.sort_unstable();
        rules.dedup();
        for (group, rule) in rules {
            let limit = self.groups[group].spec.limit;
            let active = self.active();
            if let Rule::Alert(alert) = &mut self.groups[group].rules[rule] {
                self.evaluations += 1;
                let holes = &self.holes;
                let moment =
                    Moment { time, active: &active, limit, touched: Some(&touched), holes, resumed: self.resumed };
                self.failures += u64::from(!alert.evaluate(&mut self.table, &moment, &mut self.cells, outcome));
            }
        }
        self.touched = touched;
    }

    /// When the next group, or a capture, is due.
    pub fn due(&self) -> Option<Timestamp> {
        self.groups.iter().map(|group| group.due).chain(self.waiting.due()).min()
    }

    /// Evaluates every group that is due at `now`, oldest first. A group that is far behind passes over what it missed.
    pub fn advance(&mut self, now: Timestamp, outcome: &mut Outcome) {
        self.evaluated = self.evaluated.max(now);
        while let Some(due) = self.groups.iter().map(|group| group.due).min().filter(|due| *due <= now) {
            for group in 0..self.groups.len() {
                if self.groups[group].due == due {
                    self.evaluate_group(group, due, outcome);
                    let interval = self.groups[group].spec.interval;
                    self.groups[group].due = due.after(interval);
                }
            }
        }
        self.waiting.keep(outcome);
        self.waiting.release(now, outcome);
    }

    /// Lets captures go that need not wait any longer.
    pub fn release_captures(&mut self, now: Timestamp, outcome: &mut Outcome) {
        self.waiting.release(now, outcome);
    }

    /// Notes a time without readings because the agent did not run: windows that reach into it say so.
    pub fn note_hole(&mut self, from: Timestamp, to: Timestamp) {
        self.holes.push((from, to));
    }

    /// Passes over evaluations up to `time`: there were no samples to evaluate.
    pub fn skip_to(&mut self, time: Timestamp) {
        self.evaluated = time;
        for group in &mut self.groups {
            group.due = next_multiple(time, group.spec.interval);
        }
    }

    fn evaluate_group(&mut self, group: usize, time: Timestamp, outcome: &mut Outcome) {
        for rule in 0..self.groups[group].rules.len() {
            self.evaluations += 1;
            let limit = self.groups[group].spec.limit;
            match &mut self.groups[group].rules[rule] {
                Rule::Alert(_) => {
                    let active = self.active();
                    if let Rule::Alert(alert) = &mut self.groups[group].rules[rule] {
                        let moment = Moment {
                            time,
                            active: &active,
                            limit,
                            touched: None,
                            holes: &self.holes,
                            resumed: self.resumed,
                        };
                        self.failures += u64::from(!alert.evaluate(&mut self.table, &moment, &mut self.cells, outcome));
                    }
                    if self.publishes_alerts {
                        self.publish_alerts(group, rule, time);
                    }
                }
                Rule::Record(_) => self.evaluate_recording(group, rule, time, outcome),
            }
        }
    }

    /// Notes an alarm that somebody else raises or clears.
    pub fn note_foreign(&mut self, record: &AlarmRecord) {
        let alarm = (record.name.clone(), record.labels.clone());
        self.foreign.retain(|known| *known != alarm);
        if record.transition == crate::model::Transition::Raised {
            self.foreign.push(alarm);
        }
    }

    /// Alarms that may explain others; nothing is looked up when no rule asks.
    fn active(&self) -> Vec<(String, BTreeMap<String, String>)> {
        if self.explaining.is_empty() {
            return Vec::new();
        }
        let explains = |name: &String| self.explaining.contains(name);
        let own = self.alerts().filter(|alert| explains(alert.name())).flat_map(|alert| alert.active());
        own.chain(self.foreign.iter().filter(|(name, _)| explains(name)).cloned()).collect()
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.interlocks.is_empty()
    }

    /// Counts the bytes that samples and windows take. It looks at each of them: not for every reading.
    pub fn measure(&mut self) {
        self.bytes = self.table.bytes();
    }

    /// Figures about the engine; bytes as they were [measured](Self::measure).
    pub fn status(&self) -> EngineStatus {
        EngineStatus {
            groups: self.groups.len(),
            rules: self.groups.iter().map(|group| group.rules.len()).sum(),
            series: self.table.all().len(),
            samples: self.samples,
            out_of_order: self.table.out_of_order,
            evaluations: self.evaluations,
            failures: self.failures,
            active: self.alerts().map(Alert::active_count).sum(),
            bytes: self.bytes,
        }
    }

    /// How far back samples are needed.
    pub fn longest(&self) -> Duration {
        self.table.longest()
    }
}

/// The number of a reading that can be used; a doubtful one counts, a bad one is none.
fn number(observed: &Observed) -> Option<f64> {
    observed.value().and_then(Value::number)
}

/// The first whole multiple of `interval` after `time`.
fn next_multiple(time: Timestamp, interval: Duration) -> Timestamp {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    Timestamp(time.0.div_euclid(interval).saturating_add(1).saturating_mul(interval))
}

#[cfg(test)]
mod tests;
