//! `printf`, as Go's package `fmt` has it.

use super::numbers::{exponential, fixed, general, shortest};
use super::things::Thing;

/// `printf`: flags, width and precision as in Go; what does not fit is shown with its kind.
pub(super) fn formatted(format: &str, things: &[Thing]) -> String {
    let (mut out, mut rest, mut next, mut most) = (String::new(), format, 0, 0);
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
        let after = match indexed(after) {
            Some((number, after)) => {
                next = number;
                after
            }
            None => after,
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
        let thing = things.get(next);
        (next, most) = (next + 1, most.max(next + 1));
        let shown = match thing {
            Some(thing) => one(verb, thing, precision, flags.chars().find(|flag| "+ ".contains(*flag))),
            None => format!("%!{verb}(MISSING)"),
        };
        out += &padded(&shown, width.parse().unwrap_or(0).min(999), &flags);
    }
    out += rest;
    let left: Vec<String> =
        things.iter().skip(most).map(|thing| format!("{}={}", thing.kind(), thing.shown())).collect();
    if !left.is_empty() {
        out += &format!("%!(EXTRA {})", left.join(", "));
    }
    out
}

/// `[2]`: the thing that is meant, from 0 on, and what follows.
fn indexed(text: &str) -> Option<(usize, &str)> {
    let (number, after) = text.strip_prefix('[')?.split_once(']')?;
    Some((number.parse::<usize>().ok()?.checked_sub(1)?, after))
}

fn one(verb: char, thing: &Thing, precision: Option<usize>, sign: Option<char>) -> String {
    let shown = match (verb, thing) {
        ('v', Thing::Number(value)) => precision.map_or_else(|| shortest(*value), |digits| general(*value, digits)),
        ('v', Thing::Nil) => "<nil>".to_owned(),
        ('v', thing) => thing.shown(),
        ('s', Thing::Text(text)) => precision.map_or_else(|| text.clone(), |most| text.chars().take(most).collect()),
        ('s', Thing::Moment(_) | Thing::Span(_) | Thing::Month(_) | Thing::Weekday(_)) => thing.shown(),
        ('q', Thing::Text(text)) => format!("{text:?}"),
        ('x', Thing::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Thing::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('d', Thing::Month(number) | Thing::Weekday(number)) => number.to_string(),
        ('d', Thing::Span(span)) => span.0.to_string(),
        ('b', Thing::Integer(value)) => format!("{value:b}"),
        ('o', Thing::Integer(value)) => format!("{value:o}"),
        ('c', Thing::Integer(value)) => {
            u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('U', Thing::Integer(value)) => format!("U+{value:04X}"),
        ('t', Thing::Bool(is_true)) => is_true.to_string(),
        ('d', Thing::Integer(value)) => value.to_string(),
        ('x', Thing::Integer(value)) => format!("{value:x}"),
        ('X', Thing::Integer(value)) => format!("{value:X}"),
        ('f' | 'F', Thing::Number(value)) => fixed(*value, precision.unwrap_or(6)),
        ('e', Thing::Number(value)) => exponential(*value, precision.unwrap_or(6)),
        ('g', Thing::Number(value)) => precision.map_or_else(|| shortest(*value), |digits| general(*value, digits)),
        ('E' | 'G', thing @ Thing::Number(_)) => one(verb.to_ascii_lowercase(), thing, precision, None)
            .to_uppercase()
            .replace("INF", "Inf")
            .replace("NAN", "NaN"),
        (verb, Thing::Nil) => return format!("%!{verb}(<nil>)"),
        (verb, Thing::Text(text)) => {
            let text: String = text.chars().take(precision.unwrap_or(usize::MAX)).collect();
            return format!("%!{verb}(string={text})");
        }
        (verb, thing) => return format!("%!{verb}({}={})", thing.kind(), thing.shown()),
    };
    let is_number = matches!(thing, Thing::Number(_) | Thing::Integer(_));
    match sign.filter(|_| is_number && !shown.starts_with(['-', '+'])) {
        Some(sign) => format!("{sign}{shown}"),
        None => shown,
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
