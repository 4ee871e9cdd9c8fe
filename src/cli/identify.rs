//! `lineside identify`: which device answers, which firmware it runs, and which profile reads it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::client::AgentClient;
use super::table::Table;
use super::target::{Target, connect, failed, profiles, unit_id};
use super::{AgentOption, Exit, Failure, loan, read, runtime, write_json, written};
use crate::config::{self, Accepted, Endpoint};
use crate::diagnostics::protocol::Request;
use crate::modbus::PollError;
use crate::modbus::identify::{Found, Unit, survey};
use crate::model::UnitId;

/// Ask a device who it is, and name the profiles that read it.
///
/// `lineside identify press-1` says what the agent knows of a configured device; without agent, with --trace, and with
/// --tcp, --rtu-over-tcp or --serial, the device is asked: its identification objects, the SunSpec common model, and what
/// each profile looks at. Only reads. A link or port of the running agent is borrowed meanwhile.
///
/// Exit code 1 when no profile recognises it, 3 when it does not answer.
#[derive(Debug, Args)]
#[command(override_usage = "lineside identify [OPTIONS] <DEVICE>\n       \
                            lineside identify [OPTIONS] --tcp <HOST:PORT> | --serial <PORT> | --rtu-over-tcp <HOST:PORT>")]
pub(super) struct Identify {
    /// Device of the configuration.
    #[arg(value_name = "DEVICE", required_unless_present = "endpoint", conflicts_with = "endpoint")]
    device: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Unit id: 1 to 247 on a line; with TCP also 0 and 255.
    #[arg(long, conflicts_with = "device", default_value_t = 1)]
    unit: u8,
    /// Directory of your own profiles.
    #[arg(long, value_name = "DIRECTORY")]
    profiles: Option<PathBuf>,
    /// Show every frame, on standard error.
    #[arg(long)]
    trace: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

/// What a device says, as shown.
#[derive(Serialize, PartialEq)]
pub(super) struct Shown {
    pub(super) vendor: Option<String>,
    pub(super) product: Option<String>,
    pub(super) version: Option<String>,
    pub(super) matches: Vec<ShownMatch>,
}

/// A profile that recognises it.
#[derive(Serialize, PartialEq)]
pub(super) struct ShownMatch {
    pub(super) profile: String,
    pub(super) model: String,
    pub(super) firmware: Option<String>,
    pub(super) map: Option<String>,
    pub(super) firmware_known: bool,
}

impl From<Found> for Shown {
    fn from(found: Found) -> Self {
        let matches = found.matches.into_iter().map(|one| ShownMatch {
            profile: one.profile,
            model: one.model,
            firmware: one.version,
            map: one.map,
            firmware_known: one.is_known,
        });
        let Found { vendor, product, version, .. } = Found { matches: Vec::new(), ..found };
        Self { vendor, product, version, matches: matches.collect() }
    }
}

/// How to get to a device.
struct Way {
    endpoint: Endpoint,
    timeout: Duration,
    accepted: Accepted,
}

impl Identify {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut _loan = None;
        let (way, unit) = match (&self.device, self.target.endpoint()) {
            // Frames are seen by whoever speaks to the device.
            (Some(device), _) if self.trace => {
                let (link, asked) = self.configured(device)?;
                _loan = loan::of_link(&self.agent, &link)?;
                asked
            }
            (Some(device), _) => match AgentClient::ask(&self.agent.socket(), &Request::Status) {
                Ok(mut client) => {
                    let line = client.next_line()?.unwrap_or_default();
                    return self.known_to_agent(device, &line);
                }
                Err(Failure::Unreachable(_)) => self.configured(device)?.1,
                Err(other) => return Err(other),
            },
            (None, Some(endpoint)) => {
                _loan = loan::of_endpoint(&self.agent, &endpoint)?;
                let (timeout, accepted) = (self.target.timeout, self.target.accepting.accepted());
                (Way { endpoint, timeout, accepted }, unit_id(self.unit)?)
            }
            (None, None) => return Err(Failure::Refused("one of DEVICE, --tcp, --serial is needed".to_owned())),
        };
        let profiles = profiles(self.profiles.as_ref())?;
        let found = runtime()?.block_on(async {
            let mut client = connect(&way.endpoint, way.timeout, way.accepted, self.trace).await?;
            let found = survey(&mut Unit { client: &mut client, unit }, &profiles).await;
            if self.trace {
                client.hear_out().await;
            }
            client.close().await;
            found
        });
        let shown = Shown::from(found.map_err(|error: PollError| failed(&way.endpoint, unit, &error))?);
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &shown),
            false => write(&mut out, &shown),
        })?;
        Ok(if shown.matches.is_empty() { Exit::Findings } else { Exit::Done })
    }

    /// The link of a configured device, and how to ask it there.
    fn configured(&self, device: &str) -> Result<(String, (Way, UnitId)), Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let (link, name) = read::link_of(&config, device)?;
        let unit = link.devices.iter().find(|other| other.name == name).and_then(|device| device.unit);
        let unit = unit.ok_or_else(|| no_registers(device))?;
        let way = Way { endpoint: link.endpoint, timeout: link.timeout, accepted: link.accepted };
        Ok((link.name.to_string(), (way, unit)))
    }

    /// A device of the running agent, which has its link.
    fn known_to_agent(&self, name: &str, line: &str) -> Result<Exit, Failure> {
        let status: Value = serde_json::from_str(line).map_err(anyhow::Error::from)?;
        let links = status["links"].as_array().into_iter().flatten();
        let devices = links.flat_map(|link| link["devices"].as_array().into_iter().flatten().map(move |it| (link, it)));
        let devices: Vec<(&Value, &Value)> = devices.collect();
        let Some((link, device)) = devices.iter().find(|(_, device)| device["name"] == name) else {
            let names: Vec<&str> = devices.iter().filter_map(|(_, device)| device["name"].as_str()).collect();
            return Err(Failure::Refused(format!("no device {name:?}; devices are {}", names.join(", "))));
        };
        if link["endpoint"].as_str().is_some_and(|endpoint| endpoint.starts_with("text ")) {
            return Err(no_registers(name));
        }
        let identity = &device["identity"];
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, identity),
            false => write_known(&mut out, name, device),
        })?;
        match identity["state"].as_str() {
            Some("accepted") => Ok(Exit::Done),
            Some(_) => Ok(Exit::Findings),
            None if device["state"] == "answering" => Ok(Exit::Findings),
            None => Err(Failure::Unreachable(format!("{name} does not answer"))),
        }
    }
}

fn no_registers(device: &str) -> Failure {
    Failure::Refused(format!("{device} speaks lines of text: it has nothing to tell"))
}

fn write_known(out: &mut impl Write, name: &str, device: &Value) -> io::Result<()> {
    let identity = &device["identity"];
    let or = |key: &str, instead: &str| identity[key].as_str().unwrap_or(instead).to_owned();
    match identity["state"].as_str() {
        None if device["state"] == "answering" => {
            writeln!(
                out,
                "{name}: its profile has nothing to ask it; `lineside identify {name} --trace` asks all the same"
            )
        }
        None => writeln!(out, "{name}: not identified: it does not answer"),
        Some("accepted") if identity["model"].is_null() && identity["firmware"].is_null() => {
            writeln!(out, "{name}: it tells neither model nor firmware, and nothing that contradicts its profile")
        }
        Some(state) => writeln!(
            out,
            "{name}: {}; model {}, firmware {}, map {}{}",
            state.replace('_', " "),
            or("model", "not told"),
            or("firmware", "not told"),
            or("map", "the only one"),
            identity["reason"].as_str().map(|reason| format!("; it {reason}")).unwrap_or_default()
        ),
    }
}

fn write(out: &mut impl Write, shown: &Shown) -> io::Result<()> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
    writeln!(out, "vendor   {}", or_none(&shown.vendor))?;
    writeln!(out, "product  {}", or_none(&shown.product))?;
    writeln!(out, "version  {}", or_none(&shown.version))?;
    if shown.matches.is_empty() {
        return writeln!(out, "no profile recognises it; `lineside guess` helps to write one");
    }
    let mut table = Table::new(["profile", "model", "firmware", "map"]);
    for one in &shown.matches {
        let mut firmware = one.firmware.clone().unwrap_or_else(|| "not told".to_owned());
        if !one.firmware_known {
            firmware += " (unknown to the profile)";
        }
        let map = one.map.clone().unwrap_or_else(|| "the only one".to_owned());
        table.row([one.profile.clone(), one.model.clone(), firmware, map]);
    }
    table.write(out, 0)
}
