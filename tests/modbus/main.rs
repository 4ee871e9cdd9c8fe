//! Modbus from the wire up: the client against peers that misbehave and against pymodbus, and the poller on top.

mod client;
mod interop;
mod peer;
mod poller;
