//! `lineside read`: one device, or some raw registers, now.
//!
//! Through the agent when one runs, because the link belongs to it; directly otherwise.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::AgentClient;
use super::table::Table;
use super::tail::{shown_value, style};
use super::{AgentOption, Exit, Failure, runtime, written};
use crate::clock::SystemClock;
use crate::config::{self, Config, Endpoint, LinkConfig, Parity, SerialSettings, host_and_port};
use crate::diagnostics::protocol::{Notice, Request, ShownReading};
use crate::diagnostics::socket::shown;
use crate::modbus::PollError;
use crate::modbus::client::Client;
use crate::model::{Name, Row, SeriesId, SeriesInfo, UnitId};
use crate::poll::text::TextPoller;
use crate::poll::{LinkHandle, PollCycle, Poller};
use crate::profile::{self, Protocol};
use crate::settings::parse_duration;

/// Where Modbus TCP is spoken unless said otherwise (Modbus Messaging on TCP/IP 1.0b, 4.3.1).
const MODBUS_PORT: u16 = 502;

/// Read one device, or a range of raw registers, now.
///
/// `lineside read press-1` reads all tags of a configured device. `lineside read --link hall-a --unit 1 --table input
/// --address 0 --count 2` reads raw registers on a configured link. With --tcp or --serial no configuration is needed.
/// Through the agent when one runs, because the links belong to it; directly otherwise. Nothing is stored.
///
/// Exit code 1 when some values are not good, 3 when the device gives none at all.
#[derive(Debug, Args)]
#[command(override_usage = "lineside read [OPTIONS] <DEVICE>\n       \
                            lineside read [OPTIONS] --link <LINK> | --tcp <HOST:PORT> | --serial <PORT>")]
pub(super) struct Read {
    /// Device of the configuration.
    #[arg(value_name = "DEVICE", required_unless_present_any = ["link", "tcp", "serial"])]
    device: Option<String>,
    #[command(flatten)]
    raw: RawRange,
    /// JSON: one object a line for each reading of a device, one object for raw registers.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

/// Which raw registers.
#[derive(Debug, Args)]
struct RawRange {
    /// Link of the configuration to read raw registers on.
    #[arg(long, value_name = "LINK", conflicts_with_all = ["device", "tcp", "serial"])]
    link: Option<String>,
    /// Modbus TCP endpoint to read raw registers from, without configuration.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = tcp_endpoint, conflicts_with_all = ["device", "serial"])]
    tcp: Option<Endpoint>,
    /// Serial port to read raw registers from, without configuration.
    #[arg(long, value_name = "PORT", conflicts_with = "device")]
    serial: Option<PathBuf>,
    /// Bits a second, with --serial.
    #[arg(long, default_value_t = 19_200)]
    baud: u32,
    /// Parity bit, with --serial.
    #[arg(long, value_enum, default_value_t = ParityWord::Even)]
    parity: ParityWord,
    /// Stop bits, with --serial.
    #[arg(long, value_name = "1 or 2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// Address of the device on its link.
    #[arg(long, value_name = "1..247", default_value_t = 1)]
    unit: u8,
    /// Which table.
    #[arg(long, value_enum, default_value_t = TableWord::Holding)]
    table: TableWord,
    /// First protocol address, from 0.
    #[arg(long, value_name = "ADDRESS", default_value_t = 0)]
    address: u16,
    /// Registers (at most 125) or bits (at most 2000).
    #[arg(long, default_value_t = 1)]
    count: u16,
    /// Longest wait for an answer, with --tcp or --serial.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    timeout: Duration,
}

fn tcp_endpoint(address: &str) -> Result<Endpoint, &'static str> {
    let found = host_and_port(address, Some(MODBUS_PORT)).ok_or("must be host or host:port")?;
    Ok(Endpoint::Tcp { host: found.0, port: found.1 })
}

fn time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("must be a whole number with a unit such as 500ms or 2s")
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TableWord {
    Coil,
    Discrete,
    Holding,
    Input,
}

impl TableWord {
    fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn table(self) -> profile::Table {
        match self {
            Self::Coil => profile::Table::Coils,
            Self::Discrete => profile::Table::DiscreteInputs,
            Self::Holding => profile::Table::HoldingRegisters,
            Self::Input => profile::Table::InputRegisters,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ParityWord {
    None,
    Even,
    Odd,
}

impl Read {
    pub fn run(self) -> Result<Exit, Failure> {
        match &self.device {
            Some(device) => self.read_device(device),
            None => self.read_raw(),
        }
    }

    fn read_device(&self, device: &str) -> Result<Exit, Failure> {
        let request = Request::Read { device: device.to_owned() };
        let readings = match AgentClient::ask(&self.agent.socket(), &request) {
            Ok(client) => self.readings_of_agent(client)?,
            Err(Failure::Unreachable(_)) => self.readings_of_device(device)?,
            Err(other) => return Err(other),
        };
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => readings.iter().try_for_each(|reading| {
                serde_json::to_writer(&mut out, reading)?;
                writeln!(out)
            }),
            false => write_readings(&mut out, &readings),
        })?;
        let all_good = readings.iter().all(|reading| reading.quality == "good");
        let none_answered = readings.iter().all(|reading| reading.value.is_null());
        match (all_good, none_answered) {
            (true, _) => Ok(Exit::Done),
            (false, true) => Err(Failure::Unreachable(format!("{device}: no value"))),
            (false, false) => Ok(Exit::Findings),
        }
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
            ids.iter().copied().zip(tags.iter().map(|tag| Arc::new(tag.series.clone()))).collect();
        let rows = runtime()?.block_on(read_once(link, name, ids))?;
        let info_of = |id| series.get(&id).cloned();
        Ok(rows.iter().flat_map(|row| shown(row, &info_of)).collect())
    }

    fn read_raw(&self) -> Result<Exit, Failure> {
        let raw = &self.raw;
        let most = if raw.table.table().holds_bits() { 2000 } else { 125 };
        if raw.count == 0 || raw.count > most {
            return Err(Failure::Refused(format!("--count = {}: must be 1 to {most} for this table", raw.count)));
        }
        let words = match (&raw.link, raw.endpoint()) {
            (Some(link), _) => self.raw_through_agent(link)?,
            (None, Some(endpoint)) => self.raw_directly(endpoint, raw.timeout)?,
            // The arguments were refused without any of these.
            (None, None) => {
                return Err(Failure::Refused("one of DEVICE, --link, --tcp, --serial is needed".to_owned()));
            }
        };
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => writeln!(out, "{}", raw.as_json(&words)),
            false => raw.write(&mut out, &words),
        })?;
        Ok(Exit::Done)
    }

    fn raw_through_agent(&self, link: &str) -> Result<Vec<u16>, Failure> {
        let raw = &self.raw;
        let request = Request::ReadRaw {
            link: link.to_owned(),
            unit_id: raw.unit,
            table: raw.table.word(),
            address: raw.address,
            count: raw.count,
        };
        let mut client = match AgentClient::ask(&self.agent.socket(), &request) {
            Ok(client) => client,
            Err(Failure::Unreachable(_)) => return self.raw_on_configured_link(link),
            Err(other) => return Err(other),
        };
        let line = client.next_line()?.unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(Notice::Registers(words)) => Ok(words),
            Ok(Notice::Error(_) | Notice::Refused(_) | Notice::Missed(_)) | Err(_) => Err(refusal(&line)),
        }
    }

    fn raw_on_configured_link(&self, link: &str) -> Result<Vec<u16>, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let names: Vec<&str> = config.links.iter().map(|link| link.name.as_str()).collect();
        let unknown = Failure::Refused(format!("no link {link:?}; links are {}", names.join(", ")));
        let found = config.links.iter().find(|other| other.name.as_str() == link).ok_or(unknown)?;
        self.raw_directly(found.endpoint.clone(), found.timeout)
    }

    fn raw_directly(&self, endpoint: Endpoint, timeout: Duration) -> Result<Vec<u16>, Failure> {
        let raw = &self.raw;
        let unit = UnitId::tcp(raw.unit.into());
        let unit = unit.map_err(|error| Failure::Refused(format!("--unit = {}: {error}", raw.unit)))?;
        if matches!(endpoint, Endpoint::Text(_)) {
            return Err(Failure::Refused(PollError::NoRegisters.to_string()));
        }
        runtime()?.block_on(async {
            let failed = |error: PollError| match error {
                PollError::Refused { .. } | PollError::UnitId { .. } => Failure::Refused(error.to_string()),
                other => Failure::Unreachable(format!("{endpoint}, unit {unit}: {other}")),
            };
            let mut client = Client::connect(&endpoint, timeout).await.map_err(failed)?;
            let mut words = Vec::new();
            client.read(unit, raw.table.table(), raw.address, raw.count, &mut words).await.map_err(failed)?;
            Ok(words)
        })
    }
}

impl RawRange {
    /// What --tcp or --serial says.
    fn endpoint(&self) -> Option<Endpoint> {
        let parity = match self.parity {
            ParityWord::None => Parity::None,
            ParityWord::Even => Parity::Even,
            ParityWord::Odd => Parity::Odd,
        };
        let serial = self.serial.as_ref().map(|port| {
            let (port, baud_rate, stop_bits) = (port.clone(), self.baud, self.stop_bits);
            Endpoint::Rtu(SerialSettings { port, baud_rate, parity, data_bits: 8, stop_bits })
        });
        self.tcp.clone().or(serial)
    }

    fn as_json(&self, words: &[u16]) -> serde_json::Value {
        let values = if self.table.table().holds_bits() { "bits" } else { "registers" };
        serde_json::json!({ "unit_id": self.unit, "table": self.table.word(), "address": self.address, values: words })
    }

    /// One line for each; for a register also what it would be together with the next one, high word first.
    fn write(&self, out: &mut impl Write, words: &[u16]) -> std::io::Result<()> {
        let address = |offset: usize| (usize::from(self.address) + offset).to_string();
        if self.table.table().holds_bits() {
            let mut table = Table::new(["address", "bit"]);
            words.iter().enumerate().for_each(|(offset, bit)| table.row([address(offset), bit.to_string()]));
            return table.write(out, 0);
        }
        let mut table = Table::new(["address", "hex", "u16", "i16", "u32", "f32"]);
        for (offset, word) in words.iter().enumerate() {
            let pair = words.get(offset + 1).map(|next| u32::from(*word) << 16 | u32::from(*next));
            let (hex, signed) = (format!("{word:04x}"), word.cast_signed().to_string());
            let wide = pair.map(|pair| pair.to_string()).unwrap_or_default();
            let single = pair.map(|pair| format!("{:?}", f32::from_bits(pair))).unwrap_or_default();
            table.row([address(offset), hex, word.to_string(), signed, wide, single]);
        }
        table.write(out, 0)
    }
}

/// All readings of one device.
fn write_readings(out: &mut impl Write, readings: &[ShownReading]) -> std::io::Result<()> {
    let mut table = Table::new(["time", "point", "value", "unit", "quality"]);
    for reading in readings {
        let value = shown_value(&reading.value, reading.state.as_deref());
        let (time, point) = (reading.time.to_string(), reading.point.clone());
        table.styled_row(style(&reading.quality), [time, point, value, reading.unit.clone(), reading.quality.clone()]);
    }
    table.write(out, 0)
}

fn link_of(config: &Config, device: &str) -> Result<(LinkConfig, Name), Failure> {
    for link in &config.links {
        if let Some(found) = link.devices.iter().find(|other| other.name.as_str() == device) {
            return Ok((link.clone(), found.name.clone()));
        }
    }
    let names: Vec<&str> =
        config.links.iter().flat_map(|link| &link.devices).map(|device| device.name.as_str()).collect();
    Err(Failure::Refused(format!("no device {device:?}; devices are {}", names.join(", "))))
}

/// Asks a poller of our own for one reading of every tag. What it polls beside that goes nowhere.
async fn read_once(link: LinkConfig, name: Name, ids: Vec<SeriesId>) -> Result<Vec<Row>, Failure> {
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
            let (poller, handle) =
                Poller::new(link, vec![ids.clone()], clock, cycles).map_err(|error| broken(error.into()))?;
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

fn refusal(line: &str) -> Failure {
    match serde_json::from_str(line) {
        Ok(Notice::Error(error)) => Failure::Unreachable(error),
        Ok(Notice::Refused(error)) => Failure::Refused(error),
        Ok(Notice::Missed(_) | Notice::Registers(_)) | Err(_) => {
            Failure::Unreachable(format!("the agent's answer is not understood: {line}"))
        }
    }
}
