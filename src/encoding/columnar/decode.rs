//! A columnar batch back into readings. Bytes from outside: every count is bounded before it allocates.

use std::sync::Arc;

use pco::data_types::Number;
use pco::wrapped::FileDecompressor;
use prost::Message;

use super::fit::{Fit, unfit};
use super::table::{Ordered, power_of_ten};
use super::{MESSAGE_BYTES_MAX, READINGS_MAX, bounds, thinned};
use crate::encoding::batch::{BatchHeader, DecodedBatch, DecodedReading, Order, Part};
use crate::encoding::{DecodeError, frame, wire};
use crate::model::{
    BootId, ClockOffset, ClockState, CommitHeader, Epoch, Gap, GapReason, Lane, Name, Observed, Quality, Sequence,
};
use crate::model::{SeriesId, Timestamp, Value};

/// Most numbers in all columns: one for each reading, and three for each row of one reading, four for each commit, or
/// twelve for each aggregate.
const NUMBERS_MAX: usize = 16 * READINGS_MAX;

/// Longest text value, in bytes: sixteen times the longest line of an instrument. A text stands once in the message and
/// many times in what is printed of it.
const TEXT_BYTES_MAX: usize = 4096;

const COMMIT_COLUMNS: usize = 4;
const ROW_COLUMNS: usize = 3;

/// The readings of a payload that [`encode`](super::encode) made.
///
/// # Errors
/// What is wrong with the bytes, in one line.
pub fn decode(payload: &[u8]) -> Result<DecodedBatch, DecodeError> {
    let message = frame::decompress(payload, MESSAGE_BYTES_MAX)?;
    bounds::check(&message)?;
    let message = wire::Batch::decode(&*message)
        .map_err(|error| DecodeError::Foreign(format!("no protobuf message in the zstd frame: {error}")))?;
    decode_message(&message)
}

pub(super) fn decode_message(message: &wire::Batch) -> Result<DecodedBatch, DecodeError> {
    if message.format != wire::FORMAT {
        return Err(DecodeError::Format(message.format));
    }
    let header = header(message)?;
    let shape = Shape::of(message)?;
    let mut columns = Columns::of(message, &shape)?;
    let commits = commits(message, &header, &mut columns)?;

    at_most("bytes in one text", message.texts.iter().map(String::len).max().unwrap_or(0), TEXT_BYTES_MAX)?;
    let texts: Vec<Arc<str>> = message.texts.iter().map(|text| Arc::from(text.as_str())).collect();
    let mut readings = Vec::with_capacity(shape.readings);
    for table in &message.tables {
        let known = Known { message, commits: &commits, texts: &texts };
        decode_table(table, known, &mut columns, &mut readings)?;
    }
    readings.sort_by_key(|reading| (reading.sequence, reading.index));
    let thinned = thinned::decode(message, &header, &mut columns, &texts)?;
    let gaps = message.gaps.iter().map(|gap| decode_gap(gap, &header)).collect::<Result<_, _>>()?;
    let offsets = message.clock_offsets.iter();
    let clock_offsets = offsets.map(|offset| decode_clock_offset(offset, &header)).collect::<Result<_, _>>()?;
    Ok(DecodedBatch { header, commits, readings, thinned, gaps, clock_offsets })
}

/// How large the batch claims to be, checked.
struct Shape {
    readings: usize,
    columns: usize,
}

impl Shape {
    fn of(message: &wire::Batch) -> Result<Self, DecodeError> {
        let (mut readings, mut columns) = (0_usize, COMMIT_COLUMNS);
        let mut numbers = message.commits as usize * COMMIT_COLUMNS;
        for table in &message.tables {
            let rows = table.rows as usize;
            readings = readings.saturating_add(rows.saturating_mul(table.series.len()));
            numbers = numbers.saturating_add(rows.saturating_mul(ROW_COLUMNS));
            columns += ROW_COLUMNS + table.series.len();
        }
        for thinned in &message.thinned {
            let aggregates = thinned.aggregates as usize;
            readings = readings.saturating_add(aggregates.saturating_mul(thinned::WEIGHT));
            numbers = numbers.saturating_add(aggregates.saturating_mul(thinned::COLUMNS));
            columns += thinned::COLUMNS;
        }
        at_most("readings", readings, READINGS_MAX)?;
        at_most("numbers", numbers, NUMBERS_MAX - READINGS_MAX)?;
        Ok(Self { readings, columns })
    }
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), DecodeError> {
    if count > limit { Err(DecodeError::TooLarge { what, limit }) } else { Ok(()) }
}

/// The columns in their order; each is unpacked when it is asked for.
pub(super) struct Columns<'a> {
    wire: &'a wire::Columns,
    groups: Vec<std::vec::IntoIter<i64>>,
    /// For each column the position of its qualities in the message.
    qualities: Vec<Option<usize>>,
    next: usize,
}

impl<'a> Columns<'a> {
    fn of(message: &'a wire::Batch, shape: &Shape) -> Result<Self, DecodeError> {
        let wire = message.columns.as_ref().ok_or_else(|| DecodeError::damaged("no columns"))?;
        if wire.base.len() != shape.columns {
            return Err(DecodeError::damaged(format!("{} columns for {} series", wire.base.len(), shape.columns)));
        }
        let total: usize = message.groups.iter().map(|group| group.count as usize).sum();
        at_most("numbers", total, NUMBERS_MAX)?;
        let groups = message.groups.iter().map(unpack).collect::<Result<_, _>>()?;

        let mut qualities = vec![None; shape.columns];
        let mut free = 0;
        for (position, quality) in message.qualities.iter().enumerate() {
            let first = quality.first_column as usize;
            let end = first.saturating_add(quality.count as usize);
            let named = qualities.get_mut(first..end).filter(|_| first >= free);
            named.ok_or_else(|| DecodeError::damaged("qualities of no column"))?.fill(Some(position));
            free = end;
        }
        Ok(Self { wire, groups, qualities, next: 0 })
    }

    /// Meaning and numbers of the next column, which has `count` of them.
    pub fn take(&mut self, count: usize) -> Result<(wire::Kind, u32, Vec<i64>), DecodeError> {
        let column = self.next;
        self.next += 1;
        let kind = at(&self.wire.kind, column)?;
        let kind = wire::Kind::try_from(kind).map_err(|_| DecodeError::damaged(format!("values of kind {kind}")))?;
        let fit = Fit {
            base: at(&self.wire.base, column)?,
            slope: at(&self.wire.slope, column)?,
            multiple: at(&self.wire.multiple, column)?.max(1).cast_signed(),
            cumulative: at(&self.wire.cumulative, column)? != 0,
        };
        let mut numbers = match at(&self.wire.group, column)? {
            0 => vec![0; count],
            number => self.residuals(number as usize - 1, count)?,
        };
        unfit(fit, &mut numbers);
        Ok((kind, at(&self.wire.decimals, column)?, numbers))
    }

    fn residuals(&mut self, group: usize, count: usize) -> Result<Vec<i64>, DecodeError> {
        let group = self.groups.get_mut(group).ok_or_else(|| DecodeError::damaged("a column without its group"))?;
        if group.len() < count {
            return Err(DecodeError::damaged("a group with too few numbers"));
        }
        Ok(group.by_ref().take(count).collect())
    }
}

/// The number of a column; a field without numbers stands for all zeroes.
fn at<T: Copy + Default>(field: &[T], column: usize) -> Result<T, DecodeError> {
    match field.get(column) {
        Some(number) => Ok(*number),
        None if field.is_empty() => Ok(T::default()),
        None => Err(DecodeError::damaged("fewer numbers than columns")),
    }
}

fn unpack(group: &wire::Group) -> Result<std::vec::IntoIter<i64>, DecodeError> {
    let count = group.count as usize;
    let numbers = match wire::NumberType::try_from(group.r#type) {
        Ok(wire::NumberType::I16) => unpack_as::<i16>(&group.pco, count),
        Ok(wire::NumberType::I32) => unpack_as::<i32>(&group.pco, count),
        Ok(wire::NumberType::I64) => unpack_as::<i64>(&group.pco, count),
        Err(_) => return Err(DecodeError::damaged(format!("numbers of type {}", group.r#type))),
    };
    Ok(numbers.map_err(|error| DecodeError::damaged(format!("pco: {error}")))?.into_iter())
}

fn unpack_as<T: Number + Default + Into<i64>>(pco: &[u8], count: usize) -> pco::errors::PcoResult<Vec<i64>> {
    let mut numbers = vec![T::default(); count];
    if count > 0 {
        let (file, rest) = FileDecompressor::new(pco)?;
        let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        chunk.page_decompressor(rest, count)?.read(&mut numbers)?;
    }
    Ok(numbers.into_iter().map(Into::into).collect())
}

fn commits(
    message: &wire::Batch,
    header: &BatchHeader,
    columns: &mut Columns<'_>,
) -> Result<Vec<CommitHeader>, DecodeError> {
    let count = message.commits as usize;
    let sequences = columns.take(count)?.2;
    let boots = columns.take(count)?.2;
    let clocks = columns.take(count)?.2;
    let offsets = columns.take(count)?.2;
    let commit = |position: usize| {
        let sequence = Sequence(sequences[position].cast_unsigned());
        let boot = usize::try_from(boots[position]).ok().and_then(|boot| message.boots.get(boot));
        let boot = boot.and_then(|boot| <[u8; 16]>::try_from(boot.as_slice()).ok());
        Ok(CommitHeader {
            epoch: header.epoch,
            sequence: covered(sequence, header)?,
            boot: BootId(boot.ok_or_else(|| DecodeError::damaged("a commit without its boot"))?),
            clock: match clocks[position] {
                0 => ClockState::Synchronised,
                1 => ClockState::Unsynchronised,
                2 => ClockState::Local,
                other => return Err(DecodeError::damaged(format!("clock state {other}"))),
            },
            wall_minus_monotonic_ms: offsets[position],
        })
    };
    (0..count).map(commit).collect()
}

/// The sequence, which must be among those the batch covers.
pub(super) fn covered(sequence: Sequence, header: &BatchHeader) -> Result<Sequence, DecodeError> {
    if (header.first..=header.last).contains(&sequence) {
        Ok(sequence)
    } else {
        let (first, last) = (header.first, header.last);
        Err(DecodeError::damaged(format!("commit {sequence} in a batch that covers {first} to {last}")))
    }
}

/// The values of one series in a table, taken from row to row.
struct Series<'a> {
    id: SeriesId,
    kind: wire::Kind,
    decimals: u32,
    numbers: std::vec::IntoIter<i64>,
    qualities: Option<Qualities<'a>>,
}

/// Runs of qualities, taken from row to row.
#[derive(Clone)]
struct Qualities<'a> {
    runs: std::iter::Zip<std::slice::Iter<'a, u32>, std::slice::Iter<'a, u32>>,
    code: u32,
    left: u32,
}

impl Iterator for Qualities<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            (self.code, self.left) = self.runs.next().map(|(code, rows)| (*code, *rows))?;
        }
        self.left -= 1;
        Some(self.code)
    }
}

/// What all tables of a batch refer to.
#[derive(Clone, Copy)]
struct Known<'a> {
    message: &'a wire::Batch,
    commits: &'a [CommitHeader],
    texts: &'a [Arc<str>],
}

fn decode_table(
    table: &wire::Table,
    known: Known<'_>,
    columns: &mut Columns<'_>,
    readings: &mut Vec<DecodedReading>,
) -> Result<(), DecodeError> {
    let rows = table.rows as usize;
    let which = columns.take(rows)?.2;
    let indexes = columns.take(rows)?.2;
    let times = columns.take(rows)?.2;
    let mut id = 0_i64;
    let mut all_series = Vec::with_capacity(table.series.len());
    for step in &table.series {
        id = id.wrapping_add(*step);
        all_series.push(series(known.message, id, rows, columns)?);
    }
    for row in 0..rows {
        let commit = usize::try_from(which[row]).ok().and_then(|commit| known.commits.get(commit));
        let sequence = commit.ok_or_else(|| DecodeError::damaged("a row without its commit"))?.sequence;
        let time = Timestamp(known.message.base_time_ms.wrapping_add(times[row]));
        for (position, series) in all_series.iter_mut().enumerate() {
            let index = indexes[row].checked_add_unsigned(position as u64).and_then(|index| u32::try_from(index).ok());
            let index = index.ok_or_else(|| DecodeError::damaged("an index that is none"))?;
            if let Some(observed) = series.next(known.texts)? {
                readings.push(DecodedReading { sequence, index, series: series.id, time, observed });
            }
        }
    }
    Ok(())
}

fn series<'a>(
    message: &'a wire::Batch,
    id: i64,
    rows: usize,
    columns: &mut Columns<'_>,
) -> Result<Series<'a>, DecodeError> {
    let id = u32::try_from(id).map(SeriesId).map_err(|_| DecodeError::damaged(format!("series {id}")))?;
    let quality = columns.qualities.get(columns.next).copied().flatten().map(|position| &message.qualities[position]);
    let mut values = rows;
    if let Some(quality) = quality {
        // No more runs than rows: what many columns share must not cost more than they hold.
        let runs = quality.rows.len();
        let length: u64 = quality.rows.iter().take(rows).map(|run| u64::from(*run)).sum();
        if length != rows as u64 || runs > rows || runs != quality.code.len() {
            return Err(DecodeError::damaged("qualities that do not fit their table"));
        }
        let runs = quality.code.iter().zip(&quality.rows);
        values = runs.filter(|(code, _)| has_value(**code)).map(|(_, rows)| *rows as usize).sum();
    }
    let (kind, decimals, numbers) = columns.take(values)?;
    let qualities = quality.map(|quality| Qualities { runs: quality.code.iter().zip(&quality.rows), code: 0, left: 0 });
    Ok(Series { id, kind, decimals, numbers: numbers.into_iter(), qualities })
}

fn has_value(code: u32) -> bool {
    let quality = u16::try_from(code).ok().and_then(Quality::from_code);
    quality.is_some_and(|quality| quality.fault().is_none())
}

impl Series<'_> {
    /// What was observed in the next row; nothing when the reading was withheld.
    fn next(&mut self, texts: &[Arc<str>]) -> Result<Option<Observed>, DecodeError> {
        let code = match &mut self.qualities {
            None => 0,
            Some(qualities) => qualities.next().unwrap_or(0),
        };
        if code == wire::WITHHELD {
            return Ok(None);
        }
        let quality = u16::try_from(code).ok().and_then(Quality::from_code);
        let quality = quality.ok_or_else(|| DecodeError::damaged(format!("quality {code:#x}")))?;
        let number = if quality.fault().is_none() { self.numbers.next() } else { None };
        let value = number.map(|number| value(self.kind, self.decimals, number, texts)).transpose()?;
        quality.observe(value).map(Some).ok_or_else(|| DecodeError::damaged("a quality that does not fit its value"))
    }
}

/// The value that an integer of a column of this kind stands for.
pub(super) fn value(kind: wire::Kind, decimals: u32, number: i64, texts: &[Arc<str>]) -> Result<Value, DecodeError> {
    let power = || power_of_ten(decimals - 1);
    Ok(match kind {
        wire::Kind::Int => Value::Int(number),
        wire::Kind::Uint => Value::Uint(number.cast_unsigned()),
        wire::Kind::Float32 if decimals == 0 => Value::F32(f32::from_ordered(number)),
        wire::Kind::Float32 => Value::F32(f32::from_decimal(number, power())),
        wire::Kind::Float64 if decimals == 0 => Value::F64(f64::from_ordered(number)),
        wire::Kind::Float64 => Value::F64(f64::from_decimal(number, power())),
        wire::Kind::Bool => Value::Bool(number != 0),
        wire::Kind::Text => {
            let text = usize::try_from(number).ok().and_then(|number| texts.get(number));
            Value::Text(Arc::clone(text.ok_or_else(|| DecodeError::damaged("a text that is not there"))?))
        }
    })
}

fn header(message: &wire::Batch) -> Result<BatchHeader, DecodeError> {
    let name = |raw: &str| Name::new(raw).map_err(|error| DecodeError::Foreign(format!("name {raw:?}: {error}")));
    let epoch = <[u8; 16]>::try_from(message.epoch.as_slice());
    Ok(BatchHeader {
        site: name(&message.site)?,
        gateway: name(&message.gateway)?,
        epoch: Epoch(epoch.map_err(|_| DecodeError::damaged("an epoch that is not 16 bytes"))?),
        lane: lane(message.lane)?,
        first: Sequence(message.first_sequence),
        last: Sequence(message.last_sequence),
        oldest_undelivered: Sequence(message.oldest_undelivered),
        order: match wire::Order::try_from(message.order) {
            Ok(wire::Order::Live) => Order::Live,
            Ok(wire::Order::Backlog) => Order::Backlog,
            Err(_) => return Err(DecodeError::damaged(format!("order {}", message.order))),
        },
        part: message.part.map(|part| Part { first_index: part.first_index, end_index: part.end_index }),
    })
}

fn lane(code: i32) -> Result<Lane, DecodeError> {
    match wire::Lane::try_from(code) {
        Ok(wire::Lane::Alarms) => Ok(Lane::Alarms),
        Ok(wire::Lane::Telemetry) => Ok(Lane::Telemetry),
        Err(_) => Err(DecodeError::damaged(format!("lane {code}"))),
    }
}

fn decode_clock_offset(
    offset: &wire::ClockOffset,
    header: &BatchHeader,
) -> Result<(Sequence, ClockOffset), DecodeError> {
    let boot = offset.boot.as_slice().try_into();
    let boot = boot.map_err(|_| DecodeError::damaged("a boot that is not 16 bytes"))?;
    let known = ClockOffset {
        boot: BootId(boot),
        monotonic_ms: offset.monotonic_ms,
        wall_minus_monotonic_ms: offset.wall_minus_monotonic_ms,
    };
    Ok((covered(Sequence(offset.sequence), header)?, known))
}

fn decode_gap(gap: &wire::Gap, header: &BatchHeader) -> Result<(Sequence, Gap), DecodeError> {
    let reason = match wire::GapReason::try_from(gap.reason) {
        Ok(wire::GapReason::StoreFull) => GapReason::StoreFull,
        Ok(wire::GapReason::Damaged) => GapReason::Damaged,
        Ok(wire::GapReason::TooLarge) => GapReason::TooLarge,
        Ok(wire::GapReason::NotWritable) => GapReason::NotWritable,
        Err(_) => return Err(DecodeError::damaged(format!("gap reason {}", gap.reason))),
    };
    let lost = Gap {
        lane: lane(gap.lane)?,
        first: Sequence(gap.first_lost),
        last: Sequence(gap.last_lost),
        records: gap.records,
        first_time: Timestamp(gap.first_time_ms),
        last_time: Timestamp(gap.last_time_ms),
        reason,
    };
    Ok((covered(Sequence(gap.sequence), header)?, lost))
}
