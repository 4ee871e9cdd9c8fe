//! `lineside store stats`: what is kept, and how far it is delivered.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::source::{Source, failure};
use super::{Exit, Failure, StoreOption};
use crate::buffer::history::{History, HistorySource, HistorySpan, LaneOverview, Overview};
use crate::cli::table::{Table, bytes, count};
use crate::cli::{plural, write_json, written};
use crate::model::{Gap, Lane, Records, Sequence, Timestamp};

/// Gap records, and ranges, that are shown to people; --json has all.
const SHOWN: usize = 12;

/// Show what is kept: lanes, sequences, times, what is delivered, gaps, bytes.
#[derive(Debug, Args)]
pub(super) struct Stats {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// Agent or directory.
    source: String,
    #[serde(flatten)]
    overview: Overview,
    /// Series of the catalogue.
    series: usize,
    /// Bytes of all stored commits.
    live_bytes: u64,
    /// Gap records that are still stored.
    gaps: Vec<PlacedGap>,
}

#[derive(Debug, Serialize)]
struct PlacedGap {
    at: Sequence,
    #[serde(flatten)]
    gap: Gap,
}

impl Stats {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut source = self.store.open()?;
        let figures = figures(&mut source)?;
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &figures) } else { figures.write(&mut out) })?;
        Ok(Exit::Done)
    }
}

fn figures(source: &mut Source) -> Result<Figures, Failure> {
    let overview = source.overview().map_err(failure)?;
    let series = source.catalogue().map_err(failure)?.series.len();
    let mut gaps = Vec::new();
    for lane in Lane::ALL {
        let span = HistorySpan { gaps_only: true, ..HistorySpan::default() };
        for found in History::new(source, lane, span).map_err(failure)? {
            let found = found.map_err(failure)?;
            if let Ok(Records::Gap(gap)) = found.content.map(|commit| commit.records) {
                gaps.push(PlacedGap { at: found.sequence, gap });
            }
        }
    }
    let live_bytes = overview.lanes.iter().map(|lane| lane.stored.bytes).sum();
    Ok(Figures { source: source.place(), overview, series, live_bytes, gaps })
}

impl Figures {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (bold, alert) = (Style::new().bold(), AnsiColor::Red.on_default());
        let overview = &self.overview;
        writeln!(out, "{bold}{}{bold:#}", self.source)?;
        writeln!(
            out,
            "  engine {}, format {}, epoch {}, {} series",
            overview.engine,
            overview.format,
            overview.epoch,
            count(self.series as u64)
        )?;
        writeln!(out, "  {} live, {} on disk", bytes(self.live_bytes), bytes(overview.disk_bytes))?;
        for aside in &overview.set_aside {
            writeln!(out, "  {alert}set aside as damaged: {}, {}{alert:#}", aside.name, bytes(aside.disk_bytes))?;
        }
        writeln!(out)?;
        let mut table = Table::new(["lane", "", "sequences", "commits", "readings", "live", "oldest", "newest"]);
        for lane in &overview.lanes {
            lane_rows(&mut table, lane);
        }
        table.write(out, 2)?;
        for lane in &overview.lanes {
            write_ranges(out, lane.lane, "delivered", &lane.delivered)?;
            write_ranges(out, lane.lane, "gone, and the gap record is to be delivered", &lane.dropped)?;
            write_ranges(out, lane.lane, "to be sent again", &lane.resend)?;
        }
        self.write_gaps(out)
    }

    fn write_gaps(&self, out: &mut impl Write) -> io::Result<()> {
        if self.gaps.is_empty() {
            return writeln!(out, "\n  no gap records");
        }
        let lost = self.gaps.iter().map(|placed| placed.gap.records).sum();
        writeln!(out, "\n  {}, {} readings gone", plural(self.gaps.len(), "gap record"), count(lost))?;
        let mut table = Table::new(["lane", "at", "sequences", "readings", "from", "to", "reason"]);
        for PlacedGap { at, gap } in self.gaps.iter().rev().take(SHOWN) {
            let reason = serde_json::to_value(gap.reason).unwrap_or_default();
            table.row([
                gap.lane.to_string(),
                at.to_string(),
                range(gap.first.0, gap.last.0),
                count(gap.records),
                gap.first_time.to_string(),
                gap.last_time.to_string(),
                reason.as_str().unwrap_or_default().replace('_', " "),
            ]);
        }
        table.write(out, 2)?;
        match self.gaps.len().checked_sub(SHOWN) {
            Some(more @ 1..) => writeln!(out, "  and {more} older; --json has all"),
            Some(0) | None => Ok(()),
        }
    }
}

/// All that is stored, and of it what is to be delivered.
fn lane_rows(table: &mut Table, lane: &LaneOverview) {
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let sequences = lane.first.map_or_else(|| "-".to_owned(), |first| range(first.0, lane.last.0));
    table.row([
        lane.lane.to_string(),
        "stored".to_owned(),
        sequences,
        count(lane.stored.commits),
        count(lane.stored.records),
        bytes(lane.stored.bytes),
        time(lane.first_time),
        time(lane.last_time),
    ]);
    table.row([
        String::new(),
        "to deliver".to_owned(),
        String::new(),
        count(lane.pending.commits),
        count(lane.pending.records),
        bytes(lane.pending.bytes),
        String::new(),
        String::new(),
    ]);
}

fn write_ranges(out: &mut impl Write, lane: Lane, what: &str, ranges: &[(u64, u64)]) -> io::Result<()> {
    if ranges.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = ranges.iter().rev().take(SHOWN).rev().map(|(first, last)| range(*first, *last)).collect();
    let more = if ranges.len() > SHOWN { format!("{} older ranges, ", ranges.len() - SHOWN) } else { String::new() };
    writeln!(out, "  {lane} {what}: {more}{}", shown.join(", "))
}

pub(super) fn range(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}
