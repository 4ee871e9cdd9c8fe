//! Apache Parquet, compressed with zstd. The only file that names the crate for it.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::{Cell, Column, ColumnKind, Rows};

/// Rows held until they are written: some 10 MB of them.
const ROWS_PER_GROUP: usize = 64 << 10;

/// Good compression at a speed that the disk limits.
const LEVEL: i32 = 3;

pub(super) struct Parquet {
    file: SerializedFileWriter<Box<dyn Write + Send>>,
    fields: Vec<Field>,
    rows: usize,
}

/// One column of the file, and the rows of it that wait.
struct Field {
    /// Position of the cell it is made of.
    cell: usize,
    values: Values,
    /// For each row whether it has a value.
    present: Vec<i16>,
}

enum Values {
    Times(Vec<i64>),
    Counts(Vec<i64>),
    Doubles(Vec<f64>),
    Texts(Vec<ByteArray>),
}

impl Parquet {
    pub fn begin(columns: &[Column], out: Box<dyn Write + Send>) -> io::Result<Self> {
        let mut fields = Vec::new();
        let mut types = Vec::new();
        for (cell, column) in columns.iter().enumerate() {
            let mut add = |name: &str, values: Values| -> Result<(), ParquetError> {
                types.push(Arc::new(values.describe(name)?));
                fields.push(Field { cell, values, present: Vec::new() });
                Ok(())
            };
            match column.kind {
                ColumnKind::Time => add(&column.name, Values::Times(Vec::new())),
                ColumnKind::Count => add(&column.name, Values::Counts(Vec::new())),
                ColumnKind::Number => add(&column.name, Values::Doubles(Vec::new())),
                ColumnKind::Text => add(&column.name, Values::Texts(Vec::new())),
                ColumnKind::Value => add(&column.name, Values::Doubles(Vec::new()))
                    .and_then(|()| add(&format!("{}_text", column.name), Values::Texts(Vec::new()))),
            }
            .map_err(refused)?;
        }
        let schema = Type::group_type_builder("lineside").with_fields(types).build().map_err(refused)?;
        let level = ZstdLevel::try_new(LEVEL).map_err(refused)?;
        let program = concat!("lineside ", env!("CARGO_PKG_VERSION")).to_owned();
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(level)).set_created_by(program).build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(refused)?;
        Ok(Self { file, fields, rows: 0 })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        for field in &mut self.fields {
            let Some(mut column) = group.next_column()? else { break };
            field.write(column.untyped())?;
            column.close()?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Rows for Parquet {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for field in &mut self.fields {
            let is_present = cells.get(field.cell).is_some_and(|cell| field.values.take(cell));
            field.present.push(i16::from(is_present));
        }
        self.rows += 1;
        if self.rows >= ROWS_PER_GROUP { self.write_group().map_err(refused) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.rows > 0 {
            self.write_group().map_err(refused)?;
        }
        self.file.close().map(drop).map_err(refused)
    }
}

impl Field {
    fn write(&mut self, column: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = Some(self.present.as_slice());
        match (&mut self.values, column) {
            (Values::Times(values) | Values::Counts(values), ColumnWriter::Int64ColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
            }
            (Values::Doubles(values), ColumnWriter::DoubleColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
            }
            (Values::Texts(values), ColumnWriter::ByteArrayColumnWriter(column)) => {
                column.write_batch(values, present, None)?;
                values.clear();
            }
            (Values::Times(_) | Values::Counts(_) | Values::Doubles(_) | Values::Texts(_), _) => {
                return Err(ParquetError::General("column of another type".to_owned()));
            }
        }
        self.present.clear();
        Ok(())
    }
}

impl Values {
    fn describe(&self, name: &str) -> Result<Type, ParquetError> {
        let (physical, logical) = match self {
            Self::Times(_) => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
            Self::Counts(_) => (Physical::INT64, None),
            Self::Doubles(_) => (Physical::DOUBLE, None),
            Self::Texts(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
    }

    /// Takes the value of `cell`, if it has one for this column.
    fn take(&mut self, cell: &Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Times(values), Cell::Time(time)) => values.push(time.0),
            (Self::Counts(values), Cell::Count(number)) => values.push(i64::try_from(*number).unwrap_or(i64::MAX)),
            (Self::Counts(values), Cell::Int(number)) => values.push(*number),
            (Self::Doubles(values), Cell::Count(number)) => values.push(*number as f64),
            (Self::Doubles(values), Cell::Int(number)) => values.push(*number as f64),
            (Self::Doubles(values), Cell::Float(number)) => values.push(*number),
            (Self::Doubles(values), Cell::Bool(bit)) => values.push(f64::from(u8::from(*bit))),
            (Self::Texts(values), Cell::Text(text)) => values.push(text.as_ref().into()),
            (Self::Times(_) | Self::Counts(_) | Self::Doubles(_) | Self::Texts(_), _) => return false,
        }
        true
    }
}

fn refused(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => io::Error::other(source),
        other => io::Error::other(other),
    }
}
