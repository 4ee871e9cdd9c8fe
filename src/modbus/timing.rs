//! How long requests take, and whether a link can keep what is asked of it. Estimates: nothing is refused over them.

use std::time::Duration;

use crate::config::{DeviceConfig, Endpoint, LinkConfig, Parity, SerialSettings};
use crate::model::Name;
use crate::profile::{ModbusProfile, Pacing, Protocol, Table};

use super::error::PollError;
use super::identify::{Ask, Inquiry};
use super::lessons::Lessons;
use super::plan::{self, Block, NO_LESSONS, PlanError, PlanPoint, PollPlan, ReadCost, Terms};

/// What a device is assumed to think before it answers on a serial line.
pub const TURNAROUND: Duration = Duration::from_millis(20);
/// What a request over TCP is assumed to take there and back, the device's thinking included.
pub const TCP_ROUND_TRIP: Duration = Duration::from_millis(5);
/// What one register more costs over TCP: next to nothing, but not less than nothing.
const TCP_REGISTER: Duration = Duration::from_micros(1);
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
/// `turnaround`, when it was measured, is from the end of a request to the first byte of its answer.
pub fn request_time(endpoint: &Endpoint, block: &Block, pacing: Pacing, turnaround: Option<Duration>) -> Duration {
    let on_the_wire = match (endpoint, turnaround) {
        (Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. }, Some(measured)) => measured,
        (Endpoint::Tcp { .. }, None) => TCP_ROUND_TRIP,
        (Endpoint::RtuOverTcp { .. }, None) => TCP_ROUND_TRIP + rtu_time(&behind_a_gateway(), block, TURNAROUND),
        (Endpoint::Rtu(serial) | Endpoint::Text(serial), measured) => {
            rtu_time(serial, block, measured.unwrap_or(TURNAROUND))
        }
    };
    on_the_wire + pacing.between_requests
}

/// What is needed at most to find out who a device is, after each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentificationLoad {
    /// Requests.
    pub requests: usize,
    /// Predicted time.
    pub time: Duration,
}

/// Registers that an answer with identification objects is as long as: three short texts.
const OBJECTS_REGISTERS: u16 = 30;

/// The identification of a device that refuses every question: no other takes more.
fn identification(endpoint: &Endpoint, modbus: &ModbusProfile) -> Option<IdentificationLoad> {
    let mut inquiry = Inquiry::new(&modbus.identification, None);
    let (mut requests, mut time) = (0, Duration::ZERO);
    while let Some(ask) = inquiry.next() {
        let (table, count) = match ask {
            Ask::Registers { table, count, .. } => (table, count),
            Ask::Objects { .. } => (Table::HoldingRegisters, OBJECTS_REGISTERS),
        };
        let block = Block { table, address: 0, count, points: Vec::new() };
        requests += 1;
        time += request_time(endpoint, &block, modbus.pacing, None);
        inquiry.take(ask, Err(&PollError::Exception(2)));
    }
    (requests > 0).then_some(IdentificationLoad { requests, time })
}

/// What reading costs a link, for the planner.
pub fn read_cost(endpoint: &Endpoint, pacing: Pacing) -> ReadCost {
    let empty = Block { table: Table::HoldingRegisters, address: 0, count: 0, points: Vec::new() };
    let register = match endpoint {
        Endpoint::Tcp { .. } => TCP_REGISTER,
        Endpoint::RtuOverTcp { .. } => 2 * behind_a_gateway().character_time(),
        Endpoint::Rtu(serial) | Endpoint::Text(serial) => 2 * serial.character_time(),
    };
    ReadCost { request: request_time(endpoint, &empty, pacing, None), register }
}

/// From the end of a request to what the timeout of the link waits for: the first byte of the answer on a serial
/// port, the whole answer where a gateway stands between. `None` where nothing is known of the way.
fn awaited(endpoint: &Endpoint, block: &Block) -> Option<Duration> {
    match endpoint {
        Endpoint::Rtu(serial) => Some(TURNAROUND + serial.character_time()),
        Endpoint::RtuOverTcp { .. } => Some(TCP_ROUND_TRIP + rtu_time(&behind_a_gateway(), block, TURNAROUND)),
        Endpoint::Tcp { .. } | Endpoint::Text(_) => None,
    }
}

fn rtu_time(serial: &SerialSettings, block: &Block, turnaround: Duration) -> Duration {
    let characters = RTU_REQUEST_BYTES + RTU_ANSWER_OVERHEAD + u32::from(block.data_bytes());
    serial.character_time() * characters + 2 * frame_silence(serial) + turnaround
}

/// The line behind a gateway is not known here: the default of the standard is assumed (Modbus over Serial Line 1.02,
/// 2.5.1 and 3.4: 19,200 baud, even parity).
fn behind_a_gateway() -> SerialSettings {
    SerialSettings {
        port: "".into(),
        baud_rate: 19_200,
        parity: Parity::Even,
        data_bits: 8,
        stop_bits: 1,
        rs485: false,
    }
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
    /// What it takes to find out who it is; `None` when nothing is asked.
    pub identification: Option<IdentificationLoad>,
}

impl GroupLoad {
    /// Part of the time of the link that it takes; zero when it is polled without pause.
    pub fn share(&self) -> f64 {
        if self.interval.is_zero() { 0.0 } else { self.round_time.as_secs_f64() / self.interval.as_secs_f64() }
    }
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
    fn of(group: &plan::PollGroup, endpoint: &Endpoint, pacing: Pacing, turnaround: Option<Duration>) -> Self {
        Self {
            interval: group.interval,
            requests: group.blocks.len(),
            registers: group.blocks.iter().map(|block| u32::from(block.count)).sum(),
            round_time: group.blocks.iter().map(|block| request_time(endpoint, block, pacing, turnaround)).sum(),
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
    load_with(link, |_| None)
}

/// The same, with what is known of devices: what they refuse, and how fast they answer.
///
/// # Errors
///
/// As [`load`].
pub fn load_with<'k>(
    link: &LinkConfig,
    known: impl Fn(&DeviceConfig) -> Option<(&'k Lessons, Option<Duration>)>,
) -> Result<LinkLoad, LoadError> {
    let mut devices = Vec::with_capacity(link.devices.len());
    let mut slowest_answer = None;
    for device in &link.devices {
        let Protocol::Modbus(modbus) = &device.profile.protocol else { continue };
        let wanted: Vec<PlanPoint> =
            device.tags.iter().map(|tag| PlanPoint { point: tag.point, interval: tag.interval }).collect();
        let cost = read_cost(&link.endpoint, modbus.pacing);
        let (lessons, turnaround) = known(device).unwrap_or((&NO_LESSONS, None));
        let terms = Terms { limits: modbus.limits, cost, lessons };
        let PollPlan { groups, .. } = plan::plan(&modbus.points, &wanted, &terms)
            .map_err(|error| LoadError { device: device.name.clone(), error })?;
        let blocks = groups.iter().flat_map(|group| &group.blocks);
        slowest_answer = slowest_answer.max(blocks.filter_map(|block| awaited(&link.endpoint, block)).max());
        let group_load = |group| GroupLoad::of(group, &link.endpoint, modbus.pacing, turnaround);
        let groups = groups.iter().map(group_load).collect();
        let identification = identification(&link.endpoint, modbus);
        devices.push(DeviceLoad { device: device.name.clone(), groups, identification });
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
    let busy = groups().map(GroupLoad::share).sum();
    let unpaused: Duration = groups().filter(|group| group.interval.is_zero()).map(|group| group.round_time).sum();
    let back_to_back = (!unpaused.is_zero()).then_some(unpaused);
    LinkLoad { requests_per_second, registers_per_second, busy, back_to_back, slowest_answer: None, devices }
}

/// A group that a link has no time for, and the interval at which it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relief {
    /// Index of the device among those of the load.
    pub device: usize,
    /// Its interval.
    pub interval: Duration,
    /// What would fit, together with that of all others.
    pub fits: Duration,
}

/// What a link can be filled with and still repeat a request now and then.
const FULL: f64 = 0.9;
/// Longer than this many times its own is no interval to propose: others have to give way, too.
const STRETCH_MOST: f64 = 10.0;

/// What does not fit on a link, the greatest first, and what would: as few groups as possible, all stretched by the same
/// factor. Empty when all fits.
pub fn relief(load: &LinkLoad) -> Vec<Relief> {
    let mut groups: Vec<(usize, &GroupLoad)> = load
        .devices
        .iter()
        .enumerate()
        .flat_map(|(device, load)| load.groups.iter().map(move |group| (device, group)))
        .collect();
    groups.retain(|(_, group)| !group.interval.is_zero());
    groups.sort_by(|(_, one), (_, other)| other.share().total_cmp(&one.share()));
    if load.fits() {
        return Vec::new();
    }
    let mut rest: f64 = groups.iter().map(|(_, group)| group.share()).sum();
    let mut taken = 0.0;
    for (index, (_, group)) in groups.iter().enumerate() {
        taken += group.share();
        rest -= group.share();
        let factor = taken / (FULL - rest);
        if rest < FULL && factor <= STRETCH_MOST || index + 1 == groups.len() {
            let relief = |(device, group): &(usize, &GroupLoad)| Relief {
                device: *device,
                interval: group.interval,
                fits: rounded_up(group.interval.mul_f64(factor.max(1.0))),
            };
            return groups[..=index].iter().map(relief).collect();
        }
    }
    Vec::new()
}

/// To two digits, so that it can be written down.
fn rounded_up(span: Duration) -> Duration {
    let ms = span.as_micros().div_ceil(1000).max(1);
    let unit = 10_u128.pow(ms.ilog10().saturating_sub(1));
    Duration::from_millis(u64::try_from(ms.div_ceil(unit) * unit).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::config::{Accepted, DeviceConfig, TagConfig};
    use crate::model::{Scale, SeriesInfo, UnitId, ValueKind};
    use crate::profile::file;

    fn serial(baud_rate: u32, parity: Parity) -> SerialSettings {
        SerialSettings { port: "/dev/ttyUSB0".into(), baud_rate, parity, data_bits: 8, stop_bits: 1, rs485: false }
    }

    fn block(table: Table, count: u16) -> Block {
        Block { table, address: 0, count, points: Vec::new() }
    }

    #[test]
    fn a_slow_line_pays_for_each_character() {
        let endpoint = Endpoint::Rtu(serial(9600, Parity::None));

        let time = request_time(&endpoint, &block(Table::InputRegisters, 80), Pacing::default(), None);

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

        let time = request_time(&endpoint, &block(Table::InputRegisters, 80), pacing, None);

        assert_eq!(time, Duration::from_millis(55));
    }

    fn device(name: &str, unit: i64, interval: Duration) -> DeviceConfig {
        let profile = file::load("/nonexistent".as_ref(), "eastron-sdm630").unwrap();
        let series = Arc::new(SeriesInfo {
            name: String::new(),
            labels: Arc::default(),
            unit: String::new(),
            kind: ValueKind::F32,
            scale: Scale::ONE,
            states: BTreeMap::new(),
        });
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
            timeout_min: Duration::from_millis(500),
            accepted: Accepted::default(),
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
    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        let devices = vec![device("slow", 1, Duration::from_secs(10)), device("fast", 2, Duration::from_millis(30))];
        let endpoint = Endpoint::Rtu(serial(9600, Parity::None));
        let timeout = Duration::from_millis(500);
        let name = Name::new("hall-a").unwrap();
        let mut link =
            LinkConfig { name, endpoint, timeout, timeout_min: timeout, accepted: Accepted::default(), devices };

        let found = relief(&load(&link).unwrap());

        let [Relief { device: 1, interval, fits }] = found[..] else { panic!("{found:?}") };
        assert_eq!(interval, Duration::from_millis(30));
        link.devices[1].tags.iter_mut().for_each(|tag| tag.interval = fits);
        let relieved = load(&link).unwrap();
        assert!(relieved.busy > 0.8 && relieved.busy <= 0.9, "{relieved:?}");
        assert!(relief(&relieved).is_empty());
    }

    #[test]
    fn a_shorter_turnaround_that_was_measured_shortens_the_prediction() {
        let endpoint = Endpoint::Rtu(serial(9600, Parity::None));
        let time =
            |turnaround| request_time(&endpoint, &block(Table::InputRegisters, 2), Pacing::default(), turnaround);

        assert_eq!(time(None) - time(Some(Duration::from_millis(5))), Duration::from_millis(15));
    }

    #[test]
    fn reads_that_identify_a_device_are_counted() {
        let mut of_abb = device("meter", 1, Duration::from_secs(1));
        of_abb.profile = Arc::new(file::load("/nonexistent".as_ref(), "abb-b23").unwrap());
        let Protocol::Modbus(modbus) = &of_abb.profile.protocol else { unreachable!() };

        let found = identification(&Endpoint::Rtu(serial(9600, Parity::None)), modbus).unwrap();

        assert!(found.requests >= 1 && found.time > Duration::from_millis(40), "{found:?}");
    }
}
