//! The sections `[[variant]]` of a profile file: what differs from the points of the file from which firmware on.

use std::collections::BTreeMap;

use super::ReadLimits;
use super::identification_file::{Read, range};
use super::point::{Point, Table};
use super::point_file::{self, Defaults, Points, TABLES};
use super::variant::FirmwareMap;
use super::version::VersionRange;
use crate::model::ValueKind;
use crate::settings::{Item, Section};

/// What the points have in common and how they may be read.
#[derive(Clone, Copy)]
pub(super) struct Common {
    pub defaults: Defaults,
    pub limits: ReadLimits,
}

/// A variant as far as it is read.
struct Draft {
    name: String,
    models: Vec<String>,
    versions: VersionRange,
    moves: Vec<Move>,
    changed: Vec<(usize, Point)>,
    removed: Vec<usize>,
    added: Vec<Point>,
}

/// Registers that lie elsewhere, as one block.
struct Move {
    table: Table,
    first: u16,
    last: u16,
    by: i32,
}

/// Reads all variants. `points` are those of the file; what variants add is appended. The first map is that of the
/// file, for the versions `base`. No variant, no maps.
pub(super) fn read(
    sections: Vec<Section<'_, '_>>,
    common: Common,
    identified: &Read,
    base: &mut Points,
) -> Option<Vec<FirmwareMap>> {
    if sections.is_empty() {
        return Some(Vec::new());
    }
    let mut drafts = Vec::new();
    let mut all_read = true;
    for section in sections {
        match draft(section, common, identified, base, &drafts) {
            Some(draft) => drafts.push(draft),
            None => all_read = false,
        }
    }
    if !all_read || base.faulty.contains(&true) {
        return None;
    }
    let (points, base) = (&mut base.points, identified.base.clone());
    let own = points.len();
    let added: Vec<Vec<usize>> =
        drafts.iter().map(|draft| draft.added.iter().map(|point| place_added(points, point)).collect()).collect();
    let absent = |added: &[usize]| (0..points.len()).map(|index| index >= own && !added.contains(&index)).collect();
    let name = if base == VersionRange::default() { "base map".to_owned() } else { base.to_string() };
    let first = FirmwareMap { name, models: Vec::new(), versions: base, points: points.clone(), absent: absent(&[]) };
    let mut maps = vec![first];
    for (draft, added) in drafts.into_iter().zip(added) {
        let absent = absent(&added);
        maps.push(apply(draft, &added, absent, points));
    }
    unify(&mut maps, points);
    Some(maps)
}

fn draft(
    mut section: Section<'_, '_>,
    common: Common,
    identified: &Read,
    base: &Points,
    others: &[Draft],
) -> Option<Draft> {
    let item = section.take("versions");
    let versions = item.as_ref().map_or(Some(VersionRange::default()), |item| range(item, identified.scheme));
    let models = section.take("models").map(|item| models(item, identified)).unwrap_or_default();
    if item.is_none() && models.is_empty() {
        section.missing("versions", "from which version on, and before which, such as \"2.6.2..\"; or models");
    }
    let span = item.as_ref().and_then(Item::as_word).map(span_name);
    let name = [(!models.is_empty()).then(|| models.join(", ")), span];
    let name = name.into_iter().flatten().collect::<Vec<_>>().join(" ");
    section.call(&name);
    if let (Some(item), Some(versions)) = (&item, &versions)
        && let Some(other) = others.iter().find(|other| other.models == models && other.versions.overlaps(versions))
    {
        item.fault(format!("overlaps the variant {}", other.name));
    }
    let mut all_good = true;
    let moves: Vec<Move> = collect(section.sections("shift").into_iter().map(read_move), &mut all_good);
    let changes = section.sections("change").into_iter().map(|change| read_change(change, common, base));
    let changed = collect(changes, &mut all_good);
    let removed = section.take("remove").and_then(Item::list).unwrap_or_default();
    let removed = collect(removed.iter().map(|item| named(item, &base.points)), &mut all_good);
    let added = read_added(section.sections("point"), common, &base.points, &mut all_good);
    section.finish();
    let versions = versions.filter(|_| all_good)?;
    Some(Draft { name, models, versions, moves, changed, removed, added })
}

/// `"1.1..2.0"` in words: `from 1.1, before 2.0`.
fn span_name(written: &str) -> String {
    let (from, below) = written.split_once("..").unwrap_or((written, ""));
    let ends = [("from", from.trim()), ("before", below.trim())].into_iter().filter(|(_, end)| !end.is_empty());
    ends.map(|(word, end)| format!("{word} {end}")).collect::<Vec<_>>().join(", ")
}

fn collect<T>(read: impl Iterator<Item = Option<T>>, all_good: &mut bool) -> Vec<T> {
    let read: Vec<Option<T>> = read.collect();
    *all_good &= read.iter().all(Option::is_some);
    read.into_iter().flatten().collect()
}

fn models(item: Item<'_, '_>, identified: &Read) -> Vec<String> {
    let known = identified.model_names.as_deref();
    let one = |item: &Item<'_, '_>| {
        let name = item.text()?;
        if let Some(known) = known.filter(|known| !known.contains(&name)) {
            item.fault(format!("must be a model of [identification] ({})", known.join(", ")));
        }
        Some(name)
    };
    item.list().into_iter().flatten().filter_map(|item| one(&item)).collect()
}

/// Index of the point of the file that `item` names, or a fault.
fn named(item: &Item<'_, '_>, base: &[Point]) -> Option<usize> {
    let name = item.text()?;
    let found = base.iter().position(|point| point.name == name);
    if found.is_none() {
        item.fault("must be the name of a point of this file");
    }
    found
}

fn read_move(mut section: Section<'_, '_>) -> Option<Move> {
    let table = section.require("table", "one of coil, discrete, holding, input").and_then(|item| item.choice(TABLES));
    let mut number = |key, range| section.require(key, "a whole number").and_then(|item| item.integer(range));
    let (first, last) = (number("first", 0..=65535), number("last", 0..=65535));
    let by = number("by", -65535..=65535);
    let (first, last) = (u16::try_from(first?).ok()?, u16::try_from(last?).ok()?);
    let by = i32::try_from(by?).ok()?;
    let is_inside = i32::from(first) + by >= 0 && i32::from(last) + by <= i32::from(u16::MAX);
    if first > last || !is_inside {
        section.fault("first must not be after last, and both must stay 0 to 65535 when moved");
        section.finish();
        return None;
    }
    section.finish();
    Some(Move { table: table?, first, last, by })
}

/// What is different about one point.
fn read_change(mut section: Section<'_, '_>, common: Common, base: &Points) -> Option<(usize, Point)> {
    let (base, faulty) = (&base.points, &base.faulty);
    let item = section.require("name", "the name of a point of this file")?;
    let Some(index) = named(&item, base) else {
        section.rest();
        return None;
    };
    section.call(&base[index].name);
    let changed = point_file::read_change(section, &base[index], common.defaults, common.limits)?;
    if !faulty[index] && class(&changed) != class(&base[index]) {
        item.fault("a number must stay a number, a bit a bit and text text: give what differs another name");
        return None;
    }
    Some((index, changed))
}

/// Kinds that a series can hold together.
pub(super) fn class(point: &Point) -> u8 {
    match point.kind() {
        ValueKind::Int | ValueKind::Uint | ValueKind::F32 | ValueKind::F64 => 0,
        ValueKind::Bool => 1,
        ValueKind::Text => 2,
    }
}

fn read_added(sections: Vec<Section<'_, '_>>, common: Common, base: &[Point], all_good: &mut bool) -> Vec<Point> {
    let mut names = BTreeMap::new();
    let mut added = Vec::new();
    for (index, mut section) in sections.into_iter().enumerate() {
        let name = point_file::name_point(&mut section, index, &mut names);
        if let Some(name) = &name
            && base.iter().any(|point| point.name == *name)
        {
            section.fault("is a point of this file already: say what differs in change");
            *all_good = false;
        }
        let draft = point_file::read_point(&mut section, common.defaults, common.limits);
        let point = draft.alone(&section);
        section.finish();
        *all_good &= name.is_some() && point.is_some();
        added.extend(point.zip(name).map(|(point, name)| Point { name, ..point }));
    }
    added
}

/// Index of an added point among all; a variant before may have added it too.
fn place_added(points: &mut Vec<Point>, added: &Point) -> usize {
    let found = points.iter().position(|point| point.name == added.name);
    found.unwrap_or_else(|| {
        points.push(added.clone());
        points.len() - 1
    })
}

fn apply(draft: Draft, added: &[usize], mut absent: Vec<bool>, points: &[Point]) -> FirmwareMap {
    let mut own = points.to_vec();
    for point in &mut own {
        let moved = draft
            .moves
            .iter()
            .find(|step| step.table == point.table && (step.first..=step.last).contains(&point.address));
        if let Some(step) = moved {
            point.address = shifted(point.address, step.by);
            point.scattered.iter_mut().for_each(|address| *address = shifted(*address, step.by));
            if let Some(whole) = &mut point.read_whole {
                whole.address = shifted(whole.address, step.by);
            }
        }
    }
    for (index, changed) in draft.changed {
        own[index] = changed;
    }
    for (index, point) in added.iter().zip(draft.added) {
        own[*index] = point;
    }
    for index in draft.removed {
        absent[index] = true;
    }
    FirmwareMap { name: draft.name, models: draft.models, versions: draft.versions, points: own, absent }
}

/// The check of the move keeps points whose first register moves inside the addresses; a longer one may reach the end.
fn shifted(address: u16, by: i32) -> u16 {
    u16::try_from((i32::from(address) + by).clamp(0, i32::from(u16::MAX))).unwrap_or(address)
}

/// A series must mean the same whatever the firmware: where maps scale or keep a point differently, its value is
/// scaled here and kept as a double.
fn unify(maps: &mut [FirmwareMap], points: &mut [Point]) {
    for (index, point) in points.iter_mut().enumerate() {
        let mut kept = maps.iter().filter(|map| !map.absent[index]).map(|map| &map.points[index]);
        let Some(first) = kept.next() else { continue };
        let differs = kept.any(|other| {
            other.kind() != first.kind() || other.listed_scale() != first.listed_scale() || other.unit != first.unit
        });
        if differs && class(first) == 0 {
            point.computed = true;
            maps.iter_mut().for_each(|map| map.points[index].computed = true);
        }
    }
}
