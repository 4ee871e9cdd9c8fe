//! What the configuration means to the MQTT session, and what the state topic says.

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::commands::verb::Verb;
use crate::config::{Config, ConfigError, GatewayConfig, HealthDetail, MqttConfig, MqttProtocol};
use crate::diagnostics::remote::RemoteStatus;
use crate::model::Epoch;
use crate::mqtt::{Message, Protocol, SessionSettings, TlsSettings, Topics};
use crate::settings::FileFault;

/// Publishes under way at once: the uplink's four, an alarm, health, problems, and the session's own.
const IN_FLIGHT: u16 = 8;

/// Largest packet in either direction, in bytes: the largest batch that can be configured, and its topic.
const PACKET_MAX: u32 = (8 << 20) + 1024;

/// A connection on which nothing is acknowledged for so long is built anew.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a consumer may expect of this version.
const CAPABILITIES: [&str; 4] = ["batch", "alarm", "catalogue", "problems"];

pub(super) fn session_settings(mqtt: &MqttConfig, topics: &Topics, gateway: &GatewayConfig) -> SessionSettings {
    let offline = json!({ "online": false, "site": gateway.site.as_str(), "gateway": gateway.id.as_str() });
    SessionSettings {
        host: mqtt.host.clone(),
        port: mqtt.port,
        tls: mqtt.tls.as_ref().map(|tls| TlsSettings {
            ca_file: tls.ca_file.clone(),
            cert_file: tls.client.as_ref().map(|(certificate, _)| certificate.clone()),
            key_file: tls.client.as_ref().map(|(_, key)| key.clone()),
        }),
        protocol: match mqtt.protocol {
            MqttProtocol::V5 => Protocol::V5,
            MqttProtocol::V311 => Protocol::V311,
        },
        client_id: mqtt.client_id.clone(),
        username: mqtt.credentials.as_ref().map(|credentials| credentials.username.clone()),
        password_file: mqtt.credentials.as_ref().and_then(|credentials| credentials.password_file.clone()),
        keep_alive: mqtt.keep_alive,
        will: Message {
            topic: topics.state(),
            payload: offline.to_string().into(),
            retain: true,
            content_type: Some("application/json"),
            expiry: None,
            correlation_data: None,
        },
        probe_topic: topics.probe(),
        batch_topic: topics.batch(),
        proven_topics: if mqtt.trust_puback { Vec::new() } else { topics.proven().to_vec() },
        in_flight: IN_FLIGHT,
        max_packet: PACKET_MAX,
        patience: PATIENCE,
    }
}

/// Whether a session with the broker of `config`, read from `file`, can be tried: certificates and keys are what they
/// have to be.
///
/// # Errors
/// The first thing that is not.
pub fn check_broker(file: &str, config: &Config) -> Result<(), ConfigError> {
    let refused = |reason: String| ConfigError {
        faults: vec![FileFault { key: "mqtt".to_owned(), ..FileFault::of_file(file, reason) }],
    };
    let (mqtt, gateway) = (&config.mqtt, &config.gateway);
    let topics = Topics::new(&mqtt.prefix, &gateway.site, &gateway.id).map_err(|error| refused(error.to_string()))?;
    session_settings(mqtt, &topics, gateway).check().map_err(|error| refused(error.to_string()))
}

/// The retained state while the gateway is online. The revision is that of the configuration in force: 0 for the owner's
/// own, nothing where none can be sent.
pub(super) fn announcement(config: &Config, clock: &dyn Clock, epoch: Epoch, revision: Option<u64>) -> Bytes {
    let gateway = &config.gateway;
    let health = (config.mqtt.health.detail != HealthDetail::Off).then_some("health");
    let mut state = json!({
        "online": true,
        "site": gateway.site.as_str(),
        "gateway": gateway.id.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "boot": clock.boot(),
        "epoch": epoch,
        "config_revision": revision,
        "started": clock.wall(),
        "capabilities": CAPABILITIES.into_iter().chain(health).collect::<Vec<_>>(),
    });
    if config.remote.is_on() {
        state["commands"] = json!(Verb::NAMES);
        state["configuration"] = json!(!config.remote.keys.is_empty());
    }
    state.to_string().into()
}

/// The revision of the configuration in force, where one can be sent.
pub(super) fn revision(remote: Option<&RemoteStatus>) -> Option<u64> {
    remote.map(|status| status.config_revision)
}

/// Has the state topic say so of `key`. Before the first announcement there is nothing to change.
pub(super) fn amend(online: &watch::Sender<Bytes>, key: &str, now: Value) {
    online.send_if_modified(|payload| {
        let Ok(mut state) = serde_json::from_slice::<Value>(payload) else { return false };
        let before = std::mem::replace(&mut state[key], now);
        let is_new = state[key] != before;
        if is_new {
            *payload = state.to_string().into();
        }
        is_new
    });
}

/// Has the state topic name the revision of the configuration in force, whenever it changes.
pub(super) async fn follow_revisions(
    online: watch::Sender<Bytes>,
    mut remote: watch::Receiver<Option<RemoteStatus>>,
    stop: CancellationToken,
) {
    loop {
        let now = revision(remote.borrow_and_update().as_ref());
        amend(&online, "config_revision", json!(now));
        let changed = async { remote.wait_for(|status| revision(status.as_ref()) != now).await.is_ok() };
        tokio::select! {
            () = stop.cancelled() => return,
            true = changed => {}
            else => return stop.cancelled().await,
        }
    }
}
