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
use super::eval::check::{refusals, selectors};
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
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let reason = error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned();
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
        let labels = self.checked(raw.labels, "labels");
        let rules = raw.rules.into_iter().filter_map(|rule| self.rule(rule, &labels)).collect();
        let query_offset = raw.query_offset.map_or(Duration::ZERO, |span| span.value);
        GroupSpec { name: raw.name.value, interval: self.interval, query_offset, limit: raw.limit, rules }
    }

    fn rule(&mut self, raw: RawRule, of_group: &BTreeMap<String, String>) -> Option<RuleSpec> {
        let expression = raw.expr.as_ref().and_then(|expr| self.expression(expr, "expr"));
        let Spot { line, column } = raw.expr.as_ref().map_or(raw.spot, |expr| expr.spot);
        let place = Place { file: self.file.to_owned(), line, column };
        let own_labels = self.checked(raw.labels, "labels");
        let annotations = self.checked(raw.annotations, "annotations");
        let mut labels = of_group.clone();
        labels.extend(own_labels);
        let (name, kind) = match (raw.alert, raw.record) {
            (Some(alert), None) if !alert.value.is_empty() => {
                let edge = self.edge(raw.edge.unwrap_or_default());
                let span = |span: Option<At<Duration>>| span.map_or(Duration::ZERO, |span| span.value);
                let (delay, keep_firing) = (span(raw.delay), span(raw.keep_firing_for));
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
                let spot = alert.or(record).map_or(raw.spot, |name| name.spot);
                self.faults.note(spot, "rules", "a rule has either alert or record, with a name that is allowed");
                return None;
            }
        };
        Some(RuleSpec { place, name, expression: expression?, labels, kind })
    }

    /// Texts whose templates were looked at.
    fn checked(&mut self, texts: Texts, key: &str) -> BTreeMap<String, String> {
        for (name, text) in &texts {
            if let Err(reason) = super::text::check(&text.value) {
                self.fault(text, &format!("{key}.{name}"), format!("{:?}: {reason}", text.value));
            }
        }
        texts.into_iter().map(|(name, text)| (name, text.value)).collect()
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
        let mut refused = refusals(&expression, self.interval);
        if selectors(&expression, self.interval).iter().any(|selected| selected.is_fixed) {
            refused.push("@ with a fixed time: no samples are kept for that".to_owned());
        }
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

/// A text in quotes; only the beginning of one that nobody would read.
fn quoted(text: &str) -> String {
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
mod tests {
    use super::*;
    use crate::rules::alarm::OnBad;

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
    fn faults_of_every_kind_in_several_groups_are_said_in_one_go() {
        let text = r#"groups:
  - name: a
    intervall: 5s
    interval: 0s
    limit: some
    rules:
      - alert: Hot
        expr: t > 1
        for: 5 minutes
        fro: 5m
        labels: [team]
        annotations: { summary: "{{ $labels.device", height: 1.50 }
        edge:
          priority: hig
          latch: 1
          flap: { raises: 5 }
          window: { counts: 5 }
          on_firing:
            - publish: { topic: note }
            - shout: { at: all }
            - poll_faster: fast
      - alert: Two
        record: two
        expr: t +
  - rules:
      - expr: up
      - alert: Late
  - name: c
    name: c
    rules: none
"#;

        let shown: Vec<String> = parse(text, "r.yml").unwrap_err().iter().map(ToString::to_string).collect();

        let expected = [
            "r.yml:3: intervall: column 5: unknown key; did you mean \"interval\"? (known here: name, interval, \
             query_offset, limit, labels, rules)",
            "r.yml:4: interval: column 15: must be more than nothing",
            "r.yml:5: limit: column 12: \"some\": must be a whole number",
            "r.yml:9: for: column 14: \"5 minutes\": is no span of time such as 90s or 1h30m: not a valid duration \
             string: 5 minutes",
            "r.yml:10: fro: column 9: unknown key (known here: alert, record, expr, for, \
             keep_firing_for, labels, annotations, edge)",
            "r.yml:11: labels: column 17: must be names with a text each; here is a list",
            "r.yml:12: annotations.summary: column 33: \"{{ $labels.device\": ",
            "r.yml:14: edge.priority: column 21: \"hig\": must be one of low, medium, high, critical; did you mean \
             \"high\"?",
            "r.yml:15: edge.latch: column 18: \"1\": must be one of true, false",
            "r.yml:16: edge.flap.within: column 17: missing",
            "r.yml:17: edge.window.counts: column 21: unknown key; did you mean \"count\"? (known here: count, session, \
             state)",
            "r.yml:19: publish.payload: column 24: missing",
            "r.yml:20: shout: column 15: unknown key (known here: write, poll_faster, capture, publish)",
            "r.yml:21: poll_faster: column 28: must be keys with values; here is \"fast\"",
            "r.yml:22: rules: column 16: a rule has either alert or record, with a name that is allowed",
            "r.yml:24: expr: column 15: \"t +\": ",
            "r.yml:25: name: column 5: missing",
            "r.yml:26: rules: column 9: a rule has either alert or record, with a name that is allowed",
            "r.yml:27: expr: column 9: missing",
            "r.yml:29: name: column 5: stands here twice",
            "r.yml:30: rules: column 12: must be a list; here is \"none\"",
        ];
        let others: Vec<_> =
            shown.iter().zip(expected).filter(|(shown, expected)| !shown.starts_with(expected)).collect();
        assert!(others.is_empty() && shown.len() == expected.len(), "{others:#?} in {shown:#?}");
    }

    #[test]
    fn numbers_and_words_are_texts_as_they_are_written() {
        let text =
            "groups: [{name: 2, rules: [{alert: Y, expr: 1.50, labels: {a: 1.50, b: yes, c: ~, d: '5', e: 0x1F}}]}]";

        let groups = parse(text, "r.yml").unwrap();

        assert_eq!((groups[0].name.as_str(), groups[0].rules[0].name.as_str()), ("2", "Y"));
        let labels: Vec<&str> = groups[0].rules[0].labels.values().map(String::as_str).collect();
        assert_eq!(labels, ["1.50", "yes", "", "5", "0x1F"]);
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
