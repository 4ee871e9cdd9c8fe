//! Functions over the samples of a range, looked at one by one.

use super::math::{Mean, add, quantile, sum};
use super::{EvalError, millis};
use crate::model::Timestamp;
use crate::rules::ring::Sample;

/// Where the samples of a range come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// The end of the range.
    pub end: Timestamp,
    /// Its length.
    pub span: std::time::Duration,
    /// Time of the evaluation, which is later than the end where there is an offset.
    pub time: Timestamp,
}

/// Whether a function of this name takes a range and gives a number of each series.
pub(super) fn is_known(name: &str) -> bool {
    matches!(
        name,
        "avg_over_time"
            | "min_over_time"
            | "max_over_time"
            | "sum_over_time"
            | "count_over_time"
            | "quantile_over_time"
            | "stddev_over_time"
            | "stdvar_over_time"
            | "last_over_time"
            | "present_over_time"
            | "changes"
            | "resets"
            | "rate"
            | "increase"
            | "delta"
            | "irate"
            | "idelta"
            | "deriv"
            | "predict_linear"
            | "double_exponential_smoothing"
    )
}

/// What a function says of samples, of which there is at least one; nothing where they are too few for it.
pub(super) fn value(name: &str, numbers: &[f64], samples: &[Sample], frame: Frame) -> Result<Option<f64>, EvalError> {
    let values = || samples.iter().map(|sample| sample.value);
    let number = |position: usize| numbers.get(position).copied().unwrap_or(f64::NAN);
    Ok(match name {
        "avg_over_time" => {
            let mut mean = Mean::of(samples[0].value);
            values().skip(1).for_each(|value| mean.take(value));
            Some(mean.mean())
        }
        "min_over_time" => values().reduce(|least, value| if value < least || least.is_nan() { value } else { least }),
        "max_over_time" => values().reduce(|most, value| if value > most || most.is_nan() { value } else { most }),
        "sum_over_time" => Some(sum(values())),
        "count_over_time" => Some(samples.len() as f64),
        "quantile_over_time" => Some(quantile(number(0), values().collect())),
        "stddev_over_time" => Some(variance(samples).sqrt()),
        "stdvar_over_time" => Some(variance(samples)),
        "last_over_time" => samples.last().map(|sample| sample.value),
        "present_over_time" => Some(1.0),
        "changes" => Some(count_pairs(samples, |a, b| a != b && !(a.is_nan() && b.is_nan()))),
        "resets" => Some(count_pairs(samples, |a, b| b < a)),
        "rate" => extrapolated(samples, frame, true, Some(frame.span.as_secs_f64())),
        "increase" => extrapolated(samples, frame, true, None),
        "delta" => extrapolated(samples, frame, false, None),
        "irate" => newest(samples, true),
        "idelta" => newest(samples, false),
        "deriv" => (samples.len() >= 2).then(|| line(samples, samples[0].time).0),
        "predict_linear" => (samples.len() >= 2).then(|| {
            let (slope, now) = line(samples, frame.time);
            slope * number(0) + now
        }),
        "double_exponential_smoothing" => smoothed(samples, number(0), number(1))?,
        _ => None,
    })
}

fn count_pairs(samples: &[Sample], counts: impl Fn(f64, f64) -> bool) -> f64 {
    samples.windows(2).filter(|pair| counts(pair[0].value, pair[1].value)).count() as f64
}

fn variance(samples: &[Sample]) -> f64 {
    let (mut count, mut mean, mut mean_lost, mut squares, mut squares_lost) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for sample in samples {
        count += 1.0;
        let apart = sample.value - (mean + mean_lost);
        (mean, mean_lost) = add(apart / count, mean, mean_lost);
        (squares, squares_lost) = add(apart * (sample.value - (mean + mean_lost)), squares, squares_lost);
    }
    (squares + squares_lost) / count
}

/// `extrapolatedRate` of Prometheus 3; see [`RangeWindow`](crate::rules::range::RangeWindow).
fn extrapolated(samples: &[Sample], frame: Frame, is_counter: bool, per: Option<f64>) -> Option<f64> {
    let [first, .., last] = samples else { return None };
    let mut increase = last.value - first.value;
    if is_counter {
        for pair in samples.windows(2).filter(|pair| pair[1].value < pair[0].value) {
            increase += pair[0].value;
        }
    }
    let seconds = |from: Timestamp, to: Timestamp| (to.0 - from.0) as f64 / 1000.0;
    let covered = seconds(first.time, last.time);
    let between = covered / (samples.len() - 1) as f64;
    let near = |gap: f64| if gap >= between * 1.1 { between / 2.0 } else { gap };
    let start = Timestamp(frame.end.0.saturating_sub(millis(frame.span)));
    let mut before = near(seconds(start, first.time));
    if is_counter && increase > 0.0 && first.value >= 0.0 {
        before = before.min(covered * (first.value / increase));
    }
    let factor = (covered + before + near(seconds(last.time, frame.end))) / covered;
    Some(increase * per.map_or(factor, |per| factor / per))
}

fn newest(samples: &[Sample], is_rate: bool) -> Option<f64> {
    let [.., before, last] = samples else { return None };
    let change = if is_rate && last.value < before.value { last.value } else { last.value - before.value };
    let apart = last.time.0 - before.time.0;
    (apart != 0).then(|| if is_rate { change / (apart as f64 / 1000.0) } else { change })
}

/// Slope of the straight line through samples, and its value at `time`.
///
/// From distances to the means: differences of large sums, as Prometheus forms them, lose all digits of samples that are
/// a millisecond apart.
fn line(samples: &[Sample], time: Timestamp) -> (f64, f64) {
    let first = samples[0];
    if samples.iter().all(|sample| sample.value == first.value) {
        return if first.value.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first.value) };
    }
    let later = |time: Timestamp| (time.0 - first.time.0) as f64 / 1e3;
    let total = |part: &dyn Fn(&Sample) -> f64| {
        let (sum, lost) = samples.iter().fold((0.0, 0.0), |(sum, lost), sample| add(part(sample), sum, lost));
        sum + lost
    };
    let count = samples.len() as f64;
    let (when, mean) = (total(&|sample| later(sample.time)) / count, total(&|sample| sample.value) / count);
    let products = total(&|sample| (later(sample.time) - when) * (sample.value - mean));
    let slope = products / total(&|sample| (later(sample.time) - when).powi(2));
    (slope, mean + slope * (later(time) - when))
}

/// Factors of a smoothing lie between 0 and 1.
pub(super) fn check_factors(smoothing: f64, trend: f64) -> Result<(), EvalError> {
    for (name, factor) in [("smoothing", smoothing), ("trend", trend)] {
        if factor.is_nan() || factor <= 0.0 || factor >= 1.0 {
            let reason = format!("invalid {name} factor. Expected: 0 < factor < 1, got: {factor}");
            return Err(EvalError::Argument(reason));
        }
    }
    Ok(())
}

fn smoothed(samples: &[Sample], smoothing: f64, trend: f64) -> Result<Option<f64>, EvalError> {
    check_factors(smoothing, trend)?;
    let [first, second, ..] = samples else { return Ok(None) };
    let (mut before, mut level, mut rise) = (0.0, first.value, second.value - first.value);
    for (position, sample) in samples.iter().skip(1).enumerate() {
        if position > 0 {
            rise = trend * (level - before) + (1.0 - trend) * rise;
        }
        let next = smoothing * sample.value + (1.0 - smoothing) * (level + rise);
        (before, level) = (level, next);
    }
    Ok(Some(level))
}
