//! The messages of `deploy/lineside.proto`, written by hand so that building needs no `protoc`.
//!
//! The schema has the comments; a test decodes real payloads with code generated from it. Tags are never reused.

use prost::{Enumeration, Message};

/// The `format` this version writes and reads.
pub(super) const FORMAT: u32 = 1;

/// Quality of a place in a row that has no reading. Never a quality of the model: those are 0 or at least 0x100.
pub(super) const WITHHELD: u32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Batch {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(string, tag = "2")]
    pub site: String,
    #[prost(string, tag = "3")]
    pub gateway: String,
    #[prost(bytes = "vec", tag = "4")]
    pub epoch: Vec<u8>,
    #[prost(enumeration = "Lane", tag = "5")]
    pub lane: i32,
    #[prost(uint64, tag = "6")]
    pub first_sequence: u64,
    #[prost(uint64, tag = "7")]
    pub last_sequence: u64,
    #[prost(uint64, tag = "8")]
    pub oldest_undelivered: u64,
    #[prost(enumeration = "Order", tag = "9")]
    pub order: i32,
    #[prost(message, optional, tag = "10")]
    pub part: Option<Part>,
    #[prost(uint64, tag = "11")]
    pub readings: u64,
    #[prost(uint32, tag = "12")]
    pub commits: u32,
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub boots: Vec<Vec<u8>>,
    #[prost(sint64, tag = "14")]
    pub base_time_ms: i64,
    #[prost(message, repeated, tag = "15")]
    pub tables: Vec<Table>,
    #[prost(message, optional, tag = "16")]
    pub columns: Option<Columns>,
    #[prost(message, repeated, tag = "17")]
    pub qualities: Vec<Quality>,
    #[prost(string, repeated, tag = "18")]
    pub texts: Vec<String>,
    #[prost(message, repeated, tag = "19")]
    pub gaps: Vec<Gap>,
    #[prost(message, repeated, tag = "20")]
    pub groups: Vec<Group>,
    #[prost(message, repeated, tag = "21")]
    pub thinned: Vec<Thinned>,
    #[prost(message, repeated, tag = "22")]
    pub clock_offsets: Vec<ClockOffset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum Lane {
    Alarms = 0,
    Telemetry = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum Order {
    Live = 0,
    Backlog = 1,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Part {
    #[prost(uint32, tag = "1")]
    pub first_index: u32,
    #[prost(uint32, tag = "2")]
    pub end_index: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Table {
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    #[prost(sint64, repeated, tag = "2")]
    pub series: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Columns {
    #[prost(enumeration = "Kind", repeated, tag = "1")]
    pub kind: Vec<i32>,
    #[prost(uint32, repeated, tag = "2")]
    pub decimals: Vec<u32>,
    #[prost(sint64, repeated, tag = "3")]
    pub base: Vec<i64>,
    #[prost(sint64, repeated, tag = "4")]
    pub slope: Vec<i64>,
    #[prost(uint64, repeated, tag = "5")]
    pub multiple: Vec<u64>,
    #[prost(uint32, repeated, tag = "6")]
    pub cumulative: Vec<u32>,
    #[prost(uint32, repeated, tag = "7")]
    pub group: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Int = 0,
    Uint = 1,
    Float32 = 2,
    Float64 = 3,
    Bool = 4,
    Text = 5,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Quality {
    #[prost(uint32, tag = "1")]
    pub first_column: u32,
    #[prost(uint32, tag = "2")]
    pub count: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub code: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    pub rows: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Gap {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(enumeration = "Lane", tag = "2")]
    pub lane: i32,
    #[prost(uint64, tag = "3")]
    pub first_lost: u64,
    #[prost(uint64, tag = "4")]
    pub last_lost: u64,
    #[prost(uint64, tag = "5")]
    pub records: u64,
    #[prost(sint64, tag = "6")]
    pub first_time_ms: i64,
    #[prost(sint64, tag = "7")]
    pub last_time_ms: i64,
    #[prost(enumeration = "GapReason", tag = "8")]
    pub reason: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum GapReason {
    StoreFull = 0,
    Damaged = 1,
    TooLarge = 2,
    NotWritable = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Thinned {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(uint32, tag = "2")]
    pub window_s: u32,
    #[prost(uint64, repeated, tag = "3")]
    pub first_replaced: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    pub last_replaced: Vec<u64>,
    #[prost(uint64, repeated, tag = "5")]
    pub readings_replaced: Vec<u64>,
    #[prost(uint32, tag = "6")]
    pub aggregates: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClockOffset {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub boot: Vec<u8>,
    #[prost(sint64, tag = "3")]
    pub monotonic_ms: i64,
    #[prost(sint64, tag = "4")]
    pub wall_minus_monotonic_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Group {
    #[prost(enumeration = "NumberType", tag = "1")]
    pub r#type: i32,
    #[prost(uint32, tag = "2")]
    pub count: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub pco: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum NumberType {
    I16 = 0,
    I32 = 1,
    I64 = 2,
}
