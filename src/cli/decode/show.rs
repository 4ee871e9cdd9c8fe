//! Payloads as people read them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Known, Names, raw_value};
use crate::cli::plural;
use crate::cli::status;
use crate::cli::table::{Layout, Table};
use crate::cli::tail::{shown_value, style};
use crate::diagnostics::socket::show;
use crate::encoding::alarm::{AlarmContent, AlarmMessage};
use crate::encoding::catalogue::CataloguePart;
use crate::encoding::health::{Entry, HealthMessage};
use crate::encoding::json::{JsonBatch, JsonGap, JsonValue};
use crate::encoding::{DecodedBatch, DecodedReading};
use crate::model::{Epoch, Lane, Name, Replaced, Scale, Sequence, Timestamp};

/// What every message says first: whose it is, and which records it is about.
struct Origin<'a> {
    site: &'a Name,
    gateway: &'a Name,
    epoch: Epoch,
    lane: Lane,
    oldest_undelivered: Sequence,
}

impl Origin<'_> {
    fn write(&self, out: &mut impl Write, covers: &str) -> io::Result<()> {
        writeln!(out, "gateway             {}/{}", self.site, self.gateway)?;
        writeln!(out, "epoch               {}", self.epoch)?;
        writeln!(out, "covers              {} {covers}", self.lane)?;
        writeln!(out, "oldest undelivered  {}", self.oldest_undelivered)
    }
}

/// A whole state as `lineside status` shows it.
pub(super) fn health(out: &mut impl Write, message: &HealthMessage) -> io::Result<()> {
    match message {
        HealthMessage::Whole(whole) => {
            status::write_status(out, &whole.status, &status::problems(&whole.status))?;
            writeln!(out, "\nwhole state {:?}, detail {:?}", whole.id, whole.detail)
        }
        HealthMessage::Changes(changes) => {
            let of = plural(changes.add.iter().filter(|entry| **entry != Entry::Add(0)).count(), "number");
            let (set, drop) = (changes.set.len(), changes.drop.len());
            writeln!(out, "message {} after the whole state {:?}", changes.number, changes.base)?;
            writeln!(out, "changes   {of}, {set} other places, {drop} gone")?;
            writeln!(out, "--base FILE names the payload of that whole state and shows the whole of this one.")
        }
    }
}

pub(super) fn columnar(out: &mut impl Write, batch: &DecodedBatch, known: &Known) -> io::Result<()> {
    let names = &known.names;
    let mut corrected = 0;
    let header = &batch.header;
    let (site, gateway, epoch, lane) = (&header.site, &header.gateway, header.epoch, header.lane);
    let origin = Origin { site, gateway, epoch, lane, oldest_undelivered: header.oldest_undelivered };
    let part = header.part.map(|part| format!(", index {} to {}", part.first_index, part.end_index.saturating_sub(1)));
    origin.write(out, &format!("{} to {}{}", header.first, header.last, part.unwrap_or_default()))?;
    writeln!(out, "order               {}", word(&header.order))?;
    writeln!(out, "readings            {}\n", batch.readings.len())?;
    // A batch can hold more readings than a table of them should take memory: each line is made twice.
    let mut layout = Layout::new(&READING_COLUMNS);
    for reading in &batch.readings {
        let (cells, is_corrected) = reading_cells(reading, batch, known);
        corrected += usize::from(is_corrected);
        layout.note(&cells);
    }
    if !batch.readings.is_empty() {
        writeln!(out, "{}", layout.line(&READING_COLUMNS, 0))?;
    }
    for reading in &batch.readings {
        let (cells, _) = reading_cells(reading, batch, known);
        let style = style(&cells[6]);
        writeln!(out, "{style}{}{style:#}", layout.line(&cells, 0))?;
    }
    aggregates(out, batch, names)?;
    if !batch.gaps.is_empty() {
        writeln!(out)?;
    }
    for (sequence, found) in &batch.gaps {
        gap(out, *sequence, &found.into())?;
    }
    for (sequence, offset) in &batch.clock_offsets {
        writeln!(out, "\nclock record at {sequence}: right from {} on, in boot {}", offset.time(), offset.boot)?;
    }
    if corrected > 0 {
        writeln!(out, "\nTimes of {} are corrected: the clock was wrong then.", plural(corrected, "reading"))?;
    }
    if names.is_empty() && !batch.readings.is_empty() {
        writeln!(
            out,
            "\nSeries are numbers and values are as the device sent them: --catalogue FILE names and scales them."
        )?;
    }
    Ok(())
}

const READING_COLUMNS: [&str; 7] = ["sequence", "index", "time", "series", "value", "unit", "quality"];

/// One reading as it stands in the table, and whether its time was corrected.
fn reading_cells(reading: &DecodedReading, batch: &DecodedBatch, known: &Known) -> ([String; 7], bool) {
    let info = known.names.get(&(batch.header.epoch, reading.series));
    let (series, value, unit) = match info.map(|info| (info, show(info, reading.time, &reading.observed))) {
        Some((info, shown)) => {
            let value = shown_value(&shown.value, shown.state.as_deref());
            (series(&info.name, &info.labels), value, shown.unit)
        }
        None => (reading.series.to_string(), shown_value(&raw_value(reading), None), String::new()),
    };
    let correction =
        batch.commit(reading.sequence).and_then(|commit| known.offsets.correction_ms(commit, reading.time));
    let time = Timestamp(reading.time.0.saturating_add(correction.unwrap_or(0))).to_string();
    let (sequence, index) = (reading.sequence.to_string(), reading.index.to_string());
    let quality = reading.observed.quality().to_string();
    ([sequence, index, time, series, value, unit, quality], correction.is_some())
}

const AGGREGATE_COLUMNS: [&str; 11] =
    ["sequence", "index", "start", "series", "count", "bad", "min", "max", "mean", "last", "unit"];

/// Aggregates in the place of readings, and which readings those were.
fn aggregates(out: &mut impl Write, batch: &DecodedBatch, names: &Names) -> io::Result<()> {
    let mut table = Table::new(AGGREGATE_COLUMNS);
    for thinned in &batch.thinned {
        for (index, aggregate) in &thinned.aggregates {
            let info = names.get(&(batch.header.epoch, aggregate.series));
            let (name, unit) = match info {
                Some(info) => (series(&info.name, &info.labels), info.unit.clone()),
                None => (aggregate.series.to_string(), String::new()),
            };
            let (min, max, mean, last) = super::numbers(aggregate, info);
            let [min, max, mean, last] = [min, max, mean, last].map(|number| shown_value(&number, None));
            let (count, bad) = (aggregate.count.to_string(), aggregate.bad.to_string());
            let (sequence, index, start) =
                (thinned.sequence.to_string(), index.to_string(), aggregate.start.to_string());
            table.row([sequence, index, start, name, count, bad, min, max, mean, last, unit]);
        }
    }
    if batch.thinned.iter().any(|thinned| !thinned.aggregates.is_empty()) {
        writeln!(out)?;
        table.write(out, 0)?;
    }
    if !batch.thinned.is_empty() {
        writeln!(out)?;
    }
    batch.thinned.iter().try_for_each(|it| replaced(out, it.sequence, it.window.seconds(), &it.replaces))
}

/// What a commit of aggregates stands for.
fn replaced(out: &mut impl Write, at: Sequence, window_s: u32, replaces: &[Replaced]) -> io::Result<()> {
    let readings: u64 = replaces.iter().map(|replaced| replaced.readings).sum();
    let ranges: Vec<String> =
        replaces.iter().map(|replaced| format!("{} to {}", replaced.first, replaced.last)).collect();
    let readings = plural(usize::try_from(readings).unwrap_or(usize::MAX), "reading");
    writeln!(out, "aggregates of {window_s} s at {at}: in the place of telemetry {}, {readings}", ranges.join(", "))
}

pub(super) fn json(out: &mut impl Write, batch: &JsonBatch) -> io::Result<()> {
    let (site, gateway, epoch, lane) = (&batch.site, &batch.gateway, batch.epoch, batch.lane);
    let origin = Origin { site, gateway, epoch, lane, oldest_undelivered: batch.oldest_undelivered };
    let part = batch.part.map(|part| format!(", index {} to {}", part.first_index, part.end_index.saturating_sub(1)));
    origin.write(out, &format!("{} to {}{}", batch.first_sequence, batch.last_sequence, part.unwrap_or_default()))?;
    writeln!(out, "order               {}", word(&batch.order))?;
    let of_series = |listed| batch.series.iter().map(listed);
    let count: usize = of_series(|series: &crate::encoding::json::JsonSeries| series.readings.len()).sum();
    writeln!(out, "readings            {count}\n")?;
    let mut readings: Vec<_> =
        batch.series.iter().flat_map(|series| series.readings.iter().map(move |reading| (series, reading))).collect();
    readings.sort_by_key(|(_, reading)| (reading.sequence, reading.index));
    let mut table = Table::new(["sequence", "index", "time", "series", "value", "unit", "quality"]);
    for (of, reading) in &readings {
        let name = of.name.as_ref().map_or_else(|| of.id.to_string(), |name| series(name, &of.labels));
        let value = serde_json::to_value(&reading.value).unwrap_or_default();
        let value = shown_value(&value, reading.state.as_deref());
        let quality = reading.quality.clone().unwrap_or_else(|| "good".to_owned());
        let (sequence, index, time) =
            (reading.sequence.to_string(), reading.index.to_string(), reading.time.to_string());
        table.styled_row(style(&quality), [sequence, index, time, name, value, of.unit.clone(), quality]);
    }
    if count > 0 {
        table.write(out, 0)?;
    }
    json_aggregates(out, batch)?;
    if !batch.gaps.is_empty() {
        writeln!(out)?;
    }
    batch.gaps.iter().try_for_each(|placed| gap(out, placed.sequence, &placed.gap))
}

fn json_aggregates(out: &mut impl Write, batch: &JsonBatch) -> io::Result<()> {
    let mut all: Vec<_> =
        batch.series.iter().flat_map(|of| of.aggregates.iter().map(move |aggregate| (of, aggregate))).collect();
    all.sort_by_key(|(_, aggregate)| (aggregate.sequence, aggregate.index));
    let mut table = Table::new(AGGREGATE_COLUMNS);
    for (of, aggregate) in &all {
        let name = of.name.as_ref().map_or_else(|| of.id.to_string(), |name| series(name, &of.labels));
        let shown = |value: &Option<JsonValue>| shown_value(&serde_json::to_value(value).unwrap_or_default(), None);
        let [min, max, mean, last] = [&aggregate.min, &aggregate.max, &aggregate.mean, &aggregate.last].map(shown);
        let (count, bad) = (aggregate.count.to_string(), aggregate.bad.to_string());
        let (sequence, index, start) =
            (aggregate.sequence.to_string(), aggregate.index.to_string(), aggregate.start.to_string());
        table.row([sequence, index, start, name, count, bad, min, max, mean, last, of.unit.clone()]);
    }
    if !all.is_empty() {
        writeln!(out)?;
        table.write(out, 0)?;
    }
    if !batch.thinned.is_empty() {
        writeln!(out)?;
    }
    batch.thinned.iter().try_for_each(|it| replaced(out, it.sequence, it.window_s, &it.replaces))
}

pub(super) fn alarm(out: &mut impl Write, alarm: &AlarmMessage) -> io::Result<()> {
    let (site, gateway, epoch, lane) = (&alarm.site, &alarm.gateway, alarm.epoch, alarm.lane);
    let origin = Origin { site, gateway, epoch, lane, oldest_undelivered: alarm.oldest_undelivered };
    origin.write(out, &format!("{}, record {} of {}", alarm.sequence, alarm.index + 1, alarm.count))?;
    let record = match &alarm.content {
        AlarmContent::Gap(found) => return gap(out, alarm.sequence, found),
        AlarmContent::Transition(record) => record,
    };
    writeln!(out, "time                {}", record.time)?;
    writeln!(out, "alarm               {}", series(&record.name, &record.labels))?;
    writeln!(out, "transition          {}, now {}", word(&record.transition), word(&record.state).replace('_', " "))?;
    writeln!(out, "priority            {}", word(&record.priority))?;
    if let Some(value) = record.value {
        writeln!(out, "value               {value}")?;
    }
    if let Some(person) = &record.by {
        writeln!(out, "by                  {person}")?;
    }
    record.annotations.iter().try_for_each(|(key, text)| writeln!(out, "{key:<20}{text}"))?;
    record.readings.iter().try_for_each(|reading| {
        let value = reading.value.map_or_else(|| "not a finite number".to_owned(), |value| value.to_string());
        writeln!(out, "decided by          {} = {value} at {}", reading.series, reading.time)
    })
}

pub(super) fn catalogue(out: &mut impl Write, part: &CataloguePart) -> io::Result<()> {
    writeln!(out, "gateway             {}/{}", part.site, part.gateway)?;
    writeln!(out, "epoch               {}", part.epoch)?;
    writeln!(out, "part                {}, {} series\n", part.part, part.series.len())?;
    let mut table = Table::new(["id", "series", "kind", "unit", "scale", "states"]);
    for entry in &part.series {
        let scale = Scale { multiplier: entry.multiplier, divisor: entry.divisor, offset: entry.offset };
        let states: Vec<String> = entry.states.iter().map(|(number, state)| format!("{number} {state}")).collect();
        let name = series(&entry.name, &entry.labels);
        let (id, kind) = (entry.id.to_string(), word(&entry.kind));
        table.row([id, name, kind, entry.unit.clone(), formula(scale), states.join(", ")]);
    }
    table.write(out, 0)
}

/// `* 10 / 3 + 5`; nothing when the raw value is the engineering value.
fn formula(scale: Scale) -> String {
    let mut text = String::new();
    if scale.multiplier != 1.0 {
        text += &format!("* {} ", scale.multiplier);
    }
    if scale.divisor != 1.0 {
        text += &format!("/ {} ", scale.divisor);
    }
    if scale.offset != 0.0 {
        text += &format!("{} {} ", if scale.offset < 0.0 { '-' } else { '+' }, scale.offset.abs());
    }
    text.trim_end().to_owned()
}

/// `name{device="press-1"}`: site and gateway are in the head of every message.
fn series(name: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().filter(|(key, _)| !matches!(key.as_str(), "site" | "gateway"));
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value:?}")).collect();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

fn gap(out: &mut impl Write, at: Sequence, gap: &JsonGap) -> io::Result<()> {
    let records = plural(usize::try_from(gap.records).unwrap_or(usize::MAX), "record");
    writeln!(
        out,
        "gap record at {at}: {} {} to {} are gone, {records} from {} to {}: {}",
        gap.lost_lane,
        gap.first_lost,
        gap.last_lost,
        gap.first_time,
        gap.last_time,
        word(&gap.reason).replace('_', " ")
    )
}

/// The word that stands for a value in JSON.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
