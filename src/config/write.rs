//! The sections `[[write]]`: what may be written to which machine. They belong to the owner on site.

use std::time::Duration;

use super::remote::Role;
use crate::model::Name;
use crate::settings::{FileFault, Item, Section};

/// Longest time until a value returns to a safe one.
const LEASE_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest interlock, in bytes: deeper parentheses than fit would cost the stack.
const INTERLOCK_MAX: usize = 2048;

/// A leased value returns without the broker after so long unless the owner says otherwise.
const WITHOUT_BROKER: Duration = Duration::from_secs(30);

/// One tag that may be written, and within which bounds. Everything that is not listed cannot be written.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteConfig {
    /// Name of the device.
    pub device: Name,
    /// Name of its point.
    pub point: String,
    /// What was allowed: endpoint, unit, register, encoding and scale, as `lineside check` prints it. Without it, or
    /// when any of them has changed, nothing is written.
    pub pin: Option<String>,
    /// Least and greatest engineering value.
    pub range: (f64, f64),
    /// Most that one write may change the value by; no limit without it.
    pub step: Option<f64>,
    /// Least time between two writes.
    pub interval: Duration,
    /// Least role that may write it from afar.
    pub role: Role,
    /// What must be true at the moment of writing; all of them.
    pub interlocks: Vec<Interlock>,
    /// How far what is read back may be from what was written.
    pub tolerance: f64,
    /// To which value it returns, and after how long at most; for ever without it.
    pub lease: Option<Lease>,
    /// With which function of Modbus it is written.
    pub function: WriteFunction,
}

/// With which function of Modbus a device is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteFunction {
    /// 5 for a coil, 6 for one register, 16 for several.
    #[default]
    Single,
    /// 15 for coils, 16 for registers, also for one.
    Multiple,
    /// 22, mask write: the bits of a point that shares its register, and no others.
    Mask,
    /// Reads the register, changes the bits of a point that shares it, and writes it with 6: what somebody else changes
    /// in between is lost.
    ReadModifyWrite,
    /// 23: writes registers and reads them in the same request.
    ReadWrite,
}

const FUNCTIONS: [(&str, WriteFunction); 5] = [
    ("single", WriteFunction::Single),
    ("multiple", WriteFunction::Multiple),
    ("mask", WriteFunction::Mask),
    ("read-modify-write", WriteFunction::ReadModifyWrite),
    ("read-write", WriteFunction::ReadWrite),
];

/// A value that does not stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lease {
    /// After how long at most it returns.
    pub longest: Duration,
    /// To which value.
    pub safe: f64,
    /// It returns as well when the broker was away for so long: nobody could take it back.
    pub without_broker: Duration,
}

/// What must be true at the moment of writing.
#[derive(Debug, Clone, PartialEq)]
pub enum Interlock {
    /// A tag compared with a number.
    Compared(Compared),
    /// PromQL over the series of this gateway.
    Condition(Condition),
}

/// An expression of PromQL that allows a write as long as it has a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// As it is written.
    pub text: String,
    /// Where it is written: a fault without its reason.
    pub place: FileFault,
}

/// `press-1/temperature_c < 60`: a tag that is read just before the write, compared with a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Name of the device.
    pub device: Name,
    /// Name of its point.
    pub point: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub number: f64,
}

/// How a value is compared with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

impl Comparison {
    /// Words of a comparison; those that begin like another one come first.
    const NAMED: [(&str, Self); 6] = [
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<", Self::Below),
        (">", Self::Above),
    ];

    /// Whether `value` compares so with `number`.
    pub fn holds(self, value: f64, number: f64) -> bool {
        match self {
            Self::Below => value < number,
            Self::AtMost => value <= number,
            Self::Above => value > number,
            Self::AtLeast => value >= number,
            Self::Equal => value == number,
            Self::Unequal => value != number,
        }
    }
}

impl std::fmt::Display for Interlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Compared(compared) => compared.fmt(f),
            Self::Condition(condition) => f.write_str(&condition.text),
        }
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = Comparison::NAMED.iter().find(|(_, comparison)| *comparison == self.comparison);
        write!(f, "{}/{} {} {}", self.device, self.point, word.map_or("", |(word, _)| word), self.number)
    }
}

impl Compared {
    /// A device, a slash without spaces around it, a point, and a comparison with a number; nothing when it is anything
    /// else.
    fn read(text: &str) -> Option<Self> {
        let found =
            Comparison::NAMED.iter().filter_map(|(word, comparison)| Some((text.find(word)?, word, comparison)));
        let (at, word, comparison) = found.min_by_key(|(at, word, _)| (*at, 2 - word.len()))?;
        let (device, point) = text[..at].trim().split_once('/')?;
        let number: f64 = text[at + word.len()..].trim().parse().ok().filter(|number: &f64| number.is_finite())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if point.is_empty() || !point.chars().all(is_name) {
            return None;
        }
        let device = Name::new(device).ok()?;
        Some(Self { device, point: point.to_owned(), comparison: *comparison, number })
    }
}

/// Reads the sections.
pub(super) fn writes(sections: Vec<Section<'_, '_>>) -> Vec<WriteConfig> {
    let mut all: Vec<WriteConfig> = Vec::new();
    for section in sections {
        let Some(write) = one(section) else { continue };
        all.push(write);
    }
    all
}

fn one(mut section: Section<'_, '_>) -> Option<WriteConfig> {
    let device = section.require("device", "name of the device").and_then(|item| super::site::name(&item));
    let point = section.require("point", "name of one of its points").and_then(|item| item.text());
    if let (Some(device), Some(point)) = (&device, &point) {
        section.call(&format!("{device}/{point}"));
    }
    let pin = section.text("pin");
    let range = section.require("range", "[least, greatest] value in the unit of the point").and_then(range);
    let step = section.take("step").and_then(|item| above_zero(&item));
    let interval = section.duration("interval", Duration::ZERO..=Duration::from_secs(24 * 3600));
    let role = section.choice("role", &Role::NAMED[1..]);
    let interlocks = section.take("interlock").map(interlocks).unwrap_or(Some(Vec::new()));
    let tolerance = section.take("tolerance").and_then(|item| not_negative(&item)).unwrap_or(0.0);
    let longest = section.duration("lease", Duration::from_secs(1)..=LEASE_MOST);
    let safe_item = section.take("safe");
    let safe = safe_item.as_ref().and_then(Item::number);
    if let (Some(item), Some(safe), Some((least, greatest))) = (&safe_item, safe, range)
        && !(least..=greatest).contains(&safe)
    {
        item.fault("must lie within range");
    }
    let without_broker = section.duration("without_broker", Duration::from_secs(1)..=LEASE_MOST);
    match (longest, safe) {
        (Some(_), None) if safe_item.is_none() => section.missing("safe", "the value to return to when the lease ends"),
        (None, Some(_)) => section.missing("lease", "after how long at most the value returns to the safe one"),
        (_, _) => {}
    }
    let function = section.choice("function", &FUNCTIONS).unwrap_or_default();
    section.finish();
    Some(WriteConfig {
        device: device?,
        point: point?,
        pin,
        range: range?,
        step,
        interval: interval.unwrap_or(Duration::from_secs(1)),
        role: role.unwrap_or(Role::Operator),
        interlocks: interlocks?,
        tolerance,
        lease: longest.zip(safe).map(|(longest, safe)| Lease {
            longest,
            safe,
            without_broker: without_broker.unwrap_or(WITHOUT_BROKER),
        }),
        function,
    })
}

fn range(item: Item<'_, '_>) -> Option<(f64, f64)> {
    const FORM: &str = "must be two numbers, the least and the greatest: [10.0, 60.0]";
    let whole = item.clone();
    let ends: Vec<f64> = item.list()?.iter().filter_map(Item::number).collect();
    match ends[..] {
        [least, greatest] if least <= greatest => Some((least, greatest)),
        _ => {
            whole.fault(FORM);
            None
        }
    }
}

fn interlocks(item: Item<'_, '_>) -> Option<Vec<Interlock>> {
    let items = if item.as_word().is_some() { vec![item] } else { item.list()? };
    let mut all = Vec::new();
    for item in items {
        all.push(interlock(&item)?);
    }
    Some(all)
}

/// Of PromQL only the grammar is looked at here; the rest is up to those who evaluate it.
fn interlock(item: &Item<'_, '_>) -> Option<Interlock> {
    let text = item.text()?;
    if text.len() > INTERLOCK_MAX {
        item.fault(format!("must be at most {INTERLOCK_MAX} bytes long"));
        return None;
    }
    if let Some(compared) = Compared::read(&text) {
        return Some(Interlock::Compared(compared));
    }
    match crate::model::promql::parse(&text) {
        Ok(_) => Some(Interlock::Condition(Condition { text, place: item.place() })),
        Err(reason) => {
            item.fault(format!(
                "must be a tag compared with a number, \"press-1/temperature_c < 60\", or PromQL, \
                 \"max(door_open{{device=\"press-1\"}}) == 0\": {reason}"
            ));
            None
        }
    }
}

fn above_zero(item: &Item<'_, '_>) -> Option<f64> {
    item.check(item.number().filter(|number| *number > 0.0).ok_or("must be a number above 0"))
}

fn not_negative(item: &Item<'_, '_>) -> Option<f64> {
    item.check(item.number().filter(|number| *number >= 0.0).ok_or("must be a number, 0 or above"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_compared_with_a_number_is_told_from_promql() {
        let read = |text: &str| Compared::read(text);
        let compared = read("press-1/temperature_c <= 60.5").unwrap();
        assert_eq!((compared.comparison, compared.number), (Comparison::AtMost, 60.5));
        assert_eq!(compared.to_string(), "press-1/temperature_c <= 60.5");
        assert!(compared.comparison.holds(60.5, compared.number));
        assert_eq!(read("a/b!=-1").unwrap().comparison, Comparison::Unequal);
        for other in ["", "a/b", "a < 1", "a/b < c", "a/b < inf", "A/b < 1", "a/ < 1", "a/b = 1"] {
            assert!(read(other).is_none(), "{other}");
        }
        for promql in ["a / b < 1", "sum(a)/b < 1", "a/b < 1 and c > 2", "a{device=\"b/c\"} < 1"] {
            assert!(read(promql).is_none() && promql_parser::parser::parse(promql).is_ok(), "{promql}");
        }
    }
}
