//! Problems of links, devices and points.

use std::time::Duration;

use super::{About, Area, Problem, Severity, named};
use crate::diagnostics::Status;
use crate::diagnostics::points::BadPointsOfDevice;
use crate::modbus::exception::{Treatment, treatment};
use crate::model::{Fault, Timestamp};
use crate::poll::LinkStatus;
use crate::poll::status::{DeviceState, DeviceStatus, IdentityState, UnmatchedLines};

/// A device that has only ever refused, so often, is hardly the one that its profile is for.
const REFUSALS_AT_LEAST: u64 = 3;

/// More silent devices than this on one link are one problem: that of the link.
const SILENT_APART_MAX: usize = 5;

/// Lines in a row without a meaning: one may have been cut by the start.
const UNMATCHED_LEAST: u64 = 3;

/// A device whose last request failed is given so long to answer the next one.
const FAILING_MAX: Duration = Duration::from_secs(10);

/// So many answers with stray bytes, and such a part of all, are more than a disturbance now and then.
const STRAY_AT_LEAST: u64 = 5;
const STRAY_SHARE: f64 = 0.02;

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let mut problems: Vec<Problem> = status.links.iter().flat_map(|link| of_link(link, status.time)).collect();
    let devices: Vec<&DeviceStatus> = status.links.iter().flat_map(|link| &link.devices).collect();
    let explains = |bad: &&BadPointsOfDevice| {
        let device = devices.iter().find(|device| device.name.as_str() == bad.device);
        device.is_none_or(|device| explains_all(device, status.time))
    };
    problems.extend(status.bad_points.iter().filter(|bad| !explains(bad)).map(of_points));
    problems
}

/// The device as a whole has a problem that says why its points are bad.
fn explains_all(device: &DeviceStatus, now: Timestamp) -> bool {
    let is_another = device.identity.as_ref().is_some_and(|identity| identity.state == IdentityState::WrongDevice);
    is_silent(device, now) || is_another || refuses_all(device) || is_misunderstood(device)
}

/// Points of a device that are bad for one reason.
fn of_points(bad: &BadPointsOfDevice) -> Problem {
    let BadPointsOfDevice { device, reason, fault, count, points, since } = bad;
    let more = if *count > points.len() { format!(" and {} more", count - points.len()) } else { String::new() };
    let points_are = if *count == 1 { "point" } else { "points" };
    let names = format!("{}{more}", points.join(", "));
    let (text, remedy) = match fault {
        Fault::Exception(code) if matches!(treatment(*code), Treatment::Avoid | Treatment::Divide) => (
            format!("{device} refuses {count} {points_are} ({names}): {reason}"),
            format!(
                "leave them out with `tags`, or correct the profile; `lineside forget {device}` asks for them at once"
            ),
        ),
        _ => (
            format!("{count} {points_are} of {device} are bad all the time ({names}): {reason}"),
            format!("`lineside read {device}` shows them; compare with the manual of the device"),
        ),
    };
    let about = match &points[..] {
        [only] if *count == 1 => About::Point { device: device.clone(), point: only.clone() },
        _ => About::Device { device: device.clone() },
    };
    Problem::new(Area::Devices, Severity::Major, format!("points-bad/{device}/{reason}"), text)
        .about(about)
        .since(Some(*since))
        .remedy(remedy)
}

/// Lines come, and nothing in the profile understands any of them.
fn is_misunderstood(device: &DeviceStatus) -> bool {
    device.unmatched.as_ref().is_some_and(|lines| lines.count >= UNMATCHED_LEAST)
}

fn of_link(link: &LinkStatus, now: Timestamp) -> Vec<Problem> {
    let name = &link.name;
    let on_link = |severity, key: &str, text: String| {
        let about = About::Link { link: name.to_string() };
        Problem::new(Area::Devices, severity, format!("{key}/{name}"), text).about(about)
    };
    let mut problems = Vec::new();
    if link.overloaded {
        let kept = link.kept_ratio * 100.0;
        let text = format!("link {name} cannot keep its schedule: {kept:.0} % of polls, of every device alike");
        problems.push(
            on_link(Severity::Major, "link-overloaded", text)
                .remedy("poll less often; `lineside check` proposes intervals that fit"),
        );
    }
    // A connection without any answer is made anew again and again: that it is open just now tells nothing.
    if link.devices.iter().all(was_never_heard)
        && let Some(scan) = scan_of(&link.endpoint)
    {
        let text = format!("nobody on link {name} has ever answered: `{scan}` finds settings and unit ids");
        problems.push(on_link(Severity::Major, "link-unheard", text));
    }
    let silent: Vec<&DeviceStatus> = link.devices.iter().filter(|device| is_silent(device, now)).collect();
    if silent.len() > SILENT_APART_MAX {
        let names = named(silent.iter().map(|device| device.name.as_str()));
        let why = silent.iter().find_map(|device| device.last_error.as_deref()).unwrap_or("no reason is known");
        let text =
            format!("{} of {} devices on link {name} do not answer ({names}): {why}", silent.len(), link.devices.len());
        let since = silent.iter().filter_map(|device| device.last_answer).max();
        problems.push(
            on_link(Severity::Major, "devices-silent", text)
                .since(since)
                .remedy(format!("check the line or the gateway at {}", link.endpoint)),
        );
    } else {
        problems.extend(silent.iter().map(|device| of_silence(device)));
    }
    problems.extend(link.devices.iter().flat_map(of_device));
    problems.extend(link.devices.iter().filter_map(|device| of_stray_bytes(device, &link.endpoint)));
    problems
}

/// Bytes around many of the answers of a device that belong to none: the answers are taken all the same.
fn of_stray_bytes(device: &DeviceStatus, endpoint: &str) -> Option<Problem> {
    let (around, answers) = (device.stray_answers, device.answers + device.exceptions);
    let is_much = around >= STRAY_AT_LEAST && around as f64 >= STRAY_SHARE * answers as f64;
    let (name, bytes) = (&device.name, device.stray_bytes);
    let (text, remedy) = match endpoint.split(' ').next() {
        Some("tcp") => (
            format!("{name} sends bytes that belong to no answer: {bytes} around {around} of {answers} answers"),
            "the answers are taken; an update of its firmware or of the gateway may mend it",
        ),
        Some(_) | None => (
            format!("stray bytes around {around} of {answers} answers of {name}: bias or termination?"),
            "the answers are taken; check the bias and termination resistors of the line and the ground of its ends",
        ),
    };
    is_much.then(|| on_device(device, Severity::Minor, "stray-bytes", text).remedy(remedy))
}

/// It was asked, and has never answered.
fn was_never_heard(device: &DeviceStatus) -> bool {
    device.last_answer.is_none() && device.state != DeviceState::Answering && device.timeouts > 0
}

fn is_silent(device: &DeviceStatus, now: Timestamp) -> bool {
    match device.state {
        DeviceState::Answering => false,
        DeviceState::Failing => device.last_answer.is_none_or(|last| now.since(last) > FAILING_MAX),
        DeviceState::BackedOff => true,
    }
}

/// The command that finds out who is there; nothing for lines of text.
fn scan_of(endpoint: &str) -> Option<String> {
    match endpoint.split(' ').collect::<Vec<&str>>().as_slice() {
        ["rtu", port, ..] => Some(format!("lineside scan --serial {port}")),
        ["tcp", host] => Some(format!("lineside scan --tcp {host} --units 1-247")),
        _ => None,
    }
}

fn of_silence(device: &DeviceStatus) -> Problem {
    if let Some(lines) = device.unmatched.as_ref().filter(|_| is_misunderstood(device)) {
        return of_lines(device, lines);
    }
    let why = device.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let problem = on_device(device, Severity::Major, "device-silent", format!("{} does not answer{why}", device.name));
    problem.since(device.last_answer).remedy("check its power, its wiring and its unit id")
}

fn of_lines(device: &DeviceStatus, lines: &UnmatchedLines) -> Problem {
    let text =
        format!("no pattern of its profile fits the lines that {} sends, the last: \"{}\"", device.name, lines.last);
    let remedy = "compare the line with the profile: unit, format and terminator are set on the instrument";
    on_device(device, Severity::Major, "lines-not-understood", text).since(Some(lines.since)).remedy(remedy)
}

fn of_device(device: &DeviceStatus) -> Vec<Problem> {
    let name = &device.name;
    let mut problems = Vec::new();
    if refuses_all(device) {
        let why = device.last_error.as_deref().unwrap_or_default();
        let text = format!(
            "{name} has refused all it was ever asked for: {why}; is it what its profile is for? \
             `lineside identify {name} --trace` asks it"
        );
        let hint = device.address_hint.as_ref().map(|hint| format!(". {hint}")).unwrap_or_default();
        let text = text + &hint;
        problems.push(on_device(device, Severity::Major, "device-refuses", text));
    }
    // One that is silent as well was told of already.
    if let Some(lines) =
        device.unmatched.as_ref().filter(|_| is_misunderstood(device) && device.state == DeviceState::Answering)
    {
        problems.push(of_lines(device, lines));
    }
    let Some(identity) = &device.identity else { return problems };
    match identity.state {
        IdentityState::Accepted => {
            if let Some(reason) = &identity.reason {
                let text = format!("{name} {reason}");
                problems.push(
                    on_device(device, Severity::Major, "device-map", text).remedy(format!(
                        "compare with its manual; `lineside identify {name} --trace` shows what it says"
                    )),
                );
            }
        }
        IdentityState::WrongDevice => {
            let reason = identity.reason.as_deref().unwrap_or("says another name");
            let text = format!("{name} is another device than its profile is for: it {reason}");
            problems.push(
                on_device(device, Severity::Major, "device-wrong", text)
                    .remedy(format!("connect the right one, or change profile of [[device]] {name}")),
            );
        }
        IdentityState::UnknownFirmware => {
            let firmware = identity.firmware.as_deref().unwrap_or("not told");
            let text = format!("{name}: its profile does not know the firmware {firmware}");
            problems.push(
                on_device(device, Severity::Minor, "firmware-unknown", text)
                    .remedy("compare its readings with its display, then add the firmware to the profile"),
            );
        }
    }
    problems
}

fn on_device(device: &DeviceStatus, severity: Severity, key: &str, text: String) -> Problem {
    let name = device.name.to_string();
    Problem::new(Area::Devices, severity, format!("{key}/{name}"), text).about(About::Device { device: name })
}

/// True when everything that was heard of a device is that it does not have what it is asked for.
fn refuses_all(device: &DeviceStatus) -> bool {
    let refusals = device
        .exceptions_by_code
        .iter()
        .filter(|(code, _)| matches!(treatment(**code), Treatment::Avoid | Treatment::Divide))
        .map(|(_, times)| times);
    let refusals: u64 = refusals.sum();
    refusals >= REFUSALS_AT_LEAST && refusals == device.exceptions && device.answers == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    fn device(name: &str, answers: u64, refusals: u64, last_answer: Option<i64>) -> DeviceStatus {
        DeviceStatus {
            state: if last_answer.is_some() { DeviceState::Answering } else { DeviceState::BackedOff },
            answers,
            exceptions: refusals,
            exceptions_by_code: [(2, refusals)].into(),
            timeouts: 3,
            last_answer: last_answer.map(Timestamp),
            last_error: Some("no".to_owned()),
            ..DeviceStatus::new(Name::new(name).unwrap())
        }
    }

    fn link(endpoint: &str, devices: Vec<DeviceStatus>) -> LinkStatus {
        let name = Name::new("hall-b").unwrap();
        LinkStatus { devices, ..LinkStatus::new(name, endpoint.to_owned(), std::iter::empty()) }
    }

    fn said(link: &LinkStatus) -> Vec<String> {
        of_link(link, Timestamp(0)).into_iter().map(|problem| problem.text).collect()
    }

    #[test]
    fn a_line_on_which_nobody_answers_is_to_be_scanned() {
        let (a, b) = (device("pump", 0, 0, None), device("fan", 0, 0, None));
        let all = said(&link("rtu /dev/ttyUSB0 9600 8N1", vec![a.clone(), b]));

        assert!(all[0].contains("nobody on link hall-b") && all[0].contains("scan --serial /dev/ttyUSB0"), "{all:?}");
        assert_eq!(said(&link("rtu /dev/ttyUSB0 9600 8N1", vec![a, device("fan", 7, 0, Some(1))])).len(), 1);
    }

    #[test]
    fn a_device_that_only_refuses_is_suspected_of_being_another() {
        let all = said(&link("tcp 10.0.0.5:502", vec![device("pump", 0, 81, Some(1))]));

        assert!(all[0].contains("has refused all") && all[0].contains("identify pump --trace"), "{all:?}");
        assert!(said(&link("tcp 10.0.0.5:502", vec![device("pump", 1, 81, Some(1))])).is_empty());
    }

    #[test]
    fn stray_bytes_around_many_answers_ask_for_bias_and_termination() {
        let stray =
            |around| DeviceStatus { stray_bytes: 2 * around, stray_answers: around, ..device("pump", 100, 0, Some(1)) };

        let on_a_line = said(&link("rtu /dev/ttyUSB0 9600 8N1", vec![stray(60)]));

        assert_eq!(on_a_line, ["stray bytes around 60 of 100 answers of pump: bias or termination?"]);
        assert!(said(&link("rtu /dev/ttyUSB0 9600 8N1", vec![stray(1)])).is_empty());
        let over_tcp = said(&link("tcp 10.0.0.5:502", vec![stray(60)]));
        assert!(over_tcp[0].contains("pump sends bytes that belong to no answer: 120"), "{over_tcp:?}");
    }

    #[test]
    fn a_device_whose_lines_nothing_understands_is_not_called_silent() {
        let unmatched = UnmatchedLines { since: Timestamp(7), count: 3, last: "ST,GS,12 kg".to_owned() };
        let silent = DeviceStatus { unmatched: Some(unmatched), ..device("scale", 0, 0, None) };

        for state in [DeviceState::BackedOff, DeviceState::Answering] {
            let all = said(&link("text /dev/ttyUSB0 9600 8N1", vec![DeviceStatus { state, ..silent.clone() }]));
            let text = "no pattern of its profile fits the lines that scale sends, the last: \"ST,GS,12 kg\"";
            assert_eq!(all, [text], "{state:?}");
        }
    }

    #[test]
    fn many_silent_devices_of_a_link_are_one_problem() {
        let devices = (0..40).map(|number| {
            let silent = DeviceStatus { last_answer: Some(Timestamp(number)), ..device("m", 1, 0, None) };
            DeviceStatus { name: Name::new(&format!("meter-{number}")).unwrap(), ..silent }
        });
        let all = of_link(&link("tcp 10.0.0.5:502", devices.collect()), Timestamp(0));

        assert_eq!(all.len(), 1, "{all:?}");
        let text = "40 of 40 devices on link hall-b do not answer (meter-0, meter-1, meter-2 and 37 more): no";
        assert_eq!((all[0].text.as_str(), all[0].since), (text, Some(Timestamp(39))));
    }
}
