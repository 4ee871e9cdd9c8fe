//! Text instruments on real serial ports (pseudo terminals): a scale that is asked and a stream that is listened to.

#![cfg(test)]

#[path = "support/serial_adapter.rs"]
mod serial_adapter;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lineside::clock::SystemClock;
use lineside::config::{Accepted, DeviceConfig, Endpoint, LinkConfig, Parity, SerialSettings, TagConfig};
use lineside::model::{
    AlarmRecord, Doubt, Fault, Name, Observed, Row, Scale, SeriesId, SeriesInfo, Transition, Value, ValueKind,
};
use lineside::poll::{LinkHandle, PollCycle, PollError, TextPoller};
use lineside::profile::text::{Checksum, LineMeaning, LinePattern, TextPoint, TextProfile};
use lineside::profile::{Profile, Protocol};
use regex::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use serial_adapter::Adapter;

const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(150);
/// No fact that a test waits for takes this long on the slowest machine.
const TOO_LONG: Duration = Duration::from_secs(30);

/// A running poller and what it gave.
struct Bench {
    cycles: mpsc::Receiver<PollCycle>,
    handle: LinkHandle,
    alarms: Vec<AlarmRecord>,
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Bench {
    fn start(port: &Path, profile: TextProfile) -> Self {
        let (sender, cycles) = mpsc::channel(64);
        let link = link(port, profile);
        let ids = (0..link.devices[0].tags.len() as u32).map(SeriesId).collect();
        let clock = Arc::new(SystemClock::new(true));
        let (poller, handle) = TextPoller::new(link, vec![ids], clock, sender).expect("a text link");
        let stop = CancellationToken::new();
        let task = tokio::spawn(poller.run(stop.clone()));
        Self { cycles, handle, alarms: Vec::new(), task, stop: stop.drop_guard() }
    }

    async fn next_row(&mut self) -> Row {
        loop {
            let cycle = timeout(TOO_LONG, self.cycles.recv()).await.expect("a row in time").expect("a running poller");
            self.alarms.extend(cycle.alarms);
            if let Some(row) = cycle.rows.into_iter().next() {
                return row;
            }
        }
    }

    /// Waits for a row whose only reading is `expected`.
    async fn wait_for(&mut self, expected: &Observed) -> Row {
        for _ in 0..100 {
            let row = self.next_row().await;
            if row.observed == [expected.clone()] {
                return row;
            }
        }
        panic!("{expected:?} did not come in 100 rows");
    }

    fn transitions(&self) -> Vec<(&str, Transition)> {
        self.alarms.iter().map(|alarm| (alarm.name.as_str(), alarm.transition)).collect()
    }

    async fn stop(self) {
        drop(self.stop);
        timeout(Duration::from_secs(2), self.task).await.expect("stops at once").expect("without a panic");
    }
}

fn link(port: &Path, profile: TextProfile) -> LinkConfig {
    let tag = |(index, point): (usize, &TextPoint)| TagConfig {
        point: index,
        interval: INTERVAL,
        series: Arc::new(SeriesInfo {
            name: point.name.clone(),
            labels: Arc::default(),
            unit: point.unit.clone(),
            kind: point.kind,
            scale: point.scale,
            states: BTreeMap::new(),
        }),
        forward: None,
    };
    let tags = profile.points.iter().enumerate().map(tag).collect();
    let profile = Profile {
        id: "test".to_owned(),
        manufacturer: "none".to_owned(),
        model: "none".to_owned(),
        protocol: Protocol::Text(profile),
        content: String::new(),
    };
    LinkConfig {
        name: Name::new("bench").expect("a name"),
        endpoint: Endpoint::Text(SerialSettings {
            port: port.to_owned(),
            baud_rate: 9600,
            parity: Parity::None,
            data_bits: 8,
            stop_bits: 1,
            rs485: false,
        }),
        timeout: PATIENCE,
        timeout_min: PATIENCE,
        accepted: Accepted::default(),
        devices: vec![DeviceConfig {
            name: Name::new("instrument").expect("a name"),
            unit: None,
            profile: Arc::new(profile),
            firmware: None,
            labels: BTreeMap::new(),
            tags,
        }],
    }
}

fn pattern(expression: &str, meaning: LineMeaning) -> LinePattern {
    LinePattern { expression: Regex::new(expression).expect("an expression"), meaning }
}

fn point(name: &str) -> TextPoint {
    let (name, scale) = (name.to_owned(), Scale::ONE);
    TextPoint { name, kind: ValueKind::F64, scale, unit: String::new(), unit_group: None, range: None }
}

fn good(number: f64) -> Observed {
    Observed::Good(Value::F64(number))
}

// ---- a scale that speaks MT-SICS ----

fn mt_sics() -> TextProfile {
    let weight = TextPoint { unit_group: Some(("unit".to_owned(), "g".to_owned())), ..point("weight_g") };
    TextProfile {
        ask: Some(b"SI\r\n".to_vec()),
        frame_end: b"\r\n".to_vec(),
        frame_max: 64,
        checksum: Checksum::None,
        patterns: vec![
            pattern(r"^S S +(?<weight_g>-?[\d.]+) (?<unit>\S+)$", LineMeaning::Good),
            pattern(r"^S D +(?<weight_g>-?[\d.]+) (?<unit>\S+)$", LineMeaning::Unstable),
            pattern(r"^S I$", LineMeaning::NotAvailable),
            pattern(r"^S [+-]$", LineMeaning::DeviceFault),
            pattern(r"^I4 A ", LineMeaning::Ignore),
        ],
        points: vec![weight],
        interval: None,
    }
}

/// What the simulated scale does when it is asked.
#[derive(Debug, Clone)]
enum Mood {
    Says(&'static [u8]),
    Silent,
    /// Answers the nth request with n grams; each third answer comes after the wait for it was given up.
    CountsAndIsOftenLate,
}

/// Serves one adapter until it is unplugged (the task is dropped).
async fn scale(mut adapter: Adapter, mood: watch::Receiver<Mood>) {
    let mut request = [0; 4];
    let mut asked = 0;
    loop {
        if adapter.far.read_exact(&mut request).await.is_err() {
            sleep(Duration::from_millis(5)).await;
            continue;
        }
        assert_eq!(&request, b"SI\r\n");
        asked += 1;
        let mood = mood.borrow().clone();
        match mood {
            Mood::Says(answer) => adapter.far.write_all(answer).await.expect("a plugged adapter"),
            Mood::Silent => {}
            Mood::CountsAndIsOftenLate => {
                if asked % 3 == 0 {
                    sleep(PATIENCE + PATIENCE / 3).await;
                }
                adapter.far.write_all(format!("S S {asked:10}.00 g\r\n").as_bytes()).await.expect("a plugged adapter");
            }
        }
    }
}

fn port_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("usb-adapter");
    (directory, path)
}

#[tokio::test]
async fn a_scale_is_read_in_all_its_moods() {
    let (_directory, path) = port_path();
    let (mood, moods) = watch::channel(Mood::Silent);
    let device = tokio::spawn(scale(Adapter::plug(&path), moods));
    let mut bench = Bench::start(&path, mt_sics());

    for (answer, expected) in [
        (&b"S S     100.00 g\r\n"[..], good(100.0)),
        (b"S S      -0.25 g\r\n", good(-0.25)),
        (b"S D      42.17 g\r\n", Observed::Uncertain(Value::F64(42.17), Doubt::Unstable)),
        (b"S I\r\n", Observed::Bad(Fault::NotAvailable)),
        (b"S +\r\n", Observed::Bad(Fault::DeviceFault)),
        (b"S -\r\n", Observed::Bad(Fault::DeviceFault)),
        (b"I4 A \"0123456789\"\r\nS S       7.00 g\r\n", good(7.0)),
        (b"S S      0.100 kg\r\n", Observed::Bad(Fault::NoMatch)),
        (b"S S     100.00 g\r\n", good(100.0)),
        (b"ES\r\n", Observed::Bad(Fault::NoMatch)),
        (b"\x00\xff\xfe\x80S S 1.00 g\r\n", Observed::Bad(Fault::NoMatch)),
    ] {
        mood.send_replace(Mood::Says(answer));
        let row = bench.wait_for(&expected).await;
        assert_eq!(row.series[..], [SeriesId(0)]);
    }
    device.abort();
    bench.stop().await;
}

#[tokio::test]
async fn polls_stand_on_the_wall_clock() {
    let (_directory, path) = port_path();
    let (_mood, moods) = watch::channel(Mood::Says(b"S S       1.00 g\r\n"));
    let device = tokio::spawn(scale(Adapter::plug(&path), moods));
    let mut bench = Bench::start(&path, mt_sics());

    // A loaded machine may delay some answers, but not most of them.
    let mut on_time = 0;
    for _ in 0..20 {
        let row = bench.wait_for(&good(1.0)).await;
        on_time += u32::from(row.time.0 % 100 < 50);
    }
    assert!(on_time >= 15, "{on_time} of 20");
    device.abort();
    bench.stop().await;
}

#[tokio::test]
async fn a_scale_that_falls_silent_is_probed_and_found_again() {
    let (_directory, path) = port_path();
    let (mood, moods) = watch::channel(Mood::Says(b"S S       1.00 g\r\n"));
    let device = tokio::spawn(scale(Adapter::plug(&path), moods));
    let mut bench = Bench::start(&path, mt_sics());
    bench.wait_for(&good(1.0)).await;

    mood.send_replace(Mood::Silent);
    let silent = Observed::Bad(Fault::Timeout);
    let first = bench.wait_for(&silent).await.time;
    for _ in 0..2 {
        assert_eq!(bench.next_row().await.observed, std::slice::from_ref(&silent));
    }
    assert_eq!(bench.transitions(), [("DeviceSilent", Transition::Raised)]);
    let probe = bench.next_row().await;
    assert_eq!(probe.observed, [silent], "one bad reading a probe");
    assert!(probe.time.since(first) >= Duration::from_secs(1), "probes are a second and more apart");

    mood.send_replace(Mood::Says(b"S S       2.00 g\r\n"));
    bench.wait_for(&good(2.0)).await;
    assert_eq!(bench.transitions(), [("DeviceSilent", Transition::Raised), ("DeviceSilent", Transition::Cleared)]);
    device.abort();
    bench.stop().await;
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_one() {
    let (_directory, path) = port_path();
    let (_mood, moods) = watch::channel(Mood::CountsAndIsOftenLate);
    let device = tokio::spawn(scale(Adapter::plug(&path), moods));
    let mut bench = Bench::start(&path, mt_sics());

    let mut late = 0;
    let mut in_time = 0;
    while late < 5 {
        match &bench.next_row().await.observed[..] {
            [Observed::Good(Value::F64(grams))] => {
                assert_ne!(grams % 3.0, 0.0, "the answer to request {grams} came after it was given up");
                in_time += 1;
            }
            [Observed::Bad(Fault::Timeout)] => late += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(in_time >= 5, "{in_time}");
    let status = bench.handle.status().borrow().clone();
    assert!(status.devices[0].stale_dropped >= 4, "{status:?}");
    device.abort();
    bench.stop().await;
}

#[tokio::test]
async fn an_unplugged_scale_is_link_down_until_it_is_plugged_in_again() {
    let (_directory, path) = port_path();
    let (_mood, moods) = watch::channel(Mood::Says(b"S S       1.00 g\r\n"));
    let device = tokio::spawn(scale(Adapter::plug(&path), moods.clone()));
    let mut bench = Bench::start(&path, mt_sics());
    bench.wait_for(&good(1.0)).await;
    let name = Name::new("instrument").unwrap();
    assert_eq!(bench.handle.read_device(&name).await.unwrap()[0].observed, [good(1.0)]);

    device.abort();
    assert!(device.await.unwrap_err().is_cancelled());
    for _ in 0..3 {
        bench.wait_for(&Observed::Bad(Fault::LinkDown)).await;
    }
    assert_eq!(bench.transitions(), [("DeviceSilent", Transition::Raised)]);
    assert!(!bench.handle.status().borrow().connected);
    assert!(matches!(bench.handle.read_device(&name).await, Err(PollError::LinkDown(_))));

    let device = tokio::spawn(scale(Adapter::plug(&path), moods));
    bench.wait_for(&good(1.0)).await;
    assert_eq!(bench.transitions().last(), Some(&("DeviceSilent", Transition::Cleared)));
    assert!(bench.handle.status().borrow().connected);
    device.abort();
    bench.stop().await;
}

// ---- a stream of NMEA 0183 sentences ----

fn nmea() -> TextProfile {
    TextProfile {
        ask: None,
        frame_end: b"\r\n".to_vec(),
        frame_max: 82,
        checksum: Checksum::Nmea,
        patterns: vec![
            pattern(r"^\$..HDT,(?<heading_deg>[^,*]*),T\*", LineMeaning::Good),
            pattern(r"^\$..MTW,(?<water_c>[^,*]*),C\*", LineMeaning::Good),
            pattern(r"^\$..GSV,", LineMeaning::Ignore),
        ],
        points: vec![point("heading_deg"), point("water_c")],
        interval: None,
    }
}

fn sentence(body: &str) -> String {
    let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

/// Series and observation of the next row, which has one reading.
async fn next_reading(bench: &mut Bench) -> (SeriesId, Observed) {
    let mut row = bench.next_row().await;
    assert_eq!(row.observed.len(), 1, "{row:?}");
    (row.series[0], row.observed.remove(0))
}

#[tokio::test]
async fn a_stream_is_read_however_its_bytes_arrive() {
    let (_directory, path) = port_path();
    let mut adapter = Adapter::plug(&path);
    let mut bench = Bench::start(&path, nmea());
    connected(&bench).await;
    let stream = [
        "torn off at the start,T*00\r\n".to_owned(),
        sentence("HEHDT,274.07,T"),
        sentence("GPGSV,1,1,00"),
        sentence("YXMTW,17.5,C"),
        "$HEHDT,111.11,T*00\r\n".to_owned(),
        sentence("XXUNKNOWN,1,2,3"),
        sentence("YXMTW,,C"),
        format!("$HEHDT,27{}", sentence("HEHDT,275.00,T")),
    ];
    let (heading, water) = (SeriesId(0), SeriesId(1));
    let expected = [
        (heading, good(274.07)),
        (water, good(17.5)),
        (heading, Observed::Bad(Fault::BadChecksum)),
        (water, Observed::Bad(Fault::NotAvailable)),
        (heading, good(275.0)),
    ];

    for size in [1, 3, 7, 500] {
        for piece in stream.concat().as_bytes().chunks(size) {
            adapter.far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        for reading in &expected {
            assert_eq!(&next_reading(&mut bench).await, reading, "pieces of {size}");
        }
    }
    let device = bench.handle.status().borrow().devices[0].clone();
    assert_eq!((device.crc_errors, device.bad_frames), (8, 4), "damaged, torn and unknown lines are counted");
    bench.stop().await;
}

#[tokio::test]
async fn a_stream_that_stops_is_bad_once_and_then_quiet() {
    let (_directory, path) = port_path();
    let mut adapter = Adapter::plug(&path);
    let mut bench = Bench::start(&path, nmea());
    connected(&bench).await;
    adapter.far.write_all((sentence("HEHDT,1.0,T") + &sentence("YXMTW,2.0,C")).as_bytes()).await.unwrap();
    assert_eq!(next_reading(&mut bench).await, (SeriesId(0), good(1.0)));
    assert_eq!(next_reading(&mut bench).await, (SeriesId(1), good(2.0)));

    let mut silent = Vec::new();
    while silent.len() < 2 {
        let row = bench.next_row().await;
        assert!(row.observed.iter().all(|observed| *observed == Observed::Bad(Fault::Timeout)), "{row:?}");
        silent.extend_from_slice(&row.series);
    }
    silent.sort_unstable();
    assert_eq!(silent, [SeriesId(0), SeriesId(1)]);
    assert_eq!(bench.transitions(), [("DeviceSilent", Transition::Raised)]);
    assert!(timeout(INTERVAL * 10, bench.cycles.recv()).await.is_err(), "nothing more is said of a silent stream");

    adapter.far.write_all(sentence("HEHDT,3.0,T").as_bytes()).await.unwrap();
    assert_eq!(next_reading(&mut bench).await, (SeriesId(0), good(3.0)));
    assert_eq!(bench.transitions().last(), Some(&("DeviceSilent", Transition::Cleared)));
    bench.stop().await;
}

#[tokio::test]
async fn an_unplugged_stream_is_link_down_until_it_is_plugged_in_again() {
    let (_directory, path) = port_path();
    let mut bench = Bench::start(&path, nmea());
    let down = vec![Observed::Bad(Fault::LinkDown); 2];
    // Given a port that is not there yet, then there, then gone, then there.
    for heading in [1.0, 2.0] {
        while bench.next_row().await.observed != down {}
        let mut adapter = Adapter::plug(&path);
        connected(&bench).await;
        adapter.far.write_all(sentence(&format!("HEHDT,{heading},T")).as_bytes()).await.unwrap();
        while bench.next_row().await.observed != [good(heading)] {}
    }
    bench.stop().await;
}

#[tokio::test]
async fn lines_that_fit_no_pattern_are_shown_as_they_came_until_one_fits() {
    let (_directory, path) = port_path();
    let mut adapter = Adapter::plug(&path);
    let mut bench = Bench::start(&path, nmea());
    connected(&bench).await;
    let mut status = bench.handle.status();

    for _ in 0..3 {
        adapter.far.write_all(b"ST,GS,+\x1b[2J0012.3kg\r\n").await.unwrap();
    }

    let told = |link: &lineside::poll::LinkStatus| link.devices[0].unmatched.as_ref().is_some_and(|it| it.count >= 3);
    let seen = timeout(TOO_LONG, status.wait_for(told)).await.expect("lines in time").expect("a poller").clone();
    let lines = seen.devices[0].unmatched.clone().expect("lines");
    assert_eq!((lines.count, lines.last.as_str()), (3, "ST,GS,+\\x1b[2J0012.3kg"));

    adapter.far.write_all(sentence("HEHDT,3.0,T").as_bytes()).await.unwrap();
    while next_heading(&mut bench).await != Some(good(3.0)) {}
    let fits = timeout(TOO_LONG, status.wait_for(|link| link.devices[0].unmatched.is_none())).await;
    fits.expect("it is forgotten").expect("a poller");
    bench.stop().await;
}

#[tokio::test]
async fn garbage_without_end_takes_no_memory() {
    const GARBAGE: usize = 16 << 20;
    let (_directory, path) = port_path();
    let mut adapter = Adapter::plug(&path);
    let mut bench = Bench::start(&path, nmea());
    connected(&bench).await;
    let before = resident_bytes();

    let garbage = [b'U'; 4096];
    for _ in 0..GARBAGE / garbage.len() {
        adapter.far.write_all(&garbage).await.unwrap();
    }
    adapter.far.write_all(b"\r\n").await.unwrap();
    adapter.far.write_all(sentence("HEHDT,274.07,T").as_bytes()).await.unwrap();

    while next_heading(&mut bench).await != Some(good(274.07)) {}
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GARBAGE / 2, "{grown} bytes");
    let device = bench.handle.status().borrow().devices[0].clone();
    assert_eq!(device.bad_frames, 1, "a line that never ends is one fault");
    bench.stop().await;
}

/// The heading of the next row; `None` when it says that the tags are silent.
async fn next_heading(bench: &mut Bench) -> Option<Observed> {
    let row = bench.next_row().await;
    let silent = row.observed.iter().all(|observed| *observed == Observed::Bad(Fault::Timeout));
    (!silent).then(|| row.observed[0].clone())
}

/// Waits until the port is open: bytes that come before are not heard.
async fn connected(bench: &Bench) {
    let mut status = bench.handle.status();
    let open = timeout(TOO_LONG, status.wait_for(|link| link.connected)).await;
    open.expect("the port is opened in time").expect("a running poller");
}

/// Memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * 4096
}
