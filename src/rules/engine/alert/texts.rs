//! What an alarm says: its labels, its annotations, and what it asks to have done.

use super::{Alert, FLAPPING, HOLE, Instance, Moment, Own, READINGS_MAX};
use crate::model::{AlarmReading, AlarmRecord, Timestamp, Transition};
use crate::rules::alarm::Change;
use crate::rules::engine::inputs::{inputs, shown};
use crate::rules::engine::queries::TableQueries;
use crate::rules::engine::{Action, Outcome};
use crate::rules::live::LiveTable;
use crate::rules::plan::{Cell, Plan, without_name};
use crate::rules::ring::Sample;
use crate::rules::spec::{ActionSpec, AlertSpec, RuleSpec};
use crate::rules::text::{Queries, expand, failed};

/// Whether templates could be filled in.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Some were.
    any: bool,
    /// Why one was not.
    pub reason: Option<String>,
}

impl Filled {
    /// Notes what became of the template of `what`; one that cannot be filled in says so in its place.
    fn text(&mut self, what: &str, filled: Result<String, String>) -> String {
        filled.unwrap_or_else(|reason| {
            let text = failed(&reason);
            self.reason.get_or_insert(format!("{what}: {reason}"));
            text
        })
    }
}

/// Every template of an alert.
pub(in crate::rules::engine) fn templates<'r>(
    rule: &'r RuleSpec,
    spec: &'r AlertSpec,
) -> impl Iterator<Item = &'r String> {
    let of_action = |action: &'r ActionSpec| match action {
        ActionSpec::Write { device: text, .. }
        | ActionSpec::PollFaster { device: text, .. }
        | ActionSpec::Capture { series: text, .. }
        | ActionSpec::Publish { payload: text, .. } => text,
    };
    let actions = spec.on_raised.iter().chain(&spec.on_cleared).map(of_action);
    rule.labels.values().chain(spec.annotations.values()).chain(actions)
}

impl Alert {
    pub(super) fn labels_of(&mut self, table: &LiveTable, cell: Cell, time: Timestamp, filled: &mut Filled) -> Own {
        if let Some(known) = self.known.get(&cell.of) {
            return known.clone();
        }
        let found = self.plan.labels(table, cell.of);
        let mut labels: Own = (*without_name(&found)).clone();
        let queries = TableQueries::new(table, time);
        for (key, template) in &self.labels {
            let value = expand(template, &found, cell.value, &self.around, &queries);
            let value = filled.text(&format!("labels.{key}"), value);
            if value.is_empty() {
                labels.remove(key)
            } else {
                labels.insert(key.clone(), value)
            };
        }
        let is_lasting = !matches!(self.plan, Plan::General(_));
        if is_lasting && !self.labels.values().any(|template| template.contains("{{")) {
            self.known.insert(cell.of, labels.clone());
        }
        labels
    }

    pub(super) fn record(
        &self,
        table: &LiveTable,
        at: &Moment<'_>,
        labels: &Own,
        change: Change,
        by: Option<String>,
        filled: &mut Filled,
    ) -> AlarmRecord {
        let instance = self.alarms.get(labels);
        let value = instance.and_then(|instance| instance.value);
        let mut annotations = self.annotations(labels, instance, &TableQueries::new(table, at.time), filled);
        let from = Timestamp(at.time.0.saturating_sub(self.plan.reach(table)));
        if let Some((begin, end)) = at.holes.iter().find(|(_, end)| *end > from) {
            annotations.insert(
                HOLE.to_owned(),
                format!("no readings from {begin} to {end}: the agent did not run, or the store was full"),
            );
        }
        if instance.is_some_and(|instance| instance.alarm.flaps(&self.spec.policy)) {
            annotations.insert(FLAPPING.to_owned(), "raised so often that it is held until it was quiet".to_owned());
        }
        AlarmRecord {
            name: self.name.clone(),
            labels: labels.clone(),
            time: at.time,
            transition: change.transition,
            state: change.state,
            priority: self.spec.priority,
            value: value.filter(|value| value.is_finite()),
            annotations,
            readings: self.readings(table, labels, at.time),
            by,
        }
    }

    /// Texts for people, about the newest result.
    pub(super) fn annotations(
        &self,
        labels: &Own,
        instance: Option<&Instance>,
        queries: &dyn Queries,
        filled: &mut Filled,
    ) -> Own {
        let value = instance.and_then(|instance| instance.value).unwrap_or(f64::NAN);
        let of_result = instance.and_then(|instance| instance.found.as_deref()).unwrap_or(labels);
        filled.any |= !self.spec.annotations.is_empty();
        let annotation = |(key, text): (&String, &String)| {
            let value = expand(text, of_result, value, &self.around, queries);
            (key.clone(), filled.text(&format!("annotations.{key}"), value))
        };
        self.spec.annotations.iter().map(annotation).collect()
    }

    /// The newest readings of the series that an alarm is about.
    fn readings(&self, table: &LiveTable, labels: &Own, time: Timestamp) -> Vec<AlarmReading> {
        let inputs = inputs(table, &self.selectors, labels, READINGS_MAX);
        let reading = |position: usize| {
            let series = table.series(position);
            let Sample { time, value } = series.ring.at(time)?;
            Some(AlarmReading {
                series: shown(&series.spec.labels),
                time,
                value: Some(value).filter(|it| it.is_finite()),
            })
        };
        inputs.into_iter().filter_map(reading).collect()
    }

    /// What the alarm asks to have done. What a template cannot name is not done.
    pub(super) fn act(&self, table: &LiveTable, record: &AlarmRecord, filled: &mut Filled, outcome: &mut Outcome) {
        let actions = match record.transition {
            Transition::Raised => &self.spec.on_raised,
            Transition::Cleared => &self.spec.on_cleared,
            _ => return,
        };
        let queries = TableQueries::new(table, record.time);
        let value = self.alarms.get(&record.labels).and_then(|instance| instance.value).unwrap_or(f64::NAN);
        let fill = |text: &String| expand(text, &record.labels, value, &self.around, &queries);
        for action in actions {
            match filled_in(action, fill) {
                Ok(what) => outcome.actions.push(Action {
                    alarm: record.name.clone(),
                    labels: record.labels.clone(),
                    time: record.time,
                    what,
                }),
                Err(reason) => {
                    filled.text(&format!("{action}"), Err(reason));
                }
            }
        }
    }

    /// Notes what became of the templates of an evaluation. While one fails, those of active alarms are tried again.
    pub(super) fn note_templates(&mut self, table: &LiveTable, time: Timestamp, mut filled: Filled) {
        if !filled.any && filled.reason.is_none() && self.templates.is_current() {
            let queries = TableQueries::new(table, time);
            for (labels, instance) in self.alarms.iter().filter(|(_, instance)| instance.alarm.is_active()) {
                self.annotations(labels, Some(instance), &queries, &mut filled);
            }
        }
        if filled.any || filled.reason.is_some() {
            self.templates.note(&self.name, filled.reason, time);
        }
    }
}

fn filled_in(action: &ActionSpec, fill: impl Fn(&String) -> Result<String, String>) -> Result<ActionSpec, String> {
    Ok(match action {
        ActionSpec::Write { device, point, value, from_afar } => {
            let (device, point) = (fill(device)?, point.clone());
            ActionSpec::Write { device, point, value: *value, from_afar: *from_afar }
        }
        ActionSpec::PollFaster { device, interval, lasts } => {
            ActionSpec::PollFaster { device: fill(device)?, interval: *interval, lasts: *lasts }
        }
        ActionSpec::Capture { series, before, after } => {
            ActionSpec::Capture { series: fill(series)?, before: *before, after: *after }
        }
        ActionSpec::Publish { topic, payload } => ActionSpec::Publish { topic: topic.clone(), payload: fill(payload)? },
    })
}
