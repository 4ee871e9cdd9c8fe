//! A link of the running agent, borrowed: the agent does not touch it until the command ends.

use std::path::Path;

use super::client::AgentClient;
use super::{AgentOption, Failure};
use crate::config::Endpoint;
use crate::diagnostics::protocol::{Lendable, Notice, Request};

/// Held while a command speaks to devices directly; the agent has its link back when this is dropped, or when the process
/// ends.
pub(super) struct Loan {
    _held: AgentClient,
}

/// The link of the running agent that leads to `endpoint`: it has the port open, and many devices take one connection only.
/// Nothing is borrowed where no link leads there, and where no agent runs.
///
/// # Errors
/// The agent has the endpoint, and cannot lend it.
pub(super) fn of_endpoint(agent: &AgentOption, endpoint: &Endpoint) -> Result<Option<Loan>, Failure> {
    of_agent_at(&agent.socket_quietly(), endpoint)
}

/// The same, of the agent that has this socket.
///
/// # Errors
/// As [`of_endpoint`].
pub(super) fn of_agent_at(socket: &Path, endpoint: &Endpoint) -> Result<Option<Loan>, Failure> {
    borrow(
        socket,
        match endpoint {
            Endpoint::Rtu(settings) | Endpoint::Text(settings) => {
                Lendable::Port(settings.port.canonicalize().unwrap_or_else(|_| settings.port.clone()))
            }
            Endpoint::Tcp { host, port } | Endpoint::RtuOverTcp { host, port } => {
                Lendable::Host { host: host.clone(), port: *port }
            }
        },
    )
}

/// A link of the configuration. Nothing where no agent runs.
///
/// # Errors
/// The agent does not know that link, or cannot lend it.
pub(super) fn of_link(agent: &AgentOption, link: &str) -> Result<Option<Loan>, Failure> {
    borrow(&agent.socket(), Lendable::Link(link.to_owned()))
}

fn borrow(socket: &Path, wanted: Lendable) -> Result<Option<Loan>, Failure> {
    let mut held = match AgentClient::ask(socket, &Request::Lend { wanted }) {
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
