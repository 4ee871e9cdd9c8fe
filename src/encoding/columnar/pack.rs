//! Columns on their way into groups: residuals of columns with similar noise are compressed together.
//!
//! Ten rows of fifty series are far too few for a compressor to learn each series alone, yet all of them together
//! teach it well: 60 rows of 30 measurements take 1.40 bytes a reading column by column, 0.98 in groups.

use pco::data_types::Number;
use pco::wrapped::FileCompressor;
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::super::{EncodeError, wire};
use super::fit::{Widths, fit, width};

/// Residuals kept before they are packed: bounds the memory of the encoder.
const RESIDUALS_PENDING: usize = 32 * 1024;

/// Columns are alike when the mean width of their residuals is the same to half a bit.
const CLASSES: usize = 2 * 64 + 1;

/// How hard pco looks for the best bins. Level 8 saves 2 % of the bytes of small groups, for which it is cheap.
const LEVEL_SMALL: usize = 8;
/// Enough for large groups: their bins are found from many numbers.
const LEVEL_LARGE: usize = 4;
const SMALL_GROUP: usize = 4096;

/// Takes columns in their order and packs them.
#[derive(Default)]
pub(super) struct Packer {
    columns: wire::Columns,
    groups: Vec<wire::Group>,
    residuals: Vec<i64>,
    pending: Vec<Pending>,
    classes: Vec<Class>,
}

/// A column whose residuals wait for their group.
struct Pending {
    column: usize,
    start: usize,
    count: usize,
    class: usize,
}

/// Columns with residuals of about the same width; later a run of such classes that go into one group.
#[derive(Clone)]
struct Class {
    last: usize,
    widths: Widths,
}

impl Packer {
    /// How many columns were taken.
    pub fn len(&self) -> usize {
        self.columns.kind.len()
    }

    /// Takes the next column.
    pub fn push(&mut self, kind: wire::Kind, decimals: u32, numbers: &[i64]) -> Result<(), EncodeError> {
        if self.residuals.len() + numbers.len() > RESIDUALS_PENDING {
            self.pack()?;
        }
        let start = self.residuals.len();
        self.residuals.extend_from_slice(numbers);
        let residuals = &mut self.residuals[start..];
        let fit = fit(residuals);
        let mut widths: Widths = [0; 65];
        for residual in residuals.iter() {
            widths[width(*residual)] += 1;
        }

        let column = self.columns.kind.len();
        self.columns.kind.push(kind as i32);
        self.columns.decimals.push(decimals);
        self.columns.base.push(fit.base);
        self.columns.slope.push(fit.slope);
        self.columns.multiple.push(if fit.multiple == 1 { 0 } else { fit.multiple.cast_unsigned() });
        self.columns.cumulative.push(u32::from(fit.cumulative));
        self.columns.group.push(0);

        let bits: usize = widths.iter().enumerate().map(|(bits, count)| bits * *count as usize).sum();
        if bits == 0 {
            self.residuals.truncate(start);
            return Ok(());
        }
        let class = (2 * bits).div_ceil(numbers.len()).min(CLASSES - 1);
        self.join_class(class, &widths);
        self.pending.push(Pending { column, start, count: numbers.len(), class });
        Ok(())
    }

    fn join_class(&mut self, class: usize, widths: &Widths) {
        match self.classes.binary_search_by_key(&class, |known| known.last) {
            Ok(position) => add(&mut self.classes[position].widths, widths),
            Err(position) => self.classes.insert(position, Class { last: class, widths: *widths }),
        }
    }

    /// Packs what is pending. Columns taken later go into other groups.
    fn pack(&mut self) -> Result<(), EncodeError> {
        merge_classes(&mut self.classes);
        let mut lowest = 0;
        let mut group_numbers = Vec::new();
        for class in std::mem::take(&mut self.classes) {
            group_numbers.clear();
            let number = u32::try_from(self.groups.len() + 1).unwrap_or(u32::MAX);
            for column in self.pending.iter().filter(|column| (lowest..=class.last).contains(&column.class)) {
                group_numbers.extend_from_slice(&self.residuals[column.start..column.start + column.count]);
                self.columns.group[column.column] = number;
            }
            self.groups.push(compress(&group_numbers, &class.widths)?);
            lowest = class.last + 1;
        }
        self.pending.clear();
        self.residuals.clear();
        Ok(())
    }

    /// The columns and groups of the batch; the packer is empty again and keeps its memory.
    pub fn finish(&mut self) -> Result<(wire::Columns, Vec<wire::Group>), EncodeError> {
        self.pack()?;
        let mut columns = std::mem::take(&mut self.columns);
        for field in [&mut columns.decimals, &mut columns.cumulative, &mut columns.group] {
            clear_if(field, 0);
        }
        clear_if(&mut columns.slope, 0);
        clear_if(&mut columns.multiple, 0);
        clear_if(&mut columns.kind, 0);
        Ok((columns, std::mem::take(&mut self.groups)))
    }

    /// Forgets a batch that could not be encoded.
    pub fn reset(&mut self) {
        self.columns = wire::Columns::default();
        self.groups.clear();
        self.residuals.clear();
        self.pending.clear();
        self.classes.clear();
    }
}

/// A field without numbers stands for all zeroes.
fn clear_if<T: PartialEq>(field: &mut Vec<T>, zero: T) {
    if field.iter().all(|number| *number == zero) {
        field.clear();
    }
}

fn add(to: &mut Widths, widths: &Widths) {
    for (sum, count) in to.iter_mut().zip(widths) {
        *sum += count;
    }
}

/// Joins neighbouring classes as long as one group is estimated to take fewer bits than two.
fn merge_classes(classes: &mut Vec<Class>) {
    loop {
        let gains = classes.windows(2).map(|pair| {
            let mut joined = pair[0].widths;
            add(&mut joined, &pair[1].widths);
            estimated_bits(&pair[0].widths) + estimated_bits(&pair[1].widths) - estimated_bits(&joined)
        });
        let best = gains.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, gain)| *gain > 0.0);
        let Some((position, _)) = best else { return };
        let lower = classes.remove(position);
        add(&mut classes[position].widths, &lower.widths);
    }
}

/// What a group takes: the entropy of the widths, the bits below the leading one, and its bins.
fn estimated_bits(widths: &Widths) -> f64 {
    let total: f64 = widths.iter().copied().map(f64::from).sum();
    let mut bits = 64.0;
    for (width, count) in widths.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = f64::from(*count);
        bits += count * ((total / count).log2() + width.saturating_sub(1) as f64);
    }
    bits + BINS_OF_SMALL_GROUP * f64::from(number_bits(widths) + 12)
}

/// Bins that pco makes of the residuals of a small group.
const BINS_OF_SMALL_GROUP: f64 = 4.0;

fn number_bits(widths: &Widths) -> u32 {
    match widths.iter().rposition(|count| *count > 0) {
        None | Some(0..=16) => i16::BITS,
        Some(17..=32) => i32::BITS,
        Some(_) => i64::BITS,
    }
}

fn compress(numbers: &[i64], widths: &Widths) -> Result<wire::Group, EncodeError> {
    let (number_type, pco) = match number_bits(widths) {
        i16::BITS => (wire::NumberType::I16, compress_as(numbers, |number| number as i16)),
        i32::BITS => (wire::NumberType::I32, compress_as(numbers, |number| number as i32)),
        _ => (wire::NumberType::I64, compress_as(numbers, |number| number)),
    };
    let pco = pco.map_err(|error| EncodeError::Compressor(error.to_string()))?;
    Ok(wire::Group { r#type: number_type as i32, count: u32::try_from(numbers.len()).unwrap_or(u32::MAX), pco })
}

/// `narrow` must lose nothing: the widths say so.
fn compress_as<T: Number>(numbers: &[i64], narrow: impl Fn(i64) -> T) -> pco::errors::PcoResult<Vec<u8>> {
    let narrowed: Vec<T> = numbers.iter().copied().map(narrow).collect();
    let level = if narrowed.len() <= SMALL_GROUP { LEVEL_SMALL } else { LEVEL_LARGE };
    let config = ChunkConfig::default()
        .with_compression_level(level)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp)
        .with_paging_spec(pco::PagingSpec::Exact(vec![narrowed.len()]));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor::<T>(&narrowed, &config)?;
    let mut bytes = Vec::with_capacity(8 + chunk.meta_size_hint() + chunk.page_size_hint(0));
    file.write_header(&mut bytes)?;
    chunk.write_meta(&mut bytes)?;
    chunk.write_page(0, &mut bytes)?;
    Ok(bytes)
}
