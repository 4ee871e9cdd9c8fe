//! Windowed rules at the edge: what they say, and what becomes of it. Pure: time is an argument.

pub mod alarm;
