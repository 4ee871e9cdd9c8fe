//! What a device type offers: points, limits, pacing. Data from `firmware-profiles/`, never code.

pub mod address;
mod address_file;
pub mod clock;
mod encoding_file;
pub mod file;
pub mod identification;
mod identification_file;
mod modbus_file;
pub mod point;
mod point_file;
pub mod shipped;
pub mod sunspec;
mod sunspec_file;
pub mod sunspec_lengths;
pub mod text;
mod text_file;
mod value_file;
pub mod variant;
mod variant_file;
pub mod version;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use address::Addressing;
pub use encoding_file::encoding_name;
pub use identification::Identification;
pub use point::{ByteOrder, Encoding, Point, Registers, Table, WordOrder};
pub use sunspec::ModelMap;
pub use text::{TextPoint, TextProfile};
pub use variant::FirmwareMap;
pub use version::{Version, VersionRange};

use crate::model::SeriesInfo;

/// Slower than this is no polling; it would also outlive the phase of the schedule.
pub const INTERVAL_MOST: Duration = Duration::from_secs(24 * 3600);

/// A device type, as its file in `firmware-profiles/` describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Name of the file without `.toml`, for example `eastron-sdm630`.
    pub id: String,
    /// Who makes it.
    pub manufacturer: String,
    /// What it is called.
    pub model: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What its file says, comments and layout aside; empty for a map that is no file of its own.
    pub content: String,
}

impl Profile {
    /// Whether it is one of those that were compiled in, whose addresses are known to be right, or overrides one.
    pub fn is_shipped(&self) -> bool {
        shipped::text(&self.id).is_some()
    }

    /// Names of all points in the order of the file: what `tags` of a device may name.
    pub fn tag_names(&self) -> Vec<&str> {
        match &self.protocol {
            Protocol::Modbus(modbus) => modbus.points.iter().map(|point| point.name.as_str()).collect(),
            Protocol::Text(text) => text.points.iter().map(|point| point.name.as_str()).collect(),
        }
    }
}

/// The two families of devices.
#[derive(Debug, Clone, PartialEq)]
pub enum Protocol {
    /// Registers and bits.
    Modbus(ModbusProfile),
    /// Lines of text.
    Text(TextProfile),
}

/// A device type that speaks Modbus.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusProfile {
    /// What one request may ask.
    pub limits: ReadLimits,
    /// What the device needs between requests.
    pub pacing: Pacing,
    /// What can be read: every point of every firmware, as the first map that has it places it.
    pub points: Vec<Point>,
    /// How the device is recognised, and where it says which firmware it runs.
    pub identification: Identification,
    /// The maps of the firmwares that differ, the first that of `points`. Empty when one map fits all.
    pub maps: Vec<FirmwareMap>,
    /// For devices that lay out their map themselves: the points of each model. Then `points` has them as on a device
    /// with all models.
    pub models: Vec<ModelMap>,
    /// How its file writes addresses; those of the points are protocol addresses all the same.
    pub addressing: Addressing,
}

impl ModbusProfile {
    /// A device type with one map for all firmwares and nothing to recognise it by.
    pub fn plain(limits: ReadLimits, pacing: Pacing, points: Vec<Point>) -> Self {
        let identification = Identification::default();
        let addressing = Addressing::Protocol;
        Self { limits, pacing, points, identification, maps: Vec::new(), models: Vec::new(), addressing }
    }

    /// Why the device may refuse this point, when its address looks like one out of a manual and is not taken so.
    pub fn explain_refusal(&self, point: &Point) -> Option<String> {
        match self.addressing {
            Addressing::Protocol => address::explain_refusal(point.table, point.address),
            Addressing::Modicon => None,
        }
    }

    /// True when the map depends on the firmware and the device has no way to say which it runs.
    pub fn needs_firmware(&self) -> bool {
        let depends = self.maps.iter().any(|map| map.versions != VersionRange::default());
        depends && self.identification.versions.is_empty()
    }
}

/// What one read request may ask of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Registers in one request, 1 to 125 (Modbus Application Protocol 1.1b3, 6.3).
    pub registers: u16,
    /// Bits in one request, 1 to 2000 (Modbus Application Protocol 1.1b3, 6.1).
    pub bits: u16,
    /// Registers (or bits) between two wanted points that may be read along; 0 where gaps are forbidden.
    pub gap: u16,
}

/// What a device needs in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pacing {
    /// Silence before each request to this device, beyond what the line itself needs.
    pub between_requests: Duration,
    /// Wait after a connection was made.
    pub after_connect: Duration,
}

/// One point as the configuration sees it, whatever the protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer<'a> {
    /// Name of the point.
    pub name: &'a str,
    /// Read unless the configuration says otherwise.
    pub polled: bool,
    /// How often it is worth reading, where the profile has an opinion.
    pub interval: Option<Duration>,
}

impl Profile {
    /// All points, in the order of the file.
    pub fn offers(&self) -> Vec<Offer<'_>> {
        match &self.protocol {
            Protocol::Modbus(modbus) => modbus
                .points
                .iter()
                .map(|point| Offer { name: &point.name, polled: point.polled, interval: point.interval })
                .collect(),
            Protocol::Text(text) => text
                .points
                .iter()
                .map(|point| Offer { name: &point.name, polled: true, interval: text.interval })
                .collect(),
        }
    }

    /// What the catalogue says about the point with this index, before labels are added.
    ///
    /// # Panics
    /// When the profile has no such point.
    pub fn series(&self, point: usize) -> SeriesInfo {
        let labels = Arc::default();
        match &self.protocol {
            Protocol::Modbus(modbus) => {
                let point = &modbus.points[point];
                SeriesInfo {
                    name: point.name.clone(),
                    labels,
                    unit: point.unit.clone(),
                    kind: point.kind(),
                    scale: point.listed_scale(),
                    states: point.states.clone(),
                }
            }
            Protocol::Text(text) => {
                let point = &text.points[point];
                SeriesInfo {
                    name: point.name.clone(),
                    labels,
                    unit: point.unit.clone(),
                    kind: point.kind,
                    scale: point.scale,
                    states: BTreeMap::new(),
                }
            }
        }
    }
}
