//! Times as people give them to commands.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::Timestamp;
use crate::settings::parse_duration;

/// `2026-11-25T06:00:00Z`, `2026-11-25 06:00` and `2026-11-25` in UTC, or `2h`: so long ago.
pub(in crate::cli) fn parse(text: &str) -> Result<Timestamp, String> {
    if let Some(ago) = parse_duration(text) {
        return Ok(Timestamp(jiff::Timestamp::now().as_millisecond().saturating_sub(ago.as_millis() as i64)));
    }
    let with_zone = text.parse::<jiff::Timestamp>().ok();
    let in_utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    let time = with_zone.or_else(in_utc);
    time.map(|time| Timestamp(time.as_millisecond())).ok_or_else(|| {
        "must be a time such as 2026-11-25T06:00:00Z, a day such as 2026-11-25 (UTC), or how long ago, such as 2h"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_in_full_as_a_day_or_as_so_long_ago() {
        assert_eq!(parse("2023-11-14T22:13:20.123Z"), Ok(Timestamp(1_700_000_000_123)));
        assert_eq!(parse("2023-11-14T23:13:20.123+01:00"), Ok(Timestamp(1_700_000_000_123)));
        assert_eq!(parse("2023-11-14"), Ok(Timestamp(1_699_920_000_000)));
        assert_eq!(parse("2023-11-14 01:00"), Ok(Timestamp(1_699_923_600_000)));
        assert!(parse("2h").is_ok_and(|time| time > parse("3h").unwrap()));
        for bad in ["", "now", "2023-13-01", "25:00", "2", "99999999999999999h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
