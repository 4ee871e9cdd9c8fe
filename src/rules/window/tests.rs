//! Windows against the plain way to do it: look at every sample again.

use proptest::prelude::*;

use super::*;
use crate::rules::ring::Pushed;
use crate::rules::summary::{Count, Course, Greatest, Least, Line, Spread, Sum};

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -100.0_f64..100.0,
        2 => (0..5).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => -1e300_f64..1e300,
    ]
}

/// Steps of time in milliseconds, gaps and steps back among them.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![10 => 1_i64..2000, 2 => Just(0_i64), 2 => -3000_i64..0, 1 => 60_000_i64..300_000, 1 => Just(-20_000_i64)]
}

/// Near enough: sums of numbers of very different size depend on their order.
fn near(a: f64, b: f64, scale: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * scale.max(a.abs())
}

fn plain<S: Summary>(ring: &Ring, from: Timestamp, to: Timestamp) -> Option<S> {
    ring.range(from, to).map(S::of).reduce(S::and)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_window_says_what_all_its_samples_say(
        steps in prop::collection::vec((step(), value(), 0_i64..3000, 0_u8..4), 1..900),
        spans in prop::collection::vec(1_u64..600, 3),
    ) {
        let mut ring = Ring::default();
        let spans: Vec<Duration> = spans.into_iter().map(Duration::from_secs).collect();
        let longest = spans.iter().max().copied().unwrap_or_default();
        let mut counts: Vec<Window<Count>> = spans.iter().map(|span| Window::new(*span)).collect();
        let mut courses: Vec<Window<Course>> = spans.iter().map(|span| Window::new(*span)).collect();
        let mut sums: Vec<Window<Sum>> = spans.iter().map(|span| Window::new(*span)).collect();
        let mut least: Vec<Window<Least>> = spans.iter().map(|span| Window::new(*span)).collect();
        let mut greatest: Vec<Window<Greatest>> = spans.iter().map(|span| Window::new(*span)).collect();
        let mut time = 1_000_000_i64;
        for (step, value, behind, evaluates) in steps {
            time += step;
            if ring.push(Sample { time: Timestamp(time), value }) == Pushed::OutOfOrder {
                time -= step;
            }
            if evaluates > 0 {
                continue;
            }
            let now = Timestamp(time - behind);
            for (position, span) in spans.iter().enumerate() {
                let from = Timestamp(now.0 - span.as_millis() as i64);
                prop_assert_eq!(counts[position].evaluate(&ring, now), plain::<Count>(&ring, from, now));
                let (seen, all) = (courses[position].evaluate(&ring, now), plain::<Course>(&ring, from, now));
                prop_assert_eq!(seen.map(|it| (it.count, it.resets, it.changes, it.first.time, it.last.time)),
                    all.map(|it| (it.count, it.resets, it.changes, it.first.time, it.last.time)));
                if let (Some(seen), Some(all)) = (seen, all) {
                    prop_assert!(near(seen.before_resets, all.before_resets, 1e300));
                }
                let (seen, all) = (sums[position].evaluate(&ring, now), plain::<Sum>(&ring, from, now));
                let scale: f64 = ring.range(from, now).map(|it| it.value.abs()).filter(|it| it.is_finite()).sum();
                if let (Some(seen), Some(all)) = (seen, all) {
                    prop_assert!(near(seen.total(), all.total(), scale * 1e-3), "{:?} {:?}", seen, all);
                }
                for (seen, all) in [
                    (least[position].evaluate(&ring, now).map(|it| it.0), plain::<Least>(&ring, from, now).map(|it| it.0)),
                    (greatest[position].evaluate(&ring, now).map(|it| it.0), plain::<Greatest>(&ring, from, now).map(|it| it.0)),
                ] {
                    prop_assert_eq!(seen.map(f64::to_bits), all.map(f64::to_bits));
                }
            }
            ring.forget_until(Timestamp(time - 3000 - longest.as_millis() as i64));
        }
    }

    #[test]
    fn spread_and_line_are_those_of_the_textbook(
        values in prop::collection::vec((1_i64..5000, -100.0_f64..100.0), 2..500),
        span in 1_u64..600,
        offset in prop_oneof![Just(0.0), Just(1e6)],
    ) {
        let (mut ring, mut time) = (Ring::default(), 0);
        let (mut spread, mut line) = (Window::<Spread>::new(Duration::from_secs(span)), Window::new(Duration::from_secs(span)));
        for (step, value) in values {
            time += step;
            ring.push(Sample { time: Timestamp(time), value: value + offset });
            let now = Timestamp(time);
            let samples: Vec<Sample> = ring.range(Timestamp(time - span as i64 * 1000), now).collect();
            let count = samples.len() as f64;
            let mean = samples.iter().map(|it| it.value).sum::<f64>() / count;
            let variance = samples.iter().map(|it| (it.value - mean).powi(2)).sum::<f64>() / count;
            let seen = spread.evaluate(&ring, now).unwrap();
            prop_assert!((seen.variance() - variance).abs() <= 1e-9 * (1.0 + variance), "{seen:?} {variance}");

            let line: Line = line.evaluate(&ring, now).unwrap();
            if samples.len() > 1 {
                let seconds = |sample: &Sample| (sample.time.0 - samples[0].time.0) as f64 / 1000.0;
                let middle = samples.iter().map(seconds).sum::<f64>() / count;
                let times: f64 = samples.iter().map(|it| (seconds(it) - middle).powi(2)).sum();
                let products: f64 = samples.iter().map(|it| (seconds(it) - middle) * (it.value - mean)).sum();
                let scale = 1.0 + (products / times).abs() + 1e-6 * offset;
                prop_assert!((line.slope() - products / times).abs() <= 1e-6 * scale, "{line:?}");
            }
        }
    }
}

/// Counts the samples that are looked at.
#[derive(Debug, Clone, Copy)]
struct Looked;

thread_local! {
    static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Summary for Looked {
    fn of(_: Sample) -> Self {
        LOOKS.set(LOOKS.get() + 1);
        Self
    }

    fn and(self, _: Self) -> Self {
        LOOKS.set(LOOKS.get() + 1);
        Self
    }
}

#[test]
fn an_evaluation_costs_the_same_however_long_the_window_is() {
    let cost = |seconds: u64| {
        let (mut ring, mut window) = (Ring::default(), Window::<Looked>::new(Duration::from_secs(seconds)));
        let mut steps = 0;
        for second in 1..=8000_i64 {
            ring.push(Sample { time: Timestamp(second * 1000), value: 1.0 });
            if second == 4000 {
                LOOKS.set(0);
            }
            window.evaluate(&ring, Timestamp(second * 1000));
            steps = second - 3999;
        }
        LOOKS.get() as f64 / steps as f64
    };

    let costs = [300, 600, 3600].map(cost);

    assert!(costs.iter().all(|cost| *cost < 3.0 * 64.0), "{costs:?}");
    assert!(costs[2] < 1.2 * costs[0], "{costs:?}");
}
