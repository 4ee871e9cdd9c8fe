//! `lineside command fleet`: every gateway that a broker knows, those in trouble first.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::super::screen::{LocalTime, cut, width, write_wrapped};
use super::super::table::{Table, span as shown_span};
use super::super::{Exit, Failure, runtime, write_json, written};
use super::broker::BrokerOptions;
use crate::diagnostics::problems::{Problem, Severity};
use crate::model::Timestamp;
use crate::settings::parse_duration;

/// Problems of one gateway that are named; `lineside command send status` has them all.
const NAMED_MAX: usize = 3;

/// Show every gateway that the broker knows, those in trouble first: online or not, when it was last seen, what is wrong
/// with it.
///
/// Exit code 1 when one of those shown is offline or has a problem, 3 when the broker knows none.
#[derive(Debug, Args)]
pub(super) struct Fleet {
    /// Only gateways whose `site/gateway` fits; * stands for any characters: lyon/*, */gw-0*, press.
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// Only gateways of this site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Only gateways that are offline or have a problem.
    #[arg(long)]
    trouble: bool,
    /// How long to wait for what the broker has kept.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = span)]
    wait: Duration,
    /// JSON: one list.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerOptions,
}

#[derive(Debug, Default, Serialize)]
struct Gateway {
    gateway: String,
    online: bool,
    /// Offline, or something is wrong with it.
    trouble: bool,
    /// When it said something last, as far as the broker has kept that; nothing while it is online.
    last_seen: Option<Timestamp>,
    version: Option<String>,
    started: Option<Timestamp>,
    takes_commands: bool,
    configuration: Option<String>,
    problems: Vec<Problem>,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "must be a whole number with a unit such as 2s".to_owned())
}

impl Fleet {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut known = runtime()?.block_on(self.gather())?;
        known.values_mut().for_each(Gateway::judge);
        let knows_none = known.is_empty();
        let mut gateways: Vec<Gateway> = known.into_values().filter(|gateway| self.is_wanted(gateway)).collect();
        // The names stay in order among equals.
        gateways.sort_by_key(Gateway::rank);
        let mut out = anstream::stdout().lock();
        written(match self.json {
            true => write_json(&mut out, &gateways),
            false => write_gateways(&mut out, &gateways),
        })?;
        if knows_none {
            return Err(Failure::Unreachable("the broker knows no gateway below this prefix".to_owned()));
        }
        Ok(if gateways.iter().any(|gateway| gateway.trouble) { Exit::Findings } else { Exit::Done })
    }

    fn is_wanted(&self, gateway: &Gateway) -> bool {
        let site = gateway.gateway.split('/').next().unwrap_or_default();
        self.site.as_ref().is_none_or(|wanted| wanted == site)
            && self.pattern.as_ref().is_none_or(|pattern| fits(pattern, &gateway.gateway))
            && (gateway.trouble || !self.trouble)
    }

    async fn gather(&self) -> Result<BTreeMap<String, Gateway>, Failure> {
        let filter = |rest: &str| format!("{}/+/+/{rest}", self.broker.prefix);
        let filters = [filter("state"), filter("config/reported"), filter("problems")];
        let mut visitor = self.broker.visit(&filters).await?;
        let until = Instant::now() + self.wait;
        let mut gateways: BTreeMap<String, Gateway> = BTreeMap::new();
        while let Ok(received) = timeout_at(until, visitor.next()).await {
            let received = received.map_err(|error| Failure::Unreachable(error.to_string()))?;
            let below = received.topic.strip_prefix(&self.broker.prefix).unwrap_or_default();
            let mut levels = below.split('/').skip(1);
            let (Some(site), Some(id), Some(kind)) = (levels.next(), levels.next(), levels.next()) else { continue };
            let Ok(message) = serde_json::from_slice::<Value>(&received.payload) else { continue };
            let name = format!("{site}/{id}");
            let gateway = gateways.entry(name.clone()).or_default();
            gateway.gateway = name;
            gateway.saw(&message);
            match kind {
                "state" => gateway.take_state(&message),
                "problems" => gateway.take_problems(&message),
                _ => gateway.configuration = Some(reported(&message)),
            }
        }
        Ok(gateways)
    }
}

impl Gateway {
    fn saw(&mut self, message: &Value) {
        self.last_seen = self.last_seen.max(message["time"].as_i64().or(message["started"].as_i64()).map(Timestamp));
    }

    fn take_state(&mut self, state: &Value) {
        self.online = state["online"] == true;
        self.version = state["version"].as_str().map(str::to_owned);
        self.started = state["started"].as_i64().map(Timestamp);
        self.takes_commands = state["commands"].is_array();
    }

    fn take_problems(&mut self, message: &Value) {
        let listed = message["problems"].as_array().into_iter().flatten();
        self.problems = listed.filter_map(|problem| Problem::deserialize(problem).ok()).collect();
    }

    fn judge(&mut self) {
        self.trouble = !self.online || self.problems.iter().any(|problem| problem.severity.is_trouble());
        if self.online {
            self.last_seen = None;
        }
    }

    /// Those that say nothing come first, then those with the most urgent and the most problems.
    fn rank(&self) -> (bool, Severity, usize) {
        let worst = self.problems.iter().map(|problem| problem.severity).min().unwrap_or(Severity::Notice);
        (self.online, worst, usize::MAX - self.problems.len())
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters; one without `*` fits any part of the name.
fn fits(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

fn reported(message: &Value) -> String {
    let state = message["state"].as_str().unwrap_or("?");
    match message["revision"].as_u64() {
        Some(revision) => format!("{state} {revision}"),
        None => state.to_owned(),
    }
}

fn write_gateways(out: &mut impl Write, gateways: &[Gateway]) -> io::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    let alert = AnsiColor::Red.on_default();
    let mut table = Table::new(["gateway", "state", "last seen", "version", "problems", "configuration"]);
    for gateway in gateways {
        let dash = || "-".to_owned();
        let last_seen = gateway.last_seen.map(|seen| format!("{} ago", shown_span(now.since(seen))));
        let count = gateway.problems.iter().filter(|problem| problem.severity.is_trouble()).count();
        let cells = [
            gateway.gateway.clone(),
            if gateway.online { "online" } else { "offline" }.to_owned(),
            if gateway.online { "now".to_owned() } else { last_seen.unwrap_or_else(dash) },
            gateway.version.clone().unwrap_or_else(dash),
            count.to_string(),
            gateway.configuration.clone().unwrap_or_else(dash),
        ];
        table.styled_row(if gateway.trouble { alert } else { Style::new() }, cells);
    }
    table.write_cut(out, 0, width())?;
    write_troubles(out, gateways)
}

/// What is wrong with each: the last lines, so that they are seen.
fn write_troubles(out: &mut impl Write, gateways: &[Gateway]) -> io::Result<()> {
    let (bold, local) = (Style::new().bold(), LocalTime::of_system());
    for gateway in gateways.iter().filter(|gateway| gateway.trouble) {
        writeln!(out, "\n{bold}{}{bold:#}", cut(&gateway.gateway, width()))?;
        if !gateway.online {
            let seen = gateway.last_seen.map_or_else(
                || "the broker has kept nothing that says since when".to_owned(),
                |seen| format!("last seen {}", local.beside(seen)),
            );
            write_wrapped(out, &format!("  offline; {seen}"))?;
        }
        for problem in gateway.problems.iter().take(NAMED_MAX) {
            let since =
                problem.since_beside().map(|since| format!("; since {}", local.beside(since))).unwrap_or_default();
            write_wrapped(out, &format!("  {}: {}{since}", problem.severity, problem.text))?;
        }
        if let Some(more @ 1..) = gateway.problems.len().checked_sub(NAMED_MAX) {
            writeln!(out, "  and {more} more: `lineside command send status`")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_a_whole_name_and_a_word_any_part_of_it() {
        for (pattern, name, is_fitting) in [
            ("lyon/*", "lyon/gw-01", true),
            ("*/gw-0*", "lyon/gw-01", true),
            ("*", "lyon/gw-01", true),
            ("*01", "lyon/gw-01", true),
            ("gw-0*", "lyon/gw-01", false),
            ("lyon/*-02", "lyon/gw-01", false),
            ("l*n/*1*", "lyon/gw-01", true),
            ("gw-01", "lyon/gw-01", true),
            ("nice", "lyon/gw-01", false),
        ] {
            assert_eq!(fits(pattern, name), is_fitting, "{pattern} {name}");
        }
    }

    #[test]
    fn the_gateway_that_needs_somebody_most_comes_first() {
        let gateway = |name: &str, online: bool, severities: &[Severity]| {
            let problem = |severity: &Severity| {
                let json = serde_json::json!({ "key": "k", "severity": severity, "area": "store", "text": "t" });
                serde_json::from_value::<Problem>(json).unwrap()
            };
            let problems = severities.iter().map(problem).collect();
            let mut gateway = Gateway { gateway: name.to_owned(), online, problems, ..Gateway::default() };
            gateway.judge();
            gateway
        };
        use Severity::{Critical, Major, Minor, Notice};
        let mut all = [
            gateway("well", true, &[]),
            gateway("pushed", true, &[Notice]),
            gateway("minor", true, &[Minor]),
            gateway("major", true, &[Major, Minor]),
            gateway("majors", true, &[Major, Major, Major]),
            gateway("critical", true, &[Critical]),
            gateway("gone", false, &[]),
        ];
        all.sort_by_key(Gateway::rank);

        let names: Vec<&str> = all.iter().map(|gateway| gateway.gateway.as_str()).collect();
        assert_eq!(names, ["gone", "critical", "majors", "major", "minor", "pushed", "well"]);
        assert_eq!(all.iter().filter(|gateway| gateway.trouble).count(), 5);
    }
}
