//! What is asked of a device by one map, and where in its answers each value is. Pure.
//!
//! There is one of each for every point that is polled, so they are kept small.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::DeviceConfig;
use crate::modbus::plan::{self, Block, BlockPoint, PlanError, PlanPoint, Terms};
use crate::model::{Fault, Observed, Row};
use crate::model::{SeriesId, Timestamp};
use crate::profile::sunspec;
use crate::profile::{FirmwareMap, ModbusProfile, Point, Registers, Table};

/// The points of a device that are read, how often, and as which series.
pub(super) struct Tags {
    /// The shortest first.
    intervals: Box<[Duration]>,
    tags: Box<[Tag]>,
}

struct Tag {
    point: u32,
    series: SeriesId,
    /// Index of its interval.
    interval: u16,
}

/// The blocks of one interval.
pub(in crate::poll) struct GroupPlan {
    pub(in crate::poll) interval: Duration,
    pub(in crate::poll) blocks: Vec<BlockPlan>,
    /// What the device refuses and is not asked for; `None` when there is nothing.
    pub(in crate::poll) refused: Option<RefusedTags>,
}

/// Tags that a device refuses, each with the exception code it does so with.
pub(in crate::poll) struct RefusedTags {
    pub(super) series: Arc<[SeriesId]>,
    codes: Vec<u8>,
}

/// One request and the shape of its row.
pub(in crate::poll) struct BlockPlan {
    pub(in crate::poll) block: Block,
    pub(super) series: Arc<[SeriesId]>,
    pub(super) points: Box<[PointPlace]>,
}

/// Where in the answer of its block a point is.
pub(super) struct PointPlace {
    point: u32,
    offset: u16,
    width: u16,
    factor: Option<FactorPlace>,
    /// Its other registers, where they are scattered; else empty.
    parts: Box<[PartPlace]>,
}

/// Where in the group one more register of a point is read.
pub(super) struct PartPlace {
    block: u16,
    offset: u16,
}

/// Where in the group the scale factor of a point is read.
pub(super) struct FactorPlace {
    point: u32,
    block: u16,
    offset: u16,
}

/// Indices of points, blocks and intervals come from a file that people write, and addresses are 16 bits wide.
const FITS: &str = "a profile has no more points than that";

impl Tags {
    /// The tags of `device`; `series` holds the id of each.
    pub(super) fn new(device: &DeviceConfig, series: &[SeriesId]) -> Self {
        let mut intervals: Vec<Duration> = device.tags.iter().map(|tag| tag.interval).collect();
        intervals.sort_unstable();
        intervals.dedup();
        let tags = device.tags.iter().zip(series).map(|(tag, series)| Tag {
            point: u32::try_from(tag.point).expect(FITS),
            series: *series,
            interval: u16::try_from(intervals.partition_point(|interval| *interval < tag.interval)).expect(FITS),
        });
        Self { tags: tags.collect(), intervals: intervals.into() }
    }

    /// Indices of the points, in the order of the tags.
    pub(super) fn points(&self) -> impl Iterator<Item = usize> {
        self.tags.iter().map(Tag::point)
    }

    fn interval(&self, tag: &Tag) -> Duration {
        self.intervals[usize::from(tag.interval)]
    }
}

impl Tag {
    fn point(&self) -> usize {
        self.point as usize
    }
}

impl RefusedTags {
    /// What is said of them without asking.
    pub(super) fn row(&self, now: Timestamp) -> Row {
        let observed = self.codes.iter().map(|code| Observed::Bad(Fault::Exception(*code)));
        Row { series: Arc::clone(&self.series), time: now, observed: observed.collect() }
    }
}

impl BlockPlan {
    fn new(block: &Block, group: &[Block], points: &[Point], ids: &HashMap<usize, SeriesId>) -> Self {
        let factor = |factor: usize| {
            group.iter().enumerate().find_map(|(index, block)| {
                let place = block.points.iter().find(|place| place.point == factor)?;
                let (point, block) = (u32::try_from(factor).expect(FITS), u16::try_from(index).expect(FITS));
                Some(FactorPlace { point, block, offset: place.offset })
            })
        };
        let wanted = block.points.iter().filter(|place| place.wanted && ids.contains_key(&place.point));
        let places = wanted.clone().map(|place| PointPlace {
            point: u32::try_from(place.point).expect(FITS),
            offset: place.offset,
            width: match points[place.point].scattered.is_empty() {
                true => points[place.point].encoding.width(),
                false => 1,
            },
            factor: points[place.point].scale_factor.and_then(factor),
            parts: parts(place.point, &points[place.point], group),
        });
        Self {
            block: block.clone(),
            series: wanted.clone().map(|place| ids[&place.point]).collect(),
            points: places.collect(),
        }
    }

    /// Indices of the blocks out of which scale factors and scattered registers come.
    pub(super) fn other_blocks(&self) -> impl Iterator<Item = usize> {
        let factors = self.points.iter().filter_map(|place| place.factor.as_ref()).map(FactorPlace::block);
        factors.chain(self.points.iter().flat_map(|place| place.parts()).map(PartPlace::block))
    }
}

/// Where the registers of a scattered point but the first are read.
fn parts(index: usize, point: &Point, group: &[Block]) -> Box<[PartPlace]> {
    let part = |part: usize| {
        group.iter().enumerate().find_map(|(block, read)| {
            let is_it = |place: &&BlockPoint| place.point == index && usize::from(place.part) == part;
            let place = read.points.iter().find(is_it)?;
            Some(PartPlace { block: u16::try_from(block).expect(FITS), offset: place.offset })
        })
    };
    (1..point.scattered.len()).filter_map(part).collect()
}

impl PointPlace {
    pub(super) fn point(&self) -> usize {
        self.point as usize
    }

    pub(super) fn factor(&self) -> Option<&FactorPlace> {
        self.factor.as_ref()
    }

    /// Where its other registers are; empty unless they are scattered.
    pub(super) fn parts(&self) -> &[PartPlace] {
        &self.parts
    }

    /// Its words among those of its block.
    pub(super) fn of<'w>(&self, words: &'w [u16]) -> Option<&'w [u16]> {
        words.get(usize::from(self.offset)..usize::from(self.offset) + usize::from(self.width))
    }
}

impl PartPlace {
    /// Index of its block in the group.
    pub(super) fn block(&self) -> usize {
        usize::from(self.block)
    }

    /// Its word among those of its block.
    pub(super) fn of(&self, words: &[u16]) -> Option<u16> {
        words.get(usize::from(self.offset)).copied()
    }
}

impl FactorPlace {
    pub(super) fn point(&self) -> usize {
        self.point as usize
    }

    /// Index of its block in the group.
    pub(super) fn block(&self) -> usize {
        usize::from(self.block)
    }

    /// Its words, of which there are `width`, among those of its block.
    pub(super) fn of<'w>(&self, words: &'w [u16], width: u16) -> Option<&'w [u16]> {
        words.get(usize::from(self.offset)..usize::from(self.offset) + usize::from(width))
    }
}

/// The requests of one map.
pub(super) struct Reads {
    pub(super) groups: Vec<GroupPlan>,
    pub(super) probe: Block,
    pub(super) absent: Vec<SeriesId>,
}

impl Reads {
    /// The reads of a device that lays out its map itself and has not been heard: in each round the one question
    /// whether it is there, for all tags of the round.
    pub(super) fn of_unknown_map(tags: &Tags) -> Self {
        let Registers { address, count } = sunspec::probe();
        let probe = Block { table: Table::HoldingRegisters, address, count, points: Vec::new() };
        let group = |interval: Duration| {
            let of_group = tags.tags.iter().filter(|tag| tags.interval(tag) == interval);
            let series = of_group.map(|tag| tag.series).collect();
            let blocks = vec![BlockPlan { block: probe.clone(), series, points: Box::default() }];
            GroupPlan { interval, blocks, refused: None }
        };
        Self { groups: tags.intervals.iter().copied().map(group).collect(), probe, absent: Vec::new() }
    }

    /// Plans the reads of `tags`. There is a group for each interval, whichever map it is: the schedule stays.
    pub(super) fn plan(
        modbus: &ModbusProfile,
        map: Option<&FirmwareMap>,
        tags: &Tags,
        terms: &Terms<'_>,
    ) -> Result<Self, PlanError> {
        let points = points_of(modbus, map);
        let is_absent = |tag: &&Tag| map.is_some_and(|map| map.absent[tag.point()]);
        let (absent, present): (Vec<&Tag>, Vec<&Tag>) = tags.tags.iter().partition(is_absent);
        let wanted = present.iter().map(|tag| PlanPoint { point: tag.point(), interval: tags.interval(tag) });
        let (found, probe) = match plan::plan(points, &wanted.collect::<Vec<_>>(), terms) {
            Ok(plan) => (plan.groups, plan.probe),
            // A firmware that has none of the tags: any register shows whether the device answers.
            Err(PlanError::NothingWanted) if !absent.is_empty() => (Vec::new(), lone_probe(points, terms)?),
            Err(error) => return Err(error),
        };
        let ids: HashMap<usize, SeriesId> = present.iter().map(|tag| (tag.point(), tag.series)).collect();
        let group = |interval: Duration| {
            let found = found.iter().find(|group| group.interval == interval);
            let blocks = found.map_or(&[][..], |group| &group.blocks);
            let refused = found.map_or(&[][..], |group| &group.refused);
            let blocks = blocks.iter().map(|block| BlockPlan::new(block, blocks, points, &ids)).collect();
            GroupPlan { interval, blocks, refused: refused_tags(refused, &ids) }
        };
        let groups = tags.intervals.iter().copied().map(group).collect();
        Ok(Self { groups, probe, absent: absent.iter().map(|tag| tag.series).collect() })
    }
}

/// The points of a profile as a map has them.
pub(super) fn points_of<'a>(modbus: &'a ModbusProfile, map: Option<&'a FirmwareMap>) -> &'a [Point] {
    map.map_or(&modbus.points, |map| &map.points)
}

fn refused_tags(refused: &[(usize, u8)], ids: &HashMap<usize, SeriesId>) -> Option<RefusedTags> {
    let (series, codes): (Vec<SeriesId>, Vec<u8>) =
        refused.iter().filter_map(|(point, code)| Some((*ids.get(point)?, *code))).unzip();
    (!series.is_empty()).then(|| RefusedTags { series: series.into(), codes })
}

fn lone_probe(points: &[Point], terms: &Terms<'_>) -> Result<Block, PlanError> {
    plan::plan(points, &[PlanPoint { point: 0, interval: Duration::ZERO }], terms).map(|plan| plan.probe)
}
