//! Health messages and the list of problems on their topics: few bytes, and complete for a receiver that missed some.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::support::broker::{Broker, Setup};
use super::support::commander::{Commander, Signer, order};
use super::support::consumer::Consumer;
use super::support::gateway::settings;
use super::support::plant::{COUNTER, COUNTER_PROFILE, counters};
use super::support::proxy::Proxy;
use super::support::site::{BASE, Configuration, Site};
use super::support::{directory, within};
use lineside::encoding::health::{self, HealthMessage};
use lineside::mqtt::{Bytes, Protocol, Received, SessionSettings, Visitor};
use lineside::simulator::uniform::{Endpoints, UNIFORM_PROFILE, Uniform, UniformSpec, serve_uniform};
use lineside::simulator::{Keep, Misbehaviour, Servers};
use serde_json::{Value, json};

/// The shortest that the configuration allows.
const OFTEN: &str = "health = { interval = \"10s\" }";

/// Somebody who listens to one topic of the gateway.
struct Listener(Visitor);

impl Listener {
    async fn to(port: u16, topic: &str) -> Self {
        let client_id = format!("listener-{:08x}", fastrand::u32(..));
        let settings = SessionSettings { client_id, max_packet: 1 << 20, ..settings(Protocol::V5, port) };
        Self(within("a connection", Visitor::connect(settings, &[topic.to_owned()])).await.unwrap())
    }

    async fn next(&mut self) -> Received {
        within("a message", self.0.next()).await.unwrap()
    }

    /// The next whole state, and what came before it.
    async fn next_whole(&mut self) -> (Vec<Received>, Received) {
        let mut before = Vec::new();
        loop {
            let received = self.next().await;
            match decode(&received) {
                HealthMessage::Whole(_) => return (before, received),
                HealthMessage::Changes(_) => before.push(received),
            }
        }
    }

    /// The next list of problems that fits.
    async fn problems(&mut self, fits: impl Fn(&[Value]) -> bool) -> Value {
        loop {
            let message: Value = serde_json::from_slice(&self.next().await.payload).unwrap();
            if fits(message["problems"].as_array().unwrap()) {
                return message;
            }
        }
    }
}

fn decode(received: &Received) -> HealthMessage {
    health::decode(&received.payload).unwrap()
}

fn health_topic() -> String {
    format!("{BASE}/health")
}

fn python() -> PathBuf {
    let chosen = std::env::var_os("LINESIDE_TEST_PYTHON").map(PathBuf::from);
    let python = chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python"));
    assert!(python.exists(), "{} is missing: tests/run installs it, or set LINESIDE_TEST_PYTHON", python.display());
    python
}

/// What `deploy/health.py` prints for these payloads, and how many it cannot read yet.
fn read_by_python(payloads: &[Bytes]) -> (Vec<Value>, usize) {
    let folder = directory();
    let mut reader = Command::new(python());
    reader.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/health.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    for (number, payload) in payloads.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, payload).unwrap();
        reader.arg(path);
    }
    let output = reader.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let states = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (states, errors.matches("waiting for a whole state").count())
}

/// What `lineside decode --json` makes of a payload.
fn decoded(payload: &[u8], base: &[u8]) -> Value {
    let folder = directory();
    std::fs::write(folder.path().join("payload"), payload).unwrap();
    std::fs::write(folder.path().join("base"), base).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(["decode", "--json", "--base"]).arg(folder.path().join("base")).arg(folder.path().join("payload"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Figures of the machine, the state of the session and what is rounded say nothing about the reader.
const MOVING: [&str; 6] = ["process", "wear", "mqtt", "learned", "round_trip", "intervals"];

/// Asserts that `shown` lies between two snapshots taken before and after it: where they agree it says the same, and
/// counters are within.
fn assert_between(before: &Value, shown: &Value, after: &Value, place: &str) {
    match (before, shown, after) {
        (Value::Object(before), Value::Object(shown), Value::Object(after)) => {
            let is_known = |key: &String| before.contains_key(key) || after.contains_key(key);
            assert!(shown.keys().all(is_known), "{place}: {shown:?}");
            for (key, before) in before.iter().filter(|(key, _)| !MOVING.contains(&key.as_str())) {
                // What comes or goes in between may be there or not.
                let Some(after) = after.get(key).filter(|_| !key.ends_with("_ratio")) else { continue };
                assert_between(before, &shown[key], after, &format!("{place}.{key}"));
            }
        }
        (Value::Array(before), Value::Array(shown), Value::Array(after)) if before.len() == after.len() => {
            assert_eq!(shown.len(), before.len(), "{place}");
            for ((before, shown), after) in before.iter().zip(shown).zip(after) {
                assert_between(before, shown, after, place);
            }
        }
        (before, shown, after) if before == after => assert_eq!(shown, before, "{place}"),
        (Value::Number(before), Value::Number(shown), Value::Number(after)) => {
            let [before, shown, after] = [before, shown, after].map(|number| number.as_f64().unwrap());
            assert!(
                before.min(after) <= shown && shown <= before.max(after),
                "{place}: {before:?} {shown:?} {after:?}"
            );
        }
        (_, _, _) => {}
    }
}

#[tokio::test]
async fn the_python_reader_has_what_status_says_after_a_lost_message_and_a_reconnection() {
    // Given a gateway that reports often, and a receiver.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let proxy = Proxy::to(broker.port()).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let configuration = Configuration::to_port(proxy.port(), &format!("protocol = \"5\"\n{OFTEN}"))
        .link("hall", endpoint.address(), "timeout = \"100ms\"")
        .device("press-1", "hall", 1, COUNTER, "200ms")
        .device("press-2", "hall", 2, COUNTER, "200ms");
    site.configure(&configuration);
    let mut listener = Listener::to(broker.port(), &health_topic()).await;
    let _agent = site.start();

    // When a message of changes is lost on the way.
    let (_, whole) = listener.next_whole().await;
    let missed = listener.next().await;
    endpoint.misbehave(2, Some(Misbehaviour::Silent)).await.unwrap();
    site.until("a silent device", |status| status["links"][0]["devices"][1]["state"] != "answering").await;
    let before = site.status().await;
    let changes = listener.next().await;
    let after = site.status().await;

    // Then the next one is complete, in Python and with `lineside decode`.
    assert!(matches!(decode(&missed), HealthMessage::Changes(_)) && !missed.retain);
    let (states, waiting) = read_by_python(&[whole.payload.clone(), changes.payload.clone()]);
    assert_eq!((states.len(), waiting), (2, 0));
    assert_between(&before, &states[1], &after, "status");
    assert_eq!(states[1]["links"][0]["devices"][1]["state"], after["links"][0]["devices"][1]["state"]);
    assert_eq!(decoded(&changes.payload, &whole.payload), states[1]);

    // And after a reconnection the whole state comes again; changes of it mean nothing to those who missed it.
    proxy.cut();
    site.until("no connection", |status| status["mqtt"]["state"] == "connecting").await;
    proxy.pass();
    let (_, again) = listener.next_whole().await;
    let before = site.status().await;
    let changes = listener.next().await;
    let after = site.status().await;
    let (states, waiting) =
        read_by_python(&[whole.payload, changes.payload.clone(), again.payload, changes.payload.clone()]);
    assert_eq!((states.len(), waiting), (3, 1));
    assert_between(&before, &states[2], &after, "status");

    // And one who comes later finds the last whole state at the broker.
    let mut late = Listener::to(broker.port(), &health_topic()).await;
    let kept = late.next().await;
    assert!(kept.retain);
    let changes = late.next().await;
    assert_eq!(read_by_python(&[kept.payload, changes.payload]).0.len(), 2);
}

#[tokio::test]
async fn the_command_status_has_the_whole_state_published() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let viewer = Signer::new("viewer", "viewer");
    let configuration = Configuration::to_port(broker.port(), "protocol = \"5\"")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "1s")
        .lines(&format!("{}[clock]\ntrust = \"local\"\n", viewer.section()));
    site.configure(&configuration);
    let mut listener = Listener::to(broker.port(), &health_topic()).await;
    let _agent = site.start();
    let (_, first) = listener.next_whole().await;

    let mut commander = Commander::connect(broker.port()).await;
    commander.last_answer_after("7", &viewer.sign(&order("7", "status", json!({})))).await;

    let (_, second) = listener.next_whole().await;
    assert_ne!(first.payload, second.payload);
}

/// Equal devices behind endpoints of their own, and an agent that polls each every second.
async fn uniform(broker: &Broker, devices: u8, mqtt: &str) -> (Uniform, Site) {
    let spec = UniformSpec {
        devices,
        points: 4,
        endpoints: Endpoints::Own,
        renewal: Duration::from_secs(1),
        seed: 1,
        keep: Keep::Counters,
    };
    let plant = serve_uniform(spec).await.unwrap();
    let site = Site::with_profiles(&[(UNIFORM_PROFILE, &spec.profile())]);
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let text = plant.configuration(Path::new("store"), &url, "10s");
    let text = text.replacen("site = \"load\"", "site = \"lyon\"", 1).replacen("[mqtt]", &format!("[mqtt]\n{mqtt}"), 1);
    site.configure(&Configuration::foreign(&text));
    (plant, site)
}

/// Bytes of a packet beside its payload, and its acknowledgement (MQTT 5.0, 3.3 and 3.4): fixed header 3, topic 2 more
/// than its text, packet id 2, length of properties 1, content type 3 more than its text, expiry 5; PUBACK 4.
fn packet_bytes(received: &Received) -> usize {
    received.payload.len() + 3 + 2 + received.topic.len() + 2 + 1 + 3 + health::CONTENT_TYPE.len() + 5 + 4
}

#[tokio::test]
async fn a_quiet_minute_takes_a_kibibyte_for_twenty_devices_and_four_for_two_hundred() {
    for (devices, most) in [(20, 1024), (200, 4096)] {
        let broker = Broker::start().await;
        let (_plant, site) = uniform(&broker, devices, OFTEN).await;
        let mut listener = Listener::to(broker.port(), &health_topic()).await;
        let _agent = site.start();

        // The first whole state is of a gateway that has just begun: what counts is how the later ones differ.
        let (_, whole) = listener.next_whole().await;
        let mut minutes = Vec::new();
        while minutes.len() < 4 {
            let received = listener.next().await;
            if matches!(decode(&received), HealthMessage::Changes(_)) {
                minutes.push(packet_bytes(&received));
            }
        }

        minutes.sort_unstable();
        let a_minute = minutes[minutes.len() / 2] + packet_bytes(&whole) / 60;
        println!("{devices} devices: {a_minute} bytes a minute; whole {}, changes {minutes:?}", packet_bytes(&whole));
        assert!(a_minute <= most, "{devices} devices: {a_minute} bytes");
    }
}

#[tokio::test]
async fn a_state_larger_than_the_broker_takes_is_sent_with_less_detail_and_costs_no_connection() {
    let broker = Broker::with(Setup { lines: &["max_packet_size 1800"], ..Setup::default() }).await;
    let (_plant, site) = uniform(&broker, 40, &format!("protocol = \"5\"\n{OFTEN}")).await;
    let mut listener = Listener::to(broker.port(), &health_topic()).await;
    let _agent = site.start();

    let (_, received) = listener.next_whole().await;
    let later = listener.next().await;

    let HealthMessage::Whole(whole) = decode(&received) else { panic!("whole") };
    assert!(["summary", "totals"].contains(&whole.detail.as_str()), "{}", whole.detail);
    assert!(packet_bytes(&received) <= 1800 + 4 && packet_bytes(&later) <= 1800 + 4);
    assert_eq!(site.status().await["mqtt"]["connects"], 1);
}

#[tokio::test]
async fn a_broker_that_cannot_say_what_it_takes_loses_no_connection_to_health() {
    // A broker that speaks MQTT 3.1.1 closes the connection on a larger packet.
    let broker = Broker::with(Setup { lines: &["max_packet_size 2048"], ..Setup::default() }).await;
    let (_plant, site) = uniform(&broker, 1, &format!("protocol = \"3.1.1\"\n{OFTEN}")).await;
    let mut listener = Listener::to(broker.port(), &health_topic()).await;
    let _agent = site.start();

    let (_, whole) = listener.next_whole().await;
    let changes = listener.next().await;

    assert_eq!(read_by_python(&[whole.payload, changes.payload]).0.len(), 2);
    assert_eq!(site.status().await["mqtt"]["connects"], 1);
}

#[tokio::test]
async fn the_list_of_problems_is_retained_and_empty_when_all_is_well() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let configuration = Configuration::to_port(broker.port(), "protocol = \"5\"")
        .link("hall", endpoint.address(), "timeout = \"100ms\"")
        .device("press-1", "hall", 1, COUNTER, "200ms")
        .device("press-2", "hall", 2, COUNTER, "200ms")
        .lines("[clock]\ntrust = \"local\"\n");
    site.configure(&configuration);
    let topic = format!("{BASE}/problems");
    let mut listener = Listener::to(broker.port(), &topic).await;
    // Somebody takes the batches: otherwise that is a problem.
    let _consumer = Consumer::start(&broker).await;
    let _agent = site.start();
    let about = |problems: &[Value], device: &str| problems.iter().any(|problem| problem["about"]["device"] == device);

    let well = listener.problems(|problems| problems.is_empty()).await;
    assert_eq!((&well["type"], &well["format"], &well["site"]), (&json!("problems"), &json!(1), &json!("lyon")));

    endpoint.misbehave(2, Some(Misbehaviour::Silent)).await.unwrap();
    listener.problems(|problems| about(problems, "press-2")).await;
    let mut late = Listener::to(broker.port(), &topic).await;
    let kept = late.next().await;
    let listed: Value = serde_json::from_slice(&kept.payload).unwrap();
    assert!(kept.retain && about(listed["problems"].as_array().unwrap(), "press-2"), "{listed}");
    assert_eq!(listed["problems"], site.status().await["problems"]);

    endpoint.misbehave(2, None).await.unwrap();
    late.problems(|problems| problems.is_empty()).await;
}
