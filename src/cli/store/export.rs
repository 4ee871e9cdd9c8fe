//! `lineside store export`: what is kept as a file for other programs.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use promql_parser::label::Matcher;

use super::readings::{Selection, alarm_columns, selector, write_alarms};
use super::rows::{Column, Format, Rows};
use super::source::{Source, failure};
use super::{Exit, Failure, StoreOption, time};
use crate::buffer::history::{History, HistorySource, HistorySpan};
use crate::cli::{plural, reader_has_gone};
use crate::model::{Commit, Lane, Records, Timestamp};

/// Write stored readings, or alarms, as CSV, JSON lines or Parquet, in the order they were stored.
///
/// Where a full store kept aggregates in the place of readings, the quality is `aggregate`, the value their mean, and
/// `window_s`, `count`, `min` and `max` say the rest. Each row has its identity (epoch, sequence, index), quality and clock state; a bad reading has no value. Times taken
/// before the clock was right are corrected where it is known by how much, which `correction_ms` says. In Parquet
/// values are double precision, and texts stand in `value_text`. Exit code 1 when there is nothing to export; then
/// nothing is written.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Only these series, for example 'active_power_w{device=~"press-.*"}'; all without it.
    #[arg(value_name = "SELECTOR", value_parser = selector_given)]
    selector: Option<Selector>,
    /// Nothing older: 2026-11-25T06:00:00Z, 2026-11-25 (UTC), or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from: Option<Timestamp>,
    /// Nothing of this time or newer.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<Timestamp>,
    /// Alarm transitions instead of readings.
    #[arg(long)]
    alarms: bool,
    /// Format; without it that of the file's name, and CSV on standard output.
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// File to write; standard output without it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Debug, Clone)]
struct Selector(Vec<Matcher>);

fn selector_given(text: &str) -> Result<Selector, String> {
    selector(text).map(Selector)
}

impl Export {
    pub fn run(self) -> Result<Exit, Failure> {
        let format = match (self.format, &self.output) {
            (Some(format), _) => format,
            (None, Some(file)) => Format::of_file(file).ok_or_else(|| unknown_format(file))?,
            (None, None) => Format::Csv,
        };
        if self.output.is_none() && format == Format::Parquet && io::stdout().is_terminal() {
            return Err(Failure::Refused("Parquet is not for a terminal: --output names a file".to_owned()));
        }
        let default = HistorySpan::default();
        let span = HistorySpan {
            from: self.from.unwrap_or(default.from),
            until: self.until.unwrap_or(default.until),
            ..default
        };
        if span.from >= span.until {
            return Err(Failure::Refused(format!("--from {} is not before --until {}", span.from, span.until)));
        }
        let mut source = self.store.open()?;
        let matchers = self.selector.map(|selector| selector.0).unwrap_or_default();
        let output = Output { format, file: self.output.clone(), rows: None };
        let job = Job { span, output, matchers, written: 0, damaged: 0, lost: 0 };
        job.run(&mut source, self.alarms)
    }
}

/// An export under way.
struct Job {
    span: HistorySpan,
    output: Output,
    matchers: Vec<Matcher>,
    written: u64,
    damaged: u64,
    lost: u64,
}

impl Job {
    fn run(mut self, source: &mut Source, of_alarms: bool) -> Result<Exit, Failure> {
        let lane = if of_alarms { Lane::Alarms } else { Lane::Telemetry };
        let offsets = source.overview().map_err(failure)?.clock_offsets;
        let selection = Selection::new(&source.catalogue().map_err(failure)?, &self.matchers, offsets);
        if !of_alarms && selection.len() == 0 {
            eprintln!("nothing to export: no stored series is selected");
            return Ok(Exit::Findings);
        }
        for found in History::new(source, lane, self.span).map_err(failure)? {
            let found = found.map_err(failure)?;
            let outcome = match found.content {
                Ok(commit) => self.take(&commit, of_alarms, &selection),
                Err(error) => {
                    self.damaged += 1;
                    eprintln!("{lane} {}: passed over: {error}", found.sequence);
                    Ok(())
                }
            };
            match outcome {
                Err(error) if reader_has_gone(&error) => return Ok(Exit::Done),
                Err(error) => return Err(self.output.failure(&error)),
                Ok(()) => {}
            }
        }
        self.finish()
    }

    fn take(&mut self, commit: &Commit, of_alarms: bool, selection: &Selection) -> io::Result<()> {
        if let Records::Gap(gap) = &commit.records {
            self.lost += gap.records;
            return Ok(());
        }
        let columns = || if of_alarms { alarm_columns() } else { selection.columns() };
        // Nothing is written before it is known that there is something.
        let mut pending = Pending { output: &mut self.output, columns: &columns };
        self.written += match of_alarms {
            true => write_alarms(commit, self.span, &self.matchers, selection.offsets(), &mut pending)?,
            false => selection.write(commit, self.span, &mut pending)?,
        };
        Ok(())
    }

    fn finish(mut self) -> Result<Exit, Failure> {
        if let Err(error) = self.output.finish() {
            return if reader_has_gone(&error) { Ok(Exit::Done) } else { Err(self.output.failure(&error)) };
        }
        if self.lost > 0 {
            eprintln!("{} are not there: gap records say which (store stats)", plural_of(self.lost, "reading"));
        }
        match (&self.output.file, self.written) {
            (_, 0) if self.span == HistorySpan::default() => eprintln!("nothing to export: nothing stored is selected"),
            (_, 0) => eprintln!("nothing to export: the store holds nothing of that time"),
            (Some(file), written) => eprintln!("{} in {}", plural_of(written, "row"), file.display()),
            (None, _) => {}
        }
        Ok(if self.written == 0 || self.damaged > 0 { Exit::Findings } else { Exit::Done })
    }
}

fn unknown_format(file: &Path) -> Failure {
    let file = file.display();
    Failure::Refused(format!("{file}: the name tells no format: end it in .csv, .jsonl or .parquet, or say --format"))
}

fn plural_of(count: u64, what: &str) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), what)
}

/// Where rows go: a file appears under its name when it is complete.
struct Output {
    format: Format,
    file: Option<PathBuf>,
    rows: Option<Box<dyn Rows>>,
}

impl Output {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<&mut Box<dyn Rows>> {
        let out: Box<dyn Write + Send> = match &self.file {
            Some(file) => Box::new(File::create(partial(file))?),
            None => Box::new(io::stdout()),
        };
        Ok(self.rows.insert(self.format.begin(columns, out)?))
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(rows) = self.rows.take() else { return Ok(()) };
        rows.finish()?;
        self.file.as_ref().map_or(Ok(()), |file| fs::rename(partial(file), file))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let place = self.file.as_ref().map_or("standard output".into(), |file| file.display().to_string());
        if let Some(file) = &self.file {
            fs::remove_file(partial(file)).ok();
        }
        Failure::Refused(format!("{place}: cannot be written: {error}"))
    }
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    file.with_file_name(name)
}

/// Begins the output with the first row.
struct Pending<'a> {
    output: &'a mut Output,
    columns: &'a dyn Fn() -> Vec<Column>,
}

impl Rows for Pending<'_> {
    fn row(&mut self, cells: &[super::rows::Cell<'_>]) -> io::Result<()> {
        match &mut self.output.rows {
            Some(rows) => rows.row(cells),
            None => self.output.begin((self.columns)())?.row(cells),
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
