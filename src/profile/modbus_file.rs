//! The section `[modbus]` of a profile file: limits, pacing, and what most of its points have in common.

use std::time::Duration;

use super::identification::Identification;
use super::point_file::{self, Defaults};
use super::variant_file::{self, Common};
use super::{Addressing, ModbusProfile, Pacing, ReadLimits, identification_file, sunspec_file};
use crate::settings::{Item, Section};

/// Most registers one read may return (Modbus Application Protocol 1.1b3, 6.3).
const REGISTERS_PER_READ: u16 = 125;
/// Most bits one read may return (Modbus Application Protocol 1.1b3, 6.1).
const BITS_PER_READ: u16 = 2000;

/// A device that needs longer to breathe is not one to poll.
const PAUSE_MOST: Duration = Duration::from_secs(60);

/// The sections of a profile beside `[modbus]`.
pub(super) struct Parts<'s, 'i> {
    pub identification: Option<Item<'s, 'i>>,
    pub variants: Vec<Section<'s, 'i>>,
    pub sunspec: Vec<Section<'s, 'i>>,
    pub points: Vec<Section<'s, 'i>>,
}

/// Reads `[modbus]` and what goes with it; `None` when something essential is missing, which was noted.
pub(super) fn read(mut section: Section<'_, '_>, parts: Parts<'_, '_>) -> Option<ModbusProfile> {
    let limits = ReadLimits {
        registers: limit(section.take("registers_max"), REGISTERS_PER_READ),
        bits: limit(section.take("bits_max"), BITS_PER_READ),
        gap: section.take("gaps").and_then(|item| gap(&item)).unwrap_or(0),
    };
    let mut pause = |key| section.duration(key, Duration::ZERO..=PAUSE_MOST).unwrap_or_default();
    let pacing = Pacing { between_requests: pause("between_requests"), after_connect: pause("after_connect") };
    let defaults = Defaults::read(&mut section);
    let Parts { identification, variants, sunspec, points } = parts;
    let is_there = identification.is_some();
    let identification = identification.and_then(Item::section);
    let unreadable = is_there && identification.is_none();
    let identification = identification.map(|section| identification_file::read(section, defaults.table));
    let read = identification.unwrap_or_else(|| identification_file::Read::absent(unreadable));
    if !sunspec.is_empty() {
        let excluded = points.iter().chain(&variants);
        excluded.for_each(|section| section.fault("a profile of SunSpec models has all its points in [[sunspec]]"));
        let sunspec = sunspec_file::read(sunspec, &section, defaults, limits);
        section.finish();
        let sunspec_file::Read { models, points } = sunspec?;
        let identification = Identification { walks_chain: true, ..read.identification };
        let addressing = Addressing::Protocol;
        return Some(ModbusProfile { limits, pacing, points, identification, maps: Vec::new(), models, addressing });
    }
    let mut points = point_file::read(points, &section, defaults, limits);
    section.finish();
    let common = Common { defaults, limits };
    let maps = variant_file::read(variants, common, &read, &mut points);
    let (identification, addressing) = (read.identification, defaults.addressing.value().unwrap_or_default());
    Some(ModbusProfile {
        limits,
        pacing,
        points: points.complete()?,
        identification,
        maps: maps?,
        models: Vec::new(),
        addressing,
    })
}

fn limit(item: Option<Item<'_, '_>>, most: u16) -> u16 {
    let written = item.and_then(|item| item.integer(1..=i64::from(most)));
    written.and_then(|number| u16::try_from(number).ok()).unwrap_or(most)
}

/// How much that nobody wants may be read along; 0 where the device refuses registers that it does not have.
fn gap(item: &Item<'_, '_>) -> Option<u16> {
    match item.as_word() {
        Some("allowed") => return Some(u16::MAX),
        Some("forbidden") => return Some(0),
        Some(_) | None => {}
    }
    let number = item.any_integer().and_then(|number| u16::try_from(number).ok());
    if number.is_none() {
        item.fault("must be \"allowed\", \"forbidden\" or the number of registers (or bits) that may be read along");
    }
    number
}
