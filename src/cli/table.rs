//! Aligned columns for people.

use std::io::{self, Write};

/// A table that aligns itself: text to the left, numbers to the right.
#[derive(Debug, Default)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as the header has.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells.to_vec());
    }

    /// Writes header and rows, indented.
    pub fn write(&self, out: &mut impl Write, indent: usize) -> io::Result<()> {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let right: Vec<bool> = (0..self.header.len()).map(|column| self.is_numeric(column)).collect();
        for cells in lines() {
            let mut line = " ".repeat(indent);
            for (column, cell) in cells.iter().enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let width = widths[column];
                match right[column] {
                    true => line.push_str(&format!("{gap}{cell:>width$}")),
                    false => line.push_str(&format!("{gap}{cell:<width$}")),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn is_numeric(&self, column: usize) -> bool {
        let starts_with_digit =
            |cell: &String| cell.is_empty() || cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
        !self.rows.is_empty() && self.rows.iter().all(|row| starts_with_digit(&row[column]))
    }
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

/// `3d 4h`, `5m 12s`, `1.2s`, `15ms`.
pub(super) fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_text_to_the_left() {
        let mut table = Table::new(["device", "polls"]);
        table.row(["press-1".into(), "7".into()]);
        table.row(["x".into(), "1,234".into()]);

        let mut out = Vec::new();
        table.write(&mut out, 2).unwrap();

        assert_eq!(String::from_utf8(out).unwrap(), "  device   polls\n  press-1      7\n  x        1,234\n");
    }

    #[test]
    fn figures_are_grouped_and_scaled() {
        assert_eq!((count(1_234_567), count(12)), ("1,234,567".into(), "12".into()));
        assert_eq!((bytes(1536), bytes(10)), ("1.5 KiB".into(), "10 B".into()));
    }
}
