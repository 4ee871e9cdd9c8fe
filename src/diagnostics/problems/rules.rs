//! Problems of rules, alarms and their actions.

use super::{About, Area, Problem, Severity};
use crate::diagnostics::Status;
use crate::ingest::RulesStatus;
use crate::model::{AlarmState, Priority};
use crate::rules::engine::{AlarmView, FailingPart, FailingRule};

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let failure = status.actions.as_ref().and_then(|actions| actions.last_failure.as_ref());
    let failure = failure.map(|failure| {
        let text = format!("{} asks to {}, which is not done: {}", failure.alarm, failure.action, failure.reason);
        let key = format!("action-failed/{}/{}", failure.alarm, failure.action);
        Problem::new(Area::Rules, Severity::Major, key, text)
            .about(About::Rule { rule: failure.alarm.clone() })
            .since(Some(failure.time))
    });
    let of_rules = status.rules.iter().flat_map(of_rules);
    failure.into_iter().chain(of_rules).collect()
}

fn of_rules(rules: &RulesStatus) -> impl Iterator<Item = Problem> {
    let alarms = rules.alarms.iter().filter(|view| needs_somebody(view.state));
    rules.failing.iter().map(failing).chain(alarms.map(alarm))
}

/// A rule that cannot be evaluated: nobody would hear of what it watches.
fn failing(rule: &FailingRule) -> Problem {
    let place = match rule.file.is_empty() {
        true => String::new(),
        false => format!(" ({}:{})", rule.file, rule.line),
    };
    let (name, group, reason) = (&rule.rule, &rule.group, &rule.reason);
    let (severity, text) = match rule.part {
        FailingPart::Expression => {
            (Severity::Major, format!("rule {name} of group {group}{place} cannot be evaluated: {reason}"))
        }
        FailingPart::Clear => {
            (Severity::Major, format!("alarms of rule {name} of group {group}{place} cannot clear: {reason}"))
        }
        FailingPart::Template => {
            (Severity::Minor, format!("rule {name} of group {group}{place} cannot fill in a text: {reason}"))
        }
    };
    Problem::new(Area::Rules, severity, format!("rule-failing/{group}/{name}/{:?}", rule.part).to_lowercase(), text)
        .about(About::Rule { rule: name.clone() })
        .since(Some(rule.since))
        .remedy("correct the rule; `lineside rules eval` shows what its expression comes to")
}

/// Whether an alarm waits for a person; what somebody has put aside does not.
fn needs_somebody(state: AlarmState) -> bool {
    match state {
        AlarmState::UnacknowledgedActive
        | AlarmState::AcknowledgedActive
        | AlarmState::ReturnedUnacknowledged
        | AlarmState::LatchedUnacknowledged
        | AlarmState::LatchedAcknowledged => true,
        AlarmState::Normal | AlarmState::Shelved | AlarmState::SuppressedByDesign | AlarmState::OutOfService => false,
    }
}

fn alarm(view: &AlarmView) -> Problem {
    let severity = match view.priority {
        Priority::Critical => Severity::Critical,
        Priority::High | Priority::Medium => Severity::Major,
        Priority::Low => Severity::Minor,
    };
    let labels = view.labels.iter().filter(|(key, _)| !matches!(key.as_str(), "site" | "gateway"));
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value:?}")).collect();
    let which = format!("{}{{{}}}", view.name, labels.join(","));
    let text = match view.annotations.get("summary") {
        Some(summary) => format!("alarm {which}: {summary}"),
        None => format!("alarm {which} is active"),
    };
    Problem::new(Area::Rules, severity, format!("alarm/{which}"), text)
        .about(About::Alarm { alarm: view.name.clone(), labels: view.labels.clone() })
        .since(view.active_since)
        .remedy(format!("`lineside alarms ack {}` tells others that somebody has seen it", view.name))
}
