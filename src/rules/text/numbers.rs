//! Numbers as Go writes them.

/// From this exponent on a number is written with it: a million.
const EXPONENT_FROM: i32 = 6;

/// `%v`: as few digits as tell it from its neighbours; an exponent from a million on and below a ten-thousandth.
pub fn shortest(value: f64) -> String {
    if let Some(word) = word(value) {
        return word.to_owned();
    }
    let written = format!("{value:e}");
    let (digits, exponent) = split(&written);
    if !(-4..EXPONENT_FROM).contains(&exponent) {
        return with_exponent(digits, exponent);
    }
    value.to_string()
}

/// `%.4g`: so many digits that count, without zeros at the end.
pub(super) fn general(value: f64, digits: usize) -> String {
    if let Some(word) = word(value) {
        return word.to_owned();
    }
    let digits = digits.max(1);
    let written = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = split(&written);
    if exponent < -4 || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        return with_exponent(&without_zeros(mantissa), exponent);
    }
    let decimals = i32::try_from(digits).unwrap_or(0) - 1 - exponent;
    without_zeros(&format!("{value:.*}", usize::try_from(decimals).unwrap_or(0)))
}

/// `%.2e`
pub(super) fn exponential(value: f64, decimals: usize) -> String {
    if let Some(word) = word(value) {
        return word.to_owned();
    }
    let written = format!("{value:.decimals$e}");
    let (mantissa, exponent) = split(&written);
    with_exponent(mantissa, exponent)
}

/// `%.2f`
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    word(value).map_or_else(|| format!("{value:.decimals$}"), str::to_owned)
}

fn word(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

fn split(written: &str) -> (&str, i32) {
    let (digits, exponent) = written.split_once('e').unwrap_or((written, "0"));
    (digits, exponent.parse().unwrap_or(0))
}

fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn without_zeros(digits: &str) -> String {
    if !digits.contains('.') {
        return digits.to_owned();
    }
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}
