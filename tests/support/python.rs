//! Devices of other makes, in Python: scripts of this directory that answer until their input closes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn python() -> PathBuf {
    let chosen = std::env::var_os("LINESIDE_TEST_PYTHON").map(PathBuf::from);
    let python = chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python"));
    assert!(
        python.exists(),
        "{} is missing: tests/run installs it, or set LINESIDE_TEST_PYTHON to a Python with pymodbus",
        python.display()
    );
    python
}

/// A script that serves a device.
pub struct Script {
    _process: Process,
    output: BufReader<ChildStdout>,
    port: String,
}

impl Script {
    /// Starts `name` and waits until it says `ready PORT`.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name);
        let mut command = Command::new(python());
        // It ends when its input does, also when this test is killed.
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("{name} does not start: {line:?}"));
        Self { port: port.to_owned(), _process: process, output }
    }

    /// The TCP port or serial port that it answers at.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}
