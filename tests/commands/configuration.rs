//! A pushed configuration is tried, and stays only when it reaches the broker and the devices answer; whatever is killed,
//! one of two is in force, and the report says which and why.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use lineside::commands::desired::{Desired, DesiredEnvelope};
use lineside::commands::signature::FOR_CONFIGURATION;
use lineside::mqtt::Message;
use lineside::simulator::{Endpoint, Framing, Keep, LineFormat, Misbehaviour, Pace, Servers};
use serde_json::Value;

use super::support::broker::{Broker, Setup};
use super::support::commander::{Commander, Signer};
use super::support::gateway::message;
use super::support::meters;
use super::support::plant::{COUNTER, COUNTER_PROFILE, counters};
use super::support::site::{Agent, BASE, Configuration, Site};
use super::support::within;
use super::{Plant, subscribed};

/// What an engineer has on a laptop.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(engineer: &Signer) -> Self {
        let directory = super::support::directory();
        engineer.store(&directory.path().join("engineer.key"));
        Self { directory }
    }

    /// A directory with these files.
    fn files(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let place = self.directory.path().join(name);
        for (file, text) in files {
            let path = place.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        place
    }

    /// `lineside command config push`, and the report that it prints.
    async fn push(&self, port: u16, files: &Path, more: &[&str]) -> (Output, Value) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.args(["command", "config", "push", "--json", "--gateway", "lyon/gw-01", "--broker"]);
        command.arg(format!("mqtt://127.0.0.1:{port}")).arg(files);
        command.arg("--key").arg(self.directory.path().join("engineer.key")).args(more);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output, report)
    }
}

fn plant_of(endpoint: &Endpoint, interval: &str, profile: &str) -> String {
    format!(
        "[[link]]\nname = \"hall\"\ntcp = \"{}\"\ntimeout = \"200ms\"\n[[device]]\nname = \"press-1\"\nlink = \"hall\"\n\
         unit_id = 1\nprofile = \"{profile}\"\ninterval = \"{interval}\"\n",
        endpoint.address()
    )
}

/// A profile whose registers the counters do not have.
const OTHER: &str = "manufacturer = \"lineside\"\nmodel = \"other\"\nmodbus = { table = \"input\", encoding = \"u16\" }\n\
                     point = [{ name = \"level\", address = 900 }, { name = \"answers\", address = 901 }]\n";

async fn history(site: &Site) -> Value {
    let output = site.lineside(&["config", "history", "--json"]).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Waits until everything on the link is polled at this interval, and polls are done.
async fn polled_each(site: &Site, interval_ms: u64) {
    let what = format!("polls each {interval_ms} ms");
    let done = |status: &Value| status["links"][0]["polls_done"].as_u64().unwrap_or(0);
    let is_so = |status: &Value| {
        let intervals = status["links"][0]["intervals"].as_array().map(Vec::as_slice).unwrap_or_default();
        intervals.len() == 1 && intervals[0]["interval_ms"] == interval_ms
    };
    let before = done(&site.until(&what, is_so).await);
    site.until(&what, |status| is_so(status) && done(status) > before + 1).await;
}

#[tokio::test]
async fn what_proves_itself_stays_also_after_a_restart_and_can_be_taken_back_on_the_spot() {
    let mut plant = Plant::plain("").await;
    let bench = Bench::new(&plant.engineer);
    let rules =
        "groups:\n  - name: g\n    interval: 1s\n    rules:\n      - record: twice\n        expr: answers * 2\n";
    let slower = plant_of(&plant.endpoint, "500ms", "pushed");
    let profile = COUNTER_PROFILE.replace("model = \"counter\"", "model = \"pushed\"");
    let files = [("configuration.toml", slower.as_str()), ("rules/g.yml", rules), ("profiles/pushed.toml", &profile)];

    let (output, report) = bench.push(plant.broker.port(), &bench.files("a", &files), &["--revision", "7"]).await;

    assert!(output.status.success(), "{output:?}");
    assert_eq!((report["state"].as_str(), report["revision"].as_u64()), (Some("confirmed"), Some(7)), "{report}");
    announced_revision(&plant.broker, 7).await;
    plant.site.until("the rules", |status| status["rules"]["rules"] == 1).await;
    polled_each(&plant.site, 500).await;
    plant.agent.kill();
    plant.agent = plant.site.start();
    plant.agent.logged("connected to the broker").await;
    plant.site.until("the rules again", |status| status["rules"]["rules"] == 1).await;
    assert_eq!(history(&plant.site).await["in_force"], 7);
    announced_revision(&plant.broker, 7).await;

    // Revisions only rise, and what is no key of an overlay is refused by file and key.
    let faster = bench.files("b", &[("configuration.toml", &plant_of(&plant.endpoint, "50ms", COUNTER))]);
    let (output, report) = bench.push(plant.broker.port(), &faster, &["--revision", "7"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(report["reasons"][0]["reason"].as_str().unwrap().contains("only rise"), "{report}");
    let faulty = bench.files("c", &[("configuration.toml", "[store]\npath = \"/\"\n")]);
    let (output, report) = bench.push(plant.broker.port(), &faulty, &["--revision", "8"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        (&report["reasons"][0]["file"], &report["reasons"][0]["key"], &report["revision"]),
        (&"configuration.toml".into(), &"store".into(), &7.into()),
        "{report}"
    );

    // Nor is a profile with faults, whether a device uses it or not.
    let unused = "manufacturer = \"x\"\n\nnonsense = [\n";
    let unused = bench.files("d", &[("profiles/unused.toml", unused), ("rules/g.yml.txt", rules), ("notes", "")]);
    let (output, report) = bench.push(plant.broker.port(), &unused, &["--revision", "9"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("notes: is no part") && said.contains("rules/g.yml.txt: is no part"), "{said}");
    let reason = &report["reasons"][0];
    assert_eq!(reason["file"], "profiles/unused.toml", "{report}");
    assert!(reason["reason"].as_str().unwrap().starts_with("line "), "{report}");

    // On the spot the owner goes back to what he wrote himself.
    let output = plant.site.lineside(&["config", "rollback", "0"]).await;
    assert!(output.status.success(), "{output:?}");
    plant.site.until("no rules", |status| status["rules"].is_null()).await;
    assert_eq!(history(&plant.site).await["in_force"], 0);
    announced_revision(&plant.broker, 0).await;
    polled_each(&plant.site, 100).await;
}

#[tokio::test]
async fn a_wrong_broker_is_left_again_and_named() {
    let plant = Plant::plain("").await;
    let bench = Bench::new(&plant.engineer);
    let wrong = bench.files("a", &[("configuration.toml", "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n")]);
    let begun = Instant::now();

    let (output, report) = bench.push(plant.broker.port(), &wrong, &["--confirm", "5s"]).await;

    println!("wrong broker: back after {:.1} s, {}", begun.elapsed().as_secs_f64(), report["reasons"]);
    assert_eq!((output.status.code(), report["state"].as_str()), (Some(1), Some("rolled-back")), "{output:?}");
    assert_eq!(report["reasons"][0]["key"], "mqtt.url");
    assert!(report["reasons"][0]["reason"].as_str().unwrap().contains("refuses"), "{report}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(plant.site.status().await["mqtt"]["state"], "connected");
    // The very same is not tried again, however often the broker hands it out.
    plant.agent.logged("configuration rolled back").await;
    plant.agent.hang_up();
    plant.agent.logged("configuration reloaded").await;
    assert_eq!(plant.agent.log().matches("configuration on trial").count(), 1);
}

#[tokio::test]
async fn a_profile_that_does_not_fit_is_taken_back_and_the_device_is_named() {
    let plant = Plant::plain("").await;
    let bench = Bench::new(&plant.engineer);
    plant.site.until("an answer", |status| !status["links"][0]["devices"][0]["last_answer"].is_null()).await;
    let configuration = plant_of(&plant.endpoint, "100ms", "other");
    let files = [("configuration.toml", configuration.as_str()), ("profiles/other.toml", OTHER)];
    let begun = Instant::now();

    let (output, report) = bench.push(plant.broker.port(), &bench.files("a", &files), &["--confirm", "5s"]).await;

    println!("wrong profile: back after {:.1} s, {}", begun.elapsed().as_secs_f64(), report["reasons"]);
    assert_eq!((output.status.code(), report["state"].as_str()), (Some(1), Some("rolled-back")), "{output:?}");
    assert_eq!((&report["reasons"][0]["key"], &report["revision"]), (&"device press-1".into(), &0.into()));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    polled_each(&plant.site, 100).await;
}

#[tokio::test]
async fn what_was_rolled_back_has_to_prove_itself_when_it_comes_again_at_once() {
    let plant = Plant::plain("").await;
    let bench = Bench::new(&plant.engineer);
    plant.site.until("an answer", |status| !status["links"][0]["devices"][0]["last_answer"].is_null()).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let configuration = plant_of(&plant.endpoint, "100ms", COUNTER);
    let dead = configuration.replace(&plant.endpoint.address().to_string(), &nobody.local_addr().unwrap().to_string());
    drop(nobody);
    assert_ne!(configuration, dead);
    let files = bench.files("a", &[("configuration.toml", dead.as_str())]);

    // Also when the one in force has just come, and nobody was asked yet.
    let good = bench.files("b", &[("configuration.toml", configuration.as_str())]);
    let (output, _) = bench.push(plant.broker.port(), &good, &[]).await;
    assert!(output.status.success(), "{output:?}");
    for _ in 0..2 {
        let (output, report) = bench.push(plant.broker.port(), &files, &["--confirm", "5s"]).await;
        assert_eq!(
            (output.status.code(), report["state"].as_str()),
            (Some(1), Some("rolled-back")),
            "{output:?} {}",
            plant.agent.log()
        );
    }

    polled_each(&plant.site, 100).await;
}

#[tokio::test]
async fn a_share_of_the_devices_is_enough_where_the_sender_says_so() {
    // Given two devices on one link, of which one will not fit its new profile.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::with(Setup::default()).await;
    let engineer = Signer::new("engineer", "engineer");
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let second = |profile: &str| {
        format!(
            "[[device]]\nname = \"press-2\"\nlink = \"hall\"\nunit_id = 2\nprofile = \"{profile}\"\ninterval = \"100ms\"\n"
        )
    };
    let plant = |profile: &str| plant_of(&endpoint, "100ms", COUNTER) + &second(profile);
    let configuration = Configuration::to_port(broker.port(), "").lines(&format!(
        "[clock]\ntrust = \"local\"\n{}\n{}",
        engineer.section(),
        plant(COUNTER)
    ));
    site.configure(&configuration);
    let agent = site.start();
    agent.logged("connected to the broker").await;
    subscribed(&broker).await;
    let answered = |status: &Value, device: usize| !status["links"][0]["devices"][device]["last_answer"].is_null();
    site.until("both to answer", |status| answered(status, 0) && answered(status, 1)).await;
    let bench = Bench::new(&engineer);
    let text = plant("other");
    let files = bench.files("a", &[("configuration.toml", &text), ("profiles/other.toml", OTHER)]);

    // When all have to answer it is taken back, and the one is named; when half of them are enough it stays.
    let (all, report) = bench.push(broker.port(), &files, &["--confirm", "5s"]).await;
    assert_eq!((all.status.code(), &report["reasons"][0]["key"]), (Some(1), &"device press-2".into()), "{report}");
    site.until("both to answer again", |status| answered(status, 0) && answered(status, 1)).await;
    let (half, report) = bench.push(broker.port(), &files, &["--confirm", "5s", "--share", "0.5"]).await;
    assert_eq!((half.status.code(), &report["state"]), (Some(0), &"confirmed".into()), "{report}");
}

#[tokio::test]
async fn a_wrong_baud_rate_is_taken_back() {
    // Given a line at 9600 baud.
    let mut servers = Servers::default();
    let format = LineFormat::plain(9600, Pace::Real);
    let endpoint = servers.rtu(format, vec![meters::device(1, 5)], Keep::Counters).unwrap();
    let broker = Broker::with(Setup::default()).await;
    let engineer = Signer::new("engineer", "engineer");
    let site = Site::with_profiles(&[("meter", &meters::profile(5))]);
    let plant = format!(
        "{}{}",
        meters::link("hall-a", &endpoint, Framing::Rtu, "300ms"),
        meters::meter(1, "hall-a", "meter", "500ms")
    );
    let configuration = Configuration::to_port(broker.port(), "")
        .lines(&format!("[clock]\ntrust = \"local\"\n{}\n{plant}", engineer.section()));
    site.configure(&configuration);
    let agent = site.start();
    agent.logged("connected to the broker").await;
    subscribed(&broker).await;
    site.until("readings", |status| status["ingest"]["good"].as_u64() > Some(5)).await;
    let bench = Bench::new(&engineer);
    assert!(plant.contains("baud_rate = 9600"), "{plant}");
    let wrong = plant.replace("baud_rate = 9600", "baud_rate = 19200");
    let files = bench.files("a", &[("configuration.toml", &wrong)]);

    // A pseudo-terminal knows no speed: from here until the old one is back the device hears and says garbage.
    endpoint.misbehave(1, Some(Misbehaviour::Garbage)).await.unwrap();
    let begun = Instant::now();
    let (output, report) = bench.push(broker.port(), &files, &["--confirm", "6s"]).await;
    endpoint.misbehave(1, None).await.unwrap();

    println!("wrong baud rate: back after {:.1} s, {}", begun.elapsed().as_secs_f64(), report["reasons"]);
    assert_eq!((output.status.code(), report["state"].as_str()), (Some(1), Some("rolled-back")), "{output:?}");
    assert!(report["reasons"][0]["key"].as_str().unwrap().starts_with("device "), "{report}");
    assert!(site.status().await["links"][0]["endpoint"].as_str().unwrap().contains(" 9600 "));
    let before = site.status().await["ingest"]["good"].as_u64();
    site.until("readings again", |status| status["ingest"]["good"].as_u64() > before.map(|good| good + 5)).await;
}

/// A configuration as a message, for a test that kills.
fn desired(engineer: &Signer, revision: u64, configuration: &str) -> Message {
    let desired = Desired {
        gateway: "lyon/gw-01".to_owned(),
        revision,
        confirm: None,
        share: None,
        files: [("configuration.toml".to_owned(), configuration.to_owned())].into(),
    };
    let configuration = serde_json::to_string(&desired).unwrap();
    let signature = engineer.key.sign(FOR_CONFIGURATION, &configuration);
    let envelope = DesiredEnvelope { configuration, key: engineer.name.to_owned(), signature };
    message(&format!("{BASE}/config/desired"), &serde_json::to_string(&envelope).unwrap())
}

/// The next report that settles something.
async fn settled(commander: &mut Commander) -> Value {
    loop {
        let received = commander.next().await;
        if !received.topic.ends_with("/config/reported") {
            continue;
        }
        let report: Value = serde_json::from_slice(&received.payload).unwrap();
        if report["state"] != "trial" {
            return report;
        }
    }
}

/// Waits until the state topic names this revision.
async fn announced_revision(broker: &Broker, revision: u64) {
    let mut announced = broker.subscribe(&format!("{BASE}/state")).await;
    let waiting = async {
        loop {
            let state: Value = serde_json::from_str(&announced.next().await.payload).unwrap();
            if state["config_revision"] == revision {
                return;
            }
        }
    };
    within(format!("revision {revision} on the state topic"), waiting).await;
}

async fn report_says(commander: &mut Commander, state: &str) -> Value {
    let waiting = async {
        loop {
            let report = settled(commander).await;
            if report["state"] == state {
                return report;
            }
        }
    };
    within(format!("the report {state:?}"), waiting).await
}

#[tokio::test]
async fn killed_at_any_step_one_of_two_is_in_force_and_the_report_is_right() {
    for (place, in_force, state) in [
        ("config-staged", 0, "own"),
        ("config-trial", 0, "rolled-back"),
        ("config-applied", 0, "rolled-back"),
        ("config-verdict", 0, "rolled-back"),
        ("config-settled", 5, "confirmed"),
    ] {
        let mut plant = Plant::plain("").await;
        plant.agent.kill();
        let mut agent = plant.site.start_with(|command| command.env("LINESIDE_FAIL_POINT", place));
        agent.logged("connected to the broker").await;
        plant.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;
        plant.site.until("an answer", |status| !status["links"][0]["devices"][0]["last_answer"].is_null()).await;
        let slower = plant_of(&plant.endpoint, "500ms", COUNTER);
        plant.commander.publish(desired(&plant.engineer, 5, &slower)).await;
        assert!(!agent.exit().await.success());

        let agent: Agent = plant.site.start();
        agent.logged("connected to the broker").await;
        let report = report_says(&mut plant.commander, state).await;

        println!("killed at {place}: in force {}, {}", report["revision"], report["state"]);
        assert_eq!(report["revision"], in_force, "{place}: {report}");
        polled_each(&plant.site, if in_force == 5 { 500 } else { 100 }).await;
    }
}

#[tokio::test]
async fn a_second_agent_on_the_same_store_does_not_touch_a_trial() {
    // Given a configuration on trial, until its further broker is reached.
    let mut plant = Plant::plain("").await;
    let mut further = Broker::start().await;
    further.kill();
    let text = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", further.port());
    plant.commander.publish(desired(&plant.engineer, 5, &text)).await;
    plant.agent.logged("configuration on trial").await;
    let before = history(&plant.site).await;

    // When somebody starts the agent by hand beside it, then it leaves the trial alone.
    let second = plant.site.lineside(&["run"]).await;
    assert_eq!(second.status.code(), Some(4), "{second:?}");
    assert_eq!(before["revisions"][0]["standing"], "trial", "{before}");
    assert_eq!(history(&plant.site).await, before);

    // And what proves itself is in force, also after a restart.
    further.restart().await;
    plant.agent.logged("configuration settled").await;
    plant.agent.kill();
    plant.agent = plant.site.start();
    plant.agent.logged("connected to the broker").await;
    let after = history(&plant.site).await;
    assert_eq!((&after["in_force"], &after["revisions"][0]["standing"]), (&5.into(), &"confirmed".into()), "{after}");
}

#[tokio::test]
async fn only_an_engineers_signature_changes_the_configuration() {
    let mut plant = Plant::plain("[remote]\ninsecure = true\n").await;
    let slower = plant_of(&plant.endpoint, "500ms", COUNTER);
    let stranger = Signer::new("engineer", "engineer");

    for message in [
        desired(&plant.operator, 5, &slower),
        desired(&stranger, 6, &slower),
        message(&format!("{BASE}/config/desired"), "{}"),
    ] {
        plant.commander.publish(Message { retain: true, ..message }).await;
    }

    plant
        .site
        .until("three refusals", |status| {
            let refused = &status["remote"]["refused"];
            refused["role"] == 1 && refused["signature"] == 1 && refused["malformed"] == 1
        })
        .await;
    assert_eq!(history(&plant.site).await["revisions"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_further_broker_that_goes_away_gives_way_to_the_owners() {
    let plant = Plant::plain("").await;
    let mut further = Broker::start().await;
    let mut reports = further.subscribe(&format!("{BASE}/config/reported")).await;
    let bench = Bench::new(&plant.engineer);
    let text = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nfallback_after = \"5s\"\n", further.port());
    let files = bench.files("a", &[("configuration.toml", &text)]);

    let (output, _) = bench.push(plant.broker.port(), &files, &["--no-wait", "--confirm", "20s"]).await;
    assert!(output.status.success(), "{output:?}");
    while !reports.next().await.payload.contains("\"confirmed\"") {}
    further.kill();

    plant.agent.logged("the further broker is not reached: over to the owner's own").await;
    plant.agent.logged_times("connected to the broker", 3).await;
}

#[tokio::test]
async fn who_may_not_configure_is_told_at_once_and_so_is_what_no_gateway_takes() {
    let plant = Plant::plain("").await;
    let bench = Bench::new(&plant.operator);
    let files = bench.files("a", &[("configuration.toml", &plant_of(&plant.endpoint, "50ms", COUNTER))]);

    let (output, report) = bench.push(plant.broker.port(), &files, &[]).await;

    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(report["reasons"][0]["reason"].as_str().unwrap().contains("needs the role engineer"), "{report}");
    let (output, _) = bench.push(plant.broker.port(), &files, &["--confirm", "1s"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("5s to 1h"), "{output:?}");
    assert_eq!(plant.agent.log().matches("configuration on trial").count(), 0);
}

#[tokio::test]
async fn what_comes_right_after_the_repair_of_a_broken_one_has_to_prove_itself() {
    // Given a gateway whose configuration leads nowhere, so that no device answers.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let plant = Plant::plain("").await;
    let bench = Bench::new(&plant.engineer);
    let good = plant_of(&plant.endpoint, "1h", COUNTER);
    let dead = plant_of(&plant.endpoint, "100ms", COUNTER).replace(&plant.endpoint.address().to_string(), &nobody);
    let (good, dead) =
        (bench.files("a", &[("configuration.toml", &good)]), bench.files("b", &[("configuration.toml", &dead)]));
    let (output, _) = bench.push(plant.broker.port(), &dead, &["--share", "0"]).await;
    assert!(output.status.success(), "{output:?}");
    plant.site.until("a failure", |status| !status["links"][0]["devices"][0]["last_error"].is_null()).await;

    // When it is repaired, and broken again at once.
    let (output, _) = bench.push(plant.broker.port(), &good, &["--confirm", "20s"]).await;
    assert!(output.status.success(), "{output:?}");
    let (output, report) = bench.push(plant.broker.port(), &dead, &["--confirm", "5s"]).await;

    assert_eq!((output.status.code(), report["state"].as_str()), (Some(1), Some("rolled-back")), "{output:?}");
}

#[tokio::test]
async fn a_refused_revision_is_a_problem_until_a_later_one_is_in_force_and_that_one_is_named() {
    let mut plant = Plant::plain("").await;
    let bench = Bench::new(&plant.engineer);
    let problem = |status: &Value, key: &str| {
        let problems = status["problems"].as_array().unwrap();
        problems
            .iter()
            .find(|problem| problem["key"] == key)
            .map(|problem| problem["text"].as_str().unwrap().to_owned())
    };
    let faulty = bench.files("a", &[("configuration.toml", "[store]\npath = \"/\"\n")]);
    let (output, _) = bench.push(plant.broker.port(), &faulty, &["--revision", "5"]).await;
    assert_eq!(output.status.code(), Some(2));

    let status = plant.site.status().await;
    let text = problem(&status, "revision-refused/5").unwrap_or_else(|| panic!("{}", status["problems"]));
    assert!(text.starts_with("configuration revision 5 of engineer was refused: configuration.toml: store"), "{text}");
    assert!(plant.site.shown().await.contains("configuration revision 5 of engineer was refused"));
    // It outlives a restart: nobody has mended it.
    plant.agent.kill();
    plant.agent = plant.site.start();
    plant.agent.logged("lineside started").await;
    plant.site.until("the problem again", |status| problem(status, "revision-refused/5").is_some()).await;
    plant.agent.logged("connected to the broker").await;

    let good = bench.files("b", &[("configuration.toml", &plant_of(&plant.endpoint, "500ms", COUNTER))]);
    let (output, report) = bench.push(plant.broker.port(), &good, &["--revision", "6"]).await;
    assert!(output.status.success(), "{output:?} {report}");

    let status = plant.site.until("a revision in force", |status| problem(status, "revision-in-force").is_some()).await;
    assert_eq!(problem(&status, "revision-refused/5"), None);
    let text = problem(&status, "revision-in-force").unwrap();
    assert!(text.starts_with("revision 6 from afar is in force; ") && text.ends_with("is only its base"), "{text}");
    // That is no trouble, and `check` says it too.
    let said = plant.site.lineside(&["check"]).await;
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("revision 6 from afar is in force; this file is its base"), "{said}");
}
