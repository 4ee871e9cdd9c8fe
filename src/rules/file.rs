//! Rule files: those of Prometheus, with one key more, `edge`, for what a plant needs beyond them.
//!
//! ```yaml
//! groups:
//!   - name: presses
//!     interval: 10s
//!     rules:
//!       - record: press:power_w:avg
//!         expr: avg by (device) (avg_over_time(active_power_w[5m]))
//!       - alert: BearingHot
//!         expr: temperature_c > 80
//!         for: 30s
//!         labels: { team: mechanics }
//!         annotations: { summary: "{{ $labels.device }} at {{ $value }} °C" }
//!         edge:
//!           clear: temperature_c < 70
//!           priority: high
//!           latch: true
//! ```

mod action;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use promql_parser::parser;
use promql_parser::util::parse_duration;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use self::action::RawAction;
use super::alarm::{AlarmPolicy, FlapLimit, OnBad};
use super::bounded::BoundBy;
use super::eval::check::{refusals, selectors};
use super::plan::matchers;
use super::spec::{ActionSpec, AlertSpec, GroupSpec, Place, RuleKind, RuleSpec};
use crate::model::Priority;
use crate::settings::{FileFault, read_text};

/// Between evaluations of a group that does not say, as Prometheus has it.
const INTERVAL: Duration = Duration::from_secs(60);

/// The longest that an alarm can be shelved when its rule does not say.
const SHELVE: Duration = Duration::from_secs(24 * 3600);

/// How the names of unit tests end, which lie beside the rules.
const UNIT_TESTS: &str = ".test";

/// All groups of the files at `paths`. A directory stands for the files in it that end in `.yml` or `.yaml`, without
/// unit tests (`.test.yml`).
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(paths: &[PathBuf]) -> Result<Vec<GroupSpec>, Vec<FileFault>> {
    let (mut groups, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        let files = match files_of(path) {
            Ok(files) => files,
            Err(error) => {
                faults.push(FileFault::of_file(&path.display().to_string(), error.to_string()));
                continue;
            }
        };
        for file in files {
            let name = file.display().to_string();
            let parsed = match read_text(&file) {
                Ok(Some(text)) => parse(&text, &name),
                Ok(None) => Err(vec![FileFault::of_file(&name, "there is no such file")]),
                Err(unreadable) => Err(unreadable),
            };
            match parsed {
                Ok(found) => groups.extend(found),
                Err(found) => faults.extend(found),
            }
        }
    }
    if faults.is_empty() { Ok(groups) } else { Err(faults) }
}

fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries: Vec<std::fs::DirEntry> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
    let is_rules = |file: &PathBuf| {
        let name = file.to_string_lossy();
        let ends = |end: &str| name.ends_with(&format!("{end}.yml")) || name.ends_with(&format!("{end}.yaml"));
        ends("") && !ends(UNIT_TESTS)
    };
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_rules).collect();
    files.sort();
    Ok(files)
}

/// The groups in the text of a rule file; faults name `file`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str) -> Result<Vec<GroupSpec>, Vec<FileFault>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let raw: RawFile = yaml(text, file)?;
    let mut reader = Reader { file, faults: Vec::new(), interval: INTERVAL };
    let mut names = BTreeSet::new();
    let groups: Vec<GroupSpec> = raw
        .groups
        .into_iter()
        .filter_map(|group| {
            if !names.insert(group.name.value.clone()) {
                reader.fault(&group.name, "name", "another group of this file has this name");
            }
            reader.group(group)
        })
        .collect();
    if reader.faults.is_empty() { Ok(groups) } else { Err(reader.faults) }
}

/// What a file in YAML says.
pub(super) fn yaml<T: serde::de::DeserializeOwned>(text: &str, file: &str) -> Result<T, Vec<FileFault>> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let reason = error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned();
        vec![FileFault { line, ..FileFault::of_file(file, reason) }]
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    #[serde(default)]
    pub groups: Vec<RawGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroup {
    pub name: Spanned<String>,
    #[serde(default)]
    pub interval: Option<Span>,
    #[serde(default)]
    pub query_offset: Option<Span>,
    #[serde(default)]
    pub limit: usize,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    #[serde(default)]
    pub alert: Option<Spanned<String>>,
    #[serde(default)]
    pub record: Option<Spanned<String>>,
    pub expr: Spanned<String>,
    #[serde(default, rename = "for")]
    pub delay: Option<Span>,
    #[serde(default)]
    pub keep_firing_for: Option<Span>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub edge: Option<RawEdge>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEdge {
    clear: Option<Spanned<String>>,
    latch: bool,
    acknowledge: bool,
    priority: Option<Priority>,
    shelve: Option<Span>,
    on_bad: RawOnBad,
    flap: Option<RawFlap>,
    suppressed_by: Vec<String>,
    evaluate: RawEvaluate,
    window: Option<RawWindow>,
    on_firing: Vec<RawAction>,
    on_resolved: Vec<RawAction>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum RawOnBad {
    #[default]
    Hold,
    Resolve,
    Fire,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum RawEvaluate {
    #[default]
    Interval,
    Arrival,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFlap {
    raises: usize,
    within: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum RawWindow {
    Count(usize),
    Session(Span),
    State(Spanned<String>),
}

/// A span of time as Prometheus writes it: `90s`, `1h30m`, `0`.
pub(super) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_zero = text.starts_with('0') && text.bytes().all(|byte| byte == b'0' || byte.is_ascii_lowercase());
        let span = if is_zero { Ok(Duration::ZERO) } else { parse_duration(&text) };
        let refused = |reason: String| {
            serde::de::Error::custom(format!("{text:?} is no span of time such as 90s or 1h30m: {reason}"))
        };
        span.map(Self).map_err(refused)
    }
}

struct Reader<'a> {
    file: &'a str,
    faults: Vec<FileFault>,
    /// That of the group that is read: the step of subqueries that do not say.
    interval: Duration,
}

impl Reader<'_> {
    fn fault<T>(&mut self, at: &Spanned<T>, key: &str, reason: impl Into<String>) {
        let line = Some(at.referenced.line() as usize);
        let reason = format!("column {}: {}", at.referenced.column(), reason.into());
        self.faults.push(FileFault { line, key: key.to_owned(), ..FileFault::of_file(self.file, reason) });
    }

    fn group(&mut self, raw: RawGroup) -> Option<GroupSpec> {
        let interval = raw.interval.map_or(INTERVAL, |span| span.0);
        if interval.is_zero() || raw.name.value.is_empty() {
            self.fault(&raw.name, "groups", "a group needs a name, and an interval that is not zero");
            return None;
        }
        self.interval = interval;
        let labels = raw.labels;
        let rules = raw.rules.into_iter().filter_map(|rule| self.rule(rule, &labels)).collect();
        let query_offset = raw.query_offset.map_or(Duration::ZERO, |span| span.0);
        Some(GroupSpec { name: raw.name.value, interval, query_offset, limit: raw.limit, rules })
    }

    fn rule(&mut self, raw: RawRule, of_group: &BTreeMap<String, String>) -> Option<RuleSpec> {
        let expression = self.expression(&raw.expr, "expr");
        let place = Place {
            file: self.file.to_owned(),
            line: raw.expr.referenced.line() as usize,
            column: raw.expr.referenced.column() as usize,
        };
        for (key, text) in raw.labels.iter().chain(&raw.annotations) {
            if let Err(reason) = super::text::check(text) {
                self.fault(&raw.expr, key, format!("{text:?}: {reason}"));
            }
        }
        let mut labels = of_group.clone();
        labels.extend(raw.labels.clone());
        let (name, kind) = match (&raw.alert, &raw.record) {
            (Some(alert), None) if !alert.value.is_empty() => {
                let name = alert.value.clone();
                (name, RuleKind::Alert(Box::new(self.alert(raw)?)))
            }
            (None, Some(record)) if is_name(&record.value) => {
                let is_plain = raw.delay.is_none()
                    && raw.keep_firing_for.is_none()
                    && raw.annotations.is_empty()
                    && raw.edge.is_none();
                if !is_plain {
                    self.fault(record, "record", "for, keep_firing_for, annotations and edge belong to alerts");
                }
                (record.value.clone(), RuleKind::Record)
            }
            _ => {
                self.fault(&raw.expr, "rules", "a rule has either alert or record, with a name that is allowed");
                return None;
            }
        };
        Some(RuleSpec { place, name, expression: expression?, labels, kind })
    }

    fn alert(&mut self, raw: RawRule) -> Option<AlertSpec> {
        let span = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
        let edge = raw.edge.unwrap_or_default();
        let clear = match &edge.clear {
            Some(clear) => Some(self.expression(clear, "edge.clear")?),
            None => None,
        };
        let bound = match edge.window {
            None => None,
            Some(RawWindow::Count(count)) => Some(BoundBy::Count(count)),
            Some(RawWindow::Session(pause)) => Some(BoundBy::Session(pause.0)),
            Some(RawWindow::State(selector)) => Some(BoundBy::State(self.selector(&selector, "edge.window.state")?)),
        };
        let mut actions = |raw: Vec<RawAction>| -> Vec<ActionSpec> {
            raw.into_iter().filter_map(|action| self.action(action)).collect()
        };
        let (on_raised, on_cleared) = (actions(edge.on_firing), actions(edge.on_resolved));
        Some(AlertSpec {
            policy: AlarmPolicy {
                delay: span(raw.delay),
                keep_firing: span(raw.keep_firing_for),
                latch: edge.latch,
                acknowledge: edge.acknowledge,
                on_bad: match edge.on_bad {
                    RawOnBad::Hold => OnBad::Hold,
                    RawOnBad::Resolve => OnBad::Resolve,
                    RawOnBad::Fire => OnBad::Fire,
                },
                flap: edge.flap.map(|flap| FlapLimit { raises: flap.raises, within: flap.within.0 }),
            },
            priority: edge.priority.unwrap_or(Priority::Medium),
            shelve_most: edge.shelve.map_or(SHELVE, |span| span.0),
            clear,
            suppressed_by: edge.suppressed_by,
            annotations: raw.annotations,
            on_arrival: edge.evaluate == RawEvaluate::Arrival,
            bound,
            on_raised,
            on_cleared,
        })
    }

    fn expression(&mut self, text: &Spanned<String>, key: &str) -> Option<parser::Expr> {
        let expression = match parser::parse(&text.value) {
            Ok(expression) => expression,
            Err(reason) => {
                self.fault(text, key, format!("{:?}: {reason}{}", text.value, renamed(&text.value)));
                return None;
            }
        };
        let mut refused = refusals(&expression, self.interval);
        if selectors(&expression, self.interval).iter().any(|selected| selected.is_fixed) {
            refused.push("@ with a fixed time: no samples are kept for that".to_owned());
        }
        let is_good = refused.is_empty();
        refused.into_iter().for_each(|reason| self.fault(text, key, format!("{:?}: {reason}", text.value)));
        is_good.then_some(expression)
    }

    fn selector(&mut self, text: &Spanned<String>, key: &str) -> Option<Vec<promql_parser::label::Matcher>> {
        let found = match self.expression(text, key)? {
            parser::Expr::VectorSelector(selector) => matchers(&selector),
            _ => None,
        };
        if found.is_none() {
            self.fault(
                text,
                key,
                format!("{:?}: must be a selector such as running{{device=\"press-1\"}}", text.value),
            );
        }
        found
    }
}

/// A hint for expressions that were written for Prometheus 2.
fn renamed(expression: &str) -> &'static str {
    if expression.contains("holt_winters") {
        "; since Prometheus 3 holt_winters is called double_exponential_smoothing"
    } else {
        ""
    }
}

/// A name of a series as Prometheus has it.
fn is_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_be_said_is_read() {
        let text = r#"
groups:
  - name: presses
    interval: 10s
    labels: { site_area: hall }
    rules:
      - record: press:power_w:avg
        expr: avg by (device) (avg_over_time(active_power_w[5m]))
      - alert: BearingHot
        expr: temperature_c > 80
        for: 1m30s
        labels: { team: mechanics }
        edge:
          clear: temperature_c < 70
          latch: true
          priority: high
          flap: { raises: 5, within: 10m }
          window: { count: 10 }
          evaluate: arrival
          on_bad: fire
          suppressed_by: [DeviceSilent]
          on_firing:
            - capture: { series: "temperature_c", before: 30s, after: 10s }
            - publish: { topic: "note", payload: "hot" }
"#;

        let groups = parse(text, "rules.yml").unwrap();

        let [group] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!((group.interval, group.rules.len()), (Duration::from_secs(10), 2));
        let RuleKind::Alert(alert) = &group.rules[1].kind else { panic!("{group:?}") };
        assert_eq!(alert.policy.delay, Duration::from_secs(90));
        assert_eq!((alert.priority, alert.policy.on_bad), (Priority::High, OnBad::Fire));
        assert!(alert.policy.latch && alert.on_arrival && alert.clear.is_some() && alert.on_raised.len() == 2);
        assert_eq!(group.rules[1].labels["site_area"], "hall");
    }

    #[test]
    fn all_faults_are_said_at_once_with_their_place() {
        let text = "groups:\n  - name: a\n    rules:\n      - alert: X\n        expr: \"1 +\"\n      - record: \"no name\"\n        expr: up\n";

        let faults = parse(text, "rules.yml").unwrap_err();

        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 2, "{shown:?}");
        assert!(shown[0].starts_with("rules.yml:5: expr: column 15: \"1 +\""), "{shown:?}");
    }

    #[test]
    fn no_time_at_all_is_a_span_too() {
        for (text, span) in [("0", 0), ("0s", 0), ("0m", 0), ("0h0m", 0), ("0h1m", 60)] {
            let text = format!("groups: [{{name: a, rules: [{{alert: X, expr: up, for: {text}}}]}}]");
            let groups = parse(&text, "rules.yml").unwrap();
            let RuleKind::Alert(alert) = &groups[0].rules[0].kind else { panic!("{groups:?}") };
            assert_eq!(alert.policy.delay, Duration::from_secs(span), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_and_broken_yaml_are_refused_with_their_line() {
        for (text, line) in [("groups:\n  - name: a\n    intervall: 5s\n", 3), ("groups:\n  - name: [\n", 3)] {
            let faults = parse(text, "rules.yml").unwrap_err();
            assert_eq!(faults.len(), 1);
            assert!(faults[0].line.is_some_and(|found| found.abs_diff(line) <= 1), "{}", faults[0]);
        }
    }
}
