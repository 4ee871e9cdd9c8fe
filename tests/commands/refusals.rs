//! Each check refuses by itself, says why, and nothing is carried out.

use lineside::commands::answer::{Answer, State};
use serde_json::{Value, json};

use super::support::commander::{Signer, now, order, raw, with};
use super::support::gateway::message;
use super::support::site::BASE;
use super::support::test_clock::TestClock;
use super::{Plant, subscribed};

fn status(id: &str) -> Value {
    order(id, "status", Value::Null)
}

/// Sends it as the command 7 and sees it refused, with a reason that begins so, and nothing accepted.
async fn refused(plant: &mut Plant, payload: &str, kind: &str, reason: &str) -> Answer {
    let answer = plant.commander.ask("7", payload).await;
    let found = answer.reason.clone().unwrap_or_default();
    assert!(found.starts_with(reason), "{found:?} is not {reason:?}");
    assert!(matches!(answer.state, State::Rejected | State::Expired), "{answer:?}");
    assert_eq!(plant.accepted().await, 0);
    assert_eq!(plant.site.status().await["remote"]["refused"][kind], 1);
    answer
}

#[tokio::test]
async fn a_retained_command() {
    let mut plant = Plant::start().await;
    let payload = plant.viewer.sign(&status("7"));
    let retained = lineside::mqtt::Message { retain: true, ..message(&format!("{BASE}/cmd/7"), &payload) };

    plant.commander.publish(retained).await;

    assert!(plant.commander.last_answer("7").await.reason.unwrap().starts_with("retained messages are never"));
    // And again when the gateway subscribes again: the broker hands it out as it was kept.
    plant.agent.terminate();
    assert!(plant.agent.exit().await.success());
    plant.agent = plant.site.start();
    assert!(plant.commander.last_answer("7").await.reason.unwrap().starts_with("retained messages are never"));
    assert_eq!(plant.accepted().await, 0);
}

#[tokio::test]
async fn one_that_is_too_large() {
    let mut plant = Plant::start().await;
    let large = " ".repeat(20_000);
    refused(&mut plant, &large, "size", "20000 bytes: a command has at most 16384").await;
}

#[tokio::test]
async fn one_that_cannot_be_read() {
    let mut plant = Plant::start().await;
    refused(&mut plant, "{\"command\": 7}", "malformed", "not a command: invalid type").await;
    plant.commander.publish(raw("8", &[0xff, 0, 0xfe])).await;
    assert!(plant.commander.last_answer("8").await.reason.unwrap().starts_with("not a command"));
    let unknown = plant.viewer.sign(&order("9", "reboot", Value::Null));
    assert!(plant.commander.ask("9", &unknown).await.reason.unwrap().starts_with("no command \"reboot\""));
}

#[tokio::test]
async fn one_for_another_id_than_its_topic_says() {
    let mut plant = Plant::start().await;
    let payload = plant.viewer.sign(&status("8"));
    refused(&mut plant, &payload, "malformed", "the id in the command is \"8\", that in the topic \"7\"").await;
}

#[tokio::test]
async fn one_by_a_key_that_is_not_configured() {
    let mut plant = Plant::start().await;
    let payload = Signer::new("mallory", "engineer").sign(&status("7"));
    refused(&mut plant, &payload, "unknown-key", "no key \"mallory\" is configured").await;
}

#[tokio::test]
async fn one_without_a_key() {
    let mut plant = Plant::start().await;
    let payload = json!({ "command": status("7").to_string() }).to_string();
    refused(&mut plant, &payload, "unsigned", "unsigned: a command needs a key").await;
}

#[tokio::test]
async fn one_beyond_the_role_of_its_key() {
    let mut plant = Plant::start().await;
    let payload = plant.operator.sign(&order("7", "restart", Value::Null));
    refused(&mut plant, &payload, "role", "restart needs the role engineer, key \"operator\" has operator").await;
    let payload = plant.viewer.sign(&order("8", "poll-now", json!({ "device": "press-1" })));
    assert!(plant.commander.ask("8", &payload).await.reason.unwrap().starts_with("poll-now needs the role operator"));
    for (id, command, arguments) in [("9", "resend", json!({ "first": 1 })), ("10", "forget", json!({ "device": "a" }))]
    {
        let payload = plant.viewer.sign(&order(id, command, arguments));
        let reason = plant.commander.ask(id, &payload).await.reason.unwrap();
        assert!(reason.starts_with(&format!("{command} needs the role operator")), "{reason}");
    }
}

#[tokio::test]
async fn one_signed_by_somebody_else() {
    let mut plant = Plant::start().await;
    let payload = Signer::new("engineer", "engineer").sign(&status("7"));
    refused(&mut plant, &payload, "signature", "the signature does not fit").await;
}

#[tokio::test]
async fn one_that_was_changed_on_the_way() {
    let mut plant = Plant::start().await;
    let payload = plant.engineer.sign(&order("7", "log-tail", json!({ "lines": 5 }))).replace(":5}", ":6}");
    refused(&mut plant, &payload, "signature", "the signature does not fit").await;
}

#[tokio::test]
async fn one_for_another_gateway() {
    let mut plant = Plant::start().await;
    let payload = plant.engineer.sign(&with(status("7"), "gateway", json!("lyon/gw-02")));
    refused(&mut plant, &payload, "gateway", "meant for \"lyon/gw-02\", this is \"lyon/gw-01\"").await;
}

#[tokio::test]
async fn one_that_has_expired() {
    let mut plant = Plant::start().await;
    let payload = plant.engineer.sign(&with(status("7"), "expires", json!(now() - 1)));
    let answer = refused(&mut plant, &payload, "expired", "expired at ").await;
    assert_eq!(answer.state, State::Expired);
}

#[tokio::test]
async fn one_that_would_be_good_for_days() {
    let mut plant = Plant::start().await;
    let payload = plant.engineer.sign(&with(status("7"), "expires", json!(now() + 25 * 3_600_000)));
    refused(&mut plant, &payload, "expiry-too-far", "expires at ").await;
}

#[tokio::test]
async fn any_while_nobody_knows_what_time_it_is() {
    let mut plant = Plant::with("[clock]\ntrust = \"kernel\"\n").await;
    plant.agent.terminate();
    assert!(plant.agent.exit().await.success());
    let clock = TestClock::new(&plant.site);
    plant.agent = clock.start(&plant.site);
    plant.agent.logged("connected to the broker").await;
    plant.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;

    // The kernel says that nobody has set the clock.
    let payload = plant.engineer.sign(&status("7"));
    assert_eq!(plant.site.status().await["clock"], "unsynchronised");
    refused(&mut plant, &payload, "clock", "the clock of this gateway is not set").await;
    // A time server has set it: the same message is carried out, and what has expired by it is not.
    clock.set(0, true);
    assert_eq!(plant.commander.ask("7", &payload).await.state, State::Done);
    clock.set(2 * 60_000, true);
    let late = plant.engineer.sign(&status("8"));
    assert_eq!(plant.commander.ask("8", &late).await.state, State::Expired);
    // And when the kernel does not vouch for it any more, nothing is taken again.
    clock.set(0, false);
    let payload = plant.engineer.sign(&status("9"));
    let answer = plant.commander.ask("9", &payload).await;
    assert!(answer.reason.unwrap().starts_with("the clock of this gateway is not set"));
}

#[tokio::test]
async fn one_whose_counter_was_used_also_after_a_restart() {
    let mut plant = Plant::start().await;
    let counter = json!(now() + 5);
    let first = plant.engineer.sign(&with(status("6"), "counter", counter.clone()));
    assert_eq!(plant.commander.ask("6", &first).await.state, State::Done);
    let old = plant.engineer.sign(&with(status("7"), "counter", counter));
    assert!(plant.commander.ask("7", &old).await.reason.unwrap().contains("has used"));

    plant.agent.kill();
    plant.agent = plant.site.start();
    plant.agent.logged("connected to the broker").await;
    plant.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;

    refused(&mut plant, &old, "counter", "counter ").await;
}

#[tokio::test]
async fn more_than_a_key_may_send() {
    let mut plant = Plant::start().await;
    let base = now();
    let mut states = Vec::new();
    for number in 0..40 {
        let id = format!("n{number}");
        let text = with(order(&id, "log-tail", json!({ "lines": 1 })), "counter", json!(base + number));
        let payload = plant.viewer.sign(&text);
        plant.commander.send(&id, &payload).await;
        states.push(plant.commander.last_answer(&id).await);
        if states.last().unwrap().state == State::Rejected {
            break;
        }
    }
    assert!(states.last().unwrap().reason.as_ref().unwrap().contains("too many commands"), "{states:?}");
    assert!((20..40).contains(&(states.len() - 1)), "{}", states.len());
}

#[tokio::test]
async fn unsigned_ones_pass_only_where_the_owner_says_so_and_never_as_engineer() {
    let mut plant = Plant::with("[remote]\ninsecure = true\n").await;
    let unsigned =
        |id: &str, command: &str| json!({ "command": order(id, command, Value::Null).to_string() }).to_string();

    assert_eq!(plant.commander.ask("7", &unsigned("7", "status")).await.state, State::Done);
    let restart = plant.commander.ask("8", &unsigned("8", "restart")).await;
    assert!(restart.reason.unwrap().starts_with("restart needs the role engineer"));
}

#[tokio::test]
async fn whatever_changes_anything_while_the_journal_is_damaged() {
    let mut plant = Plant::start().await;
    for id in ["1", "2", "3"] {
        let payload = plant.engineer.sign(&status(id));
        assert_eq!(plant.commander.ask(id, &payload).await.state, State::Done);
    }
    plant.agent.kill();
    let journal = plant.site.path().join("store/remote/journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&journal, bytes).unwrap();

    plant.agent = plant.site.start();
    plant.agent.logged("connected to the broker").await;
    plant.broker.logged_times("Sending SUBACK to lineside-lyon-gw-01", 2).await;

    let changing = plant.engineer.sign(&order("7", "poll-now", json!({ "device": "press-1" })));
    refused(&mut plant, &changing, "journal", "nothing that changes anything is carried out while the journal").await;
    let looking = plant.engineer.sign(&status("8"));
    assert_eq!(plant.commander.ask("8", &looking).await.state, State::Done);
}

#[tokio::test]
async fn all_of_them_on_a_gateway_that_has_no_keys() {
    let mut plant = Plant::start().await;
    let text = std::fs::read_to_string(plant.site.path().join("lineside.toml")).unwrap();
    let (without, _) = text.split_once("[[remote.key]]").unwrap();
    std::fs::write(plant.site.path().join("lineside.toml"), without).unwrap();
    plant.agent.hang_up();
    plant.agent.logged("configuration reloaded").await;
    plant.agent.logged_times("connected to the broker", 2).await;

    let payload = plant.engineer.sign(&status("7"));
    plant.commander.send("7", &payload).await;

    assert!(plant.site.status().await["remote"].is_null());
    std::fs::write(plant.site.path().join("lineside.toml"), &text).unwrap();
    plant.agent.hang_up();
    plant.agent.logged_times("connected to the broker", 3).await;
    subscribed(&plant.broker).await;
    let payload = plant.engineer.sign(&status("8"));
    let answer = plant.commander.last_answer_after("8", &payload).await;
    assert_eq!(answer.state, State::Done);
}

/// Strangers get few answers in a second, so that a flood of theirs is quiet; who has a key is answered each time.
#[tokio::test]
async fn each_of_many_at_once_is_answered_to_whom_the_key_belongs() {
    const MANY: usize = 12;
    let mut plant = Plant::start().await;
    for number in 0..MANY {
        let id = format!("same-{number}");
        let same = with(status(&id), "counter", json!(5));
        plant.commander.send(&id, &plant.viewer.sign(&same)).await;
    }

    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < MANY {
        let received = plant.commander.next().await;
        let Ok(answer) = serde_json::from_slice::<Answer>(&received.payload) else { continue };
        if answer.state.is_final() {
            assert_eq!(answer.state == State::Rejected, answer.id != "same-0", "{answer:?}");
            answered.insert(answer.id);
        }
    }
}

#[tokio::test]
async fn forty_strangers_within_a_second_are_all_answered() {
    let mut plant = Plant::start().await;
    let stranger = Signer::new("engineer", "engineer");
    let mut ids: std::collections::BTreeSet<String> = (0..40).map(|number| format!("s{number}")).collect();
    // One whose id no command may have learns that too.
    ids.insert("seven.of.nine".to_owned());

    for id in &ids {
        plant.commander.send(id, &stranger.sign(&status(id))).await;
    }

    while !ids.is_empty() {
        let received = plant.commander.next().await;
        let Ok(answer) = serde_json::from_slice::<Answer>(&received.payload) else { continue };
        assert_eq!(answer.state, State::Rejected, "{answer:?}");
        assert!(answer.reason.is_some(), "{answer:?}");
        ids.remove(&answer.id);
    }
    assert_eq!(plant.site.status().await["remote"]["unanswered"], 0);
}

#[tokio::test]
async fn the_last_refusal_that_is_answered_in_a_flood_says_that_no_more_are() {
    let mut plant = Plant::start().await;
    let stranger = Signer::new("engineer", "engineer");
    let flood: Vec<_> = (0..400).map(|number| format!("s{number}")).collect();
    let flood: Vec<_> = flood.iter().map(|id| raw(id, stranger.sign(&status(id)).as_bytes())).collect();

    // When messages come faster than they are answered, until some are left out.
    let told = async {
        loop {
            for message in &flood {
                plant.commander.publish(message.clone()).await;
            }
            if plant.site.status().await["remote"]["unanswered"].as_u64() > Some(0) {
                return;
            }
        }
    };
    super::support::within("refusals that are left out", told).await;

    // Then an answer says so.
    loop {
        let received = plant.commander.next().await;
        let Ok(answer) = serde_json::from_slice::<Answer>(&received.payload) else { continue };
        if answer.reason.is_some_and(|reason| reason.ends_with("the next ones get no answer: send fewer")) {
            return;
        }
    }
}
