use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{AlarmRecord, AlarmState, Doubt, Fault, Gap, GapReason, Observed, Priority, Row, Transition, Value};

const CLOCK: ClockReading =
    ClockReading { boot: BootId([7; 16]), state: ClockState::Unsynchronised, wall_minus_monotonic_ms: -12 };

fn stored(codec: &mut Codec, lane: Lane, records: &Records) -> Vec<u8> {
    let mut bytes = codec.encode(lane, records, CLOCK).unwrap();
    seal(&mut bytes, Epoch([9; 16]), Sequence(77));
    bytes
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        (-1e30_f32..1e30).prop_map(Value::F32),
        (-1e300_f64..1e300).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        ".{0,12}".prop_map(|text| Value::Text(text.into())),
    ]
}

fn observed() -> impl Strategy<Value = Observed> {
    let doubt = prop_oneof![Just(Doubt::Unstable), Just(Doubt::UnsureMap)];
    let fault = prop_oneof![Just(Fault::Timeout), any::<u8>().prop_map(Fault::Exception)];
    prop_oneof![
        4 => value().prop_map(Observed::Good),
        1 => (value(), doubt).prop_map(|(value, doubt)| Observed::Uncertain(value, doubt)),
        2 => fault.prop_map(Observed::Bad),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let shape = proptest::collection::vec(any::<u32>().prop_map(SeriesId), 1..6);
    let shapes = proptest::collection::vec(shape.prop_map(SharedShape::from), 1..4);
    let row = (any::<prop::sample::Index>(), any::<i64>(), proptest::collection::vec(observed(), 6));
    (shapes, proptest::collection::vec(row, 0..12)).prop_map(|(shapes, rows)| {
        rows.into_iter()
            .map(|(shape, time, mut observed)| {
                let series = shape.get(&shapes).clone();
                observed.truncate(series.len());
                Row { series, time: Timestamp(time), observed }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn readings_come_back_as_they_were(rows in rows()) {
        let mut codec = Codec::new().unwrap();
        let records = Records::Readings(rows);

        let bytes = stored(&mut codec, Lane::Telemetry, &records);
        let (lane, commit) = codec.decode(&bytes).unwrap();

        prop_assert_eq!(lane, Lane::Telemetry);
        prop_assert_eq!(commit.header.sequence, Sequence(77));
        prop_assert_eq!(commit.header.epoch, Epoch([9; 16]));
        prop_assert_eq!(commit.header.boot, CLOCK.boot);
        prop_assert_eq!(commit.header.wall_minus_monotonic_ms, -12);
        prop_assert_eq!(Envelope::read(&bytes).unwrap().records as usize, records.count());
        prop_assert_eq!(commit.records, records);
    }

    #[test]
    fn any_bytes_are_a_commit_or_an_error(bytes: Vec<u8>) {
        let mut codec = Codec::new().unwrap();
        let _ = codec.decode(&bytes);
        let _ = Envelope::read(&bytes);
    }

    #[test]
    fn any_body_behind_a_right_checksum_is_rows_or_an_error(body: Vec<u8>, records in 0_usize..3000) {
        let _ = Columns::default().decode(&body, records, Timestamp(0));
    }

    #[test]
    fn a_changed_body_behind_a_right_checksum_does_no_harm(
        rows in rows(), at: prop::sample::Index, to: u8, records in 0_usize..80
    ) {
        let mut columns = Columns::default();
        let mut body = Vec::new();
        columns.encode(&rows, &mut body);
        let at = at.index(body.len());
        body[at] = to;
        let _ = columns.decode(&body, records, Timestamp(0));
    }

    #[test]
    fn every_changed_bit_is_noticed(rows in rows(), at: prop::sample::Index, bit in 0_u32..8) {
        let mut codec = Codec::new().unwrap();
        let mut bytes = stored(&mut codec, Lane::Telemetry, &Records::Readings(rows));
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(codec.decode(&bytes), Err(CommitError::Checksum));
    }
}

#[test]
fn rows_of_one_shape_share_it_also_across_commits() {
    let mut codec = Codec::new().unwrap();
    let series: SharedShape = [SeriesId(1), SeriesId(2)].into();
    let row = |time| Row::all_bad(series.clone(), Timestamp(time), Fault::Timeout);
    let bytes = stored(&mut codec, Lane::Telemetry, &Records::Readings(vec![row(1), row(2)]));

    let shapes: Vec<SharedShape> = [codec.decode(&bytes).unwrap(), codec.decode(&bytes).unwrap()]
        .into_iter()
        .flat_map(|(_, commit)| match commit.records {
            Records::Readings(rows) => rows,
            Records::Gap(_) | Records::Thinned(_) | Records::Alarms(_) | Records::ClockOffset(_) => {
                panic!("readings were stored")
            }
        })
        .map(|row| row.series)
        .collect();

    assert!(shapes.iter().all(|shape| Arc::ptr_eq(shape, &shapes[0])));
    assert_eq!(codec.shapes_known(), 1);
}

#[test]
fn gaps_and_alarms_come_back_as_they_were() {
    let mut codec = Codec::new().unwrap();
    let gap = Gap {
        lane: Lane::Telemetry,
        first: Sequence(3),
        last: Sequence(9),
        records: 700,
        first_time: Timestamp(1),
        last_time: Timestamp(2),
        reason: GapReason::StoreFull,
    };
    let alarm = AlarmRecord {
        name: "DeviceSilent".into(),
        labels: BTreeMap::from([("device".into(), "press-1".into())]),
        time: Timestamp(5),
        transition: Transition::Raised,
        state: AlarmState::UnacknowledgedActive,
        priority: Priority::High,
        value: Some(0.1),
        annotations: BTreeMap::new(),
        readings: Vec::new(),
        by: None,
    };

    for (lane, records) in
        [(Lane::Telemetry, Records::Gap(gap)), (Lane::Alarms, Records::Alarms(vec![alarm.clone(), alarm]))]
    {
        let bytes = stored(&mut codec, lane, &records);
        let (decoded_lane, commit) = codec.decode(&bytes).unwrap();
        assert_eq!((decoded_lane, commit.records), (lane, records));
    }
}

#[test]
fn a_version_to_come_is_told_from_damage() {
    let mut codec = Codec::new().unwrap();
    let mut bytes = stored(&mut codec, Lane::Alarms, &Records::Alarms(Vec::new()));
    bytes[0] = VERSION + 1;
    seal(&mut bytes, Epoch([9; 16]), Sequence(77));
    assert_eq!(codec.decode(&bytes), Err(CommitError::Version(VERSION + 1)));
}

#[test]
fn noisy_singles_take_less_than_five_bytes_each() {
    let mut codec = Codec::new().unwrap();
    let series: SharedShape = (0..64).map(SeriesId).collect();
    let mut noise = fastrand::Rng::with_seed(1);
    let mut single = || Observed::Good(Value::F32(230.0 + noise.f32()));
    let rows: Vec<Row> = (0..16)
        .map(|time| {
            let observed = (0..64).map(|_| single()).collect();
            Row { series: series.clone(), time: Timestamp(1_700_000_000_000 + time), observed }
        })
        .collect();

    let bytes = stored(&mut codec, Lane::Telemetry, &Records::Readings(rows));

    assert!(bytes.len() < 1024 * 4, "{}", bytes.len());
}
