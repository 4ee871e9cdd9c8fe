//! The command line: one file for each command.
//!
//! Exit codes: 0 done; 1 done, with findings; 2 input refused; 3 agent, device or broker unreachable; 4 store in use by
//! another process.

mod alarms;
mod audit;
mod check;
mod client;
mod command;
mod config;
mod decode;
#[cfg(feature = "demo")]
mod demo;
mod files;
mod findings;
mod forget;
mod guess;
mod identify;
mod loan;
mod profiles;
mod progress;
mod read;
mod rules;
mod run;
mod scan;
mod screen;
mod simulate;
mod status;
mod store;
mod support_bundle;
mod table;
mod tail;
mod target;
mod write;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{DEFAULT_PATH, DEFAULT_SOCKET};
use crate::kernel;

/// How a command ended when it could do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Done, with findings: a warning, damage, a failed test, an empty range.
    Findings = 1,
}

/// Why a command could not do what it was asked. Its text goes to standard error.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was given is not acceptable.
    #[error("{0}")]
    Refused(String),
    /// Agent, device or broker cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Another process has the store.
    #[error("{0}")]
    InUse(String),
    /// Something that should work did not.
    #[error("{0:#}")]
    Broken(#[from] anyhow::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Refused(_) => 2,
            Self::Unreachable(_) => 3,
            Self::InUse(_) => 4,
        }
    }
}

/// Edge gateway agent: polls Modbus and text serial devices, stores every reading, forwards batches over MQTT.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 done, with findings; 2 input refused; 3 agent, device or broker \
                          unreachable; 4 store in use by another process.";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    Check(check::Check),
    Status(status::StatusCommand),
    Tail(tail::Tail),
    Alarms(alarms::Alarms),
    Rules(rules::Rules),
    Store(store::StoreCommand),
    Read(read::Read),
    Scan(scan::Scan),
    Identify(identify::Identify),
    Guess(guess::GuessCommand),
    Forget(forget::Forget),
    Profiles(profiles::Profiles),
    Write(write::Write),
    Writes(write::Writes),
    Decode(decode::Decode),
    #[command(name = "command")]
    Afar(command::CommandCommand),
    Config(config::ConfigCommand),
    Audit(audit::AuditCommand),
    SupportBundle(support_bundle::SupportBundle),
    Simulate(simulate::Simulate),
}

/// Which configuration file.
#[derive(Debug, Args)]
struct ConfigOption {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", env = "LINESIDE_CONFIG", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
}

/// How to find the running agent.
#[derive(Debug, Args)]
struct AgentOption {
    #[command(flatten)]
    config: ConfigOption,
    /// Socket of the agent; without it the one that the configuration names.
    #[arg(short, long, value_name = "FILE", env = "LINESIDE_SOCKET", global = true)]
    socket: Option<PathBuf>,
}

impl AgentOption {
    /// Whether a configuration was named that is not there, and nothing else says where the agent is.
    fn lacks_file(&self) -> bool {
        let path = &self.config.config;
        self.socket.is_none() && path.as_os_str() != DEFAULT_PATH && !path.exists()
    }

    /// The socket to ask. A configuration with faults does not stop a diagnosis: the agent that runs had a good one.
    fn socket(&self) -> PathBuf {
        self.socket_with(|note| eprintln!("{note}"))
    }

    /// The same for what needs no agent: without a word where it had to be guessed.
    fn socket_quietly(&self) -> PathBuf {
        self.socket_with(|_| ())
    }

    fn socket_with(&self, say: impl Fn(&str)) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.clone();
        }
        let path = &self.config.config;
        if let Ok(config) = crate::config::load(path) {
            return config.gateway.socket;
        }
        match crate::config::socket_in(path) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.lacks_file() => DEFAULT_SOCKET.into(),
            Err(error) => {
                let path = path.display();
                say(&format!("{path}: {error}; so {DEFAULT_SOCKET} is tried, --socket names another one"));
                DEFAULT_SOCKET.into()
            }
        }
    }
}

/// Parses the arguments of the process, runs the command, returns its exit code.
pub fn main() -> ExitCode {
    kernel::keep_memory_together();
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(command) => command.run(),
        #[cfg(feature = "demo")]
        Command::Demo(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Tail(command) => command.run(),
        Command::Alarms(command) => command.run(),
        Command::Rules(command) => command.run(),
        Command::Store(command) => command.run(),
        Command::Read(command) => command.run(),
        Command::Scan(command) => command.run(),
        Command::Identify(command) => command.run(),
        Command::Guess(command) => command.run(),
        Command::Forget(command) => command.run(),
        Command::Profiles(command) => command.run(),
        Command::Write(command) => command.run(),
        Command::Writes(command) => command.run(),
        Command::Decode(command) => command.run(),
        Command::Afar(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::SupportBundle(command) => command.run(),
        Command::Simulate(command) => command.run(),
    };
    match outcome {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// The runtime of every command: one thread; what blocks for longer has a thread of its own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?)
}

/// True when a write failed because the reader of a pipe has gone, as in `lineside tail | head`.
fn reader_has_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// What became of writing the output; that its reader has gone is no failure.
fn written(outcome: std::io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if !reader_has_gone(&error) => Err(anyhow::Error::from(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes one JSON value over several lines, for programs and people.
fn write_json(out: &mut impl std::io::Write, value: &impl serde::Serialize) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Who does this, as far as the system says.
fn user() -> String {
    let named = ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// `1 link`, `3 links`.
fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
