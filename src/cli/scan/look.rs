//! Looking at one unit id, and at all of one host.

use std::path::PathBuf;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::super::identify::Shown;
use super::super::loan;
use super::super::target::connect;
use super::{Discovery, Search};
use crate::config::Endpoint;
use crate::modbus::PollError;
use crate::modbus::client::Client;
use crate::modbus::identify::{Unit, survey};
use crate::model::UnitId;
use crate::profile::Table;

/// Unit ids that are named; more are counted.
const NAMED_MOST: usize = 5;

/// What a scan has found.
#[derive(Default)]
pub(super) struct Scanned {
    pub(super) found: Vec<Discovery>,
    /// Where something answers that is not understood: a sentence for each place.
    pub(super) unclear: Vec<String>,
}

/// What became of asking one unit id.
pub(super) enum Looked {
    Answers(Shown),
    /// Bytes came that are no answer.
    Unclear(PollError),
    Silent,
}

/// Unit ids of one place to which something came that is not understood.
#[derive(Default)]
pub(super) struct Unclear {
    units: Vec<UnitId>,
    reason: String,
}

impl Unclear {
    pub(super) fn add(&mut self, unit: UnitId, error: &PollError) {
        if self.units.is_empty() {
            self.reason = error.to_string();
        }
        self.units.push(unit);
    }

    /// `something answers at rtu ttyUSB0 9600 8N1 to unit ids 1, 2 and 5 more, but is not understood: ...`.
    pub(super) fn into_sentence(self, endpoint: &Endpoint) -> Option<String> {
        let Self { units, reason } = self;
        let named: Vec<String> = units.iter().take(NAMED_MOST).map(ToString::to_string).collect();
        let more = units.len().saturating_sub(NAMED_MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (ids, named) = (if units.len() == 1 { "unit id" } else { "unit ids" }, named.join(", "));
        (!units.is_empty())
            .then(|| format!("something answers at {endpoint} to {ids} {named}{more}, but is not understood: {reason}"))
    }
}

/// Links that the agent lends to one scan at the same time: its socket serves others, too.
const LOANS_MOST: usize = 8;

/// Borrows hosts of the running agent.
pub(super) struct Lender {
    socket: PathBuf,
    loans: Semaphore,
}

impl Lender {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, loans: Semaphore::new(LOANS_MOST) }
    }
}

/// All devices of one host, which is borrowed where the running agent uses it.
///
/// # Errors
///
/// Why it cannot be reached.
pub(super) async fn scan_host(endpoint: &Endpoint, search: &Search, lender: &Lender) -> Result<Scanned, String> {
    let mut place = lender.loans.acquire().await.ok();
    let (socket, wanted) = (lender.socket.clone(), endpoint.clone());
    let loan = match spawn_blocking(move || loan::of_agent_at(&socket, &wanted)).await {
        Ok(Ok(loan)) => loan,
        Ok(Err(reason)) => return Err(format!("{endpoint}: {reason}")),
        Err(error) => return Err(format!("{endpoint}: {error}")),
    };
    if loan.is_none() {
        place = None;
    }
    let scanned = scan_units(endpoint, search).await.map_err(|error| format!("{endpoint}: {error}"));
    drop((loan, place));
    scanned
}

/// All devices of one host. A host that is lost meanwhile has no more.
///
/// # Errors
///
/// When it takes no connection.
async fn scan_units(endpoint: &Endpoint, search: &Search) -> Result<Scanned, PollError> {
    let mut client = connect(endpoint, search.timeout, search.accepted, search.traced).await?;
    let mut found: Vec<Discovery> = Vec::new();
    let mut unclear = Unclear::default();
    for unit in &search.units {
        match look(&mut client, *unit, search).await {
            Ok(Looked::Answers(shown)) => {
                found.push(Discovery { endpoint: endpoint.clone(), unit_id: unit.get(), shown });
            }
            Ok(Looked::Unclear(error)) => unclear.add(*unit, &error),
            Ok(Looked::Silent) => {}
            // Some gateways hang up on a unit that is not there.
            Err(error) => {
                if error.is_not_understood() {
                    unclear.add(*unit, &error);
                }
                match connect(endpoint, search.timeout, search.accepted, search.traced).await {
                    Ok(anew) => client = anew,
                    Err(_) => break,
                }
            }
        }
    }
    // A device that looks at no unit id answers to all of them.
    let is_one = found.len() > 1 && found.iter().all(|other| other.shown == found[0].shown);
    if is_one && found.len() == search.units.len() {
        found.truncate(1);
    }
    client.close().await;
    Ok(Scanned { found, unclear: unclear.into_sentence(endpoint).into_iter().collect() })
}

/// Asks one unit for a register, and who it is when it answers. An error ends the connection.
pub(super) async fn look(client: &mut Client, unit: UnitId, search: &Search) -> Result<Looked, PollError> {
    let mut words = Vec::new();
    match client.read(unit, Table::HoldingRegisters, 0, 1, &mut words).await {
        Ok(_) => {}
        Err(error) if error.is_answer() => {}
        Err(error) if error.ends_session() => return Err(error),
        Err(error) if error.is_not_understood() => return Ok(Looked::Unclear(error)),
        Err(_) => return Ok(Looked::Silent),
    }
    match survey(&mut Unit { client, unit }, &search.profiles).await {
        Ok(found) => Ok(Looked::Answers(Shown::from(found))),
        Err(error) if error.ends_session() => Err(error),
        // It has answered once, whatever it says now.
        Err(_) => Ok(Looked::Answers(Shown { vendor: None, product: None, version: None, matches: Vec::new() })),
    }
}
