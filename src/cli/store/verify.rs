//! `lineside store verify`: whether everything is there and holds what was written.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::source::{Source, failure};
use super::stats::range;
use super::{Exit, Failure, StoreOption};
use crate::buffer::history::{Found, History, HistorySource, HistorySpan, LaneOverview};
use crate::cli::table::{Table, bytes, count};
use crate::cli::{plural, write_json, written};
use crate::model::{Commit, Epoch, Lane, Records, SeriesId};

/// Findings that are shown to people; --json has all.
const SHOWN: usize = 40;

/// Check every checksum, that no sequence is missing, that sums and marks agree.
///
/// Exit code 1 when anything is found.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOption,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Agent or directory.
    source: String,
    lanes: Vec<LaneReport>,
    findings: Vec<String>,
}

/// What was read of a lane.
#[derive(Debug, Serialize)]
struct LaneReport {
    lane: Lane,
    commits: u64,
    records: u64,
    bytes: u64,
    damaged: u64,
    missing: u64,
    /// Of these, what was delivered.
    gone: u64,
    gap_records: u64,
}

impl Verify {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut source = self.store.open()?;
        let report = report(&mut source)?;
        let mut out = anstream::stdout().lock();
        written(if self.json { write_json(&mut out, &report) } else { report.write(&mut out) })?;
        Ok(if report.findings.is_empty() { Exit::Done } else { Exit::Findings })
    }
}

fn report(source: &mut Source) -> Result<Report, Failure> {
    let mut findings: Vec<String> = source.damage().to_vec();
    for gap in source.missing() {
        let lost = range(gap.first.0, gap.last.0);
        findings.push(format!(
            "{} {lost}: given before, as the mark beside the database says, and not in it; when the agent starts a gap \
             record names them",
            gap.lane
        ));
    }
    let overview = source.overview().map_err(failure)?;
    let series = source.catalogue().map_err(failure)?.series.iter().map(|(id, _)| *id).collect();
    let mut lanes = Vec::new();
    for lane in &overview.lanes {
        let check = LaneCheck {
            epoch: overview.epoch,
            series: &series,
            unknown: BTreeSet::new(),
            named: Vec::new(),
            history_from: None,
            before: lane,
        };
        lanes.push(check.run(source, &mut findings)?);
    }
    let named: u64 = lanes.iter().map(|lane| lane.gone).sum();
    if let unnamed @ 1.. = source.lost_history().saturating_sub(named) {
        findings.push(format!("{} gone from the local history", plural(unnamed as usize, "delivered commit")));
    }
    Ok(Report { source: source.place(), lanes, findings })
}

struct LaneCheck<'a> {
    epoch: Epoch,
    series: &'a HashSet<SeriesId>,
    unknown: BTreeSet<SeriesId>,
    /// Runs that stored records name as gone or replaced.
    named: Vec<(u64, u64)>,
    /// The oldest stored commit that was delivered: history goes oldest first, so behind it nothing goes unnamed.
    history_from: Option<u64>,
    before: &'a LaneOverview,
}

impl LaneCheck<'_> {
    fn run(mut self, source: &mut Source, findings: &mut Vec<String>) -> Result<LaneReport, Failure> {
        let lane = self.before.lane;
        let mut report =
            LaneReport { lane, commits: 0, records: 0, bytes: 0, damaged: 0, missing: 0, gone: 0, gap_records: 0 };
        // What comes while this runs is not waited for.
        let span = HistorySpan { last: self.before.last, ..HistorySpan::default() };
        let mut absent: Vec<(u64, u64)> = Vec::new();
        let mut expected = span.first.0;
        for found in History::new(source, lane, span).map_err(failure)? {
            let found = found.map_err(failure)?;
            if found.sequence.0 > expected {
                absent.push((expected, found.sequence.0 - 1));
            }
            expected = found.sequence.0 + 1;
            self.look_at(found, &mut report, findings);
        }
        if expected <= self.before.last.0 {
            absent.push((expected, self.before.last.0));
        }
        let after = source.overview().map_err(failure)?;
        let after = after.lane(lane).unwrap_or(self.before);
        for (first, last) in unexplained(&absent, [self.before, after]) {
            report.missing += last - first + 1;
            findings.push(format!(
                "{lane} {}: neither stored, nor delivered, nor named in a gap record",
                range(first, last)
            ));
        }
        for (first, last) in self.gone_from_history(&absent) {
            report.missing += last - first + 1;
            report.gone += last - first + 1;
            findings.push(format!("{lane} {}: delivered, and gone from the local history", range(first, last)));
        }
        for id in &self.unknown {
            findings.push(format!("{lane}: series {id} is not in the catalogue"));
        }
        self.compare(&report, after, source.is_running(), findings);
        Ok(report)
    }

    /// What of `absent` was delivered, but did not go as history goes.
    fn gone_from_history(&self, absent: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let Some(from) = self.history_from else { return Vec::new() };
        let behind = absent.iter().filter(|run| run.1 > from);
        let unnamed: Vec<_> = without(behind.copied(), self.named.clone());
        let undelivered = without(unnamed.iter().copied(), self.before.delivered.clone());
        without(unnamed.into_iter(), undelivered)
    }

    fn look_at(&mut self, found: Found, report: &mut LaneReport, findings: &mut Vec<String>) {
        let place = format!("{} {}", report.lane, found.sequence);
        report.commits += 1;
        report.bytes += found.length as u64;
        let sequence = found.sequence.0;
        if self.before.delivered.iter().any(|&(first, last)| (first..=last).contains(&sequence)) {
            self.history_from.get_or_insert(sequence);
        }
        match found.content {
            Ok(commit) => {
                report.records += commit.records.count() as u64;
                self.look_into(&place, &commit, report, findings);
            }
            Err(error) => {
                report.damaged += 1;
                findings.push(format!("{place}: {error}"));
            }
        }
    }

    fn look_into(&mut self, place: &str, commit: &Commit, report: &mut LaneReport, findings: &mut Vec<String>) {
        if commit.header.epoch != self.epoch {
            findings.push(format!("{place}: of another epoch, {}", commit.header.epoch));
        }
        match &commit.records {
            Records::Readings(rows) => {
                let named = rows.iter().flat_map(|row| row.series.iter());
                self.unknown.extend(named.filter(|id| !self.series.contains(id)));
            }
            Records::Thinned(thinned) => {
                let named = thinned.aggregates.iter().map(|aggregate| aggregate.series);
                self.unknown.extend(named.filter(|id| !self.series.contains(id)));
                self.named.extend(thinned.replaces.iter().map(|run| (run.first.0, run.last.0)));
            }
            Records::Gap(gap) => {
                report.gap_records += 1;
                self.named.push((gap.first.0, gap.last.0));
                if gap.first > gap.last {
                    findings.push(format!("{place}: a gap record from {} back to {}", gap.first, gap.last));
                }
            }
            Records::Alarms(_) | Records::ClockOffset(_) => {}
        }
    }

    /// The sums that the lane keeps against what was read, where nothing changed meanwhile.
    fn compare(&self, report: &LaneReport, after: &LaneOverview, is_running: bool, findings: &mut Vec<String>) {
        let sum = self.before.stored;
        let has_changed = is_running && (after.last != self.before.last || after.stored != sum);
        if has_changed || report.damaged > 0 || (sum.commits, sum.records) == (report.commits, report.records) {
            return;
        }
        findings.push(format!(
            "{}: {} commits with {} records are stored, and the lane counts {} with {}",
            report.lane, report.commits, report.records, sum.commits, sum.records
        ));
    }
}

/// What of `absent` no lane explains: sequences leave a lane when they were delivered or are named in a gap record.
fn unexplained(absent: &[(u64, u64)], lanes: [&LaneOverview; 2]) -> Vec<(u64, u64)> {
    let explained = lanes.iter().flat_map(|lane| lane.delivered.iter().chain(&lane.dropped)).copied().collect();
    without(absent.iter().copied(), explained)
}

/// What is left of `runs` without `others`.
fn without(runs: impl Iterator<Item = (u64, u64)>, mut others: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    others.sort_unstable();
    let mut left = Vec::new();
    for (first, last) in runs {
        let mut from = first;
        for &(known_first, known_last) in others.iter().filter(|known| known.1 >= first && known.0 <= last) {
            if known_first > from {
                left.push((from, known_first - 1));
            }
            from = from.max(known_last.saturating_add(1));
        }
        if from <= last {
            left.push((from, last));
        }
    }
    left
}

impl Report {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (bold, alert) = (Style::new().bold(), AnsiColor::Red.on_default());
        writeln!(out, "{bold}{}{bold:#}", self.source)?;
        let mut table =
            Table::new(["lane", "commits checked", "readings", "bytes", "damaged", "missing", "gap records"]);
        for lane in &self.lanes {
            table.row([
                lane.lane.to_string(),
                count(lane.commits),
                count(lane.records),
                bytes(lane.bytes),
                count(lane.damaged),
                count(lane.missing),
                count(lane.gap_records),
            ]);
        }
        table.write(out, 2)?;
        if self.findings.is_empty() {
            return writeln!(out, "everything is there and holds what was written");
        }
        writeln!(out, "{alert}{}{alert:#}", plural(self.findings.len(), "finding"))?;
        self.findings.iter().take(SHOWN).try_for_each(|finding| writeln!(out, "  {finding}"))?;
        match self.findings.len().checked_sub(SHOWN) {
            Some(more @ 1..) => writeln!(out, "  and {more} more; --json has all"),
            Some(0) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Tally;
    use crate::model::Sequence;

    fn lane(delivered: &[(u64, u64)], dropped: &[(u64, u64)]) -> LaneOverview {
        LaneOverview {
            lane: Lane::Telemetry,
            first: None,
            last: Sequence(99),
            first_time: None,
            last_time: None,
            stored: Tally::default(),
            pending: Tally::default(),
            records_ever: 0,
            delivered: delivered.to_vec(),
            dropped: dropped.to_vec(),
            resend: Vec::new(),
        }
    }

    #[test]
    fn what_was_delivered_or_named_in_a_gap_record_is_explained() {
        let (before, after) = (lane(&[(1, 4)], &[(8, 9)]), lane(&[(1, 5)], &[(8, 9)]));

        assert_eq!(unexplained(&[(1, 12), (20, 20)], [&before, &after]), [(6, 7), (10, 12), (20, 20)]);
        assert_eq!(unexplained(&[(2, 4), (9, 9)], [&before, &after]), []);
    }
}
