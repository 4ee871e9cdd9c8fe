//! Which readings are worth sending. Pure: the readings carry the time.
//!
//! What was sent is remembered only as long as it is sure to arrive: when a session is lost, or the broker refuses,
//! the filter starts over and sends the next reading of every series. So a change is never lost by having been
//! withheld in favour of a reading that never arrived.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Catalogue;
use crate::config::{Changes, Forward};
use crate::encoding::Withheld;
use crate::model::Value;
use crate::model::{Commit, Observed, Quality, Records, Scale, Selection, SeriesId, SeriesInfo, Thinned, Timestamp};

/// What is sent of which series; a series that is not named is sent whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForwardTable {
    /// Tags.
    pub tags: HashMap<SeriesId, ForwardRule>,
    /// Series that come to be while the agent runs, such as those that rules record: the first selector counts.
    pub named: Vec<(Selection, Arc<Forward>)>,
}

/// What is sent of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardRule {
    /// What the configuration says.
    pub forward: Arc<Forward>,
    /// From kept number to engineering value: limits are in engineering units.
    pub scale: Scale,
}

/// Decides reading by reading.
#[derive(Debug, Default)]
pub struct ForwardFilter {
    table: Arc<ForwardTable>,
    catalogue: Option<Arc<Catalogue>>,
    /// The series of the catalogue that the table names.
    named: HashMap<SeriesId, ForwardRule>,
    sent: HashMap<SeriesId, Sent>,
    /// Series with a reading whose fate is open until the end of the batch.
    open: Vec<SeriesId>,
}

/// The last reading that was sent of a series.
#[derive(Debug)]
struct Sent {
    time: Timestamp,
    quality: Quality,
    value: Option<Value>,
    number: f64,
    door: Option<Door>,
}

/// The swinging door: from the last reading sent, slopes of lines that miss no reading since by more than allowed.
#[derive(Debug)]
struct Door {
    low: f64,
    high: f64,
    /// The newest reading, withheld for now.
    held: Held,
}

#[derive(Debug, Clone)]
struct Held {
    place: (usize, usize),
    time: Timestamp,
    quality: Quality,
    value: Value,
    number: f64,
}

impl ForwardFilter {
    /// Goes by this table, and by what the catalogue says the series are, from now on.
    pub fn set_table(&mut self, table: &Arc<ForwardTable>, catalogue: &Arc<Catalogue>) {
        let is_new = !Arc::ptr_eq(&self.table, table);
        let is_known = self.catalogue.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalogue));
        if !is_new && (is_known || table.named.is_empty()) {
            return;
        }
        self.table = Arc::clone(table);
        self.named = named(table, catalogue);
        self.catalogue = (!table.named.is_empty()).then(|| Arc::clone(catalogue));
        let named = &self.named;
        self.sent.retain(|series, _| table.tags.contains_key(series) || named.contains_key(series));
    }

    /// Forgets what was sent: it may not have arrived.
    pub fn start_over(&mut self) {
        self.sent.clear();
    }

    /// Which readings of the next commits are not sent.
    pub fn withhold(&mut self, commits: &[Commit]) -> Withheld {
        let mut withheld = Withheld::default();
        if self.table.tags.is_empty() && self.named.is_empty() {
            return withheld;
        }
        let table = Arc::clone(&self.table);
        for (commit, content) in commits.iter().enumerate() {
            let rows = match &content.records {
                Records::Readings(rows) => rows,
                Records::Thinned(thinned) => {
                    let rule = |series: SeriesId| table.tags.get(&series).or_else(|| self.named.get(&series));
                    let forward = |series: SeriesId| rule(series).map(|rule| Arc::clone(&rule.forward));
                    withhold_aggregates(commit, thinned, forward, &mut withheld);
                    continue;
                }
                Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => continue,
            };
            let cells = rows.iter().flat_map(|row| {
                row.series.iter().zip(&row.observed).map(|(series, observed)| (*series, row.time, observed))
            });
            for (place, (series, time, observed)) in cells.enumerate() {
                let Some(rule) = table.tags.get(&series).or_else(|| self.named.get(&series)).cloned() else { continue };
                let is_sent = match &*rule.forward {
                    Forward::All => true,
                    Forward::None | Forward::Aggregates { .. } => false,
                    Forward::Changes(changes) => {
                        let reading = Reading { series, time, observed, place: (commit, place) };
                        self.is_news(&reading, changes, rule.scale, &mut withheld)
                    }
                };
                if !is_sent {
                    withheld.add(commit, place);
                }
            }
        }
        self.close_doors(&mut withheld);
        withheld
    }

    fn is_news(&mut self, reading: &Reading<'_>, changes: &Changes, scale: Scale, withheld: &mut Withheld) -> bool {
        let quality = reading.observed.quality();
        let value = reading.observed.value();
        let number = value.and_then(Value::number).map(|number| scale.apply(number));
        let Some(last) = self.sent.get_mut(&reading.series) else {
            let value = value.cloned();
            let number = number.unwrap_or(f64::NAN);
            self.sent.insert(reading.series, Sent { time: reading.time, quality, value, number, door: None });
            return true;
        };
        let is_late = changes.heartbeat.is_some_and(|heartbeat| !last.within(reading.time, heartbeat));
        let breaks = quality != last.quality || reading.time < last.time || is_late;
        let held = last.door.as_mut().map(|door| door.held.clone());
        let is_news = match (number, value, changes.swinging_door) {
            _ if breaks => {
                // The door ends at the last reading before the break.
                if let Some(held) = held {
                    withheld.remove(held.place.0, held.place.1);
                }
                true
            }
            (Some(number), Some(value), Some(limit)) => {
                let held = Held { place: reading.place, time: reading.time, quality, value: value.clone(), number };
                last.swing(held, limit, withheld);
                self.open.push(reading.series);
                return false;
            }
            (Some(number), Some(Value::Int(_) | Value::Uint(_) | Value::F32(_) | Value::F64(_)), None) => {
                last.moved(number, changes)
            }
            _ => last.value.as_ref() != value,
        };
        if is_news {
            let number = number.unwrap_or(f64::NAN);
            *last = Sent { time: reading.time, quality, value: value.cloned(), number, door: None };
        }
        is_news
    }

    /// The newest reading of an open door is sent: nobody knows yet where the next batch goes.
    fn close_doors(&mut self, withheld: &mut Withheld) {
        for series in std::mem::take(&mut self.open) {
            let Some(last) = self.sent.get_mut(&series) else { continue };
            if let Some(Door { held, .. }) = last.door.take() {
                withheld.remove(held.place.0, held.place.1);
                last.become_held(held);
            }
        }
    }
}

/// What is sent of series that are no tags. There are no aggregates of them: they are sent whole then.
fn named(table: &ForwardTable, catalogue: &Catalogue) -> HashMap<SeriesId, ForwardRule> {
    let rule = |(id, info): &(SeriesId, Arc<SeriesInfo>)| {
        let (_, forward) = table.named.iter().find(|(selection, _)| selection.takes(&info.name, &info.labels))?;
        let is_open = !table.tags.contains_key(id) && !matches!(**forward, Forward::Aggregates { .. });
        is_open.then(|| (*id, ForwardRule { forward: Arc::clone(forward), scale: info.scale }))
    };
    if table.named.is_empty() { HashMap::new() } else { catalogue.series.iter().filter_map(rule).collect() }
}

/// Keeps back aggregates of series of which no reading is sent either.
fn withhold_aggregates(
    commit: usize,
    thinned: &Thinned,
    forward: impl Fn(SeriesId) -> Option<Arc<Forward>>,
    withheld: &mut Withheld,
) {
    for (place, aggregate) in thinned.aggregates.iter().enumerate() {
        match forward(aggregate.series).as_deref() {
            Some(Forward::None | Forward::Aggregates { .. }) => withheld.add(commit, place),
            Some(Forward::All | Forward::Changes(_)) | None => {}
        }
    }
}

/// A reading on its way.
struct Reading<'a> {
    series: SeriesId,
    time: Timestamp,
    observed: &'a Observed,
    place: (usize, usize),
}

impl Sent {
    fn within(&self, time: Timestamp, span: Duration) -> bool {
        time.since(self.time) < span
    }

    fn moved(&self, number: f64, changes: &Changes) -> bool {
        let band = changes.deadband.max(self.number.abs() * changes.deadband_percent / 100.0);
        let distance = (number - self.number).abs();
        // What is no number is news.
        distance.is_nan() || distance > band
    }

    /// Takes the next reading of an open door. The one before is sent after all when no line misses both.
    fn swing(&mut self, next: Held, limit: f64, withheld: &mut Withheld) {
        if let Some(Door { low, high, held }) = self.door.take() {
            let slope = slope(self.time, self.number, next.time, next.number);
            if (low..=high).contains(&slope) {
                let (near_low, near_high) = self.slopes(&next, limit);
                self.door = Some(Door { low: low.max(near_low), high: high.min(near_high), held: next });
                return;
            }
            withheld.remove(held.place.0, held.place.1);
            self.become_held(held);
        }
        let (low, high) = self.slopes(&next, limit);
        self.door = Some(Door { low, high, held: next });
    }

    fn slopes(&self, to: &Held, limit: f64) -> (f64, f64) {
        (
            slope(self.time, self.number, to.time, to.number - limit),
            slope(self.time, self.number, to.time, to.number + limit),
        )
    }

    fn become_held(&mut self, held: Held) {
        *self =
            Self { time: held.time, quality: held.quality, value: Some(held.value), number: held.number, door: None };
    }
}

/// Rise for each millisecond; no number fits when no time has passed.
fn slope(from: Timestamp, from_number: f64, to: Timestamp, to_number: f64) -> f64 {
    let elapsed = to.since(from).as_millis() as f64;
    (to_number - from_number) / elapsed
}

#[cfg(test)]
mod tests;
