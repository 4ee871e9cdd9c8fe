//! What was found, as blocks for the configuration.

use std::fmt::Write;

use super::Discovery;
use crate::config::{Endpoint, Parity, SerialSettings, bracketed};

/// A `[[link]]` for each endpoint, with a `[[device]]` for each device behind it. A device that no profile recognises is a
/// comment that says what it calls itself.
pub(super) fn blocks(found: &[Discovery]) -> String {
    let mut text = String::new();
    let mut links: Vec<&Endpoint> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for device in found {
        if !links.contains(&&device.endpoint) {
            links.push(&device.endpoint);
            text += &link(links.len(), &device.endpoint);
        }
        let link = links.iter().position(|known| **known == device.endpoint).map_or(1, |index| index + 1);
        text += &block(link, device, &mut names);
    }
    text
}

fn link(number: usize, endpoint: &Endpoint) -> String {
    let place = match endpoint {
        Endpoint::Tcp { host, port } => format!("tcp = \"{}:{port}\"", bracketed(host)),
        Endpoint::RtuOverTcp { host, port } => format!("rtu_over_tcp = \"{}:{port}\"", bracketed(host)),
        Endpoint::Rtu(settings) => format!("rtu = {}", serial(settings)),
        Endpoint::Text(settings) => format!("text = {}", serial(settings)),
    };
    format!("\n[[link]]\nname = \"link-{number}\"\n{place}\ntimeout = \"500ms\"\n")
}

fn serial(settings: &SerialSettings) -> String {
    let parity = match settings.parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    };
    // A path is quoted as TOML quotes text.
    let port = toml_text(&settings.port.display().to_string());
    format!("{{ port = {port}, baud_rate = {}, parity = \"{parity}\" }}", settings.baud_rate)
}

fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn block(link: usize, device: &Discovery, names: &mut Vec<String>) -> String {
    let Discovery { unit_id, shown, .. } = device;
    let recognised = shown.matches.first();
    let stem = recognised.map_or("device", |found| found.profile.as_str());
    let mut name = format!("{stem}-{unit_id}");
    let mut count = 1;
    while names.contains(&name) {
        count += 1;
        name = format!("{stem}-{unit_id}-{count}");
    }
    names.push(name.clone());
    let said: Vec<&str> =
        [&shown.vendor, &shown.product, &shown.version].into_iter().filter_map(|text| text.as_deref()).collect();
    let said = match (said.is_empty(), recognised) {
        (false, _) => said.join(" "),
        (true, Some(_)) => "recognised by what its registers hold".to_owned(),
        (true, None) => "it does not say what it is; `lineside guess` finds its registers".to_owned(),
    };
    // Whatever a device says stays on its line.
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    let mut text = format!("\n# {said}\n");
    for other in shown.matches.iter().skip(1) {
        let _ = writeln!(text, "# {} fits as well", other.profile);
    }
    let comment = if recognised.is_some() { "" } else { "# " };
    let profile = recognised.map_or("...", |found| found.profile.as_str());
    for line in [
        "[[device]]".to_owned(),
        format!("name = \"{name}\""),
        format!("link = \"link-{link}\""),
        format!("unit_id = {unit_id}"),
        format!("profile = \"{profile}\""),
    ] {
        let _ = writeln!(text, "{comment}{line}");
    }
    text
}
