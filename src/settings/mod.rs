//! Files that people write: TOML, walked key by key.
//!
//! Configuration and profiles are read through here, so both say what is wrong in the same words: file, line, key,
//! value and what is allowed. A fault is noted with its place and reading goes on, so that one run finds all. A key that
//! nobody asked for is refused: a typing error cannot pass for a setting.

mod canonical;
mod fault;
mod file;
mod item;
mod section;

pub use canonical::canonical;
pub use fault::FileFault;
pub use file::{Source, read_text};
pub use item::{Item, parse_duration, show_duration, show_size};
pub use section::Section;

/// Longest excerpt of a file in a message, in characters.
const EXCERPT: usize = 60;

/// The beginning of `written`, on one line and without what a terminal would take for a command.
fn excerpt(written: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = written.chars().take(EXCERPT).map(printable).collect();
    if written.chars().nth(EXCERPT).is_some() { shown + "..." } else { shown }
}

/// The word among `known` that was probably meant: at most two slips of the finger away from what was `written`.
pub fn nearest<'k>(known: impl IntoIterator<Item = &'k str>, written: &str) -> Option<&'k str> {
    const SLIPS: usize = 2;
    let near = known.into_iter().map(|known| (slips(known, written), known));
    // Two slips turn any short word into any other.
    let near = near.filter(|(slips, known)| *slips <= SLIPS && 2 * slips < known.chars().count());
    near.min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// Characters to change, add or leave out to make one word the other.
fn slips(known: &str, written: &str) -> usize {
    let written: Vec<char> = written.chars().collect();
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (i, a) in known.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in written.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[written.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let known = ["interval", "labels", "tags", "url"];
        assert_eq!(nearest(known, "intervall"), Some("interval"));
        assert_eq!(nearest(known, "lables"), Some("labels"));
        assert_eq!(nearest(known, "urll"), Some("url"));
        assert_eq!(nearest(known, "rtu"), None);
        assert_eq!(nearest(known, ""), None);
    }
}
