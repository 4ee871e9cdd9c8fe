//! The alarm that a device does not answer.

use crate::model::{AlarmRecord, AlarmState, Name, Priority, Timestamp, Transition};

/// `DeviceSilent` with the labels `device` and `link`.
pub(super) fn device_silent(
    link: &Name,
    device: &Name,
    time: Timestamp,
    transition: Transition,
    summary: String,
) -> AlarmRecord {
    let label = |key: &str, value: &Name| (key.to_owned(), value.to_string());
    AlarmRecord {
        name: "DeviceSilent".to_owned(),
        labels: [label("device", device), label("link", link)].into(),
        time,
        transition,
        state: if transition == Transition::Raised { AlarmState::UnacknowledgedActive } else { AlarmState::Normal },
        priority: Priority::Medium,
        value: None,
        annotations: [("summary".to_owned(), summary)].into(),
        readings: Vec::new(),
        by: None,
    }
}
