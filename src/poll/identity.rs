//! What is known about who a device is, and when it has to be asked again. Pure.
//!
//! A device is asked on every connection and whenever it answers after it did not. A question without an answer ends
//! the round, as any request would, and the next round goes on with the next question: a device that is dead costs its
//! link one timeout, no more than without. Only when none of the questions was heard the device is polled all the same.

use serde::Serialize;

use crate::modbus::PollError;
use crate::modbus::identify::{Ask, Identity, Inquiry, Reply, Verdict};
use crate::model::{Doubt, Fault};
use crate::profile::{Identification, ModbusProfile, Version, sunspec};

/// Whether a device has been identified.
pub(super) struct DeviceIdentity {
    identification: Identification,
    configured: Option<Version>,
    state: State,
    /// Which connection it was identified on; `None` when it has to be asked again.
    on: Option<u64>,
    /// Which connection it is being asked on.
    asked_on: u64,
}

enum State {
    /// Nothing to ask and one map for all: nothing to know.
    Plain,
    Asking(Box<Inquiry>),
    Known,
}

impl DeviceIdentity {
    pub(super) fn new(modbus: &ModbusProfile, configured: Option<Version>) -> Self {
        let identification = modbus.identification.clone();
        let is_plain = identification.is_empty() && modbus.maps.is_empty();
        let state = match is_plain {
            true => State::Plain,
            false => State::Asking(Box::new(Inquiry::new(&identification, configured.clone()))),
        };
        Self { identification, configured, state, on: None, asked_on: 0 }
    }

    /// Begins anew when the device has not been identified on `connection`, or has been silent since. True when it did.
    pub(super) fn begin(&mut self, connection: u64) -> bool {
        let is_new = std::mem::replace(&mut self.asked_on, connection) != connection;
        match &mut self.state {
            State::Plain => false,
            State::Asking(inquiry) => {
                if is_new {
                    inquiry.keep_silences();
                }
                false
            }
            State::Known if self.on == Some(connection) => false,
            State::Known => {
                self.state = State::Asking(Box::new(Inquiry::new(&self.identification, self.configured.clone())));
                true
            }
        }
    }

    /// True when there is nothing to ask.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.state, State::Plain)
    }

    /// The connection that the device was asked on last; `None` where it does not matter.
    pub(super) fn asked_on(&self) -> Option<u64> {
        match self.state {
            State::Plain => None,
            State::Asking(_) | State::Known => Some(self.asked_on),
        }
    }

    /// The device was silent, or is not what it should be: ask it before the next poll.
    pub(super) fn forget(&mut self) {
        self.on = None;
    }

    /// What to ask next, if it is not known who the device is.
    pub(super) fn next(&self) -> Option<Ask> {
        match &self.state {
            State::Asking(inquiry) => inquiry.next(),
            State::Plain | State::Known => None,
        }
    }

    /// Notes what came of a question.
    pub(super) fn take(&mut self, ask: Ask, outcome: Result<Reply, &PollError>) {
        if let State::Asking(inquiry) = &mut self.state {
            inquiry.take(ask, outcome);
        }
    }

    /// Draws the conclusion, once all is asked and the device was heard: by an answer to a question, or to a poll
    /// (`was_heard`). Otherwise, when all was asked, all will be asked again.
    pub(super) fn conclude(&mut self, modbus: &ModbusProfile, was_heard: bool) -> Option<Identity> {
        let State::Asking(inquiry) = &mut self.state else { return None };
        if inquiry.next().is_some() {
            return None;
        }
        if !was_heard && !inquiry.is_answered() && !self.identification.is_empty() {
            return None;
        }
        let identity = inquiry.conclude(&modbus.maps);
        self.state = State::Known;
        self.on = Some(self.asked_on);
        Some(identity)
    }

    /// None of the questions was heard and neither was the poll: ask them all again.
    pub(super) fn start_over(&mut self) {
        if let State::Asking(inquiry) = &mut self.state
            && inquiry.next().is_none()
        {
            **inquiry = Inquiry::new(&self.identification, self.configured.clone());
        }
    }
}

/// Who a device is, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentityStatus {
    /// What is known.
    pub state: IdentityState,
    /// The model, one of those the profile names.
    pub model: Option<String>,
    /// Its firmware, as read or as configured.
    pub firmware: Option<String>,
    /// The variant of the register map that is in use; `None` when the profile has only one.
    pub map: Option<String>,
    /// What is wrong, when something is.
    pub reason: Option<String>,
}

/// Whether a device is what its profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityState {
    /// It is, as far as the profile can tell.
    Accepted,
    /// The profile does not know its firmware.
    UnknownFirmware,
    /// It is another device.
    WrongDevice,
}

impl IdentityStatus {
    pub(super) fn new(identity: &Identity, modbus: &ModbusProfile) -> Self {
        let (state, reason) = match &identity.verdict {
            Verdict::Accepted => {
                (IdentityState::Accepted, identity.remark.clone().or_else(|| reads_nothing(identity, modbus)))
            }
            Verdict::UnknownFirmware => (IdentityState::UnknownFirmware, None),
            Verdict::WrongDevice(reason) => (IdentityState::WrongDevice, Some(reason.clone())),
        };
        Self {
            state,
            model: identity.model.clone(),
            firmware: identity.version.as_ref().map(ToString::to_string),
            map: match identity.models.as_slice() {
                [] => modbus.maps.get(identity.chosen.map).map(|map| map.name.clone()),
                chain => Some(sunspec::name(chain)),
            },
            reason,
        }
    }

    /// True when the map is known to be right: nothing is written to a device otherwise.
    pub fn allows_writes(&self) -> bool {
        match self.state {
            IdentityState::Accepted => true,
            IdentityState::UnknownFirmware | IdentityState::WrongDevice => false,
        }
    }
}

/// What is said of a device of whose models the profile reads none but the common one.
fn reads_nothing(identity: &Identity, modbus: &ModbusProfile) -> Option<String> {
    let covers_none = sunspec::coverage(&modbus.models, &identity.models) == 0;
    let is_walked = !modbus.models.is_empty() && !identity.models.is_empty();
    (is_walked && covers_none)
        .then(|| format!("has {}, of which the profile reads none but the common one", sunspec::name(&identity.models)))
}

/// What a verdict makes of the readings.
pub(super) fn judgement(verdict: &Verdict) -> (Option<Doubt>, Option<Fault>) {
    match verdict {
        Verdict::Accepted => (None, None),
        Verdict::UnknownFirmware => (Some(Doubt::UnknownFirmware), None),
        Verdict::WrongDevice(_) => (None, Some(Fault::WrongDevice)),
    }
}
