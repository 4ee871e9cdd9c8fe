//! The functions of templates.

use std::cmp::Ordering;

use regex::Regex;

use super::Surroundings;
use super::numbers::{exponential, fixed, general, shortest};
use super::parse::{Node, Pipe, Term};
use super::run::Thing;
use crate::model::Timestamp;

/// What templates of rules may call.
const KNOWN: [&str; 36] = [
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "print",
    "println",
    "printf",
    "html",
    "js",
    "urlquery",
    "safeHtml",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "title",
    "toUpper",
    "toLower",
    "match",
    "reReplaceAll",
    "stripPort",
    "stripDomain",
    "parseDuration",
    "externalURL",
    "pathPrefix",
    "graphLink",
    "tableLink",
    "toTime",
];

/// What asks a server: there is none.
const QUERIES: [&str; 8] = ["query", "first", "label", "value", "strvalue", "sortByLabel", "args", "tmpl"];

/// Every function that is not known.
pub(super) fn check(nodes: &[Node]) -> Result<(), String> {
    fn pipe(commands: &Pipe) -> Result<(), String> {
        commands.iter().flatten().try_for_each(|term| match term {
            Term::Function(name) => known(name),
            Term::Inner(inner, _) => pipe(inner),
            _ => Ok(()),
        })
    }
    nodes.iter().try_for_each(|node| match node {
        Node::Text(_) => Ok(()),
        Node::Output(commands) | Node::Set(_, commands) => pipe(commands),
        Node::If(branches, otherwise) => {
            branches.iter().try_for_each(|(condition, body)| pipe(condition).and_then(|()| check(body)))?;
            check(otherwise)
        }
        Node::With(condition, body, otherwise) | Node::Range(_, condition, body, otherwise) => {
            pipe(condition)?;
            check(body)?;
            check(otherwise)
        }
    })
}

fn known(name: &str) -> Result<(), String> {
    match name {
        _ if KNOWN.contains(&name) => Ok(()),
        _ if QUERIES.contains(&name) => Err(format!("{name} asks a server of Prometheus, and there is none here")),
        _ => Err(format!("function \"{name}\" not defined")),
    }
}

pub(super) fn call(name: &str, arguments: &[Thing], around: &Surroundings) -> Result<Thing, String> {
    known(name)?;
    let text = |thing: &Thing| match thing {
        Thing::Text(text) => Ok(text.clone()),
        other => Err(format!("{name} takes a text, not {}", other.shown())),
    };
    Ok(match (name, arguments) {
        ("not", [thing]) => Thing::Bool(!thing.is_true()),
        ("and" | "or", [.., last]) => {
            let decides = arguments.iter().find(|thing| thing.is_true() == (name == "or"));
            decides.unwrap_or(last).clone()
        }
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let mut is_equal = false;
            for other in others {
                is_equal |= compare(first, other)? == Some(Ordering::Equal);
            }
            Thing::Bool(is_equal)
        }
        ("ne" | "lt" | "le" | "gt" | "ge", [first, second]) => {
            let order = compare(first, second)?;
            Thing::Bool(match name {
                "ne" => order != Some(Ordering::Equal),
                "lt" => order == Some(Ordering::Less),
                "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                "gt" => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            })
        }
        ("len", [Thing::Text(text)]) => Thing::Integer(i64::try_from(text.len()).unwrap_or(i64::MAX)),
        ("len", [Thing::Map(map)]) => Thing::Integer(i64::try_from(map.len()).unwrap_or(i64::MAX)),
        ("index", [Thing::Map(map), Thing::Text(key)]) => Thing::Text(map.get(key).cloned().unwrap_or_default()),
        ("print", things) => Thing::Text(things.iter().map(Thing::shown).collect()),
        ("println", things) => {
            let shown: Vec<String> = things.iter().map(Thing::shown).collect();
            Thing::Text(shown.join(" ") + "\n")
        }
        ("printf", [format, things @ ..]) => Thing::Text(formatted(&text(format)?, things)),
        ("html" | "js" | "safeHtml", [thing]) => Thing::Text(thing.shown()),
        ("urlquery" | "graphLink" | "tableLink", [thing]) => {
            let encoded = url_encoded(&thing.shown());
            Thing::Text(match name {
                "graphLink" => format!("/graph?g0.expr={encoded}&g0.tab=0"),
                "tableLink" => format!("/graph?g0.expr={encoded}&g0.tab=1"),
                _ => encoded,
            })
        }
        ("title", [thing]) => Thing::Text(title(&text(thing)?)),
        ("toUpper", [thing]) => Thing::Text(text(thing)?.to_uppercase()),
        ("toLower", [thing]) => Thing::Text(text(thing)?.to_lowercase()),
        ("match", [pattern, thing]) => Thing::Bool(regex(&text(pattern)?)?.is_match(&text(thing)?)),
        ("reReplaceAll", [pattern, with, thing]) => {
            let replaced = regex(&text(pattern)?)?.replace_all(&text(thing)?, text(with)?.as_str()).into_owned();
            Thing::Text(replaced)
        }
        ("stripPort", [thing]) => Thing::Text(without_port(&text(thing)?).0.to_owned()),
        ("stripDomain", [thing]) => Thing::Text(without_domain(&text(thing)?)),
        ("externalURL", []) => Thing::Text(around.external_url.clone()),
        ("pathPrefix", []) => Thing::Text(path_of(&around.external_url)),
        ("parseDuration", [thing]) => {
            let span = crate::model::promql::parse_span(&text(thing)?)?;
            Thing::Number(span.as_secs_f64())
        }
        (_, [thing]) if name.starts_with("humanize") || name == "toTime" => Thing::Text(humane(name, number(thing)?)?),
        (name, arguments) => return Err(format!("wrong arguments for {name}: got {}", arguments.len())),
    })
}

/// The order of two things of one kind; nothing where one is not a number.
fn compare(first: &Thing, second: &Thing) -> Result<Option<Ordering>, String> {
    let as_number = |thing: &Thing| match thing {
        Thing::Number(number) => Some(*number),
        Thing::Integer(number) => Some(*number as f64),
        _ => None,
    };
    match (first, second) {
        (Thing::Text(first), Thing::Text(second)) => Ok(Some(first.cmp(second))),
        (Thing::Bool(first), Thing::Bool(second)) => Ok(Some(first.cmp(second))),
        (first, second) => match (as_number(first), as_number(second)) {
            (Some(first), Some(second)) => Ok(first.partial_cmp(&second)),
            _ => Err("incompatible types for comparison".to_owned()),
        },
    }
}

fn number(thing: &Thing) -> Result<f64, String> {
    match thing {
        Thing::Number(number) => Ok(*number),
        Thing::Integer(number) => Ok(*number as f64),
        Thing::Text(text) => text.trim().parse().map_err(|_| format!("{text:?} is no number")),
        other => Err(format!("can't convert {} to a number", other.shown())),
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|_| format!("{pattern:?} is no regular expression"))
}

fn humane(name: &str, value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(shortest(value));
    }
    Ok(match name {
        "humanize" if value == 0.0 => general(value, 4),
        "humanize" => {
            let (value, prefix) = scaled(value);
            general(value, 4) + prefix
        }
        "humanize1024" => {
            let (mut value, mut prefix) = (value, "");
            if value.abs() > 1.0 {
                for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
                    if value.abs() < 1024.0 {
                        break;
                    }
                    (value, prefix) = (value / 1024.0, next);
                }
            }
            general(value, 4) + prefix
        }
        "humanizeDuration" => span(value),
        "humanizePercentage" => format!("{}%", general(value * 100.0, 4)),
        _ => time(value)?,
    })
}

/// A number between one and a thousand, and the prefix that makes up for it.
fn scaled(value: f64) -> (f64, &'static str) {
    let (mut value, mut prefix) = (value, "");
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            (value, prefix) = (value / 1000.0, next);
        }
    } else {
        for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if value.abs() >= 1.0 {
                break;
            }
            (value, prefix) = (value * 1000.0, next);
        }
    }
    (value, prefix)
}

fn span(value: f64) -> String {
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        let (value, prefix) = scaled(value);
        return format!("{}{prefix}s", general(value, 4));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = value.abs() as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", general(value.abs(), 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// `2026-11-25 23:00:00 +0000 UTC`, with milliseconds where there are any.
fn time(seconds: f64) -> Result<String, String> {
    if seconds.abs() > 9.2e9 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            shortest(seconds)
        ));
    }
    let millis = (seconds * 1000.0).trunc();
    let shown = Timestamp(millis as i64).to_string();
    let (date, clock) = shown.split_once('T').unwrap_or((&shown, ""));
    let clock = clock.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    let clock = if clock.len() < 8 { format!("{clock}{}", &"00:00:00"[clock.len()..]) } else { clock.to_owned() };
    Ok(format!("{date} {clock} +0000 UTC"))
}

/// Every word with a capital.
fn title(text: &str) -> String {
    let mut is_first = true;
    let letter = |letter: char| {
        let shown = if is_first { letter.to_uppercase().to_string() } else { letter.to_string() };
        is_first = !(letter.is_alphanumeric() || matches!(letter, '_' | '\''));
        shown
    };
    text.chars().map(letter).collect()
}

fn without_port(address: &str) -> (&str, &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host.trim_start_matches('[').trim_end_matches(']'), port)
        }
        _ => (address, ""),
    }
}

fn without_domain(address: &str) -> String {
    let (host, port) = without_port(address);
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let short = if is_address { host } else { host.split('.').next().unwrap_or(host) };
    if port.is_empty() { short.to_owned() } else { format!("{short}:{port}") }
}

fn path_of(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    after.find('/').map_or_else(String::new, |at| after[at..].to_owned())
}

fn url_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// `printf`: flags, width and precision as in Go; what does not fit is shown with its kind.
fn formatted(format: &str, things: &[Thing]) -> String {
    let (mut out, mut things) = (String::new(), things.iter());
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out += before;
        let flags: String = after.chars().take_while(|letter| "+-# 0".contains(*letter)).collect();
        let after = &after[flags.len()..];
        let width: String = after.chars().take_while(char::is_ascii_digit).collect();
        let after = &after[width.len()..];
        let (precision, after) = match after.strip_prefix('.') {
            None => (None, after),
            Some(after) => {
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                (Some(digits.parse().unwrap_or(0).min(99)), &after[digits.len()..])
            }
        };
        let Some(verb) = after.chars().next() else {
            out += "%!(NOVERB)";
            return out;
        };
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let shown = match things.next() {
            Some(thing) => one(verb, thing, precision, flags.contains('+')),
            None => format!("%!{verb}(MISSING)"),
        };
        out += &padded(&shown, width.parse().unwrap_or(0).min(999), &flags);
    }
    out += rest;
    let left: Vec<String> = things.map(|thing| format!("{}={}", kind(thing), thing.shown())).collect();
    if !left.is_empty() {
        out += &format!("%!(EXTRA {})", left.join(", "));
    }
    out
}

fn one(verb: char, thing: &Thing, precision: Option<usize>, signed: bool) -> String {
    let shown = match (verb, thing) {
        ('v', Thing::Number(value)) => precision.map_or_else(|| shortest(*value), |digits| general(*value, digits)),
        ('v', thing) => thing.shown(),
        ('s', Thing::Text(text)) => precision.map_or_else(|| text.clone(), |most| text.chars().take(most).collect()),
        ('q', Thing::Text(text)) => format!("{text:?}"),
        ('t', Thing::Bool(is_true)) => is_true.to_string(),
        ('d', Thing::Integer(value)) => value.to_string(),
        ('x', Thing::Integer(value)) => format!("{value:x}"),
        ('X', Thing::Integer(value)) => format!("{value:X}"),
        ('f' | 'F', Thing::Number(value)) => fixed(*value, precision.unwrap_or(6)),
        ('e', Thing::Number(value)) => exponential(*value, precision.unwrap_or(6)),
        ('g', Thing::Number(value)) => precision.map_or_else(|| shortest(*value), |digits| general(*value, digits)),
        (verb, thing) => return format!("%!{verb}({}={})", kind(thing), thing.shown()),
    };
    let is_number = matches!(thing, Thing::Number(_) | Thing::Integer(_));
    if signed && is_number && !shown.starts_with(['-', '+']) { format!("+{shown}") } else { shown }
}

fn kind(thing: &Thing) -> &'static str {
    match thing {
        Thing::Text(_) => "string",
        Thing::Number(_) => "float64",
        Thing::Integer(_) => "int",
        Thing::Bool(_) => "bool",
        Thing::Map(_) => "map[string]string",
        Thing::Nil => "<nil>",
    }
}

fn padded(shown: &str, width: usize, flags: &str) -> String {
    let missing = width.saturating_sub(shown.chars().count());
    if flags.contains('-') {
        return shown.to_owned() + &" ".repeat(missing);
    }
    if flags.contains('0') && shown.chars().any(|letter| letter.is_ascii_digit()) {
        let (sign, digits) = shown.split_at(usize::from(shown.starts_with(['-', '+'])));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + shown
}
