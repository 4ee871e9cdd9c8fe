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
