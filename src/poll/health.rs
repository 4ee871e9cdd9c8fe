//! Whether a device answers, and how long to leave it alone when it does not. Pure.

use std::time::Duration;

use serde::Serialize;

/// Failures in a row after which a device is left alone.
const FAILURES_MAX: u32 = 3;
/// First wait before a probe, unless the device is polled less often anyway.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between probes, unless the device is polled less often anyway.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How a device behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It answers, or was not asked yet.
    #[default]
    Answering,
    /// The last request failed, but fewer than three in a row.
    Failing,
    /// Three requests or more have failed in a row: only probed now and then.
    BackedOff,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that others need to know.
    None,
    /// The device is left alone from now on; first probe after this wait.
    WentSilent(Duration),
    /// A backed-off device failed again; next probe after this wait.
    StillSilent(Duration),
    /// A backed-off device answers again.
    CameBack,
}

/// The record of one device.
#[derive(Debug, Clone)]
pub struct Health {
    failures: u32,
    failures_max: u32,
    wait_first: Duration,
    wait: Option<Duration>,
}

impl Health {
    /// A device that is expected to answer; `shortest` is its shortest poll interval.
    pub fn new(shortest: Duration) -> Self {
        Self { failures: 0, failures_max: FAILURES_MAX, wait_first: shortest.max(WAIT_FIRST), wait: None }
    }

    /// A device that is asked at its intervals whatever it does.
    #[cfg(test)]
    pub(super) fn without_back_off() -> Self {
        Self { failures_max: u32::MAX, ..Self::new(Duration::ZERO) }
    }

    /// The device answered; an exception is an answer.
    pub fn answered(&mut self) -> Change {
        self.failures = 0;
        if self.wait.take().is_some() { Change::CameBack } else { Change::None }
    }

    /// A request failed, its retry included.
    pub fn failed(&mut self) -> Change {
        self.failures = self.failures.saturating_add(1);
        match self.wait {
            Some(wait) => {
                let next = (2 * wait).min(WAIT_MAX.max(self.wait_first));
                self.wait = Some(next);
                Change::StillSilent(next)
            }
            None if self.failures >= self.failures_max => {
                self.wait = Some(self.wait_first);
                Change::WentSilent(self.wait_first)
            }
            None => Change::None,
        }
    }

    /// True when the last request was answered, or none was asked.
    pub fn is_well(&self) -> bool {
        self.failures == 0 && self.wait.is_none()
    }

    /// How the device behaves.
    pub fn state(&self) -> DeviceState {
        match (self.wait, self.failures) {
            (Some(_), _) => DeviceState::BackedOff,
            (None, 0) => DeviceState::Answering,
            (None, _) => DeviceState::Failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_third_failure_in_a_row_backs_off_and_waits_double_up_to_a_minute() {
        let mut health = Health::new(Duration::from_millis(100));

        assert_eq!(health.failed(), Change::None);
        assert_eq!(health.failed(), Change::None);
        assert_eq!(health.state(), DeviceState::Failing);
        assert_eq!(health.failed(), Change::WentSilent(secs(1)));
        let waits: Vec<Change> = (0..8).map(|_| health.failed()).collect();

        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60].map(|wait| Change::StillSilent(secs(wait))));
        assert_eq!(health.state(), DeviceState::BackedOff);
    }

    #[test]
    fn an_answer_ends_the_back_off_and_the_count() {
        let mut health = Health::new(secs(1));
        health.failed();
        health.failed();
        assert_eq!(health.answered(), Change::None);
        for _ in 0..3 {
            health.failed();
        }

        assert_eq!(health.answered(), Change::CameBack);

        assert_eq!(health.state(), DeviceState::Answering);
        assert_eq!(health.failed(), Change::None);
    }

    #[test]
    fn a_device_polled_each_ten_minutes_is_not_probed_more_often() {
        let mut health = Health::new(secs(600));
        health.failed();
        health.failed();

        assert_eq!(health.failed(), Change::WentSilent(secs(600)));
        assert_eq!(health.failed(), Change::StillSilent(secs(600)));
    }
}
