//! Modbus: which registers to ask for, how long that takes, and what the answers mean.

pub mod codec;
pub mod plan;
pub mod timing;
