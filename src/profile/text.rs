//! Instruments that speak lines of text.

use std::time::Duration;

use crate::model::{Scale, ValueKind};

/// A device type that speaks lines of text.
#[derive(Debug, Clone)]
pub struct TextProfile {
    /// Asked for each reading; `None` when the instrument sends by itself.
    pub ask: Option<Vec<u8>>,
    /// Bytes that end a line.
    pub frame_end: Vec<u8>,
    /// Longest line accepted, in bytes; a longer one is garbage.
    pub frame_max: usize,
    /// Checksum that each line must carry.
    pub checksum: Checksum,
    /// One or more patterns; the first that matches a line decides.
    pub patterns: Vec<LinePattern>,
    /// What can be read.
    pub points: Vec<TextPoint>,
    /// How often to ask, where the profile has an opinion; for a stream: how long silence is normal.
    pub interval: Option<Duration>,
}

impl TextProfile {
    /// Indices of the points that `pattern` speaks about: those whose name is a group of its expression.
    ///
    /// A line need not carry all points; of the others it says nothing. A pattern that reports a fault and
    /// names no group speaks about all points.
    pub fn points_of(&self, pattern: &LinePattern) -> Vec<usize> {
        let names_one = |point: &TextPoint| pattern.expression.capture_names().flatten().any(|name| name == point.name);
        let named: Vec<usize> = (0..self.points.len()).filter(|index| names_one(&self.points[*index])).collect();
        match pattern.meaning {
            LineMeaning::DeviceFault | LineMeaning::NotAvailable if named.is_empty() => {
                (0..self.points.len()).collect()
            }
            LineMeaning::Ignore => Vec::new(),
            LineMeaning::Good | LineMeaning::Unstable | LineMeaning::DeviceFault | LineMeaning::NotAvailable => named,
        }
    }
}

/// A regular expression over one line, and what a match means.
///
/// The line is matched as it came, `$` and checksum included, without its frame end.
#[derive(Debug, Clone)]
pub struct LinePattern {
    /// Named groups fill the points of the same name.
    pub expression: regex::Regex,
    /// What a match says about the values.
    pub meaning: LineMeaning,
}

/// What a line that matched says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineMeaning {
    /// The values are good.
    Good,
    /// The values are there but still moving.
    Unstable,
    /// The instrument cannot measure now (overload, underload, sensor fault).
    DeviceFault,
    /// The instrument cannot answer now (busy).
    NotAvailable,
    /// Not for us: skipped, and the next line is waited for.
    Ignore,
}

/// How a line is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Lines carry none.
    None,
    /// NMEA 0183: `$...*hh`, the exclusive or of all bytes between `$` and `*`, two hexadecimal digits.
    Nmea,
}

/// One named value of a text instrument: the text of the named group of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPoint {
    /// Name; also the name of the group in the pattern.
    pub name: String,
    /// `F64`, `Int` or `Text`.
    pub kind: ValueKind,
    /// From the number in the line to the engineering value. Unit words in the line are not interpreted here.
    pub scale: Scale,
    /// Unit of the engineering value; empty when it has none.
    pub unit: String,
    /// Name of the group that must read as `unit_text` for the value to be good.
    pub unit_group: Option<(String, String)>,
    /// Allowed engineering values, both ends included.
    pub range: Option<(f64, f64)>,
}

impl PartialEq for TextProfile {
    fn eq(&self, other: &Self) -> bool {
        self.ask == other.ask
            && self.frame_end == other.frame_end
            && self.frame_max == other.frame_max
            && self.checksum == other.checksum
            && self.patterns == other.patterns
            && self.points == other.points
            && self.interval == other.interval
    }
}

impl PartialEq for LinePattern {
    fn eq(&self, other: &Self) -> bool {
        self.expression.as_str() == other.expression.as_str() && self.meaning == other.meaning
    }
}
