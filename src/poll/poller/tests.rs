//! Late answers by the ten thousand, in memory and under paused time, with back-off switched off.

mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::config::{Accepted, Parity, SerialSettings, TagConfig};
use crate::modbus::Client;
use crate::modbus::frame::crc16;
use crate::model::{BootId, ClockState, Observed, Scale, SeriesInfo, Timestamp, UnitId, Value, ValueKind};
use crate::profile::file;

const TIMEOUT: Duration = Duration::from_millis(50);
/// So many answers come too late.
const LATE: u64 = 10_000;
/// Registers, far enough apart that each is a request of its own.
const ADDRESSES: [u16; 4] = [10, 200, 400, 600];

/// The clock of the runtime, which stands still while there is something to do.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn state(&self) -> ClockState {
        ClockState::Local
    }

    fn boot(&self) -> BootId {
        BootId([0; 16])
    }
}

/// A device of four tags that share one shape of answer: any of them could be taken for any other.
fn device() -> DeviceConfig {
    let points: String = ADDRESSES.iter().map(|at| format!("  {{ name = \"p{at}\", address = {at} }},\n")).collect();
    let text = format!(
        "manufacturer = \"Acme\"\nmodel = \"late\"\nmodbus = {{ table = \"holding\", encoding = \"u16\" }}\n\
         point = [\n{points}]\n"
    );
    let profile = Arc::new(file::parse("late.toml", "late", &text).unwrap());
    let tag = |point: usize| TagConfig {
        point,
        // Each in a group of its own, so that whatever follows a late answer asks for something else.
        interval: Duration::from_millis(97 + 10 * point as u64),
        series: Arc::new(SeriesInfo {
            name: format!("p{point}"),
            labels: Arc::default(),
            unit: String::new(),
            kind: ValueKind::Int,
            scale: Scale::ONE,
            states: BTreeMap::new(),
        }),
        forward: None,
    };
    DeviceConfig {
        name: Name::new("late").unwrap(),
        unit: Some(UnitId::serial(7).unwrap()),
        profile,
        firmware: None,
        labels: BTreeMap::new(),
        tags: (0..ADDRESSES.len()).map(tag).collect(),
    }
}

/// What the register at an address holds.
fn truth(address: u16) -> u16 {
    1000 + address
}

/// Answers truthfully; two of three times when the client has stopped waiting, up to nearly twice its timeout.
async fn answer_late(mut line: DuplexStream, is_tcp: bool, late: Arc<AtomicU64>) {
    let mut number = 0_u64;
    let length = if is_tcp { 12 } else { 8 };
    let mut request = [0; 12];
    while line.read_exact(&mut request[..length]).await.is_ok() {
        number += 1;
        let body = if is_tcp { &request[6..12] } else { &request[..6] };
        let address = u16::from_be_bytes([body[2], body[3]]);
        let [high, low] = truth(address).to_be_bytes();
        let answer = [body[0], 3, 2, high, low];
        let frame = match is_tcp {
            true => [&request[..5], &[5][..], &answer].concat(),
            false => [&answer[..], &crc16(&answer).to_le_bytes()].concat(),
        };
        if !number.is_multiple_of(3) {
            late.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(TIMEOUT + TIMEOUT * (1 + (number % 9) as u32) / 10).await;
        }
        if line.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn polls_a_late_device(endpoint: Endpoint) {
    let is_tcp = matches!(endpoint, Endpoint::Tcp { .. });
    let (near, far) = tokio::io::duplex(4096);
    let late = Arc::new(AtomicU64::new(0));
    tokio::spawn(answer_late(far, is_tcp, Arc::clone(&late)));
    let client = Client::in_memory(near, &endpoint, TIMEOUT);
    let name = Name::new("hall").unwrap();
    let link = LinkConfig {
        name,
        endpoint,
        timeout: TIMEOUT,
        timeout_min: TIMEOUT,
        accepted: Accepted::default(),
        devices: vec![device()],
    };
    let series = vec![(0..4).map(SeriesId).collect()];
    let (sender, mut cycles) = mpsc::channel(64);
    let clock = Arc::new(RuntimeClock(Instant::now()));
    let (mut poller, handle) = Poller::new(link, series, clock, sender).unwrap();
    poller.connection.set(client);
    poller.devices[0].health = Health::without_back_off();
    let stop = CancellationToken::new();
    let running = tokio::spawn(poller.run(stop.clone()));

    let (mut good, mut bad) = (0_u64, 0_u64);
    while late.load(Ordering::Relaxed) < LATE {
        let cycle = cycles.recv().await.expect("the poller runs");
        for row in cycle.rows {
            for (series, observed) in row.series.iter().zip(&row.observed) {
                match observed {
                    Observed::Good(value) => {
                        let expected = truth(ADDRESSES[series.0 as usize]);
                        assert_eq!(*value, Value::Int(expected.into()), "a value under the wrong point");
                        good += 1;
                    }
                    Observed::Uncertain(..) => panic!("{observed:?}"),
                    Observed::Bad(_) => bad += 1,
                }
            }
        }
    }

    let status = handle.status().borrow().clone();
    println!("{LATE} late answers: {good} good readings, {bad} bad, {} dropped late", status.devices[0].stale_dropped);
    assert!(good > LATE / 4 && bad > LATE / 2, "{good} good, {bad} bad");
    assert!(status.devices[0].stale_dropped > LATE / 2, "{status:?}");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_late_answers_on_a_line_store_nothing_under_the_wrong_point() {
    let (port, parity) = ("memory".into(), Parity::None);
    polls_a_late_device(Endpoint::Rtu(SerialSettings {
        port,
        baud_rate: 9600,
        parity,
        data_bits: 8,
        stop_bits: 1,
        rs485: false,
    }))
    .await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_late_answers_over_tcp_store_nothing_under_the_wrong_point() {
    polls_a_late_device(Endpoint::Tcp { host: "memory".to_owned(), port: 502 }).await;
}
