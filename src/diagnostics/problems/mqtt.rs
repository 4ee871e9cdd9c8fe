//! Problems with the broker and with delivery to it.

use super::{Area, Problem, Severity, digest};
use crate::diagnostics::Status;
use crate::mqtt::SessionState;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let mut problems = Vec::new();
    match status.mqtt.as_ref().map(|mqtt| &mqtt.state) {
        Some(SessionState::Connected(connected)) => problems.extend(connected.warning.as_ref().map(|warning| {
            let key = format!("broker/{}", digest(warning));
            Problem::new(Area::Mqtt, Severity::Major, key, warning.as_str()).since(Some(connected.since))
        })),
        Some(SessionState::Connecting { since, last_error, .. }) => {
            problems.push(disconnected(last_error.as_deref()).since(Some(*since)));
        }
        None => problems.push(disconnected(None)),
    }
    if let Some(reason) = &status.uplink.refusing {
        let text = format!("the broker refuses messages: {reason}");
        problems.push(
            Problem::new(Area::Mqtt, Severity::Major, "broker-refuses", text)
                .remedy("check the access rules and the size limit of the broker"),
        );
    }
    problems
}

fn disconnected(reason: Option<&str>) -> Problem {
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Problem::new(Area::Mqtt, Severity::Major, "broker-disconnected", format!("no connection to the broker{why}"))
        .remedy("check the network and mqtt.url; readings stay in the store meanwhile")
}
