//! Which requests read the points that are wanted: those that cost the link the least time within the device's limits.
//!
//! Sorted by address, every block holds points that follow each other: a division into other sets is no cheaper, as
//! the point at the lowest address must be in some block, which may as well begin there and hold everything up to its
//! end. Over such divisions the cheapest is found exactly, from the last point back. A gap is read along where the
//! device allows it and where that is cheaper than another request. What a device has taught ([`Lessons`]) is
//! respected: no block holds registers that it refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lessons::Lessons;
use crate::profile::{Point, ReadLimits, Registers, Table};

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
    /// Data bytes of the answer: two for each register (four where it has 32 bits), one for eight bits or part of it.
    pub fn data_bytes(&self) -> u16 {
        u16::try_from(self.table.data_bytes(self.count)).unwrap_or(u16::MAX)
    }
}

/// One point of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPoint {
    /// Index of the point in the profile.
    pub point: usize,
    /// Where it begins, counted in words from the first one of the block.
    pub offset: u16,
    /// Which of its registers this is, from 0 on, where they are scattered; else 0, and it is all of them.
    pub part: u16,
    /// False when it is read only as the scale factor of others, or is not the first part of its point.
    pub wanted: bool,
}

/// All that is read at one interval. Each scale factor that a point needs is in one of the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollGroup {
    /// How often; zero means again and again without pause.
    pub interval: Duration,
    /// The requests, by table and address.
    pub blocks: Vec<Block>,
    /// Wanted points that the device refuses, with the exception code it does so with: they are not asked for.
    pub refused: Vec<(usize, u8)>,
}

/// All requests of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollPlan {
    /// One group for each interval, the shortest first.
    pub groups: Vec<PollGroup>,
    /// The cheapest request that shows whether the device answers.
    pub probe: Block,
}

/// What a request costs its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCost {
    /// One request and its answer without data.
    pub request: Duration,
    /// Each register, or each sixteen bits, in the answer.
    pub register: Duration,
}

impl ReadCost {
    /// Nothing counts but the number of requests.
    pub const FEWEST: Self = Self { request: Duration::from_secs(1), register: Duration::ZERO };

    fn of(self, table: Table, count: u32) -> Duration {
        let registers = if table.holds_bits() { count.div_ceil(16) } else { count * u32::from(table.item_words()) };
        self.request + self.register * registers
    }
}

/// On which terms a device is asked.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// What its profile allows.
    pub limits: ReadLimits,
    /// What a request costs.
    pub cost: ReadCost,
    /// What it has taught.
    pub lessons: &'a Lessons,
}

/// Nothing was learned yet.
pub static NO_LESSONS: Lessons = Lessons { registers_max: None, refused: Vec::new(), seams: Vec::new() };

impl Terms<'_> {
    /// The fewest requests that a profile allows.
    pub fn fewest(limits: ReadLimits) -> Self {
        Self { limits, cost: ReadCost::FEWEST, lessons: &NO_LESSONS }
    }

    fn limit(&self, table: Table) -> u32 {
        match table.holds_bits() {
            true => u32::from(self.limits.bits.min(table.items_per_read())),
            false => {
                let learned = self.lessons.registers_max.unwrap_or(u16::MAX);
                u32::from(self.limits.registers.min(table.items_per_read()).min(learned))
            }
        }
    }
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

/// The requests that read every `wanted` point at its interval at the least cost.
///
/// # Errors
///
/// [`PlanError`] when nothing is wanted or when a single point is larger than a request may be.
///
/// # Panics
///
/// When `wanted` holds an index outside `points`.
pub fn plan(points: &[Point], wanted: &[PlanPoint], terms: &Terms<'_>) -> Result<PollPlan, PlanError> {
    let mut intervals: BTreeMap<Duration, BTreeMap<usize, bool>> = BTreeMap::new();
    for PlanPoint { point, interval } in wanted {
        let group = intervals.entry(*interval).or_default();
        group.insert(*point, true);
        if let Some(factor) = points[*point].scale_factor {
            group.entry(factor).or_insert(false);
        }
    }
    let refusal_of = |index: usize| {
        let spans = Span::of(points, index, true, terms).ok()?;
        spans.iter().find_map(|span| terms.lessons.refusal(span.table, span.start, span.end))
    };
    // A value without its scale factor is none.
    let refusal = |span: &Span| refusal_of(span.point).or_else(|| refusal_of(points[span.point].scale_factor?));
    let mut groups = Vec::with_capacity(intervals.len());
    for (interval, group) in intervals {
        let spans = group.into_iter().map(|(point, wanted)| Span::of(points, point, wanted, terms));
        let spans = spans.collect::<Result<Vec<Vec<Span>>, _>>()?.into_iter().flatten();
        let spans: Vec<Span> = spans.collect();
        let refused = spans.iter().filter(|span| span.wanted);
        let refused = refused.filter_map(|span| Some((span.point, refusal(span)?))).collect();
        let asked = spans.into_iter().filter(|span| refusal(span).is_none()).collect();
        groups.push(PollGroup { interval, blocks: coalesce(asked, terms), refused });
    }
    let alone = wanted.iter().map(|wanted| Span::of(points, wanted.point, true, terms));
    let alone: Vec<Span> = alone.collect::<Result<Vec<Vec<Span>>, _>>()?.into_iter().flatten().collect();
    let cheapest = |span: &Span| {
        let block = span.into_block();
        (refusal(span).is_some(), block.data_bytes(), block.table, block.address)
    };
    let probe = alone.into_iter().min_by_key(cheapest).map(Span::into_block);
    Ok(PollPlan { groups, probe: probe.ok_or(PlanError::NothingWanted)? })
}

/// What one point, or one of its scattered registers, needs of a request.
#[derive(Debug, Clone, Copy)]
struct Span {
    table: Table,
    start: u32,
    end: u32,
    address: u16,
    point: usize,
    part: u16,
    wanted: bool,
}

impl Span {
    /// What the point with this index needs: one span, or one for each of its scattered registers.
    fn of(points: &[Point], index: usize, wanted: bool, terms: &Terms<'_>) -> Result<Vec<Self>, PlanError> {
        let first = Self::new(points, index, wanted, terms)?;
        let others = (1_u16..).zip(points[index].scattered.iter().skip(1)).map(|(part, address)| {
            let start = u32::from(*address);
            Self { start, end: start + 1, address: *address, part, wanted: false, ..first }
        });
        Ok(std::iter::once(first).chain(others).collect())
    }

    fn new(points: &[Point], index: usize, wanted: bool, terms: &Terms<'_>) -> Result<Self, PlanError> {
        let point = &points[index];
        let whole = point.read_whole.unwrap_or(Registers { address: point.address, count: point.items() });
        let start = u32::from(whole.address.min(point.address));
        let end = (u32::from(point.address) + u32::from(point.items()))
            .max(u32::from(whole.address) + u32::from(whole.count));
        // What was learned never takes a point away: its own registers may be asked for together.
        let limit = Terms { lessons: &NO_LESSONS, ..*terms }.limit(point.table);
        if end - start > limit {
            let (count, limit) = (end - start, u16::try_from(limit).unwrap_or(u16::MAX));
            return Err(PlanError::PointTooLarge { point: point.name.clone(), table: point.table, count, limit });
        }
        Ok(Self { table: point.table, start, end, address: point.address, point: index, part: 0, wanted })
    }

    fn into_block(self) -> Block {
        close(&[self], self.end)
    }
}

/// Divides spans into the blocks that cost the least, lowest address first.
fn coalesce(mut spans: Vec<Span>, terms: &Terms<'_>) -> Vec<Block> {
    spans.sort_by_key(|span| (span.table, span.start, span.end));
    // From each span on: the least cost to the last one, and where the first block of that ends.
    let mut best = vec![(Duration::ZERO, spans.len()); spans.len() + 1];
    for first in (0..spans.len()).rev() {
        let mut found: Option<(Duration, usize)> = None;
        let mut end = 0;
        for (index, span) in spans.iter().enumerate().skip(first) {
            if index > first && !joins(&spans[first], end, span, terms) {
                break;
            }
            end = end.max(span.end);
            let cost = terms.cost.of(span.table, end - spans[first].start) + best[index + 1].0;
            // Of two that cost the same, the one with the longer block.
            if found.is_none_or(|(least, _)| cost <= least) {
                found = Some((cost, index + 1));
            }
        }
        best[first] = found.unwrap_or((Duration::ZERO, first + 1));
    }
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < spans.len() {
        let behind = best[first].1;
        let end = spans[first..behind].iter().map(|span| span.end).max().unwrap_or(0);
        blocks.push(close(&spans[first..behind], end));
        first = behind;
    }
    blocks
}

/// True when `span` may be asked for together with what lies between the beginning of `first` and `end`.
fn joins(first: &Span, end: u32, span: &Span, terms: &Terms<'_>) -> bool {
    let reach = end.max(span.end);
    span.table == first.table
        && span.start <= end + u32::from(terms.limits.gap)
        && reach - first.start <= terms.limit(span.table)
        && terms.lessons.allow(span.table, first.start, reach)
}

/// The block of some spans, of one table and at least one, the lowest first; it ends before `end`.
fn close(spans: &[Span], end: u32) -> Block {
    let start = spans[0].start;
    let narrow = |number: u32| u16::try_from(number).expect("a span ends at 65535 and is at most 2000 long");
    let block_point = |span: &Span| BlockPoint {
        point: span.point,
        offset: narrow((u32::from(span.address) - start) * u32::from(span.table.item_words())),
        part: span.part,
        wanted: span.wanted,
    };
    let mut points: Vec<BlockPoint> = spans.iter().map(block_point).collect();
    points.sort_by_key(|point| (point.offset, point.point, point.part));
    Block { table: spans[0].table, address: narrow(start), count: narrow(end - start), points }
}

#[cfg(test)]
mod tests;
