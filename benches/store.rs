//! What storing costs: encoding and decoding a commit, and the whole way from append to delivered.

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use lineside::buffer::{self, BufferSettings, ClockReading, Codec, ReadLimit, WhenFull, seal};
use lineside::clock::SystemClock;
use lineside::model::{BootId, ClockState, Epoch, Lane, Observed, Records, Row, Sequence, SeriesId, Timestamp, Value};

const CLOCK: ClockReading =
    ClockReading { boot: BootId([7; 16]), state: ClockState::Synchronised, wall_minus_monotonic_ms: 0 };

/// Sixteen rows of 64 noisy singles, as a plant of power meters gives them.
fn rows(random: &mut fastrand::Rng, shapes: &[Arc<[SeriesId]>], time: i64) -> Vec<Row> {
    let single = |random: &mut fastrand::Rng| Observed::Good(Value::F32(230.0 + random.f32()));
    shapes
        .iter()
        .map(|series| Row {
            series: series.clone(),
            time: Timestamp(time),
            observed: series.iter().map(|_| single(random)).collect(),
        })
        .collect()
}

fn shapes() -> Vec<Arc<[SeriesId]>> {
    (0..16).map(|shape| (64 * shape..64 * (shape + 1)).map(SeriesId).collect()).collect()
}

#[divan::bench]
fn encode_1024_readings(bencher: Bencher<'_, '_>) {
    let mut codec = Codec::new().expect("zstd works");
    let records = Records::Readings(rows(&mut fastrand::Rng::with_seed(1), &shapes(), 1_700_000_000_000));
    bencher.counter(ItemsCount::new(1024_usize)).bench_local(|| {
        let mut bytes = codec.encode(Lane::Telemetry, &records, CLOCK).expect("rows fit");
        seal(&mut bytes, Epoch([1; 16]), Sequence(1));
        bytes
    });
}

#[divan::bench]
fn decode_1024_readings(bencher: Bencher<'_, '_>) {
    let mut codec = Codec::new().expect("zstd works");
    let records = Records::Readings(rows(&mut fastrand::Rng::with_seed(1), &shapes(), 1_700_000_000_000));
    let mut bytes = codec.encode(Lane::Telemetry, &records, CLOCK).expect("rows fit");
    seal(&mut bytes, Epoch([1; 16]), Sequence(1));
    bencher.counter(ItemsCount::new(1024_usize)).bench_local(|| codec.decode(&bytes).expect("was just encoded"));
}

const APPENDS: usize = 300;

/// 307,200 readings appended, made durable, read and delivered; the store is full, so history is removed too.
#[divan::bench(sample_count = 12, sample_size = 1)]
fn append_flush_read_deliver(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a directory for the store");
    let settings = BufferSettings {
        path: directory.path().to_owned(),
        limit_bytes: 16 << 20,
        when_full: WhenFull::Thin,
        commit_interval: Duration::from_secs(1),
        commit_interval_max: Duration::from_secs(1),
        engine: Default::default(),
    };
    let (thread, handle) = buffer::open(settings, Arc::new(SystemClock::new(true))).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut random = fastrand::Rng::with_seed(1);
    let shapes = shapes();
    let mut time = 1_700_000_000_000;
    bencher
        .with_inputs(|| {
            time += 1000;
            (0..APPENDS).map(|append| rows(&mut random, &shapes, time + append as i64)).collect::<Vec<_>>()
        })
        .counter(ItemsCount::new(APPENDS * 1024))
        .bench_local_values(|appends| {
            runtime.block_on(async {
                for rows in appends {
                    handle.append(rows).await.expect("the store is open");
                }
                handle.flush().await.expect("the disk takes it");
                let limit = ReadLimit { commits: 64, records: 65_536 };
                loop {
                    let from = handle.watermarks().borrow().telemetry.oldest_undelivered;
                    let commits = handle.read(Lane::Telemetry, from, limit).await.expect("the store is open");
                    let Some(last) = commits.last() else { break };
                    handle
                        .delivered(last.header.epoch, Lane::Telemetry, from, last.header.sequence)
                        .await
                        .expect("the store is open");
                }
                handle.flush().await.expect("the disk takes it");
            });
        });
    println!("{:#?}", *handle.status().borrow());
    runtime.block_on(handle.close()).expect("the store closes");
    thread.join().expect("the store closes");
}

fn main() {
    divan::main();
}
