//! What a text link says about itself: status for people, and the alarm of a device that fell silent.

use tokio::sync::watch;

use crate::config::LinkConfig;
use crate::model::{AlarmRecord, Fault, Name, Timestamp, Transition};
use crate::poll::alarm::device_silent;
use crate::poll::{DeviceState, DeviceStatus, LinkStatus};

use super::port::Failure;

/// Keeps the status of one link with one device, and logs what changes.
pub struct Report {
    link: Name,
    device: Name,
    status: watch::Sender<LinkStatus>,
    is_silent: bool,
}

impl Report {
    /// A link that did nothing yet.
    pub fn new(link: &LinkConfig, device: &Name) -> (Self, watch::Receiver<LinkStatus>) {
        let (status, receiver) = watch::channel(LinkStatus::new(
            link.name.clone(),
            link.endpoint.to_string(),
            std::iter::once(device.clone()),
        ));
        (Self { link: link.name.clone(), device: device.clone(), status, is_silent: false }, receiver)
    }

    /// The port is open, or it is not and why.
    pub fn port(&self, state: Result<(), &Failure>) {
        let connected = state.is_ok();
        let changed =
            self.status.send_if_modified(|link| std::mem::replace(&mut link.connected, connected) != connected);
        match state {
            Ok(()) if changed => tracing::info!(link = %self.link, "serial port open"),
            Err(failure) if changed => tracing::warn!(link = %self.link, reason = %failure.reason, "serial port lost"),
            Err(failure) => tracing::debug!(link = %self.link, reason = %failure.reason, "serial port still closed"),
            Ok(()) => {}
        }
    }

    /// A poll was made, and this many before it were not.
    pub fn polled(&self, skipped: u64, late_lines: u64) {
        self.status.send_modify(|link| {
            link.polls_due += 1 + skipped;
            link.polls_done += 1;
            link.polls_skipped += skipped;
            for device in &mut link.devices {
                device.requests += 1;
                device.stale_dropped += late_lines;
            }
        });
    }

    /// The instrument was understood. Gives the record of the alarm that this clears, if one was raised.
    pub fn answered(&mut self, time: Timestamp) -> Option<AlarmRecord> {
        self.device(|device| {
            device.state = DeviceState::Answering;
            device.answers += 1;
            device.last_answer = Some(time);
            device.last_error = None;
        });
        if !std::mem::take(&mut self.is_silent) {
            return None;
        }
        tracing::info!(device = %self.device, link = %self.link, "device answers again");
        Some(self.alarm(time, Transition::Cleared, format!("{} on {} answers again", self.device, self.link)))
    }

    /// Something came that could not be used, but the device is not taken for silent because of it.
    pub fn misunderstood(&self, failure: &Failure) {
        self.device(|device| count(device, failure));
    }

    /// The device gave nothing that can be used, and is `silent` when that has lasted. Gives the record of the alarm
    /// that this raises, if it was not raised before.
    pub fn failed(&mut self, failure: &Failure, silent: bool, time: Timestamp) -> Option<AlarmRecord> {
        let is_silent = self.is_silent || silent;
        self.device(|device| {
            device.state = if is_silent { DeviceState::BackedOff } else { DeviceState::Failing };
            count(device, failure);
        });
        if self.is_silent || !silent {
            return None;
        }
        self.is_silent = true;
        tracing::warn!(device = %self.device, link = %self.link, reason = %failure.reason, "device is silent");
        let summary = format!("{} on {} gives no usable answer: {}", self.device, self.link, failure.reason);
        Some(self.alarm(time, Transition::Raised, summary))
    }

    fn device(&self, change: impl FnOnce(&mut DeviceStatus)) {
        self.status.send_modify(|link| link.devices.first_mut().map_or((), change));
    }

    fn alarm(&self, time: Timestamp, transition: Transition, summary: String) -> AlarmRecord {
        device_silent(&self.link, &self.device, time, transition, summary)
    }
}

/// Counts a failure under what it was.
fn count(device: &mut DeviceStatus, failure: &Failure) {
    match failure.fault {
        Fault::Timeout => device.timeouts += 1,
        Fault::BadChecksum => device.crc_errors += 1,
        Fault::LinkDown => device.link_failures += 1,
        Fault::Exception(_)
        | Fault::WrongUnit
        | Fault::WrongAnswer
        | Fault::Garbage
        | Fault::NotAvailable
        | Fault::NotANumber
        | Fault::OutOfRange
        | Fault::BadScaleFactor
        | Fault::NoMatch
        | Fault::DeviceFault => device.bad_frames += 1,
    }
    device.last_error = Some(failure.reason.clone());
}
