//! Readings as columns: what is alike stands together, so that little is left after compression.
//!
//! ```text
//! shapes      count; each: length, runs of series ids, runs of kinds
//! rows        count; shape of each; time of each, less the time of the one before
//! exceptions  count; each: readings skipped, readings covered, quality code
//! sizes       bytes of ints, of uints; number of f32, f64, bools; bytes of texts
//! values      ints, uints, f32 and f64 byte by byte of significance, bools as bits, texts
//! ```
//!
//! Bad readings have no value. A position of a shape that never had a value has the kind [`UNKNOWN`].

use std::collections::{HashMap, HashSet};

use super::SharedShape;
use super::stored::{StoredExceptions, StoredValues};
use crate::buffer::varint::{self, Malformed, Reader};
use crate::model::{Observed, Quality, Row, SeriesId, Timestamp, Value, ValueKind};

/// Kind of a position that never had a value in this commit.
const UNKNOWN: u8 = u8::MAX;

/// Shapes remembered between commits so that their rows share one allocation: more than a plant has blocks.
const SHAPES_REMEMBERED: usize = 4096;

/// Memory for both directions, reused from commit to commit.
#[derive(Debug, Default)]
pub struct Columns {
    shapes: Vec<Shape>,
    /// Valid while the rows are borrowed: rows of one shape share its address.
    newest_by_address: HashMap<usize, usize>,
    row_shapes: Vec<u8>,
    row_times: Vec<u8>,
    exceptions: Exceptions,
    values: Values,
    known: HashSet<SharedShape>,
}

#[derive(Debug)]
struct Shape {
    series: SharedShape,
    kinds: Vec<u8>,
}

#[derive(Debug, Default)]
struct Values {
    ints: Vec<u8>,
    uints: Vec<u8>,
    f32s: Vec<u32>,
    f64s: Vec<u64>,
    bools: Vec<bool>,
    texts: Vec<u8>,
}

/// Runs of readings that are not simply good.
#[derive(Debug, Default)]
struct Exceptions {
    runs: Vec<u8>,
    count: u64,
    /// Begin, end and code of the run that is still growing.
    open: Option<(u64, u64, u16)>,
    written_to: u64,
}

impl Columns {
    /// Appends `rows` as columns.
    pub fn encode(&mut self, rows: &[Row], out: &mut Vec<u8>) {
        self.clear();
        let mut time = rows.iter().map(|row| row.time).min().unwrap_or_default();
        let mut index = 0;
        for row in rows {
            let shape = self.shape_of(row);
            varint::put(&mut self.row_shapes, shape as u64);
            varint::put_signed(&mut self.row_times, row.time.0.wrapping_sub(time.0));
            time = row.time;
            for observed in &row.observed {
                match observed {
                    Observed::Good(value) => self.values.push(value),
                    Observed::Uncertain(value, doubt) => {
                        self.values.push(value);
                        self.exceptions.push(index, Quality::from(*doubt).code());
                    }
                    Observed::Bad(fault) => self.exceptions.push(index, Quality::from(*fault).code()),
                }
                index += 1;
            }
        }
        self.exceptions.close_run();
        varint::put(out, self.shapes.len() as u64);
        self.shapes.iter().for_each(|shape| shape.encode(out));
        varint::put(out, rows.len() as u64);
        out.extend(&self.row_shapes);
        out.extend(&self.row_times);
        varint::put(out, self.exceptions.count);
        out.extend(&self.exceptions.runs);
        self.values.encode(out);
        self.shapes.clear();
    }

    fn clear(&mut self) {
        self.shapes.clear();
        self.newest_by_address.clear();
        self.row_shapes.clear();
        self.row_times.clear();
        self.exceptions.clear();
        self.values.clear();
    }

    /// The shape of `row`: its series with kinds that fit its values.
    fn shape_of(&mut self, row: &Row) -> usize {
        let address = row.series.as_ptr().addr();
        if let Some(&newest) = self.newest_by_address.get(&address) {
            if self.shapes[newest].takes(row) {
                return newest;
            }
            // Rare: a series whose values change their kind.
            let same_series = |shape: &Shape| shape.series.as_ptr().addr() == address;
            let earlier = (0..newest).find(|at| same_series(&self.shapes[*at]) && self.shapes[*at].takes(row));
            if let Some(earlier) = earlier {
                return earlier;
            }
        }
        let mut shape = Shape { series: row.series.clone(), kinds: vec![UNKNOWN; row.series.len()] };
        shape.takes(row);
        self.shapes.push(shape);
        self.newest_by_address.insert(address, self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    /// The rows that `body` holds: `records` readings, the first time relative to `first_time`.
    pub fn decode(&mut self, body: &[u8], records: usize, first_time: Timestamp) -> Result<Vec<Row>, Malformed> {
        let mut reader = Reader::new(body);
        self.read_shapes(&mut reader, records)?;
        let count = reader.count(records)?;
        let mut rows = Vec::with_capacity(count);
        let mut length = 0;
        for _ in 0..count {
            let shape = reader.count(self.shapes.len().checked_sub(1).ok_or(Malformed("row without shape"))?)?;
            length += self.shapes[shape].kinds.len();
            rows.push((shape, Timestamp(0)));
        }
        if length != records {
            return Err(Malformed("rows do not add up"));
        }
        let mut time = first_time.0;
        for row in &mut rows {
            time = time.wrapping_add(reader.signed()?);
            row.1 = Timestamp(time);
        }
        let mut exceptions = StoredExceptions::read(&mut reader, records)?;
        let mut values = StoredValues::read(&mut reader, records)?;
        reader.finish()?;
        let decoded = rows
            .into_iter()
            .map(|(shape, time)| self.shapes[shape].read_row(time, &mut exceptions, &mut values))
            .collect::<Result<Vec<Row>, Malformed>>()?;
        values.finish()?;
        Ok(decoded)
    }

    fn read_shapes(&mut self, reader: &mut Reader<'_>, records: usize) -> Result<(), Malformed> {
        if self.known.len() > SHAPES_REMEMBERED {
            self.known.clear();
        }
        self.shapes.clear();
        // Every shape has a row, so that together they are no longer than the readings.
        let mut left = records;
        for _ in 0..reader.count(records)? {
            let shape = Shape::decode(reader, left, &mut self.known)?;
            left -= shape.kinds.len();
            self.shapes.push(shape);
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn shapes_known(&self) -> usize {
        self.known.len()
    }
}

impl Shape {
    /// Whether the values of `row` have the kinds of this shape; kinds not yet known become known.
    fn takes(&mut self, row: &Row) -> bool {
        if self.kinds.len() != row.observed.len() {
            return false;
        }
        let mut unknown = false;
        for (kind, observed) in self.kinds.iter().zip(&row.observed) {
            if let Some(value) = observed.value() {
                let fits = *kind == kind_code(value.kind());
                unknown |= *kind == UNKNOWN;
                if !fits && *kind != UNKNOWN {
                    return false;
                }
            }
        }
        if unknown {
            for (kind, observed) in self.kinds.iter_mut().zip(&row.observed) {
                if let Some(value) = observed.value() {
                    *kind = kind_code(value.kind());
                }
            }
        }
        true
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.kinds.len() as u64);
        let mut expected = 0;
        for run in self.series.chunk_by(|left, right| left.0.checked_add(1) == Some(right.0)) {
            varint::put_signed(out, i64::from(run[0].0) - expected);
            varint::put(out, run.len() as u64);
            expected = i64::from(run[0].0) + run.len() as i64;
        }
        for run in self.kinds.chunk_by(|left, right| left == right) {
            out.push(run[0]);
            varint::put(out, run.len() as u64);
        }
    }

    fn decode(reader: &mut Reader<'_>, longest: usize, known: &mut HashSet<SharedShape>) -> Result<Self, Malformed> {
        let length = reader.count(longest)?;
        let mut series = Vec::with_capacity(length);
        let mut expected = 0_i64;
        while series.len() < length {
            let first = expected.checked_add(reader.signed()?).ok_or(Malformed("series id out of range"))?;
            let run = reader.count(length - series.len())?;
            let first = u32::try_from(first).map_err(|_| Malformed("series id out of range"))?;
            let last = (run as u32).checked_sub(1).and_then(|more| first.checked_add(more));
            series.extend((first..=last.ok_or(Malformed("series ids out of range"))?).map(SeriesId));
            expected = i64::from(first) + run as i64;
        }
        let mut kinds = Vec::with_capacity(length);
        while kinds.len() < length {
            let [kind] = reader.array()?;
            if kind != UNKNOWN && kind > kind_code(ValueKind::Text) {
                return Err(Malformed("no such kind of value"));
            }
            let run = reader.count(length - kinds.len())?;
            if run == 0 {
                return Err(Malformed("empty run"));
            }
            kinds.resize(kinds.len() + run, kind);
        }
        let series = match known.get(series.as_slice()) {
            Some(shared) => shared.clone(),
            None => {
                let shared = SharedShape::from(series);
                known.insert(shared.clone());
                shared
            }
        };
        Ok(Self { series, kinds })
    }

    fn read_row(
        &self,
        time: Timestamp,
        exceptions: &mut StoredExceptions<'_>,
        values: &mut StoredValues<'_>,
    ) -> Result<Row, Malformed> {
        let mut observed = Vec::with_capacity(self.kinds.len());
        for kind in &self.kinds {
            observed.push(match exceptions.next()? {
                None => Observed::Good(values.next(*kind)?),
                Some(quality) => match (quality.doubt(), quality.fault()) {
                    (Some(doubt), _) => Observed::Uncertain(values.next(*kind)?, doubt),
                    (None, Some(fault)) => Observed::Bad(fault),
                    (None, None) => return Err(Malformed("good is no exception")),
                },
            });
        }
        Ok(Row { series: self.series.clone(), time, observed })
    }
}

impl Values {
    #[inline]
    fn push(&mut self, value: &Value) {
        match value {
            Value::Int(value) => varint::put_signed(&mut self.ints, *value),
            Value::Uint(value) => varint::put(&mut self.uints, *value),
            Value::F32(value) => self.f32s.push(value.to_bits()),
            Value::F64(value) => self.f64s.push(value.to_bits()),
            Value::Bool(value) => self.bools.push(*value),
            Value::Text(text) => {
                varint::put(&mut self.texts, text.len() as u64);
                self.texts.extend(text.as_bytes());
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let sizes = [&self.ints, &self.uints].map(Vec::len).into_iter().chain([self.f32s.len(), self.f64s.len()]);
        for size in sizes.chain([self.bools.len(), self.texts.len()]) {
            varint::put(out, size as u64);
        }
        out.extend(&self.ints);
        out.extend(&self.uints);
        for plane in 0..4 {
            out.extend(self.f32s.iter().map(|bits| (bits >> (8 * plane)) as u8));
        }
        for plane in 0..8 {
            out.extend(self.f64s.iter().map(|bits| (bits >> (8 * plane)) as u8));
        }
        let packed = |bools: &[bool]| bools.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        out.extend(self.bools.chunks(8).map(packed));
        out.extend(&self.texts);
    }

    fn clear(&mut self) {
        self.ints.clear();
        self.uints.clear();
        self.f32s.clear();
        self.f64s.clear();
        self.bools.clear();
        self.texts.clear();
    }
}

impl Exceptions {
    fn push(&mut self, index: u64, code: u16) {
        match &mut self.open {
            Some((_, end, open_code)) if *end == index && *open_code == code => *end += 1,
            Some(_) | None => {
                self.close_run();
                self.open = Some((index, index + 1, code));
            }
        }
    }

    fn close_run(&mut self) {
        if let Some((begin, end, code)) = self.open.take() {
            varint::put(&mut self.runs, begin - self.written_to);
            varint::put(&mut self.runs, end - begin);
            varint::put(&mut self.runs, u64::from(code));
            self.written_to = end;
            self.count += 1;
        }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.count = 0;
        self.open = None;
        self.written_to = 0;
    }
}

fn kind_code(kind: ValueKind) -> u8 {
    match kind {
        ValueKind::Int => 0,
        ValueKind::Uint => 1,
        ValueKind::F32 => 2,
        ValueKind::F64 => 3,
        ValueKind::Bool => 4,
        ValueKind::Text => 5,
    }
}
