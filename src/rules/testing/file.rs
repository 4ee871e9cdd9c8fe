//! Unit-test files of promtool.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::notation::{labels, number, values};
use crate::rules::file::{Span, yaml};
use crate::rules::live::Labels;
use crate::settings::{FileFault, read_text};

/// Between evaluations of a file that does not say, as promtool has it.
const INTERVAL: Duration = Duration::from_secs(60);

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
    /// Labels and values; nothing where there is no sample.
    pub series: Vec<(Labels, Vec<Option<f64>>)>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule_files: Vec<String>,
    #[serde(default)]
    evaluation_interval: Option<Span>,
    #[serde(default)]
    group_eval_order: Vec<String>,
    #[serde(default)]
    fuzzy_compare: bool,
    #[serde(default)]
    tests: Vec<RawTest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    #[serde(default)]
    name: String,
    #[serde(default)]
    interval: Option<Span>,
    #[serde(default)]
    input_series: Vec<RawSeries>,
    #[serde(default)]
    alert_rule_test: Vec<RawAlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<RawExpressionTest>,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    #[serde(default)]
    external_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    series: Spanned<String>,
    values: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlertTest {
    eval_time: Span,
    alertname: Spanned<String>,
    #[serde(default)]
    exp_alerts: Vec<RawAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlert {
    #[serde(default)]
    exp_labels: BTreeMap<String, String>,
    #[serde(default)]
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpressionTest {
    expr: String,
    eval_time: Span,
    #[serde(default)]
    exp_samples: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    labels: Option<Spanned<String>>,
    value: Number,
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
    for pattern in raw.rule_files {
        let found = fitting(&path.parent().unwrap_or(Path::new("")).join(&pattern));
        if found.is_empty() {
            unmatched.push(pattern);
        }
        rule_files.extend(found);
    }
    let evaluation_interval = raw.evaluation_interval.map(|span| span.0).filter(|it| !it.is_zero()).unwrap_or(INTERVAL);
    let mut faults = Vec::new();
    let tests = raw.tests.into_iter().map(|test| unit_test(test, evaluation_interval, &name, &mut faults)).collect();
    let (group_eval_order, fuzzy_compare) = (raw.group_eval_order, raw.fuzzy_compare);
    if faults.is_empty() {
        Ok(TestFile { rule_files, unmatched, evaluation_interval, group_eval_order, fuzzy_compare, tests })
    } else {
        Err(faults)
    }
}

fn unit_test(raw: RawTest, evaluation_interval: Duration, file: &str, faults: &mut Vec<FileFault>) -> UnitTest {
    let mut fault = |at: &Spanned<String>, key: &str, reason: String| {
        let line = Some(at.referenced.line() as usize);
        let reason = format!("column {}: {reason}", at.referenced.column());
        faults.push(FileFault { line, key: key.to_owned(), ..FileFault::of_file(file, reason) });
    };
    let mut series = Vec::new();
    for raw in &raw.input_series {
        match (labels(&raw.series.value), values(&raw.values.value)) {
            (Ok(labels), Ok(values)) => series.push((Arc::new(labels), values)),
            (labels, values) => {
                labels.err().into_iter().for_each(|reason| fault(&raw.series, "series", reason));
                values.err().into_iter().for_each(|reason| fault(&raw.values, "values", reason));
            }
        }
    }
    let mut alerts = Vec::new();
    for raw in raw.alert_rule_test {
        if raw.alertname.value.is_empty() {
            fault(&raw.alertname, "alert_rule_test", "an item misses the required attribute alertname".to_owned());
        }
        let expected = raw.exp_alerts.into_iter().map(|alert| (alert.exp_labels, alert.exp_annotations)).collect();
        alerts.push(AlertTest { time: raw.eval_time.0, name: raw.alertname.value, expected });
    }
    let mut expressions = Vec::new();
    for raw in raw.promql_expr_test {
        let mut expected = Vec::new();
        for sample in raw.exp_samples {
            match (labels(sample.labels.as_ref().map_or("", |text| &text.value)), &sample.labels) {
                (Ok(labels), _) => expected.push((Arc::new(labels), sample.value.0)),
                (Err(reason), Some(at)) => fault(at, "labels", reason),
                (Err(_), None) => {}
            }
        }
        expressions.push(ExpressionTest { time: raw.eval_time.0, expression: raw.expr, expected });
    }
    UnitTest {
        name: raw.name,
        interval: raw.interval.map(|span| span.0).filter(|it| !it.is_zero()).unwrap_or(evaluation_interval),
        series,
        external_labels: raw.external_labels,
        external_url: raw.external_url,
        alerts,
        expressions,
    }
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
