//! The examples in docs/payloads.md have the keys that the program writes, and its formula gives the engineering values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lineside::encoding::{Decoded, decode_any};
use lineside::mqtt::{Protocol, SessionSettings, Visitor};
use lineside::simulator::{Misbehaviour, Servers};
use serde_json::Value;

use super::support::broker::Broker;
use super::support::gateway::settings;
use super::support::plant::{COUNTER, answered, counters};
use super::support::site::{BASE, Configuration, Site};
use super::support::within;

/// The device of the examples: its counter in tenths, forty below.
const PROFILE: &str = r#"
manufacturer = "lineside"
model = "counter"
modbus = { table = "holding", encoding = "u32" }
point = [ { name = "answers", address = 0, scale = 0.1, offset = -40.0, unit = "°C" } ]
"#;

/// Their keys are names that users choose.
const MAPS: [&str; 3] = ["labels", "annotations", "states"];

/// The examples of the document, by the heading above each.
fn examples() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/payloads.md")).unwrap();
    let mut examples = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap().to_owned();
        let Some((_, rest)) = section.split_once("```json\n") else { continue };
        let example = rest.split_once("```").unwrap().0;
        examples.insert(
            heading.clone(),
            serde_json::from_str(example).unwrap_or_else(|error| panic!("{heading}: {error}")),
        );
    }
    examples
}

/// Every place of a document with the kind of value there; elements of a list count as one.
fn shape(value: &Value, place: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.insert(format!("{place}: object"));
            if !MAPS.iter().any(|map| place.ends_with(map)) {
                members.iter().for_each(|(key, value)| shape(value, &format!("{place}.{key}"), found));
            }
        }
        Value::Array(elements) => {
            found.insert(format!("{place}: list"));
            elements.iter().for_each(|element| shape(element, &format!("{place}[]"), found));
        }
        Value::Number(_) => found.extend([format!("{place}: number")]),
        Value::String(_) => found.extend([format!("{place}: text")]),
        Value::Bool(_) => found.extend([format!("{place}: yes or no")]),
        Value::Null => found.extend([format!("{place}: nothing")]),
    }
}

fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    shape(value, "", &mut found);
    found
}

#[tokio::test]
async fn every_payload_has_the_keys_of_its_example_and_no_other() {
    // Given a gateway that sends JSON batches, one device of which falls silent.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[(COUNTER, PROFILE)]);
    let mqtt = "protocol = \"5\"\nbatch = { encoding = \"json\", max_age = \"1s\" }";
    let configuration = Configuration::to_port(broker.port(), mqtt)
        .link("hall", endpoint.address(), "timeout = \"100ms\"")
        .device("press-1", "hall", 1, COUNTER, "200ms")
        .lines("[clock]\ntrust = \"local\"\n");
    site.configure(&configuration);
    let settings = SessionSettings { client_id: "receiver".to_owned(), ..settings(Protocol::V5, broker.port()) };
    let mut receiver = within("a connection", Visitor::connect(settings, &[format!("{BASE}/#")])).await.unwrap();
    let _agent = site.start();

    // When it has said everything that it says.
    let (mut seen, mut values) = (BTreeMap::<String, BTreeSet<String>>::new(), Vec::new());
    let mut catalogue = Value::Null;
    let wanted = ["state", "batch", "catalogue", "health", "alarm", "problems"];
    let is_complete = |seen: &BTreeMap<String, BTreeSet<String>>| {
        let quality = seen.get("batch").is_some_and(|it| it.contains(".series[].readings[].quality: text"));
        let problem = seen.get("problems").is_some_and(|it| it.contains(".problems[].about: object"));
        quality && problem && wanted.iter().all(|topic| seen.contains_key(*topic))
    };
    while !is_complete(&seen) {
        let received = within("the other messages", receiver.next()).await.unwrap();
        let topic = received.topic.strip_prefix(&format!("{BASE}/")).unwrap().split('/').next().unwrap().to_owned();
        let payload = match decode_any(&received.payload).unwrap() {
            Decoded::Health(message) => match *message {
                lineside::encoding::HealthMessage::Whole(whole) => {
                    let keys = |status: &Value| status.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
                    seen.entry("status".to_owned()).or_default().extend(keys(&whole.status));
                    serde_json::to_value(&whole).unwrap()
                }
                lineside::encoding::HealthMessage::Changes(_) => continue,
            },
            _ => serde_json::from_slice(&received.payload).unwrap(),
        };
        if topic == "batch" {
            values.extend(
                payload["series"][0]["readings"].as_array().unwrap().iter().filter_map(|it| it["value"].as_f64()),
            );
            if values.len() > 5 {
                endpoint.misbehave(1, Some(Misbehaviour::Silent)).await.unwrap();
            }
        }
        if topic == "catalogue" {
            catalogue = payload["series"][0].clone();
        }
        if topic != "health" {
            seen.entry(topic).or_default().extend(shape_of(&payload));
        } else {
            seen.entry(topic).or_default();
        }
    }

    // Then the examples show it.
    let examples = examples();
    for topic in ["state", "batch", "catalogue", "alarm", "problems"] {
        let example = shape_of(&examples[topic]);
        // A value is nothing where it is missing.
        let shown: BTreeSet<_> = seen[topic].iter().filter(|place| !place.ends_with("nothing")).cloned().collect();
        let unknown: Vec<_> = shown.difference(&example).collect();
        let unseen: Vec<_> = example.difference(&seen[topic]).filter(|place| !place.ends_with("nothing")).collect();
        assert!(
            unknown.is_empty() && unseen.is_empty(),
            "{topic}: not in the example {unknown:?}, only there {unseen:?}"
        );
    }
    let status: BTreeSet<String> = examples["health"]["status"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(status, seen["status"]);

    // And the formula gives the values.
    let number = |key: &str| catalogue[key].as_f64().unwrap();
    let (multiplier, divisor, offset) = (number("multiplier"), number("divisor"), number("offset"));
    let raw = answered(&endpoint, 1).await;
    let engineering: Vec<f64> = raw.keys().map(|raw| *raw as f64 * multiplier / divisor + offset).collect();
    assert!(values.iter().all(|value| engineering.contains(value)), "{values:?} {engineering:?}");
}
