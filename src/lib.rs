//! lineside: an edge gateway agent. It polls Modbus TCP, Modbus RTU and text serial devices, keeps every reading in a
//! local store, and delivers compressed batches to an MQTT broker.
//!
//! # The picture
//!
//! ```text
//!           one task per link          one task              disk           one task            one task
//! device <-> poll::Poller --PollCycle--> ingest --append--> buffer --next--> uplink --Batch--> mqtt::Session <-> broker
//!                   ^                      |                  ^                |   <--PUBACK--      |
//!                   |                      | live rows        `--delivered-----'                    |
//!                   `------ read ------ diagnostics (local socket) <--------- health each minute ---'
//! ```
//!
//! A reading crosses four tasks, two memory channels and one disk. There is one road: live data and catch-up after an
//! outage travel the same path, so the outage path is exercised every second. When the broker is away only [`uplink`]
//! waits; the buffer grows and nothing else changes.
//!
//! # Modules, by layer
//!
//! A module uses only modules of a lower rank; `tests/architecture.rs` checks it.
//!
//! | Rank | Module | What it is for |
//! |---|---|---|
//! | 8 | [`cli`], [`simulator`] | one file for each command; a simulated plant with real servers |
//! | 7 | [`agent`] | builds every task from a configuration and joins the channels |
//! | 6 | [`diagnostics`], [`commands`] | a snapshot of every stage: local socket and health message; commands from afar |
//! | 5 | [`ingest`], [`uplink`], [`actions`] | flows: poll cycle to store; store to broker; what alarms ask to have done |
//! | 4 | [`poll`], [`buffer`], [`rules`], [`encoding`], [`mqtt`] | mechanisms: schedule, store and forward, windows and alarms, batches as bytes, session |
//! | 3 | [`modbus`], [`instrument`] | the two families of protocols under `poll` |
//! | 2 | [`config`], [`profile`], [`logging`] | what this installation wants; what a device type offers; the log of the process |
//! | 1 | [`supervisor`], [`database`], [`clock`], [`settings`] | named tasks; the embedded database; what time it is; files that people write |
//! | 0 | [`model`], [`kernel`] | the words of the field; the only unsafe code |
//!
//! # Invariants
//!
//! 1. **A stored record leaves the buffer only after a PUBACK that is no refusal, or by retention**, and then a gap
//!    record names what is gone. Only durable commits are published. See [`buffer`].
//! 2. **Same identity, same content, for ever.** (epoch, lane, sequence, index) says which record it is, in every
//!    encoding and however often it arrives. See [`model::Identity`] and [`encoding`].
//! 3. **A bad reading cannot carry a value.** [`model::Observed`] has no place for one.
//! 4. **A late answer is never taken for the next one.** See [`modbus::client`].
//! 5. **One request at a time on each link; nothing outside its poller touches it**, unless the poller lends it, and rests
//!    until it is back. See [`poll`].
//! 6. **A command is carried out at most once**: journalled before, never begun again after. See [`commands`].
//! 7. **Every queue is bounded**, and its length is a named constant with a reason.
//! 8. **A task that ends by itself is a defect**: the agent stops in order, exits non-zero, and the service manager
//!    starts it again. Faults of devices, links and brokers are normal life inside the tasks.
//!
//! # Decisions worth knowing
//!
//! - **Own Modbus frames** instead of a Modbus crate: telling a timeout from a bad CRC, dropping late answers, keeping
//!   the 3.5-character silence and pacing serial lines is what this program is for.
//! - **One value in the database is one commit** of many readings in columns, with its own checksum and sequence; one
//!   key for each reading would write thirty times as much.
//! - **A fresh MQTT client for every connection**: the buffer is the only queue, so there is nothing to replay.
//! - **One runtime thread** for all tasks; the store and the encoding of batches have threads of their own because they
//!   block.
//! - **Summaries are only ever put together, never taken apart**: a window is a queue of two stacks of them, so no
//!   rounding piles up, and an infinity leaves with its sample.
//! - **Rows, not readings**, are the unit of memory, disk and wire: what one answer of a device gave shares its time.

pub mod actions;
pub mod agent;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod database;
pub mod diagnostics;
pub mod encoding;
pub mod ingest;
pub mod instrument;
pub mod kernel;
pub mod logging;
pub mod modbus;
pub mod model;
pub mod mqtt;
pub mod poll;
pub mod port;
pub mod profile;
pub mod rules;
pub mod settings;
pub mod simulator;
pub mod supervisor;
pub mod uplink;
