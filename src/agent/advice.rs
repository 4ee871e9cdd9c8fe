//! What a person should know before rules and forwarding are in force: that they name what is not there, or ask for what
//! is not done. None of it keeps the rest from working.

use crate::config::{Config, Endpoint, WriteConfig};
use crate::model::{Selection, SeriesInfo};
use crate::profile::Protocol;
use crate::rules::spec::{ActionSpec, GroupSpec, Place, RuleKind};
use crate::settings::nearest;

/// Alarms about devices, which the pollers raise without any rule.
const OF_POLLERS: [&str; 3] = ["DeviceSilent", "FirmwareUnknown", "WrongDevice"];

/// Everything of it, for people.
pub fn advice(groups: &[GroupSpec], config: &Config) -> Vec<String> {
    let mut found = actions(groups, config);
    found.extend(suppression(groups));
    found.extend(forward(groups, config));
    found
}

fn actions(groups: &[GroupSpec], config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        let RuleKind::Alert(alert) = &rule.kind else { continue };
        for action in alert.on_raised.iter().chain(&alert.on_cleared) {
            if let Some(reason) = objection(action, config) {
                let Place { file, line, .. } = &rule.place;
                found.push(format!("{file}:{line}: rule {}: {action}: {reason}", rule.name));
            }
        }
    }
    found
}

/// Alarms that are to explain others, and that nobody raises.
fn suppression(groups: &[GroupSpec]) -> Vec<String> {
    let rules = || groups.iter().flat_map(|group| &group.rules);
    let alarms = || rules().filter(|rule| matches!(rule.kind, RuleKind::Alert(_))).map(|rule| rule.name.as_str());
    let mut found = Vec::new();
    for rule in rules() {
        let RuleKind::Alert(alert) = &rule.kind else { continue };
        for name in &alert.suppressed_by {
            if !alarms().chain(OF_POLLERS).any(|known| known == name) {
                let Place { file, line, .. } = &rule.place;
                let meant = meant(alarms().chain(OF_POLLERS), name);
                found.push(format!(
                    "{file}:{line}: rule {}: suppressed_by {name}: there is no such alarm{meant}",
                    rule.name
                ));
            }
        }
    }
    found
}

/// What speaks against an action; templates are only known when the alarm is raised.
fn objection(action: &ActionSpec, config: &Config) -> Option<String> {
    match action {
        ActionSpec::Write { device, point, .. } => {
            let fits = |allowed: &WriteConfig| {
                allowed.point == *point && (is_template(device) || allowed.device.as_str() == device)
            };
            let is_allowed = config.writes.iter().any(fits);
            (!is_allowed).then(|| "no [[write]] of the configuration allows it: it will be refused".to_owned())
        }
        ActionSpec::PollFaster { device, .. } if !is_template(device) => {
            let mut devices =
                config.links.iter().flat_map(|link| link.devices.iter().map(move |device| (link, device)));
            match devices.find(|(_, known)| known.name.as_str() == device) {
                Some((link, known)) => {
                    let speaks = matches!(&known.profile.protocol, Protocol::Text(text) if text.ask.is_none());
                    let is_stream = speaks && matches!(link.endpoint, Endpoint::Text(_));
                    is_stream.then(|| "it speaks by itself and cannot be polled faster".to_owned())
                }
                None => {
                    let names = config.links.iter().flat_map(|link| &link.devices).map(|device| device.name.as_str());
                    Some(format!("there is no such device{}", meant(names, device)))
                }
            }
        }
        ActionSpec::Capture { series, .. } if !is_template(series) => {
            let selection = Selection::parse(series).ok()?;
            let is_there = all_series(config).any(|series| selection.takes(&series.name, &series.labels));
            (!is_there).then(|| "no configured series is selected".to_owned())
        }
        ActionSpec::PollFaster { .. } | ActionSpec::Capture { .. } | ActionSpec::Publish { .. } => None,
    }
}

/// Selectors that no series has reason to fear.
fn forward(groups: &[GroupSpec], config: &Config) -> Vec<String> {
    let recorded = || {
        let rules = groups.iter().flat_map(|group| &group.rules);
        rules.filter(|rule| matches!(rule.kind, RuleKind::Record)).map(|rule| rule.name.as_str())
    };
    let is_idle = |select: &Selection| {
        let takes_tag = all_series(config).any(|series| select.takes(&series.name, &series.labels));
        // Labels of what will be recorded are not known.
        let takes_recorded = select.is_named() && recorded().any(|name| select.is_called(name));
        !takes_tag && !takes_recorded
    };
    let idle = config.forward.iter().filter(|selected| is_idle(&selected.select));
    idle.map(|selected| format!("[[forward]] select = '{}': no configured series is selected", selected.text)).collect()
}

fn all_series(config: &Config) -> impl Iterator<Item = &SeriesInfo> {
    config.links.iter().flat_map(|link| &link.devices).flat_map(|device| &device.tags).map(|tag| &*tag.series)
}

fn is_template(text: &str) -> bool {
    text.contains("{{")
}

fn meant<'a>(known: impl Iterator<Item = &'a str>, written: &str) -> String {
    nearest(known, written).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rules::file;

    const CONFIG: &str = r#"
        forward = [
          { select = "temprature_c", forward = "none" },
          { select = "temperature_c", deadband = 1 },
          { select = 'line:temperature_c:max{line="press"}', forward = "none" },
        ]
        [gateway]
        site = "lyon"
        id = "gw-01"
        [store]
        path = "store"
        [mqtt]
        url = "mqtt://broker.example"
        [[link]]
        name = "hall-a"
        tcp = "10.0.0.5:502"
        [[device]]
        name = "vibration"
        link = "hall-a"
        unit_id = 1
        profile = "banner-qm42vt2"
    "#;

    const RULES: &str = r#"
groups:
  - name: a
    rules:
      - record: line:temperature_c:max
        expr: max by (line) (temperature_c)
      - alert: Hot
        expr: temperature_c > 80
        edge:
          suppressed_by: [DeviceSilent, Hott, Hot]
          on_firing:
            - poll_faster: { device: vibration, interval: 100ms, lasts: 1m }
            - poll_faster: { device: "{{ $labels.device }}", interval: 100ms, lasts: 1m }
            - capture: { series: temperature_c, before: 1m, after: 1m }
            - poll_faster: { device: vibraton, interval: 100ms, lasts: 1m }
            - capture: { series: temprature_c, before: 1m, after: 1m }
          on_resolved:
            - write: { device: vibration, point: unit_id, value: 1 }
"#;

    #[test]
    fn what_is_not_there_and_what_is_not_done_is_told() {
        let config = crate::config::parse(CONFIG, "lineside.toml", Path::new(".")).unwrap();
        let groups = file::parse(RULES, "rules.yml").unwrap();

        assert_eq!(
            advice(&groups, &config),
            [
                "rules.yml:8: rule Hot: poll_faster vibraton: there is no such device; did you mean \"vibration\"?",
                "rules.yml:8: rule Hot: capture temprature_c: no configured series is selected",
                "rules.yml:8: rule Hot: write vibration/unit_id = 1: no [[write]] of the configuration allows it: it will be refused",
                "rules.yml:8: rule Hot: suppressed_by Hott: there is no such alarm; did you mean \"Hot\"?",
                "[[forward]] select = 'temprature_c': no configured series is selected",
            ]
        );
    }
}
