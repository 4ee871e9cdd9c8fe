//! The JSON batch: plain text that explains itself, for people and tools that take no catalogue.
//!
//! ```json
//! {"type": "batch", "format": 1, "site": "lyon", "gateway": "gw-01", "epoch": "5f0c...", "lane": "telemetry",
//!  "first_sequence": 17, "last_sequence": 76, "oldest_undelivered": 17, "order": "live",
//!  "commits": [{"first_sequence": 17, "last_sequence": 76, "boot": "a1b2...", "clock": "synchronised",
//!               "wall_minus_monotonic_ms": 1763877600000}],
//!  "series": [{"id": 3, "name": "voltage_v", "labels": {"device": "press-1"}, "unit": "V", "readings": [
//!    {"time": "2026-11-23T06:00:00.003Z", "value": 230.1, "sequence": 17, "index": 0},
//!    {"time": "2026-11-23T06:00:01.004Z", "value": null, "quality": "bad: timeout", "sequence": 18, "index": 0}]}],
//!  "gaps": []}
//! ```
//!
//! - One object for each reading, so that it is a table as it stands: `pandas.json_normalize(batch["series"],
//!   "readings", ["id", "name", "unit"])`. With `epoch` and `lane`, `sequence` and `index` are its identity.
//! - `value` is the engineering value. `quality` is there only when it is not good; a bad reading has the value null.
//!   Enumerations have `state` beside the number.
//! - Whole numbers beyond 2^53, which most readers of JSON would round, are written as text. A value that its scale
//!   makes infinite is null.
//! - A series that the catalogue does not list has no name, and its values are as the device sent them.
//! - `clock_offsets` is there only when a clock was set: `{"sequence": 80, "boot": "a1b2...", "monotonic_ms": 60000,
//!   "wall_minus_monotonic_ms": 1763877600000}` says that readings of that boot, taken up to `monotonic_ms` after it with
//!   an unsynchronised clock, were taken so much later: this `wall_minus_monotonic_ms` less that of their commit.
//! - `thinned` is there only when the gateway's store was full: commits with aggregates in the place of the readings of
//!   `replaces`, which do not come any more; whoever has those readings keeps them. The aggregates stand in
//!   `aggregates` of their series, each with its own identity; where a window was cut, two of one start add up.
//! - `part` is there only when one commit was cut: which of its indexes the batch holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::{Batch, Order, Part};
pub use super::text::JsonGap;
use super::text::{FORMAT, name, rfc3339};
use super::{DecodeError, EncodeError};
use crate::model::{
    Aggregate, BootId, ClockOffset, ClockState, Commit, CommitHeader, Epoch, Lane, Name, Observed, Quality, Records,
};
use crate::model::{Replaced, Scale, Sequence, SeriesId, SeriesInfo, Summary, Timestamp, Value};

/// What `type` says in a JSON batch.
pub(super) const TYPE: &str = "batch";

/// MQTT 5 content type of every JSON message.
pub const CONTENT_TYPE: &str = "application/json";

/// The largest whole number up to which a double holds all of them.
const WHOLE_MAX: u64 = 1 << 53;

/// A JSON batch, field by field as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonBatch {
    /// `batch`.
    #[serde(rename = "type")]
    pub message: String,
    /// 1.
    pub format: u32,
    /// Site of the gateway.
    #[serde(with = "name")]
    pub site: Name,
    /// The gateway.
    #[serde(with = "name")]
    pub gateway: Name,
    /// Life of the database that gave the sequences.
    pub epoch: Epoch,
    /// Stream that the sequences count in.
    pub lane: Lane,
    /// First sequence covered.
    pub first_sequence: Sequence,
    /// Last sequence covered.
    pub last_sequence: Sequence,
    /// Whatever is older, was not received and is named in no gap record, is lost.
    pub oldest_undelivered: Sequence,
    /// New records or records kept during an outage.
    pub order: Order,
    /// Set only when the one commit of the batch had to be cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Boot and clock of the times, for each run of commits that share them.
    pub commits: Vec<JsonCommits>,
    /// The readings, series by series.
    pub series: Vec<JsonSeries>,
    /// Commits of aggregates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thinned: Vec<JsonThinned>,
    /// The gap records; their index is 0.
    pub gaps: Vec<PlacedGap>,
    /// By how much times of a boot were wrong; their index is 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock_offsets: Vec<PlacedOffset>,
}

/// A commit of aggregates in the place of readings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonThinned {
    /// The commit.
    pub sequence: Sequence,
    /// How much time one aggregate stands for, in seconds.
    pub window_s: u32,
    /// The commits that do not come any more. Sure only when all parts of this commit have arrived.
    pub replaces: Vec<Replaced>,
}

/// Boot and clock of a run of commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonCommits {
    /// First commit of the run.
    pub first_sequence: Sequence,
    /// Last commit of the run.
    pub last_sequence: Sequence,
    /// Boot in which the readings were taken.
    pub boot: BootId,
    /// How far the wall clock could be trusted then.
    pub clock: ClockState,
    /// Wall clock minus monotonic clock at the commit, in milliseconds.
    pub wall_minus_monotonic_ms: i64,
}

/// A series and its readings in the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonSeries {
    /// Number in the catalogue.
    pub id: SeriesId,
    /// Name of the point; absent when the catalogue does not list the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `site`, `gateway`, `device` and the labels of the device.
    pub labels: BTreeMap<String, String>,
    /// Unit of the values; empty when they have none.
    pub unit: String,
    /// In order of sequence and index.
    pub readings: Vec<JsonReading>,
    /// In order of sequence and index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<JsonAggregate>,
}

/// One reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonReading {
    /// When it was taken.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// The engineering value; nothing when the quality is bad.
    pub value: Option<JsonValue>,
    /// What the number of an enumeration means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why the reading is not good, as [`Quality`] reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Commit it belongs to.
    pub sequence: Sequence,
    /// Position in the commit.
    pub index: u32,
}

/// What the readings of one window come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonAggregate {
    /// Beginning of the window.
    #[serde(with = "rfc3339")]
    pub start: Timestamp,
    /// Readings with a value.
    pub count: u32,
    /// Readings without one.
    pub bad: u32,
    /// Lowest engineering value; nothing for text, and where no reading had a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<JsonValue>,
    /// Highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<JsonValue>,
    /// Arithmetic mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<JsonValue>,
    /// Newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<JsonValue>,
    /// When that was taken; the beginning of the window when no reading had a value.
    #[serde(with = "rfc3339")]
    pub last_time: Timestamp,
    /// Commit it belongs to.
    pub sequence: Sequence,
    /// Position in the commit.
    pub index: u32,
}

/// A value as JSON has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JsonValue {
    /// One bit.
    Bool(bool),
    /// Whole number without scale, at most 2^53 either way.
    Int(i64),
    /// Any other number.
    Number(f64),
    /// Text, or a whole number beyond 2^53.
    Text(String),
}

/// A gap record and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedGap {
    /// Commit that holds it.
    pub sequence: Sequence,
    /// What is lost.
    #[serde(flatten)]
    pub gap: JsonGap,
}

/// A clock offset and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedOffset {
    /// Commit that holds it.
    pub sequence: Sequence,
    /// By how much times of a boot were wrong.
    #[serde(flatten)]
    pub offset: ClockOffset,
}

/// The payload of `batch`; `series` looks up the catalogue.
///
/// # Errors
/// A commit of alarms: those are sent one by one.
pub fn encode(batch: &Batch, series: &dyn Fn(SeriesId) -> Option<Arc<SeriesInfo>>) -> Result<Vec<u8>, EncodeError> {
    let header = &batch.header;
    let mut message = JsonBatch {
        message: TYPE.to_owned(),
        format: FORMAT,
        site: header.site.clone(),
        gateway: header.gateway.clone(),
        epoch: header.epoch,
        lane: header.lane,
        first_sequence: header.first,
        last_sequence: header.last,
        oldest_undelivered: header.oldest_undelivered,
        order: header.order,
        part: header.part,
        commits: runs(&batch.commits),
        series: Vec::new(),
        thinned: Vec::new(),
        gaps: Vec::new(),
        clock_offsets: Vec::new(),
    };
    let mut table = Described { series, known: BTreeMap::new() };
    for (position, commit) in batch.commits.iter().enumerate() {
        let sequence = commit.header.sequence;
        match &commit.records {
            Records::Readings(_) => {}
            Records::Gap(gap) => message.gaps.push(PlacedGap { sequence, gap: gap.into() }),
            Records::ClockOffset(offset) => message.clock_offsets.push(PlacedOffset { sequence, offset: *offset }),
            Records::Thinned(thinned) => {
                let (window_s, replaces) = (thinned.window.seconds(), thinned.replaces.clone());
                message.thinned.push(JsonThinned { sequence, window_s, replaces });
                for (index, aggregate) in batch.aggregates(position, thinned) {
                    table.add_aggregate(aggregate, sequence, index);
                }
            }
            Records::Alarms(_) => {
                return Err(EncodeError::WrongRecords { sequence, found: "alarms", message: "a JSON batch" });
            }
        }
    }
    for (commit, index, id, time, observed) in batch.readings() {
        table.add(id, time, observed, batch.commits[commit].header.sequence, index);
    }
    message.series = table.known.into_values().map(|(_, series)| series).collect();
    serde_json::to_vec(&message).map_err(|error| EncodeError::Compressor(error.to_string()))
}

/// The series met so far and what the catalogue says about them.
struct Described<'a> {
    series: &'a dyn Fn(SeriesId) -> Option<Arc<SeriesInfo>>,
    known: BTreeMap<SeriesId, (Option<Arc<SeriesInfo>>, JsonSeries)>,
}

impl Described<'_> {
    fn entry(&mut self, id: SeriesId) -> &mut (Option<Arc<SeriesInfo>>, JsonSeries) {
        self.known.entry(id).or_insert_with(|| {
            let info = (self.series)(id);
            let series = describe(id, info.as_deref());
            (info, series)
        })
    }

    fn add_aggregate(&mut self, aggregate: &Aggregate, sequence: Sequence, index: u32) {
        let Aggregate { series: id, start, count, bad, last_time, summary } = aggregate;
        let (info, series) = self.entry(*id);
        let scale = info.as_ref().map_or(Scale::ONE, |info| info.scale);
        let number = |number: f64| engineering_number(number, scale);
        let [min, max, mean, last] = match summary {
            Summary::Nothing => [None, None, None, None],
            Summary::Text(text) => [None, None, None, Some(JsonValue::Text(text.to_string()))],
            // A scale that turns the values over makes the lowest the highest.
            Summary::Numbers { min, max, mean, last } if scale.apply(*min) > scale.apply(*max) => {
                [*max, *min, *mean, *last].map(number)
            }
            Summary::Numbers { min, max, mean, last } => [*min, *max, *mean, *last].map(number),
        };
        let (start, count, bad, last_time) = (*start, *count, *bad, *last_time);
        series.aggregates.push(JsonAggregate { start, count, bad, min, max, mean, last, last_time, sequence, index });
    }

    fn add(&mut self, id: SeriesId, time: Timestamp, observed: &Observed, sequence: Sequence, index: u32) {
        let (info, series) = self.entry(id);
        let quality = observed.quality();
        series.readings.push(JsonReading {
            time,
            value: observed.value().and_then(|value| engineering_value(value, info.as_deref())),
            state: observed.value().and_then(|value| info.as_deref()?.state(value)).map(str::to_owned),
            quality: (quality != Quality::GOOD).then(|| quality.to_string()),
            sequence,
            index,
        });
    }
}

fn describe(id: SeriesId, info: Option<&SeriesInfo>) -> JsonSeries {
    JsonSeries {
        id,
        name: info.map(|info| info.name.clone()),
        labels: info.map(|info| info.labels.as_ref().clone()).unwrap_or_default(),
        unit: info.map(|info| info.unit.clone()).unwrap_or_default(),
        readings: Vec::new(),
        aggregates: Vec::new(),
    }
}

fn engineering_number(number: f64, scale: Scale) -> Option<JsonValue> {
    let number = scale.apply(number);
    let is_whole = scale == Scale::ONE && number.fract() == 0.0 && number.abs() <= WHOLE_MAX as f64;
    match number.is_finite() {
        true if is_whole => Some(JsonValue::Int(number as i64)),
        true => Some(JsonValue::Number(number)),
        false => None,
    }
}

fn engineering_value(value: &Value, info: Option<&SeriesInfo>) -> Option<JsonValue> {
    let scale = info.map_or(Scale::ONE, |info| info.scale);
    let whole = |number: i128| match i64::try_from(number) {
        Ok(small) if small.unsigned_abs() <= WHOLE_MAX => JsonValue::Int(small),
        Ok(_) | Err(_) => JsonValue::Text(number.to_string()),
    };
    match value {
        Value::Bool(bit) => Some(JsonValue::Bool(*bit)),
        Value::Text(text) => Some(JsonValue::Text(text.to_string())),
        Value::Int(number) if scale == Scale::ONE => Some(whole(i128::from(*number))),
        Value::Uint(number) if scale == Scale::ONE => Some(whole(i128::from(*number))),
        Value::Int(_) | Value::Uint(_) | Value::F32(_) | Value::F64(_) => {
            value.number().map(|number| scale.apply(number)).filter(|number| number.is_finite()).map(JsonValue::Number)
        }
    }
}

fn runs(commits: &[Commit]) -> Vec<JsonCommits> {
    let same = |a: &Commit, b: &Commit| {
        let clock = |header: &CommitHeader| (header.boot, header.clock, header.wall_minus_monotonic_ms);
        clock(&a.header) == clock(&b.header)
    };
    let run = |commits: &[Commit]| {
        let (first, last) = (commits.first()?.header, commits.last()?.header);
        Some(JsonCommits {
            first_sequence: first.sequence,
            last_sequence: last.sequence,
            boot: first.boot,
            clock: first.clock,
            wall_minus_monotonic_ms: first.wall_minus_monotonic_ms,
        })
    };
    commits.chunk_by(same).filter_map(run).collect()
}

/// The batch in a payload that [`encode`] made.
///
/// # Errors
/// What is wrong with the bytes, in one line.
pub fn decode(payload: &[u8]) -> Result<JsonBatch, DecodeError> {
    let batch: JsonBatch = serde_json::from_slice(payload).map_err(|error| DecodeError::damaged(error.to_string()))?;
    if batch.format == FORMAT { Ok(batch) } else { Err(DecodeError::Format(batch.format)) }
}
