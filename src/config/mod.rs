//! What this installation wants: validated, complete, without defaults left to guess.

pub mod link;

pub use link::{DeviceConfig, Endpoint, LinkConfig, Parity, SerialSettings, TagConfig};
