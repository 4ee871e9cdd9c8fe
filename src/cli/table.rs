//! Aligned columns for people.

use std::io::{self, Write};

use anstyle::Style;

/// Text in a table is not cut to less than this.
const CELL_LEAST: usize = 8;

/// A table that aligns itself: text to the left, columns of numbers for the most part to the right.
#[derive(Debug, Default)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<(Style, Vec<String>)>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as the header has.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.styled_row(Style::new(), cells);
    }

    /// Adds a row that stands out on a terminal.
    pub fn styled_row<const N: usize>(&mut self, style: Style, cells: [String; N]) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push((style, cells.to_vec()));
    }

    /// Writes header and rows without more than `width` columns: the longest texts are cut, no number is.
    pub fn write_within(&mut self, out: &mut impl Write, width: usize) -> io::Result<()> {
        const CUT_LEAST: usize = 8;
        loop {
            let cells = |column: usize| self.rows.iter().map(move |(_, cells)| &cells[column]);
            let longest = |column: usize| {
                cells(column).chain([&self.header[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
            };
            let widths: Vec<usize> = (0..self.header.len()).map(longest).collect();
            let is_wider = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1) > width;
            // A column is as wide as its longest cell: cutting text helps where that is a text.
            let may_give_way = |column: &usize| {
                widths[*column] > CUT_LEAST
                    && cells(*column)
                        .filter(|cell| cell.chars().count() == widths[*column])
                        .all(|cell| !is_number(cell))
                    && self.header[*column].chars().count() < widths[*column]
            };
            let widest = (0..widths.len()).filter(may_give_way).max_by_key(|column| widths[*column]);
            let Some(column) = widest.filter(|_| is_wider) else { break };
            // One character after the other, so that the next widest gives way, too.
            let keep = widths[column] - 1;
            self.rows.iter_mut().for_each(|(_, cells)| cells[column] = cut(&cells[column], keep));
        }
        self.write(out, 0)
    }

    /// Writes header and rows, indented.
    pub fn write(&self, out: &mut impl Write, indent: usize) -> io::Result<()> {
        let mut layout = Layout::new(&self.header);
        self.rows.iter().for_each(|(_, cells)| layout.note(cells));
        writeln!(out, "{}", layout.line(&self.header, indent))?;
        self.rows.iter().try_for_each(|(style, cells)| writeln!(out, "{style}{}{style:#}", layout.line(cells, indent)))
    }

    /// Writes header and rows in lines of at most `width` characters: text is cut where it has to be, numbers are not.
    pub fn write_cut(&self, out: &mut impl Write, indent: usize, width: usize) -> io::Result<()> {
        let mut cells: Vec<Vec<String>> = self.rows.iter().map(|(_, cells)| cells.clone()).collect();
        let columns = self.header.len();
        let mut layout = Layout::new(&self.header);
        cells.iter().for_each(|row| layout.note(row));
        let is_numeric = |column: usize| layout.columns[column].numbers >= layout.columns[column].words;
        loop {
            let widest = |column: usize| {
                let own = self.header[column].chars().count();
                cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(own)
            };
            let taken = indent + (0..columns).map(widest).sum::<usize>() + 2 * columns.saturating_sub(1);
            let texts = (0..columns).filter(|column| !is_numeric(*column));
            let longest =
                texts.max_by_key(|column| widest(*column).saturating_sub(self.header[*column].chars().count()));
            let Some(column) = longest.filter(|_| taken > width) else { break };
            let least = self.header[column].chars().count().max(CELL_LEAST);
            let room = widest(column).saturating_sub(taken - width).max(least);
            if room >= widest(column) {
                break;
            }
            cells.iter_mut().for_each(|row| row[column] = super::screen::cut(&row[column], room));
        }
        let rows = self.rows.iter().zip(cells).map(|((style, _), cells)| (*style, cells)).collect();
        Self { header: self.header.clone(), rows }.write(out, indent)
    }
}

/// Widest column: a longer cell stands out of its column, and the others stay readable.
const WIDTH_MAX: usize = 200;

/// Width and alignment of columns, learned row by row: for tables that are too long to be kept.
#[derive(Debug)]
pub(super) struct Layout {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    width: usize,
    numbers: usize,
    words: usize,
}

impl Layout {
    /// A layout that fits the header.
    pub fn new(header: &[impl AsRef<str>]) -> Self {
        let column = |title: &str| Column { width: title.chars().count(), numbers: 0, words: 0 };
        Self { columns: header.iter().map(|title| column(title.as_ref())).collect() }
    }

    /// Takes a row into account.
    pub fn note(&mut self, cells: &[String]) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.width = column.width.max(cell.chars().count().min(WIDTH_MAX));
            match cell.as_str() {
                "" | "-" => {}
                text if is_number(text) => column.numbers += 1,
                _ => column.words += 1,
            }
        }
    }

    /// The row as a line, indented. A column with at least as many numbers as words stands to the right.
    pub fn line(&self, cells: &[impl AsRef<str>], indent: usize) -> String {
        let mut line = " ".repeat(indent);
        for (cell, Column { width, numbers, words }) in cells.iter().zip(&self.columns) {
            let cell = cell.as_ref();
            match numbers >= words {
                true => line.push_str(&format!("{cell:>width$}  ")),
                false => line.push_str(&format!("{cell:<width$}  ")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// At most so many characters of a text, the last of them an ellipsis where some are missing.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width && !is_number(text) {
        true => text.trim_end_matches('…').chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// A text in lines of at most `width` characters, broken between words where there are any.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A measured value for people: up to four decimals, and more only where the value is that small.
pub(super) fn measured(value: f64) -> String {
    let is_small = value != 0.0 && value.abs() < 0.001;
    let text = if is_small { format!("{value:.3e}") } else { format!("{value:.4}") };
    if is_small || !text.contains('.') { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// A number, as far as columns are concerned: it begins like one.
fn is_number(cell: &str) -> bool {
    cell.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
}

/// `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `3 d 4 h`, `5 min 12 s`, `1.2 s`, `15 ms`.
pub(super) fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_text_to_the_left() {
        let mut table = Table::new(["device", "polls"]);
        table.row(["press-1".into(), "7".into()]);
        table.row(["x".into(), "1,234".into()]);
        table.row(["y".into(), "-5.2".into()]);

        let mut out = Vec::new();
        table.write(&mut out, 2).unwrap();

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  device   polls\n  press-1      7\n  x        1,234\n  y         -5.2\n"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_loses_text_and_no_number() {
        let mut table = Table::new(["name", "value", "why"]);
        table.row(["a_point_with_a_very_long_name".into(), "123456.789".into(), "bad: exception 2 and so on".into()]);

        let mut out = Vec::new();
        table.write_within(&mut out, 40).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("123456.789") && text.contains('…'), "{text}");
        let mut numbers = Table::new(["a", "b"]);
        numbers.row(["text".into(), "1234567890123456789012345678901234567890 and more".into()]);
        numbers.write_within(&mut Vec::new(), 20).unwrap();
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    }

    #[test]
    fn figures_are_grouped_and_scaled() {
        assert_eq!((count(1_234_567), count(12)), ("1,234,567".into(), "12".into()));
        assert_eq!((bytes(1536), bytes(10)), ("1.5 KiB".into(), "10 B".into()));
        let spans = [0.015, 1.25, 312.0, 7200.0, 273_600.0].map(|seconds| span(Duration::from_secs_f64(seconds)));
        assert_eq!(spans, ["15 ms", "1.2 s", "5 min 12 s", "2 h 0 min", "3 d 4 h"]);
    }
}
