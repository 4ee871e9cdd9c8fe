//! What a person sees: how wide the screen is, where a line breaks, and what time it is where the person stands.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};

use crate::diagnostics::problems::{Problem, Severity};
use crate::model::Timestamp;

/// Width of output that goes to no terminal.
const WIDTH: usize = 80;

/// Narrower and wider than this no output is made.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;

/// Lines after the first of one that was broken stand so much further to the right.
const HANG: usize = 4;

/// Problems that are named at the beginning; all of them stand at the end.
const NAMED_FIRST: usize = 6;

/// Characters to a line: what `COLUMNS` says, else the terminal, else 80.
pub(super) fn width() -> usize {
    let named = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse::<usize>().ok());
    let terminal = || {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    };
    named.or_else(terminal).unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end())
}

/// Writes text, its lines broken between words where they are too long. A number stays with its unit.
pub(super) fn write_wrapped(out: &mut impl Write, text: &str) -> io::Result<()> {
    let width = width();
    text.lines().try_for_each(|line| wrapped(line, width).iter().try_for_each(|line| writeln!(out, "{line}")))
}

/// One line as several that are no longer than `width` characters; colours take no place.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    if visible(line) <= width {
        return vec![line.to_owned()];
    }
    let indent = line.len() - line.trim_start_matches(' ').len();
    let hang = " ".repeat((indent + HANG).min(width / 2));
    let (mut lines, mut current, mut is_empty) = (Vec::new(), " ".repeat(indent), true);
    for chunk in chunks(&line[indent..]) {
        let pause = usize::from(!is_empty);
        if !is_empty && visible(&current) + pause + visible(&chunk) > width {
            lines.push(std::mem::replace(&mut current, hang.clone()).trim_end().to_owned());
            is_empty = true;
        }
        if !is_empty {
            current.push(' ');
        }
        // Longer than a line by itself: a path, or what a device sent.
        for character in chunk.chars() {
            if visible(&current) >= width && !chunk.contains('\x1b') {
                lines.push(std::mem::replace(&mut current, hang.clone()));
            }
            current.push(character);
        }
        is_empty = false;
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// What must not be parted: words, and a number with its unit.
fn chunks(text: &str) -> Vec<String> {
    let is_number = |word: &str| word.trim_start_matches(['(', '-', '+']).starts_with(|c: char| c.is_ascii_digit());
    let mut chunks: Vec<String> = Vec::new();
    let mut is_after_number = false;
    for word in text.split(' ') {
        let begins_number = is_number(word);
        match chunks.last_mut() {
            Some(last) if is_after_number && !begins_number && !word.is_empty() => {
                last.push(' ');
                last.push_str(word);
            }
            Some(_) | None => chunks.push(word.to_owned()),
        }
        is_after_number = begins_number && !word.ends_with([',', ';', ':', '.', ')']);
    }
    chunks
}

/// Characters that are seen: escape sequences for colours are not.
fn visible(text: &str) -> usize {
    let (mut count, mut is_escape) = (0, false);
    for character in text.chars() {
        match (is_escape, character) {
            (false, '\x1b') => is_escape = true,
            (false, _) => count += 1,
            (true, 'm') => is_escape = false,
            (true, _) => {}
        }
    }
    count
}

/// Text of at most `width` characters; the end of a longer one is left out.
pub(super) fn cut(text: &str, width: usize) -> String {
    match text.chars().count() <= width {
        true => text.to_owned(),
        false => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The time zone of the reader; nothing where it is UTC, or the system has no zones.
pub(super) struct LocalTime(Option<TimeZone>);

impl LocalTime {
    /// The zone that `TZ` names, or that of the system.
    pub fn of_system() -> Self {
        Self(TimeZone::try_system().ok())
    }

    fn zoned(&self, time: Timestamp) -> Option<Zoned> {
        let time = jiff::Timestamp::from_millisecond(time.0).ok()?;
        let local = time.to_zoned(self.0.clone()?);
        (local.offset() != Offset::UTC).then_some(local)
    }

    /// `14:03:11`: the time of day where the reader is; nothing where that is UTC.
    pub fn clock(&self, time: Timestamp) -> Option<String> {
        self.zoned(time).map(|local| local.strftime("%H:%M:%S").to_string())
    }

    /// `2026-11-23T06:00:00Z`, and where the reader's time is another one ` (07:00:00 local)`.
    pub fn beside(&self, time: Timestamp) -> String {
        let Ok(utc) = jiff::Timestamp::from_millisecond(time.0) else { return time.to_string() };
        match self.zoned(time) {
            None => format!("{utc:.0}"),
            Some(local) => {
                let is_same_day = local.date() == utc.to_zoned(TimeZone::UTC).date();
                let shown = local.strftime(if is_same_day { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" });
                format!("{utc:.0} ({shown} local)")
            }
        }
    }
}

/// One line for each of the most urgent problems, and how many more there are.
pub(super) fn write_digest(out: &mut impl Write, problems: &[Problem]) -> io::Result<()> {
    let width = width();
    for problem in problems.iter().take(NAMED_FIRST) {
        let style = style(problem.severity);
        writeln!(out, "  {style}{}{style:#}", cut(&problem.text, width - 2))?;
    }
    match problems.len().checked_sub(NAMED_FIRST) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "  and {more} more, at the end"),
    }
}

/// Every problem as a sentence: since when, and what to do.
pub(super) fn write_problems(out: &mut impl Write, problems: &[Problem]) -> io::Result<()> {
    let (bold, local) = (Style::new().bold(), LocalTime::of_system());
    if problems.is_empty() {
        return writeln!(out, "{bold}problems{bold:#}  none");
    }
    writeln!(out, "{bold}problems{bold:#}  {}", problems.len())?;
    for problem in problems {
        let style = style(problem.severity);
        let remedy = problem.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let since = problem.since_beside().map(|since| format!("; since {}", local.beside(since))).unwrap_or_default();
        let text = format!("  {style}{}{style:#}: {}{since}{remedy}", problem.severity, problem.text);
        write_wrapped(out, &text)?;
    }
    Ok(())
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::Major => AnsiColor::Red.on_default(),
        Severity::Minor => AnsiColor::Yellow.on_default(),
        Severity::Notice => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_between_a_number_and_its_unit() {
        let line = "  backlog  12,345,678 readings in 1,234 commits, the oldest 3 d 4 h old, and 12.5 MiB of memory";
        for width in 40..100 {
            let lines = wrapped(line, width);
            assert!(lines.iter().all(|line| visible(line) <= width), "{width}: {lines:?}");
            for line in &lines {
                let last = line.split(' ').next_back().unwrap();
                let is_whole = lines.len() == 1 || !last.chars().all(|c| c.is_ascii_digit() || c == ',');
                assert!(is_whole, "{width}: {lines:?}");
            }
            let together: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
            assert_eq!(together, line.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_word_longer_than_the_screen_is_broken_and_colours_take_no_place() {
        let lines = wrapped(&"x".repeat(200), 80);
        assert!(lines.iter().all(|line| line.len() <= 80) && lines.len() == 3, "{lines:?}");

        let coloured = format!("\x1b[31m{}\x1b[0m", "y".repeat(78));
        assert_eq!(wrapped(&coloured, 80), [coloured]);
    }

    #[test]
    fn local_time_stands_beside_utc_where_it_is_another() {
        let zone = |offset| LocalTime(Some(TimeZone::fixed(jiff::tz::offset(offset))));
        let time = Timestamp(1_700_000_000_123);

        assert_eq!(zone(1).beside(time), "2023-11-14T22:13:20Z (23:13:20 local)");
        assert_eq!(zone(2).beside(time), "2023-11-14T22:13:20Z (2023-11-15 00:13:20 local)");
        assert_eq!((zone(0).beside(time), LocalTime(None).clock(time)), ("2023-11-14T22:13:20Z".into(), None));
        assert_eq!(zone(-3).clock(time).as_deref(), Some("19:13:20"));
    }
}
