//! Expressions that have no prepared form: evaluated as a whole each time. Pure.

use std::collections::HashMap;
use std::time::Duration;

use promql_parser::label::Matcher;
use promql_parser::parser::Expr;

use super::eval::check::selectors;
use super::eval::{EvalError, Evaluator, Source};
use super::live::{Labels, LiveTable};
use super::plan::{Cell, Of};
use super::ring::Sample;
use crate::model::Timestamp;

/// An expression with the selectors that its samples are kept for.
#[derive(Debug)]
pub struct General {
    expression: Expr,
    selectors: Vec<(Vec<Matcher>, usize)>,
    reach: i64,
    query_offset: i64,
    step: Duration,
    /// Labels of the newest results; the same labels keep their number from one evaluation to the next.
    results: HashMap<usize, Labels>,
    numbers: HashMap<Labels, usize>,
    next: usize,
    failure: Option<EvalError>,
}

impl General {
    /// Notes in `table` what `expression` selects; subqueries that do not say otherwise go by `step`.
    pub fn new(expression: &Expr, query_offset: i64, step: Duration, table: &mut LiveTable) -> Self {
        let found = selectors(expression, step);
        let reach = found.iter().map(|selected| selected.reach).max().unwrap_or(0).saturating_add(query_offset);
        let select = |selected: super::eval::check::Selected| {
            let keep = selected.reach.saturating_add(query_offset);
            let keep = Duration::from_millis(u64::try_from(keep).unwrap_or(0));
            let position = table.select(selected.matchers.clone(), keep);
            (selected.matchers, position)
        };
        Self {
            expression: expression.clone(),
            selectors: found.into_iter().map(select).collect(),
            reach,
            query_offset,
            step,
            results: HashMap::new(),
            numbers: HashMap::new(),
            next: 0,
            failure: None,
        }
    }

    /// The result at `time`, into `cells`; none when there is a [`failure`](Self::failure).
    pub fn evaluate(&mut self, table: &LiveTable, time: Timestamp, cells: &mut Vec<Cell>) {
        let source = LiveSource { table, selectors: &self.selectors };
        let time = Timestamp(time.0.saturating_sub(self.query_offset));
        let found = Evaluator::new(&source, time, self.step).vector(&self.expression);
        let before = std::mem::take(&mut self.numbers);
        self.results.clear();
        self.failure = None;
        match found {
            Err(error) => self.failure = Some(error),
            Ok(elements) => {
                for element in elements {
                    let number = before.get(&element.labels).copied().unwrap_or_else(|| {
                        self.next += 1;
                        self.next
                    });
                    self.numbers.insert(element.labels.clone(), number);
                    self.results.insert(number, element.labels);
                    cells.push(Cell { of: Of::Group(number), value: element.value });
                }
            }
        }
    }

    /// Why the newest evaluation has no result.
    pub fn failure(&self) -> Option<&EvalError> {
        self.failure.as_ref()
    }

    /// Labels of a result of the newest evaluation.
    pub fn labels(&self, number: usize) -> Labels {
        self.results.get(&number).cloned().unwrap_or_default()
    }

    /// How far back it looks, in milliseconds.
    pub fn reach(&self) -> i64 {
        self.reach
    }

    /// The selectors that it looks at.
    pub fn selectors(&self) -> impl Iterator<Item = usize> + '_ {
        self.selectors.iter().map(|(_, position)| *position)
    }
}

/// The live series, as far as an expression selects them.
struct LiveSource<'a> {
    table: &'a LiveTable,
    selectors: &'a [(Vec<Matcher>, usize)],
}

impl Source for LiveSource<'_> {
    fn select(&self, matchers: &[Matcher]) -> Vec<usize> {
        let known = self.selectors.iter().find(|(known, _)| known == matchers);
        known.map(|(_, position)| self.table.selector(*position).members().to_vec()).unwrap_or_default()
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
