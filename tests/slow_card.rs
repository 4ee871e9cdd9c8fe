//! A card on which each sync takes five seconds: no poll is skipped, nothing is lost, and the agent starts all the same.
//! And one that hangs.
//!
//! `LINESIDE_LONG=1` has a sync hang for ever: the agent works in memory, and after ten minutes leaves it to a new process.

#![cfg(test)]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lineside::simulator::Servers;
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, answered, assert_no_poll_waited, calm, counters, is_calm_polled};
use support::run;
use support::site::{Configuration, Site};

/// As long as one flush takes.
const FLUSH: Duration = Duration::from_secs(5);

/// Ten devices, each read five times a second.
const UNITS: u8 = 10;

async fn configure(site: &Site, broker: &Broker, servers: &mut Servers, address: std::net::SocketAddr) {
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }");
    let configuration = (1..=UNITS).fold(configuration.link("hall", address, ""), |configuration, unit| {
        configuration.device(&format!("press-{unit}"), "hall", unit, COUNTER, "200ms")
    });
    site.configure(&calm(configuration, servers).await);
}

/// Compiles what is preloaded.
fn preload(site: &Site) -> PathBuf {
    let library = site.path().join("slow_sync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/slow_sync.c");
    run("cc", &["-shared", "-fPIC", "-O1", "-o", library.to_str().unwrap(), source, "-ldl"]);
    library
}

#[tokio::test]
async fn a_flush_of_five_seconds_costs_no_poll_and_no_reading() {
    // Given a gateway that polls, and one whose card is slow from the start.
    let mut servers = Servers::default();
    let units: Vec<u8> = (1..=UNITS).collect();
    let endpoint = counters(&mut servers, &units).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    configure(&site, &broker, &mut servers, endpoint.address()).await;
    let (library, is_slow) = (preload(&site), site.path().join("slow"));
    std::fs::write(&is_slow, "").unwrap();
    let begun = Instant::now();
    let mut agent =
        site.start_with(|command| command.env("LD_PRELOAD", &library).env("LINESIDE_TEST_SLOW_SYNC", &is_slow));
    endpoint.wait_for(|counters| counters.answers > 0).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "polls only after {:?}", begun.elapsed());

    std::fs::remove_file(&is_slow).unwrap();
    agent.logged("store can be used again").await;

    // When flush after flush takes five seconds, then the card is as ever.
    std::fs::write(&is_slow, "").unwrap();
    let longest = |status: &serde_json::Value| {
        let span = &status["store"]["longest_flush"];
        Duration::new(span["secs"].as_u64().unwrap(), span["nanos"].as_u64().unwrap() as u32)
    };
    let status = site.until("a slow flush", |status| longest(status) >= FLUSH).await;
    let before = endpoint.counters().answers;
    endpoint.wait_for(|counters| counters.answers > before + u64::from(UNITS) * 35).await;
    assert_eq!(status["store"]["writable"], true, "{status}");
    std::fs::remove_file(&is_slow).unwrap();
    let before = consumer.harvest.readings.len();
    consumer.until("readings after that", |harvest| harvest.readings.len() > before + 500).await;

    // Then no poll was skipped, and every answer of every device arrives.
    let status = site.until("everything stored", |status| status["store"]["waiting_bytes"] == 0).await;
    assert_no_poll_waited(&status);
    agent.terminate();
    assert!(agent.exit().await.success(), "{}", agent.log());
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.assert_sound();
    harvest.add_stored(&site.undelivered().await);
    let mut complete = 0;
    for unit in 1..=UNITS {
        let arrived = harvest.numbers(&format!("press-{unit}"), "answers");
        let answers = answered(&endpoint, unit).await;
        let missing: Vec<_> = answers.keys().filter(|number| !arrived.contains_key(number)).collect();
        assert!(missing.is_empty(), "press-{unit}: {} answered, missing {missing:?}", answers.len());
        assert!(arrived.values().all(|times| *times == 1), "press-{unit}: numbers under two identities");
        complete += answers.len();
    }
    println!("longest flush {:?}, {complete} answers, all arrived; {}", longest(&status), harvest.summary());
}

/// After a sync has not ended for so long the agent goes on in memory, and after so long it ends.
const GIVEN_UP: Duration = Duration::from_secs(20);

/// A card hangs at once for so long, and then writes as ever.
const HANGS: Duration = Duration::from_secs(27);

const ENDED: Duration = Duration::from_secs(900);

#[tokio::test]
async fn a_flush_that_hangs_costs_no_poll_and_one_that_never_ends_nothing_that_was_stored() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }");
    let configuration =
        configuration.link("hall", endpoint.address(), "").device("press-1", "hall", 1, COUNTER, "100ms");
    site.configure(&calm(configuration, &mut servers).await);
    let (library, hangs) = (preload(&site), site.path().join("hung"));
    let mut agent =
        site.start_with(|command| command.env("LD_PRELOAD", &library).env("LINESIDE_TEST_HUNG_SYNC", &hangs));
    consumer.until("the first readings", |harvest| harvest.readings.len() > 50).await;

    // When a sync does not end, then polling goes on, and so does everything that is asked.
    std::fs::write(&hangs, "").unwrap();
    let (begun, before) = (Instant::now(), endpoint.counters().answers);
    let polls = HANGS.as_millis() as u64 / 100;
    endpoint.wait_for(|counters| counters.answers > before + polls).await;
    let in_memory = |status: &serde_json::Value| status["store"]["delivered_unstored"].as_u64().unwrap() > 0;
    let status = site.until("readings delivered that no disk has taken", in_memory).await;
    assert_no_poll_waited(&status);
    let reason = status["store"]["not_writable_because"].as_str().unwrap();
    assert!(reason.contains("a flush did not end"), "{status}");
    if std::env::var_os("LINESIDE_LONG").is_some() {
        it_ends_by_itself(&site, &mut agent, begun).await;
        std::fs::remove_file(&hangs).unwrap();
        agent = site.start();
        agent.logged("lineside started").await;
    }

    // When it ends after all, or in a new process, then everything goes on and what was stored is there.
    std::fs::remove_file(&hangs).ok();
    let before = consumer.harvest.readings.len();
    consumer.until("readings after that", |harvest| harvest.readings.len() > before + 100).await;
    let is_settled = |status: &serde_json::Value| status["store"]["waiting_bytes"] == 0 && is_calm_polled(status);
    let status = site.until("everything stored, and polls", is_settled).await;
    assert_eq!(status["store"]["quarantined"], 0, "{status}");
    assert_no_poll_waited(&status);
    agent.terminate();
    assert!(agent.exit().await.success(), "{}", agent.log());
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    let arrived = harvest.numbers("press-1", "answers");
    assert!(arrived.values().all(|times| *times == 1), "numbers under two identities");
    if std::env::var_os("LINESIDE_LONG").is_none() {
        let answers = answered(&endpoint, 1).await;
        let missing: Vec<_> = answers.keys().filter(|number| !arrived.contains_key(number)).collect();
        assert!(missing.is_empty(), "{} answered, missing {missing:?}", answers.len());
    }
}

/// The sync that `begun` says never ends: the agent says so, sends what it cannot store, and ends for a new process.
async fn it_ends_by_itself(site: &Site, agent: &mut support::site::Agent, begun: Instant) {
    let mut told = None;
    while agent.is_running() && begun.elapsed() < ENDED {
        if begun.elapsed() > GIVEN_UP + Duration::from_secs(30) && told.is_none() {
            told = Some(site.status().await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_no_poll_waited(&told.expect("it ran for long after the sync was given up"));
    assert!(!agent.is_running(), "it still runs after {:?}", begun.elapsed());
    assert!(!agent.exit().await.success(), "{}", agent.log());
    println!("ended by itself after {:.0?}", begun.elapsed());
}
