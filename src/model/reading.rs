//! What was observed: a value, a doubtful value, or a fault. Never a made-up number.

use std::fmt;
use std::sync::Arc;

use super::ids::SeriesId;
use super::series::ValueKind;
use super::time::Timestamp;

/// A value as it is kept: integers as the device sent them, before scale and offset.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Signed integer; every integer register type but u64.
    Int(i64),
    /// Unsigned integer of 64 bits.
    Uint(u64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// One bit.
    Bool(bool),
    /// Text.
    Text(Arc<str>),
}

impl Value {
    /// Which kind of value this is.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Int(_) => ValueKind::Int,
            Self::Uint(_) => ValueKind::Uint,
            Self::F32(_) => ValueKind::F32,
            Self::F64(_) => ValueKind::F64,
            Self::Bool(_) => ValueKind::Bool,
            Self::Text(_) => ValueKind::Text,
        }
    }

    /// The number before scale and offset; 0 and 1 for bits, `None` for text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Uint(value) => Some(*value as f64),
            Self::F32(value) => Some(shortest(*value)),
            Self::F64(value) => Some(*value),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Text(_) => None,
        }
    }
}

/// The double that reads like the single: 0.1f32 becomes 0.1, not 0.10000000149011612.
fn shortest(single: f32) -> f64 {
    single.to_string().parse().unwrap_or(f64::from(single))
}

/// Why a value is doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The instrument says that the value is still moving (MT-SICS `S D`).
    Unstable,
    /// The device runs a firmware that the profile does not know; the nearest older map was used.
    UnknownFirmware,
    /// The source of the register map marks this point as unsure.
    UnsureMap,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No answer within the timeout.
    Timeout,
    /// The device answered with this exception code (Modbus Application Protocol 1.1b3, 7).
    Exception(u8),
    /// The answer came from another unit.
    WrongUnit,
    /// The answer was for another function, or its length does not fit the request.
    WrongAnswer,
    /// CRC of an RTU frame, or checksum of a line of text, does not match.
    BadChecksum,
    /// The answer could not be understood at all.
    Garbage,
    /// The device says "not available" by a sentinel value.
    NotAvailable,
    /// Not a number, or infinite.
    NotANumber,
    /// Outside the range that the profile allows.
    OutOfRange,
    /// The scale factor register is not available or outside -10 to 10 (SunSpec).
    BadScaleFactor,
    /// The link cannot be opened, or broke.
    LinkDown,
    /// A line of text does not fit the pattern of the profile.
    NoMatch,
    /// The device itself reports that it cannot measure (overload, sensor fault).
    DeviceFault,
    /// What answers is another device than the configured profile is for.
    WrongDevice,
    /// The firmware of the device does not have this point.
    NotInFirmware,
}

/// What became of one reading.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// A value that can be used.
    Good(Value),
    /// A value with a reason to doubt it.
    Uncertain(Value, Doubt),
    /// No value, and why.
    Bad(Fault),
}

impl Observed {
    /// The value, doubtful or not.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Good(value) | Self::Uncertain(value, _) => Some(value),
            Self::Bad(_) => None,
        }
    }

    /// The quality as a number, for storage and the wire.
    pub fn quality(&self) -> Quality {
        match self {
            Self::Good(_) => Quality::GOOD,
            Self::Uncertain(_, doubt) => Quality::from(*doubt),
            Self::Bad(fault) => Quality::from(*fault),
        }
    }
}

/// Quality as a number that never changes its meaning: 0 good, 0x100 to 0x1FF uncertain, 0x200 and up bad.
///
/// Exceptions are 0x300 plus the exception code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quality(u16);

const UNCERTAIN: u16 = 0x100;
const BAD: u16 = 0x200;
const EXCEPTION: u16 = 0x300;

impl Quality {
    /// Nothing to say against the value.
    pub const GOOD: Self = Self(0);

    /// The number on the wire.
    pub fn code(self) -> u16 {
        self.0
    }

    /// The quality with this number, if there is one.
    pub fn from_code(code: u16) -> Option<Self> {
        let quality = Self(code);
        let known = code == 0 || quality.doubt().is_some() || quality.fault().is_some();
        known.then_some(quality)
    }

    /// The doubt, when the quality is uncertain.
    pub fn doubt(self) -> Option<Doubt> {
        match self.0.checked_sub(UNCERTAIN)? {
            1 => Some(Doubt::Unstable),
            2 => Some(Doubt::UnknownFirmware),
            3 => Some(Doubt::UnsureMap),
            _ => None,
        }
    }

    /// The fault, when the quality is bad.
    pub fn fault(self) -> Option<Fault> {
        if let Some(exception) = self.0.checked_sub(EXCEPTION) {
            return u8::try_from(exception).ok().map(Fault::Exception);
        }
        match self.0.checked_sub(BAD)? {
            1 => Some(Fault::Timeout),
            2 => Some(Fault::WrongUnit),
            3 => Some(Fault::WrongAnswer),
            4 => Some(Fault::BadChecksum),
            5 => Some(Fault::Garbage),
            6 => Some(Fault::NotAvailable),
            7 => Some(Fault::NotANumber),
            8 => Some(Fault::OutOfRange),
            9 => Some(Fault::BadScaleFactor),
            10 => Some(Fault::LinkDown),
            11 => Some(Fault::NoMatch),
            12 => Some(Fault::DeviceFault),
            13 => Some(Fault::WrongDevice),
            14 => Some(Fault::NotInFirmware),
            _ => None,
        }
    }

    /// What this quality makes of a value that came with it; `None` when the two do not belong together.
    pub fn observe(self, value: Option<Value>) -> Option<Observed> {
        match (value, self.doubt(), self.fault()) {
            (Some(value), None, None) if self == Self::GOOD => Some(Observed::Good(value)),
            (Some(value), Some(doubt), None) => Some(Observed::Uncertain(value, doubt)),
            (None, None, Some(fault)) => Some(Observed::Bad(fault)),
            (Some(_) | None, _, _) => None,
        }
    }
}

impl From<Doubt> for Quality {
    fn from(doubt: Doubt) -> Self {
        Self(
            UNCERTAIN
                + match doubt {
                    Doubt::Unstable => 1,
                    Doubt::UnknownFirmware => 2,
                    Doubt::UnsureMap => 3,
                },
        )
    }
}

impl From<Fault> for Quality {
    fn from(fault: Fault) -> Self {
        let reason = match fault {
            Fault::Exception(code) => return Self(EXCEPTION + u16::from(code)),
            Fault::Timeout => 1,
            Fault::WrongUnit => 2,
            Fault::WrongAnswer => 3,
            Fault::BadChecksum => 4,
            Fault::Garbage => 5,
            Fault::NotAvailable => 6,
            Fault::NotANumber => 7,
            Fault::OutOfRange => 8,
            Fault::BadScaleFactor => 9,
            Fault::LinkDown => 10,
            Fault::NoMatch => 11,
            Fault::DeviceFault => 12,
            Fault::WrongDevice => 13,
            Fault::NotInFirmware => 14,
        };
        Self(BAD + reason)
    }
}

/// `good`, `uncertain: unstable`, `bad: timeout`, `bad: exception 2 (illegal data address)`.
impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.doubt(), self.fault()) {
            (Some(doubt), _) => format!("uncertain: {doubt}"),
            (None, Some(fault)) => format!("bad: {fault}"),
            (None, None) => "good".to_owned(),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unstable => "unstable",
            Self::UnknownFirmware => "unknown firmware",
            Self::UnsureMap => "unsure map",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timeout",
            Self::Exception(code) => return write!(f, "exception {code} ({})", exception_name(*code)),
            Self::WrongUnit => "wrong unit",
            Self::WrongAnswer => "wrong answer",
            Self::BadChecksum => "bad checksum",
            Self::Garbage => "garbage",
            Self::NotAvailable => "not available",
            Self::NotANumber => "not a number",
            Self::OutOfRange => "out of range",
            Self::BadScaleFactor => "bad scale factor",
            Self::LinkDown => "link down",
            Self::NoMatch => "no match",
            Self::DeviceFault => "device fault",
            Self::WrongDevice => "wrong device",
            Self::NotInFirmware => "not in this firmware",
        })
    }
}

/// Names of the exception codes (Modbus Application Protocol 1.1b3, 7).
fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        6 => "server device busy",
        7 => "negative acknowledge",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target failed to respond",
        _ => "unknown",
    }
}

/// The readings one answer of a device gave: they share their time.
///
/// `series[i]` was observed as `observed[i]`; both have the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which series, in the order of the answer. Shared by all rows of the same shape.
    pub series: Arc<[SeriesId]>,
    /// When the answer arrived.
    pub time: Timestamp,
    /// What was observed, one for each series.
    pub observed: Vec<Observed>,
}

impl Row {
    /// A row in which every series is bad for the same reason.
    pub fn all_bad(series: Arc<[SeriesId]>, time: Timestamp, fault: Fault) -> Self {
        let observed = vec![Observed::Bad(fault); series.len()];
        Self { series, time, observed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quality_code_means_one_thing() {
        let codes: Vec<u16> = (0..=u16::MAX).filter(|code| Quality::from_code(*code).is_some()).collect();

        for code in &codes {
            let quality = Quality::from_code(*code).unwrap();
            let again = match (quality.doubt(), quality.fault()) {
                (Some(doubt), None) => Quality::from(doubt),
                (None, Some(fault)) => Quality::from(fault),
                (None, None) => Quality::GOOD,
                (Some(_), Some(_)) => panic!("{code:#x} is both"),
            };
            assert_eq!(again.code(), *code);
        }
        assert_eq!(codes.len(), 1 + 3 + 14 + 256);
    }

    #[test]
    fn a_bad_reading_cannot_carry_a_value() {
        assert_eq!(Quality::from(Fault::Timeout).observe(Some(Value::Int(1))), None);
        assert_eq!(Quality::GOOD.observe(None), None);
    }

    #[test]
    fn a_single_reads_as_the_decimal_it_was() {
        assert_eq!(Value::F32(0.1).number(), Some(0.1));
        assert_eq!(Value::F32(230.25).number(), Some(230.25));
    }
}
