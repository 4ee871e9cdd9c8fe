//! Broker and agent killed without warning: what the devices answered arrives all the same, each reading once.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use lineside::clock::{Clock, SystemClock};
use lineside::model::Timestamp;
use lineside::simulator::uniform::UNIFORM_PROFILE;
use lineside::simulator::{Endpoints, Keep, Servers, UniformSpec, serve_uniform};
use support::broker::{Broker, Setup};
use support::consumer::Consumer;
use support::machine::Machine;
use support::plant::{COUNTER, COUNTER_PROFILE, answered, assert_no_poll_waited, calm, counters};
use support::proxy::Proxy;
use support::site::{Configuration, Site};
use tokio::time::{Instant, sleep, sleep_until};

/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(30);
/// How long the agent is down meanwhile.
const DOWN: Duration = Duration::from_secs(4);
/// The most that a kill may cost: one commit interval as configured, and a flush on a slow disk.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
const FLUSH: Duration = Duration::from_millis(500);

fn now() -> Timestamp {
    SystemClock::new(true).wall()
}

#[tokio::test]
async fn a_counter_is_complete_though_broker_and_agent_were_killed() {
    // Given a device read each second and one read ten times a second, and a consumer that receives.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let mut broker = Broker::with(Setup { lines: &["persistence false"], ..Setup::default() }).await;
    let line = Proxy::to(broker.port()).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let configuration = Configuration::to_port(line.port(), "batch = { max_age = \"1s\" }")
        .link("hall", endpoint.address(), "timeout = \"500ms\"")
        .device("slow", "hall", 1, COUNTER, "1s")
        .device("fast", "hall", 2, COUNTER, "100ms");
    site.configure(&configuration);
    let machine = Machine::watched();
    let mut agent = site.start();
    consumer.until("the first readings", |harvest| harvest.numbers("slow", "answers").len() >= 5).await;

    // When the broker is killed for half a minute, and the agent for some seconds of it.
    broker.kill();
    let away = Instant::now();
    let before = endpoint.counters().answers;
    endpoint.wait_for(|counters| counters.answers > before + 80).await;
    agent.kill();
    let killed = now();
    sleep(DOWN).await;
    let mut agent = site.start();
    sleep_until(away + OUTAGE).await;
    // A broker that forgot everything would let the gateway speak to nobody: the consumer has to be there first.
    line.cut();
    broker.restart().await;
    consumer.subscribed(&broker).await;
    line.pass();
    let back = [newest(&answered(&endpoint, 1).await), newest(&answered(&endpoint, 2).await)];
    consumer
        .until("everything of the outage", |harvest| {
            ["slow", "fast"].iter().zip(back).all(|(device, number)| {
                harvest.numbers(device, "answers").keys().next_back().is_some_and(|newest| *newest > number + 3)
            })
        })
        .await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then nothing is missing but what was not yet stored when the agent was killed.
    let mut harvest = consumer.harvest.clone();
    harvest.assert_sound();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    assert_eq!(harvest.epochs().len(), 1);
    assert!(harvest.backlog_batches > 0, "{}", harvest.summary());
    for (device, unit, interval) in [("slow", 1, Duration::from_secs(1)), ("fast", 2, Duration::from_millis(100))] {
        let answers = answered(&endpoint, unit).await;
        for point in ["answers", "answers_again"] {
            let arrived = harvest.numbers(device, point);
            assert!(arrived.values().all(|times| *times == 1), "{device}/{point}: numbers under two identities");
            assert!(arrived.keys().all(|number| answers.contains_key(number)), "{device}/{point}: invented numbers");
            let missing: Vec<_> = answers.iter().filter(|(number, _)| !arrived.contains_key(number)).collect();
            let allowed = killed.0 - (COMMIT_INTERVAL + FLUSH).as_millis() as i64..=killed.0;
            assert!(missing.iter().all(|(_, time)| allowed.contains(&time.0)), "{device}: {missing:?}, {allowed:?}");
            println!("{device}/{point}: {} answered, {} arrived, missing {missing:?}", answers.len(), arrived.len());
        }
        assert_schedule_kept(&answers, interval, killed, machine.longest_stall());
    }
    println!("{}", harvest.summary());
}

fn newest(answers: &BTreeMap<u64, Timestamp>) -> u64 {
    *answers.keys().next_back().unwrap()
}

/// The outage of the broker must not be seen at the devices: they are asked as ever, but while the agent is down.
///
/// A poll crosses the threads of two processes, the agent and the simulated device, there and back.
fn assert_schedule_kept(
    answers: &BTreeMap<u64, Timestamp>,
    interval: Duration,
    killed: Timestamp,
    longest_stall: Duration,
) {
    let times: Vec<Timestamp> = answers.values().copied().collect();
    for pair in times.windows(2) {
        let pause = pair[1].since(pair[0]);
        let agent_was_down = pair[0] <= killed && killed <= pair[1];
        let limit = if agent_was_down { DOWN + Duration::from_secs(4) } else { interval + Duration::from_secs(1) };
        assert!(
            pause < limit + 4 * longest_stall,
            "not asked for {pause:?} from {} on; the machine stalled for {longest_stall:?}",
            pair[0]
        );
    }
}

#[tokio::test]
async fn memory_does_not_grow_with_the_backlog_of_a_slow_broker() {
    // Given far more readings than the line to the broker takes.
    const POINTS: u16 = 60;
    let spec = UniformSpec {
        devices: 10,
        points: POINTS,
        endpoints: Endpoints::Own,
        renewal: Duration::ZERO,
        seed: 7,
        keep: Keep::Counters,
    };
    let plant = serve_uniform(spec).await.unwrap();
    let broker = Broker::start().await;
    let line = Proxy::to(broker.port()).await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(UNIFORM_PROFILE, &spec.profile()), (COUNTER, COUNTER_PROFILE)]);
    let mut servers = Servers::default();
    let url = format!("mqtt://127.0.0.1:{}", line.port());
    let text = plant.configuration(&site.store(), &url, "25ms");
    let configuration = Configuration::foreign(&text).mqtt("batch = { max_age = \"1s\" }");
    site.configure(&calm(configuration, &mut servers).await);
    let mut agent = site.start();
    consumer.until("the first readings", |harvest| harvest.readings.len() > 10_000).await;

    // When the broker takes nothing, and then far too little.
    line.stall();
    site.until("a backlog", |status| pending(status) > 100_000).await;
    let begun = agent.memory_peak();
    site.until("a larger backlog", |status| pending(status) > 250_000).await;
    line.limit(2_000);
    let status = site.until("a backlog that still grows", |status| pending(status) > 400_000).await;
    let grown = agent.memory_peak();
    line.pass();
    site.until("an end of the backlog", |status| pending(status) < 40_000).await;
    let drained = agent.memory_peak();
    agent.terminate();
    assert!(agent.exit().await.success());

    // Then memory has nothing to do with it: 300,000 readings more took no more than the engine caches of them.
    println!("peak with a backlog of 100,000: {begun}, of 400,000: {grown}, drained: {drained} bytes");
    assert!(grown - begun < 6 << 20, "grew by {} bytes", grown - begun);
    assert!(drained - begun < 12 << 20, "grew by {} bytes", drained - begun);
    // And polling never noticed, and all of it arrived.
    assert_no_poll_waited(&status);
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.assert_sound();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    let answers: u64 = plant.endpoints().iter().map(|endpoint| endpoint.counters().answers).sum();
    let calm: usize = ["answers", "answers_again"].map(|point| harvest.numbers_of_all("calm-1", point)).iter().sum();
    assert_eq!((harvest.readings.len() - calm) as u64, answers * u64::from(POINTS), "{}", harvest.summary());
}

fn pending(status: &serde_json::Value) -> u64 {
    status["lanes"]["telemetry"]["pending_readings"].as_u64().unwrap()
}
