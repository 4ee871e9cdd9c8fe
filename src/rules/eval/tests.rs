//! The evaluator against the incremental forms and against naive arithmetic, over series with everything that goes
//! wrong; what promtool says is in `tests/rules`.

use std::sync::Arc;

use promql_parser::parser;
use proptest::prelude::*;

use super::*;
use crate::model::Scale;
use crate::rules::live::{LiveTable, NAME, SeriesSpec};
use crate::rules::plan::Planner;
use crate::rules::ring::{END, Pushed};

const SECOND: Duration = Duration::from_secs(1);
const LOOK_BACK: Duration = Duration::from_secs(5);

fn labels(device: usize) -> Labels {
    let line = if device < 2 { "a" } else { "b" };
    let pairs = [(NAME, "x"), ("device", &format!("d{device}")), ("line", line)];
    Arc::new(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
}

/// What happens to a series in one step: how many milliseconds later, and which value.
fn step() -> impl Strategy<Value = (i64, f64)> {
    let value = prop_oneof![
        20 => (-40i32..200).prop_map(|it| f64::from(it) / 4.0),
        4 => Just(0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(END),
    ];
    // Mostly regular, now and then a gap, and now and then out of order.
    let later = prop_oneof![20 => Just(1000i64), 4 => 1i64..3000, 1 => 5_000i64..30_000, 1 => -2500i64..0];
    (later, value)
}

/// The same samples live and in memory; what the live table does not take is in neither.
fn both(table: &mut LiveTable, steps: &[Vec<(i64, f64)>]) -> (MemorySource, i64) {
    let (mut series, mut end) = (Vec::new(), 0);
    for (device, steps) in steps.iter().enumerate() {
        let labels = labels(device);
        let spec = SeriesSpec { id: None, labels: labels.clone(), scale: Scale::ONE, look_back: LOOK_BACK };
        let position = table.add(spec).unwrap();
        let (mut time, mut samples) = (0, Vec::new());
        for (later, value) in steps {
            let sample = Sample { time: Timestamp(time + later), value: *value };
            if table.push(position, sample) == Pushed::Kept {
                samples.push(sample);
                time += later;
            }
        }
        end = end.max(time);
        series.push(MemorySeries { labels, samples, look_back: LOOK_BACK });
    }
    (MemorySource::new(series), end)
}

/// Sums are put together in another order, and variances by another formula: the last digits differ.
fn is_same(a: f64, b: f64, scale: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * scale.max(a.abs()).max(b.abs())
}

const INCREMENTAL: [&str; 24] = [
    "x",
    "x > 10",
    "x offset 3s",
    "count_over_time(x[10s])",
    "sum_over_time(x[10s])",
    "avg_over_time(x[90s])",
    "min_over_time(x[10s])",
    "max_over_time(x[90s])",
    "stddev_over_time(x[10s])",
    "stdvar_over_time(x[90s])",
    "last_over_time(x[20s])",
    "present_over_time(x[10s])",
    "changes(x[90s])",
    "resets(x[90s])",
    "rate(x[10s])",
    "increase(x[90s])",
    "delta(x[10s])",
    "irate(x[10s])",
    "idelta(x[10s])",
    "deriv(x[10s])",
    "predict_linear(x[10s], 60)",
    "avg by (line) (avg_over_time(x[10s] offset 2s))",
    "sum without (device) (x) * 2 - 1",
    "max(min_over_time(x[10s])) >= 0",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn incremental_forms_agree_with_the_general_evaluator(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..200), 1..4),
        interval in prop_oneof![Just(1000i64), Just(700), Just(5000)],
    ) {
        let mut table = LiveTable::default();
        let planner = Planner { owner: 0, query_offset: Duration::ZERO, step: SECOND };
        let expressions = INCREMENTAL.map(|text| parser::parse(text).unwrap());
        let mut plans = expressions.each_ref().map(|it| planner.plan(it, &mut table).expect("an incremental form"));
        // Everything is there before it is evaluated: samples must be kept from the begin on.
        table.select(vec![Matcher::new(promql_parser::label::MatchOp::Equal, NAME, "x")], Duration::from_secs(100_000));
        let (memory, end) = both(&mut table, &steps);
        let mut time = 0;
        while time <= end + 6000 {
            for (plan, expression) in plans.iter_mut().zip(&expressions) {
                let mut cells = Vec::new();
                plan.evaluate(&mut table, Timestamp(time), &mut cells);
                let mut found: Vec<(Labels, f64)> =
                    cells.iter().map(|cell| (plan.labels(&table, cell.of), cell.value)).collect();
                let mut expected: Vec<(Labels, f64)> = Evaluator::new(&memory, Timestamp(time), SECOND)
                    .vector(expression)
                    .unwrap()
                    .into_iter()
                    .map(|element| (element.labels, element.value))
                    .collect();
                found.sort_by(|a, b| a.0.cmp(&b.0));
                expected.sort_by(|a, b| a.0.cmp(&b.0));
                prop_assert_eq!(found.len(), expected.len(), "{} at {}", expression, time);
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert_eq!(&found.0, &expected.0);
                    prop_assert!(is_same(found.1, expected.1, 100.0), "{} at {}: {} is not {}", expression, time, found.1, expected.1);
                }
            }
            time += interval;
        }
    }

    #[test]
    fn the_general_evaluator_agrees_with_naive_arithmetic(
        steps in prop::collection::vec(step(), 1..120),
        span in 1i64..60,
        at in 0i64..120_000,
    ) {
        let mut table = LiveTable::default();
        table.select(vec![Matcher::new(promql_parser::label::MatchOp::Equal, NAME, "x")], Duration::from_secs(1));
        let mut samples: Vec<(i64, f64)> = Vec::new();
        for (later, value) in steps {
            let time = samples.last().map_or(0, |(time, _)| *time) + later;
            if samples.last().is_none_or(|(last, _)| time > *last) {
                samples.push((time, value));
            }
        }
        let kept = samples.iter().map(|(time, value)| Sample { time: Timestamp(*time), value: *value }).collect();
        let memory = MemorySource::new(vec![MemorySeries { labels: labels(0), samples: kept, look_back: LOOK_BACK }]);
        let inside: Vec<(f64, f64)> = samples
            .iter()
            .filter(|(time, value)| at - span * 1000 < *time && *time <= at && value.to_bits() != END.to_bits())
            .map(|(time, value)| (*time as f64 / 1000.0, *value))
            .collect();
        for (function, naive) in naive(&inside, at as f64 / 1000.0) {
            let expression = parser::parse(&function.replace("RANGE", &format!("x[{span}s]"))).unwrap();
            let found = Evaluator::new(&memory, Timestamp(at), SECOND).vector(&expression).unwrap();
            let found = found.first().map(|element| element.value);
            let is_same = match (found, naive) {
                (Some(found), Some(naive)) => is_same(found, naive, 5000.0),
                (found, naive) => found == naive,
            };
            prop_assert!(is_same, "{function} over {inside:?}: {found:?} is not {naive:?}");
        }
    }
}

/// What functions say of samples, as anybody would write it down who has never heard of numerics.
fn naive(samples: &[(f64, f64)], at: f64) -> Vec<(&'static str, Option<f64>)> {
    let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    let count = values.len() as f64;
    let some = |value: f64| (!values.is_empty()).then_some(value);
    let numbers = || values.iter().copied().filter(|value| !value.is_nan());
    let is_finite = values.iter().all(|value| value.is_finite());
    let sum: f64 = values.iter().sum();
    let pairs = || values.windows(2);
    let least = numbers().fold(f64::NAN, f64::min);
    let greatest = numbers().fold(f64::NAN, f64::max);
    let mut all = vec![
        ("count_over_time(RANGE)", some(count)),
        ("sum_over_time(RANGE)", some(sum)),
        ("min_over_time(RANGE)", some(least)),
        ("max_over_time(RANGE)", some(greatest)),
        ("last_over_time(RANGE)", values.last().copied()),
        ("resets(RANGE)", some(pairs().filter(|pair| pair[1] < pair[0]).count() as f64)),
        (
            "changes(RANGE)",
            some(pairs().filter(|pair| pair[1] != pair[0] && !(pair[0].is_nan() && pair[1].is_nan())).count() as f64),
        ),
        ("absent_over_time(RANGE)", values.is_empty().then_some(1.0)),
    ];
    if is_finite {
        let mean = sum / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        all.push(("avg_over_time(RANGE)", some(mean)));
        all.push(("stdvar_over_time(RANGE)", some(squares / count)));
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = || (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        all.push(("quantile_over_time(0.5, RANGE)", (!sorted.is_empty()).then(middle)));
        let line = || {
            let mean_time = samples.iter().map(|(time, _)| time).sum::<f64>() / count;
            let spread: f64 = samples.iter().map(|(time, _)| (time - mean_time).powi(2)).sum();
            let together: f64 = samples.iter().map(|(time, value)| (time - mean_time) * (value - mean)).sum();
            let slope = if values.iter().all(|value| *value == values[0]) { 0.0 } else { together / spread };
            mean + slope * (at + 60.0 - mean_time)
        };
        all.push(("predict_linear(RANGE, 60)", (values.len() > 1).then(line)));
    }
    all
}

fn found(text: &str) -> Result<Vec<(String, f64)>, String> {
    let sample = |second: i64, value: f64| Sample { time: Timestamp(second * 1000), value };
    let series =
        |device: usize, samples: Vec<Sample>| MemorySeries { labels: labels(device), samples, look_back: LOOK_BACK };
    let memory = MemorySource::new(vec![
        series(0, vec![sample(0, 1.0), sample(5, 2.0), sample(10, 4.0)]),
        series(1, vec![sample(9, 7.0), sample(10, END)]),
        series(2, vec![sample(4, 3.0), sample(6, f64::NAN)]),
    ]);
    let expression = parser::parse(text)?;
    let refused = check::refusals(&expression, SECOND);
    if let Some(reason) = refused.first() {
        return Err(reason.clone());
    }
    let elements =
        Evaluator::new(&memory, Timestamp(10_000), SECOND).vector(&expression).map_err(|it| it.to_string())?;
    Ok(elements.into_iter().map(|element| (shown(&element.labels), element.value)).collect())
}

#[test]
fn ranges_and_look_back_are_open_on_the_left_and_an_end_is_no_sample() {
    let only = |text: &str| found(text).unwrap().first().map(|(_, value)| *value);

    assert_eq!(only("sum_over_time(x{device=\"d0\"}[10s])"), Some(6.0));
    assert_eq!(only("sum_over_time(x{device=\"d0\"}[10001ms])"), Some(7.0));
    assert_eq!(only("x{device=\"d0\"} offset 5s"), Some(2.0));
    assert_eq!(only("x{device=\"d0\"} offset 1ms"), Some(2.0));
    assert_eq!(only("x{device=\"d1\"}"), None);
    assert_eq!(only("sum_over_time(x{device=\"d1\"}[5s])"), Some(7.0));
    // 4 s before lies the sample of 6 s; 5 s after a sample it does not stand any more.
    assert_eq!(only("x{device=\"d2\"} offset -1s"), None);
    assert_eq!(only("count_over_time(x{device=\"d0\"}[10s:5s])"), Some(2.0));
}

#[test]
fn mistakes_have_the_reasons_of_prometheus() {
    for (text, reason) in [
        ("x + on () x", "found duplicate series for the match group"),
        ("x + on () group_left x", "found duplicate series for the match group"),
        ("count by (line) (x) / on () x", "found duplicate series for the match group"),
        ("x / on (line) count by (line) (x{line=\"a\"})", ""),
        (
            "label_replace(sum without (line) (x), \"device\", \"\", \"device\", \".*\")",
            "vector cannot contain metrics with the same labelset",
        ),
        ("label_replace(x, \"1\", \"\", \"device\", \".*\")", "invalid label name in label_replace()"),
        ("label_replace(x, \"a\", \"\", \"device\", \"(\")", "invalid regular expression in label_replace()"),
        ("double_exponential_smoothing(x[10s], 1, 0.5)", "invalid smoothing factor"),
        ("topk(NaN, x)", "scalar value NaN overflows"),
        ("histogram_count(x)", "histogram_count is about native histograms"),
        ("mad_over_time(x[5m])", "mad_over_time is an experimental function"),
        ("limitk(2, x)", "limitk is an experimental aggregation"),
        ("x[5m]", "the result of a rule is a vector or a number"),
        ("\"text\"", "the result of a rule is a vector or a number"),
        ("sum_over_time(x[30d:1s])", "a subquery of more than 11000 steps"),
        ("x{a=\"b\" or c=\"d\"}", "alternatives joined by or"),
    ] {
        match found(text) {
            Ok(_) => assert_eq!(reason, "", "{text}"),
            Err(error) => assert!(!reason.is_empty() && error.contains(reason), "{text}: {error}"),
        }
    }
}

#[test]
fn smoothing_follows_level_and_trend() {
    let found = found("double_exponential_smoothing(x{device=\"d0\"}[11s], 0.5, 0.1)").unwrap();

    // By hand: level 1, trend 1; then 0.5 * 2 + 0.5 * (1 + 1) = 2; trend 0.1 * 1 + 0.9 * 1 = 1; 0.5 * 4 + 0.5 * 3 = 3.5.
    assert_eq!(found, [("{device=\"d0\", line=\"a\"}".to_owned(), 3.5)]);
}
