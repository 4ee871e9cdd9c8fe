//! Simulated meters whose values say who sent them, and the profile that reads them.

use std::collections::BTreeMap;
use std::fmt::Write;

use lineside::config::Parity;
use lineside::diagnostics::protocol::ShownReading;
use lineside::profile::{Protocol, file};
use lineside::simulator::{Device, Endpoint, Framing, Place, Quantity};

/// A profile of so many points, single precision, in holding registers side by side.
pub fn profile(points: u16) -> String {
    let mut text = "manufacturer = \"Acme\"\nmodel = \"meter\"\n\
         modbus = { table = \"holding\", encoding = \"f32\" }\npoint = [\n"
        .to_owned();
    for point in 0..points {
        writeln!(text, "  {{ name = \"value_{point}\", address = {} }},", 2 * point).unwrap();
    }
    text.push_str("]\n");
    text
}

/// The device of that profile; its value at each point is [`truth`].
pub fn device(unit: u8, points: u16) -> Device {
    let profile = file::parse("meter.toml", "meter", &profile(points)).unwrap();
    let Protocol::Modbus(modbus) = profile.protocol else { unreachable!("the profile is one of registers") };
    let mut device = Device::new(unit, modbus.points, modbus.limits);
    for point in 0..points {
        device.set(&format!("value_{point}"), Quantity::Number(truth(unit, point))).unwrap();
    }
    device
}

/// What a meter shows: no two points of any two meters are alike.
pub fn truth(unit: u8, point: u16) -> f64 {
    1000.0 * f64::from(unit) + f64::from(point) + 0.5
}

/// Fails the test when a reading carries anything but the truth. Meters are called `meter-<unit>`.
pub fn assert_true_or_bad(reading: &ShownReading) {
    let unit = reading.device.strip_prefix("meter-").and_then(|unit| unit.parse().ok());
    let point = reading.point.strip_prefix("value_").and_then(|point| point.parse().ok());
    let truth = truth(unit.expect("a meter"), point.expect("a point of it"));
    match reading.value.as_f64() {
        Some(value) => assert_eq!((value, reading.quality.as_str()), (truth, "good"), "{reading:?}"),
        None => assert!(reading.value.is_null() && reading.quality.starts_with("bad: "), "{reading:?}"),
    }
}

/// The section of the configuration for a link to `endpoint` whose devices speak in `framing`.
pub fn link(name: &str, endpoint: &Endpoint, framing: Framing, timeout: &str) -> String {
    let place = match (endpoint.place(), framing) {
        (Place::Tcp(address), Framing::Tcp) => format!("tcp = \"{address}\""),
        (Place::Tcp(address), Framing::Rtu) => format!("rtu_over_tcp = \"{address}\""),
        (Place::Serial(settings), _) => serial(&settings.port.display().to_string(), settings),
    };
    format!("\n[[link]]\nname = \"{name}\"\n{place}\ntimeout = \"{timeout}\"\n")
}

/// The key `rtu` for the port at `path`.
pub fn serial(path: &str, settings: &lineside::config::SerialSettings) -> String {
    let parity = match settings.parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    };
    format!("rtu = {{ port = \"{path}\", baud_rate = {}, parity = \"{parity}\" }}", settings.baud_rate)
}

/// The section of the configuration for `meter-<unit>`.
pub fn meter(unit: u8, link: &str, profile: &str, interval: &str) -> String {
    format!(
        "\n[[device]]\nname = \"meter-{unit}\"\nlink = \"{link}\"\nunit_id = {unit}\nprofile = \"{profile}\"\n\
         interval = \"{interval}\"\n"
    )
}

/// Answers that each unit has given, by the endpoint's own log.
pub async fn answers_by_unit(endpoint: &Endpoint) -> BTreeMap<u8, u64> {
    let mut answers = BTreeMap::new();
    for answer in endpoint.log().await.unwrap().iter() {
        *answers.entry(answer.unit).or_default() += 1;
    }
    answers
}
