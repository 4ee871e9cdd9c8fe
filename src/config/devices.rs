//! The sections `[[device]]`: which device is on which link, and what is read of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::GatewayConfig;
use super::forward::{self, Forward, SelectedForward};
use super::link::{DeviceConfig, Endpoint, LinkConfig, TagConfig};
use super::links::{self, Declared};
use super::own_map::{self, OwnMap};
use super::site::name;
use crate::model::{Name, SeriesInfo, UnitId, UnitIdError};
use crate::profile::{INTERVAL_MOST, Offer, Profile, Protocol, Version, file};
use crate::settings::{FileFault, Item, Section, nearest};

/// Longest label value, in bytes: labels are part of every catalogue entry.
const LABEL_VALUE_MAX: usize = 256;

/// Labels that lineside sets itself.
const RESERVED_LABELS: [&str; 3] = ["site", "gateway", "device"];

/// The profiles devices name: each is read once.
pub(super) struct Profiles {
    /// Where they are looked for: what is in the first goes before what is in the next, and the shipped ones come last.
    directories: Vec<PathBuf>,
    read: HashMap<String, Option<Arc<Profile>>>,
}

impl Profiles {
    pub(super) fn layered(directories: Vec<PathBuf>) -> Self {
        Self { directories, read: HashMap::new() }
    }

    /// The first directory that has this profile; the last one when none has.
    fn directory(&self, id: &str) -> &Path {
        let has_it = |directory: &&PathBuf| directory.join(format!("{id}.toml")).is_file();
        let found = self.directories.iter().find(has_it).or(self.directories.last());
        found.map_or(Path::new("."), PathBuf::as_path)
    }

    /// The profile that `item` names, or `None` after its faults were noted.
    fn get(&mut self, item: &Item<'_, '_>) -> Option<Arc<Profile>> {
        let id = item.text()?;
        if let Some(known) = self.read.get(&id) {
            return known.clone();
        }
        let profile = match file::load(self.directory(&id), &id) {
            Ok(profile) => Some(Arc::new(profile)),
            Err(faults) => {
                note(item, faults);
                None
            }
        };
        self.read.insert(id, profile.clone());
        profile
    }
}

/// Says why a profile cannot be used: that there is none, or what is wrong in its file.
fn note(item: &Item<'_, '_>, faults: Vec<FileFault>) {
    match faults.as_slice() {
        [fault] if fault.line.is_none() && fault.key.is_empty() => {
            item.fault(format!("{}: {}", fault.file, fault.reason));
            return;
        }
        [_] => item.fault("this profile has a fault, see below"),
        faults => item.fault(format!("this profile has {} faults, see below", faults.len())),
    }
    item.adopt(faults);
}

/// All links with the devices behind them, in the order of the file.
pub(super) fn links(
    root: &mut Section<'_, '_>,
    gateway: Option<&GatewayConfig>,
    mut profiles: Profiles,
    selected: &[SelectedForward],
) -> Vec<LinkConfig> {
    let mut links = links::read(root.sections("link"));
    let devices = root.sections("device");
    if devices.is_empty() {
        root.missing("device", "at least one [[device]]");
    }
    let mut names = Vec::new();
    let mut all_linked = true;
    for section in devices {
        all_linked &= device(section, &mut links, &mut names, gateway, &mut profiles, selected).is_some();
    }
    // A device that names no link may mean one of these.
    for unused in links.iter().filter(|link| link.devices == 0 && all_linked) {
        unused.name.fault("no device is on this link");
    }
    links.into_iter().filter_map(|declared| declared.link).collect()
}

/// Reads one device and returns the index of the link it names.
fn device(
    mut section: Section<'_, '_>,
    links: &mut [Declared<'_, '_>],
    names: &mut Vec<Name>,
    gateway: Option<&GatewayConfig>,
    profiles: &mut Profiles,
    selected: &[SelectedForward],
) -> Option<usize> {
    let name = device_name(&mut section, names);
    let declared = link_of(&mut section, links);
    let link = declared.as_ref().and_then(|declared| links[*declared].link.as_ref());
    let unit_item = section.take("unit_id");
    let unit = match link {
        Some(link) => unit_id(&section, unit_item, link),
        None => unit_item.and_then(|item| number(&item, UnitId::tcp)).map(Some),
    };
    let own_map = OwnMap::take(&mut section);
    let profile_item = section.require("profile", "the name of a profile, for example \"eastron-sdm630\"");
    let is_generic = profile_item.as_ref().is_some_and(|item| item.as_word() == Some(own_map::GENERIC));
    let found = match &profile_item {
        Some(_) if is_generic => {
            let is_text = link.map(|link| matches!(link.endpoint, Endpoint::Text(_)));
            own_map.read(&mut section, is_text)
        }
        item => {
            own_map.refuse();
            item.as_ref().and_then(|item| profiles.get(item))
        }
    };
    let profile = found.zip(profile_item.as_ref()).and_then(|(profile, item)| fitting(profile, item, link));
    let firmware = firmware(&mut section, profile.as_deref());
    let labels = labels(section.section("labels"));
    let interval = section.duration("interval", Duration::ZERO..=INTERVAL_MOST);
    let forward = forward::forward(&mut section);
    let points = section.take("points");
    let tags = section.section("tags");
    section.finish();
    let choice = Choice::read(points, tags, profile.as_deref());
    let (Some(profile), Some(profile_item)) = (profile, profile_item) else { return declared };
    let wanted = choice.wanted(&profile, interval);
    if wanted.is_empty() && choice.points.is_none() {
        profile_item.fault("offers no point by itself: name those to read in points");
    }
    let (Some(name), Some(gateway), Some(labels), Some(unit)) = (name, gateway, labels, unit) else {
        return declared;
    };
    let all_labels = Arc::new(all_labels(gateway, &name, labels.clone()));
    let offers = profile.offers();
    let tag = |(point, interval): (usize, Duration)| {
        let series = SeriesInfo { labels: all_labels.clone(), ..profile.series(point) };
        let own = choice.tags.get(offers[point].name).and_then(|own| own.forward.as_ref());
        // What is said nearest to the tag counts.
        let forward = own.or(forward.as_ref()).or_else(|| forward::of(&series, selected)).cloned();
        TagConfig { point, interval, series: Arc::new(series), forward }
    };
    let tags: Vec<TagConfig> = wanted.into_iter().map(tag).collect();
    if let Some(link) = declared.and_then(|declared| links[declared].link.as_mut()) {
        link.devices.push(DeviceConfig { name, unit, profile, firmware, labels, tags });
    }
    declared
}

fn device_name(section: &mut Section<'_, '_>, others: &mut Vec<Name>) -> Option<Name> {
    let item = section.require("name", "a name for the device")?;
    let name = name(&item)?;
    if others.contains(&name) {
        item.fault("another device has this name");
        return None;
    }
    section.call(name.as_str());
    others.push(name.clone());
    Some(name)
}

/// Index of the link that the device names, with faults of its own or without.
fn link_of(section: &mut Section<'_, '_>, links: &mut [Declared<'_, '_>]) -> Option<usize> {
    let item = section.require("link", "the name of a [[link]]")?;
    let written = item.text()?;
    let found = links.iter().position(|link| link.is_called(&written));
    match found {
        Some(found) => links[found].devices += 1,
        None => {
            let names: Vec<&str> = links.iter().filter_map(|link| link.name.as_word()).collect();
            item.fault(format!("no such link{}", hint(&names, &written)));
        }
    }
    found
}

/// The unit id: `Some(None)` for a text instrument, `None` when it is refused.
fn unit_id(section: &Section<'_, '_>, item: Option<Item<'_, '_>>, link: &LinkConfig) -> Option<Option<UnitId>> {
    let read: fn(i64) -> Result<UnitId, UnitIdError> = match link.endpoint {
        Endpoint::Text(_) => return text_instrument(section, item, link).then_some(None),
        Endpoint::Tcp { .. } => UnitId::tcp,
        Endpoint::Rtu(_) | Endpoint::RtuOverTcp { .. } => UnitId::serial,
    };
    let Some(item) = item else {
        section.missing("unit_id", "the address of the device on its link, 1 to 247");
        return None;
    };
    let unit = number(&item, read)?;
    if let Some(other) = link.devices.iter().find(|other| other.unit == Some(unit)) {
        item.fault(format!("device {:?} on link {:?} has this unit id", other.name.as_str(), link.name.as_str()));
        return None;
    }
    Some(Some(unit))
}

fn number(item: &Item<'_, '_>, read: fn(i64) -> Result<UnitId, UnitIdError>) -> Option<UnitId> {
    let number = item.any_integer().and_then(|number| i64::try_from(number).ok());
    // What is no number is outside of every range of unit ids, too.
    item.check(read(number.unwrap_or(i64::MAX)))
}

/// An instrument that speaks text has no address, and its link to itself.
fn text_instrument(section: &Section<'_, '_>, unit_id: Option<Item<'_, '_>>, link: &LinkConfig) -> bool {
    if let Some(item) = unit_id {
        item.fault("a text instrument has no unit id");
    }
    if let Some(other) = link.devices.first() {
        section.fault(format!(
            "a text link carries one device, and link {:?} has device {:?}",
            link.name.as_str(),
            other.name.as_str()
        ));
    }
    link.devices.is_empty()
}

/// The profile, when it speaks what the link carries.
fn fitting(profile: Arc<Profile>, item: &Item<'_, '_>, link: Option<&LinkConfig>) -> Option<Arc<Profile>> {
    let is_text_link = link.map(|link| matches!(link.endpoint, Endpoint::Text(_)));
    let mismatch = match (&profile.protocol, is_text_link) {
        (Protocol::Modbus(_), Some(true)) => "speaks Modbus, but the link carries lines of text",
        (Protocol::Text(_), Some(false)) => "speaks lines of text, but the link carries Modbus",
        (Protocol::Modbus(_) | Protocol::Text(_), _) => return Some(profile),
    };
    item.fault(mismatch);
    None
}

/// The firmware that the operator names. A profile whose maps differ and which cannot read the version needs it.
fn firmware(section: &mut Section<'_, '_>, profile: Option<&Profile>) -> Option<Version> {
    let item = section.take("firmware");
    let modbus = match &profile?.protocol {
        Protocol::Modbus(modbus) => modbus,
        Protocol::Text(_) => {
            if let Some(item) = item {
                item.fault("a text instrument has no firmware to tell apart");
            }
            return None;
        }
    };
    let Some(item) = item else {
        if modbus.needs_firmware() {
            let known: Vec<&str> = modbus.maps.iter().map(|map| map.name.as_str()).collect();
            section.missing(
                "firmware",
                &format!(
                    "the version in quotes; the map depends on it ({}) and the device does not say",
                    known.join("; ")
                ),
            );
        }
        return None;
    };
    let version = item.text().and_then(|text| modbus.identification.scheme.parse(&text));
    if version.is_none() {
        item.fault("must be a version as the device writes it, such as \"2.6.1\"");
    }
    version
}

/// Labels of a device. Keys follow the rule of Prometheus: `[a-zA-Z_][a-zA-Z0-9_]*`, and what begins
/// with `__` is kept for the system.
fn labels(section: Section<'_, '_>) -> Option<BTreeMap<String, String>> {
    let key_is_good = |key: &str| {
        !key.starts_with(|c: char| c.is_ascii_digit())
            && !key.starts_with("__")
            && !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let label = |(key, item): (String, Item<'_, '_>)| {
        let value = item.as_word().filter(|value| value.len() <= LABEL_VALUE_MAX);
        if RESERVED_LABELS.contains(&key.as_str()) {
            item.fault("lineside sets the labels site, gateway and device itself");
        } else if !key_is_good(&key) {
            item.fault("a label is named with letters, digits and '_', and starts neither with a digit nor with '__'");
        } else if value.is_none() {
            item.fault(format!("must be text in quotes of at most {LABEL_VALUE_MAX} bytes"));
        } else {
            return value.map(|value| (key.clone(), value.to_owned()));
        }
        None
    };
    let labels: Vec<Option<(String, String)>> = section.rest().into_iter().map(label).collect();
    labels.into_iter().collect()
}

/// What a device says about its points.
struct Choice {
    /// Those to read; `None` leaves it to the profile.
    points: Option<Vec<String>>,
    /// What single tags say for themselves.
    tags: HashMap<String, OwnChoice>,
}

/// What a tag says for itself.
#[derive(Default)]
struct OwnChoice {
    interval: Option<Duration>,
    forward: Option<Arc<Forward>>,
}

impl Choice {
    /// Reads `points` and `tags`. Without a profile, which has faults then, names are not checked.
    fn read(points: Option<Item<'_, '_>>, tags: Section<'_, '_>, profile: Option<&Profile>) -> Self {
        let names: Option<Vec<&str>> = profile.map(|profile| profile.tag_names());
        let is_known = |item: &Item<'_, '_>, name: &str| {
            let unknown = names.as_ref().filter(|names| !names.contains(&name));
            if let Some(names) = unknown {
                item.fault(format!("the profile has no such point{}", hint(names, name)));
            }
            unknown.is_none()
        };
        let listed = |item: Item<'_, '_>| {
            let items = item.clone().list()?;
            if items.is_empty() {
                item.fault("must name at least one point");
            }
            let name = |item: &Item<'_, '_>| item.text().filter(|name| is_known(item, name));
            Some(items.iter().filter_map(name).collect::<Vec<String>>())
        };
        let points = points.map(|item| listed(item).unwrap_or_default());
        let is_text = profile.is_some_and(|profile| matches!(profile.protocol, Protocol::Text(_)));
        let mut own = HashMap::new();
        for (name, item) in tags.rest() {
            if is_known(&item, &name) && points.as_ref().is_some_and(|points| !points.contains(&name)) {
                item.fault("is not read: it is not among points");
            }
            let choice = item.section().map(|section| OwnChoice::read(section, is_text));
            own.insert(name, choice.unwrap_or_default());
        }
        Self { points, tags: own }
    }

    /// What is polled how often: point index and interval, in the order of the profile.
    fn wanted(&self, profile: &Profile, interval: Option<Duration>) -> Vec<(usize, Duration)> {
        let is_wanted = |offer: &Offer<'_>| match &self.points {
            Some(points) => points.iter().any(|name| name == offer.name),
            None => offer.polled || self.tags.contains_key(offer.name),
        };
        let interval_of = |offer: &Offer<'_>| {
            let own = self.tags.get(offer.name).and_then(|own| own.interval);
            own.or(interval).or(offer.interval).unwrap_or(Duration::from_secs(1))
        };
        let offers = profile.offers();
        let wanted = offers.iter().enumerate().filter(|(_, offer)| is_wanted(offer));
        wanted.map(|(point, offer)| (point, interval_of(offer))).collect()
    }
}

impl OwnChoice {
    fn read(mut section: Section<'_, '_>, is_text: bool) -> Self {
        let item = section.take("interval");
        let forward = forward::forward(&mut section);
        section.finish();
        if let Some(item) = item.as_ref().filter(|_| is_text) {
            item.fault("a text instrument gives all its values at once; set the interval of the device");
        }
        Self { interval: item.and_then(|item| item.duration(Duration::ZERO..=INTERVAL_MOST)), forward }
    }
}

/// What could be meant instead: the nearest word, or those that contain all parts of it, or all if few.
fn hint(known: &[&str], written: &str) -> String {
    const FEW: usize = 8;
    if let Some(near) = nearest(known.iter().copied(), written) {
        return format!("; did you mean {near:?}?");
    }
    let is_alike = |name: &&str| !written.is_empty() && written.split('_').all(|part| name.contains(part));
    let alike: Vec<&str> = known.iter().copied().filter(is_alike).collect();
    let (shown, what) = if alike.is_empty() { (known, "there are") } else { (alike.as_slice(), "similar are") };
    match shown.len() {
        0 => "; there are none".to_owned(),
        1 if alike.is_empty() => format!("; there is {}", known[0]),
        1..=FEW => format!("; {what} {}", shown.join(", ")),
        count => format!("; {what} {} and {} more", shown[..FEW].join(", "), count - FEW),
    }
}

/// The labels of every series of a device.
fn all_labels(gateway: &GatewayConfig, device: &Name, own: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = own;
    for (key, value) in RESERVED_LABELS.iter().zip([&gateway.site, &gateway.id, device]) {
        all.insert((*key).to_owned(), value.to_string());
    }
    all
}
