//! Who did what is written down, forwarded, and cannot be changed unseen.

use lineside::commands::answer::State;
use serde_json::{Value, json};

use super::Plant;
use super::support::commander::{Signer, order};
use super::support::consumer::Consumer;

#[tokio::test]
async fn commands_and_refusals_are_written_down_forwarded_and_cannot_be_changed_unseen() {
    let mut plant = Plant::start().await;
    let mut consumer = Consumer::start(&plant.broker).await;
    let payload = plant.operator.sign(&order("7", "poll-now", json!({ "device": "press-1" })));
    assert_eq!(plant.commander.ask("7", &payload).await.state, State::Done);
    let stranger = Signer::new("engineer", "engineer");
    for number in 0..30 {
        let id = format!("x{number}");
        plant.commander.send(&id, &stranger.sign(&order(&id, "status", Value::Null))).await;
    }
    consumer.until("the audit lines", |harvest| harvest.transitions("Audit").len() >= 3).await;

    let shown = plant.site.lineside(&["audit", "show", "--json"]).await;
    let verified = plant.site.lineside(&["audit", "verify"]).await;

    let lines: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let kinds: Vec<&str> = lines.as_array().unwrap().iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["command", "answer", "refusal"], "{lines}");
    assert_eq!((lines[0]["by"].as_str(), verified.status.code()), (Some("operator"), Some(0)), "{verified:?}");
    let file = plant.site.path().join("store/remote/audit");
    let text = std::fs::read_to_string(&file).unwrap();
    let forged: String = text
        .lines()
        .map(|line| {
            let json = line[9..].replace("\"by\":\"operator\"", "\"by\":\"viewer\"");
            format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()))
        })
        .collect();
    std::fs::write(&file, forged).unwrap();
    let verified = plant.site.lineside(&["audit", "verify"]).await;
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("is not what was written"), "{verified:?}");
}

#[tokio::test]
async fn a_bundle_on_the_spot_has_what_is_needed_and_no_secrets_also_without_an_agent() {
    let mut plant = Plant::with("# password = \"hunter2\"\n").await;
    let file = plant.site.path().join("bundle.json");
    let bundle = async |plant: &Plant| {
        let output = plant.site.lineside(&["support-bundle", "--output", file.to_str().unwrap()]).await;
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        (output.status.code(), serde_json::from_str::<Value>(&text).unwrap())
    };
    let nothing = plant.site.lineside(&["audit", "verify"]).await;
    assert_eq!(nothing.status.code(), Some(1), "an empty log does not pass for a whole one: {nothing:?}");
    let payload = plant.viewer.sign(&order("7", "status", Value::Null));
    assert_eq!(plant.commander.ask("7", &payload).await.state, State::Done);

    let (with_agent, document) = bundle(&plant).await;
    plant.agent.kill();
    let (without, rest) = bundle(&plant).await;

    assert_eq!((with_agent, without), (Some(0), Some(1)));
    assert_eq!(document["status"]["gateway"], "gw-01", "{document}");
    assert!(document["log"].as_array().unwrap().iter().any(|line| line["text"].as_str().unwrap().contains("started")));
    for document in [document, rest] {
        assert!(document["configuration"].as_str().unwrap().contains("press-1"), "{document}");
        assert_eq!(document["audit"].as_array().map(Vec::len), Some(2), "{document}");
    }
}
