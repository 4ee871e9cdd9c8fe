//! `lineside forget`: drops what the agent has learned of a device.

use std::io::Write;

use clap::Args;

use super::client::AgentClient;
use super::{AgentOption, Exit, Failure, read, written};
use crate::agent::learned;
use crate::config;
use crate::diagnostics::protocol::{Notice, Request};

/// Drop what was learned of a device: what it refuses, how fast it answers. It is learned anew.
///
/// For a device that was repaired or replaced by another of its kind. `lineside status --device NAME` shows what is
/// known. Through the agent when one runs; without, in the file beside the store. Exit code 1 when nothing was known.
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// Device of the configuration.
    #[arg(value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    agent: AgentOption,
}

impl Forget {
    pub fn run(self) -> Result<Exit, Failure> {
        let request = Request::Forget { device: self.device.clone() };
        let was_known = match AgentClient::ask(&self.agent.socket(), &request) {
            Ok(mut client) => {
                let line = client.next_line()?.unwrap_or_default();
                match serde_json::from_str(&line) {
                    Ok(Notice::Forgotten(was_known)) => was_known,
                    Ok(_) | Err(_) => return Err(read::refusal(&line)),
                }
            }
            Err(Failure::Unreachable(_)) => self.without_agent()?,
            Err(other) => return Err(other),
        };
        let what = if was_known { "forgotten" } else { "nothing was known" };
        written(writeln!(std::io::stdout(), "{}: {what}", self.device))?;
        Ok(if was_known { Exit::Done } else { Exit::Findings })
    }

    fn without_agent(&self) -> Result<bool, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        read::link_of(&config, &self.device)?;
        let path = learned::place(&config.store.path);
        let mut devices = learned::load(&path);
        let was_known = devices.remove(&self.device).is_some();
        if was_known {
            learned::save(&path, &devices).map_err(anyhow::Error::from)?;
        }
        Ok(was_known)
    }
}
