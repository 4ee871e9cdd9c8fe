//! What goes wrong around a store: damage, a second process, a disk that takes nothing.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lineside::buffer::{BufferError, Watermarks};
use lineside::database::{Batch, Database, EngineKind};
use lineside::model::{Gap, GapReason, Lane, Records, Sequence};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::{ALL, Counter, Store, alarm, numbers};

const PLENTY: u64 = 64 << 20;

/// Damaged databases of each engine.
const DAMAGES: u64 = 250;

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

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Flips a bit, zeroes a block or cuts off the end of one file of the database.
fn damage(directory: &Path, random: &mut fastrand::Rng) -> String {
    let files = files(&directory.join("database"));
    let path = &files[random.usize(..files.len())];
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let at = random.u64(..length.max(1));
    match random.u8(..3) {
        0 => {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << random.u8(..8))], at).unwrap();
        }
        1 => file.write_all_at(&vec![0; 4096.min((length - at) as usize)], at).unwrap(),
        _ => file.set_len(at).unwrap(),
    }
    format!("{} of {length} at {at}", path.display())
}

#[tokio::test]
async fn a_damaged_store_opens_and_goes_on_whatever_the_damage() {
    let original = tempfile::tempdir().unwrap();
    let (taken, before) = filled(original.path()).await;
    let mut random = fastrand::Rng::with_seed(11);
    let mut quarantined = 0;
    for case in 0..DAMAGES {
        let directory = tempfile::tempdir().unwrap();
        copy(original.path(), directory.path());
        let what = damage(directory.path(), &mut random);
        println!("case {case}: {what}");

        let store = Store::open(directory.path(), PLENTY);
        // Reading may itself find damage, and set the database aside; then it goes on with the new one.
        while store.handle.read(Lane::Telemetry, Sequence::FIRST, ALL).await.is_err() {
            store.handle.flush().await.ok();
        }
        let after = *store.handle.watermarks().borrow();
        if after.epoch == before.epoch {
            for lane in Lane::ALL {
                let is_kept = after.lane(lane).durable_last >= before.lane(lane).durable_last;
                assert!(is_kept, "sequences went back: {what}");
            }
        }
        let mut counter = Counter(taken);
        store.handle.append(counter.rows(&[7])).await.unwrap();
        store.handle.flush().await.unwrap();

        let commits = store.read_all(Lane::Telemetry, ALL).await;
        assert!(commits.iter().flat_map(numbers).any(|number| number == taken), "{what}");
        let status = store.handle.status().borrow().clone();
        quarantined += status.quarantined;
        if status.quarantined > 0 {
            let alarms = store.read_all(Lane::Alarms, ALL).await;
            let is_told = |records: &Records| matches!(records, Records::Alarms(alarms) if alarms.iter().any(|alarm| alarm.name == "StoreDamaged"));
            assert!(alarms.iter().any(|commit| is_told(&commit.records)), "{what}");
        }
        store.close().await;
        Store::open(directory.path(), PLENTY).close().await;
    }
    // The log of segments passes over damage; only one that loses the epoch makes it begin anew.
    match store::engine() {
        EngineKind::Sled => assert!(quarantined > 0, "no damage was so bad that the database did not open"),
        EngineKind::Segments => assert!(quarantined < DAMAGES / 10, "{quarantined} of {DAMAGES}"),
    }
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
    let readable = store.read_all(Lane::Telemetry, ALL).await;
    store.handle.flush().await.unwrap();
    let after = store.read_all(Lane::Telemetry, ALL).await;

    let sequences: Vec<u64> = readable.iter().map(|commit| commit.header.sequence.0).collect();
    assert_eq!(sequences, (1..=40).filter(|sequence| ![3, 7].contains(sequence)).collect::<Vec<_>>());
    let gaps: Vec<&Records> = after[readable.len()..].iter().map(|commit| &commit.records).collect();
    let named = |gap: &&Records| match gap {
        Records::Gap(Gap { first, last, records, reason: GapReason::Damaged, .. }) => (first.0, last.0, *records),
        other => panic!("{other:?} where a gap record should be"),
    };
    assert_eq!(gaps.iter().map(named).collect::<Vec<_>>(), [(3, 3, 300), (7, 7, 0)]);
    assert_eq!(store.handle.status().borrow().damaged, 2);
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
async fn a_store_of_a_newer_release_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    std::fs::write(directory.path().join("format"), "lineside store 7\n").unwrap();
    let before = files(directory.path());

    let refused = Store::try_open(directory.path(), PLENTY, Duration::from_secs(1)).err().unwrap();

    assert!(matches!(refused, BufferError::NewerFormat { found: 7, .. }), "{refused}");
    assert_eq!(files(directory.path()), before);
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
