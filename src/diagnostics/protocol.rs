//! What is said on the local socket: one JSON object a line, a request first, then one or more answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::buffer::Resent;
use crate::buffer::history::HistorySpan;
use crate::model::{AlarmRecord, Epoch, Lane, Sequence, SeriesId, SeriesInfo, Timestamp};
use crate::rules::alarm::NotPossible;
use crate::rules::engine::{Acted, AlarmRequest};
use crate::settings::show_duration;

/// What a diagnostic command asks the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// One snapshot of every stage.
    Status,
    /// Every reading from now on; one line each until the connection is closed.
    Tail,
    /// Alarms that are not normal, and those about to be: of rules, and of the agent itself.
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
    /// What the makers need to find a fault, without secrets.
    SupportBundle,
    /// Configurations that came from afar.
    ConfigHistory,
    /// Try an earlier one again.
    ConfigRollback {
        /// Which; 0 is the owner's own.
        revision: u64,
        /// Who wants it.
        by: String,
    },
    /// What there is in the store.
    StoreOverview,
    /// Which series of the store has which id.
    StoreCatalogue,
    /// Stored commits: a [`PageHead`], then their bytes one after the other.
    StorePage {
        /// Lane of the commits.
        lane: Lane,
        /// Which of them.
        span: HistorySpan,
        /// Where to go on.
        from: Sequence,
    },
    /// Stored commits are to be sent again.
    StoreResend {
        /// Lane of the commits.
        lane: Lane,
        /// Which of them.
        span: HistorySpan,
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
    /// Leave a link alone until this connection is closed.
    Lend {
        /// Which.
        wanted: Lendable,
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

/// What can be borrowed of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lendable {
    /// A link, by its name.
    Link(String),
    /// A serial port, if a link uses it.
    Port(PathBuf),
    /// A TCP endpoint, if a link leads there, by whatever name.
    Host {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// What is before the bytes of some stored commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageHead {
    /// Sequence of each commit, and the length of its bytes.
    pub commits: Vec<(Sequence, usize)>,
    /// Where to go on; nothing when there is no more.
    pub next: Option<Sequence>,
}

/// What will be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendAnswer {
    /// Sequences that are stored and of that time.
    pub runs: Vec<(u64, u64)>,
    /// Records in them.
    pub records: u64,
    /// How many of the commits.
    #[serde(flatten)]
    pub resent: Resent,
    /// Where to go on; nothing when all of it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Sequence>,
}

/// Every series of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredCatalogue {
    /// Life of the database that gave the ids.
    pub epoch: Epoch,
    /// Every id with its series.
    pub series: Vec<(SeriesId, Arc<SeriesInfo>)>,
}

/// One reading, readable by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownReading {
    /// When it was taken.
    pub time: Timestamp,
    /// Which device; empty for what a rule records of several.
    pub device: String,
    /// Which point, or the name of what a rule records.
    pub point: String,
    /// Labels of what a rule records of several devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
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
    /// Shelved until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelved_until: Option<Timestamp>,
    /// What differs from what was asked for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl From<Result<Acted, NotPossible>> for AlarmAnswer {
    fn from(answer: Result<Acted, NotPossible>) -> Self {
        match answer {
            Ok(Acted { record, shelved_until, limit }) => {
                let note = limit.map(|limit| format!("this alarm can be shelved for at most {}", show_duration(limit)));
                Self { record: Some(record), refused: None, shelved_until, note }
            }
            Err(reason) => Self { record: None, refused: Some(reason.to_string()), shelved_until: None, note: None },
        }
    }
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
    /// The link with this name is left alone until the connection is closed; nothing when no link uses that port or leads to
    /// that host.
    Lent(Option<String>),
}
