//! One value of a file, and what it may be.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::excerpt;
use super::fault::FileFault;
use super::file::Source;
use super::section::Section;

/// One value with its place. What reads it notes a fault when it is something else.
#[derive(Debug, Clone)]
pub struct Item<'s, 'i> {
    pub(super) source: &'s Source<'i>,
    pub(super) key: String,
    pub(super) called: Option<String>,
    pub(super) value: Spanned<DeValue<'i>>,
}

impl<'s, 'i> Item<'s, 'i> {
    /// Notes what is wrong with this value or what is allowed instead.
    pub fn fault(&self, reason: impl Into<String>) {
        let written = self.source.text.get(self.value.span()).unwrap_or_default();
        self.note((!self.value.get_ref().is_table()).then(|| excerpt(written)), reason.into());
    }

    /// Notes what is wrong with this value without showing it: it may hold a secret.
    pub fn fault_of_secret(&self, reason: impl Into<String>) {
        self.note(Some("***".to_owned()), reason.into());
    }

    /// Where this value stands: a fault without its reason, for what is found out later.
    pub fn place(&self) -> FileFault {
        let written = self.source.text.get(self.value.span()).unwrap_or_default();
        self.source.place(self.value.span().start, self.key.clone(), excerpt(written), self.called.clone())
    }

    fn note(&self, value: Option<String>, reason: String) {
        self.source.fault(Some(self.value.span().start), self.key.clone(), value, reason, self.called.clone());
    }

    /// Notes the faults of another file that this value names.
    pub fn adopt(&self, faults: Vec<FileFault>) {
        self.source.adopt(self.value.span().start, faults);
    }

    /// What was made of this value, or a fault with the reason why that cannot be.
    pub fn check<T, E: Display>(&self, made: Result<T, E>) -> Option<T> {
        made.map_err(|reason| self.fault(reason.to_string())).ok()
    }

    /// The text, or a fault.
    pub fn text(&self) -> Option<String> {
        self.expect(self.as_word().map(str::to_owned), "must be text in quotes")
    }

    /// The text, or `None` without a fault.
    pub fn as_word(&self) -> Option<&str> {
        self.value.get_ref().as_str()
    }

    /// The path, or a fault.
    pub fn path(&self) -> Option<PathBuf> {
        let path = self.as_word().filter(|path| !path.is_empty() && !path.contains(char::is_control));
        self.expect(path.map(PathBuf::from), "must be a path in quotes")
    }

    /// The whole number, or a fault when it is none or outside `allowed`.
    pub fn integer(&self, allowed: RangeInclusive<i64>) -> Option<i64> {
        let number = self.any_integer().and_then(|number| i64::try_from(number).ok());
        self.expect(
            number.filter(|number| allowed.contains(number)),
            match allowed.start() == allowed.end() {
                true => format!("must be {}", allowed.start()),
                false => format!("must be a whole number from {} to {}", allowed.start(), allowed.end()),
            },
        )
    }

    /// A whole number of up to 64 bits, also as text such as `"0xFFFF"`; `None` without a fault when it is none.
    pub fn any_integer(&self) -> Option<i128> {
        match self.value.get_ref() {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(text) => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok().map(i128::from),
                None => None,
            },
            _ => None,
        }
    }

    /// The number, or a fault when it is none or not finite.
    pub fn number(&self) -> Option<f64> {
        let number = match self.value.get_ref() {
            DeValue::Integer(_) => self.any_integer().map(|number| number as f64),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        self.expect(number.filter(|number| number.is_finite()), "must be a finite number")
    }

    /// The span of time, such as `"250ms"`, `"10s"`, `"5m"` or `"1h"`, or a fault when it is none or outside `allowed`.
    pub fn duration(&self, allowed: RangeInclusive<Duration>) -> Option<Duration> {
        let span = self.as_word().and_then(parse_duration).filter(|span| allowed.contains(span));
        let (least, most) = (show_duration(*allowed.start()), show_duration(*allowed.end()));
        self.expect(
            span,
            format!("must be a whole number with a unit such as \"250ms\", \"10s\", \"5m\" or \"1h\", from {least} to {most}"),
        )
    }

    /// The number of bytes, such as `"100KiB"` or `"512MiB"`, or a fault when it is none or outside `allowed`.
    pub fn size(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        let bytes = self.as_word().and_then(parse_size).filter(|bytes| allowed.contains(bytes));
        let (least, most) = (show_size(*allowed.start()), show_size(*allowed.end()));
        self.expect(bytes, format!("must be a size such as \"100KiB\" or \"512MiB\", from {least} to {most}"))
    }

    /// The number of bytes a second, such as `"200KiB/s"`, or a fault when it is none or outside `allowed`.
    pub fn rate(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        let size = self.as_word().and_then(|text| text.strip_suffix("/s")).and_then(parse_size);
        let (least, most) = (show_size(*allowed.start()), show_size(*allowed.end()));
        self.expect(
            size.filter(|bytes| allowed.contains(bytes)),
            format!("must be a rate such as \"200KiB/s\", from {least}/s to {most}/s"),
        )
    }

    /// True or false, or a fault.
    pub fn boolean(&self) -> Option<bool> {
        self.expect(self.value.get_ref().as_bool(), "must be true or false")
    }

    /// What the word stands for, one of `choices`, or a fault.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choices.iter().find(|(word, _)| Some(*word) == self.as_word()).map(|(_, meaning)| *meaning);
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        let one_of = if words.len() > 1 { "one of " } else { "" };
        self.expect(chosen, format!("must be {one_of}{}", words.join(", ")))
    }

    /// The values of a list, or a fault.
    pub fn list(self) -> Option<Vec<Item<'s, 'i>>> {
        let Self { source, key, called, value } = self;
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(values) => {
                let item = |value| Item { source, key: key.clone(), called: called.clone(), value };
                Some(values.into_iter().map(item).collect())
            }
            other => {
                Item { source, key, called, value: Spanned::new(span, other) }
                    .fault("must be a list in square brackets");
                None
            }
        }
    }

    /// The section, or a fault.
    pub fn section(self) -> Option<Section<'s, 'i>> {
        let Self { source, key, called, value } = self;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Section::new(source, key, Some(span.start), table).called_as(called)),
            other => {
                Item { source, key, called, value: Spanned::new(span, other) }.fault("must be a section with keys");
                None
            }
        }
    }

    fn expect<T>(&self, found: Option<T>, allowed: impl Into<String>) -> Option<T> {
        if found.is_none() {
            self.fault(allowed);
        }
        found
    }
}

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units that are understood and never shown: `48h` is what people write back.
const LONG_TIME_UNITS: [(&str, u64); 2] = [("w", 604_800_000), ("d", 86_400_000)];

/// Reads `"250ms"`, `"10s"`, `"1h30m"` or `"7d"`: each unit at most once and the larger ones first, as in Prometheus.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut milliseconds) = (text, 0u64);
    let mut units = LONG_TIME_UNITS.iter().chain(&TIME_UNITS);
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        milliseconds = milliseconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = behind;
    }
    Some(Duration::from_millis(milliseconds))
}

/// `250ms`, `90s`, `24h`: as one writes it, in the largest unit that divides evenly; below a millisecond it is cut.
pub fn show_duration(span: Duration) -> String {
    let milliseconds = span.as_millis();
    let divides = |(_, unit): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*unit));
    match TIME_UNITS.iter().find(divides) {
        Some((name, unit)) if milliseconds > 0 => format!("{}{name}", milliseconds / u128::from(*unit)),
        Some(_) | None => "0s".to_owned(),
    }
}

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `"512MiB"`.
fn parse_size(text: &str) -> Option<u64> {
    let (suffix, factor) = SIZE_UNITS.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number = text.strip_suffix(suffix)?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `512MiB`: as one writes it, in the largest unit that divides evenly.
pub fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(suffix, factor)| format!("{}{suffix}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_duration("1w2d3h4m5s6ms"), Some(Duration::from_millis(788_645_006)));
        for bad in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "5 s",
            "5y",
            "1m1h",
            "1h1h",
            "1h5",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        for bad in ["512", "MiB", "1.5GiB", "-1KiB", "99999999999GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_can_be_written() {
        for text in ["0s", "10ms", "90s", "24h", "61m"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["1023B", "100KiB", "4MiB", "1GiB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }
}
