//! Commands from afar on the running program, against a real Mosquitto: carried out once, or refused with the reason.

#![cfg(test)]
#![allow(clippy::unwrap_used, missing_docs, reason = "what panics here is a test, and nobody else uses it")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod audit;
mod configuration;
mod documented;
mod flood;
mod independent;
mod interlocks;
mod pushed;
mod refusals;
mod verbs;
mod writes;

use lineside::mqtt::{Protocol, SessionSettings, TlsSettings};
use lineside::simulator::{Endpoint, Servers};
use support::broker::{Broker, Setup};
use support::certificates::Certificates;
use support::commander::{Commander, Signer};
use support::gateway::settings;
use support::plant::{COUNTER, COUNTER_PROFILE, counters};
use support::site::{Agent, Configuration, Site};

/// Gateway with one device, its broker, and somebody who commands it.
pub struct Plant {
    pub endpoint: Endpoint,
    pub broker: Broker,
    pub site: Site,
    pub agent: Agent,
    pub commander: Commander,
    pub engineer: Signer,
    pub operator: Signer,
    pub viewer: Signer,
    /// Settings of whoever may command, but for the client id.
    pub settings: SessionSettings,
    _servers: Servers,
    _certificates: Certificates,
}

impl Plant {
    /// Behind a broker with TLS and the access rules that ship.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With further lines in the configuration of the gateway.
    pub async fn with(lines: &str) -> Self {
        Self::with_timeout(lines, "200ms").await
    }

    /// And with a timeout of its link.
    pub async fn with_timeout(lines: &str, timeout: &str) -> Self {
        Self::secured(lines, timeout, &[]).await
    }

    /// With further lines in the configuration, and the files that they name.
    pub async fn with_files(lines: &str, files: &[(&str, &str)]) -> Self {
        Self::secured(lines, "200ms", files).await
    }

    async fn secured(lines: &str, timeout: &str, beside: &[(&str, &str)]) -> Self {
        let certificates = Certificates::from("plant authority");
        let broker = secured(&certificates).await;
        let (certificate, key) = certificates.issue("lyon/gw-01");
        let files = format!("ca_file = {:?}\ncert_file = {certificate:?}\nkey_file = {key:?}\n", certificates.ca());
        let configuration = Configuration::to(format_args!("mqtts://localhost:{}", broker.tls_port()), &files);
        let (certificate, key) = certificates.issue("operator");
        let tls = TlsSettings { ca_file: Some(certificates.ca()), cert_file: Some(certificate), key_file: Some(key) };
        let plain = settings(Protocol::V5, broker.tls_port());
        let settings = SessionSettings { host: "localhost".to_owned(), tls: Some(tls), ..plain };
        Self::build((broker, certificates), settings, configuration, (lines, timeout), beside).await
    }

    /// Behind a broker that takes anybody: where the gateway changes over to another one.
    pub async fn plain(lines: &str) -> Self {
        let broker = Broker::with(Setup::default()).await;
        let (settings, configuration) =
            (settings(Protocol::V5, broker.port()), Configuration::to_port(broker.port(), ""));
        let certificates = Certificates::from("nobody");
        Self::build((broker, certificates), settings, configuration, (lines, "200ms"), &[]).await
    }

    async fn build(
        (broker, certificates): (Broker, Certificates),
        settings: SessionSettings,
        configuration: Configuration,
        (lines, timeout): (&str, &str),
        beside: &[(&str, &str)],
    ) -> Self {
        let mut servers = Servers::default();
        let endpoint = counters(&mut servers, &[1]).await;
        let [engineer, operator, viewer] = ["engineer", "operator", "viewer"].map(|role| Signer::new(role, role));
        let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
        let clock = if lines.contains("[clock]") { "" } else { "[clock]\ntrust = \"local\"\n" };
        let keys: String = [&engineer, &operator, &viewer].map(Signer::section).concat();
        let configuration = configuration
            .link("hall", endpoint.address(), &format!("timeout = \"{timeout}\""))
            .device("press-1", "hall", 1, COUNTER, "100ms")
            .lines(&format!("{clock}{lines}\n{keys}"));
        site.configure(&configuration);
        for (name, text) in beside {
            std::fs::write(site.path().join(name), text).unwrap();
        }
        let client_id = format!("commander-{:08x}", fastrand::u32(..));
        let commander = Commander::with(SessionSettings { client_id, ..settings.clone() }).await;
        let agent = site.start();
        agent.logged("connected to the broker").await;
        subscribed(&broker).await;
        let (_servers, _certificates) = (servers, certificates);
        Self { endpoint, broker, site, agent, commander, engineer, operator, viewer, settings, _servers, _certificates }
    }

    /// How many remote commands were accepted, as the gateway counts.
    pub async fn accepted(&self) -> u64 {
        self.site.status().await["remote"]["accepted"].as_u64().unwrap()
    }
}

/// A broker with TLS, and the access rules that ship; without a certificate there is nobody but the observer.
pub async fn secured(certificates: &Certificates) -> Broker {
    let access = std::fs::read_to_string("deploy/mosquitto.acl").unwrap();
    let setup = Setup {
        certificates: Some(certificates),
        access: Some(&access),
        tls_lines: &["use_identity_as_username true"],
        users: &[("nobody", "nobody")],
        ..Setup::default()
    };
    Broker::with(setup).await
}

/// Waits until the gateway has subscribed: what is published before would be lost.
pub async fn subscribed(broker: &Broker) {
    broker.logged("Sending SUBACK to lineside-lyon-gw-01").await;
}
