//! Carries out what passed every check.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::answer::Outcome;
use super::bundle;
use super::gate::Genuine;
use super::verb::{LogLevel, OneDevice, ReadRaw, ReadTags, Resend, Verb};
use crate::buffer::BufferHandle;
use crate::diagnostics::Board;
use crate::diagnostics::protocol::{AlarmAnswer, ShownReading};
use crate::diagnostics::socket::{Directory, shown};
use crate::diagnostics::stored::{Most, send_again};
use crate::ingest::{RulesHandle, Wanted};
use crate::logging::LogHandle;
use crate::model::{Name, Row, UnitId};
use crate::poll::LinkHandle;
use crate::profile::Table;
use crate::rules::engine::AlarmRequest;

/// Nothing on a link takes longer: a device with all its blocks on a slow line that does not answer.
const LONGEST: Duration = Duration::from_secs(60);

/// Most that one `resend` looks at: a day of one commit a second, or what a slow card reads in the time that a command
/// has. Its answer says where to go on.
const RESEND_MOST: Most = Most { commits: 100_000, looking: Duration::from_secs(40) };

/// Devices that are named to whoever names another one.
const NAMES_SHOWN: usize = 20;

/// Runs of sequences in the answer to `resend`: it stays below the limit of every broker.
const RUNS_SHOWN: usize = 64;

/// What commands reach.
#[derive(Clone)]
pub struct Services {
    /// Snapshots of every stage.
    pub board: Board,
    /// Links, devices and series.
    pub directory: watch::Receiver<Directory>,
    /// Alarms.
    pub rules: RulesHandle,
    /// Where audit lines go on their way to the broker.
    pub buffer: BufferHandle,
    /// The log of the process.
    pub log: LogHandle,
    /// The configuration file, where there is one.
    pub config_file: Option<PathBuf>,
}

impl Services {
    /// Carries it out.
    pub(super) async fn carry_out(&self, genuine: &Genuine) -> Outcome {
        let work = async {
            match &genuine.verb {
                Verb::Status => {
                    // For the others who listen.
                    self.board.health.ask_for_whole();
                    value_of(&self.board.snapshot())
                }
                Verb::PollNow(which) => self.poll_now(which).await,
                Verb::Read(which) => self.read(which).await,
                Verb::ReadRaw(which) => self.read_raw(which).await,
                // What writes goes through the guard, which gives a ticket for it.
                Verb::Write(_) => Outcome::failed("not let through by the guard"),
                Verb::AlarmAck(which) => {
                    self.alarm(&which.name, &which.labels, AlarmRequest::Acknowledge, &genuine.key).await
                }
                Verb::AlarmShelve(which) => {
                    let request = AlarmRequest::Shelve(which.span.0);
                    self.alarm(&which.name, &which.labels, request, &genuine.key).await
                }
                Verb::LogLevel(change) => self.log_level(change),
                Verb::LogTail(which) => value_of(&self.log.latest(which.lines)),
                Verb::Resend(which) => self.resend(which).await,
                Verb::Forget(which) => self.forget(which).await,
                Verb::Restart => Outcome::done(json!({ "restart": "now" })),
                Verb::SupportBundle => bundle::outcome(self).await,
            }
        };
        match timeout(LONGEST, work).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::failed(format!("not done within {} s", LONGEST.as_secs())),
        }
    }

    async fn poll_now(&self, which: &OneDevice) -> Outcome {
        let (link, name) = match self.device(&which.device) {
            Ok(found) => found,
            Err(reason) => return Outcome::failed(reason),
        };
        match link.poll_now(&name).await {
            Ok(rows) => self.readings(&rows, &[]),
            Err(error) => Outcome::failed(format!("{name}: {error}")),
        }
    }

    async fn read(&self, which: &ReadTags) -> Outcome {
        let (link, name) = match self.device(&which.device) {
            Ok(found) => found,
            Err(reason) => return Outcome::failed(reason),
        };
        match link.read_device(&name).await {
            Ok(rows) => self.readings(&rows, &which.points),
            Err(error) => Outcome::failed(format!("{name}: {error}")),
        }
    }

    async fn read_raw(&self, which: &ReadRaw) -> Outcome {
        let link = self.directory.borrow().links.get(&which.link).cloned();
        let Some(link) = link else { return Outcome::failed(format!("no link {:?}", which.link)) };
        let Ok(unit) = UnitId::tcp(i64::from(which.unit_id)) else {
            return Outcome::failed(format!("unit_id {}: must be 0 to 247 or 255", which.unit_id));
        };
        let Some(table) = Table::from_word(&which.table) else {
            return Outcome::failed("table must be coil, discrete, holding or input");
        };
        match link.read_raw(unit, table, which.address, which.count).await {
            Ok(words) => Outcome::done(json!({ "registers": words })),
            Err(error) => Outcome::failed(error.to_string()),
        }
    }

    async fn alarm(
        &self,
        name: &str,
        labels: &std::collections::BTreeMap<String, String>,
        request: AlarmRequest,
        by: &str,
    ) -> Outcome {
        let wanted = Wanted { name: name.to_owned(), labels: labels.clone(), request, by: by.to_owned() };
        let answers = match self.rules.act(wanted).await {
            Ok(answers) => answers,
            Err(error) => return Outcome::failed(format!("done, but not stored: {error}")),
        };
        let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let reasons: Vec<String> = refused.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
        match (done.is_empty(), reasons.first()) {
            (true, None) => {
                Outcome::failed(format!("no alarm {name} with these labels is active or waits for anybody"))
            }
            (true, Some(reason)) => Outcome::failed(reason.clone()),
            (false, _) => {
                let answers: Vec<AlarmAnswer> = done.into_iter().map(AlarmAnswer::from).collect();
                let records: Vec<_> = answers.iter().filter_map(|answer| answer.record.as_ref()).collect();
                let until: Vec<_> = answers.iter().filter_map(|answer| answer.shelved_until).collect();
                let notes: Vec<_> = answers.iter().filter_map(|answer| answer.note.as_ref()).collect();
                Outcome::done(json!({
                    "alarms": records, "not_possible": reasons, "shelved_until": until, "notes": notes
                }))
            }
        }
    }

    fn log_level(&self, change: &LogLevel) -> Outcome {
        match self.log.change(&change.level) {
            Ok(()) => Outcome::done(json!({ "level": change.level, "for": String::from(change.span) })),
            Err(reason) => Outcome::failed(reason),
        }
    }

    async fn resend(&self, which: &Resend) -> Outcome {
        let answer = match send_again(&self.buffer, which.lane(), which.span(), RESEND_MOST).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        if answer.runs.is_empty() && answer.next.is_none() {
            return Outcome::failed("nothing to send again: the store holds nothing of that range");
        }
        let shown = &answer.runs[..answer.runs.len().min(RUNS_SHOWN)];
        Outcome::done(json!({
            "lane": which.lane().to_string(),
            "commits": answer.resent.commits,
            "undelivered": answer.resent.undelivered,
            "records": answer.records,
            "runs": shown,
            "runs_not_shown": answer.runs.len() - shown.len(),
            "next": answer.next,
        }))
    }

    async fn forget(&self, which: &OneDevice) -> Outcome {
        let (link, name) = match self.device(&which.device) {
            Ok(found) => found,
            Err(reason) => return Outcome::failed(reason),
        };
        match link.forget(&name).await {
            Ok(was_known) => Outcome::done(json!({ "device": name.as_str(), "was_known": was_known })),
            Err(error) => Outcome::failed(format!("{name}: {error}")),
        }
    }

    /// The device of this name and its link.
    pub(super) fn device(&self, device: &str) -> Result<(LinkHandle, Name), String> {
        let directory = self.directory.borrow();
        let link = directory.devices.get(device).and_then(|link| directory.links.get(link)).cloned();
        match (link, Name::new(device)) {
            (Some(link), Ok(name)) => Ok((link, name)),
            (_, _) => {
                let mut names: Vec<&str> = directory.devices.keys().map(String::as_str).collect();
                names.sort_unstable();
                Err(format!("no device {device:?}; devices are {}", listed(names)))
            }
        }
    }

    /// Readings as people see them, of these points only, or of all.
    fn readings(&self, rows: &[Row], points: &[String]) -> Outcome {
        let catalogue = self.directory.borrow().catalogue.clone();
        let info_of = |id| catalogue.as_ref().and_then(|catalogue| catalogue.get(id).cloned());
        let all = rows.iter().flat_map(|row| shown(row, &info_of));
        let (wanted, others): (Vec<ShownReading>, Vec<ShownReading>) =
            all.partition(|reading| points.is_empty() || points.contains(&reading.point));
        if let Some(missing) = points.iter().find(|point| !wanted.iter().any(|reading| reading.point == **point)) {
            let mut names: Vec<&str> = wanted.iter().chain(&others).map(|reading| reading.point.as_str()).collect();
            names.sort_unstable();
            return Outcome::failed(format!("no point {missing:?}; points are {}", listed(names)));
        }
        value_of(&json!({ "readings": wanted }))
    }
}

/// Names for people, the first of many.
fn listed(mut names: Vec<&str>) -> String {
    let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
    names.truncate(NAMES_SHOWN);
    format!("{}{more}", names.join(", "))
}

fn value_of(value: &impl serde::Serialize) -> Outcome {
    match serde_json::to_value(value) {
        Ok(value) => Outcome::done(value),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

/// A value for a bundle, whatever it is.
pub(super) fn shown_value(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
