//! Thousands of hostile messages: none carried out, and polling keeps its schedule.

use std::time::Duration;

use lineside::commands::answer::State;
use lineside::mqtt::{Message, SessionSettings, Visitor};
use serde_json::{Value, json};

use super::Plant;
use super::support::commander::{Signer, now, order, raw, with};
use super::support::contention::main_thread_kept_waiting;
use super::support::within;

/// Interval of the plant's device.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

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

/// Polls so far, and how long the thread that polls was kept waiting for a processor.
#[derive(Debug, Clone, Copy)]
struct Polls {
    due: u64,
    done: u64,
    waited: Duration,
}

impl Polls {
    async fn now(plant: &Plant) -> Self {
        let status = plant.site.status().await;
        let link = &status["links"][0];
        let waited = main_thread_kept_waiting(plant.agent.id());
        Self { due: link["polls_due"].as_u64().unwrap(), done: link["polls_done"].as_u64().unwrap(), waited }
    }

    fn since(self, before: Self) -> Self {
        Self {
            due: self.due - before.due,
            done: self.done - before.done,
            waited: self.waited.saturating_sub(before.waited),
        }
    }

    /// Share of the due polls that was lost although the agent had a processor: each interval spent waiting for one may
    /// have cost one poll.
    fn lost(self) -> f64 {
        let excused = self.waited.as_secs_f64() / POLL_INTERVAL.as_secs_f64();
        (self.due.saturating_sub(self.done) as f64 - excused).max(0.0) / self.due as f64
    }
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

/// Publishes `attack` once, then `flood` until 150 polls were due; one poll more or less must not decide.
async fn besiege(plant: &Plant, attack: &[Message], flood: &[Message]) -> Polls {
    let before = Polls::now(plant).await;
    pour(plant, attack.to_vec()).await;
    loop {
        pour(plant, flood.to_vec()).await;
        let polls = Polls::now(plant).await.since(before);
        if polls.due >= 150 {
            return polls;
        }
    }
}

/// The same messages to a gateway that is not there: they cost the machine and the broker as much, and the agent nothing.
fn to_nobody(messages: &[Message]) -> Vec<Message> {
    let elsewhere = |message: &Message| Message { topic: message.topic.replace("gw-01", "gw-02"), ..message.clone() };
    messages.iter().map(elsewhere).collect()
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
    let attack: Vec<Message> = (0..2000).map(|number| hostile(&plant, &stranger, &genuine, number)).collect();
    let flood: Vec<Message> = (0..10_000)
        .map(|number| {
            raw(&format!("f{number}"), stranger.sign(&order(&format!("f{number}"), "status", Value::Null)).as_bytes())
        })
        .collect();

    // When the same machine is under the same load, first at the address of another gateway, then at its own.
    let without = besiege(&plant, &to_nobody(&attack), &to_nobody(&flood)).await;
    let with = besiege(&plant, &attack, &flood).await;

    // Then nothing of it was carried out, it cost less than 1 % of the polls, and the engineer is heard.
    let status = plant.site.status().await;
    println!(
        "2,000 hostile messages and floods of 10,000: {with:?}; at another gateway's address: {without:?}; remote {}, \
         {} dropped unread",
        status["remote"], status["mqtt"]["inbox_dropped"],
    );
    assert_eq!(status["remote"]["accepted"].as_u64(), Some(accepted), "{}", status["remote"]);
    assert_eq!(status["remote"]["done"].as_u64(), Some(1));
    assert!(with.lost() <= without.lost() + 0.01, "{with:?} {without:?}");
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
