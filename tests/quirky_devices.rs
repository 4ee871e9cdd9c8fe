//! Devices as they are: each has one bad habit, seen in the field, and is a Python script on raw sockets or a pseudo
//! terminal. The agent and the commands are the real program.

#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::installation::{Agent, Installation, NO_BROKER, Tail};

/// Registers that are polled, each in a request of its own.
const ADDRESSES: [u16; 4] = [0, 20, 40, 80];

/// A device; ends with the test.
struct Device {
    process: Child,
    place: String,
    kind: &'static str,
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Device {
    /// Starts one with this habit and waits until it is there.
    fn start(kind: &'static str, habit: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("LINESIDE_TEST_PYTHON");
        let python = python.map_or_else(|| root.join("tests/.venv/bin/python"), PathBuf::from);
        let script = root.join("tests/support/quirky_device.py");
        let mut command = Command::new(&python);
        command.arg(script).args([kind, habit]).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let place = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("it does not start: {line}"));
        let place = if kind == "tcp" { format!("127.0.0.1:{place}") } else { place.to_owned() };
        Self { process, place, kind }
    }

    /// The configuration of a gateway that polls it twice a second.
    fn installed(&self, more: &str) -> Installation {
        let place = match self.kind {
            "tcp" => format!("tcp = \"{}\"", self.place),
            _ => format!("rtu = {{ port = \"{}\", baud_rate = 19200, parity = \"none\" }}", self.place),
        };
        let points: String =
            ADDRESSES.iter().map(|at| format!("  {{ name = \"r{at}\", address = {at} }},\n")).collect();
        let links = format!(
            "[[link]]\nname = \"hall\"\n{place}\ntimeout = \"400ms\"\n{more}\n[[device]]\nname = \"meter\"\nlink = \"hall\"\n\
             unit_id = 1\nprofile = \"generic\"\ninterval = \"500ms\"\n\
             modbus = {{ table = \"holding\", encoding = \"u16\", gaps = \"forbidden\" }}\npoint = [\n{points}]\n"
        );
        Installation::new(NO_BROKER, &[], &links)
    }
}

/// Waits until every point was good so often; a value that is not the right one fails the test. Gives how many were bad.
async fn all_good(tail: &mut Tail, times: usize) -> usize {
    let (mut good, mut bad) = (vec![0; ADDRESSES.len()], 0);
    while good.iter().any(|seen| *seen < times) {
        let reading = tail.next().await;
        let index = ADDRESSES.iter().position(|at| reading.point == format!("r{at}")).unwrap();
        if reading.quality == "good" {
            assert_eq!(reading.value, Value::from(1000 + ADDRESSES[index]), "a value of another register: {reading:?}");
            good[index] += 1;
        } else {
            assert!(reading.value.is_null(), "{reading:?}");
            bad += 1;
        }
    }
    bad
}

async fn device(agent: &Agent<'_>) -> (Value, Value) {
    let status = agent.status().await;
    (status["links"][0].clone(), status["links"][0]["devices"][0].clone())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A command without configuration.
async fn lineside(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(arguments).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_closes_the_connection_after_its_answers_is_polled_without_loss() {
    for (habit, answers) in [("close-each", 1), ("close-second", 2)] {
        let meter = Device::start("tcp", habit);
        let installation = meter.installed("");
        let agent = installation.start().await;
        let mut tail = agent.tail();

        let bad = all_good(&mut tail, 20).await;

        assert_eq!(bad, 0, "{habit}: {}", agent.log());
        let (link, known) = device(&agent).await;
        assert_eq!(link["closes_after"], answers, "{habit}: {link}");
        assert_eq!(known["link_failures"], 0, "{habit}: {known}");
        let warnings = agent.log().lines().filter(|line| line.contains("WARN") && line.contains("connection")).count();
        assert!(warnings <= 3, "{habit}: not one for each connection:\n{}", agent.log());
        let shown = text(&installation.lineside(&["status"]).await);
        assert!(shown.contains("the other side closes the connection after"), "{shown}");
        assert_eq!(agent.stop().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_closed_unanswered_is_asked_once_more() {
    let meter = Device::start("tcp", "close-unanswered");
    let installation = meter.installed("");
    let agent = installation.start().await;

    let bad = all_good(&mut agent.tail(), 20).await;

    assert_eq!(bad, 0, "{}", agent.log());
    let (_, known) = device(&agent).await;
    assert!(known["asked_anew"].as_u64().unwrap() >= 10, "{known}");
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_answers_one_request_late_for_ever_is_cured_by_a_new_connection() {
    let meter = Device::start("tcp", "late-by-one");
    let installation = meter.installed("");
    let agent = installation.start().await;
    let mut tail = agent.tail();

    // Each connection gives eight right answers, then each that of the request before: no value may be one of these.
    all_good(&mut tail, 8).await;

    let (link, known) = device(&agent).await;
    assert!(link["reconnects_behind"].as_u64().unwrap() >= 2, "{link}");
    assert!(known["stale_dropped"].as_u64().unwrap() >= 6, "{known}");
    let shown = text(&installation.lineside(&["status"]).await);
    assert!(shown.contains("answers came one request late"), "{shown}");
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_too_many_are_dropped_and_said() {
    for habit in ["one-inside", "two-inside", "one-behind-frame", "two-behind-frame"] {
        let meter = Device::start("tcp", habit);
        let read = lineside(&["read", "--tcp", &meter.place, "--address", "7", "--json"]).await;
        assert_eq!(read.status.code(), Some(0), "{habit}: {}", text(&read));
        assert!(text(&read).contains("[1007]"), "{habit}: {}", text(&read));
        let installation = meter.installed("");
        let agent = installation.start().await;

        let bad = all_good(&mut agent.tail(), 5).await;

        assert_eq!(bad, 0, "{habit}: {}", agent.log());
        let problems = agent.status().await["problems"].to_string();
        assert!(problems.contains("stray-bytes/meter"), "{habit}: {problems}");
        assert_eq!(agent.stop().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stray_bytes_on_a_line_are_dropped_and_ask_for_bias_and_termination() {
    for habit in ["before", "behind", "both"] {
        let meter = Device::start("rtu", habit);
        let installation = meter.installed("");
        let agent = installation.start().await;

        let bad = all_good(&mut agent.tail(), 5).await;

        assert_eq!(bad, 0, "{habit}: {}", agent.log());
        let shown = text(&installation.lineside(&["status"]).await);
        assert!(shown.contains("of meter: bias or termination?"), "{habit}: {shown}");
        assert_eq!(agent.stop().await.code(), Some(0));
        // And whoever looks at the bytes sees them all.
        let line = ["read", "--serial", &meter.place, "--parity", "none", "--trace", "--address"];
        for (address, frame) in [("7", "01 03 02 03 ef f9 38"), ("55", "01 83 02 c0 f1")] {
            let seen = text(&lineside(&[&line[..], &[address]].concat()).await);
            let bytes: Vec<&str> =
                seen.lines().filter_map(|line| line.split_once("<-  ")).map(|(_, said)| said).collect();
            assert!(bytes.iter().any(|said| said.starts_with(frame)), "{habit}: {seen}");
            let stray = if habit == "both" { 2 } else { 1 };
            assert!(bytes.len() > 1 && seen.matches("stray").count() + seen.matches("no frame").count() >= 1, "{seen}");
            let count: usize = bytes.iter().map(|said| said.split("  ").next().unwrap().split(' ').count()).sum();
            let frame = frame.split(' ').count();
            assert_eq!(count, frame + if habit == "both" { 2 * stray } else { stray }, "{habit}: {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_says_where_something_answers_that_is_not_understood() {
    let meter = Device::start("rtu", "not-understood");

    let scan = lineside(&[
        "scan",
        "--serial",
        &meter.place,
        "--baud",
        "9600",
        "--parity",
        "none",
        "--units",
        "1-2",
        "--trace",
    ])
    .await;

    let said = text(&scan);
    assert_eq!(scan.status.code(), Some(1), "{said}");
    let said_in_words = said.lines().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join(" ");
    assert!(said_in_words.contains("something answers at rtu"), "{said}");
    assert!(said_in_words.contains("9600 8N1 to unit id 1, but is not understood: "), "{said}");
    assert!(said.contains("a5 a5 a5"), "every byte is in the trace: {said}");
    assert!(String::from_utf8_lossy(&scan.stdout).lines().all(|line| line.chars().count() <= 80), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_numbers_of_its_own_is_named_and_polled_where_the_owner_says_so() {
    for (habit, key, flag, reason) in [
        ("number-0", "accept_transaction_id", "--any-transaction-id", "transaction 0 answered, which nobody has asked"),
        ("number-own", "accept_transaction_id", "--any-transaction-id", "which nobody has asked"),
        ("unit-0", "accept_unit_id", "--any-unit-id", "unit 1 was asked, unit 0 answered"),
        ("unit-255", "accept_unit_id", "--any-unit-id", "unit 1 was asked, unit 255 answered"),
    ] {
        let gateway = Device::start("tcp", habit);
        let refused = lineside(&["read", "--tcp", &gateway.place, "--address", "7", "--timeout", "300ms"]).await;
        assert_eq!(refused.status.code(), Some(3), "{habit}: {}", text(&refused));
        assert!(text(&refused).contains(reason), "{habit}: {}", text(&refused));
        let taken = lineside(&["read", "--tcp", &gateway.place, "--address", "7", "--json", flag]).await;
        assert!(text(&taken).contains("[1007]"), "{habit}: {}", text(&taken));
        let installation = gateway.installed(&format!("{key} = \"any\""));
        let agent = installation.start().await;

        assert_eq!(all_good(&mut agent.tail(), 5).await, 0, "{habit}: {}", agent.log());

        assert_eq!(agent.stop().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_borrow_the_one_connection_that_the_agent_has() {
    let meter = Device::start("tcp", "one-connection");
    let installation = meter.installed("");
    let agent = installation.start().await;
    let mut tail = agent.tail();
    all_good(&mut tail, 2).await;
    let (_, port) = meter.place.split_once(':').unwrap();
    let by_name = format!("localhost:{port}");

    for place in [&meter.place, &by_name] {
        let read = installation.lineside(&["read", "--tcp", place, "--address", "7"]).await;
        assert_eq!(read.status.code(), Some(0), "{}", text(&read));
        assert!(text(&read).contains("1007") && text(&read).contains("link hall is borrowed"), "{}", text(&read));
        let identify = installation.lineside(&["identify", "--tcp", place]).await;
        assert_eq!(identify.status.code(), Some(1), "it answers, and no profile knows it: {}", text(&identify));
        let guess = installation.lineside(&["guess", "1007", "--tcp", place, "--to", "99"]).await;
        assert_eq!(guess.status.code(), Some(0), "{}", text(&guess));
        let scan = installation.lineside(&["scan", "--tcp", place, "--units", "1"]).await;
        assert_eq!(scan.status.code(), Some(0), "{}", text(&scan));
    }

    // And the agent goes on.
    tail.until("a good reading", |reading| reading.quality == "good").await;
    all_good(&mut tail, 3).await;
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_on_a_terminal_redraws_in_place_and_fits_it() {
    let meter = Device::start("tcp", "none");
    let installation = meter.installed("");
    let line =
        format!("{} read meter --watch=100ms -c {}", env!("CARGO_BIN_EXE_lineside"), installation.file().display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("script of bsdutils: {error}"));
    let mut seen = String::new();
    let mut shown = process.stdout.take().unwrap();

    // Three readings
    while seen.matches("\x1b[H\x1b[J").count() < 4 {
        let mut bytes = [0; 512];
        let count = std::io::Read::read(&mut shown, &mut bytes).unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    process.kill().unwrap();
    process.wait().unwrap();

    let screens: Vec<&str> = seen.split("\x1b[H\x1b[J").collect();
    assert!(screens[1].contains("r80") && screens[1].contains("1080"), "{seen}");
    assert!(screens[1].lines().all(|line| line.chars().count() <= 80), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_agent_a_device_is_read_as_the_agent_would_read_it() {
    // Given a map over registers that the device does not have
    let meter = Device::start("tcp", "none");
    let points: String = (40..70).step_by(2).map(|at| format!("  {{ name = \"r{at}\", address = {at} }},\n")).collect();
    let links = format!(
        "[[link]]\nname = \"hall\"\ntcp = \"{}\"\ntimeout = \"400ms\"\n[[device]]\nname = \"meter\"\nlink = \"hall\"\n\
         unit_id = 1\nprofile = \"generic\"\ninterval = \"500ms\"\n\
         modbus = {{ table = \"holding\", encoding = \"u16\", gaps = \"allowed\" }}\npoint = [\n{points}]\n",
        meter.place
    );
    let installation = Installation::new(NO_BROKER, &[], &links);

    let read = installation.lineside(&["read", "meter", "--json"]).await;

    assert_eq!(read.status.code(), Some(1), "{}", text(&read));
    let good = |output: &Output| -> BTreeSet<String> {
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let readings = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let good = readings.filter(|reading| reading["quality"] == "good");
        good.map(|reading| reading["point"].as_str().unwrap().to_owned()).collect()
    };
    let expected: BTreeSet<String> =
        (40..70).step_by(2).filter(|at| !(50..60).contains(at)).map(|at| format!("r{at}")).collect();
    assert_eq!(good(&read), expected);
    let raw = installation.lineside(&["read", "meter", "--raw"]).await;
    assert_eq!(raw.status.code(), Some(1), "{}", text(&raw));
    assert!(text(&raw).contains("1048") && text(&raw).contains("1060"), "{}", text(&raw));

    // And what the agent has learned is used.
    let agent = installation.start().await;
    let mut tail = agent.tail();
    tail.until("the last register", |reading| reading.point == "r68" && reading.quality == "good").await;
    assert_eq!(agent.stop().await.code(), Some(0));
    assert!(installation.path().join("store/learned.json").exists());
    let traced = installation.lineside(&["read", "meter", "--raw", "--trace"]).await;
    assert!(!text(&traced).contains("exception"), "nothing that is known to be refused is asked: {}", text(&traced));
}
