//! What a backslash means.

use super::{Reader, fault, shown};

/// What a set of characters such as `\d` stands for, inside the brackets of a class.
pub(super) const DIGITS: &str = "0-9";
const SPACES: &str = r"\t\n\x0C\r\x20";
const WORDS: &str = "0-9A-Za-z_";

/// A backslash outside of a class, with what belongs to it.
pub(super) fn outside(reader: &mut Reader<'_>) -> Result<(), String> {
    let rest = reader.rest;
    match rest[1..].chars().next() {
        Some('A') => whole(reader, 2, r"\A"),
        Some('z') => whole(reader, 2, r"\z"),
        Some('b') => whole(reader, 2, r"(?-u:\b)"),
        Some('B') => whole(reader, 2, r"(?-u:\B)"),
        Some('Q') => {
            let inside = rest[2..].split_once("\\E");
            let (text, length) = inside.map_or((&rest[2..], rest.len()), |(text, _)| (text, text.len() + 4));
            reader.step(length);
            text.chars().for_each(|letter| reader.letter(letter));
        }
        _ => match set(rest)? {
            Some((set, length)) => whole(reader, length, &format!("[{set}]")),
            None => {
                let (code, length) = character(rest)?;
                reader.step(length);
                match char::from_u32(code) {
                    Some(letter) => reader.letter(letter),
                    // A surrogate is in no text.
                    None => reader.part(r"[^\x00-\x{10FFFF}]"),
                }
            }
        },
    }
    Ok(())
}

fn whole(reader: &mut Reader<'_>, length: usize, written: &str) {
    reader.step(length);
    reader.part(written);
}

/// `\d`, `\pL` and the like as an item of a class, and the length; nothing for what is no set of characters.
pub(super) fn set(rest: &str) -> Result<Option<(String, usize)>, String> {
    let of = |set: &str| (set.to_owned(), 2);
    let but = |set: &str| (format!("[^{set}]"), 2);
    Ok(Some(match rest[1..].chars().next() {
        Some('d') => of(DIGITS),
        Some('D') => but(DIGITS),
        Some('s') => of(SPACES),
        Some('S') => but(SPACES),
        Some('w') => of(WORDS),
        Some('W') => but(WORDS),
        Some('p' | 'P') => unicode(rest)?,
        _ => return Ok(None),
    }))
}

/// `\pL`, `\p{Greek}`, `\P{^Greek}`.
fn unicode(rest: &str) -> Result<(String, usize), String> {
    let wrong = |part: &str| fault("invalid character class range", part);
    let after = &rest[2..];
    let first = after.chars().next().ok_or_else(|| wrong(rest))?;
    let (name, length) = if first == '{' {
        let end = after.find('}').ok_or_else(|| wrong(rest))?;
        (&after[1..end], 2 + end + 1)
    } else {
        (&after[..first.len_utf8()], 2 + first.len_utf8())
    };
    let (is_negated, name) = match name.strip_prefix('^') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let sign = if is_negated == rest.starts_with("\\p") { 'P' } else { 'p' };
    let item = format!("\\{sign}{{{name}}}");
    let is_name =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || " _-".contains(letter));
    if !is_name || regex::Regex::new(&item).is_err() {
        return Err(wrong(&rest[..length]));
    }
    Ok((item, length))
}

/// The character that an escape stands for, and the length.
pub(super) fn character(rest: &str) -> Result<(u32, usize), String> {
    let Some(letter) = rest[1..].chars().next() else {
        return Err(fault("trailing backslash at end of expression", ""));
    };
    let wrong = |length: usize| fault("invalid escape sequence", rest.get(..length).unwrap_or(rest));
    let after = rest.get(2..).unwrap_or_default();
    let is_octal = |byte: &u8| (b'0'..=b'7').contains(byte);
    Ok(match letter {
        // A digit alone would name a group, which RE2 does not know.
        '1'..='7' if !after.as_bytes().first().is_some_and(is_octal) => return Err(wrong(2)),
        '0'..='7' => {
            let more = after.bytes().take(2).take_while(is_octal).count();
            (u32::from_str_radix(&rest[1..2 + more], 8).unwrap_or_default(), 2 + more)
        }
        'x' => hexadecimal(rest, after)?,
        'a' => (7, 2),
        'f' => (12, 2),
        'n' => (10, 2),
        'r' => (13, 2),
        't' => (9, 2),
        'v' => (11, 2),
        _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => (u32::from(letter), 2),
        _ => return Err(wrong(1 + letter.len_utf8())),
    })
}

/// `\x7F` or `\x{10FFFF}`.
fn hexadecimal(rest: &str, after: &str) -> Result<(u32, usize), String> {
    let wrong = |length: usize| fault("invalid escape sequence", rest.get(..length).unwrap_or(rest));
    let Some(inside) = after.strip_prefix('{') else {
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let shown = after.chars().take(2).map(char::len_utf8).sum::<usize>();
        return code.map(|code| (code, 4)).ok_or_else(|| wrong(2 + shown));
    };
    let mut code = 0;
    for (at, letter) in inside.char_indices() {
        let so_far = 3 + at + letter.len_utf8();
        match letter.to_digit(16) {
            Some(digit) => code = code * 16 + digit,
            None if letter == '}' && at > 0 => return Ok((code, so_far)),
            None => return Err(wrong(so_far)),
        }
        if code > u32::from(char::MAX) {
            return Err(wrong(so_far));
        }
    }
    Err(wrong(rest.len()))
}

/// From one character to another as an item of a class; surrogates are in no text.
pub(super) fn range(from: u32, to: u32) -> String {
    let is_surrogate = |code: u32| (0xD800..=0xDFFF).contains(&code);
    let from = if is_surrogate(from) { 0xE000 } else { from };
    let to = if is_surrogate(to) { 0xD7FF } else { to };
    if from > to { String::new() } else { format!("{}-{}", shown(from), shown(to)) }
}
