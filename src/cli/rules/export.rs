//! `lineside rules export`: rules for other programs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::refused;
use crate::cli::{Exit, Failure, written};
use crate::rules::export::plain;
use crate::settings::{FileFault, read_text};

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
            let text = text.ok_or_else(|| vec![FileFault::of_file(&name, "there is no such file")])?;
            plain(&text, &name)
        });
        let text = text.map_err(|faults| refused(&faults))?;
        written(anstream::stdout().lock().write_all(text.as_bytes()))?;
        Ok(Exit::Done)
    }
}
