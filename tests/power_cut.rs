//! The power goes at any moment: the system calls of a process that stores are recorded, and disks are made of them
//! on which what was not synced is there, is torn, or is not. Each opens by itself, and nothing stored is missing.
//!
//! `LINESIDE_LONG=1` tries 20,000 disks instead of 500; `LINESIDE_SEED` repeats the choices of an earlier run.

#![cfg(test)]

#[path = "support/powercut.rs"]
mod powercut;
#[path = "support/store.rs"]
mod store;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lineside::model::Lane;
use powercut::{Disk, Recording};
use store::{ALL, Counter, NEVER, Store, alarm, numbers};

const DIRECTORY: &str = "LINESIDE_TEST_STORE";

/// So little that history has to go, and with it segments of the log; the files of sled are written anew again and again.
const LIMIT: u64 = 6 << 20;

const ROUNDS: i64 = 200;

/// Readings of one commit.
const READINGS: i64 = 1000;

/// Runs in the child: stores, delivers, closes, opens again, and says what is durable.
#[test]
fn child_stores_and_says_what_is_durable() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut store = Store::try_open(Path::new(&directory), LIMIT, NEVER).unwrap();
        let mut counter = Counter::default();
        let mut alarms = 0;
        say(&format!("epoch {:?}", store.handle.watermarks().borrow().epoch));
        for round in 0..ROUNDS {
            for _ in 0..1 + round % 3 {
                store.handle.append(counter.rows(&[READINGS as usize])).await.unwrap();
            }
            if round % 10 == 5 {
                store.handle.append_alarms(vec![alarm(alarms)]).await.unwrap();
                alarms += 1;
            }
            store.handle.flush().await.unwrap();
            let last = store.handle.watermarks().borrow().telemetry.durable_last;
            say(&format!("durable {last}"));
            say(&format!("alarms {alarms}"));
            if round % 7 == 6 {
                store.deliver(Lane::Telemetry, 1, last.0 - 3).await;
                say(&format!("asked {}", last.0 - 3));
                store.handle.flush().await.unwrap();
                say(&format!("delivered {}", last.0 - 3));
            }
            if round % 80 == 60 {
                store.close().await;
                store = Store::try_open(Path::new(&directory), LIMIT, NEVER).unwrap();
            }
        }
        store.close().await;
    });
}

/// One system call, so that it stands in the recording as a whole.
fn say(word: &str) {
    rustix::io::write(std::io::stdout(), format!("{word}\n").as_bytes()).unwrap();
}

/// Memory where the system has such a directory: thousands of disks are written.
fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("lineside-test-").tempdir_in(parent).unwrap()
}

fn record() -> Recording {
    let directory = directory();
    let root = directory.path().join("store");
    std::fs::create_dir(&root).unwrap();
    let trace = directory.path().join("trace");
    let child = Command::new("strace")
        .args(["-f", "-qq", "-xx", "-s", "16777216", "-e", &format!("trace={}", powercut::TRACED), "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &store::test_name(module_path!(), "child_stores_and_says_what_is_durable"), "--nocapture"])
        .env(DIRECTORY, &root)
        .output()
        .expect("strace can be run; tests/run installs what the tests need");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    Recording::read(&std::fs::read_to_string(trace).unwrap(), &root)
}

/// Waits until the database is open: on a busy machine the store begins to work before it is.
async fn opened(store: &Store) {
    let begun = Instant::now();
    while let Err(error) = store.handle.flush().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
    }
}

/// Opens the store on a disk as the cut left it, and looks for everything that was said to be durable.
fn check(recording: &Recording, cut: usize, disk: &Disk, random: &mut fastrand::Rng) {
    let image = directory();
    disk.write_image(image.path(), random);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let said = |start: &str| recording.last_said(cut, start).map_or(0, |number| number.parse().unwrap());
        let opening = Store::in_another_boot(image.path(), LIMIT, NEVER);
        let store = opening.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        opened(&store).await;
        let watermarks = *store.handle.watermarks().borrow();
        let quarantined = store.handle.status().borrow().quarantined;
        if quarantined > 0 {
            store.handle.flush().await.unwrap();
            let alarms = store.read_all(Lane::Alarms, ALL).await;
            let told = alarms.iter().map(|commit| format!("{:?}", commit.records)).collect::<Vec<_>>();
            panic!("cut {cut}: {} after\n{}", told.join("\n"), recording.before(cut));
        }
        if let Some(epoch) = recording.last_said(cut, "epoch ") {
            assert_eq!(format!("{:?}", watermarks.epoch), epoch, "cut {cut}");
        }
        let telemetry = watermarks.telemetry;
        assert!(telemetry.durable_last.0 >= said("durable "), "cut {cut}: {telemetry:?}");
        assert!(telemetry.oldest_undelivered.0 > said("delivered "), "cut {cut}: {telemetry:?}");
        assert!(telemetry.oldest_undelivered.0 <= said("asked ") + 1, "cut {cut}: {telemetry:?}");
        let commits = store.read_all(Lane::Telemetry, ALL).await;
        let sequences: Vec<u64> = commits.iter().map(|commit| commit.header.sequence.0).collect();
        let expected: Vec<u64> = (telemetry.oldest_undelivered.0..=telemetry.durable_last.0).collect();
        assert_eq!(sequences, expected, "cut {cut}");
        for commit in &commits {
            let first = (commit.header.sequence.0 as i64 - 1) * READINGS;
            assert_eq!(numbers(commit), (first..first + READINGS).collect::<Vec<_>>(), "cut {cut}");
        }
        assert!(store.read_all(Lane::Alarms, ALL).await.len() as u64 >= said("alarms "), "cut {cut}");
        store.handle.append(Counter(7).rows(&[10])).await.unwrap();
        store.handle.flush().await.unwrap();
        store.close().await;
        let store = Store::in_another_boot(image.path(), LIMIT, NEVER).unwrap();
        opened(&store).await;
        assert_eq!(store.handle.watermarks().borrow().telemetry.durable_last, telemetry.durable_last.next());
        store.close().await;
    });
}

#[test]
fn what_was_durable_is_there_after_every_power_cut() {
    let cuts = if std::env::var_os("LINESIDE_LONG").is_some() { 20_000 } else { 500 };
    let recording = record();
    let last = recording.last_said(recording.len(), "durable ").unwrap();
    assert!(last.parse::<u64>().unwrap() >= ROUNDS as u64, "the child stored only {last} commits");
    if store::engine().only_grows() {
        assert!(recording.exchanges() > 1, "the files were written anew {} times", recording.exchanges());
    }
    let seed = std::env::var("LINESIDE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("LINESIDE_SEED={seed}");
    let made = recording.first_said("durable ").unwrap();
    const THREADS: u64 = 2;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let recording = &recording;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed.wrapping_add(thread));
                // One in five while the database is made: a small part of the recording, and a tender one.
                let last = |cut: u64| if cut.is_multiple_of(5) { made } else { recording.len() };
                let mut at: Vec<usize> = (0..cuts / THREADS).map(|cut| random.usize(..=last(cut))).collect();
                at.sort_unstable();
                recording.replay(&at, |cut, disk| check(recording, cut, disk, &mut random));
            });
        }
    });
}
