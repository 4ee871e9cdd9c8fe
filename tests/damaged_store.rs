//! The agent over a damaged store: it polls at once, what is undamaged arrives under its old identity, what is not is
//! named, people are told, and the next start finds nothing wrong any more.

#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lineside::database::{Database, EngineKind};
use lineside::model::Transition;
use lineside::simulator::{Endpoint, Servers};
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters, start_polling};
use support::site::{Configuration, Site};

/// Commits that wait when the store is damaged.
const COMMITS: u64 = 25;

/// Nothing listens there.
const NOWHERE: u16 = 1;

fn configuration(port: u16, endpoint: &Endpoint, engine: EngineKind) -> Configuration {
    Configuration::to_port(port, "batch = { max_age = \"300ms\" }")
        .store(&format!("engine = \"{engine}\"\ncommit_interval = \"100ms\""))
        .link("hall", endpoint.address(), "timeout = \"500ms\"")
        .device("press-1", "hall", 1, COUNTER, "50ms")
}

/// A site, its device, and a store in which commits wait since no broker answers. The agent was killed.
async fn outage(servers: &mut Servers, engine: EngineKind) -> (Site, Endpoint) {
    let endpoint = counters(servers, &[1]).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    site.configure(&configuration(NOWHERE, &endpoint, engine));
    let mut agent = site.start();
    agent.logged("lineside started").await;
    let waits = |status: &serde_json::Value| status["lanes"]["telemetry"]["pending_commits"].as_u64() >= Some(COMMITS);
    site.until("commits that wait", waits).await;
    agent.kill();
    (site, endpoint)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let (directories, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    found.extend(directories.iter().flat_map(|path| files(path)));
    found
}

/// Overwrites every copy of one commit of telemetry.
fn destroy(store: &Path, sequence: u64) {
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("database");
    assert!(
        std::process::Command::new("cp").arg("-r").arg(store.join("database")).arg(&copied).status().unwrap().success()
    );
    let key = [&[b'c', 1][..], &sequence.to_be_bytes()].concat();
    let commit = Database::open(&copied, EngineKind::default()).unwrap().get(&key).unwrap().unwrap();
    let mut copies = 0;
    for path in files(&store.join("database")) {
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for at in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&commit)) {
            file.write_all_at(&[0xa5; 40], at as u64 + 60).unwrap();
            copies += 1;
        }
    }
    assert!(copies > 0);
}

#[tokio::test]
async fn what_is_undamaged_arrives_and_what_is_not_is_named() {
    for engine in EngineKind::ALL {
        damaged(engine).await;
    }
}

async fn damaged(engine: EngineKind) {
    // Given a store in which one of many commits is damaged, in the midst of an outage.
    const DESTROYED: u64 = 12;
    let mut servers = Servers::default();
    let (site, endpoint) = outage(&mut servers, engine).await;
    destroy(&site.store(), DESTROYED);
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    site.configure(&configuration(broker.port(), &endpoint, engine));

    // When the agent starts again.
    let mut agent = start_polling(&site, &endpoint).await;
    consumer.until("the alarm and its end", |harvest| harvest.transitions("StoreDamaged").len() == 2).await;
    consumer.until("the gap record", |harvest| !harvest.named().is_empty()).await;
    let until = endpoint.counters().answers;
    let is_there = |number: &u64| *number > until;
    consumer.until("new readings", |harvest| harvest.numbers("press-1", "answers").keys().any(is_there)).await;

    // And again, and again.
    for _ in 0..2 {
        agent.kill();
        agent = start_polling(&site, &endpoint).await;
        agent.logged("lineside started").await;
        let status = site.until("an open store", |status| status["store"]["writable"] == true).await;
        assert_eq!((&status["store"]["quarantined"], &status["store"]["damaged"]), (&0.into(), &0.into()), "{engine}");
    }
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then everything else arrived, in the one epoch there is, and the gap record names the one commit.
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    assert_eq!(harvest.epochs().len(), 1, "{engine}");
    let named = harvest.named();
    let sequences: Vec<_> = named.iter().map(|(_, _, first, last)| (first.0, last.0)).collect();
    assert_eq!(sequences, [(DESTROYED, DESTROYED)], "{engine}");
    let arrived = harvest.numbers("press-1", "answers");
    let answered: BTreeSet<u64> = answered(&endpoint, 1).await.into_keys().collect();
    let first_missing = answered.iter().filter(|number| !arrived.contains_key(number)).count();
    // What was polled in the last interval before each of three kills, and one commit.
    assert!((1..40).contains(&first_missing), "{engine}: {first_missing} of {} are missing", answered.len());
    let transitions: Vec<Transition> =
        harvest.transitions("StoreDamaged").iter().map(|transition| transition.transition).collect();
    assert_eq!(transitions, [Transition::Raised, Transition::Cleared], "{engine}");
    println!("{engine}: {} of {} answers arrived, {named:?}", arrived.len(), answered.len());
}

#[tokio::test]
async fn files_that_are_gone_are_named_and_the_epoch_goes_on() {
    let mut servers = Servers::default();
    let (site, endpoint) = outage(&mut servers, EngineKind::default()).await;
    std::fs::remove_dir_all(site.store().join("database")).unwrap();
    std::fs::remove_file(site.store().join("format")).unwrap();
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    site.configure(&configuration(broker.port(), &endpoint, EngineKind::default()));

    let mut agent = start_polling(&site, &endpoint).await;
    consumer.until("the alarm and its end", |harvest| harvest.transitions("StoreDamaged").len() == 2).await;
    consumer.until("new readings", |harvest| harvest.numbers("press-1", "answers").len() > 20).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    consumer.harvest.assert_sound();
    let named = consumer.harvest.named();
    let telemetry = named.iter().find(|gap| gap.1 == lineside::model::Lane::Telemetry).unwrap();
    assert_eq!(telemetry.2.0, 1);
    assert!(telemetry.3.0 >= COMMITS, "{named:?}");
    assert!(consumer.harvest.readings.keys().all(|identity| identity.sequence > telemetry.3));
    assert_eq!(consumer.harvest.epochs().into_iter().next(), Some(telemetry.0), "the epoch goes on");
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_set_aside_and_left_alone() {
    let mut servers = Servers::default();
    let (site, endpoint) = outage(&mut servers, EngineKind::default()).await;
    std::fs::write(site.store().join("format"), "lineside store 9 9\n").unwrap();
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    site.configure(&configuration(broker.port(), &endpoint, EngineKind::default()));

    let refused = site.lineside(&["store", "stats", "--store", &site.store().display().to_string()]).await;
    let mut agent = start_polling(&site, &endpoint).await;
    consumer.until("the alarm", |harvest| harvest.transitions("StoreNewer").len() == 2).await;
    consumer.until("new readings", |harvest| harvest.numbers("press-1", "answers").len() > 20).await;
    agent.terminate();
    assert!(agent.exit().await.success());

    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("format 9 of a newer release"), "{said}");
    let aside = site.store().join("newer-format-9-0");
    assert_eq!(std::fs::read_to_string(aside.join("format")).unwrap(), "lineside store 9 9\n");
    assert!(EngineKind::found_in(&aside.join("database")).is_some() && aside.join("mark").exists());
    consumer.catch_up(&broker).await;
    consumer.harvest.assert_sound();
}
