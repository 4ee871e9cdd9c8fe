//! Calls of functions.

use promql_parser::parser::{Call, Expr};

use super::math::{greater, lesser};
use super::ranges::{self, Frame};
use super::{Element, EvalError, Evaluator, Found, calendar, distinct, histogram, labels, unnamed};
use crate::model::Timestamp;
use crate::rules::live::Labels;

impl Evaluator<'_> {
    pub(super) fn call(&self, call: &Call, time: Timestamp) -> Result<Found, EvalError> {
        let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
        let name = call.func.name;
        if ranges::is_known(name) {
            return Ok(Found::Vector(self.over_range(name, &arguments, time)?));
        }
        let seconds = time.0 as f64 / 1000.0;
        Ok(match (name, arguments.as_slice()) {
            ("time", []) => Found::Scalar(seconds),
            ("pi", []) => Found::Scalar(std::f64::consts::PI),
            ("vector", [number]) => {
                Found::Vector(vec![Element { labels: Labels::default(), value: self.scalar_at(number, time)? }])
            }
            ("scalar", [vector]) => Found::Scalar(match self.vector_at(vector, time)?.as_slice() {
                [only] => only.value,
                _ => f64::NAN,
            }),
            ("absent", [vector]) => {
                let is_absent = self.vector_at(vector, time)?.is_empty();
                Found::Vector(absent(vector, is_absent)?)
            }
            ("absent_over_time", [range]) => {
                let is_absent = self.ranges(range, time)?.lines.is_empty();
                Found::Vector(absent(range, is_absent)?)
            }
            ("timestamp", [vector]) => Found::Vector(self.timestamps(vector, time)?),
            ("sort" | "sort_desc", [vector]) => {
                let mut elements = self.vector_at(vector, time)?;
                sort(&mut elements, name == "sort_desc");
                Found::Vector(elements)
            }
            ("label_replace", [vector, texts @ ..]) => {
                Found::Vector(labels::replace(self.vector_at(vector, time)?, &self.texts(texts, time)?)?)
            }
            ("label_join", [vector, texts @ ..]) => {
                Found::Vector(labels::join(self.vector_at(vector, time)?, &self.texts(texts, time)?)?)
            }
            ("histogram_quantile", [quantile, vector]) => {
                let quantile = self.scalar_at(quantile, time)?;
                Found::Vector(distinct(histogram::quantiles(quantile, self.vector_at(vector, time)?))?)
            }
            ("histogram_fraction", [lower, upper, vector]) => {
                let (lower, upper) = (self.scalar_at(lower, time)?, self.scalar_at(upper, time)?);
                Found::Vector(distinct(histogram::fractions(lower, upper, self.vector_at(vector, time)?))?)
            }
            (name, []) => {
                let part = calendar::part(name).ok_or_else(|| unknown(name))?;
                Found::Vector(vec![Element { labels: Labels::default(), value: calendar::of(part, seconds) }])
            }
            (name, [vector, numbers @ ..]) => {
                let elements = self.vector_at(vector, time)?;
                Found::Vector(distinct(of_numbers(name, elements, &self.numbers(numbers, time)?)?)?)
            }
        })
    }

    fn over_range(&self, name: &str, arguments: &[&Expr], time: Timestamp) -> Result<Vec<Element>, EvalError> {
        let (range, numbers) = match (name, arguments) {
            ("quantile_over_time", [number, range]) => (*range, self.numbers(&[number], time)?),
            (_, [range, numbers @ ..]) => (*range, self.numbers(numbers, time)?),
            (name, []) => return Err(unknown(name)),
        };
        let found = self.ranges(range, time)?;
        let frame = Frame { end: found.end, span: found.span, time };
        let mut elements = Vec::with_capacity(found.lines.len());
        for line in found.lines {
            if let Some(value) = ranges::value(name, &numbers, &line.samples, frame)? {
                let is_still_itself = name == "last_over_time";
                let labels = line.labels;
                elements.push(if is_still_itself { Element { labels, value } } else { unnamed(&labels, value) });
            }
        }
        distinct(elements)
    }

    /// Times of the samples where a selector says which, that of the evaluation otherwise.
    fn timestamps(&self, vector: &Expr, time: Timestamp) -> Result<Vec<Element>, EvalError> {
        let seconds = |time: Timestamp| time.0 as f64 / 1000.0;
        let mut inner = vector;
        while let Expr::Paren(paren) = inner {
            inner = &paren.expr;
        }
        let elements = match inner {
            Expr::VectorSelector(selector) => {
                let found = self.selected(selector, time)?;
                found.into_iter().map(|(labels, sample)| unnamed(&labels, seconds(sample.time))).collect()
            }
            other => {
                let found = self.vector_at(other, time)?;
                found.iter().map(|element| unnamed(&element.labels, seconds(time))).collect()
            }
        };
        distinct(elements)
    }

    fn numbers(&self, arguments: &[&Expr], time: Timestamp) -> Result<Vec<f64>, EvalError> {
        arguments.iter().map(|argument| self.scalar_at(argument, time)).collect()
    }

    fn texts(&self, arguments: &[&Expr], time: Timestamp) -> Result<Vec<String>, EvalError> {
        let text = |argument: &&Expr| match self.at(argument, time)? {
            Found::Text(text) => Ok(text),
            _ => Err(EvalError::Argument(format!("expected a text, got {argument}"))),
        };
        arguments.iter().map(text).collect()
    }
}

fn unknown(name: &str) -> EvalError {
    EvalError::Argument(format!("{name} is not known here with these arguments"))
}

fn absent(expression: &Expr, is_absent: bool) -> Result<Vec<Element>, EvalError> {
    if !is_absent {
        return Ok(Vec::new());
    }
    Ok(vec![Element { labels: labels::of_absent(expression)?, value: 1.0 }])
}

/// By value; what is not a number comes last.
fn sort(elements: &mut [Element], falls: bool) {
    elements.sort_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
        (false, false) => {
            let order = a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal);
            if falls { order.reverse() } else { order }
        }
        (a_is_none, b_is_none) => a_is_none.cmp(&b_is_none),
    });
}

/// A function of each element alone.
fn of_numbers(name: &str, elements: Vec<Element>, numbers: &[f64]) -> Result<Vec<Element>, EvalError> {
    let function: Box<dyn Fn(f64) -> f64> = match (name, numbers) {
        ("clamp", [least, most]) => {
            if most < least {
                return Ok(Vec::new());
            }
            let (least, most) = (*least, *most);
            Box::new(move |value| greater(least, lesser(most, value)))
        }
        ("clamp_min", [least]) => {
            let least = *least;
            Box::new(move |value| greater(least, value))
        }
        ("clamp_max", [most]) => {
            let most = *most;
            Box::new(move |value| lesser(most, value))
        }
        ("round", to) => {
            let inverse = 1.0 / to.first().copied().unwrap_or(1.0);
            Box::new(move |value| (value * inverse + 0.5).floor() / inverse)
        }
        (name, []) => match (calendar::part(name), of_number(name)) {
            (Some(part), _) => Box::new(move |value| calendar::of(part, value)),
            (None, Some(function)) => Box::new(function),
            (None, None) => return Err(unknown(name)),
        },
        (name, _) => return Err(unknown(name)),
    };
    Ok(elements.iter().map(|element| unnamed(&element.labels, function(element.value))).collect())
}

fn of_number(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sqrt" => f64::sqrt,
        "sgn" => |value| match value {
            _ if value > 0.0 => 1.0,
            _ if value < 0.0 => -1.0,
            _ => value,
        },
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        _ => return None,
    })
}
