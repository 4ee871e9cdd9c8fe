use proptest::prelude::*;

use super::*;
use crate::model::{BootId, ClockState, CommitHeader, Epoch, Fault, Row, Sequence};

/// Commits of one reading each of series 1: milliseconds and what was observed.
fn commits(readings: impl IntoIterator<Item = (i64, Observed)>) -> Vec<Commit> {
    let commit = |(sequence, (time, observed)): (u64, (i64, Observed))| {
        let header = CommitHeader {
            epoch: Epoch([1; 16]),
            sequence: Sequence(sequence),
            boot: BootId([1; 16]),
            clock: ClockState::Local,
            wall_minus_monotonic_ms: 0,
        };
        let row = Row { series: [SeriesId(1)].into(), time: Timestamp(time), observed: vec![observed] };
        Commit { header, records: Records::Readings(vec![row]) }
    };
    (1..).zip(readings).map(commit).collect()
}

fn good(number: f64) -> Observed {
    Observed::Good(Value::F64(number))
}

fn table<const N: usize>(tags: [(SeriesId, ForwardRule); N]) -> Arc<ForwardTable> {
    Arc::new(ForwardTable { tags: HashMap::from(tags), named: Vec::new() })
}

/// A catalogue of series with these names, from id 1 on.
fn catalogue(names: &[&str]) -> Arc<Catalogue> {
    let info = |name: &&str| SeriesInfo {
        name: (*name).to_owned(),
        labels: Arc::default(),
        unit: String::new(),
        kind: crate::model::ValueKind::F64,
        scale: Scale::ONE,
        states: std::collections::BTreeMap::new(),
    };
    let series = (1..).map(SeriesId).zip(names.iter().map(|name| Arc::new(info(name)))).collect();
    Arc::new(Catalogue { epoch: Epoch([1; 16]), series, others: Vec::new() })
}

#[test]
fn series_that_come_to_be_later_are_named_by_selectors() {
    let mut filter = ForwardFilter::default();
    let selection = |text: &str| Selection::parse(text).unwrap();
    let named = vec![
        (selection("line:power_w"), Arc::new(Forward::None)),
        (selection("line:power_w:avg"), Arc::new(Forward::Aggregates { every: Duration::from_secs(60) })),
    ];
    let table = Arc::new(ForwardTable { tags: HashMap::new(), named });

    filter.set_table(&table, &catalogue(&[]));
    assert_eq!(sent(&mut filter, &commits([(0, good(1.0))])), [0]);
    filter.set_table(&table, &catalogue(&["line:power_w:avg"]));
    assert_eq!(sent(&mut filter, &commits([(1, good(1.0))])), [0]);
    filter.set_table(&table, &catalogue(&["line:power_w"]));
    assert!(sent(&mut filter, &commits([(2, good(1.0))])).is_empty());
}

fn filter(forward: Forward) -> ForwardFilter {
    let mut filter = ForwardFilter::default();
    let rule = ForwardRule { forward: Arc::new(forward), scale: Scale::ONE };
    filter.set_table(&table([(SeriesId(1), rule)]), &catalogue(&[]));
    filter
}

/// Positions of the readings that are sent.
fn sent(filter: &mut ForwardFilter, commits: &[Commit]) -> Vec<usize> {
    let withheld = filter.withhold(commits);
    (0..commits.len()).filter(|commit| !withheld.contains(*commit, 0)).collect()
}

#[test]
fn what_no_rule_names_is_sent_whole() {
    let mut filter = ForwardFilter::default();

    assert!(filter.withhold(&commits([(0, good(1.0)), (1, good(1.0))])).is_empty());
}

#[test]
fn only_changes_are_sent_also_across_batches() {
    let mut filter = filter(Forward::Changes(Changes::default()));
    let fault = || Observed::Bad(Fault::Timeout);
    let first = [(0, good(1.0)), (1, good(1.0)), (2, good(2.0)), (3, fault()), (4, fault())];

    assert_eq!(sent(&mut filter, &commits(first)), [0, 2, 3]);
    assert_eq!(sent(&mut filter, &commits([(5, fault()), (6, good(2.0)), (7, good(2.0))])), [1]);
    filter.start_over();
    assert_eq!(sent(&mut filter, &commits([(8, good(2.0)), (9, good(2.0))])), [0]);
}

#[test]
fn a_deadband_is_measured_from_the_last_value_sent() {
    let absolute = Changes { deadband: 1.0, ..Changes::default() };
    let creeping =
        commits([0.0, 0.6, 1.0, 1.2, 2.0, 2.3].map(good).into_iter().enumerate().map(|(t, v)| (t as i64, v)));
    assert_eq!(sent(&mut filter(Forward::Changes(absolute)), &creeping), [0, 3, 5]);

    let percent = Changes { deadband_percent: 10.0, ..Changes::default() };
    let growing =
        commits([100.0, 109.0, 111.0, 100.0, 99.0].map(good).into_iter().enumerate().map(|(t, v)| (t as i64, v)));
    assert_eq!(sent(&mut filter(Forward::Changes(percent)), &growing), [0, 2, 4]);
}

#[test]
fn limits_are_in_engineering_units() {
    let mut filter = ForwardFilter::default();
    let forward = Arc::new(Forward::Changes(Changes { deadband: 1.0, ..Changes::default() }));
    let rule = ForwardRule { forward, scale: Scale::new(0.1, 0.0) };
    filter.set_table(&table([(SeriesId(1), rule)]), &catalogue(&[]));
    let tenths = [230, 235, 240, 241].map(|tenths| Observed::Good(Value::Int(tenths)));

    assert_eq!(sent(&mut filter, &commits((0..).zip(tenths))), [0, 3]);
}

#[test]
fn a_heartbeat_sends_what_did_not_change() {
    let changes = Changes { heartbeat: Some(Duration::from_secs(3)), ..Changes::default() };

    let still = commits((0..8).map(|second| (second * 1000, good(5.0))));

    assert_eq!(sent(&mut filter(Forward::Changes(changes)), &still), [0, 3, 6]);
}

#[test]
fn text_and_bits_are_sent_when_they_change() {
    let changes = Changes { deadband: 10.0, ..Changes::default() };
    let text = |text: &str| Observed::Good(Value::Text(text.into()));
    let bit = |bit| Observed::Good(Value::Bool(bit));

    let readings = [text("run"), text("run"), text("stop"), bit(false), bit(true), bit(true)];

    let readings = commits((0..).zip(readings));
    assert_eq!(sent(&mut filter(Forward::Changes(changes)), &readings), [0, 2, 3, 4]);
}

#[test]
fn nothing_is_sent_of_what_is_kept_here() {
    let readings = commits([(0, good(1.0)), (1, Observed::Bad(Fault::Timeout))]);

    assert!(sent(&mut filter(Forward::None), &readings).is_empty());
    let aggregates = Forward::Aggregates { every: Duration::from_secs(60) };
    assert!(sent(&mut filter(aggregates), &readings).is_empty());
    assert_eq!(sent(&mut filter(Forward::All), &readings), [0, 1]);
}

#[test]
fn a_swinging_door_sends_the_ends_of_straight_lines() {
    let changes = Changes { swinging_door: Some(0.1), ..Changes::default() };
    let ramp = |second: i64| if second <= 10 { second as f64 } else { 10.0 };

    let readings = commits((0..=20).map(|second| (second * 1000, good(ramp(second)))));

    assert_eq!(sent(&mut filter(Forward::Changes(changes)), &readings), [0, 10, 20]);
}

proptest! {
    #[test]
    fn straight_lines_between_what_is_sent_miss_no_reading_by_more_than_the_door(
        steps in prop::collection::vec((1_i64..5000, -3.0_f64..3.0), 1..200),
        limit in 0.1_f64..4.0,
        batch in 1_usize..40,
    ) {
        let mut filter = filter(Forward::Changes(Changes { swinging_door: Some(limit), ..Changes::default() }));
        let (mut time, mut value) = (0, 0.0);
        let readings: Vec<(i64, f64)> = steps
            .into_iter()
            .map(|(elapsed, step)| {
                time += elapsed;
                value += step;
                (time, value)
            })
            .collect();

        let all = commits(readings.iter().map(|(time, value)| (*time, good(*value))));
        let mut kept = Vec::new();
        for (number, part) in all.chunks(batch).enumerate() {
            kept.extend(sent(&mut filter, part).into_iter().map(|position| readings[number * batch + position]));
        }

        prop_assert_eq!((kept.first(), kept.last()), (readings.first(), readings.last()));
        for (time, value) in readings {
            let after = kept.partition_point(|(sent, _)| *sent < time);
            let (t1, v1) = kept[after];
            let (t0, v0) = if t1 == time { (t1 - 1, v1) } else { kept[after - 1] };
            let line = v0 + (v1 - v0) * (time - t0) as f64 / (t1 - t0) as f64;
            prop_assert!((line - value).abs() <= limit * (1.0 + 1e-9), "{value} at {time}: {line}");
        }
    }
}
