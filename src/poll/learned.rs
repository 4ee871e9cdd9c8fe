//! What is known of a device from asking it: what it refuses, how fast it answers. Kept across restarts. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::DeviceConfig;
use crate::modbus::lessons::Lessons;

/// So many answers are needed before their times mean something.
const ANSWERS_AT_LEAST: u64 = 20;
/// Each answer moves the mean by one part in so many, and lets the slowest fade by it.
const FADE: u64 = 16;
/// Beyond twice the slowest answer, for what a busy system adds.
const MARGIN: Duration = Duration::from_millis(20);

/// What is known of each device, by its name.
pub type LearnedDevices = BTreeMap<String, Learned>;

/// What is known of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Whose it is: profile, unit id, firmware and map.
    pub of: Whose,
    /// What it refuses.
    pub lessons: Arc<Lessons>,
    /// Most registers that it has given in one answer.
    pub accepted_max: u16,
    /// Answers measured.
    pub answers: u64,
    /// From the end of a request to the first byte of its answer: mean, in microseconds.
    pub turnaround_us: u64,
    /// The slowest of late, in microseconds.
    pub slowest_us: u64,
}

/// Whose knowledge it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Whose {
    /// Id of its profile.
    pub profile: String,
    /// Address on its link.
    pub unit_id: u8,
    /// Its firmware, as read; empty when it does not say.
    pub firmware: String,
    /// The variant of the map; empty when there is one.
    pub map: String,
}

/// Bounds of the wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Not less, however fast the device is.
    pub least: Duration,
    /// Not more, and as long as nothing is known.
    pub most: Duration,
}

impl Learned {
    /// What is known of `device`: nothing, when this is of another one.
    pub(super) fn of_device(mut self, device: &DeviceConfig) -> Self {
        let unit_id = device.unit.map_or(0, |unit| unit.get());
        if (self.of.profile.as_str(), self.of.unit_id) != (device.profile.id.as_str(), unit_id) {
            let of = Whose { profile: device.profile.id.clone(), unit_id, ..Whose::default() };
            self = Self { of, ..Self::default() };
        }
        self
    }

    /// What a prediction for `device` needs: lessons, and the mean turnaround once that means something. `None` when this
    /// is of another device.
    pub fn known_of(&self, device: &DeviceConfig) -> Option<(&Lessons, Option<Duration>)> {
        let is_its =
            self.of.profile == device.profile.id && Some(self.of.unit_id) == device.unit.map(|unit| unit.get());
        is_its.then(|| (&*self.lessons, self.turnaround()))
    }

    /// The mean turnaround, once there are answers enough.
    pub(super) fn turnaround(&self) -> Option<Duration> {
        (self.answers >= ANSWERS_AT_LEAST).then(|| Duration::from_micros(self.turnaround_us))
    }

    /// True when it is of this firmware. When it is not, it will be, and whoever asks drops the lessons.
    pub(super) fn belongs_to(&mut self, firmware: &str, map: &str) -> bool {
        let is_same = (self.of.firmware.as_str(), self.of.map.as_str()) == (firmware, map);
        if !is_same {
            (self.of.firmware, self.of.map) = (firmware.to_owned(), map.to_owned());
        }
        is_same
    }

    /// Notes one answer of so many registers.
    pub(super) fn observe(&mut self, turnaround: Duration, registers: u16) {
        let took_us = u64::try_from(turnaround.as_micros()).unwrap_or(u64::MAX);
        self.accepted_max = self.accepted_max.max(registers);
        self.answers = self.answers.saturating_add(1);
        let weight = self.answers.min(FADE);
        self.turnaround_us = (self.turnaround_us * (weight - 1) + took_us) / weight;
        self.slowest_us = took_us.max(self.slowest_us - self.slowest_us / (16 * FADE));
    }

    /// How long an answer is waited for: twice the slowest of late, within the bounds.
    pub fn patience(&self, bounds: Patience) -> Duration {
        if self.answers < ANSWERS_AT_LEAST {
            return bounds.most;
        }
        let enough = 2 * Duration::from_micros(self.slowest_us) + MARGIN;
        enough.clamp(bounds.least.min(bounds.most), bounds.most)
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.lessons.is_empty() && self.answers == 0
    }

    /// For people to look at.
    pub fn status(&self, bounds: Patience) -> LearnedStatus {
        let timeout_ms = u64::try_from(self.patience(bounds).as_millis()).unwrap_or(u64::MAX);
        LearnedStatus { timeout_ms, known: Arc::new(self.clone()) }
    }
}

/// What was learned of a device, as shown.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LearnedStatus {
    /// How long its answers are waited for, in milliseconds.
    pub timeout_ms: u64,
    /// All of it.
    #[serde(flatten)]
    pub known: Arc<Learned>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Patience = Patience { least: Duration::from_millis(50), most: Duration::from_millis(500) };

    #[test]
    fn the_wait_follows_the_slowest_answer_within_its_bounds() {
        let mut learned = Learned::default();
        assert_eq!(learned.patience(BOUNDS), BOUNDS.most);

        (0..30).for_each(|_| learned.observe(Duration::from_millis(5), 10));
        assert_eq!(learned.patience(BOUNDS), BOUNDS.least);
        learned.observe(Duration::from_millis(100), 20);
        assert_eq!(learned.patience(BOUNDS), Duration::from_millis(220));
        learned.observe(Duration::from_millis(400), 20);
        assert_eq!(learned.patience(BOUNDS), BOUNDS.most);
        (0..3000).for_each(|_| learned.observe(Duration::from_millis(5), 10));

        assert_eq!(learned.patience(BOUNDS), BOUNDS.least, "what was slow once is forgotten");
        assert_eq!(learned.accepted_max, 20);
        assert!((4900..5100).contains(&learned.turnaround_us), "{learned:?}");
    }

    #[test]
    fn bounds_that_are_equal_leave_the_wait_alone() {
        let mut learned = Learned::default();
        (0..30).for_each(|_| learned.observe(Duration::from_millis(5), 10));

        assert_eq!(learned.patience(Patience { least: BOUNDS.most, ..BOUNDS }), BOUNDS.most);
    }

    #[test]
    fn knowledge_belongs_to_a_firmware() {
        let mut learned = Learned::default();

        assert!(learned.belongs_to("", ""));
        assert!(!learned.belongs_to("1.2", "from 1.0"));
        assert!(learned.belongs_to("1.2", "from 1.0"));
    }
}
