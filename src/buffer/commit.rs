//! A commit as bytes: the value that the database keeps. Pure.
//!
//! ```text
//! offset  size
//!      0     1  version, 1
//!      1     4  CRC-32C of everything else
//!      5    16  epoch
//!     21     8  sequence
//!     29     1  lane: 0 alarms, 1 telemetry
//!     30     1  kind of records: 0 readings, 1 gap, 2 alarms, 3 thinned to minutes, 4 thinned to ten minutes,
//!              16 clock offset
//!     31     1  clock state
//!     32    16  boot
//!     48     8  wall clock minus monotonic clock, ms
//!     56     8  time of the oldest record, ms
//!     64     8  time of the newest record, ms
//!     72     4  number of records
//!     76     4  length of the body once unpacked
//!     80     4  length of the payload
//!     84        payload: the body, zstd
//! ```
//!
//! Numbers are little-endian. Readings are columns (see [`columns`]), as are aggregates (see [`aggregates`]); gaps,
//! alarms and clock offsets are JSON. A commit is encoded first and [`seal`]ed with epoch, sequence and checksum when its
//! place in the lane is known.

mod aggregates;
mod columns;
mod stored;

use std::sync::Arc;

use zstd::bulk::{Compressor, Decompressor};

use super::varint::{Malformed, Reader};
use crate::model::{
    BootId, ClockState, Commit, CommitHeader, Epoch, Lane, Records, Sequence, SeriesId, Timestamp, Window,
};
pub(super) use columns::Columns;

/// Most records in one commit. Also the longest row that can be stored.
pub const RECORDS_MAX: usize = 65_536;

/// Longest body before compression, in bytes.
pub const BODY_MAX: usize = 4 << 20;

/// Bytes before the payload.
pub const ENVELOPE: usize = 84;

/// The newest version that is read.
pub const VERSION: u8 = 1;
const CHECKSUM: std::ops::Range<usize> = 1..5;
const EPOCH: std::ops::Range<usize> = 5..21;
const SEQUENCE: std::ops::Range<usize> = 21..29;

/// The level that costs least; higher ones gain little on so few bytes.
const LEVEL: i32 = 1;

/// Why bytes are not a commit, or a commit cannot become bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The checksum does not match.
    #[error("checksum does not match")]
    Checksum,
    /// Written by a newer release.
    #[error("version {0}; this release reads up to {VERSION}")]
    Version(u8),
    /// The checksum matches, the content makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More records or bytes than one commit can hold.
    #[error("one row is larger than a commit can be")]
    TooLarge,
    /// The compressor refused.
    #[error("compression: {0}")]
    Compression(String),
}

/// What kind of records a commit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Readings.
    Readings,
    /// One gap record.
    Gap,
    /// Alarm transitions.
    Alarms,
    /// Aggregates in the place of readings.
    Thinned(Window),
    /// One clock offset.
    ClockOffset,
}

/// The clock at the time of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Boot in which the readings were taken.
    pub boot: BootId,
    /// How far the wall clock could be trusted.
    pub state: ClockState,
    /// Wall clock minus monotonic clock, in milliseconds.
    pub wall_minus_monotonic_ms: i64,
}

impl ClockReading {
    /// The clock that the times of a stored commit were taken with.
    pub fn of(envelope: &Envelope) -> Self {
        let CommitHeader { boot, clock, wall_minus_monotonic_ms, .. } = envelope.header;
        Self { boot, state: clock, wall_minus_monotonic_ms }
    }

    /// Whether the times of a stored commit belong to the same boot and can be trusted as far.
    pub fn is_of(&self, envelope: &Envelope) -> bool {
        (self.boot, self.state) == (envelope.header.boot, envelope.header.clock)
    }
}

/// What stands before the payload of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Identity and clock.
    pub header: CommitHeader,
    /// Lane the commit belongs to.
    pub lane: Lane,
    /// What kind of records it holds.
    pub kind: Kind,
    /// Time of its oldest record.
    pub first_time: Timestamp,
    /// Time of its newest record.
    pub last_time: Timestamp,
    /// How many records it holds.
    pub records: u32,
    body_length: usize,
    payload_length: usize,
}

impl Envelope {
    /// Bytes of the whole commit.
    pub fn stored_length(&self) -> usize {
        ENVELOPE + self.payload_length
    }

    /// Whether the numbers can be those of a commit.
    pub fn is_plausible(&self) -> bool {
        self.header.sequence >= Sequence::FIRST
            && self.records as usize <= RECORDS_MAX
            && self.body_length <= BODY_MAX
            && self.payload_length <= zstd::zstd_safe::compress_bound(self.body_length)
    }

    /// Reads the envelope of stored bytes without checking the checksum.
    pub fn read(bytes: &[u8]) -> Result<Self, CommitError> {
        let mut reader = Reader::new(bytes);
        let [version] = reader.array()?;
        if version > VERSION {
            return Err(CommitError::Version(version));
        }
        reader.bytes(CHECKSUM.len())?;
        let epoch = Epoch(reader.array()?);
        let sequence = Sequence(u64::from_le_bytes(reader.array()?));
        let [lane, kind, clock] = reader.array()?;
        let boot = BootId(reader.array()?);
        let wall_minus_monotonic_ms = i64::from_le_bytes(reader.array()?);
        let clock = clock_from_code(clock)?;
        Ok(Self {
            header: CommitHeader { epoch, sequence, boot, clock, wall_minus_monotonic_ms },
            lane: lane_from_code(lane)?,
            kind: kind_from_code(kind)?,
            first_time: Timestamp(i64::from_le_bytes(reader.array()?)),
            last_time: Timestamp(i64::from_le_bytes(reader.array()?)),
            records: u32::from_le_bytes(reader.array()?),
            body_length: u32::from_le_bytes(reader.array()?) as usize,
            payload_length: u32::from_le_bytes(reader.array()?) as usize,
        })
    }
}

/// Turns commits into bytes and back. Keeps its memory between calls.
pub struct Codec {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    columns: Columns,
    body: Vec<u8>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

impl Codec {
    /// A codec with nothing in its memory.
    pub fn new() -> Result<Self, CommitError> {
        Ok(Self {
            compressor: Compressor::new(LEVEL).map_err(compression)?,
            decompressor: Decompressor::new().map_err(compression)?,
            columns: Columns::default(),
            body: Vec::new(),
        })
    }

    /// The bytes of a commit of `records` in `lane`, still without epoch, sequence and checksum.
    pub fn encode(&mut self, lane: Lane, records: &Records, clock: ClockReading) -> Result<Vec<u8>, CommitError> {
        self.body.clear();
        let json = |_| CommitError::Malformed(Malformed("not representable as JSON"));
        let (kind, (first_time, last_time)) = match records {
            Records::Readings(rows) => {
                self.columns.encode(rows, &mut self.body);
                (Kind::Readings, span(rows.iter().map(|row| row.time)))
            }
            Records::Gap(gap) => {
                serde_json::to_writer(&mut self.body, gap).map_err(json)?;
                (Kind::Gap, (gap.first_time, gap.last_time))
            }
            Records::ClockOffset(offset) => {
                serde_json::to_writer(&mut self.body, offset).map_err(json)?;
                (Kind::ClockOffset, (offset.time(), offset.time()))
            }
            Records::Alarms(alarms) => {
                serde_json::to_writer(&mut self.body, alarms).map_err(json)?;
                (Kind::Alarms, span(alarms.iter().map(|alarm| alarm.time)))
            }
            Records::Thinned(thinned) => {
                aggregates::encode(thinned, &mut self.body);
                (Kind::Thinned(thinned.window), span(thinned.aggregates.iter().flat_map(|it| [it.start, it.last_time])))
            }
        };
        let count = u32::try_from(records.count()).map_err(|_| CommitError::TooLarge)?;
        if count as usize > RECORDS_MAX || self.body.len() > BODY_MAX {
            return Err(CommitError::TooLarge);
        }
        let mut out = Vec::with_capacity(ENVELOPE + zstd::zstd_safe::compress_bound(self.body.len()));
        out.push(VERSION);
        out.resize(SEQUENCE.end, 0);
        out.extend([lane_code(lane), kind_code(kind), clock_code(clock.state)]);
        out.extend(clock.boot.0);
        out.extend(clock.wall_minus_monotonic_ms.to_le_bytes());
        out.extend(first_time.0.to_le_bytes());
        out.extend(last_time.0.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend((self.body.len() as u32).to_le_bytes());
        out.extend([0; 4]);
        self.compress(&mut out)?;
        out.shrink_to_fit();
        Ok(out)
    }

    fn compress(&mut self, out: &mut Vec<u8>) -> Result<(), CommitError> {
        let mut payload = std::io::Cursor::new(std::mem::take(out));
        payload.set_position(ENVELOPE as u64);
        let written = self.compressor.compress_to_buffer(&self.body, &mut payload).map_err(compression)?;
        *out = payload.into_inner();
        out[ENVELOPE - 4..ENVELOPE].copy_from_slice(&(written as u32).to_le_bytes());
        Ok(())
    }

    /// The commit that `bytes` hold, if they hold what was written.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(Lane, Commit), CommitError> {
        if !checksum_matches(bytes) {
            return Err(CommitError::Checksum);
        }
        let envelope = Envelope::read(bytes)?;
        let payload = &bytes[ENVELOPE..];
        if payload.len() != envelope.payload_length
            || envelope.body_length > BODY_MAX
            || envelope.records as usize > RECORDS_MAX
        {
            return Err(Malformed("lengths do not match").into());
        }
        self.body.clear();
        self.body.reserve(envelope.body_length);
        self.decompressor.decompress_to_buffer(payload, &mut self.body).map_err(compression)?;
        if self.body.len() != envelope.body_length {
            return Err(Malformed("body does not have its length").into());
        }
        let json = |_| Malformed("not the JSON it should be");
        let records = match envelope.kind {
            Kind::Readings => {
                let records = envelope.records as usize;
                Records::Readings(self.columns.decode(&self.body, records, envelope.first_time)?)
            }
            Kind::Gap => Records::Gap(serde_json::from_slice(&self.body).map_err(json)?),
            Kind::ClockOffset => Records::ClockOffset(serde_json::from_slice(&self.body).map_err(json)?),
            Kind::Alarms => Records::Alarms(serde_json::from_slice(&self.body).map_err(json)?),
            Kind::Thinned(window) => {
                Records::Thinned(aggregates::decode(&self.body, envelope.records as usize, window)?)
            }
        };
        if records.count() != envelope.records as usize {
            return Err(Malformed("number of records does not match").into());
        }
        Ok((envelope.lane, Commit { header: envelope.header, records }))
    }

    /// The shared copy of a shape, so that all rows of one shape share it.
    #[cfg(test)]
    fn shapes_known(&self) -> usize {
        self.columns.shapes_known()
    }
}

/// Gives encoded bytes their place in the lane. May be done again while nobody has seen them.
pub fn seal(bytes: &mut [u8], epoch: Epoch, sequence: Sequence) {
    bytes[EPOCH].copy_from_slice(&epoch.0);
    bytes[SEQUENCE].copy_from_slice(&sequence.0.to_le_bytes());
    let checksum = checksum(bytes);
    bytes[CHECKSUM].copy_from_slice(&checksum);
}

/// CRC-32C of everything but itself.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKSUM.start]), &bytes[CHECKSUM.end..]).to_le_bytes()
}

/// Whether `bytes` are those of a commit as it was sealed.
pub fn checksum_matches(bytes: &[u8]) -> bool {
    bytes.len() >= ENVELOPE && bytes[CHECKSUM] == checksum(bytes)
}

/// Oldest and newest of `times`; zero of none.
fn span(times: impl Iterator<Item = Timestamp>) -> (Timestamp, Timestamp) {
    times
        .fold(None, |span: Option<(Timestamp, Timestamp)>, time| {
            Some(span.map_or((time, time), |(first, last)| (first.min(time), last.max(time))))
        })
        .unwrap_or_default()
}

fn compression(error: std::io::Error) -> CommitError {
    CommitError::Compression(error.to_string())
}

/// The number that stands for `lane` in stored bytes and keys.
pub fn lane_code(lane: Lane) -> u8 {
    match lane {
        Lane::Alarms => 0,
        Lane::Telemetry => 1,
    }
}

fn lane_from_code(code: u8) -> Result<Lane, Malformed> {
    Lane::ALL.into_iter().find(|lane| lane_code(*lane) == code).ok_or(Malformed("no such lane"))
}

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Readings => 0,
        Kind::Gap => 1,
        Kind::Alarms => 2,
        Kind::Thinned(Window::Minute) => 3,
        Kind::Thinned(Window::TenMinutes) => 4,
        Kind::ClockOffset => 16,
    }
}

fn kind_from_code(code: u8) -> Result<Kind, Malformed> {
    let thinned = [Window::Minute, Window::TenMinutes].map(Kind::Thinned);
    let mut kinds = [Kind::Readings, Kind::Gap, Kind::Alarms, Kind::ClockOffset].into_iter().chain(thinned);
    kinds.find(|kind| kind_code(*kind) == code).ok_or(Malformed("no such kind of records"))
}

/// The number that stands for `state` in stored bytes.
pub fn clock_code(state: ClockState) -> u8 {
    match state {
        ClockState::Synchronised => 0,
        ClockState::Unsynchronised => 1,
        ClockState::Local => 2,
    }
}

/// The clock state that `code` stands for.
pub fn clock_from_code(code: u8) -> Result<ClockState, Malformed> {
    let states = [ClockState::Synchronised, ClockState::Unsynchronised, ClockState::Local];
    states.into_iter().find(|state| clock_code(*state) == code).ok_or(Malformed("no such clock state"))
}

/// A shape as rows share it.
type SharedShape = Arc<[SeriesId]>;

#[cfg(test)]
mod tests;
