//! `lineside rules export`: rules for other programs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::{Exit, Failure, written};
use crate::rules::export::plain;
use crate::settings::read_text;

/// Print a rule file without what older programs do not know.
///
/// What is left loads with promtool and Prometheus 2.42 and later: without `edge`, `query_offset` and labels of groups,
/// which become labels of their rules.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The rule file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For Prometheus 2.42.
    #[arg(long, required = true)]
    plain: bool,
}

impl Export {
    pub fn run(self) -> Result<Exit, Failure> {
        let name = self.file.display().to_string();
        let text = read_text(&self.file).and_then(|text| {
            let text = text.ok_or_else(|| vec![crate::settings::FileFault::of_file(&name, "there is no such file")])?;
            plain(&text, &name)
        });
        let refused = |faults: Vec<crate::settings::FileFault>| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Failure::Refused(lines.join("\n"))
        };
        written(anstream::stdout().lock().write_all(text.map_err(refused)?.as_bytes()))?;
        Ok(Exit::Done)
    }
}
