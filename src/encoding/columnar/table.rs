//! Rows of one shape as a table: which rows go where, and the integers of each column.

use std::collections::HashMap;

use super::super::{EncodeError, wire};
use super::pack::Packer;
use crate::encoding::Withheld;
use crate::encoding::batch::{Batch, count_u32};
use crate::model::{Observed, Quality, Records, Row, SeriesId, Timestamp, Value, ValueKind};

/// A table is closed at this many readings: bounds the memory in which it is turned from rows into columns.
const TABLE_READINGS: usize = 32 * 1024;

/// Most decimals that are looked for. Beyond them single or double precision is no decimal number any more.
const DECIMALS_F32: u32 = 6;
const DECIMALS_F64: u32 = 9;

/// Beyond this a double does not hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Rows with the same series in the same order, and in each column values of one kind.
pub(super) struct Table<'a> {
    series: &'a [SeriesId],
    kinds: Vec<Option<ValueKind>>,
    rows: Vec<Placed<'a>>,
}

/// A row and its place: which commit of the batch, and the index of its first reading there.
struct Placed<'a> {
    commit: u32,
    index: u32,
    row: &'a Row,
    withheld: Kept<'a>,
}

/// Which readings of a row are withheld.
#[derive(Clone, Copy)]
struct Kept<'a> {
    withheld: Option<&'a Withheld>,
    commit: usize,
    place: usize,
}

impl Kept<'_> {
    fn back(self, position: usize) -> bool {
        self.withheld.is_some_and(|withheld| withheld.contains(self.commit, self.place + position))
    }
}

impl<'a> Placed<'a> {
    /// What there is to send at each position of the row.
    fn sent(&self) -> impl Iterator<Item = Option<&'a Observed>> + use<'a> {
        let kept = self.withheld;
        self.row.observed.iter().enumerate().map(move |(position, observed)| (!kept.back(position)).then_some(observed))
    }

    fn is_sent(&self) -> bool {
        self.withheld.withheld.is_none() || self.sent().any(|observed| observed.is_some())
    }
}

/// The tables of a batch, in the order in which their first rows appear.
pub(super) fn tables(batch: &Batch) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let mut open: HashMap<&[SeriesId], usize> = HashMap::new();
    let withheld = (!batch.withheld.is_empty()).then_some(&batch.withheld);
    for (commit, content) in batch.commits.iter().enumerate() {
        let Records::Readings(rows) = &content.records else { continue };
        let mut place = 0;
        for row in rows.iter().filter(|row| !row.observed.is_empty()) {
            let index = batch.first_index().saturating_add(count_u32(place));
            let withheld = Kept { withheld, commit, place };
            place += row.observed.len();
            let placed = Placed { commit: count_u32(commit), index, row, withheld };
            if !placed.is_sent() {
                continue;
            }
            let known = open.get(&*row.series).copied().filter(|position| tables[*position].takes(&placed));
            let position = known.unwrap_or_else(|| {
                tables.push(Table { series: &row.series, kinds: vec![None; row.series.len()], rows: Vec::new() });
                open.insert(&row.series, tables.len() - 1);
                tables.len() - 1
            });
            tables[position].add(placed);
        }
    }
    tables
}

impl<'a> Table<'a> {
    fn takes(&self, placed: &Placed<'_>) -> bool {
        let same_kinds = placed.sent().zip(&self.kinds).all(|(observed, kind)| {
            let kinds = observed.and_then(Observed::value).map(Value::kind).zip(*kind);
            kinds.is_none_or(|(a, b)| a == b)
        });
        same_kinds && self.cells() < TABLE_READINGS
    }

    fn add(&mut self, placed: Placed<'a>) {
        for (kind, observed) in self.kinds.iter_mut().zip(placed.sent()) {
            *kind = kind.or_else(|| observed.and_then(Observed::value).map(Value::kind));
        }
        self.rows.push(placed);
    }

    /// Readings and places without one.
    fn cells(&self) -> usize {
        self.rows.len() * self.series.len()
    }

    pub fn readings(&self) -> usize {
        self.rows.iter().map(|placed| placed.sent().flatten().count()).sum()
    }

    pub fn first_time(&self) -> Option<Timestamp> {
        self.rows.iter().map(|placed| placed.row.time).min()
    }

    pub fn shape(&self) -> wire::Table {
        let mut before = 0;
        let series = self.series.iter().map(|id| i64::from(id.0) - std::mem::replace(&mut before, i64::from(id.0)));
        wire::Table { rows: count_u32(self.rows.len()), series: series.collect() }
    }

    /// Hands the columns of this table to the packer; what is not good remains in `cells`.
    pub fn push_columns(
        &self,
        base_time_ms: i64,
        packer: &mut Packer,
        cells: &mut Cells,
        texts: &mut Texts<'a>,
    ) -> Result<(), EncodeError> {
        let numbers = &mut cells.numbers;
        let mut push = |number: &dyn Fn(&Placed<'a>) -> i64| {
            numbers.clear();
            numbers.extend(self.rows.iter().map(number));
            packer.push(wire::Kind::Int, 0, numbers)
        };
        push(&|placed| i64::from(placed.commit))?;
        push(&|placed| i64::from(placed.index))?;
        push(&|placed| placed.row.time.0.wrapping_sub(base_time_ms))?;

        cells.fill(self, packer.len(), texts);
        for (position, kind) in self.kinds.iter().enumerate() {
            cells.push_column(position, self.rows.len(), *kind, packer)?;
        }
        Ok(())
    }
}

/// Every text value of a batch once.
#[derive(Default)]
pub(super) struct Texts<'a>(HashMap<&'a str, usize>);

impl<'a> Texts<'a> {
    /// The number that stands for `text`.
    pub fn number(&mut self, text: &'a str) -> usize {
        let next = self.0.len();
        *self.0.entry(text).or_insert(next)
    }

    pub fn into_list(self) -> Vec<String> {
        let mut list: Vec<_> = self.0.into_iter().collect();
        list.sort_unstable_by_key(|(_, number)| *number);
        list.into_iter().map(|(text, _)| text.to_owned()).collect()
    }
}

/// Working memory: the values of one table column by column, and which of its readings are not good.
#[derive(Default)]
pub(super) struct Cells {
    /// `rows` places for each column, filled from the front with the values there are.
    numbers: Vec<i64>,
    counts: Vec<usize>,
    decimals: Vec<i64>,
    /// (column, row, quality), ordered by row, then by column.
    blemishes: Vec<(usize, u32, u32)>,
    qualities: Vec<wire::Quality>,
}

impl Cells {
    /// Turns the rows of `table`, whose first series has the number `first_column`, into columns.
    fn fill<'a>(&mut self, table: &Table<'a>, first_column: usize, texts: &mut Texts<'a>) {
        let rows = table.rows.len();
        self.numbers.clear();
        self.numbers.resize(rows * table.series.len(), 0);
        self.counts.clear();
        self.counts.resize(table.series.len(), 0);
        for (row, placed) in table.rows.iter().enumerate() {
            for (position, observed) in placed.sent().enumerate() {
                let mut blemish = |code: u32| self.blemishes.push((first_column + position, count_u32(row), code));
                let value = match observed {
                    Some(Observed::Good(value)) => value,
                    Some(Observed::Uncertain(value, doubt)) => {
                        blemish(Quality::from(*doubt).code().into());
                        value
                    }
                    Some(Observed::Bad(fault)) => {
                        blemish(Quality::from(*fault).code().into());
                        continue;
                    }
                    None => {
                        blemish(wire::WITHHELD);
                        continue;
                    }
                };
                self.numbers[position * rows + self.counts[position]] = integer(value, texts);
                self.counts[position] += 1;
            }
        }
        self.collect_qualities(rows);
    }

    fn push_column(
        &mut self,
        position: usize,
        rows: usize,
        kind: Option<ValueKind>,
        packer: &mut Packer,
    ) -> Result<(), EncodeError> {
        let start = position * rows;
        let numbers = &self.numbers[start..start + self.counts[position]];
        match kind {
            None | Some(ValueKind::Int) => packer.push(wire::Kind::Int, 0, numbers),
            Some(ValueKind::Uint) => packer.push(wire::Kind::Uint, 0, numbers),
            Some(ValueKind::Bool) => packer.push(wire::Kind::Bool, 0, numbers),
            Some(ValueKind::Text) => packer.push(wire::Kind::Text, 0, numbers),
            Some(ValueKind::F32) => match decimals::<f32>(numbers, &mut self.decimals) {
                Some(places) => packer.push(wire::Kind::Float32, places + 1, &self.decimals),
                None => packer.push(wire::Kind::Float32, 0, numbers),
            },
            Some(ValueKind::F64) => push_doubles(numbers, &mut self.decimals, packer),
        }
    }

    /// Runs of the columns that are not good throughout; equal neighbours share them.
    fn collect_qualities(&mut self, rows: usize) {
        self.blemishes.sort_by_key(|(column, ..)| *column);
        for blemishes in self.blemishes.chunk_by(|a, b| a.0 == b.0) {
            let column = count_u32(blemishes[0].0);
            let quality = runs(column, blemishes, count_u32(rows));
            match self.qualities.last_mut() {
                Some(last)
                    if last.first_column + last.count == column
                        && last.code == quality.code
                        && last.rows == quality.rows =>
                {
                    last.count += 1;
                }
                Some(_) | None => self.qualities.push(quality),
            }
        }
        self.blemishes.clear();
    }

    /// What [`fill`](Self::fill) found that is not good.
    pub fn take_qualities(&mut self) -> Vec<wire::Quality> {
        std::mem::take(&mut self.qualities)
    }
}

fn runs(first_column: u32, blemishes: &[(usize, u32, u32)], rows: u32) -> wire::Quality {
    let mut quality = wire::Quality { first_column, count: 1, ..wire::Quality::default() };
    let mut extend = |code: u32, length: u32| match (quality.code.last(), quality.rows.last_mut()) {
        _ if length == 0 => {}
        (Some(last), Some(run)) if *last == code => *run += length,
        _ => {
            quality.code.push(code);
            quality.rows.push(length);
        }
    };
    let mut next = 0;
    for (_, row, blemish) in blemishes {
        extend(Quality::GOOD.code().into(), row - next);
        extend(*blemish, 1);
        next = row + 1;
    }
    extend(Quality::GOOD.code().into(), rows - next);
    quality
}

/// Hands a column of doubles, each as [`Ordered`], to the packer; `wholes` is working memory.
pub(super) fn push_doubles(numbers: &[i64], wholes: &mut Vec<i64>, packer: &mut Packer) -> Result<(), EncodeError> {
    match decimals::<f64>(numbers, wholes) {
        Some(places) => packer.push(wire::Kind::Float64, places + 1, wholes),
        None => packer.push(wire::Kind::Float64, 0, numbers),
    }
}

fn integer<'a>(value: &'a Value, texts: &mut Texts<'a>) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Uint(number) => number.cast_signed(),
        Value::F32(number) => number.to_ordered(),
        Value::F64(number) => number.to_ordered(),
        Value::Bool(bit) => i64::from(*bit),
        Value::Text(text) => texts.number(text) as i64,
    }
}

/// A floating point number as an integer: near numbers become near integers, and every bit comes back.
pub(super) trait Ordered: Copy {
    /// Most decimals worth trying.
    const DECIMALS: u32;
    fn to_ordered(self) -> i64;
    fn from_ordered(ordered: i64) -> Self;
    fn double(self) -> f64;
    fn from_decimal(whole: i64, power: f64) -> Self;
}

impl Ordered for f32 {
    const DECIMALS: u32 = DECIMALS_F32;

    fn to_ordered(self) -> i64 {
        let bits = self.to_bits().cast_signed();
        i64::from(bits ^ ((bits >> 31) & i32::MAX))
    }

    fn from_ordered(ordered: i64) -> Self {
        let ordered = ordered as i32;
        Self::from_bits((ordered ^ ((ordered >> 31) & i32::MAX)).cast_unsigned())
    }

    fn double(self) -> f64 {
        f64::from(self)
    }

    fn from_decimal(whole: i64, power: f64) -> Self {
        (whole as f64 / power) as f32
    }
}

impl Ordered for f64 {
    const DECIMALS: u32 = DECIMALS_F64;

    fn to_ordered(self) -> i64 {
        let bits = self.to_bits().cast_signed();
        bits ^ ((bits >> 63) & i64::MAX)
    }

    fn from_ordered(ordered: i64) -> Self {
        Self::from_bits((ordered ^ ((ordered >> 63) & i64::MAX)).cast_unsigned())
    }

    fn double(self) -> f64 {
        self
    }

    fn from_decimal(whole: i64, power: f64) -> Self {
        whole as f64 / power
    }
}

/// Fewest decimals with which every number is a decimal number, bit for bit; `wholes` is then the numbers without the
/// point. `None` when there is no such number of decimals, or the bits themselves are closer together.
fn decimals<T: Ordered>(numbers: &[i64], wholes: &mut Vec<i64>) -> Option<u32> {
    let mut places = 0;
    for number in numbers {
        while whole_at::<T>(*number, places).is_none() {
            places += 1;
            if places > T::DECIMALS {
                return None;
            }
        }
    }
    wholes.clear();
    for number in numbers {
        wholes.push(whole_at::<T>(*number, places)?);
    }
    (spread(wholes) <= spread(numbers)).then_some(places)
}

fn whole_at<T: Ordered>(ordered: i64, places: u32) -> Option<i64> {
    let power = power_of_ten(places);
    let whole = (T::from_ordered(ordered).double() * power).round();
    if whole.abs() >= WHOLE_MAX || whole.is_nan() {
        return None;
    }
    let whole = whole as i64;
    (T::from_decimal(whole, power).to_ordered() == ordered).then_some(whole)
}

/// Ten to the `places`, exact up to 22.
pub(super) fn power_of_ten(places: u32) -> f64 {
    10_u64.checked_pow(places).map_or(f64::INFINITY, |power| power as f64)
}

fn spread(numbers: &[i64]) -> i128 {
    let extremes = numbers.iter().min().zip(numbers.iter().max());
    extremes.map_or(0, |(min, max)| i128::from(*max) - i128::from(*min))
}
