//! Times of which the store has only summaries left. No rule can be tried there: who asks about the past is told. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{SeriesId, Thinned, Timestamp, Window};

/// A time of which only summaries are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summarized {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub to: Timestamp,
    /// Seconds that one summary stands for.
    pub each_s: u32,
    /// Readings of the series in question that the summaries stand for.
    pub readings: u64,
}

/// Summaries of the series in question.
#[derive(Debug, Default)]
pub struct Summaries(BTreeMap<(Timestamp, Window), u64>);

impl Summaries {
    /// Takes what of `thinned` is about series that are asked about; `corrected` sets times right.
    pub fn take(
        &mut self,
        thinned: &Thinned,
        is_asked: impl Fn(SeriesId) -> bool,
        corrected: impl Fn(Timestamp) -> Timestamp,
    ) {
        for aggregate in thinned.aggregates.iter().filter(|aggregate| is_asked(aggregate.series)) {
            let readings = self.0.entry((corrected(aggregate.start), thinned.window)).or_default();
            *readings += u64::from(aggregate.count) + u64::from(aggregate.bad);
        }
    }

    /// The times after `from` and before `to`, oldest first; neighbours are one.
    pub fn within(&self, from: Timestamp, to: Timestamp) -> Vec<Summarized> {
        let mut found: Vec<Summarized> = Vec::new();
        for ((start, window), readings) in &self.0 {
            let (end, each_s) = (start.after(window.length()), window.seconds());
            if end <= from || *start >= to {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.each_s == each_s && *start <= last.to => {
                    last.to = last.to.max(end.min(to));
                    last.readings += readings;
                }
                _ => found.push(Summarized { from: from.max(*start), to: end.min(to), each_s, readings: *readings }),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Aggregate, Summary};

    fn minute(series: u32, minute: i64) -> Aggregate {
        let start = Timestamp(minute * 60_000);
        let summary = Summary::Nothing;
        Aggregate { series: SeriesId(series), start, count: 50, bad: 10, last_time: start, summary }
    }

    #[test]
    fn neighbouring_summaries_are_one_time_and_series_that_nobody_asks_about_are_none() {
        let aggregates = vec![minute(1, 3), minute(1, 4), minute(2, 3), minute(1, 9), minute(7, 6)];
        let mut summaries = Summaries::default();

        summaries.take(
            &Thinned { window: Window::Minute, replaces: Vec::new(), aggregates },
            |id| id != SeriesId(7),
            |time| Timestamp(time.0 + 1000),
        );

        let found = summaries.within(Timestamp(200_000), Timestamp(560_000));
        let shown: Vec<(i64, i64, u64)> = found.iter().map(|it| (it.from.0, it.to.0, it.readings)).collect();
        assert_eq!(shown, [(200_000, 301_000, 180), (541_000, 560_000, 60)]);
        assert!(summaries.within(Timestamp(700_000), Timestamp(800_000)).is_empty());
    }
}
