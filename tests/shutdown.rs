//! Signals to the real program: told to stop, told to read its configuration again, started twice, watched by a service
//! manager.

#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use lineside::simulator::{Endpoint, Misbehaviour, Servers};
use support::broker::{Broker, Setup};
use support::consumer::{Consumer, Harvest};
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters};
use support::site::{Agent, Configuration, Site};
use support::within;
use tokio::net::UnixDatagram;

/// Within this the program is gone when it is told to stop.
const GONE: Duration = Duration::from_secs(5);

fn site() -> Site {
    Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)])
}

async fn forgetful_broker() -> Broker {
    Broker::with(Setup { lines: &["persistence false"], ..Setup::default() }).await
}

fn count(harvest: &Harvest, device: &str) -> usize {
    harvest.numbers(device, "answers").len()
}

/// Told to stop, it goes in time and says that all is well.
async fn stop(agent: &mut Agent) {
    let begun = Instant::now();
    agent.terminate();
    let status = agent.exit().await;
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < GONE, "took {:?}", begun.elapsed());
}

/// Every answer of the device is there, once.
async fn assert_complete(harvest: &Harvest, device: &str, endpoint: &Endpoint, unit: u8) {
    let answers: Vec<u64> = answered(endpoint, unit).await.into_keys().collect();
    for point in ["answers", "answers_again"] {
        let arrived = harvest.numbers(device, point);
        assert!(arrived.values().all(|times| *times == 1), "{device}/{point}: numbers under two identities");
        assert_eq!(arrived.into_keys().collect::<Vec<_>>(), answers, "{device}/{point}");
    }
}

#[tokio::test]
async fn at_sigterm_everything_polled_is_delivered() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site();
    // A batch is far from due when the signal comes.
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"1h\" }")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms");
    site.configure(&configuration);
    let mut agent = site.start();
    endpoint.wait_for(|counters| counters.answers > 150).await;

    stop(&mut agent).await;

    consumer.catch_up(&broker).await;
    consumer.harvest.assert_sound();
    assert_complete(&consumer.harvest, "press-1", &endpoint, 1).await;
    assert_eq!(consumer.harvest.states.last().unwrap().1["online"], false);
    assert!(site.undelivered().await.is_empty());
}

#[tokio::test]
async fn at_sigterm_without_broker_everything_polled_is_stored_and_comes_later() {
    // Given a broker that went away a while ago.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let mut broker = forgetful_broker().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms");
    site.configure(&configuration);
    let mut agent = site.start();
    consumer.until("the first readings", |harvest| count(harvest, "press-1") > 20).await;
    broker.kill();
    let before = endpoint.counters().answers;
    endpoint.wait_for(|counters| counters.answers > before + 120).await;

    // When the agent is told to stop.
    stop(&mut agent).await;

    // Then the store has what the consumer has not, and delivers it when both are back.
    let mut both = consumer.harvest.clone();
    both.add_stored(&site.undelivered().await);
    both.assert_sound();
    assert_complete(&both, "press-1", &endpoint, 1).await;
    broker.restart().await;
    consumer.subscribed(&broker).await;
    let mut agent = site.start();
    let answers = answered(&endpoint, 1).await.len();
    consumer.until("the backlog", |harvest| count(harvest, "press-1") > answers).await;
    stop(&mut agent).await;
    consumer.catch_up(&broker).await;
    consumer.harvest.assert_sound();
    assert_complete(&consumer.harvest, "press-1", &endpoint, 1).await;
}

#[tokio::test]
async fn at_sigterm_the_answer_of_a_slow_device_is_waited_for_but_not_that_of_a_silent_one() {
    // Given links with a timeout of two seconds, and requests in hand on each of them.
    let mut servers = Servers::default();
    let quick = counters(&mut servers, &[1]).await;
    let slow = counters(&mut servers, &[1]).await;
    let silent = counters(&mut servers, &[1]).await;
    slow.misbehave(1, Some(Misbehaviour::Slow(Duration::from_millis(1700)))).await.unwrap();
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site();
    let mut configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }");
    for (name, endpoint) in [("quick", &quick), ("slow", &slow), ("silent", &silent)] {
        configuration =
            configuration.link(name, endpoint.address(), "timeout = \"2s\"").device(name, name, 1, COUNTER, "50ms");
    }
    site.configure(&configuration);
    let mut agent = site.start();
    consumer.until("the first readings", |harvest| count(harvest, "quick") > 5 && count(harvest, "silent") > 5).await;
    silent.misbehave(1, Some(Misbehaviour::Silent)).await.unwrap();
    let asked = silent.counters().unanswered;
    silent.wait_for(|counters| counters.unanswered > asked).await;
    let asked = slow.counters().requests;
    slow.wait_for(|counters| counters.requests > asked).await;

    // When the agent is told to stop.
    stop(&mut agent).await;

    // Then the answers of all of them arrived.
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    assert_eq!(slow.counters().requests, slow.counters().answers);
    for (name, endpoint) in [("quick", &quick), ("slow", &slow), ("silent", &silent)] {
        assert_complete(&harvest, name, endpoint, 1).await;
    }
}

#[tokio::test]
async fn a_reload_costs_no_reading_of_an_unchanged_device() {
    // Given one link that stays as it is, and one that will change.
    let mut servers = Servers::default();
    let kept = counters(&mut servers, &[1]).await;
    let changed = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site();
    let configured = |mqtt: &str, interval: &str| {
        Configuration::to_port(broker.port(), mqtt)
            .link("kept", kept.address(), "")
            .device("press-1", "kept", 1, COUNTER, "20ms")
            .link("changed", changed.address(), "")
            .device("press-2", "changed", 1, COUNTER, interval)
    };
    let mqtt = "batch = { max_age = \"300ms\" }";
    site.configure(&configured(mqtt, "20ms"));
    let mut agent = site.start();
    consumer.until("the first readings", |harvest| count(harvest, "press-2") > 20).await;

    // When a device gets another interval and a neighbour, and then the batches another age.
    let more = configured(mqtt, "50ms").device("press-3", "changed", 2, COUNTER, "20ms");
    site.configure(&more);
    agent.hang_up();
    agent.logged("configuration reloaded").await;
    consumer.until("readings of the new device", |harvest| count(harvest, "press-3") > 20).await;
    let other = configured("batch = { max_age = \"200ms\" }", "50ms").device("press-3", "changed", 2, COUNTER, "20ms");
    site.configure(&other);
    agent.hang_up();
    agent.logged_times("configuration reloaded", 2).await;
    let before = count(&consumer.harvest, "press-1");
    consumer.until("readings after the reload", |harvest| count(harvest, "press-1") > before + 50).await;
    stop(&mut agent).await;

    // Then every answer arrived, of all three, and the link that did not change kept its connection.
    consumer.catch_up(&broker).await;
    consumer.harvest.assert_sound();
    assert_complete(&consumer.harvest, "press-1", &kept, 1).await;
    assert_complete(&consumer.harvest, "press-2", &changed, 1).await;
    assert_complete(&consumer.harvest, "press-3", &changed, 2).await;
    assert_eq!((kept.counters().connections, changed.counters().connections), (1, 2));
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site();
    let good = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms");
    site.configure(&good);
    let mut agent = site.start();
    consumer.until("the first readings", |harvest| count(harvest, "press-1") > 20).await;

    // When one device is added rightly and one wrongly.
    let bad = good.clone().device("press-2", "hall", 2, COUNTER, "20ms").device("Press 3", "hall", 250, "none", "0");
    site.configure(&bad.lines("colour = \"red\""));
    agent.hang_up();
    agent.logged("profile = \"none\"").await;

    // Then all that is wrong is in the log, and the agent goes on as before.
    agent.logged_times("configuration not reloaded", 4).await;
    let before = count(&consumer.harvest, "press-1");
    consumer.until("readings after that", |harvest| count(harvest, "press-1") > before + 50).await;
    stop(&mut agent).await;
    consumer.catch_up(&broker).await;
    consumer.harvest.assert_sound();
    assert_complete(&consumer.harvest, "press-1", &endpoint, 1).await;
    assert_eq!(count(&consumer.harvest, "press-2"), 0);
    assert_eq!(endpoint.counters().connections, 1);
    assert!(!agent.log().contains("configuration reloaded"));
}

#[tokio::test]
async fn a_second_instance_on_the_same_store_goes_at_once_and_says_why() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms");
    site.configure(&configuration);
    let mut first = site.start();
    consumer.until("the first readings", |harvest| count(harvest, "press-1") > 5).await;

    let mut second = site.start();
    let status = second.exit().await;

    assert_eq!(status.code(), Some(4));
    assert_eq!(second.log(), format!("{}: in use by another process\n", site.store().display()));
    assert_eq!(endpoint.counters().connections, 1);
    assert_eq!(site.status().await["mqtt"]["connects"], 1);
    let before = count(&consumer.harvest, "press-1");
    consumer.until("readings of the first instance", |harvest| count(harvest, "press-1") > before + 10).await;
    stop(&mut first).await;
}

#[tokio::test]
async fn the_service_manager_is_told() {
    // Given a service manager that wants a sign of life each second.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let site = site();
    let configuration = Configuration::to_port(9, "")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms");
    site.configure(&configuration);
    let path = site.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();

    // When the agent starts, works, reloads and stops, then each step is told, although there is no broker.
    let mut agent = site.start_with(|command| command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000"));
    assert!(next_but_watchdog(&manager).await.contains("READY=1"));
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(next(&manager).await, "WATCHDOG=1");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "four signs of life took {:?}", begun.elapsed());
    agent.hang_up();
    let reloading = next_but_watchdog(&manager).await;
    assert!(reloading.contains("RELOADING=1") && reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    assert!(next_but_watchdog(&manager).await.contains("READY=1"));
    agent.terminate();
    assert_eq!(next_but_watchdog(&manager).await, "STOPPING=1");
    assert!(agent.exit().await.success());
}

async fn next(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = within("a notification", manager.recv(&mut bytes)).await.unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

async fn next_but_watchdog(manager: &UnixDatagram) -> String {
    loop {
        let notification = next(manager).await;
        if notification != "WATCHDOG=1" {
            return notification;
        }
    }
}
