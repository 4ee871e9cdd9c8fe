//! What goes wrong around a store: damage, a second process, a disk that takes nothing.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lineside::buffer::{BufferError, Watermarks};
use lineside::database::{Batch, Database, EngineKind};
use lineside::model::{Commit, Gap, GapReason, Lane, Records};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::{ALL, Counter, Store, alarm, files, numbers};

const PLENTY: u64 = 64 << 20;

/// A closed store with some commits in both lanes.
async fn filled(directory: &Path) -> (i64, Watermarks) {
    let store = Store::open(directory, PLENTY);
    let mut counter = Counter::default();
    for number in 0..40 {
        store.handle.append(counter.rows(&[100, 200])).await.unwrap();
        store.handle.append_alarms(vec![alarm(number)]).await.unwrap();
        store.handle.flush().await.unwrap();
    }
    let watermarks = *store.handle.watermarks().borrow();
    store.close().await;
    (counter.0, watermarks)
}

#[tokio::test]
async fn a_damaged_and_a_missing_commit_are_passed_over_and_named_in_gap_records() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let key = |sequence: u64| [&[b'c', 1][..], &sequence.to_be_bytes()].concat();
    let database = Database::open(&directory.path().join("database"), store::engine()).unwrap();
    let mut value = database.get(&key(3)).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(&key(3), &value);
    batch.remove(&key(7));
    database.apply(batch).unwrap();
    database.flush().unwrap();
    drop(database);

    let store = Store::open(directory.path(), PLENTY);
    store.read_all(Lane::Telemetry, ALL).await;
    store.handle.flush().await.unwrap();
    let after = store.read_all(Lane::Telemetry, ALL).await;

    let (readable, gaps): (Vec<_>, Vec<_>) = after.iter().partition(|commit| !numbers(commit).is_empty());
    let sequences: Vec<u64> = readable.iter().map(|commit| commit.header.sequence.0).collect();
    // A log of segments has what was removed a moment ago still in its files, where it is found.
    let lost: &[u64] = if store::engine() == EngineKind::Sled { &[3, 7] } else { &[3] };
    assert_eq!(sequences, (1..=40).filter(|sequence| !lost.contains(sequence)).collect::<Vec<_>>());
    let named = |commit: &&Commit| match &commit.records {
        Records::Gap(Gap { first, last, reason: GapReason::Damaged, .. }) => (first.0, last.0),
        other => panic!("{other:?} where a gap record should be"),
    };
    let mut named: Vec<(u64, u64)> = gaps.iter().map(named).collect();
    named.sort_unstable();
    assert_eq!(named, lost.iter().map(|sequence| (*sequence, *sequence)).collect::<Vec<_>>());
    assert_eq!(store.handle.status().borrow().damaged, lost.len() as u64);
    store.close().await;
}

#[tokio::test]
async fn a_store_in_use_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), PLENTY);

    let second = Store::try_open(directory.path(), PLENTY, Duration::from_secs(1)).err().unwrap();

    assert_eq!(second, BufferError::InUse { path: directory.path().to_owned() });
    assert!(second.to_string().ends_with("in use by another process"));
    store.handle.append(Counter::default().rows(&[1])).await.unwrap();
    store.handle.flush().await.unwrap();
    store.close().await;
    Store::open(directory.path(), PLENTY).close().await;
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_kept_as_it_was_and_a_new_one_begins() {
    let directory = tempfile::tempdir().unwrap();
    let (_, before) = filled(directory.path()).await;
    std::fs::write(directory.path().join("format"), "lineside store 7 7\n").unwrap();
    let content = |path: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let relative = |file: &PathBuf| file.strip_prefix(path).unwrap().to_owned();
        files(path).iter().map(|file| (relative(file), std::fs::read(file).unwrap())).collect()
    };
    let mut was = content(directory.path());
    was.retain(|(file, _)| file != Path::new("lock"));

    let store = Store::open(directory.path(), PLENTY);
    let mut counter = Counter::default();
    store.handle.append(counter.rows(&[10])).await.unwrap();
    store.handle.flush().await.unwrap();

    assert_ne!(store.handle.watermarks().borrow().epoch, before.epoch);
    assert_eq!(content(&directory.path().join("newer-format-7-0")), was);
    let alarms = store.read_all(Lane::Alarms, ALL).await;
    let is_told = |records: &Records| matches!(records, Records::Alarms(alarms) if alarms[0].name == "StoreNewer");
    assert!(alarms.iter().any(|commit| is_told(&commit.records)));
    store.close().await;
    let store = Store::open(directory.path(), PLENTY);
    assert_eq!(store.read_all(Lane::Telemetry, ALL).await.iter().flat_map(numbers).count(), 10);
    store.close().await;
}

/// The mark of an earlier release said less, and there was none before that; a format that says nothing is the first.
#[tokio::test]
async fn a_store_of_an_earlier_release_goes_on() {
    for mark in [None, Some(())] {
        let directory = tempfile::tempdir().unwrap();
        let (taken, before) = filled(directory.path()).await;
        let (mark_path, format) = (directory.path().join("mark"), directory.path().join("format"));
        std::fs::remove_file(&mark_path).unwrap();
        std::fs::remove_file(format).unwrap();
        if mark.is_some() {
            let numbers = [41_u64, 40, 41, 40 * 300].map(u64::to_le_bytes).concat();
            let mut bytes = [before.epoch.0.as_slice(), &numbers].concat();
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            std::fs::write(mark_path, bytes).unwrap();
        }

        let store = Store::open(directory.path(), PLENTY);
        let commits = store.read_all(Lane::Telemetry, ALL).await;

        assert_eq!(commits.iter().flat_map(numbers).collect::<Vec<_>>(), (0..taken).collect::<Vec<_>>());
        let status = store.handle.status().borrow().clone();
        assert_eq!((status.watermarks.epoch, status.quarantined, status.damaged), (before.epoch, 0, 0));
        store.close().await;
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_worked_without_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();

    let store = Store::open(&file.join("store"), PLENTY);
    let mut counter = Counter::default();
    store.handle.append(counter.rows(&[10])).await.unwrap();
    let refused = store.handle.flush().await.unwrap_err();
    let status = store.handle.status().borrow().clone();

    assert_eq!(refused, BufferError::NotWritable { reason: "not a directory".into() });
    assert_eq!((status.writable, status.not_writable_because.as_deref()), (false, Some("not a directory")));
    std::fs::remove_file(&file).unwrap();
    store.handle.flush().await.unwrap();
    let commits = store.read_all(Lane::Telemetry, ALL).await;
    assert_eq!(commits.iter().flat_map(numbers).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    store.close().await;
}

const FULL_DISK: &str = "LINESIDE_TEST_FULL_DISK";

/// The system lets no file grow beyond `bytes`: a disk that is full, as far as this process can see.
fn let_files_grow_to(bytes: Option<u64>) {
    let hard = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(hard), maximum: hard }).unwrap();
}

/// The limit on file sizes is one of the whole process, and its signal has to be ignored from before: a child.
#[test]
fn a_disk_that_takes_nothing_costs_only_what_memory_cannot_keep() {
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(store::test_name(module_path!(), "child_on_a_full_disk"))
        .env(FULL_DISK, directory.path())
        .output()
        .unwrap();

    let output = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{output}");
    assert!(output.contains("full disk survived"), "{output}");
}

#[test]
fn child_on_a_full_disk() {
    let Some(directory) = std::env::var_os(FULL_DISK) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill_disk(Path::new(&directory)));
    println!("full disk survived");
}

async fn fill_disk(directory: &Path) {
    let store = Store::open(directory, PLENTY);
    let mut counter = Counter::default();
    store.handle.append(counter.rows(&[500])).await.unwrap();
    store.handle.flush().await.unwrap();
    let epoch = store.handle.watermarks().borrow().epoch;

    let_files_grow_to(Some(16 << 10));
    // Ten times what memory keeps.
    let mut random = fastrand::Rng::with_seed(3);
    let mut refused = 0;
    for _ in 0..10_000 {
        let mut row = counter.row(500);
        row.time = lineside::model::Timestamp(random.i64(..));
        store.handle.append(vec![row]).await.unwrap();
        if counter.0 % 500_000 == 0 {
            refused += u32::from(store.handle.flush().await.is_err());
        }
    }
    let full = store.handle.status().borrow().clone();
    assert!(refused > 0 && !full.writable, "{full:?}");
    assert!(full.not_writable_because.is_some());
    assert!(full.waiting_bytes < 6 << 20);

    let_files_grow_to(None);
    store.handle.flush().await.unwrap();
    let healed = store.handle.status().borrow().clone();
    let commits = store.read_all(Lane::Telemetry, ALL).await;

    assert!(healed.writable, "{healed:?}");
    assert_eq!(healed.watermarks.epoch, epoch);
    let gaps: Vec<&Gap> = commits
        .iter()
        .filter_map(|commit| match &commit.records {
            Records::Gap(gap) => Some(gap),
            Records::Readings(_) | Records::Thinned(_) | Records::Alarms(_) | Records::ClockOffset(_) => None,
        })
        .collect();
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::NotWritable));
    let kept: Vec<i64> = commits.iter().flat_map(numbers).collect();
    let lost: u64 = gaps.iter().map(|gap| gap.records).sum();
    assert!(lost > 0);
    assert_eq!(healed.dropped, lost);
    assert_eq!(kept.len() as i64 + lost as i64, counter.0, "kept or named");
    assert!(kept.is_sorted_by(|left, right| left < right), "once each, in order");
    assert_eq!(kept.last(), Some(&(counter.0 - 1)), "the newest are kept");
    store.close().await;
    let store = Store::open(directory, PLENTY);
    assert_eq!(store.read_all(Lane::Telemetry, ALL).await, commits);
    store.close().await;
}
