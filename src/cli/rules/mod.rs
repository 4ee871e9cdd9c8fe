//! `lineside rules`: what can be known about rules before they are armed.

mod check;
mod export;
mod test;

use clap::{Args, Subcommand};

use super::{Exit, Failure};

/// Try rules before they are in force: check them, test them, take them elsewhere.
#[derive(Debug, Args)]
pub(super) struct Rules {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    Check(check::Check),
    Test(test::Test),
    Export(export::Export),
}

impl Rules {
    pub fn run(self) -> Result<Exit, Failure> {
        match self.deed {
            Deed::Check(check) => check.run(),
            Deed::Test(test) => test.run(),
            Deed::Export(export) => export.run(),
        }
    }
}
