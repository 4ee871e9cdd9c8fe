//! `lineside support-bundle`: what the makers need to find a fault, in one file.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::client::AgentClient;
use super::{AgentOption, Exit, Failure, written};
use crate::commands::{audit, bundle};
use crate::config;
use crate::diagnostics::protocol::{Notice, Request};

/// Lines of the audit log in it.
const AUDIT_LINES: usize = 200;

/// Write status, log, configuration and system into one JSON file, without secrets.
///
/// Asks the agent, and does without it where none runs; exit code 1 then. The log is in it where commands or writes are
/// configured; otherwise `journalctl -u lineside` has it.
#[derive(Debug, Args)]
pub(super) struct SupportBundle {
    /// The file.
    #[arg(short, long, value_name = "FILE", default_value = "lineside-bundle.json")]
    output: PathBuf,
    #[command(flatten)]
    agent: AgentOption,
}

impl SupportBundle {
    pub fn run(self) -> Result<Exit, Failure> {
        let whole = self.ask(&Request::SupportBundle);
        let status = if whole.is_ok() { Ok(Value::Null) } else { self.ask(&Request::Status) };
        let is_complete = status.is_ok();
        if let Err(failure) = &status {
            eprintln!("without the agent: {failure}");
        }
        let mut document = whole.unwrap_or_else(|_| {
            let configuration = std::fs::read_to_string(&self.agent.config.config).unwrap_or_default();
            bundle::of(&status.unwrap_or_default(), &Value::Null, &configuration)
        });
        document["audit"] = self.audit();
        let text = serde_json::to_vec_pretty(&document).map_err(anyhow::Error::from)?;
        let place = self.output.display();
        std::fs::write(&self.output, text).map_err(|error| Failure::Refused(format!("{place}: {error}")))?;
        written(writeln!(std::io::stdout(), "support bundle: {place}"))?;
        Ok(if is_complete { Exit::Done } else { Exit::Findings })
    }

    fn ask(&self, request: &Request) -> Result<Value, Failure> {
        let line = AgentClient::ask(&self.agent.socket(), request)?.next_line()?.unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(Notice::Refused(reason) | Notice::Error(reason)) => Err(Failure::Refused(reason)),
            _ => serde_json::from_str(&line).map_err(|error| Failure::Unreachable(error.to_string())),
        }
    }

    /// The latest lines of the audit log, or why they cannot be read.
    fn audit(&self) -> Value {
        let config = config::load(&self.agent.config.config).map_err(|error| error.to_string());
        match config.map(|config| audit::lines(&config.store.path.join("remote")).lines) {
            Ok(lines) => json!(lines[lines.len().saturating_sub(AUDIT_LINES)..]),
            Err(reason) => json!({ "not_read_because": reason }),
        }
    }
}
