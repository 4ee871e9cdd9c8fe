//! The frequent forms of an expression, so prepared that an evaluation costs the same however long its windows are.
//!
//! `f_over_time(selector[w])`, rates and the like, and plain selectors; aggregated by labels or not; calculated and
//! compared with numbers. What is of another form is evaluated as a whole
//! ([`general`](super::general)). Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use promql_parser::label::{METRIC_NAME, MatchOp, Matcher};
use promql_parser::parser::{AggregateExpr, Call, Expr, LabelModifier, Offset, VectorSelector, token};

use super::bounded::Bounded;
use super::eval::EvalError;
use super::general::General;
use super::live::{Labels, LiveTable, NAME, WindowKey};
use super::range::{RangeFunction, RangeWindow};
use super::ring::Ring;
use crate::model::Timestamp;

/// A number of a result and what it is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// A series or a group.
    pub of: Of,
    /// The number.
    pub value: f64,
}

/// What a number is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Of {
    /// The series at this position.
    Series(usize),
    /// This group of the aggregation.
    Group(usize),
}

/// An expression that is ready to be evaluated.
#[derive(Debug)]
#[allow(missing_docs, reason = "what the fields are, the expression says")]
pub enum Plan {
    /// A series as it is.
    Instant { selector: usize, behind: i64 },
    /// A function over windows.
    Range { windows: usize, function: RangeFunction, offset: i64 },
    /// A calculation or comparison with a number.
    With { plan: Box<Plan>, number: f64, operation: Operation, number_first: bool, is_bool: bool },
    /// A function over ranges that something other than the clock bounds.
    Bounded(Box<Bounded>),
    /// Whatever has none of these forms.
    General(Box<General>),
    /// Groups of series.
    Aggregate { plan: Box<Plan>, aggregation: Aggregation, groups: Groups },
}

/// Operators between a vector and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Aggregations whose result follows from one run over the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Aggregation {
    Sum,
    Average,
    Least,
    Greatest,
    Count,
    Group,
}

/// Which series belong together, found out once for each series.
#[derive(Debug)]
pub struct Groups {
    /// Labels to keep, or to drop.
    by: Vec<String>,
    keeps: bool,
    of: HashMap<Of, usize>,
    by_labels: HashMap<Labels, usize>,
    labels: Vec<Labels>,
    totals: Vec<Option<(f64, f64, u64)>>,
}

/// Who plans: windows of one owner move together.
#[derive(Debug, Clone, Copy)]
pub struct Planner {
    /// The group of rules.
    pub owner: usize,
    /// How far behind its time the group looks.
    pub query_offset: Duration,
    /// Step of subqueries that do not say.
    pub step: Duration,
}

impl Planner {
    /// The plan of any expression.
    pub fn plan_any(self, expression: &Expr, table: &mut LiveTable) -> Plan {
        let query_offset = i64::try_from(self.query_offset.as_millis()).unwrap_or(i64::MAX);
        let general = |table| Plan::General(Box::new(General::new(expression, query_offset, self.step, table)));
        self.plan(expression, table).unwrap_or_else(|| general(table))
    }

    /// The plan of an expression, with its selectors and windows noted in `table`; nothing when it is of another form.
    pub fn plan(self, expression: &Expr, table: &mut LiveTable) -> Option<Plan> {
        match expression {
            Expr::Paren(paren) => self.plan(&paren.expr, table),
            Expr::VectorSelector(selector) => {
                let behind = self.behind(selector)?;
                let selector = table.select(matchers(selector)?, as_span(behind));
                Some(Plan::Instant { selector, behind })
            }
            Expr::Call(call) => self.plan_call(call, table),
            Expr::Aggregate(aggregate) => self.plan_aggregate(aggregate, table),
            Expr::Binary(binary) => {
                let operation = operation(binary.op.id())?;
                let is_bool = binary.modifier.as_ref().is_some_and(|modifier| modifier.return_bool);
                let (inner, number, number_first) = match (number(&binary.lhs), number(&binary.rhs)) {
                    (None, Some(number)) => (&binary.lhs, number, false),
                    (Some(number), None) => (&binary.rhs, number, true),
                    (Some(_), Some(_)) | (None, None) => return None,
                };
                let plan = Box::new(self.plan(inner, table)?);
                Some(Plan::With { plan, number, operation, number_first, is_bool })
            }
            _ => None,
        }
    }

    fn plan_call(self, call: &Call, table: &mut LiveTable) -> Option<Plan> {
        let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
        let (function, range) = match (call.func.name, arguments.as_slice()) {
            ("predict_linear", [Expr::MatrixSelector(range), ahead]) => (RangeFunction::Predict(number(ahead)?), range),
            (name, [Expr::MatrixSelector(range)]) => (RangeFunction::named(name)?, range),
            _ => return None,
        };
        let behind = self.behind(&range.vs)?;
        let selector = table.select(matchers(&range.vs)?, range.range + as_span(behind));
        let key = WindowKey { selector, shape: function.shape(), span: range.range, owner: self.owner, behind };
        let offset = offset(range.vs.offset.as_ref());
        Some(Plan::Range { windows: table.windows(key), function, offset })
    }

    fn plan_aggregate(self, aggregate: &AggregateExpr, table: &mut LiveTable) -> Option<Plan> {
        let aggregation = match aggregate.op.id() {
            token::T_SUM => Aggregation::Sum,
            token::T_AVG => Aggregation::Average,
            token::T_MIN => Aggregation::Least,
            token::T_MAX => Aggregation::Greatest,
            token::T_COUNT => Aggregation::Count,
            token::T_GROUP => Aggregation::Group,
            _ => return None,
        };
        let (by, keeps) = match &aggregate.modifier {
            None => (Vec::new(), true),
            Some(LabelModifier::Include(labels)) => (labels.labels.clone(), true),
            Some(LabelModifier::Exclude(labels)) => (labels.labels.clone(), false),
        };
        let plan = Box::new(self.plan(&aggregate.expr, table)?);
        Some(Plan::Aggregate { plan, aggregation, groups: Groups::new(by, keeps) })
    }

    /// How far behind the evaluation a selector looks; nothing when that is no fixed distance.
    fn behind(self, selector: &VectorSelector) -> Option<i64> {
        let query_offset = i64::try_from(self.query_offset.as_millis()).ok()?;
        selector.at.is_none().then(|| offset(selector.offset.as_ref()) + query_offset)
    }
}

fn offset(offset: Option<&Offset>) -> i64 {
    let millis = |span: &Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match offset {
        None => 0,
        Some(Offset::Pos(span)) => millis(span),
        Some(Offset::Neg(span)) => -millis(span),
    }
}

fn as_span(behind: i64) -> Duration {
    Duration::from_millis(u64::try_from(behind).unwrap_or(0))
}

/// All matchers of a selector, that of its name among them; nothing when alternatives are among them.
pub fn matchers(selector: &VectorSelector) -> Option<Vec<Matcher>> {
    if !selector.matchers.or_matchers.is_empty() {
        return None;
    }
    let name = selector.name.iter().map(|name| Matcher::new(MatchOp::Equal, METRIC_NAME, name));
    Some(name.chain(selector.matchers.matchers.iter().cloned()).collect())
}

fn number(expression: &Expr) -> Option<f64> {
    match expression {
        Expr::NumberLiteral(literal) => Some(literal.val),
        Expr::Paren(paren) => number(&paren.expr),
        Expr::Unary(unary) => number(&unary.expr).map(|number| -number),
        Expr::Binary(binary) => {
            let operation = operation(binary.op.id()).filter(|operation| !operation.compares())?;
            Some(operation.of(number(&binary.lhs)?, number(&binary.rhs)?))
        }
        _ => None,
    }
}

/// The operator that a token stands for, where it calculates or compares.
pub(super) fn operation(id: token::TokenId) -> Option<Operation> {
    Some(match id {
        token::T_ADD => Operation::Add,
        token::T_SUB => Operation::Subtract,
        token::T_MUL => Operation::Multiply,
        token::T_DIV => Operation::Divide,
        token::T_MOD => Operation::Remainder,
        token::T_POW => Operation::Power,
        token::T_EQLC => Operation::Equal,
        token::T_NEQ => Operation::NotEqual,
        token::T_LSS => Operation::Less,
        token::T_LTE => Operation::LessOrEqual,
        token::T_GTR => Operation::Greater,
        token::T_GTE => Operation::GreaterOrEqual,
        _ => return None,
    })
}

impl Operation {
    /// Whether it answers yes or no.
    pub fn compares(self) -> bool {
        match self {
            Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Remainder | Self::Power => false,
            Self::Equal | Self::NotEqual | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => {
                true
            }
        }
    }

    /// The result; 1 and 0 for yes and no.
    pub fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Remainder => left % right,
            Self::Power => left.powf(right),
            Self::Equal => f64::from(left == right),
            Self::NotEqual => f64::from(left != right),
            Self::Less => f64::from(left < right),
            Self::LessOrEqual => f64::from(left <= right),
            Self::Greater => f64::from(left > right),
            Self::GreaterOrEqual => f64::from(left >= right),
        }
    }
}

impl Plan {
    /// The result at `time`, into `cells`.
    pub fn evaluate(&mut self, table: &mut LiveTable, time: Timestamp, cells: &mut Vec<Cell>) {
        self.run(table, time, None, cells);
    }

    /// The part of the result that is about these series; all of it where series are aggregated. The positions rise.
    pub fn evaluate_of(&mut self, table: &mut LiveTable, time: Timestamp, positions: &[usize], cells: &mut Vec<Cell>) {
        self.run(table, time, Some(positions), cells);
    }

    fn run(&mut self, table: &mut LiveTable, time: Timestamp, only: Option<&[usize]>, cells: &mut Vec<Cell>) {
        cells.clear();
        match self {
            Self::Instant { selector, behind } => {
                let at = Timestamp(time.0.saturating_sub(*behind));
                for position in table.members(*selector, only) {
                    if let Some(sample) = table.series(position).at(at) {
                        cells.push(Cell { of: Of::Series(position), value: sample.value });
                    }
                }
            }
            Self::Range { windows, function, offset } => {
                let found = |position: usize, window: &RangeWindow, ring: &Ring| {
                    if let Some(value) = window.value(*function, ring, *offset) {
                        cells.push(Cell { of: Of::Series(position), value });
                    }
                };
                match only {
                    None => table.evaluate(*windows, time, found),
                    Some(positions) => table.evaluate_of(*windows, time, positions, found),
                }
            }
            Self::Bounded(bounded) => bounded.evaluate(table, time, only, cells),
            Self::General(general) => general.evaluate(table, time, cells),
            Self::With { plan, number, operation, number_first, is_bool } => {
                plan.run(table, time, only, cells);
                let keeps_all = *is_bool || !operation.compares();
                cells.retain_mut(|cell| {
                    let (left, right) = if *number_first { (*number, cell.value) } else { (cell.value, *number) };
                    let result = operation.of(left, right);
                    if keeps_all {
                        cell.value = result;
                    }
                    keeps_all || result == 1.0
                });
            }
            Self::Aggregate { plan, aggregation, groups } => {
                plan.run(table, time, None, cells);
                groups.aggregate(*aggregation, cells, |of| plan.labels(table, of));
            }
        }
    }

    /// Whether the result about a series depends on that series alone.
    pub fn is_of_single_series(&self) -> bool {
        match self {
            Self::Instant { .. } | Self::Range { .. } | Self::Bounded(_) => true,
            Self::With { plan, .. } => plan.is_of_single_series(),
            Self::Aggregate { .. } | Self::General(_) => false,
        }
    }

    /// What is compared, without the comparison: the value also where the comparison does not hold.
    pub fn compared(&mut self) -> &mut Self {
        if !matches!(self, Self::With { operation, is_bool: false, .. } if operation.compares()) {
            return self;
        }
        match self {
            Self::With { plan, .. } => plan.compared(),
            other => other,
        }
    }

    /// How far back the plan looks, in milliseconds.
    pub fn reach(&self, table: &LiveTable) -> i64 {
        match self {
            Self::Instant { behind, .. } => *behind,
            Self::Range { windows, .. } => table.reach(*windows),
            Self::Bounded(bounded) => bounded.reach(),
            Self::General(general) => general.reach(),
            Self::With { plan, .. } | Self::Aggregate { plan, .. } => plan.reach(table),
        }
    }

    /// The labels of a result.
    pub fn labels(&self, table: &LiveTable, of: Of) -> Labels {
        let named = || match of {
            Of::Series(position) => table.series(position).spec.labels.clone(),
            Of::Group(_) => Labels::default(),
        };
        match self {
            Self::Instant { .. } => named(),
            Self::Range { function, .. } if function.keeps_name() => named(),
            Self::Bounded(bounded) if bounded.function.keeps_name() => named(),
            Self::Range { .. } | Self::Bounded(_) => without_name(&named()),
            Self::With { plan, operation, is_bool, .. } if operation.compares() && !is_bool => plan.labels(table, of),
            Self::With { plan, .. } => without_name(&plan.labels(table, of)),
            Self::General(general) => match of {
                Of::Group(number) => general.labels(number),
                Of::Series(_) => Labels::default(),
            },
            Self::Aggregate { groups, .. } => match of {
                Of::Group(group) => groups.labels[group].clone(),
                Of::Series(_) => Labels::default(),
            },
        }
    }

    /// The selectors that the plan looks at.
    pub fn selectors(&self, table: &LiveTable) -> Vec<usize> {
        match self {
            Self::Instant { selector, .. } => vec![*selector],
            Self::Range { windows, .. } => vec![table.selector_of(*windows)],
            Self::Bounded(bounded) => vec![bounded.selector],
            Self::General(general) => general.selectors().collect(),
            Self::With { plan, .. } | Self::Aggregate { plan, .. } => plan.selectors(table),
        }
    }

    /// Why the newest evaluation has no result, where it has none.
    pub fn failure(&self) -> Option<&EvalError> {
        match self {
            Self::General(general) => general.failure(),
            Self::Instant { .. } | Self::Range { .. } | Self::Bounded(_) => None,
            Self::With { plan, .. } | Self::Aggregate { plan, .. } => plan.failure(),
        }
    }
}

/// The labels without the name.
pub fn without_name(labels: &Labels) -> Labels {
    if !labels.contains_key(NAME) {
        return labels.clone();
    }
    let kept = labels.iter().filter(|(key, _)| *key != NAME);
    Arc::new(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

impl Groups {
    fn new(by: Vec<String>, keeps: bool) -> Self {
        Self { by, keeps, of: HashMap::new(), by_labels: HashMap::new(), labels: Vec::new(), totals: Vec::new() }
    }

    fn aggregate(&mut self, aggregation: Aggregation, cells: &mut Vec<Cell>, labels: impl Fn(Of) -> Labels) {
        self.totals.fill(None);
        for cell in cells.iter() {
            let group = self.group(cell.of, &labels);
            let (total, lost, count) = self.totals[group].unwrap_or((cell.value, 0.0, 0));
            self.totals[group] = Some(match aggregation {
                _ if count == 0 => (cell.value, 0.0, 1),
                Aggregation::Sum | Aggregation::Average => {
                    let (sum, lost_now) = compensated(total, cell.value);
                    (sum, lost + lost_now, count + 1)
                }
                Aggregation::Least => {
                    (if cell.value < total || total.is_nan() { cell.value } else { total }, 0.0, count + 1)
                }
                Aggregation::Greatest => {
                    (if cell.value > total || total.is_nan() { cell.value } else { total }, 0.0, count + 1)
                }
                Aggregation::Count | Aggregation::Group => (total, 0.0, count + 1),
            });
        }
        cells.clear();
        let totals = self.totals.iter().enumerate().filter_map(|(group, total)| Some((group, (*total)?)));
        cells.extend(totals.map(|(group, (total, lost, count))| {
            let total = if total.is_infinite() { total } else { total + lost };
            let value = match aggregation {
                Aggregation::Sum | Aggregation::Least | Aggregation::Greatest => total,
                Aggregation::Average => total / count as f64,
                Aggregation::Count => count as f64,
                Aggregation::Group => 1.0,
            };
            Cell { of: Of::Group(group), value }
        }));
    }

    fn group(&mut self, of: Of, labels: &impl Fn(Of) -> Labels) -> usize {
        if let Some(known) = self.of.get(&of) {
            return *known;
        }
        let all = labels(of);
        let is_kept = |key: &String| key != NAME && self.by.contains(key) == self.keeps;
        let kept: BTreeMap<String, String> =
            all.iter().filter(|(key, _)| is_kept(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        let kept = Arc::new(kept);
        let group = *self.by_labels.entry(kept.clone()).or_insert_with(|| {
            self.labels.push(kept);
            self.totals.push(None);
            self.labels.len() - 1
        });
        self.of.insert(of, group);
        group
    }
}

/// A sum and what rounding took from it (Neumaier).
fn compensated(total: f64, value: f64) -> (f64, f64) {
    let sum = total + value;
    let lost = match () {
        () if sum.is_infinite() => 0.0,
        () if total.abs() >= value.abs() => (total - sum) + value,
        () => (value - sum) + total,
    };
    (sum, lost)
}

#[cfg(test)]
mod tests;
