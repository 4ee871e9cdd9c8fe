//! Operators between two expressions, and which series of the one belong to which of the other.

use std::collections::{HashMap, HashSet};

use promql_parser::parser::{BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality, token};

use super::labels::{self, kept, left_out};
use super::{Element, EvalError, Evaluator, Found, distinct, unnamed};
use crate::model::Timestamp;
use crate::rules::live::{Labels, NAME};
use crate::rules::plan::{Operation, operation};

/// An operator that calculates or compares.
#[derive(Debug, Clone, Copy)]
enum Operator {
    Of(Operation),
    /// The angle of a point, `atan2`.
    Angle,
}

impl Operator {
    fn compares(self) -> bool {
        matches!(self, Self::Of(operation) if operation.compares())
    }

    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Of(operation) => operation.of(left, right),
            Self::Angle => left.atan2(right),
        }
    }

    /// The result of a comparison as a filter is what was compared, where it holds.
    fn result(self, left: f64, right: f64, is_bool: bool, compared: f64) -> Option<f64> {
        let result = self.of(left, right);
        if !self.compares() || is_bool { Some(result) } else { (result == 1.0).then_some(compared) }
    }
}

/// Which labels have to be equal.
struct Matching<'m> {
    on: bool,
    labels: &'m [String],
}

impl<'m> Matching<'m> {
    fn of(modifier: Option<&'m BinModifier>) -> Self {
        match modifier.and_then(|modifier| modifier.matching.as_ref()) {
            Some(LabelModifier::Include(labels)) => Self { on: true, labels: &labels.labels },
            Some(LabelModifier::Exclude(labels)) => Self { on: false, labels: &labels.labels },
            None => Self { on: false, labels: &[] },
        }
    }

    fn key(&self, labels: &Labels) -> Labels {
        if self.on { kept(labels, self.labels) } else { left_out(labels, self.labels, true) }
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &BinaryExpr, time: Timestamp) -> Result<Found, EvalError> {
        let (left, right) = (self.at(&binary.lhs, time)?, self.at(&binary.rhs, time)?);
        let modifier = binary.modifier.as_ref();
        let matching = Matching::of(modifier);
        if let (token::T_LAND | token::T_LOR | token::T_LUNLESS, Found::Vector(left), Found::Vector(right)) =
            (binary.op.id(), &left, &right)
        {
            return Ok(Found::Vector(combined(binary.op.id(), left, right, &matching)));
        }
        let operator = match binary.op.id() {
            token::T_ATAN2 => Operator::Angle,
            id => Operator::Of(operation(id).ok_or_else(|| unknown(binary))?),
        };
        let is_bool = modifier.is_some_and(|modifier| modifier.return_bool);
        Ok(match (left, right) {
            (Found::Scalar(left), Found::Scalar(right)) => Found::Scalar(operator.of(left, right)),
            (Found::Vector(left), Found::Scalar(right)) => {
                let result = |value: f64| operator.result(value, right, is_bool, value);
                Found::Vector(with_scalar(left, operator.compares() && !is_bool, result)?)
            }
            (Found::Scalar(left), Found::Vector(right)) => {
                let result = |value: f64| operator.result(left, value, is_bool, value);
                Found::Vector(with_scalar(right, operator.compares() && !is_bool, result)?)
            }
            (Found::Vector(left), Found::Vector(right)) => {
                let pairing = Pairing { operator, is_bool, matching, card: modifier.map(|modifier| &modifier.card) };
                Found::Vector(distinct(pairing.paired(left, right)?)?)
            }
            _ => return Err(unknown(binary)),
        })
    }
}

fn unknown(binary: &BinaryExpr) -> EvalError {
    EvalError::Argument(format!("{} cannot be applied to what stands on its sides", binary.op))
}

fn with_scalar(
    elements: Vec<Element>,
    keeps_name: bool,
    result: impl Fn(f64) -> Option<f64>,
) -> Result<Vec<Element>, EvalError> {
    let element = |element: Element| {
        let value = result(element.value)?;
        Some(if keeps_name { Element { value, ..element } } else { unnamed(&element.labels, value) })
    };
    distinct(elements.into_iter().filter_map(element).collect())
}

/// `and`, `or` and `unless`.
fn combined(id: token::TokenId, left: &[Element], right: &[Element], matching: &Matching<'_>) -> Vec<Element> {
    let keys = |elements: &[Element]| -> HashSet<Labels> {
        elements.iter().map(|element| matching.key(&element.labels)).collect()
    };
    match id {
        token::T_LOR => {
            let known = keys(left);
            let others = right.iter().filter(|element| !known.contains(&matching.key(&element.labels)));
            left.iter().chain(others).cloned().collect()
        }
        id => {
            let known = keys(right);
            let wanted = id == token::T_LAND;
            let fits = |element: &&Element| known.contains(&matching.key(&element.labels)) == wanted;
            left.iter().filter(fits).cloned().collect()
        }
    }
}

struct Pairing<'m> {
    operator: Operator,
    is_bool: bool,
    matching: Matching<'m>,
    card: Option<&'m VectorMatchCardinality>,
}

impl Pairing<'_> {
    fn paired(&self, left: Vec<Element>, right: Vec<Element>) -> Result<Vec<Element>, EvalError> {
        if left.is_empty() || right.is_empty() {
            return Ok(Vec::new());
        }
        let is_swapped = matches!(self.card, Some(VectorMatchCardinality::OneToMany(_)));
        let is_grouped = is_swapped || matches!(self.card, Some(VectorMatchCardinality::ManyToOne(_)));
        let (many, one) = if is_swapped { (right, left) } else { (left, right) };
        let ones = self.ones(&one, if is_swapped { "left" } else { "right" })?;
        let mut paired: HashSet<Labels> = HashSet::new();
        let mut found: HashSet<(Labels, Labels)> = HashSet::new();
        let mut results = Vec::new();
        for element in &many {
            let key = self.matching.key(&element.labels);
            let Some(other) = ones.get(&key) else { continue };
            let (left, right) = if is_swapped { (*other, element) } else { (element, *other) };
            let result = self.operator.result(left.value, right.value, self.is_bool, left.value);
            let Some(value) = result else { continue };
            let labels = self.labels(&element.labels, &other.labels, is_grouped);
            if is_grouped {
                if !found.insert((key, labels.clone())) {
                    return Err(EvalError::NotUnique);
                }
            } else if !paired.insert(key) {
                return Err(EvalError::ManyToOne);
            }
            results.push(Element { labels, value });
        }
        Ok(results)
    }

    fn ones<'e>(&self, one: &'e [Element], side: &'static str) -> Result<HashMap<Labels, &'e Element>, EvalError> {
        let mut ones: HashMap<Labels, &Element> = HashMap::with_capacity(one.len());
        for element in one {
            let key = self.matching.key(&element.labels);
            if let Some(first) = ones.insert(key.clone(), element) {
                return Err(EvalError::ManyToMany {
                    group: labels::shown(&key),
                    side,
                    first: labels::shown(&first.labels),
                    second: labels::shown(&element.labels),
                });
            }
        }
        Ok(ones)
    }

    fn labels(&self, many: &Labels, one: &Labels, is_grouped: bool) -> Labels {
        let drops_name = !self.operator.compares() || self.is_bool;
        let mut result = if drops_name { left_out(many, &[], true) } else { many.clone() };
        if !is_grouped {
            let names = self.matching.labels;
            result = if self.matching.on { kept(&result, names) } else { left_out(&result, names, false) };
        }
        let included = self.card.and_then(VectorMatchCardinality::labels);
        let Some(included) = included.filter(|included| !included.labels.is_empty()) else { return result };
        let mut changed = (*result).clone();
        for name in included.labels.iter().filter(|name| !drops_name || *name != NAME) {
            match one.get(name) {
                Some(value) => changed.insert(name.clone(), value.clone()),
                None => changed.remove(name),
            };
        }
        Labels::new(changed)
    }
}
