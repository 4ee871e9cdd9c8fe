//! Less to send: what the configuration keeps back is in the store, not on the broker, and nothing is owed.

#![cfg(test)]

mod support;

use lineside::simulator::Servers;
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, answered, counters};
use support::proxy::Proxy;
use support::site::{Configuration, Site};

/// The counter has to move by more than this.
const DEADBAND: u64 = 10;

#[tokio::test]
async fn what_is_withheld_stays_here_and_nothing_is_owed() {
    // Given a device whose counters move by one with each answer: one with a deadband, one
    // that is not forwarded, and those of another device as aggregates.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let line = Proxy::to(broker.port()).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let tags =
        format!("tags = {{ answers = {{ deadband = {DEADBAND} }}, answers_again = {{ forward = \"none\" }} }}\n");
    let aggregates = "forward = \"aggregates\"\nevery = \"1s\"\n";
    let configuration = Configuration::to_port(line.port(), "batch = { max_age = \"300ms\" }")
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "50ms")
        .lines(&tags)
        .device("press-2", "hall", 2, COUNTER, "50ms")
        .lines(aggregates);
    site.configure(&configuration);

    // When the agent runs, the line to the broker breaks and is repaired, and the agent stops.
    let mut agent = site.start();
    consumer.until("readings", |harvest| harvest.numbers("press-1", "answers").len() > 5).await;
    let undisturbed: Vec<u64> = consumer.harvest.numbers("press-1", "answers").into_keys().collect();
    line.cut();
    let before = answered(&endpoint, 1).await.len();
    support::within("polls without a broker", async {
        while answered(&endpoint, 1).await.len() < before + 40 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    line.pass();
    let seen = consumer.harvest.numbers("press-1", "answers").len();
    consumer.until("readings again", |harvest| harvest.numbers("press-1", "answers").len() > seen + 5).await;
    consumer.until("aggregates", |harvest| harvest.numbers("press-2", "answers_again:max").len() > 3).await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then the steps are larger than the deadband, but for where the session was new; none is missing or owed.
    let harvest = &consumer.harvest;
    harvest.assert_sound();
    assert!(steps(&undisturbed).iter().all(|step| *step > DEADBAND), "{undisturbed:?}");
    let numbers: Vec<u64> = harvest.numbers("press-1", "answers").into_keys().collect();
    assert!(steps(&numbers).iter().max() <= Some(&(DEADBAND + 2)), "{numbers:?}");
    let answers = answered(&endpoint, 1).await.len();
    assert!(3 * numbers.len() < answers, "{} of {answers} sent", numbers.len());
    assert!(harvest.numbers("press-1", "answers_again").is_empty() && harvest.numbers("press-2", "answers").is_empty());

    // And aggregates are those of what was answered.
    let answers = answered(&endpoint, 2).await;
    for point in ["answers:min", "answers:max"] {
        let numbers = harvest.numbers("press-2", point);
        assert!(numbers.len() > 3 && numbers.keys().all(|number| answers.contains_key(number)), "{point} {numbers:?}");
    }
}

fn steps(numbers: &[u64]) -> Vec<u64> {
    numbers.windows(2).map(|pair| pair[1] - pair[0]).collect()
}
