//! The commands as a person at commissioning uses them: the real binary against a simulated plant.
//!
//! With `LINESIDE_RECORD` set, the texts in `fixtures/cli/` are written anew.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lineside::simulator::{Keep, Misbehaviour, Plant, PlantLink, PlantSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::broker::Broker;
use support::within;
use tempfile::TempDir;

/// Unit id of press-2 on hall-a.
const PRESS_2: u8 = 3;

/// What a command said.
#[derive(Debug)]
struct Said {
    exit: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Each line as JSON.
    fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The command did not do it, and said why in one line.
    fn assert_refused(&self, exit: i32, why: &str) {
        assert_eq!((self.exit, self.out.as_str(), self.err.lines().count()), (exit, "", 1), "{self:?}");
        assert!(self.err.contains(why), "{self:?}");
    }
}

fn lineside(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("LINESIDE_CONFIG", "lineside.toml")
        .env_remove("LINESIDE_SOCKET");
    command
}

/// Runs a command to its end while simulators go on. Nothing of it is for a terminal, so nothing is coloured.
async fn say(directory: &Path, arguments: &[&str]) -> Said {
    let mut command = lineside(directory, arguments);
    let output = within(format!("lineside {arguments:?}"), tokio::task::spawn_blocking(move || command.output()));
    let output = output.await.unwrap().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "{arguments:?}: {out}{err}");
    Said { exit: output.status.code().unwrap(), out, err }
}

/// A plant and a directory with a configuration that reads it.
struct Site {
    plant: Plant,
    directory: TempDir,
    agent: Option<Child>,
}

impl Site {
    /// A plant without an agent; the configuration names the broker at `port`.
    async fn with_broker(port: u16) -> Self {
        let spec = PlantSpec { outages: Vec::new(), keep: Keep::Counters, ..PlantSpec::default() };
        let plant = Plant::start(spec).await.unwrap();
        let directory = support::directory();
        let text = plant.configuration(Path::new("store"), &format!("mqtt://127.0.0.1:{port}"));
        let own = "[clock]\ntrust = \"local\"\n\n[gateway]\nsocket = \"lineside.sock\"";
        let text = text.replacen("[gateway]", own, 1).replacen("[store]", "[store]\nlimit = \"16MiB\"", 1);
        fs::write(directory.path().join("lineside.toml"), text).unwrap();
        Self { plant, directory, agent: None }
    }

    /// A plant without agent and without broker.
    async fn new() -> Self {
        Self::with_broker(1).await
    }

    /// Starts the agent and waits until it answers.
    async fn with_agent(mut self) -> Self {
        let log = fs::File::create(self.path().join("agent.log")).unwrap();
        let mut run = lineside(self.path(), &["run"]);
        self.agent = Some(run.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        within("the agent's socket", async {
            while self.say(&["status", "--json"]).await.exit == 3 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn say(&self, arguments: &[&str]) -> Said {
        say(self.path(), arguments).await
    }

    /// The output with what differs from run to run made equal.
    fn without_places(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let of_links = [PlantLink::HallA, PlantLink::HallB].map(|link| self.plant.endpoint(link));
        text = text.replace(&of_links[0].address().to_string(), "HALL-A");
        for (port, name) in [
            (of_links[1].port(), "HALL-B"),
            (self.plant.scale().settings().port.clone(), "SCALE"),
            (self.plant.weather().settings().port.clone(), "ROOF"),
        ] {
            text = text.replace(&format!("{} ", port.display()), &format!("{name} "));
        }
        text
    }

    /// Waits until the status of the agent is as wanted.
    async fn status_is(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        within(what, async { while !wanted(&self.say(&["status", "--json"]).await.json()) {} }).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = kill_process(Pid::from_child(&agent), Signal::KILL);
            let _ = agent.wait();
        }
    }
}

fn compare(record: &str, found: &str) {
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cli").join(record);
    if std::env::var_os("LINESIDE_RECORD").is_some() {
        fs::write(&record, found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(&record).unwrap(), "{}", record.display());
}

#[tokio::test]
async fn check_shows_what_each_link_is_asked_for() {
    let site = Site::new().await;

    let said = site.say(&["check"]).await;
    let of_file = site.say(&["check", "lineside.toml"]).await;
    let json = site.say(&["check", "--json"]).await.json();

    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert_eq!(said.out, of_file.out);
    compare("check.txt", &site.without_places(&said.out));
    assert_eq!(json["links"][1]["devices"][0]["groups"][0]["registers"], 70);
    assert_eq!(json["links"][3]["devices"][0]["groups"][0]["interval_s"], Value::Null);
    assert_eq!((&json["ok"], json["warnings"].as_array().map(Vec::len)), (&Value::Bool(true), Some(0)));
}

#[tokio::test]
async fn check_warns_of_what_cannot_go_well() {
    let directory = support::directory();
    fs::write(directory.path().join("password"), "secret").unwrap();
    let text = include_str!("fixtures/cli/busy.toml").replace("1024GiB", &whole_disk(directory.path()));
    fs::write(directory.path().join("lineside.toml"), text).unwrap();

    let said = say(directory.path(), &["check"]).await;

    assert_eq!(said.exit, 1, "{said:?}");
    // How large the disk is and how much room there is differs from machine to machine.
    let (before, rest) = said.out.split_once("store.limit is ").unwrap();
    let (_, rest) = rest.split_once(", but there is room for ").unwrap();
    let (_, after) = rest.split_once(" only").unwrap();
    compare("busy.txt", &format!("{before}store.limit is DISK, but there is room for ROOM only{after}"));
}

/// A limit that the disk of `path` could hold if it were empty.
fn whole_disk(path: &Path) -> String {
    let disk = rustix::fs::statvfs(path).unwrap();
    format!("{}MiB", (disk.f_blocks * disk.f_frsize).min(1 << 40) >> 20)
}

#[tokio::test]
async fn check_refuses_a_limit_above_the_disk() {
    let directory = support::directory();
    fs::write(directory.path().join("password"), "secret").unwrap();
    fs::write(directory.path().join("lineside.toml"), include_str!("fixtures/cli/busy.toml")).unwrap();

    let said = say(directory.path(), &["check"]).await;

    assert_eq!(said.exit, 2, "{said:?}");
    assert!(said.err.contains("store.limit = \"1024GiB\": must fit on the disk of"), "{said:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_a_warning_too() {
    let directory = support::directory();
    fs::write(directory.path().join("file"), "in the way").unwrap();
    let text = include_str!("fixtures/cli/busy.toml").replace("path = \"store\"", "path = \"file/store\"");
    let text = text.replace("1024GiB", &whole_disk(directory.path()));
    fs::write(directory.path().join("password"), "secret").unwrap();
    fs::write(directory.path().join("lineside.toml"), text).unwrap();

    let said = say(directory.path(), &["check", "--json"]).await;

    let warnings = said.json()["warnings"].to_string();
    assert_eq!(said.exit, 1);
    assert!(warnings.contains("file cannot be written by this user"), "{warnings}");
}

#[tokio::test]
async fn without_an_agent_its_commands_say_so_in_one_line() {
    let site = Site::new().await;

    for command in [&["status"][..], &["status", "--json"], &["tail"], &["tail", "press-1", "-n", "1"]] {
        site.say(command).await.assert_refused(3, "lineside.sock");
    }
}

#[tokio::test]
async fn a_fault_in_the_configuration_does_not_hide_the_agent_that_runs() {
    let site = Site::new().await.with_agent().await;
    let file = site.path().join("lineside.toml");
    let good = fs::read_to_string(&file).unwrap();

    fs::write(&file, good.replacen("[store]", "[store]\nnonsense = 1", 1)).unwrap();
    assert_ne!(site.say(&["status"]).await.exit, 3, "the socket is named all the same");
    fs::write(&file, good.replacen("[store]", "[store", 1)).unwrap();
    let said = site.say(&["status"]).await;
    assert_eq!(said.exit, 3);
    assert!(said.err.contains("lineside.toml: cannot be read (`lineside check` says where); so "), "{said:?}");
}

#[tokio::test]
async fn a_configuration_that_was_named_and_is_not_there_is_told() {
    let site = Site::new().await;
    let said = site.say(&["status", "-c", "other.toml"]).await;
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.err.starts_with("other.toml: No such file"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_that_is_none_is_refused_by_check_and_run_alike() {
    let site = Site::new().await;
    let file = site.path().join("lineside.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(site.path().join("ca.pem"), "no certificate\n").unwrap();
    let text = text.replacen("[mqtt]\n", "[mqtt]\nca_file = \"ca.pem\"\n", 1).replace("mqtt://", "mqtts://");
    fs::write(&file, text).unwrap();

    for deed in ["check", "run"] {
        let said = site.say(&[deed]).await;
        assert_eq!(said.exit, 2, "{deed}: {said:?}");
        assert!(said.err.contains("ca.pem: holds no CA"), "{deed}: {said:?}");
    }
}

#[tokio::test]
async fn arguments_out_of_range_are_refused_with_what_is_allowed() {
    let site = Site::new().await;
    for baud in ["0", "299", "4294967295"] {
        for deed in [&["read", "--unit", "1", "--address", "0"][..], &["scan"], &["identify"], &["guess", "5"]] {
            let said = site.say(&[deed, &["--serial", "/dev/null", "--baud", baud]].concat()).await;
            assert_eq!(said.exit, 2, "{deed:?} {said:?}");
            assert!(said.err.contains("300..=4000000"), "{deed:?} {said:?}");
        }
    }
    let said = site.say(&["command", "send", "status", "--gateway", "a/b", "--id", "a/b"]).await;
    assert_eq!(said.exit, 2);
    assert!(said.err.contains("letters, digits, _ and -"), "{said:?}");
}

#[tokio::test]
async fn status_shows_every_stage_and_is_content_when_all_is_well() {
    let broker = Broker::start().await;
    let _everything = broker.subscribe("#").await;
    let site = Site::with_broker(broker.port()).await.with_agent().await;

    site.status_is("every device heard and a delivery", |status| {
        let devices = status["links"].as_array().unwrap().iter().flat_map(|link| link["devices"].as_array().unwrap());
        status["uplink"]["batches"] != 0 && devices.clone().all(|device| device["answers"] != 0)
    })
    .await;
    let said = site.say(&["status"]).await;

    assert_eq!((said.exit, said.err.as_str()), (0, ""), "{}", said.out);
    for part in ["demo/gw-01  lineside ", "hall-a  tcp ", "press-1-motor  answering", "store  ", "uplink  connected"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(said.out.lines().all(|line| line.chars().count() <= 132 && line.trim_end() == line), "{}", said.out);
}

#[tokio::test]
async fn status_names_what_needs_attention_first() {
    let site = Site::new().await.with_agent().await;
    site.plant.endpoint(PlantLink::HallA).misbehave(PRESS_2, Some(Misbehaviour::Silent)).await.unwrap();

    site.status_is("press-2 given up", |status| status["links"][0]["devices"][2]["state"] == "backed_off").await;
    let said = site.say(&["status"]).await;

    let concerns: Vec<&str> = said.out.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert_eq!(said.exit, 1);
    assert!(
        concerns[0].starts_with("  no connection to the broker: 127.0.0.1:1 refuses the connection"),
        "{concerns:?}"
    );
    assert_eq!(concerns[1], "  press-2 does not answer: no answer within 500 ms");
    assert_eq!(concerns.len(), 2, "{concerns:?}");
}

#[tokio::test]
async fn tail_shows_readings_in_columns_and_only_those_wanted() {
    let site = Site::new().await.with_agent().await;

    let five = site.say(&["tail", "press-1", "--point", "voltage_l", "-n", "5"]).await;
    let json = site.say(&["tail", "scale", "-n", "2", "--json"]).await;

    assert_eq!((five.exit, five.err.as_str(), five.out.lines().count()), (0, "", 5));
    for line in five.out.lines() {
        // Time, tag and value end where they always end, so that a column can be followed down the screen.
        assert!(line[26..].starts_with("press-1/voltage_l") && line.ends_with(" V"), "{line}");
        assert_eq!(line.len(), 26 + 32 + 1 + 14 + 2, "{line}");
    }
    let devices: Vec<Value> = json.json_lines().into_iter().map(|reading| reading["device"].clone()).collect();
    assert_eq!(devices, ["scale", "scale"]);
}

#[tokio::test]
async fn tail_can_wait_for_what_is_not_good() {
    let site = Site::new().await.with_agent().await;
    site.plant.endpoint(PlantLink::HallA).misbehave(PRESS_2, Some(Misbehaviour::Exception(4))).await.unwrap();

    let said = site.say(&["tail", "--bad", "press-2", "-n", "1"]).await;

    assert_eq!(said.exit, 0);
    assert!(said.out.contains("press-2/voltage_l1_v"), "{}", said.out);
    assert!(said.out.ends_with(" - V      bad: exception 4 (server device failure)\n"), "{}", said.out);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_without_a_word() {
    let site = Site::new().await.with_agent().await;

    for command in [&["tail"][..], &["read", "main-meter"], &["status"], &["check"]] {
        let mut running = lineside(site.path(), command);
        let mut running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (ended, err) = tokio::task::spawn_blocking(move || {
            let mut first = String::new();
            BufReader::with_capacity(1, running.stdout.take().unwrap()).read_line(&mut first).unwrap();
            assert!(!first.is_empty());
            let mut err = String::new();
            running.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            (running.wait().unwrap(), err)
        })
        .await
        .unwrap();

        assert_eq!(err, "", "{command:?}");
        assert!(matches!(ended.code(), Some(0 | 1)), "{command:?}: {ended}");
    }
}

#[tokio::test]
async fn a_device_is_read_through_the_agent_or_directly_and_looks_the_same() {
    let site = Site::new().await;
    let directly = site.say(&["read", "press-1"]).await;
    let site = site.with_agent().await;
    let through_agent = site.say(&["read", "press-1"]).await;
    let json = site.say(&["read", "mixer", "--json"]).await;

    for said in [&directly, &through_agent] {
        assert_eq!((said.exit, said.err.as_str(), said.out.lines().count()), (0, "", 29), "{said:?}");
        let line = said.out.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[1], words[3], words[4]), ("voltage_l1_v", "V", "good"), "{line}");
        // The values stand right-aligned under their heading.
        let end_of_value = said.out.lines().next().unwrap().find("value").unwrap() + "value".len();
        assert!(said.out.lines().all(|line| !line[..end_of_value].ends_with(' ')), "{}", said.out);
    }
    assert!(json.json_lines().iter().all(|reading| reading["device"] == "mixer" && reading["quality"] == "good"));
}

#[tokio::test]
async fn every_kind_of_link_is_read_directly() {
    let site = Site::new().await;

    for (device, points) in [("mixer-motor", 17), ("scale", 1), ("roof", 3)] {
        let said = site.say(&["read", device]).await;
        // A scale may be in motion: its value is uncertain then, and the exit code says so.
        assert!(matches!(said.exit, 0 | 1), "{said:?}");
        assert_eq!((said.err.as_str(), said.out.lines().count()), ("", 1 + points), "{said:?}");
    }
}

#[tokio::test]
async fn a_device_that_gives_nothing_is_unreachable_and_every_point_says_why() {
    let site = Site::new().await;
    site.plant.endpoint(PlantLink::HallA).misbehave(PRESS_2, Some(Misbehaviour::Silent)).await.unwrap();

    let said = site.say(&["read", "press-2"]).await;

    assert_eq!((said.exit, said.err.as_str()), (3, "press-2: no value\n"));
    assert!(
        said.out.lines().skip(1).all(|line| line.contains(" - ") && line.ends_with(" bad: timeout")),
        "{}",
        said.out
    );
}

#[tokio::test]
async fn what_does_not_exist_is_refused_with_what_does() {
    let site = Site::new().await;
    let devices = "no device \"press-9\"; devices are ";
    let links = "no link \"hall-9\"; links are ";
    site.say(&["read", "press-9"]).await.assert_refused(2, devices);
    site.say(&["read", "--link", "hall-9"]).await.assert_refused(2, links);

    let site = site.with_agent().await;
    site.say(&["read", "press-9"]).await.assert_refused(2, devices);
    site.say(&["read", "--link", "hall-9"]).await.assert_refused(2, links);
    site.say(&["tail", "press-9"]).await.assert_refused(2, devices);
    site.say(&["read", "--link", "scale"]).await.assert_refused(2, "speaks lines of text");
    site.say(&["identify", "scale"]).await.assert_refused(2, "speaks lines of text: it has nothing to tell");
    site.say(&["read", "--link", "hall-b", "--unit", "0"]).await.assert_refused(2, "unit id 0: must be 1 to 247");
}

#[tokio::test]
async fn raw_registers_are_read_from_any_endpoint_without_a_configuration() {
    let site = Site::new().await;
    let hall_a = site.plant.endpoint(PlantLink::HallA);
    // 230.25 as a single.
    hall_a.write(2, lineside::profile::Table::HoldingRegisters, 900, &[0x4366, 0x4000, 0xffff]).await.unwrap();
    let (tcp, serial) = (hall_a.address().to_string(), site.plant.endpoint(PlantLink::HallB).port());
    let serial = serial.to_str().unwrap();
    let nowhere = support::directory();
    let of_tcp = ["read", "--tcp", &tcp, "--unit", "2", "--address", "900", "--count", "3"];

    let said = say(nowhere.path(), &of_tcp).await;
    let json = say(nowhere.path(), &[&of_tcp[..], &["--json"]].concat()).await;
    let of_serial = say(nowhere.path(), &["read", "--serial", serial, "--table", "input", "--count", "2"]).await;

    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    compare("raw.txt", &said.out);
    let expected = r#"{"address":900,"registers":[17254,16384,65535],"table":"holding","unit_id":2}"#;
    assert_eq!(json.json().to_string(), expected);
    assert_eq!((of_serial.exit, of_serial.out.lines().count()), (0, 3), "{of_serial:?}");
}

#[tokio::test]
async fn what_a_raw_read_meets_is_said_in_one_line_with_its_place() {
    let site = Site::new().await;
    let tcp = site.plant.endpoint(PlantLink::HallA).address().to_string();
    let serial = site.plant.endpoint(PlantLink::HallB).port();
    let serial = serial.to_str().unwrap();
    let read = async |arguments: &[&str]| site.say(&[&["read"], arguments].concat()).await;

    let exception = format!("tcp {tcp}, unit 2: the device answered with exception 2 (illegal data address)");
    read(&["--tcp", &tcp, "--unit", "2", "--address", "60000"]).await.assert_refused(3, &exception);
    read(&["--tcp", "127.0.0.1:1"]).await.assert_refused(3, "tcp 127.0.0.1:1, unit 1: link down: ");
    read(&["--serial", "/dev/no-such-port"]).await.assert_refused(3, "rtu /dev/no-such-port 19200 8E1, unit 1: ");
    let silent = read(&["--serial", serial, "--unit", "9", "--timeout", "100ms"]).await;
    silent.assert_refused(3, "unit 9: no answer within 100 ms");
    read(&["--serial", serial, "--unit", "0"]).await.assert_refused(2, "unit id 0: must be 1 to 247");
    read(&["--tcp", &tcp, "--count", "126"]).await.assert_refused(2, "--count = 126: must be 1 to 125");
    read(&["--link", "hall-b", "--unit", "9"]).await.assert_refused(3, "unit 9: no answer within 500 ms");
}
