//! `lineside store`: what is kept, with the agent or without it.

mod export;
mod readings;
mod resend;
mod rows;
mod scratch;
pub(super) mod source;
mod stats;
pub(super) mod time;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{AgentOption, Exit, Failure};
pub(super) use resend::show_resend;
use source::Source;

/// What is kept in the store: sums, a check of every checksum, an export, sending again.
///
/// While the agent runs it is asked; otherwise the files are read without changing a byte of them: what is read is a copy
/// of the database, below /var/tmp unless --scratch says otherwise. What is shown is JSON with --json.
#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    Stats(stats::Stats),
    Verify(verify::Verify),
    Export(export::Export),
    Resend(resend::Resend),
}

impl StoreCommand {
    pub fn run(self) -> Result<Exit, Failure> {
        match self.deed {
            Deed::Stats(deed) => deed.run(),
            Deed::Verify(deed) => deed.run(),
            Deed::Export(deed) => deed.run(),
            Deed::Resend(deed) => deed.run(),
        }
    }
}

/// Which store.
#[derive(Debug, Args)]
pub(super) struct StoreOption {
    /// Directory of the store, read although there may be an agent; without it the agent is asked, or, where none
    /// runs, the directory that the configuration names is read.
    #[arg(long, value_name = "DIRECTORY")]
    store: Option<PathBuf>,
    /// Where the copy of the database goes for as long as it is read.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    agent: AgentOption,
}

impl StoreOption {
    /// The store, through its agent or from its files.
    pub fn open(&self) -> Result<Source, Failure> {
        let scratch = self.scratch.clone().unwrap_or_else(scratch::usual);
        match &self.store {
            Some(path) => Source::files(path, &scratch),
            // A file that is not there says of nothing where it is.
            None if self.agent.lacks_file() => Source::files(&self.configured()?, &scratch),
            None => {
                let socket = self.agent.socket();
                if Source::is_answered(&socket) {
                    return Ok(Source::agent(&socket));
                }
                Source::files(&self.configured()?, &scratch)
            }
        }
    }

    /// The configuration file that is named, or the usual one.
    pub fn config_path(&self) -> &Path {
        &self.agent.config.config
    }

    fn configured(&self) -> Result<PathBuf, Failure> {
        let file = &self.agent.config.config;
        match crate::config::load(file) {
            Ok(config) => Ok(config.store.path),
            Err(_) => Err(Failure::Refused(format!(
                "{}: cannot be read or has faults, which `lineside check` lists, so that it does not say where the store \
                 is; --store DIRECTORY does",
                file.display()
            ))),
        }
    }
}
