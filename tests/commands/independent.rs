//! Writing to a device that is not ours, pymodbus, seen by a client that is not ours, mbpoll.

use std::process::Command;
use std::time::Duration;

use lineside::commands::answer::State;
use serde_json::json;

use super::subscribed;
use super::support::broker::{Broker, Setup};
use super::support::commander::{Commander, Signer, order};
use super::support::python::Script;
use super::support::site::{Agent, Configuration, Site};
use super::support::within;
use super::writes::pinned;

/// Unit id of the device.
const UNIT: u8 = 17;

const PROFILE: &str = r#"
manufacturer = "pymodbus"
model = "device"
modbus = { table = "holding", encoding = "u16" }
point = [
  { name = "run", table = "coil", address = 6, encoding = "bit" },
  { name = "run_all", table = "coil", address = 7, encoding = "bit" },
  { name = "mode", address = 81 },
  { name = "setpoint_c", address = 87, scale = 0.1, unit = "°C" },
  { name = "limit_w", address = 12, encoding = "u32", unit = "W" },
]
"#;

/// What mbpoll reads: registers or coils from `address` on.
fn mbpoll(port: &str, table: &str, address: u16, count: u16) -> Vec<i64> {
    let output = Command::new("mbpoll")
        .args(["-m", "tcp", "-p", port, "-a", &UNIT.to_string(), "-t", table, "-0", "-1", "-q"])
        .args(["-r", &address.to_string(), "-c", &count.to_string(), "127.0.0.1"])
        .output()
        .unwrap_or_else(|error| panic!("cannot run mbpoll: {error}; tests/run installs it"));
    let text = String::from_utf8_lossy(&output.stdout);
    let values = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]:")?.1.trim().split(' ').next());
    let values: Vec<i64> = values.map(|value| value.parse().unwrap()).collect();
    assert_eq!(values.len(), usize::from(count), "{text}");
    values
}

struct Plant {
    device: Script,
    broker: Broker,
    commander: Commander,
    operator: Signer,
    site: Site,
    agent: Agent,
}

impl Plant {
    async fn start(sections: &str) -> Self {
        let device = Script::start("pymodbus_device.py", &["tcp"]);
        let broker = Broker::with(Setup::default()).await;
        let operator = Signer::new("operator", "operator");
        let site = Site::with_profiles(&[("pymodbus", PROFILE)]);
        let address = format!("127.0.0.1:{}", device.port()).parse().unwrap();
        let configuration = Configuration::to_port(broker.port(), "")
            .link("hall", address, "timeout = \"1s\"")
            .device("press-1", "hall", UNIT, "pymodbus", "200ms")
            .lines(&format!("[clock]\ntrust = \"local\"\n{}", operator.section()));
        pinned(&site, &configuration, sections).await;
        let commander = Commander::connect(broker.port()).await;
        let agent = site.start();
        agent.logged("connected to the broker").await;
        subscribed(&broker).await;
        Self { device, broker, commander, operator, site, agent }
    }

    async fn write(&mut self, point: &str, value: f64) {
        let id = format!("{point}-{value}").replace('.', "_");
        let arguments = json!({ "device": "press-1", "point": point, "value": value });
        let payload = self.operator.sign(&order(&id, "write", arguments));
        let answer = self.commander.ask(&id, &payload).await;
        assert_eq!((answer.state, answer.result["read_back"].as_f64()), (State::Done, Some(value)), "{answer:?}");
    }
}

fn section(point: &str, range: &str, more: &str) -> String {
    format!(
        "[[write]]\ndevice = \"press-1\"\npoint = \"{point}\"\npin = \"PIN\"\nrange = {range}\ninterval = \"0s\"\n{more}\n"
    )
}

#[tokio::test]
async fn coils_and_registers_are_written_with_each_function_and_read_back_by_another_client() {
    let multiple = "function = \"multiple\"";
    let sections = [
        section("run", "[0, 1]", ""),
        section("run_all", "[0, 1]", multiple),
        section("mode", "[0, 9]", multiple),
        section("setpoint_c", "[10.0, 60.0]", ""),
        section("limit_w", "[0, 4e9]", ""),
    ];
    let mut plant = Plant::start(&sections.concat()).await;
    let port = plant.device.port().to_owned();
    assert_eq!(mbpoll(&port, "0", 5, 4), [1, 0, 1, 1]);

    plant.write("run", 1.0).await;
    plant.write("run_all", 0.0).await;
    plant.write("mode", 7.0).await;
    plant.write("setpoint_c", 35.5).await;
    plant.write("limit_w", 70_001.0).await;

    // Neighbours are what they were.
    assert_eq!(mbpoll(&port, "0", 5, 4), [1, 1, 0, 1]);
    assert_eq!(mbpoll(&port, "4", 81, 2), [7, 2301]);
    assert_eq!(mbpoll(&port, "4", 86, 3), [65535, 355, 999]);
    assert_eq!(mbpoll(&port, "4", 12, 2), [1, 4465]);
}

#[tokio::test]
async fn a_leased_value_returns_when_the_broker_is_gone_and_does_not_come_back_with_it() {
    let lease = "lease = \"1h\"\nsafe = 15.0\nwithout_broker = \"1s\"";
    let sections = section("setpoint_c", "[10.0, 60.0]", lease) + &section("mode", "[0, 20]", lease);
    let mut plant = Plant::start(&sections).await;
    let port = plant.device.port().to_owned();
    // What was set on the spot can be taken back there.
    let here = plant.site.lineside(&["write", "press-1/mode", "7"]).await;
    assert!(here.status.success(), "{here:?}");
    plant.write("setpoint_c", 45.0).await;
    assert_eq!((mbpoll(&port, "4", 87, 1), mbpoll(&port, "4", 81, 1)), (vec![450], vec![7]));

    plant.broker.kill();
    plant.agent.logged("a value has returned to its safe one").await;
    assert_eq!((mbpoll(&port, "4", 87, 1), mbpoll(&port, "4", 81, 1)), (vec![150], vec![7]));

    plant.broker.restart().await;
    plant.agent.logged_times("connected to the broker", 2).await;
    plant.site.until("connected", |status| status["mqtt"]["state"] == "connected").await;
    assert_eq!(mbpoll(&port, "4", 87, 1), [150]);
    let audit = plant.site.lineside(&["audit", "show", "--json"]).await;
    assert!(String::from_utf8_lossy(&audit.stdout).contains("press-1/setpoint_c has returned to 15"), "{audit:?}");
}

#[tokio::test]
async fn a_leased_value_returns_when_its_lease_ends() {
    let lease = "lease = \"2s\"\nsafe = 15.0";
    let mut plant = Plant::start(&section("setpoint_c", "[10.0, 60.0]", lease)).await;
    let port = plant.device.port().to_owned();
    plant.write("setpoint_c", 45.0).await;

    let back = async {
        while mbpoll(&port, "4", 87, 1) != [150] {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("the safe value on the device", back).await;
}
