//! Problems of rules, alarms and their actions.

use super::{About, Area, Problem, Severity};
use crate::diagnostics::Status;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let failure = status.actions.as_ref().and_then(|actions| actions.last_failure.as_ref());
    let failure = failure.map(|failure| {
        let text = format!("{} asks to {}, which is not done: {}", failure.alarm, failure.action, failure.reason);
        let key = format!("action-failed/{}/{}", failure.alarm, failure.action);
        Problem::new(Area::Rules, Severity::Major, key, text)
            .about(About::Rule { rule: failure.alarm.clone() })
            .since(Some(failure.time))
    });
    failure.into_iter().collect()
}
