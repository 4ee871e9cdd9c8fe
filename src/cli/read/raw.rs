//! Raw registers: a range that is named, or those behind the tags of a device.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::Style;
use clap::Args;

use super::super::client::AgentClient;
use super::super::table::Table;
use super::super::target::{TableWord, Target, connect, failed, register_address, unit_id};
use super::super::{Exit, Failure, loan, runtime, written};
use super::{Read, link_of, refusal};
use crate::agent::learned;
use crate::config::{self, Accepted, Endpoint};
use crate::diagnostics::protocol::{Notice, Request};
use crate::modbus::PollError;
use crate::modbus::plan::{self, BlockPoint, PlanPoint, Terms};
use crate::modbus::timing;
use crate::model::Fault;
use crate::profile::Protocol;

/// Which raw registers.
#[derive(Debug, Args)]
pub(super) struct RawRange {
    /// Link of the configuration to read raw registers on.
    #[arg(long, value_name = "LINK", conflicts_with = "endpoint")]
    link: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Unit id: 1 to 247 on a line; with TCP also 0 and 255.
    #[arg(long, conflicts_with = "device", default_value_t = 1)]
    unit: u8,
    /// Which table.
    #[arg(long, conflicts_with = "device", value_enum, default_value_t = TableWord::Holding)]
    table: TableWord,
    /// First protocol address, from 0; also as 0x10.
    #[arg(long, conflicts_with = "device", value_parser = register_address, default_value_t = 0)]
    address: u16,
    /// Registers (at most 125) or bits (at most 2000).
    #[arg(long, conflicts_with = "device", default_value_t = 1)]
    count: u16,
}

/// Where some registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    unit: u8,
    table: TableWord,
    address: u16,
    count: u16,
}

/// How to get there when no agent runs.
struct Direct {
    endpoint: Endpoint,
    timeout: Duration,
    accepted: Accepted,
}

impl Read {
    pub(super) fn read_raw(&self, before: &mut Vec<String>) -> Result<Exit, Failure> {
        let RawRange { link, target, unit, table, address, count } = &self.range;
        let range = Range { unit: *unit, table: *table, address: *address, count: *count };
        let most = if table.table().holds_bits() { 2000 } else { 125 };
        if *count == 0 || *count > most {
            return Err(Failure::Refused(format!("--count = {count}: must be 1 to {most} for this table")));
        }
        let words = match (link, target.endpoint()) {
            (Some(link), _) => self.through_agent(link, range)?,
            (None, Some(endpoint)) => {
                let _loan = loan::of_endpoint(&self.agent, &endpoint)?;
                let (timeout, accepted) = (target.timeout, target.accepting.accepted());
                self.directly(&Direct { endpoint, timeout, accepted }, range)?
            }
            // The arguments were refused without any of these.
            (None, None) => {
                return Err(Failure::Refused("one of DEVICE, --link, --tcp, --serial is needed".to_owned()));
            }
        };
        let mut out = anstream::stdout().lock();
        written(self.begin_again(&mut out))?;
        written(match self.json {
            true => writeln!(out, "{}", range.as_json(&words)),
            false => self.write(&mut out, range, &words, before),
        })?;
        Ok(Exit::Done)
    }

    /// The registers behind the tags of a device, by the first map of its profile.
    pub(super) fn read_device_raw(&self, device: &str, before: &mut Vec<String>) -> Result<Exit, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let (link, name) = link_of(&config, device)?;
        let found = link.devices.iter().find(|other| other.name == name);
        let modbus = found.and_then(|device| match &device.profile.protocol {
            Protocol::Modbus(modbus) => Some((device, modbus)),
            Protocol::Text(_) => None,
        });
        let Some((device, modbus)) = modbus else { return Err(Failure::Refused(PollError::NoRegisters.to_string())) };
        let wanted: Vec<PlanPoint> =
            device.tags.iter().map(|tag| PlanPoint { point: tag.point, interval: Duration::ZERO }).collect();
        let cost = timing::read_cost(&link.endpoint, modbus.pacing);
        let known = learned::load(&learned::place(&config.store.path));
        let lessons = known.get(name.as_str()).and_then(|known| known.known_of(device)).map(|(lessons, _)| lessons);
        let fewest = Terms::fewest(modbus.limits);
        let terms = Terms { cost, lessons: lessons.unwrap_or(fewest.lessons), ..fewest };
        let plan = plan::plan(&modbus.points, &wanted, &terms).map_err(|error| Failure::Refused(error.to_string()))?;
        let unit = device.unit.map_or(1, |unit| unit.get());
        let (mut silent, mut found) = (None, Vec::new());
        for block in plan.groups.iter().flat_map(|group| &group.blocks) {
            let range = Range { unit, table: TableWord::of(block.table), address: block.address, count: block.count };
            let parts = || {
                let part = |point: &BlockPoint| Range {
                    address: block.address + point.offset,
                    count: modbus.points[point.point].encoding.width(),
                    ..range
                };
                block.points.iter().map(part).collect()
            };
            found.extend(self.read_in_parts(link.name.as_str(), range, parts, &mut silent)?);
        }
        let mut out = anstream::stdout().lock();
        written(self.begin_again(&mut out))?;
        let mut seen = Vec::new();
        for (index, (range, words)) in found.into_iter().enumerate() {
            let mut of_block: Vec<String> = before.get(index).cloned().into_iter().collect();
            written(match self.json {
                true => writeln!(out, "{}", range.as_json(&words)),
                false => self.write_titled(&mut out, range, &words, &mut of_block),
            })?;
            seen.push(of_block.join(" "));
        }
        let is_heard = !seen.is_empty();
        *before = seen;
        match silent {
            None => Ok(Exit::Done),
            Some(_) if is_heard => Ok(Exit::Findings),
            Some(reason) => Err(Failure::Unreachable(reason)),
        }
    }

    /// The registers of a block; of one that is refused those of its parts, its points, that are not. The last reason why some
    /// are missing goes to `silent`, and each to standard error.
    fn read_in_parts(
        &self,
        link: &str,
        whole: Range,
        parts: impl Fn() -> Vec<Range>,
        silent: &mut Option<String>,
    ) -> Result<Vec<(Range, Vec<u16>)>, Failure> {
        let mut open = vec![whole];
        let mut found: Vec<(Range, Vec<u16>)> = Vec::new();
        while let Some(range) = open.pop() {
            let reason = match self.through_agent(link, range) {
                Ok(words) => {
                    match found.last_mut() {
                        Some((last, known))
                            if u32::from(last.address) + u32::from(last.count) == u32::from(range.address) =>
                        {
                            last.count += range.count;
                            known.extend(words);
                        }
                        Some(_) | None => found.push((range, words)),
                    }
                    continue;
                }
                Err(Failure::Unreachable(reason)) => reason,
                Err(other) => return Err(other),
            };
            let is_refused = [2, 3].iter().any(|code| reason.contains(&Fault::Exception(*code).to_string()));
            let smaller = if is_refused && range == whole { parts() } else { Vec::new() };
            if smaller.len() > 1 {
                open.extend(smaller.into_iter().rev());
                continue;
            }
            eprintln!("{} {} from {}: {reason}", range.count, range.table.word(), range.address);
            *silent = Some(reason);
        }
        Ok(found)
    }

    fn write_titled(
        &self,
        out: &mut impl Write,
        range: Range,
        words: &[u16],
        before: &mut Vec<String>,
    ) -> io::Result<()> {
        writeln!(out, "{} {} from {}", range.count, range.table.word(), range.address)?;
        let mut was: Vec<String> = before.iter().flat_map(|line| line.split(' ').map(str::to_owned)).collect();
        self.write(out, range, words, &mut was)?;
        *before = was;
        Ok(())
    }

    fn through_agent(&self, link: &str, range: Range) -> Result<Vec<u16>, Failure> {
        let Range { unit, table, address, count } = range;
        if self.trace {
            let _loan = loan::of_link(&self.agent, link)?;
            return self.on_configured_link(link, range);
        }
        let request = Request::ReadRaw { link: link.to_owned(), unit_id: unit, table: table.word(), address, count };
        let mut client = match AgentClient::ask(&self.agent.socket(), &request) {
            Ok(client) => client,
            Err(Failure::Unreachable(_)) => return self.on_configured_link(link, range),
            Err(other) => return Err(other),
        };
        let line = client.next_line()?.unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(Notice::Registers(words)) => Ok(words),
            Ok(_) | Err(_) => Err(refusal(&line)),
        }
    }

    fn on_configured_link(&self, link: &str, range: Range) -> Result<Vec<u16>, Failure> {
        let config = config::load(&self.agent.config.config).map_err(|error| Failure::Refused(error.to_string()))?;
        let names: Vec<&str> = config.links.iter().map(|link| link.name.as_str()).collect();
        let unknown = Failure::Refused(format!("no link {link:?}; links are {}", names.join(", ")));
        let found = config.links.iter().find(|other| other.name.as_str() == link).ok_or(unknown)?;
        let direct = Direct { endpoint: found.endpoint.clone(), timeout: found.timeout, accepted: found.accepted };
        self.directly(&direct, range)
    }

    fn directly(&self, direct: &Direct, range: Range) -> Result<Vec<u16>, Failure> {
        let Direct { endpoint, timeout, accepted } = direct;
        let unit = unit_id(range.unit)?;
        if matches!(endpoint, Endpoint::Text(_)) {
            return Err(Failure::Refused(PollError::NoRegisters.to_string()));
        }
        let words = runtime()?.block_on(async {
            let mut client = connect(endpoint, *timeout, *accepted, self.trace).await?;
            let mut words = Vec::new();
            let read = client.read(unit, range.table.table(), range.address, range.count, &mut words).await;
            if self.trace {
                client.hear_out().await;
            }
            client.close().await;
            read.map(|_| words)
        });
        words.map_err(|error: PollError| failed(endpoint, unit, &error))
    }

    /// One line for each; for a register also what it would be together with the next one, high word first. When
    /// watching, those that are not what they were `before` stand out.
    fn write(&self, out: &mut impl Write, range: Range, words: &[u16], before: &mut Vec<String>) -> io::Result<()> {
        let address = |offset: usize| (usize::from(range.address) + offset).to_string();
        let now: Vec<String> = words.iter().map(|word| format!("{word:04x}")).collect();
        let style = |offset: usize| match before.get(offset) {
            Some(before) if self.watch.is_some() && *before != now[offset] => Style::new().bold(),
            Some(_) | None => Style::new(),
        };
        let table = match range.table.table().holds_bits() {
            true => {
                let mut table = Table::new(["address", "bit"]);
                let rows = words.iter().enumerate();
                rows.for_each(|(offset, bit)| table.styled_row(style(offset), [address(offset), bit.to_string()]));
                table
            }
            false => {
                let mut table = Table::new(["address", "hex", "u16", "i16", "u32", "f32"]);
                for (offset, word) in words.iter().enumerate() {
                    let pair = words.get(offset + 1).map(|next| u32::from(*word) << 16 | u32::from(*next));
                    let (hex, signed) = (now[offset].clone(), word.cast_signed().to_string());
                    let wide = pair.map(|pair| pair.to_string()).unwrap_or_default();
                    let single = pair.map(|pair| format!("{:?}", f32::from_bits(pair))).unwrap_or_default();
                    table.styled_row(style(offset), [address(offset), hex, word.to_string(), signed, wide, single]);
                }
                table
            }
        };
        *before = now;
        table.write(out, 0)
    }
}

impl Range {
    fn as_json(self, words: &[u16]) -> serde_json::Value {
        let values = if self.table.table().holds_bits() { "bits" } else { "registers" };
        serde_json::json!({ "unit_id": self.unit, "table": self.table.word(), "address": self.address, values: words })
    }
}
