//! Where a command that needs no configuration finds its device, and the trace of what it says.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use tokio::time::Instant;

use super::Failure;
use crate::config::{Accepted, DEFAULT_PROFILES, Endpoint, Parity, SerialSettings, host_and_port};
use crate::modbus::PollError;
use crate::modbus::client::{Client, OnClose};
use crate::modbus::trace::{FrameLog, TraceLine, Traced};
use crate::model::UnitId;
use crate::profile::{self, Profile, file};
use crate::settings::parse_duration;

/// Where Modbus TCP is spoken unless said otherwise (Modbus Messaging on TCP/IP 1.0b, 4.3.1).
pub(super) const MODBUS_PORT: u16 = 502;

/// What serial ports can be set to; the configuration takes the same.
pub(super) const BAUD_RATES: std::ops::RangeInclusive<i64> = 300..=4_000_000;

/// An endpoint, named without configuration.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Modbus TCP endpoint, without configuration.
    #[arg(long, group = "endpoint", value_name = "HOST[:PORT]", value_parser = tcp_endpoint)]
    pub(super) tcp: Option<Endpoint>,
    /// Gateway that carries RTU frames over TCP unchanged, without configuration.
    #[arg(long, group = "endpoint", value_name = "HOST:PORT", value_parser = rtu_endpoint)]
    pub(super) rtu_over_tcp: Option<Endpoint>,
    /// Serial port, without configuration.
    #[arg(long, group = "endpoint", value_name = "PORT")]
    pub(super) serial: Option<PathBuf>,
    /// Bits a second, with --serial.
    #[arg(long, requires = "serial", conflicts_with_all = ["tcp", "rtu_over_tcp"], default_value_t = 19_200, value_parser = clap::value_parser!(u32).range(BAUD_RATES))]
    pub(super) baud: u32,
    /// Parity bit, with --serial.
    #[arg(long, requires = "serial", conflicts_with_all = ["tcp", "rtu_over_tcp"], value_enum, default_value_t = ParityWord::Even)]
    pub(super) parity: ParityWord,
    /// Stop bits, with --serial.
    #[arg(long, requires = "serial", conflicts_with_all = ["tcp", "rtu_over_tcp"], value_name = "1 or 2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) stop_bits: u8,
    /// Longest wait for an answer, without configuration; with it, the link has its own.
    #[arg(long, requires = "endpoint", value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) accepting: Accepting,
}

/// Answers of a Modbus TCP gateway that are taken although they carry something else than was asked.
#[derive(Debug, Args)]
pub(super) struct Accepting {
    /// Take answers with any transaction id, with --tcp: for a gateway that numbers by itself.
    #[arg(long, requires = "tcp")]
    any_transaction_id: bool,
    /// Take answers with any unit id, with --tcp.
    #[arg(long, requires = "tcp")]
    any_unit_id: bool,
}

impl Accepting {
    pub(super) fn accepted(&self) -> Accepted {
        Accepted { any_transaction: self.any_transaction_id, any_unit: self.any_unit_id }
    }
}

impl Target {
    /// What --tcp, --rtu-over-tcp or --serial says.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        let serial = self.serial.as_ref().map(|port| {
            let (port, baud_rate, stop_bits) = (port.clone(), self.baud, self.stop_bits);
            Endpoint::Rtu(SerialSettings {
                port,
                baud_rate,
                parity: self.parity.parity(),
                data_bits: 8,
                stop_bits,
                rs485: false,
            })
        });
        self.tcp.clone().or(self.rtu_over_tcp.clone()).or(serial)
    }
}

/// Opens an endpoint; with `traced` every frame goes to standard error.
pub(super) async fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
    accepted: Accepted,
    traced: bool,
) -> Result<Client, PollError> {
    let mut client = Client::connect(endpoint, timeout).await?;
    client.accept(accepted);
    // Some devices close the connection after each answer, and take a new one.
    client.on_close(OnClose::AskAgain);
    if traced {
        let log = FrameLog::new(matches!(endpoint, Endpoint::Tcp { .. }));
        let mut shown = ShownFrames { log, begun: Instant::now() };
        client.trace(Box::new(move |traced: Traced<'_>| shown.add(traced)));
    }
    Ok(client)
}

/// The frames of a link, on standard error; what is no frame at the end.
struct ShownFrames {
    log: FrameLog,
    begun: Instant,
}

impl ShownFrames {
    fn add(&mut self, traced: Traced<'_>) {
        self.log.add(traced).iter().for_each(|line| show(line, self.begun.elapsed()));
    }
}

impl Drop for ShownFrames {
    fn drop(&mut self) {
        self.log.finish().iter().for_each(|line| show(line, self.begun.elapsed()));
    }
}

/// One frame, on standard error: when, direction, bytes, meaning; what is wrong in red.
fn show(line: &TraceLine, at: Duration) {
    let style = if line.is_error { AnsiColor::Red.on_default() } else { Style::new() };
    let arrow = if line.is_sent { "->" } else { "<-" };
    let bytes: Vec<String> = line.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // A trace that nobody reads is none.
    let _ = writeln!(
        anstream::stderr(),
        "{:>9.3} s  {arrow}  {style}{}  {}{style:#}",
        at.as_secs_f64(),
        bytes.join(" "),
        line.text
    );
}

/// The unit id that a person gave.
pub(super) fn unit_id(raw: u8) -> Result<UnitId, Failure> {
    UnitId::tcp(raw.into()).map_err(|error| Failure::Refused(format!("--unit = {raw}: {error}")))
}

/// What went wrong with a device that was asked directly.
pub(super) fn failed(endpoint: &Endpoint, unit: UnitId, error: &PollError) -> Failure {
    match error {
        PollError::Refused { .. } | PollError::UnitId { .. } => Failure::Refused(error.to_string()),
        other => Failure::Unreachable(format!("{endpoint}, unit {unit}: {other}")),
    }
}

/// Every profile there is; faults of those that cannot be used go to standard error. A directory that is named has to be
/// there.
pub(super) fn profiles(directory: Option<&PathBuf>) -> Result<Vec<Arc<Profile>>, Failure> {
    if let Some(named) = directory
        && let Err(error) = std::fs::read_dir(named)
    {
        return Err(Failure::Refused(format!("--profiles {}: {error}", named.display())));
    }
    let default = PathBuf::from(DEFAULT_PROFILES);
    let (profiles, faults) = file::all(directory.unwrap_or(&default));
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(profiles.into_iter().map(Arc::new).collect())
}

pub(super) fn tcp_endpoint(address: &str) -> Result<Endpoint, &'static str> {
    let found = host_and_port(address, Some(MODBUS_PORT)).ok_or("must be host or host:port")?;
    Ok(Endpoint::Tcp { host: found.0, port: found.1 })
}

fn rtu_endpoint(address: &str) -> Result<Endpoint, &'static str> {
    let found = host_and_port(address, None).ok_or("must be host:port")?;
    Ok(Endpoint::RtuOverTcp { host: found.0, port: found.1 })
}

/// A wait or an interval that somebody sits in front of.
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    let sensible = Duration::from_millis(1)..=Duration::from_hours(1);
    let time = parse_duration(text).filter(|time| sensible.contains(time));
    time.ok_or("must be a whole number with a unit, from 1ms to 1h, such as 500ms or 2s")
}

/// A protocol address as data sheets print it: 30000, or 0x7530.
pub(super) fn register_address(text: &str) -> Result<u16, &'static str> {
    let hexadecimal = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let address = hexadecimal.map_or_else(|| text.parse(), |digits| u16::from_str_radix(digits, 16));
    address.map_err(|_| "must be a number from 0 to 65535, or from 0x0 to 0xffff")
}

/// The tables, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TableWord {
    /// Bits that can be written, read with function 1.
    Coil,
    /// Bits that can only be read, function 2.
    Discrete,
    /// Registers of 16 bits that can be written, read with function 3.
    Holding,
    /// Registers of 16 bits that can only be read, function 4.
    Input,
    /// Registers of 32 bits, read with function 3.
    Holding32,
    /// Registers of 32 bits, read with function 4.
    Input32,
}

impl TableWord {
    pub(super) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(super) fn table(self) -> profile::Table {
        match self {
            Self::Coil => profile::Table::Coils,
            Self::Discrete => profile::Table::DiscreteInputs,
            Self::Holding => profile::Table::HoldingRegisters,
            Self::Input => profile::Table::InputRegisters,
            Self::Holding32 => profile::Table::HoldingRegisters32,
            Self::Input32 => profile::Table::InputRegisters32,
        }
    }

    pub(super) fn of(table: profile::Table) -> Self {
        match table {
            profile::Table::Coils => Self::Coil,
            profile::Table::DiscreteInputs => Self::Discrete,
            profile::Table::HoldingRegisters => Self::Holding,
            profile::Table::InputRegisters => Self::Input,
            profile::Table::HoldingRegisters32 => Self::Holding32,
            profile::Table::InputRegisters32 => Self::Input32,
        }
    }
}

/// Parity, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ParityWord {
    None,
    Even,
    Odd,
}

impl ParityWord {
    pub(super) fn parity(self) -> Parity {
        match self {
            Self::None => Parity::None,
            Self::Even => Parity::Even,
            Self::Odd => Parity::Odd,
        }
    }
}
