//! A store that is full: the oldest readings become aggregates of a minute, then of ten minutes, and only then go.

#![cfg(test)]

mod ledger;
mod long_outage;
#[path = "../support/store.rs"]
mod store;
mod week;

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::Ledger;
use lineside::buffer::ReadLimit;
use lineside::database::{Batch, Database};
use lineside::model::{GapReason, Lane, Records, Scale, Sequence, SeriesInfo, ValueKind, Window};
use store::{ALL, Store};
use week::Week;

/// The least that a configuration may set.
fn least() -> u64 {
    store::engine().limit_least()
}

/// Ten readings a second for `hours`, flushed once a minute as with the longest commit interval.
async fn outage(store: &Store, week: &Week, hours: u64) {
    for minute in 0..60 * hours {
        for second in 60 * minute..60 * (minute + 1) {
            store.handle.append(vec![week.row(second)]).await.unwrap();
        }
        store.handle.flush().await.unwrap();
        assert_within_limit(store);
    }
}

fn assert_within_limit(store: &Store) {
    let status = store.handle.status().borrow().clone();
    assert!(status.disk_bytes <= status.limit_bytes, "{status:?}");
}

#[tokio::test]
async fn the_newest_stay_raw_and_older_ones_become_minutes_that_say_what_they_stand_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::thinning(directory.path(), least());
    let week = Week { series: 100 };

    outage(&store, &week, 3).await;
    let commits = store.read_all(Lane::Telemetry, ReadLimit { commits: 7, records: 5000 }).await;

    let mut ledger = Ledger::default();
    commits.iter().for_each(|commit| ledger.take(commit, &week));
    ledger.assert_complete(&store, week.readings(3 * 3600));
    assert!(ledger.raw_from.unwrap() > ledger.newest_window.unwrap(), "{ledger:?}");
    assert!(ledger.aggregates_of(Window::Minute) > 1000 && ledger.dropped == 0, "{ledger:?}");
    let status = store.handle.status().borrow().clone();
    assert_eq!((status.thinned, status.dropped), (ledger.replaced, 0));
    store.close().await;
}

/// What a command of `lineside rules` says about the store in `path`, and its exit code.
async fn rules(path: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.arg("rules").args(arguments).arg("--store").arg(path).current_dir(path.parent().unwrap());
    command.env_remove("LINESIDE_SOCKET").env_remove("LINESIDE_CONFIG");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (output.status.code(), [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat())
}

#[tokio::test]
async fn who_tries_rules_on_the_past_is_told_what_is_left_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::thinning(&path, least());
    let labels = Arc::new(BTreeMap::from([("device".to_owned(), "press-1".to_owned())]));
    let info = |number: u32| SeriesInfo {
        name: format!("value_{number}"),
        labels: labels.clone(),
        unit: String::new(),
        kind: ValueKind::Int,
        scale: Scale::ONE,
        states: BTreeMap::new(),
    };
    store.handle.register((0..100).map(info).collect()).await.unwrap();
    let week = Week { series: 100 };
    outage(&store, &week, 2).await;
    store.close().await;
    let rule = "groups: [{name: a, interval: 10s, rules: [{alert: Never, expr: value_0 < 0}]}]";
    std::fs::write(directory.path().join("r.yml"), rule).unwrap();
    let span = [Week::time(0), Week::time(7200)].map(|time| time.to_string());

    // When a rule is tried on all of it, and an expression looks at the whole of it.
    let asked = ["backtest", "r.yml", "--from", &span[0], "--to", &span[1]];
    let (code, tried) = rules(&path, &asked).await;
    let (_, json) = rules(&path, &[asked.as_slice(), &["--json"]].concat()).await;
    let (eval_code, looked_at) = rules(&path, &["eval", "count_over_time(value_0[2h])", "--at", &span[1]]).await;
    let (recent_code, recent) = rules(&path, &["eval", "value_0", "--at", &Week::time(7199).to_string()]).await;

    // Then it is said where there are only summaries, and every reading is either tried or named there.
    assert_eq!((code, eval_code, recent_code), (Some(1), Some(1), Some(0)), "{tried} {looked_at} {recent}");
    assert!(tried.contains("only summaries of 1m are left of"), "{tried}");
    assert!(tried.contains("Never: would not have been raised where there are readings"), "{tried}");
    let past: serde_json::Value = serde_json::from_str(&json).unwrap();
    let summarized = past["summarized"].as_array().unwrap();
    let named: u64 = summarized.iter().map(|it| it["readings"].as_u64().unwrap()).sum();
    assert_eq!(named + past["readings"].as_u64().unwrap(), 7200, "{json}");
    assert_eq!(summarized[0]["from"], Week::time(0).0);
    assert!(looked_at.contains("they were not looked at"), "{looked_at}");
}

#[tokio::test]
async fn what_was_thinned_comes_back_after_a_restart_and_is_settled_when_it_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::thinning(directory.path(), least());
    let week = Week { series: 100 };
    outage(&store, &week, 2).await;
    let before = store.read_all(Lane::Telemetry, ALL).await;
    let marks = *store.handle.watermarks().borrow();
    store.close().await;

    let store = Store::thinning(directory.path(), least());
    assert_eq!(store.read_all(Lane::Telemetry, ALL).await, before);
    assert_eq!(*store.handle.watermarks().borrow(), marks);
    assert_eq!(marks.telemetry.oldest_undelivered, Sequence(1), "until the aggregates are delivered");
    let is_thinned = |records: &Records| matches!(records, Records::Thinned(_));
    assert!(before.iter().any(|commit| is_thinned(&commit.records)));
    let raw = before.iter().filter(|commit| !is_thinned(&commit.records));
    for sequence in raw.map(|commit| commit.header.sequence) {
        store.deliver(Lane::Telemetry, sequence.0, sequence.0).await;
    }
    store.handle.flush().await.unwrap();
    assert_eq!(store.handle.watermarks().borrow().telemetry.oldest_undelivered, Sequence(1));

    let last = marks.telemetry.durable_last;
    store.deliver(Lane::Telemetry, 1, last.0).await;
    store.handle.flush().await.unwrap();
    let after = store.handle.watermarks().borrow().telemetry;
    assert_eq!((after.oldest_undelivered, after.pending_commits), (last.next(), 0));
    store.close().await;
}

#[tokio::test]
async fn what_damaged_aggregates_stood_for_is_named_in_a_gap_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::thinning(directory.path(), least());
    let week = Week { series: 100 };
    outage(&store, &week, 2).await;
    let commits = store.read_all(Lane::Telemetry, ALL).await;
    let thinned = commits.iter().find_map(|commit| match &commit.records {
        Records::Thinned(thinned) => Some((commit.header.sequence, thinned.replaces.clone())),
        Records::Readings(_) | Records::Gap(_) | Records::Alarms(_) | Records::ClockOffset(_) => None,
    });
    let (sequence, replaces) = thinned.unwrap();
    store.close().await;

    let key = [&[b'c', 1][..], &sequence.0.to_be_bytes()].concat();
    let database = Database::open(&directory.path().join("database"), store::engine()).unwrap();
    let mut value = database.get(&key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(&key, &value);
    database.apply(batch).unwrap();
    database.flush().unwrap();
    drop(database);
    let store = Store::thinning(directory.path(), least());
    store.read_all(Lane::Telemetry, ALL).await;
    store.handle.flush().await.unwrap();

    let after = store.read_all(Lane::Telemetry, ALL).await;
    let named: Vec<(Sequence, Sequence)> = after
        .iter()
        .filter_map(|commit| match &commit.records {
            Records::Gap(gap) if gap.reason == GapReason::Damaged => Some((gap.first, gap.last)),
            _ => None,
        })
        .collect();
    assert!(named.contains(&(sequence, sequence)), "{named:?}");
    assert!(replaces.iter().all(|gone| named.contains(&(gone.first, gone.last))), "{replaces:?} in {named:?}");
    let mut ledger = Ledger::default();
    after.iter().for_each(|commit| ledger.take(commit, &week));
    ledger.assert_every_sequence_once(&store);
    store.close().await;
}

#[tokio::test]
async fn a_plant_that_is_read_more_rarely_than_each_minute_loses_nothing_by_thinning_to_minutes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::thinning(directory.path(), least());
    let week = Week { series: 500 };

    for minute in (0..2 * 24 * 60).step_by(2) {
        store.handle.append(vec![week.row(60 * minute)]).await.unwrap();
        store.handle.flush().await.unwrap();
        assert_within_limit(&store);
    }

    let commits = store.read_all(Lane::Telemetry, ALL).await;
    let mut ledger = Ledger::default();
    commits.iter().for_each(|commit| ledger.take(commit, &week));
    ledger.assert_complete(&store, 24 * 60 * 500);
    assert_eq!(ledger.aggregates_of(Window::Minute), 0, "{ledger:?}");
    assert!(ledger.aggregates_of(Window::TenMinutes) > 0, "{ledger:?}");
    store.close().await;
}
