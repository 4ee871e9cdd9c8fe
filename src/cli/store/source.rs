//! Where a command gets what is stored: from the agent that runs, or from the files.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use crate::buffer::history::{Archive, HistoryError, HistorySource, HistorySpan, Overview, Page, StoredCommit};
use crate::buffer::{BufferError, Catalogue};
use crate::cli::Failure;
use crate::cli::client::AgentClient;
use crate::diagnostics::protocol::{PageHead, Request, StoredCatalogue};
use crate::model::{Gap, Lane, Sequence};

/// A store that can be read.
pub(in crate::cli) enum Source {
    /// Through its agent, on this socket.
    Agent(PathBuf),
    /// From its files. The archive is closed before its directory goes.
    Files { archive: Box<Archive>, path: PathBuf, _copy: Scratch },
}

impl Source {
    /// Whether an agent listens.
    pub fn is_answered(socket: &Path) -> bool {
        UnixStream::connect(socket).is_ok()
    }

    /// The store of the agent that listens on `socket`.
    pub fn agent(socket: &Path) -> Self {
        Self::Agent(socket.to_owned())
    }

    /// The store in the directory `path`, copied to below `scratch`.
    pub fn files(path: &Path, scratch: &Path) -> Result<Self, Failure> {
        let copy = Scratch::new(scratch)
            .map_err(|error| Failure::Refused(format!("{}: no place for a copy: {error}", scratch.display())))?;
        let archive = Box::new(Archive::open(path, copy.path()).map_err(failure)?);
        Ok(Self::Files { archive, path: path.to_owned(), _copy: copy })
    }

    /// Whether the store changes while it is read.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Agent(_))
    }

    /// Where what is shown comes from.
    pub fn place(&self) -> String {
        match self {
            Self::Agent(socket) => format!("agent on {}", socket.display()),
            Self::Files { path, .. } => path.display().to_string(),
        }
    }

    /// What the mark beside the database knows and the database does not; the agent sees to that when it starts.
    pub fn missing(&self) -> &[Gap] {
        match self {
            Self::Agent(_) => &[],
            Self::Files { archive, .. } => archive.missing(),
        }
    }

    /// What is damaged in the files; the agent mends what it finds.
    pub fn damage(&self) -> &[String] {
        match self {
            Self::Agent(_) => &[],
            Self::Files { archive, .. } => archive.damage(),
        }
    }

    /// How many commits are gone from the history, where the files tell.
    pub fn lost_history(&self) -> u64 {
        match self {
            Self::Agent(_) => 0,
            Self::Files { archive, .. } => archive.lost_history(),
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(socket: &Path, request: &Request) -> Result<(T, AgentClient), HistoryError> {
        let away = |failure: Failure| HistoryError::Away(failure.to_string());
        let mut client = AgentClient::ask(socket, request).map_err(away)?;
        let answer = client.answer().map_err(away)?;
        Ok((answer, client))
    }
}

impl HistorySource for Source {
    fn overview(&mut self) -> Result<Overview, HistoryError> {
        match self {
            Self::Agent(socket) => Ok(Self::ask(socket, &Request::StoreOverview)?.0),
            Self::Files { archive, .. } => archive.overview(),
        }
    }

    fn catalogue(&mut self) -> Result<Catalogue, HistoryError> {
        match self {
            Self::Agent(socket) => {
                let (found, _): (StoredCatalogue, _) = Self::ask(socket, &Request::StoreCatalogue)?;
                Ok(Catalogue { epoch: found.epoch, series: found.series, others: Vec::new() })
            }
            Self::Files { archive, .. } => archive.catalogue(),
        }
    }

    fn page(&mut self, lane: Lane, span: HistorySpan, from: Sequence) -> Result<Page, HistoryError> {
        let socket = match self {
            Self::Agent(socket) => socket,
            Self::Files { archive, .. } => return archive.page(lane, span, from),
        };
        let (head, mut client): (PageHead, _) = Self::ask(socket, &Request::StorePage { lane, span, from })?;
        let mut commits = Vec::with_capacity(head.commits.len());
        for (sequence, length) in head.commits {
            let bytes = client.bytes(length).map_err(|failure| HistoryError::Away(failure.to_string()))?;
            commits.push(StoredCommit { sequence, bytes });
        }
        Ok(Page { commits, next: head.next })
    }
}

/// What a fault of the store is for the command.
pub(in crate::cli) fn failure(error: impl Into<HistoryError>) -> Failure {
    match error.into() {
        HistoryError::Away(text) => Failure::Unreachable(text),
        HistoryError::Buffer(error @ BufferError::InUse { .. }) => Failure::InUse(format!(
            "{error}; while its agent runs, leave --store away or name its socket with --socket"
        )),
        HistoryError::Buffer(
            error @ (BufferError::NoStore { .. } | BufferError::NewerFormat { .. } | BufferError::Unavailable { .. }),
        ) => Failure::Refused(error.to_string()),
        HistoryError::Buffer(error) => Failure::Broken(error.into()),
    }
}
