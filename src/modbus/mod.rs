//! Modbus over TCP, RTU and RTU over TCP: plans, frames, values and the client that asks.

pub mod client;
pub mod codec;
pub mod error;
pub mod frame;
pub mod plan;
mod transport;

pub use client::Client;
pub use error::{Mismatch, PollError};
