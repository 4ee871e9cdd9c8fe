//! A disk that is full or read-only: the agent starts, polls and delivers all the same, and goes on by itself when the
//! disk takes something again. On a real file system, which is why it needs root.

#![cfg(test)]

mod support;

use std::time::Duration;

use lineside::profile::{Protocol, file};
use lineside::simulator::{Course, Device, Endpoint, Framing, Keep, Servers};
use serde_json::Value;
use support::broker::Broker;
use support::consumer::{Consumer, Harvest};
use support::plant::{COUNTER, COUNTER_PROFILE, answered, assert_no_poll_waited, calm, counters, start_polling};
use support::site::{Agent, Configuration, Site};
use support::small_disk::{Card, SmallDisk};

/// Beside the counter a device whose readings fill a disk: sixty values that wander, ten times a second.
async fn busy(servers: &mut Servers) -> (Endpoint, String) {
    let points: Vec<String> =
        (0..60).map(|point| format!("  {{ name = \"noise_{point}\", address = {} }},", 2 * point)).collect();
    let profile = format!(
        "manufacturer = \"lineside\"\nmodel = \"noise\"\nmodbus = {{ table = \"holding\", encoding = \"f32\" }}\n\
         point = [\n{}\n]\n",
        points.join("\n")
    );
    let parsed = file::parse("noise.toml", "noise", &profile).unwrap();
    let Protocol::Modbus(modbus) = parsed.protocol else { panic!("a Modbus profile") };
    let walk = |_| Course::Walk { mean: 1000.0, spread: 300.0, memory: Duration::from_secs(1) };
    let courses = (0..modbus.points.len()).map(|point| (Some(point), walk(point))).collect();
    let device = Device::new(1, modbus.points.clone(), modbus.limits).moving(courses, Duration::ZERO, 1).unwrap();
    (servers.tcp(Framing::Tcp, vec![device], Keep::Counters).await.unwrap(), profile)
}

fn configuration(broker: &Broker, endpoint: &Endpoint) -> Configuration {
    Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "timeout = \"500ms\"")
        .device("press-1", "hall", 1, COUNTER, "50ms")
}

fn site(broker: &Broker, endpoint: &Endpoint) -> Site {
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    site.configure(&configuration(broker, endpoint));
    site
}

fn count(harvest: &Harvest) -> usize {
    harvest.numbers("press-1", "answers").len()
}

async fn more(consumer: &mut Consumer, what: &str) {
    let before = count(&consumer.harvest);
    consumer.until(what, |harvest| count(harvest) > before + 20).await;
}

fn unstored(status: &Value) -> u64 {
    status["store"]["delivered_unstored"].as_u64().unwrap()
}

fn trouble(status: &Value) -> Option<&str> {
    status["store"]["not_writable_because"].as_str()
}

/// Everything that the device ever answered has arrived, each number under one identity.
async fn assert_complete(
    consumer: &mut Consumer,
    broker: &Broker,
    site: &Site,
    endpoint: &Endpoint,
    agent: &mut Agent,
) {
    agent.terminate();
    assert!(agent.exit().await.success(), "{}", agent.log());
    consumer.catch_up(broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.assert_sound();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    for point in ["answers", "answers_again"] {
        let arrived = harvest.numbers("press-1", point);
        assert!(arrived.values().all(|times| *times == 1), "numbers under two identities: {arrived:?}");
        let answers = answered(endpoint, 1).await;
        let missing: Vec<_> = answers.keys().filter(|number| !arrived.contains_key(number)).collect();
        assert!(missing.is_empty(), "{} answered, missing {missing:?}", answers.len());
    }
    assert!(harvest.unlisted().is_empty(), "series without a name: {:?}", harvest.unlisted());
    println!("{}", harvest.summary());
}

#[tokio::test]
async fn it_starts_for_the_first_time_on_a_full_disk() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(&broker, &endpoint);
    let disk = SmallDisk::at(&site.store());
    disk.fill();

    // Given a disk without a free byte, when it starts, then it polls, delivers, and says what is wrong.
    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "readings that were never stored").await;
    let status = site.status().await;
    assert_eq!(trouble(&status), Some("no space left on device"));
    assert!(unstored(&status) > 0, "{status}");
    consumer.until("the alarm", |harvest| harvest.transitions("StoreNotWritable").len() == 1).await;
    let shown = site.shown().await;
    assert!(
        shown.contains("the store cannot be written since") && shown.contains("no space left on device"),
        "{shown}"
    );

    // When there is room, then it goes on by itself, and everything is stored again.
    disk.make_room();
    site.until("a store that works", |status| trouble(status).is_none()).await;
    more(&mut consumer, "stored readings").await;
    consumer.until("the end of the alarm", |harvest| harvest.transitions("StoreNotWritable").len() == 2).await;
    assert_eq!(consumer.harvest.epochs().len(), 2, "the volatile one, and that of the store");
    assert_complete(&mut consumer, &broker, &site, &endpoint, &mut agent).await;
}

#[tokio::test]
async fn it_goes_on_while_something_else_fills_the_disk() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let (noise, profile) = busy(&mut servers).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE), ("noise", &profile)]);
    // sled writes into room that it took beforehand, and would notice only after half a MiB.
    let configuration = configuration(&broker, &endpoint)
        .store("engine = \"segments\"")
        .link("yard", noise.address(), "")
        .device("press-2", "yard", 1, "noise", "50ms");
    site.configure(&calm(configuration, &mut servers).await);
    let disk = SmallDisk::at(&site.store());
    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "the first readings").await;

    // When something else fills the disk, and goes away again.
    disk.fill();
    site.until("trouble", |status| trouble(status) == Some("no space left on device")).await;
    let full = site.until("readings that are not stored", |status| unstored(status) > 0).await;
    site.until("more of them", |status| unstored(status) > unstored(&full) + 20).await;
    disk.make_room();
    site.until("a store that works", |status| trouble(status).is_none()).await;
    more(&mut consumer, "stored readings").await;

    // Then no poll was skipped, nothing is lost, and the log says it once each time.
    let status = site.status().await;
    assert_no_poll_waited(&status);
    assert_eq!(agent.log().matches("store cannot be used").count(), 1, "{}", agent.log());
    assert_complete(&mut consumer, &broker, &site, &endpoint, &mut agent).await;
}

#[tokio::test]
async fn it_starts_on_a_disk_that_is_read_only_with_what_it_stored_before() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(&broker, &endpoint);
    let disk = SmallDisk::at(&site.store());
    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "the first readings").await;
    agent.terminate();
    agent.exit().await;
    disk.make_read_only();

    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "readings that were never stored").await;
    assert_eq!(trouble(&site.status().await), Some("read-only file system"));
    disk.make_writable();
    site.until("a store that works", |status| trouble(status).is_none()).await;
    more(&mut consumer, "stored readings").await;

    // The ids mean what they meant, and the epoch of the store is the one before.
    assert_eq!(consumer.harvest.epochs().len(), 2);
    assert_complete(&mut consumer, &broker, &site, &endpoint, &mut agent).await;
}

#[tokio::test]
async fn it_goes_on_while_its_disk_is_remounted_read_only_and_back() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let (noise, profile) = busy(&mut servers).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE), ("noise", &profile)]);
    let configuration = configuration(&broker, &endpoint)
        .link("yard", noise.address(), "")
        .device("press-2", "yard", 1, "noise", "50ms");
    site.configure(&calm(configuration, &mut servers).await);
    let disk = SmallDisk::at(&site.store());
    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "the first readings").await;

    // Given a store that had to let go of its files, without which the system does not remount anything.
    disk.fill();
    site.until("trouble", |status| trouble(status) == Some("no space left on device")).await;
    disk.make_read_only_when_let_go().await;
    let read_only = site.until("the new reason", |status| trouble(status) == Some("read-only file system")).await;
    site.until("readings that are not stored", |status| unstored(status) > unstored(&read_only) + 20).await;
    more(&mut consumer, "readings that were never stored").await;
    consumer.until("the alarm", |harvest| harvest.transitions("StoreNotWritable").len() == 1).await;

    // When it can be written again, then it goes on by itself, no poll was skipped and nothing is lost.
    disk.make_writable();
    disk.make_room();
    let status = site.until("a store that works", |status| trouble(status).is_none()).await;
    more(&mut consumer, "stored readings").await;
    consumer.until("the end of the alarm", |harvest| harvest.transitions("StoreNotWritable").len() == 2).await;
    assert_no_poll_waited(&status);
    assert_eq!(consumer.harvest.epochs().len(), 2, "the volatile one, and that of the store");
    assert_complete(&mut consumer, &broker, &site, &endpoint, &mut agent).await;
}

#[tokio::test]
async fn an_error_of_the_card_that_makes_it_read_only_under_the_open_store_costs_nothing_stored() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    site.configure(&calm(configuration(&broker, &endpoint), &mut servers).await);
    let card = Card::at(&site.store());
    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "the first readings").await;

    let failed_at = *answered(&endpoint, 1).await.keys().last().unwrap();

    // When the kernel makes the card read-only while the store is open, then polling and delivering go on.
    card.fail();
    let failed = site.until("trouble", |status| trouble(status) == Some("read-only file system")).await;
    site.until("readings that are not stored", |status| unstored(status) > unstored(&failed) + 20).await;
    more(&mut consumer, "readings that were never stored").await;
    consumer.until("the alarm", |harvest| harvest.transitions("StoreNotWritable").len() == 1).await;
    let shown = site.shown().await;
    assert!(shown.contains("the store cannot be written since"), "{shown}");
    let status = site.status().await;
    assert_no_poll_waited(&status);

    // When its owner has it checked, which takes stopping the agent, then the store is what it was.
    let stopped_at = *answered(&endpoint, 1).await.keys().last().unwrap();
    agent.terminate();
    agent.exit().await;
    card.repair();
    let mut agent = start_polling(&site, &endpoint).await;
    more(&mut consumer, "stored readings").await;
    let status = site.status().await;
    assert_eq!((trouble(&status), status["store"]["quarantined"].as_u64()), (None, Some(0)), "{status}");
    agent.terminate();
    assert!(agent.exit().await.success(), "{}", agent.log());
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    assert_eq!(harvest.epochs().len(), 2, "the volatile one, and that of the store");
    // What was being stored when the card failed, a commit interval of a second, nobody may send under another identity:
    // it could be on the card. That, and the last batch before the stop, were only in memory.
    let arrived = harvest.numbers("press-1", "answers");
    assert!(arrived.values().all(|times| *times == 1), "numbers under two identities: {arrived:?}");
    let answers = answered(&endpoint, 1).await;
    let missing: Vec<u64> = answers.keys().filter(|number| !arrived.contains_key(number)).copied().collect();
    let is_known =
        |number: &u64| [failed_at, stopped_at].iter().any(|at| (at.saturating_sub(30)..at + 30).contains(number));
    assert!(
        missing.iter().all(is_known) && missing.len() < 50,
        "{} answered, failed at {failed_at}, stopped at {stopped_at}, missing {missing:?}",
        answers.len()
    );
    println!("{} answered, {} of a second before the error and of the stop missing", answers.len(), missing.len());
}
