//! `lineside command fleet`: every gateway that a broker knows.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::super::table::Table;
use super::super::{Exit, Failure, runtime, write_json, written};
use super::broker::BrokerOptions;
use crate::model::Timestamp;
use crate::settings::parse_duration;

/// Show every gateway that the broker knows: online or not, version, configuration.
///
/// Exit code 1 when one of them is offline, 3 when there is none.
#[derive(Debug, Args)]
pub(super) struct Fleet {
    /// How long to wait for what the broker has kept.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = span)]
    wait: Duration,
    /// JSON: one list.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

#[derive(Debug, Default, Serialize)]
struct Gateway {
    gateway: String,
    online: bool,
    version: Option<String>,
    started: Option<Timestamp>,
    takes_commands: bool,
    configuration: Option<String>,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "must be a whole number with a unit such as 2s".to_owned())
}

impl Fleet {
    pub fn run(self) -> Result<Exit, Failure> {
        let gateways = runtime()?.block_on(self.gather())?;
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &gateways.values().collect::<Vec<_>>()),
            false => table(&gateways).write(&mut out, 0),
        })?;
        if gateways.is_empty() {
            return Err(Failure::Unreachable("the broker knows no gateway below this prefix".to_owned()));
        }
        Ok(if gateways.values().all(|gateway| gateway.online) { Exit::Done } else { Exit::Findings })
    }

    async fn gather(&self) -> Result<BTreeMap<String, Gateway>, Failure> {
        let filter = |rest: &str| format!("{}/+/+/{rest}", self.broker.prefix);
        let mut visitor = self.broker.visit(&[filter("state"), filter("config/reported")]).await?;
        let until = Instant::now() + self.wait;
        let mut gateways: BTreeMap<String, Gateway> = BTreeMap::new();
        while let Ok(received) = timeout_at(until, visitor.next()).await {
            let received = received.map_err(|error| Failure::Unreachable(error.to_string()))?;
            let below = received.topic.strip_prefix(&self.broker.prefix).unwrap_or_default();
            let mut levels = below.split('/').skip(1);
            let (Some(site), Some(id), Some(kind)) = (levels.next(), levels.next(), levels.next()) else { continue };
            let Ok(message) = serde_json::from_slice::<Value>(&received.payload) else { continue };
            let name = format!("{site}/{id}");
            let gateway = gateways.entry(name.clone()).or_default();
            gateway.gateway = name;
            match kind {
                "state" => gateway.take_state(&message),
                _ => gateway.configuration = Some(reported(&message)),
            }
        }
        Ok(gateways)
    }
}

impl Gateway {
    fn take_state(&mut self, state: &Value) {
        self.online = state["online"] == true;
        self.version = state["version"].as_str().map(str::to_owned);
        self.started = state["started"].as_i64().map(Timestamp);
        self.takes_commands = state["commands"].is_array();
    }
}

fn reported(message: &Value) -> String {
    let state = message["state"].as_str().unwrap_or("?");
    match message["revision"].as_u64() {
        Some(revision) => format!("{state} {revision}"),
        None => state.to_owned(),
    }
}

fn table(gateways: &BTreeMap<String, Gateway>) -> Table {
    let mut table = Table::new(["gateway", "state", "version", "started", "commands", "configuration"]);
    for gateway in gateways.values() {
        let state = if gateway.online { "online" } else { "offline" };
        let dash = || "-".to_owned();
        table.row([
            gateway.gateway.clone(),
            state.to_owned(),
            gateway.version.clone().unwrap_or_else(dash),
            gateway.started.map_or_else(dash, |time| time.to_string()),
            if gateway.takes_commands { "yes" } else { "no" }.to_owned(),
            gateway.configuration.clone().unwrap_or_else(dash),
        ]);
    }
    table
}
