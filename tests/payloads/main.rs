//! What stands on the topics of a gateway, as a receiver sees it: against a real Mosquitto, and against the description
//! for those who write receivers.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

#[path = "../support/mod.rs"]
mod support;

mod described;
mod health;
