//! Evaluates rules: samples and time in, transitions and results out. Pure.
//!
//! Groups are evaluated at whole multiples of their interval, each sample counts from its own time on, and nothing
//! depends on when the engine is asked: what is run again over the same samples says the same again.

mod alert;
mod state;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::alert::{AlarmRequest, AlarmView};
use self::alert::{Alert, Moment};
use self::waiting::Waiting;
use super::live::{Labels, LiveTable, NAME, SeriesSpec};
use super::plan::{Cell, Plan, Planner, without_name};
use super::ring::{Pushed, Sample};
pub use super::spec::Action;
use super::spec::{GroupSpec, RuleKind, RuleSpec};
use crate::model::{AlarmRecord, Observed, Row, SeriesId, Timestamp, Value};

/// A result of a rule is looked back at for so many of its intervals.
const LOOK_BACK_INTERVALS: u32 = 3;

/// Why a rule cannot be evaluated here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The expression has no form that is known.
    #[error("rule {rule} of group {group}: expressions of this form cannot be evaluated live: {expression}")]
    Form {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
        /// The expression.
        expression: String,
    },
    /// A rule records what it depends on itself, through others or not.
    #[error("rule {rule} of group {group} depends on its own result")]
    Cycle {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
    },
}

/// A result of a recording rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Labels of the series, its name among them.
    pub labels: Labels,
    /// Time of the evaluation.
    pub time: Timestamp,
    /// The result.
    pub value: f64,
}

/// What came of some samples or some time.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Transitions, in order.
    pub alarms: Vec<AlarmRecord>,
    /// Results of recording rules.
    pub recorded: Vec<Recorded>,
    /// What to do.
    pub actions: Vec<Action>,
    /// What has to be remembered has changed.
    pub is_changed: bool,
}

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

struct Recording {
    name: String,
    labels: BTreeMap<String, String>,
    plan: Plan,
}

/// Figures about the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct EngineStatus {
    /// Groups in force.
    pub groups: usize,
    /// Rules in force.
    pub rules: usize,
    /// Series that some rule selects.
    pub series: usize,
    /// Samples taken.
    pub samples: u64,
    /// Samples that were older than one already taken.
    pub out_of_order: u64,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Alarms that are not normal.
    pub active: usize,
    /// Bytes of samples and windows.
    pub bytes: usize,
}

/// What an engine is made of.
#[derive(Debug, Clone, Default)]
pub struct RuleSetup {
    /// The rules.
    pub groups: Vec<GroupSpec>,
    /// The series there are.
    pub series: Vec<SeriesSpec>,
    /// Labels that every recorded series gets where it has none of that name: site and gateway.
    pub external: BTreeMap<String, String>,
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
    touched: Vec<usize>,
    cells: Vec<Cell>,
    samples: u64,
    evaluations: u64,
}

impl Engine {
    /// An engine of these rules; of the series only those that are selected are kept. `now` is when it begins.
    ///
    /// # Errors
    /// Every rule that cannot be evaluated.
    pub fn new(setup: RuleSetup, now: Timestamp) -> Result<Self, Vec<EngineError>> {
        let RuleSetup { groups, series, external } = setup;
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
            touched: Vec::new(),
            cells: Vec::new(),
            samples: 0,
            evaluations: 0,
        };
        let mut errors = Vec::new();
        for (owner, spec) in groups.into_iter().enumerate() {
            let planner = Planner { owner, query_offset: spec.query_offset };
            let rules = spec.rules.iter().filter_map(|rule| {
                let planned = engine.plan(planner, rule);
                if planned.is_none() {
                    let (group, rule, expression) = (spec.name.clone(), rule.name.clone(), rule.expression.to_string());
                    errors.push(EngineError::Form { group, rule, expression });
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
        series.into_iter().for_each(|spec| engine.add_series(spec));
        Ok(engine)
    }

    fn plan(&mut self, planner: Planner, rule: &RuleSpec) -> Option<Rule> {
        let mut plan = planner.plan(&rule.expression, &mut self.table)?;
        match &rule.kind {
            RuleKind::Record => {
                Some(Rule::Record(Box::new(Recording { name: rule.name.clone(), labels: rule.labels.clone(), plan })))
            }
            RuleKind::Alert(spec) => {
                let clear = match &spec.clear {
                    Some(clear) => Some(planner.plan(clear, &mut self.table)?),
                    None => None,
                };
                if let Some(bound) = &spec.bound {
                    plan = plan.bounded(bound, &mut self.table)?;
                }
                Some(Rule::Alert(Box::new(Alert::new(rule, spec, plan, clear))))
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
                    && self.table.selector(alert.selector(&self.table)).members().last() == Some(&position)
                {
                    arrivals.push((group, number));
                }
            }
        }
        self.arrivals.push(arrivals);
    }

    /// Whether some rule looks at this series.
    pub fn selects(&self, id: SeriesId) -> bool {
        self.table.position(id).is_some()
    }

    /// Takes the good readings of rows, in their order, and evaluates what is evaluated with every sample.
    pub fn take(&mut self, rows: &[Row], outcome: &mut Outcome) {
        for row in rows {
            self.touched.clear();
            for (id, observed) in row.series.iter().zip(&row.observed) {
                let Some(position) = self.table.position(*id) else { continue };
                let Some(value) = number(observed) else { continue };
                let value = self.table.series(position).spec.scale.apply(value);
                if self.push(position, Sample { time: row.time, value }) && !self.arrivals[position].is_empty() {
                    self.touched.push(position);
                }
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
                let (Some(position), Some(value)) = (self.table.position(*id), number(observed)) else { continue };
                let value = self.table.series(position).spec.scale.apply(value);
                self.push(position, Sample { time: row.time, value });
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
                alert.evaluate(&mut self.table, &moment, &mut self.cells, outcome);
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
                        alert.evaluate(&mut self.table, &moment, &mut self.cells, outcome);
                    }
                }
                Rule::Record(recording) => {
                    let Recording { name, labels, plan } = &mut **recording;
                    plan.evaluate(&mut self.table, time, &mut self.cells);
                    if limit > 0 && self.cells.len() > limit {
                        tracing::debug!(rule = name, limit, "more results than the limit of the group");
                        continue;
                    }
                    let named = self.cells.iter().map(|cell| {
                        let labels = recorded_labels(name, labels, &plan.labels(&self.table, cell.of), &self.external);
                        Recorded { labels, time, value: cell.value }
                    });
                    let results: Vec<Recorded> = named.collect();
                    let look_back = self.groups[group].spec.interval * LOOK_BACK_INTERVALS;
                    self.keep_results(&results, look_back);
                    outcome.recorded.extend(results);
                }
            }
        }
    }

    /// What a rule has recorded is a series for the rules after it.
    fn keep_results(&mut self, results: &[Recorded], look_back: Duration) {
        for result in results {
            if self.table.position_of(&result.labels).is_none() {
                let labels = result.labels.clone();
                self.add_series(SeriesSpec { id: None, labels, scale: crate::model::Scale::ONE, look_back });
            }
            self.take_sample(&result.labels, Sample { time: result.time, value: result.value });
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
        let alerts = self.alerts();
        let asked: Vec<&String> = alerts.clone().flat_map(|alert| alert.suppressed_by()).collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let own = alerts.filter(|alert| asked.contains(&alert.name())).flat_map(|alert| alert.active());
        own.chain(self.foreign.iter().filter(|(name, _)| asked.contains(&name)).cloned()).collect()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Figures about the engine.
    pub fn status(&self) -> EngineStatus {
        EngineStatus {
            groups: self.groups.len(),
            rules: self.groups.iter().map(|group| group.rules.len()).sum(),
            series: self.table.all().len(),
            samples: self.samples,
            out_of_order: self.table.out_of_order,
            evaluations: self.evaluations,
            active: self.alerts().flat_map(|alert| alert.active()).count(),
            bytes: self.table.bytes(),
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

fn recorded_labels(
    name: &str,
    own: &BTreeMap<String, String>,
    labels: &Labels,
    external: &BTreeMap<String, String>,
) -> Labels {
    let mut all = external.clone();
    all.extend(without_name(labels).iter().map(|(key, value)| (key.clone(), value.clone())));
    for (key, value) in own {
        if value.is_empty() {
            all.remove(key)
        } else {
            all.insert(key.clone(), value.clone())
        };
    }
    all.insert(NAME.to_owned(), name.to_owned());
    Arc::new(all)
}

/// The first whole multiple of `interval` after `time`.
fn next_multiple(time: Timestamp, interval: Duration) -> Timestamp {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    Timestamp(time.0.div_euclid(interval).saturating_add(1).saturating_mul(interval))
}

#[cfg(test)]
mod tests;
