//! What a line of text says, by the patterns of a profile. Pure.

use std::sync::Arc;

use crate::model::{Doubt, Fault, Observed, Value, ValueKind};
use crate::profile::text::{Checksum, LineMeaning, LinePattern, TextPoint, TextProfile};

use super::frame::nmea_sentence;

/// What one line said.
#[derive(Debug, Clone, PartialEq)]
pub enum LineReading {
    /// The first pattern that matched, and one observation for each of [`LineReader::points`] of that pattern.
    Points {
        /// Index in the profile's patterns.
        pattern: usize,
        /// In the order of the pattern's points.
        observed: Vec<Observed>,
    },
    /// A line that the profile knows and has no use for.
    Ignored,
    /// The checksum is missing or wrong.
    BadChecksum {
        /// The pattern that the damaged line still matches: it says which readings were lost.
        pattern: Option<usize>,
    },
    /// No pattern matches.
    NoMatch,
    /// Not a line at all: too many bytes without an end.
    Garbage,
}

/// Reads the lines of one device type. Made once per device; reading a line needs nothing but the line.
#[derive(Debug)]
pub struct LineReader {
    checksum: Checksum,
    patterns: Vec<Fields>,
    points: Vec<TextPoint>,
}

/// A pattern with the names of its groups looked up.
#[derive(Debug)]
struct Fields {
    pattern: LinePattern,
    /// Points that a match says something about.
    points: Vec<usize>,
    /// For each of `points` where its text stands; empty for a meaning that gives no values.
    groups: Vec<Groups>,
}

/// Where the text of one point stands in a match.
#[derive(Debug, Clone, Copy)]
struct Groups {
    value: usize,
    /// `None` when the point checks its unit and the pattern has no group for it.
    unit: Option<usize>,
}

impl LineReader {
    /// A reader for the lines of `profile`.
    pub fn new(profile: &TextProfile) -> Self {
        let patterns = profile.patterns.iter().map(|pattern| Fields::new(pattern, &profile.points)).collect();
        Self { checksum: profile.checksum, patterns, points: profile.points.clone() }
    }

    /// Points (indices in the profile) that a match of this pattern says something about, in the order of
    /// [`LineReading::Points`].
    ///
    /// A pattern without a group for any point that means a fault is about all points of the device.
    pub fn points(&self, pattern: usize) -> &[usize] {
        self.patterns.get(pattern).map_or(&[], |fields| &fields.points)
    }

    /// How many patterns there are.
    pub fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// What `line` says. Bytes that are not UTF-8 match as U+FFFD and make no good value.
    pub fn read(&self, line: &[u8]) -> LineReading {
        let (text, intact) = match self.checksum {
            Checksum::None => (line, true),
            Checksum::Nmea => {
                let sentence = nmea_sentence(line);
                (sentence.text, sentence.intact)
            }
        };
        let text = String::from_utf8_lossy(text);
        for (pattern, fields) in self.patterns.iter().enumerate() {
            let Some(captures) = fields.pattern.expression.captures(&text) else { continue };
            return match (intact, fields.pattern.meaning) {
                // Damage may have made a line of one kind look like another; what is ignored stays unnamed.
                (false, LineMeaning::Ignore) => LineReading::BadChecksum { pattern: None },
                (false, _) => LineReading::BadChecksum { pattern: Some(pattern) },
                (true, LineMeaning::Ignore) => LineReading::Ignored,
                (true, _) => LineReading::Points { pattern, observed: self.observe(fields, &captures) },
            };
        }
        if intact { LineReading::NoMatch } else { LineReading::BadChecksum { pattern: None } }
    }

    fn observe(&self, fields: &Fields, captures: &regex::Captures<'_>) -> Vec<Observed> {
        let values = |quality: fn(Value) -> Observed| {
            let points = fields.points.iter().zip(&fields.groups);
            points
                .map(|(point, groups)| {
                    read_point(&self.points[*point], *groups, captures).map_or_else(Observed::Bad, quality)
                })
                .collect()
        };
        match fields.pattern.meaning {
            LineMeaning::Good => values(Observed::Good),
            LineMeaning::Unstable => values(|value| Observed::Uncertain(value, Doubt::Unstable)),
            LineMeaning::DeviceFault => vec![Observed::Bad(Fault::DeviceFault); fields.points.len()],
            LineMeaning::NotAvailable => vec![Observed::Bad(Fault::NotAvailable); fields.points.len()],
            LineMeaning::Ignore => Vec::new(),
        }
    }
}

impl Fields {
    fn new(pattern: &LinePattern, points: &[TextPoint]) -> Self {
        let group = |name: &str| pattern.expression.capture_names().position(|group| group == Some(name));
        let named = points.iter().enumerate().filter_map(|(index, point)| {
            let value = group(&point.name)?;
            let unit = point.unit_group.as_ref().and_then(|(name, _)| group(name));
            Some((index, Groups { value, unit }))
        });
        let (named, groups): (Vec<usize>, Vec<Groups>) = named.unzip();
        let is_fault = match pattern.meaning {
            LineMeaning::DeviceFault | LineMeaning::NotAvailable => true,
            LineMeaning::Good | LineMeaning::Unstable | LineMeaning::Ignore => false,
        };
        let points = if is_fault && named.is_empty() { (0..points.len()).collect() } else { named };
        Self { pattern: pattern.clone(), points, groups }
    }
}

/// The value of one point in a line that matched.
fn read_point(point: &TextPoint, groups: Groups, captures: &regex::Captures<'_>) -> Result<Value, Fault> {
    // An empty field is how NMEA 0183 and its kind say that there is no value now.
    let text = captures.get(groups.value).map(|group| group.as_str().trim()).filter(|text| !text.is_empty());
    let text = text.ok_or(Fault::NotAvailable)?;
    if let Some((_, expected)) = &point.unit_group {
        let unit = groups.unit.and_then(|group| captures.get(group));
        if unit.is_none_or(|unit| unit.as_str().trim() != expected) {
            return Err(Fault::NoMatch);
        }
    }
    let value = parse(text, point.kind)?;
    if let (Some((low, high)), Some(number)) = (point.range, value.number()) {
        let engineering = point.scale.apply(number);
        if !(low..=high).contains(&engineering) {
            return Err(Fault::OutOfRange);
        }
    }
    Ok(value)
}

/// The value that `text` stands for. The decimal separator is a point, wherever this machine stands.
fn parse(text: &str, kind: ValueKind) -> Result<Value, Fault> {
    match kind {
        ValueKind::Int => i64::try_from(whole(text)?).map(Value::Int).map_err(|_| Fault::OutOfRange),
        ValueKind::Uint => u64::try_from(whole(text)?).map(Value::Uint).map_err(|_| Fault::OutOfRange),
        ValueKind::F64 => decimal(text).map(Value::F64),
        ValueKind::F32 => {
            let single = decimal(text)? as f32;
            if single.is_finite() { Ok(Value::F32(single)) } else { Err(Fault::NotANumber) }
        }
        ValueKind::Bool => match text {
            "0" => Ok(Value::Bool(false)),
            "1" => Ok(Value::Bool(true)),
            _ => Err(Fault::NotANumber),
        },
        ValueKind::Text if text.contains(|c: char| c == char::REPLACEMENT_CHARACTER || c.is_control()) => {
            Err(Fault::Garbage)
        }
        ValueKind::Text => Ok(Value::Text(Arc::from(text))),
    }
}

/// Sign and digits of a number. Scales print their sign in a fixed column, with blanks up to the first digit.
fn sign_and_digits(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(digits) => (true, digits.trim_start()),
        None => (false, text.strip_prefix('+').map_or(text, str::trim_start)),
    }
}

fn whole(text: &str) -> Result<i128, Fault> {
    let (negative, digits) = sign_and_digits(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::NotANumber);
    }
    let magnitude: i128 = digits.parse().map_err(|_| Fault::OutOfRange)?;
    Ok(if negative { -magnitude } else { magnitude })
}

fn decimal(text: &str) -> Result<f64, Fault> {
    let (negative, digits) = sign_and_digits(text);
    // The library also reads `inf`, `nan` and a second sign: no instrument means a number by those.
    let plain = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let magnitude = if plain { digits.parse::<f64>().ok() } else { None };
    let magnitude = magnitude.filter(|magnitude| magnitude.is_finite()).ok_or(Fault::NotANumber)?;
    Ok(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests;
