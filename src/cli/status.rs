//! `lineside status`: every stage of the running agent, the important things first.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::Value;

use super::client::AgentClient;
use super::table::{Table, bytes, count, span};
use super::{AgentOption, Exit, Failure, reader_has_gone};
use crate::diagnostics::protocol::Request;

/// Show every stage of the running agent: links and devices, store, uplink.
///
/// Exit code 1 when something needs attention: a device that does not answer, no broker, a store that cannot be
/// written, a link that cannot keep its schedule.
#[derive(Debug, Args)]
pub(super) struct StatusCommand {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

impl StatusCommand {
    pub fn run(self) -> Result<Exit, Failure> {
        let socket = self.agent.socket();
        let mut client = AgentClient::ask(&socket, &Request::Status)?;
        let line = client.next_line()?.unwrap_or_default();
        let status: Value = serde_json::from_str(&line)
            .map_err(|error| Failure::Unreachable(format!("{}: not an agent's answer: {error}", socket.display())))?;
        let concerns = concerns(&status);
        let mut out = anstream::stdout().lock();
        let written = match self.json {
            true => serde_json::to_writer_pretty(&mut out, &status).map_err(Into::into).and_then(|()| writeln!(out)),
            false => write_status(&mut out, &status, &concerns),
        };
        match written {
            Err(error) if !reader_has_gone(&error) => return Err(anyhow::Error::from(error).into()),
            Ok(()) | Err(_) => {}
        }
        Ok(if concerns.is_empty() { Exit::Done } else { Exit::Findings })
    }
}

/// What needs a person, in the order of urgency.
fn concerns(status: &Value) -> Vec<String> {
    let mut concerns = Vec::new();
    if status["store"]["writable"] == false {
        concerns.push(format!("the store cannot be written: {}", text(&status["store"]["not_writable_because"])));
    }
    let mqtt = &status["mqtt"];
    if mqtt["state"] != "connected" {
        let why = mqtt["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        concerns.push(format!("no connection to the broker{why}"));
    }
    if let Some(warning) = mqtt["warning"].as_str() {
        concerns.push(warning.to_owned());
    }
    if let Some(reason) = status["uplink"]["refusing"].as_str() {
        concerns.push(format!("the broker refuses messages: {reason}"));
    }
    for device in list(&status["links"]).flat_map(|link| list(&link["devices"])) {
        if device["state"] != "answering" {
            let why = device["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
            concerns.push(format!("{} does not answer{why}", text(&device["name"])));
        }
    }
    concerns.extend(list(&status["warnings"]).map(text));
    if status["clock"] == "unsynchronised" {
        concerns.push("the clock is not synchronised; readings say so".to_owned());
    }
    concerns
}

fn write_status(out: &mut impl Write, status: &Value, concerns: &[String]) -> io::Result<()> {
    let (bold, alert) = (Style::new().bold(), AnsiColor::Red.on_default());
    let up = Duration::from_millis(number(&status["time"]).saturating_sub(number(&status["started"])));
    writeln!(
        out,
        "{bold}{}/{}{bold:#}  lineside {}, up {}, clock {}, {} of memory",
        text(&status["site"]),
        text(&status["gateway"]),
        text(&status["version"]),
        span(up),
        text(&status["clock"]),
        bytes(number(&status["process"]["memory_bytes"])),
    )?;
    for concern in concerns {
        writeln!(out, "  {alert}{concern}{alert:#}")?;
    }
    writeln!(out)?;
    for link in list(&status["links"]) {
        write_link(out, link)?;
    }
    write_store(out, status)?;
    write_uplink(out, status)
}

fn write_link(out: &mut impl Write, link: &Value) -> io::Result<()> {
    let bold = Style::new().bold();
    let connection = if link["connected"] == true { "open" } else { "closed" };
    writeln!(
        out,
        "{bold}{}{bold:#}  {}  {connection}; {} of {} due polls done, {} skipped, load {:.1} %",
        text(&link["name"]),
        text(&link["endpoint"]),
        count(number(&link["polls_done"])),
        count(number(&link["polls_due"])),
        count(number(&link["polls_skipped"])),
        link["busy_ratio"].as_f64().unwrap_or(0.0) * 100.0,
    )?;
    let mut table = Table::new([
        "device",
        "state",
        "requests",
        "answers",
        "timeouts",
        "crc",
        "bad frames",
        "exceptions",
        "late",
        "round trip",
    ]);
    for device in list(&link["devices"]) {
        let counter = |key: &str| count(number(&device[key]));
        table.row([
            text(&device["name"]),
            text(&device["state"]).replace('_', " "),
            counter("requests"),
            counter("answers"),
            counter("timeouts"),
            counter("crc_errors"),
            counter("bad_frames"),
            counter("exceptions"),
            counter("stale_dropped"),
            round_trip(&device["round_trip"]),
        ]);
    }
    table.write(out, 2)?;
    writeln!(out)
}

/// Mean and longest.
fn round_trip(trip: &Value) -> String {
    let answers: u64 = list(&trip["buckets"]).map(number).sum();
    match number(&trip["total_us"]).checked_div(answers) {
        Some(mean) => {
            format!("{:.1} ms, at most {:.1} ms", mean as f64 / 1000.0, number(&trip["max_us"]) as f64 / 1000.0)
        }
        None => "-".to_owned(),
    }
}

fn write_store(out: &mut impl Write, status: &Value) -> io::Result<()> {
    let (bold, store) = (Style::new().bold(), &status["store"]);
    let stored = number(&store["readings_stored"]);
    let per_reading = number(&store["bytes_written"]) as f64 / stored.max(1) as f64;
    writeln!(
        out,
        "{bold}store{bold:#}  {} readings stored, {} on disk of {}, {per_reading:.1} bytes written per reading, longest flush {}",
        count(stored),
        bytes(number(&store["disk_bytes"])),
        bytes(number(&store["limit_bytes"])),
        span(duration(&store["longest_flush"])),
    )?;
    let lane = &status["lanes"]["telemetry"];
    let oldest = lane["oldest_pending_time"].as_u64();
    let age = oldest.map(|oldest| Duration::from_millis(number(&status["time"]).saturating_sub(oldest)));
    let age = age.map(|age| format!(", the oldest {} old", span(age))).unwrap_or_default();
    writeln!(
        out,
        "  backlog {} readings in {} commits{age}; history {} readings",
        count(number(&lane["pending_readings"])),
        count(number(&lane["pending_commits"])),
        count(number(&store["history_readings"])),
    )?;
    let (damaged, dropped) = (number(&store["damaged"]), number(&store["dropped"]));
    if damaged + dropped > 0 {
        writeln!(
            out,
            "  {} damaged commits, {} dropped readings; gap records say which",
            count(damaged),
            count(dropped)
        )?;
    }
    writeln!(out)
}

fn write_uplink(out: &mut impl Write, status: &Value) -> io::Result<()> {
    let (bold, uplink, mqtt) = (Style::new().bold(), &status["uplink"], &status["mqtt"]);
    let delivered = number(&uplink["readings"]);
    let per_reading = number(&uplink["payload_bytes"]) as f64 / delivered.max(1) as f64;
    writeln!(
        out,
        "{bold}uplink{bold:#}  {}; {} readings in {} batches delivered, {per_reading:.2} bytes per reading, {} under way",
        text(&mqtt["state"]),
        count(delivered),
        count(number(&uplink["batches"])),
        number(&uplink["in_flight"]),
    )?;
    let since_last = uplink["last_delivery"].as_u64();
    let since_last = since_last.map(|last| Duration::from_millis(number(&status["time"]).saturating_sub(last)));
    writeln!(
        out,
        "  {} connects, {} publishes lost, {} refused; last delivery {}",
        count(number(&mqtt["connects"])),
        count(number(&mqtt["lost"])),
        count(number(&uplink["refused"])),
        since_last.map_or_else(|| "never".to_owned(), |age| format!("{} ago", span(age))),
    )
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A `Duration` as serde writes it.
fn duration(value: &Value) -> Duration {
    Duration::new(number(&value["secs"]), u32::try_from(number(&value["nanos"])).unwrap_or(0))
}
