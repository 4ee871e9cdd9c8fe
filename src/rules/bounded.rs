//! Windows that something other than the clock bounds: the newest so many samples, those of a session, those since a
//! state began. The range of the expression is then the most that is looked at. Pure.
//!
//! Their samples are looked at one by one: they are for those who need them, not for a thousand series.

use std::time::Duration;

use promql_parser::label::Matcher;

use super::live::{LiveTable, NAME};
use super::plan::{Cell, Of, Plan};
use super::range::{RangeFunction, RangeWindow};
use super::ring::Ring;
use crate::model::Timestamp;

/// A function over bounded ranges.
#[derive(Debug)]
pub struct Bounded {
    /// Over which series.
    pub selector: usize,
    /// The function.
    pub function: RangeFunction,
    span: Duration,
    behind: i64,
    offset: i64,
    edge: Edge,
}

/// Where the range begins.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Count(usize),
    Session(Duration),
    /// At the last change of the series of this selector whose labels are equal.
    State(usize),
}

/// Where a range begins, as it is written; the state is a selector.
#[derive(Debug, Clone)]
pub enum BoundBy {
    /// With the newest so many samples.
    Count(usize),
    /// After the last pause of so long.
    Session(Duration),
    /// With the last change of such a series.
    State(Vec<Matcher>),
}

impl Plan {
    /// The same plan with its ranges bounded; nothing when it has no range.
    pub fn bounded(self, by: &BoundBy, table: &mut LiveTable) -> Option<Self> {
        Some(match self {
            Self::Range { windows, function, offset } => {
                let key = table.window_key(windows);
                let edge = match by {
                    BoundBy::Count(count) => Edge::Count(*count),
                    BoundBy::Session(pause) => Edge::Session(*pause),
                    BoundBy::State(matchers) => Edge::State(table.select(matchers.clone(), key.span)),
                };
                let (selector, span, behind) = (key.selector, key.span, key.behind);
                Self::Bounded(Box::new(Bounded { selector, function, span, behind, offset, edge }))
            }
            Self::With { plan, number, operation, number_first, is_bool } => {
                let plan = Box::new(plan.bounded(by, table)?);
                Self::With { plan, number, operation, number_first, is_bool }
            }
            Self::Aggregate { plan, aggregation, groups } => {
                Self::Aggregate { plan: Box::new(plan.bounded(by, table)?), aggregation, groups }
            }
            Self::Instant { .. } | Self::Bounded(_) | Self::General(_) => return None,
        })
    }
}

impl Bounded {
    /// The result at `time`, into `cells`.
    pub fn evaluate(&self, table: &LiveTable, time: Timestamp, only: Option<&[usize]>, cells: &mut Vec<Cell>) {
        let end = Timestamp(time.0.saturating_sub(self.behind));
        let span = i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX);
        let furthest = Timestamp(end.0.saturating_sub(span));
        for position in table.members(self.selector, only) {
            let ring = &table.series(position).ring;
            let Some(begin) = self.begin(table, position, furthest, end) else { continue };
            let window = RangeWindow::over(self.function.shape(), self.span, end, ring.range(begin, end));
            if let Some(value) = window.value(self.function, ring, self.offset) {
                cells.push(Cell { of: Of::Series(position), value });
            }
        }
    }

    /// The time after which samples count.
    fn begin(&self, table: &LiveTable, position: usize, furthest: Timestamp, end: Timestamp) -> Option<Timestamp> {
        let series = table.series(position);
        let begin = match self.edge {
            Edge::Count(count) => just_before(series.ring.newest(end).nth(count.saturating_sub(1)).map(|it| it.time)),
            Edge::Session(pause) => just_before(session_start(&series.ring, furthest, end, pause)),
            Edge::State(selector) => {
                let same = |key: &String| series.spec.labels.get(key);
                let is_same = |position: &usize| {
                    let labels = &table.series(*position).spec.labels;
                    labels.iter().all(|(key, value)| key == NAME || same(key).is_none_or(|own| own == value))
                };
                let state = table.members(selector, None).find(is_same)?;
                just_before(state_start(&table.series(state).ring, end))
            }
        };
        Some(begin.map_or(furthest, |begin| begin.max(furthest)))
    }

    /// How far back it looks, in milliseconds.
    pub fn reach(&self) -> i64 {
        self.behind.saturating_add(i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Ranges are open on the left.
fn just_before(time: Option<Timestamp>) -> Option<Timestamp> {
    time.map(|time| Timestamp(time.0 - 1))
}

fn session_start(ring: &Ring, furthest: Timestamp, end: Timestamp, pause: Duration) -> Option<Timestamp> {
    let mut start = end;
    for sample in ring.newest(end).take_while(|sample| sample.time > furthest) {
        if start.since(sample.time) >= pause {
            return Some(start);
        }
        start = sample.time;
    }
    None
}

/// When the value that stands now was first seen.
fn state_start(ring: &Ring, end: Timestamp) -> Option<Timestamp> {
    let mut newest = ring.newest(end);
    let now = newest.next()?;
    let same = newest.take_while(|sample| sample.value == now.value);
    Some(same.last().map_or(now.time, |sample| sample.time))
}
