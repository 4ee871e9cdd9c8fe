//! Whatever arrives as a configuration, and whatever stands in its files.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use lineside::commands::desired;
use lineside::config::{self, RemoteConfig};

fuzz_target!(|bytes: &[u8]| {
    let _ = desired::verify(&RemoteConfig::default(), "lyon/gw-01", bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = config::parse(text, "configuration.toml", Path::new("/nonexistent"));
    }
});
