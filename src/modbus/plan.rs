//! Points of a device -> blocks of contiguous registers. Pure.

use std::time::Duration;

use crate::profile::{Point, ReadLimits, Table};

/// A point that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanPoint {
    /// Index in the points of the profile.
    pub point: usize,
    /// How often.
    pub interval: Duration,
}

/// One contiguous read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which table.
    pub table: Table,
    /// First address.
    pub address: u16,
    /// Registers or bits.
    pub count: u16,
    /// What it holds, in address order.
    pub points: Vec<BlockPoint>,
}

/// A point within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPoint {
    /// Index in the points of the profile.
    pub point: usize,
    /// Registers or bits from the start of the block.
    pub offset: u16,
    /// False when it is read only as a scale factor for others.
    pub wanted: bool,
}

/// All blocks of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollGroup {
    /// How often.
    pub interval: Duration,
    /// What to read.
    pub blocks: Vec<Block>,
}

/// All reads of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollPlan {
    /// By interval.
    pub groups: Vec<PollGroup>,
    /// The cheapest request.
    pub probe: Block,
}

/// A plan that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No point is wanted.
    #[error("no point is wanted")]
    Nothing,
}

/// Plans the reads of one device.
pub fn plan(points: &[Point], wanted: &[PlanPoint], limits: ReadLimits) -> Result<PollPlan, PlanError> {
    let mut intervals: Vec<Duration> = wanted.iter().map(|point| point.interval).collect();
    intervals.sort_unstable();
    intervals.dedup();
    let group = |interval: Duration| {
        let mut read: Vec<(usize, bool)> =
            wanted.iter().filter(|point| point.interval == interval).map(|point| (point.point, true)).collect();
        let factors: Vec<usize> = read.iter().filter_map(|(point, _)| points[*point].scale_factor).collect();
        for factor in factors {
            if !read.iter().any(|(point, _)| *point == factor) {
                read.push((factor, false));
            }
        }
        read.sort_unstable_by_key(|(point, _)| (points[*point].table, points[*point].address));
        PollGroup { interval, blocks: blocks(points, &read, limits) }
    };
    let groups: Vec<PollGroup> = intervals.into_iter().map(group).collect();
    let all = groups.iter().flat_map(|group| &group.blocks);
    let probe = all.min_by_key(|block| block.count).cloned().ok_or(PlanError::Nothing)?;
    Ok(PollPlan { groups, probe })
}

fn blocks(points: &[Point], read: &[(usize, bool)], limits: ReadLimits) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for &(index, wanted) in read {
        let point = &points[index];
        let limit = if point.table.holds_bits() { limits.bits } else { limits.registers };
        let end = point.address + point.encoding.width();
        match blocks.last_mut() {
            Some(block)
                if block.table == point.table
                    && end - block.address <= limit
                    && point.address <= block.address + block.count + limits.gap =>
            {
                block.count = block.count.max(end - block.address);
                block.points.push(BlockPoint { point: index, offset: point.address - block.address, wanted });
            }
            _ => blocks.push(Block {
                table: point.table,
                address: point.address,
                count: point.encoding.width(),
                points: vec![BlockPoint { point: index, offset: 0, wanted }],
            }),
        }
    }
    blocks
}
