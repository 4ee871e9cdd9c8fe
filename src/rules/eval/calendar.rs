//! Parts of a date, in UTC.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A function of a date.
pub(super) fn part(name: &str) -> Option<fn(DateTime) -> f64> {
    Some(match name {
        "minute" => |it| f64::from(it.minute()),
        "hour" => |it| f64::from(it.hour()),
        "day_of_week" => |it| f64::from(it.weekday().to_sunday_zero_offset()),
        "day_of_month" => |it| f64::from(it.day()),
        "day_of_year" => |it| f64::from(it.day_of_year()),
        "days_in_month" => |it| f64::from(it.days_in_month()),
        "month" => |it| f64::from(it.month()),
        "year" => |it| f64::from(it.year()),
        _ => return None,
    })
}

/// What `part` says of a time in seconds; not a number for what is no time between the years -9999 and 9999.
pub(super) fn of(part: fn(DateTime) -> f64, seconds: f64) -> f64 {
    if !seconds.is_finite() {
        return f64::NAN;
    }
    match jiff::Timestamp::from_second(seconds as i64) {
        Ok(time) => part(TimeZone::UTC.to_datetime(time)),
        Err(_) => f64::NAN,
    }
}
