//! What the uplink says about itself: counters and its two alarms.

use std::collections::BTreeMap;

use serde::Serialize;

use super::flight::Shipment;
use crate::model::{AlarmRecord, AlarmState, Lane, Priority, Timestamp, Transition};

/// What was sent so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UplinkStatus {
    /// Batches acknowledged.
    pub batches: u64,
    /// Telemetry records acknowledged.
    pub readings: u64,
    /// Telemetry records that the configuration kept back.
    #[serde(skip_serializing_if = "is_zero")]
    pub withheld: u64,
    /// Records acknowledged that were sent again because somebody asked for it.
    #[serde(skip_serializing_if = "is_zero")]
    pub sent_again: u64,
    /// Alarm records acknowledged.
    pub alarms: u64,
    /// Payload bytes acknowledged.
    pub payload_bytes: u64,
    /// Additional messages because a batch was too large for one.
    pub split: u64,
    /// Deliveries under way.
    pub in_flight: usize,
    /// Messages the broker refused.
    pub refused: u64,
    /// Why the broker refuses at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusing: Option<String>,
    /// When the broker last acknowledged something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Timestamp>,
}

impl UplinkStatus {
    pub(super) fn count_delivered(&mut self, shipment: &Shipment, now: Timestamp) {
        let sent = shipment.records.saturating_sub(shipment.withheld) as u64;
        match shipment.lane {
            _ if shipment.is_repeat => self.sent_again += sent,
            Lane::Alarms => self.alarms += sent,
            Lane::Telemetry => {
                self.batches += 1;
                self.readings += sent;
                self.withheld += shipment.withheld as u64;
            }
        }
        self.payload_bytes += shipment.bytes as u64;
        self.last_delivery = Some(now);
    }

    pub(super) fn count_refused(&mut self, reason: &str) {
        self.refused += 1;
        self.refusing = Some(reason.to_owned());
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(super) fn broker_refuses(lane: Lane, reason: &str, time: Timestamp) -> AlarmRecord {
    let summary = format!("the broker refuses {lane}: {reason}; the records stay in the store");
    AlarmRecord {
        name: "BrokerRefuses".to_owned(),
        labels: labels(lane),
        time,
        transition: Transition::Raised,
        state: AlarmState::UnacknowledgedActive,
        priority: Priority::High,
        value: None,
        annotations: BTreeMap::from([("summary".to_owned(), summary)]),
        readings: Vec::new(),
        by: None,
    }
}

pub(super) fn broker_takes_again(lane: Lane, time: Timestamp) -> AlarmRecord {
    AlarmRecord {
        name: "BrokerRefuses".to_owned(),
        labels: labels(lane),
        time,
        transition: Transition::Cleared,
        state: AlarmState::Normal,
        priority: Priority::High,
        value: None,
        annotations: BTreeMap::new(),
        readings: Vec::new(),
        by: None,
    }
}

fn labels(lane: Lane) -> BTreeMap<String, String> {
    BTreeMap::from([("lane".to_owned(), lane.to_string())])
}
