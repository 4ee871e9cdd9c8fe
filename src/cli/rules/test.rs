//! `lineside rules test`: unit tests of rules.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::AnsiColor;
use clap::Args;
use promql_parser::util::display_duration;
use serde::Serialize;

use crate::agent::rule_fault;
use crate::cli::{Exit, Failure, plural, write_json, written};
use crate::rules::testing::file::load;
use crate::rules::testing::{Difference, run};
use crate::rules::{file, text};
use crate::settings::FileFault;

/// Run unit tests of rules: the files that `promtool test rules` takes.
///
/// The rules are evaluated by the engine that runs live; samples stand for their series for five minutes, as with
/// promtool. What `edge` says counts: an alarm whose inputs are gone is held, unless its rule says otherwise. Exit code
/// 1 when a test fails, 2 when a file cannot be read.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of unit tests.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// JSON: one list, with an object for each file.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    file: String,
    ok: bool,
    /// How many things were tested.
    tested: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<FileFault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

impl Test {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut out = anstream::stdout().lock();
        let mut reports = Vec::new();
        for path in &self.files {
            let report = report(path);
            if !self.json {
                written(write_report(&mut out, &report))?;
            }
            reports.push(report);
        }
        if self.json {
            written(write_json(&mut out, &reports))?;
        }
        let refused = reports.iter().filter(|report| !report.faults.is_empty()).count();
        match (refused, reports.iter().all(|report| report.ok)) {
            (0, true) => Ok(Exit::Done),
            (0, false) => Ok(Exit::Findings),
            _ => Err(Failure::Refused(format!("{} cannot be run", plural(refused, "file")))),
        }
    }
}

fn report(path: &Path) -> Report {
    let file = path.display().to_string();
    let mut warnings = Vec::new();
    let tested = load(path).and_then(|tests| {
        warnings = tests.unmatched.iter().map(|pattern| format!("no file matches {pattern}")).collect();
        let groups = file::load(&tests.rule_files)?;
        run(&tests, &groups).map_err(|errors| errors.iter().map(rule_fault).collect::<Vec<FileFault>>())
    });
    match tested {
        Ok((differences, tested)) => {
            Report { file, ok: differences.is_empty(), tested, warnings, faults: Vec::new(), differences }
        }
        Err(faults) => Report { file, ok: false, tested: 0, warnings, faults, differences: Vec::new() },
    }
}

fn write_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let (good, bad, odd) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default(), AnsiColor::Yellow.on_default());
    writeln!(out, "Unit Testing:  {}", report.file)?;
    report.warnings.iter().try_for_each(|warning| writeln!(out, "  {odd}WARNING: {warning}{odd:#}"))?;
    if report.ok {
        writeln!(out, "  {good}SUCCESS{good:#}: {} tested", plural(report.tested, "expectation"))?;
        return writeln!(out);
    }
    writeln!(out, "  {bad}FAILED:{bad:#}")?;
    report.faults.iter().try_for_each(|fault| writeln!(out, "    {fault}"))?;
    for difference in &report.differences {
        write_difference(out, difference)?;
    }
    writeln!(out)
}

/// A time of a test as its file says it, such as `6m`.
fn at(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds)
        .map_or_else(|_| format!("{}s", text::number(seconds)), |at| display_duration(&at))
}

fn write_difference(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    if !difference.test.is_empty() {
        writeln!(out, "    name: {},", difference.test)?;
    }
    let time = at(difference.time_s);
    match (&difference.alert, &difference.expression, &difference.rule) {
        (Some(alert), ..) => write!(out, "    alertname: {alert}, time: {time}, ")?,
        (_, Some(expression), _) => write!(out, "    expr: {expression:?}, time: {time}, ")?,
        (.., rule) => write!(out, "    rule: {}, time: {time}, ", rule.as_deref().unwrap_or_default())?,
    }
    if let Some(error) = &difference.error {
        return writeln!(out, "err: {error}");
    }
    writeln!(out)?;
    for (what, lines) in [("exp", &difference.expected), ("got", &difference.got)] {
        if lines.is_empty() {
            writeln!(out, "        {what}: nothing")?;
        }
        for (number, line) in lines.iter().enumerate() {
            let label = if number == 0 { format!("{what}:") } else { "    ".to_owned() };
            writeln!(out, "        {label} {line}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_they_are_written() {
        for (seconds, shown) in [(360.0, "6m"), (90.0, "1m30s"), (0.0, "0s"), (0.25, "250ms"), (86_400.0, "1d")] {
            assert_eq!(at(seconds), shown);
        }
    }
}
