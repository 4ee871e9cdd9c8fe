//! The Modbus client against pymodbus and libmodbus, implementations that are not ours: TCP, a gateway with diverse unit
//! ids, and RTU over a socat pty pair.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lineside::config::{Endpoint, Parity, SerialSettings};
use lineside::modbus::write::{WriteRequest, WriteWith};
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

/// Compiles the server made of libmodbus, starts it and waits until it listens.
fn libmodbus(directory: &Path, arguments: &[&str]) -> Process {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/modbus/libmodbus_server.c");
    let program = directory.join("libmodbus_server");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(source).arg("-lmodbus").output();
    let compiled = compiled.unwrap_or_else(|error| panic!("cc: {error}: tests/run installs it"));
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "tests/run installs libmodbus-dev: {said}");
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let process = Process(child);
    assert_eq!(line.trim(), "ready", "libmodbus did not start");
    process
}

/// A port that nobody has.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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

async fn reads_what_the_server_holds(endpoint: Endpoint, units: &[u8]) {
    let mut client = Client::connect(&endpoint, Duration::from_secs(2)).await.unwrap();
    let mut words = Vec::new();
    for unit in units {
        let id = UnitId::tcp((*unit).into()).unwrap();
        let base = u16::from(*unit).wrapping_mul(5000);
        client.read(id, Table::HoldingRegisters, 10, 125, &mut words).await.unwrap();
        assert_eq!(words, (10..135).map(|address| base.wrapping_add(address)).collect::<Vec<u16>>());
        client.read(id, Table::InputRegisters, 999, 1, &mut words).await.unwrap();
        assert_eq!(words, [base.wrapping_add(1999)]);
        client.read(id, Table::Coils, 5, 37, &mut words).await.unwrap();
        assert_eq!(words, (5..42).map(|address| u16::from(address % 3 == 0)).collect::<Vec<u16>>());
        client.read(id, Table::DiscreteInputs, 5, 8, &mut words).await.unwrap();
        assert_eq!(words, (6..14).map(|address| u16::from(address % 3 == 0)).collect::<Vec<u16>>());
    }
    let first = UnitId::tcp(units[0].into()).unwrap();
    let beyond = client.read(first, Table::HoldingRegisters, 999, 2, &mut words).await;
    assert!(matches!(beyond, Err(PollError::Exception(2))), "{beyond:?}");
}

fn serial(port: PathBuf) -> Endpoint {
    let parity = Parity::None;
    Endpoint::Rtu(SerialSettings { port, baud_rate: 19_200, parity, data_bits: 8, stop_bits: 1, rs485: false })
}

fn tcp(port: u16) -> Endpoint {
    Endpoint::Tcp { host: "127.0.0.1".to_owned(), port }
}

/// What mbpoll, a client that is not ours, reads of unit 7.
fn mbpoll(place: &[&str], table: &str, address: u16, count: u16) -> Vec<u16> {
    let (address, count) = (address.to_string(), count.to_string());
    let own = ["-a", "7", "-t", table, "-0", "-1", "-q", "-r", &address, "-c", &count];
    let output = Command::new("mbpoll").args(own).args(place).output();
    let output = output.unwrap_or_else(|error| panic!("mbpoll: {error}: tests/run installs it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let values = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]:")?.1.trim().split(' ').next());
    values.map(|value| value.parse().unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

/// Coils and registers, one and several, with each of the four functions; neighbours stay.
async fn writes_what_another_client_reads(endpoint: Endpoint, place: &[&str]) {
    let mut client = Client::connect(&endpoint, Duration::from_secs(2)).await.unwrap();
    let unit = UnitId::tcp(7).unwrap();
    let coils = [1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0];
    // A line that hears itself is told from one that answers by the last read.
    client.read(unit, Table::Coils, 20, 1, &mut Vec::new()).await.unwrap();
    for (table, address, words, with, function) in [
        (Table::Coils, 40, vec![1], WriteWith::Single, 5),
        (Table::HoldingRegisters, 60, vec![4711], WriteWith::Single, 6),
        (Table::Coils, 21, coils.to_vec(), WriteWith::Multiple, 15),
        (Table::Coils, 43, vec![1], WriteWith::Multiple, 15),
        (Table::HoldingRegisters, 70, vec![1, 2, 65_535], WriteWith::Multiple, 16),
    ] {
        let request = WriteRequest { unit, table, address, words, with };
        assert_eq!(request.function(), function);
        client.write(&request).await.unwrap_or_else(|error| panic!("function {function}: {error}"));
    }
    drop(client);

    let kept = |address: u16| u16::from(address.is_multiple_of(3));
    assert_eq!(mbpoll(place, "0", 20, 14), [&[kept(20)], &coils[..], &[kept(32), kept(33)]].concat());
    assert_eq!(mbpoll(place, "0", 39, 6), [kept(39), 1, kept(41), kept(42), 1, kept(44)]);
    assert_eq!(mbpoll(place, "4", 59, 3), [35_059, 4711, 35_061]);
    assert_eq!(mbpoll(place, "4", 69, 5), [35_069, 1, 2, 65_535, 35_073]);
}

#[tokio::test]
async fn what_is_written_to_pymodbus_over_tcp_mbpoll_reads() {
    let port = free_port();
    let _server = pymodbus(&["tcp", &port.to_string()]);

    writes_what_another_client_reads(tcp(port), &["-m", "tcp", "-p", &port.to_string(), "127.0.0.1"]).await;
}

#[tokio::test]
async fn what_is_written_to_pymodbus_over_a_serial_line_mbpoll_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (_socat, port, theirs) = socat_pair(directory.path());
    let _server = pymodbus(&["rtu", &theirs.display().to_string(), "19200"]);

    let place = ["-m", "rtu", "-b", "19200", "-P", "none", port.to_str().unwrap()];
    writes_what_another_client_reads(serial(port.clone()), &place).await;
}

#[tokio::test]
async fn pymodbus_is_read_over_tcp() {
    let port = free_port();
    let _server = pymodbus(&["tcp", &port.to_string()]);

    reads_what_the_server_holds(tcp(port), &[1, 7]).await;
}

#[tokio::test]
async fn pymodbus_is_read_over_a_serial_line() {
    let directory = tempfile::tempdir().unwrap();
    let (_socat, port, theirs) = socat_pair(directory.path());
    let _server = pymodbus(&["rtu", &theirs.display().to_string(), "19200"]);

    reads_what_the_server_holds(serial(port), &[1, 7]).await;
}

#[tokio::test]
async fn diverse_units_behind_a_libmodbus_gateway_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = libmodbus(directory.path(), &["tcp", &port.to_string()]);

    // Whatever the order in which they are asked
    reads_what_the_server_holds(tcp(port), &[1, 7, 247, 255]).await;
    reads_what_the_server_holds(tcp(port), &[255, 1, 247, 1, 7]).await;

    // And what the gateway says of a unit that is not there is not taken for the unit's word
    let mut client = Client::connect(&tcp(port), Duration::from_secs(2)).await.unwrap();
    let absent = client.read(UnitId::tcp(33).unwrap(), Table::HoldingRegisters, 0, 1, &mut Vec::new()).await;
    let error = absent.unwrap_err();
    assert!(matches!(error, PollError::Exception(11)) && !error.is_answer(), "{error:?}");
    assert!(error.to_string().starts_with("a gateway on the way"), "{error}");
}

#[tokio::test]
async fn libmodbus_is_read_over_a_serial_line() {
    let directory = tempfile::tempdir().unwrap();
    let (_socat, port, theirs) = socat_pair(directory.path());
    let _server = libmodbus(directory.path(), &["rtu", &theirs.display().to_string(), "19200", "247"]);

    reads_what_the_server_holds(serial(port), &[247]).await;
}
