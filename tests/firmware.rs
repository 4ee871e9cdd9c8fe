//! A device that is another than it was: its firmware was changed while the agent polls it, or it was swapped.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lineside::clock::SystemClock;
use lineside::config::{Accepted, DeviceConfig, Endpoint as LinkEndpoint, LinkConfig, TagConfig};
use lineside::model::{Name, Observed, SeriesId, UnitId, Value};
use lineside::poll::status::IdentityState;
use lineside::poll::{LinkHandle, PollCycle, Poller};
use lineside::profile::{Profile, Table, file};
use lineside::simulator::{Device, Endpoint, Framing, Keep, Servers};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const METER: &str = r#"
manufacturer = "Test"
model = "Meter"
modbus = { table = "holding", encoding = "u16" }
point = [
  { name = "power_w", address = 10, encoding = "i32", unit = "W" },
  { name = "energy_wh", address = 12, encoding = "u32", unit = "Wh" },
  { name = "old_w", address = 14, unit = "W" },
]
[identification]
base = "1.0..2.0"
model = [{ name = "Meter", object = "product", starts = "meter" }, { name = "Meter", address = 0, number = 77 }]
version = [{ object = "revision" }, { address = 1 }]
scheme = "dotted"
[[variant]]
versions = "2.0..3.0"
shift = [{ table = "holding", first = 10, last = 13, by = 1 }]
change = [{ name = "energy_wh", address = 13, scale = 0.1, word_order = "low-first" }]
remove = ["old_w"]
point = [{ name = "new_w", address = 20, unit = "W" }]
"#;

/// What the registers of a firmware say: 1,234 W and 70,000 Wh.
fn meter(version: &str) -> Device {
    let old: [(Table, u16, &[u16]); 2] =
        [(Table::HoldingRegisters, 0, &[77]), (Table::HoldingRegisters, 10, &[0, 1234, 1, 4464, 5, 0, 0, 0, 0, 0, 0])];
    let new: [(Table, u16, &[u16]); 2] = [
        (Table::HoldingRegisters, 0, &[77]),
        (Table::HoldingRegisters, 10, &[9, 0, 1234, 44640, 10, 0, 0, 0, 0, 0, 6]),
    ];
    let registers = if version.starts_with('1') { old } else { new };
    Device::of_registers(1, registers).identified([(0, "Test"), (1, "Meter 3000"), (2, version)])
}

struct Running {
    endpoint: Endpoint,
    handle: LinkHandle,
    cycles: mpsc::Receiver<PollCycle>,
    alarms: Vec<String>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _servers: Servers,
}

impl Running {
    async fn polling(profile: &str, device: Device) -> Self {
        let profile: Arc<Profile> = Arc::new(file::parse("test", "test", profile).unwrap());
        let mut servers = Servers::default();
        let endpoint = servers.tcp(Framing::Tcp, vec![device], Keep::Answers).await.unwrap();
        let address = endpoint.address();
        let tags = (0..profile.tag_names().len()).map(|point| TagConfig {
            point,
            interval: Duration::from_millis(50),
            series: profile.series(point).into(),
            forward: Default::default(),
        });
        let device = DeviceConfig {
            name: Name::new("meter").unwrap(),
            unit: Some(UnitId::tcp(1).unwrap()),
            profile: Arc::clone(&profile),
            firmware: None,
            labels: BTreeMap::new(),
            tags: tags.collect(),
        };
        let ids = (0..u32::try_from(device.tags.len()).unwrap()).map(SeriesId).collect();
        let link = LinkConfig {
            name: Name::new("hall").unwrap(),
            endpoint: LinkEndpoint::Tcp { host: address.ip().to_string(), port: address.port() },
            timeout: Duration::from_millis(500),
            timeout_min: Duration::from_millis(500),
            accepted: Accepted::default(),
            devices: vec![device],
        };
        let (sender, cycles) = mpsc::channel(8);
        let (poller, handle) = Poller::new(link, vec![ids], Arc::new(SystemClock::new(true)), sender).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(poller.run(stop.clone()));
        Self { endpoint, handle, cycles, alarms: Vec::new(), stop, task, _servers: servers }
    }

    /// The next reading of each tag, until all of `tags` were seen.
    async fn next(&mut self, tags: &[u32]) -> BTreeMap<u32, Observed> {
        let mut seen = BTreeMap::new();
        while !tags.iter().all(|tag| seen.contains_key(tag)) {
            let cycle = tokio::time::timeout(Duration::from_secs(20), self.cycles.recv()).await.unwrap().unwrap();
            self.alarms.extend(cycle.alarms.iter().map(|alarm| format!("{} {:?}", alarm.name, alarm.transition)));
            for row in cycle.rows {
                for (series, observed) in row.series.iter().zip(row.observed) {
                    seen.entry(series.0).or_insert(observed);
                }
            }
        }
        seen
    }

    async fn state(&mut self) -> IdentityState {
        let mut status = self.handle.status();
        let known = status.wait_for(|status| status.devices[0].identity.is_some()).await.unwrap();
        known.devices[0].identity.clone().unwrap().state
    }

    async fn end(self) {
        self.stop.cancel();
        drop(self.cycles);
        self.task.await.unwrap();
    }
}

/// The engineering value of each tag, or why there is none.
fn shown(readings: &BTreeMap<u32, Observed>) -> Vec<String> {
    let show = |observed: &Observed| match observed {
        Observed::Good(Value::F64(number)) => format!("{number} Wh"),
        Observed::Good(value) => value.number().unwrap().to_string(),
        Observed::Uncertain(value, doubt) => format!("{} ({doubt})", value.number().unwrap()),
        Observed::Bad(fault) => fault.to_string(),
    };
    readings.values().map(show).collect()
}

#[tokio::test]
async fn the_first_value_after_a_change_of_firmware_is_right_by_the_new_map() {
    let mut running = Running::polling(METER, meter("1.9.9")).await;
    let before = running.next(&[0, 1, 2, 3]).await;

    running.endpoint.replace(meter("2.0")).await.unwrap();
    // Until the agent has noticed, polls say that there is no answer, or came before.
    let mut after = running.next(&[0, 1]).await;
    while !matches!(after.get(&3), Some(Observed::Good(_))) {
        assert!(matches!(after[&0], Observed::Bad(_)) || shown(&after)[0] == "1234", "{after:?}");
        after = running.next(&[0, 1]).await;
    }

    assert_eq!(shown(&before), ["1234", "70000 Wh", "5", "not in this firmware"]);
    assert_eq!(shown(&after)[..2], ["1234", "70000 Wh"]);
    assert_eq!(shown(&after)[shown(&after).len() - 1], "6");
    assert!(running.alarms.iter().all(|alarm| alarm.starts_with("DeviceSilent")), "{:?}", running.alarms);
    running.end().await;
}

#[tokio::test]
async fn every_reading_around_a_change_of_firmware_is_right_or_says_that_it_is_not() {
    let mut running = Running::polling(METER, meter("1.0")).await;
    running.next(&[0, 1]).await;

    let mut wrong = Vec::new();
    for version in ["2.5", "1.5", "2.0", "1.9"] {
        running.endpoint.replace(meter(version)).await.unwrap();
        for _ in 0..5 {
            let readings = running.next(&[0, 1]).await;
            let is_right = |observed: Option<&Observed>, expected: f64| match observed {
                Some(Observed::Good(value)) => value.number() == Some(expected),
                Some(Observed::Uncertain(..) | Observed::Bad(_)) | None => true,
            };
            if !is_right(readings.get(&0), 1234.0) || !is_right(readings.get(&1), 70000.0) {
                wrong.push(shown(&readings));
            }
        }
    }

    assert!(wrong.is_empty(), "{wrong:?}");
    running.end().await;
}

#[tokio::test]
async fn a_firmware_that_is_not_known_gets_the_nearest_older_map_and_an_alarm() {
    let mut running = Running::polling(METER, meter("3.1")).await;

    let readings = running.next(&[0, 1, 2, 3]).await;

    assert_eq!(shown(&readings)[..2], ["1234 (unknown firmware)", "70000 (unknown firmware)"]);
    assert_eq!(running.alarms, ["FirmwareUnknown Raised"]);
    assert_eq!(running.state().await, IdentityState::UnknownFirmware);
    let allows_writes = running.handle.status().borrow().devices[0].identity.as_ref().unwrap().allows_writes();
    assert!(!allows_writes);

    running.endpoint.replace(meter("2.9")).await.unwrap();
    let mut known = running.next(&[0]).await;
    while !matches!(known.get(&0), Some(Observed::Good(_))) {
        known = running.next(&[0]).await;
    }
    assert_eq!(running.alarms, ["FirmwareUnknown Raised", "FirmwareUnknown Cleared"]);
    running.end().await;
}

#[tokio::test]
async fn another_device_gives_bad_readings_until_the_right_one_is_back() {
    let holding = Table::HoldingRegisters;
    let other: [(Table, u16, &[u16]); 2] = [(holding, 0, &[12, 1]), (holding, 10, &[0, 1234, 1, 4464, 5])];
    let mut running = Running::polling(METER, Device::of_registers(1, other)).await;

    let wrong = running.next(&[0, 1]).await;
    assert_eq!(shown(&wrong)[..2], ["wrong device", "wrong device"]);
    assert_eq!(running.alarms, ["WrongDevice Raised"]);

    // Exchanged without anybody noticing: no connection is lost.
    running.endpoint.write(1, holding, 0, &[77]).await.unwrap();
    let mut right = running.next(&[0]).await;
    while !matches!(right.get(&0), Some(Observed::Good(_))) {
        right = running.next(&[0]).await;
    }
    assert_eq!(running.alarms, ["WrongDevice Raised", "WrongDevice Cleared"]);
    running.end().await;
}

#[tokio::test]
async fn a_device_that_says_nothing_about_itself_is_polled_with_doubt() {
    let mute = METER
        .replace(r#"{ name = "Meter", object = "product", starts = "meter" }, "#, "")
        .replace(r#"{ object = "revision" }, { address = 1 }"#, r#"{ address = 500 }"#)
        .replace("address = 0, number = 77", "address = 500, number = 77");
    let mut running = Running::polling(&mute, meter("1.0")).await;

    let readings = running.next(&[0]).await;

    assert_eq!(shown(&readings)[0], "1234 (unknown firmware)");
    assert_eq!(running.alarms, ["FirmwareUnknown Raised"]);
    running.end().await;
}
