//! A device made of what a golden file records, served by the simulator and read by a poller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lineside::clock::SystemClock;
use lineside::config::{Accepted, DeviceConfig, Endpoint, LinkConfig, TagConfig};
use lineside::model::{Name, SeriesId, UnitId};
use lineside::poll::Poller;
use lineside::profile::{Profile, Protocol, Table};
use lineside::simulator::{Device, Framing, Keep, Servers};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Dump, show, table_name};

/// Polled so rarely that nothing but the read of this test goes out.
const NEVER: Duration = Duration::from_secs(3600);

/// What a poller reads of the device in `dump`, by name, and the map that it chose.
pub async fn read(profile: &Arc<Profile>, dump: &Dump) -> (BTreeMap<String, String>, Option<String>) {
    let Protocol::Modbus(modbus) = &profile.protocol else { panic!("speaks Modbus") };
    let mut servers = Servers::default();
    let device = device(dump, profile);
    let endpoint = servers.tcp(Framing::Tcp, vec![device], Keep::Counters).await.unwrap();
    let address = endpoint.address();
    let name = Name::new("device").unwrap();
    let tag = |point| TagConfig { point, interval: NEVER, series: profile.series(point).into(), forward: None };
    let tags: Vec<TagConfig> = (0..modbus.points.len()).map(tag).collect();
    let ids = (0..u32::try_from(tags.len()).unwrap()).map(SeriesId).collect();
    let firmware = dump.configured.as_deref().map(|written| modbus.identification.scheme.parse(written).unwrap());
    let device = DeviceConfig {
        name: name.clone(),
        unit: Some(UnitId::tcp(1).unwrap()),
        profile: Arc::clone(profile),
        firmware,
        labels: BTreeMap::new(),
        tags,
    };
    let link = LinkConfig {
        name: Name::new("link").unwrap(),
        endpoint: Endpoint::Tcp { host: address.ip().to_string(), port: address.port() },
        timeout: Duration::from_secs(5),
        timeout_min: Duration::from_secs(5),
        accepted: Accepted::default(),
        devices: vec![device],
    };
    // The one round that falls due at the start is not waited for.
    let (cycles, _unheard) = mpsc::channel(4);
    let (poller, handle) = Poller::new(link, vec![ids], Arc::new(SystemClock::new(true)), cycles).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(poller.run(stop.clone()));

    let rows = handle.read_device(&name).await.unwrap();

    stop.cancel();
    let mut status = handle.status();
    task.await.unwrap();
    let mut read = BTreeMap::new();
    for (series, observed) in rows.iter().flat_map(|row| row.series.iter().zip(&row.observed)) {
        let point = &modbus.points[usize::try_from(series.0).unwrap()];
        read.insert(point.name.clone(), show(point, observed));
    }
    let map = status.borrow_and_update().devices[0].identity.as_ref().and_then(|identity| identity.map.clone());
    (read, map)
}

fn device(dump: &Dump, profile: &Profile) -> Device {
    let Protocol::Modbus(modbus) = &profile.protocol else { panic!("speaks Modbus") };
    let tables = [Table::Coils, Table::DiscreteInputs, Table::HoldingRegisters, Table::InputRegisters];
    let table = |name| tables.into_iter().find(|table| table_name(*table) == name).unwrap();
    let mut device = Device::of_registers(1, []);
    for point in &modbus.points {
        if let Some(whole) = point.read_whole {
            device.write(point.table, whole.address, &vec![0; usize::from(whole.count)]);
        }
    }
    for ((name, address), word) in &dump.registers {
        device.write(table(*name), *address, &[*word]);
    }
    let objects = dump.objects.iter().map(|(number, text)| (*number, text.as_str()));
    device.limited(modbus.limits).identified(objects)
}
