//! `lineside command config push`: a configuration for one gateway, and what became of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::super::{Exit, Failure, runtime, write_json, written};
use super::broker::{BrokerOptions, json_message};
use super::key::Signer;
use crate::clock::{Clock, SystemClock};
use crate::commands::desired::{Desired, DesiredEnvelope, check};
use crate::commands::signature::{FOR_CONFIGURATION, digest};
use crate::commands::verb::Span;
use crate::settings::parse_duration;

/// Configurations of gateways.
#[derive(Debug, Args)]
pub(super) struct ConfigDeeds {
    #[command(subcommand)]
    deed: ConfigDeed,
}

#[derive(Debug, Subcommand)]
enum ConfigDeed {
    Push(Push),
}

/// Send a configuration: links, devices, rules, profiles. The gateway tries it, and goes back when it does not prove itself.
///
/// Exit codes: 0 it is in force; 1 it was tried and rolled back; 2 it was refused; 3 no broker, or no report in time.
#[derive(Debug, Args)]
struct Push {
    /// Directory with configuration.toml, rules/*.yml and profiles/*.toml, as far as they are to change.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Which gateway: <site>/<gateway>.
    #[arg(short, long, value_name = "SITE/GATEWAY", env = "LINESIDE_GATEWAY")]
    gateway: String,
    /// Key file of an engineer.
    #[arg(short, long, value_name = "FILE", env = "LINESIDE_COMMAND_KEY")]
    key: PathBuf,
    /// Number of the configuration, higher than all before; without it the milliseconds since 1970.
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u64>,
    /// How long it may take to prove itself, 5s to 1h; without it 2m.
    #[arg(long, value_name = "TIME", value_parser = span)]
    confirm: Option<Duration>,
    /// Which part of the devices that answered before must answer again, 0 to 1; without it all.
    #[arg(long, value_name = "PART")]
    share: Option<f64>,
    /// Do not wait for what becomes of it.
    #[arg(long)]
    no_wait: bool,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "must be a whole number with a unit such as 30s or 5m".to_owned())
}

impl ConfigDeeds {
    pub fn run(self) -> Result<Exit, Failure> {
        match self.deed {
            ConfigDeed::Push(push) => push.run(),
        }
    }
}

impl Push {
    fn run(self) -> Result<Exit, Failure> {
        let signer = Signer::load(&self.key)?;
        let milliseconds = SystemClock::new(true).wall().0;
        let desired = Desired {
            gateway: self.gateway.clone(),
            revision: self.revision.unwrap_or_else(|| u64::try_from(milliseconds).unwrap_or(1)),
            confirm: self.confirm.map(Span),
            share: self.share,
            files: files(&self.directory)?,
        };
        check(&desired).map_err(Failure::Refused)?;
        let wait = desired.window() + Duration::from_secs(60);
        let configuration = serde_json::to_string(&desired).map_err(anyhow::Error::from)?;
        let (signature, digest) =
            (signer.key.sign(FOR_CONFIGURATION, &configuration), digest(configuration.as_bytes()));
        let envelope = DesiredEnvelope { configuration, key: signer.name, signature };
        let payload = serde_json::to_vec(&envelope).map_err(anyhow::Error::from)?;
        let report = runtime()?.block_on(self.exchange(payload, &digest, wait))?;
        let Some(report) = report else { return Ok(Exit::Done) };
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &report),
            false => write_report(&mut out, &report),
        })?;
        match report["state"].as_str() {
            Some("confirmed") => Ok(Exit::Done),
            Some("refused") => Err(Failure::Refused(format!("revision {} was refused", desired.revision))),
            Some(_) | None => Ok(Exit::Findings),
        }
    }

    /// Publishes, and waits for the report that settles it; a gateway that changes its broker reports there.
    async fn exchange(&self, payload: Vec<u8>, digest: &str, wait: Duration) -> Result<Option<Value>, Failure> {
        let topics = self.broker.topics(&self.gateway)?;
        let mut visitor = self.broker.visit(&[topics.reported()]).await?;
        let unreachable = |error: crate::mqtt::VisitError| Failure::Unreachable(error.to_string());
        let talk = async {
            let message = crate::mqtt::Message { retain: true, ..json_message(topics.desired(), payload) };
            let delivery = visitor.publish(message).await.map_err(unreachable)?;
            if !delivery.is_delivered() {
                return Err(Failure::Unreachable(format!("the broker does not take the configuration: {delivery}")));
            }
            if self.no_wait {
                return Ok(None);
            }
            loop {
                let received = visitor.next().await.map_err(unreachable)?;
                let Ok(report) = serde_json::from_slice::<Value>(&received.payload) else { continue };
                if report["tried"]["digest"] == digest && report["state"] != "trial" {
                    return Ok(Some(report));
                }
            }
        };
        match tokio::time::timeout(wait, talk).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Unreachable(format!(
                "no report within {} s. It was sent: `lineside command watch` shows what becomes of it",
                wait.as_secs()
            ))),
        }
    }
}

fn write_report(out: &mut impl Write, report: &Value) -> std::io::Result<()> {
    let state = report["state"].as_str().unwrap_or_default();
    let in_force = match report["revision"].as_u64() {
        Some(0) | None => "the owner's own configuration".to_owned(),
        Some(revision) => format!("revision {revision}"),
    };
    writeln!(out, "revision {}: {state}; in force is {in_force}", report["tried"]["revision"])?;
    for reason in report["reasons"].as_array().into_iter().flatten() {
        let words = ["file", "key", "reason"].map(|key| reason[key].as_str().unwrap_or_default());
        writeln!(out, "  {}", words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": "))?;
    }
    Ok(())
}

/// The files of a configuration, as the gateway knows them. What is neither is named: a rule file with the wrong ending
/// would be missed by nobody.
fn files(directory: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    let mut take = |name: String| -> Result<(), Failure> {
        let path = directory.join(&name);
        let text = std::fs::read_to_string(&path);
        files.insert(name, text.map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))?);
        Ok(())
    };
    if directory.join("configuration.toml").exists() {
        take("configuration.toml".to_owned())?;
    }
    let mut passed_over = names_in(directory);
    passed_over.retain(|name| !["configuration.toml", "rules", "profiles"].contains(&name.as_str()));
    for (below, endings) in [("rules", &[".yml", ".yaml"][..]), ("profiles", &[".toml"][..])] {
        let is_wanted = |name: &String| endings.iter().any(|ending| name.ends_with(ending));
        let (wanted, others): (Vec<_>, Vec<_>) = names_in(&directory.join(below)).into_iter().partition(is_wanted);
        wanted.iter().try_for_each(|name| take(format!("{below}/{name}")))?;
        passed_over.extend(others.iter().map(|name| format!("{below}/{name}")));
    }
    passed_over.iter().for_each(|name| eprintln!("{name}: is no part of a configuration, and stays here"));
    if files.is_empty() {
        let place = directory.display();
        return Err(Failure::Refused(format!(
            "{place}: neither configuration.toml nor rules/*.yml nor profiles/*.toml"
        )));
    }
    Ok(files)
}

/// What stands in a directory, in order, without what is hidden.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}
