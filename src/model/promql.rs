//! The parser of PromQL, tamed: bytes from outside must not make it panic.

use std::time::Duration;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::parse_duration;

use super::go_regex::GoRegex;

/// Longer than this is no span of time that anybody waits for: a thousand years, in seconds.
const SPAN_MOST_S: f64 = 1000.0 * 365.0 * 86_400.0;

/// Levels of an expression: what walks one needs stack for each, and threads have little of it.
const DEPTH_MOST: usize = 64;

/// Brackets and signs one in the other that the text may have at most: the parser itself walks what it has built. Some
/// of them, as those of a chain of comparisons, lie beside each other in the expression, so it is more than
/// [`DEPTH_MOST`].
const TEXT_DEPTH_MOST: usize = 4 * DEPTH_MOST;

/// An expression.
///
/// # Errors
/// What is wrong with it, or that a span of time in it is longer than a thousand years, or that it is nested too deeply.
pub fn parse(text: &str) -> Result<Expr, String> {
    if let Some(span) = spans(text).into_iter().find(|span| is_too_long(span)) {
        return Err(too_long(span));
    }
    if text_depth(text) > TEXT_DEPTH_MOST {
        return Err(too_deep());
    }
    let expression = match patterns_marked(text) {
        None => parser::parse(text)?,
        Some(marked) => match parser::parse(&marked) {
            Ok(mut expression) => {
                compile_patterns(&mut expression)?;
                expression
            }
            // What is wrong is said of the text as it was written.
            Err(reason) => return Err(parser::parse(text).err().unwrap_or(reason)),
        },
    };
    if depth(&expression) > DEPTH_MOST { Err(too_deep()) } else { Ok(expression) }
}

/// A span of time as Prometheus writes it, such as `90s` or `1h30m`.
///
/// # Errors
/// What is wrong with it, or that it is longer than a thousand years.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    if is_too_long(text) { Err(too_long(text)) } else { parse_duration(text) }
}

/// Before a text that is a pattern: no character, so nobody writes it (Unicode 16.0, 23.7).
const PATTERN: char = '\u{FDD0}';

/// `text` with `=~` and `!~` written as `=` and `!=`, and what stands behind them marked: the parser would read the
/// patterns as another language has them. `None` where there is nothing to mark.
fn patterns_marked(text: &str) -> Option<String> {
    if text.contains(PATTERN) || !text.contains('~') {
        return None;
    }
    let (mut out, mut before, mut is_pattern, mut marks) = (String::with_capacity(text.len() + 8), "", false, 0);
    for token in tokens(text) {
        match token.chars().next() {
            Some('~') if matches!(before, "=" | "!") => {
                is_pattern = true;
                out += if before == "!" { "=" } else { "" };
            }
            Some('"' | '\'' | '`') if is_pattern => {
                let (quote, inside) = token.split_at(1);
                out += quote;
                out.push(PATTERN);
                out += inside;
                marks += 1;
                is_pattern = false;
            }
            first => {
                is_pattern &= first.is_some_and(|first| first.is_whitespace() || first == '#');
                out += token;
            }
        }
        before = token;
    }
    (marks > 0).then_some(out)
}

/// Makes matchers by pattern again of what [`patterns_marked`] has marked.
fn compile_patterns(expression: &mut Expr) -> Result<(), String> {
    let mut result = Ok(());
    selectors_mut(expression, &mut |selector| {
        if result.is_ok() {
            result = compile_matchers(selector);
        }
    });
    result
}

/// Shows every selector of an expression to `change`.
pub fn selectors_mut(expression: &mut Expr, change: &mut impl FnMut(&mut VectorSelector)) {
    match expression {
        Expr::Aggregate(it) => {
            it.param.iter_mut().for_each(|param| selectors_mut(param, change));
            selectors_mut(&mut it.expr, change);
        }
        Expr::Unary(it) => selectors_mut(&mut it.expr, change),
        Expr::Binary(it) => {
            selectors_mut(&mut it.lhs, change);
            selectors_mut(&mut it.rhs, change);
        }
        Expr::Paren(it) => selectors_mut(&mut it.expr, change),
        Expr::Subquery(it) => selectors_mut(&mut it.expr, change),
        Expr::Call(it) => it.args.args.iter_mut().for_each(|argument| selectors_mut(argument, change)),
        Expr::VectorSelector(it) => change(it),
        Expr::MatrixSelector(it) => change(&mut it.vs),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

/// `text` with every `from` that stands outside of quotes replaced by `to`.
pub fn replaced(text: &str, from: char, to: &str) -> String {
    tokens(text)
        .map(|token| match token.starts_with(['"', '\'', '`']) {
            true => token.to_owned(),
            false => token.replace(from, to),
        })
        .collect()
}

fn compile_matchers(selector: &mut VectorSelector) -> Result<(), String> {
    let matchers = &mut selector.matchers;
    for matcher in matchers.matchers.iter_mut().chain(matchers.or_matchers.iter_mut().flatten()) {
        compile_matcher(matcher)?;
    }
    // The parser has seen other operators.
    if selector.name.is_none() && selector.matchers.is_empty_matchers() {
        return Err("vector selector must contain at least one non-empty matcher".to_owned());
    }
    Ok(())
}

fn compile_matcher(matcher: &mut Matcher) -> Result<(), String> {
    let Some(pattern) = matcher.value.strip_prefix(PATTERN).map(str::to_owned) else { return Ok(()) };
    let regex = || GoRegex::whole(&pattern).map(GoRegex::into_regex);
    matcher.op = match &matcher.op {
        MatchOp::Equal => MatchOp::Re(regex()?),
        MatchOp::NotEqual => MatchOp::NotRe(regex()?),
        as_it_is @ (MatchOp::Re(_) | MatchOp::NotRe(_)) => as_it_is.clone(),
    };
    matcher.value = pattern;
    Ok(())
}

fn too_deep() -> String {
    format!(
        "nested too deeply: at most {DEPTH_MOST} levels of brackets and operators are allowed; let recording rules \
         take parts of it, or select many series by one pattern as in device=~\"a|b\""
    )
}

/// Levels of an expression, which the parser may have built: it is not deeper than [`TEXT_DEPTH_MOST`].
fn depth(expression: &Expr) -> usize {
    let below = match expression {
        Expr::Aggregate(it) => depth(&it.expr).max(it.param.as_ref().map_or(0, |param| depth(param))),
        Expr::Unary(it) => depth(&it.expr),
        Expr::Binary(it) => depth(&it.lhs).max(depth(&it.rhs)),
        Expr::Paren(it) => depth(&it.expr),
        Expr::Subquery(it) => depth(&it.expr),
        Expr::Call(it) => it.args.args.iter().map(|argument| depth(argument)).max().unwrap_or(0),
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => 0,
    };
    below + 1
}

/// No expression that the parser makes of a text is deeper: each operator beside another, and each bracket in another,
/// counts as a level.
fn text_depth(text: &str) -> usize {
    // For each bracket that is open: its operators, and the deepest of the brackets in it.
    let (mut open, mut deepest) = (vec![(0, 0)], 0);
    let mut before = "";
    for token in tokens(text) {
        let level = open.len() - 1;
        match token {
            "(" | "[" | "{" => {
                // A subquery is around what stands before it.
                open[level].0 += usize::from(token == "[");
                open.push((0, 0));
            }
            ")" | "]" | "}" if level > 0 => {
                let (operators, inner): (usize, usize) = open.pop().unwrap_or_default();
                let around = &mut open[level - 1].1;
                *around = (*around).max(operators + inner + 1);
            }
            "=" if matches!(before, "=" | "!" | "<" | ">") => {}
            "+" | "-" | "*" | "/" | "%" | "^" | "=" | "!" | "<" | ">" => open[level].0 += 1,
            _ if ["and", "or", "unless", "atan2"].iter().any(|word| token.eq_ignore_ascii_case(word)) => {
                open[level].0 += 1;
            }
            _ => {}
        }
        deepest = open.len().max(deepest);
        before = token;
    }
    // What is not closed is no expression, but the parser goes through it.
    let whole = open.into_iter().rev().fold(0, |inner, (operators, deepest)| operators + deepest.max(inner) + 1);
    whole.max(deepest)
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
    for token in tokens(text) {
        let Some(first) = token.chars().next() else { continue };
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

/// Words, numbers, texts in quotes and remarks as a whole; everything else character by character.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
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
        Some(token)
    })
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

    /// Tests have stacks of 2 MiB, as the threads of the agent.
    #[test]
    fn what_is_nested_too_deeply_is_refused_before_anything_walks_it() {
        let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "x" + &close.repeat(depth);
        for times in [DEPTH_MOST, TEXT_DEPTH_MOST - 2, 800, 50_000] {
            for text in [
                nested("abs(", ")", times),
                nested("(", ")", times),
                nested("sum by (a) (", ")", times),
                nested("-", "", times),
                nested("", " + x", times),
                nested("", " or x", times),
                nested("x ^ ", "", times),
                nested("x unless (", ")", times),
                nested("max_over_time(", "[5m:1m])", times),
            ] {
                let refused = parse(&text).unwrap_err();
                assert!(refused.starts_with("nested too deeply"), "{}: {refused}", &text[..20]);
            }
            for text in [nested("(", "", times), nested("", ")", times), nested("", "[5m:]", times)] {
                assert!(parse(&text).is_err());
            }
        }
        for allowed in [
            nested("abs(", ")", DEPTH_MOST - 1),
            nested("-", "", DEPTH_MOST - 1),
            nested("", " + x", DEPTH_MOST - 1),
            nested("x == 1 or ", "", 50),
            format!("x{{a=~\"{}\"}}", "b|".repeat(1000) + "c"),
        ] {
            assert!(parse(&allowed).is_ok(), "{allowed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_expression_is_deeper_than_its_text(
            text in "(x|x|1|\\(|\\)|abs\\(x\\)| \\+ | == |-| or |\\[5m:1m\\]|max_over_time\\(|sum\\(){1,24}",
        ) {
            if let Ok(expression) = parser::parse(&text) {
                proptest::prop_assert!(depth(&expression) <= text_depth(&text), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "([a-z({\\[\"'` \\]})0-9.:e+@#é-]|offset |\\[9e99|inf|NaN){0,40}") {
            let _ = parse(&text);
        }
    }
}
