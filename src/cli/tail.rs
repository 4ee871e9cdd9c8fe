//! `lineside tail`: readings as they are taken.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::client::AgentClient;
use super::{AgentOption, Exit, Failure, reader_has_gone};
use crate::diagnostics::protocol::{Notice, Request, ShownReading};

/// Show readings as they are taken, with their quality.
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
        let mut client = AgentClient::ask(&self.agent.socket(), &Request::Tail)?;
        let mut out = anstream::stdout().lock();
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
                        false => write_reading(&mut out, &reading),
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

fn note(line: &str) -> std::io::Result<()> {
    match serde_json::from_str(line) {
        Ok(Notice::Missed(cycles)) => eprintln!("({cycles} poll cycles not shown: this terminal is too slow)"),
        Ok(Notice::Error(error)) => eprintln!("{error}"),
        Ok(Notice::Registers(_)) | Err(_) => eprintln!("not understood: {line}"),
    }
    Ok(())
}

/// One line: time, tag, value and unit, quality when there is something to say.
pub(super) fn write_reading(out: &mut impl Write, reading: &ShownReading) -> std::io::Result<()> {
    let style = match reading.quality.split(':').next() {
        Some("good") => Style::new(),
        Some("uncertain") => AnsiColor::Yellow.on_default(),
        Some(_) | None => AnsiColor::Red.on_default(),
    };
    let quality = if reading.quality == "good" { "" } else { &reading.quality };
    let tag = format!("{}/{}", reading.device, reading.point);
    let (value, unit) = (shown_value(reading), &reading.unit);
    writeln!(out, "{}  {tag:<44} {style}{value:>14} {unit:<6} {quality}{style:#}", reading.time)
}

fn shown_value(reading: &ShownReading) -> String {
    let number = match &reading.value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match &reading.state {
        Some(state) => format!("{number} ({state})"),
        None => number,
    }
}
