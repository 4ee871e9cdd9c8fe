//! `lineside command watch`: what gateways say, as it comes.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::super::{Exit, Failure, runtime, written};
use super::broker::BrokerOptions;
use crate::model::Timestamp;

/// Show states, answers to commands and reported configurations of gateways as they come, until Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Only this gateway: <site>/<gateway>.
    #[arg(short, long, value_name = "SITE/GATEWAY", env = "LINESIDE_GATEWAY")]
    gateway: Option<String>,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    count: Option<usize>,
    /// One JSON object a line: topic and message.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

impl Watch {
    pub fn run(self) -> Result<Exit, Failure> {
        runtime()?.block_on(self.watch())
    }

    async fn watch(self) -> Result<Exit, Failure> {
        let gateway = self.gateway.as_deref().unwrap_or("+/+");
        if gateway != "+/+" {
            self.broker.topics(gateway)?;
        }
        let filter = |rest: &str| format!("{}/{gateway}/{rest}", self.broker.prefix);
        let filters = [filter("state"), filter("ack/+"), filter("config/reported")];
        let mut visitor = self.broker.visit(&filters).await?;
        let mut seen = 0;
        loop {
            let received = tokio::select! {
                received = visitor.next() => received.map_err(|error| Failure::Unreachable(error.to_string()))?,
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            };
            let message = serde_json::from_slice(&received.payload).unwrap_or(Value::Null);
            let path = PathBuf::from(received.topic.strip_prefix(&self.broker.prefix).unwrap_or(&received.topic));
            let mut out = anstream::stdout().lock();
            written(match self.json {
                true => writeln!(out, "{}", serde_json::json!({ "topic": received.topic, "message": message })),
                false => writeln!(out, "{}  {}", path.display().to_string().trim_start_matches('/'), brief(&message)),
            })?;
            seen += 1;
            if self.count.is_some_and(|count| seen >= count) {
                return Ok(Exit::Done);
            }
        }
    }
}

/// The message without what its topic says already.
fn brief(message: &Value) -> String {
    let Some(fields) = message.as_object() else { return message.to_string() };
    let shown = fields
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "gateway" | "site" | "id" | "capabilities" | "commands"));
    let time = |key: &str, value: &Value| match value.as_i64().filter(|_| matches!(key, "time" | "started")) {
        Some(time) => Timestamp(time).to_string(),
        None => value.to_string(),
    };
    shown.map(|(key, value)| format!("{key}={}", time(key, value))).collect::<Vec<_>>().join(" ")
}
