//! `lineside decode`: any payload, readable.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};

use super::table::Table;
use super::{Exit, Failure, reader_has_gone};
use crate::diagnostics::socket::show;
use crate::encoding::{self, Decoded, DecodedBatch, DecodedReading};
use crate::model::{Epoch, SeriesId, SeriesInfo, Value};

/// Largest payload that is read, in bytes: the most one MQTT packet can carry (MQTT 5.0, 2.1.4).
const PAYLOAD_MAX: u64 = 256 << 20;

/// Print what is in a payload: a batch of any encoding, an alarm, a part of the catalogue.
#[derive(Debug, Args)]
pub(super) struct Decode {
    /// File with one payload; standard input without it or with "-".
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Part of the catalogue (the payload of .../catalogue/<part>) that names the series of a columnar batch.
    #[arg(short, long, value_name = "FILE")]
    catalogue: Vec<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

type Names = HashMap<(Epoch, SeriesId), SeriesInfo>;

impl Decode {
    pub fn run(self) -> Result<Exit, Failure> {
        let decoded = decode(&self.file)?;
        let names = self.names()?;
        let mut out = anstream::stdout().lock();
        let written = match (self.json, &decoded) {
            (false, Decoded::Columnar(batch)) => write_batch(&mut out, batch, &names),
            (false, Decoded::Json(_) | Decoded::Alarm(_) | Decoded::Catalogue(_) | Decoded::Other(_)) => {
                write_json(&mut out, &as_json(&decoded, &names), true)
            }
            (true, _) => write_json(&mut out, &as_json(&decoded, &names), false),
        };
        match written {
            Err(error) if !reader_has_gone(&error) => Err(anyhow::Error::from(error).into()),
            Ok(()) | Err(_) => Ok(Exit::Done),
        }
    }

    fn names(&self) -> Result<Names, Failure> {
        let mut names = Names::new();
        for file in &self.catalogue {
            let Decoded::Catalogue(part) = decode(file)? else {
                return Err(Failure::Refused(format!("{}: not a part of a catalogue", file.display())));
            };
            let epoch = part.epoch;
            names.extend(part.series.into_iter().map(|entry| ((epoch, entry.id), entry.into_info())));
        }
        Ok(names)
    }
}

fn decode(file: &Path) -> Result<Decoded, Failure> {
    let payload =
        read_payload(file).map_err(|error| Failure::Refused(format!("{}: cannot be read: {error}", file.display())))?;
    encoding::decode_any(&payload).map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))
}

fn read_payload(file: &Path) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(PAYLOAD_MAX).read_to_end(&mut payload)?;
    } else {
        std::fs::File::open(file)?.take(PAYLOAD_MAX).read_to_end(&mut payload)?;
    }
    Ok(payload)
}

fn write_json(out: &mut impl Write, value: &Json, pretty: bool) -> io::Result<()> {
    match pretty {
        true => serde_json::to_writer_pretty(&mut *out, value)?,
        false => serde_json::to_writer(&mut *out, value)?,
    }
    writeln!(out)
}

fn as_json(decoded: &Decoded, names: &Names) -> Json {
    let plain = |value: serde_json::Result<Json>| value.unwrap_or(Json::Null);
    match decoded {
        Decoded::Columnar(batch) => batch_as_json(batch, names),
        Decoded::Json(batch) => plain(serde_json::to_value(batch)),
        Decoded::Alarm(alarm) => plain(serde_json::to_value(alarm)),
        Decoded::Catalogue(part) => plain(serde_json::to_value(part)),
        Decoded::Other(value) => value.clone(),
    }
}

fn batch_as_json(batch: &DecodedBatch, names: &Names) -> Json {
    let header = &batch.header;
    let reading = |reading: &DecodedReading| {
        let commit = batch.commit(reading.sequence);
        let mut object = json!({
            "sequence": reading.sequence,
            "index": reading.index,
            "series": reading.series,
            "time": reading.time,
            "value": raw_value(reading),
            "quality": reading.observed.quality().to_string(),
            "clock": commit.map(|commit| commit.clock),
            "boot": commit.map(|commit| commit.boot),
        });
        if let (Some(info), Some(object)) = (names.get(&(header.epoch, reading.series)), object.as_object_mut()) {
            let shown = show(info, reading.time, &reading.observed);
            object.insert("name".into(), info.to_string().into());
            object.insert("unit".into(), shown.unit.into());
            object.insert("value".into(), shown.value);
        }
        object
    };
    json!({
        "site": header.site.as_str(),
        "gateway": header.gateway.as_str(),
        "epoch": header.epoch,
        "lane": header.lane,
        "first": header.first,
        "last": header.last,
        "oldest_undelivered": header.oldest_undelivered,
        "order": header.order,
        "part": header.part,
        "readings": batch.readings.iter().map(reading).collect::<Vec<_>>(),
        "gaps": batch.gaps.iter().map(|(sequence, gap)| json!({ "sequence": sequence, "gap": gap })).collect::<Vec<_>>(),
    })
}

/// The value as it is kept: without the catalogue its scale is not known.
fn raw_value(reading: &DecodedReading) -> Json {
    match reading.observed.value() {
        None => Json::Null,
        Some(Value::Int(number)) => (*number).into(),
        Some(Value::Uint(number)) => (*number).into(),
        Some(Value::Bool(bit)) => (*bit).into(),
        Some(Value::Text(text)) => text.as_ref().into(),
        Some(value @ (Value::F32(_) | Value::F64(_))) => value.number().into(),
    }
}

fn write_batch(out: &mut impl Write, batch: &DecodedBatch, names: &Names) -> io::Result<()> {
    let header = &batch.header;
    writeln!(out, "gateway             {}/{}", header.site, header.gateway)?;
    writeln!(out, "epoch               {}", header.epoch)?;
    writeln!(out, "covers              {} {} to {}", header.lane, header.first, header.last)?;
    if let Some(part) = header.part {
        writeln!(out, "part                indexes {} to {}", part.first_index, part.end_index.saturating_sub(1))?;
    }
    writeln!(out, "oldest undelivered  {}", header.oldest_undelivered)?;
    let order = serde_json::to_value(header.order).ok();
    writeln!(out, "order               {}", order.as_ref().and_then(Json::as_str).unwrap_or_default())?;
    writeln!(out, "readings            {}", batch.readings.len())?;
    let unit = if names.is_empty() { "" } else { "unit" };
    let mut table = Table::new(["sequence", "index", "time", "series", "value", unit, "quality"]);
    for reading in &batch.readings {
        let info = names.get(&(header.epoch, reading.series));
        let shown = info.map(|info| show(info, reading.time, &reading.observed));
        let value = shown.as_ref().map_or_else(|| raw_value(reading), |shown| shown.value.clone());
        table.row([
            reading.sequence.to_string(),
            reading.index.to_string(),
            reading.time.to_string(),
            info.map_or_else(|| reading.series.to_string(), ToString::to_string),
            value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            shown.map(|shown| shown.unit).unwrap_or_default(),
            reading.observed.quality().to_string(),
        ]);
    }
    table.write(out, 0)?;
    for (sequence, gap) in &batch.gaps {
        writeln!(
            out,
            "gap record at {sequence}: {} {} to {} are gone, {} records from {} to {}: {:?}",
            gap.lane, gap.first, gap.last, gap.records, gap.first_time, gap.last_time, gap.reason
        )?;
    }
    Ok(())
}
