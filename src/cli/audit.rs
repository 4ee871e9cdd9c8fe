//! `lineside audit`: who did what, and whether the log of it is whole.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::screen::{LocalTime, write_wrapped};
use super::{ConfigOption, Exit, Failure, plural, write_json, written};
use crate::commands::audit::{self, AuditLine, AuditLines};
use crate::config;

/// Show who commanded, wrote and changed what, or check that no line of that log was changed or left out.
#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// The latest lines.
    Show {
        /// How many.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        lines: usize,
        #[command(flatten)]
        place: Place,
    },
    /// Check the chain; exit code 1 when a line was changed or is missing.
    Verify {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// Directory of the log; without it the one below the store of the configuration.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl Place {
    fn lines(&self) -> Result<AuditLines, Failure> {
        let directory = match &self.directory {
            Some(directory) => directory.clone(),
            None => {
                let config = config::load(&self.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
                config.store.path.join("remote")
            }
        };
        Ok(audit::lines(&directory))
    }
}

impl AuditCommand {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut out = anstream::stdout().lock();
        match self.deed {
            Deed::Show { lines, place } => {
                let AuditLines { lines: all, faults } = place.lines()?;
                faults.iter().for_each(|fault| eprintln!("{fault}"));
                let latest = &all[all.len().saturating_sub(lines)..];
                written(if place.json { write_json(&mut out, &latest) } else { write_lines(&mut out, latest) })?;
                Ok(if latest.is_empty() || !faults.is_empty() { Exit::Findings } else { Exit::Done })
            }
            Deed::Verify { place } => {
                let report = audit::verify(&place.lines()?);
                if report.lines == 0 && report.faults.is_empty() {
                    // A log that is gone must not pass for one that is whole.
                    eprintln!("no line: nothing was commanded or written here yet, or the log is gone");
                    return Ok(Exit::Findings);
                }
                written(match place.json {
                    true => write_json(&mut out, &report),
                    false => {
                        let count = plural(usize::try_from(report.lines).unwrap_or(usize::MAX), "line");
                        let verdict = if report.faults.is_empty() { "whole" } else { "not whole" };
                        writeln!(out, "{count} from number {}: {verdict}", report.first)
                            .and_then(|()| report.faults.iter().try_for_each(|fault| writeln!(out, "  {fault}")))
                    }
                })?;
                Ok(if report.faults.is_empty() { Exit::Done } else { Exit::Findings })
            }
        }
    }
}

/// Each line with its time in UTC and where the reader is; a long one goes on below.
fn write_lines(out: &mut impl Write, lines: &[AuditLine]) -> std::io::Result<()> {
    let local = LocalTime::of_system();
    lines.iter().try_for_each(|line| {
        let AuditLine { number, time, kind, by, text, .. } = line;
        write_wrapped(out, &format!("{number:>6}  {}  {kind}  {by}  {text}", local.beside(*time)))
    })
}
