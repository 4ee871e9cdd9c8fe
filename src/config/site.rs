//! The sections `[gateway]`, `[clock]`, `[store]` and `[mqtt]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    BacklogConfig, BacklogOrder, BatchConfig, BatchEncoding, ClockTrust, Credentials, DEFAULT_PROFILES, DEFAULT_SOCKET,
    GatewayConfig, HealthConfig, HealthDetail, MqttConfig, MqttProtocol, OpenCommitPlace, RulesConfig, StoreConfig,
    TlsConfig, WhenFull,
};
use crate::database::EngineKind;
use crate::model::Name;
use crate::settings::{Item, Section, show_size};

const NAME_RULE: &str = "1 to 64 characters of a-z, 0-9, '_' or '-', starting with a letter or digit";

/// Longest topic prefix that leaves room for the names behind it (MQTT 5.0, 1.5.4: 65,535 bytes; brokers less).
const PREFIX_MAX: usize = 128;

/// Longer than a broker takes to be updated.
const FALLBACK_AFTER: Duration = Duration::from_secs(600);

/// More often a health message takes more of a mobile link than the readings of a small plant.
const HEALTH_INTERVAL_LEAST: Duration = Duration::from_secs(10);
const HEALTH_INTERVAL_MOST: Duration = Duration::from_secs(24 * 3600);

/// Levels of the prefix: with site, gateway, `catalogue` and part behind it a topic has at most seven slashes,
/// which is what AWS IoT Core takes.
const PREFIX_SLASHES_MAX: usize = 3;

pub(super) fn name(item: &Item<'_, '_>) -> Option<Name> {
    item.check(Name::new(&item.text()?))
}

/// Where the agent listens.
pub(super) fn socket(section: &mut Section<'_, '_>, directory: &Path) -> PathBuf {
    section.path("socket").map_or_else(|| DEFAULT_SOCKET.into(), |path| directory.join(path))
}

/// Who the gateway is, and the directory of further profiles.
pub(super) fn gateway(mut section: Section<'_, '_>, directory: &Path) -> (Option<GatewayConfig>, PathBuf) {
    let site = section.require("site", NAME_RULE).and_then(|item| name(&item));
    let id = section.require("id", NAME_RULE).and_then(|item| name(&item));
    let socket = socket(&mut section, directory);
    let profiles = section.take("profiles").and_then(|item| {
        let found = directory.join(item.path()?);
        if !found.is_dir() {
            item.fault(format!("must be a directory with profiles (*.toml); {} is none", found.display()));
        }
        Some(found)
    });
    section.finish();
    let gateway = site.zip(id).map(|(site, id)| GatewayConfig { site, id, socket });
    (gateway, profiles.unwrap_or_else(|| DEFAULT_PROFILES.into()))
}

pub(super) fn clock(mut section: Section<'_, '_>) -> ClockTrust {
    let words = [("kernel", ClockTrust::Kernel), ("local", ClockTrust::Local)];
    let trust = section.choice("trust", &words).unwrap_or(ClockTrust::Kernel);
    section.finish();
    trust
}

/// Files and directories of rules, and what they may take.
pub(super) fn rules(mut section: Section<'_, '_>, directory: &Path) -> RulesConfig {
    const MEMORY_LEAST: u64 = 1 << 20;
    const MEMORY_MOST: u64 = 1 << 36;
    let listed = section.take("files").and_then(Item::list).unwrap_or_default();
    let memory_bytes = section.size("memory", MEMORY_LEAST..=MEMORY_MOST).unwrap_or(256 << 20);
    section.finish();
    let exists = |item: Item<'_, '_>| {
        let found = directory.join(item.path()?);
        if !found.exists() {
            item.fault("must be a rule file, or a directory of rule files (*.yml, *.yaml)");
        }
        Some(found)
    };
    RulesConfig { memory_bytes, files: listed.into_iter().filter_map(exists).collect() }
}

pub(super) fn store(mut section: Section<'_, '_>, directory: &Path) -> Option<StoreConfig> {
    const LIMIT_MOST: u64 = 1 << 40;
    let limit_least = EngineKind::default().limit_least();
    let path = section.require("path", "the directory to keep readings in").and_then(|item| item.path());
    let limit = section.take("limit");
    let limit_is_stated = limit.is_some();
    let limit_bytes = limit.as_ref().and_then(|item| item.size(limit_least..=LIMIT_MOST)).unwrap_or(512 << 20);
    let commit_interval = section
        .duration("commit_interval", Duration::from_millis(10)..=Duration::from_secs(60))
        .unwrap_or(Duration::from_secs(1));
    let commit_interval_max =
        section.duration("commit_interval_max", commit_interval..=Duration::from_secs(60)).unwrap_or(commit_interval);
    let open_commit = section.take("open_commit").and_then(|item| open_commit(&item, directory));
    let card_endurance_bytes = section.take("card_endurance").and_then(|item| card_endurance(&item));
    let words = [("thin", WhenFull::Thin), ("drop-oldest", WhenFull::DropOldest)];
    let when_full = section.choice("when_full", &words).unwrap_or(WhenFull::Thin);
    let engine = section.choice("engine", &EngineKind::ALL.map(|kind| (kind.word(), kind))).unwrap_or_default();
    if let Some(item) = limit.filter(|_| limit_bytes < engine.limit_least()) {
        let least = show_size(engine.limit_least());
        item.fault(format!("must be at least {least} with engine = \"{engine}\", whose files take up to ten times what they hold; engine = \"segments\" keeps {}", show_size(limit_least)));
    }
    section.finish();
    Some(StoreConfig {
        path: directory.join(path?),
        limit_bytes,
        limit_is_stated,
        commit_interval,
        commit_interval_max,
        card_endurance_bytes,
        engine,
        when_full,
        open_commit: open_commit.unwrap_or(OpenCommitPlace::Auto),
    })
}

/// `"auto"`, `"off"` or a directory.
fn open_commit(item: &Item<'_, '_>, directory: &Path) -> Option<OpenCommitPlace> {
    match item.as_word() {
        Some("auto") => Some(OpenCommitPlace::Auto),
        Some("off") => Some(OpenCommitPlace::Off),
        Some(path) if path.contains('/') && !path.contains(char::is_control) => {
            Some(OpenCommitPlace::In(directory.join(path)))
        }
        Some(_) | None => {
            item.fault("must be \"auto\", \"off\" or a directory in memory, such as \"/run/lineside\"");
            None
        }
    }
}

/// What makers of cards call TBW: `"30TB"`, `"500GB"`, in powers of ten.
fn card_endurance(item: &Item<'_, '_>) -> Option<u64> {
    const GIGABYTE: u64 = 1_000_000_000;
    let bytes = |text: String| {
        let units = [("TBW", 1000), ("TB", 1000), ("GB", 1)];
        let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
        let number: u64 = number.trim_end().parse().ok()?;
        number.checked_mul(factor * GIGABYTE).filter(|bytes| *bytes > 0)
    };
    item.check(bytes(item.text()?).ok_or("must be what its maker says it bears, such as \"30TB\" or \"500GB\""))
}

pub(super) fn mqtt(
    mut section: Section<'_, '_>,
    directory: &Path,
    gateway: Option<&GatewayConfig>,
) -> Option<MqttConfig> {
    let url = section.require("url", "mqtt://host[:port] or mqtts://host[:port]");
    let broker = url.and_then(|item| broker_url(&item));
    let words = [("5", MqttProtocol::V5), ("3.1.1", MqttProtocol::V311)];
    let protocol = section.choice("protocol", &words).unwrap_or(MqttProtocol::V5);
    let tls = tls(&mut section, directory, broker.as_ref().map(|broker| broker.tls));
    let credentials = credentials(&mut section, directory);
    let prefix = section.take("prefix").and_then(|item| item.check(topic_prefix(item.text()?)));
    let own_id = section.take("client_id").and_then(|item| item.check(client_id(item.text()?)));
    let keep_alive = section
        .duration("keep_alive", Duration::from_secs(5)..=Duration::from_secs(1200))
        .unwrap_or(Duration::from_secs(30));
    // Without effect with MQTT 5, which one may go over to and back.
    let trust_puback = section.take("trust_puback").and_then(|item| item.boolean()).unwrap_or(false);
    let batch = batch(section.section("batch"));
    let backlog = backlog(section.section("backlog"));
    let health = health(section.section("health"));
    section.finish();
    let (broker, gateway) = (broker?, gateway?);
    Some(MqttConfig {
        host: broker.host,
        port: broker.port,
        tls,
        protocol,
        client_id: own_id.unwrap_or_else(|| format!("lineside-{}-{}", gateway.site, gateway.id)),
        credentials,
        prefix: prefix.unwrap_or_else(|| "lineside/v1".to_owned()),
        keep_alive,
        trust_puback,
        fallback_after: FALLBACK_AFTER,
        batch,
        backlog,
        health,
    })
}

pub(super) struct Broker {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

/// `mqtt://host[:port]` or `mqtts://host[:port]`; an IPv6 address stands in brackets.
pub(super) fn broker_url(item: &Item<'_, '_>) -> Option<Broker> {
    const ALLOWED: &str = "must be mqtt://host[:port] or mqtts://host[:port]";
    let url = item.text()?;
    if url.contains('@') {
        item.fault_of_secret("user and password belong in username and password_file");
        return None;
    }
    let (tls, rest) = match (url.strip_prefix("mqtts://"), url.strip_prefix("mqtt://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => {
            item.fault(ALLOWED);
            return None;
        }
    };
    let default_port = if tls { 8883 } else { 1883 };
    let (host, port) = item.check(host_and_port(rest, Some(default_port)).ok_or(ALLOWED))?;
    Some(Broker { host, port, tls })
}

/// Splits `host:port` or `[v6]:port`. Without a port the default counts; without a default it is refused.
pub fn host_and_port(address: &str, default_port: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => address.find(':').map_or((address, ""), |colon| address.split_at(colon)),
    };
    let host_is_plain =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#".contains(c));
    let port = match port {
        "" => default_port,
        written => written.strip_prefix(':').and_then(|digits| digits.parse().ok()).filter(|port| *port != 0),
    };
    host_is_plain.then(|| host.to_owned()).zip(port)
}

/// `uses_tls` is `None` when the url does not say.
fn tls(section: &mut Section<'_, '_>, directory: &Path, uses_tls: Option<bool>) -> Option<TlsConfig> {
    let [ca_file, cert_file, key_file] = ["ca_file", "cert_file", "key_file"].map(|key| {
        let item = section.take(key)?;
        if uses_tls == Some(false) {
            item.fault("only with an mqtts:// url");
            return Some(PathBuf::new());
        }
        Some(readable_file(&item, directory).unwrap_or_default())
    });
    match (&cert_file, &key_file) {
        (Some(_), None) => section.missing("key_file", "the key of cert_file"),
        (None, Some(_)) => section.missing("cert_file", "the certificate of key_file"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    (uses_tls == Some(true)).then(|| TlsConfig { ca_file, client: cert_file.zip(key_file) })
}

fn credentials(section: &mut Section<'_, '_>, directory: &Path) -> Option<Credentials> {
    let username = section.text("username");
    let password_file = section.take("password_file").map(|item| readable_file(&item, directory).unwrap_or_default());
    if password_file.is_some() && username.is_none() {
        section.missing("username", "a password goes with a user");
    }
    username.map(|username| Credentials { username, password_file })
}

/// A file that can be read now; its content is read when it is needed.
fn readable_file(item: &Item<'_, '_>, directory: &Path) -> Option<PathBuf> {
    let file = directory.join(item.path()?);
    match std::fs::metadata(&file).and_then(|found| std::fs::File::open(&file).map(|_| found.is_file())) {
        Ok(true) => return Some(file),
        Ok(false) => item.fault("must be a readable file, not a directory"),
        Err(error) => item.fault(format!("must be a readable file: {error}")),
    }
    None
}

fn topic_prefix(prefix: String) -> Result<String, String> {
    let slashes = prefix.bytes().filter(|byte| *byte == b'/').count();
    let plain = !prefix.contains(|c: char| matches!(c, '+' | '#' | '$') || c.is_control() || c.is_whitespace());
    let levels_filled = prefix.split('/').all(|level| !level.is_empty());
    if plain && levels_filled && prefix.len() <= PREFIX_MAX && slashes <= PREFIX_SLASHES_MAX {
        Ok(prefix)
    } else {
        Err(format!(
            "must be a topic of at most {} levels and {PREFIX_MAX} bytes, without '+', '#', '$' or blanks",
            PREFIX_SLASHES_MAX + 1
        ))
    }
}

/// MQTT 5.0, 3.1.3.1: every broker takes 1 to 23 letters and digits; most take more.
fn client_id(id: String) -> Result<String, &'static str> {
    let allowed = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'));
    if !id.is_empty() && id.len() <= 256 && allowed {
        Ok(id)
    } else {
        Err("must be 1 to 256 letters, digits, '-', '_', '.' or ':'")
    }
}

pub(super) fn batch(mut section: Section<'_, '_>) -> BatchConfig {
    const SIZE_LEAST: u64 = 1 << 10;
    // MQTT 5.0, 2.1.4: a packet has at most 256 MiB; a gateway has no use for batches of more than 8.
    const SIZE_MOST: u64 = 8 << 20;
    let words = [("columnar", BatchEncoding::Columnar), ("json", BatchEncoding::Json)];
    let encoding = section.choice("encoding", &words).unwrap_or(BatchEncoding::Columnar);
    let max_age = section
        .duration("max_age", Duration::from_millis(100)..=Duration::from_secs(3600))
        .unwrap_or(Duration::from_secs(10));
    let max_size = section.size("max_size", SIZE_LEAST..=SIZE_MOST).unwrap_or(100 << 10);
    section.finish();
    BatchConfig { encoding, max_age, max_size: usize::try_from(max_size).unwrap_or(usize::MAX) }
}

pub(super) fn health(mut section: Section<'_, '_>) -> HealthConfig {
    let interval =
        section.duration("interval", HEALTH_INTERVAL_LEAST..=HEALTH_INTERVAL_MOST).unwrap_or(Duration::from_secs(60));
    let words = [("full", HealthDetail::Full), ("summary", HealthDetail::Summary), ("off", HealthDetail::Off)];
    let detail = section.choice("detail", &words).unwrap_or(HealthDetail::Full);
    section.finish();
    HealthConfig { interval, detail }
}

fn backlog(mut section: Section<'_, '_>) -> BacklogConfig {
    // Slower than the slowest mobile link; faster than any gateway can read its store.
    const RATE_LEAST: u64 = 1 << 10;
    const RATE_MOST: u64 = 1 << 30;
    let words = [("live-first", BacklogOrder::LiveFirst), ("in-order", BacklogOrder::InOrder)];
    let order = section.choice("order", &words).unwrap_or(BacklogOrder::LiveFirst);
    let rate = section.take("rate");
    section.finish();
    if let Some(item) = rate.as_ref().filter(|_| order == BacklogOrder::InOrder) {
        item.fault("only with order = \"live-first\": in order the backlog takes what the link allows");
    }
    let rate = rate.and_then(|item| item.rate(RATE_LEAST..=RATE_MOST));
    BacklogConfig { order, rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses_are_taken_apart() {
        assert_eq!(host_and_port("broker.example:8883", None), Some(("broker.example".into(), 8883)));
        assert_eq!(host_and_port("broker", Some(1883)), Some(("broker".into(), 1883)));
        assert_eq!(host_and_port("[::1]:1", None), Some(("::1".into(), 1)));
        for bad in ["", ":1", "a:0", "a:b", "a:99999", "a b:1", "[::1", "::1"] {
            assert_eq!(host_and_port(bad, Some(1)), None, "{bad}");
        }
    }

    #[test]
    fn a_prefix_leaves_room_for_the_levels_behind_it() {
        assert!(topic_prefix("lineside/v1".into()).is_ok());
        for bad in ["", "/a", "a/", "a//b", "a/#", "a/b/c/d/e", "a b"] {
            assert!(topic_prefix(bad.into()).is_err(), "{bad}");
        }
    }
}
