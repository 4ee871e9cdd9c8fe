//! Modbus from the wire up: the client against peers that misbehave and against pymodbus, and the poller on top.

#[cfg(test)]
mod client;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod poller;
