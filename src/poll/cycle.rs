//! What is asked of one device, prepared once, and how the answers of one round become rows. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::DeviceConfig;
use crate::modbus::codec;
use crate::modbus::plan::{self, Block, PlanPoint};
use crate::model::{Fault, Name, Observed, Row, SeriesId, Timestamp, UnitId};
use crate::profile::{Pacing, Point, Profile, Protocol};

use super::poller::PollerError;

/// One device, ready to be asked.
pub(super) struct DevicePlan {
    pub(super) name: Name,
    pub(super) unit: UnitId,
    pub(super) pacing: Pacing,
    pub(super) groups: Vec<GroupPlan>,
    pub(super) probe: Block,
    profile: Arc<Profile>,
}

/// The blocks of one interval.
pub(super) struct GroupPlan {
    pub(super) interval: Duration,
    pub(super) blocks: Vec<BlockPlan>,
}

/// One request and the shape of its row.
pub(super) struct BlockPlan {
    pub(super) block: Block,
    series: Arc<[SeriesId]>,
    points: Vec<PointPlace>,
}

struct PointPlace {
    point: usize,
    offset: usize,
    width: usize,
    factor: Option<FactorPlace>,
}

/// Where in the group the scale factor of a point is read.
struct FactorPlace {
    point: usize,
    block: usize,
    offset: usize,
}

impl DevicePlan {
    /// Plans the reads of `device`; `series` holds the id of each of its tags.
    pub(super) fn new(device: &DeviceConfig, series: &[SeriesId]) -> Result<Self, PollerError> {
        let not_modbus = || PollerError::NotModbus { device: device.name.clone() };
        let unit = device.unit.ok_or_else(not_modbus)?;
        let Protocol::Modbus(modbus) = &device.profile.protocol else { return Err(not_modbus()) };
        let wanted: Vec<PlanPoint> =
            device.tags.iter().map(|tag| PlanPoint { point: tag.point, interval: tag.interval }).collect();
        let plan = plan::plan(&modbus.points, &wanted, modbus.limits)
            .map_err(|source| PollerError::Plan { device: device.name.clone(), source })?;
        let ids: HashMap<usize, SeriesId> =
            device.tags.iter().map(|tag| tag.point).zip(series.iter().copied()).collect();
        let group = |group: plan::PollGroup| GroupPlan {
            interval: group.interval,
            blocks: group.blocks.iter().map(|block| block_plan(block, &group.blocks, &modbus.points, &ids)).collect(),
        };
        Ok(Self {
            name: device.name.clone(),
            unit,
            pacing: modbus.pacing,
            groups: plan.groups.into_iter().map(group).collect(),
            probe: plan.probe,
            profile: Arc::clone(&device.profile),
        })
    }

    /// The rows of one round of the group with this index. A block that was not asked gives none, and neither does
    /// one whose scale factors were not.
    pub(super) fn rows(&self, group: usize, answers: &Answers) -> Vec<Row> {
        let blocks = &self.groups[group].blocks;
        blocks.iter().enumerate().filter_map(|(index, block)| self.row(index, block, answers)).collect()
    }

    /// Every tag of the device bad for one reason, in rows of the same shapes as ever.
    pub(super) fn all_bad(&self, time: Timestamp, fault: Fault) -> Vec<Row> {
        let blocks = self.groups.iter().flat_map(|group| &group.blocks).filter(|block| !block.series.is_empty());
        blocks.map(|block| Row::all_bad(Arc::clone(&block.series), time, fault)).collect()
    }

    fn row(&self, index: usize, block: &BlockPlan, answers: &Answers) -> Option<Row> {
        let (time, words) = answers.get(index)?;
        if block.series.is_empty() {
            return None;
        }
        let series = Arc::clone(&block.series);
        let words = match words {
            Ok(words) => words,
            Err(fault) => return Some(Row::all_bad(series, time, fault)),
        };
        let observed: Option<Vec<Observed>> =
            block.points.iter().map(|place| self.observed(place, words, answers)).collect();
        Some(Row { series, time, observed: observed? })
    }

    fn observed(&self, place: &PointPlace, words: &[u16], answers: &Answers) -> Option<Observed> {
        let points = self.points();
        let factor = match &place.factor {
            None => None,
            Some(FactorPlace { point, block, offset }) => Some(match answers.get(*block)?.1 {
                Ok(words) => match words.get(*offset..*offset + usize::from(points[*point].encoding.width())) {
                    Some(words) => codec::decode_scale_factor(&points[*point], words),
                    None => Err(Fault::WrongAnswer),
                },
                Err(fault) => Err(fault),
            }),
        };
        Some(match words.get(place.offset..place.offset + place.width) {
            Some(words) => codec::decode(&points[place.point], words, factor),
            None => Observed::Bad(Fault::WrongAnswer),
        })
    }

    fn points(&self) -> &[Point] {
        match &self.profile.protocol {
            Protocol::Modbus(modbus) => &modbus.points,
            Protocol::Text(_) => &[],
        }
    }
}

fn block_plan(block: &Block, group: &[Block], points: &[Point], ids: &HashMap<usize, SeriesId>) -> BlockPlan {
    let factor = |factor: usize| {
        group.iter().enumerate().find_map(|(index, block)| {
            let place = block.points.iter().find(|place| place.point == factor)?;
            Some(FactorPlace { point: factor, block: index, offset: usize::from(place.offset) })
        })
    };
    let wanted = block.points.iter().filter(|place| place.wanted && ids.contains_key(&place.point));
    let places = wanted.clone().map(|place| PointPlace {
        point: place.point,
        offset: usize::from(place.offset),
        width: usize::from(points[place.point].encoding.width()),
        factor: points[place.point].scale_factor.and_then(factor),
    });
    BlockPlan {
        block: block.clone(),
        series: wanted.clone().map(|place| ids[&place.point]).collect(),
        points: places.collect(),
    }
}

/// What the blocks of one round answered. Kept between rounds for its memory.
#[derive(Default)]
pub(super) struct Answers {
    answers: Vec<Answer>,
    asked: usize,
}

#[derive(Default)]
struct Answer {
    words: Vec<u16>,
    time: Timestamp,
    fault: Option<Fault>,
}

impl Answers {
    /// Forgets all answers.
    pub(super) fn clear(&mut self) {
        self.asked = 0;
    }

    /// Room for the words of the next block; [`finish`](Self::finish) completes it.
    pub(super) fn next_words(&mut self) -> &mut Vec<u16> {
        if self.answers.len() == self.asked {
            self.answers.push(Answer::default());
        }
        &mut self.answers[self.asked].words
    }

    /// Completes the block begun with [`next_words`](Self::next_words).
    pub(super) fn finish(&mut self, time: Timestamp, fault: Option<Fault>) {
        self.next_words();
        self.answers[self.asked].time = time;
        self.answers[self.asked].fault = fault;
        self.asked += 1;
    }

    fn get(&self, block: usize) -> Option<(Timestamp, Result<&[u16], Fault>)> {
        let answer = self.answers[..self.asked].get(block)?;
        Some((answer.time, answer.fault.map_or(Ok(answer.words.as_slice()), Err)))
    }
}
