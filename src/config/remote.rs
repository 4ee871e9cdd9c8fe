//! The section `[remote]`: who may command this gateway from afar. It belongs to the owner on site.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Name;
use crate::settings::{Item, Section};

/// Keys that may be configured: a team, and the machines that command for it.
const KEYS_MAX: usize = 64;

/// Who may command this gateway over MQTT. Without keys and not insecure, nobody, and it costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Takes unsigned commands as well, as from an operator, but never writes or configurations.
    pub insecure: bool,
    /// Keys of those who command, in the order of the file; names are unique.
    pub keys: Vec<KeyConfig>,
}

impl RemoteConfig {
    /// Whether any command can be accepted.
    pub fn is_on(&self) -> bool {
        self.insecure || !self.keys.is_empty()
    }
}

/// Who holds a key, and what that person may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Name of the person or machine; it stands in the journal.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Ed25519 public key (RFC 8032, 5.1.5).
    pub public: [u8; 32],
}

/// What a key may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look: status, readings, log.
    Viewer,
    /// Act: poll, acknowledge, write what the owner allows for this role.
    Operator,
    /// Change: configuration, restart, support bundle.
    Engineer,
}

impl Role {
    /// All roles with their names in files.
    pub const NAMED: [(&str, Self); 3] =
        [("viewer", Self::Viewer), ("operator", Self::Operator), ("engineer", Self::Engineer)];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Engineer => "engineer",
        })
    }
}

/// Reads the section.
pub(super) fn remote(mut section: Section<'_, '_>) -> RemoteConfig {
    let insecure = section.take("insecure").and_then(|item| item.boolean()).unwrap_or(false);
    let mut keys: Vec<KeyConfig> = Vec::new();
    for (position, mut key) in section.sections("key").into_iter().enumerate() {
        if position == KEYS_MAX {
            key.fault(format!("at most {KEYS_MAX} keys can be configured"));
        }
        let name_item = key.require("name", "who holds the key");
        let name = name_item.as_ref().and_then(super::site::name);
        if let (Some(item), Some(name)) = (&name_item, &name)
            && keys.iter().any(|known| known.name == *name)
        {
            item.fault("this name has a key already");
        }
        let role = key.require("role", "viewer, operator or engineer").and_then(|item| item.choice(&Role::NAMED));
        let public = key.require("public", "the public key that `lineside command keygen` prints");
        let public = public.and_then(|item| public_key(&item));
        key.finish();
        keys.extend(name.zip(role).zip(public).map(|((name, role), public)| KeyConfig { name, role, public }));
    }
    section.finish();
    RemoteConfig { insecure, keys }
}

fn public_key(item: &Item<'_, '_>) -> Option<[u8; 32]> {
    let text = item.text()?;
    let bytes = (text.len() == 64 && text.is_ascii()).then(|| {
        let digits = (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok());
        digits.collect::<Option<Vec<u8>>>()
    });
    let key = bytes.flatten().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    item.check(key.ok_or("must be an Ed25519 public key: 64 hexadecimal digits, as `lineside command keygen` prints"))
}
