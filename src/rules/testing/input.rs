//! What goes into a unit test, sample by sample, and what its expressions may look at. Neither takes more memory than the
//! expressions ask for, however many values a series has.

use std::collections::HashMap;
use std::time::Duration;

use super::file::{ExpressionTest, UnitTest};
use super::{LOOK_BACK, millis};
use crate::model::{Timestamp, promql};
use crate::rules::eval::check::selectors;
use crate::rules::eval::{MemorySeries, MemorySource};
use crate::rules::live::Labels;
use crate::rules::ring::Sample;

/// The values of a series that were not taken yet.
type Course<'a> = Box<dyn Iterator<Item = Option<f64>> + 'a>;

/// Samples of the input that were not taken yet, by time.
pub(super) struct Input<'a> {
    courses: Vec<Option<Course<'a>>>,
    interval: i64,
    /// Number of the interval, and of the series, that is next.
    next: (i64, usize),
}

impl<'a> Input<'a> {
    pub fn of(test: &'a UnitTest) -> Self {
        let course = |values: &'a super::Values| -> Option<Course<'a>> { Some(Box::new(values.iter())) };
        let courses = test.series.iter().map(|(_, values)| course(values)).collect();
        Self { courses, interval: millis(test.interval).max(1), next: (0, 0) }
    }

    /// The next sample that is not after `time`: when, of which series, and its value.
    pub fn next_until(&mut self, time: Timestamp) -> Option<(Timestamp, u32, f64)> {
        loop {
            let (number, series) = self.next;
            let at = Timestamp(number.saturating_mul(self.interval));
            if at > time || self.courses.is_empty() {
                return None;
            }
            if series == self.courses.len() {
                if self.courses.iter().all(Option::is_none) {
                    self.courses.clear();
                }
                self.next = (number + 1, 0);
                continue;
            }
            self.next.1 += 1;
            let course = &mut self.courses[series];
            match course.as_mut().map(Iterator::next) {
                Some(Some(Some(value))) => return Some((at, u32::try_from(series).unwrap_or(u32::MAX), value)),
                Some(Some(None)) | None => {}
                Some(None) => *course = None,
            }
        }
    }
}

/// The samples that the expressions of a test may look at.
#[derive(Default)]
pub(super) struct Kept {
    /// From and to, both included; in order and apart.
    spans: Vec<(i64, i64)>,
    samples: HashMap<Labels, Vec<Sample>>,
}

impl Kept {
    pub fn of(expressions: &[ExpressionTest], step: Duration) -> Self {
        let mut spans: Vec<(i64, i64)> = expressions.iter().map(|test| span(test, step)).collect();
        spans.sort_unstable();
        let mut apart: Vec<(i64, i64)> = Vec::new();
        for (from, to) in spans {
            match apart.last_mut().filter(|last| last.1 >= from) {
                Some(last) => last.1 = last.1.max(to),
                None => apart.push((from, to)),
            }
        }
        Self { spans: apart, samples: HashMap::new() }
    }

    /// Keeps a sample if some expression may look at it.
    pub fn push(&mut self, labels: &Labels, sample: Sample) {
        let time = sample.time.0;
        let span = self.spans.partition_point(|(_, to)| *to < time);
        if self.spans.get(span).is_some_and(|(from, _)| *from <= time) {
            self.samples.entry(labels.clone()).or_default().push(sample);
        }
    }

    pub fn into_source(self) -> MemorySource {
        let series = self.samples.into_iter().map(|(labels, mut samples)| {
            samples.sort_by_key(|sample| sample.time);
            MemorySeries { labels, samples, look_back: LOOK_BACK }
        });
        MemorySource::new(series.collect())
    }
}

/// The times at which an expression looks, at least.
fn span(test: &ExpressionTest, step: Duration) -> (i64, i64) {
    let time = millis(test.time);
    let Ok(expression) = promql::parse(&test.expression) else { return (time, time) };
    let selected = selectors(&expression, step);
    if selected.iter().any(|it| it.is_fixed) {
        return (i64::MIN, i64::MAX);
    }
    let reach = selected.iter().map(|it| it.reach).max().unwrap_or(0).max(0);
    // An offset may look ahead.
    let to = if test.expression.to_lowercase().contains("offset") { i64::MAX } else { time };
    (time.saturating_sub(reach).saturating_sub(millis(LOOK_BACK)), to)
}
