//! Problems with the broker and with delivery to it.

use super::{Area, Problem, Severity, digest};
use crate::diagnostics::Status;
use crate::mqtt::{SessionState, TopicProof, Unproven};

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let mut problems = Vec::new();
    match status.mqtt.as_ref().map(|mqtt| &mqtt.state) {
        Some(SessionState::Connected(connected)) => {
            problems.extend(connected.proofs.iter().filter_map(unproven));
            problems.extend(connected.warning.as_ref().map(|warning| {
                let key = format!("broker/{}", digest(warning));
                Problem::new(Area::Mqtt, Severity::Major, key, warning.as_str()).since(Some(connected.since))
            }));
        }
        Some(SessionState::Connecting { since, last_error, .. }) => {
            problems.push(disconnected(last_error.as_deref()).since(Some(*since)));
        }
        None => problems.push(disconnected(None)),
    }
    // What is unproven is refused as well, and said already.
    let is_new = |reason: &&String| !problems.iter().any(|problem| reason.starts_with(&problem.text));
    if let Some(reason) = status.uplink.refusing.as_ref().filter(is_new) {
        let text = format!("the broker refuses messages: {reason}");
        problems.push(
            Problem::new(Area::Mqtt, Severity::Major, "broker-refuses", text)
                .remedy("check the access rules and the size limit of the broker"),
        );
    }
    problems
}

/// A topic whose messages the broker acknowledges and was not seen to pass on.
fn unproven(proof: &TopicProof) -> Option<Problem> {
    let unproven = proof.unproven.as_ref()?;
    let key = format!("broker-unproven/{}", proof.topic);
    let problem = Problem::new(Area::Mqtt, Severity::Major, key, unproven.fault(&proof.topic));
    Some(problem.since(Some(unproven.since)).remedy(Unproven::REMEDY))
}

fn disconnected(reason: Option<&str>) -> Problem {
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Problem::new(Area::Mqtt, Severity::Major, "broker-disconnected", format!("no connection to the broker{why}"))
        .remedy("check the network and mqtt.url; readings stay in the store meanwhile")
}
