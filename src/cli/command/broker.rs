//! The broker, as everybody but the gateways reaches it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::Failure;
use crate::config::host_and_port;
use crate::model::Name;
use crate::mqtt::{Bytes, Message, Protocol, SessionSettings, TlsSettings, Topics, Visitor};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);

/// Which broker, and who we are there.
#[derive(Debug, Args)]
pub(super) struct BrokerOptions {
    /// Broker: mqtt://host[:port] or mqtts://host[:port].
    #[arg(long, value_name = "URL", env = "LINESIDE_BROKER")]
    broker: String,
    /// PEM file with the authority that signed the broker's certificate; without it those of this machine.
    #[arg(long, value_name = "FILE", env = "LINESIDE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with our certificate, where the broker asks for one.
    #[arg(long, value_name = "FILE", env = "LINESIDE_CERT_FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file with the key of our certificate.
    #[arg(long, value_name = "FILE", env = "LINESIDE_KEY_FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// User at the broker.
    #[arg(long, value_name = "NAME", env = "LINESIDE_USERNAME")]
    username: Option<String>,
    /// File whose first line is the password.
    #[arg(long, value_name = "FILE", env = "LINESIDE_PASSWORD_FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// MQTT version: 5 or 3.1.1.
    #[arg(long, value_name = "VERSION", default_value = "5", value_parser = protocol)]
    protocol: Protocol,
    /// First levels of every topic.
    #[arg(long, value_name = "PREFIX", env = "LINESIDE_PREFIX", default_value = "lineside/v1")]
    pub prefix: String,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "5" => Ok(Protocol::V5),
        "3.1.1" => Ok(Protocol::V311),
        _ => Err("must be 5 or 3.1.1".to_owned()),
    }
}

impl BrokerOptions {
    /// A connection that has subscribed to `filters`.
    pub async fn visit(&self, filters: &[String]) -> Result<Visitor, Failure> {
        let settings = self.settings()?;
        let connecting = tokio::time::timeout(CONNECT, Visitor::connect(settings, filters));
        match connecting.await {
            Ok(Ok(visitor)) => Ok(visitor),
            Ok(Err(error)) => Err(Failure::Unreachable(format!("{}: {error}", self.broker))),
            Err(_) => Err(Failure::Unreachable(format!("{}: no answer within {} s", self.broker, CONNECT.as_secs()))),
        }
    }

    /// The topics of a gateway that is named `site/gateway`.
    pub fn topics(&self, gateway: &str) -> Result<Topics, Failure> {
        let names = gateway.split_once('/').and_then(|(site, id)| Some((Name::new(site).ok()?, Name::new(id).ok()?)));
        let (site, id) = names.ok_or_else(|| {
            Failure::Refused(format!("--gateway {gateway:?}: must be <site>/<gateway>, as in lyon/gw-01"))
        })?;
        Topics::new(&self.prefix, &site, &id).map_err(|error| Failure::Refused(format!("--prefix: {error}")))
    }

    fn settings(&self) -> Result<SessionSettings, Failure> {
        let refused = || {
            Failure::Refused(format!("--broker {:?}: must be mqtt://host[:port] or mqtts://host[:port]", self.broker))
        };
        let (is_tls, address) = match (self.broker.strip_prefix("mqtts://"), self.broker.strip_prefix("mqtt://")) {
            (Some(address), _) => (true, address),
            (None, Some(address)) => (false, address),
            (None, None) => return Err(refused()),
        };
        let (host, port) = host_and_port(address, Some(if is_tls { 8883 } else { 1883 })).ok_or_else(refused)?;
        let (ca_file, cert_file, key_file) = (self.ca_file.clone(), self.cert_file.clone(), self.key_file.clone());
        Ok(SessionSettings {
            host,
            port,
            tls: is_tls.then_some(TlsSettings { ca_file, cert_file, key_file }),
            protocol: self.protocol,
            client_id: format!("lineside-command-{:08x}", fastrand::u32(..)),
            username: self.username.clone(),
            password_file: self.password_file.clone(),
            keep_alive: Duration::from_secs(30),
            will: json_message(String::new(), Vec::new()),
            probe_topic: String::new(),
            batch_topic: String::new(),
            proven_topics: Vec::new(),
            in_flight: 8,
            max_packet: 8 << 20,
            patience: CONNECT,
        })
    }
}

/// A message with JSON in it.
pub(super) fn json_message(topic: String, payload: Vec<u8>) -> Message {
    Message {
        topic,
        payload: Bytes::from(payload),
        retain: false,
        content_type: Some("application/json"),
        expiry: None,
        correlation_data: None,
    }
}
