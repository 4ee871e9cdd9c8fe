//! What a pipeline comes to.

use std::collections::BTreeMap;

use super::Sample;
use super::moment::{self, Moment, Span};
use super::numbers::shortest;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thing {
    /// What a template is about at its beginning: labels and value.
    Root,
    Text(String),
    Number(f64),
    Integer(i64),
    Bool(bool),
    Map(BTreeMap<String, String>),
    /// What `args` makes.
    Arguments(BTreeMap<String, Thing>),
    Sample(Sample),
    Samples(Vec<Sample>),
    Moment(Moment),
    Span(Span),
    /// From 1 on.
    Month(u8),
    /// From Sunday, 0, on.
    Weekday(u8),
    Nil,
}

impl Thing {
    pub fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0.0,
            Self::Integer(number) => *number != 0,
            Self::Span(span) => span.0 != 0,
            Self::Month(number) | Self::Weekday(number) => *number != 0,
            Self::Bool(is_true) => *is_true,
            Self::Map(map) => !map.is_empty(),
            Self::Arguments(map) => !map.is_empty(),
            Self::Samples(samples) => !samples.is_empty(),
            Self::Sample(_) | Self::Moment(_) | Self::Root => true,
            Self::Nil => false,
        }
    }

    pub fn shown(&self) -> String {
        match self {
            Self::Root => "the labels and the value".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => shortest(*number),
            Self::Integer(number) => number.to_string(),
            Self::Bool(is_true) => is_true.to_string(),
            Self::Map(map) => mapped(map.iter().map(|(key, value)| (key, value.clone()))),
            Self::Arguments(map) => mapped(map.iter().map(|(key, value)| (key, value.shown()))),
            Self::Sample(sample) => shown(sample),
            Self::Samples(samples) => format!("[{}]", samples.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Self::Moment(moment) => moment.to_string(),
            Self::Span(span) => span.to_string(),
            Self::Month(number) => moment::month(*number).to_owned(),
            Self::Weekday(number) => moment::weekday(*number).to_owned(),
            Self::Nil => "<no value>".to_owned(),
        }
    }

    /// What it is in Go.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Root => "template data",
            Self::Text(_) => "string",
            Self::Number(_) => "float64",
            Self::Integer(_) => "int",
            Self::Bool(_) => "bool",
            Self::Map(_) => "map[string]string",
            Self::Arguments(_) => "map[string]interface {}",
            Self::Sample(_) => "*template.sample",
            Self::Samples(_) => "template.queryResult",
            Self::Moment(_) => "*time.Time",
            Self::Span(_) => "time.Duration",
            Self::Month(_) => "time.Month",
            Self::Weekday(_) => "time.Weekday",
            Self::Nil => "<nil>",
        }
    }

    /// The number, where it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Integer(number) => Some(*number as f64),
            Self::Month(number) | Self::Weekday(number) => Some(f64::from(*number)),
            Self::Span(span) => Some(span.0 as f64),
            Self::Root
            | Self::Text(_)
            | Self::Bool(_)
            | Self::Map(_)
            | Self::Arguments(_)
            | Self::Sample(_)
            | Self::Samples(_)
            | Self::Moment(_)
            | Self::Nil => None,
        }
    }
}

fn mapped<'a>(pairs: impl Iterator<Item = (&'a String, String)>) -> String {
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", pairs.join(" "))
}

fn shown(sample: &Sample) -> String {
    format!("{{{} {}}}", mapped(sample.labels.iter().map(|(key, value)| (key, value.clone()))), shortest(sample.value))
}
