//! `lineside decode` with every kind of payload, from a file and from standard input, and with what is none; and the
//! help of all commands.
//!
//! With `LINESIDE_RECORD` set, the texts in `fixtures/cli/` are written anew.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use lineside::encoding::{Batch, BatchHeader, Order, Withheld, alarm, catalogue, columnar, json};
use lineside::model::{
    AlarmRecord, AlarmState, BootId, ClockState, Commit, CommitHeader, Doubt, Epoch, Fault, Gap, GapReason, Lane, Name,
    Observed, Priority, Records, Row, Scale, Sequence, SeriesId, SeriesInfo, Timestamp, Transition, Value, ValueKind,
};
use tempfile::TempDir;

const EPOCH: Epoch = Epoch([0x5f; 16]);
const TIME: Timestamp = Timestamp(1_795_404_600_123);

struct Said {
    exit: i32,
    out: String,
    err: String,
}

fn lineside(directory: &Path, arguments: &[&str], input: &[u8]) -> Said {
    let mut running = Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may have closed it already.
    let _ = running.stdin.take().unwrap().write_all(input);
    let output = running.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "{out}{err}");
    Said { exit: output.status.code().unwrap(), out, err }
}

fn series() -> Vec<SeriesInfo> {
    let labels = |device: &str| {
        let all = [("site", "lyon"), ("gateway", "gw-01"), ("device", device), ("line", "press")];
        Arc::new(BTreeMap::from(all.map(|(key, value)| (key.to_owned(), value.to_owned()))))
    };
    let info = |device, name: &str, unit: &str, kind, scale| SeriesInfo {
        name: name.to_owned(),
        labels: labels(device),
        unit: unit.to_owned(),
        kind,
        scale,
        states: BTreeMap::new(),
    };
    let states = BTreeMap::from([(0, "off".to_owned()), (1, "running".to_owned())]);
    vec![
        info("press-1", "voltage_l1_v", "V", ValueKind::Int, Scale::new(0.1, 0.0)),
        info("press-1", "active_power_w", "W", ValueKind::F32, Scale::ONE),
        SeriesInfo { states, ..info("press-1", "state", "", ValueKind::Int, Scale::ONE) },
        info("press-1", "serial_number", "", ValueKind::Text, Scale::ONE),
        info("oven", "temperature_c", "°C", ValueKind::Int, Scale::new(1.5, -40.0)),
    ]
}

fn header(lane: Lane) -> BatchHeader {
    BatchHeader {
        site: Name::new("lyon").unwrap(),
        gateway: Name::new("gw-01").unwrap(),
        epoch: EPOCH,
        lane,
        first: Sequence(17),
        last: Sequence(18),
        oldest_undelivered: Sequence(17),
        order: Order::Live,
        part: None,
    }
}

fn commit(sequence: u64, records: Records) -> Commit {
    let header = CommitHeader {
        epoch: EPOCH,
        sequence: Sequence(sequence),
        boot: BootId([7; 16]),
        clock: ClockState::Synchronised,
        wall_minus_monotonic_ms: 12,
    };
    Commit { header, records }
}

fn gap(lane: Lane) -> Gap {
    let (first_time, last_time, reason) = (Timestamp(TIME.0 - 60_000), Timestamp(TIME.0 - 1_000), GapReason::StoreFull);
    Gap { lane, first: Sequence(3), last: Sequence(9), records: 1204, first_time, last_time, reason }
}

fn batch() -> Batch {
    let press = Row {
        series: [0, 1, 2, 3].map(SeriesId).into(),
        time: TIME,
        observed: vec![
            Observed::Good(Value::Int(2301)),
            Observed::Good(Value::F32(-7838.75)),
            Observed::Good(Value::Int(1)),
            Observed::Good(Value::Text("SN 42".into())),
        ],
    };
    let oven = Row {
        series: [4].map(SeriesId).into(),
        time: Timestamp(TIME.0 + 4),
        observed: vec![Observed::Uncertain(Value::Int(140), Doubt::Unstable)],
    };
    let silent = Row::all_bad([4].map(SeriesId).into(), Timestamp(TIME.0 + 1004), Fault::Timeout);
    let commits =
        vec![commit(17, Records::Readings(vec![press, oven, silent])), commit(18, Records::Gap(gap(Lane::Telemetry)))];
    Batch { header: header(Lane::Telemetry), commits, withheld: Withheld::default() }
}

fn alarms() -> Vec<Vec<u8>> {
    let record = AlarmRecord {
        name: "DeviceSilent".to_owned(),
        labels: BTreeMap::from([("device".to_owned(), "press-1".to_owned())]),
        time: TIME,
        transition: Transition::Raised,
        state: AlarmState::UnacknowledgedActive,
        priority: Priority::Medium,
        value: Some(3.0),
        annotations: BTreeMap::from([("summary".to_owned(), "press-1 does not answer".to_owned())]),
        readings: Vec::new(),
        by: None,
    };
    let header = BatchHeader { last: Sequence(17), ..header(Lane::Alarms) };
    let of_alarm = alarm::encode(&header, &commit(17, Records::Alarms(vec![record]))).unwrap();
    let of_gap = alarm::encode(&header, &commit(17, Records::Gap(gap(Lane::Alarms)))).unwrap();
    [of_alarm, of_gap].concat()
}

/// One payload of each kind, by name.
fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let all = series();
    let (site, gateway) = (Name::new("lyon").unwrap(), Name::new("gw-01").unwrap());
    let listed = (0..).map(SeriesId).zip(&all);
    let part = catalogue::encode(&site, &gateway, EPOCH, listed, 100_000).remove(0);
    let info_of = |id: SeriesId| all.get(id.0 as usize).cloned().map(Arc::new);
    let [raised, lost] = alarms().try_into().unwrap();
    vec![
        ("columnar", columnar::encode(&batch()).unwrap()),
        ("json", json::encode(&batch(), &info_of).unwrap()),
        ("alarm", raised),
        ("alarm-gap", lost),
        ("catalogue", part.payload),
        ("state", br#"{"online":true,"site":"lyon"}"#.to_vec()),
    ]
}

fn written() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, payload) in payloads() {
        fs::write(directory.path().join(name), payload).unwrap();
    }
    directory
}

fn compare(record: &str, found: &str) {
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cli").join(record);
    if std::env::var_os("LINESIDE_RECORD").is_some() {
        fs::write(&record, found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&record).unwrap(), "{}", record.display());
}

#[test]
fn each_kind_of_payload_is_shown_from_a_file_and_from_standard_input() {
    let directory = written();

    for (name, payload) in payloads() {
        let of_file = lineside(directory.path(), &["decode", name], b"");
        let of_input = lineside(directory.path(), &["decode"], &payload);
        let json = lineside(directory.path(), &["decode", "--json", "-"], &payload);

        assert_eq!((of_file.exit, of_file.err.as_str()), (0, ""), "{name}");
        assert_eq!(of_file.out, of_input.out, "{name}");
        compare(&format!("decode-{name}.txt"), &of_file.out);
        let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!((json.exit, &value["site"]), (0, &"lyon".into()), "{name}");
    }
}

#[test]
fn the_catalogue_gives_names_units_and_states_to_a_columnar_batch() {
    let directory = written();
    let arguments = ["decode", "columnar", "--catalogue", "catalogue"];

    let said = lineside(directory.path(), &arguments, b"");
    let json = lineside(directory.path(), &[&arguments[..], &["--json"]].concat(), b"");

    compare("decode-columnar-named.txt", &said.out);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["readings"][0]["value"], 230.1);
    assert_eq!(value["readings"][0]["unit"], "V");
    assert_eq!(value["readings"][5]["quality"], "bad: timeout");
}

#[test]
fn what_is_no_payload_gets_one_line_and_exit_code_2() {
    let directory = written();
    let columnar = columnar::encode(&batch()).unwrap();
    let mut flipped = columnar.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let refused: [(&[u8], &str); 7] = [
        (b"", "standard input: not a lineside payload: it is empty"),
        (b"junk", "standard input: not a lineside payload: neither a zstd frame nor a JSON object"),
        (b"{\"online\": tru", "standard input: not a lineside payload: EOF while parsing"),
        (b"\xff\xfe\x00", "standard input: not a lineside payload"),
        (b"{\"type\": \"batch\", \"format\": 1}", "standard input: damaged lineside payload"),
        (&columnar[..columnar.len() / 2], "standard input: damaged lineside payload: zstd"),
        (&flipped, "standard input: damaged lineside payload"),
    ];

    for (payload, why) in refused {
        let said = lineside(directory.path(), &["decode"], payload);

        assert_eq!((said.exit, said.out.as_str(), said.err.lines().count()), (2, "", 1), "{payload:?}: {}", said.err);
        assert!(said.err.starts_with(why), "{}", said.err);
    }
    for (arguments, why) in [
        (&["decode", "no-such-file"][..], "no-such-file: cannot be read: No such file or directory"),
        (&["decode", "."], ".: cannot be read: Is a directory"),
        (&["decode", "columnar", "--catalogue", "alarm"], "alarm: not a part of a catalogue"),
    ] {
        let said = lineside(directory.path(), arguments, b"");

        assert_eq!((said.exit, said.out.as_str(), said.err.lines().count()), (2, "", 1), "{arguments:?}");
        assert!(said.err.starts_with(why), "{}", said.err);
    }
}

/// What prints no data of its own, or prints it in a format that is read by other programs as it is.
const WITHOUT_JSON: [&str; 8] = [
    "run",
    "forget",
    "rules export",
    "store export",
    "config diff",
    "command config",
    "support-bundle",
    "profiles show",
];

/// `command`, or each command below it, prints its data as JSON when asked.
fn assert_gives_json(directory: &Path, command: &str, help: &str) {
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = below.filter_map(|line| line.strip_prefix("  ")?.split_once("  ").map(|(name, _)| name.trim()));
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    if names.is_empty() {
        assert!(help.contains("--json") || WITHOUT_JSON.contains(&command), "{command}: {help}");
    }
    for name in names {
        let help = lineside(directory, &[command, name, "--help"], b"").out;
        let is_without = WITHOUT_JSON.contains(&format!("{command} {name}").as_str());
        assert!(help.contains("--json") || is_without, "{command} {name}: {help}");
    }
}

#[test]
fn every_command_explains_itself_and_each_of_its_options() {
    let directory = tempfile::tempdir().unwrap();
    let overview = lineside(directory.path(), &["--help"], b"").out;
    let commands: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_once("  ").map(|(name, _)| name.trim()))
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();

    for required in ["run", "check", "status", "tail", "read", "decode"] {
        assert!(commands.contains(&required), "{overview}");
    }
    for command in commands {
        let help = lineside(directory.path(), &[command, "--help"], b"");

        assert_eq!((help.exit, help.err.as_str()), (0, ""), "{command}");
        assert!(help.out.contains(&format!("Usage: lineside {command}")), "{}", help.out);
        assert!(help.out.lines().all(|line| line.chars().count() <= 100), "{}", help.out);
        assert_gives_json(directory.path(), command, &help.out);
        let options = help.out.lines().skip_while(|line| *line != "Options:");
        let lines: Vec<&str> = options.map(str::trim_start).collect();
        for (option, next) in lines.iter().zip(&lines[1..]).filter(|(line, _)| line.starts_with('-')) {
            // A value of an option, explained behind its colon.
            if option.strip_prefix("- ").is_some_and(|value| value.contains(": ")) {
                continue;
            }
            let explained = option.trim_end().contains("  ") || next.starts_with(|c: char| c.is_uppercase());
            assert!(explained, "{command} {option}");
        }
    }
}
