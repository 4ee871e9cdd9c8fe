//! Problems of the machine, and of the configuration as a whole.

use super::{Area, Problem, Severity, digest};
use crate::diagnostics::Status;
use crate::model::ClockState;

/// A card that lasts longer than this needs no attention.
const CARD_DAYS_LEAST: u64 = 365;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let warnings = status.warnings.iter().map(|warning| {
        Problem::new(Area::Machine, Severity::Major, format!("configuration/{}", digest(warning)), warning.as_str())
    });
    let card = status.wear.card_days.filter(|days| *days < CARD_DAYS_LEAST).map(|days| {
        let text = format!("at this pace a new card is worn out after {days} days");
        Problem::new(Area::Machine, Severity::Minor, "card-wear", text).remedy("a longer commit_interval spares it")
    });
    let clock = match status.clock {
        ClockState::Synchronised | ClockState::Local => None,
        ClockState::Unsynchronised => Some(
            Problem::new(Area::Machine, Severity::Minor, "clock", "the clock is not synchronised; readings say so")
                .remedy("start a time service, or set [clock] trust = \"local\" on a site without one"),
        ),
    };
    warnings.chain(card).chain(clock).collect()
}
