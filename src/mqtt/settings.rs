//! What a session needs to know to begin.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::message::Message;
use super::tls::TlsError;

/// Where the broker is and how to speak to it.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Host name or address.
    pub host: String,
    /// Usually 1883, with TLS 8883.
    pub port: u16,
    /// With TLS; `None` for a plain connection.
    pub tls: Option<TlsSettings>,
    /// MQTT version.
    pub protocol: Protocol,
    /// Stable and unique at the broker; not empty.
    pub client_id: String,
    /// User name; `None` for none.
    pub username: Option<String>,
    /// File that holds the password on its first line; read at every attempt to connect.
    pub password_file: Option<PathBuf>,
    /// Longest silence on the connection, at least 5 s; the broker may ask for another.
    pub keep_alive: Duration,
    /// Published by the broker when the connection breaks, and by the session when it is told to stop. Its topic is
    /// the state topic, on which the session also says that it is online.
    pub will: Message,
    /// Topic on which the session sends to itself, used with MQTT 3.1.1 alone, where a refusal is silent.
    pub probe_topic: String,
    /// Topic of the batches: where nobody subscribes to it, people are warned.
    pub batch_topic: String,
    /// Filters of the own topics on which, with MQTT 3.1.1, a message must come back before an acknowledgement counts
    /// as delivery; the last level may be `+`. Without any, every acknowledgement counts.
    pub proven_topics: Vec<String>,
    /// Most publishes that are not acknowledged, 1 to 1000; the broker may allow fewer.
    pub in_flight: u16,
    /// Largest packet in both directions, in bytes; the broker may take less.
    pub max_packet: u32,
    /// How long data may wait without any acknowledgement, beside the time its bytes take on a slow line, until the
    /// connection is given up.
    pub patience: Duration,
}

/// Certificates of a TLS connection. TLS 1.2 and 1.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file with the only CAs that are trusted; `None` for those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate and its chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// MQTT version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// MQTT 5.0.
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The client id is empty.
    #[error("client id is empty: it must be stable and unique at the broker")]
    NoClientId,
    /// The window is empty or larger than is sensible.
    #[error("in flight = {0}: must be 1 to 1000")]
    InFlight(u16),
    /// The password cannot be read.
    #[error("password file {}: {source}", file.display())]
    Password {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl SessionSettings {
    /// Checks what can be checked without the broker, files included.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn check(&self) -> Result<(), SessionError> {
        if self.client_id.is_empty() {
            return Err(SessionError::NoClientId);
        }
        if !(1..=1000).contains(&self.in_flight) {
            return Err(SessionError::InFlight(self.in_flight));
        }
        self.password()?;
        if let Some(tls) = &self.tls {
            super::tls::client_config(tls)?;
        }
        Ok(())
    }

    /// The password as the file holds it now; empty without a file.
    pub(super) fn password(&self) -> Result<String, SessionError> {
        let Some(file) = &self.password_file else { return Ok(String::new()) };
        let text =
            std::fs::read_to_string(file).map_err(|source| SessionError::Password { file: file.clone(), source })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Keep alive as the protocol can say it and the client accepts it: 5 to 65,535 s.
    pub(super) fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive.as_secs().clamp(5, u64::from(u16::MAX)))
    }
}
