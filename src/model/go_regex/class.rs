//! A class of characters: `[a-z]`.

use super::escape::{character, range, set};
use super::{Reader, fault};

/// The classes of POSIX that both sides know.
const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Reads a class, from its bracket on, and writes it so that nothing in it means a set operation.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<String, String> {
    let whole = reader.rest;
    let unclosed = || fault("missing closing ]", whole);
    let is_negated = whole.starts_with("[^");
    let mut rest = &whole[1 + usize::from(is_negated)..];
    let mut items = String::new();
    let mut is_first = true;
    while is_first || !rest.starts_with(']') {
        if rest.is_empty() {
            return Err(unclosed());
        }
        is_first = false;
        if let Some((item, length)) = named(rest)? {
            items += &item;
            rest = &rest[length..];
            continue;
        }
        if rest.starts_with('\\')
            && let Some((item, length)) = set(rest)?
        {
            items += &item;
            rest = &rest[length..];
            continue;
        }
        let from_here = rest;
        let (from, length) = single(rest, whole)?;
        rest = &rest[length..];
        let mut to = from;
        if rest.starts_with('-') && rest.len() >= 2 && !rest[1..].starts_with(']') {
            let (end, length) = single(&rest[1..], whole)?;
            rest = &rest[1 + length..];
            to = end;
        }
        if to < from {
            let part = &from_here[..from_here.len() - rest.len()];
            return Err(fault("invalid character class range", part));
        }
        items += &range(from, to);
    }
    reader.rest = &rest[1..];
    // A class of surrogates only is in no text.
    Ok(match (items.is_empty(), is_negated) {
        (false, false) => format!("[{items}]"),
        (false, true) => format!("[^{items}]"),
        (true, false) => r"[^\x00-\x{10FFFF}]".to_owned(),
        (true, true) => r"[\x00-\x{10FFFF}]".to_owned(),
    })
}

/// `[:word:]`, and the length; nothing for what has not this form.
fn named(rest: &str) -> Result<Option<(String, usize)>, String> {
    let Some(inside) = rest.strip_prefix("[:") else { return Ok(None) };
    let Some(end) = inside.find(":]") else { return Ok(None) };
    let item = &rest[..end + 4];
    let name = &inside[..end];
    let is_known = NAMED.contains(&name.strip_prefix('^').unwrap_or(name));
    if is_known { Ok(Some((item.to_owned(), item.len()))) } else { Err(fault("invalid character class range", item)) }
}

fn single(rest: &str, whole: &str) -> Result<(u32, usize), String> {
    match rest.chars().next() {
        None => Err(fault("missing closing ]", whole)),
        Some('\\') => character(rest),
        Some(letter) => Ok((u32::from(letter), letter.len_utf8())),
    }
}
