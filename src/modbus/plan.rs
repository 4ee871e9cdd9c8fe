//! Which requests read the points that are wanted: the fewest that the device's limits allow.
//!
//! Sorted by address, a block takes point after point until one would make it longer than a request may be, or lies
//! further away than may be read along; that point begins the next block. No plan has fewer blocks: the point at the
//! lowest address must be in some block, which may as well begin there; and a point that does not fit behind it ends
//! later than everything in it, so its block, beginning no later than that point, can hold whatever else was left out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::profile::{Point, ReadLimits, Registers, Table};

/// Most registers one read may return (Modbus Application Protocol 1.1b3, 6.3).
pub const REGISTERS_PER_READ: u16 = 125;
/// Most bits one read may return (Modbus Application Protocol 1.1b3, 6.1).
pub const BITS_PER_READ: u16 = 2000;

/// A point that is wanted and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanPoint {
    /// Index of the point in the profile.
    pub point: usize,
    /// How often; zero means again and again without pause.
    pub interval: Duration,
}

/// Contiguous registers or bits of one table, read in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which table.
    pub table: Table,
    /// Protocol address of the first item, from 0.
    pub address: u16,
    /// Registers (or bits) to read, at least one.
    pub count: u16,
    /// The points in it, in the order of their addresses.
    pub points: Vec<BlockPoint>,
}

impl Block {
    /// Data bytes of the answer: two for each register, one for eight bits or part of it.
    pub fn data_bytes(&self) -> u16 {
        if self.table.holds_bits() { self.count.div_ceil(8) } else { 2 * self.count }
    }
}

/// One point of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPoint {
    /// Index of the point in the profile.
    pub point: usize,
    /// Where it begins, counted from the first item of the block.
    pub offset: u16,
    /// False when it is read only as the scale factor of others.
    pub wanted: bool,
}

/// All that is read at one interval. Each scale factor that a point needs is in one of the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollGroup {
    /// How often; zero means again and again without pause.
    pub interval: Duration,
    /// The requests, by table and address.
    pub blocks: Vec<Block>,
}

/// All requests of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollPlan {
    /// One group for each interval, the shortest first.
    pub groups: Vec<PollGroup>,
    /// The cheapest request that shows whether the device answers.
    pub probe: Block,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A device of which nothing is wanted needs no plan.
    #[error("no point is to be read")]
    NothingWanted,
    /// A point is never split over two requests.
    #[error("{point} needs {count} {unit} in one request, the device allows {limit}", unit = unit_of(*.table))]
    PointTooLarge {
        /// Name of the point.
        point: String,
        /// Where it is.
        table: Table,
        /// What it takes.
        count: u32,
        /// What one request may ask.
        limit: u16,
    },
}

fn unit_of(table: Table) -> &'static str {
    if table.holds_bits() { "bits" } else { "registers" }
}

/// The fewest requests that read every `wanted` point at its interval within `limits`.
///
/// # Errors
///
/// [`PlanError`] when nothing is wanted or when a single point is larger than a request may be.
///
/// # Panics
///
/// When `wanted` holds an index outside `points`.
pub fn plan(points: &[Point], wanted: &[PlanPoint], limits: ReadLimits) -> Result<PollPlan, PlanError> {
    let mut intervals: BTreeMap<Duration, BTreeMap<usize, bool>> = BTreeMap::new();
    for PlanPoint { point, interval } in wanted {
        let group = intervals.entry(*interval).or_default();
        group.insert(*point, true);
        if let Some(factor) = points[*point].scale_factor {
            group.entry(factor).or_insert(false);
        }
    }
    let mut groups = Vec::with_capacity(intervals.len());
    for (interval, group) in intervals {
        let spans = group.into_iter().map(|(point, wanted)| Span::new(points, point, wanted, limits));
        groups.push(PollGroup { interval, blocks: coalesce(spans.collect::<Result<_, _>>()?, limits) });
    }
    let alone = wanted.iter().map(|wanted| Span::new(points, wanted.point, true, limits));
    let alone: Vec<Span> = alone.collect::<Result<_, _>>()?;
    let probe =
        alone.into_iter().map(Span::into_block).min_by_key(|block| (block.data_bytes(), block.table, block.address));
    Ok(PollPlan { groups, probe: probe.ok_or(PlanError::NothingWanted)? })
}

/// What one point needs of a request.
#[derive(Debug, Clone, Copy)]
struct Span {
    table: Table,
    start: u32,
    end: u32,
    address: u16,
    point: usize,
    wanted: bool,
}

impl Span {
    fn new(points: &[Point], index: usize, wanted: bool, limits: ReadLimits) -> Result<Self, PlanError> {
        let point = &points[index];
        let whole = point.read_whole.unwrap_or(Registers { address: point.address, count: point.encoding.width() });
        let start = u32::from(whole.address.min(point.address));
        let end = (u32::from(point.address) + u32::from(point.encoding.width()))
            .max(u32::from(whole.address) + u32::from(whole.count));
        let limit = limit_of(point.table, limits);
        if end - start > u32::from(limit) {
            let count = end - start;
            return Err(PlanError::PointTooLarge { point: point.name.clone(), table: point.table, count, limit });
        }
        Ok(Self { table: point.table, start, end, address: point.address, point: index, wanted })
    }

    fn into_block(self) -> Block {
        close(&[self], self.end)
    }
}

fn limit_of(table: Table, limits: ReadLimits) -> u16 {
    if table.holds_bits() { limits.bits.min(BITS_PER_READ) } else { limits.registers.min(REGISTERS_PER_READ) }
}

/// Joins spans into blocks, lowest address first.
fn coalesce(mut spans: Vec<Span>, limits: ReadLimits) -> Vec<Block> {
    spans.sort_by_key(|span| (span.table, span.start, span.end));
    let mut blocks = Vec::new();
    let mut first = 0;
    let mut end = 0;
    for (index, span) in spans.iter().enumerate() {
        let start = spans[first];
        let joins = span.table == start.table
            && span.start <= end + u32::from(limits.gap)
            && end.max(span.end) - start.start <= u32::from(limit_of(span.table, limits));
        if index > first && !joins {
            blocks.push(close(&spans[first..index], end));
            first = index;
            end = 0;
        }
        end = end.max(span.end);
    }
    if first < spans.len() {
        blocks.push(close(&spans[first..], end));
    }
    blocks
}

/// The block of some spans, of one table and at least one, the lowest first; it ends before `end`.
fn close(spans: &[Span], end: u32) -> Block {
    let start = spans[0].start;
    let narrow = |number: u32| u16::try_from(number).expect("a span ends at 65535 and is at most 2000 long");
    let block_point = |span: &Span| BlockPoint {
        point: span.point,
        offset: narrow(u32::from(span.address) - start),
        wanted: span.wanted,
    };
    let mut points: Vec<BlockPoint> = spans.iter().map(block_point).collect();
    points.sort_by_key(|point| (point.offset, point.point));
    Block { table: spans[0].table, address: narrow(start), count: narrow(end - start), points }
}

#[cfg(test)]
mod tests;
