//! Brokers that do not take everything: too large, or not allowed. Records stay until they are taken.

#![cfg(test)]

mod support;

use std::time::Duration;

use lineside::model::Transition;
use lineside::simulator::uniform::UNIFORM_PROFILE;
use lineside::simulator::{Endpoint, Endpoints, Keep, Servers, UniformSpec, serve_uniform};
use support::broker::{Broker, Setup};
use support::consumer::{Consumer, Harvest};
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters};
use support::site::{Configuration, Site};

/// Points of a device whose readings of one moment are too much for a small message.
const POINTS: u16 = 60;

fn count(harvest: &Harvest, device: &str, point: &str) -> usize {
    harvest.numbers(device, point).len()
}

async fn assert_complete(harvest: &Harvest, device: &str, point: &str, endpoint: &Endpoint) {
    let answers: Vec<u64> = answered(endpoint, 1).await.into_keys().collect();
    let arrived = harvest.numbers(device, point);
    assert!(arrived.values().all(|times| *times == 1), "{device}/{point}: numbers under two identities");
    assert_eq!(arrived.into_keys().collect::<Vec<_>>(), answers, "{device}/{point}");
}

#[tokio::test]
async fn columnar_batches_are_cut_for_a_broker_that_takes_small_messages_only() {
    small_messages("5", "columnar", "max_packet_size 2000").await;
}

#[tokio::test]
async fn json_batches_are_cut_for_a_broker_that_takes_small_messages_only() {
    small_messages("5", "json", "max_packet_size 2000").await;
}

/// MQTT 3.1.1 has no way to say what the limit is: the broker closes the connection.
#[tokio::test]
async fn batches_are_cut_for_a_broker_that_closes_the_connection_on_large_ones() {
    small_messages("3.1.1", "json", "max_packet_size 2000").await;
}

/// With MQTT 5 the broker says so in a way that the client library does not read, and with MQTT 3.1.1 it acknowledges and
/// discards.
#[tokio::test]
async fn batches_and_catalogue_are_cut_for_a_broker_that_discards_large_messages() {
    for (protocol, encoding) in [("5", "columnar"), ("3.1.1", "columnar"), ("3.1.1", "json")] {
        small_messages(protocol, encoding, "message_size_limit 2000").await;
    }
}

async fn small_messages(protocol: &str, encoding: &str, line: &str) {
    // Given a broker that takes two kilobytes at most.
    const LIMIT: usize = 2000;
    let spec = UniformSpec {
        devices: 1,
        points: POINTS,
        endpoints: Endpoints::Own,
        renewal: Duration::ZERO,
        seed: 7,
        keep: Keep::Counters,
    };
    let plant = serve_uniform(spec).await.unwrap();
    let endpoint = &plant.endpoints()[0];
    let broker = Broker::with(Setup { lines: &[line], ..Setup::default() }).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(UNIFORM_PROFILE, &spec.profile())]);
    let text = plant.configuration(&site.store(), &format!("mqtt://127.0.0.1:{}", broker.port()), "50ms");
    let batch = format!("batch = {{ encoding = \"{encoding}\", max_age = \"1s\" }}");
    site.configure(&Configuration::foreign(&text).mqtt(&format!("protocol = \"{protocol}\"\n{batch}")));

    // When the agent sends what is much larger.
    let mut agent = site.start();
    endpoint.wait_for(|counters| counters.answers > 60).await;
    let answers = endpoint.counters().answers;
    let wanted = usize::try_from(answers).unwrap() * usize::from(POINTS);
    consumer.until("these readings", |harvest| harvest.readings.len() >= wanted).await;
    agent.terminate();
    assert!(agent.exit().await.success());

    // Then all of it arrives, cut where needed.
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.assert_sound();
    assert!(harvest.largest_payload <= LIMIT && harvest.parts > 0, "{}", harvest.summary());
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    let answered = endpoint.counters().answers * u64::from(POINTS);
    assert_eq!(harvest.readings.len() as u64, answered, "{}", harvest.summary());
    assert_eq!((harvest.unlisted().len(), harvest.catalogue.len()), (0, usize::from(POINTS)));
}

#[tokio::test]
async fn what_an_access_rule_forbids_is_kept_reported_and_delivered_when_it_is_allowed() {
    forbidden("5", "0x87").await;
}

/// MQTT 3.1.1 acknowledges what the rules forbid: only a message that comes back shows that they do not.
#[tokio::test]
async fn what_an_access_rule_discards_silently_is_kept_reported_and_delivered_when_it_is_allowed() {
    forbidden("3.1.1", "trust_puback").await;
}

async fn forbidden(protocol: &str, reason: &str) {
    // Given a broker whose access rules forget batches and alarms.
    const FORGETFUL: &str = "topic write lineside/v1/lyon/gw-01/state\ntopic write lineside/v1/lyon/gw-01/probe\n\
                             topic write lineside/v1/lyon/gw-01/catalogue/#\ntopic read lineside/v1/lyon/gw-01/#";
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::with(Setup { access: Some(FORGETFUL), ..Setup::default() }).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let mqtt = format!("protocol = \"{protocol}\"\nbatch = {{ max_age = \"300ms\" }}");
    let configuration = Configuration::to_port(broker.port(), &mqtt)
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "50ms");
    site.configure(&configuration);
    let mut agent = site.start();
    agent.logged("lineside started").await;

    // When it has refused both, then the store has the readings and the alarms that say so.
    let status = site
        .until("refusals of both lanes", |status| {
            let lanes = &status["lanes"];
            status["uplink"]["refusing"].is_string()
                && lanes["alarms"]["pending_readings"].as_u64() >= Some(2)
                && lanes["telemetry"]["pending_readings"].as_u64() >= Some(50)
        })
        .await;
    assert!(status["uplink"]["refusing"].as_str().is_some_and(|refusing| refusing.contains(reason)), "{status:#}");
    let said = |problem: &serde_json::Value| problem.to_string().contains(reason);
    assert!(status["problems"].as_array().unwrap().iter().any(said), "{:#}", status["problems"]);
    assert_eq!(status["uplink"]["batches"], 0);
    assert!(consumer.harvest.readings.is_empty());

    // When the rules are mended, then all of it arrives.
    broker.change_access("topic readwrite lineside/#").await;
    consumer.until("both alarms and their ends", |harvest| harvest.transitions("BrokerRefuses").len() == 4).await;
    consumer.until("the readings", |harvest| count(harvest, "press-1", "answers") > 20).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;
    consumer.harvest.assert_sound();
    assert_complete(&consumer.harvest, "press-1", "answers", &endpoint).await;
    for lane in ["alarms", "telemetry"] {
        let transitions = consumer.harvest.transitions("BrokerRefuses");
        let of_lane = transitions.iter().filter(|transition| transition.labels["lane"] == lane);
        let happened: Vec<Transition> = of_lane.map(|transition| transition.transition).collect();
        assert_eq!(happened, [Transition::Raised, Transition::Cleared], "{lane}");
    }
}
