//! `lineside rules`: what can be known about rules before they are armed.

mod backtest;
mod check;
mod eval;
mod export;
mod test;

use clap::{Args, Subcommand};

use super::{Exit, Failure};
use crate::settings::FileFault;

/// Try rules before they are in force: check them, test them, run them over the past, take them elsewhere.
#[derive(Debug, Args)]
pub(super) struct Rules {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    Check(check::Check),
    Test(test::Test),
    Backtest(backtest::Run),
    Eval(eval::Eval),
    Export(export::Export),
}

impl Rules {
    pub fn run(self) -> Result<Exit, Failure> {
        match self.deed {
            Deed::Check(check) => check.run(),
            Deed::Test(test) => test.run(),
            Deed::Backtest(backtest) => backtest.run(),
            Deed::Eval(eval) => eval.run(),
            Deed::Export(export) => export.run(),
        }
    }
}

/// Faults of files, one a line.
fn refused(faults: &[FileFault]) -> Failure {
    Failure::Refused(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
