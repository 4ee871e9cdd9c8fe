//! The life of one alarm, after ANSI/ISA-18.2-2016, 5.3 (IEC 62682). Pure: time is an argument.
//!
//! ```text
//!            raises for `delay`               acknowledged
//! normal ------------------> unacknowledged ---------------> acknowledged
//!   ^                            active                         active
//!   |                              | gone                         | gone
//!   |   acknowledged               v                              v
//!   |<------------------ returned, unacknowledged    normal, or latched acknowledged
//!   |   reset                     or
//!   `------ latched acknowledged <--------- latched unacknowledged
//!                                acknowledged
//! ```
//!
//! An alarm that nobody has to acknowledge returns to normal at once. Shelved, suppressed by design and out of service
//! lie over all of that: the alarm goes on underneath, unannounced, and shows where it is when it is uncovered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{AlarmState, Timestamp, Transition};

/// How an alarm behaves beyond its condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmPolicy {
    /// On-delay: the condition has to hold for so long without a break (`for`).
    pub delay: Duration,
    /// Off-delay: the condition has to be gone for so long without a break (`keep_firing_for`).
    pub keep_firing: Duration,
    /// Held after the condition is gone, until a person resets it.
    pub latch: bool,
    /// Held after the condition is gone, until a person has seen it.
    pub acknowledge: bool,
    /// What becomes of it while its inputs are bad.
    pub on_bad: OnBad,
    /// How often it may be raised before it is held.
    pub flap: Option<FlapLimit>,
}

impl Default for AlarmPolicy {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            keep_firing: Duration::ZERO,
            latch: false,
            acknowledge: false,
            on_bad: OnBad::Hold,
            flap: None,
        }
    }
}

/// What becomes of an alarm while its inputs are bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBad {
    /// It stays as it is. A delay that runs starts anew: nobody has seen the condition hold throughout.
    #[default]
    Hold,
    /// As if the condition were gone.
    Resolve,
    /// As if the condition held.
    Fire,
}

/// An alarm that was raised `raises` times within `within` is held until its condition was gone for all of `within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlapLimit {
    /// How often; at least 1.
    pub raises: usize,
    /// Within which time.
    pub within: Duration,
}

/// What one evaluation says about the condition of an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    /// It holds, with this value.
    Holds(f64),
    /// It does not hold, but is not clear either: between the two thresholds of a hysteresis.
    Between,
    /// It is gone; with the value, where there is one.
    Gone(Option<f64>),
    /// The inputs are bad: nobody knows.
    Unknown,
}

/// What is announced: one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub transition: Transition,
    /// State after it.
    pub state: AlarmState,
}

/// Why a person's request changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPossible {
    /// There is nothing to acknowledge.
    #[error("the alarm does not wait for an acknowledgement")]
    NothingToAcknowledge,
    /// Nothing is latched.
    #[error("the alarm is not latched")]
    NotLatched,
    /// The condition still holds, so the latch cannot be released.
    #[error("the condition still holds; a latched alarm can be reset when it is gone")]
    StillActive,
    /// An alarm of the agent itself that must not be put aside.
    #[error("the alarm says that data is at risk: it can be acknowledged, and not shelved or taken out of service")]
    DataAtRisk,
    /// The alarm is shelved, suppressed or out of service.
    #[error("the alarm is shelved, suppressed or out of service")]
    Covered,
    /// It is so already.
    #[error("the alarm is in that state already")]
    Already,
}

/// Where the condition and the people have brought an alarm, whatever lies over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Base {
    Normal,
    /// The condition holds since then, not yet long enough.
    Pending {
        since: Timestamp,
    },
    Active {
        since: Timestamp,
        acknowledged: bool,
        /// The condition is gone since then, not yet long enough.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gone_since: Option<Timestamp>,
    },
    Returned,
    Latched {
        acknowledged: bool,
    },
}

impl Base {
    fn state(self) -> AlarmState {
        match self {
            Self::Normal | Self::Pending { .. } => AlarmState::Normal,
            Self::Active { acknowledged: false, .. } => AlarmState::UnacknowledgedActive,
            Self::Active { acknowledged: true, .. } => AlarmState::AcknowledgedActive,
            Self::Returned => AlarmState::ReturnedUnacknowledged,
            Self::Latched { acknowledged: false } => AlarmState::LatchedUnacknowledged,
            Self::Latched { acknowledged: true } => AlarmState::LatchedAcknowledged,
        }
    }
}

/// One alarm: a rule and one set of labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    base: Base,
    /// What the last record said.
    announced: AlarmState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shelved_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suppressed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    out_of_service: bool,
    /// When it was raised, the latest last, as far as the flap limit asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    raised: Vec<Timestamp>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            base: Base::Normal,
            announced: AlarmState::Normal,
            shelved_until: None,
            suppressed: false,
            out_of_service: false,
            raised: Vec::new(),
        }
    }
}

impl Alarm {
    /// The state as the standard names it.
    pub fn state(&self) -> AlarmState {
        match self {
            Self { out_of_service: true, .. } => AlarmState::OutOfService,
            Self { shelved_until: Some(_), .. } => AlarmState::Shelved,
            Self { suppressed: true, .. } => AlarmState::SuppressedByDesign,
            Self { base, .. } => base.state(),
        }
    }

    /// Whether the condition holds long enough, whatever lies over the alarm: what suppresses others.
    pub fn is_active(&self) -> bool {
        matches!(self.base, Base::Active { .. })
    }

    /// Since when the condition holds without having held long enough.
    pub fn pending_since(&self) -> Option<Timestamp> {
        match self.base {
            Base::Pending { since } => Some(since),
            Base::Normal | Base::Active { .. } | Base::Returned | Base::Latched { .. } => None,
        }
    }

    /// Since when it is active.
    pub fn active_since(&self) -> Option<Timestamp> {
        match self.base {
            Base::Active { since, .. } => Some(since),
            Base::Normal | Base::Pending { .. } | Base::Returned | Base::Latched { .. } => None,
        }
    }

    /// Until when it is shelved.
    pub fn shelved_until(&self) -> Option<Timestamp> {
        self.shelved_until
    }

    /// Whether it flaps: it was raised so often that it is held.
    pub fn flaps(&self, policy: &AlarmPolicy) -> bool {
        policy.flap.is_some_and(|limit| self.raised.len() >= limit.raises.max(1))
    }

    /// Whether nothing would be lost by forgetting this alarm.
    pub fn is_idle(&self) -> bool {
        self.base == Base::Normal
            && self.announced == AlarmState::Normal
            && self.shelved_until.is_none()
            && !self.out_of_service
            && self.raised.is_empty()
    }

    /// Takes the result of an evaluation at `now`. `suppressed` says whether an alarm that explains this one is active.
    pub fn evaluate(
        &mut self,
        now: Timestamp,
        condition: Condition,
        suppressed: bool,
        policy: &AlarmPolicy,
    ) -> Option<Change> {
        self.forget_raises(now, policy);
        self.base = self.next_base(now, condition, policy);
        self.suppressed = suppressed;
        if self.shelved_until.is_some_and(|until| until <= now) {
            self.shelved_until = None;
        }
        self.announce()
    }

    /// A person has seen it.
    ///
    /// # Errors
    /// There is nothing to acknowledge, or something lies over the alarm.
    pub fn acknowledge(&mut self) -> Result<Change, NotPossible> {
        if self.state() != self.base.state() {
            return Err(NotPossible::Covered);
        }
        self.base = match self.base {
            Base::Active { since, acknowledged: false, gone_since } => {
                Base::Active { since, acknowledged: true, gone_since }
            }
            Base::Returned => Base::Normal,
            Base::Latched { acknowledged: false } => Base::Latched { acknowledged: true },
            Base::Normal | Base::Pending { .. } | Base::Active { .. } | Base::Latched { .. } => {
                return Err(NotPossible::NothingToAcknowledge);
            }
        };
        Ok(self.announce_as(Transition::Acknowledged))
    }

    /// A person releases the latch, which acknowledges too.
    ///
    /// # Errors
    /// Nothing is latched, or the condition still holds.
    pub fn reset(&mut self) -> Result<Change, NotPossible> {
        if self.state() != self.base.state() {
            return Err(NotPossible::Covered);
        }
        match self.base {
            Base::Latched { .. } => self.base = Base::Normal,
            Base::Active { .. } => return Err(NotPossible::StillActive),
            Base::Normal | Base::Pending { .. } | Base::Returned => return Err(NotPossible::NotLatched),
        }
        Ok(self.announce_as(Transition::Reset))
    }

    /// A person does not want to hear of it until `until`. Shelving again moves the end.
    ///
    /// # Errors
    /// It is out of service, so there is nothing to hear.
    pub fn shelve(&mut self, until: Timestamp) -> Result<Change, NotPossible> {
        if self.out_of_service {
            return Err(NotPossible::Covered);
        }
        self.shelved_until = Some(until);
        Ok(self.announce_as(Transition::Shelved))
    }

    /// A person wants to hear of it again.
    ///
    /// # Errors
    /// It is not shelved.
    pub fn unshelve(&mut self) -> Result<Change, NotPossible> {
        self.shelved_until.take().ok_or(NotPossible::Already)?;
        Ok(self.announce_as(Transition::Unshelved))
    }

    /// A person takes it out of service, until it is returned.
    ///
    /// # Errors
    /// It is out of service already.
    pub fn remove_from_service(&mut self) -> Result<Change, NotPossible> {
        if std::mem::replace(&mut self.out_of_service, true) {
            return Err(NotPossible::Already);
        }
        Ok(self.announce_as(Transition::RemovedFromService))
    }

    /// It counts again.
    ///
    /// # Errors
    /// It is in service.
    pub fn return_to_service(&mut self) -> Result<Change, NotPossible> {
        if !std::mem::replace(&mut self.out_of_service, false) {
            return Err(NotPossible::Already);
        }
        Ok(self.announce_as(Transition::ReturnedToService))
    }

    /// Nobody saw the condition hold for a while: a delay that runs starts anew.
    pub fn break_delay(&mut self) {
        if matches!(self.base, Base::Pending { .. }) {
            self.base = Base::Normal;
        }
    }

    /// The rule is gone: what was announced has to end. Nothing to say when it was normal.
    pub fn retire(&mut self) -> Option<Change> {
        *self = Self { announced: self.announced, ..Self::default() };
        self.announce()
    }

    fn next_base(&mut self, now: Timestamp, condition: Condition, policy: &AlarmPolicy) -> Base {
        let (holds, is_gone) = match (condition, policy.on_bad) {
            (Condition::Holds(_), _) | (Condition::Unknown, OnBad::Fire) => (true, false),
            (Condition::Gone(_), _) | (Condition::Unknown, OnBad::Resolve) => (false, true),
            (Condition::Between, _) | (Condition::Unknown, OnBad::Hold) => (false, false),
        };
        match self.base {
            Base::Normal | Base::Returned | Base::Latched { .. } if holds && policy.delay.is_zero() => self.raise(now),
            Base::Normal if holds => Base::Pending { since: now },
            Base::Pending { since } if holds && now.since(since) >= policy.delay => self.raise(now),
            Base::Pending { .. } if !holds => Base::Normal,
            // A new delay would hide that somebody still has to act; it is raised again at once.
            Base::Returned | Base::Latched { .. } if holds => self.raise(now),
            Base::Active { since, acknowledged, .. } if holds => Base::Active { since, acknowledged, gone_since: None },
            Base::Active { since, acknowledged, gone_since } if is_gone => {
                let gone = gone_since.unwrap_or(now);
                if now.since(gone) >= self.off_delay(policy) {
                    after(acknowledged, policy)
                } else {
                    Base::Active { since, acknowledged, gone_since: Some(gone) }
                }
            }
            Base::Active { since, acknowledged, gone_since } => {
                let unbroken = gone_since.filter(|_| condition == Condition::Unknown);
                Base::Active { since, acknowledged, gone_since: unbroken }
            }
            unchanged @ (Base::Normal | Base::Pending { .. } | Base::Returned | Base::Latched { .. }) => unchanged,
        }
    }

    fn raise(&mut self, now: Timestamp) -> Base {
        self.raised.push(now);
        Base::Active { since: now, acknowledged: false, gone_since: None }
    }

    fn off_delay(&self, policy: &AlarmPolicy) -> Duration {
        let flapping = policy.flap.filter(|_| self.flaps(policy)).map_or(Duration::ZERO, |limit| limit.within);
        policy.keep_firing.max(flapping)
    }

    fn forget_raises(&mut self, now: Timestamp, policy: &AlarmPolicy) {
        match policy.flap {
            None => self.raised.clear(),
            // While it is held for flapping the count has to stay, or holding would end by itself.
            Some(limit) if self.is_active() && self.flaps(policy) => {
                let surplus = self.raised.len().saturating_sub(limit.raises.max(1));
                self.raised.drain(..surplus);
            }
            Some(limit) => self.raised.retain(|raised| now.since(*raised) < limit.within),
        }
    }

    /// The record that is due, when what was announced is no longer so.
    fn announce(&mut self) -> Option<Change> {
        let (before, state) = (self.announced, self.state());
        // What comes and goes while another alarm explains it is the flood that suppression is for.
        let is_silent = before == AlarmState::Normal && state == AlarmState::SuppressedByDesign;
        if before == state || is_silent {
            return None;
        }
        let transition = match (before, state) {
            (_, AlarmState::SuppressedByDesign) => Transition::Suppressed,
            (_, AlarmState::Shelved) => Transition::Shelved,
            (_, AlarmState::OutOfService) => Transition::RemovedFromService,
            (AlarmState::SuppressedByDesign, _) => Transition::Unsuppressed,
            (AlarmState::Shelved, _) => Transition::Unshelved,
            (AlarmState::OutOfService, _) => Transition::ReturnedToService,
            (_, AlarmState::UnacknowledgedActive | AlarmState::AcknowledgedActive) => Transition::Raised,
            (
                _,
                AlarmState::Normal
                | AlarmState::ReturnedUnacknowledged
                | AlarmState::LatchedUnacknowledged
                | AlarmState::LatchedAcknowledged,
            ) => Transition::Cleared,
        };
        Some(self.announce_as(transition))
    }

    fn announce_as(&mut self, transition: Transition) -> Change {
        self.announced = self.state();
        Change { transition, state: self.announced }
    }
}

/// Where an alarm goes when its condition is gone for good.
fn after(acknowledged: bool, policy: &AlarmPolicy) -> Base {
    match (policy.latch, policy.acknowledge) {
        (true, _) => Base::Latched { acknowledged },
        (false, true) if !acknowledged => Base::Returned,
        (false, _) => Base::Normal,
    }
}

#[cfg(test)]
mod tests;
