//! `lineside alarms`: what is active, and what people do about it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anstyle::Style;
use clap::{Args, Subcommand};

use super::client::AgentClient;
use super::screen::{LocalTime, write_problems, write_wrapped};
use super::table::measured;
use super::{AgentOption, Exit, Failure, status, user, write_json, written};
use crate::diagnostics::problems::About;
use crate::diagnostics::protocol::{AlarmAnswer, Request};
use crate::rules::engine::{AlarmRequest, AlarmView};
use crate::settings::parse_duration;

/// Show alarms that are not normal, acknowledge, reset, shelve them, or take them out of service.
///
/// Without an action all alarms are shown that are not normal, and those about to be raised: of the rules, and of the
/// agent itself, such as DeviceSilent, StoreDamaged and BrokerRefuses. Exit code 1 when an action fits no alarm, or is
/// not possible for one.
#[derive(Debug, Args)]
pub(super) struct Alarms {
    #[command(subcommand)]
    deed: Option<Deed>,
    /// JSON: one list.
    #[arg(long, global = true)]
    json: bool,
    /// Who does it; without it the user of this terminal.
    #[arg(long, value_name = "NAME", global = true)]
    by: Option<String>,
    #[command(flatten)]
    agent: AgentOption,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// I have seen it.
    Ack(Which),
    /// Release a latched alarm whose condition is gone.
    Reset(Which),
    /// Do not tell of it for a while; at most as long as its rule allows.
    Shelve {
        /// For how long, for example 30m or 8h.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        span: Duration,
        #[command(flatten)]
        which: Which,
    },
    /// Tell of it again.
    Unshelve(Which),
    /// Take it out of service, until it is returned.
    OutOfService(Which),
    /// Return it to service.
    InService(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Name of the alarm.
    #[arg(value_name = "ALARM")]
    name: String,
    /// Labels it must have, for example device=press-1.
    #[arg(value_name = "LABEL=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "must be a whole number with a unit such as 30m or 8h".to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "must be label=value".to_owned())
}

impl Alarms {
    pub fn run(self) -> Result<Exit, Failure> {
        let by = self.by.or_else(|| ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok()));
        let socket = self.agent.socket();
        let Some(deed) = self.deed else {
            let mut client = AgentClient::ask(&socket, &Request::Alarms)?;
            let views: Vec<AlarmView> = client.answer()?;
            let mut out = anstream::stdout().lock();
            if self.json {
                written(write_json(&mut out, &views))?;
                return Ok(Exit::Done);
            }
            let line = AgentClient::ask(&socket, &Request::Status)?.next_line()?.unwrap_or_default();
            let mut problems = status::problems(&serde_json::from_str(&line).unwrap_or_default());
            // Those that are alarms stand above.
            problems.retain(|problem| !matches!(problem.about, Some(About::Alarm { .. })));
            written(write_views(&mut out, &views).and_then(|()| match problems.is_empty() {
                true => Ok(()),
                false => writeln!(out).and_then(|()| write_problems(&mut out, &problems)),
            }))?;
            return Ok(Exit::Done);
        };
        let (which, wanted) = deed.wanted();
        let labels: BTreeMap<String, String> = which.labels.into_iter().collect();
        let by = by.unwrap_or_else(user);
        let name = which.name;
        let request = Request::AlarmDeed { name: name.clone(), labels, wanted, by };
        let answers: Vec<AlarmAnswer> = AgentClient::ask(&socket, &request)?.answer()?;
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &answers) } else { write_answers(&mut out, &name, &answers) })?;
        let all_done = !answers.is_empty() && answers.iter().all(|answer| answer.refused.is_none());
        Ok(if all_done { Exit::Done } else { Exit::Findings })
    }
}

impl Deed {
    fn wanted(self) -> (Which, AlarmRequest) {
        match self {
            Self::Ack(which) => (which, AlarmRequest::Acknowledge),
            Self::Reset(which) => (which, AlarmRequest::Reset),
            Self::Shelve { span, which } => (which, AlarmRequest::Shelve(span)),
            Self::Unshelve(which) => (which, AlarmRequest::Unshelve),
            Self::OutOfService(which) => (which, AlarmRequest::RemoveFromService),
            Self::InService(which) => (which, AlarmRequest::ReturnToService),
        }
    }
}

fn write_views(out: &mut impl Write, views: &[AlarmView]) -> std::io::Result<()> {
    if views.is_empty() {
        return writeln!(out, "no alarms");
    }
    let (local, mut text) = (LocalTime::of_system(), Vec::new());
    views.iter().try_for_each(|view| write_view(&mut text, view, &local))?;
    write_wrapped(out, &String::from_utf8_lossy(&text))
}

/// One alarm: which, how it is, what it says, and until when nobody wants to hear of it.
fn write_view(out: &mut impl Write, view: &AlarmView, local: &LocalTime) -> std::io::Result<()> {
    let bold = Style::new().bold();
    let state = match view.pending_since {
        Some(_) => "pending".to_owned(),
        None => format!("{}{}", words(&view.state), if view.flapping { ", flapping" } else { "" }),
    };
    writeln!(out, "{bold}{}{{{}}}{bold:#}", view.name, listed(&view.labels))?;
    write!(out, "  {state}, {} priority", words(&view.priority))?;
    if let Some(since) = view.active_since.or(view.pending_since) {
        write!(out, ", since {}", local.beside(since))?;
    }
    writeln!(out)?;
    if let Some(until) = view.shelved_until {
        writeln!(out, "  shelved until {}", local.beside(until))?;
    }
    if let Some(value) = view.value {
        writeln!(out, "  value {}", measured(value))?;
    }
    match view.annotations.get("summary").or(view.annotations.values().next()) {
        Some(summary) => writeln!(out, "  {}", summary.replace('\n', "\n  ")),
        None => Ok(()),
    }
}

fn write_answers(out: &mut impl Write, name: &str, answers: &[AlarmAnswer]) -> std::io::Result<()> {
    if answers.is_empty() {
        return writeln!(out, "no alarm {name} with these labels is active or waits for anybody");
    }
    answers.iter().try_for_each(|answer| match (&answer.refused, &answer.record) {
        (None, Some(record)) => {
            let until = answer.shelved_until.map(|until| format!(" until {until}")).unwrap_or_default();
            let note = answer.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            writeln!(out, "{name}{{{}}}: now {}{until}{note}", listed(&record.labels), words(&record.state))
        }
        (reason, _) => writeln!(out, "{name}: {}", reason.as_deref().unwrap_or("not possible")),
    })
}

fn listed(labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().filter(|(key, _)| !matches!(key.as_str(), "site" | "gateway"));
    labels.map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join(",")
}

/// `unacknowledged active`.
fn words(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        Ok(_) | Err(_) => String::new(),
    }
}
