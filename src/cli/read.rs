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
use super::tail::write_reading;
use super::{AgentOption, Exit, Failure, runtime};
use crate::clock::SystemClock;
use crate::config::{self, Config, Endpoint, LinkConfig, Parity, SerialSettings};
use crate::diagnostics::protocol::{Notice, Request, ShownReading};
use crate::diagnostics::socket::shown;
use crate::modbus::client::Client;
use crate::model::{Name, Row, SeriesId, SeriesInfo, UnitId};
use crate::poll::text::TextPoller;
use crate::poll::{LinkHandle, Poller};
use crate::profile::Table;

/// Read one device, or a range of raw registers, now.
///
/// `lineside read press-1` reads all tags of a configured device. `lineside read --link hall-a --unit 1 --table input
/// --address 0 --count 2` reads raw registers on a configured link. With --tcp or --serial no configuration is needed.
#[derive(Debug, Args)]
pub(super) struct Read {
    /// Device of the configuration.
    #[arg(value_name = "DEVICE", required_unless_present_any = ["link", "tcp", "serial"])]
    device: Option<String>,
    #[command(flatten)]
    raw: RawRange,
    /// One JSON object a line.
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
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["device", "serial"])]
    tcp: Option<String>,
    /// Serial port to read raw registers from, without configuration.
    #[arg(long, value_name = "PORT", conflicts_with = "device")]
    serial: Option<PathBuf>,
    /// Bits a second, with --serial.
    #[arg(long, default_value_t = 19_200)]
    baud: u32,
    /// Parity bit, with --serial.
    #[arg(long, value_enum, default_value_t = ParityWord::Even)]
    parity: ParityWord,
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
    /// Longest wait for an answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    timeout: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TableWord {
    Coil,
    Discrete,
    Holding,
    Input,
}

impl TableWord {
    fn table(self) -> Table {
        match self {
            Self::Coil => Table::Coils,
            Self::Discrete => Table::DiscreteInputs,
            Self::Holding => Table::HoldingRegisters,
            Self::Input => Table::InputRegisters,
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
        for reading in &readings {
            let written = match self.json {
                true => serde_json::to_writer(&mut out, reading).map_err(Into::into).and_then(|()| writeln!(out)),
                false => write_reading(&mut out, reading),
            };
            written.map_err(anyhow::Error::from)?;
        }
        let all_good = readings.iter().all(|reading| reading.quality == "good");
        let none_answered = readings.iter().all(|reading| reading.value.is_null());
        match (all_good, none_answered) {
            (true, _) => Ok(Exit::Done),
            (false, true) => Err(Failure::Unreachable(format!("device {device:?} gave no value"))),
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
        let words = match &raw.link {
            Some(link) => self.raw_through_agent(link)?,
            None => self.raw_directly(raw.endpoint()?)?,
        };
        let mut out = anstream::stdout().lock();
        let written = match self.json {
            true => writeln!(out, "{}", serde_json::json!({ "address": raw.address, "registers": words })),
            false => words.iter().enumerate().try_for_each(|(offset, word)| {
                let address = usize::from(raw.address) + offset;
                writeln!(out, "{address:>6}  0x{word:04X}  {word:>6}  {:>7}", word.cast_signed())
            }),
        };
        written.map_err(anyhow::Error::from)?;
        Ok(Exit::Done)
    }

    fn raw_through_agent(&self, link: &str) -> Result<Vec<u16>, Failure> {
        let raw = &self.raw;
        let table = raw.table.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let request = Request::ReadRaw {
            link: link.to_owned(),
            unit_id: raw.unit,
            table,
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
            Ok(Notice::Error(_) | Notice::Missed(_)) | Err(_) => Err(refusal(&line)),
        }
    }

    fn raw_on_configured_link(&self, link: &str) -> Result<Vec<u16>, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let found = config.links.into_iter().find(|other| other.name.as_str() == link);
        let found = found.ok_or_else(|| Failure::Refused(format!("no link {link:?} in the configuration")))?;
        self.raw_directly(found.endpoint)
    }

    fn raw_directly(&self, endpoint: Endpoint) -> Result<Vec<u16>, Failure> {
        let raw = &self.raw;
        let unit = match endpoint {
            Endpoint::Rtu(_) | Endpoint::RtuOverTcp { .. } => UnitId::serial(raw.unit.into()),
            Endpoint::Tcp { .. } | Endpoint::Text(_) => UnitId::tcp(raw.unit.into()),
        };
        let unit = unit.map_err(|error| Failure::Refused(format!("--unit = {}: {error}", raw.unit)))?;
        let timeout = Duration::from_millis(raw.timeout);
        runtime()?.block_on(async {
            let unreachable = |error: crate::modbus::PollError| Failure::Unreachable(error.to_string());
            let mut client = Client::connect(&endpoint, timeout).await.map_err(unreachable)?;
            let mut words = Vec::new();
            client.read(unit, raw.table.table(), raw.address, raw.count, &mut words).await.map_err(unreachable)?;
            Ok(words)
        })
    }
}

impl RawRange {
    fn endpoint(&self) -> Result<Endpoint, Failure> {
        if let Some(address) = &self.tcp {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, "502"));
            let port = port.parse().map_err(|_| Failure::Refused(format!("--tcp = {address}: must be host:port")))?;
            return Ok(Endpoint::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port });
        }
        let parity = match self.parity {
            ParityWord::None => Parity::None,
            ParityWord::Even => Parity::Even,
            ParityWord::Odd => Parity::Odd,
        };
        match &self.serial {
            Some(port) => Ok(Endpoint::Rtu(SerialSettings {
                port: port.clone(),
                baud_rate: self.baud,
                parity,
                data_bits: 8,
                stop_bits: 1,
            })),
            None => Err(Failure::Refused("one of DEVICE, --link, --tcp, --serial is needed".to_owned())),
        }
    }
}

fn link_of(config: &Config, device: &str) -> Result<(LinkConfig, Name), Failure> {
    for link in &config.links {
        if let Some(found) = link.devices.iter().find(|other| other.name.as_str() == device) {
            return Ok((link.clone(), found.name.clone()));
        }
    }
    let names: Vec<&str> =
        config.links.iter().flat_map(|link| &link.devices).map(|device| device.name.as_str()).collect();
    Err(Failure::Refused(format!("no device {device:?}; devices are: {}", names.join(", "))))
}

/// Asks a poller of our own for one reading of every tag. What it polls beside that goes nowhere.
async fn read_once(link: LinkConfig, name: Name, ids: Vec<SeriesId>) -> Result<Vec<Row>, Failure> {
    let (cycles, mut unheard) = mpsc::channel(64);
    let clock = Arc::new(SystemClock::new(false));
    let stop = CancellationToken::new();
    let broken = |error: anyhow::Error| Failure::Broken(error);
    let (handle, polling): (LinkHandle, std::pin::Pin<Box<dyn Future<Output = ()>>>) = match link.endpoint {
        Endpoint::Text(_) => {
            let (poller, handle) =
                TextPoller::new(link, vec![ids], clock, cycles).map_err(|error| broken(error.into()))?;
            (handle, Box::pin(poller.run(stop.clone())))
        }
        Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } | Endpoint::Rtu(_) => {
            let (poller, handle) = Poller::new(link, vec![ids], clock, cycles).map_err(|error| broken(error.into()))?;
            (handle, Box::pin(poller.run(stop.clone())))
        }
    };
    let drain = async { while unheard.recv().await.is_some() {} };
    tokio::select! {
        rows = handle.read_device(&name) => rows.map_err(|error| Failure::Unreachable(error.to_string())),
        () = polling => Err(Failure::Unreachable("the link closed".to_owned())),
        () = drain => Err(Failure::Unreachable("the link closed".to_owned())),
    }
}

fn refusal(line: &str) -> Failure {
    match serde_json::from_str(line) {
        Ok(Notice::Error(error)) => Failure::Unreachable(error),
        Ok(Notice::Missed(_) | Notice::Registers(_)) | Err(_) => {
            Failure::Unreachable(format!("the agent's answer is not understood: {line}"))
        }
    }
}
