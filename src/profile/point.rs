//! One named value of a Modbus device and how its registers become an observation.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Scale, ValueKind};

/// The four tables of a Modbus device (Modbus Application Protocol 1.1b3, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Single bits, read and write; function 1.
    Coils,
    /// Single bits, read only; function 2.
    DiscreteInputs,
    /// 16-bit registers, read and write; function 3.
    HoldingRegisters,
    /// 16-bit registers, read only; function 4.
    InputRegisters,
}

impl Table {
    /// The function code that reads this table.
    pub fn read_function(self) -> u8 {
        match self {
            Self::Coils => 1,
            Self::DiscreteInputs => 2,
            Self::HoldingRegisters => 3,
            Self::InputRegisters => 4,
        }
    }

    /// The table with this name in files and commands: `coil`, `discrete`, `holding`, `input`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "coil" => Some(Self::Coils),
            "discrete" => Some(Self::DiscreteInputs),
            "holding" => Some(Self::HoldingRegisters),
            "input" => Some(Self::InputRegisters),
            _ => None,
        }
    }

    /// True for the two tables whose items are single bits.
    pub fn holds_bits(self) -> bool {
        match self {
            Self::Coils | Self::DiscreteInputs => true,
            Self::HoldingRegisters | Self::InputRegisters => false,
        }
    }
}

/// Order of the registers of a value of 32 or 64 bits. Bytes inside a register are always big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordOrder {
    /// Most significant register at the lowest address.
    HighFirst,
    /// Least significant register at the lowest address.
    LowFirst,
}

/// How the registers of a point are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Unsigned, one register.
    U16,
    /// Two's complement, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Two's complement, two registers.
    I32,
    /// Unsigned, four registers.
    U64,
    /// Two's complement, four registers.
    I64,
    /// IEEE 754 single precision, two registers.
    F32,
    /// IEEE 754 double precision, four registers.
    F64,
    /// A coil or discrete input, or (0 to 15, 0 least significant) one bit of a register.
    Bit(u8),
    /// Unsigned number in some bits of one register: `length` bits from bit `first` (0 least significant).
    Bits {
        /// Lowest bit of the field, 0 to 15.
        first: u8,
        /// 1 to 16 bits.
        length: u8,
    },
    /// Text, two characters a register, high byte first; ends at the first NUL, trailing blanks dropped.
    Text {
        /// Registers that hold it.
        registers: u16,
    },
}

impl Encoding {
    /// Registers (or bits of a bit table) to read.
    pub fn width(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::Bit(_) | Self::Bits { .. } => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
            Self::Text { registers } => registers,
        }
    }

    /// How values of this encoding are kept when no scale factor register is involved.
    pub fn kind(self) -> ValueKind {
        match self {
            Self::U16 | Self::I16 | Self::U32 | Self::I32 | Self::I64 | Self::Bits { .. } => ValueKind::Int,
            Self::U64 => ValueKind::Uint,
            Self::F32 => ValueKind::F32,
            Self::F64 => ValueKind::F64,
            Self::Bit(_) => ValueKind::Bool,
            Self::Text { .. } => ValueKind::Text,
        }
    }
}

/// One named value of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name with its unit at the end: `active_power_w`.
    pub name: String,
    /// Where it is.
    pub table: Table,
    /// Protocol address, from 0, as it goes on the wire.
    pub address: u16,
    /// How it is read.
    pub encoding: Encoding,
    /// Which register comes first; of no effect on one register and on text.
    pub word_order: WordOrder,
    /// From raw number to engineering value.
    pub scale: Scale,
    /// Index, in the same profile, of the point that holds the power of ten to scale with (SunSpec `sf16`).
    pub scale_factor: Option<usize>,
    /// Unit of the engineering value; empty when it has none.
    pub unit: String,
    /// Raw bit patterns, right-aligned, that mean "not available".
    pub sentinels: Vec<u64>,
    /// Allowed engineering values, both ends included.
    pub range: Option<(f64, f64)>,
    /// Meaning of the numbers of an enumeration.
    pub states: BTreeMap<i64, String>,
    /// How often it is worth reading, where the profile has an opinion.
    pub interval: Option<Duration>,
    /// Polled unless the configuration says otherwise (false for serial numbers, settings and the like).
    pub polled: bool,
    /// What the source of the map is unsure of; values are then uncertain.
    pub unsure: Option<String>,
    /// Registers that the device gives only together; a request for this point covers all of them.
    pub read_whole: Option<Registers>,
    /// Its value is scaled while decoding and kept as a double: firmwares of the device scale it differently, and its
    /// series means the same whichever runs.
    pub computed: bool,
}

/// Some registers (or bits) of one table, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Address of the first one.
    pub address: u16,
    /// How many there are, at least one.
    pub count: u16,
}

impl Point {
    /// A point that is polled and taken as it is: most significant register first, no scale, unit or range.
    pub fn plain(name: impl Into<String>, table: Table, address: u16, encoding: Encoding) -> Self {
        Self {
            name: name.into(),
            table,
            address,
            encoding,
            word_order: WordOrder::HighFirst,
            scale: Scale::ONE,
            scale_factor: None,
            unit: String::new(),
            sentinels: Vec::new(),
            range: None,
            states: BTreeMap::new(),
            interval: None,
            polled: true,
            unsure: None,
            read_whole: None,
            computed: false,
        }
    }

    /// How values of this point are kept. What is scaled while decoding is a double.
    pub fn kind(&self) -> ValueKind {
        if self.is_scaled_here() { ValueKind::F64 } else { self.encoding.kind() }
    }

    /// The scale that the catalogue lists: one where the scale is applied while decoding.
    pub fn listed_scale(&self) -> Scale {
        if self.is_scaled_here() { Scale::ONE } else { self.scale }
    }

    fn is_scaled_here(&self) -> bool {
        self.scale_factor.is_some() || self.computed
    }
}
