//! The death of the process costs nothing that it had accepted: killed at random, killed in between, and where the open
//! commit cannot be kept.
//!
//! `LINESIDE_TEST_KILLS` says how often the agent is killed, by each engine; 12 when it does not. `LINESIDE_TEST_SEED`
//! takes a seed again.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lineside::buffer::Evaluated;
use lineside::clock::{Clock, SystemClock};
use lineside::database::EngineKind;
use lineside::model::{Lane, Scale, SeriesInfo, Timestamp, ValueKind};
use lineside::simulator::Servers;
use store::{ALL, Counter, Store, alarm, numbers};
use support::broker::Broker;
use support::consumer::Consumer;
use support::plant::{COUNTER, COUNTER_PROFILE, COUNTER_RULES, answered, counters};
use support::site::{Configuration, Site};
use support::small_disk::SmallDisk;

/// What a device answered so long before a kill is kept, where the machine has time for the agent.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

fn now() -> Timestamp {
    SystemClock::new(true).wall()
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Tells for how long this machine lets a thread wait that wants to run.
struct Pulse {
    longest_ms: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Pulse {
    fn start() -> Self {
        const BEAT: Duration = Duration::from_millis(5);
        let this = Self { longest_ms: Arc::default(), stop: Arc::default() };
        let (longest_ms, stop) = (this.longest_ms.clone(), this.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(BEAT);
                longest_ms.fetch_max((begun.elapsed() - BEAT).as_millis() as u64, Ordering::Relaxed);
            }
        });
        this
    }

    /// The longest since this was asked last.
    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One life of the agent, from start to kill.
struct Life {
    begun: Timestamp,
    killed: Timestamp,
    /// What was answered later before the kill may have been on its way.
    on_its_way: Duration,
}

impl Life {
    /// Of the answers of one device those that this life must have kept, and those that may have been on their way.
    fn parted(&self, answers: &Answers, arrived: &BTreeMap<u64, usize>) -> (Vec<u64>, Vec<u64>) {
        let of_life = answers.iter().filter(|(_, time)| (self.begun..=self.killed).contains(*time));
        let (mut must, may): (Vec<_>, Vec<_>) =
            of_life.partition(|(_, time)| self.killed.since(**time) > self.on_its_way);
        // The first answer may be to the last request of the life before: nobody was there to take it.
        if must.first().is_some_and(|(number, _)| !arrived.contains_key(number)) {
            must.remove(0);
        }
        for (number, time) in must.iter().filter(|(number, _)| !arrived.contains_key(number)) {
            let (before, after) = (time.since(self.begun), self.killed.since(**time));
            println!("missing: {number}, answered {before:?} after the start and {after:?} before the kill");
        }
        let numbers = |answers: Vec<(&u64, &Timestamp)>| answers.into_iter().map(|(number, _)| *number).collect();
        (numbers(must), numbers(may))
    }
}

/// The numbers that one device gave as answers, and when.
type Answers = BTreeMap<u64, Timestamp>;

#[tokio::test]
async fn no_kill_costs_a_reading_that_segments_keep() {
    killed_again_and_again(EngineKind::Segments).await;
}

#[tokio::test]
async fn no_kill_costs_a_reading_that_sled_keeps() {
    killed_again_and_again(EngineKind::Sled).await;
}

async fn killed_again_and_again(engine: EngineKind) {
    // Given two devices that are read fifty and ten times a second, rules over them, a commit each second, and a consumer.
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2]).await;
    let broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    std::fs::write(site.path().join("rules.yml"), COUNTER_RULES).unwrap();
    let configuration = Configuration::to_port(broker.port(), "batch = { max_age = \"100ms\" }")
        .store(&format!("engine = \"{engine}\""))
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms")
        .device("press-2", "hall", 2, COUNTER, "100ms")
        .lines("[rules]\nfiles = [\"rules.yml\"]");
    site.configure(&configuration);

    // When the agent is killed at any moment of its life and started again at once.
    let mut random = fastrand::Rng::with_seed(number_in("LINESIDE_TEST_SEED").unwrap_or_else(|| fastrand::u64(..)));
    println!("seed {}", random.get_seed());
    let pulse = Pulse::start();
    let mut lives = Vec::new();
    for _ in 0..number_in("LINESIDE_TEST_KILLS").unwrap_or(12) {
        let begun = now();
        let mut agent = site.start();
        tokio::time::sleep(Duration::from_millis(random.u64(0..2500))).await;
        let killed = now();
        agent.kill();
        lives.push(Life { begun, killed, on_its_way: ON_ITS_WAY + 3 * pulse.longest() });
        consumer.take_arrived();
    }
    let mut agent = site.start();
    agent.logged("lineside started").await;
    let durable = site.status().await["lanes"]["telemetry"]["durable_last"].as_u64().unwrap();
    site.until("everything delivered", |status| {
        let lane = &status["lanes"]["telemetry"];
        lane["pending_readings"].as_u64().unwrap() < 200 && lane["durable_last"].as_u64().unwrap() > durable + 2
    })
    .await;
    agent.terminate();
    assert!(agent.exit().await.success());
    consumer.catch_up(&broker).await;

    // Then what was answered is there, once, under one identity.
    let mut harvest = consumer.harvest.clone();
    harvest.add_stored(&site.undelivered().await);
    harvest.assert_sound();
    assert_eq!(harvest.epochs().len(), 1, "no kill costs a database");
    assert_eq!(harvest.unlisted().len(), 0, "every series is in the catalogue");
    let (mut kept, mut missing, mut doubled, mut late) = (0, 0, 0, 0);
    for (device, unit) in [("press-1", 1), ("press-2", 2)] {
        let answers = answered(&endpoint, unit).await;
        for point in ["answers", "answers_again"] {
            let arrived = harvest.numbers(device, point);
            assert!(arrived.keys().all(|number| answers.contains_key(number)), "{device}/{point}: invented numbers");
            doubled += arrived.values().filter(|times| **times > 1).count();
            let is_missing = |number: &&u64| !arrived.contains_key(number);
            for (must, may) in lives.iter().map(|life| life.parted(&answers, &arrived)) {
                kept += must.len();
                missing += must.iter().filter(is_missing).count();
                late += may.iter().filter(is_missing).count();
            }
        }
    }
    let longest = lives.iter().map(|life| life.on_its_way).max().unwrap_or_default();
    println!(
        "{engine}: {} kills, {kept} readings answered more than {ON_ITS_WAY:?} and three times the longest delay of this \
         machine before one (at most {longest:?} together): {missing} missing, {doubled} doubled; {late} of those answered later were on their way; {}",
        lives.len(),
        harvest.summary()
    );
    assert_eq!((missing, doubled), (0, 0));
    assert!(lives.len() < 5 || kept > 0, "the agent never lived long enough");
    // And nothing is left of the open commit after a clean stop.
    let left = std::fs::read_dir(site.path()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("open-commit")));
}

/// The files of a store and of its open commit, as a kill would leave them.
struct Snapshot {
    directory: tempfile::TempDir,
}

impl Snapshot {
    fn of(site: &Path) -> Self {
        let directory = support::directory();
        support::run("cp", &["-a", &format!("{}/.", site.display()), directory.path().to_str().unwrap()]);
        Self { directory }
    }

    /// Puts it back in the place of whatever is there.
    fn restore(&self, site: &Path) {
        for entry in std::fs::read_dir(site).unwrap().flatten() {
            support::run("rm", &["-rf", entry.path().to_str().unwrap()]);
        }
        let from = format!("{}/.", self.directory.path().display());
        support::run("cp", &["-a", &from, site.to_str().unwrap()]);
    }
}

/// A place for a store and its open commit.
fn site() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let directory = support::directory();
    let (path, runtime) = (directory.path().join("store"), directory.path().join("run"));
    std::fs::create_dir(&runtime).unwrap();
    (directory, path, runtime)
}

fn series(number: usize) -> SeriesInfo {
    SeriesInfo {
        name: format!("level_{number}"),
        labels: Arc::default(),
        unit: "mm".into(),
        kind: ValueKind::Int,
        scale: Scale::ONE,
        states: BTreeMap::new(),
    }
}

/// Numbers of the readings in all commits, and the sequences of these.
async fn stored(store: &Store) -> (Vec<i64>, Vec<u64>) {
    let commits = store.read_all(Lane::Telemetry, ALL).await;
    let sequences = commits.iter().map(|commit| commit.header.sequence.0).collect();
    (commits.iter().flat_map(numbers).collect(), sequences)
}

#[tokio::test]
async fn what_was_accepted_is_taken_up_once_with_its_series_alarms_and_rule_state() {
    for engine in EngineKind::ALL {
        let (directory, path, runtime) = site();
        let store = Store::with_open_commit(&path, &runtime, engine);
        let ids = store.handle.register((0..4).map(series).collect()).await.unwrap();
        let mut counter = Counter::default();
        store.handle.append(counter.rows(&[4, 4])).await.unwrap();
        store.handle.flush().await.unwrap();
        // An alarm is stored at once, and leaves the open rows where they are.
        let evaluated = Evaluated { rows: counter.rows(&[4]), alarms: vec![alarm(1)], state: Some(b"one".to_vec()) };
        store.handle.append_evaluated(evaluated).await.unwrap();
        let mut watermarks = store.handle.watermarks();
        watermarks.wait_for(|marks| marks.alarms.durable_last.0 == 1).await.unwrap();
        let newer = store.handle.register(vec![series(9)]).await.unwrap();
        let evaluated = Evaluated { rows: counter.rows(&[5]), alarms: Vec::new(), state: Some(b"two".to_vec()) };
        store.handle.append_evaluated(evaluated).await.unwrap();

        let killed = Snapshot::of(directory.path());
        store.close().await;
        assert_eq!(std::fs::read_dir(&runtime).unwrap().count(), 0, "a clean stop leaves nothing");
        killed.restore(directory.path());

        let store = Store::with_open_commit(&path, &runtime, engine);
        assert_eq!(store.handle.rule_state().await.unwrap(), b"two");
        assert_eq!(store.handle.register(vec![series(9)]).await.unwrap(), newer);
        assert_eq!(store.handle.register(vec![series(0)]).await.unwrap(), ids[..1]);
        store.handle.append(counter.rows(&[1])).await.unwrap();
        store.handle.flush().await.unwrap();
        assert_eq!(stored(&store).await, ((0..18).collect(), vec![1, 2, 3]), "{engine}");
        assert_eq!(store.read_all(Lane::Alarms, ALL).await.len(), 1, "stored before, and not again");
        assert_eq!(store.handle.status().borrow().open_commit.taken_up, 9);
        assert_eq!(store.handle.status().borrow().readings_stored, 1, "those of this process");

        // A kill after that finds it in the database.
        let killed = Snapshot::of(directory.path());
        store.close().await;
        killed.restore(directory.path());
        let store = Store::with_open_commit(&path, &runtime, engine);
        store.handle.flush().await.unwrap();
        assert_eq!(stored(&store).await.0, (0..18).collect::<Vec<_>>());
        assert_eq!(store.handle.status().borrow().open_commit.taken_up, 0);
        store.close().await;
    }
}

#[tokio::test]
async fn the_open_commit_of_another_store_in_the_same_place_is_dropped_and_counted() {
    let (directory, path, runtime) = site();
    let store = Store::with_open_commit(&path, &runtime, EngineKind::Segments);
    store.handle.register((0..4).map(series).collect()).await.unwrap();
    store.handle.append(Counter::default().rows(&[4])).await.unwrap();
    store.handle.flush().await.unwrap();
    store.handle.append(Counter::default().rows(&[4])).await.unwrap();
    let killed = Snapshot::of(directory.path());
    store.close().await;
    killed.restore(directory.path());
    // Somebody begins anew.
    std::fs::remove_dir_all(&path).unwrap();

    let store = Store::with_open_commit(&path, &runtime, EngineKind::Segments);
    let mut counter = Counter(100);
    store.handle.append(counter.rows(&[2])).await.unwrap();
    let status = store.handle.status().borrow().open_commit.clone();
    assert!(status.kept && status.taken_up == 0 && status.discarded_bytes > 0, "{status:?}");
    let killed = Snapshot::of(directory.path());
    store.close().await;
    killed.restore(directory.path());

    let store = Store::with_open_commit(&path, &runtime, EngineKind::Segments);
    store.handle.flush().await.unwrap();
    assert_eq!(store.handle.status().borrow().dropped, 2, "readings of series that this store does not know");
    store.close().await;
}

#[tokio::test]
async fn where_the_open_commit_cannot_be_kept_everything_is_stored_as_ever_and_status_says_why() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1]).await;
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let foreign = site.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::chown(&foreign, Some(4321), None).unwrap();
    let places = [
        ("./absent", "no such file or directory"),
        ("./foreign", "belongs to user 4321, not to the agent"),
        ("./lineside.toml", "is no directory"),
    ];
    for (place, reason) in places {
        site.configure(&configuration(&broker, &endpoint, place));

        let mut agent = site.start();
        agent.logged("lineside started").await;

        let status = site.until("readings", |status| status["store"]["readings_stored"].as_u64() > Some(10)).await;
        let kept = &status["store"]["open_commit"];
        assert_eq!(kept["kept"], false);
        assert!(kept["not_kept_because"].as_str().unwrap().ends_with(reason), "{kept}");
        assert!(has_problem(&status), "{}", status["problems"]);
        // Lines are broken at 80 columns.
        let shown = site.shown().await.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains("a kill costs what is not yet durable") && shown.contains(reason), "{shown}");
        agent.terminate();
        assert!(agent.exit().await.success());
    }
    site.configure(&configuration(&broker, &endpoint, "off"));
    let agent = site.start();
    agent.logged("lineside started").await;
    let status = site.status().await;
    assert_eq!(status["store"]["open_commit"]["not_kept_because"], serde_json::Value::Null);
    assert!(!has_problem(&status), "the owner wants it so");
}

fn has_problem(status: &serde_json::Value) -> bool {
    let problems = status["problems"].as_array().unwrap();
    problems.iter().any(|problem| problem["key"] == "open-commit-not-kept")
}

#[tokio::test]
async fn a_full_runtime_directory_costs_nothing_but_the_promise_until_there_is_room_again() {
    let mut servers = Servers::default();
    let endpoint = counters(&mut servers, &[1, 2, 3]).await;
    let broker = Broker::start().await;
    let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
    let disk = SmallDisk::at(&site.path().join("run"));
    // More between two saves than the page that the log has already.
    let configuration = configuration(&broker, &endpoint, "./run")
        .device("press-2", "hall", 2, COUNTER, "20ms")
        .device("press-3", "hall", 3, COUNTER, "20ms");
    site.configure(&configuration);
    let kept = |status: &serde_json::Value| status["store"]["open_commit"]["kept"] == true;

    for fills_before in [false, true] {
        if fills_before {
            disk.fill();
        }
        let mut agent = site.start();
        agent.logged("lineside started").await;
        if !fills_before {
            site.until("an open commit", kept).await;
            disk.fill();
        }
        let status = site.until("no room for it", |status| !kept(status)).await;
        let reason = status["store"]["open_commit"]["not_kept_because"].as_str().unwrap();
        assert!(reason.ends_with("no space left on device"), "{reason}");
        assert!(has_problem(&status), "{}", status["problems"]);
        let before = status["store"]["readings_stored"].as_u64();
        site.until("more readings", |status| status["store"]["readings_stored"].as_u64() > before).await;
        disk.make_room();
        site.until("an open commit again", kept).await;
        agent.terminate();
        assert!(agent.exit().await.success());
    }
}

fn configuration(broker: &Broker, endpoint: &lineside::simulator::Endpoint, open_commit: &str) -> Configuration {
    Configuration::to_port(broker.port(), "")
        .store(&format!("commit_interval = \"1s\"\nopen_commit = \"{open_commit}\""))
        .link("hall", endpoint.address(), "")
        .device("press-1", "hall", 1, COUNTER, "20ms")
}
