//! How long requests take, and whether a link can keep what is asked of it. Estimates: nothing is refused over them.

use std::time::Duration;

use crate::config::{Endpoint, LinkConfig, Parity, SerialSettings};
use crate::model::Name;
use crate::profile::{Pacing, Protocol};

use super::plan::{self, Block, PlanError, PlanPoint, PollPlan};

/// What a device is assumed to think before it answers on a serial line.
pub const TURNAROUND: Duration = Duration::from_millis(20);
/// What a request over TCP is assumed to take there and back, the device's thinking included.
pub const TCP_ROUND_TRIP: Duration = Duration::from_millis(5);
/// An RTU request to read: unit id, function, address, count, CRC.
const RTU_REQUEST_BYTES: u32 = 8;
/// What an RTU answer holds besides its data: unit id, function, byte count, CRC.
const RTU_ANSWER_OVERHEAD: u32 = 5;

/// Silence that ends an RTU frame: 3.5 characters, and 1.75 ms above 19,200 baud (Modbus over Serial Line 1.02,
/// 2.5.1.1).
pub fn frame_silence(serial: &SerialSettings) -> Duration {
    if serial.baud_rate > 19_200 { Duration::from_micros(1750) } else { serial.character_time() * 7 / 2 }
}

/// How long the link is occupied by reading `block`, from the silence before the request to the end of the answer.
pub fn request_time(endpoint: &Endpoint, block: &Block, pacing: Pacing) -> Duration {
    let on_the_wire = match endpoint {
        Endpoint::Tcp { .. } => TCP_ROUND_TRIP,
        Endpoint::RtuOverTcp { .. } => TCP_ROUND_TRIP + rtu_time(&behind_a_gateway(), block),
        Endpoint::Rtu(serial) | Endpoint::Text(serial) => rtu_time(serial, block),
    };
    on_the_wire + pacing.between_requests
}

/// From the end of a request to what the timeout of the link waits for: the first byte of the answer on a serial
/// port, the whole answer where a gateway stands between. `None` where nothing is known of the way.
fn awaited(endpoint: &Endpoint, block: &Block) -> Option<Duration> {
    match endpoint {
        Endpoint::Rtu(serial) => Some(TURNAROUND + serial.character_time()),
        Endpoint::RtuOverTcp { .. } => Some(TCP_ROUND_TRIP + rtu_time(&behind_a_gateway(), block)),
        Endpoint::Tcp { .. } | Endpoint::Text(_) => None,
    }
}

fn rtu_time(serial: &SerialSettings, block: &Block) -> Duration {
    let characters = RTU_REQUEST_BYTES + RTU_ANSWER_OVERHEAD + u32::from(block.data_bytes());
    serial.character_time() * characters + 2 * frame_silence(serial) + TURNAROUND
}

/// The line behind a gateway is not known here: the default of the standard is assumed (Modbus over Serial Line 1.02,
/// 2.5.1 and 3.4: 19,200 baud, even parity).
fn behind_a_gateway() -> SerialSettings {
    SerialSettings { port: "".into(), baud_rate: 19_200, parity: Parity::Even, data_bits: 8, stop_bits: 1 }
}

/// What the poll plan of a link asks of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkLoad {
    /// Requests a second, groups without pause not counted.
    pub requests_per_second: f64,
    /// Registers and bits a second, groups without pause not counted.
    pub registers_per_second: f64,
    /// Part of the time that the link is occupied, groups without pause not counted; above 1 it cannot keep up.
    pub busy: f64,
    /// One round of all groups that are polled without pause; `None` when there are none. They fill what is left.
    pub back_to_back: Option<Duration>,
    /// How long the slowest answer is waited for; `None` where that cannot be predicted.
    pub slowest_answer: Option<Duration>,
    /// The Modbus devices of the link, in its order.
    pub devices: Vec<DeviceLoad>,
}

impl LinkLoad {
    /// True when the link has time for all that is asked of it.
    pub fn fits(&self) -> bool {
        self.busy <= 1.0
    }
}

/// What the poll plan of a device asks of its link.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceLoad {
    /// Which device.
    pub device: Name,
    /// One for each interval, the shortest first.
    pub groups: Vec<GroupLoad>,
}

/// What one group of a poll plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLoad {
    /// How often; zero means again and again without pause.
    pub interval: Duration,
    /// Requests in each round.
    pub requests: usize,
    /// Registers and bits in each round.
    pub registers: u32,
    /// Predicted time of one round.
    pub round_time: Duration,
}

impl GroupLoad {
    fn of(group: &plan::PollGroup, endpoint: &Endpoint, pacing: Pacing) -> Self {
        Self {
            interval: group.interval,
            requests: group.blocks.len(),
            registers: group.blocks.iter().map(|block| u32::from(block.count)).sum(),
            round_time: group.blocks.iter().map(|block| request_time(endpoint, block, pacing)).sum(),
        }
    }
}

/// A device whose points cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{device}: {error}")]
pub struct LoadError {
    /// Which device.
    pub device: Name,
    /// Why.
    pub error: PlanError,
}

/// What the devices of `link` ask of it. Text instruments are left out: they have their link to themselves.
///
/// # Errors
///
/// [`LoadError`] for the first device whose points do not fit into requests.
pub fn load(link: &LinkConfig) -> Result<LinkLoad, LoadError> {
    let mut devices = Vec::with_capacity(link.devices.len());
    let mut slowest_answer = None;
    for device in &link.devices {
        let Protocol::Modbus(modbus) = &device.profile.protocol else { continue };
        let wanted: Vec<PlanPoint> =
            device.tags.iter().map(|tag| PlanPoint { point: tag.point, interval: tag.interval }).collect();
        let PollPlan { groups, .. } = plan::plan(&modbus.points, &wanted, modbus.limits)
            .map_err(|error| LoadError { device: device.name.clone(), error })?;
        let blocks = groups.iter().flat_map(|group| &group.blocks);
        slowest_answer = slowest_answer.max(blocks.filter_map(|block| awaited(&link.endpoint, block)).max());
        let groups = groups.iter().map(|group| GroupLoad::of(group, &link.endpoint, modbus.pacing)).collect();
        devices.push(DeviceLoad { device: device.name.clone(), groups });
    }
    Ok(LinkLoad { slowest_answer, ..sum_up(devices) })
}

fn sum_up(devices: Vec<DeviceLoad>) -> LinkLoad {
    let groups = || devices.iter().flat_map(|device| &device.groups);
    let scheduled = || groups().filter(|group| !group.interval.is_zero());
    let per_second = |amount: fn(&GroupLoad) -> f64| -> f64 {
        scheduled().map(|group| amount(group) / group.interval.as_secs_f64()).sum()
    };
    let requests_per_second = per_second(|group| group.requests as f64);
    let registers_per_second = per_second(|group| f64::from(group.registers));
    let busy = per_second(|group| group.round_time.as_secs_f64());
    let unpaused: Duration = groups().filter(|group| group.interval.is_zero()).map(|group| group.round_time).sum();
    let back_to_back = (!unpaused.is_zero()).then_some(unpaused);
    LinkLoad { requests_per_second, registers_per_second, busy, back_to_back, slowest_answer: None, devices }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::config::{DeviceConfig, TagConfig};
    use crate::model::{Scale, SeriesInfo, UnitId, ValueKind};
    use crate::profile::{Table, file};

    fn serial(baud_rate: u32, parity: Parity) -> SerialSettings {
        SerialSettings { port: "/dev/ttyUSB0".into(), baud_rate, parity, data_bits: 8, stop_bits: 1 }
    }

    fn block(table: Table, count: u16) -> Block {
        Block { table, address: 0, count, points: Vec::new() }
    }

    #[test]
    fn a_slow_line_pays_for_each_character() {
        let endpoint = Endpoint::Rtu(serial(9600, Parity::None));

        let time = request_time(&endpoint, &block(Table::InputRegisters, 80), Pacing::default());

        // 8 + 5 + 160 characters and 7 of silence, 10 bits each, and 20 ms for the device.
        let characters = 180.0 * 10.0 / 9600.0;
        assert!((time.as_secs_f64() - characters - 0.020).abs() < 1e-6, "{time:?}");
    }

    #[test]
    fn silence_is_fixed_above_19200_baud() {
        assert_eq!(frame_silence(&serial(115_200, Parity::Even)), Duration::from_micros(1750));
        assert_eq!(frame_silence(&serial(19_200, Parity::Even)).as_micros(), 2005);
    }

    #[test]
    fn bits_travel_eight_to_the_byte() {
        assert_eq!(block(Table::Coils, 9).data_bytes(), 2);
        assert_eq!(block(Table::HoldingRegisters, 9).data_bytes(), 18);
    }

    #[test]
    fn pacing_of_the_device_counts() {
        let endpoint = Endpoint::Tcp { host: "meter".into(), port: 502 };
        let pacing = Pacing { between_requests: Duration::from_millis(50), ..Pacing::default() };

        let time = request_time(&endpoint, &block(Table::InputRegisters, 80), pacing);

        assert_eq!(time, Duration::from_millis(55));
    }

    fn device(name: &str, unit: i64, interval: Duration) -> DeviceConfig {
        let profile = file::load("/nonexistent".as_ref(), "eastron-sdm630").unwrap();
        let series = SeriesInfo {
            name: String::new(),
            labels: Arc::default(),
            unit: String::new(),
            kind: ValueKind::F32,
            scale: Scale::ONE,
            states: BTreeMap::new(),
        };
        DeviceConfig {
            name: Name::new(name).unwrap(),
            unit: Some(UnitId::serial(unit).unwrap()),
            profile: Arc::new(profile),
            firmware: None,
            labels: BTreeMap::new(),
            tags: vec![
                TagConfig { point: 0, interval, series: series.clone(), forward: None },
                TagConfig { point: 1, interval, series, forward: None },
            ],
        }
    }

    #[test]
    fn a_line_asked_for_more_than_fits_says_so() {
        let mut link = LinkConfig {
            name: Name::new("hall-a").unwrap(),
            endpoint: Endpoint::Rtu(serial(9600, Parity::None)),
            timeout: Duration::from_millis(500),
            devices: vec![device("meter-1", 1, Duration::from_secs(1)), device("meter-2", 2, Duration::from_secs(1))],
        };

        let relaxed = load(&link).unwrap();
        link.devices.iter_mut().flat_map(|device| &mut device.tags).for_each(|tag| tag.interval /= 20);
        let crowded = load(&link).unwrap();
        link.devices.iter_mut().flat_map(|device| &mut device.tags).for_each(|tag| tag.interval = Duration::ZERO);
        let unpaused = load(&link).unwrap();

        assert_eq!((relaxed.requests_per_second, relaxed.registers_per_second), (2.0, 8.0));
        assert!(relaxed.fits() && !crowded.fits(), "{relaxed:?} {crowded:?}");
        assert_eq!(relaxed.back_to_back, None);
        assert_eq!(unpaused.busy, 0.0);
        assert_eq!(unpaused.back_to_back, Some(relaxed.devices.iter().map(|device| device.groups[0].round_time).sum()));
    }
}
