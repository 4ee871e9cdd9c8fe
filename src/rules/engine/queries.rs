//! The queries of templates, answered from the series that rules keep.

use std::cell::Cell;
use std::time::Duration;

use promql_parser::label::Matcher;

use crate::model::{Timestamp, promql};
use crate::rules::eval::check::{refusals, selectors};
use crate::rules::eval::{Evaluator, Source};
use crate::rules::live::{Labels, LiveTable};
use crate::rules::ring::Sample;
use crate::rules::text::{self, Queries};

/// Most samples that the queries of one text may look at: no alarm may hold up the readings.
const SAMPLES_MAX: u64 = 200_000;

/// Step of subqueries that do not say, as in Prometheus.
const STEP: Duration = Duration::from_secs(60);

/// Notes in `table` what the queries of these texts select, so that its samples are kept.
pub(super) fn select<'t>(texts: impl Iterator<Item = &'t String>, table: &mut LiveTable) {
    // Texts with faults were refused when their file was read.
    for query in texts.flat_map(|text| text::check(text).unwrap_or_default()) {
        // A fixed time is refused where it is known; nothing is kept for it.
        for selected in selectors(&query.expression, STEP).into_iter().filter(|selected| !selected.is_fixed) {
            let keep = Duration::from_millis(u64::try_from(selected.reach).unwrap_or(0));
            table.select(selected.matchers, keep);
        }
    }
}

/// Answers queries at the time of an evaluation.
pub(super) struct TableQueries<'a> {
    table: &'a LiveTable,
    time: Timestamp,
    left: Cell<u64>,
}

impl<'a> TableQueries<'a> {
    pub fn new(table: &'a LiveTable, time: Timestamp) -> Self {
        Self { table, time, left: Cell::new(SAMPLES_MAX) }
    }
}

impl Queries for TableQueries<'_> {
    fn now(&self) -> Timestamp {
        self.time
    }

    fn query(&self, expression: &str) -> Result<Vec<text::Sample>, String> {
        let parsed = promql::parse(expression).map_err(|reason| format!("{expression:?}: {reason}"))?;
        let refused = refusals(&parsed, STEP);
        if !refused.is_empty() {
            return Err(format!("{expression:?}: {}", refused.join("; ")));
        }
        let evaluator = Evaluator::with_limit(self, self.time, STEP, self.left.get());
        let found = evaluator.vector(&parsed);
        self.left.set(self.left.get().saturating_sub(evaluator.looked_at()));
        let elements = found.map_err(|error| format!("{expression:?}: {error}"))?;
        let sample = |element: crate::rules::eval::Element| text::Sample {
            labels: (*element.labels).clone(),
            value: element.value,
        };
        Ok(elements.into_iter().map(sample).collect())
    }
}

impl Source for TableQueries<'_> {
    fn select(&self, matchers: &[Matcher]) -> Vec<usize> {
        let series = self.table.all().iter().enumerate();
        let taken = series.filter(|(_, series)| crate::rules::unmatched::takes(matchers, &series.spec.labels));
        taken.map(|(position, _)| position).collect()
    }

    fn labels(&self, position: usize) -> &Labels {
        &self.table.series(position).spec.labels
    }

    fn at(&self, position: usize, time: Timestamp) -> Option<Sample> {
        self.table.series(position).at(time)
    }

    fn range(&self, position: usize, from: Timestamp, to: Timestamp, into: &mut Vec<Sample>) {
        into.extend(self.table.series(position).ring.range(from, to));
    }
}
