//! Series in memory: those of unit tests, and of what was read from a store.

use std::time::Duration;

use promql_parser::label::Matcher;

use super::{Source, before};
use crate::model::Timestamp;
use crate::rules::live::Labels;
use crate::rules::ring::Sample;

/// One series with all its samples.
#[derive(Debug, Clone)]
pub struct MemorySeries {
    /// Its labels, with the name.
    pub labels: Labels,
    /// Its samples in order; the mark of an end is one.
    pub samples: Vec<Sample>,
    /// For so long a sample stands for the series.
    pub look_back: Duration,
}

/// Series in the order of their labels.
#[derive(Debug, Default)]
pub struct MemorySource {
    series: Vec<MemorySeries>,
}

impl MemorySource {
    /// A source of these series.
    pub fn new(mut series: Vec<MemorySeries>) -> Self {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Self { series }
    }
}

impl Source for MemorySource {
    fn select(&self, matchers: &[Matcher]) -> Vec<usize> {
        let takes = |position: &usize| {
            let labels = &self.series[*position].labels;
            matchers.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name).map_or("", String::as_str)))
        };
        (0..self.series.len()).filter(takes).collect()
    }

    fn labels(&self, position: usize) -> &Labels {
        &self.series[position].labels
    }

    fn at(&self, position: usize, time: Timestamp) -> Option<Sample> {
        let series = &self.series[position];
        let after = series.samples.partition_point(|sample| sample.time <= time);
        let sample = *series.samples.get(after.checked_sub(1)?)?;
        (sample.time > before(time, series.look_back) && sample.is_value()).then_some(sample)
    }

    fn range(&self, position: usize, from: Timestamp, to: Timestamp, into: &mut Vec<Sample>) {
        let samples = &self.series[position].samples;
        let first = samples.partition_point(|sample| sample.time <= from);
        let end = samples.partition_point(|sample| sample.time <= to).max(first);
        into.extend(samples[first..end].iter().filter(|sample| sample.is_value()));
    }
}
