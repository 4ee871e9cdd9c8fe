//! The clock that the records of the store are stamped by, and its correction.

use std::time::Duration;

use super::Store;
use crate::buffer::commit::ClockReading;
use crate::clock::Clock;
use crate::model::{ClockOffset, ClockState, Lane, Records};

impl ClockReading {
    /// The clock as it is now.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { boot: clock.boot(), state: clock.state(), wall_minus_monotonic_ms: clock.wall_minus_monotonic_ms() }
    }
}

impl Store {
    /// Says by how much the times of this boot were wrong, where something is stored that waits for that.
    pub fn settle_clock(&mut self, clock: ClockReading) {
        if clock.state == ClockState::Unsynchronised || !self.clocks.is_waited_for(clock.boot) {
            return;
        }
        let monotonic_ms = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let wall_minus_monotonic_ms = clock.wall_minus_monotonic_ms;
        let offset = ClockOffset { boot: clock.boot, monotonic_ms, wall_minus_monotonic_ms };
        tracing::info!(time = %offset.time(), "the clock is right: what was taken before in this boot can be corrected");
        self.clocks.settle(offset);
        self.close_at(Lane::Telemetry, &Records::ClockOffset(offset), clock);
    }

    /// Time since boot.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(in crate::buffer) fn clock_reading(&self) -> ClockReading {
        ClockReading::now(self.clock.as_ref())
    }
}
