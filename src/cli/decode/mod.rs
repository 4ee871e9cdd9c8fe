//! `lineside decode`: any payload, readable.

mod show;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value as Json, json};

use super::{Exit, Failure, write_json, written};
use crate::diagnostics::socket::show as shown;
use crate::encoding::health::{HealthMessage, Whole};
use crate::encoding::{self, BatchHeader, Decoded, DecodedBatch, DecodedReading, DecodedThinned};
use crate::model::{
    Aggregate, ClockOffset, ClockOffsets, Epoch, Gap, Scale, Sequence, SeriesId, SeriesInfo, Summary, Value,
};

/// Largest payload that is read, in bytes: twice the largest `max_size` of a batch.
const PAYLOAD_MAX: u64 = 16 << 20;

/// Print what is in a payload: a batch of any encoding, an alarm, a part of the catalogue, a health message.
///
/// For example: mosquitto_sub -t 'lineside/v1/lyon/gw-01/batch' -C 1 -N | lineside decode
#[derive(Debug, Args)]
pub(super) struct Decode {
    /// File with one payload; standard input without it or with "-".
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Part of the catalogue (the payload of .../catalogue/<part>) that names the series of a columnar batch. Can be
    /// given more than once.
    #[arg(short, long, value_name = "FILE")]
    catalogue: Vec<PathBuf>,
    /// Columnar batch with the record that says how wrong a clock was, where that is not in the payload itself: times of
    /// that boot are shown corrected. Can be given more than once.
    #[arg(long, value_name = "FILE")]
    clock: Vec<PathBuf>,
    /// Whole health message that a health message of changes builds on: the payload retained on .../health.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// What a payload does not say itself.
struct Known {
    names: Names,
    offsets: ClockOffsets,
}

type Names = HashMap<(Epoch, SeriesId), SeriesInfo>;

impl Decode {
    pub fn run(self) -> Result<Exit, Failure> {
        let decoded = self.on_its_base(decode(&self.file)?)?;
        let known = Known { names: self.names()?, offsets: self.offsets(&decoded)? };
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &AsJson { decoded: &decoded, known: &known }),
            false => match &decoded {
                Decoded::Columnar(batch) => show::columnar(&mut out, batch, &known),
                Decoded::Json(batch) => show::json(&mut out, batch),
                Decoded::Alarm(alarm) => show::alarm(&mut out, alarm),
                Decoded::Catalogue(part) => show::catalogue(&mut out, part),
                Decoded::Health(message) => show::health(&mut out, message),
                Decoded::Other(value) => write_json(&mut out, value),
            },
        })?;
        Ok(Exit::Done)
    }

    /// With the whole state that is given, changes become a whole state; everything else stays as it is.
    fn on_its_base(&self, decoded: Decoded) -> Result<Decoded, Failure> {
        let Some(file) = &self.base else { return Ok(decoded) };
        let refused = |reason: String| Failure::Refused(format!("{}: {reason}", file.display()));
        let Decoded::Health(base) = decode(file)? else { return Err(refused("not a health message".to_owned())) };
        let HealthMessage::Whole(base) = *base else { return Err(refused("not a whole health message".to_owned())) };
        match decoded {
            Decoded::Health(message) => match *message {
                HealthMessage::Changes(changes) => {
                    let status = changes.onto(&base).map_err(|error| refused(error.to_string()))?;
                    Ok(Decoded::Health(Box::new(HealthMessage::Whole(Whole { status, ..base }))))
                }
                whole @ HealthMessage::Whole(_) => Ok(Decoded::Health(Box::new(whole))),
            },
            other => Ok(other),
        }
    }

    /// Clock offsets of the payload itself, and of the others given.
    fn offsets(&self, decoded: &Decoded) -> Result<ClockOffsets, Failure> {
        let mut offsets = ClockOffsets::default();
        let mut take = |decoded: &Decoded| match decoded {
            Decoded::Columnar(batch) => {
                batch.clock_offsets.iter().for_each(|(_, offset)| offsets.note(*offset));
                true
            }
            Decoded::Json(_) | Decoded::Alarm(_) | Decoded::Catalogue(_) | Decoded::Health(_) | Decoded::Other(_) => {
                false
            }
        };
        take(decoded);
        for file in &self.clock {
            if !take(&decode(file)?) {
                return Err(Failure::Refused(format!("{}: not a columnar batch", file.display())));
            }
        }
        Ok(offsets)
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
    let called = if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let payload = read_payload(file).map_err(|error| Failure::Refused(format!("{called}: cannot be read: {error}")))?;
    encoding::decode_any(&payload).map_err(|error| Failure::Refused(format!("{called}: {error}")))
}

fn read_payload(file: &Path) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(PAYLOAD_MAX + 1).read_to_end(&mut payload)?;
    } else {
        std::fs::File::open(file)?.take(PAYLOAD_MAX + 1).read_to_end(&mut payload)?;
    }
    if payload.len() as u64 > PAYLOAD_MAX {
        let reason = format!("larger than {} MiB, which no payload of lineside is", PAYLOAD_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(payload)
}

/// A payload as one JSON object. Readings become JSON one by one while they are written.
struct AsJson<'a> {
    decoded: &'a Decoded,
    known: &'a Known,
}

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.decoded {
            Decoded::Columnar(batch) => batch_as_json(batch, self.known, serializer),
            Decoded::Json(batch) => batch.serialize(serializer),
            Decoded::Alarm(alarm) => alarm.serialize(serializer),
            Decoded::Catalogue(part) => part.serialize(serializer),
            Decoded::Health(message) => match message.as_ref() {
                HealthMessage::Whole(whole) => whole.status.serialize(serializer),
                HealthMessage::Changes(changes) => changes.serialize(serializer),
            },
            Decoded::Other(value) => value.serialize(serializer),
        }
    }
}

/// A list that is serialized as it is made: nothing of it is kept.
struct Streamed<F>(F);

impl<I: Iterator<Item: Serialize>, F: Fn() -> I> Serialize for Streamed<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0())
    }
}

fn batch_as_json<S: Serializer>(batch: &DecodedBatch, known: &Known, serializer: S) -> Result<S::Ok, S::Error> {
    let header = &batch.header;
    let offset = |(sequence, offset): &(Sequence, ClockOffset)| json!({ "sequence": sequence, "offset": offset });
    let gap = |(sequence, gap): &(Sequence, Gap)| json!({ "sequence": sequence, "gap": gap });
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("site", header.site.as_str())?;
    object.serialize_entry("gateway", header.gateway.as_str())?;
    object.serialize_entry("epoch", &header.epoch)?;
    object.serialize_entry("lane", &header.lane)?;
    object.serialize_entry("first", &header.first)?;
    object.serialize_entry("last", &header.last)?;
    object.serialize_entry("oldest_undelivered", &header.oldest_undelivered)?;
    object.serialize_entry("order", &header.order)?;
    object.serialize_entry("part", &header.part)?;
    let readings = || batch.readings.iter().map(|reading| reading_as_json(reading, batch, known));
    object.serialize_entry("readings", &Streamed(readings))?;
    object.serialize_entry("clock_offsets", &Streamed(|| batch.clock_offsets.iter().map(offset)))?;
    object.serialize_entry(
        "thinned",
        &Streamed(|| batch.thinned.iter().map(|it| ThinnedAsJson { thinned: it, header, known })),
    )?;
    object.serialize_entry("gaps", &Streamed(|| batch.gaps.iter().map(gap)))?;
    object.end()
}

fn reading_as_json(reading: &DecodedReading, batch: &DecodedBatch, known: &Known) -> Json {
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
    let correction = commit.and_then(|commit| known.offsets.correction_ms(commit, reading.time));
    if let (Some(correction), Some(object)) = (correction, object.as_object_mut()) {
        object.insert("corrected_time".into(), reading.time.0.saturating_add(correction).into());
    }
    let info = known.names.get(&(batch.header.epoch, reading.series));
    if let (Some(info), Some(object)) = (info, object.as_object_mut()) {
        let shown = shown(info, reading.time, &reading.observed);
        object.insert("name".into(), info.to_string().into());
        object.insert("unit".into(), shown.unit.into());
        object.insert("value".into(), shown.value);
    }
    object
}

/// A record of aggregates; they too become JSON one by one.
struct ThinnedAsJson<'a> {
    thinned: &'a DecodedThinned,
    header: &'a BatchHeader,
    known: &'a Known,
}

impl ThinnedAsJson<'_> {
    fn aggregate(&self, index: u32, aggregate: &Aggregate) -> Json {
        let info = self.known.names.get(&(self.header.epoch, aggregate.series));
        let (min, max, mean, last) = numbers(aggregate, info);
        json!({
            "sequence": self.thinned.sequence,
            "index": index,
            "series": aggregate.series,
            "name": info.map(ToString::to_string),
            "start": aggregate.start,
            "count": aggregate.count,
            "bad": aggregate.bad,
            "min": min,
            "max": max,
            "mean": mean,
            "last": last,
            "last_time": aggregate.last_time,
        })
    }
}

impl Serialize for ThinnedAsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let aggregates = || self.thinned.aggregates.iter().map(|(index, content)| self.aggregate(*index, content));
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("sequence", &self.thinned.sequence)?;
        object.serialize_entry("window_s", &self.thinned.window.seconds())?;
        object.serialize_entry("replaces", &self.thinned.replaces)?;
        object.serialize_entry("aggregates", &Streamed(aggregates))?;
        object.end()
    }
}

/// Minimum, maximum, mean and newest value; with the catalogue in engineering units.
fn numbers(aggregate: &Aggregate, info: Option<&SeriesInfo>) -> (Json, Json, Json, Json) {
    let scale = info.map_or(Scale::ONE, |info| info.scale);
    let number = |number: f64| Json::from(scale.apply(number));
    match &aggregate.summary {
        Summary::Nothing => (Json::Null, Json::Null, Json::Null, Json::Null),
        Summary::Text(text) => (Json::Null, Json::Null, Json::Null, text.as_ref().into()),
        Summary::Numbers { min, max, mean, last } if scale.apply(*min) > scale.apply(*max) => {
            (number(*max), number(*min), number(*mean), number(*last))
        }
        Summary::Numbers { min, max, mean, last } => (number(*min), number(*max), number(*mean), number(*last)),
    }
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
