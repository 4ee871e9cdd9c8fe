//! Aggregates as columns.
//!
//! ```text
//! replaces    count; each: commits skipped, commits less one, readings
//! aggregates  each: series, less the one before; window, less the one before; readings with and without a value;
//!             time of the newest value since the beginning of the window; kind of the summary
//! integers    bytes; for each summary of integers: minimum, less the one before; maximum and newest, less the minimum
//! singles     count; minimum, maximum, newest, byte by byte of significance
//! doubles     the same in double precision
//! means       count; place of the mean between minimum and maximum in parts of 2^32
//! texts       bytes; each with its length
//! ```
//!
//! Numbers that a whole number or single precision can hold exactly are kept so.

use std::cmp::Ordering;

use super::stored::Planes;
use crate::buffer::varint::{self, Malformed, Reader};
use crate::model::thinned::mean_place;
use crate::model::{Aggregate, Replaced, Sequence, SeriesId, Summary, Thinned, Timestamp, Window};

const NOTHING: u8 = 0;
const INTEGERS: u8 = 1;
const SINGLES: u8 = 2;
const DOUBLES: u8 = 3;
const TEXT: u8 = 4;

/// The largest whole number up to which a double holds all of them.
const WHOLE_MAX: f64 = (1_u64 << 53) as f64;

#[derive(Default)]
struct Values {
    integers: Vec<u8>,
    integer_before: i64,
    singles: Vec<u32>,
    doubles: Vec<u64>,
    means: Vec<u32>,
    texts: Vec<u8>,
}

/// Appends `thinned` as columns.
pub fn encode(thinned: &Thinned, out: &mut Vec<u8>) {
    varint::put(out, thinned.replaces.len() as u64);
    let mut end = 0;
    for Replaced { first, last, readings } in &thinned.replaces {
        varint::put(out, first.0 - end);
        varint::put(out, last.0 - first.0);
        varint::put(out, *readings);
        end = last.0;
    }
    let length_ms = i64::from(thinned.window.seconds()) * 1000;
    let (mut series, mut window) = (0, 0);
    let mut values = Values::default();
    for aggregate in &thinned.aggregates {
        let this_window = aggregate.start.0.div_euclid(length_ms);
        varint::put_signed(out, i64::from(aggregate.series.0) - series);
        varint::put_signed(out, this_window.wrapping_sub(window));
        varint::put(out, aggregate.count.into());
        varint::put(out, aggregate.bad.into());
        varint::put_signed(out, aggregate.last_time.0.wrapping_sub(aggregate.start.0));
        out.push(values.push(&aggregate.summary));
        (series, window) = (aggregate.series.0.into(), this_window);
    }
    values.encode(out);
}

impl Values {
    /// Takes the numbers of `summary` and returns its kind.
    fn push(&mut self, summary: &Summary) -> u8 {
        let (min, max, mean, last) = match summary {
            Summary::Nothing => return NOTHING,
            Summary::Text(text) => {
                varint::put(&mut self.texts, text.len() as u64);
                self.texts.extend(text.as_bytes());
                return TEXT;
            }
            Summary::Numbers { min, max, mean, last } => (*min, *max, *mean, *last),
        };
        self.means.push(mean_place(min, max, mean));
        let numbers = [min, max, last];
        if numbers.iter().all(|number| is_whole(*number)) {
            varint::put_signed(&mut self.integers, (min as i64).wrapping_sub(self.integer_before));
            varint::put_signed(&mut self.integers, (max as i64).wrapping_sub(min as i64));
            varint::put_signed(&mut self.integers, (last as i64).wrapping_sub(min as i64));
            self.integer_before = min as i64;
            INTEGERS
        } else if numbers.iter().all(|number| number_of((*number as f32).to_bits()) == Some(*number)) {
            self.singles.extend(numbers.map(|number| (number as f32).to_bits()));
            SINGLES
        } else {
            self.doubles.extend(numbers.map(f64::to_bits));
            DOUBLES
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.integers.len() as u64);
        out.extend(&self.integers);
        varint::put(out, self.singles.len() as u64);
        for plane in 0..4 {
            out.extend(self.singles.iter().map(|bits| (bits >> (8 * plane)) as u8));
        }
        varint::put(out, self.doubles.len() as u64);
        for plane in 0..8 {
            out.extend(self.doubles.iter().map(|bits| (bits >> (8 * plane)) as u8));
        }
        varint::put(out, self.means.len() as u64);
        for plane in 0..4 {
            out.extend(self.means.iter().map(|part| (part >> (8 * plane)) as u8));
        }
        varint::put(out, self.texts.len() as u64);
        out.extend(&self.texts);
    }
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() <= WHOLE_MAX && !(number == 0.0 && number.is_sign_negative())
}

/// The number that a single stands for: the one that reads like it.
fn number_of(single: u32) -> Option<f64> {
    crate::model::Value::F32(f32::from_bits(single)).number()
}

/// The aggregates that `body` holds: `count` of them.
pub fn decode(body: &[u8], count: usize, window: Window) -> Result<Thinned, Malformed> {
    let mut reader = Reader::new(body);
    let replaces = decode_replaces(&mut reader)?;
    let length_ms = i64::from(window.seconds()) * 1000;
    let (mut series, mut at) = (0_i64, 0_i64);
    let mut aggregates = Vec::with_capacity(count.min(reader.len()));
    let mut kinds = Vec::with_capacity(count.min(reader.len()));
    for _ in 0..count {
        series = series.wrapping_add(reader.signed()?);
        at = at.wrapping_add(reader.signed()?);
        let start = Timestamp(at.wrapping_mul(length_ms));
        aggregates.push(Aggregate {
            series: SeriesId(u32::try_from(series).map_err(|_| Malformed("series out of range"))?),
            start,
            count: reader.count(u32::MAX as usize)? as u32,
            bad: reader.count(u32::MAX as usize)? as u32,
            last_time: Timestamp(start.0.wrapping_add(reader.signed()?)),
            summary: Summary::Nothing,
        });
        kinds.push(reader.array::<1>()?[0]);
    }
    let mut values = StoredValues::read(&mut reader, count)?;
    reader.finish()?;
    for (aggregate, kind) in aggregates.iter_mut().zip(kinds) {
        aggregate.summary = values.next(kind)?;
    }
    values.finish()?;
    Ok(Thinned { window, replaces, aggregates })
}

fn decode_replaces(reader: &mut Reader<'_>) -> Result<Vec<Replaced>, Malformed> {
    let count = reader.count(reader.len() / 3)?;
    let mut end = 0_u64;
    let mut replaces = Vec::with_capacity(count);
    for _ in 0..count {
        let first = end.checked_add(reader.number()?).ok_or(Malformed("sequence too high"))?;
        let last = first.checked_add(reader.number()?).ok_or(Malformed("sequence too high"))?;
        replaces.push(Replaced { first: Sequence(first), last: Sequence(last), readings: reader.number()? });
        end = last;
    }
    Ok(replaces)
}

struct StoredValues<'a> {
    integers: Reader<'a>,
    integer_before: i64,
    singles: Planes<'a, 4>,
    doubles: Planes<'a, 8>,
    means: Planes<'a, 4>,
    texts: Reader<'a>,
}

impl<'a> StoredValues<'a> {
    fn read(reader: &mut Reader<'a>, count: usize) -> Result<Self, Malformed> {
        let integers = reader.count(reader.len())?;
        let integers = Reader::new(reader.bytes(integers)?);
        let singles = reader.count(3 * count)?;
        let singles = Planes::read(reader, singles)?;
        let doubles = reader.count(3 * count)?;
        let doubles = Planes::read(reader, doubles)?;
        let means = reader.count(count)?;
        let means = Planes::read(reader, means)?;
        let texts = reader.count(reader.len())?;
        let texts = Reader::new(reader.bytes(texts)?);
        Ok(Self { integers, integer_before: 0, singles, doubles, means, texts })
    }

    fn next(&mut self, kind: u8) -> Result<Summary, Malformed> {
        let [min, max, last] = match kind {
            NOTHING => return Ok(Summary::Nothing),
            TEXT => {
                let length = self.texts.count(self.texts.len())?;
                let text = std::str::from_utf8(self.texts.bytes(length)?);
                return Ok(Summary::Text(text.map_err(|_| Malformed("text is not UTF-8"))?.into()));
            }
            INTEGERS => self.next_integers()?,
            SINGLES => {
                let mut next = || {
                    let bits = u32::from_le_bytes(self.singles.next()?);
                    number_of(bits).ok_or(Malformed("not a number"))
                };
                [next()?, next()?, next()?]
            }
            DOUBLES => {
                let mut next = || Ok::<_, Malformed>(f64::from_le_bytes(self.doubles.next()?));
                [next()?, next()?, next()?]
            }
            _ => return Err(Malformed("summary of unknown kind")),
        };
        if min.partial_cmp(&max).is_none_or(Ordering::is_gt) {
            return Err(Malformed("minimum above maximum"));
        }
        let place = u32::from_le_bytes(self.means.next()?);
        Ok(Summary::with_mean_at(place, min, max, last))
    }

    fn next_integers(&mut self) -> Result<[f64; 3], Malformed> {
        let min = self.integer_before.wrapping_add(self.integers.signed()?);
        self.integer_before = min;
        let max = min.wrapping_add(self.integers.signed()?);
        let last = min.wrapping_add(self.integers.signed()?);
        Ok([min as f64, max as f64, last as f64])
    }

    fn finish(&self) -> Result<(), Malformed> {
        self.integers.finish()?;
        self.texts.finish()?;
        let rest = self.singles.left() + self.doubles.left() + self.means.left();
        if rest == 0 { Ok(()) } else { Err(Malformed("values left over")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summary() -> impl Strategy<Value = Summary> {
        let number = prop_oneof![
            (-1_000_000_i64..1_000_000).prop_map(|whole| whole as f64),
            (-1_000_000_i32..1_000_000).prop_map(|tenths| f64::from(tenths) / 10.0),
            prop::num::f64::NORMAL,
        ];
        prop_oneof![
            Just(Summary::Nothing),
            "[a-zé]{0,5}".prop_map(|text| Summary::Text(text.into())),
            ([number.clone(), number.clone(), number], any::<bool>()).prop_map(|([a, b, last], low)| {
                let (min, max) = (a.min(b), a.max(b));
                Summary::Numbers { min, max, mean: if low { min } else { max }, last }
            }),
        ]
    }

    fn aggregate() -> impl Strategy<Value = Aggregate> {
        (any::<u32>(), -5_000_i64..50_000, any::<[u32; 2]>(), 0_i64..600_000, summary()).prop_map(
            |(series, window, [count, bad], last, summary)| {
                let start = Timestamp(window * 60_000);
                Aggregate { series: SeriesId(series), start, count, bad, last_time: Timestamp(start.0 + last), summary }
            },
        )
    }

    proptest! {
        #[test]
        fn aggregates_survive(aggregates in prop::collection::vec(aggregate(), 0..20)) {
            let replaced = |first, last| Replaced { first: Sequence(first), last: Sequence(last), readings: 7 };
            let replaces = vec![replaced(3, 3), replaced(9, 400), replaced(1 << 40, 1 << 41)];
            let thinned = Thinned { window: Window::Minute, replaces, aggregates };
            let mut body = Vec::new();
            encode(&thinned, &mut body);

            prop_assert_eq!(decode(&body, thinned.aggregates.len(), Window::Minute), Ok(thinned));
        }

        #[test]
        fn any_bytes_are_aggregates_or_an_error(bytes: Vec<u8>, count in 0_usize..50) {
            let _ = decode(&bytes, count, Window::TenMinutes);
        }
    }
}
