//! The agent reads devices of another make: pymodbus over TCP, and over a serial line that socat makes.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};

use lineside::diagnostics::protocol::ShownReading;
use serde_json::{Value, json};
use support::installation::{Agent, Installation, NO_BROKER};
use support::python::{Process, Script};

use tempfile::TempDir;

const PROFILE: &str = include_str!("fixtures/another-make.toml");
/// Who `pymodbus_device.py` answers as.
const UNIT: u8 = 17;

/// What `pymodbus_device.py` holds, as people see it: point, value, state, quality.
fn expected() -> BTreeMap<String, (Value, Option<&'static str>, &'static str)> {
    let mut all: Vec<(String, Value, Option<&str>, &str)> = Vec::new();
    let numbers = [
        ("u16", json!(65_000)),
        ("i16", json!(-1_234)),
        ("u32", json!(4_000_000_001_u32)),
        ("i32", json!(-2_000_000_001_i32)),
        ("u64", json!(18_000_000_000_000_000_001_u64)),
        ("i64", json!(-9_000_000_000_000_000_001_i64)),
        ("f32", json!(230.25)),
        ("f64", json!(0.1)),
    ];
    for (name, value) in numbers {
        all.push((format!("{name}_high_first"), value.clone(), None, "good"));
        all.push((format!("{name}_low_first"), value, None, "good"));
    }
    let others = [
        ("coil_5", json!(true), Some("closed"), "good"),
        ("coil_6", json!(false), Some("open"), "good"),
        ("coil_8", json!(true), None, "good"),
        ("discrete_9", json!(false), None, "good"),
        ("discrete_10", json!(true), None, "good"),
        ("holding_bit_2", json!(true), None, "good"),
        ("holding_bit_4", json!(false), None, "good"),
        ("input_bit_15", json!(true), None, "good"),
        ("bits_8_to_11", json!(5), None, "good"),
        ("bits_12_to_15", json!(10), Some("maintenance"), "good"),
        ("operating_state", json!(2), Some("running"), "good"),
        ("voltage_v", json!(230.1), None, "good"),
        ("no_i16", Value::Null, None, "bad: not available"),
        ("no_u32", Value::Null, None, "bad: not available"),
        ("temperature_c", json!(-15.0), None, "good"),
        ("humidity_percent", Value::Null, None, "bad: out of range"),
        ("scaled_by_nothing", Value::Null, None, "bad: bad scale factor"),
        ("name", json!("Zähler 77"), None, "good"),
        ("no_f32", Value::Null, None, "bad: not a number"),
        ("input_f32", json!(-40.5), None, "good"),
        ("unsure", json!(17), None, "uncertain: unsure map"),
        ("not_there", Value::Null, None, "bad: exception 2 (illegal data address)"),
    ];
    all.extend(others.map(|(name, value, state, quality)| (name.to_owned(), value, state, quality)));
    all.into_iter().map(|(name, value, state, quality)| (name, (value, state, quality))).collect()
}

/// Starts the device of another make and waits until it answers; gives the TCP port or serial port it is at.
fn device(arguments: &[&str]) -> (Script, String) {
    let script = Script::start("pymodbus_device.py", arguments);
    let port = script.port().to_owned();
    (script, port)
}

/// Two serial ports joined by socat.
fn serial_line(directory: &Path) -> (Process, [String; 2]) {
    let ports = ["device", "gateway"].map(|end| directory.join(end).display().to_string());
    let ends = ports.each_ref().map(|port| format!("pty,rawer,link={port}"));
    let mut command = Command::new("socat");
    let spawned = command.args(["-d", "-d"]).args(ends).stderr(Stdio::piped()).spawn();
    let mut process =
        Process(spawned.unwrap_or_else(|error| panic!("cannot run socat: {error}; tests/run installs it")));
    let log: BufReader<ChildStderr> = BufReader::new(process.0.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("starting data transfer loop")), "socat joins no ports");
    // It would be killed by the next thing it says when nobody read it.
    std::thread::spawn(move || lines.count());
    (process, ports)
}

fn installation(endpoint: &str) -> Installation {
    let links = format!(
        "\n[[link]]\nname = \"hall-a\"\n{endpoint}\ntimeout = \"2s\"\n\n[[device]]\nname = \"stranger\"\n\
         link = \"hall-a\"\nunit_id = {UNIT}\nprofile = \"another-make\"\ninterval = \"500ms\"\n"
    );
    Installation::new(NO_BROKER, &[("another-make", PROFILE)], &links)
}

fn assert_expected(readings: impl IntoIterator<Item = ShownReading>, from: &str) {
    let seen: BTreeMap<String, ShownReading> =
        readings.into_iter().map(|reading| (reading.point.clone(), reading)).collect();
    let expected = expected();
    assert!(seen.keys().eq(expected.keys()), "{from}: {:?}", seen.keys());
    for (point, (value, state, quality)) in expected {
        let reading = &seen[&point];
        let shown = (&reading.value, reading.state.as_deref(), reading.quality.as_str());
        assert_eq!(shown, (&value, state, quality), "{from}: {point}");
    }
}

/// What `lineside read` shows of the device.
async fn read(installation: &Installation) -> Vec<ShownReading> {
    let output = installation.lineside(&["read", "stranger", "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "there are bad readings: {output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The device as `read` shows it without agent, with one, and as `tail` does.
async fn assert_read_and_tailed(installation: &Installation) {
    assert_expected(read(installation).await, "read without agent");

    let agent: Agent<'_> = installation.start().await;
    assert_expected(read(installation).await, "read through the agent");
    let mut tail = agent.tail();
    let first = tail.next().await;
    let mut round = BTreeMap::from([(first.point.clone(), first)]);
    while round.len() < expected().len() {
        let reading = tail.next().await;
        round.insert(reading.point.clone(), reading);
    }
    assert_expected(round.into_values(), "tail");

    // Raw registers, as the profile would read them
    let arguments = words("read --link hall-a --table holding --count 2 --address 82 --json --unit 17");
    let raw = installation.lineside(&arguments).await;
    assert_eq!(serde_json::from_slice::<Value>(&raw.stdout).unwrap()["registers"], json!([2301, 65_535]), "{raw:?}");
    assert_eq!(agent.stop().await.code(), Some(0));
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_over_tcp_is_read_right() {
    let (_device, port) = device(&["tcp"]);
    assert_read_and_tailed(&installation(&format!("tcp = \"127.0.0.1:{port}\""))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_on_a_serial_line_is_read_right() {
    let directory: TempDir = tempfile::Builder::new().prefix("lineside-test-").tempdir().unwrap();
    let (_line, [far, near]) = serial_line(directory.path());
    let (_device, _) = device(&["serial", &far]);
    let endpoint = format!("rtu = {{ port = \"{near}\", baud_rate = 19200, parity = \"none\" }}");
    assert_read_and_tailed(&installation(&endpoint)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_with_serial_frames_over_tcp_is_read_right() {
    let (_device, port) = device(&["rtu-over-tcp"]);
    assert_read_and_tailed(&installation(&format!("rtu_over_tcp = \"127.0.0.1:{port}\""))).await;
}
