//! Interlocks in PromQL: whatever is not surely allowed is not written.

use lineside::commands::answer::State;
use lineside::simulator::{Endpoint, Framing, Misbehaviour, Servers};
use serde_json::json;

use super::writes::{Press, SETPOINT, reason, serve};

/// A gate beside the press, polled once an hour.
fn gate(endpoint: &Endpoint) -> String {
    format!(
        "[[link]]\nname = \"yard\"\ntcp = \"{}\"\ntimeout = \"300ms\"\n[[device]]\nname = \"gate-1\"\nlink = \"yard\"\n\
         unit_id = 1\nprofile = \"press\"\ninterval = \"1h\"\n",
        endpoint.address()
    )
}

fn with_interlock(interlock: &str) -> String {
    SETPOINT.replace("interval = ", &format!("interlock = {interlock}\ninterval = "))
}

#[tokio::test]
async fn an_expression_must_hold_over_values_that_are_fresh_and_good_also_without_rules() {
    let mut servers = Servers::default();
    let yard = serve(&mut servers, Framing::Tcp).await;
    let interlock =
        "'max(door_open{device=\"gate-1\"}) == 0 and max(avg_over_time(power_w{device=\"press-1\"}[5s])) < 100'";
    let (mut press, _agent) =
        Press::start(Framing::Tcp, &format!("{}{}", gate(&yard), with_interlock(interlock))).await;
    press.site.until("both devices", |status| status["ingest"]["good"].as_u64() > Some(8)).await;

    let closed = press.write("1", "setpoint_c", 30.0).await;
    yard.set(1, "door_open", 1.0).await.unwrap();
    let open = press.write("2", "setpoint_c", 31.0).await;
    yard.misbehave(1, Some(Misbehaviour::Exception(2))).await.unwrap();
    let bad = press.write("3", "setpoint_c", 31.0).await;
    yard.misbehave(1, Some(Misbehaviour::Silent)).await.unwrap();
    let silent = press.write("4", "setpoint_c", 31.0).await;
    yard.misbehave(1, None).await.unwrap();
    yard.set(1, "door_open", 0.0).await.unwrap();
    let dry = json!({ "device": "press-1", "point": "setpoint_c", "value": 31.0, "dry_run": true });
    let allowed = press.write_with("5", dry).await;

    assert_eq!(closed.state, State::Done, "{closed:?}");
    assert!(reason(&open).contains("it does not hold now: gate-1/door_open is 1"), "{open:?}");
    assert!(reason(&bad).contains("is bad: exception 2"), "{bad:?}");
    assert!(reason(&silent).contains("gate-1"), "{silent:?}");
    assert_eq!(
        [open.state, bad.state, silent.state, allowed.state],
        [State::Failed, State::Failed, State::Failed, State::Done]
    );
    assert_eq!(press.writes().await, [6]);
    assert!(press.site.status().await["rules"].is_null(), "an interlock is no rule");
}

#[tokio::test]
async fn the_way_back_to_the_safe_value_needs_no_interlock_and_no_step() {
    let leased = with_interlock("'door_open == 0'")
        .replace("interval = ", "step = 30.0\nlease = \"1h\"\nsafe = 15.0\ninterval = ");
    let (mut press, agent) = Press::start(Framing::Tcp, &leased).await;
    assert_eq!(press.write("1", "setpoint_c", 40.0).await.state, State::Done);
    let short = json!({ "device": "press-1", "point": "setpoint_c", "value": 60.0, "for": "2s" });
    assert_eq!(press.write_with("2", short).await.state, State::Done);
    press.endpoint.set(1, "door_open", 1.0).await.unwrap();

    agent.logged("a value has returned to its safe one").await;

    let log = press.endpoint.log().await.unwrap();
    let written: Vec<u16> =
        log.iter().filter(|answer| answer.access.function == 6).map(|answer| answer.words[0]).collect();
    assert_eq!(written, [400, 600, 150]);
}

#[tokio::test]
async fn what_has_no_result_or_names_what_is_not_there_is_refused_and_what_rules_record_counts() {
    let mut servers = Servers::default();
    let yard = serve(&mut servers, Framing::Tcp).await;
    let directory = super::support::directory();
    let rules = directory.path().join("rules.yml");
    let text = "groups: [{ name: g, interval: 1s, rules: [{ record: doors_open, expr: sum(door_open) }] }]";
    std::fs::write(&rules, text).unwrap();
    let recorded = with_interlock("\"doors_open == 0\"");
    let ambiguous = with_interlock("\"door_open == on () setpoint_c\"").replace("\"setpoint_c\"", "\"power_w\"");
    let missing = with_interlock("\"absent(nobody)\"").replace("\"setpoint_c\"", "\"door_open\"");
    let sections = format!("[rules]\nfiles = [{rules:?}]\n{}{recorded}{ambiguous}{missing}", gate(&yard));
    let (mut press, _agent) = Press::start(Framing::Tcp, &sections).await;
    press.site.until("a recorded result", |status| status["rules"]["recorded"].as_u64() > Some(0)).await;

    let recorded = press.write("1", "setpoint_c", 30.0).await;
    let ambiguous = press.write("2", "power_w", 30.0).await;
    let missing = press.write("3", "door_open", 30.0).await;

    assert_eq!(recorded.state, State::Done, "{recorded:?}");
    assert!(reason(&ambiguous).contains("many-to-many matching not allowed"), "{ambiguous:?}");
    assert!(reason(&missing).contains("there is no series nobody"), "{missing:?}");
    assert_eq!(press.writes().await, [6]);
}

#[tokio::test]
async fn check_names_file_line_and_key_of_what_cannot_be_an_interlock() {
    let list = "[\"door_open == 0 and\", \"door_open\", \"limitk(1, door_open) == 0\"]";
    let (mut press, agent) = Press::start(Framing::Tcp, &with_interlock("\"door_open == 0\"")).await;
    drop(agent);
    let mut faults = Vec::new();
    for interlock in [list, "[\"door_open\", \"limitk(1, door_open) == 0\"]"] {
        press.configure(&with_interlock(interlock).replace("PIN", "0")).await;
        let output = press.site.lineside(&["check"]).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        faults.extend(String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned));
    }
    let said = |reason: &str| {
        let is_placed = |line: &&String| line.contains("lineside.toml:") && line.contains("write[1].interlock = ");
        faults.iter().filter(is_placed).any(|line| line.contains(reason))
    };
    assert!(said("must be a tag compared with a number"), "{faults:#?}");
    assert!(said("\"door_open\": always has a result, so it would never forbid anything"), "{faults:#?}");
    assert!(said("limitk is an experimental aggregation"), "{faults:#?}");

    // What is in order but will never allow anything is a warning.
    press.configure(&with_interlock("\"dor_open == 0\"").replace("PIN", "0")).await;
    let output = press.site.lineside(&["check"]).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("there is no series dor_open, so nothing would be written"), "{shown}");
}
