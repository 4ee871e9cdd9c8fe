//! What somebody afar may change: links, devices, rules, profiles, batching, a further broker. It lies over the owner's
//! own file and holds nothing else: who the gateway is, who may command it, what may be written, where things are kept
//! is no key of an overlay, so it cannot be changed by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::devices::{self, Profiles};
use super::forward;
use super::pushed;
use super::site::{batch, broker_url, health};
use super::{Config, ConfigError, MqttConfig, MqttProtocol, Pushed, RulesConfig, TlsConfig};
use crate::settings::{FileFault, Section, Source, read_text};

/// The file of an overlay that says what is polled and where readings go.
pub const OVERLAY_FILE: &str = "configuration.toml";

/// The owner's configuration with the overlay in `directory` over it. Links and devices of an overlay take the place of
/// all of the owner's, its rules that of his rules; its profiles are there beside his. [`pushed`] says what may be sent where.
///
/// # Errors
/// Everything that is wrong with the overlay; files are named as they are in it.
pub fn lay_over(base: &Config, directory: &Path) -> Result<Config, ConfigError> {
    let refused = |faults| ConfigError { faults };
    let text = read_text(&directory.join(OVERLAY_FILE)).map_err(refused)?.unwrap_or_default();
    let source = Source::new(OVERLAY_FILE, &text);
    let config = source.root().and_then(|mut root| {
        let mqtt = mqtt(root.section("mqtt"), &base.mqtt);
        let own_forward = root.has("forward").then(|| forward::selected(root.sections("forward")));
        let own_links = root.has("link") || root.has("device");
        if own_forward.is_some() && !own_links {
            root.missing("device", "what is selected by [[forward]] is told with the devices");
        }
        let forward = own_forward.unwrap_or_else(|| base.forward.clone());
        let links = match own_links {
            true => {
                let profiles = Profiles::layered(vec![base.profiles.clone(), directory.join("profiles")]);
                devices::links(&mut root, Some(&base.gateway), profiles, &forward)
            }
            false => base.links.clone(),
        };
        root.finish();
        let own_rules = directory.join("rules");
        let rules = match own_rules.is_dir() {
            true => RulesConfig { files: vec![own_rules.clone()], ..base.rules.clone() },
            false => base.rules.clone(),
        };
        let own_links = own_links.then(|| Arc::new(base.links.clone()));
        let pushed = Some(Pushed { rules: own_rules.is_dir(), own_links });
        Some(Config { mqtt: mqtt?, rules, forward, links, pushed, ..base.clone() })
    });
    let inside = |fault: FileFault| FileFault { file: named(&fault.file, directory), ..fault };
    let mut faults = source.into_faults();
    // Also those that no device uses yet: whoever sent them hears of it now.
    let in_profiles = crate::profile::file::faults_in(&directory.join("profiles"));
    let unsaid: Vec<_> = in_profiles.into_iter().filter(|fault| !faults.contains(fault)).collect();
    faults.extend(unsaid);
    faults.extend(pushed::profile_faults(&directory.join("profiles"), &base.profiles));
    if let Some(config) = config.as_ref().filter(|config| config.links != base.links) {
        faults.extend(pushed::link_faults(&config.links, &base.links));
    }
    match (config, faults) {
        (Some(config), faults) if faults.is_empty() => Ok(config),
        (_, faults) => Err(ConfigError { faults: faults.into_iter().map(inside).collect() }),
    }
}

/// A file as the sender knows it.
pub fn named(file: &str, directory: &Path) -> String {
    let inside = Path::new(file).strip_prefix(directory).map(PathBuf::from);
    inside.map_or_else(|_| file.to_owned(), |inside| inside.display().to_string())
}

fn mqtt(mut section: Section<'_, '_>, base: &MqttConfig) -> Option<MqttConfig> {
    let url = section.take("url");
    let broker = url.as_ref().map(broker_url);
    let words = [("5", MqttProtocol::V5), ("3.1.1", MqttProtocol::V311)];
    let protocol = section.choice("protocol", &words).unwrap_or(base.protocol);
    let keep_alive =
        section.duration("keep_alive", Duration::from_secs(5)..=Duration::from_secs(1200)).unwrap_or(base.keep_alive);
    let fallback_after = section
        .duration("fallback_after", Duration::from_secs(5)..=Duration::from_secs(24 * 3600))
        .unwrap_or(base.fallback_after);
    let has_batch = section.has("batch");
    let own_batch = batch(section.section("batch"));
    let batch = if has_batch { own_batch } else { base.batch };
    let health = if section.has("health") { health(section.section("health")) } else { base.health };
    section.finish();
    let same = MqttConfig { protocol, keep_alive, fallback_after, batch, health, ..base.clone() };
    let Some(broker) = broker else { return Some(same) };
    let broker = broker?;
    // The owner's password is for the owner's broker.
    let credentials = base.credentials.clone().filter(|_| broker.host == base.host);
    let own_tls = || TlsConfig { ca_file: None, client: None };
    let tls = broker.tls.then(|| base.tls.clone().unwrap_or_else(own_tls));
    // What the owner knows about his broker is not known about another.
    let trust_puback = base.trust_puback && broker.host == base.host;
    Some(MqttConfig { host: broker.host, port: broker.port, tls, credentials, trust_puback, ..same })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HealthConfig, HealthDetail, parse};

    const BASE: &str = "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\n[store]\npath = \"store\"\n[mqtt]\n\
                        url = \"mqtt://owner\"\nusername = \"gw\"\n[[link]]\nname = \"hall\"\ntcp = \"10.0.0.5:502\"\n\
                        [[device]]\nname = \"meter\"\nlink = \"hall\"\nunit_id = 1\nprofile = \"abb-b23\"\n";

    fn laid_over(overlay: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OVERLAY_FILE), overlay).unwrap();
        let base = parse(BASE, "lineside.toml", directory.path()).unwrap();
        lay_over(&base, directory.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_overlay_changes_what_it_names_and_nothing_else() {
        let same = laid_over("").unwrap();
        assert_eq!((same.mqtt.host.as_str(), same.links.len(), same.links[0].devices.len()), ("owner", 1, 1));

        let other = laid_over(
            "[mqtt]\nurl = \"mqtts://further\"\nbatch = { max_age = \"60s\" }\n[[link]]\nname = \"shed\"\n\
             tcp = \"10.0.0.6:502\"\n[[device]]\nname = \"pump\"\nlink = \"shed\"\nunit_id = 2\nprofile = \"abb-b23\"\n",
        )
        .unwrap();
        assert_eq!((other.mqtt.host.as_str(), other.mqtt.port), ("further", 8883));
        assert_eq!(other.mqtt.credentials, None);
        assert_eq!(other.mqtt.batch.max_age, Duration::from_secs(60));
        assert_eq!(other.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["shed"]);
        assert_eq!(other.gateway, same.gateway);
    }

    #[test]
    fn health_is_each_minute_unless_it_is_said() {
        let health = |overlay: &str| laid_over(overlay).map(|config| config.mqtt.health);
        let minute = Duration::from_secs(60);

        assert_eq!(health(""), Ok(HealthConfig { interval: minute, detail: HealthDetail::Full }));
        let off = "[mqtt]\nhealth = { detail = \"off\" }";
        assert_eq!(health(off), Ok(HealthConfig { interval: minute, detail: HealthDetail::Off }));
        let rare = "[mqtt]\nhealth = { interval = \"24h\", detail = \"summary\" }";
        assert_eq!(
            health(rare),
            Ok(HealthConfig { interval: Duration::from_secs(86_400), detail: HealthDetail::Summary })
        );
        for (bad, reason) in
            [("interval = \"9s\"", "10s"), ("interval = \"25h\"", "24h"), ("detail = \"some\"", "summary")]
        {
            let refused = health(&format!("[mqtt]\nhealth = {{ {bad} }}")).unwrap_err();
            assert!(refused.contains("mqtt.health.") && refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn what_belongs_to_the_owner_is_no_key_of_an_overlay() {
        for (overlay, key) in [
            ("[store]\npath = \"/\"", "store"),
            ("[gateway]\nid = \"x\"", "gateway"),
            ("[remote]\ninsecure = true", "remote"),
            ("[[write]]\ndevice = \"meter\"", "write"),
            ("[rules]\nfiles = [\"/etc/passwd\"]", "rules"),
            ("[clock]\ntrust = \"local\"", "clock"),
            ("[mqtt]\npassword_file = \"/etc/shadow\"", "mqtt.password_file"),
            ("[mqtt]\nca_file = \"/x\"", "mqtt.ca_file"),
        ] {
            let refused = laid_over(overlay).unwrap_err();
            assert!(
                refused.contains("configuration.toml") && refused.contains(key) && refused.contains("unknown key"),
                "{refused}"
            );
        }
    }
}
