//! The parser of PromQL, tamed: bytes from outside must not make it panic.

use std::time::Duration;

use promql_parser::parser::{self, Expr};
use promql_parser::util::parse_duration;

/// Longer than this is no span of time that anybody waits for: a thousand years, in seconds.
const SPAN_MOST_S: f64 = 1000.0 * 365.0 * 86_400.0;

/// How deep an expression may go: every walk over it takes stack for each level, the parser's own too.
const DEPTH_MOST: usize = 100;

/// Operators that are words.
const WORDS: [&str; 4] = ["and", "or", "unless", "atan2"];

/// An expression.
///
/// # Errors
/// What is wrong with it, that it goes too deep, or that a span of time in it is longer than a thousand years.
pub fn parse(text: &str) -> Result<Expr, String> {
    if depth(text) > DEPTH_MOST {
        return Err(format!(
            "nested too deeply: brackets in brackets and operators in a chain may be at most {DEPTH_MOST} together; \
             recording rules take parts of it"
        ));
    }
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

/// Words, numbers, texts, comments, and everything else character by character.
fn tokens(text: &str) -> impl Iterator<Item = (char, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = match first {
            '"' | '\'' | '`' => quoted_length(rest, first),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            _ if first.is_ascii_alphanumeric() || matches!(first, '_' | '.') => word_length(rest),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        Some((first, token))
    })
}

/// How deep the tree of the expression is at most: a chain of operators leans to one side.
fn depth(text: &str) -> usize {
    // Of each bracket that is open, how many operators it holds so far.
    let (mut open, mut innermost, mut deepest, mut in_braces) = (Vec::new(), 0_usize, 0, false);
    for (first, token) in tokens(text) {
        let operators = &mut innermost;
        match first {
            '(' | '[' => open.push(std::mem::replace(operators, 1)),
            ')' | ']' => *operators = open.pop().unwrap_or(0),
            '{' | '}' => in_braces = first == '{',
            ',' if !in_braces => *operators = 1,
            '+' | '-' | '*' | '/' | '%' | '^' | '=' | '!' | '<' | '>' if !in_braces => *operators += 1,
            _ if WORDS.iter().any(|word| word.eq_ignore_ascii_case(token)) => *operators += 1,
            _ => {}
        }
        deepest = deepest.max(open.iter().sum::<usize>() + innermost);
        if deepest > DEPTH_MOST {
            break;
        }
    }
    deepest
}

/// The words that stand where a span of time is expected: in brackets, and behind `offset`.
fn spans(text: &str) -> Vec<&str> {
    let (mut spans, mut brackets, mut after_offset) = (Vec::new(), 0_u32, false);
    for (first, token) in tokens(text) {
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

    #[test]
    fn what_would_take_too_much_stack_is_refused_before_it_is_read() {
        let nested = |count: usize| format!("{}x{}", "abs(".repeat(count), ")".repeat(count));
        let parentheses = |count: usize| format!("{}x{}", "(".repeat(count), ")".repeat(count));
        let chain = |count: usize| format!("1{}", " + 1".repeat(count));
        let minus = |count: usize| format!("{}x", "-".repeat(count));
        let subqueries = |count: usize| format!("{}x{}", "max_over_time(".repeat(count), "[1m:1s])".repeat(count));
        for text in [nested(100_000), parentheses(5000), chain(50_000), minus(5000), subqueries(5000), "(".repeat(9999)]
        {
            assert!(parse(&text).unwrap_err().contains("nested too deeply"));
        }
        for text in [nested(90), parentheses(90), chain(90), minus(90), subqueries(40)] {
            parse(&text).unwrap();
        }
        let wide = format!("max({})", vec!["x{a=\"1\",b!=\"2\"} > 1"; 500].join(", "));
        assert!(!parse(&wide).is_err_and(|reason| reason.contains("nested")), "arguments stand side by side");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z({\\[\"'` \\]})0-9.:e+@#é-]|offset |\\[9e99|inf|NaN){0,40}") {
            let _ = parse(&text);
        }
    }
}
