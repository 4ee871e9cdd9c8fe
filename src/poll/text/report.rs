//! What a text link says about itself: status for people, and the alarm of a device that fell silent.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::LinkConfig;
use crate::instrument::Heard;
use crate::model::{AlarmRecord, Fault, Name, Timestamp, Transition};
use crate::poll::alarm::{Matter, device_alarm};
use crate::poll::health::DeviceState;
use crate::poll::status::{DeviceStatus, LinkStatus, Load, UnmatchedLines};

use super::port::Failure;

/// Keeps the status of one link with one device, and logs what changes.
pub struct Report {
    link: Name,
    device: Name,
    status: watch::Sender<LinkStatus>,
    load: Load,
    is_silent: bool,
}

impl Report {
    /// A link that did nothing yet.
    pub fn new(link: &LinkConfig, device: &Name) -> (Self, watch::Receiver<LinkStatus>) {
        let devices = std::iter::once(device.clone());
        let status = LinkStatus::new(link.name.clone(), link.endpoint.to_string(), devices);
        let (status, receiver) = watch::channel(status);
        let (link, device, load) = (link.name.clone(), device.clone(), Load::new(Instant::now()));
        (Self { link, device, status, load, is_silent: false }, receiver)
    }

    /// The port is open, or it is not and why.
    pub fn port(&self, state: Result<(), &Failure>) {
        let connected = state.is_ok();
        let changed = self.status.send_if_modified(|link| {
            if let Err(failure) = state {
                link.last_error = Some(failure.reason.clone());
            }
            std::mem::replace(&mut link.connected, connected) != connected
        });
        match state {
            Ok(()) if changed => tracing::info!(link = %self.link, "serial port open"),
            Err(failure) if changed => tracing::warn!(link = %self.link, reason = %failure.reason, "serial port lost"),
            Err(failure) => tracing::debug!(link = %self.link, reason = %failure.reason, "serial port still closed"),
            Ok(()) => {}
        }
    }

    /// One exchange with the instrument: how long it took, and how many late lines were dropped before it.
    pub fn asked(&mut self, took: Duration, late_lines: u64) {
        self.load.busy += took;
        self.device(|device| {
            device.requests += 1;
            device.stale_dropped += late_lines;
        });
    }

    /// An answer came this long after it was asked for.
    pub fn round_trip(&self, took: Duration) {
        self.device(|device| device.round_trip.add(took));
    }

    /// A poll was made, and `missed` before it were not; the wall clock has stepped so often until now.
    pub fn polled(&mut self, missed: u64, clock_steps: u64) {
        let load = &mut self.load;
        self.status.send_modify(|link| {
            link.polls_due += 1 + missed;
            link.polls_done += 1;
            link.polls_skipped += missed;
            link.clock_steps = clock_steps;
            load.show(Instant::now(), link);
        });
    }

    /// The instrument was understood. Gives the record of the alarm that this clears, if one was raised.
    pub fn answered(&mut self, time: Timestamp) -> Option<AlarmRecord> {
        self.device(|device| {
            device.state = DeviceState::Answering;
            device.answers += 1;
            device.last_answer = Some(time);
            device.unmatched = None;
        });
        if !std::mem::take(&mut self.is_silent) {
            return None;
        }
        tracing::info!(link = %self.link, device = %self.device, "device answers again");
        let summary = format!("{} on {} answers again", self.device, self.link);
        Some(device_alarm(Matter::Silent, &self.link, &self.device, time, Transition::Cleared, summary))
    }

    /// A line came that nothing in the profile understands.
    pub fn not_understood(&self, heard: &Heard) {
        let Some(raw) = &heard.raw else { return };
        self.device(|device| {
            let before = device.unmatched.take();
            device.unmatched = Some(UnmatchedLines {
                since: before.as_ref().map_or(heard.time, |before| before.since),
                count: before.as_ref().map_or(1, |before| before.count + 1),
                last: raw.to_string(),
            });
        });
    }

    /// Something came that could not be used; whether the device is silent is not decided by it.
    pub fn misunderstood(&self, failure: &Failure) {
        self.device(|device| count(device, failure));
    }

    /// The device gave nothing that can be used, and is `silent` when that has lasted. Gives the record of the alarm
    /// that this raises, if it was not raised before.
    pub fn failed(&mut self, failure: &Failure, silent: bool, time: Timestamp) -> Option<AlarmRecord> {
        let was_silent = self.is_silent;
        self.is_silent |= silent;
        self.device(|device| {
            device.state = if was_silent || silent { DeviceState::BackedOff } else { DeviceState::Failing };
            count(device, failure);
        });
        if was_silent || !silent {
            return None;
        }
        let reason = &failure.reason;
        tracing::warn!(link = %self.link, device = %self.device, reason, "device does not answer");
        let summary = format!("{} on {} does not answer: {reason}", self.device, self.link);
        Some(device_alarm(Matter::Silent, &self.link, &self.device, time, Transition::Raised, summary))
    }

    fn device(&self, change: impl FnOnce(&mut DeviceStatus)) {
        self.status.send_modify(|link| link.devices.first_mut().map_or((), change));
    }
}

fn count(device: &mut DeviceStatus, failure: &Failure) {
    match failure.fault {
        Fault::Timeout => device.timeouts += 1,
        Fault::BadChecksum => device.crc_errors += 1,
        Fault::LinkDown => device.link_failures += 1,
        _ => device.bad_frames += 1,
    }
    device.last_error = Some(failure.reason.clone());
}
