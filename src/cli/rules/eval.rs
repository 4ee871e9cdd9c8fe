//! `lineside rules eval`: what an expression comes to.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use promql_parser::label::Matcher;
use serde::Serialize;

use super::backtest::{LookBacks, series, unknown_up, write_summarized};
use crate::agent::stored_up;
use crate::buffer::history::{History, HistorySource, HistorySpan};
use crate::cli::store::source::{Source, failure};
use crate::cli::store::{StoreOption, time};
use crate::cli::table::Table;
use crate::cli::{Exit, Failure, write_json, written};
use crate::config::{self, Config};
use crate::model::{Lane, Records, Row, SeriesId, Timestamp};
use crate::rules::engine::{DeviceSeries, answered};
use crate::rules::eval::check::{Selected, refusals, selectors};
use crate::rules::eval::{Evaluator, Found, MemorySeries, MemorySource, shown};
use crate::rules::file;
use crate::rules::live::{Labels, SeriesSpec};
use crate::rules::ring::Sample;
use crate::rules::syntax;
use crate::rules::text::number;
use crate::rules::thinned::{Summaries, Summarized};

/// Step of subqueries that do not say, as Prometheus has it.
const STEP: Duration = Duration::from_secs(60);

/// So long ago is now, beside the interval of commits.
const MOMENT: Duration = Duration::from_secs(10);

/// Show what an expression comes to, now or at a time of the past.
///
/// The readings come from the agent that runs, or from the files of its store. A sample stands for its series as long
/// as in the rules: three of its intervals. Exit code 1 when the result is empty.
#[derive(Debug, Args)]
pub(super) struct Eval {
    /// The expression, such as 'avg by (line) (avg_over_time(active_power_w[5m]))'.
    #[arg(value_name = "EXPRESSION")]
    expression: String,
    /// When: a time such as 2026-11-25T06:00:00Z, a day, or how long ago, such as 2h.
    /// Without it, the time of the newest stored reading that the expression looks at, if that is a moment ago.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<Timestamp>,
    /// JSON: one object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Serialize)]
struct Report {
    expression: String,
    at: Timestamp,
    /// Agent or directory.
    source: String,
    results: Vec<ResultLine>,
    /// Times that the expression looks at and of which only summaries are left: they are not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    summarized: Vec<Summarized>,
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
struct ResultLine {
    labels: Labels,
    /// Null when it is not a number, or infinite.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    /// As people write it: also `NaN` and `+Inf`.
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    /// Of an expression whose result is a range.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    samples: Vec<(Timestamp, f64)>,
}

impl Eval {
    pub fn run(self) -> Result<Exit, Failure> {
        let expression = syntax::parse(&self.expression);
        let expression =
            expression.map_err(|reason| Failure::Refused(format!("{}: {reason}", file::quoted(&self.expression))))?;
        let refused: Vec<String> = refusals(&expression, STEP);
        // Asked by hand, ranges and texts are results as well.
        if let Some(reason) = refused.iter().find(|reason| !reason.starts_with("the result of a rule")) {
            return Err(Failure::Refused(reason.clone()));
        }
        let config = config::load(self.store.config_path()).ok();
        let groups = config.as_ref().and_then(|config| file::load(&config.rules.files).ok()).unwrap_or_default();
        let look_backs = LookBacks::new(config.as_ref(), &groups);
        let mut source = self.store.open()?;
        let now = Timestamp(jiff::Timestamp::now().as_millisecond());
        // What was taken since the last commit is not stored yet; what is older than that is shown as the past it is.
        let pause = config.as_ref().map_or(MOMENT, |config| config.store.commit_interval + MOMENT);
        let slack = if self.at.is_none() { pause } else { Duration::ZERO };
        let until = self.at.unwrap_or(now);
        let selected = selectors(&expression, STEP);
        let note = if config.is_some() { None } else { unknown_up(&selected) };
        let Stored { memory, newest, summarized } =
            read(&mut source, &selected, (until, slack), &look_backs, config.as_ref())?;
        let newest = newest.filter(|newest| now.since(*newest) <= pause).unwrap_or(now);
        let at = self.at.unwrap_or(newest);
        let found = Evaluator::new(&memory, at, STEP).evaluate(&expression);
        let found = found.map_err(|error| Failure::Refused(error.to_string()))?;
        let (source, results) = (source.place(), lines(found));
        let report = Report { expression: self.expression, at, source, results, summarized, note };
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &report) } else { report.write(&mut out) })?;
        let is_done = !report.results.is_empty() && report.summarized.is_empty() && report.note.is_none();
        Ok(if is_done { Exit::Done } else { Exit::Findings })
    }
}

/// What is stored of what an expression looks at.
struct Stored {
    memory: MemorySource,
    /// Time of the newest sample.
    newest: Option<Timestamp>,
    summarized: Vec<Summarized>,
}

/// `up` of the devices that an expression looks at, as it is made of their readings.
struct Answers {
    made: Vec<(SeriesSpec, Vec<Sample>)>,
    /// For each series of such a device: which of them it makes.
    of: HashMap<SeriesId, usize>,
}

impl Answers {
    fn new(made: Vec<SeriesSpec>, devices: &[DeviceSeries], is_wanted: impl Fn(&SeriesSpec) -> bool) -> Self {
        let (mut wanted, mut of) = (Vec::new(), HashMap::new());
        for (spec, device) in made.into_iter().zip(devices).filter(|(spec, _)| is_wanted(spec)) {
            of.extend(device.series.iter().map(|id| (*id, wanted.len())));
            wanted.push((spec, Vec::new()));
        }
        Self { made: wanted, of }
    }

    fn take(&mut self, row: &Row) {
        let made = row.series.first().and_then(|id| self.of.get(id));
        if let Some((at, is_up)) = made.zip(answered(&row.observed)) {
            self.made[*at].1.push(Sample { time: row.time, value: f64::from(u8::from(is_up)) });
        }
    }
}

/// The samples that an expression may look at when it is evaluated at a time, or up to a slack before.
fn read(
    source: &mut Source,
    selected: &[Selected],
    (at, slack): (Timestamp, Duration),
    look_backs: &LookBacks,
    config: Option<&Config>,
) -> Result<Stored, Failure> {
    let takes = |matchers: &[Matcher], labels: &Labels| {
        matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name).map_or("", String::as_str)))
    };
    let all = series(&source.catalogue().map_err(failure)?, look_backs);
    let is_wanted = |series: &SeriesSpec| selected.iter().any(|it| takes(&it.matchers, &series.labels));
    let (made, devices) = config.map(|config| stored_up(config, &all)).unwrap_or_default();
    let mut answers = Answers::new(made, &devices, is_wanted);
    let wanted = all.into_iter().filter(is_wanted);
    let mut wanted: HashMap<SeriesId, (SeriesSpec, Vec<Sample>)> =
        wanted.filter_map(|spec| Some((spec.id?, (spec, Vec::new())))).collect();
    let all = wanted.values().chain(&answers.made);
    let look_back = all.map(|(spec, _)| spec.look_back).max().unwrap_or_default() + slack;
    let reach = selected.iter().map(|it| it.reach).max().unwrap_or(0);
    let is_fixed = selected.iter().any(|it| it.is_fixed);
    let from = at.0.saturating_sub(reach).saturating_sub(i64::try_from(look_back.as_millis()).unwrap_or(i64::MAX));
    let from = Timestamp(if is_fixed { i64::MIN } else { from });
    let latest = selected.iter().map(|it| it.reach.min(0)).min().unwrap_or(0);
    let until = if is_fixed { Timestamp(i64::MAX) } else { Timestamp(at.0.saturating_sub(latest).saturating_add(1)) };
    let span = HistorySpan { from, until, ..HistorySpan::default() };
    let offsets = source.overview().map_err(failure)?.clock_offsets;
    let mut summaries = Summaries::default();
    for found in History::new(source, Lane::Telemetry, span).map_err(failure)? {
        let Ok(commit) = found.map_err(failure)?.content else { continue };
        let header = commit.header;
        let rows = match commit.records {
            Records::Readings(rows) => rows,
            Records::Thinned(thinned) => {
                let is_asked = |id| wanted.contains_key(&id) || answers.of.contains_key(&id);
                summaries.take(&thinned, is_asked, |time| offsets.correct(&header, time));
                continue;
            }
            Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => continue,
        };
        let rows = rows.into_iter().map(|row| offsets.corrected(&header, row));
        for row in rows.filter(|row| span.holds(row.time)) {
            answers.take(&row);
            for (id, observed) in row.series.iter().zip(&row.observed) {
                let Some((spec, samples)) = wanted.get_mut(id) else { continue };
                let value = observed.value().and_then(crate::model::Value::number);
                samples.extend(value.map(|value| Sample { time: row.time, value: spec.scale.apply(value) }));
            }
        }
    }
    let all = wanted.values().chain(&answers.made);
    let newest = all.filter_map(|(_, samples)| samples.iter().map(|sample| sample.time).max()).max();
    let memory = wanted.into_values().chain(answers.made).map(|(spec, mut samples)| {
        samples.sort_by_key(|sample| sample.time);
        samples.dedup_by_key(|sample| sample.time);
        MemorySeries { labels: spec.labels, samples, look_back: spec.look_back }
    });
    let summarized = summaries.within(from, until);
    Ok(Stored { memory: MemorySource::new(memory.collect()), newest, summarized })
}

fn lines(found: Found) -> Vec<ResultLine> {
    let line = |labels: Labels, value: f64| ResultLine {
        labels,
        value: Some(value).filter(|value| value.is_finite()),
        text: number(value),
        samples: Vec::new(),
    };
    match found {
        Found::Scalar(value) => vec![line(Labels::default(), value)],
        Found::Text(text) => vec![ResultLine { labels: Labels::default(), value: None, text, samples: Vec::new() }],
        Found::Vector(elements) => elements.into_iter().map(|element| line(element.labels, element.value)).collect(),
        Found::Matrix(found) => found
            .into_iter()
            .map(|found| ResultLine {
                labels: found.labels,
                value: None,
                text: String::new(),
                samples: found.samples.iter().map(|sample| (sample.time, sample.value)).collect(),
            })
            .collect(),
    }
}

impl Report {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write_summarized(out, &self.summarized, "they were not looked at")?;
        if let Some(note) = &self.note {
            writeln!(out, "{note}")?;
        }
        if self.results.is_empty() {
            return writeln!(out, "no result at {}", self.at);
        }
        if self.results.iter().any(|line| !line.samples.is_empty()) {
            let mut table = Table::new(["series", "time", "value"]);
            for line in &self.results {
                for (time, value) in &line.samples {
                    table.row([shown(&line.labels), time.to_string(), number(*value)]);
                }
            }
            return table.write(out, 0);
        }
        let mut table = Table::new(["series", "value"]);
        for line in &self.results {
            table.row([shown(&line.labels), line.text.clone()]);
        }
        table.write(out, 0)
    }
}
