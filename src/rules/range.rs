//! Functions over a range of samples, from what a window knows about them. Pure.
//!
//! They agree with Prometheus 3: ranges are open on the left, and rates are extrapolated to the ends of the range.

use std::time::Duration;

use super::ring::{Ring, Sample};
use super::summary::{Count, Course, Greatest, Least, Line, Spread, Sum, Summary};
use super::window::Window;
use crate::model::Timestamp;

/// What has to be known about the samples of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// How many.
    Count,
    /// Their sum.
    Sum,
    /// The least.
    Least,
    /// The greatest.
    Greatest,
    /// How they are spread.
    Spread,
    /// How they follow each other.
    Course,
    /// The line through them.
    Line,
    /// The newest two, which the samples themselves tell.
    Newest,
}

/// A function over a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RangeFunction {
    /// `count_over_time`
    Count,
    /// `present_over_time`
    Present,
    /// `sum_over_time`
    Sum,
    /// `avg_over_time`
    Average,
    /// `min_over_time`
    Least,
    /// `max_over_time`
    Greatest,
    /// `stddev_over_time`
    Deviation,
    /// `stdvar_over_time`
    Variance,
    /// `last_over_time`
    Last,
    /// `changes`
    Changes,
    /// `resets`
    Resets,
    /// `rate`
    Rate,
    /// `increase`
    Increase,
    /// `delta`
    Delta,
    /// `idelta`
    LastDelta,
    /// `irate`
    LastRate,
    /// `deriv`
    Slope,
    /// `predict_linear`, so many seconds ahead
    Predict(f64),
}

impl RangeFunction {
    /// The function with this name and one argument, a range.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "count_over_time" => Self::Count,
            "present_over_time" => Self::Present,
            "sum_over_time" => Self::Sum,
            "avg_over_time" => Self::Average,
            "min_over_time" => Self::Least,
            "max_over_time" => Self::Greatest,
            "stddev_over_time" => Self::Deviation,
            "stdvar_over_time" => Self::Variance,
            "last_over_time" => Self::Last,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "idelta" => Self::LastDelta,
            "irate" => Self::LastRate,
            "deriv" => Self::Slope,
            _ => return None,
        })
    }

    /// What it has to know.
    pub fn shape(self) -> Shape {
        match self {
            Self::Count | Self::Present => Shape::Count,
            Self::Sum | Self::Average => Shape::Sum,
            Self::Least => Shape::Least,
            Self::Greatest => Shape::Greatest,
            Self::Deviation | Self::Variance => Shape::Spread,
            Self::Changes | Self::Resets | Self::Rate | Self::Increase | Self::Delta => Shape::Course,
            Self::Slope | Self::Predict(_) => Shape::Line,
            Self::Last | Self::LastDelta | Self::LastRate => Shape::Newest,
        }
    }

    /// Whether the result is still the series itself, so that it keeps its name.
    pub fn keeps_name(self) -> bool {
        self == Self::Last
    }
}

/// A window and what it knows.
#[derive(Debug)]
pub struct RangeWindow {
    span: Duration,
    time: Timestamp,
    known: Known,
}

#[derive(Debug)]
enum Known {
    Count(Window<Count>, Option<Count>),
    Sum(Window<Sum>, Option<Sum>),
    Least(Window<Least>, Option<Least>),
    Greatest(Window<Greatest>, Option<Greatest>),
    Spread(Window<Spread>, Option<Spread>),
    // Large, and seldom asked for.
    Course(Box<(Window<Course>, Option<Course>)>),
    Line(Box<(Window<Line>, Option<Line>)>),
    Newest,
}

impl RangeWindow {
    /// A window over the time after `span` ago.
    pub fn new(shape: Shape, span: Duration) -> Self {
        let known = match shape {
            Shape::Count => Known::Count(Window::new(span), None),
            Shape::Sum => Known::Sum(Window::new(span), None),
            Shape::Least => Known::Least(Window::new(span), None),
            Shape::Greatest => Known::Greatest(Window::new(span), None),
            Shape::Spread => Known::Spread(Window::new(span), None),
            Shape::Course => Known::Course(Box::new((Window::new(span), None))),
            Shape::Line => Known::Line(Box::new((Window::new(span), None))),
            Shape::Newest => Known::Newest,
        };
        Self { span, time: Timestamp(i64::MIN), known }
    }

    /// What is known about the samples of a range that ends at `time`, when they are looked at one by one.
    pub fn over(shape: Shape, span: Duration, time: Timestamp, samples: impl Iterator<Item = Sample>) -> Self {
        fn all<S: Summary>(samples: impl Iterator<Item = Sample>) -> Option<S> {
            samples.map(S::of).reduce(S::and)
        }
        let known = match shape {
            Shape::Count => Known::Count(Window::new(span), all(samples)),
            Shape::Sum => Known::Sum(Window::new(span), all(samples)),
            Shape::Least => Known::Least(Window::new(span), all(samples)),
            Shape::Greatest => Known::Greatest(Window::new(span), all(samples)),
            Shape::Spread => Known::Spread(Window::new(span), all(samples)),
            Shape::Course => Known::Course(Box::new((Window::new(span), all(samples)))),
            Shape::Line => Known::Line(Box::new((Window::new(span), all(samples)))),
            Shape::Newest => Known::Newest,
        };
        Self { span, time, known }
    }

    /// Moves the window so that it ends at `time`.
    pub fn slide(&mut self, ring: &Ring, time: Timestamp) {
        self.time = time;
        match &mut self.known {
            Known::Count(window, seen) => *seen = window.evaluate(ring, time),
            Known::Sum(window, seen) => *seen = window.evaluate(ring, time),
            Known::Least(window, seen) => *seen = window.evaluate(ring, time),
            Known::Greatest(window, seen) => *seen = window.evaluate(ring, time),
            Known::Spread(window, seen) => *seen = window.evaluate(ring, time),
            Known::Course(known) => known.1 = known.0.evaluate(ring, time),
            Known::Line(known) => known.1 = known.0.evaluate(ring, time),
            Known::Newest => {}
        }
    }

    /// What `function` makes of the window where it stands; `ahead` is how much later than its end the evaluation is.
    pub fn value(&self, function: RangeFunction, ring: &Ring, ahead: i64) -> Option<f64> {
        match &self.known {
            Known::Count(_, seen) => {
                let count = (*seen)?.0;
                Some(if function == RangeFunction::Present { 1.0 } else { count as f64 })
            }
            Known::Sum(_, seen) => {
                let seen = (*seen)?;
                let total = seen.total();
                Some(if function == RangeFunction::Average { total / seen.count as f64 } else { total })
            }
            Known::Least(_, seen) => Some((*seen)?.0),
            Known::Greatest(_, seen) => Some((*seen)?.0),
            Known::Spread(_, seen) => {
                let variance = (*seen)?.variance();
                Some(if function == RangeFunction::Deviation { variance.sqrt() } else { variance })
            }
            Known::Course(known) => self.of_course(function, known.1?),
            Known::Line(known) => {
                let line = known.1?;
                let is_line = line.count >= 2;
                is_line.then(|| match function {
                    RangeFunction::Predict(seconds) => line.at(self.time.0 + ahead) + line.slope() * seconds,
                    _ => line.slope(),
                })
            }
            Known::Newest => self.of_newest(function, ring),
        }
    }

    fn of_course(&self, function: RangeFunction, course: Course) -> Option<f64> {
        match function {
            RangeFunction::Changes => Some(course.changes as f64),
            RangeFunction::Resets => Some(course.resets as f64),
            RangeFunction::Rate => self.extrapolated(course, true, Some(self.span.as_secs_f64())),
            RangeFunction::Increase => self.extrapolated(course, true, None),
            _ => self.extrapolated(course, false, None),
        }
    }

    /// `extrapolatedRate` of Prometheus 3: what the samples cover is stretched to the ends of the range, at most by
    /// half a sample where they do not nearly reach them, and never below zero of a counter. In the order of its
    /// calculation, so that the last digit agrees too; `per` makes a rate of it.
    fn extrapolated(&self, course: Course, is_counter: bool, per: Option<f64>) -> Option<f64> {
        if course.count < 2 {
            return None;
        }
        let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        let corrections = if is_counter { course.before_resets } else { 0.0 };
        let increase = course.last.value - course.first.value + corrections;
        let covered = seconds(course.first.time.0, course.last.time.0);
        let between = covered / (course.count - 1) as f64;
        let start = self.time.0.saturating_sub(i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX));
        let near = |gap: f64| if gap >= between * 1.1 { between / 2.0 } else { gap };
        let mut before = near(seconds(start, course.first.time.0));
        if is_counter && increase > 0.0 && course.first.value >= 0.0 {
            before = before.min(covered * (course.first.value / increase));
        }
        let after = near(seconds(course.last.time.0, self.time.0));
        let factor = (covered + before + after) / covered;
        Some(increase * per.map_or(factor, |per| factor / per))
    }

    fn of_newest(&self, function: RangeFunction, ring: &Ring) -> Option<f64> {
        let span = i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX);
        let from = Timestamp(self.time.0.saturating_sub(span));
        let mut newest = ring.newest(self.time).take_while(|sample| sample.time > from);
        let last = newest.next()?;
        if function == RangeFunction::Last {
            return Some(last.value);
        }
        let before = newest.next()?;
        if function == RangeFunction::LastDelta {
            return Some(last.value - before.value);
        }
        let increase = if last.value < before.value { last.value } else { last.value - before.value };
        Some(increase / ((last.time.0 - before.time.0) as f64 / 1000.0))
    }

    /// Bytes beside the samples.
    pub fn bytes(&self) -> usize {
        let inside = match &self.known {
            Known::Count(window, _) => window.bytes(),
            Known::Sum(window, _) => window.bytes(),
            Known::Least(window, _) => window.bytes(),
            Known::Greatest(window, _) => window.bytes(),
            Known::Spread(window, _) => window.bytes(),
            Known::Course(known) => known.0.bytes(),
            Known::Line(known) => known.0.bytes(),
            Known::Newest => 0,
        };
        size_of::<Self>() + inside
    }
}
