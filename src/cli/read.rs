//! `lineside read`: one device, or some raw registers, now.
//!
//! Through the agent when one runs, because the link belongs to it; directly otherwise.

mod raw;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::AgentClient;
use super::table::Table;
use super::tail::{shown_value, style};
use super::target::time;
use super::{AgentOption, Exit, Failure, runtime, written};
use crate::agent::learned;
use crate::clock::SystemClock;
use crate::config::{self, Config, Endpoint, LinkConfig};
use crate::diagnostics::protocol::{Notice, Request, ShownReading};
use crate::diagnostics::socket::shown;
use crate::model::{Fault, Name, Quality, Row, SeriesId, SeriesInfo};
use crate::poll::learned::LearnedDevices;
use crate::poll::text::TextPoller;
use crate::poll::{LinkHandle, PollCycle, Poller};
use crate::profile::Protocol;
use raw::RawRange;

/// Exception code of an address that a device does not have (Modbus Application Protocol 1.1b3, 7).
const ILLEGAL_ADDRESS: u8 = 2;

/// Read one device, or a range of raw registers, now.
///
/// `lineside read press-1` reads all tags of a configured device, with --raw the registers behind them. `lineside read
/// --link hall-a --unit 1 --table input --address 0 --count 2` reads raw registers on a configured link. With --tcp,
/// --rtu-over-tcp or --serial no configuration is needed. Through the agent when one runs, because the links belong to
/// it; directly otherwise, and with --trace. Nothing is stored.
///
/// Exit code 1 when some values are not good, 3 when the device gives none at all.
#[derive(Debug, Args)]
#[command(override_usage = "lineside read [OPTIONS] <DEVICE>\n       \
                            lineside read [OPTIONS] --link <LINK> | --tcp <HOST:PORT> | --serial <PORT>")]
pub(super) struct Read {
    /// Device of the configuration.
    #[arg(
        value_name = "DEVICE",
        required_unless_present_any = ["link", "endpoint"],
        conflicts_with_all = ["link", "endpoint"]
    )]
    device: Option<String>,
    #[command(flatten)]
    range: RawRange,
    /// The registers of a device as they are, in place of its values.
    #[arg(long, requires = "device")]
    raw: bool,
    /// Again and again, each second or at this interval, until Ctrl-C; what has changed is marked. On a terminal
    /// each reading takes the place of the one before.
    #[arg(long, value_name = "INTERVAL", value_parser = time, num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    watch: Option<Duration>,
    /// Show every frame, on standard error; of a device with --raw. The link is borrowed from the running agent.
    #[arg(long)]
    trace: bool,
    /// JSON: one object a line for each reading of a device, one object for raw registers.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

/// The cursor to the first place of the screen, and everything behind it cleared (ECMA-48, 8.3.21 and 8.3.39).
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";

/// Columns of a terminal.
const WIDTH: usize = 80;

impl Read {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut before = Vec::new();
        loop {
            let outcome = match (&self.device, self.raw) {
                (Some(device), true) => self.read_device_raw(device, &mut before),
                (Some(_), false) if self.trace => {
                    return Err(Failure::Refused("--trace shows the frames of registers: add --raw".to_owned()));
                }
                (Some(device), false) => self.read_device(device, &mut before),
                (None, _) => self.read_raw(&mut before),
            };
            let Some(interval) = self.watch else { return outcome };
            match outcome {
                Ok(_) => {}
                // What cannot be reached now may be there the next time.
                Err(Failure::Unreachable(reason)) => eprintln!("{reason}"),
                Err(other) => return Err(other),
            }
            if !self.json && !self.redraws() {
                written(writeln!(std::io::stdout()))?;
            }
            if !is_read_after(interval) {
                return Ok(Exit::Done);
            }
        }
    }

    /// True when what was shown before is to be replaced: someone watches on a terminal.
    fn redraws(&self) -> bool {
        self.watch.is_some() && !self.json && !self.trace && std::io::stdout().is_terminal()
    }

    /// Clears what was shown before, where it is replaced.
    fn begin_again(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.redraws() { write!(out, "{HOME_AND_CLEAR}") } else { Ok(()) }
    }

    fn read_device(&self, device: &str, before: &mut Vec<String>) -> Result<Exit, Failure> {
        let request = Request::Read { device: device.to_owned() };
        let readings = match AgentClient::ask(&self.agent.socket(), &request) {
            Ok(client) => self.readings_of_agent(client)?,
            Err(Failure::Unreachable(_)) => self.readings_of_device(device)?,
            Err(other) => return Err(other),
        };
        let mut out = anstream::stdout().lock();
        written(self.begin_again(&mut out))?;
        written(match self.json {
            true => readings.iter().try_for_each(|reading| {
                serde_json::to_writer(&mut out, reading)?;
                writeln!(out)
            }),
            false => self.write_readings(&mut out, &readings, before),
        })?;
        let all_good = readings.iter().all(|reading| reading.quality == "good");
        let none_answered = readings.iter().all(|reading| reading.value.is_null());
        match (all_good, none_answered) {
            (true, _) => Ok(Exit::Done),
            (false, true) => Err(Failure::Unreachable(format!("{device}: no value"))),
            (false, false) => Ok(Exit::Findings),
        }
    }

    /// All readings of one device. When watching, those that are not what they were `before` stand out.
    fn write_readings(
        &self,
        out: &mut impl Write,
        readings: &[ShownReading],
        before: &mut Vec<String>,
    ) -> std::io::Result<()> {
        // On a terminal that is redrawn the time stands once: all of it was read just now.
        let mut table = match self.redraws() {
            true => Table::new(["point", "value", "unit", "quality"]),
            false => Table::new(["time", "point", "value", "unit", "quality"]),
        };
        if let Some(last) = readings.iter().max_by_key(|reading| reading.time).filter(|_| self.redraws()) {
            writeln!(out, "{}  {}", last.device, last.time)?;
        }
        let mut now = Vec::with_capacity(readings.len());
        for (index, reading) in readings.iter().enumerate() {
            let value = shown_value(&reading.value, reading.state.as_deref());
            let point = reading.point.clone();
            let has_changed = self.watch.is_some() && before.get(index).is_some_and(|before| *before != value);
            let style = if has_changed { style(&reading.quality).bold() } else { style(&reading.quality) };
            now.push(value.clone());
            let (unit, quality) = (reading.unit.clone(), reading.quality.clone());
            match self.redraws() {
                true => table.styled_row(style, [point, value, unit, quality]),
                false => table.styled_row(style, [reading.time.to_string(), point, value, unit, quality]),
            }
        }
        *before = now;
        match self.redraws() {
            true => table.write_within(out, WIDTH)?,
            false => table.write(out, 0)?,
        }
        self.address_notes(readings).iter().try_for_each(|note| writeln!(out, "{note}"))
    }

    /// What a refusal may mean where the address of a point looks like one out of a manual.
    fn address_notes(&self, readings: &[ShownReading]) -> Vec<String> {
        let refused = Quality::from(Fault::Exception(ILLEGAL_ADDRESS)).to_string();
        let refused: Vec<&ShownReading> = readings.iter().filter(|reading| reading.quality == refused).collect();
        let Some(first) = refused.first() else { return Vec::new() };
        let Ok(config) = config::load(&self.agent.config.config) else { return Vec::new() };
        let devices = config.links.iter().flat_map(|link| &link.devices);
        let profile =
            devices.filter(|device| device.name.as_str() == first.device).map(|device| &device.profile).next();
        let Some(Protocol::Modbus(modbus)) = profile.filter(|profile| !profile.is_shipped()).map(|it| &it.protocol)
        else {
            return Vec::new();
        };
        let note = |reading: &&ShownReading| {
            let point = modbus.points.iter().find(|point| point.name == reading.point)?;
            let hint = modbus.explain_refusal(point)?;
            Some(format!("note: {} at {}: {hint}", point.name, point.address))
        };
        refused.iter().filter_map(note).collect()
    }

    fn readings_of_agent(&self, mut client: AgentClient) -> Result<Vec<ShownReading>, Failure> {
        let mut readings = Vec::new();
        while let Some(line) = client.next_line()? {
            match serde_json::from_str::<ShownReading>(&line) {
                Ok(reading) => readings.push(reading),
                Err(_) => return Err(refusal(&line)),
            }
        }
        Ok(readings)
    }

    /// No agent runs, so the link is free: reads the device with a poller of our own.
    fn readings_of_device(&self, device: &str) -> Result<Vec<ShownReading>, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let (mut link, name) = link_of(&config, device)?;
        link.devices.retain(|other| other.name == name);
        let tags = &link.devices[0].tags;
        let ids: Vec<SeriesId> = (1..).map(SeriesId).take(tags.len()).collect();
        let series: HashMap<SeriesId, Arc<SeriesInfo>> =
            ids.iter().copied().zip(tags.iter().map(|tag| Arc::clone(&tag.series))).collect();
        let learned = learned::load(&learned::place(&config.store.path));
        let rows = runtime()?.block_on(read_once(link, name, ids, &learned))?;
        let info_of = |id| series.get(&id).cloned();
        Ok(rows.iter().flat_map(|row| shown(row, &info_of)).collect())
    }
}

/// Waits for `interval`, or until the reader of a pipe has gone, as in `lineside read press-1 --watch | head`; false then.
fn is_read_after(interval: Duration) -> bool {
    let out = std::io::stdout();
    let mut out = [PollFd::new(&out, PollFlags::empty())];
    let patience = Timespec::try_from(interval).ok();
    // A signal that ends the wait early costs nothing: the next reading is only sooner.
    let is_told = poll(&mut out, patience.as_ref()).is_ok_and(|told| told > 0);
    !(is_told && out[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

pub(super) fn link_of(config: &Config, device: &str) -> Result<(LinkConfig, Name), Failure> {
    for link in &config.links {
        if let Some(found) = link.devices.iter().find(|other| other.name.as_str() == device) {
            return Ok((link.clone(), found.name.clone()));
        }
    }
    let names: Vec<&str> =
        config.links.iter().flat_map(|link| &link.devices).map(|device| device.name.as_str()).collect();
    Err(Failure::Refused(format!("no device {device:?}; devices are {}", names.join(", "))))
}

/// Asks a poller of our own for one reading of every tag. It begins with what the agent has learned of the device, and finds
/// out the rest as the agent does. What it polls beside that goes nowhere.
async fn read_once(
    link: LinkConfig,
    name: Name,
    ids: Vec<SeriesId>,
    learned: &LearnedDevices,
) -> Result<Vec<Row>, Failure> {
    let (cycles, mut unheard) = mpsc::channel(64);
    let clock = Arc::new(SystemClock::new(false));
    let stop = CancellationToken::new();
    let broken = |error: anyhow::Error| Failure::Broken(error);
    let listens = link.devices.iter().any(|device| match &device.profile.protocol {
        Protocol::Text(text) => text.ask.is_none(),
        Protocol::Modbus(_) => false,
    });
    let (handle, polling): (LinkHandle, std::pin::Pin<Box<dyn Future<Output = ()>>>) = match link.endpoint {
        Endpoint::Text(_) => {
            let (poller, handle) =
                TextPoller::new(link, vec![ids.clone()], clock, cycles).map_err(|error| broken(error.into()))?;
            (handle, Box::pin(poller.run(stop.clone())))
        }
        Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } | Endpoint::Rtu(_) => {
            let (poller, handle) = Poller::with_learned(link, vec![ids.clone()], clock, cycles, learned)
                .map_err(|error| broken(error.into()))?;
            (handle, Box::pin(poller.run(stop.clone())))
        }
    };
    let reading = async {
        if listens {
            return Ok(hear_all(&mut unheard, &ids).await);
        }
        let drain = async { while unheard.recv().await.is_some() {} };
        tokio::select! {
            rows = handle.read_device(&name) => rows.map_err(|error| Failure::Unreachable(format!("{name}: {error}"))),
            () = drain => Err(Failure::Unreachable(format!("{name}: the link closed"))),
        }
    };
    tokio::select! {
        rows = reading => rows,
        () = polling => Err(Failure::Unreachable(format!("{name}: the link closed"))),
    }
}

/// Listens to an instrument that talks by itself until it has said something of every tag. The poller says of a tag
/// that is not heard for three intervals that it is bad, so this ends.
async fn hear_all(cycles: &mut mpsc::Receiver<PollCycle>, ids: &[SeriesId]) -> Vec<Row> {
    let mut missing: Vec<SeriesId> = ids.to_vec();
    let mut rows: Vec<Row> = Vec::new();
    while !missing.is_empty() {
        let Some(cycle) = cycles.recv().await else { break };
        for row in cycle.rows {
            let before = missing.len();
            missing.retain(|id| !row.series.contains(id));
            if missing.len() < before {
                rows.push(row);
            }
        }
    }
    rows
}

pub(super) fn refusal(line: &str) -> Failure {
    match serde_json::from_str(line) {
        Ok(Notice::Error(error)) => Failure::Unreachable(error),
        Ok(Notice::Refused(error)) => Failure::Refused(error),
        Ok(Notice::Missed(_) | Notice::Registers(_) | Notice::Forgotten(_) | Notice::Lent(_)) | Err(_) => {
            Failure::Unreachable(format!("the agent's answer is not understood: {line}"))
        }
    }
}
