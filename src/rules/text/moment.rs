//! Times and spans of time as Go's package `time` has them, in UTC.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A time in UTC, with the nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub i64);

/// A span of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub i64);

const SECOND: i64 = 1_000_000_000;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What a layout shows: these parts stand for what they look like, the longest first (Go, `time.nextStdChunk`).
const PARTS: [&str; 36] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "_2006",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "002",
    "__2",
    "_2",
    "15",
    "PM",
    "pm",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "1",
    "2",
    "3",
    "4",
    "5",
    ".",
    ",",
];

pub(super) fn month(number: u8) -> &'static str {
    MONTHS.get(usize::from(number).wrapping_sub(1)).copied().unwrap_or("%!Month")
}

pub(super) fn weekday(number: u8) -> &'static str {
    WEEKDAYS.get(usize::from(number)).copied().unwrap_or("%!Weekday")
}

impl Moment {
    /// The time so many seconds after 1970, to the millisecond.
    pub fn of_seconds(seconds: f64) -> Result<Self, String> {
        if !seconds.is_finite() {
            return Err("value is NaN or Inf".to_owned());
        }
        let nanos = seconds * SECOND as f64;
        if nanos >= i64::MAX as f64 || nanos <= i64::MIN as f64 {
            let shown = super::number(seconds);
            return Err(format!("{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"));
        }
        Ok(Self(nanos as i64 / 1_000_000 * 1_000_000))
    }

    pub fn civil(self) -> DateTime {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        TimeZone::UTC.to_datetime(time)
    }

    pub fn weekday(self) -> u8 {
        self.civil().weekday().to_sunday_zero_offset().unsigned_abs()
    }

    /// The time as `layout` shows the second of January 2006, 15:04:05.
    pub fn format(self, layout: &str) -> String {
        let (mut out, mut rest, civil) = (String::new(), layout, self.civil());
        while let Some(letter) = rest.chars().next() {
            let part = PARTS.into_iter().find(|part| rest.starts_with(part) && fits(part, rest));
            match part {
                Some("." | ",") => {
                    let length = 1 + rest[1..].chars().take_while(|digit| rest[1..].starts_with(*digit)).count();
                    out += &fraction(&rest[..length], civil.subsec_nanosecond().unsigned_abs());
                    rest = &rest[length..];
                }
                Some("_2006") => {
                    out += &format!("_{:04}", civil.year());
                    rest = &rest["_2006".len()..];
                }
                Some(part) => {
                    out += &self.part(part, &civil);
                    rest = &rest[part.len()..];
                }
                None => {
                    out.push(letter);
                    rest = &rest[letter.len_utf8()..];
                }
            }
        }
        out
    }

    fn part(self, part: &str, civil: &DateTime) -> String {
        let month = month(civil.month().unsigned_abs());
        let weekday = weekday(self.weekday());
        let (day, hour) = (civil.day(), civil.hour());
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        match part {
            "January" => month.to_owned(),
            "Jan" => month[..3].to_owned(),
            "Monday" => weekday.to_owned(),
            "Mon" => weekday[..3].to_owned(),
            "MST" => "UTC".to_owned(),
            "2006" => format!("{:04}", civil.year()),
            "06" => format!("{:02}", civil.year() % 100),
            "01" => format!("{:02}", civil.month()),
            "1" => civil.month().to_string(),
            "002" => format!("{:03}", civil.day_of_year()),
            "__2" => format!("{:3}", civil.day_of_year()),
            "_2" => format!("{day:2}"),
            "02" => format!("{day:02}"),
            "2" => day.to_string(),
            "15" => format!("{hour:02}"),
            "03" => format!("{twelve:02}"),
            "3" => twelve.to_string(),
            "04" => format!("{:02}", civil.minute()),
            "4" => civil.minute().to_string(),
            "05" => format!("{:02}", civil.second()),
            "5" => civil.second().to_string(),
            "PM" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if hour < 12 { "am" } else { "pm" }.to_owned(),
            zulu if zulu.starts_with('Z') => "Z".to_owned(),
            offset => offset.replace('7', "0").replace('-', "+"),
        }
    }
}

/// Whether a part of a layout stands here: "Jan" in "January" is the longer one, and a point needs zeros or nines behind it.
fn fits(part: &str, rest: &str) -> bool {
    match part {
        "." | "," => {
            let digits = rest[1..].trim_start_matches(['0', '9']);
            let shown = &rest[1..rest.len() - digits.len()];
            let is_even = shown.chars().all(|digit| shown.starts_with(digit));
            !shown.is_empty() && is_even && !digits.starts_with(|digit: char| digit.is_ascii_digit())
        }
        // Go does not take the beginning of a word for a name.
        "Jan" | "Mon" => !rest[3..].starts_with(|letter: char| letter.is_ascii_lowercase()),
        _ => true,
    }
}

/// `.000` shows the zeros at the end, `.999` does not.
fn fraction(layout: &str, nanos: u32) -> String {
    let digits = format!("{nanos:09}");
    let shown = &digits[..(layout.len() - 1).min(9)];
    if layout[1..].starts_with('0') {
        return format!("{}{shown}", &layout[..1]);
    }
    let shown = shown.trim_end_matches('0');
    if shown.is_empty() { String::new() } else { format!("{}{shown}", &layout[..1]) }
}

/// `2026-11-25 23:00:00.5 +0000 UTC`
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// `1h2m3.5s`, as Go shows a duration.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let fraction = |value: u64, unit: u64| {
            let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
            let digits = digits.trim_end_matches('0');
            if digits.is_empty() { (value / unit).to_string() } else { format!("{}.{digits}", value / unit) }
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}µs", fraction(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}ms", fraction(nanos, 1_000_000)),
            _ => {
                let minutes = nanos / (60 * SECOND as u64);
                let seconds = fraction(nanos % (60 * SECOND as u64), SECOND as u64);
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{sign}{seconds}s"),
                    (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
                    (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}
