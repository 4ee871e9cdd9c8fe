//! What a careful colleague would say about a configuration without faults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access, statvfs};

use super::table::bytes;
use crate::agent;
use crate::commands::revisions::Revisions;
use crate::commands::write::{Installation, resolve};
use crate::config::{Config, DeviceConfig, Endpoint, LinkConfig, MqttConfig, SerialSettings, StoreConfig, TagConfig};
use crate::database::EngineKind;
use crate::modbus::timing;
use crate::model::UnitId;
use crate::profile::{Protocol, address};

/// What is likely to go wrong: with the plan on any machine, with the files on this one.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = agent::warnings(&config.links);
    warnings.extend(config.links.iter().filter_map(missing_port));
    warnings.extend(config.links.iter().flat_map(reserved_units));
    warnings.extend(config.links.iter().flat_map(|link| &link.devices).flat_map(addresses_in_wrong_table));
    warnings.extend(store(&config.store));
    warnings.extend(password_in_clear(&config.mqtt));
    warnings.extend(writes(config));
    warnings
}

/// What is in order, but may not be what was meant.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let mut notes: Vec<String> = config.links.iter().filter_map(never_idle).collect();
    notes.extend(revision_in_force(&config.store));
    notes
}

/// The agent does not run by the file alone.
fn revision_in_force(store: &StoreConfig) -> Option<String> {
    match Revisions::in_force_at(&store.path) {
        Ok(0) => None,
        Ok(revision) => Some(format!(
            "revision {revision} from afar is in force; this file is its base. `lineside config history` shows it"
        )),
        Err(trouble) => Some(format!("nobody can say whether a revision from afar is in force: {trouble}")),
    }
}

/// Unit ids that the specification reserves (Modbus over Serial Line 1.02, 2.2). On TCP 255 means the device itself.
fn reserved_units(link: &LinkConfig) -> Vec<String> {
    let is_tcp = matches!(link.endpoint, Endpoint::Tcp { .. });
    let reserved = |device: &&DeviceConfig| {
        device.unit.is_some_and(|unit| unit.is_reserved() && !(is_tcp && unit.get() == u8::MAX))
    };
    let warning = |device: &DeviceConfig| {
        format!(
            "device {}: unit_id = {} is one of 248 to 255, which the specification reserves: some devices have one all \
             the same, and some gateways do not let it pass",
            device.name,
            device.unit.map_or(0, UnitId::get)
        )
    };
    link.devices.iter().filter(reserved).map(warning).collect()
}

/// Points whose address looks like one out of a manual, of another table than they are in.
fn addresses_in_wrong_table(device: &DeviceConfig) -> Vec<String> {
    let Protocol::Modbus(modbus) = &device.profile.protocol else { return Vec::new() };
    if device.profile.is_shipped() {
        return Vec::new();
    }
    let warning = |tag: &TagConfig| {
        let point = modbus.points.get(tag.point)?;
        let (table, _) = address::looks_like(point.address).filter(|(table, _)| *table != point.table)?;
        let hint = modbus.explain_refusal(point)?;
        let is_doubtful = !table.holds_bits() || point.table.holds_bits();
        is_doubtful.then(|| format!("device {}: {} at {}: {hint}", device.name, point.name, point.address))
    };
    device.tags.iter().filter_map(warning).collect()
}

/// Permissions to write that are not in force, and the pin that would put them there.
fn writes(config: &Config) -> Vec<String> {
    let groups = agent::rules_of(config);
    let installation = Installation { links: config.links.iter().collect(), groups: &groups };
    let idle = resolve(&config.writes, &installation).into_iter().filter_map(|permission| {
        let reason = permission.place.err()?;
        Some(format!("write {}/{}: {reason}", permission.config.device, permission.config.point))
    });
    idle.collect()
}

fn missing_port(link: &LinkConfig) -> Option<String> {
    let (Endpoint::Rtu(SerialSettings { port, .. }) | Endpoint::Text(SerialSettings { port, .. })) = &link.endpoint
    else {
        return None;
    };
    let why = match access(port, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => return None,
        Err(rustix::io::Errno::ACCESS) => "this user may not read and write it",
        Err(_) => "it is not there now",
    };
    Some(format!("link {}: {}: {why}", link.name, port.display()))
}

fn store(store: &StoreConfig) -> Vec<String> {
    let place = existing(&store.path);
    let mut warnings = Vec::new();
    if access(place, Access::WRITE_OK | Access::EXEC_OK).is_err() || !place.is_dir() {
        warnings.push(format!("store.path = {:?}: {} cannot be written by this user", store.path, place.display()));
    }
    if let Some(found) = EngineKind::found_in(&store.path.join("database"))
        && store.limit_bytes < found.limit_least()
    {
        warnings.push(format!(
            "store.limit is {}, but the store there was written by {found}, which needs {} to keep within it: to change \
             over, stop the agent when everything is delivered, and move the directory away",
            bytes(store.limit_bytes),
            bytes(found.limit_least())
        ));
    }
    let room = statvfs(place).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let room = room.map(|free| free.saturating_add(size(&store.path)));
    if let Ok(room) = room
        && room < store.limit_bytes
    {
        warnings.push(format!(
            "store.limit is {}, but there is room for {} only: the disk will be full before the limit is reached",
            bytes(store.limit_bytes),
            bytes(room)
        ));
    }
    warnings
}

/// The directory itself, or the nearest one above it that exists.
fn existing(path: &Path) -> &Path {
    let found = path.ancestors().find(|place| place.exists());
    found.unwrap_or(Path::new("."))
}

/// What the store takes already.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size_of = |path: PathBuf| match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => size(&path),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(|entry| size_of(entry.path())).sum()
}

fn password_in_clear(mqtt: &MqttConfig) -> Option<String> {
    let is_here =
        mqtt.host == "localhost" || mqtt.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let has_password = mqtt.credentials.as_ref().is_some_and(|credentials| credentials.password_file.is_some());
    (has_password && mqtt.tls.is_none() && !is_here)
        .then(|| format!("the password of the broker {} crosses the network in clear: use mqtts://", mqtt.host))
}

/// A line that is shared with something that is polled without pause.
fn never_idle(link: &LinkConfig) -> Option<String> {
    let load = timing::load(link).ok()?;
    let is_endless = |device: &&timing::DeviceLoad| device.groups.iter().any(|group| group.interval.is_zero());
    let endless: Vec<&str> = load.devices.iter().filter(is_endless).map(|device| device.device.as_str()).collect();
    let groups = || load.devices.iter().flat_map(|device| &device.groups);
    let longest: Duration = groups().filter(|group| group.interval.is_zero()).map(|group| group.round_time).max()?;
    if groups().all(|group| group.interval.is_zero()) {
        return None;
    }
    Some(format!(
        "link {} is never idle: interval \"0s\" ({}) takes all the time that the other polls leave, and each of those \
         may start {:.0} ms late",
        link.name,
        endless.join(", "),
        longest.as_secs_f64() * 1000.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WhenFull;

    #[test]
    fn a_limit_that_the_engine_of_a_store_that_is_there_cannot_keep_is_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = StoreConfig {
            limit_is_stated: true,
            path: directory.path().to_owned(),
            limit_bytes: 4 << 20,
            commit_interval: Duration::from_secs(1),
            commit_interval_max: Duration::from_secs(1),
            open_commit: crate::config::OpenCommitPlace::Auto,
            card_endurance_bytes: None,
            engine: EngineKind::Segments,
            when_full: WhenFull::Thin,
        };
        assert_eq!(store(&config), Vec::<String>::new());

        std::fs::create_dir(directory.path().join("database")).unwrap();
        std::fs::write(directory.path().join("database/db"), "").unwrap();
        let warnings = store(&config);
        assert!(
            matches!(&warnings[..], [warning] if warning.starts_with(
                "store.limit is 4.0 MiB, but the store there was written by sled, which needs 16.0 MiB to keep within it"
            )),
            "{warnings:?}"
        );
        config.limit_bytes = EngineKind::Sled.limit_least();
        assert_eq!(store(&config), Vec::<String>::new());
    }
}
