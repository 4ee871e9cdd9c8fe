//! The sections `[[point]]` of a register map.

use std::collections::BTreeMap;
use std::time::Duration;

use super::address_file::{self, Place};
use super::encoding_file::{
    BYTE_ORDERS, ENCODINGS, EncodingKeys, Found, Inherited, WORD_ORDERS, Written, encoding_names,
};
use super::point::{ByteOrder, Encoding, Point, Registers, Table, WordOrder, items};
use super::value_file::{read_range, read_scale, read_sentinels, read_states};
use super::{Addressing, INTERVAL_MOST, ReadLimits};
use crate::model::{Scale, ValueKind};
use crate::settings::{Item, Section};

pub(super) const TABLES: &[(&str, Table)] = &[
    ("coil", Table::Coils),
    ("discrete", Table::DiscreteInputs),
    ("holding", Table::HoldingRegisters),
    ("input", Table::InputRegisters),
    ("holding32", Table::HoldingRegisters32),
    ("input32", Table::InputRegisters32),
];

const TABLE_ALLOWED: &str = "one of coil, discrete, holding, input, holding32, input32";

const NOT_A_FACTOR: &str = "must be a point of encoding i16 that is not scaled itself";

/// What a point has when it does not say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub table: Inherited<Table>,
    pub addressing: Inherited<Addressing>,
    encoding: Inherited<Written>,
    word_order: WordOrder,
    byte_order: ByteOrder,
}

impl Defaults {
    /// Takes `table`, `encoding`, `word_order`, `byte_order` and `addressing` out of a section above the points.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let addressing = [("protocol", Addressing::Protocol), ("modicon", Addressing::Modicon)];
        Self {
            table: Inherited::choice(section, "table", TABLES),
            encoding: Inherited::choice(section, "encoding", ENCODINGS),
            word_order: section.choice("word_order", WORD_ORDERS).unwrap_or(WordOrder::HighFirst),
            byte_order: section.choice("byte_order", BYTE_ORDERS).unwrap_or(ByteOrder::HighFirst),
            addressing: match Inherited::choice(section, "addressing", &addressing) {
                Inherited::Nothing => Inherited::Is(Addressing::Protocol),
                other => other,
            },
        }
    }
}

/// The points as far as they could be read. What has a fault is stood in for, so that what refers to it can be checked.
pub(super) struct Points {
    pub points: Vec<Point>,
    /// Those that could not be read, which was noted.
    pub faulty: Vec<bool>,
}

impl Points {
    /// All of them, when none has a fault.
    pub(super) fn complete(self) -> Option<Vec<Point>> {
        (!self.faulty.contains(&true)).then_some(self.points)
    }
}

/// Reads all points; `above` is the section that holds what they have in common.
pub(super) fn read(
    sections: Vec<Section<'_, '_>>,
    above: &Section<'_, '_>,
    defaults: Defaults,
    limits: ReadLimits,
) -> Points {
    let mut names = BTreeMap::new();
    let mut read = Points { points: Vec::new(), faulty: Vec::new() };
    let mut factors = Vec::new();
    let mut lacking = Lacking::default();
    let mut held = Vec::new();
    for (index, mut section) in sections.into_iter().enumerate() {
        let written = section.peek("name").map(str::to_owned);
        let name = name_point(&mut section, index, &mut names);
        factors.push(section.take("scale_factor"));
        let draft = read_point(&mut section, defaults, limits);
        lacking.note(&draft, index);
        held.push(section);
        let is_good = name.is_some() && draft.point.is_some();
        let stand_in = || Point::plain("", Table::HoldingRegisters, 0, Encoding::U16);
        let point = draft.point.unwrap_or_else(stand_in);
        read.points.push(Point { name: name.or(written).unwrap_or_default(), ..point });
        read.faulty.push(!is_good);
    }
    lacking.tell(above, &held, &read.points);
    held.into_iter().for_each(Section::finish);
    let found: Vec<Option<usize>> = factors
        .iter()
        .enumerate()
        .map(|(index, factor)| {
            let found = find_factor(factor.as_ref()?, index, &read)?;
            if factors[found].is_some() {
                factor.as_ref()?.fault(NOT_A_FACTOR);
            }
            Some(found)
        })
        .collect();
    for (index, found) in found.into_iter().enumerate() {
        read.points[index].scale_factor = found;
        read.faulty[index] |= factors[index].is_some() && found.is_none();
    }
    read
}

/// Points that lack a key which they might have in common: said once for all of them.
#[derive(Default)]
struct Lacking {
    tables: Vec<usize>,
    encodings: Vec<usize>,
}

impl Lacking {
    fn note(&mut self, draft: &Draft, index: usize) {
        if draft.lacks_table {
            self.tables.push(index);
        }
        if draft.lacks_encoding {
            self.encodings.push(index);
        }
    }

    fn tell(self, above: &Section<'_, '_>, sections: &[Section<'_, '_>], points: &[Point]) {
        let tell = |key, allowed: &str, lacking: &[usize]| match lacking {
            [] => {}
            [one] => sections[*one].missing(key, allowed),
            several => {
                let names: Vec<&str> = several.iter().take(3).map(|index| points[*index].name.as_str()).collect();
                let more = if several.len() > 3 { format!(" and {} more", several.len() - 3) } else { String::new() };
                let names = names.join(", ");
                above.missing(key, &format!("{allowed}; here, or in the points that do not say it: {names}{more}"));
            }
        };
        tell("table", TABLE_ALLOWED, &self.tables);
        tell("encoding", &format!("one of {}", encoding_names()), &self.encodings);
    }
}

/// Takes the name of a point and calls its section by it; names must be different.
pub(super) fn name_point(
    section: &mut Section<'_, '_>,
    index: usize,
    names: &mut BTreeMap<String, usize>,
) -> Option<String> {
    let item = section.require("name", "a-z, 0-9 and '_', with the unit at the end, such as active_power_w")?;
    let name = item.text()?;
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    let all_allowed = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !starts_well || !all_allowed || name.len() > 64 {
        item.fault("must be 1 to 64 characters of a-z, 0-9 or '_', and start with a letter");
        return None;
    }
    section.call(&name);
    if names.contains_key(&name) {
        item.fault("is the name of an earlier point");
        return None;
    }
    names.insert(name.clone(), index);
    Some(name)
}

/// A point as far as it could be read.
pub(super) struct Draft {
    /// Without name and scale factor; `None` when its place or its encoding is not known.
    pub point: Option<Point>,
    /// No table is said, here or above; nothing was noted.
    lacks_table: bool,
    /// No encoding is said, here or above; nothing was noted.
    lacks_encoding: bool,
}

impl Draft {
    /// The point; what it lacks is noted as a fault of its own section.
    pub(super) fn alone(self, section: &Section<'_, '_>) -> Option<Point> {
        if self.lacks_table {
            section.missing("table", TABLE_ALLOWED);
        }
        if self.lacks_encoding {
            section.missing("encoding", &format!("one of {}", encoding_names()));
        }
        self.point
    }
}

/// One point without its name and its scale factor.
pub(super) fn read_point(section: &mut Section<'_, '_>, defaults: Defaults, limits: ReadLimits) -> Draft {
    let own_table = section.take("table").map(|item| item.choice(TABLES).map_or(Inherited::Faulty, Inherited::Is));
    let address = address_file::read(section, defaults.addressing, own_table, defaults.table);
    let lacks_table = address.table == Inherited::Nothing;
    let table = address.table.value();
    let found = EncodingKeys::take(section).read(section, table, defaults.encoding);
    // Of a point whose table is not known, that could be one of bits, it is too early to ask for an encoding.
    let lacks_encoding = found == Found::Nothing && (table.is_some() || lacks_table);
    let encoding = found.encoding();
    let word_order = section.choice("word_order", WORD_ORDERS).unwrap_or(defaults.word_order);
    let byte_order = section.choice("byte_order", BYTE_ORDERS).unwrap_or(defaults.byte_order);
    let kind = found.like().map(Encoding::kind);
    let (scale, offset) = (section.take("scale"), section.take("offset"));
    let scale = read_scale(scale, offset, kind);
    let sentinels = section.take("sentinels").map(|item| read_sentinels(item, found.like())).unwrap_or_default();
    let range = section.take("range").and_then(|item| read_range(item, kind));
    let states = section.take("states").map(|item| read_states(item, kind)).unwrap_or_default();
    let unit = section.take("unit").and_then(|item| item.text()).unwrap_or_default();
    let interval = section.take("interval").and_then(|item| item.duration(Duration::ZERO..=INTERVAL_MOST));
    let polled = section.take("polled").and_then(|item| item.boolean()).unwrap_or(true);
    let unsure = section.take("unsure").and_then(|item| item.text());
    let read_whole = section.take("read_whole");
    let place = address.place(table, encoding, limits);
    let read_whole = read_whole.and_then(|item| read_registers(item, place.as_ref(), encoding, table, limits));
    let point = |(place, (table, encoding)): (Place, (Table, Encoding))| Point {
        name: String::new(),
        table,
        address: place.address,
        scattered: place.scattered,
        encoding,
        word_order,
        byte_order,
        scale,
        scale_factor: None,
        unit,
        sentinels,
        range,
        states,
        interval,
        polled,
        unsure,
        read_whole,
        computed: false,
    };
    Draft { point: place.zip(table.zip(encoding)).map(point), lacks_table, lacks_encoding }
}

/// `base` with what `section` says differs. A scale goes with its offset: what is given of the two replaces both.
pub(super) fn read_change(
    mut section: Section<'_, '_>,
    base: &Point,
    defaults: Defaults,
    limits: ReadLimits,
) -> Option<Point> {
    let own_table = section.take("table").map(|item| item.choice(TABLES).map_or(Inherited::Faulty, Inherited::Is));
    let moves = section.has("address") || section.has("addresses");
    let base_table = own_table.unwrap_or(Inherited::Is(base.table));
    let address = moves.then(|| address_file::read(&mut section, defaults.addressing, own_table, base_table));
    let table = address.as_ref().map_or(base_table, |address| address.table).value();
    let keys = EncodingKeys::take(&mut section);
    let encoding = match keys.is_empty() {
        true => Some(base.encoding),
        false => keys.read(&section, table, Inherited::Faulty).encoding(),
    };
    let word_order = section.choice("word_order", WORD_ORDERS).unwrap_or(base.word_order);
    let byte_order = section.choice("byte_order", BYTE_ORDERS).unwrap_or(base.byte_order);
    let (scale, offset) = (section.take("scale"), section.take("offset"));
    let (sentinels, range) = (section.take("sentinels"), section.take("range"));
    let unsure = section.text("unsure").or_else(|| base.unsure.clone());
    let read_whole = section.take("read_whole");
    section.finish();
    let kind = encoding.map(Encoding::kind);
    let place = match &address {
        Some(address) => address.place(table, encoding, limits),
        None => Some(Place { address: base.address, scattered: base.scattered.clone() }),
    };
    let scale = if scale.is_some() || offset.is_some() { read_scale(scale, offset, kind) } else { base.scale };
    let sentinels = sentinels.map_or_else(|| base.sentinels.clone(), |item| read_sentinels(item, encoding));
    let range = range.map_or(base.range, |item| read_range(item, kind));
    let read_whole = match read_whole {
        Some(item) => read_registers(item, place.as_ref(), encoding, table, limits),
        None => base.read_whole.filter(|_| address.is_none()),
    };
    let Place { address, scattered } = place?;
    Some(Point {
        table: table?,
        address,
        scattered,
        encoding: encoding?,
        word_order,
        byte_order,
        scale,
        sentinels,
        range,
        unsure,
        read_whole,
        ..base.clone()
    })
}

fn read_registers(
    item: Item<'_, '_>,
    place: Option<&Place>,
    encoding: Option<Encoding>,
    table: Option<Table>,
    limits: ReadLimits,
) -> Option<Registers> {
    let mut section = item.clone().section()?;
    let mut number = |key, allowed: &str, range| {
        let written = section.require(key, allowed).and_then(|item| item.integer(range));
        written.and_then(|number| u16::try_from(number).ok())
    };
    let first = number("address", "0 to 65535", 0..=65535);
    let count = number("count", "1 to 125", 1..=125);
    section.finish();
    let whole = Registers { address: first?, count: count? };
    let (place, encoding, table) = (place?, encoding?, table?);
    let whole_end = u32::from(whole.address) + u32::from(whole.count);
    let point_end = u32::from(place.address) + u32::from(items(encoding, table));
    let is_apart = whole.address > place.address || whole_end < point_end || whole_end > 65536;
    if is_apart || !place.scattered.is_empty() {
        item.fault("must contain all registers of the point and end at 65535 or before");
        return None;
    }
    address_file::check_limit(&item, whole.count, limits, table);
    Some(whole)
}

/// The index of the point that a scale factor names.
fn find_factor(item: &Item<'_, '_>, scaled: usize, read: &Points) -> Option<usize> {
    let name = item.text()?;
    let kind = (!read.faulty[scaled]).then(|| read.points[scaled].encoding.kind());
    if !matches!(kind, None | Some(ValueKind::Int | ValueKind::Uint)) {
        item.fault("only for whole numbers");
        return None;
    }
    if !read.points[scaled].states.is_empty() {
        item.fault("a point with states is not scaled");
        return None;
    }
    let Some(found) = read.points.iter().position(|point| point.name == name) else {
        item.fault("must be the name of a point of this file");
        return None;
    };
    let factor = &read.points[found];
    if !read.faulty[found] && (factor.encoding != Encoding::I16 || factor.scale != Scale::ONE) {
        item.fault(NOT_A_FACTOR);
        return None;
    }
    Some(found)
}
