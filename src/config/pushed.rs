//! Where a pushed configuration may have requests sent, and which bytes. The owner's own file decides.
//!
//! | What is pushed | What is sent there | Allowed |
//! |---|---|---|
//! | `tcp` | Modbus TCP requests that read | anywhere, but where the owner's file has `rtu_over_tcp` |
//! | `rtu_over_tcp` | Modbus RTU requests that read | where the owner's file has `rtu_over_tcp` |
//! | `rtu` | Modbus RTU requests that read | at a port where the owner's file has `rtu`, at any speed |
//! | `text` | the `ask` of the profile, or nothing | at a port where the owner's file has `text`, at its speed, with an `ask` that his own file sends there |
//! | a profile | the registers that it reads, and its identification | under a name that is neither shipped nor the owner's |
//!
//! A request of one framing can be a write in another one: the eight bytes of an RTU request that reads are the header of
//! a Modbus TCP request, in which the checksum is the function code. So a place keeps the framing that the owner gave it,
//! and RTU goes only where he has it. The `ask` of a text instrument is bytes of any kind, so it is compared byte by byte.

use std::net::IpAddr;
use std::path::Path;

use super::link::{DeviceConfig, Endpoint, LinkConfig};
use super::overlay::OVERLAY_FILE;
use super::own_map::GENERIC;
use crate::profile::{Protocol, file, shipped};
use crate::settings::FileFault;

/// Longest part of an `ask` that is shown, in characters.
const ASK_SHOWN: usize = 40;

/// What is wrong with pushed links, beside the owner's `own`.
pub(super) fn link_faults(pushed: &[LinkConfig], own: &[LinkConfig]) -> Vec<FileFault> {
    let fault = |link: &LinkConfig, reason| FileFault {
        key: format!("link {}", link.name),
        value: Some(link.endpoint.to_string()),
        ..FileFault::of_file(OVERLAY_FILE, reason)
    };
    pushed.iter().filter_map(|link| refusal(link, own).map(|reason| fault(link, reason))).collect()
}

/// What is wrong with the names of the pushed profiles in `directory`, beside the owner's in `own`.
pub(super) fn profile_faults(directory: &Path, own: &Path) -> Vec<FileFault> {
    let reason = |id: &str| {
        if id == GENERIC {
            return Some("generic is the map that stands in the configuration");
        }
        if own.join(format!("{id}.toml")).exists() {
            return Some("the owner has a profile of this name, and a pushed one never replaces it");
        }
        shipped::text(id).map(|_| "a profile of this name is part of the program, and a pushed one never replaces it")
    };
    let fault = |id: String| {
        let reason = format!("{}; give it another name", reason(&id)?);
        Some(FileFault::of_file(&directory.join(format!("{id}.toml")).display().to_string(), reason))
    };
    file::ids_in(directory).into_iter().filter_map(fault).collect()
}

/// Why nothing may be sent over this link on behalf of a pushed configuration.
fn refusal(link: &LinkConfig, own: &[LinkConfig]) -> Option<String> {
    let on_site = "the owner adds it to his own file on site";
    let is_owned = |is_so: &dyn Fn(&Endpoint) -> bool| own.iter().any(|own| is_so(&own.endpoint));
    match &link.endpoint {
        Endpoint::Tcp { host, port } => {
            let is_serial_line = |own: &Endpoint| match own {
                Endpoint::RtuOverTcp { host: other, port: its } => its == port && may_be_the_same(host, other),
                Endpoint::Tcp { .. } | Endpoint::Rtu(_) | Endpoint::Text(_) => false,
            };
            is_owned(&is_serial_line).then(|| {
                "the owner's file has rtu_over_tcp there (or at a host with this port that cannot be told from it), and \
                 Modbus TCP means something else on a serial line"
                    .to_owned()
            })
        }
        Endpoint::RtuOverTcp { host, port } => {
            let is_it = |own: &Endpoint| match own {
                Endpoint::RtuOverTcp { host: other, port: its } => its == port && host.eq_ignore_ascii_case(other),
                Endpoint::Tcp { .. } | Endpoint::Rtu(_) | Endpoint::Text(_) => false,
            };
            (!is_owned(&is_it)).then(|| {
                format!(
                    "a pushed configuration sends RTU frames only where the owner's file has rtu_over_tcp; {on_site}"
                )
            })
        }
        Endpoint::Rtu(serial) => {
            let is_it = |own: &Endpoint| matches!(own, Endpoint::Rtu(other) if other.port == serial.port);
            (!is_owned(&is_it)).then(|| {
                format!(
                    "a pushed configuration uses a serial port only as the owner's file does, here for rtu; {on_site}"
                )
            })
        }
        Endpoint::Text(_) => {
            let lines: Vec<&LinkConfig> = own.iter().filter(|own| own.endpoint == link.endpoint).collect();
            if lines.is_empty() {
                return Some(format!(
                    "a pushed configuration uses a serial port only as the owner's file does, here for text at this \
                     speed; {on_site}"
                ));
            }
            let allowed: Vec<&[u8]> = lines.iter().flat_map(|own| &own.devices).filter_map(ask).collect();
            let asked = link.devices.iter().filter_map(|device| Some((device, ask(device)?)));
            let (device, sent) = asked.into_iter().find(|(_, sent)| !allowed.contains(sent))?;
            let allowed: Vec<String> = allowed.into_iter().map(shown).collect();
            let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(" or ") };
            Some(format!(
                "device {} would be sent {}; what a text instrument is sent is the owner's to allow, and his own file \
                 sends {allowed} there",
                device.name,
                shown(sent)
            ))
        }
    }
}

/// What is sent to a device that speaks text, if anything is.
fn ask(device: &DeviceConfig) -> Option<&[u8]> {
    match &device.profile.protocol {
        Protocol::Text(text) => text.ask.as_deref(),
        Protocol::Modbus(_) => None,
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).escape_debug().to_string();
    let more = if text.chars().count() > ASK_SHOWN { "..." } else { "" };
    format!("\"{}{more}\"", text.chars().take(ASK_SHOWN).collect::<String>())
}

/// Whether two hosts may be one. Two addresses can be compared; what a name means is known to nobody here.
fn may_be_the_same(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a.to_canonical() == b.to_canonical(),
        (_, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, lay_over, parse};

    const OWN: &str = "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\nprofiles = \"own\"\n[store]\npath = \"store\"\n[mqtt]\n\
                       url = \"mqtt://owner\"\n\
                       [[link]]\nname = \"bus\"\nrtu = { port = \"/dev/ttyS1\", baud_rate = 19200 }\n\
                       [[device]]\nname = \"meter\"\nlink = \"bus\"\nunit_id = 1\nprofile = \"abb-b23\"\n\
                       [[link]]\nname = \"far\"\nrtu_over_tcp = \"10.0.0.6:4001\"\n\
                       [[device]]\nname = \"far-meter\"\nlink = \"far\"\nunit_id = 1\nprofile = \"abb-b23\"\n\
                       [[link]]\nname = \"scale\"\ntext = { port = \"/dev/ttyS2\" }\n\
                       [[device]]\nname = \"scale-1\"\nlink = \"scale\"\nprofile = \"mettler-mt-sics\"\n\
                       [[link]]\nname = \"gps\"\ntext = { port = \"/dev/ttyS3\" }\n\
                       [[device]]\nname = \"gps-1\"\nlink = \"gps\"\nprofile = \"generic-nmea0183\"\n";

    /// The owner's configuration with this endpoint pushed, its profile `pushed` beside it.
    fn push(endpoint: &str, profile: &str, pushed: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        for place in ["own", "pushed/profiles"] {
            std::fs::create_dir_all(directory.path().join(place)).unwrap();
        }
        let scale = crate::profile::shipped::text("mettler-mt-sics").unwrap();
        std::fs::write(directory.path().join("own/valve.toml"), scale).unwrap();
        for (id, text) in pushed {
            std::fs::write(directory.path().join(format!("pushed/profiles/{id}.toml")), text).unwrap();
        }
        let unit = if endpoint.starts_with("text") { "" } else { "unit_id = 1\n" };
        let overlay = format!(
            "[[link]]\nname = \"new\"\n{endpoint}\n[[device]]\nname = \"new-1\"\nlink = \"new\"\n{unit}profile = \"{profile}\"\n"
        );
        std::fs::write(directory.path().join("pushed").join(OVERLAY_FILE), overlay).unwrap();
        let base = parse(OWN, "lineside.toml", directory.path()).unwrap();
        lay_over(&base, &directory.path().join("pushed")).map_err(|error| error.to_string())
    }

    fn asking(ask: &str) -> String {
        let scale = crate::profile::shipped::text("mettler-mt-sics").unwrap();
        let line = scale.lines().find(|line| line.starts_with("ask")).unwrap();
        scale.replace(line, &format!("ask = \"{ask}\""))
    }

    #[test]
    fn a_place_keeps_the_framing_that_the_owner_gave_it() {
        for (endpoint, allowed) in [
            ("tcp = \"10.0.0.9:502\"", true),
            ("tcp = \"10.0.0.6:502\"", true),
            ("tcp = \"10.0.0.6:4001\"", false),
            ("tcp = \"[::ffff:10.0.0.6]:4001\"", false),
            ("tcp = \"gateway.local:4001\"", false),
            ("rtu_over_tcp = \"10.0.0.6:4001\"", true),
            ("rtu_over_tcp = \"10.0.0.9:502\"", false),
            ("rtu = { port = \"/dev/ttyS1\", baud_rate = 9600 }", true),
            ("rtu = { port = \"/dev/ttyS2\" }", false),
            ("rtu = { port = \"/dev/ttyS9\" }", false),
        ] {
            let outcome = push(endpoint, "abb-b23", &[]);
            assert_eq!(outcome.is_ok(), allowed, "{endpoint}: {outcome:?}");
            let reason = outcome.err().unwrap_or_default();
            assert!(allowed || reason.starts_with("configuration.toml: link new = "), "{reason}");
        }
    }

    #[test]
    fn a_text_instrument_is_sent_only_what_the_owners_own_file_sends_there() {
        let scale = "text = { port = \"/dev/ttyS2\" }";
        let own_ask = push(scale, "mettler-mt-sics", &[]).unwrap();
        let Protocol::Text(text) = &own_ask.links[0].devices[0].profile.protocol else { panic!("a text profile") };
        let sent = shown(text.ask.as_deref().unwrap());
        let same = sent.trim_matches('"').to_owned();
        assert!(push(scale, "other-patterns", &[("other-patterns", &asking(&same))]).is_ok());
        assert!(push("text = { port = \"/dev/ttyS3\" }", "generic-nmea0183", &[]).is_ok());
        assert!(push(scale, "generic-nmea0183", &[]).is_ok(), "nothing is sent to what talks by itself");

        for (endpoint, profile, said) in [
            (scale, "innocent", "device new-1 would be sent \"\\u{1}\\u{6}\\0d\""),
            ("text = { port = \"/dev/ttyS3\" }", "mettler-mt-sics", "sends nothing there"),
            ("text = { port = \"/dev/ttyS1\" }", "mettler-mt-sics", "only as the owner's file does"),
            ("text = { port = \"/dev/ttyS2\", baud_rate = 19200 }", "mettler-mt-sics", "for text at this speed"),
            ("text = { port = \"/dev/ttyS9\" }", "generic-nmea0183", "only as the owner's file does"),
        ] {
            let refused = push(endpoint, profile, &[("innocent", &asking("\\u0001\\u0006\\u0000d"))]).unwrap_err();
            assert!(refused.contains(said), "{endpoint} {profile}: {refused}");
        }
    }

    #[test]
    fn a_pushed_profile_replaces_neither_the_owners_nor_a_shipped_one() {
        let text = crate::profile::shipped::text("abb-b23").unwrap();
        for (id, said) in [
            ("valve", "the owner has a profile of this name"),
            ("abb-b23", "is part of the program"),
            ("generic", "is the map"),
        ] {
            let refused = push("tcp = \"10.0.0.9:502\"", "abb-b23", &[(id, text)]).unwrap_err();
            assert!(refused.contains(&format!("profiles/{id}.toml: ")) && refused.contains(said), "{refused}");
        }
        assert!(push("tcp = \"10.0.0.9:502\"", "abb-b24", &[("abb-b24", text)]).is_ok());
    }
}
