//! Nothing that is pushed widens what may be written: no text to a port, no other register under an interlock, no rule past
//! the lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use lineside::commands::answer::State;
use lineside::commands::desired::{Desired, DesiredEnvelope};
use lineside::commands::signature::FOR_CONFIGURATION;
use lineside::simulator::{Endpoint, Framing, Keep, LineFormat, Pace, Servers};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::subscribed;
use super::support::broker::{Broker, Setup};
use super::support::commander::{Commander, Signer, order};
use super::support::gateway::message;
use super::support::site::{BASE, Configuration, Site};
use super::support::{meters, within};
use super::writes::{PRESS, Press, SETPOINT, pinned, reason, serve};

/// Publishes a configuration with these files, and gives the report of what became of it.
async fn push(commander: &mut Commander, engineer: &Signer, revision: u64, files: &[(&str, &str)]) -> Value {
    let files: BTreeMap<String, String> =
        files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    let desired = Desired { gateway: "lyon/gw-01".to_owned(), revision, confirm: None, share: Some(0.0), files };
    let configuration = serde_json::to_string(&desired).unwrap();
    let signature = engineer.key.sign(FOR_CONFIGURATION, &configuration);
    let envelope = DesiredEnvelope { configuration, key: engineer.name.to_owned(), signature };
    let payload = serde_json::to_string(&envelope).unwrap();
    commander.publish(message(&format!("{BASE}/config/desired"), &payload)).await;
    let settled = async {
        loop {
            let received = commander.next().await;
            let report: Value = serde_json::from_slice(&received.payload).unwrap_or_default();
            let is_it = received.topic.ends_with("/config/reported") && report["tried"]["revision"] == revision;
            if is_it && report["state"] != "trial" {
                return report;
            }
        }
    };
    within(format!("a report of revision {revision}"), settled).await
}

fn reasons(report: &Value) -> String {
    format!("{} {}", report["state"], report["reasons"])
}

/// The press, and a gate whose door an interlock looks at.
fn plant(press: &Endpoint, gate: &str, gate_profile: &str) -> String {
    format!(
        "[[link]]\nname = \"hall\"\ntcp = \"{}\"\ntimeout = \"300ms\"\n[[device]]\nname = \"press-1\"\nlink = \"hall\"\n\
         unit_id = 1\nprofile = \"press\"\ninterval = \"200ms\"\n{}",
        press.address(),
        self::gate(gate, gate_profile)
    )
}

fn gate(address: &str, profile: &str) -> String {
    format!(
        "[[link]]\nname = \"yard\"\ntcp = \"{address}\"\ntimeout = \"300ms\"\n[[device]]\nname = \"gate-1\"\nlink = \"yard\"\n\
         unit_id = 1\nprofile = \"{profile}\"\ninterval = \"200ms\"\n"
    )
}

fn with_interlock(point: &str, interlock: &str) -> String {
    SETPOINT.replace("setpoint_c", point).replace("interval = ", &format!("interlock = {interlock}\ninterval = "))
}

#[tokio::test]
async fn a_pushed_text_profile_sends_no_byte_to_a_port_of_the_owner() {
    // Given a meter on a serial line, and no [[write]] anywhere.
    let mut servers = Servers::default();
    let endpoint = servers.rtu(LineFormat::plain(9600, Pace::Free), vec![meters::device(1, 5)], Keep::Answers).unwrap();
    let broker = Broker::with(Setup::default()).await;
    let engineer = Signer::new("engineer", "engineer");
    let site = Site::with_profiles(&[("meter", &meters::profile(5))]);
    let line = meters::link("hall-a", &endpoint, Framing::Rtu, "300ms");
    let plant = format!("{line}{}", meters::meter(1, "hall-a", "meter", "500ms"));
    let owner = format!("[clock]\ntrust = \"local\"\n{}\n{plant}", engineer.section());
    site.configure(&Configuration::to_port(broker.port(), "").lines(&owner));
    let agent = site.start();
    agent.logged("connected to the broker").await;
    subscribed(&broker).await;
    site.until("readings", |status| status["ingest"]["good"].as_u64() > Some(5)).await;
    let mut commander = Commander::connect(broker.port()).await;

    // When a text instrument is pushed to its port, whose question is a frame that writes.
    let text = line.replace("rtu = {", "text = {");
    assert_ne!(text, line);
    let innocent = "[[device]]\nname = \"innocent\"\nlink = \"hall-a\"\nprofile = \"innocent\"\ninterval = \"1s\"\n";
    let profile = "manufacturer = \"x\"\nmodel = \"x\"\n[text]\nask = \"\\u0001\\u0006\\u0000\\u0000\\u0000\\u000fI\\u000e\"\n\
                   [[text.pattern]]\nexpression = '(?P<x>.*)'\n[[point]]\nname = \"x\"\nkind = \"text\"\n";
    let files = [("configuration.toml", format!("{text}{innocent}")), ("profiles/innocent.toml", profile.to_owned())];
    let files = files.each_ref().map(|(file, text)| (*file, text.as_str()));
    let report = push(&mut commander, &engineer, 1, &files).await;

    // Then it is refused by the name of its link, written down and counted, and the meter is polled as before.
    assert!(reasons(&report).starts_with("\"refused\""), "{report}");
    assert!(
        reasons(&report).contains("link hall-a") && reasons(&report).contains("for text at this speed"),
        "{report}"
    );
    let status = site.status().await;
    assert_eq!(status["remote"]["refused"]["configuration"], 1, "{status}");
    let audit = site.lineside(&["audit", "show", "--json"]).await;
    assert!(String::from_utf8_lossy(&audit.stdout).contains("only as the owner's file does"), "{audit:?}");
    let good = status["ingest"]["good"].as_u64();
    site.until("further readings", |status| status["ingest"]["good"].as_u64() > good.map(|good| good + 5)).await;
    let log = endpoint.log().await.unwrap();
    assert!(log.iter().all(|answer| matches!(answer.access.function, 1..=4)), "something was written");
}

#[tokio::test]
async fn what_an_interlock_looks_at_is_not_redefined_from_afar() {
    let mut servers = Servers::default();
    let (yard, other) = (serve(&mut servers, Framing::Tcp).await, serve(&mut servers, Framing::Tcp).await);
    let address = yard.address().to_string();
    let sections = format!(
        "{}{}{}",
        gate(&address, "press"),
        with_interlock("setpoint_c", "\"gate-1/door_open == 0\""),
        with_interlock("power_w", "'max(door_open{device=\"gate-1\"}) == 0'")
    );
    let (mut press, _agent) = Press::start(Framing::Tcp, &sections).await;
    press.site.until("both devices", |status| status["ingest"]["good"].as_u64() > Some(8)).await;
    yard.set(1, "door_open", 1.0).await.unwrap();
    let closed_again = PRESS.replace("name = \"door_open\", address = 4", "name = \"door_open\", address = 5");
    assert_ne!(closed_again, PRESS);

    let same = plant(&press.endpoint, &address, "press");
    let generic = "[[device]]\nname = \"gate-1\"\nlink = \"yard\"\nunit_id = 1\nprofile = \"generic\"\ninterval = \"200ms\"\n\
                   modbus = { table = \"holding\", encoding = \"u16\" }\npoint = [{ name = \"door_open\", address = 5 }]\n";
    let renamed = same.replace("name = \"gate-1\"", "name = \"gate-2\"");
    for (number, (files, said)) in [
        (
            vec![
                ("configuration.toml", plant(&press.endpoint, &address, "gate")),
                ("profiles/gate.toml", closed_again.clone()),
            ],
            "gate-1",
        ),
        (vec![("configuration.toml", same.clone()), ("profiles/press.toml", closed_again)], "never replaces it"),
        (
            vec![("configuration.toml", plant(&press.endpoint, &other.address().to_string(), "press"))],
            "endpoint of gate-1",
        ),
        (
            vec![(
                "configuration.toml",
                same.split("[[device]]\nname = \"gate-1\"").next().unwrap().to_owned() + generic,
            )],
            "gate-1",
        ),
        (vec![("configuration.toml", renamed)], "not there any more"),
    ]
    .into_iter()
    .enumerate()
    {
        let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (*file, text.as_str())).collect();
        let report = push(&mut press.commander, &press.engineer, 1 + number as u64, &files).await;
        assert!(reasons(&report).starts_with("\"refused\"") && reasons(&report).contains(said), "{said}: {report}");
        for point in ["setpoint_c", "power_w"] {
            let answer = press.write(&format!("{point}{number}"), point, 30.0).await;
            assert_eq!(answer.state, State::Failed, "{answer:?}");
            assert!(reason(&answer).starts_with("interlock "), "{answer:?}");
        }
    }
    assert!(press.writes().await.is_empty());

    // What leaves all of that alone is taken, and the permissions stay in force.
    let more = format!("{same}labels = {{ line = \"a\" }}\n");
    let report = push(&mut press.commander, &press.engineer, 20, &[("configuration.toml", &same)]).await;
    assert!(reasons(&report).starts_with("\"confirmed\""), "{report}");
    yard.set(1, "door_open", 0.0).await.unwrap();
    for point in ["setpoint_c", "power_w"] {
        let answer = press.write(&format!("{point}-in"), point, 30.0).await;
        assert_eq!(answer.state, State::Done, "{answer:?}");
    }
    // Another label makes another series of what the expression looks at.
    let report = push(&mut press.commander, &press.engineer, 21, &[("configuration.toml", &more)]).await;
    assert!(reasons(&report).contains("write press-1/power_w"), "{report}");
    assert!(!reasons(&report).contains("write press-1/setpoint_c"), "{report}");
}

#[tokio::test]
async fn the_rules_that_an_interlock_reads_through_are_not_redefined_from_afar() {
    let directory = super::support::directory();
    let file = directory.path().join("rules.yml");
    let rules = |expression: &str| {
        format!("groups: [{{ name: g, interval: 1s, rules: [{{ record: doors_open, expr: {expression} }}] }}]")
    };
    std::fs::write(&file, rules("sum(door_open)")).unwrap();
    let sections = format!("[rules]\nfiles = [{file:?}]\n{}", with_interlock("setpoint_c", "\"doors_open == 0\""));
    let (mut press, _agent) = Press::start(Framing::Tcp, &sections).await;
    press.site.until("a recorded result", |status| status["rules"]["recorded"].as_u64() > Some(0)).await;
    press.endpoint.set(1, "door_open", 1.0).await.unwrap();

    let changed =
        push(&mut press.commander, &press.engineer, 1, &[("rules/r.yml", &rules("sum(door_open) * 0"))]).await;
    let second = rules("sum(door_open)").replace("rules: [", "rules: [{ record: doors_open, expr: vector(0) }, ");
    let added = push(&mut press.commander, &press.engineer, 2, &[("rules/r.yml", &second)]).await;
    let same = push(&mut press.commander, &press.engineer, 3, &[("rules/r.yml", &rules("sum(door_open)"))]).await;

    for report in [&changed, &added] {
        assert!(reasons(report).starts_with("\"refused\""), "{report}");
        assert!(reasons(report).contains("expression of rule doors_open"), "{report}");
    }
    assert!(reasons(&same).starts_with("\"confirmed\""), "{same}");
    press.site.until("a recorded result", |status| status["rules"]["recorded"].as_u64() > Some(0)).await;
    let answer = press.write("1", "setpoint_c", 30.0).await;
    assert!(reason(&answer).starts_with("interlock doors_open == 0"), "{answer:?}");
    assert!(press.writes().await.is_empty());
}

#[tokio::test]
async fn a_pushed_rule_writes_as_from_afar_and_so_does_the_owners_when_what_it_looks_at_is_pushed() {
    // Given writing from afar locked, and a rule of the owner that writes when the door is open.
    let directory = super::support::directory();
    let file = directory.path().join("rules.yml");
    let rules = |expression: &str, value: f64| {
        format!(
            "groups:\n  - name: g\n    interval: 1s\n    rules:\n      - alert: Open\n        expr: {expression}\n        \
             edge:\n          on_firing:\n            - write: {{ device: press-1, point: power_w, value: {value} }}\n"
        )
    };
    std::fs::write(&file, rules("door_open{device=\"gate-1\"} > 0", 11.0)).unwrap();
    let mut servers = Servers::default();
    let (yard, other) = (serve(&mut servers, Framing::Tcp).await, serve(&mut servers, Framing::Tcp).await);
    let address = yard.address().to_string();
    let permission = SETPOINT.replace("setpoint_c", "power_w");
    let sections = format!("[rules]\nfiles = [{file:?}]\n{}{permission}", gate(&address, "press"));
    let (mut press, agent) = Press::start(Framing::Tcp, &sections).await;
    let socket = press.site.path().join("lineside.sock");
    let locked = press.site.lineside(&["writes", "off", "--socket", socket.to_str().unwrap()]).await;
    assert!(locked.status.success(), "{locked:?}");
    let failed = |count: u64| move |status: &Value| status["actions"]["failed"].as_u64() >= Some(count);

    // When a rule is pushed that fires at once, then its write is refused and written down.
    let pushed = rules("vector(1) > 0", 66.0);
    let report = push(&mut press.commander, &press.engineer, 1, &[("rules/r.yml", &pushed.replace("66", "55"))]).await;
    assert!(reasons(&report).starts_with("\"confirmed\""), "{report}");
    let status = press.site.until("a refusal", failed(1)).await;
    assert!(
        status["actions"]["last_failure"]["reason"].as_str().unwrap().contains("writing from afar is locked"),
        "{status}"
    );
    assert!(status["remote"]["refused"]["write"].as_u64() > Some(0), "{status}");
    let audit = press.site.lineside(&["audit", "show", "--json"]).await;
    assert!(String::from_utf8_lossy(&audit.stdout).contains("(pushed rule) Open"), "{audit:?}");

    // Nor does the rule of the owner write when another door is pushed in the place of the one it was written for.
    other.set(1, "door_open", 1.0).await.unwrap();
    let elsewhere = plant(&press.endpoint, &other.address().to_string(), "press");
    let report = push(&mut press.commander, &press.engineer, 2, &[("configuration.toml", &elsewhere)]).await;
    assert!(reasons(&report).starts_with("\"confirmed\""), "{report}");
    press.site.until("another refusal", failed(2)).await;
    assert!(press.writes().await.is_empty());

    // But it does with the devices of the owner, also when they are pushed as they are, and whatever is locked.
    let same = plant(&press.endpoint, &address, "press");
    let report = push(&mut press.commander, &press.engineer, 3, &[("configuration.toml", &same)]).await;
    assert!(reasons(&report).starts_with("\"confirmed\""), "{report}");
    press.site.until("no alarm", |status| status["rules"]["active"] == 0).await;
    yard.set(1, "door_open", 1.0).await.unwrap();
    press.site.until("a write", |status| status["actions"]["done"].as_u64() >= Some(1)).await;
    assert_eq!(press.writes().await, [16]);
    drop(agent);
}

#[tokio::test]
async fn the_pace_of_a_tag_and_the_range_of_what_is_sent_hold_also_after_a_kill() {
    let slow = SETPOINT.replace("interval = \"0s\"", "interval = \"1h\"").replace("[10.0, 60.0]", "[10.04, 60.0]");
    let (mut press, mut agent) = Press::start(Framing::Tcp, &slow).await;

    let rounded = press.write("0", "setpoint_c", 10.04).await;
    assert!(reason(&rounded).contains("would be sent as 10: must be 10.04 to 60"), "{rounded:?}");
    assert_eq!(press.write("1", "setpoint_c", 30.0).await.state, State::Done);
    for restart in 2..4 {
        agent.kill();
        agent = press.site.start();
        agent.logged("connected to the broker").await;
        press.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", restart).await;
        let answer = press.write(&restart.to_string(), "setpoint_c", 31.0).await;
        assert!(reason(&answer).contains("it may be again in 3"), "{answer:?}");
    }
    assert_eq!(press.writes().await, [6]);
    // Nobody writes while it is not known when that was done last.
    agent.kill();
    std::fs::write(press.site.store().join("remote/pace"), "00000000 []\n").unwrap();
    let agent = press.site.start();
    agent.logged("connected to the broker").await;
    press.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 4).await;
    let answer = press.write("9", "setpoint_c", 31.0).await;
    assert!(reason(&answer).contains("nobody knows when which tag was written last"), "{answer:?}");
}

#[tokio::test]
async fn a_device_with_a_leased_value_is_not_taken_away_from_afar() {
    let leased = SETPOINT.replace("interval = \"0s\"", "interval = \"0s\"\nlease = \"1h\"\nsafe = 15.0");
    let (mut press, _agent) = Press::start(Framing::Tcp, &leased).await;
    let without = gate(&press.endpoint.address().to_string(), "press");
    assert_eq!(press.write("1", "setpoint_c", 40.0).await.state, State::Done);

    let report = push(&mut press.commander, &press.engineer, 1, &[("configuration.toml", &without)]).await;

    assert!(reasons(&report).contains("a leased value has to return to its safe one"), "{report}");
}

/// A device of its own making: it answers each write with an exception, and does it after so many further reads.
async fn reluctant(exception: u8, does_it_after: Option<u32>) -> (std::net::SocketAddr, Arc<Mutex<Vec<u16>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::new(Mutex::new(Vec::new()));
    let seen = written.clone();
    tokio::spawn(async move {
        let mut registers: HashMap<u16, u16> = [(0, 200)].into();
        let mut pending: Option<(u16, u16, u32)> = None;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 12];
            while stream.read_exact(&mut request).await.is_ok() {
                let [function, address, value] = [7, 8, 10].map(|at| {
                    if at == 7 { request[7].into() } else { u16::from_be_bytes([request[at], request[at + 1]]) }
                });
                let body = if function == 6 {
                    seen.lock().unwrap().push(value);
                    pending = does_it_after.map(|reads| (address, value, reads));
                    vec![0x86, exception]
                } else if function <= 4 {
                    if let Some((at, value, left)) = &mut pending {
                        *left = left.saturating_sub(1);
                        if *left == 0 {
                            registers.insert(*at, *value);
                        }
                    }
                    let words =
                        (0..value).flat_map(|n| registers.get(&(address + n)).copied().unwrap_or(0).to_be_bytes());
                    let words: Vec<u8> = words.collect();
                    [&[request[7], words.len() as u8][..], &words].concat()
                } else {
                    vec![request[7] | 0x80, 1]
                };
                let length = (body.len() as u16 + 1).to_be_bytes();
                let answer = [&request[..4], &length, &request[6..7], &body].concat();
                if stream.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    });
    (address, written)
}

#[tokio::test]
async fn an_exception_to_a_write_means_what_the_standard_says_and_is_read_back_where_it_leaves_a_doubt() {
    for (exception, does_it_after, state, said) in [
        (2, None, State::Failed, "exception 2"),
        (5, Some(2), State::Done, ""),
        (5, None, State::Unknown, "accepted, not done: the device acknowledged the write (exception 5)"),
        (6, None, State::Failed, "not done, and not tried again"),
        (6, Some(1), State::Unknown, "it reads back as wished"),
        (4, None, State::Unknown, "it reads back as 20"),
        (11, Some(1), State::Unknown, "it reads back as wished"),
    ] {
        let (address, written) = reluctant(exception, does_it_after).await;
        let broker = Broker::with(Setup::default()).await;
        let operator = Signer::new("operator", "operator");
        let site = Site::with_profiles(&[("press", PRESS)]);
        let configuration = Configuration::to_port(broker.port(), "")
            .link("hall", address, "timeout = \"300ms\"")
            .device("press-1", "hall", 1, "press", "200ms")
            .lines(&format!("points = [\"setpoint_c\"]\n[clock]\ntrust = \"local\"\n{}", operator.section()));
        pinned(&site, &configuration, SETPOINT).await;
        let agent = site.start();
        agent.logged("connected to the broker").await;
        subscribed(&broker).await;
        let mut commander = Commander::connect(broker.port()).await;
        let wish = json!({ "device": "press-1", "point": "setpoint_c", "value": 30.0 });

        let answer = commander.ask("1", &operator.sign(&order("1", "write", wish))).await;

        assert_eq!(answer.state, state, "{exception} {does_it_after:?}: {answer:?}");
        assert!(reason(&answer).contains(said), "{exception} {does_it_after:?}: {answer:?}");
        assert_eq!(*written.lock().unwrap(), [300], "sent once");
    }
}
