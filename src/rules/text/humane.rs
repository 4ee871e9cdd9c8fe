//! Numbers as people read them: the `humanize` functions of Prometheus.

use super::moment::Moment;
use super::numbers::{general, shortest};

/// What a `humanize` function makes of a number.
pub(super) fn humane(name: &str, value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(shortest(value) + if name == "humanizePercentage" { "%" } else { "" });
    }
    Ok(match name {
        "humanize" if value == 0.0 => general(value, 4),
        "humanize" => {
            let (value, prefix) = scaled(value);
            general(value, 4) + prefix
        }
        "humanize1024" => {
            let (mut value, mut prefix) = (value, "");
            if value.abs() > 1.0 {
                for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
                    if value.abs() < 1024.0 {
                        break;
                    }
                    (value, prefix) = (value / 1024.0, next);
                }
            }
            general(value, 4) + prefix
        }
        "humanizeDuration" => span(value),
        "humanizePercentage" => format!("{}%", general(value * 100.0, 4)),
        _ => Moment::of_seconds(value)?.to_string(),
    })
}

/// A number between one and a thousand, and the prefix that makes up for it.
fn scaled(value: f64) -> (f64, &'static str) {
    let (mut value, mut prefix) = (value, "");
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            (value, prefix) = (value / 1000.0, next);
        }
    } else {
        for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if value.abs() >= 1.0 {
                break;
            }
            (value, prefix) = (value * 1000.0, next);
        }
    }
    (value, prefix)
}

fn span(value: f64) -> String {
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        let (value, prefix) = scaled(value);
        return format!("{}{prefix}s", general(value, 4));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = value.abs() as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", general(value.abs(), 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}
