//! Every command, through the command line that operators use, over TLS and with access rules.

use std::process::{Command, Output};

use lineside::commands::answer::State;
use lineside::simulator::Misbehaviour;
use lineside::simulator::Servers;
use serde_json::{Value, json};

use super::support::broker::Broker;
use super::support::certificates::Certificates;
use super::support::commander::{Signer, order};
use super::support::consumer::Consumer;
use super::support::plant::{COUNTER, COUNTER_PROFILE, counters};
use super::support::site::{BASE, Configuration, Site};
use super::{Plant, secured, subscribed};

const RULES: &str = "groups:\n  - name: counters\n    interval: 1s\n    rules:\n      - alert: Counting\n        \
                     expr: answers > 0\n        edge: { evaluate: arrival, shelve: 1h }\n";

/// The command line of an operator.
struct Laptop<'a> {
    broker: &'a Broker,
    certificates: &'a Certificates,
    key: std::path::PathBuf,
}

impl Laptop<'_> {
    async fn send(&self, arguments: &[&str]) -> Output {
        let (certificate, key) = self.certificates.issue("operator");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.args(["command", "send", "--json", "--gateway", "lyon/gw-01", "--broker"]);
        command.arg(format!("mqtts://localhost:{}", self.broker.tls_port()));
        command.arg("--ca-file").arg(self.certificates.ca());
        command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        command.arg("--key").arg(&self.key).args(arguments);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    async fn done(&self, arguments: &[&str]) -> Value {
        let output = self.send(arguments).await;
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert!(output.status.success() && answer["state"] == "done", "{answer}");
        answer["result"].clone()
    }
}

#[tokio::test]
async fn each_command_is_carried_out_and_answered() {
    // Given a gateway behind a broker with TLS and the access rules that ship.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let certificates = Certificates::from("plant authority");
    let broker = secured(&certificates).await;
    let (certificate, key) = certificates.issue("lyon/gw-01");
    let engineer = Signer::new("engineer", "engineer");
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), RULES).unwrap();
    let tls = format!(
        "ca_file = {:?}\ncert_file = {certificate:?}\nkey_file = {key:?}\nusername = \"hunter2\"",
        certificates.ca()
    );
    let url = format!("mqtts://localhost:{}", broker.tls_port());
    let configuration = Configuration::to(url, &tls)
        .link("hall", endpoint.address(), "timeout = \"200ms\"")
        .device("press-1", "hall", 1, COUNTER, "1s")
        .lines(&format!("[clock]\ntrust = \"local\"\n[rules]\nfiles = [\"rules.yml\"]\n{}", engineer.section()));
    site.configure(&configuration);
    let agent = site.start();
    agent.logged("connected to the broker").await;
    subscribed(&broker).await;
    let file = site.path().join("engineer.key");
    engineer.store(&file);
    let laptop = Laptop { broker: &broker, certificates: &certificates, key: file };

    // When each command is sent, then it is done.
    assert_eq!(laptop.done(&["status"]).await["gateway"], "gw-01");
    let read = laptop.done(&["read", "device=press-1", "points=[\"answers\"]"]).await;
    assert_eq!(
        (read["readings"][0]["point"].as_str(), read["readings"].as_array().unwrap().len()),
        (Some("answers"), 1)
    );
    let raw = ["read", "link=hall", "unit_id=1", "table=holding", "address=0", "count=4"];
    assert_eq!(laptop.done(&raw).await["registers"].as_array().unwrap().len(), 4);
    let before = site.status().await["ingest"]["good"].as_u64().unwrap();
    laptop.done(&["poll-now", "device=press-1"]).await;
    site.until("what was polled is stored", |status| status["ingest"]["good"].as_u64().unwrap() >= before + 2).await;
    let acknowledged = laptop.done(&["alarm-ack", "name=Counting", "labels.device=press-1"]).await;
    assert_eq!(acknowledged["alarms"][0]["by"], "engineer");
    assert_eq!(laptop.done(&["alarm-shelve", "name=Counting", "for=30m"]).await["alarms"][0]["state"], "shelved");
    laptop.done(&["log-level", "level=lineside=trace,debug", "for=2s"]).await;
    agent.logged("the log level is what it was").await;
    let lines = laptop.done(&["log-tail", "lines=200"]).await;
    assert!(lines.as_array().unwrap().iter().any(|line| line["text"].as_str().unwrap().contains("command accepted")));
    let bundle = site.path().join("bundle.json");
    laptop.done(&["support-bundle", "--output", bundle.to_str().unwrap()]).await;
    let bundle = std::fs::read_to_string(bundle).unwrap();
    assert!(
        bundle.contains("\"configuration\"") && bundle.contains("press-1") && !bundle.contains("hunter2"),
        "{bundle}"
    );
    let learned = laptop.done(&["forget", "device=press-1"]).await;
    assert!(learned["device"] == "press-1" && learned["was_known"].is_boolean(), "{learned}");
    laptop.done(&["restart"]).await;
    agent.logged_times("lineside started", 2).await;
    agent.logged_times("connected to the broker", 2).await;
    assert_eq!(laptop.done(&["status"]).await["gateway"], "gw-01");
}

#[tokio::test]
async fn what_is_sent_again_from_afar_has_its_old_sequences_and_what_was_learned_is_dropped() {
    let mut plant = Plant::start().await;
    let mut consumer = Consumer::start(&plant.broker).await;
    let delivered = |status: &Value| status["lanes"]["telemetry"]["oldest_undelivered"].as_u64() > Some(4);
    plant.site.until("four commits to be delivered", delivered).await;
    let ask = async |plant: &mut Plant, id: &str, command: &str, arguments: Value| {
        let payload = plant.operator.sign(&order(id, command, arguments));
        plant.commander.ask(id, &payload).await
    };

    let sent = ask(&mut plant, "1", "resend", json!({ "first": 2, "last": 4 })).await;
    let nothing = ask(&mut plant, "2", "resend", json!({ "until": "2023-01-01T00:00:00Z" })).await;
    let vague = ask(&mut plant, "3", "resend", json!({ "alarms": true })).await;

    assert_eq!((sent.state, &sent.result["runs"]), (State::Done, &json!([[2, 4]])), "{sent:?}");
    assert_eq!((&sent.result["commits"], &sent.result["next"]), (&json!(3), &Value::Null), "{sent:?}");
    assert_eq!((nothing.state, vague.state), (State::Failed, State::Rejected), "{nothing:?} {vague:?}");
    assert!(vague.reason.unwrap().starts_with("resend: which part?"));
    let again = sent.result["records"].as_u64().unwrap();
    consumer.until("the old sequences again", |harvest| harvest.repeats >= again).await;
    assert_eq!(consumer.harvest.repeats, again, "{}", consumer.harvest.summary());
    assert!(consumer.harvest.owed().is_empty(), "{:?}", consumer.harvest.owed());

    // And what the device taught, a register that it refuses, is dropped.
    let more = COUNTER_PROFILE.replace("point = [", "point = [\n  { name = \"missing\", address = 900 },");
    std::fs::write(plant.site.path().join(format!("profiles/{COUNTER}.toml")), more).unwrap();
    plant.agent.hang_up();
    let lessons = |status: &Value| status["links"][0]["devices"][0]["learned"]["lessons"]["refused"].clone();
    plant.site.until("a lesson", |status| lessons(status).as_array().is_some_and(|refused| refused.len() == 1)).await;
    let forgotten = ask(&mut plant, "4", "forget", json!({ "device": "press-1" })).await;
    assert_eq!((forgotten.state, &forgotten.result["was_known"]), (State::Done, &json!(true)), "{forgotten:?}");
    let nobody = ask(&mut plant, "5", "forget", json!({ "device": "press-9" })).await;
    assert_eq!(
        (nobody.state, nobody.reason.as_deref()),
        (State::Failed, Some("no device \"press-9\"; devices are press-1"))
    );
    let no_point = ask(&mut plant, "6", "read", json!({ "device": "press-1", "points": ["answer"] })).await;
    let why = no_point.reason.as_deref();
    assert_eq!(why, Some("no point \"answer\"; points are answers, answers_again, missing"), "{no_point:?}");
    let announced = plant.broker.subscribe(&format!("{BASE}/state")).await.next().await.payload;
    assert!(announced.contains("\"resend\"") && announced.contains("\"forget\""), "{announced}");
}

#[tokio::test]
async fn an_answer_goes_to_the_response_topic_with_its_correlation_only_inside_the_gateway() {
    let mut plant = Plant::start().await;
    let mut inside = plant.broker.subscribe(&format!("{BASE}/reply/laptop")).await;
    let mut outside = plant.broker.subscribe("elsewhere/#").await;

    for (id, topic) in [("1", "elsewhere/1".to_owned()), ("2", format!("{BASE}/reply/laptop"))] {
        let payload = plant.viewer.sign(&order(id, "status", Value::Null));
        let properties = ["-D", "publish", "response-topic", &topic, "-D", "publish", "correlation-data", "c0ffee"];
        plant.broker.publish_with(&format!("{BASE}/cmd/{id}"), &payload, &properties);
        assert_eq!(plant.commander.last_answer(id).await.state, State::Done);
    }

    assert!(inside.next().await.payload.contains("\"id\":\"2\""));
    plant.broker.publish("elsewhere/end", "end");
    assert_eq!(outside.next().await.payload, "end");
}

#[tokio::test]
async fn a_repeated_command_gets_its_first_answer_also_after_a_restart() {
    let mut plant = Plant::start().await;
    let payload = plant.operator.sign(&order("7", "poll-now", json!({ "device": "press-1" })));
    let first = plant.commander.ask("7", &payload).await;
    let again = plant.commander.ask("7", &payload).await;
    plant.agent.kill();
    plant.agent = plant.site.start();
    plant.agent.logged("connected to the broker").await;
    plant.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;
    let after = plant.commander.ask("7", &payload).await;

    assert_eq!((first.state, first.was), (State::Done, None));
    for repeated in [again, after] {
        assert_eq!((repeated.state, repeated.was), (State::Duplicate, Some(State::Done)));
        assert_eq!(repeated.result, first.result);
    }
    assert_eq!(plant.accepted().await, 0);
    let other = plant.operator.sign(&order("7", "poll-now", json!({ "device": "press-2" })));
    assert!(plant.commander.ask("7", &other).await.reason.unwrap().starts_with("another command had the id"));
}

#[tokio::test]
async fn what_was_commanded_and_the_lock_outlive_the_database_of_the_readings() {
    let mut plant = Plant::start().await;
    let payload = plant.operator.sign(&order("7", "poll-now", json!({ "device": "press-1" })));
    assert_eq!(plant.commander.ask("7", &payload).await.state, State::Done);
    assert!(plant.site.lineside(&["writes", "off"]).await.status.success());
    plant.agent.kill();
    // As when it is damaged and set aside.
    std::fs::remove_dir_all(plant.site.store().join("database")).unwrap();

    plant.agent = plant.site.start();
    plant.agent.logged("connected to the broker").await;
    plant.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;

    let again = plant.commander.ask("7", &payload).await;
    assert_eq!((again.state, again.was), (State::Duplicate, Some(State::Done)));
    let writes = plant.site.lineside(&["writes"]).await;
    assert!(String::from_utf8_lossy(&writes.stdout).contains("writing from afar is locked"), "{writes:?}");
}

#[tokio::test]
async fn a_command_under_way_at_a_kill_is_unknown_afterwards() {
    // Given a command that takes as long as a device does not answer.
    let mut plant = Plant::with_timeout("", "20s").await;
    plant.endpoint.misbehave(1, Some(Misbehaviour::Silent)).await.unwrap();
    let payload = plant.operator.sign(&order("7", "poll-now", json!({ "device": "press-1" })));
    plant.commander.send("7", &payload).await;
    plant.agent.logged("command accepted").await;

    plant.agent.kill();
    plant.endpoint.misbehave(1, None).await.unwrap();
    plant.agent = plant.site.start();

    let answer = plant.commander.last_answer("7").await;
    assert_eq!((answer.state, answer.command.as_deref()), (State::Unknown, Some("poll-now")));
    let again = plant.commander.ask("7", &payload).await;
    assert_eq!((again.state, again.was), (State::Duplicate, Some(State::Unknown)));
}

#[tokio::test]
async fn the_client_makes_keys_signs_for_other_clients_watches_and_shows_the_fleet() {
    use std::os::unix::fs::PermissionsExt;
    let mut plant = Plant::plain("").await;
    let directory = super::support::directory();
    let file = directory.path().join("anna.key");
    let broker = format!("mqtt://127.0.0.1:{}", plant.broker.port());
    let run = async |arguments: Vec<String>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.arg("command").args(arguments);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();

    // A key is readable for its holder alone, is not overwritten, and the gateway takes the lines that are printed.
    let key = file.display();
    let made = run(words(&format!("keygen anna --role viewer --out {key}"))).await;
    let again = run(words(&format!("keygen anna --role viewer --out {key}"))).await;
    assert_eq!((made.status.code(), again.status.code()), (Some(0), Some(2)), "{made:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let printed = String::from_utf8(made.stdout).unwrap();
    let section = printed.split_once("[[remote.key]]").unwrap().1;
    let configuration = plant.site.path().join("lineside.toml");
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, format!("{text}\n[[remote.key]]{section}")).unwrap();
    plant.agent.hang_up();
    plant.agent.logged("configuration reloaded").await;

    // What is printed can be sent by any other client.
    let options = format!("--gateway lyon/gw-01 --broker {broker} --key {key}");
    let printed = run(words(&format!("send status --print --id p1 {options}"))).await;
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    plant.broker.publish(printed["topic"].as_str().unwrap(), printed["message"].as_str().unwrap());
    assert_eq!(plant.commander.last_answer("p1").await.state, State::Done);

    // The fleet is there, and what is said is seen.
    let fleet = run(words(&format!("fleet --json --broker {broker}"))).await;
    let fleet: Value = serde_json::from_slice(&fleet.stdout).unwrap();
    assert_eq!((&fleet[0]["gateway"], &fleet[0]["online"]), (&"lyon/gw-01".into(), &true.into()), "{fleet}");
    assert_eq!((&fleet[0]["takes_commands"], &fleet[0]["configuration"]), (&true.into(), &"own 0".into()), "{fleet}");
    let seen = run(words(&format!("watch --json --count 2 --broker {broker}"))).await;
    assert_eq!(String::from_utf8(seen.stdout).unwrap().lines().count(), 2);
}
