//! The backlog of a week goes out beside what is new, at a bounded rate; or all of it in order. Polling never notices.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lineside::buffer::{BufferSettings, WhenFull};
use lineside::clock::{Clock, SystemClock};
use lineside::encoding::Order;
use lineside::model::{Observed, Row, Scale, SeriesId, SeriesInfo, Timestamp, Value, ValueKind};
use lineside::simulator::Servers;
use store::Store;
use support::broker::Broker;
use support::consumer::{Arrival, Consumer, Harvest};
use support::plant::{COUNTER, COUNTER_PROFILE, counters};
use support::site::{Configuration, Site};

const SERIES: u32 = 10;

/// Seconds between the rows of the backlog; `LINESIDE_LONG=1` for a row each second.
fn step_s() -> i64 {
    if std::env::var_os("LINESIDE_LONG").is_some() { 1 } else { 10 }
}

fn info(number: u32) -> SeriesInfo {
    SeriesInfo {
        name: format!("level_{number}"),
        labels: Arc::new(BTreeMap::from([("device".into(), "tank".into())])),
        unit: String::new(),
        kind: ValueKind::Int,
        scale: Scale::ONE,
        states: BTreeMap::new(),
    }
}

/// Stores a week of readings without delivering any. Returns how many.
async fn a_week_without_broker(site: &Site) -> usize {
    let store = Store::with(BufferSettings {
        path: site.store(),
        limit_bytes: 512 << 20,
        commit_interval: Duration::from_secs(1),
        commit_interval_max: Duration::from_secs(1),
        engine: store::engine(),
        when_full: WhenFull::Thin,
    });
    let store = store.unwrap();
    let series: Arc<[SeriesId]> = store.handle.register((0..SERIES).map(info).collect()).await.unwrap().into();
    let now = SystemClock::new(true).wall().0;
    let mut readings = 0;
    for second in (-7 * 86_400_i64..-60).step_by(step_s() as usize) {
        let level = |number: i64| Observed::Good(Value::Int((second * (number + 3)) % 1000 + second.pow(2) % 7));
        let observed = (0..i64::from(SERIES)).map(level).collect();
        let time = Timestamp(now + 1000 * second);
        store.handle.append(vec![Row { series: series.clone(), time, observed }]).await.unwrap();
        readings += SERIES as usize;
    }
    store.close().await;
    readings
}

fn of_order(harvest: &Harvest, order: Order) -> Vec<&Arrival> {
    harvest.arrivals.iter().filter(|arrival| arrival.order == order).collect()
}

/// Runs the agent on a store with a week of backlog until all of it has arrived.
async fn drained(backlog: &str) -> (Harvest, usize, serde_json::Value) {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let kept = a_week_without_broker(&site).await;
    let configuration = Configuration::to_port(broker.port(), &format!("batch = {{ max_age = \"1s\" }}\n{backlog}"))
        .link("hall", endpoint.address(), "timeout = \"500ms\"")
        .device("fast", "hall", 1, COUNTER, "500ms");
    site.configure(&configuration);

    let mut agent = site.start();
    let is_all_there =
        |harvest: &Harvest| harvest.readings.len() >= kept && harvest.numbers("fast", "answers").len() > 10;
    consumer.until("the week, and something new", is_all_there).await;
    let status = site.status().await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    let week = (0..SERIES).map(|number| harvest.numbers_of_all("tank", &format!("level_{number}"))).sum::<usize>();
    assert_eq!(week, kept, "{}", harvest.summary());
    (harvest, kept, status)
}

/// Polling goes on as ever; a machine that builds and tests something else may miss a poll by itself.
fn assert_polls_kept(status: &serde_json::Value) {
    let sum =
        |key: &str| -> u64 { status["links"].as_array().unwrap().iter().map(|link| link[key].as_u64().unwrap()).sum() };
    let (skipped, due) = (sum("polls_skipped"), sum("polls_due"));
    println!("{skipped} of {due} polls skipped");
    assert!(skipped <= 1 + due / 20, "{skipped} of {due}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_goes_out_at_once_and_a_week_of_backlog_beside_it_within_its_rate() {
    const RATE: f64 = 12.0 * 1024.0;
    let (harvest, _, status) = drained("backlog = { order = \"live-first\", rate = \"12KiB/s\" }").await;

    let backlog = of_order(&harvest, Order::Backlog);
    let (first, last) = (backlog[0].at, backlog[backlog.len() - 1].at);
    let seconds = (last - first).as_secs_f64();
    let sent: usize = backlog[1..].iter().map(|arrival| arrival.length).sum();
    let live: Vec<&Arrival> = of_order(&harvest, Order::Live).into_iter().filter(|it| it.at < last).collect();
    println!("{} batches of backlog, {sent} bytes in {seconds:.1} s; {} live meanwhile", backlog.len(), live.len());
    assert!(seconds > 3.0, "too little to see anything");
    assert!((sent as f64) < RATE * (seconds + 1.0) * 1.1, "{sent} bytes in {seconds} s");
    assert!((sent as f64) > RATE * seconds * 0.5, "{sent} bytes in {seconds} s");
    assert!(live.len() as f64 > seconds * 0.3, "{} live batches in {seconds} s", live.len());
    let late = live.iter().filter(|it| it.wall.since(it.newest.unwrap()) > Duration::from_secs(5)).count();
    assert_eq!(late, 0, "live batches with nothing new in them");
    assert_polls_kept(&status);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rate_a_week_drains_far_faster_than_what_is_new() {
    let (harvest, kept, status) = drained("").await;

    let backlog = of_order(&harvest, Order::Backlog);
    let begun = harvest.arrivals.iter().map(|it| it.at).min().unwrap();
    let seconds = (backlog[backlog.len() - 1].at - begun).as_secs_f64().max(0.1);
    let rate = kept as f64 / seconds;
    println!("{kept} readings of backlog in {seconds:.1} s: {rate:.0} a second beside 4 live ones");
    assert!(rate > 10.0 * 4.0, "{rate} readings a second");
    assert_polls_kept(&status);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_order_what_is_new_waits_for_the_week() {
    let (harvest, _, status) = drained("backlog = { order = \"in-order\" }").await;

    let firsts: Vec<_> = harvest.arrivals.iter().map(|arrival| arrival.first).collect();
    assert!(firsts.is_sorted(), "{firsts:?}");
    let live = harvest.arrivals.iter().position(|arrival| arrival.order == Order::Live).unwrap();
    assert!(harvest.arrivals[live..].iter().all(|arrival| arrival.order == Order::Live));
    assert_polls_kept(&status);
}

/// How long a reading may wait to become durable, as `status` or a health message says.
fn interval_in_force(status: &serde_json::Value) -> Duration {
    let span = &status["store"]["commit_interval"];
    Duration::new(span["secs"].as_u64().unwrap(), span["nanos"].as_u64().unwrap() as u32)
}

async fn status_for_scripts(site: &Site) -> serde_json::Value {
    let shown = site.lineside(&["status", "--json"]).await;
    serde_json::from_slice(&shown.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_health_say_how_long_a_reading_waits_while_a_backlog_goes_out_and_how_long_the_card_lasts() {
    const LEAST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(4);
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    a_week_without_broker(&site).await;
    let configuration = |rate: &str| {
        let mqtt = format!("batch = {{ max_age = \"300ms\" }}\nbacklog = {{ rate = \"{rate}\" }}");
        Configuration::to_port(broker.port(), &mqtt)
            .store("commit_interval = \"500ms\"\ncommit_interval_max = \"4s\"\ncard_endurance = \"30TB\"")
            .link("hall", endpoint.address(), "timeout = \"500ms\"")
            .device("fast", "hall", 1, COUNTER, "100ms")
    };

    // When the backlog goes out slowly, then a reading may wait longer, and a minute later the wear can be foretold.
    site.configure(&configuration("2KiB/s"));
    let mut agent = site.start();
    agent.logged("lineside started").await;
    site.until("the longest interval", |status| interval_in_force(status) == MOST).await;
    while consumer.harvest.health.len() < 2 {
        let before = consumer.harvest.batches;
        consumer.until("batches until the health message of the second minute", |it| it.batches > before + 10).await;
    }
    let health = consumer.harvest.health[1].clone();
    let status = status_for_scripts(&site).await;
    for said in [&health, &status] {
        assert_eq!(interval_in_force(said), MOST, "{said}");
        assert_eq!(said["wear"]["card_endurance_bytes"].as_u64(), Some(30_000_000_000_000), "{said}");
        let (days, per_day) = (said["wear"]["card_days"].as_u64(), said["wear"]["bytes_per_day"].as_u64());
        assert_eq!(days.unwrap(), 30_000_000_000_000 / per_day.unwrap(), "{said}");
        assert!(said["wear"]["bytes_per_reading"].as_f64().unwrap() > 0.0, "{said}");
    }
    // Lines are broken at 80 columns.
    let shown = site.shown().await.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("durable within 4") && shown.contains("a card of 30.0 TB lasts"), "{shown}");

    // When it is all sent, then the interval is what it was.
    agent.terminate();
    assert!(agent.exit().await.success());
    site.configure(&configuration("10MiB/s"));
    let agent = site.start();
    agent.logged("lineside started").await;
    let is_sent =
        |status: &serde_json::Value| status["lanes"]["telemetry"]["pending_readings"].as_u64().unwrap() < 1000;
    site.until("a short interval when all is sent", |status| is_sent(status) && interval_in_force(status) == LEAST)
        .await;
}
