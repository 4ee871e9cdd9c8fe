//! Thousands of hostile messages: none carried out, and polling keeps its schedule.

use std::time::Duration;

use lineside::commands::answer::State;
use lineside::mqtt::{Message, SessionSettings, Visitor};
use serde_json::{Value, json};

use super::Plant;
use super::support::commander::{Signer, now, order, raw, with};
use super::support::within;

/// One hostile message, different for each number.
fn hostile(plant: &Plant, stranger: &Signer, genuine: &str, number: usize) -> Message {
    let id = format!("h{number}");
    let text = order(&id, "poll-now", json!({ "device": "press-1" }));
    let junk: Vec<u8> = (0..number % 700).map(|_| fastrand::u8(..)).collect();
    match number % 11 {
        0 => raw(&id, &junk),
        1 => raw(&id, "[".repeat(3000).as_bytes()),
        2 => raw(&id, stranger.sign(&text).as_bytes()),
        3 => raw(&id, plant.engineer.sign(&with(text, "gateway", json!("lyon/gw-02"))).as_bytes()),
        4 => raw(&id, plant.engineer.sign(&with(text, "expires", json!(now() - 1000))).as_bytes()),
        5 => raw(&id, plant.viewer.sign(&text).as_bytes()),
        6 => raw(&id, plant.engineer.sign(&with(text, "counter", json!(1))).as_bytes()),
        7 => raw(&id, json!({ "command": text.to_string() }).to_string().as_bytes()),
        8 => Message { retain: true, ..raw(&format!("h{}", number % 5), plant.engineer.sign(&text).as_bytes()) },
        9 => raw(&id, &vec![b'{'; 20_000]),
        _ => raw(&id, genuine.as_bytes()),
    }
}

/// Polls due and done so far.
async fn polls(plant: &Plant) -> (u64, u64) {
    let status = plant.site.status().await;
    let link = &status["links"][0];
    (link["polls_due"].as_u64().unwrap(), link["polls_done"].as_u64().unwrap())
}

/// Publishes as fast as the broker takes it.
async fn pour(plant: &Plant, messages: Vec<Message>) {
    let client_id = format!("mallory-{:08x}", fastrand::u32(..));
    let settings = SessionSettings { client_id, ..plant.settings.clone() };
    let mut visitor = Visitor::connect(settings, &[]).await.unwrap();
    for message in messages {
        assert!(visitor.publish(message).await.unwrap().is_delivered());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_hostile_messages_and_a_flood_of_ten_thousand_change_nothing() {
    // Given a gateway that has carried out one command of its engineer.
    let mut plant = Plant::start().await;
    let genuine = plant.engineer.sign(&order("g", "status", Value::Null));
    assert_eq!(plant.commander.ask("g", &genuine).await.state, State::Done);
    let stranger = Signer::new("engineer", "engineer");
    let accepted = plant.accepted().await;
    plant.site.until("a running schedule", |status| status["links"][0]["polls_done"].as_u64() > Some(20)).await;
    let before = polls(&plant).await;

    // When it is attacked.
    let attack: Vec<Message> = (0..2000).map(|number| hostile(&plant, &stranger, &genuine, number)).collect();
    pour(&plant, attack).await;
    let after_attack = polls(&plant).await;
    let flood: Vec<Message> = (0..10_000)
        .map(|number| {
            raw(&format!("f{number}"), stranger.sign(&order(&format!("f{number}"), "status", Value::Null)).as_bytes())
        })
        .collect();
    // One poll more or less must not decide: the flood goes on until there were enough.
    let mut floods = 0;
    while polls(&plant).await.0 < before.0 + 150 {
        pour(&plant, flood.clone()).await;
        floods += 1;
    }

    // Then nothing of it was carried out, polling kept its schedule, and the engineer is heard.
    let after = polls(&plant).await;
    let share = |(due, done): (u64, u64), from: (u64, u64)| (done - from.1) as f64 / (due - from.0) as f64;
    let status = plant.site.status().await;
    println!(
        "2,000 hostile messages: {} of {} polls done; {floods} floods of 10,000: {} of {}; remote {}, {} dropped unread",
        after_attack.1 - before.1,
        after_attack.0 - before.0,
        after.1 - after_attack.1,
        after.0 - after_attack.0,
        status["remote"],
        status["mqtt"]["inbox_dropped"],
    );
    assert_eq!(status["remote"]["accepted"].as_u64(), Some(accepted), "{}", status["remote"]);
    assert_eq!(status["remote"]["done"].as_u64(), Some(1));
    assert!(share(after, before) >= 0.99, "{after:?} {after_attack:?} {before:?}");
    let heard = async {
        loop {
            let id = format!("e{:08x}", fastrand::u32(..));
            let payload = plant.engineer.sign(&order(&id, "status", Value::Null));
            plant.commander.send(&id, &payload).await;
            let answered = tokio::time::timeout(Duration::from_secs(3), plant.commander.last_answer(&id)).await;
            if answered.is_ok_and(|answer| answer.state == State::Done) {
                return;
            }
        }
    };
    within("the engineer to be heard", heard).await;
}
