//! What rules cost: readings per second through the engine, and how that grows with series and windows.
//!
//! `cargo bench --bench rules`. The engine is fed one row of 100 readings after the other, a second of the plant at a
//! time, and evaluates each group at its interval. Time is that of the processor, whatever else runs; memory that of the
//! process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lineside::model::{Observed, Priority, Row, Scale, SeriesId, Timestamp, Value};
use lineside::rules::alarm::AlarmPolicy;
use lineside::rules::engine::{Engine, Outcome, RuleSetup};
use lineside::rules::live::{NAME, SeriesSpec};
use lineside::rules::spec::{AlertSpec, GroupSpec, Place, RuleKind, RuleSpec};
use promql_parser::parser;

/// Series that share a row, and that an aggregating rule sums up.
const ROW: usize = 100;

/// Begins at a round time, so that groups are due at once.
const START: i64 = 1_700_000_000_000;

fn alert(number: usize, expression: &str) -> RuleSpec {
    let spec = AlertSpec {
        policy: AlarmPolicy::default(),
        priority: Priority::Medium,
        shelve_most: Duration::from_secs(3600),
        clear: None,
        suppressed_by: Vec::new(),
        annotations: BTreeMap::new(),
        on_arrival: false,
        bound: None,
        on_raised: Vec::new(),
        on_cleared: Vec::new(),
    };
    let expression = parser::parse(expression).expect("an expression");
    let kind = RuleKind::Alert(Box::new(spec));
    RuleSpec { place: Place::default(), name: format!("Rule{number}"), expression, labels: BTreeMap::new(), kind }
}

/// A fifth sliding windows, a tenth over 100 series, the rest thresholds.
fn rules(count: usize, series: usize, window: &str) -> Vec<RuleSpec> {
    let functions = ["avg", "max", "min", "stddev"];
    let rule = |number: usize| {
        let device = number % (series / ROW).max(1);
        let point = number % ROW;
        let expression = match number % 10 {
            0 | 5 => {
                let function = functions[number / 5 % functions.len()];
                // Each looks at a point of all devices: together they keep windows of all series.
                format!("{function}_over_time(value{{point=\"p{}\"}}[{window}]) > 1e9", number / 5 % ROW)
            }
            1 => format!("avg(value{{device=\"d{device}\"}}) > 1e9"),
            _ => format!("value{{device=\"d{device}\",point=\"p{point}\"}} > 1e9"),
        };
        alert(number, &expression)
    };
    (0..count).map(rule).collect()
}

fn engine(rules: Vec<RuleSpec>, series: usize) -> Engine {
    let interval = Duration::from_secs(1);
    let group = GroupSpec { name: "bench".to_owned(), interval, query_offset: Duration::ZERO, limit: 0, rules };
    let spec = |id: usize| {
        let labels =
            [(NAME, "value".to_owned()), ("device", format!("d{}", id / ROW)), ("point", format!("p{}", id % ROW))];
        let labels = labels.map(|(key, value)| (key.to_owned(), value));
        let look_back = Duration::from_secs(3);
        SeriesSpec { id: Some(SeriesId(id as u32)), labels: Arc::new(labels.into()), scale: Scale::ONE, look_back }
    };
    let setup = RuleSetup { groups: vec![group], series: (0..series).map(spec).collect(), ..RuleSetup::default() };
    match Engine::new(setup, Timestamp(START)) {
        Ok(engine) => engine,
        Err(errors) => panic!("{errors:?}"),
    }
}

/// Feeds one second of the plant and evaluates.
fn second(engine: &mut Engine, shapes: &[Arc<[SeriesId]>], second: i64) {
    let mut outcome = Outcome::default();
    let time = Timestamp(START + second * 1000);
    for (device, shape) in shapes.iter().enumerate() {
        let observed = (0..ROW).map(|point| Observed::Good(Value::F32((device + point) as f32 + second as f32 % 7.0)));
        engine.take(&[Row { series: shape.clone(), time, observed: observed.collect() }], &mut outcome);
    }
    engine.advance(time, &mut outcome);
    assert!(outcome.alarms.is_empty());
}

/// Share of a core at 1 Hz, and nanoseconds for each reading, once the windows are full.
fn run(count: usize, series: usize, window_s: i64) -> (f64, f64, usize) {
    let mut engine = engine(rules(count, series, &format!("{window_s}s")), series);
    let shapes: Vec<Arc<[SeriesId]>> = (0..series / ROW)
        .map(|device| (0..ROW).map(|point| SeriesId((device * ROW + point) as u32)).collect())
        .collect();
    for at in 1..=window_s + 60 {
        second(&mut engine, &shapes, at);
    }
    let seconds = (20_000_000 / (series as i64 * 10)).clamp(60, 2000);
    let begun = processor_time();
    for at in window_s + 61..=window_s + 60 + seconds {
        second(&mut engine, &shapes, at);
    }
    let elapsed = (processor_time() - begun).as_secs_f64();
    engine.measure();
    (elapsed / seconds as f64, elapsed * 1e9 / (seconds as f64 * series as f64), engine.status().bytes)
}

/// What this process has taken of the processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1024
}

fn main() {
    println!("series  rules  window     of a core at 1 Hz   per reading   readings/s   samples and windows");
    for (series, rules, window_s) in
        [(100, 500, 600), (1000, 500, 600), (10_000, 500, 60), (10_000, 500, 600), (1000, 500, 60), (1000, 500, 3600)]
    {
        let (share, nanoseconds, bytes) = run(rules, series, window_s);
        println!(
            "{series:>6}  {rules:>5}  {window_s:>4} s   {:>15.2} %   {nanoseconds:>8.0} ns   {:>10.0}   {:>10.1} MB",
            share * 100.0,
            1e9 / nanoseconds,
            bytes as f64 / 1e6
        );
        if (series, rules, window_s) == (10_000, 500, 600) {
            println!("        peak memory of this process so far: {:.1} MB", peak_bytes() as f64 / 1e6);
        }
    }
}
