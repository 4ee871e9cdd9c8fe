//! Unit tests of rules, in the format of promtool: what is said about series at some time, against what the engine
//! that runs live makes of them.

pub mod file;
mod input;
pub mod notation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::file::{AlertTest, ExpressionTest, TestFile, UnitTest};
use self::input::{Input, Kept};
use self::notation::Values;
use super::engine::{Engine, EngineError, FailingPart, Outcome, RuleSetup, alert_series};
use super::eval::check::refusals;
use super::eval::{Evaluator, MemorySource, is_close, same_number};
use super::live::{Labels, SeriesSpec};
use super::ring::{END, Sample};
use super::spec::GroupSpec;
use super::text::Surroundings;
use crate::model::{Observed, Row, Scale, SeriesId, Timestamp, Value, promql};

/// For so long a sample stands for its series, as promtool has it.
const LOOK_BACK: Duration = Duration::from_secs(300);

type Own = BTreeMap<String, String>;

/// A test that did not come out as it should.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The test; may be empty.
    pub test: String,
    /// Seconds after the begin.
    pub time_s: f64,
    /// The alarm, where one is tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// The expression, where one is tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// The rule that cannot be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What should have come out, one line each.
    pub expected: Vec<String>,
    /// What came out.
    pub got: Vec<String>,
    /// Why nothing came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Runs every test of a file over these rules. Returns what differs, and how many things were tested.
///
/// # Errors
/// Rules that cannot be evaluated.
pub fn run(file: &TestFile, groups: &[GroupSpec]) -> Result<(Vec<Difference>, usize), Vec<EngineError>> {
    let mut groups = groups.to_vec();
    for group in &mut groups {
        group.interval = file.evaluation_interval;
    }
    let place = |group: &GroupSpec| file.group_eval_order.iter().position(|name| *name == group.name).unwrap_or(0);
    groups.sort_by_key(place);
    let (mut differences, mut count) = (Vec::new(), 0);
    for test in &file.tests {
        count += test.alerts.len() + test.expressions.len();
        differences.extend(Run::new(file, test, groups.clone())?.run());
    }
    Ok((differences, count))
}

struct Run<'a> {
    file: &'a TestFile,
    test: &'a UnitTest,
    engine: Engine,
    input: Input<'a>,
    memory: Kept,
    /// Series of alarms at the evaluation before.
    alerts: Vec<Labels>,
}

impl<'a> Run<'a> {
    fn new(file: &'a TestFile, test: &'a UnitTest, groups: Vec<GroupSpec>) -> Result<Self, Vec<EngineError>> {
        let spec = |(id, (labels, _)): (u32, &(Labels, Values))| SeriesSpec {
            id: Some(SeriesId(id)),
            labels: labels.clone(),
            scale: Scale::ONE,
            look_back: LOOK_BACK,
        };
        let setup = RuleSetup {
            groups,
            series: (0..).zip(&test.series).map(spec).collect(),
            look_back: Some(LOOK_BACK),
            surroundings: Surroundings {
                external_labels: test.external_labels.clone(),
                external_url: test.external_url.clone(),
            },
            allows_fixed_times: true,
            ..RuleSetup::default()
        };
        // Evaluations are at whole multiples of the interval, the first of them at zero.
        let engine = Engine::new(setup, Timestamp(-1))?;
        let memory = Kept::of(&test.expressions, file.evaluation_interval);
        Ok(Self { file, test, engine, input: Input::of(test), memory, alerts: Vec::new() })
    }

    fn run(mut self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let times = self.test.alerts.iter().map(|test| test.time);
        let end = times.chain(self.test.expressions.iter().map(|test| test.time)).max().unwrap_or_default();
        let interval = millis(self.file.evaluation_interval);
        let mut time = 0;
        while time <= millis(end) {
            self.evaluate(Timestamp(time));
            // What a template cannot say is a text among others, as with promtool.
            let mut failing = self.engine.failing();
            failing.retain(|rule| rule.part != FailingPart::Template);
            if !failing.is_empty() {
                let at = Duration::from_millis(time.unsigned_abs());
                differences.extend(failing.into_iter().map(|failing| Difference {
                    rule: Some(failing.rule),
                    error: Some(failing.reason),
                    ..self.difference(at)
                }));
                return differences;
            }
            let due = |test: &&AlertTest| (time..time + interval).contains(&millis(test.time));
            differences.extend(self.test.alerts.iter().filter(due).filter_map(|test| self.alert(test)));
            time += interval;
        }
        let source = std::mem::take(&mut self.memory).into_source();
        differences.extend(self.test.expressions.iter().filter_map(|test| self.expression(test, &source)));
        differences
    }

    fn difference(&self, time: Duration) -> Difference {
        Difference {
            test: self.test.name.clone(),
            time_s: time.as_secs_f64(),
            alert: None,
            expression: None,
            rule: None,
            expected: Vec::new(),
            got: Vec::new(),
            error: None,
        }
    }

    fn evaluate(&mut self, time: Timestamp) {
        let mut outcome = Outcome::default();
        while let Some((at, id, value)) = self.input.next_until(time) {
            let (sample, labels) = (Sample { time: at, value }, &self.test.series[id as usize].0);
            self.memory.push(labels, sample);
            if sample.is_value() {
                let observed = vec![Observed::Good(Value::F64(value))];
                self.engine.take(&[Row { series: [SeriesId(id)].into(), time: at, observed }], &mut outcome);
            } else {
                self.engine.take_sample(labels, sample);
            }
        }
        self.engine.advance(time, &mut outcome);
        for result in outcome.recorded {
            self.memory.push(&result.labels, Sample { time, value: result.value });
        }
        for ended in outcome.ended {
            self.memory.push(&ended, Sample { time, value: END });
        }
        let before = std::mem::take(&mut self.alerts);
        for result in self.engine.states().iter().flat_map(|view| alert_series(view, time)) {
            self.alerts.push(result.labels.clone());
            self.memory.push(&result.labels, Sample { time, value: result.value });
        }
        for ended in before.into_iter().filter(|labels| !self.alerts.contains(labels)) {
            self.memory.push(&ended, Sample { time, value: END });
        }
    }

    fn alert(&self, test: &AlertTest) -> Option<Difference> {
        let named = |labels: &Own| {
            let mut labels = labels.clone();
            labels.insert("alertname".to_owned(), test.name.clone());
            labels
        };
        let views = self.engine.views();
        let active = views.iter().filter(|view| view.name == test.name && view.active_since.is_some());
        let mut got: Vec<(Own, Own)> = active.map(|view| (named(&view.labels), view.annotations.clone())).collect();
        let mut expected: Vec<(Own, Own)> =
            test.expected.iter().map(|(labels, annotations)| (named(labels), annotations.clone())).collect();
        got.sort();
        expected.sort();
        if got == expected {
            return None;
        }
        let line =
            |(labels, annotations): &(Own, Own)| format!("Labels:{} Annotations:{}", shown(labels), shown(annotations));
        Some(Difference {
            alert: Some(test.name.clone()),
            expected: expected.iter().map(line).collect(),
            got: got.iter().map(line).collect(),
            ..self.difference(test.time)
        })
    }

    fn expression(&self, test: &ExpressionTest, source: &MemorySource) -> Option<Difference> {
        let difference = || Difference { expression: Some(test.expression.clone()), ..self.difference(test.time) };
        let step = self.file.evaluation_interval;
        let parsed = promql::parse(&test.expression).and_then(|expression| {
            let refused = refusals(&expression, step);
            if refused.is_empty() { Ok(expression) } else { Err(refused.join("; ")) }
        });
        let evaluated = parsed.and_then(|expression| {
            let evaluator = Evaluator::new(source, Timestamp(millis(test.time)), step);
            evaluator.vector(&expression).map_err(|error| error.to_string())
        });
        let mut got: Vec<(Labels, f64)> = match evaluated {
            Ok(elements) => elements.into_iter().map(|element| (element.labels, element.value)).collect(),
            Err(error) => return Some(Difference { error: Some(error), ..difference() }),
        };
        let mut expected = test.expected.clone();
        got.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let same = if self.file.fuzzy_compare { is_close } else { same_number };
        let is_same =
            |(got, expected): (&(Labels, f64), &(Labels, f64))| got.0 == expected.0 && same(got.1, expected.1);
        if got.len() == expected.len() && got.iter().zip(&expected).all(is_same) {
            return None;
        }
        let line = |(labels, value): &(Labels, f64)| format!("{} {}", shown(labels), super::text::number(*value));
        let (expected, got) = (expected.iter().map(line).collect(), got.iter().map(line).collect());
        Some(Difference { expected, got, ..difference() })
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Labels as Prometheus shows them, with a name before the braces.
fn shown(labels: &Own) -> String {
    super::eval::shown(&Arc::new(labels.clone()))
}
