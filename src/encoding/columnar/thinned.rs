//! Aggregates in the place of readings: their columns come after those of all tables.

use std::sync::Arc;

use super::decode::{Columns, covered};
use super::pack::Packer;
use super::table::{Ordered, Texts, push_doubles};
use crate::encoding::batch::{Batch, BatchHeader, DecodedThinned, count_u32};
use crate::encoding::{DecodeError, EncodeError, wire};
use crate::model::thinned::mean_place;
use crate::model::{Aggregate, Records, Replaced, Sequence, SeriesId, Summary, Timestamp, Value, Window};

/// Columns of one record of aggregates.
pub(super) const COLUMNS: usize = 12;

/// Readings that take a decoder as much memory as one aggregate.
pub(super) const WEIGHT: usize = 4;

const NOTHING: i64 = 0;
const NUMBERS: i64 = 1;
const TEXT: i64 = 2;

/// The columns of one record, as they are collected.
#[derive(Default)]
struct Collected {
    /// For each aggregate: index, series, start, values, readings without one, time of the newest, kind.
    heads: [Vec<i64>; 7],
    means: Vec<i64>,
    /// Minimum, maximum, newest.
    doubles: [Vec<i64>; 3],
    texts: Vec<i64>,
}

/// Hands the columns of all aggregates of `batch` to the packer.
pub(super) fn push<'a>(
    batch: &'a Batch,
    packer: &mut Packer,
    texts: &mut Texts<'a>,
) -> Result<Vec<wire::Thinned>, EncodeError> {
    let mut all = Vec::new();
    for (position, commit) in batch.commits.iter().enumerate() {
        let Records::Thinned(thinned) = &commit.records else { continue };
        let length_ms = i64::from(thinned.window.seconds()) * 1000;
        let mut collected = Collected::default();
        for (index, aggregate) in batch.aggregates(position, thinned) {
            collected.add(index, aggregate, length_ms, texts);
        }
        let aggregates = count_u32(collected.heads[0].len());
        collected.push(packer)?;
        all.push(wire::Thinned {
            sequence: commit.header.sequence.0,
            window_s: thinned.window.seconds(),
            first_replaced: thinned.replaces.iter().map(|replaced| replaced.first.0).collect(),
            last_replaced: thinned.replaces.iter().map(|replaced| replaced.last.0).collect(),
            readings_replaced: thinned.replaces.iter().map(|replaced| replaced.readings).collect(),
            aggregates,
        });
    }
    Ok(all)
}

impl Collected {
    fn add<'a>(&mut self, index: u32, aggregate: &'a Aggregate, length_ms: i64, texts: &mut Texts<'a>) {
        let kind = match &aggregate.summary {
            Summary::Nothing => NOTHING,
            Summary::Numbers { min, max, mean, last } => {
                for (column, number) in self.doubles.iter_mut().zip([min, max, last]) {
                    column.push(number.to_ordered());
                }
                self.means.push(mean_place(*min, *max, *mean).into());
                NUMBERS
            }
            Summary::Text(text) => {
                self.texts.push(texts.number(text) as i64);
                TEXT
            }
        };
        let head = [
            index.into(),
            aggregate.series.0.into(),
            aggregate.start.0.div_euclid(length_ms),
            aggregate.count.into(),
            aggregate.bad.into(),
            aggregate.last_time.0.wrapping_sub(aggregate.start.0),
            kind,
        ];
        self.heads.iter_mut().zip(head).for_each(|(column, number)| column.push(number));
    }

    fn push(&self, packer: &mut Packer) -> Result<(), EncodeError> {
        for column in self.heads.iter().chain([&self.means]) {
            packer.push(wire::Kind::Int, 0, column)?;
        }
        let mut wholes = Vec::new();
        for column in &self.doubles {
            push_doubles(column, &mut wholes, packer)?;
        }
        packer.push(wire::Kind::Text, 0, &self.texts)
    }
}

/// The aggregates of `message`, whose tables were taken from `columns` before.
pub(super) fn decode(
    message: &wire::Batch,
    header: &BatchHeader,
    columns: &mut Columns<'_>,
    texts: &[Arc<str>],
) -> Result<Vec<DecodedThinned>, DecodeError> {
    let mut all = message
        .thinned
        .iter()
        .map(|thinned| {
            let window = Window::from_seconds(thinned.window_s);
            let window = window.ok_or_else(|| DecodeError::damaged(format!("a window of {} s", thinned.window_s)))?;
            Ok(DecodedThinned {
                sequence: covered(Sequence(thinned.sequence), header)?,
                window,
                replaces: replaces(thinned)?,
                aggregates: aggregates(thinned, window, columns, texts)?,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(|thinned| thinned.sequence);
    Ok(all)
}

fn replaces(thinned: &wire::Thinned) -> Result<Vec<Replaced>, DecodeError> {
    let (first, last, readings) = (&thinned.first_replaced, &thinned.last_replaced, &thinned.readings_replaced);
    if first.len() != last.len() || first.len() != readings.len() {
        return Err(DecodeError::damaged("ranges without an end"));
    }
    let ranges = first.iter().zip(last).zip(readings);
    Ok(ranges
        .map(|((first, last), readings)| Replaced {
            first: Sequence(*first),
            last: Sequence(*last),
            readings: *readings,
        })
        .collect())
}

fn aggregates(
    thinned: &wire::Thinned,
    window: Window,
    columns: &mut Columns<'_>,
    texts: &[Arc<str>],
) -> Result<Vec<(u32, Aggregate)>, DecodeError> {
    let count = thinned.aggregates as usize;
    let mut heads: [Vec<i64>; 7] = Default::default();
    for head in &mut heads {
        *head = columns.take(count)?.2;
    }
    let [indexes, series, starts, counts, bad, last_times, kinds] = heads;
    let of_kind = |wanted: i64| kinds.iter().filter(|kind| **kind == wanted).count();
    let (numbers, text_count) = (of_kind(NUMBERS), of_kind(TEXT));
    let mut means = columns.take(numbers)?.2.into_iter();
    let mut doubles = [(); 3].map(|()| Vec::new().into_iter());
    for column in &mut doubles {
        let (kind, decimals, numbers) = columns.take(numbers)?;
        let values = numbers.into_iter().map(|number| super::decode::value(kind, decimals, number, texts));
        *column = values.collect::<Result<Vec<Value>, _>>()?.into_iter();
    }
    let mut said = columns.take(text_count)?.2.into_iter();
    let damaged = || DecodeError::damaged("an aggregate that is none");
    let length_ms = i64::from(window.seconds()) * 1000;
    let mut all = Vec::with_capacity(count);
    for at in 0..count {
        let mut double = || doubles.each_mut().map(|column| column.next().and_then(|value| value.number()));
        let summary = match kinds[at] {
            NOTHING => Summary::Nothing,
            NUMBERS => match (double(), means.next().and_then(|place| u32::try_from(place).ok())) {
                ([Some(min), Some(max), Some(last)], Some(place)) => Summary::with_mean_at(place, min, max, last),
                _ => return Err(damaged()),
            },
            TEXT => {
                let text = said.next().and_then(|number| texts.get(usize::try_from(number).ok()?));
                Summary::Text(Arc::clone(text.ok_or_else(damaged)?))
            }
            _ => return Err(damaged()),
        };
        let small = |number: i64| u32::try_from(number).map_err(|_| damaged());
        let start = Timestamp(starts[at].wrapping_mul(length_ms));
        let aggregate = Aggregate {
            series: SeriesId(small(series[at])?),
            start,
            count: small(counts[at])?,
            bad: small(bad[at])?,
            last_time: Timestamp(start.0.wrapping_add(last_times[at])),
            summary,
        };
        all.push((small(indexes[at])?, aggregate));
    }
    Ok(all)
}
