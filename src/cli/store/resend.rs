//! `lineside store resend`: a part of the history goes out again.

use std::io::{self, Write};

use clap::Args;

use super::stats::range;
use super::{Exit, Failure, time};
use crate::buffer::history::HistorySpan;
use crate::cli::client::AgentClient;
use crate::cli::table::count;
use crate::cli::{AgentOption, write_json, written};
use crate::diagnostics::protocol::{Request, ResendAnswer};
use crate::model::{Lane, Sequence, Timestamp};

/// Runs of sequences that are shown to people.
const SHOWN: usize = 12;

/// Send stored readings, or alarms, to the broker again, under the sequences they have: whoever has them already
/// recognises them.
///
/// Whole commits are sent, so that a little before and after the given time may be among it. The agent sends them beside
/// what is new, also across its restarts. Exit code 1 when nothing of that time is stored.
#[derive(Debug, Args)]
pub(super) struct Resend {
    /// Nothing older: 2026-11-25T06:00:00Z, 2026-11-25 (UTC), or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from: Option<Timestamp>,
    /// Nothing of this time or newer.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<Timestamp>,
    /// The first commit.
    #[arg(long, value_name = "SEQUENCE")]
    first: Option<u64>,
    /// The last commit.
    #[arg(long, value_name = "SEQUENCE")]
    last: Option<u64>,
    /// Alarm transitions instead of readings.
    #[arg(long)]
    alarms: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentOption,
}

impl Resend {
    pub fn run(self) -> Result<Exit, Failure> {
        if [self.first, self.last].iter().all(Option::is_none) && [self.from, self.until].iter().all(Option::is_none) {
            return Err(Failure::Refused("which part? --from, --until, --first or --last says so".to_owned()));
        }
        let all = HistorySpan::default();
        let span = HistorySpan {
            first: self.first.map_or(all.first, Sequence),
            last: self.last.map_or(all.last, Sequence),
            from: self.from.unwrap_or(all.from),
            until: self.until.unwrap_or(all.until),
            gaps_only: false,
        };
        if span.first > span.last || span.from >= span.until {
            return Err(Failure::Refused("the end of the range is before its beginning".to_owned()));
        }
        let lane = if self.alarms { Lane::Alarms } else { Lane::Telemetry };
        let answer: ResendAnswer =
            AgentClient::ask(&self.agent.socket(), &Request::StoreResend { lane, span })?.answer()?;
        if answer.runs.is_empty() {
            eprintln!("nothing to send again: the store holds nothing of that range");
            return Ok(Exit::Findings);
        }
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &answer) } else { show_resend(&mut out, lane, &answer) })?;
        Ok(Exit::Done)
    }
}

/// What goes out again, for people.
pub(in crate::cli) fn show_resend(out: &mut impl Write, lane: Lane, answer: &ResendAnswer) -> io::Result<()> {
    let runs: Vec<String> = answer.runs.iter().take(SHOWN).map(|(first, last)| range(*first, *last)).collect();
    let more = if answer.runs.len() > SHOWN { ", ..." } else { "" };
    writeln!(
        out,
        "{lane} {}{more}: {} commits will be sent again, {} are still to be delivered anyway; {} records in all",
        runs.join(", "),
        count(answer.resent.commits),
        count(answer.resent.undelivered),
        count(answer.records)
    )
}
