//! Rows of a table in a file: CSV, JSON lines or Parquet.

mod csv;
mod json_lines;
mod parquet;

use std::io::{self, Write};

use clap::ValueEnum;

use crate::model::Timestamp;

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// One JSON object a line.
    #[value(alias = "json-lines", alias = "ndjson")]
    Jsonl,
    /// Apache Parquet, compressed with zstd.
    Parquet,
}

impl Format {
    /// That of a file with this name.
    pub fn of_file(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// What writes rows of `columns` to `out`.
    pub fn begin(self, columns: Vec<Column>, out: Box<dyn Write + Send>) -> io::Result<Box<dyn Rows>> {
        Ok(match self {
            Self::Csv => Box::new(csv::Csv::begin(&columns, out)?),
            Self::Jsonl => Box::new(json_lines::JsonLines::begin(&columns, out)),
            Self::Parquet => Box::new(parquet::Parquet::begin(&columns, out)?),
        })
    }
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

impl Column {
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Time,
    Text,
    /// Whole numbers.
    Count,
    /// Other numbers.
    Number,
    /// Numbers, bits and texts in one column. Where a column can only have one type, numbers and bits stand in it as
    /// double precision, and texts in a second one named `<name>_text`.
    Value,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Nothing,
    Time(Timestamp),
    Text(std::borrow::Cow<'a, str>),
    Count(u64),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl<'a> Cell<'a> {
    /// Text; nothing when it is empty.
    pub fn text(text: &'a str) -> Self {
        if text.is_empty() { Self::Nothing } else { Self::Text(text.into()) }
    }
}

/// Takes row after row.
pub(super) trait Rows {
    /// One cell for each column.
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()>;
    /// Writes what is left.
    fn finish(self: Box<Self>) -> io::Result<()>;
}
