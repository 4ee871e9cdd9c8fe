//! The sections `[[point]]` of a register map.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Scale, ValueKind};

use super::point::{Encoding, Point, Registers, Table, WordOrder};
use super::{INTERVAL_MOST, ReadLimits};
use crate::settings::{Item, Section};

pub(super) const TABLES: &[(&str, Table)] = &[
    ("coil", Table::Coils),
    ("discrete", Table::DiscreteInputs),
    ("holding", Table::HoldingRegisters),
    ("input", Table::InputRegisters),
];

const WORD_ORDERS: &[(&str, WordOrder)] = &[("high-first", WordOrder::HighFirst), ("low-first", WordOrder::LowFirst)];

/// Encodings as written; those that need a further key to be complete stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Written {
    Plain(Encoding),
    Bit,
    Bits,
    Text,
}

const ENCODINGS: &[(&str, Written)] = &[
    ("u16", Written::Plain(Encoding::U16)),
    ("i16", Written::Plain(Encoding::I16)),
    ("u32", Written::Plain(Encoding::U32)),
    ("i32", Written::Plain(Encoding::I32)),
    ("u64", Written::Plain(Encoding::U64)),
    ("i64", Written::Plain(Encoding::I64)),
    ("f32", Written::Plain(Encoding::F32)),
    ("f64", Written::Plain(Encoding::F64)),
    ("bit", Written::Bit),
    ("bits", Written::Bits),
    ("string", Written::Text),
];

const NOT_A_FACTOR: &str = "must be a point of encoding i16 that is not scaled itself";

/// What a point has when it does not say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub table: Option<Table>,
    encoding: Option<Written>,
    word_order: WordOrder,
}

impl Defaults {
    /// Takes `table`, `encoding` and `word_order` out of a section above the points.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        Self {
            table: section.choice("table", TABLES),
            encoding: section.choice("encoding", ENCODINGS),
            word_order: section.choice("word_order", WORD_ORDERS).unwrap_or(WordOrder::HighFirst),
        }
    }
}

/// Reads all points; `None` when one of them has a fault, which was noted.
pub(super) fn read(sections: Vec<Section<'_, '_>>, defaults: Defaults, limits: ReadLimits) -> Option<Vec<Point>> {
    let mut names = BTreeMap::new();
    let mut points = Vec::new();
    let mut factors = Vec::new();
    for (index, mut section) in sections.into_iter().enumerate() {
        name_point(&mut section, index, &mut names);
        factors.push(section.take("scale_factor"));
        points.push(read_point(section, defaults, limits));
    }
    for (name, index) in names {
        if let Some(point) = &mut points[index] {
            point.name = name;
        }
    }
    let found: Vec<Option<usize>> = factors
        .iter()
        .enumerate()
        .map(|(index, factor)| {
            let found = find_factor(factor.as_ref()?, index, &points)?;
            if factors[found].is_some() {
                factor.as_ref()?.fault(NOT_A_FACTOR);
            }
            Some(found)
        })
        .collect();
    for (point, found) in points.iter_mut().zip(found) {
        if let Some(point) = point {
            point.scale_factor = found;
        }
    }
    points.into_iter().collect()
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

/// One point without its name and its scale factor. What has a fault is stood in for, so that the rest can be
/// checked; `None` when that cannot be.
pub(super) fn read_point(mut section: Section<'_, '_>, defaults: Defaults, limits: ReadLimits) -> Option<Point> {
    let table = match section.take("table") {
        Some(item) => item.choice(TABLES),
        None => defaults.table.or_else(|| {
            section.missing("table", "one of coil, discrete, holding, input");
            None
        }),
    };
    let address_item = section.require("address", "0 to 65535, as it goes on the wire");
    let address = address_item.as_ref().and_then(|item| item.integer(0..=65535));
    let address = address.and_then(|address| u16::try_from(address).ok());
    let encoding = EncodingKeys::take(&mut section).read(&section, table, defaults.encoding);
    let word_order = section.choice("word_order", WORD_ORDERS).unwrap_or(defaults.word_order);
    let scale = section.take("scale");
    let offset = section.take("offset");
    let sentinels = section.take("sentinels");
    let range = section.take("range");
    let states = section.take("states");
    let unit = section.take("unit").and_then(|item| item.text()).unwrap_or_default();
    let interval = section.take("interval").and_then(|item| item.duration(Duration::ZERO..=INTERVAL_MOST));
    let polled = section.take("polled").and_then(|item| item.boolean()).unwrap_or(true);
    let unsure = section.take("unsure").and_then(|item| item.text());
    let read_whole = section.take("read_whole");
    section.finish();

    let (table, encoding) = (table?, encoding?);
    let kind = encoding.kind();
    let read_whole = read_whole.and_then(|item| read_registers(item, address?, encoding));
    if let (Some(item), Some(address)) = (address_item, address) {
        check_end(&item, address, encoding);
        check_limit(&item, read_whole.map_or(encoding.width(), |whole| whole.count), limits, table);
    }
    Some(Point {
        name: String::new(),
        table,
        address: address.unwrap_or(0),
        encoding,
        word_order,
        scale: read_scale(scale, offset, kind),
        scale_factor: None,
        unit,
        sentinels: sentinels.map(|item| read_sentinels(item, encoding)).unwrap_or_default(),
        range: range.and_then(|item| read_range(item, kind)),
        states: states.map(|item| read_states(item, kind)).unwrap_or_default(),
        interval,
        polled,
        unsure,
        read_whole,
        computed: false,
    })
}

/// `base` with what `section` says differs. A scale goes with its offset: what is given of the two replaces both.
pub(super) fn read_change(mut section: Section<'_, '_>, base: &Point, limits: ReadLimits) -> Option<Point> {
    let table = section.choice("table", TABLES).unwrap_or(base.table);
    let address_item = section.take("address");
    let address = match &address_item {
        Some(item) => item.integer(0..=65535).and_then(|address| u16::try_from(address).ok()),
        None => Some(base.address),
    };
    let keys = EncodingKeys::take(&mut section);
    let encoding = if keys.is_empty() { Some(base.encoding) } else { keys.read(&section, Some(table), None) };
    let word_order = section.choice("word_order", WORD_ORDERS).unwrap_or(base.word_order);
    let (scale, offset) = (section.take("scale"), section.take("offset"));
    let (sentinels, range) = (section.take("sentinels"), section.take("range"));
    let unsure = section.text("unsure").or_else(|| base.unsure.clone());
    let read_whole = section.take("read_whole");
    section.finish();
    let (address, encoding) = (address?, encoding?);
    let kind = encoding.kind();
    if let Some(item) = &address_item {
        check_end(item, address, encoding);
        check_limit(item, encoding.width(), limits, table);
    }
    Some(Point {
        table,
        address,
        encoding,
        word_order,
        scale: if scale.is_some() || offset.is_some() { read_scale(scale, offset, kind) } else { base.scale },
        sentinels: match sentinels {
            Some(item) => read_sentinels(item, encoding),
            None => base.sentinels.clone(),
        },
        range: range.map_or(base.range, |item| read_range(item, kind)),
        unsure,
        read_whole: match read_whole {
            Some(item) => read_registers(item, address, encoding),
            None => base.read_whole.filter(|_| address_item.is_none()),
        },
        ..base.clone()
    })
}

fn check_end(item: &Item<'_, '_>, address: u16, encoding: Encoding) {
    let last = u32::from(address) + u32::from(encoding.width()) - 1;
    if last > u32::from(u16::MAX) {
        item.fault(format!("the point ends at {last}, the last address is 65535"));
    }
}

/// A point is never split over two requests.
fn check_limit(item: &Item<'_, '_>, registers: u16, limits: ReadLimits, table: Table) {
    if !table.holds_bits() && registers > limits.registers {
        item.fault(format!("the point takes {registers} registers, but registers_max is {}", limits.registers));
    }
}

/// The keys that together make an encoding.
struct EncodingKeys<'s, 'i> {
    encoding: Option<Item<'s, 'i>>,
    bit: Option<Item<'s, 'i>>,
    bits: Option<Item<'s, 'i>>,
    registers: Option<Item<'s, 'i>>,
}

impl<'s, 'i> EncodingKeys<'s, 'i> {
    fn take(section: &mut Section<'s, 'i>) -> Self {
        Self {
            encoding: section.take("encoding"),
            bit: section.take("bit"),
            bits: section.take("bits"),
            registers: section.take("registers"),
        }
    }

    fn is_empty(&self) -> bool {
        self.encoding.is_none() && self.bit.is_none() && self.bits.is_none() && self.registers.is_none()
    }

    /// `encoding` with what it needs besides, or `bit` or `bits` alone, or nothing where items are bits.
    fn read(self, section: &Section<'_, '_>, table: Option<Table>, default: Option<Written>) -> Option<Encoding> {
        let own = self.encoding.as_ref().map(|item| item.choice(ENCODINGS));
        if table?.holds_bits() {
            refuse(self.encoding.as_ref().filter(|_| own != Some(Some(Written::Bit))), "must be \"bit\" in this table");
            for item in [self.bit, self.bits, self.registers].iter().flatten() {
                item.fault("not in this table, whose items are single bits");
            }
            return Some(Encoding::Bit(0));
        }
        let written = match (own, &self.bit, &self.bits) {
            (Some(own), _, _) => own?,
            (None, Some(_), _) => Written::Bit,
            (None, None, Some(_)) => Written::Bits,
            (None, None, None) => default.or_else(|| {
                section.missing("encoding", "one of u16, i16, u32, i32, u64, i64, f32, f64, bit, bits, string");
                None
            })?,
        };
        refuse(self.bit.as_ref().filter(|_| written != Written::Bit), "only for encoding \"bit\"");
        refuse(self.bits.as_ref().filter(|_| written != Written::Bits), "only for encoding \"bits\"");
        refuse(self.registers.as_ref().filter(|_| written != Written::Text), "only for encoding \"string\"");
        Some(self.complete(section, written))
    }

    fn complete(self, section: &Section<'_, '_>, written: Written) -> Encoding {
        let need = |item: Option<Item<'s, 'i>>, key, allowed: &str| {
            if item.is_none() {
                section.missing(key, allowed);
            }
            item
        };
        match written {
            Written::Plain(encoding) => encoding,
            Written::Bit => {
                let item = need(self.bit, "bit", "0 to 15, 0 is the least significant");
                let bit = item.and_then(|item| item.integer(0..=15));
                Encoding::Bit(bit.and_then(|bit| u8::try_from(bit).ok()).unwrap_or(0))
            }
            Written::Bits => {
                let item = need(self.bits, "bits", "\"first..last\", both from 0 to 15");
                item.and_then(|item| read_bits(&item)).unwrap_or(Encoding::Bits { first: 0, length: 16 })
            }
            Written::Text => {
                let item = need(self.registers, "registers", "1 to 125, two characters each");
                let count = item.and_then(|item| item.integer(1..=125));
                Encoding::Text { registers: count.and_then(|count| u16::try_from(count).ok()).unwrap_or(1) }
            }
        }
    }
}

fn refuse(item: Option<&Item<'_, '_>>, reason: &str) {
    if let Some(item) = item {
        item.fault(reason);
    }
}

/// `"4..7"`: both ends included, 0 is the least significant bit.
fn read_bits(item: &Item<'_, '_>) -> Option<Encoding> {
    let ends = item.as_word().and_then(|text| text.split_once(".."));
    let ends = ends.and_then(|(first, last)| Some((first.parse::<u8>().ok()?, last.parse::<u8>().ok()?)));
    match ends {
        Some((first, last)) if first <= last && last <= 15 => Some(Encoding::Bits { first, length: last - first + 1 }),
        _ => {
            item.fault("must be \"first..last\", both ends included, from 0 (least significant) to 15");
            None
        }
    }
}

/// Scale and offset of a number.
pub(super) fn read_scale(scale: Option<Item<'_, '_>>, offset: Option<Item<'_, '_>>, kind: ValueKind) -> Scale {
    if !is_number(kind) {
        refuse(scale.as_ref(), "only for numbers");
        refuse(offset.as_ref(), "only for numbers");
        return Scale::ONE;
    }
    let factor = scale.and_then(|item| match item.number()? {
        0.0 => {
            item.fault("must not be 0");
            None
        }
        factor => Some(factor),
    });
    let offset = offset.and_then(|item| item.number());
    Scale::new(factor.unwrap_or(1.0), offset.unwrap_or(0.0))
}

/// `[lowest, highest]` in engineering values.
pub(super) fn read_range(item: Item<'_, '_>, kind: ValueKind) -> Option<(f64, f64)> {
    if !is_number(kind) {
        item.fault("only for numbers");
        return None;
    }
    let values: Vec<f64> = item.clone().list()?.iter().map(Item::number).collect::<Option<_>>()?;
    match values[..] {
        [lowest, highest] if lowest <= highest => Some((lowest, highest)),
        _ => {
            item.fault("must be [lowest, highest] in engineering values");
            None
        }
    }
}

fn read_sentinels(item: Item<'_, '_>, encoding: Encoding) -> Vec<u64> {
    let bits = match encoding {
        Encoding::Bit(_) | Encoding::Text { .. } => {
            item.fault("only for numbers");
            return Vec::new();
        }
        Encoding::Bits { length, .. } => u32::from(length),
        _ => 16 * u32::from(encoding.width()),
    };
    let most = u64::MAX >> (64 - bits);
    let read_one = |item: Item<'_, '_>| {
        let sentinel = item.any_integer().and_then(|number| u64::try_from(number).ok());
        let sentinel = sentinel.filter(|sentinel| *sentinel <= most);
        if sentinel.is_none() {
            item.fault(format!("must be the raw bits, \"0x0\" to \"{most:#X}\"").replace("0X", "0x"));
        }
        sentinel
    };
    item.list().into_iter().flatten().filter_map(read_one).collect()
}

fn read_states(item: Item<'_, '_>, kind: ValueKind) -> BTreeMap<i64, String> {
    match kind {
        ValueKind::Int | ValueKind::Bool => {}
        ValueKind::Uint | ValueKind::F32 | ValueKind::F64 | ValueKind::Text => {
            item.fault("only for whole numbers of up to 32 bits, signed ones of 64, and bits");
            return BTreeMap::new();
        }
    }
    let Some(section) = item.section() else { return BTreeMap::new() };
    let read_one = |(number, item): (String, Item<'_, '_>)| {
        let number = number.parse().ok();
        if number.is_none() {
            item.fault("the key must be a whole number in quotes, such as \"0\" = \"off\"");
        }
        number.zip(item.text())
    };
    section.rest().into_iter().filter_map(read_one).collect()
}

fn read_registers(item: Item<'_, '_>, address: u16, encoding: Encoding) -> Option<Registers> {
    let mut section = item.clone().section()?;
    let mut number = |key, allowed: &str, range| {
        let written = section.require(key, allowed).and_then(|item| item.integer(range));
        written.and_then(|number| u16::try_from(number).ok())
    };
    let first = number("address", "0 to 65535", 0..=65535);
    let count = number("count", "1 to 125", 1..=125);
    section.finish();
    let whole = Registers { address: first?, count: count? };
    let whole_end = u32::from(whole.address) + u32::from(whole.count);
    let point_end = u32::from(address) + u32::from(encoding.width());
    if whole.address > address || whole_end < point_end || whole_end > 65536 {
        item.fault("must contain all registers of the point and end at 65535 or before");
        return None;
    }
    Some(whole)
}

/// The index of the point that a scale factor names.
fn find_factor(item: &Item<'_, '_>, scaled: usize, points: &[Option<Point>]) -> Option<usize> {
    let name = item.text()?;
    let kind = points[scaled].as_ref().map(|point| point.encoding.kind());
    if !matches!(kind, None | Some(ValueKind::Int | ValueKind::Uint)) {
        item.fault("only for whole numbers");
        return None;
    }
    if points[scaled].as_ref().is_some_and(|point| !point.states.is_empty()) {
        item.fault("a point with states is not scaled");
        return None;
    }
    let Some(found) = points.iter().position(|point| point.as_ref().is_some_and(|point| point.name == name)) else {
        // A point with a fault of its own has no name here; one report of it is enough.
        if points.iter().all(Option::is_some) {
            item.fault("must be the name of a point of this file");
        }
        return None;
    };
    let factor = points[found].as_ref()?;
    if factor.encoding != Encoding::I16 || factor.scale != Scale::ONE {
        item.fault(NOT_A_FACTOR);
        return None;
    }
    Some(found)
}

fn is_number(kind: ValueKind) -> bool {
    match kind {
        ValueKind::Int | ValueKind::Uint | ValueKind::F32 | ValueKind::F64 => true,
        ValueKind::Bool | ValueKind::Text => false,
    }
}
