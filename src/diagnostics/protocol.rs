//! What is said on the local socket: one JSON object a line, a request first, then one or more answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{AlarmRecord, Timestamp};
use crate::rules::engine::AlarmRequest;

/// What a diagnostic command asks the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// One snapshot of every stage.
    Status,
    /// Every reading from now on; one line each until the connection is closed.
    Tail,
    /// Alarms of the rules that are not normal, and those about to be.
    Alarms,
    /// What a person wants of alarms.
    AlarmDeed {
        /// Name of the alarms.
        name: String,
        /// Labels that they must have.
        labels: BTreeMap<String, String>,
        /// What is wanted.
        wanted: AlarmRequest,
        /// Who wants it.
        by: String,
    },
    /// Write one tag, within the bounds that the owner set.
    Write {
        /// Name of the device.
        device: String,
        /// Name of its point.
        point: String,
        /// Engineering value.
        value: f64,
        /// Do everything but write.
        dry_run: bool,
        /// After how long it returns to the safe value, as people write it: `10m`.
        #[serde(default)]
        span: Option<String>,
        /// Who wants it.
        by: String,
    },
    /// What may be written.
    Writes,
    /// Lock writing from afar, or lift the lock.
    WritesLock {
        /// Which of both.
        locked: bool,
        /// Who wants it.
        by: String,
    },
    /// Configurations that came from afar.
    ConfigHistory,
    /// Try an earlier one again.
    ConfigRollback {
        /// Which; 0 is the owner's own.
        revision: u64,
        /// Who wants it.
        by: String,
    },
    /// All tags of one device, now.
    Read {
        /// Name of the device.
        device: String,
    },
    /// Drop what was learned of a device.
    Forget {
        /// Name of the device.
        device: String,
    },
    /// Some registers or bits, now.
    ReadRaw {
        /// Name of the link.
        link: String,
        /// Address on the link.
        unit_id: u8,
        /// `coil`, `discrete`, `holding` or `input`.
        table: String,
        /// First address, from 0.
        address: u16,
        /// How many.
        count: u16,
    },
}

/// One reading, readable by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownReading {
    /// When it was taken.
    pub time: Timestamp,
    /// Which device.
    pub device: String,
    /// Which point.
    pub point: String,
    /// Engineering value: a number, true or false, or text; null when the reading is bad.
    pub value: serde_json::Value,
    /// Unit of the value; empty when it has none.
    pub unit: String,
    /// Meaning of the number, for an enumeration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `good`, or the reason why it is not.
    pub quality: String,
}

/// What became of a deed for one alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmAnswer {
    /// The transition that it led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<AlarmRecord>,
    /// Why it led to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// An answer that is no reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The request makes no sense here: it names something that is not there, or was not understood.
    Refused(String),
    /// The request could not be served.
    Error(String),
    /// The reader was too slow: so many poll cycles are not shown. They are stored all the same.
    Missed(u64),
    /// What was learned of a device is dropped; false when nothing was.
    Forgotten(bool),
    /// Raw registers or bits.
    Registers(Vec<u16>),
}
