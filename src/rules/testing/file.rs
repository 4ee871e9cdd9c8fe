//! Unit-test files of promtool.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::notation::{Values, labels, number, values};
use crate::rules::file::{Span, yaml};
use crate::rules::live::Labels;
use crate::settings::{FileFault, read_text};

/// Between evaluations of a file that does not say, as promtool has it.
const INTERVAL: Duration = Duration::from_secs(60);

type Own = BTreeMap<String, String>;

/// A file of unit tests.
#[derive(Debug)]
pub struct TestFile {
    /// The rule files, where no pattern stands for several.
    pub rule_files: Vec<PathBuf>,
    /// Patterns that no file fits.
    pub unmatched: Vec<String>,
    /// Between evaluations. Not zero.
    pub evaluation_interval: Duration,
    /// Groups in the order of their evaluation; others come before.
    pub group_eval_order: Vec<String>,
    /// Values may differ by what rounding does.
    pub fuzzy_compare: bool,
    /// The tests.
    pub tests: Vec<UnitTest>,
}

/// Series, and what has to come of them.
#[derive(Debug)]
pub struct UnitTest {
    /// Its name; may be empty.
    pub name: String,
    /// Between samples.
    pub interval: Duration,
    /// Labels and values.
    pub series: Vec<(Labels, Values)>,
    /// Labels for templates.
    pub external_labels: BTreeMap<String, String>,
    /// Address for templates.
    pub external_url: String,
    /// Which alarms have to be active.
    pub alerts: Vec<AlertTest>,
    /// Which results expressions must have.
    pub expressions: Vec<ExpressionTest>,
}

/// Which alarms have to be active.
#[derive(Debug)]
pub struct AlertTest {
    /// When.
    pub time: Duration,
    /// Name of the alarms.
    pub name: String,
    /// Their labels and annotations, all of them.
    pub expected: Vec<(BTreeMap<String, String>, BTreeMap<String, String>)>,
}

/// Which results an expression must have.
#[derive(Debug)]
pub struct ExpressionTest {
    /// When.
    pub time: Duration,
    /// The expression.
    pub expression: String,
    /// All results.
    pub expected: Vec<(Labels, f64)>,
}

/// A list as Go reads one: nothing at all is an empty one, and an item that is nothing is an empty item.
type List<T> = Option<Vec<Option<T>>>;

fn items<T: Default>(list: List<T>) -> impl Iterator<Item = T> {
    list.unwrap_or_default().into_iter().map(Option::unwrap_or_default)
}

/// Texts by name as Go reads them: nothing is an empty text.
type Texts = Option<BTreeMap<String, Option<String>>>;

fn texts(texts: Texts) -> Own {
    texts.unwrap_or_default().into_iter().map(|(name, text)| (name, text.unwrap_or_default())).collect()
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawFile {
    rule_files: List<String>,
    evaluation_interval: Option<Span>,
    group_eval_order: List<String>,
    fuzzy_compare: Option<bool>,
    tests: List<RawTest>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTest {
    name: Option<String>,
    interval: Option<Span>,
    input_series: List<RawSeries>,
    alert_rule_test: List<RawAlertTest>,
    promql_expr_test: List<RawExpressionTest>,
    external_labels: Texts,
    external_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSeries {
    series: Option<Spanned<String>>,
    values: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAlertTest {
    eval_time: Option<Span>,
    alertname: Option<Spanned<String>>,
    exp_alerts: List<RawAlert>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAlert {
    exp_labels: Texts,
    exp_annotations: Texts,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawExpressionTest {
    expr: Option<String>,
    eval_time: Option<Span>,
    exp_samples: List<RawSample>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSample {
    labels: Option<Spanned<String>>,
    value: Option<Number>,
}

struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = || serde::de::Error::custom(format!("{text:?} is no number"));
        number(&text).map(Self).ok_or_else(refused)
    }
}

/// The unit tests of the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<TestFile, Vec<FileFault>> {
    let name = path.display().to_string();
    let Some(text) = read_text(path)? else {
        return Err(vec![FileFault::of_file(&name, "there is no such file")]);
    };
    let raw: RawFile = yaml(&text, &name)?;
    let (mut rule_files, mut unmatched) = (Vec::new(), Vec::new());
    for pattern in items(raw.rule_files) {
        let found = fitting(&path.parent().unwrap_or(Path::new("")).join(&pattern));
        if found.is_empty() {
            unmatched.push(pattern);
        }
        rule_files.extend(found);
    }
    let evaluation_interval = raw.evaluation_interval.map(|span| span.0).filter(|it| !it.is_zero()).unwrap_or(INTERVAL);
    let mut faults = Vec::new();
    let tests = items(raw.tests).map(|test| unit_test(test, evaluation_interval, &name, &mut faults)).collect();
    let (group_eval_order, fuzzy_compare) =
        (items(raw.group_eval_order).collect(), raw.fuzzy_compare.unwrap_or_default());
    if faults.is_empty() {
        Ok(TestFile { rule_files, unmatched, evaluation_interval, group_eval_order, fuzzy_compare, tests })
    } else {
        Err(faults)
    }
}

fn unit_test(raw: RawTest, evaluation_interval: Duration, file: &str, faults: &mut Vec<FileFault>) -> UnitTest {
    let name = raw.name.unwrap_or_default();
    let mut fault = |at: Option<&Spanned<String>>, key: &str, reason: String| {
        let line = at.map(|at| at.referenced.line() as usize);
        let reason = match at {
            Some(at) => format!("column {}: {reason}", at.referenced.column()),
            None => format!("test {name:?}: {reason}"),
        };
        faults.push(FileFault { line, key: key.to_owned(), ..FileFault::of_file(file, reason) });
    };
    // Of a series that stands here twice the last counts, as with promtool.
    let mut series: Vec<(Labels, Values)> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for raw in items(raw.input_series) {
        let Some(named) = &raw.series else {
            fault(raw.values.as_ref(), "input_series", "an item needs series, such as up{job=\"a\"}".to_owned());
            continue;
        };
        match (labels(&named.value), values(raw.values.as_ref().map_or("", |text| &text.value))) {
            (Ok(labels), Ok(values)) => {
                let labels = Arc::new(labels);
                match places.get(&labels) {
                    Some(place) => series[*place].1 = values,
                    None => {
                        places.insert(labels.clone(), series.len());
                        series.push((labels, values));
                    }
                }
            }
            (labels, values) => {
                labels.err().into_iter().for_each(|reason| fault(Some(named), "series", reason));
                values.err().into_iter().for_each(|reason| fault(raw.values.as_ref(), "values", reason));
            }
        }
    }
    let mut alerts = Vec::new();
    for raw in items(raw.alert_rule_test) {
        let time = raw.eval_time.map_or(Duration::ZERO, |span| span.0);
        let alert = raw.alertname.as_ref().map_or("", |name| &name.value);
        if alert.is_empty() {
            let reason =
                format!("an item misses the required attribute alertname at eval_time {}s", time.as_secs_f64());
            fault(raw.alertname.as_ref(), "alert_rule_test", reason);
        }
        let expected = items(raw.exp_alerts).map(|alert| (texts(alert.exp_labels), texts(alert.exp_annotations)));
        alerts.push(AlertTest { time, name: alert.to_owned(), expected: expected.collect() });
    }
    let mut expressions = Vec::new();
    for raw in items(raw.promql_expr_test) {
        let mut expected = Vec::new();
        for sample in items(raw.exp_samples) {
            match labels(sample.labels.as_ref().map_or("", |text| &text.value)) {
                Ok(labels) => expected.push((Arc::new(labels), sample.value.map_or(0.0, |number| number.0))),
                Err(reason) => fault(sample.labels.as_ref(), "labels", reason),
            }
        }
        let time = raw.eval_time.map_or(Duration::ZERO, |span| span.0);
        expressions.push(ExpressionTest { time, expression: raw.expr.unwrap_or_default(), expected });
    }
    let interval = raw.interval.map(|span| span.0).filter(|it| !it.is_zero()).unwrap_or(evaluation_interval);
    let (external_labels, external_url) = (texts(raw.external_labels), raw.external_url.unwrap_or_default());
    UnitTest { name, interval, series, external_labels, external_url, alerts, expressions }
}

/// Files that a path stands for: in its last part `*` is any text and `?` any letter.
fn fitting(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?']) {
        return if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let expression = regex::escape(&name).replace("\\*", ".*").replace("\\?", ".");
    let Ok(expression) = regex::Regex::new(&format!("^{expression}$")) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(pattern.parent().unwrap_or(Path::new("."))) else { return Vec::new() };
    let names = entries.flatten().filter(|entry| expression.is_match(&entry.file_name().to_string_lossy()));
    let mut found: Vec<PathBuf> = names.map(|entry| entry.path()).collect();
    found.sort();
    found
}
