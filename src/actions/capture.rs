//! Sends the readings from around an event at their full rate, also where the uplink sends less.
//!
//! What is in the store means the same for ever, so what is captured is new records: series of their own, called
//! `<point>:captured`, with the labels of the original and the name of the alarm, and with the original times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::ActionError;
use crate::buffer::{BufferHandle, Catalogue, ReadLimit};
use crate::model::{Commit, Records, Row, Selection, Sequence, SeriesId, SeriesInfo, Timestamp};
use crate::rules::spec::{Action, ActionSpec};

/// Commits read at once: bounds the memory that a capture takes.
const COMMITS_AT_ONCE: usize = 32;

/// A commit that begins so long after the event has nothing of it, however its clock was set.
const BEYOND: Duration = Duration::from_secs(60);

/// Label that names the alarm.
const ALARM: &str = "alarm";

const SUFFIX: &str = ":captured";

/// What was captured so far.
#[derive(Default)]
pub(super) struct Captured {
    /// For each series of captures its newest reading: what two events have in common is sent once.
    until: HashMap<SeriesId, Timestamp>,
}

/// From which series to which.
type Targets = HashMap<SeriesId, SeriesId>;

impl Captured {
    /// Appends what a capture asks for. Returns how many readings it was.
    pub async fn capture(
        &mut self,
        action: &Action,
        buffer: &BufferHandle,
        catalogue: &watch::Sender<Arc<Catalogue>>,
    ) -> Result<u64, ActionError> {
        let ActionSpec::Capture { series, before, after } = &action.what else { return Ok(0) };
        let targets = targets(&action.alarm, &Selection::parse(series)?, buffer, catalogue).await?;
        let before = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
        let (from, to) = (Timestamp(action.time.0.saturating_sub(before)), action.time.after(*after));
        let (mut at, mut readings) = (Sequence(0), 0);
        loop {
            let limit = ReadLimit { commits: COMMITS_AT_ONCE, records: usize::MAX };
            let commits = buffer.recent(from, at, limit).await?;
            let Some(last) = commits.last() else { break };
            at = last.header.sequence;
            let is_beyond = is_beyond(last, to);
            let rows = commits.into_iter().filter_map(|commit| match commit.records {
                Records::Readings(rows) => Some(rows),
                Records::Gap(_) | Records::Thinned(_) | Records::Alarms(_) | Records::ClockOffset(_) => None,
            });
            let rows: Vec<Row> = rows
                .flatten()
                .filter(|row| from <= row.time && row.time <= to)
                .filter_map(|row| self.copy(row, &targets))
                .collect();
            readings += rows.iter().map(|row| row.observed.len() as u64).sum::<u64>();
            buffer.append(rows).await?;
            if is_beyond {
                break;
            }
        }
        Ok(readings)
    }

    /// The part of a row that is captured and was not before.
    fn copy(&mut self, row: Row, targets: &Targets) -> Option<Row> {
        let mut observed = Vec::new();
        let mut series = Vec::new();
        for (id, seen) in row.series.iter().zip(row.observed) {
            let Some(target) = targets.get(id) else { continue };
            let until = self.until.entry(*target).or_insert(Timestamp(i64::MIN));
            if row.time > *until {
                *until = row.time;
                series.push(*target);
                observed.push(seen);
            }
        }
        (!series.is_empty()).then(|| Row { series: series.into(), time: row.time, observed })
    }
}

fn is_beyond(commit: &Commit, to: Timestamp) -> bool {
    match &commit.records {
        Records::Readings(rows) => rows.iter().all(|row| row.time > to.after(BEYOND)),
        Records::Gap(_) | Records::Thinned(_) | Records::Alarms(_) | Records::ClockOffset(_) => false,
    }
}

/// The series that are selected, each with that of its capture, which is new the first time.
async fn targets(
    alarm: &str,
    selection: &Selection,
    buffer: &BufferHandle,
    catalogue: &watch::Sender<Arc<Catalogue>>,
) -> Result<Targets, ActionError> {
    let known = buffer.catalogue().await?;
    let selected = known
        .series
        .iter()
        .filter(|(_, info)| !info.name.ends_with(SUFFIX) && selection.takes(&info.name, &info.labels));
    let (ids, infos): (Vec<SeriesId>, Vec<SeriesInfo>) =
        selected.map(|(id, info)| (*id, captured(info, alarm))).unzip();
    if ids.is_empty() {
        return Err(ActionError::NothingSelected);
    }
    let targets = buffer.register(infos).await?;
    let now = buffer.catalogue().await?;
    if now.series.len() != known.series.len() {
        catalogue.send_replace(Arc::new(now));
    }
    Ok(ids.into_iter().zip(targets).collect())
}

fn captured(info: &SeriesInfo, alarm: &str) -> SeriesInfo {
    let mut labels = (*info.labels).clone();
    labels.insert(ALARM.to_owned(), alarm.to_owned());
    SeriesInfo { name: format!("{}{SUFFIX}", info.name), labels: Arc::new(labels), ..info.clone() }
}
