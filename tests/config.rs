//! A configuration is resolved as recorded, or refused with all its faults at once and nothing started.
//!
//! A new case in `fixtures/config/` needs no code: a directory with `lineside.toml` and either `expected.txt` (what it
//! means) or `error.txt` (what `check` and `run` say). With `LINESIDE_RECORD` set, the records are written anew.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lineside::config::{self, Config, LinkConfig, MqttConfig};
use lineside::modbus::plan::{self, PlanPoint};
use lineside::profile::{Profile, Protocol, file, shipped};
use lineside::settings::FileFault;
use proptest::prelude::*;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All cases that have a record of this name.
fn cases(record: &str) -> Vec<PathBuf> {
    let cases = fs::read_dir(project("tests/fixtures/config")).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = cases.filter(|case| case.join(record).exists()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn compare(record: &Path, found: &str) {
    if std::env::var_os("LINESIDE_RECORD").is_some() {
        fs::write(record, found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(record).unwrap(), "{}", record.display());
}

fn lineside(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lineside"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("LINESIDE_CONFIG")
        .output()
        .unwrap()
}

#[test]
fn a_configuration_means_what_is_recorded() {
    for case in cases("expected.txt") {
        let found = match config::load(&case.join("lineside.toml")) {
            Ok(config) => shown(&config).replace(&format!("{}/", case.display()), ""),
            Err(error) => panic!("{error}"),
        };

        compare(&case.join("expected.txt"), &found);
    }
}

#[test]
fn what_is_refused_is_refused_with_all_its_faults_by_check_and_run_alike() {
    for case in cases("error.txt") {
        for command in ["check", "run"] {
            let output = lineside(&case, &[command, "--config", "lineside.toml"]);

            assert_eq!(output.status.code(), Some(2), "{command} {}", case.display());
            assert!(output.stdout.is_empty(), "{command} {}", case.display());
            compare(&case.join("error.txt"), &String::from_utf8(output.stderr).unwrap());
            assert!(!case.join("store").exists(), "nothing is started");
        }
    }
}

#[test]
fn check_gives_the_same_faults_as_json() {
    let case = project("tests/fixtures/config/bad-values");

    let output = lineside(&case, &["check", "--json", "--config", "lineside.toml"]);

    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = serde_json::json!({
        "file": "lineside.toml",
        "line": 2,
        "key": "gateway.site",
        "value": "\"Lyon\"",
        "reason": "must be 1 to 64 characters of a-z, 0-9, '_' or '-', and start with a letter or digit",
        "section": null,
    });
    let lines = fs::read_to_string(case.join("error.txt")).unwrap().lines().count();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(report["ok"], false);
    assert_eq!(report["faults"].as_array().unwrap().len(), lines);
    assert_eq!(report["faults"][0], first);
}

/// Only the files that the owner has to provide are put in place.
fn as_on_a_gateway(text: &str) -> Config {
    let machine = tempfile::tempdir().unwrap();
    let etc = machine.path().display().to_string();
    let text = text.replace("/etc/lineside", &etc);
    for file in text.split('"').filter(|word| word.starts_with(&etc)) {
        fs::write(file, "only its presence is checked").unwrap();
    }
    config::parse(&text, "lineside.toml", machine.path()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_configuration_in_the_readme_is_good() {
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();

    let config = as_on_a_gateway(example);

    assert_eq!(config.links.len(), 2);
}

#[test]
fn the_example_configuration_is_good_and_so_are_the_lines_it_leaves_out() {
    let text = fs::read_to_string(project("deploy/lineside.toml")).unwrap();
    let is_setting = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key);
        line.starts_with("# [[")
            || key.is_some_and(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    };
    let uncommented: Vec<&str> =
        text.lines().map(|line| if is_setting(line) { line.trim_start_matches("# ") } else { line }).collect();

    let config = as_on_a_gateway(&text);
    let complete = as_on_a_gateway(&uncommented.join("\n"));

    assert_eq!(config.links.iter().map(|link| link.devices.len()).sum::<usize>(), 4);
    assert!(config.mqtt.credentials.is_none());
    assert_eq!(complete.forward.len(), 2);
    assert!(complete.mqtt.credentials.is_some() && complete.mqtt.tls.unwrap().client.is_some());
}

/// One thing that can happen to a file in an editor, on a bad card, or by a program that writes it.
#[derive(Debug, Clone)]
enum Damage {
    LineGone(usize),
    LineTwice(usize),
    LinesSwapped(usize, usize),
    CutAt(usize),
    Inserted(usize, String),
    /// A value (or what looks like one) in the place of another.
    Replaced(usize, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let word = prop_oneof![
        proptest::sample::select(vec![
            "0",
            "-1",
            "65535",
            "70000",
            "9223372036854775807",
            "-9223372036854775808",
            "1e400",
            "nan",
            "inf",
            "0x",
            "0xFFFF",
            "\"\"",
            "\"0s\"",
            "\"18446744073709551615h\"",
            "\"18446744073709551615GiB\"",
            "\"0..15\"",
            "\"0xFFFFFFFFFFFFFFFF\"",
            "\"tcp\"",
            "\"u64\"",
            "\"string\"",
            "\"bit\"",
            "\"coil\"",
            "true",
            "[]",
            "[[]]",
            "{}",
            "{ a = {} }",
            "1979-05-27",
            "'''(?<weight_g>'''",
            "'''(a{1000}){1000}'''",
            "\"\\u0000\"",
            "[1, 2",
            "\"",
            "=",
            "[",
            "]",
            "\n",
            "#",
            "\u{feff}",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    prop_oneof![
        place.clone().prop_map(Damage::LineGone),
        place.clone().prop_map(Damage::LineTwice),
        (place.clone(), place.clone()).prop_map(|(a, b)| Damage::LinesSwapped(a, b)),
        place.clone().prop_map(Damage::CutAt),
        (place.clone(), word.clone()).prop_map(|(at, word)| Damage::Inserted(at, word)),
        (place, word).prop_map(|(at, word)| Damage::Replaced(at, word)),
    ]
}

fn apply(text: &str, damage: &Damage) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let line = |at: usize| at % lines.len().max(1);
    let offset = |at: usize| (0..=at % (text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    match damage {
        _ if lines.is_empty() => return text.to_owned(),
        Damage::LineGone(at) => drop(lines.remove(line(*at))),
        Damage::LineTwice(at) => lines.insert(line(*at), lines[line(*at)]),
        Damage::LinesSwapped(a, b) => {
            let (a, b) = (line(*a), line(*b));
            lines.swap(a, b);
        }
        Damage::CutAt(at) => return text[..offset(*at)].to_owned(),
        Damage::Inserted(at, word) => return format!("{}{word}{}", &text[..offset(*at)], &text[offset(*at)..]),
        Damage::Replaced(at, word) => {
            let at = line(*at);
            let replaced = match lines[at].split_once('=') {
                Some((key, _)) => format!("{key}= {word}"),
                None => word.clone(),
            };
            lines[at] = &replaced;
            return lines.join("\n");
        }
    }
    lines.join("\n")
}

fn hurt(good: &str, damages: &[Damage]) -> String {
    damages.iter().fold(good.to_owned(), |text, damage| apply(&text, damage))
}

/// Either all is good or each fault is one line that says something.
fn assert_said_well(faults: &[FileFault], text: &str) {
    for fault in faults {
        let shown = fault.to_string();
        assert!(!fault.reason.is_empty() && !shown.contains(char::is_control), "{shown:?} about {text:?}");
        assert!(fault.line.is_none_or(|line| line <= text.lines().count() + 1), "{shown} about {text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_damaged_configuration_is_never_worse_than_refused(damages in prop::collection::vec(damage(), 1..6)) {
        let case = project("tests/fixtures/config/everything");
        let text = hurt(&fs::read_to_string(case.join("lineside.toml")).unwrap(), &damages);

        if let Err(error) = config::parse(&text, "lineside.toml", &case) {
            prop_assert!(!error.faults.is_empty());
            assert_said_well(&error.faults, &text);
        }
    }

    #[test]
    fn a_damaged_profile_is_never_worse_than_refused(
        id in proptest::sample::select(shipped::ids().collect::<Vec<_>>()),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let text = hurt(shipped::text(id).unwrap(), &damages);

        match file::parse("x.toml", id, &text) {
            Ok(profile) => plan_all(&profile),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                assert_said_well(&faults, &text);
            }
        }
    }
}

/// A profile that was accepted can be planned.
fn plan_all(profile: &Profile) {
    if let Protocol::Modbus(modbus) = &profile.protocol {
        let every = (0..modbus.points.len()).map(|point| PlanPoint { point, interval: Duration::from_secs(1) });
        plan::plan(&modbus.points, &every.collect::<Vec<_>>(), &plan::Terms::fewest(modbus.limits)).unwrap();
    }
}

/// What a configuration means, for people to compare.
fn shown(config: &Config) -> String {
    let Config { gateway, clock, store, mqtt, profiles: _, rules, forward, remote, writes, links, pushed: _ } = config;
    let mut text = format!("gateway {}/{}, socket {}\n", gateway.site, gateway.id, gateway.socket.display());
    let limit = store.limit_bytes;
    writeln!(text, "clock {clock:?}").unwrap();
    writeln!(
        text,
        "store {}, {limit} bytes, commits each {:?}, full: {:?}",
        store.path.display(),
        store.commit_interval,
        store.when_full
    )
    .unwrap();
    if store.commit_interval_max > store.commit_interval {
        writeln!(text, "  at most {:?}", store.commit_interval_max).unwrap();
    }
    if let Some(endurance) = store.card_endurance_bytes {
        writeln!(text, "  card bears {endurance} bytes").unwrap();
    }
    show_mqtt(&mut text, mqtt);
    if !rules.files.is_empty() {
        writeln!(text, "rules {:?} in {} bytes", rules.files, rules.memory_bytes).unwrap();
    }
    if remote.is_on() {
        writeln!(text, "remote {remote:?}").unwrap();
    }
    for write in writes {
        writeln!(text, "write {write:?}").unwrap();
    }
    for selected in forward {
        writeln!(text, "forward {}: {:?}", selected.text, selected.forward).unwrap();
    }
    links.iter().for_each(|link| show_link(&mut text, link));
    text
}

fn show_mqtt(text: &mut String, mqtt: &MqttConfig) {
    let MqttConfig { host, port, tls, protocol, client_id, credentials, prefix, keep_alive, fallback_after: _, .. } =
        mqtt;
    let MqttConfig { batch, backlog, .. } = mqtt;
    writeln!(text, "mqtt {host} port {port}, {protocol:?}, client {client_id}, keep alive {keep_alive:?}").unwrap();
    writeln!(text, "  prefix {prefix}").unwrap();
    writeln!(text, "  tls {tls:?}").unwrap();
    writeln!(text, "  credentials {credentials:?}").unwrap();
    writeln!(text, "  batch {batch:?}").unwrap();
    writeln!(text, "  {backlog:?}").unwrap();
}

fn show_link(text: &mut String, link: &LinkConfig) {
    writeln!(text, "link {}: {}, timeout {:?}", link.name, link.endpoint, link.timeout).unwrap();
    for device in &link.devices {
        let unit = device.unit.map(|unit| format!(" unit {unit}")).unwrap_or_default();
        writeln!(text, "  device {}:{unit} {}", device.name, device.profile.id).unwrap();
        for tag in &device.tags {
            let series = &tag.series;
            let what = format!("{:?} {:?} {:?}", series.kind, series.unit, series.scale);
            writeln!(text, "    {series} each {:?}: {what} {:?}", tag.interval, series.states).unwrap();
            if let Some(forward) = &tag.forward {
                writeln!(text, "      forward {forward:?}").unwrap();
            }
        }
    }
}
