//! `lineside check`: all faults of a configuration at once, then the poll plan it leads to.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::table::Table;
use super::{ConfigOption, Exit, Failure, files, findings, plural, write_json, written};
use crate::agent::{self, learned};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, DeviceConfig, LinkConfig};
use crate::modbus::timing::{self, GroupLoad, LinkLoad, Relief};
use crate::model::UnitId;
use crate::poll::forecast::{IntervalForecast, forecast};
use crate::poll::learned::LearnedDevices;
use crate::profile::{Protocol, TextProfile};
use crate::settings::{FileFault, show_duration};

/// Check a configuration and show the poll plan: requests, registers and predicted load of each link.
///
/// Nothing is started and no device is asked. Exit code 2 when the configuration has faults, all of which are shown; 1
/// when it has none but deserves a warning.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Configuration file to check; without it that of --config.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
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
    notes: Vec<String>,
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
    /// What becomes of the polls at each interval.
    intervals: Vec<IntervalReport>,
    /// What does not fit, with what would; empty when all fits.
    too_much: Vec<ReliefReport>,
    devices: Vec<DeviceReport>,
}

#[derive(Serialize)]
struct IntervalReport {
    interval_s: f64,
    /// The latest that a poll starts after its time, in seconds.
    late_s: f64,
    /// Part of the polls that are done, in percent.
    done_percent: f64,
}

#[derive(Serialize)]
struct ReliefReport {
    device: String,
    interval_s: f64,
    fits_s: f64,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct DeviceReport {
    name: String,
    unit_id: Option<u8>,
    profile: String,
    tags: usize,
    /// Requests at most after each connection, to find out who it is, and the time they take.
    identification_requests: usize,
    identification_s: f64,
    groups: Vec<GroupReport>,
}

#[derive(Serialize)]
struct GroupReport {
    /// Zero: again and again without pause; null: whenever the device sends.
    interval_s: Option<f64>,
    requests: usize,
    registers: Option<u32>,
    round_time_s: Option<f64>,
    /// Share of the time of the link, in percent.
    busy_percent: Option<f64>,
}

impl Check {
    pub fn run(self) -> Result<Exit, Failure> {
        // Fails only when a provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = self.file.unwrap_or(self.config.config);
        let file = path.display().to_string();
        let loaded = config::load(&path);
        let admitted = loaded.and_then(|config| agent::admit(&file, &config).map(|groups| (config, groups)));
        let report = match admitted {
            Ok((config, groups)) => {
                let mut more = files::warnings(&path, &config, SystemClock::new(true).wall());
                more.extend(agent::unmatched_selectors(&groups, &config));
                more.extend(agent::doubtful_interlocks(&groups, &config));
                report(file, &config, more)
            }
            Err(error) => {
                let (warnings, notes, links) = (files::unfilled(&path), Vec::new(), Vec::new());
                let report = Report { file, ok: false, faults: error.faults, warnings, notes, links };
                if !self.json {
                    return Err(Failure::Refused(refusal(&report)));
                }
                report
            }
        };
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &report),
            false => write_report(&mut out, &report),
        })?;
        match (report.ok, report.warnings.is_empty()) {
            (true, true) => Ok(Exit::Done),
            (true, false) => Ok(Exit::Findings),
            (false, _) => Err(Failure::Refused(format!("{}: refused", report.file))),
        }
    }
}

/// Every fault, and what may have led to it.
fn refusal(report: &Report) -> String {
    let faults = report.faults.iter().map(ToString::to_string);
    let warnings = report.warnings.iter().map(|warning| format!("warning: {warning}"));
    faults.chain(warnings).collect::<Vec<_>>().join("\n")
}

fn report(file: String, config: &Config, more: Vec<String>) -> Report {
    let learned = learned::load(&learned::place(&config.store.path));
    let links = config.links.iter().map(|link| link_report(link, &learned)).collect();
    let (mut warnings, notes) = (findings::warnings(config), findings::notes(config));
    warnings.extend(more);
    Report { file, ok: true, faults: Vec::new(), warnings, notes, links }
}

fn link_report(link: &LinkConfig, learned: &LearnedDevices) -> LinkReport {
    // A device whose points do not fit into requests was refused when the configuration was read.
    let load = timing::load_with(link, |device| learned.get(device.name.as_str())?.known_of(device)).ok();
    let load_of =
        |device: &DeviceConfig| load.iter().flat_map(|load| &load.devices).find(|load| load.device == device.name);
    let groups_of = |device: &DeviceConfig| match &device.profile.protocol {
        Protocol::Modbus(_) => load_of(device).iter().flat_map(|load| &load.groups).map(group_report).collect(),
        Protocol::Text(text) => vec![text_report(device, text)],
    };
    let devices = link.devices.iter().map(|device| {
        let identification = load_of(device).and_then(|load| load.identification);
        DeviceReport {
            name: device.name.to_string(),
            unit_id: device.unit.map(UnitId::get),
            profile: device.profile.id.clone(),
            tags: device.tags.len(),
            identification_requests: identification.map_or(0, |load| load.requests),
            identification_s: identification.map_or(0.0, |load| load.time.as_secs_f64()),
            groups: groups_of(device),
        }
    });
    LinkReport {
        name: link.name.to_string(),
        endpoint: link.endpoint.to_string(),
        requests_per_second: load.as_ref().map_or(0.0, |load| load.requests_per_second),
        registers_per_second: load.as_ref().map_or(0.0, |load| load.registers_per_second),
        busy_percent: load.as_ref().map_or(0.0, |load| load.busy * 100.0),
        back_to_back_s: load.as_ref().and_then(|load| load.back_to_back).map(|round| round.as_secs_f64()),
        intervals: load.as_ref().map(intervals_report).unwrap_or_default(),
        too_much: load.as_ref().map(|load| too_much(link, load)).unwrap_or_default(),
        devices: devices.collect(),
    }
}

fn intervals_report(load: &LinkLoad) -> Vec<IntervalReport> {
    let report = |one: IntervalForecast| IntervalReport {
        interval_s: one.interval.as_secs_f64(),
        late_s: one.late_most.as_secs_f64(),
        done_percent: one.kept * 100.0,
    };
    forecast(load, Instant::now()).into_iter().map(report).collect()
}

fn too_much(link: &LinkConfig, load: &LinkLoad) -> Vec<ReliefReport> {
    let report = |relief: Relief| {
        let device = &load.devices[relief.device].device;
        ReliefReport {
            device: device.to_string(),
            interval_s: relief.interval.as_secs_f64(),
            fits_s: relief.fits.as_secs_f64(),
            tags: agent::tags_at(link, device, relief.interval).into_iter().map(str::to_owned).collect(),
        }
    };
    timing::relief(load).into_iter().map(report).collect()
}

fn group_report(group: &GroupLoad) -> GroupReport {
    GroupReport {
        interval_s: Some(group.interval.as_secs_f64()),
        requests: group.requests,
        registers: Some(group.registers),
        round_time_s: Some(group.round_time.as_secs_f64()),
        busy_percent: (!group.interval.is_zero()).then(|| group.share() * 100.0),
    }
}

/// A text instrument is asked for all its tags at once, or talks by itself.
fn text_report(device: &DeviceConfig, text: &TextProfile) -> GroupReport {
    let interval = device.tags.iter().map(|tag| tag.interval.as_secs_f64()).next();
    GroupReport {
        interval_s: interval.filter(|_| text.ask.is_some()),
        requests: usize::from(text.ask.is_some()),
        registers: None,
        round_time_s: None,
        busy_percent: None,
    }
}

fn write_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let devices: usize = report.links.iter().map(|link| link.devices.len()).sum();
    let tags: usize = report.links.iter().flat_map(|link| &link.devices).map(|device| device.tags).sum();
    let (links, devices, tags) = (plural(report.links.len(), "link"), plural(devices, "device"), plural(tags, "tag"));
    writeln!(out, "{}: no faults; {links}, {devices}, {tags}", report.file)?;
    for link in &report.links {
        write_link(out, link)?;
    }
    if !(report.warnings.is_empty() && report.notes.is_empty()) {
        writeln!(out)?;
    }
    let style = AnsiColor::Yellow.on_default();
    report.warnings.iter().try_for_each(|warning| writeln!(out, "{style}warning: {warning}{style:#}"))?;
    report.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
}

fn write_link(out: &mut impl Write, link: &LinkReport) -> io::Result<()> {
    let bold = Style::new().bold();
    writeln!(out, "\n{bold}{}{bold:#}  {}", link.name, link.endpoint)?;
    let mut table =
        Table::new(["device", "unit", "profile", "tags", "interval", "requests", "registers", "round", "load"]);
    let none = || "-".to_owned();
    for device in &link.devices {
        let unit = device.unit_id.map_or_else(none, |unit| unit.to_string());
        let mut cells = (device.name.clone(), unit, device.profile.clone(), device.tags.to_string());
        for group in &device.groups {
            let (name, unit, profile, tags) = std::mem::take(&mut cells);
            let requests = if group.requests == 0 { none() } else { group.requests.to_string() };
            let registers = group.registers.map_or_else(none, |registers| registers.to_string());
            let round = group.round_time_s.map_or_else(none, |round| format!("{:.1} ms", round * 1000.0));
            let load = group.busy_percent.map_or_else(none, |busy| format!("{busy:.1} %"));
            table.row([name, unit, profile, tags, interval(group), requests, registers, round, load]);
        }
    }
    table.write(out, 2)?;
    if link.endpoint.starts_with("text") {
        return Ok(());
    }
    let (requests, registers, busy) = (link.requests_per_second, link.registers_per_second, link.busy_percent);
    write!(out, "  {requests:.1} requests/s, {registers:.0} registers/s, predicted load {busy:.1} %")?;
    match link.back_to_back_s {
        Some(round) => writeln!(out, "; the rest goes to rounds of {:.1} ms without pause", round * 1000.0)?,
        None => writeln!(out)?,
    }
    write_forecast(out, link)
}

/// How late polls start, what part of them is left out, and what a connection costs.
fn write_forecast(out: &mut impl Write, link: &LinkReport) -> io::Result<()> {
    let one = |report: &IntervalReport| {
        let interval = show_duration(Duration::from_secs_f64(report.interval_s));
        let done =
            if report.done_percent < 99.95 { format!(", {:.0} % done", report.done_percent) } else { String::new() };
        format!("each {interval} up to {:.1} ms{done}", report.late_s * 1000.0)
    };
    if !link.intervals.is_empty() {
        writeln!(out, "  late at worst: {}", link.intervals.iter().map(one).collect::<Vec<_>>().join("; "))?;
    }
    let requests: usize = link.devices.iter().map(|device| device.identification_requests).sum();
    if requests == 0 {
        return Ok(());
    }
    let time: f64 = link.devices.iter().map(|device| device.identification_s).sum();
    let requests = plural(requests, "request");
    writeln!(out, "  identification: up to {requests}, {:.1} ms, after each connection", time * 1000.0)
}

fn interval(group: &GroupReport) -> String {
    match group.interval_s {
        None => "as sent".to_owned(),
        Some(0.0) => "no pause".to_owned(),
        Some(seconds) => show_duration(Duration::from_secs_f64(seconds)),
    }
}
