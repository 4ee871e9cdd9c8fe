//! Thinning: many readings become a few numbers for each series and window. Pure.
//!
//! Readings are thinned to minutes first; what has been thinned to minutes can be thinned to ten minutes later.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commit::{ClockReading, Envelope, Kind};
use crate::model::{
    Aggregate, Observed, Records, Replaced, Row, Sequence, SeriesId, Summary, Thinned, Timestamp, Value, Window,
};

/// Aggregates worth a stored commit of about 4 KiB.
const AGGREGATES_AIMED_AT: usize = 256;

/// Most aggregates in one commit; a window of more series than this is cut.
const AGGREGATES_MAX: usize = 32_768;

/// How far what a commit holds has been thinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// As it was taken; gap records and alarms too.
    Raw,
    /// Aggregates of one minute.
    Minutes,
    /// Aggregates of ten minutes: the next step is to drop them.
    TenMinutes,
}

impl Stage {
    /// All of them, in the order that readings go through.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Minutes, Self::TenMinutes];

    /// How far commits of this kind have been thinned.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Readings | Kind::Gap | Kind::Alarms | Kind::ClockOffset => Self::Raw,
            Kind::Thinned(Window::Minute) => Self::Minutes,
            Kind::Thinned(Window::TenMinutes) => Self::TenMinutes,
        }
    }
}

/// Readings of one series and window, as they are added up.
#[derive(Debug)]
struct Sum {
    count: u32,
    bad: u32,
    last_time: Timestamp,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Nothing,
    Numbers {
        min: f64,
        max: f64,
        /// Sum of the distances to the first value: counters are large and change little.
        first: f64,
        distance: f64,
        last: f64,
    },
    Text(Arc<str>),
}

/// Adds up neighbouring commits until they are worth one record.
#[derive(Debug)]
pub struct Thinner {
    window: Window,
    replaces: Vec<Replaced>,
    sums: BTreeMap<(SeriesId, Timestamp), Sum>,
    newest: Timestamp,
    clock: Option<ClockReading>,
}

impl Thinner {
    /// Thins to `window`.
    pub fn new(window: Window) -> Self {
        Self { window, replaces: Vec::new(), sums: BTreeMap::new(), newest: Timestamp(i64::MIN), clock: None }
    }

    /// Whether it is time to [`finish`](Self::finish) before `next` is added. `enough` says that there is no need for
    /// more; a window is finished all the same.
    pub fn is_due(&self, next: &Envelope, enough: bool) -> bool {
        let Some(clock) = self.clock else { return false };
        if self.sums.len() >= AGGREGATES_MAX || !clock.is_of(next) {
            return true;
        }
        if self.window.start(next.first_time) <= self.newest {
            return false;
        }
        // Minutes of one record lie in the same ten minutes, so that these need not be cut later.
        let ten = |time| Window::TenMinutes.start(time);
        let begins_ten = self.window == Window::Minute && ten(next.first_time) > ten(self.newest);
        enough || begins_ten || self.sums.len() >= AGGREGATES_AIMED_AT
    }

    /// Adds a commit of readings or of aggregates.
    pub fn add(&mut self, envelope: &Envelope, records: &Records) {
        let sequence = envelope.header.sequence;
        self.clock = Some(ClockReading::of(envelope));
        match records {
            Records::Readings(rows) => {
                self.replace(Replaced { first: sequence, last: sequence, readings: records.count() as u64 });
                rows.iter().for_each(|row| self.add_row(row));
            }
            Records::Thinned(thinned) => {
                thinned.replaces.iter().for_each(|replaced| self.replace(*replaced));
                self.pass_over(sequence);
                thinned.aggregates.iter().for_each(|aggregate| self.add_aggregate(aggregate));
            }
            Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => self.pass_over(sequence),
        }
    }

    /// Adds a commit that is replaced, but holds no reading.
    pub fn pass_over(&mut self, sequence: Sequence) {
        self.replace(Replaced { first: sequence, last: sequence, readings: 0 });
    }

    /// Adds a run; runs that touch are joined.
    fn replace(&mut self, replaced: Replaced) {
        let at = self.replaces.partition_point(|known| known.first < replaced.first);
        self.replaces.insert(at, replaced);
        for left in [at, at.wrapping_sub(1)] {
            if let Some([before, after]) = self.replaces.get(left..left.wrapping_add(2))
                && before.last.next() == after.first
            {
                let (last, readings) = (after.last, before.readings + after.readings);
                self.replaces[left] = Replaced { last, readings, ..*before };
                self.replaces.remove(left + 1);
            }
        }
    }

    fn add_row(&mut self, row: &Row) {
        let start = self.window.start(row.time);
        self.newest = self.newest.max(start);
        for (series, observed) in row.series.iter().zip(&row.observed) {
            let sum = self.sums.entry((*series, start)).or_insert_with(|| Sum::new(start));
            match observed {
                Observed::Good(value) | Observed::Uncertain(value, _) => sum.add_value(row.time, value),
                Observed::Bad(_) => sum.bad = sum.bad.saturating_add(1),
            }
        }
    }

    fn add_aggregate(&mut self, aggregate: &Aggregate) {
        let start = self.window.start(aggregate.start);
        self.newest = self.newest.max(start);
        let sum = self.sums.entry((aggregate.series, start)).or_insert_with(|| Sum::new(start));
        sum.add(aggregate);
    }

    /// The record with the clock of its readings; the thinner is empty again. `None` when there is no aggregate.
    pub fn finish(&mut self) -> Option<(Thinned, ClockReading)> {
        let done = std::mem::replace(self, Self::new(self.window));
        let clock = done.clock.filter(|_| !done.sums.is_empty())?;
        let aggregate = |((series, start), sum): ((SeriesId, Timestamp), Sum)| Aggregate {
            series,
            start,
            count: sum.count,
            bad: sum.bad,
            last_time: sum.last_time,
            summary: sum.summary(),
        };
        let aggregates = done.sums.into_iter().map(aggregate).collect();
        Some((Thinned { window: done.window, replaces: done.replaces, aggregates }, clock))
    }
}

impl Sum {
    fn new(start: Timestamp) -> Self {
        Self { count: 0, bad: 0, last_time: start, values: Values::Nothing }
    }

    fn add_value(&mut self, time: Timestamp, value: &Value) {
        let values = match value {
            Value::Text(text) => Values::Text(text.clone()),
            Value::Int(_) | Value::Uint(_) | Value::F32(_) | Value::F64(_) | Value::Bool(_) => {
                match value.number().filter(|number| number.is_finite()) {
                    Some(number) => Values::of(number),
                    None => {
                        self.bad = self.bad.saturating_add(1);
                        return;
                    }
                }
            }
        };
        self.merge(1, time, values);
    }

    fn add(&mut self, aggregate: &Aggregate) {
        self.bad = self.bad.saturating_add(aggregate.bad);
        let values = match &aggregate.summary {
            Summary::Nothing => return,
            Summary::Text(text) => Values::Text(text.clone()),
            Summary::Numbers { min, max, mean, last } => {
                Values::Numbers { min: *min, max: *max, first: *mean, distance: 0.0, last: *last }
            }
        };
        self.merge(aggregate.count, aggregate.last_time, values);
    }

    /// Adds `count` values that come to `values`, the newest of them at `time`.
    fn merge(&mut self, count: u32, time: Timestamp, values: Values) {
        let is_newer = self.count == 0 || time >= self.last_time;
        match (&mut self.values, values) {
            (
                Values::Numbers { min, max, first, distance, last },
                Values::Numbers { min: lower, max: higher, first: mean, last: newest, .. },
            ) => {
                *min = min.min(lower);
                *max = max.max(higher);
                *distance += (mean - *first) * f64::from(count);
                if is_newer {
                    *last = newest;
                }
            }
            (known, Values::Numbers { min, max, first, last, .. }) => {
                *known = Values::Numbers { min, max, first, distance: 0.0, last };
            }
            (Values::Numbers { .. }, _) => {}
            (known, newer) if is_newer => *known = newer,
            (Values::Nothing | Values::Text(_), _) => {}
        }
        self.count = self.count.saturating_add(count);
        self.last_time = if is_newer { time } else { self.last_time };
    }

    fn summary(&self) -> Summary {
        match &self.values {
            Values::Nothing => Summary::Nothing,
            Values::Text(text) => Summary::Text(text.clone()),
            Values::Numbers { min, max, first, distance, last } => {
                Summary::numbers(*min, *max, first + distance / f64::from(self.count.max(1)), *last)
            }
        }
    }
}

impl Values {
    fn of(number: f64) -> Self {
        Self::Numbers { min: number, max: number, first: number, distance: 0.0, last: number }
    }
}

#[cfg(test)]
mod tests;
