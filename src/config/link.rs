//! Links, devices and tags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::forward::Forward;
use crate::model::{Name, SeriesInfo, UnitId};
use crate::profile::{Profile, Version};

/// One TCP endpoint or serial port and the devices behind it. One request at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkConfig {
    /// Name, unique in the configuration.
    pub name: Name,
    /// Where and how.
    pub endpoint: Endpoint,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Shortest wait for an answer of a device that is known to be fast; the same as `timeout` when the wait is fixed.
    pub timeout_min: Duration,
    /// Which answers are taken.
    pub accepted: Accepted,
    /// Devices in the order of the file; at least one.
    pub devices: Vec<DeviceConfig>,
}

/// What a Modbus TCP gateway may answer with in place of what was asked (Modbus Messaging on TCP/IP 1.0b, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Any transaction id: the gateway numbers its answers by itself.
    pub any_transaction: bool,
    /// Any unit id.
    pub any_unit: bool,
}

/// Where a link leads and which framing it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Modbus TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// Usually 502.
        port: u16,
    },
    /// Modbus RTU frames through a transparent TCP gateway.
    RtuOverTcp {
        /// Host name or address.
        host: String,
        /// Port of the gateway.
        port: u16,
    },
    /// Modbus RTU on a serial port.
    Rtu(SerialSettings),
    /// Lines of text on a serial port.
    Text(SerialSettings),
}

/// A serial port and its frame format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialSettings {
    /// Device file, best below `/dev/serial/by-id`.
    pub port: PathBuf,
    /// Bits a second.
    pub baud_rate: u32,
    /// Parity bit.
    pub parity: Parity,
    /// 7 or 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
    /// The driver of the port switches the direction of an RS-485 transceiver by RTS.
    pub rs485: bool,
}

impl SerialSettings {
    /// Bits one character takes on the line, start bit included.
    pub fn bits_per_character(&self) -> u32 {
        let parity = match self.parity {
            Parity::None => 0,
            Parity::Even | Parity::Odd => 1,
        };
        1 + u32::from(self.data_bits) + parity + u32::from(self.stop_bits)
    }

    /// How long one character takes on the line.
    pub fn character_time(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 * u64::from(self.bits_per_character()) / u64::from(self.baud_rate))
    }
}

/// Parity bit of a serial frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// `tcp 10.0.0.5:502`, `rtu /dev/ttyUSB0 19200 8E1`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp {}:{port}", bracketed(host)),
            Self::RtuOverTcp { host, port } => write!(f, "rtu-over-tcp {}:{port}", bracketed(host)),
            Self::Rtu(serial) => write!(f, "rtu {serial}"),
            Self::Text(serial) => write!(f, "text {serial}"),
        }
    }
}

/// The host as it stands before a port: an IPv6 address in brackets.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for SerialSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        let Self { port, baud_rate, data_bits, stop_bits, .. } = self;
        write!(f, "{} {baud_rate} {data_bits}{parity}{stop_bits}", port.display())
    }
}

/// One device on a link.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceConfig {
    /// Name, unique in the configuration.
    pub name: Name,
    /// Address on the link; `None` for a text instrument, which has its link to itself.
    pub unit: Option<UnitId>,
    /// What it is.
    pub profile: Arc<Profile>,
    /// The firmware it runs, for devices that do not say; what a device says goes before.
    pub firmware: Option<Version>,
    /// Free labels, on every series of the device.
    pub labels: BTreeMap<String, String>,
    /// What is read, in the order of the profile's points; at least one.
    pub tags: Vec<TagConfig>,
}

/// One point of one device that is read.
#[derive(Debug, Clone, PartialEq)]
pub struct TagConfig {
    /// Index of the point in the profile.
    pub point: usize,
    /// How often; zero means again and again without pause.
    pub interval: Duration,
    /// What the catalogue says about its series; shared with it once the series is registered.
    pub series: Arc<SeriesInfo>,
    /// What of it goes to the broker; all when nothing is said.
    pub forward: Option<Arc<Forward>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_its_port() {
        let endpoint = |host: &str| Endpoint::Tcp { host: host.to_owned(), port: 502 }.to_string();

        assert_eq!((endpoint("::1"), endpoint("meter.local")), ("tcp [::1]:502".into(), "tcp meter.local:502".into()));
    }
}
