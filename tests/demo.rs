//! The demonstration as a visitor runs it: it ends by itself, and every answer of the plant has arrived once.

#![cfg(test)]
#![cfg(feature = "demo")]

use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The summary of a demonstration in which nothing went wrong.
fn assert_complete(output: &Output) -> Value {
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    for nothing in ["missing", "duplicates", "contradictions", "undecodable"] {
        assert_eq!(summary[nothing], 0, "{summary:#}");
    }
    let figure = |key: &str| summary[key].as_u64().unwrap();
    assert!(figure("answered") > 0 && figure("readings_decoded") >= figure("answered"), "{summary:#}");
    assert_eq!(figure("readings_taken"), figure("readings_stored"), "{summary:#}");
    assert_eq!(summary["examples"], Value::Array(Vec::new()));
    summary
}

#[test]
fn it_survives_a_dead_device_and_an_absent_broker_and_proves_it() {
    let output = demo(&["--for", "22s", "--json"]).output().unwrap();

    let summary = assert_complete(&output);
    let figure = |key: &str| summary[key].as_u64().unwrap();
    assert!(output.stderr.is_empty(), "with --json nothing else is said: {output:?}");
    assert!((22.0..25.0).contains(&summary["seconds"].as_f64().unwrap()), "{summary:#}");
    assert!(figure("answered") > 1_000, "some hundred points each second: {summary:#}");
    assert!(figure("readings_taken") > figure("answered"), "a dead device gives bad readings: {summary:#}");
    assert!(figure("rule_fired") >= 1 && figure("rule_cleared") >= 1, "a rule fires and clears: {summary:#}");
    assert!(figure("alarms") >= 2, "the death of a device and its return are told: {summary:#}");
}

#[test]
fn control_c_ends_it_with_the_summary() {
    let child = demo(&["--json"]).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let interrupt = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(4));
        kill_process(pid, Signal::INT).unwrap();
    });

    let output = child.wait_with_output().unwrap();

    interrupt.join().unwrap();
    let summary = assert_complete(&output);
    assert!(summary["seconds"].as_f64().unwrap() < 8.0, "{summary:#}");
}
