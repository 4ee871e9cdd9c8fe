//! A TOML file walked key by key. A fault is noted with its place and reading goes on, so that one run finds all.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::ProfileFault;

/// Longest excerpt of a value in a message, in characters.
const EXCERPT: usize = 60;

/// The text of one file and the faults found in it so far.
pub(crate) struct Source<'i> {
    file: &'i str,
    text: &'i str,
    faults: RefCell<Vec<ProfileFault>>,
}

impl<'i> Source<'i> {
    /// The content `text` of `file`, without faults so far.
    pub(crate) fn new(file: &'i str, text: &'i str) -> Self {
        Self { file, text, faults: RefCell::default() }
    }

    /// The whole file as a section; `None` when it is not TOML.
    pub(crate) fn root(&self) -> Option<Section<'_, 'i>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(Section::new(self, String::new(), 1, table.into_inner())),
            Err(error) => {
                let line = error.span().map(|span| self.line(span.start));
                self.note(line, "", None, error.message().to_owned());
                None
            }
        }
    }

    /// All faults in the order of the file.
    pub(crate) fn into_faults(self) -> Vec<ProfileFault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    fn note(&self, line: Option<usize>, key: &str, value: Option<String>, reason: String) {
        let fault = ProfileFault { file: self.file.to_owned(), line, key: key.to_owned(), value, reason };
        self.faults.borrow_mut().push(fault);
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

/// One value with its place.
#[derive(Clone)]
pub(crate) struct Item<'s, 'i> {
    source: &'s Source<'i>,
    key: String,
    value: Spanned<DeValue<'i>>,
}

impl<'s, 'i> Item<'s, 'i> {
    /// Notes what is wrong with this value or what is allowed instead.
    pub(crate) fn fault(&self, reason: impl Into<String>) {
        let line = self.source.line(self.value.span().start);
        let written = self.source.text.get(self.value.span()).unwrap_or_default().replace(['\n', '\r'], " ");
        let excerpt = match written.char_indices().nth(EXCERPT) {
            Some((end, _)) => format!("{}...", &written[..end]),
            None => written,
        };
        let value = (!self.value.get_ref().is_table()).then_some(excerpt);
        self.source.note(Some(line), &self.key, value, reason.into());
    }

    /// The text, or a fault.
    pub(crate) fn text(&self) -> Option<String> {
        self.expect(self.value.get_ref().as_str().map(str::to_owned), "must be text in quotes")
    }

    /// The text, or `None` without a fault.
    pub(crate) fn as_word(&self) -> Option<&str> {
        self.value.get_ref().as_str()
    }

    /// The whole number, or a fault when it is none or outside `allowed`.
    pub(crate) fn integer(&self, allowed: RangeInclusive<i64>) -> Option<i64> {
        let number = self.any_integer().and_then(|number| i64::try_from(number).ok());
        self.expect(
            number.filter(|number| allowed.contains(number)),
            format!("must be a whole number from {} to {}", allowed.start(), allowed.end()),
        )
    }

    /// A whole number of up to 64 bits, also as text such as `"0xFFFF"`; `None` without a fault when it is none.
    pub(crate) fn any_integer(&self) -> Option<i128> {
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
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self.value.get_ref() {
            DeValue::Integer(_) => self.any_integer().map(|number| number as f64),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        self.expect(number.filter(|number| number.is_finite()), "must be a finite number")
    }

    /// The span of time, `"250ms"`, `"10s"`, `"5m"` or `"1h"`, or a fault.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let duration = self.value.get_ref().as_str().and_then(parse_duration);
        self.expect(duration, "must be a whole number with a unit: \"250ms\", \"10s\", \"5m\" or \"1h\"")
    }

    /// True or false, or a fault.
    pub(crate) fn boolean(&self) -> Option<bool> {
        self.expect(self.value.get_ref().as_bool(), "must be true or false")
    }

    /// What the word stands for, one of `choices`, or a fault.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choices.iter().find(|(word, _)| Some(*word) == self.as_word()).map(|(_, meaning)| *meaning);
        self.expect(chosen, format!("must be one of {}", words(choices)))
    }

    /// The values of a list, or a fault.
    pub(crate) fn list(self) -> Option<Vec<Item<'s, 'i>>> {
        let Self { source, key, value } = self;
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(values) => {
                Some(values.into_iter().map(|value| Item { source, key: key.clone(), value }).collect())
            }
            other => {
                Item { source, key, value: Spanned::new(span, other) }.fault("must be a list in square brackets");
                None
            }
        }
    }

    /// The section, or a fault.
    pub(crate) fn section(self) -> Option<Section<'s, 'i>> {
        let Self { source, key, value } = self;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Section::new(source, key, source.line(span.start), table)),
            other => {
                Item { source, key, value: Spanned::new(span, other) }.fault("must be a section with keys");
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

/// One table of the file. Keys are taken out one by one; what is left at the end is unknown.
pub(crate) struct Section<'s, 'i> {
    source: &'s Source<'i>,
    path: String,
    line: usize,
    entries: DeTable<'i>,
    asked: Vec<&'static str>,
}

impl<'s, 'i> Section<'s, 'i> {
    fn new(source: &'s Source<'i>, path: String, line: usize, entries: DeTable<'i>) -> Self {
        Self { source, path, line, entries, asked: Vec::new() }
    }

    /// From here on messages call this section `path`.
    pub(crate) fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// Notes a fault of the section as a whole.
    pub(crate) fn fault(&self, reason: impl Into<String>) {
        self.source.note(Some(self.line), &self.path, None, reason.into());
    }

    /// Notes that `key` is missing; `allowed` says what it could be.
    pub(crate) fn missing(&self, key: &str, allowed: &str) {
        self.source.note(Some(self.line), &self.key_path(key), None, format!("missing: {allowed}"));
    }

    /// The value of `key`, if it is there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Item<'s, 'i>> {
        self.asked.push(key);
        let value = self.entries.remove(key)?;
        Some(Item { source: self.source, key: self.key_path(key), value })
    }

    /// The value of `key`, or a fault that says what it could be.
    pub(crate) fn require(&mut self, key: &'static str, allowed: &str) -> Option<Item<'s, 'i>> {
        let item = self.take(key);
        if item.is_none() {
            self.missing(key, allowed);
        }
        item
    }

    /// What `key` stands for, one of `choices`; a fault when it is another.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.take(key)?.choice(choices)
    }

    /// The sections `[[key]]`, in order.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Section<'s, 'i>> {
        let Some(items) = self.take(key).and_then(Item::list) else { return Vec::new() };
        let mut sections: Vec<Self> = items.into_iter().filter_map(Item::section).collect();
        for (position, section) in sections.iter_mut().enumerate() {
            section.path = format!("{}[{}]", section.path, position + 1);
        }
        sections
    }

    /// All keys and values that are left, in alphabetical order.
    pub(crate) fn rest(mut self) -> Vec<(String, Item<'s, 'i>)> {
        let entries = std::mem::take(&mut self.entries);
        let item = |key: &str, value| Item { source: self.source, key: self.key_path(key), value };
        entries.into_iter().map(|(key, value)| (key.get_ref().to_string(), item(key.get_ref(), value))).collect()
    }

    /// Ends the reading of this section: a key that nobody asked for is a fault.
    pub(crate) fn finish(mut self) {
        let entries = std::mem::take(&mut self.entries);
        for (key, _) in entries {
            let line = self.source.line(key.span().start);
            let reason = format!("unknown key, allowed are {}", self.asked.join(", "));
            self.source.note(Some(line), &self.key_path(key.get_ref()), None, reason);
        }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The words of `choices`, with commas.
fn words<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
}

/// Reads `"250ms"`, `"10s"`, `"5m"` or `"1h"`.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        for bad in ["", "5", "s", "1.5s", "-1s", "5 s", "5d", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_fault_points_at_its_line_and_quotes_what_stands_there() {
        let source = Source::new("x.toml", "a = 1\n\n[b]\nc = [1,\n 2]\n");
        let mut root = source.root().unwrap();
        let mut section = root.take("b").and_then(Item::section).unwrap();

        section.take("c").unwrap().text();
        section.finish();
        root.finish();

        let shown: Vec<String> = source.into_faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["x.toml:1: a: unknown key, allowed are b", "x.toml:4: b.c = [1,  2]: must be text in quotes"]
        );
    }
}
