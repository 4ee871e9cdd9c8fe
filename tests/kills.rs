//! The agent killed again and again under load: what was stored arrives, each reading once.
//!
//! `LINESIDE_TEST_KILLS` says how often; 200 when it does not. The long mode is 20,000.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use lineside::clock::{Clock, SystemClock};
use lineside::model::{Lane, Sequence, Timestamp};
use lineside::simulator::Servers;
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters};
use support::site::{Configuration, Site};

/// One life of the agent, from start to kill.
struct Life {
    begun: Timestamp,
    ended: Timestamp,
    /// Readings that it called stored.
    stored: u64,
}

fn now() -> Timestamp {
    SystemClock::new(true).wall()
}

fn kills() -> usize {
    std::env::var("LINESIDE_TEST_KILLS").map_or(200, |text| text.parse().expect("LINESIDE_TEST_KILLS is a number"))
}

/// Asks the agent until `end` what is stored: the last answers, readings of this life and durable sequence.
fn claims(socket: &Path, end: Instant) -> Option<(u64, Sequence)> {
    let mut claimed = None;
    while Instant::now() < end {
        if let Some(status) = ask(socket, end) {
            let stored = status["store"]["readings_stored"].as_u64().unwrap();
            let durable = status["lanes"]["telemetry"]["durable_last"].as_u64().unwrap();
            claimed = Some((stored, Sequence(durable)));
        }
        std::thread::sleep(Duration::from_millis(10).min(end.saturating_duration_since(Instant::now())));
    }
    claimed
}

fn ask(socket: &Path, end: Instant) -> Option<serde_json::Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).ok()?;
    stream.write_all(b"{\"request\": \"status\"}\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

#[tokio::test]
async fn what_was_stored_arrives_once_however_often_the_agent_is_killed() {
    // Given two devices that are read fifty and twenty times a second, and a consumer that receives.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"100ms\" }")
        .store("commit_interval = \"50ms\"")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms")
        .device("press-2", "hall", 2, COUNTER, "50ms");
    site.configure(&configuration);

    // When the agent is killed at any moment of its life, also while it starts, and started again at once.
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    let mut lives = Vec::new();
    let mut durable = Sequence(0);
    for _ in 0..kills() {
        let begun = now();
        let mut agent = site.start();
        let end = Instant::now() + Duration::from_millis(random.u64(0..700));
        let socket = site.path().join("lineside.sock");
        let claimed = tokio::task::spawn_blocking(move || claims(&socket, end)).await.unwrap();
        agent.kill();
        let stored = claimed.map_or(0, |(stored, sequence)| {
            assert!(sequence >= durable, "{sequence} durable after {durable}");
            durable = sequence;
            stored
        });
        lives.push(Life { begun, ended: now(), stored });
        consumer.take_arrived();
    }
    let mut agent = site.start();
    agent.logged("lineside started").await;
    let last = now();
    site.until("everything delivered", |status| {
        let lane = &status["lanes"]["telemetry"];
        lane["pending_readings"].as_u64().unwrap() < 200 && lane["durable_last"].as_u64().unwrap() > durable.0 + 5
    })
    .await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then every commit that was ever durable is there, under its first identity.
    let mut harvest = consumer.harvest.clone();
    harvest.assert_sound();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    assert_eq!(harvest.epochs().len(), 1, "no kill costs a database");
    assert!(harvest.absent(Lane::Telemetry, durable).is_empty(), "{:?}", harvest.absent(Lane::Telemetry, durable));
    // And at least as many readings of each life as it had called stored, and no number twice.
    let mut times: BTreeMap<Timestamp, u64> = BTreeMap::new();
    harvest.readings.values().for_each(|taken| *times.entry(taken.time).or_default() += 1);
    for life in &lives {
        let arrived: u64 = times.range(life.begun..=life.ended).map(|(_, count)| count).sum();
        assert!(arrived >= life.stored, "{} stored, {arrived} arrived of the life from {}", life.stored, life.begun);
    }
    let mut missing = 0;
    for (device, unit) in [("press-1", 1), ("press-2", 2)] {
        let answers = answered(&endpoint, unit).await;
        for point in ["answers", "answers_again"] {
            let arrived = harvest.numbers(device, point);
            assert!(arrived.values().all(|times| *times == 1), "{device}/{point}: numbers under two identities");
            assert!(arrived.keys().all(|number| answers.contains_key(number)), "{device}/{point}: invented numbers");
            missing += assert_only_the_ends_are_missing(&answers, &arrived, &lives, last);
        }
    }
    println!(
        "{} kills, {} readings called stored by the lives that were asked, 0 lost; {} answers after the last commit; {}",
        lives.len(),
        lives.iter().map(|life| life.stored).sum::<u64>(),
        missing,
        harvest.summary()
    );
}

/// Of each life all numbers are there up to its last commit; of the one after the kills, all of them.
fn assert_only_the_ends_are_missing(
    answers: &BTreeMap<u64, Timestamp>,
    arrived: &BTreeMap<u64, usize>,
    lives: &[Life],
    last: Timestamp,
) -> usize {
    let mut missing = 0;
    for life in lives {
        let of_life = answers.iter().filter(|(_, time)| (life.begun..=life.ended).contains(*time));
        let there: Vec<bool> = of_life.map(|(number, _)| arrived.contains_key(number)).collect();
        // The first answer may be to the last request of the life before: nobody was there to take it.
        let there = there.strip_prefix(&[false]).unwrap_or(&there);
        assert!(there.is_sorted_by(|before, after| before >= after), "a hole in the life from {}", life.begun);
        missing += there.iter().filter(|there| !**there).count();
    }
    let after = answers.iter().filter(|(_, time)| **time > last);
    assert!(after.into_iter().all(|(number, _)| arrived.contains_key(number)), "missing after the kills");
    missing
}
