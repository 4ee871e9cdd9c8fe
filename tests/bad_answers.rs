//! Devices that answer wrongly, on every kind of link, seen through the whole agent: the right reason, never a wrong
//! value, and a healthy neighbour that does not notice.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use lineside::simulator::{Endpoint, Framing, Keep, LineFormat, Misbehaviour, Pace, Servers};
use support::installation::{Installation, NO_BROKER};
use support::meters;

const POINTS: u16 = 3;
/// The meter that stays well; the others have the unit ids from 2 on.
const HEALTHY: &str = "meter-1";

/// What is wrong with a meter, and what its readings are marked with.
type Case = (Misbehaviour, &'static str);

const ON_A_LINE: [Case; 8] = [
    (Misbehaviour::Silent, "bad: timeout"),
    // It answers as the next unit, which owes no answer that this could be taken for.
    (Misbehaviour::WrongUnit, "bad: wrong unit"),
    (Misbehaviour::Exception(4), "bad: exception 4 (server device failure)"),
    (Misbehaviour::WrongFunction, "bad: wrong answer"),
    (Misbehaviour::WrongLength, "bad: wrong answer"),
    (Misbehaviour::BadCrc, "bad: bad checksum"),
    (Misbehaviour::Garbage, "bad: garbage"),
    (Misbehaviour::Truncated, "bad: garbage"),
];

const ON_TCP: [Case; 9] = [
    (Misbehaviour::Silent, "bad: timeout"),
    (Misbehaviour::Exception(2), "bad: exception 2 (illegal data address)"),
    (Misbehaviour::WrongUnit, "bad: wrong unit"),
    (Misbehaviour::WrongFunction, "bad: wrong answer"),
    (Misbehaviour::WrongLength, "bad: wrong answer"),
    // Without a CRC: a protocol identifier that is not Modbus.
    (Misbehaviour::BadCrc, "bad: garbage"),
    (Misbehaviour::Garbage, "bad: garbage"),
    (Misbehaviour::Truncated, "bad: garbage"),
    (Misbehaviour::Disconnect, "bad: link down"),
];

/// Reads well meters, lets all but one misbehave, each in its own way, and heals them.
async fn every_case(endpoint: Endpoint, framing: Framing, cases: &[Case]) {
    let mut links = meters::link("hall-a", &endpoint, framing, "250ms") + &meters::meter(1, "hall-a", "meter", "2s");
    let sick: Vec<(u8, Case)> = (2..).zip(cases.iter().copied()).collect();
    for (unit, _) in &sick {
        links += &meters::meter(*unit, "hall-a", "meter", "2s");
    }
    let installation = Installation::new(NO_BROKER, &[("meter", &meters::profile(POINTS))], &links);
    let mut agent = installation.start().await;
    let mut tail = agent.tail();
    for (unit, _) in &sick {
        let name = format!("meter-{unit}");
        tail.until(&name, |reading| reading.device == name && reading.quality == "good").await;
    }

    // When all but one go wrong
    for (unit, (misbehaviour, _)) in &sick {
        endpoint.misbehave(*unit, Some(*misbehaviour)).await.unwrap();
    }
    // What was asked before that has arrived with the next round.
    for meter in [HEALTHY, HEALTHY] {
        for point in ["value_0", "value_2"] {
            tail.until(meter, |reading| reading.device == meter && reading.point == point).await;
        }
    }
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reading in tail.during(Duration::from_secs(10)).await {
        meters::assert_true_or_bad(&reading);
        seen.entry(reading.device).or_default().push(reading.quality);
    }

    // Then each says why, and the one that is well goes on
    for (unit, (misbehaviour, expected)) in &sick {
        let qualities = &seen[&format!("meter-{unit}")];
        assert!(
            !qualities.is_empty() && qualities.iter().all(|quality| quality == expected),
            "{misbehaviour:?}: {qualities:?}"
        );
    }
    let healthy = &seen[HEALTHY];
    assert!(healthy.len() >= 4 * usize::from(POINTS), "five polls in ten seconds: {healthy:?}");
    assert!(healthy.iter().all(|quality| quality == "good"), "{healthy:?}");

    // And healed, all are polled again
    for (unit, _) in &sick {
        endpoint.misbehave(*unit, None).await.unwrap();
    }
    let mut ill: Vec<String> = sick.iter().map(|(unit, _)| format!("meter-{unit}")).collect();
    while !ill.is_empty() {
        let well = tail
            .until("all meters to be well", |reading| ill.contains(&reading.device) && reading.quality == "good")
            .await;
        meters::assert_true_or_bad(&well);
        ill.retain(|name| *name != well.device);
    }
    agent.assert_running();
    assert_eq!(agent.stop().await.code(), Some(0));
}

fn devices(cases: &[Case]) -> Vec<lineside::simulator::Device> {
    (1..).take(cases.len() + 1).map(|unit| meters::device(unit, POINTS)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_modbus_tcp() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Tcp, devices(&ON_TCP), Keep::Counters).await.unwrap();
    every_case(endpoint, Framing::Tcp, &ON_TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_serial_line() {
    let mut servers = Servers::default();
    let format = LineFormat::modbus(19_200, Pace::Real);
    let endpoint = servers.rtu(format, devices(&ON_A_LINE), Keep::Counters).unwrap();
    every_case(endpoint, Framing::Rtu, &ON_A_LINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_gateway_that_passes_serial_frames_over_tcp() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Rtu, devices(&ON_A_LINE), Keep::Counters).await.unwrap();
    every_case(endpoint, Framing::Rtu, &ON_A_LINE).await;
}
