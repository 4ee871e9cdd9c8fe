//! One list of problems: what is wrong stands in it, with the step to take, and goes from it when it is mended.

#![cfg(test)]
#![allow(clippy::unwrap_used, missing_docs, reason = "what panics here is a test, and nobody else uses it")]

mod support;

use std::process::{Command, Output};

use lineside::simulator::{Endpoint, Servers};
use serde_json::Value;
use support::broker::Broker;
use support::plant::{COUNTER, COUNTER_PROFILE, counters};
use support::site::{Configuration, Site};

/// The text of the problem with this key.
fn problem(status: &Value, key: &str) -> Option<String> {
    let problems = status["problems"].as_array().unwrap();
    problems.iter().find(|problem| problem["key"] == key).map(|problem| problem["text"].as_str().unwrap().to_owned())
}

fn site() -> Site {
    Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)])
}

fn configuration(broker: &Broker, endpoint: &Endpoint, interval: &str) -> String {
    Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, interval)
        .text()
        .to_owned()
}

fn intervals(status: &Value) -> Vec<u64> {
    let intervals = status["links"][0]["intervals"].as_array().unwrap();
    intervals.iter().map(|interval| interval["interval_ms"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn another_identity_is_refused_on_reload_with_all_that_comes_with_it() {
    // Given a gateway that delivers.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = site();
    let file = site.path().join("lineside.toml");
    std::fs::write(&file, configuration(&broker, &endpoint, "50ms")).unwrap();
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("a delivery", |status| status["uplink"]["batches"].as_u64() > Some(0)).await;

    for (from, to, key) in
        [("\"gw-01\"", "\"gw-02\"", "gateway.id"), ("site = \"lyon\"", "site = \"nice\"", "gateway.site")]
    {
        // When its name and the interval of a device change.
        let other = configuration(&broker, &endpoint, "70ms").replace(from, to);
        assert!(other.contains(to), "{other}");
        std::fs::write(&file, other).unwrap();
        agent.hang_up();

        // Then neither does, and it says why.
        let named = |status: &Value| problem(status, "reload-refused").is_some_and(|text| text.contains(key));
        let status = site.until(&format!("a refusal that names {key}"), named).await;
        assert_eq!((status["site"].as_str(), status["gateway"].as_str()), (Some("lyon"), Some("gw-01")));
        assert_eq!(intervals(&status), [50], "a part of the file is in force");
        assert_eq!(status["mqtt"]["connects"], 1);
        assert!(site.shown().await.contains("restart the service"), "the way out is not told");
    }

    // When the name is what it was, the rest is in force and the problem gone.
    std::fs::write(&file, configuration(&broker, &endpoint, "70ms")).unwrap();
    agent.hang_up();
    let status = site.until("the interval", |status| intervals(status) == [70]).await;
    assert_eq!(problem(&status, "reload-refused"), None);
    agent.terminate();
    assert!(agent.exit().await.success());
    // And no series ever had another name.
    let stored = site.lineside(&["store", "export", "--format", "jsonl"]).await;
    let stored = String::from_utf8(stored.stdout).unwrap();
    assert!(stored.contains("gw-01") && !stored.contains("gw-02") && !stored.contains("nice"), "{stored:.2000}");
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_until_there_was_one() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = site();
    let file = site.path().join("lineside.toml");
    std::fs::write(&file, configuration(&broker, &endpoint, "50ms")).unwrap();
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("polls", |status| status["links"][0]["polls_done"].as_u64() > Some(0)).await;

    let other =
        configuration(&broker, &endpoint, "70ms").replace("path = \"store\"", "path = \"store\"\nlimit = \"77MiB\"");
    assert!(other.contains("77MiB"), "{other}");
    std::fs::write(&file, other).unwrap();
    agent.hang_up();

    let status = site.until("the waiting key", |status| problem(status, "restart-needed").is_some()).await;
    let text = problem(&status, "restart-needed").unwrap();
    assert!(text.ends_with("these keys need a restart: store.limit"), "{text}");
    assert_eq!(intervals(&status), [70], "the rest is in force");
    agent.terminate();
    assert!(agent.exit().await.success());
    let mut agent = site.start();
    agent.logged("lineside started").await;
    let status = site.until("the limit", |status| status["store"]["limit_bytes"] == 77 << 20).await;
    assert_eq!(problem(&status, "restart-needed"), None);
    agent.terminate();
    assert!(agent.exit().await.success());
}

#[tokio::test]
async fn a_reload_that_was_refused_is_a_problem_until_a_later_one_is_taken() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = site();
    let file = site.path().join("lineside.toml");
    let good = configuration(&broker, &endpoint, "50ms");
    std::fs::write(&file, &good).unwrap();
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("polls", |status| status["links"][0]["polls_done"].as_u64() > Some(0)).await;

    std::fs::write(&file, good.replace("unit_id = 1", "unit_id = 1000")).unwrap();
    agent.hang_up();

    let status = site.until("a refusal", |status| problem(status, "reload-refused").is_some()).await;
    let text = problem(&status, "reload-refused").unwrap();
    assert!(text.contains("lineside.toml was not reloaded, all is as before: ") && text.contains("unit_id"), "{text}");
    std::fs::write(&file, &good).unwrap();
    agent.hang_up();
    site.until("no refusal", |status| problem(status, "reload-refused").is_none()).await;
    agent.terminate();
    assert!(agent.exit().await.success());
}

/// Points that the counters do not have, beside one that they have.
const LACKING: &str = "manufacturer = \"lineside\"\nmodel = \"lacking\"\n\
    modbus = { table = \"holding\", encoding = \"u16\" }\n\
    point = [{ name = \"answers\", address = 0, encoding = \"u32\" }, { name = \"level\", address = 900 }, \
    { name = \"flow\", address = 910 }]\n";

/// Runs the program in the directory of a site, for somebody in Paris with a screen of 80 columns.
async fn in_paris(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(arguments).env("COLUMNS", "80").env("TZ", "Europe/Paris").current_dir(site.path());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn assert_fits(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line:?} of\n{text}", line.chars().count());
    }
    text
}

#[tokio::test]
async fn points_that_a_device_refuses_are_one_problem_that_names_them() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[("lacking", LACKING)]);
    let text = configuration(&broker, &endpoint, "100ms").replace(COUNTER, "lacking");
    std::fs::write(site.path().join("lineside.toml"), text).unwrap();
    let mut agent = site.start();
    agent.logged("lineside started").await;

    let key = "points-bad/press-1/exception 2 (illegal data address)";
    let status = site.until("the points", |status| problem(status, key).is_some()).await;

    let text = problem(&status, key).unwrap();
    assert_eq!(text, "press-1 refuses 2 points (level, flow): exception 2 (illegal data address)");
    let said = in_paris(&site, &["status", "-c", "lineside.toml"]).await;
    assert_eq!(said.status.code(), Some(1));
    let shown = assert_fits(&said);
    assert!(shown.contains("press-1 refuses 2 points (level, flow)"), "{shown}");
    let alarms = in_paris(&site, &["alarms", "-c", "lineside.toml"]).await;
    assert!(assert_fits(&alarms).contains("press-1 refuses 2 points (level, flow)"), "{alarms:?}");
    // What a person has to do stands at the end, with the time here and in UTC.
    let end = shown.split_once("\nproblems  ").unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(end.contains("lineside forget press-1") && end.contains(" local)"), "{end}");
    agent.terminate();
    assert!(agent.exit().await.success());
}

#[tokio::test]
async fn status_and_tail_fit_eighty_columns_and_tail_shows_what_rules_record() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let site = site();
    let rules = "groups:\n  - name: g\n    interval: 1s\n    rules:\n      \
                 - { record: 'line:answers:sum', expr: 'sum by (line) (answers)' }\n";
    std::fs::write(site.path().join("rules.yml"), rules).unwrap();
    let name = "a-press-with-a-name-that-is-as-long-as-a-name-may-be-in-any-hall";
    let configuration = Configuration::to_port(9, "")
        .link("hall-with-a-long-name", endpoint.address(), "")
        .device(name, "hall-with-a-long-name", 1, COUNTER, "100ms")
        .lines("labels = { line = \"the-line-in-the-middle-of-the-hall-that-has-a-long-name\" }")
        .device("press-2", "hall-with-a-long-name", 2, COUNTER, "100ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]");
    site.configure(&configuration);
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("results", |status| status["rules"]["recorded"].as_u64() > Some(0)).await;

    let recorded = in_paris(&site, &["tail", "-c", "lineside.toml", "-p", "line:answers:sum", "-n", "2"]).await;
    let readings = in_paris(&site, &["tail", "-c", "lineside.toml", "-n", "8"]).await;
    let status = in_paris(&site, &["status", "-c", "lineside.toml"]).await;
    let device = in_paris(&site, &["status", "-c", "lineside.toml", "--device", name]).await;

    let recorded = assert_fits(&recorded);
    assert!(recorded.contains("line:answers:sum"), "{recorded}");
    let readings = assert_fits(&readings);
    assert!(readings.contains("press-2/answers"), "{readings}");
    let shown = assert_fits(&status);
    let last = shown.split_once("\nproblems  ").unwrap().1;
    assert!(last.contains("no connection to the broker"), "{shown}");
    assert_fits(&device);
    agent.terminate();
    assert!(agent.exit().await.success());
}

#[tokio::test]
async fn the_fleet_shows_those_in_trouble_first_and_only_those_asked_for() {
    let broker = Broker::start().await;
    let site = site();
    let publish = |topic: &str, payload: &str| {
        broker.publish_with(&format!("lineside/v1/{topic}"), payload, &["-r"]);
    };
    publish("lyon/gw-01/state", r#"{"online":true,"version":"0.1.0","started":1764504191000}"#);
    publish("lyon/gw-02/state", r#"{"online":true,"version":"0.1.0","started":1764504191000}"#);
    publish(
        "lyon/gw-02/problems",
        r#"{"time":1764504191000,"problems":[{"key":"device-silent/press-1","severity":"major","area":"devices",
            "about":{"device":"press-1"},"since":1764504191000,"text":"press-1 does not answer: no answer within 500 ms"}]}"#,
    );
    publish("nice/gw-03/state", r#"{"online":false}"#);
    publish("nice/gw-03/problems", r#"{"time":1764504191000,"problems":[]}"#);
    let address = format!("mqtt://127.0.0.1:{}", broker.port());
    let fleet = async |arguments: &[&str]| {
        in_paris(&site, &[&["command", "fleet", "--broker", &address][..], arguments].concat()).await
    };

    let all = fleet(&[]).await;
    let well = fleet(&["lyon/gw-01"]).await;
    let trouble = fleet(&["--trouble", "--site", "lyon", "--json"]).await;

    assert_eq!((all.status.code(), well.status.code(), trouble.status.code()), (Some(1), Some(0), Some(1)), "{all:?}");
    let shown = assert_fits(&all);
    let order: Vec<&str> = shown.lines().skip(1).take(3).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(order, ["nice/gw-03", "lyon/gw-02", "lyon/gw-01"], "{shown}");
    assert!(shown.contains("offline; last seen 2025-11-30T12:03:11Z (13:03:11 local)"), "{shown}");
    assert!(shown.contains("major: press-1 does not answer: no answer within 500 ms"), "{shown}");
    let listed: Value = serde_json::from_slice(&trouble.stdout).unwrap();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["gateway"].as_str().unwrap()).collect();
    assert_eq!(names, ["lyon/gw-02"], "{listed}");
}

#[tokio::test]
async fn what_check_refuses_run_refuses_in_the_same_words() {
    let site = site();
    let good = "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\nsocket = \"lineside.sock\"\nprofiles = \"profiles\"\n\
                [store]\npath = \"store\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:9\"\n[[link]]\nname = \"hall\"\n\
                tcp = \"127.0.0.1:9\"\n[[device]]\nname = \"press-1\"\nlink = \"hall\"\nunit_id = 1\nprofile = \"counter\"\n";
    let good = good.replace("\"counter\"", &format!("{COUNTER:?}"));
    let faults = [
        good.replace("path = \"store\"", "path = \"store\"\nlimit = \"4000GiB\""),
        good.replace("[mqtt]", "[mqtt]\npassword_file = \"nowhere\"\nusername = \"a\""),
        good.replace("mqtt://127.0.0.1:9\"", "mqtts://127.0.0.1:9\"\nca_file = \"nowhere.pem\""),
        format!("{good}[rules]\nfiles = [\"nowhere.yml\"]\n"),
        good.replace("unit_id = 1", "unit_id = 1000"),
        good.replace("127.0.0.1:9\"\n[[device]]", "${HALL}\"\n[[device]]"),
    ];
    for text in faults {
        assert_ne!(text, good);
        std::fs::write(site.path().join("lineside.toml"), &text).unwrap();

        let [checked, run] = [
            in_paris(&site, &["check", "-c", "lineside.toml"]).await,
            in_paris(&site, &["run", "-c", "lineside.toml"]).await,
        ];

        assert_eq!((checked.status.code(), run.status.code()), (Some(2), Some(2)), "{text}\n{checked:?}\n{run:?}");
        let [checked, run] = [checked, run].map(|output| String::from_utf8(output.stderr).unwrap());
        assert!(checked.starts_with(run.trim_end()), "{checked}\n{run}");
        assert_eq!(checked.contains("${HALL} is taken as it stands"), text.contains("${HALL}"), "{checked}");
    }
}

#[tokio::test]
async fn check_warns_of_certificates_that_have_expired_and_of_what_nothing_fills_in() {
    let certificates = support::certificates::Certificates::from("plant authority");
    let site = site();
    let text = format!(
        "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\nsocket = \"lineside.sock\"\nprofiles = \"profiles\"\n\
         [store]\npath = \"store\"\nlimit = \"64MiB\"\n[mqtt]\nurl = \"mqtts://127.0.0.1:9\"\nusername = \"${{NAME}}\"\n\
         ca_file = {:?}\n[[link]]\nname = \"hall\"\ntcp = \"127.0.0.1:9\"\n[[device]]\nname = \"press-1\"\n\
         link = \"hall\"\nunit_id = 1\nprofile = {COUNTER:?}\n",
        certificates.ca()
    );
    std::fs::write(site.path().join("lineside.toml"), &text).unwrap();

    let now = in_paris(&site, &["check", "-c", "lineside.toml"]).await;
    // And with one that ended in 2020.
    let expired = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cli/expired-ca.pem");
    let text = text.replace(&format!("{:?}", certificates.ca()), &format!("{expired:?}"));
    std::fs::write(site.path().join("lineside.toml"), &text).unwrap();
    let late = in_paris(&site, &["check", "-c", "lineside.toml"]).await;

    let [late, now] = [late, now].map(|output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(
        late.contains("warning: mqtt.ca_file = ") && late.contains("a certificate in it expired on 2020-01-01"),
        "{late}"
    );
    assert!(!now.contains("expired"), "{now}");
    assert!(now.contains("lineside.toml:11: ${NAME} is taken as it stands"), "{now}");
}
