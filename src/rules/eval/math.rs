//! Arithmetic as Prometheus does it.

/// A sum with what rounding took from it so far (Neumaier).
pub(super) fn add(value: f64, sum: f64, lost: f64) -> (f64, f64) {
    let total = sum + value;
    let lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= value.abs() {
        lost + ((sum - total) + value)
    } else {
        lost + ((value - total) + sum)
    };
    (total, lost)
}

/// The sum of values.
pub(super) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, lost) = values.fold((0.0, 0.0), |(sum, lost), value| add(value, sum, lost));
    if sum.is_infinite() { sum } else { sum + lost }
}

/// A mean that does not overflow where the sum does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    count: f64,
    /// The sum, or the mean once the sum has overflown.
    value: f64,
    lost: f64,
    is_incremental: bool,
}

impl Mean {
    pub fn of(first: f64) -> Self {
        Self { count: 1.0, value: first, lost: 0.0, is_incremental: false }
    }

    pub fn take(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_incremental {
            let (sum, lost) = add(value, self.value, self.lost);
            if !sum.is_infinite() {
                (self.value, self.lost) = (sum, lost);
                return;
            }
            self.is_incremental = true;
            self.value /= self.count - 1.0;
            self.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        (self.value, self.lost) = add(value / self.count, share * self.value, share * self.lost);
    }

    pub fn mean(&self) -> f64 {
        if self.is_incremental { self.value + self.lost } else { self.value / self.count + self.lost / self.count }
    }
}

/// The lesser; not a number if one is not.
pub(super) fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// The greater; not a number if one is not.
pub(super) fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The `quantile` of values, between two of them in proportion. What is not a number counts as the least.
pub(super) fn quantile(quantile: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&quantile) {
        return if quantile < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a_is_none, b_is_none) => b_is_none.cmp(&a_is_none),
    });
    let rank = quantile * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Whether two numbers differ by no more than what rounding does to them.
pub(super) fn is_almost(a: f64, b: f64, tolerance: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, apart) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return apart < tolerance * f64::MIN_POSITIVE;
    }
    apart / sum.min(f64::MAX) < tolerance
}

/// Whether two results are the same: also when both are not a number, and where the last digits differ because a sum
/// was put together in another order.
pub fn same_number(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || is_almost(a, b, 1e-14)
}

/// Whether two results are the same but for what rounding does, as `fuzzy_compare` of promtool has it.
pub fn is_close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || is_almost(a, b, 1e-6)
}

/// A number as Go writes it without an exponent, which labels of `count_values` are made of.
pub(super) fn plain(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}
