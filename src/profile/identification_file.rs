//! The section `[identification]` of a profile file.

use super::encoding_file::Inherited;
use super::identification::{CommonText, Expected, Form, Identification, ModelMark, Place, VersionSource};
use super::point::Table;
use super::point_file::TABLES;
use super::version::{Scheme, Version, VersionRange};
use crate::settings::{Item, Section};

const SCHEMES: &[(&str, Scheme)] = &[
    ("dotted", Scheme::Dotted),
    ("letter", Scheme::Letter),
    ("numbers", Scheme::Numbers),
    ("decimal", Scheme::Decimal),
    ("nibbles", Scheme::Nibbles),
    ("bytes", Scheme::Bytes),
    ("words", Scheme::Words),
    ("number", Scheme::Number),
];

const FORMS: &[(&str, Form)] = &[
    ("string", Form::Text),
    ("wide-string", Form::WideText),
    ("number", Form::Number),
    ("number-low-first", Form::NumberLowFirst),
];

/// Objects of Read Device Identification (Modbus Application Protocol 1.1b3, 6.21).
const OBJECTS: &[(&str, u8)] = &[
    ("vendor", 0),
    ("product", 1),
    ("revision", 2),
    ("url", 3),
    ("product-name", 4),
    ("model-name", 5),
    ("application", 6),
];

const COMMON_TEXTS: &[(&str, CommonText)] =
    &[("manufacturer", CommonText::Manufacturer), ("model", CommonText::Model), ("version", CommonText::Version)];

/// Longest item that identifies a device, in registers.
const REGISTERS_MAX: i64 = 125;

/// What `[identification]` says, and for which versions the points of the file are.
pub(super) struct Read {
    pub identification: Identification,
    pub base: VersionRange,
    /// How versions are written; unknown when what says it has a fault, and then versions are not judged.
    pub scheme: Inherited<Scheme>,
    /// Names of the models, also of those with a fault; `None` when they are not known for a fault.
    pub model_names: Option<Vec<String>>,
}

impl Read {
    /// Of a profile without the section, or (`unreadable`) with something else in its place, which was noted.
    pub(super) fn absent(unreadable: bool) -> Self {
        Self {
            identification: Identification::default(),
            base: VersionRange::default(),
            scheme: if unreadable { Inherited::Faulty } else { Inherited::Is(Scheme::default()) },
            model_names: (!unreadable).then(Vec::new),
        }
    }
}

/// Reads the section; `table` is where registers are unless an entry says otherwise.
pub(super) fn read(mut section: Section<'_, '_>, table: Inherited<Table>) -> Read {
    let scheme = match Inherited::choice(&mut section, "scheme", SCHEMES) {
        Inherited::Nothing => Inherited::Is(Scheme::default()),
        written => written,
    };
    let base = section.take("base").and_then(|item| range(&item, scheme)).unwrap_or_default();
    let models = section.sections("model");
    let names: Vec<Option<String>> = models.iter().map(|entry| entry.peek("name").map(str::to_owned)).collect();
    let models: Vec<Option<ModelMark>> = models.into_iter().map(|entry| model(entry, table)).collect();
    let versions: Vec<Option<VersionSource>> =
        section.sections("version").into_iter().map(|entry| version_source(entry, table, scheme)).collect();
    section.finish();
    let identification = Identification {
        models: models.into_iter().flatten().collect(),
        versions: versions.into_iter().flatten().collect(),
        scheme: scheme.value().unwrap_or_default(),
        walks_chain: false,
    };
    Read { identification, base, scheme, model_names: names.into_iter().collect() }
}

/// A range of versions, or a fault.
pub(super) fn range(item: &Item<'_, '_>, scheme: Inherited<Scheme>) -> Option<VersionRange> {
    let text = item.text()?;
    let range = scheme.value().and_then(|scheme| VersionRange::parse(&text, scheme));
    let is_judged = scheme.value().is_some() || !text.contains("..");
    if range.is_none() && is_judged {
        item.fault("must be versions as \"from..before\", such as \"1.1.3..2.0\", \"..2.0\" or \"1.1.3..\"");
    }
    range
}

fn model(mut section: Section<'_, '_>, table: Inherited<Table>) -> Option<ModelMark> {
    let name = section.require("name", "what the model is called").and_then(|item| item.text());
    if let Some(name) = &name {
        section.call(name);
    }
    let place = place(&mut section, table);
    let starts = section.take("starts");
    let number = section.take("number");
    let expected = match (starts, number) {
        (Some(item), None) => beginnings(item).map(Expected::Text),
        (None, Some(item)) => numbers(item).map(|(least, most)| Expected::Number(least, most)),
        (Some(_), Some(item)) => {
            item.fault("starts and number exclude each other");
            None
        }
        (None, None) => {
            section.missing("starts", "how the text begins, or number = [least, most]");
            None
        }
    };
    section.finish();
    Some(ModelMark { name: name?, place: place?, expected: expected? })
}

/// One text or several.
fn beginnings(item: Item<'_, '_>) -> Option<Vec<String>> {
    if let Some(word) = item.as_word() {
        return Some(vec![word.to_owned()]);
    }
    item.list()?.iter().map(Item::text).collect()
}

/// A number, or `[least, most]`.
fn numbers(item: Item<'_, '_>) -> Option<(u64, u64)> {
    let number = |item: &Item<'_, '_>| item.any_integer().and_then(|number| u64::try_from(number).ok());
    if let Some(number) = number(&item) {
        return Some((number, number));
    }
    let ends: Vec<Option<u64>> = item.clone().list()?.iter().map(number).collect();
    match ends[..] {
        [Some(least), Some(most)] if least <= most => Some((least, most)),
        _ => {
            item.fault("must be a whole number that is not negative, or [least, most]");
            None
        }
    }
}

fn version_source(
    mut section: Section<'_, '_>,
    table: Inherited<Table>,
    scheme: Inherited<Scheme>,
) -> Option<VersionSource> {
    let probe = section.take("probe");
    let mut version = |key| {
        let item: Item<'_, '_> = section.take(key)?;
        let version: Option<Version> = item.as_word().and_then(|word| scheme.value()?.parse(word));
        if version.is_none() && (scheme.value().is_some() || item.as_word().is_none()) {
            item.fault("must be a version in quotes");
        }
        version
    };
    let (answers, refuses) = (version("answers"), version("refuses"));
    let is_judged = scheme.value().is_some();
    let source = match probe {
        Some(item) => {
            let mut probe = item.section()?;
            let read = registers(&mut probe, table);
            probe.finish();
            let (Some(answers), Some(refuses)) = (answers, refuses) else {
                if is_judged {
                    section.fault("a probe needs the versions that answers and refuses stand for");
                }
                section.finish();
                return None;
            };
            read.map(|(table, address, count)| VersionSource::Probe { table, address, count, answers, refuses })
        }
        None => place(&mut section, table).map(VersionSource::Place),
    };
    section.finish();
    source
}

/// `object`, `sunspec` or registers.
fn place(section: &mut Section<'_, '_>, table: Inherited<Table>) -> Option<Place> {
    let object = section.take("object");
    let sunspec = section.take("sunspec");
    if let Some(item) = object {
        return match item.any_integer().and_then(|number| u8::try_from(number).ok()) {
            Some(number) => Some(Place::Object(number)),
            None => item.choice(OBJECTS).map(Place::Object),
        };
    }
    if let Some(item) = sunspec {
        return item.choice(COMMON_TEXTS).map(Place::SunSpec);
    }
    let form = section.choice("encoding", FORMS).unwrap_or(Form::Number);
    let whole = section.take("read_whole");
    let item = section.take("address");
    let Some(item) = item else {
        section.missing("address", "where it is read; or object, or sunspec");
        return None;
    };
    let table = table_of(section, table);
    let count = section.take("registers").map_or(Some(1), |item| item.integer(1..=REGISTERS_MAX));
    let address = item.integer(0..=65535).and_then(|address| u16::try_from(address).ok());
    let count = count.and_then(|count| u16::try_from(count).ok());
    let (address, count) = (address?, count?);
    if form != Form::Text && form != Form::WideText && count > 4 {
        item.fault("a number has at most 4 registers");
        return None;
    }
    let table = match table {
        Inherited::Is(table) if !table.holds_bits() && table.item_words() == 1 => table,
        Inherited::Is(_) | Inherited::Nothing => {
            section.missing("table", "holding or input");
            return None;
        }
        Inherited::Faulty => return None,
    };
    let (first, whole_count) = match whole {
        None => (address, count),
        Some(item) => whole_of(item, address, count)?,
    };
    if u32::from(first) + u32::from(whole_count) > 65536 {
        item.fault("ends beyond 65535, the last address");
        return None;
    }
    Some(Place::Registers { table, address: first, count: whole_count, form, part: (address - first, count) })
}

fn whole_of(item: Item<'_, '_>, address: u16, count: u16) -> Option<(u16, u16)> {
    let mut section = item.clone().section()?;
    let (_, first, whole) = registers(&mut section, Inherited::Is(Table::HoldingRegisters))?;
    section.finish();
    let ends = u32::from(first) + u32::from(whole);
    if first > address || ends < u32::from(address) + u32::from(count) {
        item.fault("must contain all registers of the item");
        return None;
    }
    Some((first, whole))
}

/// The table that a section says, or else `table`.
fn table_of(section: &mut Section<'_, '_>, table: Inherited<Table>) -> Inherited<Table> {
    match Inherited::choice(section, "table", TABLES) {
        Inherited::Nothing => table,
        own => own,
    }
}

fn registers(section: &mut Section<'_, '_>, table: Inherited<Table>) -> Option<(Table, u16, u16)> {
    let table = table_of(section, table);
    let mut number = |key, allowed: &str, range| {
        let written = section.require(key, allowed).and_then(|item| item.integer(range));
        written.and_then(|number| u16::try_from(number).ok())
    };
    let address = number("address", "0 to 65535", 0..=65535);
    let count = number("count", "1 to 125", 1..=REGISTERS_MAX);
    let (address, count) = (address?, count?);
    let table = match table {
        Inherited::Is(table) => table,
        Inherited::Nothing => {
            section.missing("table", "one of coil, discrete, holding, input");
            return None;
        }
        Inherited::Faulty => return None,
    };
    if u32::from(address) + u32::from(count) > 65536 {
        section.fault("ends beyond 65535, the last address");
        return None;
    }
    Some((table, address, count))
}
