//! Fields and methods: what stands behind a point.

use super::kinds::{Argument, Kind};
use super::moment::{Moment, Span};
use super::things::Thing;

/// A method: of what, its name, what it takes, and what it gives.
type Method = (Kind, &'static str, &'static [Argument], Kind);

/// Methods of Go's `time.Time` and `time.Duration` that make sense in a text.
pub(super) static METHODS: [Method; 43] = {
    use Argument::{Integer, Moment as Time, Span as Length, Text};
    const T: Kind = Kind::Moment;
    const D: Kind = Kind::Span;
    const TEXT: Kind = Kind::UNKNOWN_TEXT;
    [
        (T, "Format", &[Text], TEXT),
        (T, "String", &[], TEXT),
        (T, "GoString", &[], TEXT),
        (T, "UTC", &[], T),
        (T, "Local", &[], T),
        (T, "Year", &[], Kind::Integer),
        (T, "Month", &[], Kind::Month),
        (T, "Day", &[], Kind::Integer),
        (T, "Hour", &[], Kind::Integer),
        (T, "Minute", &[], Kind::Integer),
        (T, "Second", &[], Kind::Integer),
        (T, "Nanosecond", &[], Kind::Integer),
        (T, "Weekday", &[], Kind::Weekday),
        (T, "YearDay", &[], Kind::Integer),
        (T, "Unix", &[], Kind::Integer),
        (T, "UnixMilli", &[], Kind::Integer),
        (T, "UnixMicro", &[], Kind::Integer),
        (T, "UnixNano", &[], Kind::Integer),
        (T, "IsZero", &[], Kind::Bool),
        (T, "IsDST", &[], Kind::Bool),
        (T, "Before", &[Time], Kind::Bool),
        (T, "After", &[Time], Kind::Bool),
        (T, "Equal", &[Time], Kind::Bool),
        (T, "Compare", &[Time], Kind::Integer),
        (T, "Sub", &[Time], D),
        (T, "Add", &[Length], T),
        (T, "AddDate", &[Integer, Integer, Integer], T),
        (T, "Truncate", &[Length], T),
        (T, "Round", &[Length], T),
        (D, "Hours", &[], Kind::Number),
        (D, "Minutes", &[], Kind::Number),
        (D, "Seconds", &[], Kind::Number),
        (D, "Milliseconds", &[], Kind::Integer),
        (D, "Microseconds", &[], Kind::Integer),
        (D, "Nanoseconds", &[], Kind::Integer),
        (D, "String", &[], TEXT),
        (D, "Abs", &[], D),
        (D, "Truncate", &[Length], D),
        (D, "Round", &[Length], D),
        (Kind::Month, "String", &[], TEXT),
        (Kind::Weekday, "String", &[], TEXT),
        (Kind::Month, "GoString", &[], TEXT),
        (Kind::Weekday, "GoString", &[], TEXT),
    ]
};

/// The method of a kind of thing.
pub(super) fn method(of: &Kind, name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|(kind, known, ..)| kind == of && *known == name)
}

/// What a method gives; its arguments were looked at.
pub(super) fn call(of: &Thing, name: &str, arguments: &[Thing]) -> Result<Thing, String> {
    match of {
        Thing::Moment(moment) => of_moment(*moment, name, arguments),
        Thing::Span(span) => of_span(*span, name, arguments),
        Thing::Month(_) | Thing::Weekday(_) => Ok(Thing::Text(of.shown())),
        other => Err(format!("can't evaluate field {name} in type {}", other.kind())),
    }
}

fn of_moment(moment: Moment, name: &str, arguments: &[Thing]) -> Result<Thing, String> {
    let civil = moment.civil();
    let integer = |number: i64| Ok(Thing::Integer(number));
    match (name, arguments) {
        ("Format", [Thing::Text(layout)]) => Ok(Thing::Text(moment.format(layout))),
        ("String" | "GoString", []) => Ok(Thing::Text(moment.to_string())),
        ("UTC" | "Local", []) => Ok(Thing::Moment(moment)),
        ("Year", []) => integer(civil.year().into()),
        ("Month", []) => Ok(Thing::Month(civil.month().unsigned_abs())),
        ("Day", []) => integer(civil.day().into()),
        ("Hour", []) => integer(civil.hour().into()),
        ("Minute", []) => integer(civil.minute().into()),
        ("Second", []) => integer(civil.second().into()),
        ("Nanosecond", []) => integer(civil.subsec_nanosecond().into()),
        ("Weekday", []) => Ok(Thing::Weekday(moment.weekday())),
        ("YearDay", []) => integer(civil.day_of_year().into()),
        ("Unix", []) => integer(moment.0.div_euclid(1_000_000_000)),
        ("UnixMilli", []) => integer(moment.0.div_euclid(1_000_000)),
        ("UnixMicro", []) => integer(moment.0.div_euclid(1_000)),
        ("UnixNano", []) => integer(moment.0),
        ("IsZero" | "IsDST", []) => Ok(Thing::Bool(false)),
        ("Before", [Thing::Moment(other)]) => Ok(Thing::Bool(moment < *other)),
        ("After", [Thing::Moment(other)]) => Ok(Thing::Bool(moment > *other)),
        ("Equal", [Thing::Moment(other)]) => Ok(Thing::Bool(moment == *other)),
        ("Compare", [Thing::Moment(other)]) => integer(moment.cmp(other) as i64),
        ("Sub", [Thing::Moment(other)]) => Ok(Thing::Span(Span(moment.0.saturating_sub(other.0)))),
        ("Add", [span]) => Ok(Thing::Moment(Moment(moment.0.saturating_add(nanos(span)?)))),
        ("AddDate", [Thing::Integer(years), Thing::Integer(months), Thing::Integer(days)]) => {
            let too_far = || format!("AddDate {years} {months} {days}: out of range");
            let span = jiff::Span::new().try_years(*years).and_then(|span| span.try_months(*months));
            let span = span.and_then(|span| span.try_days(*days)).map_err(|_| too_far())?;
            let moved = civil.checked_add(span).and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC));
            let nanos = moved.map_err(|_| too_far())?.timestamp().as_nanosecond();
            Ok(Thing::Moment(Moment(i64::try_from(nanos).map_err(|_| too_far())?)))
        }
        ("Truncate", [span]) => Ok(Thing::Moment(Moment(truncated(moment.0, nanos(span)?)))),
        ("Round", [span]) => Ok(Thing::Moment(Moment(rounded(moment.0, nanos(span)?)))),
        _ => Err(format!("can't evaluate field {name} in type *time.Time")),
    }
}

fn of_span(span: Span, name: &str, arguments: &[Thing]) -> Result<Thing, String> {
    let seconds = span.0 as f64 / 1e9;
    Ok(match (name, arguments) {
        ("Hours", []) => Thing::Number(seconds / 3600.0),
        ("Minutes", []) => Thing::Number(seconds / 60.0),
        ("Seconds", []) => Thing::Number(seconds),
        ("Milliseconds", []) => Thing::Integer(span.0 / 1_000_000),
        ("Microseconds", []) => Thing::Integer(span.0 / 1_000),
        ("Nanoseconds", []) => Thing::Integer(span.0),
        ("String", []) => Thing::Text(span.to_string()),
        ("Abs", []) => Thing::Span(Span(span.0.saturating_abs())),
        ("Truncate", [of]) => Thing::Span(Span(span.0 - span.0 % nanos(of)?.max(1))),
        ("Round", [of]) => Thing::Span(Span(rounded(span.0, nanos(of)?))),
        _ => return Err(format!("can't evaluate field {name} in type time.Duration")),
    })
}

fn nanos(span: &Thing) -> Result<i64, String> {
    match span {
        Thing::Span(Span(nanos)) | Thing::Integer(nanos) => Ok(*nanos),
        other => Err(format!("wrong type for value; expected time.Duration; got {}", other.kind())),
    }
}

fn truncated(nanos: i64, of: i64) -> i64 {
    if of <= 0 { nanos } else { nanos - nanos.rem_euclid(of) }
}

fn rounded(nanos: i64, of: i64) -> i64 {
    if of <= 0 { nanos } else { truncated(nanos.saturating_add(of / 2), of) }
}
