//! Many equal devices for load measurements: each shows numbers of single precision at consecutive addresses.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::SimulatorError;
use super::device::Device;
use super::plant::link_key;
use super::server::{Endpoint, Keep, Servers};
use super::values::Course;
use super::wire::Framing;
use crate::profile::{Protocol, file};

/// Name of the profile that [`UniformSpec::profile`] gives.
pub const UNIFORM_PROFILE: &str = "uniform";
/// Devices behind one endpoint: the unit ids of a link.
const DEVICES_MAX: u8 = 247;

/// How many equal devices of how many points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniformSpec {
    /// Devices, 1 to 247.
    pub devices: u8,
    /// Points of each device, at addresses 0, 2, 4 and so on of the holding registers.
    pub points: u16,
    /// Where the devices are found.
    pub endpoints: Endpoints,
    /// How often a device renews its registers; zero: for each request, so that no two answers are equal.
    pub renewal: Duration,
    /// The same seed gives the same values.
    pub seed: u64,
    /// Whether answers are remembered.
    pub keep: Keep,
}

/// Where equal devices are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoints {
    /// All behind one, by their unit ids.
    Shared,
    /// Each behind its own, all with unit id 1.
    Own,
}

impl UniformSpec {
    /// The profile of these devices: the text of `uniform.toml`.
    pub fn profile(&self) -> String {
        let mut text = "manufacturer = \"lineside\"\nmodel = \"uniform\"\n\
             modbus = { table = \"holding\", encoding = \"f32\", gaps = \"allowed\" }\npoint = [\n"
            .to_owned();
        for point in 0..self.points {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "  {{ name = \"value_{point}\", address = {} }},", 2 * point);
        }
        text.push_str("]\n");
        text
    }
}

/// Equal devices, running. They end when this is dropped.
#[derive(Debug)]
pub struct Uniform {
    spec: UniformSpec,
    servers: Servers,
    endpoints: Vec<Endpoint>,
}

/// Starts equal devices.
pub async fn serve_uniform(spec: UniformSpec) -> Result<Uniform, SimulatorError> {
    if !(1..=DEVICES_MAX).contains(&spec.devices) {
        return Err(SimulatorError::Devices { devices: spec.devices });
    }
    let mut servers = Servers::default();
    let mut endpoints = Vec::new();
    let per_endpoint = match spec.endpoints {
        Endpoints::Shared => spec.devices,
        Endpoints::Own => 1,
    };
    for first in (1..=spec.devices).step_by(usize::from(per_endpoint)) {
        let devices = (1..=per_endpoint)
            .map(|unit| device(&spec, unit, spec.seed + u64::from(first) + u64::from(unit)))
            .collect::<Result<Vec<_>, _>>()?;
        endpoints.push(servers.tcp(Framing::Tcp, devices, spec.keep).await?);
    }
    Ok(Uniform { spec, servers, endpoints })
}

impl Uniform {
    /// All endpoints, in the order of the links in the configuration.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// A configuration for an agent that reads all points of all devices each `interval`. It needs
    /// [`UniformSpec::profile`] where it looks for profiles.
    pub fn configuration(&self, store: &Path, mqtt_url: &str, interval: &str) -> String {
        let mut text = format!(
            "[gateway]\nsite = \"load\"\nid = \"gw-01\"\n\n[store]\npath = {store:?}\n\n[mqtt]\nurl = {mqtt_url:?}\n"
        );
        let (devices_of_link, mut device) = (usize::from(self.spec.devices) / self.endpoints.len(), 0);
        for (link, endpoint) in self.endpoints.iter().enumerate() {
            let key = link_key(endpoint.place());
            // Writing to a String cannot fail.
            let _infallible = write!(text, "\n[[link]]\nname = \"link-{link}\"\n{key}\ntimeout = \"1s\"\n");
            for unit in 1..=devices_of_link {
                device += 1;
                let _infallible = write!(
                    text,
                    "\n[[device]]\nname = \"device-{device}\"\nlink = \"link-{link}\"\nunit_id = {unit}\n\
                     profile = \"{UNIFORM_PROFILE}\"\ninterval = \"{interval}\"\n"
                );
            }
        }
        text
    }

    /// Ends all servers and waits until their ports are closed.
    pub async fn stop(self) {
        self.servers.stop().await;
    }
}

fn device(spec: &UniformSpec, unit: u8, seed: u64) -> Result<Device, SimulatorError> {
    let profile = file::parse("uniform.toml", UNIFORM_PROFILE, &spec.profile()).map_err(|faults| {
        SimulatorError::Profile { faults: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ") }
    })?;
    let Protocol::Modbus(modbus) = profile.protocol else {
        return Err(SimulatorError::Profile { faults: "uniform.toml: speaks lines of text".to_owned() });
    };
    let courses = (0..usize::from(spec.points)).map(|point| {
        let mean = 100.0 + 10.0 * point as f64;
        (Some(point), Course::Walk { mean, spread: mean / 50.0, memory: Duration::from_secs(20) })
    });
    Device::new(unit, modbus.points, modbus.limits).moving(courses.collect(), spec.renewal, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_device_has_its_own_endpoint_or_all_share_one() {
        for (endpoints, expected) in [(Endpoints::Shared, 1), (Endpoints::Own, 4)] {
            let spec = UniformSpec {
                devices: 4,
                points: 3,
                endpoints,
                renewal: Duration::ZERO,
                seed: 1,
                keep: Keep::Counters,
            };
            let uniform = serve_uniform(spec).await.unwrap();

            let text = uniform.configuration(Path::new("/tmp/store"), "mqtt://127.0.0.1:1883", "1s");

            let table: toml::Table = toml::from_str(&text).unwrap();
            assert_eq!(uniform.endpoints().len(), expected);
            assert_eq!(table["link"].as_array().unwrap().len(), expected);
            assert_eq!(table["device"].as_array().unwrap().len(), 4);
            uniform.stop().await;
        }
    }
}
