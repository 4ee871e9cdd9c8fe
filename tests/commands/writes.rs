//! Writing to machines: off by default, within the owner's bounds, at most once whatever is killed.

use std::time::Duration;

use lineside::commands::answer::{Answer, State};
use lineside::profile::{Protocol, file};
use lineside::simulator::{Device, Endpoint, Framing, Keep, Misbehaviour, Servers};
use serde_json::{Value, json};

use super::subscribed;
use super::support::broker::{Broker, Setup};
use super::support::commander::{Commander, Signer, order};
use super::support::site::{Agent, Configuration, Site};

pub const PRESS: &str = r#"
manufacturer = "lineside"
model = "press"
modbus = { table = "holding", encoding = "u16" }
point = [
  { name = "setpoint_c", address = 0, encoding = "i16", scale = 0.1, unit = "°C" },
  { name = "power_w", address = 2, encoding = "f32", unit = "W" },
  { name = "door_open", address = 4 },
  { name = "run", table = "coil", address = 0, encoding = "bit" },
  { name = "lamp", address = 6, bit = 3 },
  { name = "mode", address = 6, bits = "8..11" },
]
"#;

pub struct Press {
    pub endpoint: Endpoint,
    pub broker: Broker,
    pub site: Site,
    pub commander: Commander,
    pub engineer: Signer,
    operator: Signer,
    configuration: Configuration,
    framing: Framing,
    _servers: Servers,
}

/// A press as unit 1 of an endpoint of its own.
pub async fn serve(servers: &mut Servers, framing: Framing) -> Endpoint {
    let profile = file::parse("press.toml", "press", PRESS).unwrap();
    let Protocol::Modbus(modbus) = profile.protocol else { panic!("a Modbus profile") };
    let device = Device::new(1, modbus.points.clone(), modbus.limits);
    servers.tcp(framing, vec![device], Keep::Answers).await.unwrap()
}

/// Writes a configuration with these `sections`, in which `PIN` is what `lineside check` prints for the tag of press-1.
pub async fn pinned(site: &Site, configuration: &Configuration, sections: &str) {
    let mut sections = sections.to_owned();
    while let Some(at) = sections.lines().position(|line| line.contains("PIN")) {
        site.configure(&configuration.clone().lines(&sections.replace("PIN", "0")));
        let output = site.lineside(&["check"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = sections.lines().collect();
        let point = lines[..at].iter().rev().find_map(|line| line.strip_prefix("point = ")).unwrap().trim_matches('"');
        let line = text.lines().find(|line| line.contains(&format!("press-1/{point}:")));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        let pin = line.split("pin = \"").nth(1).unwrap().split('"').next().unwrap();
        sections = sections.replacen("PIN", pin, 1);
    }
    site.configure(&configuration.clone().lines(&sections));
}

impl Press {
    /// A press whose writes are as `sections` say; `PIN` in them is the pin that `check` prints for the tag.
    pub async fn start(framing: Framing, sections: &str) -> (Self, Agent) {
        let mut servers = Servers::default();
        let endpoint = serve(&mut servers, framing).await;
        endpoint.set(1, "setpoint_c", 20.0).await.unwrap();
        let broker = Broker::with(Setup::default()).await;
        let [engineer, operator] = ["engineer", "operator"].map(|role| Signer::new(role, role));
        let site = Site::with_profiles(&[("press", PRESS)]);
        let keys = [&engineer, &operator].map(Signer::section).concat();
        let base = Configuration::to_port(broker.port(), "");
        let base = match framing {
            Framing::Tcp => base.link("hall", endpoint.address(), "timeout = \"300ms\""),
            Framing::Rtu => base.lines(&format!(
                "\n[[link]]\nname = \"hall\"\nrtu_over_tcp = \"{}\"\ntimeout = \"300ms\"",
                endpoint.address()
            )),
        };
        let configuration =
            base.device("press-1", "hall", 1, "press", "200ms").lines(&format!("[clock]\ntrust = \"local\"\n{keys}"));
        let commander = Commander::connect(broker.port()).await;
        let mut press =
            Self { endpoint, broker, site, commander, engineer, operator, configuration, framing, _servers: servers };
        press.configure(sections).await;
        let agent = press.site.start();
        agent.logged("connected to the broker").await;
        subscribed(&press.broker).await;
        (press, agent)
    }

    /// Writes the configuration, with the pins that `lineside check` prints.
    pub async fn configure(&mut self, sections: &str) {
        pinned(&self.site, &self.configuration, sections).await;
    }

    pub async fn write(&mut self, id: &str, point: &str, value: f64) -> Answer {
        self.write_with(id, json!({ "device": "press-1", "point": point, "value": value })).await
    }

    pub async fn write_with(&mut self, id: &str, arguments: Value) -> Answer {
        let payload = self.operator.sign(&order(id, "write", arguments));
        self.commander.ask(id, &payload).await
    }

    /// Functions of the requests that wrote, as the device counts them.
    pub async fn writes(&self) -> Vec<u8> {
        let log = self.endpoint.log().await.unwrap();
        log.iter()
            .map(|answer| answer.access.function)
            .filter(|function| matches!(function, 5 | 6 | 15 | 16 | 22 | 23))
            .collect()
    }
}

pub const SETPOINT: &str = "[[write]]\ndevice = \"press-1\"\npoint = \"setpoint_c\"\npin = \"PIN\"\nrange = [10.0, 60.0]\n\
                        interval = \"0s\"\n";

pub fn reason(answer: &Answer) -> &str {
    answer.reason.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn nothing_is_written_that_the_owner_does_not_list_or_has_not_pinned() {
    let unpinned = SETPOINT.replace("pin = \"PIN\"\n", "");
    let (mut press, agent) = Press::start(Framing::Tcp, "").await;
    assert!(reason(&press.write("1", "setpoint_c", 30.0).await).contains("does not allow to write"));

    press.configure(&unpinned).await;
    agent.hang_up();
    agent.logged("writing is not allowed").await;

    let answer = press.write("2", "setpoint_c", 30.0).await;
    assert!(reason(&answer).contains("puts it in force on site with pin = "), "{answer:?}");
    assert_eq!((answer.state, press.writes().await.len()), (State::Rejected, 0));
}

#[tokio::test]
async fn each_function_writes_once_and_is_read_back_on_tcp_and_rtu() {
    let all = format!(
        "{SETPOINT}{}{}{}",
        SETPOINT.replace("setpoint_c", "power_w"),
        SETPOINT.replace("setpoint_c", "run").replace("[10.0, 60.0]", "[0, 1]"),
        SETPOINT.replace("setpoint_c", "door_open").replace("interval", "function = \"multiple\"\ninterval"),
    );
    for framing in [Framing::Tcp, Framing::Rtu] {
        let (mut press, _agent) = Press::start(framing, &all).await;
        for echo in [None, Some(Misbehaviour::Echo)] {
            if echo.is_some() && press.framing == Framing::Tcp {
                continue;
            }
            press.endpoint.misbehave(1, echo).await.unwrap();
            let before = press.writes().await.len();
            let id = |name: &str| format!("{name}{before}");
            for (point, value) in [("setpoint_c", 35.5), ("power_w", 12.25), ("run", 1.0), ("door_open", 17.0)] {
                let answer = press.write(&id(point), point, value).await;
                assert_eq!(answer.state, State::Done, "{point}, {echo:?}: {answer:?}");
                assert_eq!(answer.result["read_back"].as_f64(), Some(value), "{answer:?}");
            }
            assert_eq!(press.writes().await[before..], [6, 16, 5, 16], "{echo:?}");
        }
    }
}

#[tokio::test]
async fn every_bound_of_the_owner_holds() {
    let bounds = SETPOINT.replace(
        "interval = \"0s\"",
        "interval = \"1h\"\nstep = 5.0\nrole = \"operator\"\ninterlock = \"press-1/door_open == 0\"\n",
    );
    let (mut press, _agent) = Press::start(Framing::Tcp, &bounds).await;

    assert!(reason(&press.write("1", "setpoint_c", 60.1).await).contains("must be 10 to 60"));
    let dry = json!({ "device": "press-1", "point": "setpoint_c", "value": 24.0, "dry_run": true });
    let answer = press.write_with("2", dry.clone()).await;
    assert_eq!((answer.state, answer.result["registers"][0].as_i64()), (State::Done, Some(240)), "{answer:?}");
    let far = json!({ "device": "press-1", "point": "setpoint_c", "value": 26.0, "dry_run": true });
    assert!(reason(&press.write_with("3", far).await).contains("by 5 at most"));
    press.endpoint.set(1, "door_open", 1.0).await.unwrap();
    assert!(reason(&press.write_with("4", dry).await).starts_with("interlock press-1/door_open == 0: it is 1"));
    press.endpoint.set(1, "door_open", 0.0).await.unwrap();
    assert!(press.writes().await.is_empty());

    assert_eq!(press.write("5", "setpoint_c", 25.0).await.state, State::Done);
    assert!(reason(&press.write("6", "setpoint_c", 24.0).await).contains("it may be again in"));
    assert_eq!(press.writes().await, [6]);
}

#[tokio::test]
async fn the_command_line_passes_the_same_guard_and_can_lock_writing_from_afar() {
    let (mut press, mut agent) = Press::start(Framing::Tcp, SETPOINT).await;
    let socket = press.site.path().join("lineside.sock");
    let here = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--socket", socket.to_str().unwrap()]).collect();
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        press.site.lineside(&arguments).await
    };

    let done = run(here(&["write", "press-1/setpoint_c", "33", "--json"])).await;
    let refused = run(here(&["write", "press-1/setpoint_c", "99"])).await;
    let locked = run(here(&["writes", "off"])).await;

    assert_eq!(
        (done.status.code(), refused.status.code(), locked.status.code()),
        (Some(0), Some(2), Some(0)),
        "{done:?}"
    );
    assert!(String::from_utf8_lossy(&refused.stderr).contains("must be 10 to 60"));
    assert!(reason(&press.write("1", "setpoint_c", 30.0).await).contains("locked"));
    agent.kill();
    agent = press.site.start();
    agent.logged("connected to the broker").await;
    press.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;
    assert!(reason(&press.write("2", "setpoint_c", 30.0).await).contains("locked"));
    // Also while no agent runs.
    agent.kill();
    for (wanted, said) in [("on", "is not locked"), ("off", "stays locked")] {
        let output = press.site.lineside(&["writes", wanted]).await;
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(said), "{output:?}");
    }
    agent = press.site.start();
    agent.logged("connected to the broker").await;
    press.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 3).await;
    assert!(reason(&press.write("4", "setpoint_c", 30.0).await).contains("locked"));
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        press.site.lineside(&arguments).await
    };
    assert_eq!(run(here(&["write", "press-1/setpoint_c", "34"])).await.status.code(), Some(0));
    assert_eq!(run(here(&["writes", "on"])).await.status.code(), Some(0));
    assert_eq!(press.write("3", "setpoint_c", 30.0).await.state, State::Done);
}

#[tokio::test]
async fn unsigned_writes_are_refused_wherever_unsigned_commands_are_taken() {
    let (mut press, agent) = Press::start(Framing::Tcp, SETPOINT).await;
    let text = std::fs::read_to_string(press.site.path().join("lineside.toml")).unwrap();
    std::fs::write(
        press.site.path().join("lineside.toml"),
        text.replacen("[[remote.key]]", "[remote]\ninsecure = true\n[[remote.key]]", 1),
    )
    .unwrap();
    agent.hang_up();
    agent.logged("configuration reloaded").await;
    let unsigned = |id: &str, command: &str, arguments: Value| {
        json!({ "command": order(id, command, arguments).to_string() }).to_string()
    };

    let status = press.commander.ask("1", &unsigned("1", "status", Value::Null)).await;
    let arguments = json!({ "device": "press-1", "point": "setpoint_c", "value": 30.0 });
    let write = press.commander.ask("2", &unsigned("2", "write", arguments)).await;

    assert_eq!((status.state, write.state), (State::Done, State::Rejected));
    assert!(reason(&write).starts_with("unsigned"));
    assert!(press.writes().await.is_empty());
}

#[tokio::test]
async fn another_register_scale_or_endpoint_revokes_the_permission_until_it_is_renewed() {
    let (mut press, agent) = Press::start(Framing::Tcp, SETPOINT).await;
    assert_eq!(press.write("1", "setpoint_c", 30.0).await.state, State::Done);
    let changed = [
        PRESS.replace("address = 0, encoding = \"i16\"", "address = 5, encoding = \"i16\""),
        PRESS.replace("scale = 0.1", "scale = 1.0"),
    ];

    for (number, profile) in changed.iter().enumerate() {
        std::fs::write(press.site.path().join("profiles/press.toml"), profile).unwrap();
        agent.hang_up();
        agent.logged_times("writing is not allowed", number + 1).await;
        let answer = press.write(&format!("c{number}"), "setpoint_c", 31.0).await;
        assert!(reason(&answer).contains("revoked"), "{answer:?}");
    }
    // Another unit, and another endpoint, with the map that was allowed.
    std::fs::write(press.site.path().join("profiles/press.toml"), PRESS).unwrap();
    let file = press.site.path().join("lineside.toml");
    let allowed = std::fs::read_to_string(&file).unwrap();
    let endpoint = press.endpoint.address().to_string();
    for (number, (before, after)) in
        [("unit_id = 1", "unit_id = 2"), (&*endpoint, "127.0.0.1:1")].into_iter().enumerate()
    {
        std::fs::write(&file, allowed.replace(before, after)).unwrap();
        agent.hang_up();
        agent.logged_times("writing is not allowed", changed.len() + number + 1).await;
        let answer = press.write(&format!("e{number}"), "setpoint_c", 31.0).await;
        assert!(reason(&answer).contains("revoked"), "{answer:?}");
    }
    assert_eq!(press.writes().await.len(), 1);
    // And what it was is in force again without the owner.
    std::fs::write(&file, allowed).unwrap();
    agent.hang_up();
    agent.logged_times("configuration reloaded", changed.len() + 3).await;
    assert_eq!(press.write("2", "setpoint_c", 31.0).await.state, State::Done);
}

#[tokio::test]
async fn a_leased_value_returns_to_the_safe_one_also_after_a_restart() {
    let leased = SETPOINT.replace("interval = \"0s\"", "interval = \"0s\"\nlease = \"1h\"\nsafe = 15.0");
    let (mut press, mut agent) = Press::start(Framing::Tcp, &leased).await;
    let short = |value: f64| json!({ "device": "press-1", "point": "setpoint_c", "value": value, "for": "2s" });

    assert_eq!(press.write_with("1", short(40.0)).await.state, State::Done);
    agent.logged("a value has returned to its safe one").await;
    assert_eq!(press.write_with("2", short(41.0)).await.state, State::Done);
    agent.kill();
    agent = press.site.start();
    agent.logged("a value has returned to its safe one").await;

    let log = press.endpoint.log().await.unwrap();
    let written: Vec<u16> =
        log.iter().filter(|answer| answer.access.function == 6).map(|answer| answer.words[0]).collect();
    assert_eq!(written, [400, 150, 410, 150]);
}

#[tokio::test]
async fn killed_at_any_step_a_write_happens_at_most_once_and_is_unknown_afterwards() {
    for (place, may_be_written) in
        [("begun", 0), ("write-before-send", 0), ("write-sent", 1), ("write-read-back", 1), ("ended", 1)]
    {
        let (mut press, mut agent) = Press::start(Framing::Tcp, SETPOINT).await;
        agent.kill();
        let mut agent = press.site.start_with(|command| command.env("LINESIDE_FAIL_POINT", place));
        agent.logged("connected to the broker").await;
        press.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;
        let arguments = json!({ "device": "press-1", "point": "setpoint_c", "value": 30.0 });
        let payload = press.operator.sign(&order("7", "write", arguments));
        press.commander.send("7", &payload).await;
        assert!(!agent.exit().await.success());

        let agent = press.site.start();
        agent.logged("connected to the broker").await;
        press.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 3).await;
        let answer = press.commander.ask("7", &payload).await;

        let written = press.writes().await.len();
        println!(
            "killed at {place}: {written} writes, then {:?} was {:?}, {}",
            answer.state, answer.was, answer.result
        );
        assert_eq!(written, may_be_written, "{place}");
        let expected = if place == "ended" { State::Done } else { State::Unknown };
        let last = answer.was.unwrap_or(answer.state);
        assert_eq!(last, expected, "{place}: {answer:?}");
        if place != "ended" {
            let shown = if written == 1 { 30.0 } else { 20.0 };
            assert_eq!(answer.result["read_back"].as_f64(), Some(shown), "{place}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_write_that_is_not_answered_is_not_sent_again() {
    let (mut press, _agent) = Press::start(Framing::Tcp, SETPOINT).await;
    let answer = tokio::join!(press.write("1", "setpoint_c", 30.0)).0;
    assert_eq!(answer.state, State::Done);
    press.endpoint.misbehave(1, Some(Misbehaviour::Late(Duration::from_millis(450)))).await.unwrap();

    let answer = press.write("2", "setpoint_c", 31.0).await;

    press.endpoint.misbehave(1, None).await.unwrap();
    assert!(matches!(answer.state, State::Failed | State::Unknown), "{answer:?}");
    assert!(press.writes().await.len() <= 2);
}

#[tokio::test]
async fn a_rule_writes_within_the_same_bounds_and_is_written_down() {
    let directory = super::support::directory();
    let rules = directory.path().join("rules.yml");
    let alert = |name: &str, value: f64| {
        format!(
            "      - alert: {name}\n        expr: door_open > 0\n        edge:\n          evaluate: arrival\n          on_firing:\n            \
             - write: {{ device: press-1, point: setpoint_c, value: {value} }}\n"
        )
    };
    let text = format!(
        "groups:\n  - name: g\n    interval: 1s\n    rules:\n{}{}",
        alert("DoorOpen", 15.0),
        alert("TooHot", 99.0)
    );
    std::fs::write(&rules, text).unwrap();
    let (press, _agent) = Press::start(Framing::Tcp, &format!("[rules]\nfiles = [{rules:?}]\n{SETPOINT}")).await;

    press.endpoint.set(1, "door_open", 1.0).await.unwrap();

    let status = press.site.until("one write and one refusal", |status| {
        status["actions"]["done"] == 1 && status["actions"]["failed"] == 1
    });
    let status = status.await;
    assert!(status["actions"]["last_failure"]["reason"].as_str().unwrap().contains("must be 10 to 60"), "{status}");
    assert_eq!(press.writes().await, [6]);
    let audit = press.site.lineside(&["audit", "show", "--json"]).await;
    assert!(String::from_utf8_lossy(&audit.stdout).contains("(rule) DoorOpen"), "{audit:?}");
}

/// Bits of a register are written by mask, or read, changed and written where the owner says so, and 23 writes too.
#[tokio::test]
async fn bits_of_a_register_are_written_and_their_neighbours_stay() {
    let bits = |function: &str| {
        let section = |point, range| {
            let named = SETPOINT.replace("setpoint_c", point).replace("[10.0, 60.0]", range);
            named.replace("interval", &format!("function = \"{function}\"\ninterval"))
        };
        section("lamp", "[0, 1]") + &section("mode", "[0, 9]")
    };
    let both = SETPOINT.replace("interval", "function = \"read-write\"\ninterval");
    for (framing, function, code) in [
        (Framing::Tcp, "mask", 22),
        (Framing::Rtu, "mask", 22),
        (Framing::Tcp, "read-modify-write", 6),
        (Framing::Rtu, "read-modify-write", 6),
    ] {
        let (mut press, _agent) = Press::start(framing, &format!("{both}{}", bits(function))).await;
        press.endpoint.set(1, "mode", 5.0).await.unwrap();

        let lit = press.write("1", "lamp", 1.0).await;
        let moved = press.write("2", "mode", 9.0).await;
        let warm = press.write("3", "setpoint_c", 35.5).await;

        for answer in [&lit, &moved, &warm] {
            assert_eq!(answer.state, State::Done, "{function}: {answer:?}");
        }
        assert_eq!(press.writes().await, [code, code, 23], "{function}");
        let log = press.endpoint.log().await.unwrap();
        let last =
            log.iter().filter(|answer| answer.access.function == 3 && answer.access.address == 6).last().unwrap();
        assert_eq!(last.words, [0x0908], "{function}");
    }
}

#[tokio::test]
async fn a_bit_of_a_register_is_not_written_without_a_function_for_it() {
    let (mut press, _agent) = Press::start(Framing::Tcp, "").await;
    press.configure(&SETPOINT.replace("setpoint_c", "lamp").replace("pin = \"PIN\"\n", "")).await;

    let checked = press.site.lineside(&["check"]).await;

    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("it shares its register with others: function = \"mask\""), "{text}");
    assert!(press.writes().await.is_empty());
}
