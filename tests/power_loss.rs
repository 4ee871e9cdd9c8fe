//! The process is killed at any moment; whatever it had called durable is there afterwards, once, in order.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lineside::buffer::Evaluated;
use lineside::model::{Commit, Epoch, Lane, Records, Sequence};
use store::{ALL, Counter, Store, alarm, numbers};

const DIRECTORY: &str = "LINESIDE_TEST_STORE";
const PLENTY: u64 = 512 << 20;
const KILLS: u32 = 20;

/// Runs in the child: appends faster than it saves, and tells what is durable. Ends only when killed.
#[test]
fn child_writes_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let interval = Duration::from_millis(2);
        let store = Store::try_open(Path::new(&directory), PLENTY, interval).unwrap();
        let commits = store.read_all(Lane::Telemetry, ALL).await;
        // Goes on counting where the store ends.
        let mut counter = Counter(commits.last().map_or(0, |commit| numbers(commit).last().unwrap() + 1));
        let mut watermarks = store.handle.watermarks();
        loop {
            for _ in 0..6 {
                store.handle.append(counter.rows(&[60, 61])).await.unwrap();
            }
            watermarks.changed().await.unwrap();
            println!("durable {}", watermarks.borrow_and_update().telemetry.durable_last);
            std::io::stdout().flush().unwrap();
        }
    });
}

/// Runs in the child: raises alarm after alarm with readings, and remembers the last. Ends only when killed.
#[test]
fn child_raises_alarms_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::try_open(Path::new(&directory), PLENTY, Duration::from_millis(200)).unwrap();
        let remembered = store.handle.rule_state().await.unwrap();
        let mut number = remembered.try_into().map_or(0, i64::from_le_bytes);
        let mut counter = Counter(0);
        let mut watermarks = store.handle.watermarks();
        loop {
            for _ in 0..3 {
                number += 1;
                let (rows, alarms) = (counter.rows(&[60]), vec![alarm(number)]);
                let state = Some(number.to_le_bytes().to_vec());
                store.handle.append_evaluated(Evaluated { rows, alarms, state }).await.unwrap();
            }
            watermarks.changed().await.unwrap();
            println!("durable {}", watermarks.borrow_and_update().alarms.durable_last);
            std::io::stdout().flush().unwrap();
        }
    });
}

#[tokio::test]
async fn what_the_rules_remember_agrees_with_the_alarms_after_every_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(8);
    let mut before = 0;
    for _ in 0..KILLS {
        kill_after(start_child(directory.path(), "child_raises_alarms_until_killed"), random.u32(0..10));

        let store = Store::open(directory.path(), PLENTY);
        let commits: Vec<Commit> = store.read_all(Lane::Alarms, ALL).await;
        let raised: Vec<i64> = commits.iter().flat_map(raised_in).collect();
        let remembered = store.handle.rule_state().await.unwrap();
        assert_eq!(raised, (1..=raised.len() as i64).collect::<Vec<_>>());
        assert_eq!(Ok(raised.len() as i64), remembered.try_into().map(i64::from_le_bytes));
        assert!(raised.len() > before, "alarms are flushed at once");
        before = raised.len();
        store.close().await;
    }
}

fn raised_in(commit: &Commit) -> Vec<i64> {
    let Records::Alarms(alarms) = &commit.records else { return Vec::new() };
    alarms.iter().map(|alarm| alarm.time.0).collect()
}

fn start_child(directory: &Path, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &store::test_name(module_path!(), role), "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the child after it has said `count` times that something became durable. Returns the last it said.
fn kill_after(mut child: Child, count: u32) -> u64 {
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = |line: &String| line.strip_prefix("durable ").and_then(|number| number.parse().ok());
    let mut durable = output.by_ref().filter_map(|line| told(&line)).nth(count as usize).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said between the decision and the kill counts too.
    durable = output.filter_map(|line| told(&line)).last().unwrap_or(durable);
    durable
}

#[tokio::test]
async fn what_was_durable_is_there_after_every_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut epoch: Option<Epoch> = None;
    for _ in 0..KILLS {
        let durable = kill_after(start_child(directory.path(), "child_writes_until_killed"), random.u32(0..40));

        let store = Store::open(directory.path(), PLENTY);
        let watermarks = *store.handle.watermarks().borrow();
        let commits: Vec<Commit> = store.read_all(Lane::Telemetry, ALL).await;

        assert_eq!(*epoch.get_or_insert(watermarks.epoch), watermarks.epoch);
        assert!(watermarks.telemetry.durable_last >= Sequence(durable));
        let sequences: Vec<u64> = commits.iter().map(|commit| commit.header.sequence.0).collect();
        assert_eq!(sequences, (1..=watermarks.telemetry.durable_last.0).collect::<Vec<_>>());
        let counted: Vec<i64> = commits.iter().flat_map(numbers).collect();
        assert_eq!(counted, (0..counted.len() as i64).collect::<Vec<_>>());
        assert_eq!(counted.len() % 121, 0, "an append is there whole or not at all");
        store.close().await;
    }
}
