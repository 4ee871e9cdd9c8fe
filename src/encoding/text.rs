//! How names, times and gap records are written in the JSON messages.

use serde::{Deserialize, Serialize};

use crate::model::{Gap, GapReason, Lane, Sequence, Timestamp};

/// The `format` of the JSON messages.
pub(super) const FORMAT: u32 = 1;

/// A [`Name`](crate::model::Name) as text, checked when it is read.
pub(super) mod name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Name;

    pub fn serialize<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        Name::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A [`Timestamp`] as RFC 3339 text.
pub(super) mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Timestamp;

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Times too far away for a calendar are written as bare milliseconds.
        let milliseconds = text.parse().or_else(|_| text.parse().map(jiff::Timestamp::as_millisecond));
        milliseconds.map(Timestamp).map_err(serde::de::Error::custom)
    }
}

/// A gap record in a JSON message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonGap {
    /// Lane that lost records.
    pub lost_lane: Lane,
    /// First lost sequence.
    pub first_lost: Sequence,
    /// Last lost sequence.
    pub last_lost: Sequence,
    /// How many records were lost.
    pub records: u64,
    /// Time of the oldest lost record.
    #[serde(with = "rfc3339")]
    pub first_time: Timestamp,
    /// Time of the newest lost record.
    #[serde(with = "rfc3339")]
    pub last_time: Timestamp,
    /// Why.
    pub reason: GapReason,
}

impl From<&Gap> for JsonGap {
    fn from(gap: &Gap) -> Self {
        Self {
            lost_lane: gap.lane,
            first_lost: gap.first,
            last_lost: gap.last,
            records: gap.records,
            first_time: gap.first_time,
            last_time: gap.last_time,
            reason: gap.reason,
        }
    }
}
