//! A simulated plant with real servers: Modbus TCP and RTU devices and text instruments, with values that move and
//! faults that can be switched.
//!
//! Each server is one task that owns its devices; it is steered and watched through an [`Endpoint`] or a
//! [`TextPort`]. Servers bind port 0 or a new pseudo-terminal, and end when their [`Servers`] is dropped. What they
//! answered is in an [`AnswerLog`], so that what arrives elsewhere can be compared with it.

pub mod courses;
pub mod device;
pub mod fault;
pub mod line;
pub mod log;
mod memory;
pub mod nmea;
pub mod plant;
pub mod scale;
pub mod server;
mod tcp;
pub mod text;
pub mod uniform;
pub mod values;
pub mod wire;

pub use crate::modbus::encode::{EncodeError, Quantity};
pub use device::{Access, Device};
pub use fault::{Misbehaviour, Outage};
pub use line::{LineFormat, Pace};
pub use log::{Answer, AnswerLog, Counters, LineLog};
pub use nmea::WeatherSensor;
pub use plant::{Plant, PlantDevice, PlantLink, PlantSpec};
pub use scale::WeighingScale;
pub use server::{Endpoint, Keep, Place, Servers};
pub use text::{Instrument, TextCounters, TextMisbehaviour, TextPort};
pub use uniform::{Endpoints, Uniform, UniformSpec, serve_uniform};
pub use values::Course;
pub use wire::Framing;

/// Why a simulated plant cannot be had, or not be steered.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// No socket to listen on.
    #[error("cannot listen on a loopback port: {0}")]
    Listen(std::io::Error),
    /// No pseudo-terminal.
    #[error("cannot open a pseudo-terminal: {0}")]
    Terminal(String),
    /// Two devices of an endpoint answer to the same unit id.
    #[error("two devices have the unit id {unit}")]
    UnitTwice {
        /// The unit id.
        unit: u8,
    },
    /// The endpoint has no such device.
    #[error("no device has the unit id {unit}")]
    NoSuchUnit {
        /// The unit id.
        unit: u8,
    },
    /// The device has no such point.
    #[error("the device has no point {name:?}")]
    NoSuchPoint {
        /// The name asked for.
        name: String,
    },
    /// A point cannot show a value.
    #[error("{point}: {reason}")]
    CannotShow {
        /// Its name.
        point: String,
        /// Why.
        reason: EncodeError,
    },
    /// A profile of the plant cannot be used.
    #[error("{faults}")]
    Profile {
        /// All its faults.
        faults: String,
    },
    /// Too many or no devices for the unit ids of a link.
    #[error("{devices} devices: must be 1 to 247")]
    Devices {
        /// How many.
        devices: u8,
    },
    /// The server has ended.
    #[error("the server has ended")]
    Ended,
}
