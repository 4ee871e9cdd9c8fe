//! What is known about some neighbouring samples, so that what is known about more of them follows without looking at
//! them again. Pure.
//!
//! Nothing is ever taken away from a summary, so no rounding piles up and no infinity sticks: a window is put together
//! from the summaries of its parts.

use super::ring::Sample;

/// Something that can be said about samples in order, part by part.
pub trait Summary: Copy {
    /// About one sample.
    fn of(sample: Sample) -> Self;
    /// About the samples of `self` followed by those of `later`.
    #[must_use]
    fn and(self, later: Self) -> Self;
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count(pub u64);

impl Summary for Count {
    fn of(_: Sample) -> Self {
        Self(1)
    }

    fn and(self, later: Self) -> Self {
        Self(self.0 + later.0)
    }
}

/// How many, and their sum with what rounding took from it (Neumaier).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    sum: f64,
    lost: f64,
}

impl Sum {
    /// The sum.
    pub fn total(&self) -> f64 {
        // An infinite sum has lost nothing that counts, and infinity less infinity is no number.
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

impl Summary for Sum {
    fn of(sample: Sample) -> Self {
        Self { count: 1, sum: sample.value, lost: 0.0 }
    }

    fn and(self, later: Self) -> Self {
        let (a, b) = (self.sum, later.sum);
        let sum = a + b;
        let lost = if sum.is_infinite() {
            0.0
        } else if a.abs() >= b.abs() {
            (a - sum) + b
        } else {
            (b - sum) + a
        };
        Self { count: self.count + later.count, sum, lost: self.lost + later.lost + lost }
    }
}

/// The least; not a number only when all are not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Least(pub f64);

impl Summary for Least {
    fn of(sample: Sample) -> Self {
        Self(sample.value)
    }

    fn and(self, later: Self) -> Self {
        if later.0 < self.0 || self.0.is_nan() { later } else { self }
    }
}

/// The greatest; not a number only when all are not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Greatest(pub f64);

impl Summary for Greatest {
    fn of(sample: Sample) -> Self {
        Self(sample.value)
    }

    fn and(self, later: Self) -> Self {
        if later.0 > self.0 || self.0.is_nan() { later } else { self }
    }
}

/// How they are spread: mean and sum of squared distances from it (Chan, Golub and LeVeque 1979).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// The variance of the population.
    pub fn variance(&self) -> f64 {
        self.squares / self.count
    }
}

impl Summary for Spread {
    fn of(sample: Sample) -> Self {
        Self { count: 1.0, mean: sample.value, squares: nothing_of(sample.value) }
    }

    fn and(self, later: Self) -> Self {
        let count = self.count + later.count;
        let apart = later.mean - self.mean;
        let mean = self.mean + apart * (later.count / count);
        let squares = self.squares + later.squares + apart * apart * (self.count * later.count / count);
        Self { count, mean, squares }
    }
}

/// Zero; of a value that is infinite or no number no distance can be said.
fn nothing_of(value: f64) -> f64 {
    if value.is_finite() { 0.0 } else { f64::NAN }
}

/// How they follow each other: for rates, changes and resets of a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// How many.
    pub count: u64,
    /// The oldest.
    pub first: Sample,
    /// The newest.
    pub last: Sample,
    /// What the counter had reached whenever it began anew.
    pub before_resets: f64,
    /// How often it began anew.
    pub resets: u64,
    /// How often the value changed.
    pub changes: u64,
}

impl Summary for Course {
    fn of(sample: Sample) -> Self {
        Self { count: 1, first: sample, last: sample, before_resets: 0.0, resets: 0, changes: 0 }
    }

    fn and(self, later: Self) -> Self {
        let (a, b) = (self.last.value, later.first.value);
        let is_reset = b < a;
        let is_change = a != b && !(a.is_nan() && b.is_nan());
        let reached = if is_reset { a } else { 0.0 };
        Self {
            count: self.count + later.count,
            first: self.first,
            last: later.last,
            before_resets: self.before_resets + reached + later.before_resets,
            resets: self.resets + later.resets + u64::from(is_reset),
            changes: self.changes + later.changes + u64::from(is_change),
        }
    }
}

/// The straight line through them: means, and sums of products of distances from them. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// How many.
    pub count: u64,
    /// Milliseconds of the first time: all others are counted from it.
    origin: i64,
    time: f64,
    value: f64,
    times: f64,
    products: f64,
    /// All values are this one.
    constant: Option<f64>,
}

impl Line {
    /// Rise in a second.
    pub fn slope(&self) -> f64 {
        match self.constant {
            Some(value) if value.is_infinite() => f64::NAN,
            Some(_) => 0.0,
            None => self.products / self.times,
        }
    }

    /// The value on the line at a time in milliseconds.
    pub fn at(&self, time_ms: i64) -> f64 {
        match self.constant {
            Some(value) if value.is_infinite() => f64::NAN,
            Some(value) => value,
            None => self.value + self.slope() * ((time_ms - self.origin) as f64 / 1000.0 - self.time),
        }
    }
}

impl Summary for Line {
    fn of(sample: Sample) -> Self {
        let distance = nothing_of(sample.value);
        Self {
            count: 1,
            origin: sample.time.0,
            time: 0.0,
            value: sample.value,
            times: 0.0,
            products: distance,
            constant: Some(sample.value),
        }
    }

    fn and(self, later: Self) -> Self {
        let (a, b) = (self.count as f64, later.count as f64);
        let later_time = later.time + (later.origin - self.origin) as f64 / 1000.0;
        let (apart, rise) = (later_time - self.time, later.value - self.value);
        let share = b / (a + b);
        Self {
            count: self.count + later.count,
            origin: self.origin,
            time: self.time + apart * share,
            value: self.value + rise * share,
            times: self.times + later.times + apart * apart * a * share,
            products: self.products + later.products + apart * rise * a * share,
            constant: self.constant.filter(|value| Some(*value) == later.constant),
        }
    }
}
