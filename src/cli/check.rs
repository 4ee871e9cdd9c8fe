//! `lineside check`: all faults of a configuration at once, then the poll plan it leads to.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::table::Table;
use super::{ConfigOption, Exit, Failure, reader_has_gone};
use crate::agent;
use crate::config::{self, Config, LinkConfig};
use crate::modbus::timing::{self, GroupLoad};
use crate::settings::FileFault;

/// Check a configuration and show the poll plan: requests, registers and load of each link.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigOption,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    file: String,
    ok: bool,
    faults: Vec<FileFault>,
    warnings: Vec<String>,
    links: Vec<LinkReport>,
}

#[derive(Serialize)]
struct LinkReport {
    name: String,
    endpoint: String,
    requests_per_second: f64,
    registers_per_second: f64,
    /// Predicted share of time that the link is occupied, in percent.
    busy_percent: f64,
    /// One round of everything polled without pause, in seconds.
    back_to_back_s: Option<f64>,
    devices: Vec<DeviceReport>,
}

#[derive(Serialize)]
struct DeviceReport {
    name: String,
    unit_id: Option<u8>,
    profile: String,
    tags: usize,
    groups: Vec<GroupReport>,
}

#[derive(Serialize)]
struct GroupReport {
    interval_s: f64,
    requests: usize,
    registers: u32,
    round_time_s: f64,
}

impl Check {
    pub fn run(self) -> Result<Exit, Failure> {
        let file = self.config.config.display().to_string();
        let report = match config::load(&self.config.config) {
            Ok(config) => report(file, &config),
            Err(error) if self.json => {
                Report { file, ok: false, faults: error.faults, warnings: Vec::new(), links: Vec::new() }
            }
            Err(error) => return Err(Failure::Refused(error.to_string())),
        };
        let mut out = anstream::stdout().lock();
        let written = match self.json {
            true => {
                serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from).and_then(|()| writeln!(out))
            }
            false => write_report(&mut out, &report),
        };
        match written {
            Err(error) if !reader_has_gone(&error) => return Err(anyhow::Error::from(error).into()),
            Ok(()) | Err(_) => {}
        }
        match (report.ok, report.warnings.is_empty()) {
            (true, true) => Ok(Exit::Done),
            (true, false) => Ok(Exit::Findings),
            (false, _) => Err(Failure::Refused(format!("{}: refused", report.file))),
        }
    }
}

fn report(file: String, config: &Config) -> Report {
    let links = config.links.iter().map(link_report).collect();
    Report { file, ok: true, faults: Vec::new(), warnings: agent::warnings(&config.links), links }
}

fn link_report(link: &LinkConfig) -> LinkReport {
    // A device whose points do not fit into requests was refused when the configuration was read.
    let load = timing::load(link).ok();
    let groups_of = |name: &crate::model::Name| -> Vec<GroupReport> {
        let device = load.iter().flat_map(|load| &load.devices).find(|device| device.device == *name);
        device.iter().flat_map(|device| &device.groups).map(group_report).collect()
    };
    let devices = link.devices.iter().map(|device| DeviceReport {
        name: device.name.to_string(),
        unit_id: device.unit.map(crate::model::UnitId::get),
        profile: device.profile.id.clone(),
        tags: device.tags.len(),
        groups: groups_of(&device.name),
    });
    LinkReport {
        name: link.name.to_string(),
        endpoint: link.endpoint.to_string(),
        requests_per_second: load.as_ref().map_or(0.0, |load| load.requests_per_second),
        registers_per_second: load.as_ref().map_or(0.0, |load| load.registers_per_second),
        busy_percent: load.as_ref().map_or(0.0, |load| load.busy * 100.0),
        back_to_back_s: load.as_ref().and_then(|load| load.back_to_back).map(|round| round.as_secs_f64()),
        devices: devices.collect(),
    }
}

fn group_report(group: &GroupLoad) -> GroupReport {
    GroupReport {
        interval_s: group.interval.as_secs_f64(),
        requests: group.requests,
        registers: group.registers,
        round_time_s: group.round_time.as_secs_f64(),
    }
}

fn write_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let devices: usize = report.links.iter().map(|link| link.devices.len()).sum();
    let tags: usize = report.links.iter().flat_map(|link| &link.devices).map(|device| device.tags).sum();
    let links = report.links.len();
    writeln!(out, "{}: no faults; {links} links, {devices} devices, {tags} tags", report.file)?;
    for link in &report.links {
        write_link(out, link)?;
    }
    let style = AnsiColor::Yellow.on_default();
    for warning in &report.warnings {
        writeln!(out, "\n{style}warning: {warning}{style:#}")?;
    }
    Ok(())
}

fn write_link(out: &mut impl Write, link: &LinkReport) -> io::Result<()> {
    let bold = Style::new().bold();
    writeln!(out, "\n{bold}{}{bold:#}  {}", link.name, link.endpoint)?;
    let mut table = Table::new(["device", "unit", "profile", "tags", "interval", "requests", "registers", "round"]);
    for device in &link.devices {
        let unit = device.unit_id.map_or_else(|| "-".to_owned(), |unit| unit.to_string());
        let mut cells = (device.name.clone(), unit, device.profile.clone(), device.tags.to_string());
        if device.groups.is_empty() {
            let (name, unit, profile, tags) = cells.clone();
            table.row([name, unit, profile, tags, "-".into(), "-".into(), "-".into(), "-".into()]);
        }
        for group in &device.groups {
            let (name, unit, profile, tags) = std::mem::take(&mut cells);
            let interval = match group.interval_s {
                0.0 => "0s (again at once)".to_owned(),
                seconds => format!("{:?}", Duration::from_secs_f64(seconds)),
            };
            let round = format!("{:.1} ms", group.round_time_s * 1000.0);
            let (requests, registers) = (group.requests.to_string(), group.registers.to_string());
            table.row([name, unit, profile, tags, interval, requests, registers, round]);
        }
    }
    table.write(out, 2)?;
    if link.endpoint.starts_with("text") {
        return Ok(());
    }
    let (requests, registers, busy) = (link.requests_per_second, link.registers_per_second, link.busy_percent);
    write!(out, "  {requests:.1} requests/s, {registers:.0} registers/s, predicted load {busy:.1} %")?;
    match link.back_to_back_s {
        Some(round) => writeln!(out, "; what is left goes to a round of {:.1} ms again and again", round * 1000.0),
        None => writeln!(out),
    }
}
