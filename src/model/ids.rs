//! Names and numbers that identify things.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name of a site, gateway, link, device or label key, in characters.
pub const NAME_LENGTH_MAX: usize = 64;

/// Name of a site, gateway, link or device: `[a-z0-9][a-z0-9_-]{0,63}`.
///
/// Names become MQTT topic levels and label values, so they hold nothing that needs quoting there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// A name that breaks the rule `[a-z0-9][a-z0-9_-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters of a-z, 0-9, '_' or '-', and start with a letter or digit")]
pub struct NameError;

impl Name {
    /// Checks `raw` against the rule for names.
    pub fn new(raw: &str) -> Result<Self, NameError> {
        let starts_well = raw.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let all_allowed =
            raw.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
        if starts_well && all_allowed && raw.len() <= NAME_LENGTH_MAX { Ok(Self(raw.into())) } else { Err(NameError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Address of one device on a link.
///
/// On a serial line 1 to 247 (Modbus over Serial Line 1.02, 2.2: 0 is broadcast, the rest reserved).
/// On TCP also 0 and 255, which a device that is addressed by its IP address alone expects
/// (Modbus Messaging on TCP/IP 1.0b, 4.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(u8);

/// A unit id that the kind of link does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitIdError {
    /// Outside 1 to 255 on a serial line.
    #[error("must be 1 to 247, or 248 to 255, which are reserved")]
    Serial,
    /// Outside 0 to 255 on TCP.
    #[error("must be 0 to 247 or 255, or 248 to 254, which are reserved")]
    Tcp,
}

impl UnitId {
    /// A unit id on a serial line: 1 to 247 by the standard (Modbus over Serial Line 1.02, 2.2), and 248 to 255, which some
    /// devices have although they are reserved.
    pub fn serial(raw: i64) -> Result<Self, UnitIdError> {
        match u8::try_from(raw) {
            Ok(id @ 1..) => Ok(Self(id)),
            _ => Err(UnitIdError::Serial),
        }
    }

    /// A unit id behind a TCP endpoint: 0 to 247 or 255, and 248 to 254, which are reserved.
    pub fn tcp(raw: i64) -> Result<Self, UnitIdError> {
        match u8::try_from(raw) {
            Ok(id) => Ok(Self(id)),
            Err(_) => Err(UnitIdError::Tcp),
        }
    }

    /// True for 248 to 255, which the specification reserves.
    pub fn is_reserved(self) -> bool {
        self.0 >= 248
    }

    /// The byte on the wire.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a series in the catalogue of one epoch. Never given to another series in that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeriesId(pub u32);

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of one commit in its lane, from 1 on. Never repeats and never goes back within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first sequence of an epoch.
    pub const FIRST: Self = Self(1);

    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Life of one database: 128 random bits, new whenever sequences have to start again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub [u8; 16]);

/// The kernel's boot id: which boot a monotonic time belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(pub [u8; 16]);

macro_rules! hex_id {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl $type {
            /// Reads 32 hexadecimal digits, hyphens ignored.
            pub fn from_hex(text: &str) -> Option<Self> {
                let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b'-').collect();
                if digits.len() != 32 {
                    return None;
                }
                let mut bytes = [0; 16];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
                    *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("expected 32 hexadecimal digits"))
            }
        }
    };
}

hex_id!(Epoch);
hex_id!(BootId);

/// One of the two streams of the buffer; each keeps its own order and its own sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Alarm transitions: few, urgent, dropped last.
    Alarms,
    /// Readings, aggregates and gap records.
    Telemetry,
}

impl Lane {
    /// Both lanes, the urgent one first.
    pub const ALL: [Self; 2] = [Self::Alarms, Self::Telemetry];
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alarms => "alarms",
            Self::Telemetry => "telemetry",
        })
    }
}

/// What makes a record the same record wherever and however often it arrives (with the gateway's name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Life of the database that gave the sequence.
    pub epoch: Epoch,
    /// Stream within the epoch.
    pub lane: Lane,
    /// Commit within the lane.
    pub sequence: Sequence,
    /// Position within the commit, from 0.
    pub index: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_topic_safe() {
        for good in ["a", "gw-01", "0_x", &"a".repeat(64)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a b", "a/b", "ä", "a+", &"a".repeat(65)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn broadcast_and_reserved_unit_ids_are_refused_on_a_serial_line() {
        assert!(UnitId::serial(0).is_err());
        assert!(UnitId::serial(256).is_err());
        assert!(UnitId::serial(248).is_ok_and(UnitId::is_reserved));
        assert!(UnitId::serial(-1).is_err());
        assert_eq!(UnitId::serial(247).map(UnitId::get), Ok(247));
        assert_eq!(UnitId::tcp(255).map(UnitId::get), Ok(255));
        assert!(UnitId::tcp(250).is_ok_and(UnitId::is_reserved));
        assert!(UnitId::tcp(256).is_err());
    }

    #[test]
    fn an_epoch_survives_its_text_form() {
        let epoch = Epoch([0xa5; 16]);
        assert_eq!(Epoch::from_hex(&epoch.to_string()), Some(epoch));
        assert_eq!(Epoch::from_hex("12"), None);
    }
}
