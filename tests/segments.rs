//! The tests of the store once more, over the log of segments instead of sled.

#![cfg(test)]
// Each of these is a test of its own as well, and brings its support along.
#![allow(clippy::duplicate_mod)]

#[path = "buffer_faults.rs"]
mod buffer_faults;
#[path = "buffer_model.rs"]
mod buffer_model;
#[path = "damage.rs"]
mod damage;
#[path = "io_errors.rs"]
mod io_errors;
#[path = "power_cut.rs"]
mod power_cut;
#[path = "power_loss.rs"]
mod power_loss;
#[path = "thinning/main.rs"]
mod thinning;
