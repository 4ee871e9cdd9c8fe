//! What this installation wants: validated, complete, without defaults left to guess.
//!
//! [`load`] reads `lineside.toml` and reports every fault of it at once. `check` and `run` use the same code.

mod devices;
pub mod link;
pub mod reader;
mod site;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use link::{DeviceConfig, Endpoint, LinkConfig, Parity, SerialSettings, TagConfig};
pub use reader::ConfigFault;
use reader::{Faults, Section};

use crate::model::Name;

/// Where the configuration lies unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/lineside/lineside.toml";

/// Where the agent's socket lies unless said otherwise.
pub const DEFAULT_SOCKET: &str = "/run/lineside/lineside.sock";

/// Where profiles of the site lie unless said otherwise; those that are part of the program come after them.
pub const DEFAULT_PROFILES: &str = "/etc/lineside/firmware-profiles";

/// A whole configuration that has passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this gateway is.
    pub gateway: GatewayConfig,
    /// How far the wall clock is trusted.
    pub clock: ClockTrust,
    /// Where readings are kept.
    pub store: StoreConfig,
    /// Where readings go.
    pub mqtt: MqttConfig,
    /// Links with their devices, in the order of the file.
    pub links: Vec<LinkConfig>,
}

/// Who this gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The place.
    pub site: Name,
    /// This machine.
    pub id: Name,
    /// Socket of the diagnostic commands.
    pub socket: PathBuf,
}

/// Who says that the wall clock is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrust {
    /// The kernel, told by a time daemon.
    Kernel,
    /// The owner of a site without time server.
    Local,
}

/// Where readings are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Directory of the database.
    pub path: PathBuf,
    /// The most the directory takes on disk, in bytes.
    pub limit_bytes: u64,
    /// The most a power cut can cost.
    pub commit_interval: Duration,
}

/// The broker and what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// Host name or address of the broker.
    pub host: String,
    /// Port of the broker.
    pub port: u16,
    /// `None` for plain TCP.
    pub tls: Option<TlsConfig>,
    /// MQTT version.
    pub protocol: MqttProtocol,
    /// Client identifier; stable, because the broker keeps the session under it.
    pub client_id: String,
    /// User and the file that holds the password.
    pub credentials: Option<Credentials>,
    /// First levels of every topic.
    pub prefix: String,
    /// Longest silence on the connection.
    pub keep_alive: Duration,
    /// How readings are put together.
    pub batch: BatchConfig,
}

/// Certificates of a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Authorities to trust; `None` for those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Certificate chain and key of this client, where the broker asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// User and password of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
}

/// Versions of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttProtocol {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// How readings are put together to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfig {
    /// Format of the payload.
    pub encoding: BatchEncoding,
    /// A batch goes out when its oldest reading is this old.
    pub max_age: Duration,
    /// Largest payload, in bytes.
    pub max_size: usize,
}

/// Formats of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEncoding {
    /// zstd around protobuf with pco columns; the schema is `deploy/lineside.proto`.
    Columnar,
    /// JSON text.
    Json,
}

/// A configuration that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// Everything that is wrong, in the order of the file's sections.
    pub faults: Vec<ConfigFault>,
}

/// Reads and checks the configuration file at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let faults = Faults::new(&path.display().to_string());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            faults.add("", "", format!("cannot be read: {error}"));
            return Err(ConfigError { faults: faults.into_vec() });
        }
    };
    parse_into(&text, path.parent().unwrap_or(Path::new(".")), faults)
}

/// Checks a configuration given as text. Relative paths in it start at `directory`; faults name `file`.
pub fn parse(text: &str, file: &str, directory: &Path) -> Result<Config, ConfigError> {
    parse_into(text, directory, Faults::new(file))
}

fn parse_into(text: &str, directory: &Path, faults: Faults) -> Result<Config, ConfigError> {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            faults.add("", "", format!("line {line}: {}", error.message()));
            return Err(ConfigError { faults: faults.into_vec() });
        }
    };
    let mut file = Section::new("", table, &faults);
    let gateway_section = file.section("gateway");
    let (gateway, profiles) = site::gateway(gateway_section, directory);
    let clock = site::clock(file.section("clock"));
    let store = site::store(file.section("store"), directory);
    let mqtt = site::mqtt(file.section("mqtt"), directory, gateway.as_ref());
    let links = devices::links(&mut file, gateway.as_ref(), &devices::Profiles::new(profiles), &faults);
    file.close();
    let faults = faults.into_vec();
    match (gateway, store, mqtt) {
        (Some(gateway), Some(store), Some(mqtt)) if faults.is_empty() => {
            Ok(Config { gateway, clock, store, mqtt, links })
        }
        _ => Err(ConfigError { faults }),
    }
}
