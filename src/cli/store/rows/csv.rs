//! Comma-separated values (RFC 4180): a header, lines that end with LF, quotes where they are needed.

use std::io::{self, BufWriter, Write};

use super::{Cell, Column, Rows};

pub(super) struct Csv(BufWriter<Box<dyn Write + Send>>);

impl Csv {
    pub fn begin(columns: &[Column], out: Box<dyn Write + Send>) -> io::Result<Self> {
        let mut this = Self(BufWriter::new(out));
        let names: Vec<Cell<'_>> = columns.iter().map(|column| Cell::text(&column.name)).collect();
        this.row(&names)?;
        Ok(this)
    }
}

impl Rows for Csv {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for (position, cell) in cells.iter().enumerate() {
            if position > 0 {
                self.0.write_all(b",")?;
            }
            match cell {
                Cell::Nothing => {}
                Cell::Time(time) => write!(self.0, "{time}")?,
                Cell::Text(text) => write_text(&mut self.0, text)?,
                Cell::Count(number) => write!(self.0, "{number}")?,
                Cell::Int(number) => write!(self.0, "{number}")?,
                Cell::Float(number) => write!(self.0, "{number}")?,
                Cell::Bool(bit) => write!(self.0, "{bit}")?,
            }
        }
        self.0.write_all(b"\n")
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    if text.contains([',', '"', '\n', '\r']) {
        write!(out, "\"{}\"", text.replace('"', "\"\""))
    } else {
        out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_has_them() {
        let mut out = Vec::new();
        for text in ["plain", "a,b", "say \"x\"", "two\nlines"] {
            write_text(&mut out, text).unwrap();
            out.push(b';');
        }
        assert_eq!(String::from_utf8(out).unwrap(), "plain;\"a,b\";\"say \"\"x\"\"\";\"two\nlines\";");
    }
}
