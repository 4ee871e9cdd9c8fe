use proptest::prelude::*;

use super::*;
use crate::model::{BootId, ClockState, Commit, CommitHeader, Epoch, Fault, Lane};

use super::super::commit::{Codec, seal};

/// A stored commit of one row with one reading for each of `observed`.
fn stored(sequence: u64, boot: u8, time: i64, observed: Vec<Observed>) -> (Envelope, Records) {
    let series = (0..observed.len() as u32).map(SeriesId).collect();
    let records = Records::Readings(vec![Row { series, time: Timestamp(time), observed }]);
    envelope(sequence, boot, records)
}

fn envelope(sequence: u64, boot: u8, records: Records) -> (Envelope, Records) {
    let clock = ClockReading { boot: BootId([boot; 16]), state: ClockState::Local, wall_minus_monotonic_ms: 5 };
    let mut codec = Codec::new().unwrap();
    let mut bytes = codec.encode(Lane::Telemetry, &records, clock).unwrap();
    seal(&mut bytes, Epoch([1; 16]), Sequence(sequence));
    let (_, Commit { header: CommitHeader { .. }, records }) = codec.decode(&bytes).unwrap();
    (Envelope::read(&bytes).unwrap(), records)
}

fn numbers(values: &[f64]) -> Vec<Observed> {
    values.iter().map(|value| Observed::Good(Value::F64(*value))).collect()
}

fn thinned(window: Window, commits: &[(Envelope, Records)]) -> Thinned {
    let mut thinner = Thinner::new(window);
    commits.iter().for_each(|(envelope, records)| thinner.add(envelope, records));
    thinner.finish().unwrap().0
}

#[test]
fn a_minute_becomes_count_lowest_highest_mean_and_newest() {
    let text = Observed::Good(Value::Text("on".into()));
    let commits = [
        stored(7, 1, 60_000, vec![Observed::Good(Value::F32(230.1)), text, Observed::Bad(Fault::Timeout)]),
        stored(8, 1, 61_000, numbers(&[231.0])),
        stored(9, 1, 62_500, vec![Observed::Good(Value::Int(229)), Observed::Good(Value::Text("off".into()))]),
    ];

    let thinned = thinned(Window::Minute, &commits);

    assert_eq!(thinned.replaces, [Replaced { first: Sequence(7), last: Sequence(9), readings: 6 }]);
    let [voltage, state, silent] = &thinned.aggregates[..] else { panic!("{thinned:?}") };
    assert_eq!((voltage.count, voltage.bad, voltage.start), (3, 0, Timestamp(60_000)));
    let Summary::Numbers { min, max, mean, last } = voltage.summary else { panic!("{voltage:?}") };
    assert_eq!((min, max, last, voltage.last_time), (229.0, 231.0, 229.0, Timestamp(62_500)));
    assert!((mean - 690.1 / 3.0).abs() < 1e-9, "{mean}");
    assert_eq!((state.count, &state.summary), (2, &Summary::Text("off".into())));
    assert_eq!((silent.count, silent.bad, &silent.summary), (0, 1, &Summary::Nothing));
}

#[test]
fn what_is_no_number_counts_as_a_reading_without_value() {
    let thinned = thinned(Window::Minute, &[stored(1, 1, 0, numbers(&[f64::NAN, f64::INFINITY, 1.0]))]);

    assert_eq!(thinned.aggregates.iter().map(|it| (it.count, it.bad)).collect::<Vec<_>>(), [(0, 1), (0, 1), (1, 0)]);
}

#[test]
fn minutes_become_ten_and_go_on_naming_what_they_stand_for() {
    let minute = |sequence, time, values: &[f64]| {
        let commits: Vec<_> =
            (0_u64..).zip(values).map(|(at, value)| stored(sequence + at, 1, time, numbers(&[*value]))).collect();
        thinned(Window::Minute, &commits)
    };
    let first = minute(1, 60_000, &[1.0, 2.0, 6.0]);
    let second = minute(5, 120_000, &[9.0]);
    let commits = [envelope(4, 1, Records::Thinned(first)), envelope(9, 1, Records::Thinned(second))];

    let thinned = thinned(Window::TenMinutes, &commits);

    let replaced = |first, last, readings| Replaced { first: Sequence(first), last: Sequence(last), readings };
    assert_eq!(thinned.replaces, [replaced(1, 5, 4), replaced(9, 9, 0)]);
    let [aggregate] = &thinned.aggregates[..] else { panic!("{thinned:?}") };
    assert_eq!((aggregate.start, aggregate.count, aggregate.last_time), (Timestamp(0), 4, Timestamp(120_000)));
    let Summary::Numbers { min, max, mean, last } = aggregate.summary else { panic!("{aggregate:?}") };
    assert_eq!((min, max, last), (1.0, 9.0, 9.0));
    assert!((mean - 4.5).abs() < 1e-8, "{mean}");
}

#[test]
fn a_record_ends_with_a_minute_with_ten_minutes_and_with_a_boot() {
    let mut thinner = Thinner::new(Window::Minute);
    let at = |time, boot| stored(2, boot, time, numbers(&[1.0])).0;
    assert!(!thinner.is_due(&at(0, 1), true), "there is nothing to finish");
    let (envelope, records) = stored(1, 1, 8 * 60_000, numbers(&[1.0]));
    thinner.add(&envelope, &records);

    assert!(!thinner.is_due(&at(8 * 60_000 + 59_999, 1), true));
    assert!(!thinner.is_due(&at(9 * 60_000, 1), false));
    assert!(thinner.is_due(&at(9 * 60_000, 1), true));
    assert!(thinner.is_due(&at(10 * 60_000, 1), false));
    assert!(thinner.is_due(&at(8 * 60_000 + 1, 2), false));
    assert!(thinner.finish().is_some() && thinner.finish().is_none());
}

proptest! {
    #[test]
    fn every_reading_is_counted_once_however_often_it_is_thinned(
        values in proptest::collection::vec((0_i64..3_600_000, proptest::option::of(-1000_i32..1000)), 1..60),
    ) {
        let observed = |value: Option<i32>| match value {
            Some(value) => Observed::Good(Value::Int(value.into())),
            None => Observed::Bad(Fault::LinkDown),
        };
        let commits = (1..).zip(&values).map(|(sequence, (time, value))| stored(sequence, 1, *time, vec![observed(*value)]));
        let commits: Vec<_> = commits.collect();
        let minutes = thinned(Window::Minute, &commits);
        let direct = thinned(Window::TenMinutes, &commits);
        let twice = thinned(Window::TenMinutes, &[envelope(values.len() as u64 + 1, 1, Records::Thinned(minutes.clone()))]);

        for thinned in [&minutes, &direct, &twice] {
            let counted: u32 = thinned.aggregates.iter().map(|it| it.count + it.bad).sum();
            prop_assert_eq!(counted as usize, values.len());
            let replaced: u64 = thinned.replaces.iter().map(|it| it.readings).sum();
            prop_assert_eq!(replaced as usize, values.len());
        }
        prop_assert_eq!(direct.aggregates.len(), twice.aggregates.len());
        for (direct, twice) in direct.aggregates.iter().zip(&twice.aggregates) {
            prop_assert_eq!((direct.count, direct.bad, direct.last_time), (twice.count, twice.bad, twice.last_time));
            match (&direct.summary, &twice.summary) {
                (
                    Summary::Numbers { min, max, mean, .. },
                    Summary::Numbers { min: low, max: high, mean: middle, .. },
                ) => {
                    prop_assert_eq!((min, max), (low, high));
                    prop_assert!((mean - middle).abs() <= 2e-9 * (max - min), "{} and {}", mean, middle);
                }
                (direct, twice) => prop_assert_eq!(direct, twice),
            }
        }
    }
}
