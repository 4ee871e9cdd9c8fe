//! What is known of a thing before there are labels and a value.

use super::things::Thing;

/// Stands for a part of a text that is not known yet: no character, so nobody writes it (Unicode 16.0, 23.7).
pub(super) const HOLE: char = '\u{FDD1}';

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Nobody knows.
    Any,
    Root,
    /// With a [`HOLE`] for each part that is not known.
    Text(std::borrow::Cow<'static, str>),
    Number,
    Integer,
    Bool,
    Map,
    Arguments,
    Sample,
    Samples,
    Moment,
    Span,
    Month,
    Weekday,
    Nil,
}

/// What a function or method takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Argument {
    Any,
    Text,
    /// A number, or a text that is one.
    Number,
    Integer,
    Sample,
    Samples,
    Moment,
    Span,
}

impl Kind {
    pub const UNKNOWN_TEXT: Self = Self::Text(std::borrow::Cow::Borrowed("\u{FDD1}"));

    /// A text that is known as a whole.
    pub fn constant(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.contains(HOLE) => Some(text),
            _ => None,
        }
    }

    /// What it is in Go.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Root => "template data",
            Self::Text(_) => "string",
            Self::Number => "float64",
            Self::Integer => "int",
            Self::Bool => "bool",
            Self::Map => "map[string]string",
            Self::Arguments => "map[string]interface {}",
            Self::Sample => "*template.sample",
            Self::Samples => "template.queryResult",
            Self::Moment => "*time.Time",
            Self::Span => "time.Duration",
            Self::Month => "time.Month",
            Self::Weekday => "time.Weekday",
            Self::Nil => "<nil>",
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Number | Self::Integer | Self::Month | Self::Weekday | Self::Span)
    }

    /// The kind of a thing.
    pub fn of(thing: &Thing) -> Self {
        match thing {
            Thing::Root => Self::Root,
            Thing::Text(text) => Self::Text(text.clone().into()),
            Thing::Number(_) => Self::Number,
            Thing::Integer(_) => Self::Integer,
            Thing::Bool(_) => Self::Bool,
            Thing::Map(_) => Self::Map,
            Thing::Arguments(_) => Self::Arguments,
            Thing::Sample(_) => Self::Sample,
            Thing::Samples(_) => Self::Samples,
            Thing::Moment(_) => Self::Moment,
            Thing::Span(_) => Self::Span,
            Thing::Month(_) => Self::Month,
            Thing::Weekday(_) => Self::Weekday,
            Thing::Nil => Self::Nil,
        }
    }

    /// What two ways have in common.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Text(_), Self::Text(_)) => Self::UNKNOWN_TEXT,
            _ => Self::Any,
        }
    }
}

impl Argument {
    /// Whether something may be given for it.
    pub fn takes(self, kind: &Kind) -> bool {
        match (self, kind) {
            (_, Kind::Any) | (Self::Any, _) => true,
            (Self::Text, kind) => matches!(kind, Kind::Text(_)),
            (Self::Number, kind) => match kind.constant() {
                Some(text) => text.trim().parse::<f64>().is_ok(),
                None => kind.is_number() || matches!(kind, Kind::Text(_)),
            },
            (Self::Integer, kind) => matches!(kind, Kind::Integer),
            (Self::Sample, kind) => matches!(kind, Kind::Sample),
            (Self::Samples, kind) => matches!(kind, Kind::Samples),
            (Self::Moment, kind) => matches!(kind, Kind::Moment),
            (Self::Span, kind) => matches!(kind, Kind::Span | Kind::Integer),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Number => "a number",
            Self::Integer => "int",
            Self::Sample => "a sample of a query, such as that of first",
            Self::Samples => "the result of query",
            Self::Moment => "time.Time",
            Self::Span => "time.Duration",
        }
    }
}
