//! Modbus over TCP, RTU and RTU over TCP: which registers to ask for, how long that takes, the client that asks, and
//! what the answers mean.

pub mod client;
pub mod codec;
pub mod encode;
pub mod error;
pub mod exception;
pub mod frame;
pub mod guess;
pub mod identify;
pub mod lessons;
pub mod mbap;
mod number;
pub mod objects;
pub mod plan;
pub mod rtu;
pub mod timing;
pub mod trace;
mod transport;
pub mod write;

pub use client::Client;
pub use error::{Came, Mismatch, PollError, StreamFault};
