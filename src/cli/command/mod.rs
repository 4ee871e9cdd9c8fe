//! `lineside command`: the other side of remote management, for operators and scripts.

mod broker;
mod fleet;
mod key;
mod push;
mod send;
mod watch;

use clap::{Args, Subcommand};

use super::{Exit, Failure};

/// Command gateways over MQTT: make keys, send signed commands, watch what is answered.
///
/// This runs anywhere: on a laptop, on a server. It needs the broker, not the gateway.
#[derive(Debug, Args)]
pub(super) struct CommandCommand {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    Keygen(key::Keygen),
    Send(send::Send),
    Config(push::ConfigDeeds),
    Watch(watch::Watch),
    Fleet(fleet::Fleet),
}

impl CommandCommand {
    pub fn run(self) -> Result<Exit, Failure> {
        // Fails only when a provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match self.deed {
            Deed::Keygen(command) => command.run(),
            Deed::Send(command) => command.run(),
            Deed::Config(command) => command.run(),
            Deed::Watch(command) => command.run(),
            Deed::Fleet(command) => command.run(),
        }
    }
}
