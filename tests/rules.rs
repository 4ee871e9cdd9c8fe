//! Rules on the running program: alarms on the broker, in time, once each, whatever is killed.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use lineside::model::{Timestamp, Transition};
use lineside::simulator::Servers;
use support::broker::Broker;
use support::consumer::{Consumer, Harvest};
use support::plant::{COUNTER, COUNTER_PROFILE, COUNTER_RULES, counters};
use support::site::{Configuration, Site};

/// The counter goes round in so many answers, and in the upper half of them the alarm is active.
const ROUND: u64 = 20;

/// Those of the counter, and an alarm over what they record.
fn rules() -> String {
    let stopped = "{ alert: Stopped, expr: 'device:answers:rate < 5', for: 2s }";
    format!("{COUNTER_RULES}      - {stopped}\n")
}

fn site(broker: &Broker, address: std::net::SocketAddr) -> Site {
    site_with(broker, address, &rules(), "100ms")
}

fn site_with(broker: &Broker, address: std::net::SocketAddr, rules: &str, timeout: &str) -> Site {
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), rules).unwrap();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", address, &format!("timeout = {timeout:?}"))
        .device("press-1", "hall", 1, COUNTER, "50ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]");
    site.configure(&configuration);
    site
}

/// How often each round of the counter was announced.
fn rounds(harvest: &Harvest, transition: Transition) -> BTreeMap<u64, usize> {
    let mut rounds = BTreeMap::new();
    for found in harvest.transitions("UpperHalf") {
        if found.transition == transition {
            let number = found.readings[0].value.unwrap() as u64;
            *rounds.entry(number / ROUND).or_default() += 1;
        }
    }
    rounds
}

#[tokio::test]
async fn alarms_and_recorded_series_reach_the_broker_and_broken_rules_change_nothing() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(&broker, endpoint.address());

    // When the agent runs, its rules are broken and read again, and then lose the alarm.
    let mut agent = site.start();
    consumer.until("alarms", |harvest| harvest.transitions("UpperHalf").len() >= 4).await;
    std::fs::write(site.path().join("rules.yml"), rules().replace("% 20", "% %")).unwrap();
    agent.hang_up();
    agent.logged("rules not reloaded; those in force stay").await;
    let before = consumer.harvest.transitions("UpperHalf").len();
    consumer.until("more alarms", |harvest| harvest.transitions("UpperHalf").len() >= before + 4).await;
    consumer.until("a recorded series", |harvest| !recorded(harvest).is_empty()).await;
    let active = site.until("figures", |status| status["rules"]["transitions"].as_u64() > Some(3)).await;
    std::fs::write(site.path().join("rules.yml"), "groups: []").unwrap();
    consumer.until("an active alarm", is_active).await;
    agent.hang_up();
    consumer.until("its end", |harvest| !is_active(harvest)).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then each transition says what decided it, and they alternate.
    consumer.harvest.assert_sound();
    assert_eq!(active["rules"]["rules"], 3, "{active}");
    let found = consumer.harvest.transitions("UpperHalf");
    for pair in found.windows(2) {
        assert_ne!(pair[0].transition, pair[1].transition);
    }
    assert!(found[0].annotations["summary"].starts_with("press-1 at 1"), "{:?}", found[0]);
    assert_eq!(found[0].readings[0].series, "answers{device=\"press-1\"}");
    let rates = recorded(&consumer.harvest);
    assert!(rates.iter().any(|rate| (10.0..=21.0).contains(rate)), "{rates:?}");
}

fn is_active(harvest: &Harvest) -> bool {
    harvest.transitions("UpperHalf").last().is_some_and(|last| last.transition == Transition::Raised)
}

fn recorded(harvest: &Harvest) -> Vec<f64> {
    let is_rate =
        |id| harvest.catalogue.iter().any(|((_, known), info)| *known == id && info.name == "device:answers:rate");
    harvest.readings.values().filter(|taken| is_rate(taken.series)).filter_map(|taken| taken.number).collect()
}

#[tokio::test]
async fn people_see_alarms_and_acknowledge_them() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(&broker, endpoint.address());
    let waits = "groups: [{name: a, interval: 1s, rules: [{alert: Seen, expr: answers > 3, \
                 edge: {evaluate: arrival, latch: true}}]}]";
    std::fs::write(site.path().join("rules.yml"), waits).unwrap();
    let mut agent = site.start();
    consumer.until("the alarm", |harvest| harvest.transitions("Seen").len() == 1).await;

    let lineside = |arguments: &'static [&'static str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.arg("alarms").arg("--socket").arg(site.path().join("lineside.sock")).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, listed) = lineside(&[]);
    assert!(code == Some(0) && listed.contains("Seen") && listed.contains("unacknowledged active"), "{listed}");
    let done = lineside(&["ack", "Seen", "device=press-1", "--by", "eva"]);
    assert_eq!(done, (Some(0), "Seen{device=\"press-1\"}: now acknowledged active\n".to_owned()));
    assert_eq!(lineside(&["reset", "Seen"]).0, Some(1));
    assert_eq!(lineside(&["ack", "Nothing"]).0, Some(1));
    assert_eq!(lineside(&["shelve", "Seen", "--for", "1h"]).0, Some(0));

    // What was answered is stored: a restart remembers it.
    agent.kill();
    let restarted = site.start();
    restarted.logged("lineside started").await;
    let (_, listed) = lineside(&[]);
    assert!(listed.contains("shelved"), "{listed}");
    consumer.until("both", |harvest| harvest.transitions("Seen").len() == 3).await;
    assert_eq!(consumer.harvest.transitions("Seen")[1].by.as_deref(), Some("eva"));
    consumer.harvest.assert_sound();
}

/// Rules of which one cannot be evaluated as soon as both counters answer, and one cannot say what it should.
const FAILING_RULES: &str = r#"groups:
- name: g
  interval: 1s
  rules:
  - alert: Ambiguous
    expr: answers * on () answers > 0
  - alert: Speechless
    expr: answers{device="press-1"} > 3
    annotations: { summary: '{{ query "answers > 1e9" | first | value }}' }
"#;

#[tokio::test]
async fn alarms_of_the_agent_itself_stand_beside_those_of_rules_and_rules_that_fail_are_problems() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), FAILING_RULES).unwrap();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "timeout = \"1s\"")
        .device("press-1", "hall", 1, COUNTER, "50ms")
        .device("press-2", "hall", 2, COUNTER, "50ms")
        .link("yard", dead, "timeout = \"100ms\"")
        .device("gone", "yard", 1, COUNTER, "100ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]");
    site.configure(&configuration);
    let mut agent = site.start();
    consumer.until("the alarm", |harvest| harvest.transitions("DeviceSilent").len() == 1).await;
    let lineside = |arguments: &'static [&'static str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.arg("alarms").arg("--socket").arg(site.path().join("lineside.sock")).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    // Then it is seen with what it says, acknowledged, and a restart knows.
    let (_, listed) = lineside(&[]);
    assert!(listed.contains("DeviceSilent{device=\"gone\",link=\"yard\"}"), "{listed}");
    assert!(listed.contains("unacknowledged active") && listed.contains("gone on yard does not answer"), "{listed}");
    let (code, done) = lineside(&["ack", "DeviceSilent", "device=gone", "--by", "eva"]);
    assert!(code == Some(0) && done.contains("now acknowledged active"), "{done}");

    // And rules that cannot be evaluated are problems, each with its place and reason.
    let failing = |status: &serde_json::Value| status["rules"]["failing"].as_array().is_some_and(|all| all.len() == 2);
    let status = site.until("two rules that fail", failing).await;
    let named = status["problems"].to_string();
    assert!(named.contains("rule Ambiguous of group g"), "{named}");
    assert!(named.contains("many-to-many matching not allowed"), "{named}");
    assert!(named.contains("annotations.summary: error calling first: first() called on vector"), "{named}");

    agent.kill();
    let restarted = site.start();
    restarted.logged("lineside started").await;
    restarted.logged("device does not answer").await;
    let (_, listed) = lineside(&[]);
    assert!(listed.contains("DeviceSilent{device=\"gone\",link=\"yard\"}\n  acknowledged active"), "{listed}");
    let (code, shelved) = lineside(&["shelve", "DeviceSilent", "--for", "3d"]);
    assert!(code == Some(0) && shelved.contains("; this alarm can be shelved for at most 24h"), "{shelved}");
    let (_, listed) = lineside(&[]);
    assert!(listed.contains("shelved until 20"), "{listed}");

    // And rules that are corrected are no problems any more.
    std::fs::write(site.path().join("rules.yml"), "groups: []").unwrap();
    restarted.hang_up();
    site.until("no rules that fail", |status| status["rules"]["failing"].as_array().is_none_or(Vec::is_empty)).await;
    consumer.until("all of it", |harvest| harvest.transitions("DeviceSilent").len() == 3).await;
    let said: Vec<Transition> = consumer.harvest.transitions("DeviceSilent").iter().map(|it| it.transition).collect();
    assert_eq!(said, [Transition::Raised, Transition::Acknowledged, Transition::Shelved]);
}

/// A rule whose condition holds soon after the start, with a delay.
fn delayed(delay: Duration) -> String {
    let delay = delay.as_secs();
    format!("groups: [{{name: a, interval: 1s, rules: [{{alert: Long, expr: answers > 3, for: {delay}s}}]}}]")
}

/// Waits until readings of about a second more are stored: what is delivered is.
async fn stores_more(consumer: &mut Consumer) {
    let before = consumer.harvest.readings.len();
    consumer.until("readings that are stored", |harvest| harvest.readings.len() >= before + 40).await;
}

/// Since when the delay of the alarm runs, as `lineside alarms` tells.
async fn pending_since(site: &Site) -> Timestamp {
    let asking = async {
        loop {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lineside"));
            command.args(["alarms", "--json", "--socket"]).arg(site.path().join("lineside.sock"));
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if let Some(since) = listed[0]["pending_since"].as_i64() {
                return Timestamp(since);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    support::within("an alarm whose delay runs", asking).await
}

#[tokio::test]
async fn a_delay_goes_on_through_a_kill_as_if_nothing_had_happened() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    // However slowly the agent starts, it finds what was stored before no longer ago than readings stand for the series.
    const DELAY: Duration = Duration::from_secs(15);
    let site = site_with(&broker, endpoint.address(), &delayed(DELAY), "10s");

    // When the agent is killed twice while the delay runs, and starts at once each time.
    let mut agent = site.start();
    agent.logged("lineside started").await;
    let since = pending_since(&site).await;
    for _ in 0..2 {
        stores_more(&mut consumer).await;
        agent.kill();
        agent = site.start();
        agent.logged("lineside started").await;
        assert_eq!(pending_since(&site).await, since);
    }
    consumer.until("the alarm", |harvest| !harvest.transitions("Long").is_empty()).await;

    // Then the alarm comes when it would have come without.
    let raised = consumer.harvest.transitions("Long")[0].clone();
    assert_eq!(Timestamp(raised.time.0).since(since), DELAY);
    assert!(!raised.annotations.contains_key("hole"), "{raised:?}");
}

#[tokio::test]
async fn a_delay_starts_anew_after_a_time_that_nobody_has_seen() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    const DELAY: Duration = Duration::from_secs(8);
    /// Longer than the readings of this site stand for their series, and than what counts as a hole.
    const PAUSE: Duration = Duration::from_secs(6);
    let site = site_with(&broker, endpoint.address(), &delayed(DELAY), "2s");

    // When the agent is killed while the delay runs, and starts when the history has a hole.
    let mut agent = site.start();
    agent.logged("lineside started").await;
    let since = pending_since(&site).await;
    stores_more(&mut consumer).await;
    agent.kill();
    tokio::time::sleep(PAUSE).await;
    agent = site.start();
    agent.logged("lineside started").await;
    let anew = pending_since(&site).await;
    consumer.until("the alarm", |harvest| !harvest.transitions("Long").is_empty()).await;

    // Then it counts from the new start.
    let raised = consumer.harvest.transitions("Long")[0].clone();
    assert!(anew.since(since) > PAUSE, "{since} {anew}");
    assert_eq!(Timestamp(raised.time.0).since(anew), DELAY);
}

#[tokio::test]
async fn whether_a_device_answers_is_a_series_of_its_own() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let rules = "groups: [{name: a, interval: 1s, rules: [{alert: Down, expr: up == 0, for: 1s}, \
                 {alert: AllDown, expr: \"max by (site, gateway) (up) == 0\"}]}]";
    std::fs::write(site.path().join("rules.yml"), rules).unwrap();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "timeout = \"500ms\"")
        .device("press-1", "hall", 1, COUNTER, "200ms")
        .device("press-2", "hall", 2, COUNTER, "200ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]");
    site.configure(&configuration);

    // When one device is not there, and then the other is gone too.
    let _agent = site.start();
    consumer.until("the one that is not there", |harvest| !harvest.transitions("Down").is_empty()).await;
    assert!(consumer.harvest.transitions("AllDown").is_empty());
    servers.stop().await;
    consumer
        .until("the other, and all", |harvest| {
            harvest.transitions("Down").len() == 2 && !harvest.transitions("AllDown").is_empty()
        })
        .await;

    // Then each alarm names its device.
    let down = consumer.harvest.transitions("Down");
    let devices: Vec<&str> = down.iter().map(|alarm| alarm.labels["device"].as_str()).collect();
    assert_eq!(devices, ["press-2", "press-1"]);
}

#[tokio::test]
async fn no_transition_is_lost_and_none_comes_twice_when_the_agent_is_killed_at_any_time() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = site(&broker, endpoint.address());

    // When the agent is killed again and again.
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..12 {
        let mut agent = site.start();
        let before = consumer.harvest.alarms.len();
        consumer.until("a transition", |harvest| harvest.alarms.len() > before).await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..700))).await;
        agent.kill();
    }
    let mut agent = site.start();
    let before = consumer.harvest.alarms.len();
    consumer.until("a transition", |harvest| harvest.alarms.len() > before + 2).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then what was stored of the upper half of a round was announced once, and so was its end.
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    let raised = rounds(&harvest, Transition::Raised);
    let cleared = rounds(&harvest, Transition::Cleared);
    assert!(raised.values().chain(cleared.values()).all(|times| *times == 1), "{raised:?} {cleared:?}");
    let stored: Vec<u64> = harvest.numbers("press-1", "answers").into_keys().collect();
    let mut was_active = false;
    for number in &stored {
        let is_active = number % ROUND >= ROUND / 2;
        let announced = if is_active { &raised } else { &cleared };
        let round = number / ROUND;
        if is_active != was_active {
            assert!(announced.contains_key(&round), "{number} changed it, {raised:?} {cleared:?}");
        }
        was_active = is_active;
    }
    let found = harvest.transitions("UpperHalf");
    for pair in found.windows(2) {
        assert_ne!(pair[0].transition, pair[1].transition, "{pair:?}");
        assert!(pair[0].time <= pair[1].time);
    }
    println!("{} transitions, {} readings, {}", found.len(), stored.len(), harvest.summary());
}
