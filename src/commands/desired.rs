//! A configuration as it travels: an envelope, and in it the signed text. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gate::Refusal;
use super::order::OrderError;
use super::signature::{self, FOR_CONFIGURATION};
use super::verb::Span;
use crate::config::{RemoteConfig, Role};

/// Longest message with a configuration, in bytes.
pub const DESIRED_MAX: usize = 2 << 20;

/// Most files of one configuration.
const FILES_MAX: usize = 200;

/// How long a configuration is tried, unless it says otherwise.
const WINDOW: Duration = Duration::from_secs(120);

/// Shortest and longest trial.
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);

/// What is published: the signed text, by whom, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredEnvelope {
    /// The signed text: a [`Desired`] in JSON.
    pub configuration: String,
    /// Name of the key.
    pub key: String,
    /// Ed25519 signature of the text, as hexadecimal digits.
    pub signature: String,
}

/// A configuration that somebody wants to be in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Who is meant: `<site>/<gateway>`.
    pub gateway: String,
    /// Higher than every revision before.
    pub revision: u64,
    /// How long it may take to prove itself: 5 s to 1 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Span>,
    /// Which part of the devices that answered before must answer again, 0 to 1; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Text of each file: `configuration.toml`, `rules/<name>.yml`, `profiles/<id>.toml`.
    pub files: BTreeMap<String, String>,
}

/// A configuration that is genuine and meant for this gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GenuineDesired {
    /// The signed text, read.
    pub desired: Desired,
    /// Who wants it.
    pub key: String,
    /// SHA-256 of the signed text.
    pub digest: String,
}

impl Desired {
    /// How long it may take to prove itself.
    pub fn window(&self) -> Duration {
        self.confirm.map_or(WINDOW, |span| span.0)
    }
}

/// Why a configuration is not taken.
#[derive(Debug, PartialEq)]
pub struct NotTaken {
    /// The first check that it does not pass.
    pub refusal: Refusal,
    /// What was wanted, when it is genuine all the same: then whoever sent it gets an answer.
    pub genuine: Option<GenuineDesired>,
}

impl From<Refusal> for Box<NotTaken> {
    fn from(refusal: Refusal) -> Self {
        Self::new(NotTaken { refusal, genuine: None })
    }
}

/// Every check of the message itself: size, parse, key and role, signature, gateway.
///
/// # Errors
/// The first check that it does not pass.
pub fn verify(config: &RemoteConfig, here: &str, payload: &[u8]) -> Result<GenuineDesired, Box<NotTaken>> {
    if payload.len() > DESIRED_MAX {
        return Err(Refusal::TooLarge { bytes: payload.len(), most: DESIRED_MAX }.into());
    }
    let json = |error: serde_json::Error| Refusal::Malformed(OrderError::Json(error.to_string()));
    let envelope: DesiredEnvelope = serde_json::from_slice(payload).map_err(json)?;
    let desired: Desired = serde_json::from_str(&envelope.configuration).map_err(json)?;
    check(&desired).map_err(Refusal::NotUnderstood)?;
    let key = config.keys.iter().find(|key| key.name.as_str() == envelope.key);
    let key = key.ok_or_else(|| Refusal::UnknownKey(envelope.key.chars().take(64).collect()))?;
    let signature = signature::from_hex(&envelope.signature).unwrap_or_default();
    let is_signed = signature::is_signed(&key.public, FOR_CONFIGURATION, &envelope.configuration, &signature);
    let is_for_here = desired.gateway == here;
    let meant = desired.gateway.clone();
    let digest = signature::digest(envelope.configuration.as_bytes());
    let genuine = GenuineDesired { desired, key: envelope.key.clone(), digest };
    if key.role < Role::Engineer {
        let (command, needed) = ("a configuration".to_owned(), Role::Engineer);
        let refusal = Refusal::Role { command, key: envelope.key, needed, has: key.role };
        return Err(Box::new(NotTaken { refusal, genuine: (is_signed && is_for_here).then_some(genuine) }));
    }
    if !is_signed {
        return Err(Refusal::Signature.into());
    }
    if !is_for_here {
        return Err(Refusal::OtherGateway { meant, here: here.to_owned() }.into());
    }
    Ok(genuine)
}

/// What can be said of it without knowing any gateway.
///
/// # Errors
/// What is wrong, and what is allowed.
pub fn check(desired: &Desired) -> Result<(), String> {
    if desired.revision == 0 {
        return Err("revision must be 1 or above".to_owned());
    }
    if desired.files.len() > FILES_MAX {
        return Err(format!("a configuration has at most {FILES_MAX} files"));
    }
    if let Some(odd) = desired.files.keys().find(|name| !is_file_name(name)) {
        return Err(format!("file {odd:?}: files are configuration.toml, rules/<name>.yml and profiles/<id>.toml"));
    }
    if !WINDOWS.contains(&desired.window()) {
        return Err("confirm must be 5s to 1h".to_owned());
    }
    if desired.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err("share must be 0 to 1".to_owned());
    }
    Ok(())
}

fn is_file_name(name: &str) -> bool {
    let is_stem = |stem: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !stem.is_empty() && !stem.starts_with('.') && stem.len() <= 64 && stem.chars().all(is_plain)
    };
    let rules = name.strip_prefix("rules/");
    let rule = rules.and_then(|rest| rest.strip_suffix(".yml").or_else(|| rest.strip_suffix(".yaml")));
    let profile = name.strip_prefix("profiles/").and_then(|rest| rest.strip_suffix(".toml"));
    name == "configuration.toml" || rule.is_some_and(is_stem) || profile.is_some_and(is_stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::signature::SigningKey;
    use crate::config::KeyConfig;
    use crate::model::Name;

    fn send(role: Role, change: impl FnOnce(&mut Desired)) -> Result<GenuineDesired, Refusal> {
        let key = SigningKey::generate().unwrap();
        let public = signature::from_hex(&key.public()).unwrap().try_into().unwrap();
        let keys = vec![KeyConfig { name: Name::new("eve").unwrap(), role, public }];
        let mut desired = Desired {
            gateway: "lyon/gw-01".to_owned(),
            revision: 7,
            confirm: None,
            share: None,
            files: BTreeMap::from([("configuration.toml".to_owned(), String::new())]),
        };
        change(&mut desired);
        let configuration = serde_json::to_string(&desired).unwrap();
        let signature = key.sign(FOR_CONFIGURATION, &configuration);
        let envelope = DesiredEnvelope { configuration, key: "eve".to_owned(), signature };
        let bytes = serde_json::to_vec(&envelope).unwrap();
        verify(&RemoteConfig { insecure: false, keys }, "lyon/gw-01", &bytes).map_err(|it| it.refusal)
    }

    #[test]
    fn only_an_engineer_sends_configurations_and_only_files_of_ours() {
        assert_eq!(send(Role::Engineer, |_| {}).unwrap().desired.window(), WINDOW);
        assert_eq!(send(Role::Operator, |_| {}).unwrap_err().kind(), "role");
        assert_eq!(send(Role::Engineer, |desired| desired.gateway = "x/y".to_owned()).unwrap_err().kind(), "gateway");
        assert_eq!(send(Role::Engineer, |desired| desired.revision = 0).unwrap_err().kind(), "not-understood");
        for odd in
            ["../lineside.toml", "rules/../../x.yml", "profiles/a/b.toml", "/etc/passwd", "rules/.yml", "lineside.toml"]
        {
            let refused = send(Role::Engineer, |desired| drop(desired.files.insert(odd.to_owned(), String::new())));
            assert_eq!(refused.unwrap_err().kind(), "not-understood", "{odd}");
        }
        let good = send(Role::Engineer, |desired| {
            desired.files.insert("rules/presses.yml".to_owned(), String::new());
            desired.files.insert("profiles/acme-pm5.toml".to_owned(), String::new());
        });
        assert!(good.is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..400)) {
            let _ = verify(&RemoteConfig::default(), "lyon/gw-01", &bytes);
        }
    }
}
