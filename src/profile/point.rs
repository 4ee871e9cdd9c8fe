//! One named value of a Modbus device and how its registers become an observation.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::ClockLayout;
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
    /// Registers of 32 bits, four data bytes each, behind function 3: the long registers of Enron Modbus.
    HoldingRegisters32,
    /// Registers of 32 bits, four data bytes each, behind function 4.
    InputRegisters32,
}

impl Table {
    /// The function code that reads this table.
    pub fn read_function(self) -> u8 {
        match self {
            Self::Coils => 1,
            Self::DiscreteInputs => 2,
            Self::HoldingRegisters | Self::HoldingRegisters32 => 3,
            Self::InputRegisters | Self::InputRegisters32 => 4,
        }
    }

    /// The table with this name in files and commands: `coil`, `discrete`, `holding`, `input`, `holding32`, `input32`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "coil" => Some(Self::Coils),
            "discrete" => Some(Self::DiscreteInputs),
            "holding" => Some(Self::HoldingRegisters),
            "input" => Some(Self::InputRegisters),
            "holding32" => Some(Self::HoldingRegisters32),
            "input32" => Some(Self::InputRegisters32),
            _ => None,
        }
    }

    /// True for the two tables whose items are single bits.
    pub fn holds_bits(self) -> bool {
        match self {
            Self::Coils | Self::DiscreteInputs => true,
            Self::HoldingRegisters | Self::InputRegisters => false,
            Self::HoldingRegisters32 | Self::InputRegisters32 => false,
        }
    }

    /// Words that one item of the table gives: two for a register of 32 bits, else one (a bit is a word 0 or 1).
    pub fn item_words(self) -> u16 {
        match self {
            Self::Coils | Self::DiscreteInputs | Self::HoldingRegisters | Self::InputRegisters => 1,
            Self::HoldingRegisters32 | Self::InputRegisters32 => 2,
        }
    }

    /// Data bytes of `count` items in an answer.
    pub fn data_bytes(self, count: u16) -> usize {
        let count = usize::from(count);
        if self.holds_bits() { count.div_ceil(8) } else { 2 * usize::from(self.item_words()) * count }
    }

    /// Most items that one answer carries: 2000 bits or 125 registers (Modbus Application Protocol 1.1b3, 6.1 and 6.3),
    /// half of that, rounded down, of 32 bits.
    pub fn items_per_read(self) -> u16 {
        if self.holds_bits() { 2000 } else { 125 / self.item_words() }
    }
}

/// Order of the registers of a value of several registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordOrder {
    /// Most significant register at the lowest address.
    HighFirst,
    /// Least significant register at the lowest address.
    LowFirst,
}

/// Order of the two bytes inside a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Most significant byte first, as the specification has it (Modbus Application Protocol 1.1b3, 4.2).
    HighFirst,
    /// Least significant byte first.
    LowFirst,
}

impl ByteOrder {
    /// The register as the specification would have sent it; the same again undoes it.
    pub fn of(self, word: u16) -> u16 {
        match self {
            Self::HighFirst => word,
            Self::LowFirst => word.swap_bytes(),
        }
    }
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
    /// Text, two characters a register, high byte first; ends at the first NUL, what fills it up dropped.
    Text {
        /// Registers that hold it.
        registers: u16,
    },
    /// Text, one character (a unit of UTF-16) a register; ends at the first NUL, what fills it up dropped.
    WideText {
        /// Registers that hold it.
        registers: u16,
    },
    /// Unsigned, three registers.
    U48,
    /// Two's complement, three registers.
    I48,
    /// IEEE 754 half precision, one register.
    F16,
    /// The highest bit is the sign, the others are the magnitude.
    SignMagnitude {
        /// 1 or 2.
        registers: u16,
    },
    /// Binary-coded decimal, four digits a register.
    Bcd {
        /// 1 to 4.
        registers: u16,
    },
    /// Each register counts to 9999, the next one tens of thousands.
    Modulo10000 {
        /// 2 to 4.
        registers: u16,
        /// Every register is signed and runs from -9999 to 9999.
        signed: bool,
    },
    /// Two's complement in some bits of one register, as [`Bits`](Self::Bits).
    SignedBits {
        /// Lowest bit of the field, 0 to 15.
        first: u8,
        /// 2 to 16 bits.
        length: u8,
    },
    /// Date and time, given as whole seconds since 1970-01-01 00:00 UTC.
    Clock(ClockLayout),
}

impl Encoding {
    /// Registers (or bits of a bit table) to read.
    pub fn width(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::F16 | Self::Bit(_) | Self::Bits { .. } | Self::SignedBits { .. } => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U48 | Self::I48 => 3,
            Self::U64 | Self::I64 | Self::F64 => 4,
            Self::Text { registers }
            | Self::WideText { registers }
            | Self::SignMagnitude { registers }
            | Self::Bcd { registers }
            | Self::Modulo10000 { registers, .. } => registers,
            Self::Clock(layout) => layout.registers(),
        }
    }

    /// How values of this encoding are kept when no scale factor register is involved.
    pub fn kind(self) -> ValueKind {
        match self {
            Self::U16 | Self::I16 | Self::U32 | Self::I32 | Self::U48 | Self::I48 | Self::I64 => ValueKind::Int,
            Self::Bits { .. } | Self::SignedBits { .. } | Self::SignMagnitude { .. } => ValueKind::Int,
            Self::Bcd { .. } | Self::Modulo10000 { .. } | Self::Clock(_) => ValueKind::Int,
            Self::U64 => ValueKind::Uint,
            Self::F16 | Self::F32 => ValueKind::F32,
            Self::F64 => ValueKind::F64,
            Self::Bit(_) => ValueKind::Bool,
            Self::Text { .. } | Self::WideText { .. } => ValueKind::Text,
        }
    }

    /// True where a point of a register shares it with others.
    pub fn is_part_of_register(self) -> bool {
        matches!(self, Self::Bit(_) | Self::Bits { .. } | Self::SignedBits { .. })
    }

    /// True for text of either width.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text { .. } | Self::WideText { .. })
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
    /// Order of the bytes inside each register; of no effect on coils and discrete inputs.
    pub byte_order: ByteOrder,
    /// Address of each of its registers, where they do not lie one after the other; else empty.
    pub scattered: Box<[u16]>,
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

/// Registers (or bits) of `table` that a value of this encoding takes.
pub fn items(encoding: Encoding, table: Table) -> u16 {
    encoding.width().div_ceil(table.item_words())
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
            byte_order: ByteOrder::HighFirst,
            scattered: Box::default(),
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

    /// Registers (or bits) from its address on: 1 where its registers are scattered.
    pub fn items(&self) -> u16 {
        if self.scattered.is_empty() { items(self.encoding, self.table) } else { 1 }
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
