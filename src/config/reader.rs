//! Reads the tables of a configuration file and collects every fault instead of stopping at the first.
//!
//! A [`Section`] hands out the keys of one table. Keys that nobody asked for are unknown and refused when the
//! section is [`closed`](Section::close); so the code that reads a key is also the list of known keys.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

/// One thing wrong with a configuration, with its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// File as the user named it.
    pub file: String,
    /// Key such as `device[2].unit_id`; empty when the file as a whole is meant.
    pub key: String,
    /// The value as written; empty when the key is missing or unknown.
    pub value: String,
    /// What is allowed, or what to do.
    pub reason: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, key, value, reason } = self;
        match (key.is_empty(), value.is_empty()) {
            (true, _) => write!(f, "{file}: {reason}"),
            (false, true) => write!(f, "{file}: {key}: {reason}"),
            (false, false) => write!(f, "{file}: {key} = {value}: {reason}"),
        }
    }
}

/// All faults found so far in one file.
#[derive(Debug)]
pub struct Faults {
    file: String,
    found: RefCell<Vec<ConfigFault>>,
}

impl Faults {
    /// No fault yet in `file`.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: RefCell::new(Vec::new()) }
    }

    /// Notes a fault.
    pub fn add(&self, key: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) {
        self.found.borrow_mut().push(ConfigFault {
            file: self.file.clone(),
            key: key.into(),
            value: value.into(),
            reason: reason.into(),
        });
    }

    /// Ends the collection.
    pub fn into_vec(self) -> Vec<ConfigFault> {
        self.found.into_inner()
    }
}

/// One table of the file.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    table: toml::Table,
    asked: Vec<&'static str>,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// The table found at `path` (empty for the file itself).
    pub fn new(path: &str, table: toml::Table, faults: &'a Faults) -> Self {
        Self { path: path.to_owned(), table, asked: Vec::new(), faults }
    }

    /// Full name of a key of this table.
    pub fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault of a key of this table.
    pub fn fault(&self, key: &str, value: &Value, reason: impl Into<String>) {
        self.faults.add(self.key(key), show(value), reason);
    }

    /// Notes that a key must be there.
    pub fn missing(&self, key: &str, reason: &str) {
        self.faults.add(self.key(key), "", format!("missing: {reason}"));
    }

    /// The value of `key`, if it is there.
    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.table.remove(key)
    }

    /// The value of `key` if `read` accepts it; otherwise the reason becomes a fault.
    pub fn read<T>(&mut self, key: &'static str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.take(key)?;
        read(&value).map_err(|reason| self.fault(key, &value, reason)).ok()
    }

    /// Like [`read`](Self::read), for a key that must be there.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.asked.push(key);
            self.missing(key, allowed);
            return None;
        }
        self.read(key, read)
    }

    /// The table below `key`; empty when the key is not there, so that every key it needs is reported.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = self.key(key);
        let table = match self.take(key) {
            None => toml::Table::new(),
            Some(Value::Table(table)) => table,
            Some(value) => {
                self.fault(key, &value, "must be a table");
                toml::Table::new()
            }
        };
        Section::new(&path, table, self.faults)
    }

    /// The table below `key`, if the key is there.
    pub fn optional_section(&mut self, key: &'static str) -> Option<Section<'a>> {
        if self.table.contains_key(key) {
            Some(self.section(key))
        } else {
            self.asked.push(key);
            None
        }
    }

    /// The tables of an array such as `[[device]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let path = self.key(key);
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(value) => {
                self.fault(key, &value, format!("must be written as [[{key}]]"));
                Vec::new()
            }
        };
        let section = |(index, item): (usize, Value)| match item {
            Value::Table(table) => Some(Section::new(&format!("{path}[{index}]"), table, self.faults)),
            value => {
                self.faults.add(format!("{path}[{index}]"), show(&value), format!("must be written as [[{key}]]"));
                None
            }
        };
        items.into_iter().enumerate().filter_map(section).collect()
    }

    /// All keys with their values, for tables whose keys the user chooses.
    pub fn entries(&self) -> Vec<(String, Value)> {
        self.table.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Refuses the keys that nobody asked for.
    pub fn close(self) {
        for key in self.table.keys() {
            let near = self.asked.iter().find(|known| is_near(known, key));
            let hint = near.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
            let known = self.asked.join(", ");
            self.faults.add(self.key(key), "", format!("unknown key{hint} (known here: {known})"));
        }
    }
}

/// True when at most two edits lie between the words: a slip of the finger.
fn is_near(known: &str, written: &str) -> bool {
    let (known, written): (Vec<char>, Vec<char>) = (known.chars().collect(), written.chars().collect());
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (i, a) in known.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in written.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[written.len()] <= 2
}

/// A value as one would write it in the file, cut to a readable length.
pub fn show(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    if text.chars().count() > LONGEST { text.chars().take(LONGEST).chain("...".chars()).collect() } else { text }
}

/// Any text.
pub fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be text in quotes".to_owned())
}

/// A path in quotes.
pub fn path(value: &Value) -> Result<PathBuf, String> {
    let text = text(value)?;
    if text.is_empty() { Err("must be a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A whole number in `range`.
pub fn integer(range: std::ops::RangeInclusive<i64>) -> impl FnOnce(&Value) -> Result<i64, String> {
    move |value| match value.as_integer() {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
    }
}

/// One of the words given, with what each stands for.
pub fn choice<'w, T: Copy>(words: &'w [(&'w str, T)]) -> impl FnOnce(&Value) -> Result<T, String> + 'w {
    move |value| {
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let allowed: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("must be one of {}", allowed.join(", "))
        })
    }
}

/// A length of time such as `"500ms"`, `"1s"`, `"5m"`, within `range`.
pub fn duration(range: std::ops::RangeInclusive<Duration>) -> impl FnOnce(&Value) -> Result<Duration, String> {
    move |value| {
        let parsed = value.as_str().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let span = parsed.and_then(|span| Duration::try_from(span).ok());
        span.filter(|span| range.contains(span)).ok_or_else(|| {
            format!("must be a time such as \"500ms\" or \"1s\", from {:?} to {:?}", range.start(), range.end())
        })
    }
}

/// A number of bytes such as `"100KiB"` or `"512MiB"`, within `range`.
pub fn size(range: std::ops::RangeInclusive<u64>) -> impl FnOnce(&Value) -> Result<u64, String> {
    move |value| {
        let bytes = value.as_str().and_then(parse_size);
        bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
            let (least, most) = (show_size(*range.start()), show_size(*range.end()));
            format!("must be a size such as \"100KiB\" or \"512MiB\", from {least} to {most}")
        })
    }
}

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn parse_size(text: &str) -> Option<u64> {
    let (suffix, factor) = SIZE_UNITS.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number = text.strip_suffix(suffix)?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `512MiB`: the largest unit that divides evenly.
pub fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(suffix, factor)| format!("{}{suffix}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let faults = Faults::new("x.toml");
        let mut section = Section::new("mqtt", toml::toml! { urll = "x" }, &faults);

        section.take("url");
        section.close();

        let found = faults.into_vec();
        assert_eq!(found[0].to_string(), "x.toml: mqtt.urll: unknown key; did you mean \"url\"? (known here: url)");
    }

    #[test]
    fn sizes_and_durations_need_their_unit() {
        assert_eq!(size(0..=u64::MAX)(&Value::from("512MiB")), Ok(512 << 20));
        assert!(size(0..=u64::MAX)(&Value::from("512")).is_err());
        assert!(size(0..=u64::MAX)(&Value::from("99999999999GiB")).is_err());
        let any = || Duration::ZERO..=Duration::MAX;
        assert_eq!(duration(any())(&Value::from("500ms")), Ok(Duration::from_millis(500)));
        assert_eq!(duration(any())(&Value::from("0s")), Ok(Duration::ZERO));
        assert!(duration(any())(&Value::from("-1s")).is_err());
        assert!(duration(any())(&Value::from(5)).is_err());
    }
}
