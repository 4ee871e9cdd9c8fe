//! From the text of a template to its pieces and words, as Go's `text/template` cuts them.

/// A word or sign of an action, and whether blanks stand before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub word: Word,
    pub is_apart: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    Text(String),
    Integer(i64),
    Number(f64),
    /// `.`, `.a.b`
    Fields(Vec<String>),
    /// `$name`, with its sign.
    Variable(String),
    Name(String),
    Sign(&'static str),
}

/// What stands between braces, and the text between.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

/// The text and the actions of a template, in order.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest, mut trims) = (Vec::new(), text, false);
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let before = if trims { before.trim_start_matches(is_blank) } else { before };
        let starts_trim = after.is_some_and(|after| after.strip_prefix('-').is_some_and(|it| it.starts_with(is_blank)));
        let before = if starts_trim { before.trim_end_matches(is_blank) } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let Some(after) = after else { return Ok(pieces) };
        let after = if starts_trim { after[1..].trim_start_matches(is_blank) } else { after };
        if after.starts_with("/*") {
            let end = after.find("*/").ok_or("unclosed comment")?;
            let behind = &after[end + 2..];
            let trimming =
                behind.trim_start_matches(is_blank).strip_prefix("-}}").filter(|_| behind.starts_with(is_blank));
            trims = trimming.is_some();
            rest = trimming.or(behind.strip_prefix("}}")).ok_or("comment ends before closing delimiter")?;
            continue;
        }
        let end = end_of_action(after).ok_or("unclosed action")?;
        let inside = &after[..end];
        rest = &after[end + 2..];
        let trimmed = inside.strip_suffix('-').filter(|inside| inside.ends_with(is_blank));
        trims = trimmed.is_some();
        pieces.push(Piece::Action(tokens(trimmed.unwrap_or(inside))?));
    }
}

/// Where the braces close, outside of quotes.
fn end_of_action(text: &str) -> Option<usize> {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(open) if letter == '\\' && open != '`' => is_escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if matches!(letter, '"' | '`' | '\'') => quote = Some(letter),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    loop {
        let behind = rest.trim_start_matches(is_blank);
        let is_apart = behind.len() < rest.len();
        rest = behind;
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let (word, length) = word(rest, first, text)?;
        tokens.push(Token { word, is_apart });
        rest = &rest[length..];
    }
}

fn word(rest: &str, first: char, text: &str) -> Result<(Word, usize), String> {
    const SIGNS: [&str; 6] = [":=", "(", ")", "|", ",", "="];
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Ok((Word::Sign(sign), sign.len()));
    }
    let behind = &rest[first.len_utf8()..];
    Ok(match first {
        '"' | '`' => {
            let (value, length) = quoted(rest, first)?;
            (Word::Text(value), length)
        }
        // A character is the number that stands for it.
        '\'' => {
            let (value, length) = quoted(rest, first)?;
            let mut letters = value.chars();
            match (letters.next(), letters.next()) {
                (Some(letter), None) => (Word::Integer(i64::from(u32::from(letter))), length),
                _ => return Err(format!("malformed character constant: {}", &rest[..length])),
            }
        }
        '.' if !behind.starts_with(|letter: char| letter.is_ascii_digit()) => {
            let (mut fields, mut length) = (Vec::new(), 0);
            while let Some(name) = rest[length..].strip_prefix('.').map(name).filter(|name| !name.is_empty()) {
                length += 1 + name.len();
                fields.push(name.to_owned());
            }
            (Word::Fields(fields), length.max(1))
        }
        '$' => {
            let name = name(behind);
            (Word::Variable(format!("${name}")), 1 + name.len())
        }
        '0'..='9' | '.' | '-' | '+' => number(rest)?,
        _ if is_of_name(first) => {
            let name = name(rest);
            (Word::Name(name.to_owned()), name.len())
        }
        other => return Err(format!("unexpected {other:?} in {{{{{text}}}}}")),
    })
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn name(text: &str) -> &str {
    &text[..text.find(|letter| !is_of_name(letter)).unwrap_or(text.len())]
}

/// A number as Go writes it: `7`, `1_000`, `0x1F`, `2.5e3`.
fn number(text: &str) -> Result<(Word, usize), String> {
    let mut before = ' ';
    let ends = |letter: char| {
        let is_sign = matches!(letter, '+' | '-') && matches!(before, ' ' | 'e' | 'E' | 'p' | 'P');
        before = letter;
        !(is_sign || is_of_name(letter) || letter == '.')
    };
    let length = text.find(ends).unwrap_or(text.len());
    let written = &text[..length];
    let wrong = || format!("bad number syntax: {written:?}");
    let plain = written.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let of_base = |prefix: &str, base| lower.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, base));
    let based = of_base("0x", 16).or_else(|| of_base("0b", 2)).or_else(|| of_base("0o", 8));
    if let Some(found) = based {
        return Ok((Word::Integer(sign * found.map_err(|_| wrong())?), length));
    }
    if !digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return Err(wrong());
    }
    if let Ok(found) = digits.parse::<i64>() {
        return Ok((Word::Integer(sign * found), length));
    }
    let found: f64 = digits.parse().map_err(|_| wrong())?;
    Ok((Word::Number(sign as f64 * found), length))
}

/// The text in quotes at the beginning, and its length with them (Go, `strconv.Unquote`).
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let unterminated = || format!("unterminated quoted string {}", crate::rules::file::quoted(text));
    let mut value = String::new();
    let mut at = 1;
    while let Some(letter) = text[at..].chars().next() {
        at += letter.len_utf8();
        match letter {
            _ if letter == quote => return Ok((value, at)),
            '\n' if quote != '`' => return Err(unterminated()),
            '\\' if quote != '`' => {
                let (letter, length) = escaped(&text[at..], quote)?;
                value.push(letter);
                at += length;
            }
            _ => value.push(letter),
        }
    }
    Err(unterminated())
}

/// The character that stands for what follows a backslash, and how long that is.
fn escaped(text: &str, quote: char) -> Result<(char, usize), String> {
    let wrong = || format!("invalid escape \\{} in a text", text.chars().next().unwrap_or(' '));
    let coded = |prefix: usize, digits: usize, base: u32| {
        let code = text.get(prefix..prefix + digits).and_then(|digits| u32::from_str_radix(digits, base).ok());
        code.and_then(char::from_u32).map(|letter| (letter, prefix + digits)).ok_or_else(wrong)
    };
    let plain = |letter: char| Ok((letter, 1));
    match text.chars().next() {
        Some('n') => plain('\n'),
        Some('t') => plain('\t'),
        Some('r') => plain('\r'),
        Some('a') => plain('\u{7}'),
        Some('b') => plain('\u{8}'),
        Some('f') => plain('\u{C}'),
        Some('v') => plain('\u{B}'),
        Some('\\') => plain('\\'),
        Some(letter) if letter == quote => plain(letter),
        Some('x') => coded(1, 2, 16),
        Some('u') => coded(1, 4, 16),
        Some('U') => coded(1, 8, 16),
        Some('0'..='7') => coded(0, 3, 8),
        _ => Err(wrong()),
    }
}
