//! The whole of PromQL over series of any source: slower than a [`plan`](super::plan), for what has none. Pure.
//!
//! Results are those of Prometheus 3: ranges and look-back are open on the left, sums are compensated where Prometheus
//! does so, and rates are extrapolated in the same way. There are no native histograms; what is experimental is
//! refused by name ([`check`]), with `double_exponential_smoothing` as the exception.

mod aggregate;
mod binary;
mod calendar;
pub mod check;
mod functions;
mod histogram;
mod labels;
mod math;
mod memory;
mod ranges;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use promql_parser::label::Matcher;
use promql_parser::parser::{AtModifier, Expr, Offset, SubqueryExpr, VectorSelector};

pub use self::labels::shown;
pub use self::math::{is_close, same_number};
pub use self::memory::{MemorySeries, MemorySource};
use super::live::Labels;
use super::plan::{matchers, without_name};
use super::ring::Sample;
use crate::model::Timestamp;

/// Most samples that one evaluation may look at: so that no expression holds up the readings.
const SAMPLES_MAX: u64 = 5_000_000;

/// Series and their samples.
pub trait Source {
    /// Positions of the series that all `matchers` take.
    fn select(&self, matchers: &[Matcher]) -> Vec<usize>;

    /// Labels of a series, with its name.
    fn labels(&self, position: usize) -> &Labels;

    /// The sample that stands for a series at `time`: the newest that is not after it, unless it is older than the
    /// look-back of the series or the series has ended.
    fn at(&self, position: usize, time: Timestamp) -> Option<Sample>;

    /// Adds the samples of a series after `from` and not after `to`, in order, without marks of its end.
    fn range(&self, position: usize, from: Timestamp, to: Timestamp, into: &mut Vec<Sample>);
}

/// A number of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// What it is about.
    pub labels: Labels,
    /// The number.
    pub value: f64,
}

/// The samples of one series in a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The series.
    pub labels: Labels,
    /// Its samples, in order.
    pub samples: Vec<Sample>,
}

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A number about nothing in particular.
    Scalar(f64),
    /// A text.
    Text(String),
    /// Numbers about series.
    Vector(Vec<Element>),
    /// Samples of a range.
    Matrix(Vec<Line>),
}

/// Why an expression has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Several series on the side of one.
    #[error(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: {first} and {second}; many-to-many matching not allowed: matching labels must be unique on one side"
    )]
    ManyToMany {
        /// Labels that are matched.
        group: String,
        /// `left` or `right`.
        side: &'static str,
        /// One of the series.
        first: String,
        /// The other.
        second: String,
    },
    /// Several series fit where one is expected.
    #[error("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")]
    ManyToOne,
    /// The labels of a grouping do not tell the results apart.
    #[error("multiple matches for labels: grouping labels must ensure unique matches")]
    NotUnique,
    /// Two results have the same labels.
    #[error("vector cannot contain metrics with the same labelset: {0}")]
    SameLabels(String),
    /// An argument is not allowed.
    #[error("{0}")]
    Argument(String),
    /// It would look at too many samples.
    #[error("the expression looks at more than {0} samples")]
    TooMuch(u64),
}

/// Evaluates expressions over a source.
pub struct Evaluator<'a> {
    source: &'a dyn Source,
    /// Time of the whole evaluation, for `@ start()` and `@ end()`.
    whole: Timestamp,
    /// Step of subqueries that do not say.
    step: Duration,
    looked_at: Cell<u64>,
    most: u64,
}

/// Samples of a range, and where it lies.
struct Ranges {
    lines: Vec<Line>,
    /// The end of the range.
    end: Timestamp,
    span: Duration,
}

impl<'a> Evaluator<'a> {
    /// An evaluation at `time`; subqueries that do not say otherwise go by `step`.
    pub fn new(source: &'a dyn Source, time: Timestamp, step: Duration) -> Self {
        Self::with_limit(source, time, step, SAMPLES_MAX)
    }

    /// As [`new`](Self::new), looking at `most` samples at most.
    pub fn with_limit(source: &'a dyn Source, time: Timestamp, step: Duration, most: u64) -> Self {
        Self { source, whole: time, step, looked_at: Cell::new(0), most }
    }

    /// How many samples it has looked at.
    pub fn looked_at(&self) -> u64 {
        self.looked_at.get()
    }

    /// What `expression` comes to.
    ///
    /// # Errors
    /// The expression has no result over these series.
    pub fn evaluate(&self, expression: &Expr) -> Result<Found, EvalError> {
        self.at(expression, self.whole)
    }

    /// As [`evaluate`](Self::evaluate), for a rule: a number about nothing is one without labels.
    ///
    /// # Errors
    /// The expression has no result over these series, or is no vector.
    pub fn vector(&self, expression: &Expr) -> Result<Vec<Element>, EvalError> {
        match self.evaluate(expression)? {
            Found::Vector(elements) => Ok(elements),
            Found::Scalar(value) => Ok(vec![Element { labels: Labels::default(), value }]),
            Found::Text(_) | Found::Matrix(_) => {
                Err(EvalError::Argument("rule result is not a vector or scalar".to_owned()))
            }
        }
    }

    fn at(&self, expression: &Expr, time: Timestamp) -> Result<Found, EvalError> {
        match expression {
            Expr::Paren(paren) => self.at(&paren.expr, time),
            Expr::NumberLiteral(literal) => Ok(Found::Scalar(literal.val)),
            Expr::StringLiteral(literal) => Ok(Found::Text(literal.val.clone())),
            Expr::VectorSelector(selector) => {
                let found = self.selected(selector, time)?;
                Ok(Found::Vector(found.into_iter().map(|(labels, it)| Element { labels, value: it.value }).collect()))
            }
            Expr::MatrixSelector(_) | Expr::Subquery(_) => Ok(Found::Matrix(self.ranges(expression, time)?.lines)),
            Expr::Unary(unary) => Ok(match self.at(&unary.expr, time)? {
                Found::Scalar(value) => Found::Scalar(-value),
                Found::Vector(elements) => {
                    let negated = |element: Element| unnamed(&element.labels, -element.value);
                    Found::Vector(distinct(elements.into_iter().map(negated).collect())?)
                }
                other => other,
            }),
            Expr::Binary(binary) => self.binary(binary, time),
            Expr::Aggregate(aggregate) => Ok(Found::Vector(self.aggregate(aggregate, time)?)),
            Expr::Call(call) => self.call(call, time),
            Expr::Extension(_) => Err(EvalError::Argument("extensions of the language are not known here".to_owned())),
        }
    }

    fn vector_at(&self, expression: &Expr, time: Timestamp) -> Result<Vec<Element>, EvalError> {
        match self.at(expression, time)? {
            Found::Vector(elements) => Ok(elements),
            _ => Err(EvalError::Argument(format!("expected an instant vector, got {expression}"))),
        }
    }

    fn scalar_at(&self, expression: &Expr, time: Timestamp) -> Result<f64, EvalError> {
        match self.at(expression, time)? {
            Found::Scalar(value) => Ok(value),
            _ => Err(EvalError::Argument(format!("expected a scalar, got {expression}"))),
        }
    }

    /// The samples that stand for the series of a selector.
    fn selected(&self, selector: &VectorSelector, time: Timestamp) -> Result<Vec<(Labels, Sample)>, EvalError> {
        let time = self.moved(selector.at.as_ref(), selector.offset.as_ref(), time);
        let positions = self.source.select(&all_matchers(selector)?);
        self.look_at(positions.len())?;
        let found = positions
            .into_iter()
            .filter_map(|position| Some((self.source.labels(position).clone(), self.source.at(position, time)?)));
        Ok(found.collect())
    }

    fn ranges(&self, expression: &Expr, time: Timestamp) -> Result<Ranges, EvalError> {
        match expression {
            Expr::Paren(paren) => self.ranges(&paren.expr, time),
            Expr::Subquery(subquery) => self.subquery(subquery, time),
            Expr::MatrixSelector(matrix) => {
                let end = self.moved(matrix.vs.at.as_ref(), matrix.vs.offset.as_ref(), time);
                let from = before(end, matrix.range);
                let mut lines = Vec::new();
                for position in self.source.select(&all_matchers(&matrix.vs)?) {
                    let mut samples = Vec::new();
                    self.source.range(position, from, end, &mut samples);
                    self.look_at(samples.len())?;
                    if !samples.is_empty() {
                        lines.push(Line { labels: self.source.labels(position).clone(), samples });
                    }
                }
                Ok(Ranges { lines, end, span: matrix.range })
            }
            other => Err(EvalError::Argument(format!("expected a range vector, got {other}"))),
        }
    }

    /// Evaluations at whole multiples of the step, whatever the time of the evaluation is.
    fn subquery(&self, subquery: &SubqueryExpr, time: Timestamp) -> Result<Ranges, EvalError> {
        let end = self.moved(subquery.at.as_ref(), subquery.offset.as_ref(), time);
        let step = millis(subquery.step.unwrap_or(self.step)).max(1);
        let first = before(end, subquery.range).0.div_euclid(step).saturating_add(1).saturating_mul(step);
        let mut lines: Vec<Line> = Vec::new();
        let mut known = std::collections::HashMap::new();
        let mut at = first;
        while at <= end.0 {
            self.look_at(1)?;
            for element in self.vector_at(&subquery.expr, Timestamp(at))? {
                let line = *known.entry(element.labels.clone()).or_insert_with(|| {
                    lines.push(Line { labels: element.labels.clone(), samples: Vec::new() });
                    lines.len() - 1
                });
                lines[line].samples.push(Sample { time: Timestamp(at), value: element.value });
            }
            at = at.saturating_add(step);
        }
        Ok(Ranges { lines, end, span: subquery.range })
    }

    /// The time that `@` and `offset` make of `time`.
    fn moved(&self, at: Option<&AtModifier>, offset: Option<&Offset>, time: Timestamp) -> Timestamp {
        let time = match at {
            None => time,
            Some(AtModifier::Start | AtModifier::End) => self.whole,
            Some(AtModifier::At(fixed)) => timestamp_of(*fixed),
        };
        match offset {
            None => time,
            Some(Offset::Pos(span)) => before(time, *span),
            Some(Offset::Neg(span)) => time.after(*span),
        }
    }

    fn look_at(&self, samples: usize) -> Result<(), EvalError> {
        self.looked_at.set(self.looked_at.get() + samples as u64);
        if self.looked_at.get() > self.most { Err(EvalError::TooMuch(self.most)) } else { Ok(()) }
    }
}

fn all_matchers(selector: &VectorSelector) -> Result<Vec<Matcher>, EvalError> {
    matchers(selector).ok_or_else(|| EvalError::Argument(format!("alternatives in a selector: {selector}")))
}

fn timestamp_of(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Timestamp(millis(since)),
        Err(before) => Timestamp(-millis(before.duration())),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn before(time: Timestamp, span: Duration) -> Timestamp {
    Timestamp(time.0.saturating_sub(millis(span)))
}

/// A number about the same series, which is no longer that series itself.
fn unnamed(labels: &Labels, value: f64) -> Element {
    Element { labels: without_name(labels), value }
}

/// The elements, if no two of them have the same labels.
fn distinct(elements: Vec<Element>) -> Result<Vec<Element>, EvalError> {
    let mut seen = std::collections::HashSet::with_capacity(elements.len());
    match elements.iter().find(|element| !seen.insert(&element.labels)) {
        Some(twice) => Err(EvalError::SameLabels(labels::shown(&twice.labels))),
        None => {
            drop(seen);
            Ok(elements)
        }
    }
}
