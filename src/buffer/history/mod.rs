//! Everything that is stored, delivered or not, as it is stored: for export, verification, back-tests and sending again.
//!
//! A [`HistorySource`] hands out the stored bytes of a lane page by page, so that nobody ever holds more than a page of
//! them: the [`Archive`] from the files, without an agent; [`BufferHandle::page`](super::BufferHandle::page) from the
//! store that runs. [`History`] walks over a lane of any source and decodes. Whoever asks does the decoding: the thread
//! of the store only copies bytes.

mod archive;
mod overview;
mod pages;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use archive::Archive;
pub use overview::{LaneOverview, Overview, SetAside};
pub(super) use pages::page;

use super::commit::{Codec, CommitError};
use super::tally::Tally;
use super::varint::Malformed;
use super::{BufferError, Catalogue};
use crate::model::{Commit, Lane, Sequence, Timestamp};

/// Which part of a lane is wanted; everything unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistorySpan {
    /// No commit before this one.
    pub first: Sequence,
    /// No commit after this one.
    pub last: Sequence,
    /// No commit whose records are all older.
    pub from: Timestamp,
    /// No commit whose records are all from this time or later.
    pub until: Timestamp,
    /// Nothing but gap records.
    pub gaps_only: bool,
}

impl Default for HistorySpan {
    fn default() -> Self {
        Self {
            first: Sequence::FIRST,
            last: Sequence(u64::MAX),
            from: Timestamp(i64::MIN),
            until: Timestamp(i64::MAX),
            gaps_only: false,
        }
    }
}

impl HistorySpan {
    /// Whether a record of this time is wanted.
    pub fn holds(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.until
    }
}

/// A commit as it is stored, its checksum not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// Where it is stored. What is in the bytes may say otherwise, and is damaged then.
    pub sequence: Sequence,
    /// The stored bytes.
    pub bytes: Vec<u8>,
}

impl StoredCommit {
    /// How many records it holds, as far as its envelope can be believed.
    pub fn records(&self) -> u64 {
        Tally::of_stored(&self.bytes).records
    }
}

/// Some stored commits, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// About 256 KiB of them; may be empty although there are more.
    pub commits: Vec<StoredCommit>,
    /// Where to go on; nothing when there is no more.
    pub next: Option<Sequence>,
}

/// Why a source did not hand out what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store says why.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// Whoever has the store did not answer.
    #[error("{0}")]
    Away(String),
}

/// Where stored commits come from.
pub trait HistorySource {
    /// What there is.
    fn overview(&mut self) -> Result<Overview, HistoryError>;
    /// Which series has which id.
    fn catalogue(&mut self) -> Result<Catalogue, HistoryError>;
    /// The stored commits of `lane` in `span` from `from` on.
    fn page(&mut self, lane: Lane, span: HistorySpan, from: Sequence) -> Result<Page, HistoryError>;
}

/// A stored commit as it was found.
#[derive(Debug)]
pub struct Found {
    /// Where it is stored.
    pub sequence: Sequence,
    /// Length of its bytes.
    pub length: usize,
    /// What it holds, or why it is damaged.
    pub content: Result<Commit, CommitError>,
}

/// Walks over a lane, oldest sequence first. Holds one page.
pub struct History<'a> {
    source: &'a mut dyn HistorySource,
    codec: Codec,
    lane: Lane,
    span: HistorySpan,
    next: Option<Sequence>,
    page: VecDeque<StoredCommit>,
}

impl<'a> History<'a> {
    /// The part of `lane` that `span` names.
    pub fn new(source: &'a mut dyn HistorySource, lane: Lane, span: HistorySpan) -> Result<Self, HistoryError> {
        let codec = Codec::new().map_err(|error| HistoryError::Away(error.to_string()))?;
        Ok(Self { source, codec, lane, span, next: Some(span.first), page: VecDeque::new() })
    }

    fn found(&mut self, stored: &StoredCommit) -> Found {
        let decoded = self.codec.decode(&stored.bytes).and_then(|(lane, commit)| {
            let belongs = lane == self.lane && commit.header.sequence == stored.sequence;
            if belongs { Ok(commit) } else { Err(Malformed("belongs elsewhere").into()) }
        });
        Found { sequence: stored.sequence, length: stored.bytes.len(), content: decoded }
    }
}

impl Iterator for History<'_> {
    type Item = Result<Found, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(stored) = self.page.pop_front() {
                return Some(Ok(self.found(&stored)));
            }
            let from = self.next.take()?;
            match self.source.page(self.lane, self.span, from) {
                Ok(page) => {
                    // A source that does not move on would be asked for ever.
                    self.next = page.next.filter(|next| *next > from);
                    self.page = page.commits.into();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
