//! The real program between simulated devices and a real Mosquitto: everything it says on its topics, in both versions
//! of MQTT and both encodings.

#![cfg(test)]

mod support;

use lineside::model::Transition;
use lineside::simulator::{Misbehaviour, Servers};
use serde_json::Value;
use support::broker::{Broker, Setup};
use support::certificates::Certificates;
use support::consumer::{Consumer, Harvest};
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters};
use support::site::{Configuration, Site};

/// What a health message has to say, at least.
const HEALTH_SECTIONS: [&str; 14] = [
    "version", "site", "gateway", "time", "started", "boot", "clock", "warnings", "links", "ingest", "store", "lanes",
    "uplink", "mqtt",
];

#[tokio::test]
async fn mqtt_5_columnar() {
    the_whole_story("5", "columnar").await;
}

#[tokio::test]
async fn mqtt_5_json() {
    the_whole_story("5", "json").await;
}

#[tokio::test]
async fn mqtt_3_1_1_columnar() {
    the_whole_story("3.1.1", "columnar").await;
}

#[tokio::test]
async fn mqtt_3_1_1_json() {
    the_whole_story("3.1.1", "json").await;
}

async fn the_whole_story(protocol: &str, encoding: &str) {
    // Given two devices on one link.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let mqtt = format!("protocol = \"{protocol}\"\nbatch = {{ encoding = \"{encoding}\", max_age = \"300ms\" }}");
    let configuration = Configuration::to_port(broker.port(), &mqtt)
        .link("hall", endpoint.address(), "timeout = \"100ms\"")
        .device("press-1", "hall", 1, COUNTER, "100ms")
        .device("press-2", "hall", 2, COUNTER, "100ms");
    site.configure(&configuration);

    // When the agent runs and one device dies and returns.
    let mut agent = site.start();
    consumer.until("readings", |harvest| numbers(harvest, "press-1") > 5 && numbers(harvest, "press-2") > 5).await;
    endpoint.misbehave(2, Some(Misbehaviour::Silent)).await.unwrap();
    consumer.until("the alarm", |harvest| harvest.transitions("DeviceSilent").len() == 1).await;
    endpoint.misbehave(2, None).await.unwrap();
    consumer.until("its end", |harvest| harvest.transitions("DeviceSilent").len() == 2).await;
    let before = numbers(&consumer.harvest, "press-2");
    consumer.until("readings of the device that returned", |harvest| numbers(harvest, "press-2") > before + 5).await;
    consumer.until("a health message", |harvest| !harvest.health.is_empty()).await;

    // Then what it says is complete, and complete for those who come later.
    let harvest = &consumer.harvest;
    harvest.assert_sound();
    assert_online(&harvest.states[0].1);
    assert_health(&harvest.health[0]);
    assert_alarm(harvest);
    assert!(harvest.readings.values().any(|taken| taken.quality == "bad: timeout" && taken.number.is_none()));
    let mut late = Consumer::start(&broker).await;
    late.catch_up(&broker).await;
    assert!(late.harvest.states.iter().any(|(retained, state)| *retained && state["online"] == true));
    late.until("readings for one who comes later", |harvest| numbers(harvest, "press-2") > 0).await;
    assert_eq!(late.harvest.catalogue, consumer.harvest.catalogue);
    assert_eq!(late.harvest.unlisted().len(), 0);

    // And when it is killed, the broker says so.
    agent.kill();
    consumer.until("the will", |harvest| harvest.states.last().is_some_and(|(_, state)| is_offline(state))).await;
    consumer.harvest.assert_sound();
    for (device, unit) in [("press-1", 1), ("press-2", 2)] {
        let answers = answered(&endpoint, unit).await;
        let arrived = consumer.harvest.numbers(device, "answers");
        assert!(arrived.iter().all(|(number, times)| answers.contains_key(number) && *times == 1), "{arrived:?}");
    }
    assert_eq!(consumer.harvest.unlisted().len(), 0);
}

fn numbers(harvest: &Harvest, device: &str) -> usize {
    harvest.numbers(device, "answers").len()
}

fn is_offline(state: &Value) -> bool {
    state["online"] == false && state["site"] == "lyon" && state["gateway"] == "gw-01"
}

fn assert_online(state: &Value) {
    assert_eq!((&state["online"], &state["site"], &state["gateway"]), (&true.into(), &"lyon".into(), &"gw-01".into()));
    for id in ["boot", "epoch"] {
        assert_eq!(state[id].as_str().map(str::len), Some(32), "{state}");
    }
    for key in ["version", "started", "capabilities"] {
        assert!(!state[key].is_null(), "{key}: {state}");
    }
}

fn assert_health(health: &Value) {
    for section in HEALTH_SECTIONS {
        assert!(!health[section].is_null(), "{section}: {health}");
    }
    let devices = health["links"][0]["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2, "{health}");
    assert_eq!(health["mqtt"]["state"], "connected");
    assert!(health["process"]["memory_peak_bytes"].as_u64().unwrap() > 0);
}

fn assert_alarm(harvest: &Harvest) {
    let [raised, cleared] = harvest.transitions("DeviceSilent")[..] else { panic!("{}", harvest.summary()) };
    assert_eq!((raised.transition, cleared.transition), (Transition::Raised, Transition::Cleared));
    assert!(raised.time < cleared.time);
    for transition in [raised, cleared] {
        assert_eq!(transition.labels["device"], "press-2");
        assert_eq!(transition.labels["link"], "hall");
        assert!(!transition.annotations["summary"].is_empty());
    }
}

#[tokio::test]
async fn over_tls_with_a_client_certificate() {
    // Given a broker that only lets in who has a certificate of its authority.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let certificates = Certificates::from("plant authority");
    let broker = Broker::with(Setup { certificates: Some(&certificates), ..Setup::default() }).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let (certificate, key) = certificates.client();
    let files = format!("ca_file = {:?}\ncert_file = {certificate:?}\nkey_file = {key:?}", certificates.ca());
    let url = format!("mqtts://localhost:{}", broker.tls_port());
    let configuration = Configuration::to(url, &format!("{files}\nbatch = {{ max_age = \"300ms\" }}"))
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "50ms");
    site.configure(&configuration);

    // When the agent runs and is stopped.
    let mut agent = site.start();
    consumer.until("readings", |harvest| numbers(harvest, "press-1") > 20).await;
    agent.terminate();
    assert!(agent.exit().await.success());

    // Then all of it arrived, and the goodbye too.
    consumer.catch_up(&broker).await;
    let harvest = &consumer.harvest;
    harvest.assert_sound();
    let answers: Vec<u64> = answered(&endpoint, 1).await.into_keys().collect();
    assert_eq!(harvest.numbers("press-1", "answers").into_keys().collect::<Vec<_>>(), answers);
    assert!(is_offline(&harvest.states.last().unwrap().1));
}
