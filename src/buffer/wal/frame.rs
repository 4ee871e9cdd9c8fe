//! What stands in the write-ahead log, as bytes and back. Pure.

use std::time::Duration;

use crate::buffer::commit::{ClockReading, Columns, RECORDS_MAX, clock_code, clock_from_code};
use crate::buffer::varint::{self, Malformed, Reader};
use crate::model::{AlarmRecord, BootId, Row, SeriesId, Timestamp};

/// Bytes before the payload of a frame: its length and its checksum.
const FRAME_HEAD: usize = 8;

/// Most readings in one frame: what a plant gives at once may be more than one commit.
const READINGS_MAX: usize = 16 * RECORDS_MAX;

/// Kinds of frames, by their first byte.
const APPENDED: u8 = 1;
const SERIES: u8 = 2;
const SAVE: u8 = 3;
const HANDED_OVER: u8 = 4;

/// How much was ever put into the log, of each kind by itself; or how much of that has its place elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Positions {
    /// Rows.
    pub rows: u64,
    /// Transitions of alarms.
    pub alarms: u64,
    /// States of the rules.
    pub states: u64,
    /// New series.
    pub series: u64,
}

impl Positions {
    /// Whether everything up to `other` is included.
    pub fn covers(&self, other: &Self) -> bool {
        self.rows >= other.rows
            && self.alarms >= other.alarms
            && self.states >= other.states
            && self.series >= other.series
    }

    /// The further of the two, of each kind.
    pub fn max(&self, other: &Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            alarms: self.alarms.max(other.alarms),
            states: self.states.max(other.states),
            series: self.series.max(other.series),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        [self.rows, self.alarms, self.states, self.series].into_iter().for_each(|number| varint::put(out, number));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            rows: reader.number()?,
            alarms: reader.number()?,
            states: reader.number()?,
            series: reader.number()?,
        })
    }
}

/// What was appended to the buffer in one go.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// What was in the log before.
    pub at: Positions,
    /// The clock when it was handed over.
    pub clock: ClockReading,
    /// Time since boot at that moment.
    pub monotonic: Duration,
    /// Readings, and results of rules.
    pub rows: Vec<Row>,
    /// Transitions of alarms.
    pub alarms: Vec<AlarmRecord>,
    /// What the rules have to remember from then on.
    pub state: Option<Vec<u8>>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Something was appended.
    Appended(Appended),
    /// A series got an id.
    Series {
        /// The id.
        id: SeriesId,
        /// The series in its stored form.
        series: Vec<u8>,
    },
    /// The batch of the database with this number holds everything up to here, if it was applied.
    Save {
        /// Number of the batch.
        generation: u64,
        /// What is in the database with it.
        positions: Positions,
    },
    /// Everything up to here may have gone out without having been stored.
    HandedOver(Positions),
}

/// Writes frames. Keeps its memory between calls.
#[derive(Debug, Default)]
pub struct Encoder {
    columns: Columns,
    body: Vec<u8>,
}

impl Encoder {
    /// Adds a frame of what is appended to `out`.
    pub fn appended(
        &mut self,
        out: &mut Vec<u8>,
        at: &Positions,
        (clock, monotonic): (ClockReading, Duration),
        rows: &[Row],
        alarms: &[AlarmRecord],
        state: Option<&[u8]>,
    ) {
        let begin = begin(out, APPENDED);
        at.put(out);
        out.push(clock_code(clock.state));
        varint::put_signed(out, clock.wall_minus_monotonic_ms);
        varint::put(out, u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX));
        varint::put(out, rows.iter().map(|row| row.observed.len() as u64).sum());
        varint::put_signed(out, rows.iter().map(|row| row.time.0).min().unwrap_or_default());
        self.body.clear();
        self.columns.encode(rows, &mut self.body);
        put_bytes(out, &self.body);
        // JSON, as in a commit of alarms; a transition always has that form.
        let alarms = if alarms.is_empty() { Vec::new() } else { serde_json::to_vec(alarms).unwrap_or_default() };
        put_bytes(out, &alarms);
        out.push(u8::from(state.is_some()));
        put_bytes(out, state.unwrap_or_default());
        end(out, begin);
    }

    /// Adds a frame of a new series to `out`.
    pub fn series(out: &mut Vec<u8>, id: SeriesId, series: &[u8]) {
        let begin = begin(out, SERIES);
        varint::put(out, u64::from(id.0));
        out.extend(series);
        end(out, begin);
    }

    /// Adds a frame of a batch to `out`.
    pub fn save(out: &mut Vec<u8>, generation: u64, positions: &Positions) {
        let begin = begin(out, SAVE);
        varint::put(out, generation);
        positions.put(out);
        end(out, begin);
    }

    /// Adds a frame of what goes out unstored to `out`.
    pub fn handed_over(out: &mut Vec<u8>, positions: &Positions) {
        let begin = begin(out, HANDED_OVER);
        positions.put(out);
        end(out, begin);
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend(bytes);
}

fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let begin = out.len();
    out.extend([0; FRAME_HEAD]);
    out.push(kind);
    begin
}

/// Puts length and CRC-32C of what follows them into the head of the frame that begins at `begin`.
fn end(out: &mut [u8], begin: usize) {
    let (head, payload) = out[begin..].split_at_mut(FRAME_HEAD);
    head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
}

/// How a run of frames ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After a whole frame.
    Whole,
    /// In the middle of a frame: the process was killed while it wrote that.
    Torn,
    /// Before a frame whose checksum does not match, or that makes no sense.
    Damaged,
}

/// Goes through the frames in some bytes, up to the first that is not whole.
#[derive(Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    columns: Columns,
    boot: BootId,
    /// Bytes of whole frames so far.
    pub taken: usize,
    /// How they end, once there is no other.
    pub end: End,
}

impl<'a> Frames<'a> {
    /// The frames in `bytes`, which were written in `boot`.
    pub fn new(bytes: &'a [u8], boot: BootId) -> Self {
        Self { bytes, columns: Columns::default(), boot, taken: 0, end: End::Whole }
    }

    fn payload(&self) -> Result<&'a [u8], End> {
        let rest = &self.bytes[self.taken..];
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(End::Torn)?;
        let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(End::Torn)?;
        let payload = rest.get(..u32::from_le_bytes(*length) as usize).ok_or(End::Torn)?;
        if crc32c::crc32c(payload).to_le_bytes() == *checksum { Ok(payload) } else { Err(End::Damaged) }
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.taken == self.bytes.len() || self.end != End::Whole {
            return None;
        }
        let decoded = self.payload().and_then(|payload| {
            let frame = decode(payload, &mut self.columns, self.boot).map_err(|_| End::Damaged)?;
            Ok((frame, payload.len()))
        });
        match decoded {
            Ok((frame, length)) => {
                self.taken += FRAME_HEAD + length;
                Some(frame)
            }
            Err(end) => {
                self.end = end;
                None
            }
        }
    }
}

fn decode(payload: &[u8], columns: &mut Columns, boot: BootId) -> Result<Frame, Malformed> {
    let mut reader = Reader::new(payload);
    let [kind] = reader.array()?;
    match kind {
        APPENDED => Ok(Frame::Appended(decode_appended(reader, columns, boot)?)),
        SERIES => {
            let id = u32::try_from(reader.number()?).map_err(|_| Malformed("id too large"))?;
            Ok(Frame::Series { id: SeriesId(id), series: reader.bytes(reader.len())?.to_vec() })
        }
        SAVE => Ok(Frame::Save { generation: reader.number()?, positions: Positions::read(&mut reader)? }),
        HANDED_OVER => Ok(Frame::HandedOver(Positions::read(&mut reader)?)),
        _ => Err(Malformed("frame of unknown kind")),
    }
}

fn decode_appended(mut reader: Reader<'_>, columns: &mut Columns, boot: BootId) -> Result<Appended, Malformed> {
    let at = Positions::read(&mut reader)?;
    let [state] = reader.array()?;
    let state = clock_from_code(state)?;
    let wall_minus_monotonic_ms = reader.signed()?;
    let monotonic = Duration::from_millis(reader.number()?);
    let records = reader.count(READINGS_MAX)?;
    let first_time = Timestamp(reader.signed()?);
    let rows = columns.decode(bytes(&mut reader)?, records, first_time)?;
    let alarms = match bytes(&mut reader)? {
        [] => Vec::new(),
        json => serde_json::from_slice(json).map_err(|_| Malformed("not the JSON it should be"))?,
    };
    let [has_state] = reader.array()?;
    let remembered = bytes(&mut reader)?;
    reader.finish()?;
    let clock = ClockReading { boot, state, wall_minus_monotonic_ms };
    Ok(Appended { at, clock, monotonic, rows, alarms, state: (has_state == 1).then(|| remembered.to_vec()) })
}

fn bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = reader.count(reader.len())?;
    reader.bytes(length)
}
