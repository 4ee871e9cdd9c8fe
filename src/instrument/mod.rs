//! Serial instruments that speak lines of text: scales, gauges, GPS and weather heads, anything NMEA-like.
//!
//! [`frame`] cuts bytes into lines, [`pattern`] makes observations of a line (both pure), [`client`] owns the port.

pub mod client;
pub mod frame;
pub mod pattern;

pub use client::{Heard, Instrument, InstrumentError};
pub use frame::{Frame, LineCutter};
pub use pattern::{LineReader, LineReading};
