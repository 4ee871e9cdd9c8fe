//! The parser of PromQL, tamed: bytes from outside must not make it panic.

use std::time::Duration;

use promql_parser::parser::{self, Expr};
use promql_parser::util::parse_duration;

/// Longer than this is no span of time that anybody waits for: a thousand years, in seconds.
const SPAN_MOST_S: f64 = 1000.0 * 365.0 * 86_400.0;

/// An expression.
///
/// # Errors
/// What is wrong with it, or that a span of time in it is longer than a thousand years.
pub fn parse(text: &str) -> Result<Expr, String> {
    match spans(text).into_iter().find(|span| is_too_long(span)) {
        Some(span) => Err(too_long(span)),
        None => parser::parse(text),
    }
}

/// A span of time as Prometheus writes it, such as `90s` or `1h30m`; a number alone is seconds.
///
/// # Errors
/// What is wrong with it, or that it is longer than a thousand years.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    if is_too_long(text) { Err(too_long(text)) } else { parse_duration(text) }
}

fn too_long(span: &str) -> String {
    format!("{span}: a span of time is at most a thousand years")
}

/// The parser takes a number alone for seconds, and panics where that is negative or more than a duration can hold.
fn is_too_long(span: &str) -> bool {
    match span.parse::<f64>() {
        Ok(seconds) => !(0.0..=SPAN_MOST_S).contains(&seconds),
        Err(_) => parse_duration(span).is_ok_and(|span| span.as_secs_f64() > SPAN_MOST_S),
    }
}

/// The words that stand where a span of time is expected: in brackets, and behind `offset`.
fn spans(text: &str) -> Vec<&str> {
    let (mut spans, mut brackets, mut after_offset) = (Vec::new(), 0_u32, false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' | '`' => quoted_length(rest, first),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            _ if first.is_ascii_alphanumeric() || matches!(first, '_' | '.') => word_length(rest),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        match first {
            '[' => brackets += 1,
            ']' => brackets = brackets.saturating_sub(1),
            _ if first.is_ascii_alphanumeric() || first == '.' => {
                if brackets > 0 || after_offset {
                    spans.push(token);
                }
                after_offset = token.eq_ignore_ascii_case("offset");
            }
            // A sign or a blank may stand between.
            _ => after_offset &= first.is_whitespace() || matches!(first, '-' | '+' | '#'),
        }
    }
    spans
}

/// How many bytes the text in quotes at the beginning takes, its quotes included.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if quote != '`' => is_escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// How many bytes the word or number at the beginning takes; a number may have a sign in its exponent.
fn word_length(text: &str) -> usize {
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let mut before = ' ';
    for (index, character) in text.char_indices() {
        let is_sign = is_number && matches!(character, '-' | '+') && matches!(before, 'e' | 'E');
        if !is_sign && !character.is_ascii_alphanumeric() && !matches!(character, '_' | '.') {
            return index;
        }
        before = character;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stand_in_brackets_and_behind_offset() {
        let text = "rate(x{a=\"[9]\", b='\\'[8]'}[5m:1e+3]) offset -7d + y{c=`[6]`} # [4]\n + z[ 3s ] offset\t2w * 12";

        assert_eq!(spans(text), ["5m", "1e+3", "7d", "3s", "2w"]);
    }

    #[test]
    fn a_span_of_ages_is_refused_and_does_not_panic() {
        for text in [
            "x[99999999999999999999999999]",
            "x[1e300]",
            "x[5m:1e300]",
            "x offset 1e300",
            "x offset -99999999999999999999999999",
            "x[4294967295y]",
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains("at most a thousand years"), "{text}: {refused}");
        }
        assert!(parse("avg_over_time(x[1h30m] offset -5m) > 99999999999999999999999999").is_ok());
        assert!(parse_span("-5").is_err() && parse_span("NaN").is_err() && parse_span("1001y").is_err());
        assert_eq!(parse_span("1h30m"), Ok(Duration::from_secs(5400)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z({\\[\"'` \\]})0-9.:e+@#é-]|offset |\\[9e99|inf|NaN){0,40}") {
            let _ = parse(&text);
        }
    }
}
