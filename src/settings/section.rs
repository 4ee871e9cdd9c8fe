//! One table of a file.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::file::Source;
use super::item::Item;
use super::nearest;

/// One table of the file. Keys are taken out one by one; what is left at the end is unknown, so the code that reads a
/// key is also the list of known keys.
#[derive(Debug)]
pub struct Section<'s, 'i> {
    source: &'s Source<'i>,
    path: String,
    /// Kind and name of the section, where its number alone says little.
    called: Option<String>,
    /// Where it begins; `None` for the file itself, and for a section that is not there.
    offset: Option<usize>,
    entries: DeTable<'i>,
    asked: Vec<&'static str>,
    /// Something else stands here, which was noted: what is missing is not worth a word.
    is_other: bool,
}

impl<'s, 'i> Section<'s, 'i> {
    pub(super) fn new(source: &'s Source<'i>, path: String, offset: Option<usize>, entries: DeTable<'i>) -> Self {
        Self { source, path, called: None, offset, entries, asked: Vec::new(), is_other: false }
    }

    pub(super) fn called_as(self, called: Option<String>) -> Self {
        Self { called, ..self }
    }

    /// From here on messages about this section of a list say its name as well, behind that of the section around it.
    pub fn call(&mut self, name: &str) {
        let list = self.path.rsplit('.').next().and_then(|own| own.split('[').next()).unwrap_or_default();
        let around = self.called.take().map(|around| format!("{around}, ")).unwrap_or_default();
        self.called = Some(format!("{around}{list} {name}"));
    }

    /// Notes a fault of the section as a whole.
    pub fn fault(&self, reason: impl Into<String>) {
        self.source.fault(self.offset, self.path.clone(), None, reason.into(), self.called.clone());
    }

    /// Notes that `key` is missing; `allowed` says what it could be.
    pub fn missing(&self, key: &str, allowed: &str) {
        if self.is_other {
            return;
        }
        self.source.fault(self.offset, self.key_path(key), None, format!("missing: {allowed}"), self.called.clone());
    }

    /// The value of `key`, if it is there.
    pub fn take(&mut self, key: &'static str) -> Option<Item<'s, 'i>> {
        self.asked.push(key);
        let value = self.entries.remove(key)?;
        Some(Item { source: self.source, key: self.key_path(key), called: self.called.clone(), value })
    }

    /// The text of `key`, if it is there and is text; it stays.
    pub fn peek(&self, key: &str) -> Option<&str> {
        self.entries.get(key)?.get_ref().as_str()
    }

    /// The section, for which a fault was noted already: what is missing in it is not worth a word.
    pub fn excused(self) -> Self {
        Self { is_other: true, ..self }
    }

    /// Whether something else stands here, or nothing, and that was noted.
    pub fn is_excused(&self) -> bool {
        self.is_other
    }

    /// Whether `key` is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of `key`, or a fault that says what it could be.
    pub fn require(&mut self, key: &'static str, allowed: &str) -> Option<Item<'s, 'i>> {
        let item = self.take(key);
        if item.is_none() {
            self.missing(key, allowed);
        }
        item
    }

    /// What `key` stands for, one of `choices`; a fault when it is another.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.take(key)?.choice(choices)
    }

    /// The text of `key`, if it is there; a fault when it is none.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.take(key)?.text()
    }

    /// The path of `key`, if it is there; a fault when it is none.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.take(key)?.path()
    }

    /// The whole number of `key`, if it is there; a fault when it is none or outside `allowed`.
    pub fn integer(&mut self, key: &'static str, allowed: RangeInclusive<i64>) -> Option<i64> {
        self.take(key)?.integer(allowed)
    }

    /// The span of time of `key`, if it is there; a fault when it is none or outside `allowed`.
    pub fn duration(&mut self, key: &'static str, allowed: RangeInclusive<Duration>) -> Option<Duration> {
        self.take(key)?.duration(allowed)
    }

    /// The bytes that `key` names, if it is there; a fault when it is no size or outside `allowed`.
    pub fn size(&mut self, key: &'static str, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.take(key)?.size(allowed)
    }

    /// The section below `key`; empty when the key is not there, so that every key it needs is reported.
    pub fn section(&mut self, key: &'static str) -> Section<'s, 'i> {
        let item = self.take(key);
        let is_other = item.is_some();
        item.and_then(Item::section).unwrap_or_else(|| {
            let empty = Self::new(self.source, self.key_path(key), self.offset, DeTable::new());
            Self { is_other, ..empty.called_as(self.called.clone()) }
        })
    }

    /// The sections `[[key]]`, in order.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'s, 'i>> {
        let Some(item) = self.take(key) else { return Vec::new() };
        if !matches!(item.value.get_ref(), DeValue::Array(_)) {
            item.fault(format!("must be written as [[{}]]", item.key));
            return Vec::new();
        }
        let items = item.list().into_iter().flatten().enumerate().map(|(position, mut item)| {
            item.key = format!("{}[{}]", item.key, position + 1);
            item
        });
        items.filter_map(Item::section).collect()
    }

    /// All keys and values that are left, in alphabetical order: for sections whose keys the user chooses.
    pub fn rest(mut self) -> Vec<(String, Item<'s, 'i>)> {
        let entries = std::mem::take(&mut self.entries);
        let item = |key: &str, value| Item {
            source: self.source,
            key: self.key_path(key),
            called: self.called.clone(),
            value,
        };
        entries.into_iter().map(|(key, value)| (key.get_ref().to_string(), item(key.get_ref(), value))).collect()
    }

    /// Ends the reading of this section: a key that nobody asked for is a fault.
    pub fn finish(mut self) {
        for (key, _) in std::mem::take(&mut self.entries) {
            let near = nearest(self.asked.iter().copied(), key.get_ref());
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let reason = format!("unknown key{hint} (known here: {})", self.asked.join(", "));
            let offset = Some(key.span().start);
            self.source.fault(offset, self.key_path(key.get_ref()), None, reason, self.called.clone());
        }
    }

    fn key_path(&self, key: &str) -> String {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let key = if !key.is_empty() && key.bytes().all(is_bare) { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}
