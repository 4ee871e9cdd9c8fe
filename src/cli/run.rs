//! `lineside run`: the agent in the foreground.

use std::os::unix::process::CommandExt;

use clap::Args;

use super::{ConfigOption, Exit, Failure, runtime};
use crate::agent::{self, service};
use crate::buffer::BufferError;
use crate::commands::revisions::Revisions;
use crate::logging;

/// Run the agent in the foreground until SIGTERM or Ctrl-C. SIGHUP reads the configuration again.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigOption,
}

impl Run {
    pub fn run(self) -> Result<Exit, Failure> {
        let loaded = Revisions::load(&self.config.config);
        let (config, troubles) = loaded.map_err(|error| Failure::Refused(error.to_string()))?;
        // Fails only when a provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = self.config.config.display().to_string();
        agent::admit(&file, &config).map_err(|fault| Failure::Refused(fault.to_string()))?;
        let log = logging::start("info");
        for trouble in &troubles {
            tracing::error!(trouble, "the configuration from afar is not in force, the owner's own is");
        }
        let runtime = runtime()?;
        let ended = runtime.block_on(service::run(&self.config.config, (config, troubles), log));
        // A thread that still encodes a batch must not delay the exit: the records are in the store.
        runtime.shutdown_background();
        match ended {
            Ok(service::Ended::Stopped) => Ok(Exit::Done),
            Ok(service::Ended::Hurried) => Ok(Exit::Findings),
            Ok(service::Ended::Restart) => Err(again()),
            Err(error) => Err(failure(error)),
        }
    }
}

/// Starts this program again in the same process, as it was started: whoever watches over it sees no end. Returns only
/// when that is not possible.
fn again() -> Failure {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "lineside".into());
    let error = std::process::Command::new(program).args(arguments).exec();
    Failure::Broken(anyhow::Error::from(error).context("the agent stopped to start again, but could not"))
}

fn failure(error: anyhow::Error) -> Failure {
    match error.downcast_ref::<BufferError>() {
        Some(in_use @ BufferError::InUse { .. }) => Failure::InUse(in_use.to_string()),
        Some(_) | None => Failure::Broken(error),
    }
}
