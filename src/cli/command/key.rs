//! Keys of those who command: a file that stays with its owner, and a public key for the gateways.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::super::{Exit, Failure, write_json, written};
use crate::commands::signature::{SigningKey, from_hex, hex};
use crate::config::Role;
use crate::model::Name;

/// Make a key for signed commands: a secret file, and the lines that each gateway needs to know it.
#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// Name of the person or machine that will hold the key.
    #[arg(value_name = "NAME", value_parser = name)]
    name: Name,
    /// What it may do: viewer, operator or engineer. The gateway's configuration decides.
    #[arg(long, value_name = "ROLE", default_value = "operator", value_parser = role)]
    role: Role,
    /// Where the secret goes; without it <NAME>.key.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON object: name, role, public key, file.
    #[arg(long)]
    json: bool,
}

/// What a key file holds.
#[derive(Debug, Serialize, Deserialize)]
struct KeyFile {
    name: String,
    role: Role,
    /// Private key (RFC 8032, 5.1.5) as hexadecimal digits.
    seed: String,
}

/// A key that signs.
pub(super) struct Signer {
    /// Name under which the gateways know it.
    pub name: String,
    /// Signs.
    pub key: SigningKey,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::NAMED.iter().find(|(name, _)| *name == text).map(|(_, role)| *role);
    found.ok_or_else(|| "must be viewer, operator or engineer".to_owned())
}

impl Keygen {
    pub fn run(self) -> Result<Exit, Failure> {
        let key = SigningKey::generate().ok_or_else(|| anyhow::anyhow!("the system gives no random numbers"))?;
        let file = self.out.unwrap_or_else(|| format!("{}.key", self.name).into());
        let content = KeyFile { name: self.name.to_string(), role: self.role, seed: hex(&key.seed()) };
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        let stored = created.and_then(|mut created| {
            serde_json::to_writer(&mut created, &content)?;
            writeln!(created)?;
            created.sync_all()
        });
        stored.map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))?;
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(
                &mut out,
                &serde_json::json!({ "name": content.name, "role": content.role, "public": key.public(), "file": file }),
            ),
            false => writeln!(
                out,
                "The secret is in {}; it stays with {}.\nEach gateway that is to obey it needs in its lineside.toml:\n\n\
                 [[remote.key]]\nname = \"{}\"\nrole = \"{}\"\npublic = \"{}\"",
                file.display(),
                content.name,
                content.name,
                content.role,
                key.public()
            ),
        })?;
        Ok(Exit::Done)
    }
}

impl Signer {
    /// Reads a key file.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let refused = |reason: String| Failure::Refused(format!("{}: {reason}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        let content: KeyFile = serde_json::from_str(&text)
            .map_err(|error| refused(format!("not a key that `lineside command keygen` made: {error}")))?;
        let seed = from_hex(&content.seed).and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let key = seed.and_then(SigningKey::from_seed);
        let key = key.ok_or_else(|| refused("seed must be 64 hexadecimal digits".to_owned()))?;
        Ok(Self { name: content.name, key })
    }
}
