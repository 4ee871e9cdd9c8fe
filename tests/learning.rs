//! A device that refuses part of what its profile names: it is found out, avoided, and known after a restart. The agent
//! is the real program.

#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use lineside::profile::{ReadLimits, Table};
use lineside::simulator::{Device, Endpoint, Framing, Keep, LineFormat, Misbehaviour, Pace, Servers};
use support::installation::{Agent, Installation, NO_BROKER, Tail};
use support::meters;

const POINTS: u16 = 40;
/// The point that this meter does not have.
const MISSING: u16 = 10;
/// Most registers that it gives in one answer; its profile does not say so.
const LONGEST: u16 = 33;

/// A meter of forty points without one of them.
fn meter_with_a_hole(unit: u8) -> Device {
    let words: Vec<(u16, [u16; 2])> = (0..POINTS)
        .filter(|point| *point != MISSING)
        .map(|point| {
            let bits = (meters::truth(unit, point) as f32).to_bits();
            (2 * point, [(bits >> 16) as u16, bits as u16])
        })
        .collect();
    let registers = words.iter().map(|(address, words)| (Table::HoldingRegisters, *address, &words[..]));
    let limits = ReadLimits { registers: LONGEST, bits: 2000, gap: 0 };
    Device::of_registers(unit, registers).limited(limits)
}

fn installation(endpoint: &Endpoint, framing: Framing, interval: &str) -> Installation {
    let links = meters::link("hall-a", endpoint, framing, "500ms") + &meters::meter(1, "hall-a", "meter", interval);
    Installation::new(NO_BROKER, &[("meter", &meters::profile(POINTS))], &links)
}

/// Waits until every point but the missing one is good.
async fn all_but_one_good(tail: &mut Tail) {
    let mut seen = BTreeSet::new();
    while seen.len() < usize::from(POINTS) - 1 {
        let reading = tail.next().await;
        meters::assert_true_or_bad(&reading);
        if reading.quality == "good" {
            seen.insert(reading.point);
        }
    }
    assert!(!seen.contains(&format!("value_{MISSING}")));
}

async fn meter(agent: &Agent<'_>) -> serde_json::Value {
    agent.status().await["links"][0]["devices"][0].clone()
}

/// A whole poll later nothing was refused any more, and all readings are as they should be.
async fn assert_settled(agent: &Agent<'_>, tail: &mut Tail) {
    // The status follows within a poll.
    tail.during(Duration::from_millis(1200)).await;
    let before = meter(agent).await;
    for reading in tail.during(Duration::from_secs(2)).await {
        let expected = if reading.point == format!("value_{MISSING}") {
            "bad: exception 2 (illegal data address)"
        } else {
            "good"
        };
        assert_eq!(reading.quality, expected, "{reading:?}");
    }
    let after = meter(agent).await;
    assert!(after["answers"].as_u64() > before["answers"].as_u64(), "{after}");
    assert_eq!(after["exceptions"], before["exceptions"], "{after}");
}

async fn learns_and_remembers(endpoint: Endpoint, framing: Framing) {
    let installation = installation(&endpoint, framing, "500ms");
    let agent = installation.start().await;
    let mut tail = agent.tail();

    // When it has polled such a meter for a while
    all_but_one_good(&mut tail).await;

    // Then the agent knows what to avoid, and asks in blocks as long as the meter gives
    assert_settled(&agent, &mut tail).await;
    let known = meter(&agent).await;
    let lessons = &known["learned"]["lessons"];
    assert_eq!(lessons["refused"].as_array().map(Vec::len), Some(1), "{lessons}");
    assert_eq!((&lessons["refused"][0]["address"], &lessons["refused"][0]["count"]), (&20.into(), &2.into()));
    assert_eq!(lessons["registers_max"], 32, "{lessons}");
    let exceptions = known["exceptions"].as_u64().unwrap();
    println!("{}: learned from {exceptions} refusals in {} requests", endpoint.place_text(), known["requests"]);
    assert!(exceptions <= 15, "{known}");
    assert_eq!(
        known["exceptions_by_code"]["2"].as_u64().unwrap_or(0) + known["exceptions_by_code"]["3"].as_u64().unwrap_or(0),
        exceptions
    );
    let shown = installation.lineside(&["status", "--device", "meter-1"]).await;
    // Lines are broken at 80 columns.
    let shown = String::from_utf8(shown.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("refuses holding registers 20 to 21: exception 2 (illegal data address)"), "{shown}");
    assert!(shown.contains("takes no more than 32 registers in one request"), "{shown}");

    // And after a restart it still knows
    assert_eq!(agent.stop().await.code(), Some(0));
    let agent = installation.start().await;
    let mut tail = agent.tail();
    all_but_one_good(&mut tail).await;
    assert_settled(&agent, &mut tail).await;
    assert_eq!(meter(&agent).await["exceptions"], 0);

    // And what is forgotten is learned anew
    let forgotten = installation.lineside(&["forget", "meter-1"]).await;
    assert_eq!(forgotten.status.code(), Some(0), "{forgotten:?}");
    while meter(&agent).await["exceptions"] == 0 {
        meters::assert_true_or_bad(&tail.next().await);
    }
    all_but_one_good(&mut tail).await;
    assert_eq!(agent.stop().await.code(), Some(0));
    assert_eq!(installation.lineside(&["forget", "meter-1"]).await.status.code(), Some(0));
    assert_eq!(installation.lineside(&["forget", "meter-1"]).await.status.code(), Some(1), "nothing is left");
    assert_eq!(installation.lineside(&["forget", "meter-9"]).await.status.code(), Some(2));
}

trait PlaceText {
    fn place_text(&self) -> String;
}

impl PlaceText for Endpoint {
    fn place_text(&self) -> String {
        format!("{:?}", self.place()).split(' ').next().unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_refuses_over_tcp_is_avoided_and_remembered() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Tcp, vec![meter_with_a_hole(1)], Keep::Counters).await.unwrap();
    learns_and_remembers(endpoint, Framing::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_refuses_on_a_line_is_avoided_and_remembered() {
    let mut servers = Servers::default();
    let format = LineFormat::plain(19_200, Pace::Real);
    let endpoint = servers.rtu(format, vec![meter_with_a_hole(1)], Keep::Counters).unwrap();
    learns_and_remembers(endpoint, Framing::Rtu).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_refuses_everything_for_a_while_teaches_nothing() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Tcp, vec![meters::device(1, POINTS)], Keep::Counters).await.unwrap();
    endpoint.misbehave(1, Some(Misbehaviour::Exception(2))).await.unwrap();
    let installation = installation(&endpoint, Framing::Tcp, "200ms");
    let agent = installation.start().await;
    let mut tail = agent.tail();
    tail.until("a refusal", |reading| reading.quality == "bad: exception 2 (illegal data address)").await;
    tail.during(Duration::from_secs(2)).await;

    endpoint.misbehave(1, None).await.unwrap();

    let back = tail.until("a good reading", |reading| reading.quality == "good").await;
    meters::assert_true_or_bad(&back);
    assert_eq!(meter(&agent).await["learned"]["lessons"]["refused"].as_array().map(Vec::len), Some(0));
    assert_eq!(agent.stop().await.code(), Some(0));
}
