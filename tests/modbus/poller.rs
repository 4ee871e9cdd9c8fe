//! The poller of one link: schedule, back-off, alarms and requests between polls, against peers that misbehave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::peer::{Asked, Behaviour, Deed, Framing, accept, on_pty, on_tcp, register, truth};
use lineside::clock::{Clock, SystemClock};
use lineside::config::{Accepted, DeviceConfig, Endpoint, LinkConfig, TagConfig};
use lineside::modbus::PollError;
use lineside::model::{Fault, Name, Observed, Row, Scale, SeriesId, SeriesInfo, Transition, UnitId, Value, ValueKind};
use lineside::poll::status::{DeviceState, LinkStatus};
use lineside::poll::{LinkHandle, PollCycle, Poller};
use lineside::profile::{Encoding, ModbusProfile, Pacing, Point, Profile, Protocol, ReadLimits, Table};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_millis(60);
const FAST: Duration = Duration::from_millis(100);

fn point(address: u16, scale_factor: Option<usize>) -> Point {
    let plain = Point::plain(format!("p{address}"), Table::HoldingRegisters, address, Encoding::I16);
    Point { scale_factor, ..plain }
}

/// A device of two tags in two blocks, registers 10 and 500.
fn device(name: &str, unit: u8, interval: Duration) -> DeviceConfig {
    let limits = ReadLimits { registers: 125, bits: 2000, gap: 0 };
    let points = vec![point(10, None), point(500, None)];
    let tag = |point: usize| TagConfig {
        point,
        interval,
        series: Arc::new(SeriesInfo {
            name: points[point].name.clone(),
            labels: Arc::default(),
            unit: String::new(),
            kind: ValueKind::Int,
            scale: Scale::ONE,
            states: BTreeMap::new(),
        }),
        forward: None,
    };
    let tags = vec![tag(0), tag(1)];
    let modbus = ModbusProfile::plain(limits, Pacing::default(), points);
    let profile = Profile {
        id: "test".to_owned(),
        manufacturer: "Test".to_owned(),
        model: "Test".to_owned(),
        protocol: Protocol::Modbus(modbus),
        content: String::new(),
    };
    DeviceConfig {
        name: Name::new(name).unwrap(),
        unit: Some(UnitId::tcp(unit.into()).unwrap()),
        profile: Arc::new(profile),
        firmware: None,
        labels: BTreeMap::new(),
        tags,
    }
}

struct Running {
    handle: LinkHandle,
    cycles: mpsc::Receiver<PollCycle>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Series of device n are 10 * n and 10 * n + 1.
fn start(endpoint: Endpoint, devices: Vec<DeviceConfig>) -> Running {
    let series = (0..devices.len() as u32).map(|index| vec![SeriesId(10 * index), SeriesId(10 * index + 1)]).collect();
    let link = LinkConfig {
        name: Name::new("hall").unwrap(),
        endpoint,
        timeout: TIMEOUT,
        timeout_min: TIMEOUT,
        accepted: Accepted::default(),
        devices,
    };
    let (sender, cycles) = mpsc::channel(256);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(false));
    let (poller, handle) = Poller::new(link, series, clock, sender).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(poller.run(stop.clone()));
    Running { handle, cycles, stop, task }
}

impl Running {
    /// Cycles until one of them fits.
    async fn until(&mut self, fits: impl Fn(&PollCycle) -> bool) -> Vec<PollCycle> {
        let mut seen = Vec::new();
        loop {
            let cycle = tokio::time::timeout(Duration::from_secs(10), self.cycles.recv()).await.unwrap().unwrap();
            let found = fits(&cycle);
            seen.push(cycle);
            if found {
                return seen;
            }
        }
    }

    async fn for_a_while(&mut self, span: Duration) -> Vec<PollCycle> {
        let mut seen = Vec::new();
        let _ = tokio::time::timeout(span, async {
            while let Some(cycle) = self.cycles.recv().await {
                seen.push(cycle);
            }
        })
        .await;
        seen
    }

    /// What the poller says at its end; while it runs, what it says may be a quarter of a second old.
    async fn end(self) -> LinkStatus {
        self.stop.cancel();
        self.task.await.unwrap();
        self.handle.status().borrow().clone()
    }
}

fn rows_of(cycles: &[PollCycle], device: u32) -> Vec<&Row> {
    let rows = cycles.iter().flat_map(|cycle| &cycle.rows);
    rows.filter(|row| row.series.iter().all(|id| id.0 / 10 == device)).collect()
}

fn faults(rows: &[&Row]) -> Vec<Fault> {
    let all = rows.iter().flat_map(|row| &row.observed);
    all.filter_map(|observed| if let Observed::Bad(fault) = observed { Some(*fault) } else { None }).collect()
}

fn is_alarm(cycle: &PollCycle, transition: Transition) -> bool {
    cycle.alarms.iter().any(|alarm| alarm.name == "DeviceSilent" && alarm.transition == transition)
}

/// Every good value of the rows names the register it was read from.
fn assert_true(rows: &[&Row], unit: u8) {
    for (id, observed) in rows.iter().flat_map(|row| row.series.iter().zip(&row.observed)) {
        if let Some(value) = observed.value() {
            let address = if id.0 % 10 == 0 { 10 } else { 500 };
            assert_eq!(*value, Value::Int(i64::from(register(unit, address))));
        }
    }
}

fn silent_while(is_dead: &Arc<AtomicBool>, unit: u8) -> Behaviour {
    let is_dead = Arc::clone(is_dead);
    Arc::new(move |asked: Asked| {
        let silent = asked.unit == unit && is_dead.load(Ordering::Relaxed);
        if silent { Vec::new() } else { vec![Deed::Answer(asked.unit, truth(asked))] }
    })
}

#[tokio::test]
async fn a_dead_device_is_left_alone_while_the_other_keeps_its_schedule() {
    let is_dead = Arc::new(AtomicBool::new(true));
    for pty in [false, true] {
        is_dead.store(true, Ordering::Relaxed);
        // Given two devices on one link, the second of which is dead
        let behaviour = silent_while(&is_dead, 2);
        let peer = if pty { on_pty(115_200, behaviour) } else { on_tcp(Framing::Mbap, behaviour).await };
        let devices = vec![device("alive", 1, FAST), device("dead", 2, FAST)];
        let mut running = start(peer.endpoint.clone(), devices);

        // When it has been given up and probed twice
        let mut cycles = running.until(|cycle| is_alarm(cycle, Transition::Raised)).await;
        cycles.extend(running.for_a_while(Duration::from_millis(3400)).await);

        // Then it gave one bad reading a tag for each of three polls and two probes
        let dead = rows_of(&cycles, 1);
        assert_eq!(faults(&dead), [Fault::Timeout; 10], "pty {pty}");
        // and the other missed no poll and gave what it was asked for
        let alive = rows_of(&cycles, 0);
        assert!(faults(&alive).is_empty());
        assert_true(&alive, 1);
        let times: Vec<i64> = alive.iter().filter(|row| row.series[0].0 == 0).map(|row| row.time.0).collect();
        assert!(times.len() >= 36, "pty {pty}: {}", times.len());
        let off_schedule = times.iter().filter(|time| *time % 100 > 25).count();
        assert!(off_schedule <= 5, "pty {pty}: {off_schedule} of {} late: {times:?}", times.len());

        // When it comes back
        is_dead.store(false, Ordering::Relaxed);
        running.until(|cycle| is_alarm(cycle, Transition::Cleared)).await;
        let cycles = running.for_a_while(Duration::from_millis(550)).await;

        // Then it is on schedule again at once
        let back = rows_of(&cycles, 1);
        assert!(back.len() >= 8 && faults(&back).is_empty(), "{back:?}");
        assert_true(&back, 2);
        let status = running.end().await;
        assert_eq!(status.devices[1].state, DeviceState::Answering);
        assert_eq!(status.devices[1].timeouts, 5, "three polls and two probes, one request each");
    }
}

#[tokio::test]
async fn an_exception_is_an_answer_and_spoils_only_its_block() {
    let refuses_500: Behaviour = Arc::new(|asked| {
        let pdu = if asked.address == 500 { vec![asked.function | 0x80, 2] } else { truth(asked) };
        vec![Deed::Answer(asked.unit, pdu)]
    });
    let peer = on_tcp(Framing::Mbap, refuses_500).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, FAST)]);

    let cycles = running.for_a_while(Duration::from_millis(850)).await;

    assert!(cycles.len() >= 7 && cycles.iter().all(|cycle| cycle.alarms.is_empty()));
    for cycle in &cycles {
        assert_eq!(cycle.rows[0].observed, [Observed::Good(Value::Int(i64::from(register(1, 10))))]);
        assert_eq!(cycle.rows[1].observed, [Observed::Bad(Fault::Exception(2))]);
    }
}

#[tokio::test]
async fn a_device_that_has_no_time_is_asked_again_before_its_next_poll() {
    for code in [5, 6] {
        // Given a device that is busy for its first two requests
        let busy: Behaviour = Arc::new(move |asked| {
            let pdu = if asked.number < 2 { vec![asked.function | 0x80, code] } else { truth(asked) };
            vec![Deed::Answer(asked.unit, pdu)]
        });
        let peer = on_tcp(Framing::Mbap, busy).await;
        let begun = tokio::time::Instant::now();
        let mut running = start(peer.endpoint, vec![device("meter", 1, Duration::from_secs(2))]);

        // When it is polled
        let first = running.until(|cycle| !cycle.rows.is_empty()).await;

        // Then what it says later is the reading, and nothing bad is
        let rows = rows_of(&first, 0);
        assert!(rows.len() == 2 && faults(&rows).is_empty(), "{code}: {rows:?}");
        assert_true(&rows, 1);
        assert!(begun.elapsed() < Duration::from_secs(4));
        let status = running.end().await;
        assert_eq!((status.devices[0].state, status.devices[0].timeouts), (DeviceState::Answering, 0));
    }
}

#[tokio::test]
async fn a_device_that_never_has_time_is_bad_once_for_each_poll() {
    let busy: Behaviour = Arc::new(|asked| vec![Deed::Answer(asked.unit, vec![asked.function | 0x80, 6])]);
    let peer = on_tcp(Framing::Mbap, busy).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, Duration::from_millis(500))]);

    let cycles = running.for_a_while(Duration::from_millis(2600)).await;

    let rows = rows_of(&cycles, 0);
    assert!((6..=10).contains(&rows.len()), "two rows for each of four or five polls: {rows:?}");
    assert!(faults(&rows).iter().all(|fault| *fault == Fault::Exception(6)));
    assert!(cycles.iter().all(|cycle| cycle.alarms.is_empty()), "it answers");
}

#[tokio::test]
async fn what_a_gateway_says_is_no_fault_of_the_device() {
    for code in [10, 11] {
        let answered = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&answered);
        let unreachable: Behaviour = Arc::new(move |asked| {
            counter.fetch_add(1, Ordering::Relaxed);
            vec![Deed::Answer(asked.unit, vec![asked.function | 0x80, code])]
        });
        let peer = on_tcp(Framing::Mbap, unreachable).await;
        let mut running = start(peer.endpoint, vec![device("meter", 1, FAST)]);

        let raised = |cycle: &PollCycle| cycle.alarms.iter().any(|alarm| alarm.name == "DeviceUnreachable");
        let cycles = running.until(raised).await;

        let alarm = cycles.iter().flat_map(|cycle| &cycle.alarms).next().unwrap();
        let summary = &alarm.annotations["summary"];
        assert!(summary.contains("cannot be reached: a gateway on the way to the device answered"), "{summary}");
        let status = running.end().await;
        assert_eq!(status.devices[0].last_answer, None, "the device has said nothing");
        let answered = answered.load(Ordering::Relaxed);
        assert!(answered >= 3, "{answered} answers, and three make the alarm");
        assert_eq!(status.devices[0].exceptions_by_code[&code], answered);
    }
}

#[tokio::test]
async fn people_do_not_crowd_out_polls() {
    // Given a device that takes most of its link, and people who ask without end
    let slow: Behaviour =
        Arc::new(|asked| vec![Deed::Wait(Duration::from_millis(10)), Deed::Answer(asked.unit, truth(asked))]);
    let peer = on_tcp(Framing::Mbap, slow).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, Duration::from_millis(20))]);
    let read = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let handle = running.handle.clone();
        let read = Arc::clone(&read);
        tokio::spawn(async move {
            while handle.read_raw(UnitId::tcp(7).unwrap(), Table::InputRegisters, 3, 2).await.is_ok() {
                read.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    for _ in 0..65 {
        running.cycles.recv().await.unwrap();
    }

    // Then the polls, of two requests each, have three quarters of the requests and more: four fifths of the time
    let read = read.load(Ordering::Relaxed);
    assert!(2 * 65 >= 3 * read, "65 polls, {read} requests of people");
    running.stop.cancel();
}

#[tokio::test]
async fn a_bad_frame_is_asked_again_once() {
    let asked_so_far = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked_so_far);
    // Given a device whose answers are cut short twice in a row, each time for the first block
    let cut: Behaviour = Arc::new(move |asked| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let count = if number < 2 || number == 3 { asked.count + 1 } else { asked.count };
        vec![Deed::Answer(asked.unit, truth(Asked { count, ..asked }))]
    });
    let peer = on_tcp(Framing::Mbap, cut).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, FAST)]);

    let cycles = running.until(|cycle| cycle.rows.len() == 2).await;

    // Then the first block is bad after two tries, the second good at the first, the third request good at the second
    assert_eq!(faults(&rows_of(&cycles, 0)), [Fault::WrongAnswer]);
    let next = running.until(|_| true).await;
    assert!(faults(&rows_of(&next, 0)).is_empty());
    assert_true(&rows_of(&next, 0), 1);
    assert_eq!(asked_so_far.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn a_link_that_is_down_gives_bad_readings_and_recovers() {
    // Given an endpoint that nobody serves
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
    let mut running = start(endpoint, vec![device("meter", 1, FAST)]);

    // Then each tag is bad three times on schedule and once with the probe a second later
    let mut cycles = running.until(|cycle| is_alarm(cycle, Transition::Raised)).await;
    cycles.extend(running.until(|_| true).await);
    assert_eq!(faults(&rows_of(&cycles, 0)), [Fault::LinkDown; 8]);

    // When it is served
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (log, _asked) = mpsc::channel(1000);
    let truthful: Behaviour = Arc::new(|asked| vec![Deed::Answer(asked.unit, truth(asked))]);
    tokio::spawn(accept(listener, Framing::Mbap, truthful, log));

    // Then readings come again
    running.until(|cycle| is_alarm(cycle, Transition::Cleared)).await;
    let cycles = running.until(|_| true).await;
    assert!(faults(&rows_of(&cycles, 0)).is_empty());
}

#[tokio::test]
async fn a_connection_that_the_device_closes_when_idle_costs_no_reading() {
    // Given a device that hangs up a little after each second request
    let hangs_up: Behaviour = Arc::new(|asked| {
        let answer = Deed::Answer(asked.unit, truth(asked));
        if asked.number == 1 { vec![answer, Deed::Close] } else { vec![answer] }
    });
    let peer = on_tcp(Framing::Mbap, hangs_up).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, FAST)]);

    let cycles = running.for_a_while(Duration::from_millis(850)).await;

    assert!(cycles.len() >= 7);
    assert!(faults(&rows_of(&cycles, 0)).is_empty());
}

#[tokio::test]
async fn people_can_ask_between_polls() {
    let peer = on_tcp(Framing::Mbap, Arc::new(|asked| vec![Deed::Answer(asked.unit, truth(asked))])).await;
    let running = start(peer.endpoint, vec![device("meter", 1, Duration::from_secs(3600))]);
    let unit = UnitId::tcp(7).unwrap();

    let words = running.handle.read_raw(unit, Table::InputRegisters, 3, 2).await.unwrap();
    let rows = running.handle.read_device(&Name::new("meter").unwrap()).await.unwrap();
    let unknown = running.handle.read_device(&Name::new("other").unwrap()).await;

    assert_eq!(words, [register(7, 3), register(7, 4)]);
    assert_eq!(rows.len(), 2);
    assert_true(&rows.iter().collect::<Vec<_>>(), 1);
    assert!(matches!(unknown, Err(PollError::UnknownDevice)));

    running.stop.cancel();
    running.task.await.unwrap();
    let stopped = running.handle.read_raw(unit, Table::InputRegisters, 3, 2).await;
    assert!(matches!(stopped, Err(PollError::Stopped)));
}

#[tokio::test]
async fn stopping_hands_on_what_was_read_and_closes_the_channel() {
    // Given a device whose second block is answered slowly
    let slow: Behaviour = Arc::new(|asked| {
        let wait = if asked.address == 10 { TIMEOUT / 2 } else { Duration::ZERO };
        vec![Deed::Wait(wait), Deed::Answer(asked.unit, truth(asked))]
    });
    let mut peer = on_tcp(Framing::Mbap, slow).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, FAST)]);
    peer.asked.recv().await.unwrap();

    // When the poller is stopped while the first block is in hand
    running.stop.cancel();
    running.task.await.unwrap();

    // Then that block is handed on, the other is not asked for, and nothing follows
    let cycle = running.cycles.recv().await.unwrap();
    assert_eq!(cycle.rows.len(), 1);
    assert_true(&cycle.rows.iter().collect::<Vec<_>>(), 1);
    assert!(running.cycles.recv().await.is_none());
    assert!(peer.asked.try_recv().is_err());
}

#[tokio::test]
async fn polls_missed_while_nobody_takes_the_readings_are_counted() {
    let peer = on_tcp(Framing::Mbap, Arc::new(|asked| vec![Deed::Answer(asked.unit, truth(asked))])).await;
    let mut running = start(peer.endpoint, vec![device("meter", 1, Duration::from_millis(2))]);

    // When nobody takes cycles until the channel has been full for three hundred milliseconds
    while running.cycles.len() < 256 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    // Then what was missed is skipped and counted once they are taken again
    let mut status = running.handle.status();
    let seen = loop {
        tokio::select! {
            Some(_) = running.cycles.recv() => {}
            seen = status.wait_for(|seen| seen.polls_skipped >= 100) => break seen.unwrap().clone(),
        }
    };
    assert_eq!(seen.polls_due, seen.polls_done + seen.polls_skipped);
    assert_eq!(seen.devices[0].answers, seen.devices[0].round_trip.count());
}
