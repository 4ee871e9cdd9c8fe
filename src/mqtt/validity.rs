//! From when to when a certificate is valid (RFC 5280, 4.1.2.5), read from its DER. Only as much as that needs.

use crate::model::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, where the version stands.
const VERSION: u8 = 0xA0;

const DAY_MS: i64 = 86_400_000;

/// First and last moment at which a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Validity {
    /// The validity of the certificate in `der`; `None` where it is not understood.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (certificate, _) = element(der, SEQUENCE)?;
        let (mut fields, _) = element(certificate, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            fields = element(fields, VERSION)?.1;
        }
        // Serial number, algorithm of the signature, issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            fields = element(fields, tag)?.1;
        }
        let (validity, _) = element(fields, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self { not_before, not_after })
    }
}

/// Content of the element that `bytes` begin with, and what comes after it (X.690, 8.1).
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first().filter(|(first, _)| **first == tag)?;
    debug_assert_eq!(*first, tag);
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7F => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7F))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ`, with years from 1950 to 2049, or `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5.1 and 4.1.2.5.2).
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let tag = *bytes.first()?;
    let (text, rest) = element(bytes, tag)?;
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let (year, digits) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| number(&digits[2 * at..2 * at + 2]);
    let days = days_since_1970(year, part(0), part(1));
    let milliseconds = days * DAY_MS + (part(2) * 3600 + part(3) * 60 + part(4)) * 1000;
    Some((Timestamp(milliseconds), rest))
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

/// Days of the Gregorian calendar, counted in years that begin with March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &[u8], tag: u8) -> Option<String> {
        let bytes = [&[tag, u8::try_from(text.len()).unwrap()], text].concat();
        time(&bytes).map(|(time, _)| time.to_string())
    }

    #[test]
    fn both_forms_of_time_are_read() {
        assert_eq!(at(b"250228235959Z", UTC_TIME).as_deref(), Some("2025-02-28T23:59:59.000Z"));
        assert_eq!(at(b"20500301000000Z", GENERALIZED_TIME).as_deref(), Some("2050-03-01T00:00:00.000Z"));
        assert_eq!(at(b"991231000000Z", UTC_TIME).as_deref(), Some("1999-12-31T00:00:00.000Z"));
        assert_eq!(at(b"2502", UTC_TIME), None);
    }

    #[test]
    fn damaged_bytes_are_no_certificate() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                *first = SEQUENCE;
            }
            _ = Validity::of(&bytes);
        }
    }
}
