//! One JSON message for each alarm transition, complete in itself: a receiver needs no earlier message to read it.
//!
//! ```json
//! {"type": "alarm", "format": 1, "site": "lyon", "gateway": "gw-01", "epoch": "5f0c...", "lane": "alarms",
//!  "sequence": 4, "index": 0, "count": 2, "oldest_undelivered": 4, "boot": "a1b2...", "clock": "synchronised",
//!  "wall_minus_monotonic_ms": 1763877600000, "time": "2026-11-23T06:00:00.003Z", "time_ms": 1763877600003,
//!  "name": "DeviceSilent", "labels": {"device": "press-1"}, "transition": "raised",
//!  "state": "unacknowledged_active", "priority": "medium", "annotations": {"summary": "press-1 does not answer"}}
//! ```
//!
//! A gap in the alarm lane has `"type": "gap"` and says what is lost in place of the alarm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::batch::{BatchHeader, count_u32};
use super::text::{FORMAT, JsonGap, name, rfc3339};
use super::{DecodeError, EncodeError};
use crate::model::{AlarmReading, AlarmRecord, AlarmState, BootId, ClockState, Commit, Epoch, Lane, Name};
use crate::model::{Priority, Records, Sequence, Timestamp, Transition};

/// What `type` says in an alarm message.
pub(super) const TYPE_ALARM: &str = "alarm";
/// What `type` says when records of the alarm lane are gone.
pub(super) const TYPE_GAP: &str = "gap";

/// An alarm message, field by field as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmMessage {
    /// `alarm` or `gap`.
    #[serde(rename = "type")]
    pub message: String,
    /// 1.
    pub format: u32,
    /// Site of the gateway.
    #[serde(with = "name")]
    pub site: Name,
    /// The gateway.
    #[serde(with = "name")]
    pub gateway: Name,
    /// Life of the database that gave the sequence.
    pub epoch: Epoch,
    /// Stream that the sequence counts in.
    pub lane: Lane,
    /// Commit that holds the record.
    pub sequence: Sequence,
    /// Position in the commit.
    pub index: u32,
    /// How many records the commit holds: with all indexes below, a receiver has it all.
    pub count: u32,
    /// Whatever is older in this lane, was not received and is named in no gap record, is lost.
    pub oldest_undelivered: Sequence,
    /// Boot in which the record was made.
    pub boot: BootId,
    /// How far the wall clock could be trusted then.
    pub clock: ClockState,
    /// Wall clock minus monotonic clock at the commit, in milliseconds.
    pub wall_minus_monotonic_ms: i64,
    /// The record.
    #[serde(flatten)]
    pub content: AlarmContent,
}

/// What an alarm message is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AlarmContent {
    /// An alarm was raised or cleared.
    Transition(JsonTransition),
    /// Records of the alarm lane are gone.
    Gap(JsonGap),
}

/// An alarm transition; the fields of [`AlarmRecord`], and the time also as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonTransition {
    /// When it happened, for people.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: i64,
    /// Name of the alarm.
    pub name: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// What happened.
    pub transition: Transition,
    /// State after the transition.
    pub state: AlarmState,
    /// How soon somebody has to act.
    pub priority: Priority,
    /// The value that decided it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Text for people.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The readings that decided it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<JsonAlarmReading>,
    /// Who asked for it, when it was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A reading that had a part in a transition; the fields of [`AlarmReading`], and the time also as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JsonAlarmReading {
    /// The series, as `name{label="value"}`.
    pub series: String,
    /// When the reading was taken, for people.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// When the reading was taken, in milliseconds since 1970.
    pub time_ms: i64,
    /// Its engineering value; nothing where that is not a finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

impl From<&AlarmReading> for JsonAlarmReading {
    fn from(reading: &AlarmReading) -> Self {
        let AlarmReading { series, time, value } = reading.clone();
        Self { series, time, time_ms: time.0, value }
    }
}

impl From<&AlarmRecord> for JsonTransition {
    fn from(record: &AlarmRecord) -> Self {
        Self {
            time: record.time,
            time_ms: record.time.0,
            name: record.name.clone(),
            labels: record.labels.clone(),
            transition: record.transition,
            state: record.state,
            priority: record.priority,
            value: record.value,
            annotations: record.annotations.clone(),
            readings: record.readings.iter().map(JsonAlarmReading::from).collect(),
            by: record.by.clone(),
        }
    }
}

/// The payloads of one commit of the alarm lane, one for each of its records in order of their index.
///
/// # Errors
/// A commit of readings: those are sent in batches.
pub fn encode(header: &BatchHeader, commit: &Commit) -> Result<Vec<Vec<u8>>, EncodeError> {
    let contents: Vec<(&str, AlarmContent)> = match &commit.records {
        Records::Alarms(alarms) => {
            alarms.iter().map(|record| (TYPE_ALARM, AlarmContent::Transition(record.into()))).collect()
        }
        Records::Gap(gap) => vec![(TYPE_GAP, AlarmContent::Gap(gap.into()))],
        Records::Readings(_) | Records::Thinned(_) | Records::ClockOffset(_) => {
            let sequence = commit.header.sequence;
            return Err(EncodeError::WrongRecords { sequence, found: "readings", message: "an alarm message" });
        }
    };
    let count = count_u32(contents.len());
    let payload = |(index, (message, content)): (u32, (&str, AlarmContent))| {
        let message = AlarmMessage {
            message: message.to_owned(),
            format: FORMAT,
            site: header.site.clone(),
            gateway: header.gateway.clone(),
            epoch: commit.header.epoch,
            lane: header.lane,
            sequence: commit.header.sequence,
            index,
            count,
            oldest_undelivered: header.oldest_undelivered,
            boot: commit.header.boot,
            clock: commit.header.clock,
            wall_minus_monotonic_ms: commit.header.wall_minus_monotonic_ms,
            content,
        };
        serde_json::to_vec(&message).map_err(|error| EncodeError::Compressor(error.to_string()))
    };
    (0..).zip(contents).map(payload).collect()
}

/// The message in a payload that [`encode`] made.
///
/// # Errors
/// What is wrong with the bytes, in one line.
pub fn decode(payload: &[u8]) -> Result<AlarmMessage, DecodeError> {
    let alarm: AlarmMessage =
        serde_json::from_slice(payload).map_err(|error| DecodeError::damaged(error.to_string()))?;
    if alarm.format == FORMAT { Ok(alarm) } else { Err(DecodeError::Format(alarm.format)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::one_set::header;
    use crate::model::{CommitHeader, Gap, GapReason};

    fn commit(records: Records) -> Commit {
        let header = CommitHeader {
            epoch: header().epoch,
            sequence: Sequence(4),
            boot: BootId([7; 16]),
            clock: ClockState::Local,
            wall_minus_monotonic_ms: 12,
        };
        Commit { header, records }
    }

    fn silent(device: &str) -> AlarmRecord {
        AlarmRecord {
            name: "DeviceSilent".to_owned(),
            labels: BTreeMap::from([("device".to_owned(), device.to_owned())]),
            time: Timestamp(1_700_000_000_123),
            transition: Transition::Raised,
            state: AlarmState::UnacknowledgedActive,
            priority: Priority::Medium,
            value: None,
            annotations: BTreeMap::new(),
            readings: vec![AlarmReading {
                series: "temperature_c".to_owned(),
                time: Timestamp(1_700_000_000_000),
                value: None,
            }],
            by: Some("eva".to_owned()),
        }
    }

    #[test]
    fn every_alarm_of_a_commit_is_a_message_with_its_own_identity() {
        let commit = commit(Records::Alarms(vec![silent("press-1"), silent("press-2")]));

        let payloads = encode(&BatchHeader { lane: Lane::Alarms, ..header() }, &commit).unwrap();

        let messages: Vec<AlarmMessage> = payloads.iter().map(|payload| decode(payload).unwrap()).collect();
        assert_eq!(messages.len(), 2);
        for (index, message) in (0..).zip(&messages) {
            assert_eq!((message.sequence, message.index, message.count), (Sequence(4), index, 2));
            assert_eq!((message.epoch, message.lane), (header().epoch, Lane::Alarms));
        }
        assert_eq!(messages[1].content, AlarmContent::Transition((&silent("press-2")).into()));
        assert!(String::from_utf8(payloads[0].clone()).unwrap().contains(r#""time":"2023-11-14T22:13:20.123Z""#));
    }

    #[test]
    fn a_gap_in_the_alarm_lane_is_a_message_too() {
        let gap = Gap {
            lane: Lane::Alarms,
            first: Sequence(1),
            last: Sequence(3),
            records: 5,
            first_time: Timestamp(1),
            last_time: Timestamp(2),
            reason: GapReason::Damaged,
        };

        let payloads = encode(&header(), &commit(Records::Gap(gap.clone()))).unwrap();

        let message = decode(&payloads[0]).unwrap();
        assert_eq!((message.message.as_str(), message.content), (TYPE_GAP, AlarmContent::Gap((&gap).into())));
    }

    #[test]
    fn readings_are_no_alarms() {
        assert!(encode(&header(), &commit(Records::Readings(Vec::new()))).is_err());
    }
}
