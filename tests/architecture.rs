//! The rules of the house: layers, file length, and which library is named where.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A module may use only modules of a lower rank. `main` may use `cli`.
const RANKS: [(&str, u8); 25] = [
    ("model", 0),
    ("kernel", 0),
    ("port", 1),
    ("supervisor", 1),
    ("database", 1),
    ("clock", 1),
    ("settings", 1),
    ("logging", 2),
    ("profile", 2),
    ("config", 2),
    ("modbus", 3),
    ("instrument", 3),
    ("poll", 4),
    ("buffer", 4),
    ("rules", 4),
    ("encoding", 4),
    ("mqtt", 4),
    ("ingest", 5),
    ("uplink", 5),
    ("actions", 5),
    ("diagnostics", 6),
    ("commands", 6),
    ("agent", 7),
    ("cli", 8),
    ("simulator", 8),
];

/// Uses within one rank that the layers allow: what the installation wants is told in profiles, and whoever commands from
/// afar sees what whoever asks on the spot sees.
const WITHIN_A_RANK: [(&str, &str); 3] = [("config", "profile"), ("cli", "simulator"), ("commands", "diagnostics")];

const LINES_MAX: usize = 500;

/// A crate and the files that may name it.
const ONLY_IN: [(&str, &[&str]); 6] = [
    ("toml", &["src/settings/"]),
    ("ring", &["src/commands/signature.rs"]),
    ("sled", &["src/database/sled_engine.rs"]),
    ("rumqttc", &["src/mqtt/", "src/cli/demo"]),
    ("rumqttd", &["src/cli/demo"]),
    (
        "tokio_serial",
        &["src/modbus/client", "src/instrument/client", "src/modbus/transport", "src/simulator/", "src/modbus/serial"],
    ),
];

/// Modules that decide: no async, no clock.
const PURE: [&str; 35] = [
    "src/model/",
    "src/modbus/plan",
    "src/modbus/codec",
    "src/modbus/frame",
    "src/modbus/rtu",
    "src/modbus/mbap",
    "src/poll/closings",
    "src/modbus/timing",
    "src/modbus/exception",
    "src/modbus/lessons",
    "src/modbus/guess",
    "src/modbus/trace",
    "src/poll/learned",
    "src/instrument/pattern",
    "src/instrument/frame",
    "src/buffer/commit",
    "src/buffer/open_commit",
    "src/buffer/wal/frame",
    "src/buffer/retention",
    "src/rules/",
    "src/encoding/",
    "src/mqtt/in_flight",
    "src/commands/answer",
    "src/commands/gate",
    "src/commands/desired",
    "src/commands/order",
    "src/commands/verb",
    "src/commands/write/basis",
    "src/commands/write/sent",
    "src/config/pushed",
    "src/modbus/write",
    "src/modbus/encode",
    "src/uplink/sizing",
    "src/uplink/forward",
    "src/diagnostics/problems/",
];

struct Source {
    path: String,
    module: String,
    /// Without comments and without the tests at its end.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.iter().map(|file| read(root, file)).collect()
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, into),
            false if path.extension().is_some_and(|extension| extension == "rs") => into.push(path),
            false => {}
        }
    }
}

fn read(root: &Path, file: &Path) -> Source {
    let text = std::fs::read_to_string(file).unwrap();
    let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let module = path.strip_prefix("src/").unwrap().split(['/', '.']).next().unwrap().to_owned();
    let is_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let code = if is_tests { String::new() } else { without_comments(before_tests) };
    Source { path, module, code, lines: text.lines().count() }
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Modules of this crate that the code names.
fn uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                found.extend(group.split(',').map(|item| first_word(item.trim())));
            }
            None => found.push(first_word(part)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn a_module_uses_only_lower_layers() {
    let ranks: BTreeMap<&str, u8> = RANKS.into_iter().collect();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !matches!(source.module.as_str(), "main" | "lib")) {
        let own = *ranks.get(source.module.as_str()).unwrap_or_else(|| panic!("{}: no rank", source.path));
        for used in uses(&source.code) {
            let allowed = used == source.module
                || ranks.get(used.as_str()).is_some_and(|rank| *rank < own)
                || WITHIN_A_RANK.contains(&(source.module.as_str(), used.as_str()));
            if !allowed {
                broken.push(format!("{} uses {used}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > LINES_MAX)
        .map(|source| format!("{}: {} lines", source.path, source.lines))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Whether the code says `library::`, and not as the end of a longer name or path.
fn names(code: &str, library: &str) -> bool {
    let path = format!("{library}::");
    let starts = code.match_indices(&path).map(|(at, _)| code[..at].chars().next_back());
    let is_whole = |before: Option<char>| before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | ':'));
    starts.into_iter().any(is_whole) || code.contains(&format!("use {library};"))
}

#[test]
fn a_library_is_named_only_where_it_is_tamed() {
    let mut broken = Vec::new();
    for source in sources() {
        for (library, files) in ONLY_IN {
            if names(&source.code, library) && !files.iter().any(|file| source.path.starts_with(file)) {
                broken.push(format!("{} names {library}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn what_decides_neither_waits_nor_reads_a_clock() {
    const FORBIDDEN: [&str; 5] = ["async ", ".await", "Instant::now", "SystemTime::now", "tokio::"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|file| source.path.starts_with(file))) {
        for word in FORBIDDEN.iter().filter(|word| source.code.contains(**word)) {
            broken.push(format!("{} contains {word:?}", source.path));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let files: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.code.contains("unsafe {") || source.code.contains("allow(unsafe_code)"))
        .map(|source| source.path)
        .collect();
    assert_eq!(files, ["src/kernel.rs"]);
}

/// Files whose code contains `text`, among those of these modules.
fn containing(text: &str, modules: &[&str]) -> Vec<String> {
    let is_meant = |source: &Source| modules.contains(&source.module.as_str()) && source.code.contains(text);
    let mut files: Vec<String> = sources().into_iter().filter(is_meant).map(|source| source.path).collect();
    files.sort();
    files
}

#[test]
fn only_known_files_send_bytes_to_devices() {
    // Given everything that knows links and ports.
    let modules =
        ["modbus", "instrument", "poll", "config", "profile", "kernel", "commands", "actions", "ingest", "agent"];

    // Then what goes out goes through the one client of each protocol.
    let devices = |file: &String| !file.starts_with("src/agent/learned") && !file.starts_with("src/commands/log_file");
    let senders: Vec<String> = containing(".write_all(", &modules).into_iter().filter(devices).collect();
    let told = senders.iter().filter(|file| !file.starts_with("src/commands/")).collect::<Vec<_>>();
    assert_eq!(told, ["src/instrument/client.rs", "src/modbus/client.rs", "src/modbus/transport.rs"]);
    // And what is asked of an instrument is what its profile says.
    assert_eq!(containing(".exchange(", &["instrument"]), ["src/instrument/client.rs"]);
    assert_eq!(containing("Mode::Ask(request.clone())", &["poll"]), ["src/poll/text.rs"]);
}

#[test]
fn only_the_guard_has_writes_sent() {
    let everything: Vec<&str> =
        RANKS.iter().map(|(module, _)| *module).filter(|module| *module != "simulator").collect();
    let built = |name: &str| {
        let literal = format!("{name} {{");
        let declared = [format!("struct {literal}"), format!("impl {literal}")];
        let builds = |source: &Source| {
            let all = source.code.matches(&literal).count();
            let others: usize = declared.iter().map(|text| source.code.matches(text.as_str()).count()).sum();
            all > others
        };
        let is_meant = |source: &Source| everything.contains(&source.module.as_str()) && builds(source);
        let mut files: Vec<String> = sources().into_iter().filter(is_meant).map(|source| source.path).collect();
        files.sort();
        files
    };
    // A request that writes is built from an order, an order from a ticket, and a ticket by the guard alone.
    assert_eq!(built("WriteRequest"), ["src/poll/poller/writing.rs"]);
    assert_eq!(built("WriteOrder"), ["src/commands/write/perform.rs"]);
    assert_eq!(built("Ticket"), ["src/commands/write/guard.rs"]);
    // Every other request for words is one of the four functions that read.
    for table in ["coil", "discrete", "holding", "input"] {
        let function = lineside::profile::Table::from_word(table).unwrap().read_function();
        assert!((1..=4).contains(&function), "{table}: {function}");
    }
}
