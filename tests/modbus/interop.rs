//! The Modbus client against pymodbus, an implementation that is not ours: TCP, and RTU over a socat pty pair.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lineside::config::{Endpoint, Parity, SerialSettings};
use lineside::modbus::{Client, PollError};
use lineside::model::UnitId;
use lineside::profile::Table;

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("LINESIDE_TEST_PYTHON").map_or_else(|| root.join("tests/.venv/bin/python"), PathBuf::from)
}

/// Starts pymodbus and waits until it listens.
fn pymodbus(arguments: &[&str]) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/modbus/pymodbus_server.py");
    let mut command = Command::new(python());
    let spawned = command.arg(script).args(arguments).stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
    let mut child = spawned.unwrap_or_else(|error| {
        panic!("{}: {error}: tests/run installs Python with pymodbus, or set LINESIDE_TEST_PYTHON", python().display())
    });
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let process = Process(child);
    assert_eq!(line.trim(), "ready", "pymodbus did not start; tests/run installs it");
    process
}

/// Two pseudo terminals joined by socat.
fn socat_pair(directory: &Path) -> (Process, PathBuf, PathBuf) {
    let (ours, theirs) = (directory.join("ours"), directory.join("theirs"));
    let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
    let spawned = Command::new("socat").args([end(&ours), end(&theirs)]).spawn();
    let process = Process(spawned.unwrap_or_else(|error| panic!("socat: {error}: tests/run installs it")));
    let begun = Instant::now();
    while !(ours.exists() && theirs.exists()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "socat made no pseudo terminals");
        std::thread::sleep(Duration::from_millis(10));
    }
    (process, ours, theirs)
}

async fn reads_what_pymodbus_holds(endpoint: Endpoint) {
    let mut client = Client::connect(&endpoint, Duration::from_secs(2)).await.unwrap();
    let mut words = Vec::new();
    for unit in [1_u8, 7] {
        let id = UnitId::serial(unit.into()).unwrap();
        let base = 5000 * u16::from(unit);
        client.read(id, Table::HoldingRegisters, 10, 125, &mut words).await.unwrap();
        assert_eq!(words, (base + 10..base + 135).collect::<Vec<u16>>());
        client.read(id, Table::InputRegisters, 999, 1, &mut words).await.unwrap();
        assert_eq!(words, [base + 1999]);
        client.read(id, Table::Coils, 5, 37, &mut words).await.unwrap();
        assert_eq!(words, (5..42).map(|address| u16::from(address % 3 == 0)).collect::<Vec<u16>>());
        client.read(id, Table::DiscreteInputs, 5, 8, &mut words).await.unwrap();
        assert_eq!(words, (6..14).map(|address| u16::from(address % 3 == 0)).collect::<Vec<u16>>());
    }
    let beyond = client.read(UnitId::serial(1).unwrap(), Table::HoldingRegisters, 999, 2, &mut words).await;
    assert!(matches!(beyond, Err(PollError::Exception(2))), "{beyond:?}");
}

#[tokio::test]
async fn pymodbus_is_read_over_tcp() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = pymodbus(&["tcp", &port.to_string()]);

    reads_what_pymodbus_holds(Endpoint::Tcp { host: "127.0.0.1".to_owned(), port }).await;
}

#[tokio::test]
async fn pymodbus_is_read_over_a_serial_line() {
    let directory = tempfile::tempdir().unwrap();
    let (_socat, port, theirs) = socat_pair(directory.path());
    let _server = pymodbus(&["rtu", &theirs.display().to_string(), "19200"]);

    let settings = SerialSettings { port, baud_rate: 19_200, parity: Parity::None, data_bits: 8, stop_bits: 1 };
    reads_what_pymodbus_holds(Endpoint::Rtu(settings)).await;
}
