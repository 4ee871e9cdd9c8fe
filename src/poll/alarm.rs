//! The alarms about devices: it does not answer, it cannot be reached, its firmware is not known, it is another device.

use crate::model::{AlarmRecord, AlarmState, Name, Priority, Timestamp, Transition};

/// What is the matter with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matter {
    /// It does not answer.
    Silent,
    /// A gateway on the way says that it cannot reach it: no fault of the device.
    Unreachable,
    /// The profile does not know its firmware: readings are uncertain, nothing is written.
    FirmwareUnknown,
    /// It is not what the configured profile is for: readings are bad, nothing is written.
    WrongDevice,
}

impl Matter {
    fn alarm_name(self) -> &'static str {
        match self {
            Self::Silent => "DeviceSilent",
            Self::Unreachable => "DeviceUnreachable",
            Self::FirmwareUnknown => "FirmwareUnknown",
            Self::WrongDevice => "WrongDevice",
        }
    }
}

/// An alarm with the labels `device` and `link`.
pub(super) fn device_alarm(
    matter: Matter,
    link: &Name,
    device: &Name,
    time: Timestamp,
    transition: Transition,
    summary: String,
) -> AlarmRecord {
    let label = |key: &str, value: &Name| (key.to_owned(), value.to_string());
    AlarmRecord {
        name: matter.alarm_name().to_owned(),
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
