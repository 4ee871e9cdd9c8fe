//! What needs attention on the field bus, and what to do about it.

use serde_json::Value;

use super::{list, number, text};
use crate::modbus::exception::{Treatment, treatment};

/// A device that has only ever refused, so often, is hardly what its profile is for.
const REFUSALS_AT_LEAST: u64 = 3;

/// What is wrong with a link and its devices.
pub(super) fn concerns(link: &Value) -> Vec<String> {
    let mut concerns = Vec::new();
    let name = text(&link["name"]);
    if link["overloaded"] == true {
        let kept = link["kept_ratio"].as_f64().unwrap_or(1.0) * 100.0;
        concerns.push(format!(
            "link {name} cannot keep its schedule: {kept:.0} % of the polls are done, of every device alike"
        ));
    }
    // A connection on which nobody answers is made anew again and again: whether it is open just now tells nothing.
    if list(&link["devices"]).all(was_never_heard)
        && let Some(scan) = scan_of(link)
    {
        concerns.push(format!("nobody on link {name} has ever answered: `{scan}` finds settings and unit ids"));
    }
    concerns.extend(list(&link["devices"]).flat_map(of_device));
    concerns
}

/// It was asked, and has never answered.
fn was_never_heard(device: &Value) -> bool {
    device["last_answer"].is_null() && device["state"] != "answering" && number(&device["timeouts"]) > 0
}

/// The command that looks who is there; nothing for lines of text.
fn scan_of(link: &Value) -> Option<String> {
    let endpoint = link["endpoint"].as_str()?;
    match endpoint.split(' ').collect::<Vec<&str>>().as_slice() {
        ["rtu", port, ..] => Some(format!("lineside scan --serial {port}")),
        ["tcp", host] => Some(format!("lineside scan --tcp {host} --units 1-247")),
        _ => None,
    }
}

/// What is wrong with a device.
pub(super) fn of_device(device: &Value) -> Vec<String> {
    let mut concerns = Vec::new();
    let name = text(&device["name"]);
    if device["state"] != "answering" {
        let why = device["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        concerns.push(format!("{name} does not answer{why}"));
    }
    if refuses_all(device) {
        let why = text(&device["last_error"]);
        concerns.push(format!(
            "{name} has refused all it was ever asked for: {why}; is it what its profile is for? \
             `lineside identify {name} --trace` asks it"
        ));
    }
    let identity = &device["identity"];
    if identity["state"] == "wrong_device" {
        let reason = text(&identity["reason"]);
        concerns.push(format!("{name} is another device than its profile is for: it {reason}"));
    } else if identity["state"] == "unknown_firmware" {
        let firmware = identity["firmware"].as_str().unwrap_or("not told");
        concerns.push(format!("{name}: its profile does not know the firmware {firmware}"));
    }
    concerns
}

/// True when everything that was heard of a device is that it does not have what it is asked for.
pub(super) fn refuses_all(device: &Value) -> bool {
    let codes = device["exceptions_by_code"].as_object().into_iter().flatten();
    let refusals = codes.filter(|(code, _)| {
        code.parse().is_ok_and(|code| matches!(treatment(code), Treatment::Avoid | Treatment::Divide))
    });
    let refusals: u64 = refusals.map(|(_, times)| number(times)).sum();
    refusals >= REFUSALS_AT_LEAST && refusals == number(&device["exceptions"]) && number(&device["answers"]) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device(answers: u64, refusals: u64, last_answer: Option<u64>) -> Value {
        let state = if last_answer.is_some() { "answering" } else { "backed_off" };
        json!({
            "name": "pump", "state": state, "answers": answers, "exceptions": refusals, "last_answer": last_answer,
            "exceptions_by_code": { "2": refusals }, "timeouts": 3, "last_error": "no", "identity": null,
        })
    }

    fn link(endpoint: &str, devices: &[Value]) -> Value {
        json!({ "name": "hall-b", "endpoint": endpoint, "connected": true, "overloaded": false, "devices": devices })
    }

    #[test]
    fn a_line_on_which_nobody_answers_is_to_be_scanned() {
        let said = concerns(&link("rtu /dev/ttyUSB0 9600 8N1", &[device(0, 0, None), device(0, 0, None)]));

        assert!(
            said[0].contains("nobody on link hall-b") && said[0].contains("scan --serial /dev/ttyUSB0"),
            "{said:?}"
        );
        assert_eq!(concerns(&link("rtu /dev/ttyUSB0 9600 8N1", &[device(0, 0, None), device(7, 0, Some(1))])).len(), 1);
    }

    #[test]
    fn a_device_that_only_refuses_is_suspected_of_being_another() {
        let said = concerns(&link("tcp 10.0.0.5:502", &[device(0, 81, Some(1))]));

        assert!(said[0].contains("has refused all") && said[0].contains("identify pump --trace"), "{said:?}");
        assert!(concerns(&link("tcp 10.0.0.5:502", &[device(1, 81, Some(1))])).is_empty());
    }
}
