//! The agent reads SunSpec devices as pysunspec2, the reference of the SunSpec Alliance, lays them out and understands
//! them, wherever their models lie.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use lineside::diagnostics::protocol::ShownReading;
use serde_json::Value;
use support::installation::{Installation, NO_BROKER};
use support::python::Script;

/// Who `sunspec_device.py` answers as.
const UNIT: u8 = 17;

fn profile(id: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("firmware-profiles/{id}.toml")).display().to_string()
}

/// Names of all points of a shipped profile, as the configuration lists them.
fn every_point(id: &str) -> String {
    let text = lineside::profile::shipped::text(id).unwrap();
    let profile = lineside::profile::file::parse(id, id, text).unwrap();
    format!("{:?}", profile.tag_names())
}

fn installation(port: &str, profile: &str, points: &str) -> Installation {
    let links = format!(
        "\n[[link]]\nname = \"roof\"\ntcp = \"127.0.0.1:{port}\"\ntimeout = \"5s\"\n\n[[device]]\nname = \"inverter\"\n\
         link = \"roof\"\nunit_id = {UNIT}\nprofile = \"{profile}\"\ninterval = \"500ms\"\n{points}\n"
    );
    Installation::new(NO_BROKER, &[], &links)
}

async fn read(installation: &Installation) -> BTreeMap<String, ShownReading> {
    let output = installation.lineside(&["read", "inverter", "--json"]).await;
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let readings = lines.lines().map(|line| serde_json::from_str::<ShownReading>(line).unwrap());
    readings.map(|reading| (reading.point.clone(), reading)).collect()
}

/// Reads every point of the profile of a device and compares it with what the reference says.
async fn assert_read_as_the_reference_does(device: &str, id: &str) {
    let mut script = Script::start("sunspec_device.py", &["serve", device, &profile(id)]);
    let expected: BTreeMap<String, Value> = serde_json::from_str(&script.line()).unwrap();
    let installation = installation(script.port(), id, &format!("points = {}", every_point(id)));

    let seen = read(&installation).await;

    assert!(seen.keys().eq(expected.keys()), "{device}: {:?}", seen.keys());
    let mut good = 0;
    for (point, expected) in expected {
        let reading = &seen[&point];
        match (expected.as_str().and_then(|text| text.strip_prefix("bad: ")), expected.as_f64()) {
            (Some(fault), _) => assert_eq!(reading.quality, format!("bad: {fault}"), "{device}: {point}"),
            (None, Some(number)) => {
                let read = reading.value.as_f64().unwrap_or(f64::NAN);
                assert!((read - number).abs() <= 1e-9 * number.abs(), "{device}: {point}: {read} and {number}");
                good += 1;
            }
            (None, None) => assert_eq!(reading.value, expected, "{device}: {point}"),
        }
    }
    assert!(good > 20, "{device}: only {good} numbers were read");
}

#[tokio::test(flavor = "multi_thread")]
async fn inverters_of_every_model_are_read_as_the_reference_reads_them() {
    for device in ["hybrid", "one-phase", "float", "split-phase", "float-one-phase", "float-split-phase"] {
        assert_read_as_the_reference_does(device, "sunspec-inverter").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_of_every_model_are_read_as_the_reference_reads_them() {
    for device in ["meter", "delta-meter", "one-phase-meter", "split-phase-meter", "float-meter"] {
        assert_read_as_the_reference_does(device, "sunspec-meter").await;
    }
}

/// A device that is none, or is not there, gives no values at all, and is told apart from one that lacks a model.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_models_is_another_device() {
    let stranger = Script::start("pymodbus_device.py", &["tcp"]);
    let installation = installation(stranger.port(), "sunspec-meter", "points = [\"active_power_w\", \"current_a\"]");

    let seen = read(&installation).await;

    let qualities: Vec<&str> = seen.values().map(|reading| reading.quality.as_str()).collect();
    assert_eq!(qualities, ["bad: wrong device"; 2]);
    let agent = installation.start().await;
    let mut tail = agent.tail();
    let reading = tail.next().await;
    assert_eq!((reading.quality.as_str(), reading.value), ("bad: wrong device", Value::Null));
    drop(tail);
    drop(stranger);
    let mut tail = agent.tail();
    let gone = loop {
        let reading = tail.next().await;
        if reading.quality != "bad: wrong device" {
            break reading;
        }
    };
    assert_eq!(gone.value, Value::Null, "{}", gone.quality);
    assert_eq!(agent.stop().await.code(), Some(0));
}
