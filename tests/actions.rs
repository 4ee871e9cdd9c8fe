//! What rules do beside telling, on the running program: poll faster, capture, publish; a write is refused and reported.

#![cfg(test)]

mod support;

use std::time::Duration;

use lineside::model::{Timestamp, Transition};
use lineside::profile::{Protocol, file};
use lineside::simulator::{Device, Framing, Keep, Servers};
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters};
use support::proxy::Proxy;
use support::site::{Configuration, Site};

/// So often the device is polled when nothing happens.
const INTERVAL: Duration = Duration::from_millis(500);

/// What is captured to either side of the event.
const AROUND: Duration = Duration::from_millis(1500);

const RULES: &str = r#"
groups:
  - name: counters
    interval: 1s
    rules:
      - alert: Counted
        expr: answers > 5
        edge:
          evaluate: arrival
          on_firing:
            - publish: { topic: maintenance, payload: "{{ $labels.device }} at {{ $value }}" }
            - poll_faster: { device: "{{ $labels.device }}", interval: 50ms, lasts: 2s }
            - capture: { series: 'answers{device="{{ $labels.device }}"}', before: 1500ms, after: 1500ms }
            - write: { device: "{{ $labels.device }}", point: answers, value: 0 }
"#;

fn site(broker: u16, address: std::net::SocketAddr) -> Site {
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), RULES).unwrap();
    let configuration = Configuration::to_port(broker, "batch = { max_age = \"300ms\" }")
        .link("hall", address, "timeout = \"100ms\"")
        .device("press-1", "hall", 1, COUNTER, "500ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]\n[[forward]]\nselect = '{device=\"press-1\"}'\nforward = \"none\"");
    site.configure(&configuration);
    site
}

#[tokio::test]
async fn an_alarm_polls_faster_captures_publishes_and_may_not_write() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(broker.port(), endpoint.address());

    // When the alarm is raised.
    let mut agent = site.start();
    consumer.until("the alarm", |harvest| !harvest.transitions("Counted").is_empty()).await;
    consumer.until("the message", |harvest| !harvest.events.is_empty()).await;
    let captured = |harvest: &support::consumer::Harvest| harvest.numbers("press-1", "answers:captured");
    consumer.until("the capture", |harvest| captured(harvest).len() > 20).await;
    let status = site.until("all that was asked for", |status| status["actions"]["done"] == 3).await;
    let slow_again = answered(&endpoint, 1).await.len();
    support::within("polls at the old pace", async {
        while answered(&endpoint, 1).await.len() < slow_again + 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then the message says what the payload says, and the write was refused with its reason.
    let harvest = &consumer.harvest;
    harvest.assert_sound();
    let raised = harvest.transitions("Counted");
    assert!(raised.len() == 1 && raised[0].transition == Transition::Raised, "{raised:?}");
    let value = raised[0].value.unwrap();
    assert_eq!(harvest.events, [("maintenance".to_owned(), format!("press-1 at {value}"))]);
    let failure = &status["actions"]["last_failure"];
    assert_eq!((&status["actions"]["failed"], &failure["alarm"]), (&1.into(), &"Counted".into()), "{status}");
    assert_eq!(failure["action"], "write press-1/answers = 0");

    // And every answer around the event was sent, with its own time, and no other of this device.
    let captured = captured(harvest);
    let event = Timestamp(raised[0].time.0);
    let answers = answered(&endpoint, 1).await;
    let distance = |number: &u64| answers[number].since(event).max(event.since(answers[number]));
    let tolerance = Duration::from_millis(100);
    let surely: Vec<&u64> = answers.keys().filter(|number| distance(number) + tolerance <= AROUND).collect();
    assert!(surely.len() > 20 && surely.iter().all(|number| captured.contains_key(number)), "{surely:?} {captured:?}");
    assert!(captured.keys().all(|number| distance(number) <= AROUND + tolerance), "{captured:?}");
    assert!(harvest.numbers("press-1", "answers").is_empty());

    // And the device was polled ten times as often for two seconds, and then as before.
    let times: Vec<Timestamp> = answers.values().copied().collect();
    let fast = times.iter().filter(|time| event < **time && time.since(event) < Duration::from_secs(2)).count();
    assert!((30..=42).contains(&fast), "{fast} polls in two seconds");
    let last: Vec<Duration> = times.windows(2).rev().take(3).map(|pair| pair[1].since(pair[0])).collect();
    assert!(last.iter().all(|pause| *pause > INTERVAL / 2), "{last:?}");
}

#[tokio::test]
async fn a_message_waits_for_the_broker_and_a_capture_outlives_a_kill() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let line = Proxy::to(broker.port()).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(line.port(), endpoint.address());

    // When there is no broker, an alarm is raised, and the agent is killed before the capture is complete.
    line.cut();
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("the alarm", |status| status["rules"]["transitions"] == 1).await;
    let waiting = site.until("its message", |status| status["actions"]["messages_waiting"] == 1).await;
    agent.kill();
    line.pass();
    let mut agent = site.start();
    consumer.until("the capture", |harvest| harvest.numbers("press-1", "answers:captured").len() > 2).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then the alarm came once, and what was stored around it.
    assert!(waiting["actions"]["done"].as_u64() >= Some(1), "{waiting}");
    consumer.harvest.assert_sound();
    assert_eq!(consumer.harvest.transitions("Counted").len(), 1);
}

const OVEN: &str = r#"
manufacturer = "lineside"
model = "oven"
modbus = { table = "holding", encoding = "u16" }
point = [
  { name = "setpoint_c", address = 0 },
  { name = "temperature_c", address = 1 },
]
"#;

const COOLS: &str = r#"
groups:
  - name: ovens
    interval: 1s
    rules:
      - alert: OvenHot
        expr: temperature_c > 200
        edge:
          evaluate: arrival
          on_firing:
            - write: { device: "{{ $labels.device }}", point: setpoint_c, value: 150 }
            - write: { device: "{{ $labels.device }}", point: setpoint_c, value: 500 }
"#;

#[tokio::test]
async fn a_rule_writes_what_the_owner_allows_and_nothing_else() {
    let mut servers = Servers::default();
    let Protocol::Modbus(modbus) = file::parse("oven.toml", "oven", OVEN).unwrap().protocol else {
        panic!("a Modbus profile")
    };
    let device = Device::new(1, modbus.points.clone(), modbus.limits);
    let endpoint = servers.tcp(Framing::Tcp, vec![device], Keep::Answers).await.unwrap();
    endpoint.set(1, "setpoint_c", 180.0).await.unwrap();
    endpoint.set(1, "temperature_c", 20.0).await.unwrap();
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[("oven", OVEN)]);
    std::fs::write(site.path().join("rules.yml"), COOLS).unwrap();
    let configuration = Configuration::to_port(broker.port(), "")
        .link("hall", endpoint.address(), "timeout = \"300ms\"")
        .device("oven-1", "hall", 1, "oven", "100ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]\n[clock]\ntrust = \"local\"");
    let allowed = |pin: &str| {
        let section =
            "[[write]]\ndevice = \"oven-1\"\npoint = \"setpoint_c\"\nrange = [100.0, 200.0]\ninterval = \"0s\"";
        configuration.clone().lines(&format!("{section}\npin = \"{pin}\""))
    };
    site.configure(&allowed("0"));
    let shown = String::from_utf8(site.lineside(&["check"]).await.stdout).unwrap();
    let pin =
        shown.split("pin = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("{shown}"));
    site.configure(&allowed(pin));

    // When the oven grows hot.
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("a cold oven", |status| status["rules"]["samples"].as_u64() > Some(3)).await;
    endpoint.set(1, "temperature_c", 230.0).await.unwrap();
    let status = site.until("both writes", |status| status["actions"]["failed"] == 1).await;
    agent.terminate();
    assert!(agent.exit().await.success());

    // Then the setpoint is what the rule wants within the bounds, and what is beyond them was refused.
    assert_eq!(status["actions"]["done"], 1, "{status}");
    let reason = status["actions"]["last_failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("200"), "{reason}");
    let log = endpoint.log().await.unwrap();
    let writes: Vec<u8> = log.iter().map(|answer| answer.access.function).filter(|it| matches!(it, 6 | 16)).collect();
    assert_eq!(writes.len(), 1);
}
