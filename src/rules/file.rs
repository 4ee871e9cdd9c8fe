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
pub(super) mod raw;
pub(super) mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use promql_parser::parser;
use serde::{Deserialize, Deserializer};

use self::raw::{RawAction, RawEdge, RawGroup, RawRule, RawWindow, Texts};
use self::tree::{At, Faults, Spot};
use super::alarm::{AlarmPolicy, FlapLimit};
use super::bounded::BoundBy;
use super::engine::FIXED_TIME;
use super::eval::check::{refusals, selectors};
use super::live::NAME;
use super::plan::matchers;
use super::spec::{ActionSpec, AlertSpec, GroupSpec, Place, RuleKind, RuleSpec};
use super::syntax;
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
    let (groups, faults) = load_readable(paths);
    if faults.is_empty() { Ok(groups) } else { Err(faults) }
}

/// As [`load`], with the rules that can be read beside the faults of the others: they may have faults of another kind.
pub fn load_readable(paths: &[PathBuf]) -> (Vec<GroupSpec>, Vec<FileFault>) {
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
            let (found, wrong) = match read_text(&file) {
                Ok(Some(text)) => read(&text, &name),
                Ok(None) => (Vec::new(), vec![FileFault::of_file(&name, "there is no such file")]),
                Err(unreadable) => (Vec::new(), unreadable),
            };
            groups.extend(found);
            faults.extend(wrong);
        }
    }
    (groups, faults)
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
    let (groups, faults) = read(text, file);
    if faults.is_empty() { Ok(groups) } else { Err(faults) }
}

/// The rules of a file that can be read, and everything that is wrong with it.
fn read(text: &str, file: &str) -> (Vec<GroupSpec>, Vec<FileFault>) {
    if text.trim().is_empty() {
        return (Vec::new(), Vec::new());
    }
    let mut faults = Faults::of(file);
    let raw = raw::groups(text, &mut faults);
    let mut reader = Reader { file, faults, interval: INTERVAL };
    let mut names = BTreeSet::new();
    let groups = raw.into_iter().map(|group| {
        if !names.insert(group.name.value.clone()) {
            reader.fault(&group.name, "name", "another group of this file has this name");
        }
        reader.group(group)
    });
    let groups = groups.collect();
    (groups, reader.faults.in_order())
}

/// What a file in YAML says.
pub(super) fn yaml<T: serde::de::DeserializeOwned>(text: &str, file: &str) -> Result<T, Vec<FileFault>> {
    if let Some(line) = tree::second_document(text) {
        return Err(vec![FileFault { line: Some(line), ..FileFault::of_file(file, tree::SECOND_DOCUMENT) }]);
    }
    serde_saphyr::from_str(tree::first_document(text)).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let reason = tree::reason(&error);
        vec![FileFault { line, ..FileFault::of_file(file, reason) }]
    })
}

/// A span of time as Prometheus writes it: `90s`, `1h30m`, `0`.
pub(super) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        tree::span(&text).map(Self).map_err(|reason| serde::de::Error::custom(format!("{text:?} {reason}")))
    }
}

struct Reader<'a> {
    file: &'a str,
    faults: Faults<'a>,
    /// That of the group that is read: the step of subqueries that do not say.
    interval: Duration,
}

impl Reader<'_> {
    fn fault<T>(&mut self, at: &At<T>, key: &str, reason: impl Into<String>) {
        self.faults.note(at.spot, key, reason);
    }

    fn group(&mut self, raw: RawGroup) -> GroupSpec {
        let interval = raw.interval.map_or(INTERVAL, |span| span.value);
        if raw.name.value.is_empty() {
            self.fault(&raw.name, "name", "a group needs a name");
        }
        if let Some(interval) = raw.interval.filter(|span| span.value.is_zero()) {
            self.fault(&interval, "interval", "must be more than nothing");
        }
        self.interval = interval.max(Duration::from_millis(1));
        let labels = self.labels(raw.labels);
        let rules = raw.rules.into_iter().filter_map(|rule| self.rule(rule, &labels)).collect();
        let query_offset = raw.query_offset.map_or(Duration::ZERO, |span| span.value);
        GroupSpec { name: raw.name.value, interval: self.interval, query_offset, limit: raw.limit, rules }
    }

    fn rule(&mut self, raw: RawRule, of_group: &BTreeMap<String, String>) -> Option<RuleSpec> {
        let expression = raw.expr.as_ref().and_then(|expr| self.expression(expr, "expr"));
        let Spot { line, column } = raw.expr.as_ref().map_or(raw.spot, |expr| expr.spot);
        let place = Place { file: self.file.to_owned(), line, column };
        let asked: Vec<At<String>> = raw.labels.values().filter(|text| asks(&text.value)).cloned().collect();
        let own_labels = self.labels(raw.labels);
        let annotations = self.checked(raw.annotations, "annotations");
        let mut labels = of_group.clone();
        labels.extend(own_labels);
        let (name, kind) = match (raw.alert, raw.record) {
            (Some(alert), None) if !alert.value.is_empty() => {
                let edge = self.edge(raw.edge.unwrap_or_default());
                let span = |span: Option<At<Duration>>| span.map_or(Duration::ZERO, |span| span.value);
                let (delay, keep_firing) = (span(raw.delay), span(raw.keep_firing_for));
                if edge.on_raised.iter().chain(&edge.on_cleared).any(|it| matches!(it, ActionSpec::Write { .. })) {
                    asked.iter().for_each(|text| self.refuse_query(text, "labels"));
                }
                let policy = AlarmPolicy { delay, keep_firing, ..edge.policy };
                (alert.value, RuleKind::Alert(Box::new(AlertSpec { policy, annotations, ..edge })))
            }
            (None, Some(record)) if is_name(&record.value) => {
                let is_plain = raw.delay.is_none()
                    && raw.keep_firing_for.is_none()
                    && annotations.is_empty()
                    && raw.edge.is_none();
                if !is_plain {
                    self.fault(&record, "record", "for, keep_firing_for, annotations and edge belong to alerts");
                }
                (record.value, RuleKind::Record)
            }
            (alert, record) => {
                self.nameless(raw.spot, alert.as_ref(), record.as_ref());
                return None;
            }
        };
        Some(RuleSpec { place, name, expression: expression?, labels, kind })
    }

    /// Says why these are no name of a rule.
    fn nameless(&mut self, spot: Spot, alert: Option<&At<String>>, record: Option<&At<String>>) {
        match (alert, record) {
            (None, None) => self.faults.note(spot, "rules", "a rule needs a name: either alert or record, with a text"),
            (Some(alert), None) => {
                self.fault(alert, "alert", "\"\": must be the name of the alarm, such as BearingHot")
            }
            (None, Some(record)) => {
                let allowed =
                    "must be made of letters, digits, _ and :, and not begin with a digit, such as press:power_w:avg";
                self.fault(record, "record", format!("{}: {allowed}", quoted(&record.value)));
            }
            (Some(alert), Some(record)) => {
                let (alert_name, name) = (quoted(&alert.value), quoted(&record.value));
                let reason =
                    format!("a rule has either alert or record; here are alert: {alert_name} and record: {name}");
                self.fault(if alert.spot.line > record.spot.line { alert } else { record }, "rules", reason);
            }
        }
    }

    /// Labels whose names and templates were looked at.
    fn labels(&mut self, texts: Texts) -> BTreeMap<String, String> {
        for (name, text) in &texts {
            if !is_name(name) || name.contains(':') {
                let allowed = "must be made of letters, digits and _, and not begin with a digit";
                self.fault(text, "labels", format!("name {}: {allowed}", quoted(name)));
            } else if name == NAME {
                self.fault(text, "labels", format!("name {name:?}: the name of a rule stands behind alert or record"));
            }
        }
        self.checked(texts, "labels")
    }

    /// Texts whose templates were looked at.
    fn checked(&mut self, texts: Texts, key: &str) -> BTreeMap<String, String> {
        for (name, text) in &texts {
            self.template(text, &format!("{key}.{name}"));
        }
        texts.into_iter().map(|(name, text)| (name, text.value)).collect()
    }

    /// Looks at the templates of a text, and at what they ask.
    fn template(&mut self, text: &At<String>, key: &str) {
        let refused = match super::text::check(&text.value) {
            Err(reason) => vec![reason],
            Ok(queries) => queries
                .iter()
                .filter(|query| query.is_constant)
                .flat_map(|query| {
                    let is_fixed = selectors(&query.expression, self.interval).iter().any(|it| it.is_fixed);
                    let fixed = is_fixed.then(|| FIXED_TIME.to_owned());
                    refusals(&query.expression, self.interval).into_iter().chain(fixed)
                })
                .collect(),
        };
        refused.into_iter().for_each(|reason| self.fault(text, key, format!("{}: {reason}", quoted(&text.value))));
    }

    /// A write rests on the series of its expression alone: those decide whether it is one from afar.
    fn refuse_query(&mut self, text: &At<String>, key: &str) {
        if asks(&text.value) {
            let reason = "query: what a rule writes to must not depend on other series than those of expr";
            self.fault(text, key, format!("{}: {reason}", quoted(&text.value)));
        }
    }

    /// What `edge` says; delays and annotations stand elsewhere.
    fn edge(&mut self, edge: RawEdge) -> AlertSpec {
        let clear = edge.clear.and_then(|clear| self.expression(&clear, "edge.clear"));
        let bound = match edge.window {
            None => None,
            Some(RawWindow::Count(count)) => Some(BoundBy::Count(count)),
            Some(RawWindow::Session(pause)) => Some(BoundBy::Session(pause)),
            Some(RawWindow::State(selector)) => self.selector(&selector, "edge.window.state").map(BoundBy::State),
        };
        let mut actions = |raw: Vec<RawAction>| -> Vec<ActionSpec> {
            raw.into_iter().filter_map(|action| self.action(action)).collect()
        };
        let (on_raised, on_cleared) = (actions(edge.on_firing), actions(edge.on_resolved));
        AlertSpec {
            policy: AlarmPolicy {
                latch: edge.latch,
                acknowledge: edge.acknowledge,
                on_bad: edge.on_bad,
                flap: edge.flap.map(|(raises, within)| FlapLimit { raises, within }),
                ..AlarmPolicy::default()
            },
            priority: edge.priority.unwrap_or(Priority::Medium),
            shelve_most: edge.shelve.unwrap_or(SHELVE),
            clear,
            suppressed_by: edge.suppressed_by,
            annotations: BTreeMap::new(),
            on_arrival: edge.on_arrival,
            bound,
            on_raised,
            on_cleared,
        }
    }

    fn expression(&mut self, text: &At<String>, key: &str) -> Option<parser::Expr> {
        let expression = match syntax::parse(&text.value) {
            Ok(expression) => expression,
            Err(reason) => {
                self.fault(text, key, format!("{}: {reason}", quoted(&text.value)));
                return None;
            }
        };
        let refused = refusals(&expression, self.interval);
        let is_good = refused.is_empty();
        refused.into_iter().for_each(|reason| self.fault(text, key, format!("{:?}: {reason}", text.value)));
        is_good.then_some(expression)
    }

    fn selector(&mut self, text: &At<String>, key: &str) -> Option<Vec<promql_parser::label::Matcher>> {
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

/// Whether a text asks for the values of series.
fn asks(text: &str) -> bool {
    super::text::check(text).is_ok_and(|queries| !queries.is_empty())
}

/// A text in quotes; only the beginning of one that nobody would read.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A name of a series as Prometheus has it.
fn is_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

#[cfg(test)]
mod tests;
