//! Simulated devices that number their answers: what arrives can be told from what was lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lineside::model::Timestamp;
use lineside::profile::{Protocol, file};
use lineside::simulator::{Course, Device, Endpoint, Framing, Keep, Servers};

use super::site::{Agent, Configuration, Site};

/// Name of the profile of [`counters`].
pub const COUNTER: &str = "counter";

/// A device with a counter that says how many requests it has answered, and a state beside it.
pub const COUNTER_PROFILE: &str = r#"
manufacturer = "lineside"
model = "counter"
modbus = { table = "holding", encoding = "u32" }
point = [
  { name = "answers", address = 0 },
  { name = "answers_again", address = 2 },
]
"#;

/// Rules over it: an alarm that is active in the upper half of each round of twenty answers, and how many there are in a
/// second. More rules of the group may follow.
pub const COUNTER_RULES: &str = r#"
groups:
  - name: counters
    interval: 1s
    rules:
      - alert: UpperHalf
        expr: answers % 20 >= 10
        annotations: { summary: "{{ $labels.device }} at {{ $value }}" }
        edge: { evaluate: arrival, priority: high }
      - record: device:answers:rate
        expr: rate(answers[5s])
"#;

/// Serves counters of these unit ids at one endpoint.
pub async fn counters(servers: &mut Servers, units: &[u8]) -> Endpoint {
    let profile = file::parse("counter.toml", COUNTER, COUNTER_PROFILE).unwrap();
    let Protocol::Modbus(modbus) = profile.protocol else { panic!("a Modbus profile") };
    let device = |unit: &u8| {
        let courses = (0..modbus.points.len()).map(|point| (Some(point), Course::Requests)).collect();
        Device::new(*unit, modbus.points.clone(), modbus.limits).moving(courses, Duration::ZERO, 1).unwrap()
    };
    servers.tcp(Framing::Tcp, units.iter().map(device).collect(), Keep::Answers).await.unwrap()
}

/// The numbers that one device gave as answers, and when.
pub async fn answered(endpoint: &Endpoint, unit: u8) -> BTreeMap<u64, Timestamp> {
    let log = endpoint.log().await.unwrap();
    let answers = log.iter().filter(|answer| answer.unit == unit);
    answers.map(|answer| (u64::from(answer.words[0]) << 16 | u64::from(answer.words[1]), answer.time)).collect()
}

/// How often the device is read that is calm.
const CALM: &str = "2s";

/// Adds a device on a link of its own that is read so rarely that only who waits for the store misses a poll, and not a
/// machine that builds and tests something else.
pub async fn calm(configuration: Configuration, servers: &mut Servers) -> Configuration {
    let endpoint = counters(servers, &[1]).await;
    configuration.link("calm", endpoint.address(), "").device("calm-1", "calm", 1, COUNTER, CALM)
}

/// No poll of the [calm] device waited for the store.
pub fn assert_no_poll_waited(status: &serde_json::Value) {
    let calm = status_of_calm(status);
    assert!(is_calm_polled(status) && calm["polls_skipped"] == 0, "{calm}");
}

/// The [calm] device was polled often enough to say something.
pub fn is_calm_polled(status: &serde_json::Value) -> bool {
    status_of_calm(status)["polls_done"].as_u64().unwrap() > 2
}

fn status_of_calm(status: &serde_json::Value) -> &serde_json::Value {
    status["links"].as_array().unwrap().iter().find(|link| link["name"] == "calm").unwrap()
}

/// From the start of the process to the first request, whatever disk and store are like.
const POLLING_WITHIN: Duration = Duration::from_secs(2);

/// Starts the agent, which polls at once.
pub async fn start_polling(site: &Site, endpoint: &Endpoint) -> Agent {
    let before = endpoint.counters().answers;
    let begun = Instant::now();
    let agent = site.start();
    endpoint.wait_for(|counters| counters.answers > before).await;
    assert!(begun.elapsed() < POLLING_WITHIN, "polls only after {:?}", begun.elapsed());
    agent
}
