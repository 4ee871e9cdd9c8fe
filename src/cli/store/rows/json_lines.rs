//! One JSON object a line; cells that hold nothing are left away.

use std::io::{self, BufWriter, Write};

use super::{Cell, Column, Rows};

pub(super) struct JsonLines {
    out: BufWriter<Box<dyn Write + Send>>,
    /// `"name":` of each column.
    keys: Vec<String>,
}

impl JsonLines {
    pub fn begin(columns: &[Column], out: Box<dyn Write + Send>) -> Self {
        let key = |column: &Column| format!("{}:", serde_json::Value::from(column.name.as_str()));
        Self { out: BufWriter::new(out), keys: columns.iter().map(key).collect() }
    }
}

impl Rows for JsonLines {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let mut separator = "{";
        for (key, cell) in self.keys.iter().zip(cells) {
            if matches!(cell, Cell::Nothing) {
                continue;
            }
            write!(self.out, "{separator}{key}")?;
            separator = ",";
            match cell {
                Cell::Nothing => {}
                Cell::Time(time) => write!(self.out, "\"{time}\"")?,
                Cell::Text(text) => serde_json::to_writer(&mut self.out, text)?,
                Cell::Count(number) => write!(self.out, "{number}")?,
                Cell::Int(number) => write!(self.out, "{number}")?,
                // What is no finite number is null, as everywhere in JSON.
                Cell::Float(number) => serde_json::to_writer(&mut self.out, number)?,
                Cell::Bool(bit) => write!(self.out, "{bit}")?,
            }
        }
        self.out.write_all(if separator == "{" { b"{}\n" } else { b"}\n" })
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}
