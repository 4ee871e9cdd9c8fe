//! The columnar batch: few bytes for many readings. `deploy/lineside.proto` says what the bytes mean.
//!
//! Rows of one shape become a table, so identity and time cost something once a row. Every column, of identities,
//! times or values, becomes integers, a line through them and residuals (`fit`); residuals of similar columns are
//! compressed together by pco (`pack`); zstd then takes out what the many small numbers around them have in common.

mod bounds;
mod decode;
mod fit;
mod pack;
mod table;
#[cfg(test)]
mod tests;
mod thinned;

use prost::Message;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

pub use decode::decode;

use self::pack::Packer;
use self::table::{Cells, Texts, tables};
use super::batch::{Batch, BatchHeader, Order};
use super::{EncodeError, wire};
use crate::model::{BootId, ClockState, Commit, Gap, GapReason, Lane, Records};

/// MQTT 5 content type of a columnar batch.
pub const CONTENT_TYPE: &str = "application/vnd.lineside.batch+zstd";

/// Most readings in one batch. Twice what the uplink puts into one, and a bound on what a decoder allocates: it needs less
/// than 64 MiB for any payload.
pub const READINGS_MAX: usize = 1 << 17;

/// Most bytes inside the zstd frame.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Level of the frame around the columns, which are dense already: higher levels find nothing more.
const ZSTD_LEVEL: i32 = 3;

/// Encodes batch after batch and keeps its working memory between them.
pub struct Encoder {
    compressor: Compressor<'static>,
    packer: Packer,
    cells: Cells,
    message: Vec<u8>,
}

impl Encoder {
    /// An encoder with the memory zstd works in.
    ///
    /// # Errors
    /// No memory for that.
    pub fn new() -> Result<Self, EncodeError> {
        let failed = |error: std::io::Error| EncodeError::Compressor(error.to_string());
        let mut compressor = Compressor::new(ZSTD_LEVEL).map_err(failed)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
        Ok(Self { compressor, packer: Packer::default(), cells: Cells::default(), message: Vec::new() })
    }

    /// The payload of `batch`. The same batch gives the same bytes.
    ///
    /// # Errors
    /// More than [`READINGS_MAX`] readings or [`MESSAGE_BYTES_MAX`] bytes, alarms, a commit of another epoch or
    /// outside the covered range.
    pub fn encode(&mut self, batch: &Batch) -> Result<Vec<u8>, EncodeError> {
        check(batch)?;
        self.packer.reset();
        let message = self.message(batch)?;
        at_most("bytes", message.encoded_len(), MESSAGE_BYTES_MAX)?;

        self.message.clear();
        message.encode(&mut self.message).map_err(|error| EncodeError::Compressor(error.to_string()))?;
        self.compressor.compress(&self.message).map_err(|error| EncodeError::Compressor(error.to_string()))
    }

    fn message(&mut self, batch: &Batch) -> Result<wire::Batch, EncodeError> {
        let mut message = header(&batch.header);
        message.commits = u32::try_from(batch.commits.len()).unwrap_or(u32::MAX);
        message.boots = self.push_commits(&batch.commits)?;
        message.gaps = batch.commits.iter().filter_map(gap).collect();
        message.clock_offsets = batch.commits.iter().filter_map(clock_offset).collect();

        let tables = tables(batch);
        message.base_time_ms = tables.iter().filter_map(|table| table.first_time()).min().map_or(0, |time| time.0);
        let mut texts = Texts::default();
        for table in &tables {
            message.readings += table.readings() as u64;
            message.tables.push(table.shape());
            table.push_columns(message.base_time_ms, &mut self.packer, &mut self.cells, &mut texts)?;
            message.qualities.append(&mut self.cells.take_qualities());
        }
        message.thinned = thinned::push(batch, &mut self.packer, &mut texts)?;
        message.texts = texts.into_list();
        let (columns, groups) = self.packer.finish()?;
        message.columns = Some(columns);
        message.groups = groups;
        Ok(message)
    }

    /// The columns with one number for each commit; returns the boots that they refer to.
    fn push_commits(&mut self, commits: &[Commit]) -> Result<Vec<Vec<u8>>, EncodeError> {
        let mut boots: Vec<BootId> = Vec::new();
        let mut columns: [Vec<i64>; 4] = Default::default();
        for Commit { header, .. } in commits {
            let known = boots.iter().rposition(|boot| *boot == header.boot);
            let boot = known.unwrap_or_else(|| {
                boots.push(header.boot);
                boots.len() - 1
            });
            columns[0].push(header.sequence.0.cast_signed());
            columns[1].push(boot as i64);
            columns[2].push(clock_code(header.clock));
            columns[3].push(header.wall_minus_monotonic_ms);
        }
        for column in &columns {
            self.packer.push(wire::Kind::Int, 0, column)?;
        }
        Ok(boots.iter().map(|boot| boot.0.to_vec()).collect())
    }
}

/// The payload of one batch. Who encodes many keeps an [`Encoder`].
///
/// # Errors
/// As [`Encoder::encode`].
pub fn encode(batch: &Batch) -> Result<Vec<u8>, EncodeError> {
    Encoder::new()?.encode(batch)
}

fn check(batch: &Batch) -> Result<(), EncodeError> {
    let header = &batch.header;
    // A place without reading takes a decoder as much memory as one with.
    let aggregates: usize = batch
        .commits
        .iter()
        .map(|commit| match &commit.records {
            Records::Thinned(thinned) => thinned.aggregates.len(),
            Records::Readings(_) | Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => 0,
        })
        .sum();
    let weight = batch.records() + batch.withheld.len() + aggregates * (thinned::WEIGHT - 1);
    at_most("readings", weight, READINGS_MAX)?;
    at_most("commits", batch.commits.len(), READINGS_MAX)?;
    for commit in &batch.commits {
        let sequence = commit.header.sequence;
        if commit.header.epoch != header.epoch || !(header.first..=header.last).contains(&sequence) {
            let (epoch, first, last) = (header.epoch, header.first, header.last);
            return Err(EncodeError::ForeignCommit { sequence, epoch, first, last });
        }
        match &commit.records {
            Records::Readings(rows) => {
                if let Some(row) = rows.iter().find(|row| row.series.len() != row.observed.len()) {
                    let (series, readings) = (row.series.len(), row.observed.len());
                    return Err(EncodeError::UnevenRow { sequence, series, readings });
                }
            }
            Records::Gap(_) | Records::Thinned(_) | Records::ClockOffset(_) => {}
            Records::Alarms(_) => {
                return Err(EncodeError::WrongRecords { sequence, found: "alarms", message: "a columnar batch" });
            }
        }
    }
    Ok(())
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), EncodeError> {
    if count > limit { Err(EncodeError::TooLarge { what, count, limit }) } else { Ok(()) }
}

fn header(header: &BatchHeader) -> wire::Batch {
    let order = match header.order {
        Order::Live => wire::Order::Live,
        Order::Backlog => wire::Order::Backlog,
    };
    wire::Batch {
        format: wire::FORMAT,
        site: header.site.to_string(),
        gateway: header.gateway.to_string(),
        epoch: header.epoch.0.to_vec(),
        lane: lane_code(header.lane) as i32,
        first_sequence: header.first.0,
        last_sequence: header.last.0,
        oldest_undelivered: header.oldest_undelivered.0,
        order: order as i32,
        part: header.part.map(|part| wire::Part { first_index: part.first_index, end_index: part.end_index }),
        ..wire::Batch::default()
    }
}

fn gap(commit: &Commit) -> Option<wire::Gap> {
    let Records::Gap(Gap { lane, first, last, records, first_time, last_time, reason }) = &commit.records else {
        return None;
    };
    let reason = match reason {
        GapReason::StoreFull => wire::GapReason::StoreFull,
        GapReason::Damaged => wire::GapReason::Damaged,
        GapReason::TooLarge => wire::GapReason::TooLarge,
        GapReason::NotWritable => wire::GapReason::NotWritable,
    };
    Some(wire::Gap {
        sequence: commit.header.sequence.0,
        lane: lane_code(*lane) as i32,
        first_lost: first.0,
        last_lost: last.0,
        records: *records,
        first_time_ms: first_time.0,
        last_time_ms: last_time.0,
        reason: reason as i32,
    })
}

fn clock_offset(commit: &Commit) -> Option<wire::ClockOffset> {
    let Records::ClockOffset(offset) = &commit.records else { return None };
    Some(wire::ClockOffset {
        sequence: commit.header.sequence.0,
        boot: offset.boot.0.to_vec(),
        monotonic_ms: offset.monotonic_ms,
        wall_minus_monotonic_ms: offset.wall_minus_monotonic_ms,
    })
}

fn lane_code(lane: Lane) -> wire::Lane {
    match lane {
        Lane::Alarms => wire::Lane::Alarms,
        Lane::Telemetry => wire::Lane::Telemetry,
    }
}

fn clock_code(clock: ClockState) -> i64 {
    match clock {
        ClockState::Synchronised => 0,
        ClockState::Unsynchronised => 1,
        ClockState::Local => 2,
    }
}
