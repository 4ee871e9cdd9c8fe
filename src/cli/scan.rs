//! `lineside scan`: who is there? Devices on a serial line or in a network, identified, as blocks for the configuration.

mod blocks;
mod look;
mod places;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use super::identify::Shown;
use super::progress::Progress;
use super::table::{Table, span, wrapped};
use super::target::{Accepting, BAUD_RATES, ParityWord, connect, profiles, time};
use super::{AgentOption, Exit, Failure, loan, plural, runtime, write_json, written};
use crate::config::{Accepted, Endpoint};
use crate::modbus::PollError;
use crate::model::UnitId;
use crate::profile::Profile;
use look::{Lender, Looked, Scanned, Unclear, look, scan_host};
use places::{hosts, serial_settings, units};

/// Hosts that are looked at together.
const HOSTS_AT_ONCE: usize = 64;
/// Of more hosts that take no connection only the number is told.
const NAMED_MOST: usize = 8;

/// Find devices: on a serial line by baud rate, parity and unit id, in a network by host and unit id.
///
/// `lineside scan --serial /dev/ttyUSB0` tries the usual settings one after the other, the likeliest first, and stops at
/// the first at which a device answers. `lineside scan --tcp 10.0.0.0/24` asks every host; `--units 1-247` all devices
/// behind a gateway. What is found is identified and printed as blocks for the configuration. Only reads: one register,
/// then what the profiles look at. A port or host that the running agent uses is borrowed: the agent polls nothing on that
/// link until it has been looked at.
///
/// Exit code 1 when nothing is found, 3 when a port or every host is unreachable.
#[derive(Debug, Args)]
#[command(override_usage = "lineside scan [OPTIONS] --serial <PORT>\n       \
                            lineside scan [OPTIONS] --tcp <HOST>...")]
pub(super) struct Scan {
    /// Serial port.
    #[arg(long, value_name = "PORT", required_unless_present = "tcp", conflicts_with = "tcp")]
    serial: Option<PathBuf>,
    /// Hosts, addresses or networks, such as 10.0.0.5, meter.local:1502 or 10.0.0.0/24.
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',')]
    tcp: Vec<String>,
    /// Bits a second, with --serial; the usual ones unless said otherwise.
    #[arg(long, value_delimiter = ',', conflicts_with = "tcp", value_parser = clap::value_parser!(u32).range(BAUD_RATES))]
    baud: Vec<u32>,
    /// Parity, with --serial; none and even unless said otherwise.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "tcp")]
    parity: Vec<ParityWord>,
    /// Unit ids, such as 1-20,100; 1-247 on a serial line and 1,255 in a network unless said otherwise.
    #[arg(long, value_name = "UNITS")]
    units: Option<String>,
    /// Longest wait for an answer.
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// Go on with other settings of the line when a device was found.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    accepting: Accepting,
    /// Directory of your own profiles.
    #[arg(long, value_name = "DIRECTORY")]
    profiles: Option<PathBuf>,
    /// Show every frame, on standard error.
    #[arg(long)]
    trace: bool,
    /// One JSON array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

/// One device that answers.
#[derive(Serialize)]
struct Discovery {
    #[serde(serialize_with = "as_text")]
    endpoint: Endpoint,
    unit_id: u8,
    #[serde(flatten)]
    shown: Shown,
}

fn as_text<S: serde::Serializer>(endpoint: &Endpoint, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(endpoint)
}

/// What a scan looks for, and how.
struct Search {
    units: Vec<UnitId>,
    timeout: Duration,
    profiles: Vec<Arc<Profile>>,
    accepted: Accepted,
    traced: bool,
}

impl Scan {
    pub fn run(self) -> Result<Exit, Failure> {
        let Scanned { found, unclear } = runtime()?.block_on(async {
            match &self.serial {
                Some(port) => self.scan_line(port).await,
                None => self.scan_network().await,
            }
        })?;
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => {
                unclear.iter().for_each(|sentence| eprintln!("{sentence}"));
                write_json(&mut out, &found)
            }
            false => write(&mut out, &found, &unclear),
        })?;
        Ok(if found.is_empty() { Exit::Findings } else { Exit::Done })
    }

    fn search(&self, all_units: &str, timeout: Duration) -> Result<Search, Failure> {
        Ok(Search {
            units: units(self.units.as_deref().unwrap_or(all_units)).map_err(Failure::Refused)?,
            timeout: self.timeout.unwrap_or(timeout),
            profiles: profiles(self.profiles.as_ref())?,
            accepted: self.accepting.accepted(),
            traced: self.trace,
        })
    }

    async fn scan_line(&self, port: &std::path::Path) -> Result<Scanned, Failure> {
        let search = self.search("1-247", Duration::from_millis(100))?;
        let settings = serial_settings(port, &self.baud, &self.parity);
        let each = |settings: &crate::config::SerialSettings| {
            // Request, the wait for an answer, and the silence between frames.
            (search.timeout + settings.character_time() * 12) * search.units.len() as u32
        };
        let total: Duration = settings.iter().map(each).sum();
        eprintln!(
            "{} x {} unit ids on {}: at most {}, and the time of those that answer",
            plural(settings.len(), "setting"),
            search.units.len(),
            port.display(),
            span(total)
        );
        let first = settings.first().map(|settings| Endpoint::Rtu(settings.clone()));
        let _loan = first.map(|endpoint| loan::of_endpoint(&self.agent, &endpoint)).transpose()?;
        let mut progress = Progress::new(settings.len() * search.units.len());
        let (mut found, mut unclear) = (Vec::new(), Vec::new());
        for settings in settings {
            let endpoint = Endpoint::Rtu(settings);
            let unreachable = |error: PollError| Failure::Unreachable(format!("{endpoint}: {error}"));
            let mut client =
                connect(&endpoint, search.timeout, search.accepted, search.traced).await.map_err(unreachable)?;
            let mut heard = Unclear::default();
            for unit in &search.units {
                progress.step(&format!("{endpoint} unit {unit}"), found.len());
                match look(&mut client, *unit, &search).await.map_err(unreachable)? {
                    Looked::Answers(shown) => {
                        found.push(Discovery { endpoint: endpoint.clone(), unit_id: unit.get(), shown });
                    }
                    Looked::Unclear(error) => heard.add(*unit, &error),
                    Looked::Silent => {}
                }
            }
            unclear.extend(heard.into_sentence(&endpoint));
            if !found.is_empty() && !self.all {
                break;
            }
        }
        progress.finish();
        // At another baud rate everybody who answers is not understood.
        let unclear = if found.is_empty() { unclear } else { Vec::new() };
        Ok(Scanned { found, unclear })
    }

    async fn scan_network(&self) -> Result<Scanned, Failure> {
        let search = Arc::new(self.search("1,255", Duration::from_millis(500))?);
        let hosts = hosts(&self.tcp).map_err(Failure::Refused)?;
        eprintln!(
            "{} x {} unit ids: at most {}, and the time of those that answer",
            plural(hosts.len(), "host"),
            search.units.len(),
            span(
                (search.timeout * search.units.len() as u32 + Duration::from_secs(2))
                    * hosts.len().div_ceil(HOSTS_AT_ONCE) as u32
            )
        );
        let lender = Arc::new(Lender::new(self.agent.socket_quietly()));
        let mut progress = Progress::new(hosts.len());
        let mut waiting = hosts.into_iter().enumerate();
        let mut running = JoinSet::new();
        let (mut found, mut unclear, mut unreached, mut reached) = (Vec::new(), Vec::new(), Vec::new(), 0_usize);
        loop {
            while running.len() < HOSTS_AT_ONCE
                && let Some((order, endpoint)) = waiting.next()
            {
                let (search, lender) = (Arc::clone(&search), Arc::clone(&lender));
                running.spawn(async move { (order, scan_host(&endpoint, &search, &lender).await) });
            }
            let Some(done) = running.join_next().await else { break };
            let (order, devices) = done.map_err(anyhow::Error::from)?;
            match devices {
                Ok(scanned) => {
                    reached += 1;
                    found.extend(scanned.found.into_iter().map(|device| (order, device)));
                    unclear.extend(scanned.unclear.into_iter().map(|sentence| (order, sentence)));
                }
                Err(error) => unreached.push((order, error)),
            }
            progress.step("hosts", found.len());
        }
        progress.finish();
        unreached.sort();
        report_unreached(&unreached, reached);
        if reached == 0 {
            return Err(Failure::Unreachable("no host takes a connection".to_owned()));
        }
        found.sort_by_key(|(order, device)| (*order, device.unit_id));
        unclear.sort();
        Ok(Scanned {
            found: found.into_iter().map(|(_, device)| device).collect(),
            unclear: unclear.into_iter().map(|(_, sentence)| sentence).collect(),
        })
    }
}

/// Which hosts take no connection, on standard error: each of a few by name, as in a list that somebody typed; of a
/// network only how many.
fn report_unreached(unreached: &[(usize, String)], reached: usize) {
    if unreached.len() <= NAMED_MOST {
        unreached.iter().for_each(|(_, error)| eprintln!("{error}"));
    } else {
        eprintln!("{} of {} take no connection", unreached.len(), plural(unreached.len() + reached, "host"));
    }
}

/// Columns of a terminal.
const WIDTH: usize = 80;

/// What was found: a table of those at each endpoint, and the blocks for the configuration.
fn write(out: &mut impl Write, found: &[Discovery], unclear: &[String]) -> io::Result<()> {
    for sentence in unclear {
        wrapped(sentence, WIDTH - 2).iter().try_for_each(|line| writeln!(out, "# {line}"))?;
    }
    if found.is_empty() {
        let what = if unclear.is_empty() { "nothing answers" } else { "nothing answers that is understood" };
        return writeln!(out, "# {what}");
    }
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for devices in found.chunk_by(|one, other| one.endpoint == other.endpoint) {
        let Some(first) = devices.first() else { continue };
        writeln!(out, "# {}", first.endpoint)?;
        let mut table = Table::new(["# unit", "vendor", "product", "version", "profile"]);
        for Discovery { unit_id, shown, .. } in devices {
            let profile = shown.matches.first().map_or_else(|| "-".to_owned(), |found| found.profile.clone());
            let (vendor, product, version) = (or_none(&shown.vendor), or_none(&shown.product), or_none(&shown.version));
            table.row([format!("# {unit_id}"), vendor, product, version, profile]);
        }
        table.write_within(out, WIDTH)?;
    }
    write!(out, "{}", blocks::blocks(found))
}
