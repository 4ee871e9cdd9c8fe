//! The keys that together say how registers become a value.

use super::clock::{ClockForm, ClockLayout};
use super::point::{ByteOrder, Encoding, Table, WordOrder, items};
use crate::settings::{Item, Section};

pub(super) const WORD_ORDERS: &[(&str, WordOrder)] =
    &[("high-first", WordOrder::HighFirst), ("low-first", WordOrder::LowFirst)];

pub(super) const BYTE_ORDERS: &[(&str, ByteOrder)] =
    &[("high-first", ByteOrder::HighFirst), ("low-first", ByteOrder::LowFirst)];

/// Most registers of a text.
const TEXT_MAX: i64 = 125;
/// Most hours that the clock of a device is away from UTC.
const OFFSET_HOURS_MAX: i16 = 14;

/// Encodings as written; those that need a further key to be complete stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Written {
    Plain(Encoding),
    Bit,
    Bits,
    Text,
    WideText,
    Clock,
}

const fn decimal(registers: u16) -> Written {
    Written::Plain(Encoding::Bcd { registers })
}

const fn modulo(registers: u16, signed: bool) -> Written {
    Written::Plain(Encoding::Modulo10000 { registers, signed })
}

pub(super) const ENCODINGS: &[(&str, Written)] = &[
    ("u16", Written::Plain(Encoding::U16)),
    ("i16", Written::Plain(Encoding::I16)),
    ("u32", Written::Plain(Encoding::U32)),
    ("i32", Written::Plain(Encoding::I32)),
    ("u48", Written::Plain(Encoding::U48)),
    ("i48", Written::Plain(Encoding::I48)),
    ("u64", Written::Plain(Encoding::U64)),
    ("i64", Written::Plain(Encoding::I64)),
    ("f16", Written::Plain(Encoding::F16)),
    ("f32", Written::Plain(Encoding::F32)),
    ("f64", Written::Plain(Encoding::F64)),
    ("sm16", Written::Plain(Encoding::SignMagnitude { registers: 1 })),
    ("sm32", Written::Plain(Encoding::SignMagnitude { registers: 2 })),
    ("bcd16", decimal(1)),
    ("bcd32", decimal(2)),
    ("bcd48", decimal(3)),
    ("bcd64", decimal(4)),
    ("u32-m10k", modulo(2, false)),
    ("u48-m10k", modulo(3, false)),
    ("u64-m10k", modulo(4, false)),
    ("i32-m10k", modulo(2, true)),
    ("i48-m10k", modulo(3, true)),
    ("i64-m10k", modulo(4, true)),
    ("bit", Written::Bit),
    ("bits", Written::Bits),
    ("string", Written::Text),
    ("wide-string", Written::WideText),
    ("clock", Written::Clock),
];

/// All encodings by name, for messages.
pub(super) fn encoding_names() -> String {
    ENCODINGS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The name of an encoding in files: `f32`, `bcd16`, `bit`.
pub fn encoding_name(encoding: Encoding) -> &'static str {
    let written = match encoding {
        Encoding::Bit(_) => Written::Bit,
        Encoding::Bits { .. } | Encoding::SignedBits { .. } => Written::Bits,
        Encoding::Text { .. } => Written::Text,
        Encoding::WideText { .. } => Written::WideText,
        Encoding::Clock(_) => Written::Clock,
        other => Written::Plain(other),
    };
    ENCODINGS.iter().find(|(_, known)| *known == written).map_or("u16", |(name, _)| *name)
}

/// What is known of an encoding that was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// It is complete.
    Is(Encoding),
    /// No key says it, and no default does; nothing was noted.
    Nothing,
    /// What is written has a fault, which was noted; it would be something like this.
    Like(Encoding),
    /// What is written has a fault, which was noted, and nobody knows what was meant.
    Faulty,
}

impl Found {
    /// An encoding of the kind that is meant, as far as that is known.
    pub(super) fn like(self) -> Option<Encoding> {
        match self {
            Self::Is(encoding) | Self::Like(encoding) => Some(encoding),
            Self::Nothing | Self::Faulty => None,
        }
    }

    pub(super) fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Is(encoding) => Some(encoding),
            Self::Nothing | Self::Like(_) | Self::Faulty => None,
        }
    }
}

/// The keys that together make an encoding.
pub(super) struct EncodingKeys<'s, 'i> {
    encoding: Option<Item<'s, 'i>>,
    bit: Option<Item<'s, 'i>>,
    bits: Option<Item<'s, 'i>>,
    signed: Option<Item<'s, 'i>>,
    registers: Option<Item<'s, 'i>>,
    layout: Option<Item<'s, 'i>>,
    digits: Option<Item<'s, 'i>>,
    utc_offset: Option<Item<'s, 'i>>,
}

impl<'s, 'i> EncodingKeys<'s, 'i> {
    pub(super) fn take(section: &mut Section<'s, 'i>) -> Self {
        Self {
            encoding: section.take("encoding"),
            bit: section.take("bit"),
            bits: section.take("bits"),
            signed: section.take("signed"),
            registers: section.take("registers"),
            layout: section.take("layout"),
            digits: section.take("digits"),
            utc_offset: section.take("utc_offset"),
        }
    }

    fn others(&self) -> [&Option<Item<'s, 'i>>; 7] {
        [&self.bit, &self.bits, &self.signed, &self.registers, &self.layout, &self.digits, &self.utc_offset]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.encoding.is_none() && self.others().iter().all(|item| item.is_none())
    }

    /// `encoding` with what it needs besides, or `bit` or `bits` alone, or nothing where items are bits. A `table` that
    /// is not known counts as one of registers.
    pub(super) fn read(self, section: &Section<'_, '_>, table: Option<Table>, default: Inherited<Written>) -> Found {
        let own = self.encoding.as_ref().map(|item| item.choice(ENCODINGS));
        if table.is_some_and(Table::holds_bits) {
            let wrong = self.encoding.as_ref().filter(|_| own != Some(Some(Written::Bit)));
            refuse(wrong, "must be \"bit\" in this table");
            for item in self.others().into_iter().flatten() {
                item.fault("not in this table, whose items are single bits");
            }
            return Found::Is(Encoding::Bit(0));
        }
        let written = match (own, &self.bit, &self.bits, &self.layout) {
            (Some(own), _, _, _) => own,
            (None, Some(_), _, _) => Some(Written::Bit),
            (None, None, Some(_), _) => Some(Written::Bits),
            (None, None, None, Some(_)) => Some(Written::Clock),
            (None, None, None, None) => match default {
                Inherited::Is(written) => Some(written),
                Inherited::Nothing if self.is_empty() => return Found::Nothing,
                Inherited::Nothing | Inherited::Faulty => None,
            },
        };
        let Some(written) = written else {
            self.check_values();
            return Found::Faulty;
        };
        let is_text = matches!(written, Written::Text | Written::WideText);
        refuse(self.bit.as_ref().filter(|_| written != Written::Bit), "only for encoding \"bit\"");
        refuse(self.bits.as_ref().filter(|_| written != Written::Bits), "only for encoding \"bits\"");
        refuse(self.signed.as_ref().filter(|_| written != Written::Bits), "only for encoding \"bits\"");
        refuse(self.registers.as_ref().filter(|_| !is_text), "only for encoding \"string\" and \"wide-string\"");
        for item in [&self.layout, &self.digits, &self.utc_offset] {
            refuse(item.as_ref().filter(|_| written != Written::Clock), "only for encoding \"clock\"");
        }
        let encoding_item = self.encoding.clone();
        let Some(encoding) = self.complete(section, written) else { return stand_in(written) };
        match table {
            Some(table) if items(encoding, table) * table.item_words() != encoding.width() => {
                let reason =
                    "takes part of a register of 32 bits: say u32, i32 or f32, or table \"holding\" or \"input\"";
                match encoding_item {
                    Some(item) => item.fault(reason),
                    None => section.fault(reason),
                }
                Found::Faulty
            }
            Some(_) | None => Found::Is(encoding),
        }
    }

    /// Looks at what the keys say although it is not known which of them belong here.
    fn check_values(&self) {
        let _bit = self.bit.as_ref().and_then(|item| item.integer(0..=15));
        let _bits = self.bits.as_ref().and_then(read_bits);
        let _registers = self.registers.as_ref().and_then(|item| item.integer(1..=TEXT_MAX));
    }

    fn complete(self, section: &Section<'_, '_>, written: Written) -> Option<Encoding> {
        let need = |item: Option<Item<'s, 'i>>, key, allowed: &str| {
            if item.is_none() {
                section.missing(key, allowed);
            }
            item
        };
        match written {
            Written::Plain(encoding) => Some(encoding),
            Written::Bit => {
                let item = need(self.bit, "bit", "0 to 15, 0 is the least significant")?;
                item.integer(0..=15).and_then(|bit| u8::try_from(bit).ok()).map(Encoding::Bit)
            }
            Written::Bits => {
                let signed = self.signed.map_or(Some(false), |item| item.boolean());
                let (first, length) = read_bits(&need(self.bits, "bits", "\"first..last\", both from 0 to 15")?)?;
                match signed? {
                    true if length > 1 => Some(Encoding::SignedBits { first, length }),
                    _ => Some(Encoding::Bits { first, length }),
                }
            }
            Written::Text | Written::WideText => {
                let characters = if written == Written::Text { "two characters each" } else { "one character each" };
                let item = need(self.registers, "registers", &format!("1 to 125, {characters}"))?;
                let registers = item.integer(1..=TEXT_MAX).and_then(|count| u16::try_from(count).ok())?;
                Some(match written {
                    Written::Text => Encoding::Text { registers },
                    _ => Encoding::WideText { registers },
                })
            }
            Written::Clock => {
                let item = need(
                    self.layout,
                    "layout",
                    "\"unix32\", \"unix64\", \"unix64-ms\", \"cp56\", or the fields of each register: \"Y M D h m s\"",
                );
                let bcd = self.digits.map_or(Some(false), |item| item.choice(&[("binary", false), ("bcd", true)]));
                let offset_min = self.utc_offset.map_or(Some(0), |item| read_offset(&item));
                let form = item.and_then(|item| read_layout(&item, bcd.unwrap_or(false)));
                bcd?;
                Some(Encoding::Clock(ClockLayout { form: form?, offset_min: offset_min? }))
            }
        }
    }
}

/// What an encoding that lacks a key would be like.
fn stand_in(written: Written) -> Found {
    match written {
        Written::Plain(encoding) => Found::Like(encoding),
        Written::Bit => Found::Like(Encoding::Bit(0)),
        Written::Bits => Found::Like(Encoding::Bits { first: 0, length: 16 }),
        Written::Text | Written::WideText => Found::Like(Encoding::Text { registers: 1 }),
        Written::Clock => Found::Like(Encoding::I64),
    }
}

pub(super) fn refuse(item: Option<&Item<'_, '_>>, reason: &str) {
    if let Some(item) = item {
        item.fault(reason);
    }
}

/// `"4..7"`: both ends included, 0 is the least significant bit. The first bit and how many there are.
fn read_bits(item: &Item<'_, '_>) -> Option<(u8, u8)> {
    let ends = item.as_word().and_then(|text| text.split_once(".."));
    let ends = ends.and_then(|(first, last)| Some((first.parse::<u8>().ok()?, last.parse::<u8>().ok()?)));
    match ends {
        Some((first, last)) if first <= last && last <= 15 => Some((first, last - first + 1)),
        _ => {
            item.fault("must be \"first..last\", both ends included, from 0 (least significant) to 15");
            None
        }
    }
}

fn read_layout(item: &Item<'_, '_>, bcd: bool) -> Option<ClockForm> {
    let form = ClockForm::parse(&item.text()?, bcd);
    if form.is_none() {
        item.fault(
            "must be \"unix32\", \"unix64\", \"unix64-ms\", \"cp56\", or up to 8 registers with a letter each, or one for \
             each byte: Y year, M month, D day, h hour, m minute, s second, - not looked at; year, month and day are \
             needed, as in \"Y M D h m s\" or \"YM Dh ms\"",
        );
    }
    form
}

/// `"+01:00"`, `"-05:30"`: minutes that the clock is ahead of UTC.
fn read_offset(item: &Item<'_, '_>) -> Option<i16> {
    let read = |text: &str| {
        let (sign, text) = match text.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = text.split_once(':')?;
        let is_plain = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_plain(hours) || !is_plain(minutes) {
            return None;
        }
        let (hours, minutes): (i16, i16) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours <= OFFSET_HOURS_MAX && minutes < 60).then_some(sign * (60 * hours + minutes))
    };
    let offset = item.as_word().and_then(read);
    if offset.is_none() {
        item.fault("must be how far the clock is ahead of UTC, \"+01:00\" or \"-05:30\", up to 14 hours");
    }
    offset
}

/// What a point has when it does not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Inherited<T> {
    /// This.
    Is(T),
    /// Nothing: every point has to say it.
    Nothing,
    /// Something that has a fault, which was noted: that it is not known is not worth a further word.
    Faulty,
}

impl<T: Copy> Inherited<T> {
    /// The choice of `key` in a section, with its faults noted.
    pub(super) fn choice(section: &mut Section<'_, '_>, key: &'static str, choices: &[(&str, T)]) -> Self {
        match section.take(key) {
            None if section.is_excused() => Self::Faulty,
            None => Self::Nothing,
            Some(item) => item.choice(choices).map_or(Self::Faulty, Self::Is),
        }
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Nothing | Self::Faulty => None,
        }
    }
}
