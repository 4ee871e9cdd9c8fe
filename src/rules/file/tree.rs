//! A rule file as a tree in which everything knows its place, walked key by key.
//!
//! As with [`settings`](crate::settings): a fault is noted and reading goes on, so that one run finds all, and a key that
//! nobody asked for is refused. Only what is no YAML at all ends the reading at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use crate::settings::{FileFault, nearest};

/// Line and column, both from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Line of the file.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Something that was written, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct At<T> {
    /// What.
    pub value: T,
    /// Where.
    pub spot: Spot,
}

/// What is wrong with a file, as far as it was read.
#[derive(Debug)]
pub struct Faults<'f> {
    file: &'f str,
    found: Vec<FileFault>,
}

impl<'f> Faults<'f> {
    /// None yet.
    pub fn of(file: &'f str) -> Self {
        Self { file, found: Vec::new() }
    }

    /// Notes one.
    pub fn note(&mut self, spot: Spot, key: &str, reason: impl Into<String>) {
        let reason = format!("column {}: {}", spot.column, reason.into());
        let fault = FileFault::of_file(self.file, reason);
        self.found.push(FileFault { line: Some(spot.line), key: key.to_owned(), ..fault });
    }

    /// All of them, in the order of the file.
    pub fn in_order(mut self) -> Vec<FileFault> {
        self.found.sort_by_key(|fault| fault.line);
        self.found
    }
}

/// Why a file has one document.
pub const SECOND_DOCUMENT: &str = "a second YAML document begins here, and Prometheus reads only the first, without a \
                                   word about the others: put everything below one key, or into files of their own";

/// The line on which a second document with something in it begins.
pub fn second_document(text: &str) -> Option<usize> {
    let (mut has_content, mut begin) = (false, None);
    for (number, line) in (1..).zip(text.lines()) {
        let is_mark =
            |mark: &str| line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        let content = match line.strip_prefix("---").filter(|_| is_mark("---")) {
            Some(behind) => {
                if has_content && begin.is_none() {
                    begin = Some(number);
                }
                behind
            }
            None if is_mark("...") => "",
            None => line,
        };
        let content = content.trim();
        if !content.is_empty() && !content.starts_with(['#', '%']) {
            if begin.is_some() {
                return begin;
            }
            has_content = true;
        }
    }
    None
}

/// The text up to the end of its first document: nothing is behind it but marks and remarks.
pub fn first_document(text: &str) -> &str {
    let (mut has_content, mut at) = (false, 0);
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let is_mark = line.starts_with("---") || line.starts_with("...");
        if has_content && is_mark && matches!(bare, "---" | "...") {
            return &text[..at];
        }
        has_content |= !is_mark && !bare.is_empty() && !bare.starts_with(['#', '%']);
        at += line.len();
    }
    text
}

/// One node of the file.
#[derive(Debug)]
pub struct Node {
    spot: Spot,
    what: What,
}

#[derive(Debug)]
enum What {
    Nothing,
    /// Numbers and the like too, as they are written.
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(At<String>, Node)>),
}

impl Node {
    /// The tree of `text`; `None` with a fault when it is no YAML.
    pub fn of(text: &str, faults: &mut Faults<'_>) -> Option<Self> {
        // Keys that are written twice are a fault among others.
        if let Some(line) = second_document(text) {
            let fault = FileFault::of_file(faults.file, SECOND_DOCUMENT);
            faults.found.push(FileFault { line: Some(line), ..fault });
            return None;
        }
        let text = first_document(text);
        let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
        match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
            Ok(raw) => Some(node(raw, text)),
            Err(error) => {
                let reason = reason(&error);
                let line = error.location().map(|location| location.line() as usize);
                faults.found.push(FileFault { line, ..FileFault::of_file(faults.file, reason) });
                None
            }
        }
    }

    /// What stands there, for people.
    fn kind(&self) -> String {
        match &self.what {
            What::Nothing => "nothing".to_owned(),
            What::Text(text) => format!("{text:?}"),
            What::List(_) => "a list".to_owned(),
            What::Mapping(_) => "keys with values".to_owned(),
        }
    }

    fn refuse(&self, key: &str, allowed: &str, faults: &mut Faults<'_>) {
        faults.note(self.spot, key, format!("must be {allowed}; here is {}", self.kind()));
    }

    /// The text; a fault where there is none.
    pub fn text(self, key: &str, faults: &mut Faults<'_>) -> Option<At<String>> {
        match self.what {
            What::Text(value) => Some(At { value, spot: self.spot }),
            What::Nothing | What::List(_) | What::Mapping(_) => {
                self.refuse(key, "a text", faults);
                None
            }
        }
    }

    /// The items; a fault where it is no list. Nothing at all is an empty one.
    pub fn list(self, key: &str, faults: &mut Faults<'_>) -> Vec<Self> {
        match self.what {
            What::List(items) => items,
            What::Nothing => Vec::new(),
            What::Text(_) | What::Mapping(_) => {
                self.refuse(key, "a list", faults);
                Vec::new()
            }
        }
    }

    /// The keys; a fault where there are none. `path` goes before them in messages.
    pub fn mapping(self, path: &'static str, what: &str, faults: &mut Faults<'_>) -> Option<Mapping> {
        let What::Mapping(entries) = self.what else {
            self.refuse(path, what, faults);
            return None;
        };
        let mut seen = BTreeSet::new();
        for (key, _) in &entries {
            if !seen.insert(key.value.as_str()) {
                faults.note(key.spot, &with_path(path, &key.value), "stands here twice");
            }
        }
        Some(Mapping { spot: self.spot, path, entries, asked: Vec::new() })
    }
}

/// Keys with values. They are taken out one by one; what is left at the end is unknown.
#[derive(Debug)]
pub struct Mapping {
    spot: Spot,
    path: &'static str,
    entries: Vec<(At<String>, Node)>,
    asked: Vec<&'static str>,
}

impl Mapping {
    /// Where it begins.
    pub fn spot(&self) -> Spot {
        self.spot
    }

    /// What stands behind `key`; where nothing does, it is as if the key were not there.
    pub fn take(&mut self, key: &'static str) -> Option<Node> {
        self.asked.push(key);
        let found = self.entries.extract_if(.., |(known, _)| known.value == key).next();
        found.map(|(_, node)| node).filter(|node| !matches!(node.what, What::Nothing))
    }

    /// The text of `key`.
    pub fn text(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<At<String>> {
        let path = self.path_of(key);
        self.take(key)?.text(&path, faults)
    }

    /// The text of `key`; a fault when it is not there.
    pub fn required(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<At<String>> {
        self.needed(key, faults, Self::text)
    }

    /// What `read` makes of the text of `key`; a fault when that is nothing.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
        faults: &mut Faults<'_>,
    ) -> Option<At<T>> {
        let At { value, spot } = self.text(key, faults)?;
        match read(&value) {
            Ok(value) => Some(At { value, spot }),
            Err(reason) => {
                faults.note(spot, &self.path_of(key), format!("{value:?}: {reason}"));
                None
            }
        }
    }

    /// The span of time of `key`: `90s`, `1h30m`, `0`.
    pub fn span(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<At<Duration>> {
        self.read(key, span, faults)
    }

    /// The whole number of `key`.
    pub fn whole(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<At<usize>> {
        self.read(key, |text| text.parse().map_err(|_| "must be a whole number".to_owned()), faults)
    }

    /// The whole number of `key`, which is at least 1.
    pub fn positive(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<At<usize>> {
        let allowed = |number: &usize| *number > 0;
        let read = |text: &str| text.parse().ok().filter(allowed).ok_or("must be a whole number from 1 on".to_owned());
        self.read(key, read, faults)
    }

    /// The span of time of `key`, which is more than nothing.
    pub fn pause(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<At<Duration>> {
        let is_some =
            |span: Duration| if span.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(span) };
        self.read(key, |text| span(text).and_then(is_some), faults)
    }

    /// Whether `key` says yes.
    pub fn flag(&mut self, key: &'static str, faults: &mut Faults<'_>) -> bool {
        self.choice(key, &[("true", true), ("false", false)], faults).unwrap_or_default()
    }

    /// What the word of `key` stands for.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], faults: &mut Faults<'_>) -> Option<T> {
        let choose = |text: &str| {
            let words = || choices.iter().map(|(word, _)| *word);
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, chosen)| *chosen);
            found.ok_or_else(|| {
                let hint = nearest(words(), text).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                format!("must be one of {}{hint}", words().collect::<Vec<_>>().join(", "))
            })
        };
        self.read(key, choose, faults).map(|found| found.value)
    }

    /// The texts that `key` names by keys of their own.
    pub fn texts(&mut self, key: &'static str, faults: &mut Faults<'_>) -> BTreeMap<String, At<String>> {
        let Some(node) = self.take(key) else { return BTreeMap::new() };
        let Some(found) = node.mapping(key, "names with a text each", faults) else { return BTreeMap::new() };
        let texts = found.entries.into_iter().filter_map(|(name, node)| {
            let path = format!("{key}.{}", name.value);
            let value = match node.what {
                What::Nothing => At { value: String::new(), spot: node.spot },
                What::Text(_) | What::List(_) | What::Mapping(_) => node.text(&path, faults)?,
            };
            Some((name.value, value))
        });
        texts.collect()
    }

    /// The items of `key`; none when it is not there.
    pub fn list(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<Node> {
        let path = self.path_of(key);
        self.take(key).map(|node| node.list(&path, faults)).unwrap_or_default()
    }

    /// Which of `choices` is there; a fault when none is, or several are.
    pub fn only(&mut self, choices: &[&'static str], faults: &mut Faults<'_>) -> Option<&'static str> {
        self.asked.extend(choices);
        let found: Vec<&'static str> = choices.iter().copied().filter(|choice| self.has(choice)).collect();
        // What is there instead is an unknown key, which says what is known.
        if found.len() > 1 || self.entries.is_empty() {
            faults.note(self.spot, self.path, format!("must be one of {}", choices.join(", ")));
        }
        found.first().copied()
    }

    /// What `read` makes of `key`; a fault when it is not there.
    pub fn needed<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl FnOnce(&mut Self, &'static str, &mut Faults<'_>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            faults.note(self.spot, &self.path_of(key), "missing");
        }
        read(self, key, faults)
    }

    fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, node)| known.value == key && !matches!(node.what, What::Nothing))
    }

    /// Ends the reading: a key that nobody asked for is a fault.
    pub fn finish(self, faults: &mut Faults<'_>) {
        for (key, _) in &self.entries {
            if self.asked.contains(&key.value.as_str()) {
                // The second of two, which was noted.
                continue;
            }
            let near = nearest(self.asked.iter().copied(), &key.value);
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let reason = format!("unknown key{hint} (known here: {})", self.asked.join(", "));
            faults.note(key.spot, &with_path(self.path, &key.value), reason);
        }
    }

    fn path_of(&self, key: &str) -> String {
        with_path(self.path, key)
    }
}

fn with_path(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A span of time as Prometheus writes it: `90s`, `1h30m`, `0`.
pub fn span(text: &str) -> Result<Duration, String> {
    let is_zero = text.starts_with('0') && text.bytes().all(|byte| byte == b'0' || byte.is_ascii_lowercase());
    let span = match text.parse::<f64>() {
        _ if is_zero => Ok(Duration::ZERO),
        // An expression may say seconds so; in a rule file Prometheus refuses it, and nobody sees what is meant.
        Ok(_) => Err("its unit is missing; allowed are ms, s, m, h, d, w and y".to_owned()),
        Err(_) => crate::model::promql::parse_span(text),
    };
    span.map_err(|reason| format!("is no span of time such as 90s or 1h30m: {reason}"))
}

/// What is wrong with a text that is no YAML, for people.
pub fn reason(error: &serde_saphyr::Error) -> String {
    let reason = error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned();
    // The library tells programmers what to call.
    let is_several = reason.contains("from_str_multiple");
    if is_several { "must be one document: remove what follows the line ---".to_owned() } else { reason }
}

/// What the YAML library says.
enum Raw {
    Nothing,
    /// As the library has read it; what is written in quotes is so.
    Text(String),
    /// A number or the like: how it is written, its place says.
    Plain,
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<String>, Spanned<Raw>)>),
}

struct RawVisitor;

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list, or keys with values")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Raw::Mapping(mapping))
    }
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let spot = spot(raw.referenced);
    let what = match raw.value {
        Raw::Nothing => What::Nothing,
        Raw::Text(text) => What::Text(text),
        Raw::Plain => What::Text(written(raw.defined, text).to_owned()),
        Raw::List(items) => What::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Mapping(entries) => {
            let at = |key: Spanned<String>| At { spot: self::spot(key.referenced), value: key.value };
            What::Mapping(entries.into_iter().map(|(key, value)| (at(key), node(value, text))).collect())
        }
    };
    Node { spot, what }
}

fn spot(location: Location) -> Spot {
    Spot { line: location.line() as usize, column: location.column() as usize }
}

/// What is written in a place.
fn written(location: Location, text: &str) -> &str {
    let span = location.span();
    let ends = span.byte_offset().zip(span.byte_len()).map(|(from, length)| (from as usize, (from + length) as usize));
    ends.and_then(|(from, to)| text.get(from..to)).unwrap_or_default().trim()
}
