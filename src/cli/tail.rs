//! `lineside tail`: readings as they are taken.

use std::io::Write;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::client::AgentClient;
use super::screen::{LocalTime, width, write_wrapped};
use super::{AgentOption, Exit, Failure, reader_has_gone};
use crate::diagnostics::protocol::{Notice, Request, ShownReading};

/// Columns that units take at most; a longer one makes a line of its own.
const UNIT_WIDTH: usize = 6;

/// Show readings as they are taken, with their quality; what rules record, too.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// Only readings of this device.
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    /// Only points whose name contains this.
    #[arg(short, long, value_name = "TEXT")]
    point: Option<String>,
    /// Only readings that are not good.
    #[arg(short, long)]
    bad: bool,
    /// Stop after so many readings.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

impl Tail {
    pub fn run(self) -> Result<Exit, Failure> {
        let socket = self.agent.socket();
        if let Some(device) = &self.device {
            check_device(&socket, device)?;
        }
        let mut client = AgentClient::ask(&socket, &Request::Tail)?;
        let mut out = anstream::stdout().lock();
        let columns = Columns { local: LocalTime::of_system(), width: width() };
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(line) = client.next_line()? else {
                return Err(Failure::Unreachable("the agent has stopped".to_owned()));
            };
            let written = match serde_json::from_str::<ShownReading>(&line) {
                Ok(reading) if self.is_wanted(&reading) => {
                    left -= 1;
                    match self.json {
                        true => writeln!(out, "{line}"),
                        false => columns.write(&mut out, &reading),
                    }
                }
                Ok(_) => continue,
                Err(_) => note(&line),
            };
            match written {
                Err(error) if reader_has_gone(&error) => break,
                other => other.map_err(anyhow::Error::from)?,
            }
        }
        Ok(Exit::Done)
    }

    fn is_wanted(&self, reading: &ShownReading) -> bool {
        self.device.as_ref().is_none_or(|device| *device == reading.device)
            && self.point.as_ref().is_none_or(|text| reading.point.contains(text))
            && !(self.bad && reading.quality == "good")
    }
}

/// A device that is not there would never say anything.
fn check_device(socket: &Path, device: &str) -> Result<(), Failure> {
    let line = AgentClient::ask(socket, &Request::Status)?.next_line()?.unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    let links = status["links"].as_array().into_iter().flatten();
    let devices = links.flat_map(|link| link["devices"].as_array()).flatten();
    let names: Vec<&str> = devices.filter_map(|device| device["name"].as_str()).collect();
    match names.contains(&device) {
        true => Ok(()),
        false => Err(Failure::Refused(format!("no device {device:?}; devices are {}", names.join(", ")))),
    }
}

fn note(line: &str) -> std::io::Result<()> {
    match serde_json::from_str(line) {
        Ok(Notice::Missed(cycles)) => eprintln!("({cycles} poll cycles not shown: this terminal is too slow)"),
        Ok(Notice::Error(error) | Notice::Refused(error)) => eprintln!("{error}"),
        Ok(Notice::Registers(_) | Notice::Forgotten(_) | Notice::Lent(_)) | Err(_) => {
            eprintln!("not understood: {line}")
        }
    }
    Ok(())
}

/// Columns of a line, each of which ends where it always ends.
struct Columns {
    local: LocalTime,
    width: usize,
}

impl Columns {
    /// One line: time, tag, value and unit, quality when there is something to say. Where that is too long, the tag has a
    /// line of its own.
    fn write(&self, out: &mut impl Write, reading: &ShownReading) -> std::io::Result<()> {
        let style = style(&reading.quality);
        let quality = if reading.quality == "good" { "" } else { &reading.quality };
        let local = self.local.clock(reading.time).map(|clock| format!(" {clock}")).unwrap_or_default();
        let head = format!("{}{local}  ", reading.time);
        let tag = tag(reading);
        let line =
            format!("{:>14} {:<6} {quality}", shown_value(&reading.value, reading.state.as_deref()), reading.unit);
        let line = line.trim_end();
        let tag_width = self.width.saturating_sub(head.len() + 1 + 14 + 1 + UNIT_WIDTH);
        let is_short =
            tag.chars().count() <= tag_width && head.len() + tag_width + 1 + line.chars().count() <= self.width;
        match is_short {
            true => writeln!(out, "{head}{tag:<tag_width$} {style}{line}{style:#}"),
            false => {
                write_wrapped(out, &format!("{head}{tag}"))?;
                write_wrapped(out, &format!("  {style}{line}{style:#}"))
            }
        }
    }
}

/// `press-1/flow`; for what a rule records of several devices `line:flow:sum{line="press"}`.
fn tag(reading: &ShownReading) -> String {
    if !reading.device.is_empty() {
        return format!("{}/{}", reading.device, reading.point);
    }
    let labels: Vec<String> = reading.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    match labels.is_empty() {
        true => reading.point.clone(),
        false => format!("{}{{{}}}", reading.point, labels.join(",")),
    }
}

/// Red for bad, yellow for uncertain.
pub(super) fn style(quality: &str) -> Style {
    match quality.split(':').next() {
        Some("good") => Style::new(),
        Some("uncertain") => AnsiColor::Yellow.on_default(),
        Some(_) | None => AnsiColor::Red.on_default(),
    }
}

/// The value as text, with the meaning of an enumeration.
pub(super) fn shown_value(value: &serde_json::Value, state: Option<&str>) -> String {
    let number = match value {
        serde_json::Value::Null => "-".to_owned(),
        // From a device: it must not move the cursor.
        serde_json::Value::String(text) => text.chars().flat_map(printable).collect(),
        other => other.to_string(),
    };
    match state {
        Some(state) => format!("{number} ({state})"),
        None => number,
    }
}

fn printable(character: char) -> Vec<char> {
    match character.is_control() {
        true => character.escape_default().collect(),
        false => vec![character],
    }
}
