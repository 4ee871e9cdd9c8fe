//! What goes out as one message: a run of commits of one lane, and what the receiver must know about it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::withheld::Withheld;
use crate::model::{Aggregate, ClockOffset, Commit, CommitHeader, Epoch, Gap, Identity, Lane, Name, Observed, Records};
use crate::model::{Replaced, Row, Sequence, SeriesId, Thinned, Timestamp, Window};

/// Consecutive commits of a lane, to be sent as one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Where they come from and which commits the message covers.
    pub header: BatchHeader,
    /// In order of their sequence, all of `header.epoch` and within the covered range.
    pub commits: Vec<Commit>,
    /// Which of their readings are not sent.
    pub withheld: Withheld,
}

/// What every batch says about itself, whatever its encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// Site of the gateway.
    pub site: Name,
    /// The gateway.
    pub gateway: Name,
    /// Life of the database that gave the sequences.
    pub epoch: Epoch,
    /// Stream that the sequences count in.
    pub lane: Lane,
    /// First sequence that the batch covers: a commit of the range that is absent was withheld and does not come later.
    pub first: Sequence,
    /// Last sequence that the batch covers.
    pub last: Sequence,
    /// Whatever is older, was not received and is named in no gap record, is lost.
    pub oldest_undelivered: Sequence,
    /// Whether these records are new or were kept during an outage.
    pub order: Order,
    /// Set only when the one commit of the batch had to be cut.
    pub part: Option<Part>,
}

/// Which of the two streams of a lane a batch belongs to; each keeps its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As it happens.
    Live,
    /// Kept during an outage; live batches may have overtaken it.
    Backlog,
}

/// Which records of the one commit of a batch are in it: `first_index` to `end_index - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// Index of the first record.
    pub first_index: u32,
    /// One more than the index of the last record.
    pub end_index: u32,
}

impl Batch {
    /// How many records the batch sends.
    pub fn records(&self) -> usize {
        self.commits.iter().map(|commit| commit.records.count()).sum::<usize>() - self.withheld.len()
    }

    /// The readings that are sent, each with the position of its commit and its index there.
    pub fn readings(&self) -> impl Iterator<Item = (usize, u32, SeriesId, Timestamp, &Observed)> {
        let rows = self.commits.iter().enumerate().filter_map(|(commit, content)| match &content.records {
            Records::Readings(rows) => Some((commit, rows)),
            Records::Gap(_) | Records::Thinned(_) | Records::Alarms(_) | Records::ClockOffset(_) => None,
        });
        let readings = rows.flat_map(|(commit, rows)| {
            let cells = rows
                .iter()
                .flat_map(|row| row.series.iter().zip(&row.observed).map(|(id, observed)| (*id, row.time, observed)));
            cells.enumerate().map(move |(place, cell)| (commit, place, cell))
        });
        let sent = readings.filter(|(commit, place, _)| !self.withheld.contains(*commit, *place));
        sent.map(|(commit, place, (id, time, observed))| {
            (commit, self.first_index().saturating_add(count_u32(place)), id, time, observed)
        })
    }

    /// The aggregates of `thinned`, the commit at `position`, that are sent, each with its index.
    pub fn aggregates<'a>(
        &'a self,
        position: usize,
        thinned: &'a Thinned,
    ) -> impl Iterator<Item = (u32, &'a Aggregate)> {
        let all = (self.first_index()..).zip(thinned.aggregates.iter()).enumerate();
        all.filter(move |(place, _)| !self.withheld.contains(position, *place)).map(|(_, aggregate)| aggregate)
    }

    /// Index that the first record of each commit has: zero, unless the batch is a part of one commit.
    pub fn first_index(&self) -> u32 {
        self.header.part.map_or(0, |part| part.first_index)
    }

    /// Two batches that together hold and cover what this one does. No identity changes.
    ///
    /// # Errors
    /// The batch itself when it holds a single record, which cannot be split.
    pub fn halves(self) -> Result<(Self, Self), Self> {
        match self.commits.len() {
            0 => Err(self),
            1 => self.cut_commit(),
            _ => Ok(self.cut_between_commits()),
        }
    }

    fn cut_between_commits(mut self) -> (Self, Self) {
        let half = self.commits.iter().map(|commit| commit.records.count()).sum::<usize>() / 2;
        let mut before = 0;
        let middle = self.commits.iter().position(|commit| {
            before += commit.records.count();
            before > half
        });
        let at = middle.unwrap_or(0).clamp(1, self.commits.len() - 1);

        let commits = self.commits.split_off(at);
        let withheld = self.withheld.split_off(at);
        let first = commits[0].header.sequence;
        let second = Self { header: BatchHeader { first, ..self.header.clone() }, commits, withheld };
        self.header.last = Sequence(first.0.saturating_sub(1));
        (self, second)
    }

    fn cut_commit(mut self) -> Result<(Self, Self), Self> {
        let count = self.commits[0].records.count();
        if count < 2 {
            return Err(self);
        }
        let middle = count / 2;
        let start = self.first_index();
        let (at, end) = (start + count_u32(middle), start + count_u32(count));
        let commit = &mut self.commits[0];
        let records = match &mut commit.records {
            Records::Readings(rows) => Records::Readings(split_rows(rows, middle)),
            Records::Alarms(alarms) => Records::Alarms(alarms.split_off(middle)),
            Records::Thinned(thinned) => {
                let aggregates = thinned.aggregates.split_off(middle);
                Records::Thinned(Thinned { window: thinned.window, replaces: thinned.replaces.clone(), aggregates })
            }
            // One record: returned above.
            Records::Gap(_) | Records::ClockOffset(_) => return Err(self),
        };
        let second = Commit { header: commit.header, records };
        let withheld = self.withheld.split_commit(middle, count);

        let part = |first_index, end_index| Some(Part { first_index, end_index });
        let header = BatchHeader { part: part(at, end), ..self.header.clone() };
        self.header.part = part(start, at);
        Ok((self, Self { header, commits: vec![second], withheld }))
    }
}

/// Takes the readings from index `at` on out of `rows`, cutting a row where that is needed.
fn split_rows(rows: &mut Vec<Row>, at: usize) -> Vec<Row> {
    let mut before = 0;
    let mut cut = rows.len();
    for (position, row) in rows.iter().enumerate() {
        if before + row.observed.len() > at {
            cut = position;
            break;
        }
        before += row.observed.len();
    }
    let mut tail = rows.split_off(cut);
    let inside = at - before;
    if let Some(row) = tail.first_mut().filter(|_| inside > 0) {
        let rest = row.observed.split_off(inside);
        let head = std::mem::replace(&mut row.observed, rest);
        let series = Arc::from(&row.series[..inside]);
        row.series = Arc::from(&row.series[inside..]);
        rows.push(Row { series, time: row.time, observed: head });
    }
    tail
}

/// Records of a commit are numbered with 32 bits.
pub(super) fn count_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A columnar batch as its receiver sees it: every reading with its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedBatch {
    /// What the batch says about itself.
    pub header: BatchHeader,
    /// The commits that the records come from: boot and clock of their times. In order of their sequence.
    pub commits: Vec<CommitHeader>,
    /// The readings, in order of sequence and index.
    pub readings: Vec<DecodedReading>,
    /// The records of aggregates, in order of their sequence.
    pub thinned: Vec<DecodedThinned>,
    /// The gap records with the sequence they stand at; their index is 0.
    pub gaps: Vec<(Sequence, Gap)>,
    /// The records of clock offsets with the sequence they stand at; their index is 0.
    pub clock_offsets: Vec<(Sequence, ClockOffset)>,
}

/// Aggregates in the place of commits that do not come any more; see [`Thinned`].
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedThinned {
    /// Commit that holds the aggregates.
    pub sequence: Sequence,
    /// Time that one aggregate stands for.
    pub window: Window,
    /// The commits that do not come any more. Sure only when all parts of the commit have arrived.
    pub replaces: Vec<Replaced>,
    /// The aggregates, each with its index.
    pub aggregates: Vec<(u32, Aggregate)>,
}

/// One reading of a [`DecodedBatch`].
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedReading {
    /// Commit it belongs to.
    pub sequence: Sequence,
    /// Position in the commit.
    pub index: u32,
    /// Which series of the catalogue.
    pub series: SeriesId,
    /// When it was taken.
    pub time: Timestamp,
    /// What was observed, before scale and offset.
    pub observed: Observed,
}

impl DecodedBatch {
    /// The full identity of a record of this batch.
    pub fn identity(&self, sequence: Sequence, index: u32) -> Identity {
        Identity { epoch: self.header.epoch, lane: self.header.lane, sequence, index }
    }

    /// Boot and clock of the commit with this sequence.
    pub fn commit(&self, sequence: Sequence) -> Option<&CommitHeader> {
        let position = self.commits.binary_search_by_key(&sequence, |commit| commit.sequence).ok()?;
        self.commits.get(position)
    }
}
