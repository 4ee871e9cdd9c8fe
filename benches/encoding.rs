//! What a reading costs in the encoder and in the decoder. `cargo bench --bench encoding`; divide the time of a batch
//! by its readings, or read `item/s` as readings a second.

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lineside::encoding::{Batch, BatchHeader, Order, Withheld, columnar, json};
use lineside::model::{
    BootId, ClockState, Commit, CommitHeader, Epoch, Lane, Name, Observed, Records, Row, Sequence, SeriesId, Timestamp,
    Value,
};

fn main() {
    divan::main();
}

/// A plant: how many blocks of how many f32 points, and for how many polls.
#[derive(Debug, Clone, Copy)]
struct Plant {
    blocks: u32,
    points: u32,
    polls: u64,
    values: Values,
}

#[derive(Debug, Clone, Copy)]
enum Values {
    /// One decimal, as most meters round.
    Tenths,
    /// Noise down to the last bit.
    Noisy,
    /// A register that counts or measures.
    Integers,
}

impl Values {
    fn at(self, dice: &mut fastrand::Rng, poll: u64) -> Value {
        let noise = dice.f64() + dice.f64() + dice.f64() - 1.5;
        match self {
            Self::Tenths => Value::F32(((2300.0 + 40.0 * noise).round() / 10.0) as f32),
            Self::Noisy => Value::F32((230.0 + 4.0 * noise) as f32),
            Self::Integers => Value::Int(poll.cast_signed() * 3 + (40.0 * noise) as i64),
        }
    }
}

const PLANTS: [Plant; 7] = [
    Plant { blocks: 50, points: 50, polls: 10, values: Values::Tenths },
    Plant { blocks: 50, points: 50, polls: 10, values: Values::Noisy },
    Plant { blocks: 10, points: 60, polls: 160, values: Values::Tenths },
    Plant { blocks: 10, points: 60, polls: 1000, values: Values::Tenths },
    Plant { blocks: 10, points: 60, polls: 1000, values: Values::Noisy },
    Plant { blocks: 10, points: 60, polls: 1000, values: Values::Integers },
    Plant { blocks: 3, points: 16, polls: 60, values: Values::Integers },
];

impl Plant {
    fn batch(self) -> Batch {
        let mut dice = fastrand::Rng::with_seed(7);
        let shapes: Vec<Arc<[SeriesId]>> = (0..self.blocks)
            .map(|block| (0..self.points).map(|point| SeriesId(1 + block * self.points + point)).collect())
            .collect();
        let epoch = Epoch([5; 16]);
        let commit = |poll: u64| {
            let second = 1_763_877_600_000 + 1000 * poll.cast_signed();
            let mut row = |series: &Arc<[SeriesId]>| {
                let observed = series.iter().map(|_| Observed::Good(self.values.at(&mut dice, poll))).collect();
                Row { series: Arc::clone(series), time: Timestamp(second + dice.i64(2..12)), observed }
            };
            let records = Records::Readings(shapes.iter().map(&mut row).collect());
            let header = CommitHeader {
                epoch,
                sequence: Sequence(1 + poll),
                boot: BootId([1; 16]),
                clock: ClockState::Synchronised,
                wall_minus_monotonic_ms: 1_763_877_000_000,
            };
            Commit { header, records }
        };
        let commits = (0..self.polls).map(commit).collect();
        let header = BatchHeader {
            site: Name::new("lyon").expect("a name"),
            gateway: Name::new("gw-01").expect("a name"),
            epoch,
            lane: Lane::Telemetry,
            first: Sequence(1),
            last: Sequence(self.polls),
            oldest_undelivered: Sequence(1),
            order: Order::Live,
            part: None,
        };
        Batch { header, commits, withheld: Withheld::default() }
    }
}

#[divan::bench(args = PLANTS)]
fn columnar_encode(bencher: Bencher<'_, '_>, plant: Plant) {
    let batch = plant.batch();
    let mut encoder = columnar::Encoder::new().expect("memory for zstd");
    let bytes = encoder.encode(&batch).expect("a batch within the limits").len();
    println!("{plant:?}: {:.3} bytes per reading", bytes as f64 / batch.records() as f64);
    bencher.counter(ItemsCount::new(batch.records())).bench_local(|| encoder.encode(black_box(&batch)));
}

#[divan::bench(args = PLANTS)]
fn columnar_decode(bencher: Bencher<'_, '_>, plant: Plant) {
    let batch = plant.batch();
    let payload = columnar::encode(&batch).expect("a batch within the limits");
    bencher.counter(ItemsCount::new(batch.records())).bench_local(|| columnar::decode(black_box(&payload)));
}

#[divan::bench(args = [PLANTS[0], PLANTS[6]])]
fn json_encode(bencher: Bencher<'_, '_>, plant: Plant) {
    let batch = plant.batch();
    bencher.counter(ItemsCount::new(batch.records())).bench_local(|| json::encode(black_box(&batch), &|_| None));
}
