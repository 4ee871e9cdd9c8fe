//! A link of the running agent, borrowed: the agent does not touch it until the command ends.

use std::path::Path;

use super::client::AgentClient;
use super::{AgentOption, Failure};
use crate::config::Endpoint;
use crate::diagnostics::protocol::{Lendable, Notice, Request};
use crate::modbus::PollError;

/// Held while a command speaks to devices directly; the agent has its link back when this is dropped, or when the process
/// ends.
pub(super) struct Loan {
    _held: AgentClient,
}

/// The serial port of `endpoint`, when the agent has it open. Nothing is borrowed of other endpoints, and where no agent
/// runs.
///
/// # Errors
/// The agent has the port, and cannot lend it.
pub(super) fn of_port(agent: &AgentOption, endpoint: &Endpoint) -> Result<Option<Loan>, Failure> {
    match endpoint {
        Endpoint::Rtu(settings) | Endpoint::Text(settings) => {
            borrow(agent, Lendable::Port(settings.port.canonicalize().unwrap_or_else(|_| settings.port.clone())))
        }
        Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } => Ok(None),
    }
}

/// A link of the configuration. Nothing where no agent runs.
///
/// # Errors
/// The agent does not know that link, or cannot lend it.
pub(super) fn of_link(agent: &AgentOption, link: &str) -> Result<Option<Loan>, Failure> {
    borrow(agent, Lendable::Link(link.to_owned()))
}

fn borrow(agent: &AgentOption, wanted: Lendable) -> Result<Option<Loan>, Failure> {
    let mut held = match AgentClient::ask(&agent.socket(), &Request::Lend { wanted }) {
        Ok(client) => client,
        Err(Failure::Unreachable(_)) => return Ok(None),
        Err(other) => return Err(other),
    };
    match held.answer()? {
        Notice::Lent(Some(link)) => {
            eprintln!(
                "warning: link {link} is borrowed from the running agent: it polls nothing there until this ends"
            );
            Ok(Some(Loan { _held: held }))
        }
        Notice::Lent(None) => Ok(None),
        Notice::Refused(reason) => Err(Failure::Refused(reason)),
        Notice::Error(reason) => Err(Failure::Unreachable(reason)),
        Notice::Missed(_) | Notice::Forgotten(_) | Notice::Registers(_) => {
            Err(Failure::Unreachable("the agent's answer is not understood".to_owned()))
        }
    }
}

/// Why the port of `endpoint` cannot be opened and what to do, to be said behind `error`: who else has it, which others there
/// are. Empty where that is not the trouble.
pub(super) fn held_by(endpoint: &Endpoint, error: &PollError) -> String {
    let (Endpoint::Rtu(settings), PollError::LinkDown(_)) = (endpoint, error) else { return String::new() };
    if !settings.port.exists() {
        return match ports().as_slice() {
            [] => "; there is no serial adapter".to_owned(),
            ports => format!("; there are {}", ports.join(", ")),
        };
    }
    let holders = holders(&settings.port);
    if holders.is_empty() {
        return String::new();
    }
    format!("; the port is held by {}: end that, or name the socket of that agent with --socket", holders.join(" and "))
}

/// Serial adapters, by the names that stay the same; where the system gives none, as they are.
fn ports() -> Vec<String> {
    let below = |directory: &str, begin: &[&str]| {
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
        let fits = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            begin.iter().any(|begin| name.starts_with(begin))
        };
        let mut ports: Vec<String> = files.filter(fits).map(|path| path.display().to_string()).collect();
        ports.sort();
        ports
    };
    let named = below("/dev/serial/by-id", &[""]);
    if named.is_empty() { below("/dev", &["ttyUSB", "ttyACM", "ttyAMA", "ttymxc"]) } else { named }
}

/// Other processes that have the file at `path` open, as far as this user may see.
fn holders(path: &Path) -> Vec<String> {
    let Ok(port) = path.canonicalize() else { return Vec::new() };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let has_it = |process: &u32| {
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == port))
    };
    let others = others.filter(|process| *process != std::process::id()).filter(has_it);
    let named = |process| {
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        format!("{} (process {process})", name.trim_end())
    };
    others.map(named).collect()
}
