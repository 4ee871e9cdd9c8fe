//! `lineside rules check`: everything that is wrong with rule files, and what looks wrong.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use clap::Args;
use serde::Serialize;

use crate::agent::{rule_fault, rule_series, unmatched_selectors};
use crate::cli::{ConfigOption, Exit, Failure, plural, write_json, written};
use crate::config::{self, Config};
use crate::model::Timestamp;
use crate::rules::engine::{Engine, RuleSetup};
use crate::rules::file;
use crate::rules::spec::GroupSpec;
use crate::settings::FileFault;

/// Check rule files: syntax, types, functions, templates, cycles; and selectors that no configured series matches.
///
/// Exit code 2 when a file has faults, all of which are shown with line and column; 1 when it has none but deserves a
/// warning.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Rule files, or directories of them; without any, those that the configuration names.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
    /// JSON: one object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    files: Vec<FileReport>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    groups: usize,
    alerts: usize,
    records: usize,
    faults: Vec<FileFault>,
}

impl Check {
    pub fn run(self) -> Result<Exit, Failure> {
        let exists = self.config.config.exists();
        let config = if exists { config::load(&self.config.config).map(Some) } else { Ok(None) };
        let files = match (&config, self.files.is_empty()) {
            (_, false) => self.files.clone(),
            (Ok(Some(config)), true) => config.rules.files.clone(),
            (Ok(None), true) => {
                let path = self.config.config.display();
                return Err(Failure::Refused(format!("{path}: there is no such file; name rule files to check")));
            }
            (Err(error), true) => return Err(Failure::Refused(error.to_string())),
        };
        let mut notes = Vec::new();
        let config = config.unwrap_or_else(|_| {
            let path = self.config.config.display();
            notes.push(format!("{path} has faults: whether series match was not checked"));
            None
        });
        if !exists {
            notes.push("no configuration: whether series match was not checked".to_owned());
        }
        let report = report(&files, config.as_ref(), notes);
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &report) } else { write_report(&mut out, &report) })?;
        match (report.ok, report.warnings.is_empty()) {
            (true, true) => Ok(Exit::Done),
            (true, false) => Ok(Exit::Findings),
            (false, _) => {
                let refused = report.files.iter().filter(|file| !file.faults.is_empty()).count();
                Err(Failure::Refused(format!("{} refused", plural(refused, "file"))))
            }
        }
    }
}

fn report(paths: &[PathBuf], config: Option<&Config>, notes: Vec<String>) -> Report {
    let (mut groups, mut files): (Vec<GroupSpec>, Vec<FileReport>) = (Vec::new(), Vec::new());
    for path in paths {
        let mut report =
            FileReport { file: path.display().to_string(), groups: 0, alerts: 0, records: 0, faults: Vec::new() };
        let (found, faults) = file::load_readable(std::slice::from_ref(path));
        let rules = || found.iter().flat_map(|group| &group.rules);
        report.groups = found.len();
        report.alerts = rules().filter(|rule| rule.is_alert()).count();
        report.records = rules().count() - report.alerts;
        report.faults = faults;
        groups.extend(found);
        files.push(report);
    }
    let series = config.map(rule_series).unwrap_or_default();
    let memory_limit = config.map(|config| config.rules.memory_bytes);
    let setup = RuleSetup { groups: groups.clone(), series, memory_limit, ..RuleSetup::default() };
    for error in Engine::new(setup, Timestamp(0)).err().into_iter().flatten() {
        let fault = rule_fault(&error);
        let of_file = files.iter_mut().find(|file| Path::new(&fault.file).starts_with(&file.file));
        of_file.into_iter().for_each(|file| file.faults.push(fault.clone()));
    }
    let ok = files.iter().all(|file| file.faults.is_empty());
    let is_empty = |file: &&FileReport| file.faults.is_empty() && file.alerts + file.records == 0;
    let mut warnings: Vec<String> = files.iter().filter(is_empty).map(without_rules).collect();
    warnings.extend(twice(&groups));
    // Where a rule cannot be read, what it records seems to be missing.
    if let Some(config) = config.filter(|_| ok) {
        warnings.extend(unmatched_selectors(&groups, config));
    }
    Report { ok, files, warnings, notes }
}

/// Rarely is a file without rules what was meant.
fn without_rules(file: &FileReport) -> String {
    let (path, what) =
        (&file.file, if Path::new(&file.file).is_dir() { "files (.yml, .yaml) with rules" } else { "rules" });
    format!("{path}: there are no {what} in it; is this the right path?")
}

/// Rules of the same name and labels: their results cannot be told apart.
fn twice(groups: &[GroupSpec]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let rules = groups.iter().flat_map(|group| &group.rules);
    let again = rules.filter(|rule| !seen.insert((rule.is_alert(), &rule.name, &rule.labels)));
    again
        .map(|rule| {
            let place = format!("{}:{}", rule.place.file, rule.place.line);
            format!("{place}: {} stands here once more with the same labels", rule.name)
        })
        .collect()
}

fn write_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let (good, bad, odd) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default(), AnsiColor::Yellow.on_default());
    for file in &report.files {
        writeln!(out, "Checking {}", file.file)?;
        if file.faults.is_empty() {
            let (alerts, records) = (plural(file.alerts, "alert"), plural(file.records, "recording rule"));
            let groups = plural(file.groups, "group");
            writeln!(out, "  {good}SUCCESS{good:#}: {alerts} and {records} in {groups}")?;
        } else {
            writeln!(out, "  {bad}FAILED:{bad:#}")?;
            file.faults.iter().try_for_each(|fault| writeln!(out, "    {fault}"))?;
        }
    }
    report.warnings.iter().try_for_each(|warning| writeln!(out, "{odd}warning: {warning}{odd:#}"))?;
    report.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_rules_deserves_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules.yaml.bak");
        std::fs::write(&file, "groups: []\n").unwrap();

        let found = report(&[directory.path().to_owned(), file], None, Vec::new());

        assert!(found.ok && found.warnings.len() == 2, "{:?}", found.warnings);
        assert!(found.warnings[0].contains("no files (.yml, .yaml) with rules in it"), "{:?}", found.warnings);
        assert!(
            found.warnings[1].ends_with("there are no rules in it; is this the right path?"),
            "{:?}",
            found.warnings
        );
    }
}
