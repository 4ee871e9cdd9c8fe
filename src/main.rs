//! The `lineside` program: parses its arguments, runs the command, turns the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lineside::cli::main()
}
