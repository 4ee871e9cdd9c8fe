//! The sections `[[sunspec]]` of a profile file: points by model and offset instead of by address.

use super::point::{ByteOrder, Point, Table};
use super::point_file::{self, Defaults};
use super::sunspec::{HEADER, ModelMap, WORD_ORDER, every_model, place};
use super::{ReadLimits, variant_file};
use crate::settings::{Item, Section};

/// Most models with one layout on a device.
const INSTANCES_MAX: i64 = 16;

/// The models, and every point of any of them at the address it has on a device with all.
pub(super) struct Read {
    pub models: Vec<ModelMap>,
    pub points: Vec<Point>,
}

/// Reads all sections; `None` when one has a fault, which was noted.
pub(super) fn read(
    sections: Vec<Section<'_, '_>>,
    above: &Section<'_, '_>,
    defaults: Defaults,
    limits: ReadLimits,
) -> Option<Read> {
    let mut points: Vec<Point> = Vec::new();
    let mut models = Vec::new();
    let mut all_read = true;
    for section in sections {
        match model(section, above, defaults, limits, &mut points) {
            Some(model) => models.push(model),
            None => all_read = false,
        }
    }
    if !all_read {
        return None;
    }
    unify(&mut models, &mut points);
    let points = place(&models, &points, &every_model(&models)).points;
    Some(Read { models, points })
}

fn model(
    mut section: Section<'_, '_>,
    above: &Section<'_, '_>,
    defaults: Defaults,
    limits: ReadLimits,
    points: &mut Vec<Point>,
) -> Option<ModelMap> {
    let ids = section.require("ids", "the models with this layout, such as [101, 102, 103]").and_then(ids);
    if let Some(ids) = &ids {
        let written: Vec<String> = ids.iter().map(u16::to_string).collect();
        section.call(&written.join(", "));
    }
    let instance = section.take("instance").map_or(Some(1), |item| item.integer(1..=INSTANCES_MAX));
    let own = section.sections("point");
    let lacks_points = own.is_empty();
    if lacks_points {
        section.missing("point", "at least one point with a name and its offset from the id of the model as address");
    }
    let own = point_file::read(own, above, defaults, limits).complete();
    let faults = own.iter().flatten().filter(|point| !fits(&section, point, points)).count();
    section.finish();
    let own = own.filter(|_| faults == 0 && !lacks_points)?;
    let indices: Vec<usize> = own.iter().map(|point| place_point(points, point)).collect();
    let place = |(own_index, point): (usize, &Point)| {
        let scale_factor = point.scale_factor.map(|factor| indices[factor]);
        (indices[own_index], Point { scale_factor, ..point.clone() })
    };
    let placed = own.iter().enumerate().map(place).collect();
    let instance = usize::try_from(instance?).ok()?;
    Some(ModelMap { ids: ids?, instance, points: placed })
}

/// The models: `[101, 102, 103]`.
fn ids(item: Item<'_, '_>) -> Option<Vec<u16>> {
    let id = |item: &Item<'_, '_>| item.integer(1..=65534).and_then(|id| u16::try_from(id).ok());
    let ids: Vec<u16> = item.clone().list()?.iter().map(id).collect::<Option<_>>()?;
    if ids.is_empty() {
        item.fault("must name at least one model");
    }
    Some(ids).filter(|ids| !ids.is_empty())
}

/// False when the point cannot be one of a model, which is noted.
fn fits(section: &Section<'_, '_>, point: &Point, others: &[Point]) -> bool {
    let is_sunspec = point.word_order == WORD_ORDER && point.byte_order == ByteOrder::HighFirst;
    let fault = if point.table != Table::HoldingRegisters || !is_sunspec || !point.scattered.is_empty() {
        "lies in holding registers, the most significant first, in every SunSpec device"
    } else if point.address < HEADER {
        "needs the offset from the id of its model as address, 2 or more"
    } else if others
        .iter()
        .any(|other| other.name == point.name && variant_file::class(other) != variant_file::class(point))
    {
        "is a number in one model and none in another: give it another name"
    } else {
        return true;
    };
    section.fault(format!("{} {fault}", point.name));
    false
}

/// Index of a point among all; a model before may have it too.
fn place_point(points: &mut Vec<Point>, point: &Point) -> usize {
    let found = points.iter().position(|other| other.name == point.name);
    found.unwrap_or_else(|| {
        points.push(point.clone());
        points.len() - 1
    })
}

/// A series must mean the same whichever model it is read of: where they keep a point differently, it is scaled while
/// decoding and kept as a double.
fn unify(models: &mut [ModelMap], points: &mut [Point]) {
    for (index, point) in points.iter_mut().enumerate() {
        let differs = models.iter().flat_map(|model| &model.points).any(|(placed, other)| {
            *placed == index && (other.kind() != point.kind() || other.listed_scale() != point.listed_scale())
        });
        if differs {
            point.computed = true;
            let placed = models.iter_mut().flat_map(|model| &mut model.points).filter(|(placed, _)| *placed == index);
            placed.for_each(|(_, point)| point.computed = true);
        }
    }
}
