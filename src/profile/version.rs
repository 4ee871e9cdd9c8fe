//! Firmware versions: how a device type writes them, and which is older.

use std::cmp::Ordering;
use std::fmt;

/// Most parts that are kept of a version.
const PARTS_MAX: usize = 8;

/// How a device type writes its firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// `2.6.1`, with or without something before it: `V2.6.1`.
    #[default]
    Dotted,
    /// `V112`: the number behind the last `V`; from text, all that is not part of such a number is skipped.
    Letter,
    /// `V100R001C21SPC108`: every number in the text, one after the other.
    Numbers,
    /// Decimal MMmmpp: 10201 is 1.2.1.
    Decimal,
    /// One register: major in the upper four bits, minor in the next four, patch in the lower eight.
    Nibbles,
    /// One part in each byte, a letter `V` in the first is skipped: 0x56020003 is 2.0.3.
    Bytes,
    /// One part in each register.
    Words,
    /// A single number.
    Number,
}

/// A firmware version as its parts, the most significant first. A missing part is as good as 0.
#[derive(Debug, Clone)]
pub struct Version(Vec<u32>);

impl Version {
    /// A version of these parts.
    pub fn new(parts: impl IntoIterator<Item = u32>) -> Self {
        Self(parts.into_iter().take(PARTS_MAX).collect())
    }

    fn part(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = (0..self.0.len().max(other.0.len())).map(|index| self.part(index).cmp(&other.part(index)));
        parts.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// `2.6.1`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&parts.join("."))
    }
}

impl Scheme {
    /// The version as people write it, in profiles and configurations: `2.6.1`, `V112`.
    pub fn parse(self, written: &str) -> Option<Version> {
        match self {
            Self::Letter => self.of_text(written).or_else(|| Some(Version::new([written.trim().parse().ok()?]))),
            Self::Numbers => self.of_text(written),
            Self::Dotted | Self::Decimal | Self::Nibbles | Self::Bytes | Self::Words | Self::Number => {
                let bare = written.trim().trim_start_matches(['v', 'V']);
                dotted(bare).filter(|_| bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
            }
        }
    }

    /// The version in a text that the device gave.
    pub fn of_text(self, text: &str) -> Option<Version> {
        match self {
            Self::Letter => {
                let numbers = text.split(['v', 'V']).skip(1).filter_map(leading_number);
                numbers.last().map(|number| Version::new([number]))
            }
            Self::Numbers => {
                let numbers: Vec<u32> = text.split(|c: char| !c.is_ascii_digit()).filter_map(leading_number).collect();
                (!numbers.is_empty()).then(|| Version::new(numbers))
            }
            Self::Dotted | Self::Decimal | Self::Nibbles | Self::Bytes | Self::Words | Self::Number => {
                dotted(text.trim_start_matches(|c: char| !c.is_ascii_digit()))
            }
        }
    }

    /// The version in registers that hold no text.
    pub fn of_words(self, words: &[u16]) -> Option<Version> {
        let number = words.iter().fold(0_u64, |number, word| number << 16 | u64::from(*word));
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        let is_empty = words.iter().all(|word| *word == 0) || words.iter().all(|word| *word == 0xffff);
        if is_empty {
            return None;
        }
        Some(match self {
            Self::Decimal => Version::new([low(number / 10_000), low(number / 100 % 100), low(number % 100)]),
            Self::Nibbles => Version::new([low(number >> 12 & 0xf), low(number >> 8 & 0xf), low(number & 0xff)]),
            Self::Bytes => {
                let bytes = words.iter().flat_map(|word| word.to_be_bytes());
                Version::new(bytes.skip_while(|byte| *byte == b'V').map(u32::from))
            }
            Self::Words => Version::new(words.iter().map(|word| u32::from(*word))),
            Self::Dotted | Self::Letter | Self::Numbers | Self::Number => Version::new([u32::try_from(number).ok()?]),
        })
    }
}

/// Numbers between dots at the beginning of `text`.
fn dotted(text: &str) -> Option<Version> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let parts: Option<Vec<u32>> = text[..end].trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect();
    parts.map(Version::new)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Versions from one (included) up to another (not included); an end that is missing is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionRange {
    /// The oldest version in it.
    pub from: Option<Version>,
    /// The first version that is too new.
    pub below: Option<Version>,
}

impl VersionRange {
    /// `"1.1..2.0"`, `"..2.0"` or `"1.1.."`; `None` when it is something else, or empty.
    pub fn parse(written: &str, scheme: Scheme) -> Option<Self> {
        let (from, below) = written.split_once("..")?;
        let end = |text: &str| match text.trim() {
            "" => Some(None),
            text => scheme.parse(text).map(Some),
        };
        let range = Self { from: end(from)?, below: end(below)? };
        let is_empty = matches!((&range.from, &range.below), (Some(from), Some(below)) if from >= below);
        (!is_empty).then_some(range)
    }

    /// True when `version` lies in it.
    pub fn contains(&self, version: &Version) -> bool {
        self.from.as_ref().is_none_or(|from| from <= version) && self.below.as_ref().is_none_or(|below| version < below)
    }

    /// True when there is a version in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let starts_before = |one: &Self, other: &Self| match (&one.from, &other.below) {
            (Some(from), Some(below)) => from < below,
            (None, _) | (_, None) => true,
        };
        starts_before(self, other) && starts_before(other, self)
    }
}

/// `from 1.1 up to 2.0`, `before 2.0`, `from 1.1`, `all`.
impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.below) {
            (Some(from), Some(below)) => write!(f, "from {from}, before {below}"),
            (Some(from), None) => write!(f, "from {from}"),
            (None, Some(below)) => write!(f, "before {below}"),
            (None, None) => f.write_str("all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(written: &str) -> Version {
        Scheme::Dotted.parse(written).unwrap()
    }

    #[test]
    fn versions_compare_by_number_and_a_missing_part_is_zero() {
        assert!(version("1.10") > version("1.9.9"));
        assert_eq!(version("1.2"), version("v1.2.0"));
        assert!(version("2") > version("1.99.99"));
    }

    #[test]
    fn every_scheme_reads_what_its_devices_say() {
        let text = [
            (Scheme::Dotted, "V2.6.1", "2.6.1"),
            (Scheme::Dotted, "1.1.3-rc2", "1.1.3"),
            (Scheme::Letter, "ARM_SAPPHIRE-H_V112_V01_A", "1"),
            (Scheme::Letter, "SAPPHIRE-H_V112", "112"),
            (Scheme::Numbers, "V100R001C21SPC108", "100.1.21.108"),
        ];
        for (scheme, given, expected) in text {
            assert_eq!(scheme.of_text(given).unwrap().to_string(), expected, "{given}");
        }
        let words: [(Scheme, &[u16], &str); 6] = [
            (Scheme::Decimal, &[0, 10201], "1.2.1"),
            (Scheme::Nibbles, &[0x1803], "1.8.3"),
            (Scheme::Bytes, &[0x5602, 0x0003], "2.0.3"),
            (Scheme::Bytes, &[0x0102, 0x0300], "1.2.3.0"),
            (Scheme::Words, &[5, 22, 0], "5.22.0"),
            (Scheme::Number, &[0, 112], "112"),
        ];
        for (scheme, given, expected) in words {
            assert_eq!(scheme.of_words(given).unwrap().to_string(), expected, "{given:?}");
        }
        assert_eq!(Scheme::Dotted.of_text("no version"), None);
        assert_eq!(Scheme::Decimal.of_words(&[0xffff, 0xffff]), None);
    }

    #[test]
    fn a_range_holds_its_first_version_and_not_its_last() {
        let range = VersionRange::parse("1.1..2.0", Scheme::Dotted).unwrap();

        assert!(range.contains(&version("1.1")) && range.contains(&version("1.99")));
        assert!(!range.contains(&version("2.0")) && !range.contains(&version("1.0.9")));
        assert!(!range.overlaps(&VersionRange::parse("2.0..", Scheme::Dotted).unwrap()));
        assert!(range.overlaps(&VersionRange::parse("..1.1.1", Scheme::Dotted).unwrap()));
        assert_eq!(VersionRange::parse("2.0..2.0", Scheme::Dotted), None);
        assert_eq!(VersionRange::parse("2.0", Scheme::Dotted), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", words in proptest::collection::vec(0_u16.., 0..9)) {
            use Scheme::{Bytes, Decimal, Dotted, Letter, Nibbles, Number, Numbers, Words};
            for scheme in [Bytes, Decimal, Dotted, Letter, Nibbles, Number, Numbers, Words] {
                let _ = (scheme.parse(&text), scheme.of_text(&text), scheme.of_words(&words));
                let _ = VersionRange::parse(&text, scheme);
            }
        }
    }
}
