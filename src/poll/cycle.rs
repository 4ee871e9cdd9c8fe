//! What is asked of one device, prepared once, and how the answers of one round become rows. Pure.

mod answers;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{DeviceConfig, Endpoint};
use crate::modbus::codec;
use crate::modbus::identify::Identity;
use crate::modbus::lessons::Lessons;
use crate::modbus::plan::{Block, ReadCost, Terms};
use crate::modbus::timing;
use crate::model::{Doubt, Fault, Name, Observed, Row, SeriesId, Timestamp, UnitId};
use crate::profile::sunspec::{self, ModelAt};
use crate::profile::{FirmwareMap, ModbusProfile, Pacing, Point, Profile, Protocol};

use super::identity::judgement;
use super::poller::PollerError;
pub(super) use answers::Answers;
use reads::{BlockPlan, FactorPlace, GroupPlan, PartPlace, PointPlace, Reads, Tags, points_of};

/// One device, ready to be asked.
pub(super) struct DevicePlan {
    pub(super) name: Name,
    pub(super) unit: UnitId,
    pub(super) pacing: Pacing,
    pub(super) groups: Vec<GroupPlan>,
    pub(super) probe: Block,
    profile: Arc<Profile>,
    map: MapInUse,
    /// Why the values are doubtful, whatever they are.
    doubt: Option<Doubt>,
    /// Why there are no values, whatever the device answers.
    bar: Option<Fault>,
    tags: Tags,
    absent: Vec<SeriesId>,
    cost: ReadCost,
    lessons: Arc<Lessons>,
}

/// Where the registers are and how they are understood.
enum MapInUse {
    /// As the profile says, the map with this index.
    Listed(usize),
    /// As the device laid it out.
    Walked(Vec<ModelAt>, Box<FirmwareMap>),
}

impl DevicePlan {
    /// Plans the reads of `device`; `series` holds the id of each of its tags. Until the device is identified its map
    /// is the first of the profile.
    pub(super) fn new(
        device: &DeviceConfig,
        series: &[SeriesId],
        endpoint: &Endpoint,
        lessons: Arc<Lessons>,
    ) -> Result<Self, PollerError> {
        let not_modbus = || PollerError::NotModbus { device: device.name.clone() };
        let unit = device.unit.ok_or_else(not_modbus)?;
        let Protocol::Modbus(modbus) = &device.profile.protocol else { return Err(not_modbus()) };
        let tags = Tags::new(device, series);
        let fault = |source| PollerError::Plan { device: device.name.clone(), source };
        let cost = timing::read_cost(endpoint, modbus.pacing);
        let terms = Terms { limits: modbus.limits, cost, lessons: &lessons };
        // Every map must be one that can be read: what a device says later must not end its poller.
        for map in &modbus.maps {
            Reads::plan(modbus, Some(map), &tags, &terms).map_err(fault)?;
        }
        let reads = Reads::plan(modbus, modbus.maps.first(), &tags, &terms).map_err(fault)?;
        let reads = if modbus.models.is_empty() { reads } else { Reads::of_unknown_map(&tags) };
        let Reads { groups, probe, absent } = reads;
        let (pacing, doubt) = (modbus.pacing, depends_on_device(modbus).then_some(Doubt::UnknownFirmware));
        let (name, profile) = (device.name.clone(), Arc::clone(&device.profile));
        Ok(Self {
            name,
            unit,
            pacing,
            groups,
            probe,
            profile,
            map: MapInUse::Listed(0),
            doubt,
            bar: None,
            tags,
            absent,
            cost,
            lessons,
        })
    }

    /// The profile, which is a Modbus one.
    pub(super) fn modbus(&self) -> Option<&ModbusProfile> {
        match &self.profile.protocol {
            Protocol::Modbus(modbus) => Some(modbus),
            Protocol::Text(_) => None,
        }
    }

    /// Why the device may refuse what it is asked for, when the address of a tag looks like one out of a manual.
    pub(super) fn address_hint(&self) -> Option<String> {
        let modbus = self.modbus().filter(|_| !self.profile.is_shipped())?;
        self.tags.points().find_map(|point| {
            let point = modbus.points.get(point)?;
            let hint = modbus.explain_refusal(point)?;
            Some(format!("{} at {}: {hint}", point.name, point.address))
        })
    }

    /// A point of the profile as the map in use has it; nothing where the device does not have it.
    pub(super) fn point(&self, index: usize) -> Option<&Point> {
        let map = match &self.map {
            MapInUse::Listed(listed) => self.modbus()?.maps.get(*listed),
            MapInUse::Walked(_, map) => Some(&**map),
        };
        let is_absent = map.is_some_and(|map| map.absent.get(index) == Some(&true));
        self.points().get(index).filter(|_| !is_absent)
    }

    /// From now on the registers are read and understood as fits this device.
    pub(super) fn adopt(&mut self, identity: &Identity) {
        (self.doubt, self.bar) = judgement(&identity.verdict);
        let Protocol::Modbus(modbus) = &self.profile.protocol else { return };
        let (map, index) = match (&self.map, identity.models.as_slice()) {
            (MapInUse::Listed(index), []) if *index == identity.chosen.map => return,
            (MapInUse::Walked(known, _), chain) if known == chain => return,
            // It was heard again and showed no models: the map stays, nothing is read by it.
            (MapInUse::Walked(..), []) => return,
            (MapInUse::Listed(_), []) => (modbus.maps.get(identity.chosen.map).cloned(), identity.chosen.map),
            (_, chain) => (Some(sunspec::place(&modbus.models, &modbus.points, chain)), 0),
        };
        let terms = Terms { limits: modbus.limits, cost: self.cost, lessons: &self.lessons };
        match Reads::plan(modbus, map.as_ref(), &self.tags, &terms) {
            Ok(reads) => Reads { groups: self.groups, probe: self.probe, absent: self.absent } = reads,
            // The maps of a profile were planned before, and a model has no point that a profile may not have.
            Err(error) => {
                tracing::error!(device = %self.name, %error, "the map of the device cannot be read");
                self.bar = Some(Fault::NotInFirmware);
                return;
            }
        }
        self.map = match (map, identity.models.is_empty()) {
            (Some(map), false) => MapInUse::Walked(identity.models.clone(), Box::new(map)),
            (_, _) => MapInUse::Listed(index),
        };
    }

    /// From now on the device is asked by these lessons.
    pub(super) fn follow(&mut self, lessons: Arc<Lessons>) {
        self.lessons = lessons;
        self.plan_anew();
    }

    fn plan_anew(&mut self) {
        let profile = Arc::clone(&self.profile);
        let Protocol::Modbus(modbus) = &profile.protocol else { return };
        let terms = Terms { limits: modbus.limits, cost: self.cost, lessons: &self.lessons };
        let reads = match &self.map {
            // Not heard yet: there is nothing to plan.
            MapInUse::Listed(_) if !modbus.models.is_empty() => return,
            MapInUse::Listed(index) => Reads::plan(modbus, modbus.maps.get(*index), &self.tags, &terms),
            MapInUse::Walked(_, map) => Reads::plan(modbus, Some(map), &self.tags, &terms),
        };
        // Planned once before, so there is a plan.
        if let Ok(reads) = reads {
            Reads { groups: self.groups, probe: self.probe, absent: self.absent } = reads;
        }
    }

    /// Part of the time of its link that its polls take, predicted; those without pause not counted.
    pub(super) fn predicted_ratio(&self, endpoint: &Endpoint, turnaround: Option<Duration>) -> f64 {
        let time =
            |block: &BlockPlan| timing::request_time(endpoint, &block.block, self.pacing, turnaround).as_secs_f64();
        let paced = self.groups.iter().filter(|group| !group.interval.is_zero());
        paced.map(|group| group.blocks.iter().map(time).sum::<f64>() / group.interval.as_secs_f64()).sum()
    }

    /// Registers or bits that the point with this index takes.
    pub(super) fn width(&self, point: usize) -> u16 {
        self.points().get(point).map_or(1, Point::items)
    }

    /// The device may have become another: until that is known its values are doubtful, where maps differ.
    pub(super) fn doubt_all(&mut self) {
        let depends = self.modbus().is_some_and(depends_on_device);
        self.doubt = depends.then_some(Doubt::UnknownFirmware);
    }

    /// Why the device must not be polled.
    pub(super) fn barred(&self) -> Option<Fault> {
        self.bar
    }

    /// The tags that the firmware of the device does not have, bad; `None` when it has all.
    pub(super) fn absent_row(&self, time: Timestamp) -> Option<Row> {
        let absent = (!self.absent.is_empty()).then(|| self.absent.as_slice().into());
        absent.map(|series| Row::all_bad(series, time, Fault::NotInFirmware))
    }

    /// The rows of one round of the group with this index. A block that was not asked gives none, and neither does
    /// one whose scale factors were not.
    pub(super) fn rows(&self, group: usize, answers: &Answers, now: Timestamp) -> Vec<Row> {
        let GroupPlan { blocks, refused, .. } = &self.groups[group];
        let rows = blocks.iter().enumerate().filter_map(|(index, block)| self.row(index, block, answers));
        // A device that does not answer refuses nothing.
        let refused = refused.as_ref().map(|refused| match answers.silence() {
            Some(fault) => Row::all_bad(Arc::clone(&refused.series), now, fault),
            None => refused.row(now),
        });
        rows.chain(refused).collect()
    }

    /// Every tag of the device bad for one reason, in rows of the same shapes as ever.
    pub(super) fn all_bad(&self, time: Timestamp, fault: Fault) -> Vec<Row> {
        let blocks = self.groups.iter().flat_map(|group| &group.blocks).map(|block| &block.series);
        let refused = self.groups.iter().filter_map(|group| group.refused.as_ref()).map(|refused| &refused.series);
        let series = blocks.chain(refused).filter(|series| !series.is_empty());
        series.map(|series| Row::all_bad(Arc::clone(series), time, fault)).collect()
    }

    /// These blocks of a group, and those that need a scale factor or a scattered register out of one of them.
    pub(super) fn with_factors(&self, group: usize, blocks: &[usize]) -> Vec<usize> {
        let needs_one = |block: &BlockPlan| block.other_blocks().any(|other| blocks.contains(&other));
        let all = self.groups[group].blocks.iter().enumerate();
        all.filter(|(index, block)| blocks.contains(index) || needs_one(block)).map(|(index, _)| index).collect()
    }

    /// The series of the rows of these blocks.
    pub(super) fn series_of(&self, group: usize, blocks: &[usize]) -> Vec<Arc<[SeriesId]>> {
        let of = |index: &usize| self.groups[group].blocks.get(*index).map(|block| Arc::clone(&block.series));
        blocks.iter().filter_map(of).collect()
    }

    /// For each block of a group, whether it is needed for one of `wanted`: itself, scale factors, scattered registers.
    pub(super) fn blocks_with(&self, group: usize, wanted: &[SeriesId]) -> Vec<bool> {
        let blocks = &self.groups[group].blocks;
        let has_one = |block: &BlockPlan| block.series.iter().any(|id| wanted.contains(id));
        let factors: Vec<usize> =
            blocks.iter().filter(|block| has_one(block)).flat_map(BlockPlan::other_blocks).collect();
        blocks.iter().enumerate().map(|(index, block)| has_one(block) || factors.contains(&index)).collect()
    }

    fn row(&self, index: usize, block: &BlockPlan, answers: &Answers) -> Option<Row> {
        let (time, words) = answers.get(index)?;
        if block.series.is_empty() {
            return None;
        }
        let series = Arc::clone(&block.series);
        let words = match words {
            // Asked to hear whether there is a device: where its values are is not known yet.
            Ok(_) if block.points.is_empty() => return None,
            Ok(words) => words,
            Err(fault) => return Some(Row::all_bad(series, time, fault)),
        };
        let observed: Option<Vec<Observed>> =
            block.points.iter().map(|place| self.observed(place, words, answers)).collect();
        Some(Row { series, time, observed: observed? })
    }

    fn observed(&self, place: &PointPlace, words: &[u16], answers: &Answers) -> Option<Observed> {
        let point = &self.points()[place.point()];
        let factor = match place.factor() {
            None => None,
            Some(factor) => Some(match answers.get(factor.block())?.1 {
                Ok(words) => self.scale_factor(factor, words),
                Err(fault) => Err(fault),
            }),
        };
        let observed = match place.parts() {
            [] => {
                place.of(words).map_or(Observed::Bad(Fault::WrongAnswer), |words| codec::decode(point, words, factor))
            }
            parts => match gathered(words, place, parts, answers)? {
                Ok(words) => codec::decode(point, &words, factor),
                Err(fault) => Observed::Bad(fault),
            },
        };
        Some(match (observed, self.doubt) {
            (Observed::Good(value), Some(doubt)) => Observed::Uncertain(value, doubt),
            (observed, _) => observed,
        })
    }

    fn scale_factor(&self, place: &FactorPlace, words: &[u16]) -> Result<i16, Fault> {
        let point = &self.points()[place.point()];
        let words = place.of(words, point.encoding.width()).ok_or(Fault::WrongAnswer)?;
        codec::decode_scale_factor(point, words)
    }

    fn points(&self) -> &[Point] {
        match &self.map {
            MapInUse::Listed(index) => self.modbus().map_or(&[], |modbus| points_of(modbus, modbus.maps.get(*index))),
            MapInUse::Walked(_, map) => &map.points,
        }
    }
}

/// The registers of a point that are scattered: all of one round, and all good or none. `None` when one of its blocks
/// was not asked.
fn gathered(
    words: &[u16],
    place: &PointPlace,
    parts: &[PartPlace],
    answers: &Answers,
) -> Option<Result<Vec<u16>, Fault>> {
    let mut all: Vec<u16> = place.of(words).map(<[u16]>::to_vec).unwrap_or_default();
    for part in parts {
        match answers.get(part.block())?.1 {
            Ok(words) => all.extend(part.of(words)),
            Err(fault) => return Some(Err(fault)),
        }
    }
    Some(Ok(all))
}

/// True when the map depends on what the device says of itself.
fn depends_on_device(modbus: &ModbusProfile) -> bool {
    !modbus.maps.is_empty() || !modbus.models.is_empty()
}
