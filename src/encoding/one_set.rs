//! Whatever the batches and their encoding, the receiver ends with one set of records. And what the tests of this
//! folder share: commits of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Aggregate, BootId, ClockOffset, ClockState, Commit, CommitHeader, Doubt, Epoch, Fault, Gap, GapReason, Identity,
    Lane, Name,
};
use crate::model::{
    Observed, Quality, Records, Replaced, Row, Scale, SeriesId, SeriesInfo, Summary, Thinned, Timestamp,
};
use crate::model::{Value, ValueKind, Window};

/// A header that covers every sequence.
pub(super) fn header() -> BatchHeader {
    BatchHeader {
        site: Name::new("lyon").unwrap(),
        gateway: Name::new("gw-01").unwrap(),
        epoch: Epoch([0x5f; 16]),
        lane: Lane::Telemetry,
        first: Sequence(0),
        last: Sequence(u64::MAX),
        oldest_undelivered: Sequence(3),
        order: Order::Live,
        part: None,
    }
}

fn value() -> impl Strategy<Value = Value> {
    let finite = |value: f64| if value.is_finite() { value } else { 0.5 };
    prop_oneof![
        4 => (-500_i64..500).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<u64>().prop_map(Value::Uint),
        2 => (-5000_i32..5000).prop_map(|tenths| Value::F32(tenths as f32 / 10.0)),
        1 => any::<f32>().prop_map(move |value| Value::F32(finite(f64::from(value)) as f32)),
        1 => (-5000_i32..5000).prop_map(|hundredths| Value::F64(f64::from(hundredths) / 100.0)),
        1 => any::<f64>().prop_map(move |value| Value::F64(finite(value))),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => "[a-zé\"\\\\ ]{0,6}".prop_map(|text| Value::Text(text.into())),
    ]
}

fn observed() -> impl Strategy<Value = Observed> {
    let faults = [
        Fault::Timeout,
        Fault::WrongUnit,
        Fault::WrongAnswer,
        Fault::BadChecksum,
        Fault::Garbage,
        Fault::NotAvailable,
        Fault::NotANumber,
        Fault::OutOfRange,
        Fault::BadScaleFactor,
        Fault::LinkDown,
        Fault::NoMatch,
        Fault::DeviceFault,
        Fault::WrongDevice,
        Fault::NotInFirmware,
    ];
    let doubt = prop::sample::select(vec![Doubt::Unstable, Doubt::UnknownFirmware, Doubt::UnsureMap]);
    prop_oneof![
        6 => value().prop_map(Observed::Good),
        1 => (value(), doubt).prop_map(|(value, doubt)| Observed::Uncertain(value, doubt)),
        1 => prop::sample::select(faults.to_vec()).prop_map(Observed::Bad),
        1 => any::<u8>().prop_map(|code| Observed::Bad(Fault::Exception(code))),
    ]
}

/// Rows of few shapes, so that they meet again: empty ones, and ones that name a series twice.
fn row() -> impl Strategy<Value = Row> {
    let shapes: Vec<Vec<u32>> = vec![vec![], vec![1], vec![7, 8, 9], vec![9, 7, 7], vec![4_000_000_000, 2]];
    (prop::sample::select(shapes), -5_i64..5000, prop::collection::vec(observed(), 3)).prop_map(
        |(shape, time, mut observed)| {
            observed.truncate(shape.len());
            let series = shape.into_iter().map(SeriesId).collect();
            Row { series, time: Timestamp(1_700_000_000_000 + time), observed }
        },
    )
}

fn records() -> impl Strategy<Value = Records> {
    let gap = (any::<[u32; 3]>(), any::<[i64; 2]>(), 0..3).prop_map(|([first, last, records], times, reason)| Gap {
        lane: Lane::Alarms,
        first: Sequence(first.into()),
        last: Sequence(last.into()),
        records: records.into(),
        first_time: Timestamp(times[0]),
        last_time: Timestamp(times[1]),
        reason: [GapReason::StoreFull, GapReason::Damaged, GapReason::TooLarge][reason as usize],
    });
    prop_oneof![
        8 => prop::collection::vec(row(), 0..6).prop_map(Records::Readings),
        1 => gap.prop_map(Records::Gap),
        1 => any::<([u8; 16], i64, i64)>().prop_map(|(boot, monotonic_ms, wall_minus_monotonic_ms)| {
            Records::ClockOffset(ClockOffset { boot: BootId(boot), monotonic_ms, wall_minus_monotonic_ms })
        }),
        2 => thinned().prop_map(Records::Thinned),
    ]
}

fn thinned() -> impl Strategy<Value = Thinned> {
    let numbers =
        (-50_000_i32..50_000, 0_i32..1000, 0.0_f64..1.0, 0.0_f64..1.0).prop_map(|(tenths, range, mean, last)| {
            let (min, max) = (f64::from(tenths) / 10.0, f64::from(tenths) / 10.0 + f64::from(range));
            Summary::numbers(min, max, min + mean * (max - min), min + f64::floor(last * (max - min)))
        });
    let text = prop::sample::select(vec!["", "running", "stopped"]).prop_map(|text| Summary::Text(text.into()));
    let summary = prop_oneof![4 => numbers, 1 => text, 1 => Just(Summary::Nothing)];
    let aggregate = (prop::sample::select(vec![2_u32, 7, 400]), -3_i64..40, any::<[u16; 2]>(), 0_i64..600_000, summary);
    let aggregates = prop::collection::vec(aggregate, 0..6);
    (any::<bool>(), prop::collection::vec((1_u64..9, 0_u64..9, 0_u64..100), 0..3), aggregates).prop_map(
        |(is_minute, steps, aggregates)| {
            let window = if is_minute { Window::Minute } else { Window::TenMinutes };
            let mut before = 0;
            let replaces = steps.into_iter().map(|(step, more, readings)| {
                let (first, last) = (before + 1 + step, before + 1 + step + more);
                before = last;
                Replaced { first: Sequence(first), last: Sequence(last), readings }
            });
            let replaces = replaces.collect();
            let aggregate = |(series, at, [count, bad], last, summary): (u32, i64, [u16; 2], i64, Summary)| {
                let start = Timestamp(at * i64::from(window.seconds()) * 1000);
                let (count, bad, last_time) = (count.into(), bad.into(), Timestamp(start.0 + last));
                Aggregate { series: SeriesId(series), start, count, bad, last_time, summary }
            };
            Thinned { window, replaces, aggregates: aggregates.into_iter().map(aggregate).collect() }
        },
    )
}

/// Commits whose sequences rise, with holes.
pub(super) fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let commit = (records(), 1_u64..4, 0_u8..2, 0..3, -2_i64..2);
    prop::collection::vec(commit, 0..12).prop_map(|commits| {
        let mut sequence = 10;
        let build = |(records, step, boot, clock, wall): (Records, u64, u8, i32, i64)| {
            sequence += step;
            let clocks = [ClockState::Synchronised, ClockState::Unsynchronised, ClockState::Local];
            let header = CommitHeader {
                epoch: header().epoch,
                sequence: Sequence(sequence),
                boot: BootId([boot; 16]),
                clock: clocks[clock as usize],
                wall_minus_monotonic_ms: 1_699_000_000_000 + wall,
            };
            Commit { header, records }
        };
        commits.into_iter().map(build).collect()
    })
}

/// What the batch of these commits has to say, taken from the commits alone.
pub(super) fn expected(batch: &Batch) -> DecodedBatch {
    let mut decoded = DecodedBatch {
        header: batch.header.clone(),
        commits: batch.commits.iter().map(|commit| commit.header).collect(),
        readings: Vec::new(),
        thinned: Vec::new(),
        gaps: Vec::new(),
        clock_offsets: Vec::new(),
    };
    for commit in &batch.commits {
        let sequence = commit.header.sequence;
        match &commit.records {
            Records::Readings(rows) => {
                let readings = rows.iter().flat_map(|row| {
                    row.series.iter().zip(&row.observed).map(|(series, observed)| (*series, row.time, observed.clone()))
                });
                for (index, (series, time, observed)) in (batch.first_index()..).zip(readings) {
                    decoded.readings.push(DecodedReading { sequence, index, series, time, observed });
                }
            }
            Records::Gap(gap) => decoded.gaps.push((sequence, gap.clone())),
            Records::ClockOffset(offset) => decoded.clock_offsets.push((sequence, *offset)),
            Records::Thinned(thinned) => decoded.thinned.push(DecodedThinned {
                sequence,
                window: thinned.window,
                replaces: thinned.replaces.clone(),
                aggregates: (batch.first_index()..).zip(thinned.aggregates.iter().cloned()).collect(),
            }),
            Records::Alarms(_) => unreachable!("telemetry only"),
        }
    }
    decoded
}

/// A receiver: keeps one record for each identity, as text, and the oldest undelivered sequence that it was told.
#[derive(Debug, Default, PartialEq)]
struct Receiver(BTreeMap<Identity, String>);

impl Receiver {
    fn keep(&mut self, sequence: Sequence, index: u32, content: String) {
        let identity = Identity { epoch: header().epoch, lane: Lane::Telemetry, sequence, index };
        let known = self.0.entry(identity).or_insert_with(|| content.clone());
        assert_eq!(*known, content, "one identity, two contents: {identity:?}");
    }

    fn receive_columnar(&mut self, payload: &[u8]) {
        let batch = columnar::decode(payload).unwrap();
        for reading in &batch.readings {
            let commit = batch.commit(reading.sequence).unwrap();
            let content = format!("{:?} {:?} {:?} {commit:?}", reading.series, reading.time, reading.observed);
            self.keep(reading.sequence, reading.index, content);
        }
        for thinned in &batch.thinned {
            for (index, aggregate) in &thinned.aggregates {
                let content = format!("{:?} {:?} {aggregate:?}", thinned.window, thinned.replaces);
                self.keep(thinned.sequence, *index, content);
            }
        }
        for (sequence, gap) in &batch.gaps {
            self.keep(*sequence, 0, format!("{gap:?}"));
        }
        for (sequence, offset) in &batch.clock_offsets {
            self.keep(*sequence, 0, format!("{offset:?}"));
        }
    }

    fn receive_json(&mut self, payload: &[u8]) {
        let batch = json::decode(payload).unwrap();
        for series in &batch.series {
            for aggregate in &series.aggregates {
                let thinned = batch.thinned.iter().find(|thinned| thinned.sequence == aggregate.sequence).unwrap();
                let content = format!("{:?} {aggregate:?} {:?}", series.id, thinned.replaces);
                self.keep(aggregate.sequence, aggregate.index, content);
            }
            for reading in &series.readings {
                let run =
                    |run: &&json::JsonCommits| (run.first_sequence..=run.last_sequence).contains(&reading.sequence);
                let run = batch.commits.iter().find(run).unwrap();
                let clock = format!("{:?} {:?} {}", run.boot, run.clock, run.wall_minus_monotonic_ms);
                self.keep(reading.sequence, reading.index, format!("{:?} {reading:?} {clock}", series.id));
            }
        }
        for gap in &batch.gaps {
            self.keep(gap.sequence, 0, format!("{gap:?}"));
        }
        for placed in &batch.clock_offsets {
            self.keep(placed.sequence, 0, format!("{placed:?}"));
        }
    }
}

fn listed(id: SeriesId) -> Option<Arc<SeriesInfo>> {
    let info = SeriesInfo {
        name: format!("point_{id}"),
        labels: Arc::default(),
        unit: String::new(),
        kind: ValueKind::Int,
        scale: if id.0.is_multiple_of(2) { Scale::ONE } else { Scale::new(0.1, 0.0) },
        states: BTreeMap::from([(1, "running".to_owned())]),
    };
    (id.0 < 100).then(|| Arc::new(info))
}

/// The commits as batches of `size`, each again in so many pieces as `cuts` halvings give.
fn batches(commits: &[Commit], size: usize, cuts: usize) -> Vec<Batch> {
    let whole = commits.chunks(size).map(|commits| Batch {
        header: header(),
        commits: commits.to_vec(),
        withheld: Withheld::default(),
    });
    let mut batches: Vec<Batch> = whole.collect();
    for _ in 0..cuts {
        let halve = |batch: Batch| match batch.halves() {
            Ok((first, second)) => vec![first, second],
            Err(single) => vec![single],
        };
        batches = batches.into_iter().flat_map(halve).collect();
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn commits_cut_three_ways_overlapping_and_shuffled_give_one_identical_set(
        (commits, order) in commits().prop_flat_map(|commits| {
            let positions: Vec<usize> = (0..200).collect();
            (Just(commits), Just(positions).prop_shuffle())
        }),
    ) {
        // Given the same commits in order and whole, in twos twice over, and cut down to single records.
        let whole = batches(&commits, 100, 0);
        let overlapping = [batches(&commits, 2, 0), batches(&commits, 3, 1)].concat();
        let single = batches(&commits, 1, 8);
        let shuffled = |batches: &[Batch]| -> Vec<Batch> {
            order.iter().filter_map(|position| batches.get(*position)).cloned().collect()
        };

        // When a receiver takes each of them in some order.
        let receive = |batches: &[Batch]| {
            let (mut columnar, mut json) = (Receiver::default(), Receiver::default());
            for batch in batches {
                columnar.receive_columnar(&columnar::encode(batch).unwrap());
                json.receive_json(&json::encode(batch, &listed).unwrap());
            }
            (columnar, json)
        };
        let once = receive(&whole);

        // Then it has the same records, one for each identity.
        prop_assert_eq!(&receive(&shuffled(&overlapping)), &once);
        prop_assert_eq!(&receive(&single), &once);
        let records: usize = commits.iter().map(|commit| commit.records.count()).sum();
        prop_assert_eq!((once.0.0.len(), once.1.0.len()), (records, records));
    }

    #[test]
    fn halves_hold_and_cover_what_the_batch_did(commits in commits()) {
        let batch = Batch { header: header(), commits, withheld: Withheld::default() };
        let whole = expected(&batch);

        match batch.clone().halves() {
            Ok((first, second)) => {
                prop_assert!(first.records() + second.records() == batch.records());
                prop_assert_eq!((first.header.first, second.header.last), (batch.header.first, batch.header.last));
                if first.header.part.is_none() {
                    prop_assert_eq!(first.header.last.next(), second.header.first);
                }
                let halves = [expected(&first), expected(&second)];
                prop_assert_eq!([halves[0].readings.clone(), halves[1].readings.clone()].concat(), whole.readings);
                prop_assert_eq!([halves[0].gaps.clone(), halves[1].gaps.clone()].concat(), whole.gaps);
            }
            Err(single) => {
                prop_assert!(single.commits.len() < 2 && single.records() < 2);
                prop_assert_eq!(single, batch);
            }
        }
    }

    #[test]
    fn what_is_withheld_is_absent_and_moves_no_identity(
        commits in commits(),
        bits in prop::collection::vec(any::<bool>(), 40),
        cuts in 0_usize..4,
    ) {
        // Given a batch of which some readings are withheld.
        let mut batch = Batch { header: header(), commits, withheld: Withheld::default() };
        let mut everything = expected(&batch);
        let (mut bits, mut places) = (bits.iter().cycle(), Vec::new());
        for (commit, content) in batch.commits.iter().enumerate() {
            let (Records::Readings(_) | Records::Thinned(_)) = content.records else { continue };
            for place in (0..content.records.count()).filter(|_| *bits.next().unwrap()) {
                batch.withheld.add(commit, place);
                places.push((content.header.sequence, place as u32));
            }
        }
        everything.readings.retain(|reading| !places.contains(&(reading.sequence, reading.index)));
        for thinned in &mut everything.thinned {
            thinned.aggregates.retain(|(index, _)| !places.contains(&(thinned.sequence, *index)));
        }

        // When it is sent, whole or in pieces.
        let mut pieces = vec![batch.clone()];
        for _ in 0..cuts {
            let halve = |batch: Batch| batch.halves().map_or_else(|single| vec![single], |(a, b)| vec![a, b]);
            pieces = pieces.into_iter().flat_map(halve).collect();
        }
        let (mut columnar, mut json) = (Receiver::default(), Receiver::default());
        for piece in &pieces {
            columnar.receive_columnar(&columnar::encode(piece).unwrap());
            json.receive_json(&json::encode(piece, &listed).unwrap());
        }

        // Then the rest arrives under its old identities.
        prop_assert_eq!(columnar::decode(&columnar::encode(&batch).unwrap()).unwrap(), everything.clone());
        let identities = |receiver: &Receiver| -> Vec<(Sequence, u32)> {
            receiver.0.keys().map(|identity| (identity.sequence, identity.index)).collect()
        };
        let sent = everything.readings.iter().map(|reading| (reading.sequence, reading.index));
        let sent = sent.chain(everything.clock_offsets.iter().map(|(sequence, _)| (*sequence, 0)));
        let mut sent: Vec<_> = sent.chain(everything.gaps.iter().map(|(sequence, _)| (*sequence, 0))).collect();
        for thinned in &everything.thinned {
            sent.extend(thinned.aggregates.iter().map(|(index, _)| (thinned.sequence, *index)));
        }
        sent.sort_unstable();
        prop_assert_eq!(identities(&columnar), sent.clone());
        prop_assert_eq!(identities(&json), sent);
    }

    #[test]
    fn json_says_the_engineering_value_of_what_columns_keep_raw(commits in commits()) {
        let batch = Batch { header: header(), commits, withheld: Withheld::default() };

        let json = json::decode(&json::encode(&batch, &listed).unwrap()).unwrap();

        let columnar = columnar::decode(&columnar::encode(&batch).unwrap()).unwrap();
        let count: usize = json.series.iter().map(|series| series.readings.len()).sum();
        prop_assert_eq!(count, columnar.readings.len());
        let aggregates: usize = json.series.iter().map(|series| series.aggregates.len()).sum();
        let kept = columnar.thinned.iter().map(|thinned| thinned.aggregates.len());
        prop_assert_eq!(aggregates, kept.sum::<usize>());
        for series in &json.series {
            let scale = listed(series.id).map_or(Scale::ONE, |info| info.scale);
            for reading in &series.readings {
                let key = (reading.sequence, reading.index);
                let position = columnar.readings.binary_search_by_key(&key, |other| (other.sequence, other.index));
                let kept = &columnar.readings[position.unwrap()];
                prop_assert_eq!((kept.series, kept.time), (series.id, reading.time));
                let quality = kept.observed.quality();
                prop_assert_eq!(&reading.quality, &(quality != Quality::GOOD).then(|| quality.to_string()));
                same_value(reading.value.as_ref(), kept.observed.value(), scale);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_decoded_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_any(&bytes);
        let _ = decode_any(&[&super::frame::MAGIC, &*bytes].concat());
    }

    #[test]
    fn damaged_payloads_never_panic(
        commits in commits(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let batch = Batch { header: header(), commits, withheld: Withheld::default() };
        for mut payload in [columnar::encode(&batch).unwrap(), json::encode(&batch, &listed).unwrap()] {
            for (position, byte) in &damage {
                let position = position.index(payload.len());
                payload[position] = *byte;
            }
            let _ = decode_any(&payload);
        }
    }
}

/// The parser of JSON may be off by the last bit of a double.
fn same_value(json: Option<&json::JsonValue>, raw: Option<&Value>, scale: Scale) {
    let number = |value: f64| {
        let engineering = raw.and_then(Value::number).map(|number| scale.apply(number)).unwrap();
        assert!((value - engineering).abs() <= 1e-15 * engineering.abs(), "{value} is not {engineering}");
    };
    match (json, raw) {
        (None, None) => {}
        (None, Some(raw)) => assert!(!scale.apply(raw.number().unwrap()).is_finite()),
        (Some(json::JsonValue::Bool(bit)), raw) => assert_eq!(Some(&Value::Bool(*bit)), raw),
        (Some(json::JsonValue::Text(text)), Some(Value::Text(raw))) => assert_eq!(**text, **raw),
        (Some(json::JsonValue::Text(text)), Some(Value::Int(raw))) => assert_eq!(*text, raw.to_string()),
        (Some(json::JsonValue::Text(text)), Some(Value::Uint(raw))) => assert_eq!(*text, raw.to_string()),
        (Some(json::JsonValue::Int(whole)), _) => number(*whole as f64),
        (Some(json::JsonValue::Number(value)), _) => number(*value),
        (Some(json::JsonValue::Text(text)), raw) => panic!("{text:?} is not {raw:?}"),
    }
}

#[test]
fn what_is_no_payload_is_refused_in_one_line_for_people() {
    let refusals = [&b""[..], b"  \n", b"hello", b"[1]", b"{\"type\": ", &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3]];

    for bytes in refusals {
        let refusal = decode_any(bytes).unwrap_err().to_string();
        assert!(refusal.contains("lineside payload") && !refusal.contains('\n'), "{refusal}");
    }
    assert_eq!(
        decode_any(b"hello").unwrap_err().to_string(),
        "not a lineside payload: neither a zstd frame nor a JSON object"
    );
}

#[test]
fn every_kind_of_payload_is_recognised() {
    let batch = Batch { header: header(), commits: Vec::new(), withheld: Withheld::default() };

    assert!(matches!(decode_any(&columnar::encode(&batch).unwrap()), Ok(Decoded::Columnar(_))));
    assert!(matches!(decode_any(&json::encode(&batch, &listed).unwrap()), Ok(Decoded::Json(_))));
    let parts = catalogue::encode(
        &batch.header.site,
        &batch.header.gateway,
        batch.header.epoch,
        [(SeriesId(1), &*listed(SeriesId(1)).unwrap())],
        4096,
    );
    assert!(matches!(decode_any(&parts[0].payload), Ok(Decoded::Catalogue(_))));
    assert!(matches!(decode_any(br#"{"online": true}"#), Ok(Decoded::Other(_))));
}
