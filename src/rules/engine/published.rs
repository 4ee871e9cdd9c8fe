//! Series that rules make: results of recording rules, and `ALERTS` where some rule asks for it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use promql_parser::label::MatchOp;

use super::failure::Trouble;
use super::{AlarmView, Engine, Outcome, Recorded, Rule};
use crate::model::{Scale, Timestamp};
use crate::rules::live::{Labels, NAME, SeriesSpec};
use crate::rules::plan::{Plan, without_name};
use crate::rules::ring::{END, Sample};

/// Series of alarms that are pending or active, as in Prometheus.
const ALERTS: &str = "ALERTS";

/// Series of the same alarms: the value is since when, in seconds.
const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

pub(super) struct Recording {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub plan: Plan,
    pub published: Vec<Labels>,
    pub trouble: Trouble,
}

impl Engine {
    pub(super) fn evaluate_recording(&mut self, group: usize, rule: usize, time: Timestamp, outcome: &mut Outcome) {
        let limit = self.groups[group].spec.limit;
        let Rule::Record(recording) = &mut self.groups[group].rules[rule] else { return };
        let Recording { name, labels, plan, published, trouble } = &mut **recording;
        plan.evaluate(&mut self.table, time, &mut self.cells);
        let failed = match plan.failure() {
            Some(error) => Some(error.to_string()),
            None if limit > 0 && self.cells.len() > limit => {
                Some(format!("exceeded limit of {limit} with {} series", self.cells.len()))
            }
            None => None,
        };
        if trouble.note(name, failed, time) {
            self.failures += 1;
            return;
        }
        let named = self.cells.iter().map(|cell| {
            let labels = recorded_labels(name, labels, &plan.labels(&self.table, cell.of), &self.external);
            Recorded { labels, time, value: cell.value }
        });
        let results: Vec<Recorded> = named.collect();
        let before = std::mem::take(published);
        let look_back = self.look_back_of_results(group);
        let (now, ended) = self.publish(&results, before, time, look_back);
        outcome.ended.extend(ended);
        if let Rule::Record(recording) = &mut self.groups[group].rules[rule] {
            recording.published = now;
        }
        outcome.recorded.extend(results);
    }

    /// For so long a result of a rule stands for its series.
    pub(super) fn look_back_of_results(&self, group: usize) -> Duration {
        self.look_back.unwrap_or(self.groups[group].spec.interval * super::LOOK_BACK_INTERVALS)
    }

    /// Results are series for the rules after this one; what is no longer among them has ended.
    fn publish(
        &mut self,
        results: &[Recorded],
        before: Vec<Labels>,
        time: Timestamp,
        look_back: Duration,
    ) -> (Vec<Labels>, Vec<Labels>) {
        let now: Vec<Labels> = results.iter().map(|result| result.labels.clone()).collect();
        for result in results {
            if self.table.position_of(&result.labels).is_none() {
                let labels = result.labels.clone();
                self.add_series(SeriesSpec { id: None, labels, scale: Scale::ONE, look_back });
            }
            self.take_sample(&result.labels, Sample { time, value: result.value });
        }
        if before == now {
            return (now, Vec::new());
        }
        let still: HashSet<&Labels> = now.iter().collect();
        let ended: Vec<Labels> = before.into_iter().filter(|labels| !still.contains(labels)).collect();
        ended.iter().for_each(|labels| self.take_sample(labels, Sample { time, value: END }));
        (now, ended)
    }

    /// Whether some rule selects `ALERTS` or `ALERTS_FOR_STATE` by its name.
    pub(super) fn selects_alerts(&self) -> bool {
        self.table.matchers().flatten().any(|matcher| {
            let is_wanted = matcher.name == NAME && matches!(matcher.op, MatchOp::Equal | MatchOp::Re(_));
            is_wanted && (matcher.is_match(ALERTS) || matcher.is_match(ALERTS_FOR_STATE))
        })
    }

    /// Alarms of one rule as series.
    pub(super) fn publish_alerts(&mut self, group: usize, rule: usize, time: Timestamp) {
        let look_back = self.look_back_of_results(group);
        let Rule::Alert(alert) = &mut self.groups[group].rules[rule] else { return };
        let results: Vec<Recorded> = alert.states().flat_map(|view| alert_series(&view, time)).collect();
        let before = std::mem::take(&mut alert.published);
        let (now, _) = self.publish(&results, before, time, look_back);
        if let Rule::Alert(alert) = &mut self.groups[group].rules[rule] {
            alert.published = now;
        }
    }
}

/// `ALERTS` and `ALERTS_FOR_STATE` of an alarm that is pending or active at `time`.
pub fn alert_series(view: &AlarmView, time: Timestamp) -> Vec<Recorded> {
    let (since, state) = match (view.active_since, view.pending_since) {
        (Some(since), _) => (view.began.unwrap_or(since), "firing"),
        (None, Some(since)) => (since, "pending"),
        (None, None) => return Vec::new(),
    };
    let mut labels = view.labels.clone();
    labels.insert("alertname".to_owned(), view.name.clone());
    let named = |name: &str, mut labels: BTreeMap<String, String>, value: f64| {
        labels.insert(NAME.to_owned(), name.to_owned());
        Recorded { labels: Arc::new(labels), time, value }
    };
    let for_state = named(ALERTS_FOR_STATE, labels.clone(), (since.0 as f64 / 1000.0).trunc());
    labels.insert("alertstate".to_owned(), state.to_owned());
    vec![named(ALERTS, labels, 1.0), for_state]
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
