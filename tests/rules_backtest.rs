//! Rules over the past: what is found in the store is what was announced live, through the agent and from its files.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use lineside::model::Transition;
use lineside::simulator::Servers;
use serde_json::Value as Json;
use support::broker::Broker;
use support::consumer::{Consumer, Taken};
use support::plant::{COUNTER, COUNTER_PROFILE, COUNTER_RULES, counters};
use support::site::{Configuration, Site};

/// An alarm that is never raised, by an expression of no frequent form.
const NEVER: &str = "      - { alert: Never, expr: 'quantile(0.5, answers) < 0' }\n";

/// What a command of `lineside rules` says as JSON, and its exit code.
async fn rules(site: &Site, arguments: &[&str]) -> (Option<i32>, Json) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.arg("rules").args(arguments).arg("--json").arg("--config").arg(site.path().join("lineside.toml"));
    command.current_dir(site.path()).env_remove("LINESIDE_SOCKET").env_remove("LINESIDE_CONFIG");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    (output.status.code(), said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// When the alarm was raised and cleared, and what decided it.
fn episodes(past: &Json) -> BTreeMap<i64, (Option<i64>, f64)> {
    assert_eq!(past["alarms"].as_array().unwrap().len(), 1, "{past}");
    let episodes = past["alarms"][0]["episodes"].as_array().unwrap();
    let episode = |it: &Json| (it["raised"].as_i64().unwrap(), (it["cleared"].as_i64(), it["value"].as_f64().unwrap()));
    episodes.iter().map(episode).collect()
}

#[tokio::test]
async fn the_past_is_what_was_announced_live_through_the_agent_and_from_its_files() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), format!("{COUNTER_RULES}{NEVER}")).unwrap();
    site.configure(
        &Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
            .link("hall", endpoint.address(), "timeout = \"100ms\"")
            .device("press-1", "hall", 1, COUNTER, "50ms")
            .lines("[rules]\nfiles = [\"rules.yml\"]"),
    );

    // Alarms come and go live, and the past is asked about through the agent, and later from the files.
    let mut agent = site.start();
    consumer.until("alarms", |harvest| harvest.transitions("UpperHalf").len() >= 7).await;
    let live: Vec<(i64, Transition, f64)> = consumer
        .harvest
        .transitions("UpperHalf")
        .iter()
        .map(|found| (found.time.0, found.transition, found.value.unwrap()))
        .collect();
    // Only what is stored is looked at, and what was delivered is: what was taken after the last of these alarms.
    let newest = live.iter().map(|(time, ..)| *time).max().unwrap();
    let is_later = |taken: &Taken| taken.time.0 > newest;
    consumer.until("later readings", |harvest| harvest.readings.values().any(is_later)).await;
    let (code, through_agent) = rules(&site, &["backtest", "rules.yml", "--from", "1h"]).await;
    let (now, found) = rules(&site, &["eval", "answers"]).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    let (from_files_code, from_files) = rules(&site, &["backtest", "rules.yml", "--from", "1h"]).await;
    let at = format!("{}", lineside::model::Timestamp(live[2].0));
    let (_, then) = rules(&site, &["eval", "answers % 20", "--at", &at]).await;

    // Then each episode is that of the broker, to the millisecond and the value.
    assert_eq!((code, from_files_code, now), (Some(0), Some(0), Some(0)));
    for past in [&through_agent, &from_files] {
        let episodes = episodes(past);
        let raised = live.iter().filter(|(_, transition, _)| *transition == Transition::Raised);
        for (time, _, value) in raised {
            assert_eq!(episodes.get(time).map(|(_, value)| *value), Some(*value), "{episodes:?} {live:?}");
        }
        let cleared: Vec<i64> = episodes.values().filter_map(|(cleared, _)| *cleared).collect();
        let expected = live.iter().filter(|(_, transition, _)| *transition == Transition::Cleared);
        for (time, ..) in expected {
            assert!(cleared.contains(time), "{cleared:?} {live:?}");
        }
        assert_eq!(past["silent"], serde_json::json!(["Never"]));
        assert!(past["recorded"]["device:answers:rate"].as_u64() > Some(3), "{past}");
    }
    assert!(found["results"][0]["value"].as_f64() > Some(60.0), "{found}");
    assert!(then["results"][0]["value"].as_f64() >= Some(10.0) || live[2].1 == Transition::Cleared, "{then}");
}

#[tokio::test]
async fn whether_a_device_answered_is_known_of_the_past_too() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let text = "groups: [{name: a, interval: 1s, rules: [{alert: Down, expr: up == 0, for: 1s}, \
                {alert: Up, expr: up == 1}]}]";
    std::fs::write(site.path().join("rules.yml"), text).unwrap();
    site.configure(
        &Configuration::to_port(broker.port(), "batch = { max_age = \"300ms\" }")
            .link("hall", endpoint.address(), "timeout = \"500ms\"")
            .device("press-1", "hall", 1, COUNTER, "200ms")
            .device("press-2", "hall", 2, COUNTER, "200ms")
            .lines("[rules]\nfiles = [\"rules.yml\"]"),
    );

    // When one of two devices is not there, and the past is asked about through the agent, and then from the files.
    let mut agent = site.start();
    let is_told = |alarm: &str, harvest: &support::consumer::Harvest| !harvest.transitions(alarm).is_empty();
    consumer.until("both alarms", |harvest| is_told("Down", harvest) && is_told("Up", harvest)).await;
    let through_agent = rules(&site, &["backtest", "rules.yml", "--from", "1h"]).await;
    let (_, found) = rules(&site, &["eval", "up"]).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    let from_files = rules(&site, &["backtest", "rules.yml", "--from", "1h"]).await;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rules/communication.yml");
    let (shipped_code, shipped) = rules(&site, &["backtest", shipped, "--from", "1h"]).await;

    // Then the alarms are those of the broker.
    for (code, past) in [&through_agent, &from_files] {
        let about = |alarm: &Json| (alarm["name"].clone(), alarm["labels"]["device"].clone());
        let mut alarms: Vec<(Json, Json)> = past["alarms"].as_array().unwrap().iter().map(about).collect();
        alarms.sort_by_key(|(name, _)| name.to_string());
        let expected = [("Down", "press-2"), ("Up", "press-1")].map(|(name, of)| (Json::from(name), Json::from(of)));
        assert_eq!((*code, alarms.as_slice()), (Some(0), expected.as_slice()), "{past}");
    }
    let value = |result: &Json| (result["labels"]["device"].to_string(), result["value"].as_f64());
    let values: BTreeMap<String, Option<f64>> = found["results"].as_array().unwrap().iter().map(value).collect();
    let expected = [("\"press-1\"", 1.0), ("\"press-2\"", 0.0)].map(|(of, value)| (of.to_owned(), Some(value)));
    assert_eq!(values, BTreeMap::from(expected), "{found}");
    assert!(shipped_code == Some(0) && shipped["readings"].as_u64() > Some(5), "{shipped}");
}
