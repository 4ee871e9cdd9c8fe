//! How a device type is told from others, and where it says which firmware it runs.

use super::point::Table;
use super::version::{Scheme, Version};

/// What a profile says about recognising its device. All empty: nothing is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identification {
    /// The models this profile is for; the first that fits counts. Empty when nothing tells.
    pub models: Vec<ModelMark>,
    /// Where the firmware version stands, in order of trust.
    pub versions: Vec<VersionSource>,
    /// How the version is written.
    pub scheme: Scheme,
    /// The device has a chain of SunSpec models, which is walked to know its map.
    pub walks_chain: bool,
}

impl Identification {
    /// True when there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.versions.is_empty() && !self.walks_chain
    }
}

/// What shows that a device is of a certain model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMark {
    /// What the model is called.
    pub name: String,
    /// What is read.
    pub place: Place,
    /// What must stand there.
    pub expected: Expected,
}

/// Something that a device says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// An object of Read Device Identification (Modbus Application Protocol 1.1b3, 6.21).
    Object(u8),
    /// Registers.
    Registers {
        /// Which table.
        table: Table,
        /// Protocol address of the first one, from 0.
        address: u16,
        /// How many to read, all of them in one request.
        count: u16,
        /// How they are understood.
        form: Form,
        /// Where in them the item begins, and how many registers it has.
        part: (u16, u16),
    },
    /// A text of the SunSpec common model.
    SunSpec(CommonText),
}

/// How registers that identify a device are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Two characters a register, high byte first.
    Text,
    /// One character a register, in the low byte.
    WideText,
    /// An unsigned number, most significant register first; for a version what its scheme makes of the registers.
    Number,
    /// An unsigned number, least significant register first.
    NumberLowFirst,
}

/// Texts of the SunSpec common model (model 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommonText {
    /// `Mn`.
    Manufacturer,
    /// `Md`.
    Model,
    /// `Vr`.
    Version,
}

/// What must stand at a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Text that begins with one of these, upper and lower case alike.
    Text(Vec<String>),
    /// A number, both ends included.
    Number(u64, u64),
}

impl Expected {
    /// True when what was read is what is expected.
    pub fn fits(&self, said: &Said) -> bool {
        match (self, said) {
            (Self::Text(beginnings), Said::Text(text)) => {
                let text = text.trim().to_lowercase();
                beginnings.iter().any(|beginning| text.starts_with(&beginning.to_lowercase()))
            }
            (Self::Number(least, most), Said::Words(words)) => {
                let number = words.iter().fold(0_u64, |number, word| number << 16 | u64::from(*word));
                (*least..=*most).contains(&number)
            }
            (Self::Text(_), Said::Words(_)) | (Self::Number(..), Said::Text(_)) => false,
        }
    }
}

/// What a device said at a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Text without its padding.
    Text(String),
    /// Registers, the most significant first.
    Words(Vec<u16>),
}

impl Said {
    /// The version in it.
    pub fn version(&self, scheme: Scheme) -> Option<Version> {
        match self {
            Self::Text(text) => scheme.of_text(text),
            Self::Words(words) => scheme.of_words(words),
        }
    }
}

/// Where a firmware version comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum VersionSource {
    /// What stands somewhere.
    Place(Place),
    /// Whether registers exist: an exception says one version, an answer another.
    Probe {
        /// Which table.
        table: Table,
        /// Protocol address of the first one, from 0.
        address: u16,
        /// How many to read.
        count: u16,
        /// The version of devices that have them.
        answers: Version,
        /// The version of devices that refuse (exception 2 or 3).
        refuses: Version,
    },
}
