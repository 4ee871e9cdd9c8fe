//! A wall clock that is wrong at first and is set while the agent runs: nothing is lost, nothing comes twice, and what
//! was taken with the wrong clock can be corrected.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use lineside::clock::{Clock, SystemClock};
use lineside::model::Transition;
use lineside::simulator::Servers;
use serde_json::Value as Json;
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, counters};
use support::site::{Configuration, Site};
use support::test_clock::TestClock;

/// A clock without battery: ten years behind.
const BEHIND_MS: i64 = -10 * 365 * 86_400_000;

const RULES: &str = r#"
groups:
  - name: counters
    interval: 1s
    rules:
      - alert: Counts
        expr: answers >= 0
        for: 2s
      - record: device:answers:count
        expr: count_over_time(answers[5s])
"#;

/// What is stored, row by row, without an agent.
fn exported(site: &Site, selector: &str) -> Vec<Json> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(["store", "export", "--format", "jsonl", selector, "--store"]).arg(site.store());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn time_ms(row: &Json) -> i64 {
    row["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[tokio::test]
async fn a_clock_that_is_set_loses_nothing_repeats_nothing_and_what_was_wrong_is_corrected() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), RULES).unwrap();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "timeout = \"500ms\"")
        .device("press-1", "hall", 1, COUNTER, "100ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]");
    site.configure(&configuration);
    let clock = TestClock::new(&site);
    clock.set(BEHIND_MS, false);
    let counted = |harvest: &support::consumer::Harvest| harvest.numbers("press-1", "answers").len();

    // The clock is ten years behind, then right, then set back by an hour, while the agent counts.
    let began = SystemClock::new(true).wall();
    let mut agent = clock.start(&site);
    consumer.until("readings of a wrong clock", |harvest| counted(harvest) >= 40).await;
    let wrong = site.status().await;
    clock.set(0, true);
    let at = counted(&consumer.harvest);
    consumer.until("readings of a right clock", |harvest| counted(harvest) >= at + 40).await;
    consumer.until("by how much it was wrong", |harvest| !harvest.clock_offsets.is_empty()).await;
    clock.set(-3_600_000, true);
    let at = counted(&consumer.harvest);
    consumer.until("readings of an hour ago", |harvest| counted(harvest) >= at + 40).await;
    // A kill, and the same boot goes on.
    agent.kill();
    clock.set(0, true);
    let mut agent = clock.start(&site);
    let at = counted(&consumer.harvest);
    consumer.until("readings after the kill", |harvest| counted(harvest) >= at + 40).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    let ended = SystemClock::new(true).wall();
    consumer.catch_up(&broker).await;

    consumer.harvest.assert_sound();
    assert_eq!(wrong["clock"], "unsynchronised");
    let rows = exported(&site, "answers");
    let of_clock = |clock: &str| rows.iter().filter(|row| row["clock"] == clock).count();
    assert!(of_clock("unsynchronised") >= 40 && of_clock("synchronised") >= 120, "{}", rows.len());
    assert_eq!(of_clock("unsynchronised") + of_clock("synchronised"), rows.len());
    let mut corrected = Vec::new();
    let mut newest: BTreeMap<u64, i64> = BTreeMap::new();
    for row in &rows {
        // Times are rewritten nowhere but in what is shown.
        let is_wrong = row["clock"] == "unsynchronised";
        let correction = row["correction_ms"].as_i64();
        assert_eq!(correction.is_some(), is_wrong, "{row}");
        if let Some(correction) = correction {
            assert!((correction + BEHIND_MS).abs() < 1000, "{row}");
            corrected.push(time_ms(row));
        }
        let in_commit = newest.entry(row["sequence"].as_u64().unwrap()).or_insert(i64::MIN);
        assert!(*in_commit < time_ms(row), "a series runs backwards in a commit: {row}");
        *in_commit = time_ms(row);
    }
    assert!(corrected.iter().all(|time| (began.0 - 1000..ended.0).contains(time)));
    assert!(corrected.windows(2).all(|pair| pair[0] < pair[1]), "{corrected:?}");
    let values: Vec<u64> = rows.iter().filter_map(|row| row["value"].as_u64()).collect();
    assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
    let raised = consumer.harvest.transitions("Counts").iter().filter(|it| it.transition == Transition::Raised).count();
    assert_eq!((raised, consumer.harvest.transitions("Counts").len()), (1, 1));
    // One evaluation each second, whatever the clock said; the second of the kill may be missing.
    let evaluations = exported(&site, "device:answers:count").len() as i64;
    let seconds = (ended.0 - began.0) / 1000;
    assert!((seconds - 6..=seconds + 1).contains(&evaluations), "{evaluations} evaluations in {seconds} s");
}
