//! Stored records as rows of a table.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use promql_parser::label::{METRIC_NAME, Matcher};
use promql_parser::parser::Expr;

use super::rows::{Cell, Column, ColumnKind, Rows};
use crate::buffer::Catalogue;
use crate::buffer::history::HistorySpan;
use crate::model::Value;
use crate::model::promql;
use crate::model::{ClockOffsets, Commit, Observed, Records, Scale, SeriesId, SeriesInfo, Summary, Thinned, Timestamp};
use crate::rules::plan::matchers;

/// Columns before the labels, and after them; a label of the same name gets `label_` in front.
const BEFORE: [&str; 2] = ["time", "name"];
const AFTER: [&str; 14] = [
    "value",
    "value_text",
    "unit",
    "state",
    "quality",
    "window_s",
    "count",
    "min",
    "max",
    "clock",
    "correction_ms",
    "sequence",
    "index",
    "epoch",
];

/// Which series are wanted: `active_power_w{device=~"press-.*"}`.
pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    const WANTED: &str = "must select series, such as active_power_w{device=\"press-1\"}";
    match promql::parse(text) {
        Ok(Expr::VectorSelector(found)) if found.offset.is_none() && found.at.is_none() => {
            matchers(&found).ok_or_else(|| WANTED.to_owned())
        }
        Ok(_) => Err(WANTED.to_owned()),
        Err(error) => Err(format!("{WANTED}: {error}")),
    }
}

/// Whether `info` is wanted.
fn is_selected(info: &SeriesInfo, matchers: &[Matcher]) -> bool {
    let value = |name: &str| match name {
        METRIC_NAME => info.name.as_str(),
        label => info.labels.get(label).map_or("", String::as_str),
    };
    matchers.iter().all(|matcher| matcher.is_match(value(&matcher.name)))
}

/// The series of an export.
pub(super) struct Selection {
    series: HashMap<SeriesId, Arc<SeriesInfo>>,
    labels: Vec<String>,
    epoch: String,
    offsets: ClockOffsets,
}

impl Selection {
    /// Those of `catalogue` that `matchers` select; their times are corrected by `offsets`.
    pub fn new(catalogue: &Catalogue, matchers: &[Matcher], offsets: ClockOffsets) -> Self {
        let wanted = catalogue.series.iter().filter(|(_, info)| is_selected(info, matchers));
        let series: HashMap<SeriesId, Arc<SeriesInfo>> = wanted.cloned().collect();
        let labels: BTreeSet<&String> = series.values().flat_map(|info| info.labels.keys()).collect();
        let labels = labels.into_iter().cloned().collect();
        Self { series, labels, epoch: catalogue.epoch.to_string(), offsets }
    }

    /// What corrects times.
    pub fn offsets(&self) -> &ClockOffsets {
        &self.offsets
    }

    /// How many series are wanted.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn columns(&self) -> Vec<Column> {
        let label = |label: &String| match BEFORE.into_iter().chain(AFTER).any(|name| name == label) {
            true => Column::new(format!("label_{label}"), ColumnKind::Text),
            false => Column::new(label, ColumnKind::Text),
        };
        let mut columns = vec![Column::new("time", ColumnKind::Time), Column::new("name", ColumnKind::Text)];
        columns.extend(self.labels.iter().map(label));
        columns.push(Column::new("value", ColumnKind::Value));
        columns.extend(["unit", "state", "quality"].map(|name| Column::new(name, ColumnKind::Text)));
        columns.extend(["window_s", "count"].map(|name| Column::new(name, ColumnKind::Count)));
        columns.extend(["min", "max"].map(|name| Column::new(name, ColumnKind::Number)));
        columns.push(Column::new("clock", ColumnKind::Text));
        columns.extend(["correction_ms", "sequence", "index"].map(|name| Column::new(name, ColumnKind::Count)));
        columns.push(Column::new("epoch", ColumnKind::Text));
        columns
    }

    /// Writes the readings of `commit` that are wanted. Returns how many.
    pub fn write(&self, commit: &Commit, span: HistorySpan, rows: &mut dyn Rows) -> io::Result<u64> {
        let readings = match &commit.records {
            Records::Readings(readings) => readings,
            Records::Thinned(thinned) => return self.write_aggregates(commit, thinned, span, rows),
            Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => return Ok(0),
        };
        let clock = commit.header.clock.to_string();
        let (mut index, mut written) = (0, 0);
        for row in readings {
            let from = index;
            index += row.observed.len() as u64;
            let correction = self.offsets.correction_ms(&commit.header, row.time);
            let time = Timestamp(row.time.0.saturating_add(correction.unwrap_or(0)));
            if !span.holds(time) {
                continue;
            }
            for (place, (id, observed)) in row.series.iter().zip(&row.observed).enumerate() {
                let Some(info) = self.series.get(id) else { continue };
                let mut cells = self.begin(time, info);
                let quality = observed.quality().to_string();
                cells.extend([
                    value(info, observed),
                    Cell::text(&info.unit),
                    observed.value().and_then(|value| info.state(value)).map_or(Cell::Nothing, Cell::text),
                    Cell::Text(Cow::Owned(quality)),
                    Cell::Nothing,
                    Cell::Nothing,
                    Cell::Nothing,
                    Cell::Nothing,
                    Cell::text(&clock),
                    correction.map_or(Cell::Nothing, Cell::Int),
                    Cell::Count(commit.header.sequence.0),
                    Cell::Count(from + place as u64),
                    Cell::text(&self.epoch),
                ]);
                rows.row(&cells)?;
                written += 1;
            }
        }
        Ok(written)
    }

    /// Aggregates in the place of readings: their mean, or newest text, is the value.
    fn write_aggregates(
        &self,
        commit: &Commit,
        thinned: &Thinned,
        span: HistorySpan,
        rows: &mut dyn Rows,
    ) -> io::Result<u64> {
        let clock = commit.header.clock.to_string();
        let mut written = 0;
        for (index, aggregate) in thinned.aggregates.iter().enumerate() {
            let Some(info) = self.series.get(&aggregate.series) else { continue };
            let correction = self.offsets.correction_ms(&commit.header, aggregate.start);
            let time = Timestamp(aggregate.start.0.saturating_add(correction.unwrap_or(0)));
            if !span.holds(time) {
                continue;
            }
            let scaled = |number: f64| Cell::Float(info.scale.apply(number));
            let (value, least, greatest) = match &aggregate.summary {
                Summary::Nothing => (Cell::Nothing, Cell::Nothing, Cell::Nothing),
                // A negative scale turns them round.
                Summary::Numbers { min, max, mean, .. } if info.scale.apply(*min) > info.scale.apply(*max) => {
                    (scaled(*mean), scaled(*max), scaled(*min))
                }
                Summary::Numbers { min, max, mean, .. } => (scaled(*mean), scaled(*min), scaled(*max)),
                Summary::Text(text) => (Cell::Text(text.as_ref().into()), Cell::Nothing, Cell::Nothing),
            };
            let mut cells = self.begin(time, info);
            cells.extend([
                value,
                Cell::text(&info.unit),
                Cell::Nothing,
                Cell::text("aggregate"),
                Cell::Count(thinned.window.seconds().into()),
                Cell::Count(aggregate.count.into()),
                least,
                greatest,
                Cell::text(&clock),
                correction.map_or(Cell::Nothing, Cell::Int),
                Cell::Count(commit.header.sequence.0),
                Cell::Count(index as u64),
                Cell::text(&self.epoch),
            ]);
            rows.row(&cells)?;
            written += 1;
        }
        Ok(written)
    }

    fn begin<'a>(&'a self, time: Timestamp, info: &'a SeriesInfo) -> Vec<Cell<'a>> {
        let mut cells = Vec::with_capacity(self.labels.len() + BEFORE.len() + AFTER.len());
        cells.extend([Cell::Time(time), Cell::text(&info.name)]);
        let label = |name| info.labels.get(name).map_or(Cell::Nothing, |value| Cell::text(value));
        cells.extend(self.labels.iter().map(label));
        cells
    }
}

/// The engineering value; nothing when the reading is bad.
fn value<'a>(info: &SeriesInfo, observed: &'a Observed) -> Cell<'a> {
    let Some(value) = observed.value() else { return Cell::Nothing };
    match value {
        Value::Text(text) => Cell::Text(text.as_ref().into()),
        Value::Bool(bit) => Cell::Bool(*bit),
        Value::Int(number) if info.scale == Scale::ONE => Cell::Int(*number),
        Value::Uint(number) if info.scale == Scale::ONE => Cell::Count(*number),
        Value::Int(_) | Value::Uint(_) | Value::F32(_) | Value::F64(_) => {
            value.number().map_or(Cell::Nothing, |number| Cell::Float(info.scale.apply(number)))
        }
    }
}

/// Columns of alarm transitions.
pub(super) fn alarm_columns() -> Vec<Column> {
    let mut columns = vec![Column::new("time", ColumnKind::Time)];
    let texts = ["name", "labels", "transition", "state", "priority"];
    columns.extend(texts.map(|name| Column::new(name, ColumnKind::Text)));
    columns.push(Column::new("value", ColumnKind::Value));
    columns.extend(["by", "clock"].map(|name| Column::new(name, ColumnKind::Text)));
    columns.extend(["correction_ms", "sequence", "index"].map(|name| Column::new(name, ColumnKind::Count)));
    columns.push(Column::new("epoch", ColumnKind::Text));
    columns
}

/// Writes the alarm transitions of `commit` that are wanted. Returns how many.
pub(super) fn write_alarms(
    commit: &Commit,
    span: HistorySpan,
    matchers: &[Matcher],
    offsets: &ClockOffsets,
    rows: &mut dyn Rows,
) -> io::Result<u64> {
    let Records::Alarms(alarms) = &commit.records else { return Ok(0) };
    let word = |value: serde_json::Result<serde_json::Value>| {
        Cell::Text(Cow::Owned(value.unwrap_or_default().as_str().unwrap_or_default().to_owned()))
    };
    let mut written = 0;
    for (index, alarm) in alarms.iter().enumerate() {
        let label = |name: &str| match name {
            METRIC_NAME => alarm.name.as_str(),
            label => alarm.labels.get(label).map_or("", String::as_str),
        };
        let correction = offsets.correction_ms(&commit.header, alarm.time);
        let time = Timestamp(alarm.time.0.saturating_add(correction.unwrap_or(0)));
        if !span.holds(time) || !matchers.iter().all(|matcher| matcher.is_match(label(&matcher.name))) {
            continue;
        }
        let labels: Vec<String> = alarm.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        rows.row(&[
            Cell::Time(time),
            Cell::text(&alarm.name),
            Cell::Text(Cow::Owned(labels.join(","))),
            word(serde_json::to_value(alarm.transition)),
            word(serde_json::to_value(alarm.state)),
            word(serde_json::to_value(alarm.priority)),
            alarm.value.map_or(Cell::Nothing, Cell::Float),
            alarm.by.as_deref().map_or(Cell::Nothing, Cell::text),
            Cell::Text(Cow::Owned(commit.header.clock.to_string())),
            correction.map_or(Cell::Nothing, Cell::Int),
            Cell::Count(commit.header.sequence.0),
            Cell::Count(index as u64),
            Cell::Text(Cow::Owned(commit.header.epoch.to_string())),
        ])?;
        written += 1;
    }
    Ok(written)
}
