//! lineside: an edge gateway agent for production lines.

pub mod agent;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod diagnostics;
pub mod encoding;
pub mod ingest;
pub mod instrument;
pub mod modbus;
pub mod model;
pub mod mqtt;
pub mod poll;
pub mod profile;
pub mod simulator;
pub mod supervisor;
pub mod uplink;
