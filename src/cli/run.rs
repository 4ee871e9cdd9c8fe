//! `lineside run`: the agent in the foreground.

use clap::Args;

use super::{ConfigOption, Exit, Failure, runtime, start_logging};
use crate::agent::{self, service};
use crate::buffer::BufferError;
use crate::config;

/// Run the agent in the foreground until SIGTERM or Ctrl-C. SIGHUP reads the configuration again.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigOption,
}

impl Run {
    pub fn run(self) -> Result<Exit, Failure> {
        let config = config::load(&self.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        if let Err(faults) = agent::load_rules(&config) {
            return Err(Failure::Refused(config::ConfigError { faults }.to_string()));
        }
        start_logging("info");
        // Fails only when a provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = runtime()?;
        let ended = runtime.block_on(service::run(&self.config.config, config));
        // A thread that still encodes a batch must not delay the exit: the records are in the store.
        runtime.shutdown_background();
        match ended {
            Ok(service::Ended::Stopped) => Ok(Exit::Done),
            Ok(service::Ended::Hurried) => Ok(Exit::Findings),
            Err(error) => Err(failure(error)),
        }
    }
}

fn failure(error: anyhow::Error) -> Failure {
    match error.downcast_ref::<BufferError>() {
        Some(in_use @ BufferError::InUse { .. }) => Failure::InUse(in_use.to_string()),
        Some(_) | None => Failure::Broken(error),
    }
}
