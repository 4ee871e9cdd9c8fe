//! A serial line at 9,600 baud where every byte takes its time: asked for more than fits, and shared with devices that
//! do not answer. The agent is the real program.

#![cfg(test)]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lineside::simulator::{Endpoint, Framing, Keep, LineFormat, Misbehaviour, Pace, Servers};
use support::contention::kept_waiting;
use support::installation::{Agent, Installation, NO_BROKER, Tail};
use support::meters;
use tokio::time::Instant;

/// Points of the meters, by their unit ids from 1 on: answers from 9 to 165 bytes.
const POINTS: [u16; 5] = [1, 5, 10, 20, 40];

struct Line {
    // Ends the simulated devices when dropped.
    _servers: Servers,
    endpoint: Endpoint,
    installation: Installation,
}

/// Meters with so many points each on one line, all polled each `interval`.
fn line(points: &[u16], interval: &str, timeout: &str) -> Line {
    let mut servers = Servers::default();
    let units = || (1..).zip(points);
    let devices = units().map(|(unit, points)| meters::device(unit, *points)).collect();
    let endpoint = servers.rtu(LineFormat::plain(9600, Pace::Real), devices, Keep::Answers).unwrap();
    let profiles: Vec<(String, String)> =
        units().map(|(unit, points)| (format!("meter-{unit}"), meters::profile(*points))).collect();
    let profiles: Vec<(&str, &str)> = profiles.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let mut links = meters::link("hall-a", &endpoint, Framing::Rtu, timeout);
    for (unit, _) in units() {
        links += &meters::meter(unit, "hall-a", &format!("meter-{unit}"), interval);
    }
    let installation = Installation::new(NO_BROKER, &profiles, &links);
    Line { _servers: servers, endpoint, installation }
}

/// What happened on a line in a span.
struct Seen {
    /// How many answers each unit gave.
    answers: Vec<u64>,
    /// Part of the span in which the line was occupied, by its own clock, 0 to 1.
    occupied: f64,
    /// Part of the span in which the machine kept agent and simulator waiting for a processor.
    kept_waiting: f64,
}

impl Seen {
    /// Part of the span in which the line was occupied, without the time that the machine had no processor for it.
    fn occupied_of_what_was_there(&self) -> f64 {
        self.occupied / (1.0 - self.kept_waiting).max(0.5)
    }
}

/// Looks at the line for `span`, whole seconds that begin shortly before polls are due, so that none is cut in two. Fails
/// the test when a reading meanwhile was not the truth.
async fn seen_during(endpoint: &Endpoint, agent: &Agent<'_>, tail: &mut Tail, span: Duration) -> Seen {
    let since_full_second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis();
    tail.during(Duration::from_millis(u64::from((1950 - since_full_second) % 1000))).await;
    let processes = [agent.id(), std::process::id()];
    let before = meters::answers_by_unit(endpoint).await;
    let (busy, waited, begun) = (endpoint.counters().busy, kept_waiting(&processes), Instant::now());
    tail.during(span).await.iter().for_each(meters::assert_true_or_bad);
    let (busy, waited) = (endpoint.counters().busy - busy, kept_waiting(&processes).saturating_sub(waited));
    let took = begun.elapsed().as_secs_f64();
    let after = meters::answers_by_unit(endpoint).await;
    Seen {
        answers: after.iter().map(|(unit, answers)| answers - before.get(unit).unwrap_or(&0)).collect(),
        occupied: busy.as_secs_f64() / took,
        kept_waiting: waited.as_secs_f64() / took,
    }
}

/// Fails the test when a line that is asked for more than fits was idle, or did not serve all alike.
fn assert_never_idle(seen: &Seen) {
    let Seen { answers, occupied, kept_waiting } = seen;
    println!("occupied {occupied:.3}, processor not there {kept_waiting:.3}, answers {answers:?}");
    assert!(
        seen.occupied_of_what_was_there() >= 0.9,
        "occupied only {occupied:.3} of the time, {kept_waiting:.3} lost"
    );
    let (least, most) = (answers.iter().min().unwrap(), answers.iter().max().unwrap());
    assert!(*least as f64 >= 0.9 * *most as f64, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_asked_for_more_than_fits_is_never_idle_and_shares_what_there_is() {
    // Given five meters of which a round takes half a second, polled five times a second
    let line = line(&POINTS, "200ms", "500ms");

    // Then `check` says beforehand that this does not fit, with figures
    let check = line.installation.lineside(&["check"]).await;
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("warning: link hall-a is asked for 2") && said.contains("25.0 requests/s"), "{said}");
    let check = line.installation.lineside(&["check", "--json"]).await;
    let report: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let predicted = report["links"][0]["busy_percent"].as_f64().unwrap();

    // And the agent runs all the same, and keeps the line occupied
    let agent = line.installation.start().await;
    line.endpoint.wait_for(|counters| counters.answers >= 10).await;
    let seen = seen_during(&line.endpoint, &agent, &mut agent.tail(), Duration::from_secs(15)).await;

    // And every meter has the same share of it
    println!("asked for {predicted:.0} %");
    assert_never_idle(&seen);
    assert_eq!(seen.answers.len(), POINTS.len());
    let link = &agent.status().await["links"][0];
    let figure = |key: &str| link[key].as_u64().unwrap();
    assert_eq!(figure("polls_due"), figure("polls_done") + figure("polls_skipped"));
    assert!(figure("polls_skipped") > figure("polls_done"), "what was left out is counted: {link}");

    // And the agent says so, in figures near those that were predicted
    assert_eq!(link["overloaded"], true, "{link}");
    let (kept, said) = (link["kept_ratio"].as_f64().unwrap(), link["predicted_ratio"].as_f64().unwrap());
    assert!((kept - 1.0 / said).abs() < 0.1, "{kept} kept of {said} times what fits: {link}");
    let status = line.installation.lineside(&["status"]).await;
    // Lines are broken at 80 columns.
    let shown = String::from_utf8(status.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        shown.contains("link hall-a cannot keep its schedule") && shown.contains("of every device alike"),
        "{shown}"
    );
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_answers_keep_a_line_occupied_too() {
    // What is lost between two frames weighs most here: a request and its answer take 25 ms.
    let line = line(&[1; 3], "50ms", "500ms");
    let agent = line.installation.start().await;

    line.endpoint.wait_for(|counters| counters.answers >= 10).await;
    let seen = seen_during(&line.endpoint, &agent, &mut agent.tail(), Duration::from_secs(10)).await;

    assert_never_idle(&seen);
}

/// Meters of ten points each: a round of all takes a quarter of a second.
const FOUR: [u16; 4] = [10; 4];
/// The one among them that fails.
const SICK: u8 = 2;
const SICK_NAME: &str = "meter-2";

/// Waits until so many meters have been polled.
async fn under_way(tail: &mut Tail, meters: usize) {
    for meter in (1..=meters).map(|unit| format!("meter-{unit}")) {
        tail.until(&meter, |reading| reading.device == meter && reading.quality == "good").await;
    }
}

/// Fails the test when a meter that is well has less than 95 % of the answers it had before, of those that the machine
/// had a processor for.
fn assert_others_unharmed(before: &Seen, after: &Seen) {
    println!("answers before {:?}, with a sick device {:?}", before.answers, after.answers);
    println!("processor not there {:.3}, with a sick device {:.3}", before.kept_waiting, after.kept_waiting);
    let there = 1.0 - (after.kept_waiting - before.kept_waiting).clamp(0.0, 0.5);
    for unit in (1..=before.answers.len()).filter(|unit| *unit != usize::from(SICK)) {
        let (before, after) = (before.answers[unit - 1], after.answers[unit - 1]);
        assert!(after as f64 >= 0.95 * there * before as f64, "meter-{unit} gave {before} answers before, {after} now");
    }
}

async fn sick_status(agent: &Agent<'_>) -> serde_json::Value {
    let device = agent.status().await["links"][0]["devices"][usize::from(SICK) - 1].clone();
    assert_eq!(device["name"], SICK_NAME);
    device
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_device_slows_no_other_and_is_polled_again_when_it_returns() {
    const SPAN: Duration = Duration::from_secs(8);
    let line = line(&FOUR, "500ms", "150ms");
    let agent = line.installation.start().await;
    let mut tail = agent.tail();
    under_way(&mut tail, FOUR.len()).await;
    let before = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    // When one dies
    line.endpoint.misbehave(SICK, Some(Misbehaviour::Silent)).await.unwrap();
    let died = Instant::now();
    let after = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    // Then the others do not notice
    assert_others_unharmed(&before, &after);
    let sick = sick_status(&agent).await;
    assert_eq!(sick["state"], "backed_off", "{sick}");
    let timeouts = sick["timeouts"].as_u64().unwrap();
    assert!((5..=7).contains(&timeouts), "three polls, then probes after 1, 2 and 4 s, not {timeouts} requests");

    // And when it returns, it is polled again within the back-off: no later than it was away
    line.endpoint.misbehave(SICK, None).await.unwrap();
    let (away, returned) = (died.elapsed(), Instant::now());
    tail.until("the meter to be back", |reading| reading.device == SICK_NAME && reading.quality == "good").await;
    println!("away for {away:?}, polled again {:?} after it returned", returned.elapsed());
    assert!(returned.elapsed() <= away, "polled again only after {:?}", returned.elapsed());
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_device_of_ten_on_a_busy_line_costs_the_others_nothing() {
    // Given ten meters that take two thirds of the time of their line, and the timeout that links have by default
    const SPAN: Duration = Duration::from_secs(25);
    const TEN: [u16; 10] = [10; 10];
    let line = line(&TEN, "1s", "500ms");
    let agent = line.installation.start().await;
    let mut tail = agent.tail();
    under_way(&mut tail, TEN.len()).await;
    let before = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;
    println!("occupied {:.3}", before.occupied);
    assert!(before.occupied > 0.55, "a busy line: {:.3}", before.occupied);

    // When one dies, then the others keep their polls
    line.endpoint.misbehave(SICK, Some(Misbehaviour::Silent)).await.unwrap();
    let after = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    assert_others_unharmed(&before, &after);
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_thinks_long_is_waited_for_and_slows_no_other() {
    const SPAN: Duration = Duration::from_secs(6);
    let line = line(&FOUR, "1s", "500ms");
    let agent = line.installation.start().await;
    let mut tail = agent.tail();
    under_way(&mut tail, FOUR.len()).await;
    let before = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    line.endpoint.misbehave(SICK, Some(Misbehaviour::Slow(Duration::from_millis(300)))).await.unwrap();
    let after = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    assert_others_unharmed(&before, &after);
    let sick = sick_status(&agent).await;
    assert_eq!((&sick["state"], &sick["timeouts"]), (&"answering".into(), &0.into()), "{sick}");
    assert!(sick["round_trip"]["max_us"].as_u64().unwrap() >= 300_000, "{sick}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_answers_too_late_is_timed_out_and_spoils_no_other() {
    const SPAN: Duration = Duration::from_secs(6);
    let line = line(&FOUR, "1s", "300ms");
    let agent = line.installation.start().await;
    let mut tail = agent.tail();
    under_way(&mut tail, FOUR.len()).await;
    let before = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    // When its answers come in the middle of the questions to the others
    line.endpoint.misbehave(SICK, Some(Misbehaviour::Late(Duration::from_millis(350)))).await.unwrap();
    tail.until("its first timeout", |reading| reading.device == SICK_NAME && reading.quality == "bad: timeout").await;
    let after = seen_during(&line.endpoint, &agent, &mut tail, SPAN).await;

    // Then none of them is taken for an answer, and the others do not notice
    assert_others_unharmed(&before, &after);
    let sick = sick_status(&agent).await;
    assert_eq!((&sick["state"], &sick["exceptions"]), (&"backed_off".into(), &0.into()), "{sick}");
    assert!(sick["timeouts"].as_u64().unwrap() >= 4 && sick["stale_dropped"].as_u64().unwrap() >= 3, "{sick}");
}

#[tokio::test]
async fn the_driver_of_the_port_switches_the_direction() {
    // Given a port whose driver has an RS-485 mode, by the kernel's own header; a pseudo-terminal has none
    let mut servers = Servers::default();
    let endpoint =
        servers.rtu(LineFormat::plain(9600, Pace::Free), vec![meters::device(1, 1)], Keep::Counters).unwrap();
    let links =
        meters::link("hall-a", &endpoint, Framing::Rtu, "500ms").replace("rtu = {", "rtu = { rs485 = \"driver\",");
    let links = links + &meters::meter(1, "hall-a", "meter", "1s");
    let installation = Installation::new(NO_BROKER, &[("meter", &meters::profile(1))], &links);
    let (library, mode) = (installation.path().join("rs485.so"), installation.path().join("mode"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/rs485_driver.c");
    support::run("cc", &["-shared", "-fPIC", "-O1", "-o", library.to_str().unwrap(), source]);

    // When a meter is read there
    let mut read = installation.command(&["read", "meter-1"]);
    read.env("LD_PRELOAD", &library).env("LINESIDE_TEST_RS485", &mode);
    let read = tokio::task::spawn_blocking(move || read.output()).await.unwrap().unwrap();

    // Then the mode is on, with the delays of the board, and without it the port is not used
    assert_eq!(read.status.code(), Some(0), "{read:?}");
    let mode = std::fs::read_to_string(mode).unwrap();
    assert_eq!(mode, "enabled 1, rts on send 1, rts after send 0, before 2 ms, after 0 ms");
    let refused = installation.lineside(&["read", "meter-1", "--raw"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the driver of this port cannot switch the direction"), "{said}");
}
