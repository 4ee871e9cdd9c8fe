//! What more than one test needs: real servers and the faults between them.

#![allow(dead_code, reason = "every test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test whose set-up fails must fail")]

pub mod broker;
pub mod certificates;
pub mod commander;
pub mod consumer;
pub mod contention;
pub mod gateway;
pub mod installation;
pub mod machine;
pub mod meters;
pub mod plant;
pub mod proxy;
pub mod python;
pub mod raw_broker;
pub mod site;
pub mod small_disk;
pub mod test_clock;

use std::fmt::Display;
use std::future::Future;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

/// Longest wait for something that is certain to happen; only a failing test waits that long.
const CERTAIN: Duration = Duration::from_secs(30);

/// A directory that goes with the test. `tests/run` finds processes that were left behind by its name.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("lineside-test-").tempdir().unwrap()
}

/// Waits for `fact`; a test that never sees it fails with its name.
pub async fn within<T>(what: impl Display, fact: impl Future<Output = T>) -> T {
    match tokio::time::timeout(CERTAIN, fact).await {
        Ok(value) => value,
        Err(_) => panic!("waited {CERTAIN:?} in vain for {what}"),
    }
}

/// Runs a program to its end and fails the test when the program is missing or fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; tests/run installs what the tests need"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
