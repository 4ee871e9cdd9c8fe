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
