//! How many bytes a reading takes on the wire: 50 tags of one device, polled at 1 Hz in three requests for 60 s.
//!
//! 30 noisy measurements, 10 counters that rise by 0 to 9, 6 states that change about twice a minute, 4 constants. The
//! answers arrive 2 to 30 ms after the full second. The payloads are the same in every run: no entropy but a seed.
//! `cargo test --test batch_size -- --nocapture` prints the table.

#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;

use lineside::encoding::{Batch, BatchHeader, Order, Withheld, columnar, json};
use lineside::model::{
    BootId, ClockState, Commit, CommitHeader, Epoch, Lane, Name, Observed, Records, Row, Scale, Sequence, SeriesId,
    SeriesInfo, Timestamp, Value, ValueKind,
};

const START_MS: i64 = 1_763_877_600_000;
const MEASUREMENTS: u32 = 30;
const COUNTERS: u32 = 10;
const STATES: u32 = 6;
const TAGS: u32 = 50;

/// How the measurements move. Each has eight or more bits that change.
#[derive(Debug, Clone, Copy)]
enum Noise {
    /// Register around a set point; standard deviation 40 counts: a span of about 200.
    Normal,
    /// Register of which the low eight bits are evenly random: no encoding can take less than a byte.
    EvenByte,
    /// Register that walks: each second a normal step of 40 counts.
    Walk,
    /// Single precision with one decimal around a set point; standard deviation 4.0.
    DecimalF32,
}

/// Random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> i64 {
        (self.next() % limit).cast_signed()
    }

    /// Normal, with this standard deviation (sum of twelve even numbers).
    fn normal(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64).sum();
        (sum - 6.0) * deviation
    }
}

/// The device: what its registers hold now.
struct Device {
    dice: Dice,
    noise: Noise,
    numbers: Vec<i64>,
}

impl Device {
    fn new(noise: Noise) -> Self {
        let mut dice = Dice(7);
        let numbers = (0..TAGS).map(|tag| if tag < MEASUREMENTS { 1000 + dice.below(8000) } else { dice.below(4) });
        let mut numbers: Vec<i64> = numbers.collect();
        for counter in &mut numbers[MEASUREMENTS as usize..(MEASUREMENTS + COUNTERS) as usize] {
            *counter = 1_000_000 + dice.below(9_000_000);
        }
        Self { dice, noise, numbers }
    }

    fn read(&mut self, tag: u32) -> Value {
        let dice = &mut self.dice;
        let number = &mut self.numbers[tag as usize];
        if tag < MEASUREMENTS {
            return match self.noise {
                Noise::Normal => Value::Int(*number + dice.normal(40.0).round() as i64),
                Noise::EvenByte => Value::Int((*number & !0xff) + dice.below(256)),
                Noise::Walk => {
                    *number += dice.normal(40.0).round() as i64;
                    Value::Int(*number)
                }
                Noise::DecimalF32 => Value::F32((*number as f64 / 10.0 + dice.normal(40.0).round() / 10.0) as f32),
            };
        }
        if tag < MEASUREMENTS + COUNTERS {
            *number += dice.below(10);
        } else if tag < MEASUREMENTS + COUNTERS + STATES && dice.below(30) == 0 {
            *number = (*number + 1) % 4;
        }
        Value::Int(*number)
    }
}

fn batch(noise: Noise, seconds: u64) -> Batch {
    let epoch = Epoch(*b"\x5f\x0c\x91\x3a\xe2\x47\x88\xb6\x13\xfd\x20\x6e\x95\xc4\x7b\xa1");
    let boot = BootId(*b"\x1d\x93\x77\x05\xb8\x6a\x4e\xc0\x99\x31\xf2\x5d\x0e\x8b\x64\xa7");
    let blocks: [Arc<[SeriesId]>; 3] =
        [(1..=20).map(SeriesId).collect(), (21..=40).map(SeriesId).collect(), (41..=TAGS).map(SeriesId).collect()];
    let mut device = Device::new(noise);
    let commit = |second: u64| {
        let mut arrival = START_MS + 1000 * second.cast_signed();
        let row = |series: &Arc<[SeriesId]>| {
            let observed = series.iter().map(|id| Observed::Good(device.read(id.0 - 1))).collect();
            arrival += 2 + device.dice.below(8);
            Row { series: Arc::clone(series), time: Timestamp(arrival), observed }
        };
        let records = Records::Readings(blocks.iter().map(row).collect());
        let header = CommitHeader {
            epoch,
            sequence: Sequence(86_400 + second),
            boot,
            clock: ClockState::Synchronised,
            wall_minus_monotonic_ms: START_MS - 345_678 + device.dice.below(2),
        };
        Commit { header, records }
    };
    let commits: Vec<Commit> = (0..seconds).map(commit).collect();
    let header = BatchHeader {
        site: Name::new("lyon").expect("a name"),
        gateway: Name::new("gw-01").expect("a name"),
        epoch,
        lane: Lane::Telemetry,
        first: Sequence(86_400),
        last: Sequence(86_400 + seconds - 1),
        oldest_undelivered: Sequence(86_400),
        order: Order::Live,
        part: None,
    };
    Batch { header, commits, withheld: Withheld::default() }
}

/// What the catalogue says: as a profile would, measurements and counters in tenths.
fn listed(id: SeriesId) -> Option<Arc<SeriesInfo>> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let (name, unit, scale) = match id.0 - 1 {
        tag if tag < MEASUREMENTS => (format!("temperature_{tag}_celsius"), "°C", Scale::new(0.1, 0.0)),
        tag if tag < MEASUREMENTS + COUNTERS => (format!("energy_{tag}_kwh"), "kWh", Scale::new(0.1, 0.0)),
        tag => (format!("state_{tag}"), "", Scale::ONE),
    };
    Some(Arc::new(SeriesInfo {
        name,
        labels: Arc::new(BTreeMap::from([
            label("site", "lyon"),
            label("gateway", "gw-01"),
            label("device", "press-1"),
        ])),
        unit: unit.to_owned(),
        kind: ValueKind::Int,
        scale,
        states: BTreeMap::new(),
    }))
}

#[test]
fn a_reading_takes_at_most_1_1_bytes_and_a_fifth_of_compressed_json() {
    for noise in [Noise::Normal, Noise::EvenByte, Noise::Walk, Noise::DecimalF32] {
        let batch = batch(noise, 60);
        let readings = batch.records();

        let columnar = columnar::encode(&batch).unwrap().len();
        let text = json::encode(&batch, &listed).unwrap();
        let json = zstd::bulk::compress(&text, 3).unwrap().len();

        let per_reading = |bytes: usize| bytes as f64 / readings as f64;
        println!(
            "{noise:?}: columnar {:.3} bytes per reading, JSON + zstd-3 {:.3} ({:.1} plain), ratio {:.3}",
            per_reading(columnar),
            per_reading(json),
            per_reading(text.len()),
            columnar as f64 / json as f64
        );
        assert_eq!(readings, 3000);
        assert!(per_reading(columnar) <= 1.1, "{noise:?}: {columnar} bytes");
        assert!(5 * columnar <= json, "{noise:?}: {columnar} bytes, as JSON with zstd-3 {json}");
    }
}

#[test]
fn short_batches_cost_more_but_not_several_times_as_much() {
    let ten_seconds = columnar::encode(&batch(Noise::Normal, 10)).unwrap().len() as f64 / 500.0;
    let minute = columnar::encode(&batch(Noise::Normal, 60)).unwrap().len() as f64 / 3000.0;
    let ten_minutes = columnar::encode(&batch(Noise::Normal, 600)).unwrap().len() as f64 / 30_000.0;

    println!("10 s: {ten_seconds:.3}, 60 s: {minute:.3}, 600 s: {ten_minutes:.3} bytes per reading");
    assert!(ten_seconds <= 2.0 * minute);
    assert!(ten_minutes <= minute);
}
