//! The other end of the agent's socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::diagnostics::protocol::{Notice, Request};

/// One request under way.
pub(super) struct AgentClient {
    answers: BufReader<UnixStream>,
    socket: PathBuf,
}

impl AgentClient {
    /// Connects and sends the request.
    pub fn ask(socket: &Path, request: &Request) -> Result<Self, Failure> {
        let unreachable = |error: std::io::Error| {
            let place = socket.display();
            Failure::Unreachable(match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    format!(
                        "{place}: this user may not speak with the agent; it takes root, its own user and its group"
                    )
                }
                _ => format!("no agent answers on {place}: {error}; is `lineside run` running?"),
            })
        };
        let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
        let mut line = serde_json::to_vec(request).map_err(anyhow::Error::from)?;
        line.push(b'\n');
        stream.write_all(&line).map_err(unreachable)?;
        Ok(Self { answers: BufReader::new(stream), socket: socket.to_owned() })
    }

    /// The answer, which is one line.
    pub fn answer<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let line = self.next_line()?.unwrap_or_default();
        serde_json::from_str(&line).map_err(|_| match serde_json::from_str(&line) {
            Ok(Notice::Refused(reason)) => Failure::Refused(reason),
            Ok(Notice::Error(reason)) => Failure::Unreachable(reason),
            _ => Failure::Unreachable(format!("the agent's answer is not understood: {line}")),
        })
    }

    /// The next `length` bytes of the answer.
    pub fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; length];
        self.answers.read_exact(&mut bytes).map_err(|error| {
            Failure::Unreachable(format!("the agent on {} went away: {error}", self.socket.display()))
        })?;
        Ok(bytes)
    }

    /// The next line of the answer; `None` when the agent has said everything.
    pub fn next_line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(|error| {
            Failure::Unreachable(format!("the agent on {} went away: {error}", self.socket.display()))
        })?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }
}
