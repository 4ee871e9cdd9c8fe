//! What the outcome of a round means for a device: back-off, return, and the alarm that tells of it.

use std::ops::ControlFlow;

use tokio::time::Instant;

use super::{Device, Poller};
use crate::modbus::PollError;
use crate::model::{AlarmRecord, Fault, Transition};
use crate::poll::alarm::{Matter, device_alarm};
use crate::poll::health::{Change, DeviceState};

impl Poller {
    /// Draws the consequences of one round: back-off, return, and the alarm that tells of it.
    pub(super) fn judge(&mut self, device: usize, failure: Option<&PollError>) -> Option<AlarmRecord> {
        let now = Instant::now();
        let Device { plan, health, last_fault, identity, silence, study, .. } = &mut self.devices[device];
        let change = match failure {
            None => health.answered(),
            Some(error) => {
                *last_fault = Some(error.fault());
                identity.forget();
                identity.start_over();
                health.failed()
            }
        };
        self.status.devices[device].state = health.state();
        let name = plan.name.clone();
        match change {
            Change::None => None,
            Change::WentSilent(wait) => {
                self.schedule.suspend(device, now + wait);
                let reason = failure.map_or_else(String::new, ToString::to_string);
                tracing::warn!(link = %self.link, device = %name, reason, "device does not answer");
                let (matter, what) = match failure {
                    Some(PollError::Exception(_)) => (Matter::Unreachable, "cannot be reached"),
                    Some(_) | None => (Matter::Silent, "does not answer"),
                };
                *silence = matter;
                let summary = format!("{name} on {} {what}: {reason}", self.link);
                Some(device_alarm(matter, &self.link, &name, self.clock.wall(), Transition::Raised, summary))
            }
            Change::StillSilent(wait) => {
                self.schedule.suspend(device, now + wait);
                None
            }
            Change::CameBack => {
                self.schedule.resume(device, now);
                study.look_soon();
                tracing::info!(link = %self.link, device = %name, "device answers again");
                let summary = format!("{name} on {} answers again", self.link);
                Some(device_alarm(*silence, &self.link, &name, self.clock.wall(), Transition::Cleared, summary))
            }
        }
    }

    /// The link is up again: devices that were given up because of it are probed at once.
    pub(super) fn greet(&mut self) -> ControlFlow<()> {
        let now = Instant::now();
        for (index, device) in self.devices.iter().enumerate() {
            if device.health.state() == DeviceState::BackedOff && device.last_fault == Some(Fault::LinkDown) {
                self.schedule.suspend(index, now);
            }
        }
        ControlFlow::Continue(())
    }
}
