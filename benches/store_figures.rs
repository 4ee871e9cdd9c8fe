//! Prints what each engine of the store costs: bytes written for each reading, time to open and memory with a backlog,
//! room on disk. Linux only.
//!
//! ```sh
//! cargo bench --bench store_figures                # 60 s at one flush a second, backlog of 10 million readings
//! cargo bench --bench store_figures -- --quick     # flushes as fast as the disk takes them
//! ```
//!
//! The stores are made below `LINESIDE_BENCH_DIRECTORY`, else below the directory for temporary files; it has to be on
//! a disk, because memory counts no bytes written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lineside::buffer::{self, BufferHandle, BufferSettings, BufferThread, WhenFull};
use lineside::clock::SystemClock;
use lineside::database::{EngineKind, disk_bytes};
use lineside::diagnostics::process::ProcessStatus;
use lineside::kernel;
use lineside::model::{Observed, Row, SeriesId, Timestamp, Value};

/// Readings of one second.
const READINGS: i64 = 500;

/// Seconds of an outage: ten million readings.
const BACKLOG_SECONDS: i64 = 20_000;

/// Flushes while bytes are counted.
const FLUSHES: u32 = 60;

/// Enough that nothing has to go, with either engine.
const LIMIT: u64 = 4 << 30;

fn main() {
    kernel::keep_memory_together();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let engine = |word: &String| EngineKind::ALL.into_iter().find(|kind| kind.word() == word).expect("an engine");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fill", _, path] => fill(engine(&arguments[1]), Path::new(path)),
        ["open", _, path] => open_backlog(engine(&arguments[1]), Path::new(path)),
        ["write", _, path, pause] => {
            write(engine(&arguments[1]), Path::new(path), pause.parse().expect("milliseconds"))
        }
        other => {
            let pause = if other.contains(&"--quick") { 0 } else { 1000 };
            EngineKind::ALL.into_iter().for_each(|kind| measure(kind, pause));
        }
    }
}

/// Runs each step in a process of its own, so that its figures are its own.
fn measure(kind: EngineKind, pause: u64) {
    let parent = std::env::var_os("LINESIDE_BENCH_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent).expect("a directory for the stores");
    println!("{kind}");
    let steps =
        [("write", "paced", pause.to_string()), ("fill", "backlog", String::new()), ("open", "backlog", String::new())];
    for (step, store, extra) in steps {
        let mut child = Command::new(std::env::current_exe().expect("this program has a file"));
        child.args([step, kind.word()]).arg(directory.path().join(store));
        child.args(Some(extra).filter(|extra| !extra.is_empty()));
        assert!(child.status().expect("this program can be run").success(), "{step} of {kind}");
    }
}

fn open(engine: EngineKind, path: &Path, commit_interval: Duration) -> (BufferThread, BufferHandle) {
    let settings = BufferSettings {
        path: path.to_owned(),
        limit_bytes: LIMIT,
        commit_interval,
        commit_interval_max: commit_interval,
        engine,
        when_full: WhenFull::Thin,
    };
    buffer::open(settings, Arc::new(SystemClock::new(true))).expect("the store opens")
}

fn close(store: (BufferThread, BufferHandle)) {
    runtime().block_on(store.1.close()).expect("the store closes");
    store.0.join().expect("the store closes");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// One second of ten devices with fifty noisy measurements each.
fn second(random: &mut fastrand::Rng, shapes: &[Arc<[SeriesId]>], time: i64) -> Vec<Row> {
    let single = |random: &mut fastrand::Rng| Observed::Good(Value::F32(230.0 + random.f32()));
    shapes
        .iter()
        .map(|series| Row {
            series: series.clone(),
            time: Timestamp(1_700_000_000_000 + time * 1000),
            observed: series.iter().map(|_| single(random)).collect(),
        })
        .collect()
}

fn shapes() -> Vec<Arc<[SeriesId]>> {
    (0..10).map(|shape| (50 * shape..50 * (shape + 1)).map(SeriesId).collect()).collect()
}

/// 500 readings and one flush a second.
fn write(engine: EngineKind, path: &Path, pause: u64) {
    let store = open(engine, path, Duration::from_secs(3600));
    let mut random = fastrand::Rng::with_seed(1);
    let shapes = shapes();
    let before = ProcessStatus::now().written_bytes;
    let mut longest = Duration::ZERO;
    runtime().block_on(async {
        let mut due = tokio::time::Instant::now();
        for time in 0..FLUSHES {
            store.1.append(second(&mut random, &shapes, i64::from(time))).await.expect("the store is open");
            let begun = Instant::now();
            store.1.flush().await.expect("the disk takes it");
            longest = longest.max(begun.elapsed());
            due += Duration::from_millis(pause);
            tokio::time::sleep_until(due).await;
        }
    });
    let written = ProcessStatus::now().written_bytes - before;
    let readings = READINGS as u64 * u64::from(FLUSHES);
    println!("  written per reading  {:.1} B (at most 20)", written as f64 / readings as f64);
    println!("  longest flush        {:.1} ms", longest.as_secs_f64() * 1000.0);
    close(store);
}

/// Ten million readings that nobody takes.
fn fill(engine: EngineKind, path: &Path) {
    let store = open(engine, path, Duration::from_secs(3600));
    let mut random = fastrand::Rng::with_seed(1);
    let shapes = shapes();
    runtime().block_on(async {
        for time in 0..BACKLOG_SECONDS {
            store.1.append(second(&mut random, &shapes, time)).await.expect("the store is open");
            if time % 60 == 59 {
                store.1.flush().await.expect("the disk takes it");
            }
        }
        store.1.flush().await.expect("the disk takes it");
    });
    let status = store.1.status().borrow().clone();
    println!(
        "  backlog              {} readings in {} commits",
        status.watermarks.telemetry.pending_readings, status.commits
    );
    println!("  alive                {:.1} MB", status.live_bytes as f64 / 1e6);
    close(store);
    println!("  on disk              {:.1} MB", disk_bytes(path) as f64 / 1e6);
    println!("  memory, while filled {:.1} MB at most", ProcessStatus::now().memory_peak_bytes as f64 / 1e6);
}

/// The start of an agent that has a backlog.
fn open_backlog(engine: EngineKind, path: &Path) {
    let begun = Instant::now();
    let store = open(engine, path, Duration::from_secs(1));
    let opened = begun.elapsed();
    let status = store.1.status().borrow().clone();
    assert_eq!(status.watermarks.telemetry.pending_readings, (READINGS * BACKLOG_SECONDS) as u64);
    println!("  open                 {:.2} s (less than 2)", opened.as_secs_f64());
    println!(
        "  memory               {:.1} MB at most (less than 40)",
        ProcessStatus::now().memory_peak_bytes as f64 / 1e6
    );
    close(store);
}
