//! The functions of templates: those of Go, and those of Prometheus.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::humane::humane;
use super::kinds::{Argument, Kind};
use super::moment::{Moment, Span};
use super::numbers::shortest;
use super::printf::formatted;
use super::run::Circumstances;
use super::texts::{html, js, path_of, title, url_encoded, without_domain, without_port};
use super::things::Thing;
use crate::model::go_regex::GoRegex;

/// A function: its name, what it takes, and what it gives. The last argument may be given any number of times where
/// the fourth says so.
pub(super) struct Function {
    pub name: &'static str,
    pub takes: &'static [Argument],
    pub gives: Kind,
    pub takes_more: bool,
}

const fn one(name: &'static str, takes: &'static [Argument], gives: Kind) -> Function {
    Function { name, takes, gives, takes_more: false }
}

const fn many(name: &'static str, takes: &'static [Argument], gives: Kind) -> Function {
    Function { name, takes, gives, takes_more: true }
}

/// What templates may call: functions of Go's `text/template`, then those of Prometheus' package `template`.
pub(super) static FUNCTIONS: [Function; 48] = {
    use Argument::{Any, Integer, Number, Sample, Samples, Text};
    const TEXT: Kind = Kind::UNKNOWN_TEXT;
    [
        many("and", &[Any, Any], Kind::Any),
        many("or", &[Any, Any], Kind::Any),
        one("not", &[Any], Kind::Bool),
        many("eq", &[Any, Any, Any], Kind::Bool),
        one("ne", &[Any, Any], Kind::Bool),
        one("lt", &[Any, Any], Kind::Bool),
        one("le", &[Any, Any], Kind::Bool),
        one("gt", &[Any, Any], Kind::Bool),
        one("ge", &[Any, Any], Kind::Bool),
        one("len", &[Any], Kind::Integer),
        many("index", &[Any, Any], Kind::Any),
        many("slice", &[Text, Integer], TEXT),
        many("print", &[Any], TEXT),
        many("println", &[Any], TEXT),
        many("printf", &[Text, Any], TEXT),
        many("html", &[Any], TEXT),
        many("js", &[Any], TEXT),
        many("urlquery", &[Any], TEXT),
        many("call", &[Any], Kind::Any),
        one("query", &[Text], Kind::Samples),
        one("first", &[Samples], Kind::Sample),
        one("label", &[Text, Sample], TEXT),
        one("value", &[Sample], Kind::Number),
        one("strvalue", &[Sample], TEXT),
        one("sortByLabel", &[Text, Samples], Kind::Samples),
        many("args", &[Any], Kind::Arguments),
        one("reReplaceAll", &[Text, Text, Text], TEXT),
        one("match", &[Text, Text], Kind::Bool),
        one("safeHtml", &[Text], TEXT),
        one("title", &[Text], TEXT),
        one("toUpper", &[Text], TEXT),
        one("toLower", &[Text], TEXT),
        one("graphLink", &[Text], TEXT),
        one("tableLink", &[Text], TEXT),
        one("urlQueryEscape", &[Text], TEXT),
        one("stripPort", &[Text], TEXT),
        one("stripDomain", &[Text], TEXT),
        one("humanize", &[Number], TEXT),
        one("humanize1024", &[Number], TEXT),
        one("humanizeDuration", &[Number], TEXT),
        one("humanizePercentage", &[Number], TEXT),
        one("humanizeTimestamp", &[Number], TEXT),
        one("toTime", &[Number], Kind::Moment),
        one("toDuration", &[Number], Kind::Span),
        one("now", &[], Kind::Number),
        one("parseDuration", &[Text], Kind::Number),
        one("externalURL", &[], TEXT),
        one("pathPrefix", &[], TEXT),
    ]
};

/// The function with this name.
///
/// # Errors
/// There is none.
pub(super) fn known(name: &str) -> Result<&'static Function, String> {
    FUNCTIONS.iter().find(|function| function.name == name).ok_or_else(|| {
        let meant = match name {
            "labels" | "Labels" => "; {{ $labels.NAME }} is a label of the alarm",
            "Value" | "val" => "; {{ $value }} is the value of the alarm",
            _ => "",
        };
        format!("function {name:?} not defined{meant}")
    })
}

impl Function {
    /// Whether so many arguments can be given.
    pub fn takes_count(&self, count: usize) -> Result<(), String> {
        let least = self.takes.len() - usize::from(self.takes_more);
        if count == least || (count > least && self.takes_more) {
            return Ok(());
        }
        let (name, or_more) = (self.name, if self.takes_more { "at least " } else { "" });
        let meant = match (name, count) {
            ("value", 0) => "; write {{ $value }} for the value of the alarm",
            ("label", 0) => "; write {{ $labels.NAME }} for a label of the alarm",
            _ => "",
        };
        Err(format!("wrong number of args for {name}: want {or_more}{least} got {count}{meant}"))
    }

    /// Whether `kind` can be given as the argument at `position`.
    pub fn takes(&self, position: usize, kind: &Kind) -> Result<(), String> {
        let expected = self.takes.get(position).or(self.takes.last()).copied().unwrap_or(Argument::Any);
        if expected.takes(kind) {
            return Ok(());
        }
        let shown = kind.constant().map_or_else(|| kind.name().to_owned(), |text| format!("{text:?}"));
        Err(format!("wrong argument for {}: expected {}; got {shown}", self.name, expected.name()))
    }
}

/// Calls a function.
pub(super) fn call(name: &str, things: &[Thing], around: &Circumstances<'_>) -> Result<Thing, String> {
    let function = known(name)?;
    function.takes_count(things.len())?;
    for (position, thing) in things.iter().enumerate() {
        function.takes(position, &Kind::of(thing))?;
    }
    match (name, things) {
        ("not", [thing]) => Ok(Thing::Bool(!thing.is_true())),
        ("and" | "or", [.., last]) => {
            let decides = things.iter().find(|thing| thing.is_true() == (name == "or"));
            Ok(decides.unwrap_or(last).clone())
        }
        ("eq" | "ne" | "lt" | "le" | "gt" | "ge", [first, others @ ..]) => {
            Ok(Thing::Bool(compared(name, first, others)?))
        }
        ("len" | "index" | "slice", _) => of_several(name, things),
        ("query" | "first" | "label" | "value" | "strvalue" | "sortByLabel", _) => of_samples(name, things, around),
        ("print" | "println" | "html" | "js" | "urlquery", _) => Ok(Thing::Text(printed(name, things))),
        ("printf", [Thing::Text(format), things @ ..]) => Ok(Thing::Text(formatted(format, things))),
        ("args", _) => {
            let numbered = things.iter().enumerate().map(|(number, thing)| (format!("arg{number}"), thing.clone()));
            Ok(Thing::Arguments(numbered.collect::<BTreeMap<_, _>>()))
        }
        ("match", [Thing::Text(pattern), Thing::Text(text)]) => Ok(Thing::Bool(GoRegex::new(pattern)?.is_match(text))),
        ("reReplaceAll", [Thing::Text(pattern), Thing::Text(with), Thing::Text(text)]) => {
            Ok(Thing::Text(GoRegex::new(pattern)?.replace_all(text, with)))
        }
        ("parseDuration", [Thing::Text(text)]) => {
            Ok(Thing::Number(crate::model::promql::parse_span(text)?.as_secs_f64()))
        }
        ("externalURL", []) => Ok(Thing::Text(around.around.external_url.clone())),
        ("pathPrefix", []) => Ok(Thing::Text(path_of(&around.around.external_url))),
        ("now", []) => Ok(Thing::Number(around.now.0 as f64 / 1000.0)),
        ("toTime", [thing]) => Ok(Thing::Moment(Moment::of_seconds(number(thing)?)?)),
        ("toDuration", [thing]) => {
            let nanos = number(thing)? * 1e9;
            if !nanos.is_finite() || nanos.abs() >= i64::MAX as f64 {
                return Err(format!("{} is no span of time that Go can show", shortest(nanos / 1e9)));
            }
            Ok(Thing::Span(Span(nanos as i64)))
        }
        (_, [thing]) if name.starts_with("humanize") => Ok(Thing::Text(humane(name, number(thing)?)?)),
        (_, [Thing::Text(text)]) => of_text(name, text),
        _ => Err(format!("{name} is no function that can be called here")),
    }
}

fn of_text(name: &str, text: &str) -> Result<Thing, String> {
    Ok(Thing::Text(match name {
        "safeHtml" => text.to_owned(),
        "title" => title(text),
        "toUpper" => text.to_uppercase(),
        "toLower" => text.to_lowercase(),
        "stripPort" => without_port(text).0.to_owned(),
        "stripDomain" => without_domain(text),
        "urlQueryEscape" => url_encoded(text),
        "graphLink" => format!("/graph?g0.expr={}&g0.tab=0", url_encoded(text)),
        "tableLink" => format!("/graph?g0.expr={}&g0.tab=1", url_encoded(text)),
        _ => return Err(format!("{name} is no function that can be called here")),
    }))
}

/// As Go's `fmt.Sprint`: a blank stands between two things that are no texts.
fn printed(name: &str, things: &[Thing]) -> String {
    let mut out = String::new();
    for (position, thing) in things.iter().enumerate() {
        let both_no_text = |before: &Thing| !matches!(before, Thing::Text(_)) && !matches!(thing, Thing::Text(_));
        let is_apart = position > 0 && (name == "println" || both_no_text(&things[position - 1]));
        out += if is_apart { " " } else { "" };
        out += &thing.shown();
    }
    match name {
        "println" => out + "\n",
        "html" => html(&out),
        "js" => js(&out),
        "urlquery" => url_encoded(&out),
        _ => out,
    }
}

fn of_several(name: &str, things: &[Thing]) -> Result<Thing, String> {
    let length = |length: usize| Ok(Thing::Integer(i64::try_from(length).unwrap_or(i64::MAX)));
    match (name, things) {
        ("len", [Thing::Text(text)]) => length(text.len()),
        ("len", [Thing::Map(map)]) => length(map.len()),
        ("len", [Thing::Arguments(map)]) => length(map.len()),
        ("len", [Thing::Samples(samples)]) => length(samples.len()),
        ("index", [thing]) => Ok(thing.clone()),
        ("index", [thing, key, more @ ..]) => {
            let mut rest = vec![indexed(thing, key)?];
            rest.extend(more.iter().cloned());
            of_several(name, &rest)
        }
        ("slice", [Thing::Text(text), places @ ..]) => {
            let place = |thing: Option<&Thing>, otherwise: usize| match thing {
                Some(Thing::Integer(place)) => usize::try_from(*place).ok(),
                _ => Some(otherwise),
            };
            let (from, to) = (place(places.first(), 0), place(places.get(1), text.len()));
            let part = from.zip(to).and_then(|(from, to)| text.get(from..to));
            part.map(|part| Thing::Text(part.to_owned())).ok_or_else(|| "slice: index out of range".to_owned())
        }
        (_, [thing, ..]) => Err(format!("{name} of type {}", thing.kind())),
        _ => Err(format!("{name} takes an argument")),
    }
}

fn indexed(thing: &Thing, key: &Thing) -> Result<Thing, String> {
    match (thing, key) {
        (Thing::Map(map), Thing::Text(key)) => Ok(Thing::Text(map.get(key).cloned().unwrap_or_default())),
        (Thing::Arguments(map), Thing::Text(key)) => Ok(map.get(key).cloned().unwrap_or(Thing::Nil)),
        (Thing::Samples(samples), Thing::Integer(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| samples.get(at));
            found.cloned().map(Thing::Sample).ok_or_else(|| format!("error calling index: index out of range: {at}"))
        }
        (Thing::Text(text), Thing::Integer(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            let found = found.map(|byte| Thing::Integer(i64::from(*byte)));
            found.ok_or_else(|| format!("error calling index: index out of range: {at}"))
        }
        (thing, key) => Err(format!("can't index item of type {} with {}", thing.kind(), key.kind())),
    }
}

fn of_samples(name: &str, things: &[Thing], around: &Circumstances<'_>) -> Result<Thing, String> {
    match (name, things) {
        ("query", [Thing::Text(expression)]) => around.query(expression).map(Thing::Samples),
        ("first", [Thing::Samples(samples)]) => {
            let first = samples.first().cloned().map(Thing::Sample);
            first.ok_or_else(|| "error calling first: first() called on vector with no elements".to_owned())
        }
        ("label", [Thing::Text(label), Thing::Sample(sample)]) => {
            Ok(Thing::Text(sample.labels.get(label).cloned().unwrap_or_default()))
        }
        ("value", [Thing::Sample(sample)]) => Ok(Thing::Number(sample.value)),
        ("strvalue", [Thing::Sample(sample)]) => {
            Ok(Thing::Text(sample.labels.get("__value__").cloned().unwrap_or_default()))
        }
        ("sortByLabel", [Thing::Text(label), Thing::Samples(samples)]) => {
            let mut samples = samples.clone();
            samples.sort_by(|a, b| a.labels.get(label).cmp(&b.labels.get(label)));
            Ok(Thing::Samples(samples))
        }
        _ => Err(format!("{name} takes what query gives")),
    }
}

fn compared(name: &str, first: &Thing, others: &[Thing]) -> Result<bool, String> {
    let mut is_equal = false;
    for other in others {
        let order = order(first, other)?;
        match name {
            "eq" => is_equal |= order == Some(Ordering::Equal),
            "ne" => return Ok(order != Some(Ordering::Equal)),
            "lt" => return Ok(order == Some(Ordering::Less)),
            "le" => return Ok(matches!(order, Some(Ordering::Less | Ordering::Equal))),
            "gt" => return Ok(order == Some(Ordering::Greater)),
            _ => return Ok(matches!(order, Some(Ordering::Greater | Ordering::Equal))),
        }
    }
    Ok(is_equal)
}

/// The order of two things of one kind; nothing where one is not a number. Whole numbers and others may be compared,
/// which Go does not allow.
fn order(first: &Thing, second: &Thing) -> Result<Option<Ordering>, String> {
    match (first, second) {
        (Thing::Text(first), Thing::Text(second)) => Ok(Some(first.cmp(second))),
        (Thing::Bool(first), Thing::Bool(second)) => Ok(Some(first.cmp(second))),
        (first, second) => match (first.number(), second.number()) {
            (Some(first), Some(second)) => Ok(first.partial_cmp(&second)),
            _ => Err(incomparable(first.kind(), second.kind())),
        },
    }
}

/// That things of these kinds cannot be compared.
pub(super) fn incomparable(first: &str, second: &str) -> String {
    format!("incompatible types for comparison: {first} and {second}")
}

fn number(thing: &Thing) -> Result<f64, String> {
    match thing {
        Thing::Text(text) => text.trim().parse().map_err(|_| format!("{text:?} is no number")),
        Thing::Span(Span(nanos)) => Ok(*nanos as f64 / 1e9),
        other => other.number().ok_or_else(|| format!("can't convert {} to a number", other.kind())),
    }
}
