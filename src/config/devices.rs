//! The sections `[[link]]` and `[[device]]`.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::Value;

use super::GatewayConfig;
use super::link::{DeviceConfig, Endpoint, LinkConfig, Parity, SerialSettings, TagConfig};
use super::reader::{Faults, Section, choice, duration, integer, path, text};
use super::site::{host_and_port, name};
use crate::model::{Name, SeriesInfo, UnitId};
use crate::profile::{Offer, Profile, Protocol, file};

/// Slower than this is no polling; it would also outlive the phase of the schedule.
const INTERVAL_MOST: Duration = Duration::from_secs(24 * 3600);

/// Longest label value, in bytes: labels are part of every catalogue entry.
const LABEL_VALUE_MAX: usize = 256;

/// Labels that lineside sets itself.
const RESERVED_LABELS: [&str; 3] = ["site", "gateway", "device"];

/// The profiles devices name: each is read once.
pub(super) struct Profiles {
    directory: PathBuf,
    read: RefCell<HashMap<String, Option<Arc<Profile>>>>,
}

impl Profiles {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, read: RefCell::default() }
    }

    /// The profile `id`, or `None` after its faults were noted.
    fn get(&self, id: &str, section: &Section<'_>, value: &Value) -> Option<Arc<Profile>> {
        if let Some(known) = self.read.borrow().get(id) {
            return known.clone();
        }
        let profile = match file::load(&self.directory, id) {
            Ok(profile) => Some(Arc::new(profile)),
            Err(found) => {
                for fault in found {
                    section.fault("profile", value, fault.to_string());
                }
                None
            }
        };
        self.read.borrow_mut().insert(id.to_owned(), profile.clone());
        profile
    }
}

/// All links with the devices behind them, in the order of the file.
pub(super) fn links(
    file: &mut Section<'_>,
    gateway: Option<&GatewayConfig>,
    profiles: &Profiles,
    faults: &Faults,
) -> Vec<LinkConfig> {
    let mut links: Vec<LinkConfig> = Vec::new();
    for mut section in file.sections("link") {
        let link = link(&mut section, &links);
        section.close();
        links.extend(link);
    }
    let devices = file.sections("device");
    if devices.is_empty() {
        faults.add("device", "", "missing: at least one [[device]]");
    }
    let mut names = Vec::new();
    for section in devices {
        device(section, &mut links, &mut names, gateway, profiles, faults);
    }
    for link in &links {
        if link.devices.is_empty() && names.iter().all(|seen: &Seen| seen.link != link.name.as_str()) {
            faults.add(format!("link {:?}", link.name.as_str()), "", "has no device");
        }
    }
    links
}

fn link(section: &mut Section<'_>, others: &[LinkConfig]) -> Option<LinkConfig> {
    let own_name = |value: &Value| {
        let name = name(value)?;
        match others.iter().any(|other| other.name == name) {
            true => Err("another link has this name".to_owned()),
            false => Ok(name),
        }
    };
    let name = section.require("name", "a name for the link", own_name);
    let tcp = section.read("tcp", address).map(|(host, port)| Endpoint::Tcp { host, port });
    let over_tcp = section.read("rtu_over_tcp", address).map(|(host, port)| Endpoint::RtuOverTcp { host, port });
    // Modbus over Serial Line 1.02, 2.5.1: 19,200 baud and even parity are the default mode.
    let rtu = section.optional_section("rtu").map(|serial| serial_settings(serial, 19_200, Parity::Even));
    let text = section.optional_section("text").map(|serial| serial_settings(serial, 9_600, Parity::None));
    let given = usize::from(rtu.is_some()) + usize::from(text.is_some());
    let rtu = rtu.flatten().map(Endpoint::Rtu);
    let text = text.flatten().map(Endpoint::Text);
    let timeout = section
        .read("timeout", duration(Duration::from_millis(10)..=Duration::from_secs(60)))
        .unwrap_or(Duration::from_millis(500));
    let mut endpoints: Vec<Endpoint> = [tcp, over_tcp, rtu, text].into_iter().flatten().collect();
    if endpoints.len() > 1 || (endpoints.is_empty() && given == 0) {
        section.missing("tcp", "exactly one of tcp, rtu, rtu_over_tcp, text");
        return None;
    }
    let endpoint = endpoints.pop()?;
    if let Some(other) = others.iter().find(|other| other.endpoint == endpoint) {
        section.missing(
            "name",
            &format!("link {:?} leads to the same endpoint ({endpoint}); use one link", other.name.as_str()),
        );
        return None;
    }
    Some(LinkConfig { name: name?, endpoint, timeout, devices: Vec::new() })
}

fn address(value: &Value) -> Result<(String, u16), String> {
    host_and_port(&text(value)?, None).ok_or_else(|| "must be \"host:port\"".to_owned())
}

fn serial_settings(mut section: Section<'_>, baud_rate: i64, parity: Parity) -> Option<SerialSettings> {
    let port = section.require("port", "a serial port, best below /dev/serial/by-id", path);
    let baud_rate = section.read("baud_rate", integer(300..=4_000_000)).unwrap_or(baud_rate);
    let words = [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
    let parity = section.read("parity", choice(&words)).unwrap_or(parity);
    let data_bits = section.read("data_bits", integer(7..=8)).unwrap_or(8);
    let stop_bits = section.read("stop_bits", integer(1..=2)).unwrap_or(1);
    section.close();
    Some(SerialSettings {
        port: port?,
        baud_rate: u32::try_from(baud_rate).unwrap_or(u32::MAX),
        parity,
        data_bits: u8::try_from(data_bits).unwrap_or(8),
        stop_bits: u8::try_from(stop_bits).unwrap_or(1),
    })
}

/// A device name in use, and the link it named (whether the device was accepted or not).
struct Seen {
    name: String,
    link: String,
}

fn device(
    mut section: Section<'_>,
    links: &mut [LinkConfig],
    seen: &mut Vec<Seen>,
    gateway: Option<&GatewayConfig>,
    profiles: &Profiles,
    faults: &Faults,
) {
    let own_name = |value: &Value| {
        let name = name(value)?;
        match seen.iter().any(|other| other.name == name.as_str()) {
            true => Err("another device has this name".to_owned()),
            false => Ok(name),
        }
    };
    let name = section.require("name", "a name for the device", own_name);
    let known: Vec<String> = links.iter().map(|link| link.name.to_string()).collect();
    let mut written_link = String::new();
    let link = section.require("link", "the name of a [[link]]", |value| {
        written_link = text(value)?;
        let found = links.iter().position(|link| link.name.as_str() == written_link);
        found.ok_or_else(|| format!("no such link; links are: {}", known.join(", ")))
    });
    seen.push(Seen { name: name.as_ref().map(ToString::to_string).unwrap_or_default(), link: written_link });
    let unit = link.and_then(|link| unit(&mut section, &links[link]));
    if link.is_none() {
        section.take("unit_id");
    }
    let profile = profile(&mut section, link.map(|link| &links[link]), profiles);
    let labels = labels(section.section("labels"));
    let interval = section.read("interval", duration(Duration::ZERO..=INTERVAL_MOST));
    let points = section.read("points", |value| {
        let names =
            value.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        names.ok_or_else(|| "must be a list of point names".to_owned())
    });
    let overrides = section.section("tags");
    section.close();
    let (Some(profile), Some(labels)) = (profile, labels) else { return };
    let choices = Choices { interval, points };
    let tags = tags(&profile, &choices, overrides, faults);
    let (Some(name), Some(link), Some(gateway)) = (name, link, gateway) else { return };
    let Some(unit) = unit else { return };
    let all_labels = Arc::new(all_labels(gateway, &name, &labels));
    let series = |point| SeriesInfo { labels: all_labels.clone(), ..profile.series(point) };
    let tags: Vec<TagConfig> =
        tags.into_iter().map(|(point, interval)| TagConfig { point, interval, series: series(point) }).collect();
    if tags.is_empty() {
        faults.add(format!("device {:?}", name.as_str()), "", "reads no point at all");
        return;
    }
    let device = DeviceConfig { name, unit, profile: profile.clone(), labels: labels.clone(), tags };
    links[link].devices.push(device);
}

/// The unit id: `Some(None)` for a text instrument, `None` when it is refused.
fn unit(section: &mut Section<'_>, link: &LinkConfig) -> Option<Option<UnitId>> {
    let number = |value: &Value| value.as_integer().ok_or_else(|| "must be a whole number".to_owned());
    let read: fn(i64) -> Result<UnitId, crate::model::UnitIdError> = match link.endpoint {
        Endpoint::Text(_) => {
            section.read("unit_id", |_| Err::<(), _>("a text instrument has no unit id".to_owned()));
            if !link.devices.is_empty() {
                section.missing("link", "a text link carries one device only, and this one has its device already");
                return None;
            }
            return Some(None);
        }
        Endpoint::Tcp { .. } => UnitId::tcp,
        Endpoint::Rtu(_) | Endpoint::RtuOverTcp { .. } => UnitId::serial,
    };
    let allowed = "the address of the device on its link, 1 to 247";
    let free = |value: &Value| {
        let unit = read(number(value)?).map_err(|error| error.to_string())?;
        match link.devices.iter().find(|other| other.unit == Some(unit)) {
            Some(other) => {
                Err(format!("device {:?} on link {:?} has this unit id", other.name.as_str(), link.name.as_str()))
            }
            None => Ok(unit),
        }
    };
    section.require("unit_id", allowed, free).map(Some)
}

fn profile(section: &mut Section<'_>, link: Option<&LinkConfig>, profiles: &Profiles) -> Option<Arc<Profile>> {
    let Some(value) = section.take("profile") else {
        section.missing("profile", "the name of a profile, for example \"eastron-sdm630\"");
        return None;
    };
    let id = match text(&value) {
        Ok(id) => id,
        Err(reason) => {
            section.fault("profile", &value, reason);
            return None;
        }
    };
    let profile = profiles.get(&id, section, &value)?;
    let link = link?;
    let is_text_link = matches!(link.endpoint, Endpoint::Text(_));
    let mismatch = match profile.protocol {
        Protocol::Modbus(_) if is_text_link => "speaks Modbus, but the link carries lines of text",
        Protocol::Text(_) if !is_text_link => "speaks lines of text, but the link carries Modbus",
        Protocol::Modbus(_) | Protocol::Text(_) => return Some(profile),
    };
    section.fault("profile", &value, mismatch);
    None
}

/// Labels of a device. Keys follow the rule of Prometheus: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn labels(section: Section<'_>) -> Option<BTreeMap<String, String>> {
    let key_is_good = |key: &str| {
        !key.starts_with(|c: char| c.is_ascii_digit())
            && !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !RESERVED_LABELS.contains(&key)
    };
    let mut labels = BTreeMap::new();
    let mut is_good = true;
    let keys: Vec<(String, Value)> = section.entries();
    for (key, value) in keys {
        let reason = match value.as_str() {
            _ if !key_is_good(&key) => "a label is named [a-zA-Z_][a-zA-Z0-9_]*, but not site, gateway or device",
            Some(text) if text.len() <= LABEL_VALUE_MAX => {
                labels.insert(key, text.to_owned());
                continue;
            }
            Some(_) | None => "must be text of at most 256 bytes",
        };
        section.fault(&key, &value, reason);
        is_good = false;
    }
    is_good.then_some(labels)
}

struct Choices {
    interval: Option<Duration>,
    points: Option<Vec<String>>,
}

/// What is polled how often: point index and interval, in the order of the profile.
fn tags(profile: &Profile, choices: &Choices, overrides: Section<'_>, faults: &Faults) -> Vec<(usize, Duration)> {
    let offers = profile.offers();
    let known = |name: &str| offers.iter().any(|offer| offer.name == name);
    for name in choices.points.iter().flatten().filter(|name| !known(name)) {
        let key = overrides.key("").trim_end_matches(".tags.").to_owned() + ".points";
        faults.add(key, format!("{name:?}"), unknown_point(profile, name));
    }
    let mut intervals: HashMap<String, Option<Duration>> = HashMap::new();
    for (name, value) in overrides.entries() {
        if !known(&name) {
            overrides.fault(&name, &value, unknown_point(profile, &name));
            continue;
        }
        let Value::Table(table) = value else {
            overrides.fault(&name, &value, "must be a table such as { interval = \"100ms\" }");
            continue;
        };
        let mut tag = Section::new(&overrides.key(&name), table, faults);
        let may_differ = matches!(profile.protocol, Protocol::Modbus(_));
        let interval = tag.read("interval", |value| match may_differ {
            true => duration(Duration::ZERO..=INTERVAL_MOST)(value),
            false => Err("a text instrument gives all its values at once; set the interval of the device".to_owned()),
        });
        tag.close();
        intervals.insert(name, interval);
    }
    let wanted = |offer: &Offer<'_>| match &choices.points {
        Some(names) => names.iter().any(|name| name == offer.name),
        None => offer.polled || intervals.contains_key(offer.name),
    };
    let interval_of = |offer: &Offer<'_>| {
        let own = intervals.get(offer.name).copied().flatten();
        own.or(choices.interval).or(offer.interval).unwrap_or(Duration::from_secs(1))
    };
    let chosen = offers.iter().enumerate().filter(|(_, offer)| wanted(offer));
    chosen.map(|(point, offer)| (point, interval_of(offer))).collect()
}

fn unknown_point(profile: &Profile, name: &str) -> String {
    let offers = profile.offers();
    let alike: Vec<&str> =
        offers.iter().map(|offer| offer.name).filter(|offer| offer.contains(name) || name.contains(offer)).collect();
    match alike.is_empty() {
        true => format!("profile {:?} has no such point; it has {} points", profile.id, offers.len()),
        false => format!("profile {:?} has no such point; similar: {}", profile.id, alike.join(", ")),
    }
}

/// The labels of every series of a device.
fn all_labels(gateway: &GatewayConfig, device: &Name, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = labels.clone();
    for (key, value) in RESERVED_LABELS.iter().zip([&gateway.site, &gateway.id, device]) {
        all.insert((*key).to_owned(), value.to_string());
    }
    all
}
