//! What this installation wants: validated, complete, without defaults left to guess.
//!
//! [`load`] reads `lineside.toml` and reports every fault of it at once. `check` and `run` use the same code.

mod devices;
mod fixed;
mod forward;
pub mod link;
mod links;
mod overlay;
mod own_map;
mod pushed;
mod remote;
mod site;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use fixed::{FixedKeys, fixed_keys};
pub use forward::{Changes, Forward, SelectedForward};
pub use link::{Accepted, DeviceConfig, Endpoint, LinkConfig, Parity, SerialSettings, TagConfig, bracketed};
pub use overlay::{OVERLAY_FILE, lay_over, named};
pub use remote::{KeyConfig, RemoteConfig, Role};
pub use site::host_and_port;
pub use write::{Compared, Comparison, Condition, Interlock, Lease, WriteConfig, WriteFunction};

use crate::database::EngineKind;
use crate::model::Name;
use crate::settings::{FileFault, Source, read_text};

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
    /// Directory of the owner's profiles.
    pub profiles: PathBuf,
    /// Which rules are in force.
    pub rules: RulesConfig,
    /// What is sent of series that are selected, in the order of the file: the first that fits counts.
    pub forward: Vec<SelectedForward>,
    /// Who may command this gateway from afar.
    pub remote: RemoteConfig,
    /// What may be written.
    pub writes: Vec<WriteConfig>,
    /// Links with their devices, in the order of the file.
    pub links: Vec<LinkConfig>,
    /// What of it was pushed; nothing in the owner's own configuration.
    pub pushed: Option<Pushed>,
}

/// What of a configuration came from afar.
#[derive(Debug, Clone, PartialEq)]
pub struct Pushed {
    /// The rules.
    pub rules: bool,
    /// The links of the owner's own file, where others were pushed.
    pub own_links: Option<Arc<Vec<LinkConfig>>>,
}

/// Which rules are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesConfig {
    /// Rule files, and directories of such.
    pub files: Vec<PathBuf>,
    /// Most bytes that the windows of all rules may take.
    pub memory_bytes: u64,
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
    /// True when the owner's file states the limit; the default may be more than a small disk has.
    pub limit_is_stated: bool,
    /// The most a power cut can cost.
    pub commit_interval: Duration,
    /// The same while a backlog is worked off.
    pub commit_interval_max: Duration,
    /// Bytes that the card bears; for a forecast only.
    pub card_endurance_bytes: Option<u64>,
    /// What keeps a new database.
    pub engine: EngineKind,
    /// What happens to undelivered readings that no longer fit.
    pub when_full: WhenFull,
    /// Where the open commit is kept when the process dies.
    pub open_commit: OpenCommitPlace,
}

/// Where the open commit is kept, so that a kill costs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenCommitPlace {
    /// In the runtime directory of the service, the directory of the socket, or shared memory.
    Auto,
    /// Nowhere: a kill costs what it holds.
    Off,
    /// In this directory.
    In(PathBuf),
}

/// What happens to the oldest undelivered readings when the store is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// They become aggregates of a minute, then of ten minutes, and are dropped after that.
    Thin,
    /// They are dropped.
    DropOldest,
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
    /// With MQTT 3.1.1, whether an acknowledgement counts as delivery though no message was seen to come back.
    pub trust_puback: bool,
    /// A further broker that is away for so long gives way to the owner's own.
    pub fallback_after: Duration,
    /// How readings are put together.
    pub batch: BatchConfig,
    /// How what was kept during an outage is sent.
    pub backlog: BacklogConfig,
    /// How often the gateway says how it is, and how much of it.
    pub health: HealthConfig,
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

/// How what was kept during an outage is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogConfig {
    /// Before what is new, or beside it.
    pub order: BacklogOrder,
    /// The most it takes beside what is new, in bytes a second; `None` for at least 200 KiB/s and ten times what is new.
    pub rate: Option<u64>,
}

/// What the health messages say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// How often.
    pub interval: Duration,
    /// How much.
    pub detail: HealthDetail,
}

/// How much of the state of the gateway a health message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthDetail {
    /// All counters of every link and device.
    Full,
    /// Of a device its state and how many requests were answered.
    Summary,
    /// There are no health messages.
    Off,
}

/// Whether what is new waits for what was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacklogOrder {
    /// What is new goes out at once, the backlog beside it.
    LiveFirst,
    /// Everything in the order in which it was stored.
    InOrder,
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
    /// Everything that is wrong, in the order of the file; what is missing from it comes first.
    pub faults: Vec<FileFault>,
}

/// Reads and checks the configuration file at `path`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let refused = |faults| ConfigError { faults };
    match read_text(path).map_err(refused)? {
        Some(text) => parse(&text, &file, path.parent().unwrap_or(Path::new("."))),
        None => Err(refused(vec![FileFault::of_file(&file, "there is no such file; --config names another")])),
    }
}

/// The socket that the configuration in `path` names, whatever else is wrong with it.
///
/// # Errors
/// It cannot be read, or is no TOML.
pub fn socket_in(path: &Path) -> io::Result<PathBuf> {
    let text = std::fs::read_to_string(path)?;
    let source = Source::new("", &text);
    let directory = path.parent().unwrap_or(Path::new("."));
    let socket = source.root().map(|mut root| site::socket(&mut root.section("gateway"), directory));
    socket.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "cannot be read (`lineside check` says where)"))
}

/// Checks a configuration given as text. Relative paths in it start at `directory`; faults name `file`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str, directory: &Path) -> Result<Config, ConfigError> {
    let source = Source::new(file, text);
    let config = source.root().and_then(|mut root| {
        let (gateway, profiles) = site::gateway(root.section("gateway"), directory);
        let clock = site::clock(root.section("clock"));
        let store = site::store(root.section("store"), directory);
        let mqtt = site::mqtt(root.section("mqtt"), directory, gateway.as_ref());
        let rules = site::rules(root.section("rules"), directory);
        let forward = forward::selected(root.sections("forward"));
        let remote = remote::remote(root.section("remote"));
        let writes = write::writes(root.sections("write"));
        let links =
            devices::links(&mut root, gateway.as_ref(), devices::Profiles::layered(vec![profiles.clone()]), &forward);
        root.finish();
        Some(Config {
            gateway: gateway?,
            clock,
            store: store?,
            mqtt: mqtt?,
            profiles,
            rules,
            forward,
            remote,
            writes,
            links,
            pushed: None,
        })
    });
    match (config, source.into_faults()) {
        (Some(config), faults) if faults.is_empty() => Ok(config),
        (_, faults) => Err(ConfigError { faults }),
    }
}
