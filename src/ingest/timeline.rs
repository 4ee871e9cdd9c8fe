//! The time of the rules: it goes on evenly although the wall clock is set.
//!
//! Windows, delays and evaluations go by it, so that a step of the clock closes no window twice, skips none and raises
//! nothing. It begins as wall-clock time and differs from it afterwards by the steps that the clock made. What rules say
//! to others is in wall-clock time again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::buffer::{ClockReading, ClockTrack};
use crate::clock::Clock;
use crate::model::{AlarmRecord, BootId, Row, Timestamp};
use crate::rules::engine::{AlarmView, Outcome};

/// What has to be remembered across a restart. Written before the state of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    boot: BootId,
    /// Time of the rules minus time since boot, in milliseconds.
    minus_monotonic_ms: i64,
    /// Wall clock minus time of the rules, in milliseconds.
    ahead_ms: i64,
}

/// Time of the rules.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    track: ClockTrack,
    /// Wall clock minus time of the rules, in milliseconds: the sum of the steps.
    ahead_ms: i64,
    is_unsaved: bool,
}

impl Timeline {
    /// The time of the rules that left `remembered` behind, and their state.
    pub fn resume<'a>(clock: &Arc<dyn Clock>, remembered: &'a [u8]) -> (Self, &'a [u8]) {
        let now = reading(clock);
        let mut this = Self { track: ClockTrack::new(now), ahead_ms: 0, is_unsaved: false };
        let Some((head, state)) = split(remembered) else { return (this, remembered) };
        this.ahead_ms = if head.boot == now.boot {
            // Whatever the clock did meanwhile.
            now.wall_minus_monotonic_ms - head.minus_monotonic_ms
        } else {
            head.ahead_ms
        };
        if this.ahead_ms.abs() < ClockTrack::STEP_MS {
            this.ahead_ms = 0;
        }
        (this, state)
    }

    /// `state` with what [`resume`](Self::resume) has to know.
    pub fn remember(&self, state: Vec<u8>) -> Vec<u8> {
        if state.is_empty() {
            return state;
        }
        let clock = self.track.current();
        let minus_monotonic_ms = clock.wall_minus_monotonic_ms - self.ahead_ms;
        let head = Remembered { boot: clock.boot, minus_monotonic_ms, ahead_ms: self.ahead_ms };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend(state);
        bytes
    }

    /// Takes note of the clock; the time of the rules goes on as if it had not been set.
    pub fn see(&mut self, clock: &Arc<dyn Clock>) {
        let before = self.track.current().wall_minus_monotonic_ms;
        let now = reading(clock);
        self.track.see(now, clock.monotonic());
        let step = now.wall_minus_monotonic_ms - before;
        if step.abs() > ClockTrack::STEP_MS {
            self.ahead_ms += step;
            self.is_unsaved = true;
            tracing::info!(step_ms = step, "the clock was set; the windows of the rules go on evenly");
        }
    }

    /// Whether the clock was set since this was asked last: that has to be remembered.
    pub fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.is_unsaved)
    }

    /// Time of the rules now.
    pub fn now(&self, clock: &Arc<dyn Clock>) -> Timestamp {
        self.of_wall(clock.wall())
    }

    fn of_wall(&self, wall: Timestamp) -> Timestamp {
        Timestamp(wall.0.saturating_sub(self.ahead_ms))
    }

    /// Wall-clock time of a time of the rules.
    pub fn to_wall(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add(self.ahead_ms))
    }

    /// Rows as the rules see them: each at the time of the clock that it was taken with.
    pub fn rows<'a>(&self, rows: &'a [Row], monotonic: Duration) -> Cow<'a, [Row]> {
        if self.ahead_ms == 0 && self.track.previous().is_none() {
            return Cow::Borrowed(rows);
        }
        let current = self.track.current().wall_minus_monotonic_ms;
        let shifted = |row: &Row| {
            let taken_with = self.track.taken_with(row.time, monotonic).wall_minus_monotonic_ms;
            let step = current - taken_with;
            // Slewing is no step.
            let step = if step.abs() > ClockTrack::STEP_MS { step } else { 0 };
            Row { time: Timestamp(self.of_wall(row.time).0.saturating_add(step)), ..row.clone() }
        };
        Cow::Owned(rows.iter().map(shifted).collect())
    }

    /// Rows of the store, corrected already, as the rules see them.
    pub fn stored_row(&self, mut row: Row) -> Row {
        row.time = self.of_wall(row.time);
        row
    }

    /// The same outcome in wall-clock time.
    pub fn outcome(&self, mut outcome: Outcome) -> Outcome {
        if self.ahead_ms != 0 {
            outcome.alarms.iter_mut().for_each(|alarm| self.alarm(alarm));
            outcome.recorded.iter_mut().for_each(|result| result.time = self.to_wall(result.time));
        }
        outcome
    }

    /// Puts a transition into wall-clock time.
    pub fn alarm(&self, alarm: &mut AlarmRecord) {
        alarm.time = self.to_wall(alarm.time);
        alarm.readings.iter_mut().for_each(|reading| reading.time = self.to_wall(reading.time));
    }

    /// Puts a view into wall-clock time.
    pub fn view(&self, mut view: AlarmView) -> AlarmView {
        let times = [&mut view.pending_since, &mut view.active_since, &mut view.shelved_until];
        times.into_iter().flatten().for_each(|time| *time = self.to_wall(*time));
        view
    }
}

fn reading(clock: &Arc<dyn Clock>) -> ClockReading {
    ClockReading::now(clock.as_ref())
}

/// The first line, where it is what [`Timeline::remember`] wrote, and what follows it.
fn split(remembered: &[u8]) -> Option<(Remembered, &[u8])> {
    let end = remembered.iter().position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&remembered[..end]).ok()?, &remembered[end + 1..]))
}
