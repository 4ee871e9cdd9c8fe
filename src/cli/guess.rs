//! `lineside guess`: where is the number that the display shows?

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::progress::Progress;
use super::table::Table;
use super::target::{TableWord, Target, connect, failed, register_address, unit_id};
use super::{AgentOption, Exit, Failure, loan, runtime, write_json, written};
use crate::config::Endpoint;
use crate::modbus::PollError;
use crate::modbus::client::Client;
use crate::modbus::exception::{Treatment, treatment};
use crate::modbus::guess::{Guess, Shown, guess};
use crate::model::UnitId;
use crate::profile::{ByteOrder, WordOrder, encoding_name};

/// Registers asked for at once; fewer where the device refuses.
const AT_ONCE: u16 = 60;
/// Ways to read it that are shown; `--json` has all.
const SHOWN: usize = 15;

/// Find the register behind a number: given what the display shows, propose address, type, word order and scale.
///
/// `lineside guess 231.4 --tcp 10.0.0.5 --unit 1 --table input --from 0 --to 199` reads the range and tries every way to
/// read it. Addresses that the device does not have are passed over. Best while the number stands still; a second number
/// from the same device tells chance from truth. Nothing is written.
///
/// Exit code 1 when nothing fits, 3 when the device cannot be reached.
#[derive(Debug, Args)]
pub(super) struct GuessCommand {
    /// What the display shows, with all its decimals, such as 231.4.
    #[arg(value_name = "NUMBER", allow_negative_numbers = true)]
    shown: String,
    #[command(flatten)]
    target: Target,
    /// Unit id: 1 to 247 on a line; with TCP also 0 and 255.
    #[arg(long, default_value_t = 1)]
    unit: u8,
    /// Which table: holding or input.
    #[arg(long, value_enum, default_value_t = TableWord::Holding)]
    table: TableWord,
    /// First protocol address, from 0; also as 0x10.
    #[arg(long, value_name = "ADDRESS", value_parser = register_address, default_value_t = 0)]
    from: u16,
    /// Last protocol address.
    #[arg(long, value_name = "ADDRESS", value_parser = register_address, default_value_t = 199)]
    to: u16,
    /// How far from the number still counts; half of its last digit unless said otherwise.
    #[arg(long, value_name = "NUMBER", value_parser = tolerance, allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// Show every frame, on standard error.
    #[arg(long)]
    trace: bool,
    /// One JSON array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

/// One way to read it, as shown.
#[derive(Serialize)]
struct Proposal {
    address: u16,
    encoding: &'static str,
    word_order: Option<&'static str>,
    scale: f64,
    value: f64,
    point: String,
}

impl GuessCommand {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut shown = Shown::parse(&self.shown)
            .ok_or_else(|| Failure::Refused(format!("{}: must be a number such as 231.4", self.shown)))?;
        shown.tolerance = self.tolerance.unwrap_or(shown.tolerance);
        if shown.value == 0.0 {
            return Err(Failure::Refused(
                "0 is found wherever nothing is: wait until the display shows something".to_owned(),
            ));
        }
        if self.table.table().holds_bits() || self.from > self.to {
            return Err(Failure::Refused("--table must be holding or input, and --from no more than --to".to_owned()));
        }
        let endpoint = self.target.endpoint();
        let endpoint =
            endpoint.ok_or_else(|| Failure::Refused("one of --tcp, --rtu-over-tcp, --serial is needed".to_owned()))?;
        let unit = unit_id(self.unit)?;
        let _loan = loan::of_endpoint(&self.agent, &endpoint)?;
        let runs = runtime()?.block_on(self.read_range(&endpoint, unit))?;
        let registers: usize = runs.iter().map(|(_, words)| words.len()).sum();
        let found: Vec<Proposal> = guess(&runs, shown).iter().map(|guess| self.proposal(guess)).collect();
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &found),
            false => self.write(&mut out, &found, registers),
        })?;
        Ok(if found.is_empty() { Exit::Findings } else { Exit::Done })
    }

    /// All registers of the range that the device has, as runs of neighbours.
    async fn read_range(&self, endpoint: &Endpoint, unit: UnitId) -> Result<Vec<(u16, Vec<u16>)>, Failure> {
        let unreachable = |error: PollError| failed(endpoint, unit, &error);
        let mut client = connect(endpoint, self.target.timeout, self.target.accepting.accepted(), self.trace)
            .await
            .map_err(unreachable)?;
        let mut runs: Vec<(u16, Vec<u16>)> = Vec::new();
        // What is still to be asked, the lowest last.
        let mut open: Vec<(u32, u32)> = Vec::new();
        let (mut from, end) = (u32::from(self.from), u32::from(self.to) + 1);
        while from < end {
            let until = end.min(from + u32::from(AT_ONCE));
            open.insert(0, (from, until));
            from = until;
        }
        let mut words = Vec::new();
        let mut progress = Progress::new(usize::from(self.to - self.from) + 1);
        while let Some((from, until)) = open.pop() {
            progress.reach((from - u32::from(self.from)) as usize, &format!("{} {from}", self.table.word()));
            match self.read_once(&mut client, unit, from, until, &mut words).await {
                Ok(()) => {
                    let address = u16::try_from(from).unwrap_or(u16::MAX);
                    match runs.last_mut() {
                        Some((first, run)) if u32::from(*first) + run.len() as u32 == from => run.append(&mut words),
                        Some(_) | None => runs.push((address, std::mem::take(&mut words))),
                    }
                }
                Err(PollError::Exception(code)) if matches!(treatment(code), Treatment::Divide) => {
                    let middle = u32::midpoint(from, until);
                    if until - from > 1 {
                        open.extend([(middle, until), (from, middle)]);
                    }
                }
                Err(error) => return Err(unreachable(error)),
            }
        }
        progress.finish();
        client.close().await;
        Ok(runs)
    }

    async fn read_once(
        &self,
        client: &mut Client,
        unit: UnitId,
        from: u32,
        until: u32,
        words: &mut Vec<u16>,
    ) -> Result<(), PollError> {
        let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let mut outcome = Ok(());
        // A damaged answer is asked for once more.
        for _ in 0..2 {
            let read = client.read(unit, self.table.table(), narrow(from), narrow(until - from), words).await;
            outcome = read.map(|_| ());
            if !outcome.as_ref().is_err_and(PollError::is_bad_frame) {
                break;
            }
        }
        outcome
    }

    fn proposal(&self, guess: &Guess) -> Proposal {
        let encoding = encoding_name(guess.encoding);
        let word_order = (guess.encoding.width() > 1).then_some(match guess.word_order {
            WordOrder::HighFirst => "high-first",
            WordOrder::LowFirst => "low-first",
        });
        let mut point = format!(
            "{{ name = \"value_{0}\", table = \"{1}\", address = {0}, encoding = \"{encoding}\"",
            guess.address,
            self.table.word()
        );
        if word_order == Some("low-first") {
            point += ", word_order = \"low-first\"";
        }
        if guess.byte_order == ByteOrder::LowFirst {
            point += ", byte_order = \"low-first\"";
        }
        if guess.scale != 1.0 {
            point += &format!(", scale = {}", guess.scale);
        }
        point += " }";
        Proposal { address: guess.address, encoding, word_order, scale: guess.scale, value: guess.value, point }
    }

    fn write(&self, out: &mut impl Write, found: &[Proposal], registers: usize) -> io::Result<()> {
        let (table, from, to) = (self.table.word(), self.from, self.to);
        if found.is_empty() {
            return writeln!(
                out,
                "nothing among {registers} {table} registers from {from} to {to} reads as {}; a number that moves needs \
                 --tolerance, such as a hundredth of it",
                self.shown
            );
        }
        let mut shown = Table::new(["address", "type", "word order", "scale", "reads", "point of a profile"]);
        for one in found.iter().take(SHOWN) {
            let order = one.word_order.unwrap_or("-").to_owned();
            let (address, scale, value) = (one.address.to_string(), one.scale.to_string(), one.value.to_string());
            shown.row([address, one.encoding.to_owned(), order, scale, value, one.point.clone()]);
        }
        shown.write(out, 0)?;
        let more = found.len().saturating_sub(SHOWN);
        if more > 0 { writeln!(out, "{more} more, less likely") } else { Ok(()) }
    }
}

/// How far a number may be from what is shown.
fn tolerance(text: &str) -> Result<f64, &'static str> {
    let tolerance = text.parse().ok().filter(|tolerance: &f64| tolerance.is_finite() && *tolerance >= 0.0);
    tolerance.ok_or("must be a number, 0 or more, such as 0.05")
}
