//! Every key that the program reads stands in docs/configuration.md, and nothing else does.
//!
//! The reader of a section names its keys when it meets one that it does not know: those lists are compared.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lineside::config;

/// A key in every section that the reader does not know.
const CONFIGURATION: &str = r#"
[gateway]
unknown = 1
site = "lyon"
id = "gw-01"
[store]
unknown = 1
path = "store"
[clock]
unknown = 1
[mqtt]
unknown = 1
url = "mqtt://broker.example"
batch = { unknown = 1 }
backlog = { unknown = 1 }
health = { unknown = 1 }
[rules]
unknown = 1
[[forward]]
unknown = 1
[remote]
unknown = 1
[[remote.key]]
unknown = 1
[[write]]
unknown = 1
[[link]]
unknown = 1
name = "bus"
rtu = { unknown = 1 }
[[link]]
name = "scale"
text = { unknown = 1 }
[[link]]
name = "panel"
tcp = "10.0.0.5:502"
[[device]]
unknown = 1
name = "meter"
link = "panel"
unit_id = 1
profile = "abb-b23"
tags = { active_power_w = { unknown = 1 } }
"#;

const PUSHED: &str = "[mqtt]\nunknown = 1\n";

type Sections = BTreeMap<String, BTreeSet<String>>;

/// The keys of each section, as the faults of its reader name them.
fn read(faults: &[lineside::settings::FileFault], sections: &mut Sections, heading: impl Fn(&str) -> String) {
    for fault in faults {
        let Some((_, known)) = fault.reason.split_once("(known here: ") else { continue };
        let section = fault.key.strip_suffix(".unknown").unwrap_or_default();
        let keys = known.trim_end_matches(')').split(", ").map(str::to_owned);
        sections.entry(heading(section)).or_default().extend(keys);
    }
}

/// The heading below which the document lists the keys of a section.
fn heading(section: &str) -> String {
    let plain: String = section.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    match plain.as_str() {
        "mqtt.batch" => "batch".to_owned(),
        "mqtt.backlog" => "backlog".to_owned(),
        "mqtt.health" => "health".to_owned(),
        "link.rtu" | "link.text" => "rtu, text".to_owned(),
        tag if tag.starts_with("device.tags") => "tags".to_owned(),
        list if section.ends_with(']') => format!("[[{list}]]"),
        table => format!("[{table}]"),
    }
}

/// The first column of each table, by the heading above it.
fn documented(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").or(line.strip_prefix("### ")) {
            current = title.to_owned();
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |"))
            && !current.is_empty()
        {
            sections.entry(current.clone()).or_default().insert(key.0.to_owned());
        }
    }
    sections
}

#[test]
fn the_reference_lists_exactly_the_keys_that_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut sections = Sections::new();
    let refused = config::parse(CONFIGURATION, "lineside.toml", directory.path()).unwrap_err();
    read(&refused.faults, &mut sections, heading);
    std::fs::write(directory.path().join(config::OVERLAY_FILE), PUSHED).unwrap();
    let refused = config::lay_over(&owners_own(directory.path()), directory.path()).unwrap_err();
    read(&refused.faults, &mut sections, |section| format!("[{section}] of a pushed configuration"));

    let reference = documented(&std::fs::read_to_string("docs/configuration.md").unwrap());

    assert_eq!(sections.len(), CONFIGURATION.matches("unknown").count(), "{sections:#?}");
    assert_eq!(sections, reference);
}

fn owners_own(directory: &Path) -> config::Config {
    let text = "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\n[store]\npath = \"store\"\n[mqtt]\nurl = \"mqtt://owner\"\n\
                [[link]]\nname = \"hall\"\ntcp = \"10.0.0.5:502\"\n[[device]]\nname = \"meter\"\nlink = \"hall\"\n\
                unit_id = 1\nprofile = \"abb-b23\"\n";
    config::parse(text, "lineside.toml", directory).unwrap()
}

/// A key in every section of profiles that the reader does not know. Two files: one for each protocol.
const REGISTERS: &str = r#"
manufacturer = "Acme"
model = "PM5"
unknown = 1
[modbus]
unknown = 1
table = "holding"
encoding = "u16"
[[point]]
unknown = 1
name = "power_w"
address = 0
read_whole = { address = 0, count = 1, unknown = 1 }
[identification]
unknown = 1
model = [{ name = "PM5", address = 1, number = 1, unknown = 1 }]
version = [
  { address = 2, unknown = 1 },
  { probe = { address = 3, count = 1, unknown = 1 }, answers = "2", refuses = "1" },
]
[[variant]]
unknown = 1
versions = "2.."
shift = [{ table = "holding", first = 0, last = 1, by = 1, unknown = 1 }]
change = [{ name = "power_w", address = 3, unknown = 1 }]
"#;

const MODELS: &str = r#"
manufacturer = "any"
model = "SunSpec"
modbus = { table = "holding", encoding = "u16" }
[[sunspec]]
unknown = 1
ids = [101]
point = [{ name = "power_w", address = 2 }]
"#;

const LINES: &str = r#"
manufacturer = "Acme"
model = "Scale"
[text]
unknown = 1
[[text.pattern]]
unknown = 1
expression = '''(?<weight_g>\d+)'''
[[point]]
unknown = 1
name = "weight_g"
"#;

fn heading_of_registers(section: &str) -> String {
    let plain: String = section.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    match plain.as_str() {
        "" => "The file".to_owned(),
        "point.read_whole" => "read_whole".to_owned(),
        "identification.version.probe" => "probe".to_owned(),
        "identification.model" | "identification.version" => plain,
        "variant.shift" | "variant.change" => plain.trim_start_matches("variant.").to_owned(),
        _ if section.ends_with(']') => format!("[[{plain}]]"),
        _ => format!("[{plain}]"),
    }
}

fn heading_of_lines(section: &str) -> String {
    match heading_of_registers(section).as_str() {
        "[[point]]" => "[[point]] of a text instrument".to_owned(),
        other => other.to_owned(),
    }
}

fn profile_reference() -> String {
    std::fs::read_to_string("firmware-profiles/README.md").unwrap()
}

#[test]
fn the_reference_of_profiles_lists_exactly_the_keys_that_are_read() {
    let mut sections = Sections::new();
    let refused = |text: &str| lineside::profile::file::parse("x.toml", "x", text).unwrap_err();
    read(&refused(REGISTERS), &mut sections, heading_of_registers);
    read(&refused(MODELS), &mut sections, heading_of_registers);
    read(&refused(LINES), &mut sections, heading_of_lines);

    let reference = documented(&profile_reference());

    let differing: Vec<_> = sections.iter().filter(|(name, keys)| reference.get(*name) != Some(keys)).collect();
    assert!(differing.is_empty(), "read: {differing:#?}\ndocumented: {reference:#?}");
    let names: BTreeSet<&String> = reference.keys().filter(|name| !TABLES_OF_VALUES.contains(&name.as_str())).collect();
    assert_eq!(names, sections.keys().collect());
}

/// Headings below which tables list values instead of keys.
const TABLES_OF_VALUES: [&str; 6] = ["Scale", "Tables", "Addresses", "Encodings", "Clocks", "Schemes"];

#[test]
fn every_example_in_the_reference_of_profiles_is_a_profile() {
    let text = profile_reference();
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect();

    assert!(examples.len() > 5);
    for example in examples {
        let read = lineside::profile::file::parse("README.md", "example", example);
        assert!(read.is_ok(), "{example}\n{read:?}");
    }
}

#[test]
fn the_reference_of_profiles_names_every_value_that_a_key_can_have() {
    let text = profile_reference();
    let wrong = "manufacturer = \"A\"\nmodel = \"B\"\n[modbus]\ntable = \"x\"\nencoding = \"x\"\nword_order = \"x\"\n\
                 byte_order = \"x\"\naddressing = \"x\"\n[[point]]\nname = \"a\"\naddress = 0\n[identification]\n\
                 scheme = \"x\"\nmodel = [{ name = \"m\", address = 0, number = 1, encoding = \"x\" }]\n";
    let faults = lineside::profile::file::parse("x.toml", "x", wrong).unwrap_err();
    let mut values = 0;
    for fault in &faults {
        let Some((_, allowed)) = fault.reason.split_once("must be one of ") else { continue };
        for value in allowed.split(", ") {
            values += 1;
            assert!(
                text.contains(&format!("`{}`", value.trim_matches('"'))),
                "{value} of {} is not described",
                fault.key
            );
        }
    }
    assert!(values > 40, "{values}: {faults:#?}");
}
