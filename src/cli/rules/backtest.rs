//! `lineside rules backtest`: rules over what is stored.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::refused;
use crate::agent::{rule_fault, rule_series, stored_up};
use crate::buffer::Catalogue;
use crate::buffer::history::{History, HistorySource, HistorySpan};
use crate::cli::store::source::failure;
use crate::cli::store::{StoreOption, time};
use crate::cli::table::{Table, count, measured, span};
use crate::cli::{Exit, Failure, plural, write_json, written};
use crate::config::{self, Config};
use crate::model::{Lane, Records, SeriesId, Timestamp};
use crate::rules::backtest::{AlarmPast, Backtest, Past};
use crate::rules::engine::{RuleSetup, UP};
use crate::rules::eval::check::{Selected, selectors};
use crate::rules::file;
use crate::rules::live::{Labels, NAME, SeriesSpec};
use crate::rules::spec::GroupSpec;
use crate::rules::text::Surroundings;
use crate::rules::thinned::Summarized;

/// Episodes of one alarm that are shown to people; --json has all.
const SHOWN: usize = 10;

/// Columns of the line of time.
const WIDTH: usize = 72;

/// The line of a shorter time has seconds below it.
const WITH_SECONDS: Duration = Duration::from_secs(600);

/// For so long a sample stands for a series that is not configured any more.
const LOOK_BACK: Duration = Duration::from_secs(15);

/// A result of a rule is looked back at for so many of its intervals, as live.
const LOOK_BACK_INTERVALS: u32 = 3;

/// Run rules over what is stored: when they would have raised alarms, for how long, and how often too often.
///
/// The readings come from the agent that runs, or from the files of its store. Windows and delays reach back before
/// --from. Nothing is changed, and nobody is told. Exit code 1 when a rule could not be evaluated, when there is nothing
/// stored in the time asked about, or only summaries of a part of it.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Rule files, or directories of them; without any, those that the configuration names.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// From when on: a time such as 2026-11-25T06:00:00Z, a day, or how long ago, such as 24h.
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "24h")]
    from: Timestamp,
    /// Until when; now, unless said otherwise.
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "0s")]
    to: Timestamp,
    /// Show every episode of every alarm.
    #[arg(long)]
    all: bool,
    /// JSON: one object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Serialize)]
struct Report {
    /// Agent or directory.
    source: String,
    from: Timestamp,
    to: Timestamp,
    /// Stored readings that were taken for what lies before the time asked about, and within it.
    #[serde(flatten)]
    past: Past,
    /// Stored commits that are damaged and were passed over.
    damaged: u64,
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Run {
    pub fn run(self) -> Result<Exit, Failure> {
        if self.from >= self.to {
            return Err(Failure::Refused(format!("--from {} is not before --to {}", self.from, self.to)));
        }
        let config = config::load(self.store.config_path()).ok();
        let configured = config.iter().flat_map(|config| config.rules.files.clone());
        let files = if self.files.is_empty() { configured.collect() } else { self.files.clone() };
        if files.is_empty() {
            return Err(Failure::Refused("name rule files: the configuration has none".to_owned()));
        }
        let groups = file::load(&files).map_err(|faults| refused(&faults))?;
        let mut source = self.store.open()?;
        let look_backs = LookBacks::new(config.as_ref(), &[]);
        let mut series = series(&source.catalogue().map_err(failure)?, &look_backs);
        let external = external(&series);
        // What these rules record they record anew.
        let recorded = groups.iter().flat_map(|group| &group.rules).filter(|rule| !rule.is_alert());
        let recorded: Vec<&String> = recorded.map(|rule| &rule.name).collect();
        series.retain(|series| series.labels.get(NAME).is_none_or(|name| !recorded.contains(&name)));
        let (made, devices) = config.as_ref().map(|config| stored_up(config, &series)).unwrap_or_default();
        series.extend(made);
        let selected = groups.iter().flat_map(|group| group.rules.iter().map(|rule| (rule, group.interval)));
        let selected: Vec<Selected> =
            selected.flat_map(|(rule, interval)| selectors(&rule.expression, interval)).collect();
        let note = if config.is_some() { None } else { unknown_up(&selected) };
        let surroundings = Surroundings { external_labels: external.clone(), ..Surroundings::default() };
        let setup = RuleSetup { groups, series, devices, external, surroundings, ..RuleSetup::default() };
        let mut test = Backtest::new(setup, self.from, self.to)
            .map_err(|errors| refused(&errors.iter().map(rule_fault).collect::<Vec<_>>()))?;
        let span = HistorySpan { from: test.needs_from(), until: self.to, ..HistorySpan::default() };
        let offsets = source.overview().map_err(failure)?.clock_offsets;
        let mut damaged = 0;
        for found in History::new(&mut source, Lane::Telemetry, span).map_err(failure)? {
            match found.map_err(failure)?.content {
                Ok(commit) => {
                    let header = commit.header;
                    match commit.records {
                        Records::Readings(rows) => {
                            let rows = rows.into_iter().map(|row| offsets.corrected(&header, row));
                            rows.filter(|row| row.time >= span.from).for_each(|row| test.take(&row));
                        }
                        Records::Thinned(thinned) => {
                            test.take_thinned(&thinned, |time| offsets.correct(&header, time));
                        }
                        Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => {}
                    }
                }
                Err(_) => damaged += 1,
            }
        }
        let (source, past) = (source.place(), test.finish());
        let report = Report { source, from: self.from, to: self.to, past, damaged, note };
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &report) } else { report.write(&mut out, self.all) })?;
        let past = &report.past;
        let is_done = past.readings > 0 && past.failing.is_empty() && past.summarized.is_empty();
        let is_done = is_done && report.note.is_none();
        Ok(if is_done { Exit::Done } else { Exit::Findings })
    }
}

/// For how long samples stand for their series.
pub(super) struct LookBacks {
    configured: HashMap<Labels, Duration>,
    recorded: HashMap<String, Duration>,
}

impl LookBacks {
    /// What the configuration says, and the groups that record series.
    pub fn new(config: Option<&Config>, groups: &[GroupSpec]) -> Self {
        let configured = config.into_iter().flat_map(rule_series).map(|series| (series.labels, series.look_back));
        let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (rule.name.clone(), group)));
        let recorded = rules.map(|(name, group)| (name, group.interval * LOOK_BACK_INTERVALS));
        Self { configured: configured.collect(), recorded: recorded.collect() }
    }

    fn of(&self, labels: &Labels) -> Duration {
        let recorded = || labels.get(NAME).and_then(|name| self.recorded.get(name));
        self.configured.get(labels).or_else(recorded).copied().unwrap_or(LOOK_BACK)
    }
}

/// What to say where there is no configuration and `up` is looked at: nobody knows of which devices.
pub(super) fn unknown_up(selected: &[Selected]) -> Option<String> {
    let is_up = |selected: &Selected| selected.matchers.iter().any(|it| it.name == NAME && it.is_match(UP));
    let reason =
        "`up` is not known here: it is made for the devices of the configuration; name a sound one with --config";
    selected.iter().any(is_up).then(|| reason.to_owned())
}

/// Series of a catalogue as the rules see them.
pub(super) fn series(catalogue: &Catalogue, look_backs: &LookBacks) -> Vec<SeriesSpec> {
    let spec = |(id, info): &(SeriesId, Arc<crate::model::SeriesInfo>)| {
        let mut labels = (*info.labels).clone();
        labels.insert(NAME.to_owned(), info.name.clone());
        let labels: Labels = Arc::new(labels);
        let look_back = look_backs.of(&labels);
        SeriesSpec { id: Some(*id), labels, scale: info.scale, look_back }
    };
    catalogue.series.iter().map(spec).collect()
}

/// Site and gateway, which every series has.
fn external(series: &[SeriesSpec]) -> std::collections::BTreeMap<String, String> {
    let first = series.first().into_iter().flat_map(|series| series.labels.iter());
    let is_external = |(key, _): &(&String, &String)| matches!(key.as_str(), "site" | "gateway");
    first.filter(is_external).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Report {
    fn write(&self, out: &mut impl Write, all: bool) -> io::Result<()> {
        let bold = Style::new().bold();
        let past = &self.past;
        let asked = self.to.since(self.from);
        let (readings, series) = (count(past.readings), count(past.series as u64));
        writeln!(out, "{bold}{} to {}{bold:#} ({}), {}", short(self.from), short(self.to), span(asked), self.source)?;
        writeln!(out, "{readings} readings of {series} series")?;
        let odd = AnsiColor::Yellow.on_default();
        for (from, to) in past.holes.iter().take(SHOWN) {
            writeln!(
                out,
                "{odd}no readings from {} to {} ({}){odd:#}",
                short(*from),
                short(*to),
                span(to.since(*from))
            )?;
        }
        if past.holes.len() > SHOWN {
            writeln!(out, "{odd}and {} more times without readings{odd:#}", past.holes.len() - SHOWN)?;
        }
        write_summarized(out, &past.summarized, "rules were not tried there")?;
        if let Some(note) = &self.note {
            writeln!(out, "{odd}{note}{odd:#}")?;
        }
        if self.damaged > 0 {
            writeln!(out, "{odd}{} damaged and passed over{odd:#}", plural(self.damaged as usize, "commit"))?;
        }
        for (rule, why) in &past.failing {
            writeln!(out, "{odd}rule {rule} could not be evaluated: {why}{odd:#}")?;
        }
        writeln!(out)?;
        self.write_alarms(out)?;
        for alarm in &past.alarms {
            self.write_alarm(out, alarm, if all { usize::MAX } else { SHOWN })?;
        }
        let limit = if past.summarized.is_empty() && past.holes.is_empty() { "" } else { " where there are readings" };
        for rule in &past.silent {
            writeln!(out, "{rule}: would not have been raised{limit}")?;
        }
        for (name, results) in &past.recorded {
            writeln!(out, "{name}: {} recorded", plural(*results as usize, "result"))?;
        }
        Ok(())
    }

    /// All alarms in one table, with a line of time for each.
    fn write_alarms(&self, out: &mut impl Write) -> io::Result<()> {
        if self.past.alarms.is_empty() {
            return writeln!(out, "no alarm would have been raised");
        }
        let mut table = Table::new(["alarm", "about", "raised", "active", "share", "longest", ""]);
        let asked = self.to.since(self.from).as_secs_f64();
        for alarm in &self.past.alarms {
            let style = if alarm.flaps { AnsiColor::Yellow.on_default() } else { Style::new() };
            let share = format!("{:.1} %", alarm.active_s / asked * 100.0);
            let seconds = |seconds: f64| span(Duration::from_secs_f64(seconds));
            let flaps = if alarm.flaps { "flaps" } else { "" };
            let (name, raised) = (alarm.name.clone(), alarm.raised.to_string());
            let (active, longest) = (seconds(alarm.active_s), seconds(alarm.longest_s));
            table.styled_row(style, [name, about(alarm), raised, active, share, longest, flaps.to_owned()]);
        }
        table.write(out, 0)?;
        writeln!(out)
    }

    fn write_alarm(&self, out: &mut impl Write, alarm: &AlarmPast, most: usize) -> io::Result<()> {
        let (bold, red) = (Style::new().bold(), AnsiColor::Red.on_default());
        writeln!(out, "{bold}{} {}{bold:#}", alarm.name, about(alarm))?;
        writeln!(out, "  {red}{}{red:#}", self.line_of_time(alarm))?;
        writeln!(out, "  {}", self.scale())?;
        let mut table = Table::new(["raised", "cleared", "for", "value", ""]);
        for episode in alarm.episodes.iter().take(most) {
            let cleared = episode.cleared.map_or_else(|| "still active".to_owned(), short);
            let lasted = span(episode.cleared.unwrap_or(self.to).since(episode.raised));
            let value = episode.value.map(measured).unwrap_or_default();
            let text = episode.annotations.get("summary").or_else(|| episode.annotations.values().next());
            let text = text.cloned().unwrap_or_default();
            table.row([short(episode.raised), cleared, lasted, value, text]);
        }
        table.write(out, 2)?;
        if alarm.episodes.len() > most {
            writeln!(out, "  and {} more; --all shows them", alarm.episodes.len() - most)?;
        }
        if let Some(advice) = alarm.advice {
            let odd = AnsiColor::Yellow.on_default();
            let delay = crate::settings::show_duration(Duration::from_secs_f64(advice.delay_s));
            let (before, after) = (alarm.episodes.len(), advice.raised);
            writeln!(
                out,
                "  {odd}flaps: with `for: {delay}` it would have been raised {after} times, not {before}{odd:#}"
            )?;
        }
        writeln!(out)
    }

    /// How much of each part of the time the alarm was active.
    fn line_of_time(&self, alarm: &AlarmPast) -> String {
        const BLOCKS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let whole = (self.to.0 - self.from.0).max(1) as f64;
        let mut active = [0.0_f64; WIDTH];
        for episode in &alarm.episodes {
            let place = |time: Timestamp| ((time.0 - self.from.0) as f64 / whole).clamp(0.0, 1.0) * WIDTH as f64;
            let (begin, end) = (place(episode.raised), place(episode.cleared.unwrap_or(self.to)));
            for (column, share) in active.iter_mut().enumerate() {
                let column = column as f64;
                *share += (end.min(column + 1.0) - begin.max(column)).max(0.0);
            }
        }
        // What was active at all is seen, however short it was.
        let block =
            |share: &f64| if *share > 0.0 { BLOCKS[((share * 8.0).ceil() as usize).clamp(1, 8)] } else { BLOCKS[0] };
        active.iter().map(block).collect()
    }

    /// Times below the line of time: begin, middle and end.
    fn scale(&self) -> String {
        let width = if self.to.since(self.from) < WITH_SECONDS { 8 } else { 5 };
        let clock = |time: i64| short(Timestamp(time)).get(11..11 + width).unwrap_or_default().to_owned();
        let middle = self.from.0 + (self.to.0 - self.from.0) / 2;
        let room = WIDTH - 3 * width;
        let (before, behind) = (" ".repeat(room / 2), " ".repeat(room - room / 2));
        format!("{}{before}{}{behind}{}", clock(self.from.0), clock(middle), clock(self.to.0))
    }
}

/// Times of which only summaries are left, and what that means for the answer.
pub(super) fn write_summarized(out: &mut impl Write, all: &[Summarized], meaning: &str) -> io::Result<()> {
    let odd = AnsiColor::Yellow.on_default();
    for it in all.iter().take(SHOWN) {
        let (from, to, lasted) = (short(it.from), short(it.to), span(it.to.since(it.from)));
        let each = crate::settings::show_duration(Duration::from_secs(it.each_s.into()));
        let readings = count(it.readings);
        writeln!(
            out,
            "{odd}from {from} to {to} ({lasted}) only summaries of {each} are left of {readings} readings, because the \
             store was full: {meaning}{odd:#}"
        )?;
    }
    match all.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "{odd}and {more} more times of which only summaries are left{odd:#}"),
    }
}

/// Labels, without what all series of a gateway have in common.
fn about(alarm: &AlarmPast) -> String {
    let labels = alarm.labels.iter().filter(|(key, _)| !matches!(key.as_str(), "site" | "gateway"));
    labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// `2026-11-25 06:00:00`
fn short(time: Timestamp) -> String {
    time.to_string().get(..19).unwrap_or_default().replace('T', " ")
}
