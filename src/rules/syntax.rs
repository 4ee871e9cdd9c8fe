//! Reads expressions, and says where one stops making sense. Pure.
//!
//! The parser only tells that an expression is wrong. So its beginnings are tried, token by token: the first that
//! nothing can complete ends with the token that does not fit.

use std::ops::Range;

use promql_parser::parser::Expr;

use crate::model::promql;

/// All that the parser says of most faults.
const WRONG: &str = "invalid promql query";

/// What may complete a beginning before its brackets are closed.
const INSIDE: [&str; 13] =
    ["", " 1", " a", "(a)", "(a) a", "(a) (a)", " 5m", " =\"a\"", " \"a\"", " b=\"a\"", ", a", "()", " a[5m]"];

/// What may have to follow then.
const BEHIND: [&str; 3] = ["", " (a)", " a"];

/// What people write who come from other languages.
const MEANT: [(&str, &str); 8] = [
    ("=>", "write >="),
    ("=<", "write <="),
    ("=", "compare with =="),
    ("<>", "compare with !="),
    ("&&", "write and"),
    ("||", "write or"),
    ("!", "write unless, or compare with == 0"),
    ("for", "for is a key of the rule, beside expr"),
];

/// The expression that `text` says.
///
/// # Errors
/// What is wrong with it, and with which part.
pub fn parse(text: &str) -> Result<Expr, String> {
    promql::parse(text).map_err(|reason| {
        let hint = hint(text);
        if reason == WRONG { format!("{}{hint}", stray(text)) } else { format!("{reason}{hint}") }
    })
}

fn stray(text: &str) -> String {
    let mut open = Vec::new();
    for token in tokens(text) {
        let beginning = &text[..token.end];
        let written = &text[token.clone()];
        if !fits_brackets(written, &mut open) || !can_be_completed(beginning, &open) {
            let character = text[..token.start].chars().count() + 1;
            return format!("{written:?} does not fit at character {character}");
        }
    }
    "something is missing at its end".to_owned()
}

/// Notes a bracket that opens in `open`. False for one that closes no such bracket.
fn fits_brackets(token: &str, open: &mut Vec<char>) -> bool {
    match token {
        "(" => open.push(')'),
        "[" => open.push(']'),
        "{" => open.push('}'),
        ")" | "]" | "}" => return open.pop().is_some_and(|closer| token.starts_with(closer)),
        _ => {}
    }
    true
}

fn can_be_completed(beginning: &str, open: &[char]) -> bool {
    let closing: String = open.iter().rev().collect();
    INSIDE.iter().any(|inside| {
        BEHIND.iter().any(|behind| {
            // What is wrong beyond the grammar, such as a type, is said of the whole.
            promql::parse(&format!("{beginning}{inside}{closing}{behind}")).err().is_none_or(|reason| reason != WRONG)
        })
    })
}

/// Words, numbers, texts and signs.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { break };
        let start = text.len() - rest.len();
        let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.');
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' | '`' => text_length(rest, first),
            _ if is_of_word(first) && first != ':' => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
            _ => {
                let signs = ["==", "!=", ">=", "<=", "=~", "!~", "=>", "=<", "<>", "&&", "||"];
                signs.iter().find(|sign| rest.starts_with(**sign)).map_or(first.len_utf8(), |sign| sign.len())
            }
        };
        if first != '#' {
            tokens.push(start..start + length);
        }
        rest = &rest[length..];
    }
    tokens
}

/// How long a text in quotes is, with them.
fn text_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if quote != '`' => is_escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn hint(text: &str) -> String {
    if text.contains("holt_winters") {
        return "; since Prometheus 3 holt_winters is called double_exponential_smoothing".to_owned();
    }
    let mut depth = 0_i32;
    for token in tokens(text) {
        let written = &text[token];
        depth += i32::from(written == "{") - i32::from(written == "}");
        // Between braces one sign of equality is right.
        if let Some((_, meant)) = MEANT.iter().find(|(sign, _)| *sign == written && (*sign != "=" || depth == 0)) {
            return format!("; {meant}");
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named_with_its_place_and_what_may_be_meant() {
        for (text, expected) in [
            ("value_0 > > 3", "\">\" does not fit at character 11"),
            ("value_0 +", "something is missing at its end"),
            ("temperature c > 80", "\"c\" does not fit at character 13"),
            ("t > 80 for 5m", "\"for\" does not fit at character 8; for is a key of the rule, beside expr"),
            ("t => 3", "\"=>\" does not fit at character 3; write >="),
            ("t = 3", "\"=\" does not fit at character 3; compare with =="),
            ("t{device=press}", "unexpected identifier 'press' in label matching, expected string"),
            ("sum by device (t)", "\"device\" does not fit at character 8"),
            ("sum(t]", "unexpected right bracket ']'"),
            ("t &", "unexpected character: '&'"),
            ("a && b", "unexpected character: '&'; write and"),
            ("avg_over_time(t)", "expected type matrix in call to function 'avg_over_time', got vector"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn every_beginning_of_a_right_expression_can_be_completed() {
        for text in [
            "1",
            "-1",
            "a",
            "{__name__=~\"a|b\", c!='d', e!~`f`}",
            "a{b=\"c\"}[5m] offset 1h",
            "a offset -5m",
            "a @ 5",
            "a @ start()",
            "a[5m] @ end() offset 1m",
            "rate(a[5m:1m])",
            "max_over_time(rate(a[1m])[10m:])",
            "sum by (b, c) (a)",
            "sum(a) without (b)",
            "topk(3, a)",
            "quantile(0.5, a)",
            "count_values(\"v\", a)",
            "quantile_over_time(0.9, a[5m])",
            "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")",
            "time() - a > bool 5",
            "a + on (b, c) group_left (d) e",
            "a * ignoring (b) f",
            "a and on (b) c",
            "a or b unless c",
            "(a + b) / 2",
            "a == 1 and b != 2 or c >= 3",
            "predict_linear(a[15m], 900) > 100",
            "absent(a{b=\"c\"})",
            "-a ^ 2 % 3",
            "avg by (line) (avg_over_time(x[1h])) > 80 # a remark\n and up",
            "1e3 * a",
            "a > 0x1F",
            "Inf",
            "hour() > 6",
            "clamp(a, 0, 100) atan2 b",
            "a:b:c",
            "sort_by_label(a, \"b\")",
            "a{} > 1",
            "vector(1)",
            "a[1d2h]",
            "scalar(a)",
        ] {
            assert!(promql::parse(text).is_ok() || text == "a{} > 1" || text == "sort_by_label(a, \"b\")", "{text}");
            let mut open = Vec::new();
            for token in tokens(text) {
                assert!(fits_brackets(&text[token.clone()], &mut open));
                assert!(can_be_completed(&text[..token.end], &open), "{:?} of {text:?}", &text[..token.end]);
            }
        }
    }
}
