//! Captures that wait until their last readings have been taken. Remembered across a restart.

use super::{Action, Outcome};
use crate::model::Timestamp;
use crate::rules::spec::ActionSpec;

/// Captures that wait at once; a flood of alarms gives no more.
const WAITING_MAX: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Action>);

impl Waiting {
    /// Takes the captures that are to wait out of `outcome`.
    pub fn keep(&mut self, outcome: &mut Outcome) {
        let room = WAITING_MAX.saturating_sub(self.0.len());
        let captures = outcome.actions.extract_if(.., |action| matches!(action.what, ActionSpec::Capture { .. }));
        let (before, found) = (self.0.len(), captures.collect::<Vec<Action>>());
        if found.len() > room {
            tracing::warn!(waiting = WAITING_MAX, dropped = found.len() - room, "too many captures wait at once");
        }
        self.0.extend(found.into_iter().take(room));
        outcome.is_changed |= self.0.len() > before;
    }

    /// Puts what need not wait any longer back into `outcome`.
    pub fn release(&mut self, now: Timestamp, outcome: &mut Outcome) {
        let released = self.0.extract_if(.., |action| due(action) <= now);
        let before = outcome.actions.len();
        outcome.actions.extend(released);
        outcome.is_changed |= outcome.actions.len() > before;
    }

    /// When the next one need not wait any longer.
    pub fn due(&self) -> Option<Timestamp> {
        self.0.iter().map(due).min()
    }

    pub fn captures(&self) -> &[Action] {
        &self.0
    }

    pub fn take_up(&mut self, remembered: Vec<Action>) {
        self.0 = remembered;
    }
}

fn due(action: &Action) -> Timestamp {
    match &action.what {
        ActionSpec::Capture { after, .. } => action.time.after(*after),
        ActionSpec::Write { .. } | ActionSpec::PollFaster { .. } | ActionSpec::Publish { .. } => action.time,
    }
}
