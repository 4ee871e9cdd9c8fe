//! The plant of the demonstration: a hall on Modbus TCP, a hall on a serial line, a scale and a weather sensor.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::courses::courses;
use super::device::Device;
use super::fault::Outage;
use super::line::{LineFormat, Pace};
use super::nmea::WeatherSensor;
use super::scale::WeighingScale;
use super::server::{Endpoint, Keep, Place, Servers};
use super::text::{Instrument, TextPort};
use super::wire::Framing;
use super::{Quantity, SimulatorError};
use crate::config::{Parity, SerialSettings};
use crate::model::ValueKind;
use crate::profile::{Profile, Protocol, file};

/// Meters renew their registers about five times a second.
const RENEWAL: Duration = Duration::from_millis(200);
/// What a meter takes to answer.
const ANSWER_DELAY: Duration = Duration::from_millis(3);

/// Devices of the hall on Modbus TCP; their place in the list is their unit id.
const TCP_DEVICES: [(&str, &str); 8] = [
    ("main-meter", "siemens-pac3200"),
    ("press-1", "eastron-sdm630"),
    ("press-2", "eastron-sdm630"),
    ("oven", "carlogavazzi-em340"),
    ("compressor", "schneider-iem3155"),
    ("lighting", "abb-b23"),
    ("press-1-motor", "banner-qm42vt2"),
    ("fan-motor", "banner-qm42vt2"),
];
/// The device that dies and returns.
const MORTAL: &str = "press-2";
/// Devices on the serial line.
const RTU_DEVICES: [(&str, &str); 3] =
    [("pump", "carlogavazzi-em340"), ("mixer", "eastron-sdm630"), ("mixer-motor", "banner-qm42vt2")];

/// What plant to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantSpec {
    /// The same seed gives the same values.
    pub seed: u64,
    /// When one device of the TCP link is dead.
    pub outages: Vec<Outage>,
    /// Searched for profiles before those that are compiled in.
    pub profiles: PathBuf,
    /// Whether answers are remembered.
    pub keep: Keep,
}

/// The plant of the demonstration: one device dead from the sixth to the fourteenth second, all answers remembered.
impl Default for PlantSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            outages: vec![Outage { from: Duration::from_secs(6), until: Duration::from_secs(14) }],
            profiles: PathBuf::from("firmware-profiles"),
            keep: Keep::Answers,
        }
    }
}

/// A running plant. It ends when this is dropped.
#[derive(Debug)]
pub struct Plant {
    servers: Servers,
    tcp: Endpoint,
    rtu: Endpoint,
    scale: TextPort,
    weather: TextPort,
    devices: Vec<PlantDevice>,
}

/// One Modbus device of the plant.
#[derive(Debug, Clone)]
pub struct PlantDevice {
    /// Name in the configuration.
    pub name: &'static str,
    /// Link it is on.
    pub link: PlantLink,
    /// Who it answers as.
    pub unit: u8,
    /// What it is.
    pub profile: Arc<Profile>,
}

/// The two Modbus links of the plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantLink {
    /// Modbus TCP.
    HallA,
    /// The serial line.
    HallB,
}

impl PlantLink {
    /// Name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::HallA => "hall-a",
            Self::HallB => "hall-b",
        }
    }
}

impl Plant {
    /// Starts all servers of the plant.
    pub async fn start(spec: PlantSpec) -> Result<Self, SimulatorError> {
        let mut devices = Vec::new();
        for (link, list) in [(PlantLink::HallA, &TCP_DEVICES[..]), (PlantLink::HallB, &RTU_DEVICES[..])] {
            for ((name, profile), unit) in list.iter().zip(1..) {
                let profile = Arc::new(load(&spec.profiles, profile)?);
                devices.push(PlantDevice { name, link, unit, profile });
            }
        }
        let simulated = |link| {
            let on_link = devices.iter().zip(spec.seed..).filter(|(device, _)| device.link == link);
            on_link.map(|(device, seed)| simulate(device, &spec, seed)).collect::<Result<Vec<_>, _>>()
        };
        let mut servers = Servers::default();
        let tcp = servers.tcp(Framing::Tcp, simulated(PlantLink::HallA)?, spec.keep).await?;
        let rtu_format = LineFormat::modbus(19_200, Pace::Real);
        let rtu = servers.rtu(rtu_format, simulated(PlantLink::HallB)?, spec.keep)?;
        let scale = Instrument::Scale(WeighingScale::new(spec.seed));
        let scale = servers.text(LineFormat::plain(9600, Pace::Real), scale)?;
        let weather = Instrument::Weather(WeatherSensor::new(Duration::from_secs(1), spec.seed));
        let weather = servers.text(LineFormat::plain(4800, Pace::Real), weather)?;
        Ok(Self { servers, tcp, rtu, scale, weather, devices })
    }

    /// The endpoint of a Modbus link.
    pub fn endpoint(&self, link: PlantLink) -> &Endpoint {
        match link {
            PlantLink::HallA => &self.tcp,
            PlantLink::HallB => &self.rtu,
        }
    }

    /// The weighing scale; device `scale` of the configuration.
    pub fn scale(&self) -> &TextPort {
        &self.scale
    }

    /// The weather sensor; device `roof` of the configuration.
    pub fn weather(&self) -> &TextPort {
        &self.weather
    }

    /// All Modbus devices.
    pub fn devices(&self) -> &[PlantDevice] {
        &self.devices
    }

    /// Ends all servers and waits until their ports are closed.
    pub async fn stop(self) {
        self.servers.stop().await;
    }

    /// A configuration for an agent that reads this plant.
    pub fn configuration(&self, store: &Path, mqtt_url: &str) -> String {
        let mut text = format!(
            "[gateway]\nsite = \"demo\"\nid = \"gw-01\"\n\n[store]\npath = {store:?}\n\n[mqtt]\nurl = {mqtt_url:?}\n\
             batch = {{ max_age = \"2s\" }}\n"
        );
        for link in [PlantLink::HallA, PlantLink::HallB] {
            push_link(&mut text, link.name(), &link_key(self.endpoint(link).place()));
            for device in self.devices.iter().filter(|device| device.link == link) {
                push_device(&mut text, device.name, link.name(), Some(device.unit), &device.profile.id);
                text.push_str("interval = \"1s\"\n");
            }
        }
        let instruments =
            [("scale", &self.scale, "mettler-mt-sics", "500ms"), ("roof", &self.weather, "generic-nmea0183", "1s")];
        for (name, port, profile, interval) in instruments {
            push_link(&mut text, name, &format!("text = {}", serial(port.settings())));
            push_device(&mut text, name, name, None, profile);
            text.push_str(&format!("interval = \"{interval}\"\n"));
        }
        text
    }
}

fn load(directory: &Path, id: &str) -> Result<Profile, SimulatorError> {
    file::load(directory, id).map_err(|faults| SimulatorError::Profile {
        faults: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    })
}

fn simulate(device: &PlantDevice, spec: &PlantSpec, seed: u64) -> Result<Device, SimulatorError> {
    let Protocol::Modbus(modbus) = &device.profile.protocol else {
        return Err(SimulatorError::Profile { faults: format!("{}: speaks lines of text", device.profile.id) });
    };
    let points: Arc<[_]> = modbus.points.clone().into();
    let mut simulated = Device::new(device.unit, Arc::clone(&points), modbus.limits);
    for point in points.iter().filter(|point| point.encoding.kind() == ValueKind::Text) {
        simulated.set(&point.name, Quantity::Text(&device.profile.model))?;
    }
    simulated.answer_delay = ANSWER_DELAY;
    if device.name == MORTAL {
        simulated.outages.clone_from(&spec.outages);
    }
    simulated.moving(courses(&points), RENEWAL, seed)
}

fn push_link(text: &mut String, name: &str, endpoint: &str) {
    // Writing to a String cannot fail.
    let _infallible = write!(text, "\n[[link]]\nname = \"{name}\"\n{endpoint}\ntimeout = \"500ms\"\n");
}

fn push_device(text: &mut String, name: &str, link: &str, unit: Option<u8>, profile: &str) {
    let unit = unit.map(|unit| format!("unit_id = {unit}\n")).unwrap_or_default();
    // Writing to a String cannot fail.
    let _infallible =
        write!(text, "\n[[device]]\nname = \"{name}\"\nlink = \"{link}\"\n{unit}profile = \"{profile}\"\n");
}

/// `tcp = "127.0.0.1:1502"` or `rtu = { port = "/dev/pts/3", baud_rate = 19200, parity = "even" }`.
pub(super) fn link_key(place: &Place) -> String {
    match place {
        Place::Tcp(address) => format!("tcp = \"{address}\""),
        Place::Serial(settings) => format!("rtu = {}", serial(settings)),
    }
}

fn serial(settings: &SerialSettings) -> String {
    let parity = match settings.parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    };
    format!("{{ port = {:?}, baud_rate = {}, parity = \"{parity}\" }}", settings.port, settings.baud_rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::codec;
    use crate::model::{Observed, Timestamp};
    use crate::profile::{Table, shipped};
    use crate::simulator::log::{Answer, AnswerLog};

    /// The value of every point of a device, from the words of one read each.
    fn decoded(device: &mut Device, points: &[crate::profile::Point]) -> Vec<Observed> {
        let mut log = AnswerLog::default();
        for point in points {
            let whole = point.read_whole.map(|whole| (whole.address, whole.count));
            let (address, count) = whole.unwrap_or((point.address, point.encoding.width()));
            let mut request = vec![point.table.read_function()];
            request.extend([address.to_be_bytes(), count.to_be_bytes()].concat());
            let access = device.answer(&request, &mut Vec::new()).unwrap();
            log.note(Answer {
                time: Timestamp(0),
                after: Duration::ZERO,
                unit: device.unit,
                access,
                words: device.words(access),
            });
        }
        let answers = log.iter().zip(points);
        answers.map(|(answer, point)| codec::decode(point, answer.words_of(point).unwrap(), None)).collect()
    }

    #[test]
    fn every_point_of_every_profile_has_a_value_at_any_time() {
        for id in shipped::ids() {
            let profile = Arc::new(load(Path::new("firmware-profiles"), id).unwrap());
            let Protocol::Modbus(modbus) = &profile.protocol else { continue };
            let device = PlantDevice { name: "meter", link: PlantLink::HallA, unit: 1, profile: Arc::clone(&profile) };
            let mut device = simulate(&device, &PlantSpec::default(), 1).unwrap();
            for minute in 0..100 {
                device.advance(Duration::from_secs(60 * minute));
                let decoded = modbus.points.iter().zip(decoded(&mut device, &modbus.points));
                // What has a scale factor register is decoded with it, which this test does not do.
                for (point, observed) in decoded.filter(|(point, _)| point.scale_factor.is_none()) {
                    assert!(!matches!(observed, Observed::Bad(_)), "{id} {} {minute} min: {observed:?}", point.name);
                }
            }
        }
    }

    #[test]
    fn voltage_frequency_and_energy_are_those_of_a_plant() {
        let profile = Arc::new(load(Path::new("firmware-profiles"), "eastron-sdm630").unwrap());
        let Protocol::Modbus(modbus) = &profile.protocol else { panic!("a meter speaks Modbus") };
        let device = PlantDevice { name: "meter", link: PlantLink::HallA, unit: 1, profile: Arc::clone(&profile) };
        let mut device = simulate(&device, &PlantSpec::default(), 1).unwrap();
        let number = |device: &mut Device, name: &str| {
            let point = modbus.points.iter().find(|point| point.name == name).unwrap();
            assert_eq!(point.table, Table::InputRegisters);
            decoded(device, std::slice::from_ref(point))[0].value().unwrap().number().unwrap()
        };

        let energy_before = number(&mut device, "active_energy_import_kwh");
        device.advance(Duration::from_secs(3600));
        let energy = number(&mut device, "active_energy_import_kwh") - energy_before;

        assert!((225.0..235.0).contains(&number(&mut device, "voltage_l1_v")));
        assert!((49.5..50.5).contains(&number(&mut device, "frequency_hz")));
        assert!((0.5..10.0).contains(&energy), "{energy} kWh in an hour of some kW");
    }

    #[tokio::test]
    async fn the_plant_has_devices_on_all_its_links_and_describes_them() {
        let plant = Plant::start(PlantSpec::default()).await.unwrap();

        let text = plant.configuration(Path::new("/tmp/store"), "mqtt://127.0.0.1:1883");

        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["link"].as_array().unwrap().len(), 4);
        assert_eq!(table["device"].as_array().unwrap().len(), TCP_DEVICES.len() + RTU_DEVICES.len() + 2);
        assert_eq!(table["link"][0]["tcp"].as_str(), Some(plant.tcp.address().to_string().as_str()));
        assert_eq!(table["link"][1]["rtu"]["port"].as_str(), plant.rtu.port().to_str());
        plant.stop().await;
    }
}
