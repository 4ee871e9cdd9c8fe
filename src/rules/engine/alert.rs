//! One alerting rule and its alarms.

mod texts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::texts::Filled;
pub(super) use self::texts::templates;
use super::Outcome;
use super::failure::{FailingPart, Trouble};
use super::inputs::{agree, inputs};
use super::queries::TableQueries;
use super::view::{Acted, AlarmRequest, AlarmSource, AlarmView};
use crate::model::Timestamp;
use crate::rules::alarm::{Alarm, Condition, NotPossible};
use crate::rules::live::{Labels, LiveTable};
use crate::rules::plan::{Cell, Of, Plan, without_name};
use crate::rules::spec::{AlertSpec, RuleSpec};
use crate::rules::text::Surroundings;

/// Most readings that a record names.
const READINGS_MAX: usize = 8;

/// Most series that are looked at to tell whether the inputs of an alarm are bad.
const INPUTS_MAX: usize = 64;

/// Annotation that says where a window has no readings: the agent did not run, or the store was full.
const HOLE: &str = "hole";

/// Annotation of an alarm that is held because it flaps.
const FLAPPING: &str = "flapping";

type Own = BTreeMap<String, String>;

pub(super) struct Alert {
    name: String,
    labels: Own,
    spec: AlertSpec,
    plan: Plan,
    clear: Option<Plan>,
    alarms: BTreeMap<Own, Instance>,
    /// Labels of the alarm about a series or group, where no template makes them depend on the value.
    known: HashMap<Of, Own>,
    round: u64,
    /// When it was last evaluated because a reading arrived.
    arrived: Timestamp,
    has_remembered: bool,
    selectors: Vec<usize>,
    /// Labels of its alarms as series, where they are asked for.
    pub published: Vec<Labels>,
    /// The expression has no result, that of `edge.clear` has none, or a template cannot be filled in.
    expression: Trouble,
    clearing: Trouble,
    templates: Trouble,
    around: Arc<Surroundings>,
}

#[derive(Default)]
struct Instance {
    alarm: Alarm,
    of: Option<Of>,
    value: Option<f64>,
    seen: u64,
    inputs: Option<Vec<usize>>,
    /// Labels of the newest result.
    found: Option<Labels>,
    /// When its condition began to hold, before any delay.
    began: Option<Timestamp>,
}

/// The circumstances of an evaluation.
pub(super) struct Moment<'a> {
    pub time: Timestamp,
    /// Alarms that may explain others.
    pub active: &'a [(String, Own)],
    /// Most results; zero for no limit.
    pub limit: usize,
    /// Only these series have changed.
    pub touched: Option<&'a [usize]>,
    /// Times without readings because the agent did not run.
    pub holes: &'a [(Timestamp, Timestamp)],
    /// What was remembered takes readings up to then into account, also those that a kill has cost.
    pub resumed: Timestamp,
}

impl Moment<'_> {
    /// Whether a series has nothing new to say. After a restart that is what was stored before: the alarm may rest on
    /// a later reading that was not. And what is evaluated with each reading has been evaluated with a later one.
    fn is_behind(&self, table: &LiveTable, position: usize, on_arrival: bool) -> bool {
        let series = table.series(position);
        let Some(newest) = series.ring.last() else { return false };
        let is_old = newest.time <= self.resumed && self.time.since(self.resumed) < series.spec.look_back;
        is_old || (on_arrival && self.touched.is_none() && newest.time > self.time)
    }
}

impl Alert {
    pub fn new(
        rule: &RuleSpec,
        spec: &AlertSpec,
        plan: Plan,
        clear: Option<Plan>,
        selectors: Vec<usize>,
        around: &Arc<Surroundings>,
    ) -> Self {
        Self {
            name: rule.name.clone(),
            labels: rule.labels.clone(),
            spec: spec.clone(),
            plan,
            clear,
            alarms: BTreeMap::new(),
            known: HashMap::new(),
            round: 0,
            arrived: Timestamp(i64::MIN),
            has_remembered: false,
            selectors,
            published: Vec::new(),
            expression: Trouble::default(),
            clearing: Trouble::default(),
            templates: Trouble::default(),
            around: around.clone(),
        }
    }

    pub fn name(&self) -> &String {
        &self.name
    }

    pub fn is_on_arrival(&self) -> bool {
        self.spec.on_arrival
    }

    pub fn suppressed_by(&self) -> &[String] {
        &self.spec.suppressed_by
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it looks at.
    pub fn selectors(&self) -> &[usize] {
        &self.selectors
    }

    /// How many alarms there are whose condition holds.
    pub fn active_count(&self) -> usize {
        self.alarms.values().filter(|instance| instance.alarm.is_active()).count()
    }

    /// Alarms whose condition holds.
    pub fn active(&self) -> impl Iterator<Item = (String, Own)> {
        let active = self.alarms.iter().filter(|(_, instance)| instance.alarm.is_active());
        active.map(|(labels, _)| (self.name.clone(), labels.clone()))
    }

    /// Evaluates the rule. False when it has no result: what was raised stays as it is then.
    pub fn evaluate(
        &mut self,
        table: &mut LiveTable,
        at: &Moment<'_>,
        cells: &mut Vec<Cell>,
        outcome: &mut Outcome,
    ) -> bool {
        let touched = at.touched.filter(|_| self.plan.is_of_single_series());
        self.find_series(table);
        match touched {
            Some(positions) => self.plan.evaluate_of(table, at.time, positions, cells),
            None => self.plan.evaluate(table, at.time, cells),
        }
        if self.has_failed(at, cells.len()) {
            return false;
        }
        if at.touched.is_some() {
            self.arrived = self.arrived.max(at.time);
        } else if at.time < self.arrived && !self.plan.is_of_single_series() {
            return true;
        }
        self.round += 1;
        let on_arrival = self.spec.on_arrival;
        cells.retain(|cell| match cell.of {
            Of::Series(position) => !at.is_behind(table, position, on_arrival),
            Of::Group(_) => true,
        });
        let mut filled = Filled::default();
        for cell in cells.iter() {
            let labels = self.labels_of(table, *cell, at.time, &mut filled);
            let is_known = |instance: &Instance| instance.found.is_some() && instance.of == Some(cell.of);
            let found = match self.alarms.get(&labels) {
                Some(instance) if is_known(instance) => None,
                _ => Some(self.plan.labels(table, cell.of)),
            };
            let instance = self.alarms.entry(labels).or_default();
            instance.found = found.or(instance.found.take());
            instance.of = Some(cell.of);
            instance.value = Some(cell.value);
            instance.seen = self.round;
        }
        let is_concerned = |instance: &Instance| match (touched, instance.of) {
            (None, _) => true,
            (Some(positions), Some(Of::Series(position))) => positions.binary_search(&position).is_ok(),
            (Some(_), Some(Of::Group(_))) => false,
            // Nobody knows which series it is about, so any may be.
            (Some(_), None) => true,
        };
        let concerned: Vec<Own> = self
            .alarms
            .iter()
            .filter(|(_, instance)| is_concerned(instance))
            .map(|(labels, _)| labels.clone())
            .collect();
        if !concerned.is_empty() {
            let cleared = self.cleared(table, at);
            for labels in concerned {
                self.step(table, at, labels, cleared.as_deref(), &mut filled, outcome);
            }
        }
        self.note_templates(table, at.time, filled);
        true
    }

    /// Whether the expression has no result, or too many.
    fn has_failed(&mut self, at: &Moment<'_>, results: usize) -> bool {
        let limit = at.limit;
        let failed = match self.plan.failure() {
            Some(error) => Some(error.to_string()),
            None if limit > 0 && results > limit => Some(format!("exceeded limit of {limit} with {results} alerts")),
            None => None,
        };
        self.expression.note(&self.name, failed, at.time)
    }

    /// What of it may fail.
    pub fn troubles(&self) -> [(FailingPart, &Trouble); 3] {
        [
            (FailingPart::Expression, &self.expression),
            (FailingPart::Clear, &self.clearing),
            (FailingPart::Template, &self.templates),
        ]
    }

    /// Finds out which series alarms are about that were only remembered so far.
    fn find_series(&mut self, table: &LiveTable) {
        if !std::mem::take(&mut self.has_remembered) || !self.plan.is_of_single_series() {
            return;
        }
        let selectors = &self.selectors;
        for (labels, instance) in self.alarms.iter_mut().filter(|(_, instance)| instance.of.is_none()) {
            let inputs = inputs(table, selectors, labels, INPUTS_MAX);
            instance.of = inputs.first().filter(|_| inputs.len() == 1).map(|position| Of::Series(*position));
        }
    }

    /// Labels that the clear expression has results for; nothing when there is no such expression.
    fn cleared(&mut self, table: &mut LiveTable, at: &Moment<'_>) -> Option<Vec<(Labels, f64)>> {
        let clear = self.clear.as_mut()?;
        let mut cells = Vec::new();
        clear.evaluate(table, at.time, &mut cells);
        self.clearing.note(&self.name, clear.failure().map(|error| format!("edge.clear: {error}")), at.time);
        Some(cells.iter().map(|cell| (without_name(&clear.labels(table, cell.of)), cell.value)).collect())
    }

    fn step(
        &mut self,
        table: &mut LiveTable,
        at: &Moment<'_>,
        labels: Own,
        cleared: Option<&[(Labels, f64)]>,
        filled: &mut Filled,
        outcome: &mut Outcome,
    ) {
        let selectors = &self.selectors;
        let Some(instance) = self.alarms.get_mut(&labels) else { return };
        let on_arrival = self.spec.on_arrival;
        if instance.seen != self.round && instance.is_behind(table, selectors, &labels, at, on_arrival) {
            return;
        }
        let before = instance.alarm.clone();
        let clear = cleared.map(|cleared| cleared.iter().find(|(found, _)| agree(found, &labels)));
        let condition = if instance.seen == self.round {
            Condition::Holds(instance.value.unwrap_or(f64::NAN))
        } else if instance.inputs_are_bad(table, selectors, &labels, at.time) {
            Condition::Unknown
        } else {
            match clear {
                None => Condition::Gone(None),
                Some(Some((_, value))) => Condition::Gone(Some(*value)),
                Some(None) => Condition::Between,
            }
        };
        if let Condition::Gone(value) = condition {
            // Where nothing tells how it is now, the last value that was known stands.
            let now = value.or_else(|| value_of(&mut self.plan, table, instance.of, at.time));
            instance.value = now.filter(|value| value.is_finite()).or(instance.value);
        }
        let is_explained =
            at.active.iter().any(|(name, of)| self.spec.suppressed_by.contains(name) && agree(of, &labels));
        let change = instance.alarm.evaluate(at.time, condition, is_explained, &self.spec.policy);
        outcome.is_changed |= instance.alarm != before;
        instance.note_begin();
        let is_idle = instance.alarm.is_idle();
        if let Some(change) = change {
            let record = self.record(table, at, &labels, change, None, filled);
            self.act(table, &record, filled, outcome);
            outcome.alarms.push(record);
        }
        if is_idle {
            self.alarms.remove(&labels);
        }
    }

    /// Does what a person wants of the alarms that `wanted` fits.
    pub fn request(
        &mut self,
        table: &LiveTable,
        at: &Moment<'_>,
        wanted: &Own,
        request: AlarmRequest,
        by: &str,
    ) -> Vec<Result<Acted, NotPossible>> {
        let fits = |labels: &&Own| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        let found: Vec<Own> = self.alarms.keys().filter(fits).cloned().collect();
        let shelve_most = self.spec.shelve_most;
        let ask = |labels: Own| {
            let alarm = &mut self.alarms.get_mut(&labels)?.alarm;
            let change = match request {
                AlarmRequest::Acknowledge => alarm.acknowledge(),
                AlarmRequest::Reset => alarm.reset(),
                AlarmRequest::Shelve(span) => alarm.shelve(at.time.after(span.min(shelve_most))),
                AlarmRequest::Unshelve => alarm.unshelve(),
                AlarmRequest::RemoveFromService => alarm.remove_from_service(),
                AlarmRequest::ReturnToService => alarm.return_to_service(),
            };
            let shelved_until = alarm.shelved_until();
            let limit = match request {
                AlarmRequest::Shelve(span) if span > shelve_most => Some(shelve_most),
                _ => None,
            };
            let filled = &mut Filled::default();
            Some(change.map(|change| {
                let record = self.record(table, at, &labels, change, Some(by.to_owned()), filled);
                Acted { record, shelved_until, limit }
            }))
        };
        let answers = found.into_iter().filter_map(ask).collect();
        self.alarms.retain(|_, instance| !instance.alarm.is_idle());
        answers
    }

    /// Its alarms with what they say.
    pub fn views(&self, table: &LiveTable, time: Timestamp) -> impl Iterator<Item = AlarmView> {
        let view = move |(labels, instance)| AlarmView {
            annotations: self.annotations(
                labels,
                Some(instance),
                &TableQueries::new(table, time),
                &mut Filled::default(),
            ),
            ..self.state_of(labels, instance)
        };
        self.alarms.iter().map(view)
    }

    /// Its alarms without what they say.
    pub fn states(&self) -> impl Iterator<Item = AlarmView> {
        self.alarms.iter().map(|(labels, instance)| self.state_of(labels, instance))
    }

    fn state_of(&self, labels: &Own, instance: &Instance) -> AlarmView {
        AlarmView {
            name: self.name.clone(),
            labels: labels.clone(),
            source: AlarmSource::Rule,
            state: instance.alarm.state(),
            priority: self.spec.priority,
            began: instance.began.or(instance.alarm.active_since()),
            pending_since: instance.alarm.pending_since(),
            active_since: instance.alarm.active_since(),
            shelved_until: instance.alarm.shelved_until(),
            value: instance.value.filter(|value| value.is_finite()),
            flapping: instance.alarm.flaps(&self.spec.policy),
            annotations: BTreeMap::new(),
        }
    }

    pub fn break_delays(&mut self) {
        self.alarms.values_mut().for_each(|instance| instance.alarm.break_delay());
    }

    /// Labels, alarms, and the newest value of each.
    pub fn remembered(&self) -> impl Iterator<Item = (&Own, &Alarm, Option<f64>)> {
        self.alarms.iter().map(|(labels, instance)| (labels, &instance.alarm, instance.value))
    }

    pub fn remember(&mut self, labels: Own, alarm: Alarm, value: Option<f64>) {
        self.has_remembered = true;
        self.alarms.insert(labels, Instance { alarm, value, ..Instance::default() });
    }
}

impl Instance {
    fn note_begin(&mut self) {
        let since = self.alarm.pending_since().or(self.alarm.active_since());
        self.began = since.map(|since| self.began.unwrap_or(since));
    }

    /// Whether none of the series that the alarm is about has anything new to say.
    fn is_behind(
        &mut self,
        table: &LiveTable,
        selectors: &[usize],
        labels: &Own,
        at: &Moment<'_>,
        on_arrival: bool,
    ) -> bool {
        let inputs = self.inputs.get_or_insert_with(|| inputs(table, selectors, labels, INPUTS_MAX));
        !inputs.is_empty() && inputs.iter().all(|position| at.is_behind(table, *position, on_arrival))
    }

    /// Whether no series that the alarm is about has a reading that stands for it. Without any series nothing is bad:
    /// they are no longer part of the configuration.
    fn inputs_are_bad(&mut self, table: &LiveTable, selectors: &[usize], labels: &Own, time: Timestamp) -> bool {
        let inputs = self.inputs.get_or_insert_with(|| inputs(table, selectors, labels, INPUTS_MAX));
        !inputs.is_empty() && inputs.iter().all(|position| table.series(*position).is_silent(time))
    }
}

/// The value that was compared, where it is that of one series.
fn value_of(plan: &mut Plan, table: &mut LiveTable, of: Option<Of>, time: Timestamp) -> Option<f64> {
    let Some(Of::Series(position)) = of else { return None };
    let mut cells = Vec::new();
    plan.compared().evaluate_of(table, time, &[position], &mut cells);
    cells.first().map(|cell| cell.value)
}
