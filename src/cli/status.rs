//! `lineside status`: every stage of the running agent, the important things first.

mod device;

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::AgentClient;
use super::screen::{width, write_digest, write_problems, write_wrapped};
use super::table::{Table, bytes, count, span};
use super::{AgentOption, Exit, Failure, write_json, written};
use crate::diagnostics::problems::Problem;
use crate::diagnostics::protocol::Request;
use crate::settings::show_duration;

const DAYS_OF_YEAR: u64 = 365;

/// Show every stage of the running agent: links and devices, store, uplink.
///
/// Exit code 1 when something needs attention: a device that does not answer, no broker, a store that cannot be
/// written, a link that cannot keep its schedule.
#[derive(Debug, Args)]
pub(super) struct StatusCommand {
    /// All about one device: counters, who it is, what was learned of it.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
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
        if let Some(name) = &self.device {
            return device::show(&status, name, self.json);
        }
        let problems = problems(&status);
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &status),
            false => shown(&status, &problems).and_then(|text| write_wrapped(&mut out, &text)),
        })?;
        Ok(if problems.iter().any(|problem| problem.severity.is_trouble()) { Exit::Findings } else { Exit::Done })
    }
}

/// The list of problems in a status, an agent's answer or a health message.
pub(super) fn problems(status: &Value) -> Vec<Problem> {
    list(&status["problems"]).filter_map(|problem| Problem::deserialize(problem).ok()).collect()
}

/// The whole status, in lines that may be too long.
fn shown(status: &Value, problems: &[Problem]) -> io::Result<String> {
    let mut text = Vec::new();
    write_status(&mut text, status, problems)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn write_status(out: &mut impl Write, status: &Value, problems: &[Problem]) -> io::Result<()> {
    let bold = Style::new().bold();
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
    write_digest(out, problems)?;
    writeln!(out)?;
    for link in list(&status["links"]) {
        write_link(out, link)?;
    }
    write_rules(out, status)?;
    write_store(out, status)?;
    write_uplink(out, status)?;
    writeln!(out)?;
    write_problems(out, problems)
}

fn write_rules(out: &mut impl Write, status: &Value) -> io::Result<()> {
    let (bold, rules, actions) = (Style::new().bold(), &status["rules"], &status["actions"]);
    if rules.is_null() {
        return Ok(());
    }
    let figure = |key: &str| count(number(&rules[key]));
    writeln!(
        out,
        "{bold}rules{bold:#}  {} in {} groups over {} series, {} of memory",
        figure("rules"),
        figure("groups"),
        figure("series"),
        bytes(number(&rules["bytes"])),
    )?;
    writeln!(
        out,
        "  alarms   {} active, {} transitions since the start; {} results recorded",
        figure("active"),
        figure("transitions"),
        figure("recorded"),
    )?;
    if number(&rules["actions"]) > 0 {
        writeln!(
            out,
            "  actions  {} asked for, {} done, {} not done; {} readings captured",
            figure("actions"),
            count(number(&actions["done"])),
            count(number(&actions["failed"]) + number(&rules["actions_dropped"])),
            count(number(&actions["captured"])),
        )?;
    }
    writeln!(out)
}

fn write_link(out: &mut impl Write, link: &Value) -> io::Result<()> {
    let bold = Style::new().bold();
    let connection = if link["connected"] == true { "open" } else { "closed" };
    write!(out, "{bold}{}{bold:#}  {}  {connection}", text(&link["name"]), text(&link["endpoint"]))?;
    let due = number(&link["polls_due"]);
    // An instrument that talks by itself is not polled.
    if due > 0 {
        let (done, skipped) = (number(&link["polls_done"]), number(&link["polls_skipped"]));
        let load = link["busy_ratio"].as_f64().unwrap_or(0.0) * 100.0;
        let predicted = link["predicted_ratio"].as_f64().unwrap_or(0.0) * 100.0;
        write!(
            out,
            "; {} of {} due polls done, {} skipped, load {load:.1} %",
            count(done),
            count(due),
            count(skipped)
        )?;
        // How long an instrument takes for its lines nobody knows beforehand.
        if predicted > 0.0 {
            write!(out, " ({predicted:.1} % predicted)")?;
        }
    }
    writeln!(out)?;
    if let Some(reason) = link["last_error"].as_str().filter(|_| link["connected"] != true) {
        writeln!(out, "  {reason}")?;
    }
    let (closed, behind) = (number(&link["reconnects_closed"]), number(&link["reconnects_behind"]));
    if let Some(after) = link["closes_after"].as_u64() {
        let what = if after == 1 { "each answer".to_owned() } else { format!("{after} answers") };
        writeln!(out, "  the other side closes the connection after {what}: made anew {} times", count(closed))?;
    }
    if behind > 0 {
        writeln!(
            out,
            "  answers came one request late: the connection was made anew {} times for that",
            count(behind)
        )?;
    }
    let late = |one: &Value| {
        let interval = show_duration(Duration::from_millis(number(&one["interval_ms"])));
        let (late, predicted) = (number(&one["late_max_ms"]), number(&one["predicted_late_max_ms"]));
        format!("each {interval} up to {late} ms ({predicted} ms predicted)")
    };
    let late: Vec<String> = list(&link["intervals"]).map(late).collect();
    if !late.is_empty() {
        writeln!(out, "  late at worst: {}", late.join("; "))?;
    }
    // The counters of each kind of failure stand with `--device`.
    let mut table = Table::new(["device", "state", "answers", "timeouts", "bad frames", "refused", "round trip"]);
    let alert = AnsiColor::Red.on_default();
    for device in list(&link["devices"]) {
        let counter = |keys: &[&str]| count(keys.iter().map(|key| number(&device[*key])).sum());
        let style = if device["state"] == "answering" { Style::new() } else { alert };
        let cells = [
            text(&device["name"]),
            device::state(device),
            counter(&["answers"]),
            counter(&["timeouts"]),
            counter(&["crc_errors", "bad_frames"]),
            counter(&["exceptions"]),
            round_trip(&device["round_trip"]),
        ];
        table.styled_row(style, cells);
    }
    table.write_cut(out, 2, width())?;
    writeln!(out)
}

/// The mean.
fn round_trip(trip: &Value) -> String {
    let answers: u64 = list(&trip["buckets"]).map(number).sum();
    match number(&trip["total_us"]).checked_div(answers) {
        Some(mean) => format!("{:.1} ms", mean as f64 / 1000.0),
        None => "-".to_owned(),
    }
}

fn write_store(out: &mut impl Write, status: &Value) -> io::Result<()> {
    let (bold, store) = (Style::new().bold(), &status["store"]);
    let stored = number(&store["readings_stored"]);
    writeln!(
        out,
        "{bold}store{bold:#}  {} of {} on disk",
        bytes(number(&store["disk_bytes"])),
        bytes(number(&store["limit_bytes"])),
    )?;
    write_wear(out, &status["wear"])?;
    let lane = &status["lanes"]["telemetry"];
    let oldest = lane["oldest_pending_time"].as_u64();
    let age = oldest.map(|oldest| Duration::from_millis(number(&status["time"]).saturating_sub(oldest)));
    let age = age.map(|age| format!(", the oldest {} old", span(age))).unwrap_or_default();
    writeln!(
        out,
        "  stored   {} readings since the start, durable within {}, longest flush {}",
        count(stored),
        span(duration(&store["commit_interval"])),
        span(duration(&store["longest_flush"])),
    )?;
    writeln!(
        out,
        "  backlog  {} readings in {} commits{age}",
        count(number(&lane["pending_readings"])),
        count(number(&lane["pending_commits"])),
    )?;
    writeln!(out, "  history  {} readings delivered and kept", count(number(&store["history_readings"])))?;
    write_open_commit(out, &store["open_commit"])?;
    let (damaged, dropped) = (number(&store["damaged"]), number(&store["dropped"]));
    if damaged + dropped > 0 {
        writeln!(
            out,
            "  lost     {} damaged commits, {} dropped readings; gap records say which",
            count(damaged),
            count(dropped)
        )?;
    }
    writeln!(out)
}

/// `  a kill   costs nothing; the process before was killed, 12 readings of it were taken up`
fn write_open_commit(out: &mut impl Write, kept: &Value) -> io::Result<()> {
    let taken_up = number(&kept["taken_up"]);
    match (kept["kept"] == true, kept["not_kept_because"].as_str()) {
        (true, _) => write!(out, "  a kill   costs nothing")?,
        (false, Some(reason)) => {
            writeln!(out, "  a kill   costs what is not yet durable:")?;
            write!(out, "           {reason}")?;
        }
        (false, None) => write!(out, "  a kill   costs what is not yet durable (open_commit = \"off\")")?,
    }
    if taken_up > 0 {
        write!(out, "\n           the process before was killed; {} readings of it were taken up", count(taken_up))?;
    }
    let discarded = number(&kept["discarded_bytes"]);
    if discarded > 0 {
        write!(out, "\n           {} of its open commit were damaged or of another store", bytes(discarded))?;
    }
    writeln!(out)
}

/// `  wear     12.3 bytes written per reading, 45.6 MiB a day; a card of 30 TB lasts 120 years`
fn write_wear(out: &mut impl Write, wear: &Value) -> io::Result<()> {
    let per_reading = wear["bytes_per_reading"].as_f64().map(|each| format!("{each:.1} bytes written per reading"));
    write!(out, "  wear     {}", per_reading.unwrap_or_else(|| "no reading written yet".to_owned()))?;
    if wear["counted_by_kernel"] == false {
        write!(out, " as counted by the store")?;
    }
    match wear["bytes_per_day"].as_u64() {
        Some(a_day) => write!(out, ", {} a day", bytes(a_day))?,
        None => write!(out, ", the pace is known after a minute")?,
    }
    if let (Some(endurance), Some(days)) = (wear["card_endurance_bytes"].as_u64(), wear["card_days"].as_u64()) {
        write!(out, "; a card of {:.1} TB lasts {}", endurance as f64 / 1e12, years(days))?;
    }
    writeln!(out)
}

/// `120 years`, `200 days`.
fn years(days: u64) -> String {
    if days < 2 * DAYS_OF_YEAR { format!("{days} days") } else { format!("{} years", count(days / DAYS_OF_YEAR)) }
}

fn write_uplink(out: &mut impl Write, status: &Value) -> io::Result<()> {
    let (bold, uplink, mqtt) = (Style::new().bold(), &status["uplink"], &status["mqtt"]);
    let delivered = number(&uplink["readings"]);
    let per_reading = number(&uplink["payload_bytes"]) as f64 / delivered.max(1) as f64;
    let since_last = uplink["last_delivery"].as_u64();
    let since_last = since_last.map(|last| Duration::from_millis(number(&status["time"]).saturating_sub(last)));
    let last = since_last.map_or_else(|| "none yet".to_owned(), |age| format!("the last {} ago", span(age)));
    writeln!(out, "{bold}uplink{bold:#}  {}", text(&mqtt["state"]))?;
    writeln!(
        out,
        "  delivered  {} readings in {} batches, {last}; {per_reading:.2} bytes per reading",
        count(delivered),
        count(number(&uplink["batches"])),
    )?;
    writeln!(
        out,
        "  publishes  {} under way, {} refused, {} lost with their connection; {} connects",
        count(number(&uplink["in_flight"])),
        count(number(&uplink["refused"])),
        count(number(&mqtt["lost"])),
        count(number(&mqtt["connects"])),
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
