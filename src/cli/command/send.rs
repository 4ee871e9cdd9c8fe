//! `lineside command send`: one signed command, and what came of it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::store::{self, time};
use super::super::{Exit, Failure, runtime, write_json, written};
use super::broker::{BrokerOptions, json_message};
use super::key::Signer;
use crate::clock::{Clock, SystemClock};
use crate::commands::answer::{Answer, State};
use crate::commands::gate::EXPIRY_FURTHEST;
use crate::commands::order::{Envelope, Order, is_id};
use crate::commands::signature::{FOR_COMMAND, from_hex};
use crate::commands::verb::Verb;
use crate::diagnostics::protocol::ResendAnswer;
use crate::model::Lane;
use crate::mqtt::Topics;
use crate::settings::parse_duration;

/// Send a signed command to one gateway and wait for its answer.
///
/// Exit codes: 0 it was done; 1 it failed, or nobody knows; 2 it was refused; 3 no broker, or no answer.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Send {
    /// What to do; one of those below.
    #[arg(value_name = "COMMAND")]
    command: String,
    /// With what: device=press-1, for=30m, labels.device=press-1, points='["a"]'.
    #[arg(value_name = "KEY=VALUE")]
    arguments: Vec<String>,
    /// Which gateway: <site>/<gateway>.
    #[arg(short, long, value_name = "SITE/GATEWAY", env = "LINESIDE_GATEWAY")]
    gateway: String,
    /// Key file that `lineside command keygen` made; without it the command is not signed.
    #[arg(short, long, value_name = "FILE", env = "LINESIDE_COMMAND_KEY")]
    key: Option<PathBuf>,
    /// How long the command may still be carried out; at most 24h.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    expires: Duration,
    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span)]
    wait: Duration,
    /// Id of the command; the same again asks for the answer again. Without it a new one.
    #[arg(long, value_name = "ID", value_parser = command_id)]
    id: Option<String>,
    /// Only print topic and message, for another MQTT client.
    #[arg(long)]
    print: bool,
    /// Where a support bundle goes; without it <gateway>-bundle.json.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

const EXAMPLES: &str = "Commands, least role, arguments:
  status          viewer
  read            viewer    device= [points=] | link= unit_id= table= address= count=
  log-tail        viewer    [lines=]
  poll-now        operator  device=
  write           operator  device= point= value= [dry_run=] [for=]
  alarm-ack       operator  name= [labels.KEY=]
  alarm-shelve    operator  name= for= [labels.KEY=]
  log-level       operator  level= for=
  resend          operator  [from=] [until=] [first=] [last=] [alarms=true]
  forget          operator  device=
  restart         engineer
  support-bundle  engineer

Examples:
  lineside command send read device=press-1 --gateway lyon/gw-01 --key anna.key --broker mqtts://broker
  lineside command send resend from=2h until=2026-11-25T06:00:00Z ...   stored readings go out again
  lineside command send log-level level=lineside::poll=debug,info for=10m ...
  lineside command send status --print ...   prints topic and message for mosquitto_pub";

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "must be a whole number with a unit such as 30s or 5m".to_owned())
}

fn command_id(text: &str) -> Result<String, String> {
    let allowed = "must be 1 to 64 letters, digits, _ and -";
    if is_id(text) { Ok(text.to_owned()) } else { Err(allowed.to_owned()) }
}

impl Send {
    pub fn run(self) -> Result<Exit, Failure> {
        let arguments = arguments(&self.arguments).map_err(Failure::Refused)?;
        let arguments = if self.command == "resend" { in_full(arguments) } else { arguments };
        Verb::parse(&self.command, &arguments).map_err(Failure::Refused)?;
        if self.expires > EXPIRY_FURTHEST {
            return Err(Failure::Refused("--expires must be at most 24h".to_owned()));
        }
        let topics = self.broker.topics(&self.gateway)?;
        let now = SystemClock::new(true).wall();
        let id = self.id.clone().unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
        let order = Order {
            id: id.clone(),
            gateway: self.gateway.clone(),
            expires: now.after(self.expires),
            counter: u64::try_from(now.0).unwrap_or(0),
            command: self.command.clone(),
            arguments,
        };
        let command = serde_json::to_string(&order).map_err(anyhow::Error::from)?;
        let signer = self.key.as_deref().map(Signer::load).transpose()?;
        let signature = signer.as_ref().map(|signer| signer.key.sign(FOR_COMMAND, &command));
        let envelope = Envelope { command, key: signer.map(|signer| signer.name), signature };
        let payload = serde_json::to_vec(&envelope).map_err(anyhow::Error::from)?;
        if self.print {
            let mut out = anstream::stdout().lock();
            let message = String::from_utf8_lossy(&payload).into_owned();
            written(write_json(&mut out, &json!({ "topic": topics.command(&id), "message": message })))?;
            return Ok(Exit::Done);
        }
        let exchange = self.exchange(&topics, &id, payload);
        let (answer, parts) = runtime()?.block_on(exchange)?;
        self.report(&answer, &parts)
    }

    /// The last answer, and the parts before it.
    async fn exchange(&self, topics: &Topics, id: &str, payload: Vec<u8>) -> Result<(Answer, Vec<String>), Failure> {
        let mut visitor = self.broker.visit(&[topics.answer(id)]).await?;
        let unreachable = |error: crate::mqtt::VisitError| Failure::Unreachable(error.to_string());
        let talk = async {
            let delivery = visitor.publish(json_message(topics.command(id), payload)).await.map_err(unreachable)?;
            if !delivery.is_delivered() {
                return Err(Failure::Unreachable(format!("the broker does not take the command: {delivery}")));
            }
            let mut parts: Vec<String> = Vec::new();
            loop {
                let received = visitor.next().await.map_err(unreachable)?;
                let Ok(answer) = serde_json::from_slice::<Answer>(&received.payload) else { continue };
                if let (Some(_), Some(text)) = (answer.part, answer.result.as_str()) {
                    parts.push(text.to_owned());
                } else if answer.state.is_final() {
                    return Ok((answer, parts));
                }
            }
        };
        match tokio::time::timeout(self.wait, talk).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Unreachable(format!(
                "no answer within {} s. Is {} online? `lineside command fleet` says so. Whether it was carried out: send \
                 the same again with --id {id}",
                self.wait.as_secs(),
                self.gateway
            ))),
        }
    }

    fn report(&self, answer: &Answer, parts: &[String]) -> Result<Exit, Failure> {
        if !parts.is_empty() {
            self.store_bundle(parts)?;
        }
        let mut out = anstream::stdout().lock();
        let is_refused = matches!(answer.was.unwrap_or(answer.state), State::Rejected | State::Expired);
        written(match (self.json, is_refused) {
            (true, _) => write_json(&mut out, answer),
            // Its reason is said as that of every refusal.
            (false, true) => Ok(()),
            (false, false) => write_answer(&mut out, answer),
        })?;
        let state = answer.was.unwrap_or(answer.state);
        Ok(match state {
            State::Done | State::Accepted | State::Running => Exit::Done,
            State::Failed | State::Unknown | State::Duplicate => Exit::Findings,
            State::Rejected | State::Expired => {
                let reason = answer.reason.as_deref().unwrap_or("refused");
                return Err(Failure::Refused(format!("{}: {}: {reason}", answer.gateway, word(state))));
            }
        })
    }

    fn store_bundle(&self, parts: &[String]) -> Result<(), Failure> {
        let file =
            self.output.clone().unwrap_or_else(|| format!("{}-bundle.json", self.gateway.replace('/', "-")).into());
        let unpacked = from_hex(&parts.concat()).and_then(|packed| zstd::stream::decode_all(&packed[..]).ok());
        let unpacked = unpacked.ok_or_else(|| anyhow::anyhow!("the parts of the bundle do not fit together"))?;
        std::fs::write(&file, unpacked).map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))?;
        eprintln!("support bundle: {}", file.display());
        Ok(())
    }
}

fn word(state: State) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn write_answer(out: &mut impl Write, answer: &Answer) -> std::io::Result<()> {
    let state = word(answer.state);
    let was = answer.was.map(|was| format!(" (was {})", word(was))).unwrap_or_default();
    let reason = answer.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    writeln!(out, "{}: {state}{was}{reason}", answer.gateway)?;
    if let Some(readings) = answer.result["readings"].as_array() {
        let mut table = super::super::table::Table::new(["point", "value", "unit", "quality"]);
        for reading in readings {
            let text = |key: &str| match &reading[key] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            table.row([text("point"), text("value"), text("unit"), text("quality")]);
        }
        return table.write(out, 0);
    }
    if answer.command.as_deref() == Some("resend")
        && let Ok(resent) = serde_json::from_value::<ResendAnswer>(answer.result.clone())
    {
        let lane = if answer.result["lane"] == "alarms" { Lane::Alarms } else { Lane::Telemetry };
        store::show_resend(out, lane, &resent)?;
        return match resent.next {
            Some(next) => writeln!(out, "not all of it was looked at: go on with first={}", next.0),
            None => Ok(()),
        };
    }
    match &answer.result {
        Value::Null => Ok(()),
        Value::Array(lines) if lines.iter().all(|line| line["text"].is_string()) => {
            lines.iter().try_for_each(|line| writeln!(out, "{}", line["text"].as_str().unwrap_or_default()))
        }
        result => write_json(out, result),
    }
}

/// Arguments that are text, whatever they look like: a device may be called 7.
const TEXTS: [&str; 7] = ["device", "point", "name", "link", "table", "level", "for"];

/// `device=press-1`, `lines=20`, `labels.device=press-1`: values are JSON where they can be, text otherwise.
fn arguments(written: &[String]) -> Result<Value, String> {
    let mut all = Map::new();
    for argument in written {
        let (key, value) =
            argument.split_once('=').ok_or_else(|| format!("{argument:?}: an argument is written key=value"))?;
        let value = match serde_json::from_str(value) {
            Ok(value) if !TEXTS.contains(&key) && !key.starts_with("labels.") => value,
            _ => Value::String(value.to_owned()),
        };
        match key.split_once('.') {
            Some((outer, inner)) => {
                let group = all.entry(outer).or_insert_with(|| json!({}));
                let group = group.as_object_mut().ok_or_else(|| format!("{outer} is given twice"))?;
                group.insert(inner.to_owned(), value);
            }
            None => drop(all.insert(key.to_owned(), value)),
        }
    }
    Ok(if all.is_empty() { Value::Null } else { Value::Object(all) })
}

/// `2h` and `2026-11-25` as the moments they are here and now: the gateway takes none that depends on when it looks.
fn in_full(mut arguments: Value) -> Value {
    for key in ["from", "until"] {
        let moment = arguments.get(key).and_then(Value::as_str).and_then(|text| time::parse(text).ok());
        if let Some(moment) = moment {
            arguments[key] = json!(moment);
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_written_as_people_write_them() {
        let written = ["device=press-1", "lines=20", "labels.device=press-1", "points=[\"a\"]", "for=30m"];

        let read = arguments(&written.map(str::to_owned)).unwrap();

        let expected = json!({
            "device": "press-1", "lines": 20, "labels": { "device": "press-1" }, "points": ["a"], "for": "30m"
        });
        assert_eq!(read, expected);
        let numbers = ["device=7", "labels.line=3", "for=10"].map(str::to_owned);
        assert_eq!(arguments(&numbers), Ok(json!({ "device": "7", "labels": { "line": "3" }, "for": "10" })));
        assert_eq!(arguments(&[]), Ok(Value::Null));
        assert!(arguments(&["device".to_owned()]).is_err());
    }
}
