//! Aggregations over the elements of a vector.

use std::collections::HashMap;

use promql_parser::parser::{AggregateExpr, LabelModifier, token};

use super::labels::{check_name, kept, left_out};
use super::math::{Mean, plain, quantile, sum};
use super::{Element, EvalError, Evaluator, Found};
use crate::model::Timestamp;
use crate::rules::live::Labels;

/// Elements that belong together.
struct Group {
    labels: Labels,
    elements: Vec<Element>,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &AggregateExpr, time: Timestamp) -> Result<Vec<Element>, EvalError> {
        let mut elements = self.vector_at(&aggregate.expr, time)?;
        let parameter = match &aggregate.param {
            Some(parameter) => Some(self.at(parameter, time)?),
            None => None,
        };
        let label = match (&parameter, aggregate.op.id()) {
            (Some(Found::Text(label)), token::T_COUNT_VALUES) => {
                check_name("count_values", label)?;
                for element in &mut elements {
                    let mut labels = (*element.labels).clone();
                    labels.insert(label.clone(), plain(element.value));
                    element.labels = Labels::new(labels);
                }
                Some(label)
            }
            _ => None,
        };
        let number = match parameter {
            Some(Found::Scalar(number)) => number,
            _ => f64::NAN,
        };
        let groups = grouped(elements, aggregate.modifier.as_ref(), label);
        let id = aggregate.op.id();
        if matches!(id, token::T_TOPK | token::T_BOTTOMK) {
            let most = count_of(number)?;
            return Ok(groups
                .into_iter()
                .flat_map(|group| ranked(group.elements, most, id == token::T_TOPK))
                .collect());
        }
        let value = |group: Group| Ok(Element { value: of_group(id, number, &group.elements)?, labels: group.labels });
        groups.into_iter().map(value).collect()
    }
}

/// The elements by the labels that tell groups apart, in the order in which groups appear.
fn grouped(elements: Vec<Element>, modifier: Option<&LabelModifier>, label: Option<&String>) -> Vec<Group> {
    let key = |labels: &Labels| match modifier {
        Some(LabelModifier::Exclude(names)) => left_out(labels, &names.labels, true),
        Some(LabelModifier::Include(names)) if label.is_none() => kept(labels, &names.labels),
        Some(LabelModifier::Include(names)) => {
            let names: Vec<String> = names.labels.iter().chain(label).cloned().collect();
            kept(labels, &names)
        }
        None => label.map_or_else(Labels::default, |label| kept(labels, std::slice::from_ref(label))),
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<Labels, usize> = HashMap::new();
    for element in elements {
        let key = key(&element.labels);
        let group = *known.entry(key.clone()).or_insert_with(|| {
            groups.push(Group { labels: key, elements: Vec::new() });
            groups.len() - 1
        });
        groups[group].elements.push(element);
    }
    groups
}

fn of_group(id: token::TokenId, number: f64, elements: &[Element]) -> Result<f64, EvalError> {
    let values = || elements.iter().map(|element| element.value);
    let first = elements.first().map_or(f64::NAN, |element| element.value);
    Ok(match id {
        token::T_SUM => sum(values()),
        token::T_AVG => {
            let mut mean = Mean::of(first);
            values().skip(1).for_each(|value| mean.take(value));
            mean.mean()
        }
        token::T_MIN => {
            values().fold(first, |least, value| if value < least || least.is_nan() { value } else { least })
        }
        token::T_MAX => values().fold(first, |most, value| if value > most || most.is_nan() { value } else { most }),
        token::T_COUNT | token::T_COUNT_VALUES => elements.len() as f64,
        token::T_GROUP => 1.0,
        token::T_STDVAR => variance(values()),
        token::T_STDDEV => variance(values()).sqrt(),
        token::T_QUANTILE => quantile(number, values().collect()),
        _ => return Err(EvalError::Argument("this aggregation is experimental, and not known here".to_owned())),
    })
}

/// The variance of the population, as its values come (Welford 1962).
fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        if count == 0.0 && !value.is_finite() {
            squares = f64::NAN;
        }
        count += 1.0;
        let apart = value - mean;
        mean += apart / count;
        squares += apart * (value - mean);
    }
    squares / count
}

fn count_of(number: f64) -> Result<usize, EvalError> {
    if !(-9.3e18..9.3e18).contains(&number) {
        return Err(EvalError::Argument(format!("scalar value {number} overflows a count of elements")));
    }
    Ok(if number < 1.0 { 0 } else { number as usize })
}

/// The `most` greatest or least elements, in their order; what is not a number comes last.
fn ranked(mut elements: Vec<Element>, most: usize, greatest: bool) -> Vec<Element> {
    elements.sort_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
        (false, false) => {
            let order = a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal);
            if greatest { order.reverse() } else { order }
        }
        (a_is_none, b_is_none) => a_is_none.cmp(&b_is_none),
    });
    elements.truncate(most);
    elements
}
