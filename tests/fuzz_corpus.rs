//! Replays the corpus of the fuzz targets for commands and configurations: nothing in it makes them panic. The long mode
//! is `cargo fuzz run command -- -max_total_time=600`, and the same for `configuration`.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

use std::path::Path;

use lineside::commands::verb::Verb;
use lineside::commands::{desired, order};
use lineside::config::{self, RemoteConfig};

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<(String, Vec<u8>)> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "the corpus of {target} is there");
    cases
}

#[test]
fn whatever_arrives_as_a_command_is_understood_or_refused() {
    let mut understood = 0;
    for (name, bytes) in corpus("command") {
        let read = order::parse(&bytes, "7").map(|(_, order)| Verb::parse(&order.command, &order.arguments));
        understood += usize::from(matches!(read, Ok(Ok(_))));
        println!("{name}: {read:?}");
    }
    assert!(understood >= 4, "{understood} are in order");
}

#[test]
fn whatever_arrives_as_a_configuration_is_understood_or_refused() {
    for (name, bytes) in corpus("configuration") {
        let wanted = desired::verify(&RemoteConfig::default(), "lyon/gw-01", &bytes);
        assert!(wanted.is_err(), "{name}: without keys nothing is genuine");
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let read = config::parse(text, "configuration.toml", Path::new("/nonexistent"));
            assert_eq!(read.is_ok(), name == "smallest", "{name}: {read:?}");
        }
    }
}
