//! `lineside write` and `lineside writes`: writing on the spot, and who may write from afar.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::AgentClient;
use super::table::Table;
use super::{AgentOption, Exit, Failure, user, write_json, written};
use crate::commands::write::lock::WriteLock;
use crate::config;
use crate::diagnostics::protocol::{Notice, Request};
use crate::settings::{parse_duration, show_duration};

/// Write one tag through the running agent, within the bounds that its [[write]] section sets, and read it back.
///
/// Exit code 1 when it was tried and did not succeed, or nobody knows; 2 when a bound forbids it.
#[derive(Debug, Args)]
pub(super) struct Write {
    /// Which tag.
    #[arg(value_name = "DEVICE/POINT")]
    tag: String,
    /// Engineering value; 0 or 1 for a coil.
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: f64,
    /// Check and read everything, but write nothing.
    #[arg(long)]
    dry_run: bool,
    /// After how long the value returns to its safe one, for example 10m.
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    span: Option<Duration>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Who does it; without it the user of this terminal.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    agent: AgentOption,
}

/// Show what may be written, or lock writing from afar.
#[derive(Debug, Args)]
pub(super) struct Writes {
    /// Lock all writing from afar until it is lifted here, or lift the lock; writing on the spot stays possible.
    #[arg(value_name = "off|on")]
    lock: Option<Lock>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lock {
    /// Nobody writes from afar.
    Off,
    /// Those who may, may.
    On,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "must be a whole number with a unit such as 30s or 10m".to_owned())
}

impl Write {
    pub fn run(self) -> Result<Exit, Failure> {
        let Some((device, point)) = self.tag.split_once('/') else {
            return Err(Failure::Refused(format!("{:?}: a tag is written <device>/<point>", self.tag)));
        };
        let request = Request::Write {
            device: device.to_owned(),
            point: point.to_owned(),
            value: self.value,
            dry_run: self.dry_run,
            span: self.span.map(show_duration),
            by: self.by.unwrap_or_else(user),
        };
        let answer = ask(&self.agent, &request)?;
        let mut out = anstream::stdout().lock();
        let (state, result) = (answer["state"].as_str().unwrap_or_default(), &answer["result"]);
        let reason = answer["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        written(match self.json {
            true => write_json(&mut out, &answer),
            // It did not come so far as to look at the device.
            false if result.is_null() => writeln!(out, "{} {state}{reason}", self.tag),
            false => {
                let what = if self.dry_run { "would write" } else { "registers" };
                writeln!(
                    out,
                    "{} {state}{reason}\n  before {}, {what} {} at {} of unit {}, reads back {}",
                    self.tag,
                    result["before"],
                    result["registers"],
                    result["address"],
                    result["unit_id"],
                    result["read_back"]
                )
            }
        })?;
        Ok(if state == "done" { Exit::Done } else { Exit::Findings })
    }
}

impl Writes {
    pub fn run(self) -> Result<Exit, Failure> {
        let request = match self.lock {
            None => Request::Writes,
            Some(Lock::Off) => Request::WritesLock { locked: true, by: user() },
            Some(Lock::On) => Request::WritesLock { locked: false, by: user() },
        };
        let answer = match (ask(&self.agent, &request), self.lock) {
            (Err(Failure::Unreachable(_)), Some(lock)) => return self.without_agent(lock),
            (answer, _) => answer?,
        };
        let mut out = anstream::stdout().lock();
        let tags = answer["tags"].as_array().cloned().unwrap_or_default();
        written(match self.json {
            true => write_json(&mut out, &answer),
            false => show(&mut out, &answer, &tags),
        })?;
        let all_in_force = tags.iter().all(|tag| tag["in_force"] == true);
        Ok(if all_in_force { Exit::Done } else { Exit::Findings })
    }

    /// The lock is a file, so that it holds for the agent that is started next.
    fn without_agent(&self, lock: Lock) -> Result<Exit, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let directory = config.store.path.join("remote");
        let file = WriteLock::in_directory(&directory);
        let done = match lock {
            Lock::Off => made_as_its_parent(&directory).and_then(|()| file.lock()),
            Lock::On => file.lift(),
        };
        done.map_err(|error| Failure::Refused(format!("{}: {error}", directory.display())))?;
        let (locked, mut out) = (file.is_locked(), anstream::stdout().lock());
        written(match self.json {
            true => write_json(&mut out, &json!({ "locked": locked, "agent": false })),
            false => writeln!(
                out,
                "no agent runs; writing from afar {} when it is started",
                if locked { "stays locked (lineside writes on lifts it)" } else { "is not locked" }
            ),
        })?;
        Ok(Exit::Done)
    }
}

/// A directory that whoever has its parent, mostly the agent's user, can use as well.
fn made_as_its_parent(directory: &Path) -> std::io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(Path::new("."));
    let owner = std::fs::metadata(parent)?;
    std::fs::create_dir(directory)?;
    std::os::unix::fs::chown(directory, Some(owner.uid()), Some(owner.gid()))
}

fn show(out: &mut impl std::io::Write, answer: &Value, tags: &[Value]) -> std::io::Result<()> {
    let lock = if answer["locked"] == true { "locked (lineside writes on lifts it)" } else { "not locked" };
    writeln!(out, "writing from afar is {lock}")?;
    if tags.is_empty() {
        return writeln!(out, "no tag may be written: the configuration has no [[write]] section");
    }
    let mut table = Table::new(["tag", "range", "role", "state"]);
    for tag in tags {
        let text = |key: &str| tag[key].as_str().unwrap_or_default().to_owned();
        let state = if tag["in_force"] == true { "in force".to_owned() } else { text("reason") };
        let range = format!("{} to {}", tag["range"][0], tag["range"][1]);
        table.row([format!("{}/{}", text("device"), text("point")), range, text("role"), state]);
    }
    table.write(out, 0)
}

fn ask(agent: &AgentOption, request: &Request) -> Result<Value, Failure> {
    let line = AgentClient::ask(&agent.socket(), request)?.next_line()?.unwrap_or_default();
    match serde_json::from_str(&line) {
        Ok(Notice::Refused(reason)) => Err(Failure::Refused(reason)),
        Ok(Notice::Error(reason)) => Err(Failure::Unreachable(reason)),
        _ => serde_json::from_str(&line)
            .map_err(|_| Failure::Unreachable(format!("the agent's answer is not understood: {line}"))),
    }
}
