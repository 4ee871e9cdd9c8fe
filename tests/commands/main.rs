//! Commands from afar on the running program, against a real Mosquitto: carried out once, or refused with the reason.

#![cfg(test)]
#![allow(clippy::unwrap_used, missing_docs, reason = "what panics here is a test, and nobody else uses it")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod audit;
mod configuration;
mod flood;
mod independent;
mod interlocks;
mod refusals;
mod verbs;
mod writes;

use lineside::simulator::{Endpoint, Servers};
use support::broker::{Broker, Setup};
use support::commander::{Commander, Signer};
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
    _servers: Servers,
}

impl Plant {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With further lines in the configuration of the gateway.
    pub async fn with(lines: &str) -> Self {
        Self::with_timeout(lines, "200ms").await
    }

    /// And with a timeout of its link.
    pub async fn with_timeout(lines: &str, timeout: &str) -> Self {
        let mut servers = Servers::default();
        let endpoint = counters(&mut servers, &[1]).await;
        let broker = Broker::with(Setup::default()).await;
        let [engineer, operator, viewer] = ["engineer", "operator", "viewer"].map(|role| Signer::new(role, role));
        let site = Site::with_profiles(&[(COUNTER, COUNTER_PROFILE)]);
        let clock = if lines.contains("[clock]") { "" } else { "[clock]\ntrust = \"local\"\n" };
        let keys: String = [&engineer, &operator, &viewer].map(Signer::section).concat();
        let configuration = Configuration::to_port(broker.port(), "")
            .link("hall", endpoint.address(), &format!("timeout = \"{timeout}\""))
            .device("press-1", "hall", 1, COUNTER, "100ms")
            .lines(&format!("{clock}{lines}\n{keys}"));
        site.configure(&configuration);
        let commander = Commander::connect(broker.port()).await;
        let agent = site.start();
        agent.logged("connected to the broker").await;
        subscribed(&broker).await;
        Self { endpoint, broker, site, agent, commander, engineer, operator, viewer, _servers: servers }
    }

    /// How many remote commands were accepted, as the gateway counts.
    pub async fn accepted(&self) -> u64 {
        self.site.status().await["remote"]["accepted"].as_u64().unwrap()
    }
}

/// Waits until the gateway has subscribed: what is published before would be lost.
pub async fn subscribed(broker: &Broker) {
    broker.logged("Sending SUBACK to lineside-lyon-gw-01").await;
}
