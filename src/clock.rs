//! The one place that asks the kernel what time it is.
//!
//! Everything that needs a time is handed a [`Clock`], so that tests can hand it another one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::kernel;
use crate::model::{BootId, ClockState, Timestamp};

/// Made by systemd-timesyncd when it has set the clock in this boot (systemd-timesyncd.service(8), "Files").
const TIMESYNCD_SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Wall clock, monotonic clock and what is known about them.
pub trait Clock: Send + Sync {
    /// UTC now.
    fn wall(&self) -> Timestamp;
    /// Time since this machine booted, suspend included; never steps.
    fn monotonic(&self) -> Duration;
    /// How far the wall clock can be trusted now.
    fn state(&self) -> ClockState;
    /// The boot that [`monotonic`](Self::monotonic) belongs to.
    fn boot(&self) -> BootId;

    /// Wall clock minus monotonic clock, in milliseconds. Changes when the wall clock is set.
    fn wall_minus_monotonic_ms(&self) -> i64 {
        self.wall().0 - i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The clock of this machine.
#[derive(Debug, Clone)]
pub struct SystemClock {
    boot: BootId,
    trusted_locally: bool,
}

impl SystemClock {
    /// A clock that trusts what the kernel says about synchronisation, or, with `trusted_locally`, the site.
    pub fn new(trusted_locally: bool) -> Self {
        Self { boot: read_boot_id(), trusted_locally }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn state(&self) -> ClockState {
        if self.trusted_locally {
            ClockState::Local
        } else if kernel_says_synchronised() {
            ClockState::Synchronised
        } else {
            ClockState::Unsynchronised
        }
    }

    fn boot(&self) -> BootId {
        self.boot
    }
}

/// A random id where the kernel offers none: wrong in nothing but that two runs of one boot look like two boots.
fn read_boot_id() -> BootId {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| BootId::from_hex(&text))
        .unwrap_or_else(|| {
            let mut bytes = [0; 16];
            fastrand::fill(&mut bytes);
            BootId(bytes)
        })
}

/// What the kernel says; where it must not be asked (systemd `ProtectClock=`), the word of systemd-timesyncd.
fn kernel_says_synchronised() -> bool {
    kernel::clock_is_disciplined().unwrap_or_else(|| std::path::Path::new(TIMESYNCD_SYNCHRONISED).exists())
}
