//! Points that give no value for as long as anybody remembers, by device.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::buffer::Catalogue;
use crate::ingest::bad_points::{BadPoints, BadRun};
use crate::model::{Fault, SeriesId, Timestamp};

/// A run of bad readings counts after so many of them, and so long.
const READINGS_LEAST: u32 = 3;
const LASTS_LEAST_MS: i64 = 5_000;

/// After this a run counts however few its readings are: a stream that misses a tag says so once.
const LASTS_LONG_MS: i64 = 300_000;

/// Points named for each device and reason; the others are counted.
const NAMED_MAX: usize = 4;

/// Points of one device that are bad for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadPointsOfDevice {
    /// Name of the device.
    pub device: String,
    /// Why, in words.
    pub reason: String,
    /// The same, typed.
    #[serde(skip)]
    pub fault: Fault,
    /// How many there are.
    pub count: usize,
    /// The first of them, in the order of the catalogue.
    pub points: Vec<String>,
    /// Since when the first of them is bad.
    pub since: Timestamp,
}

/// What of `bad` is configured (`series`, sorted) and has lasted by `now`.
pub(super) fn lasting(
    bad: &BadPoints,
    series: &[SeriesId],
    catalogue: &Catalogue,
    now: Timestamp,
) -> Vec<BadPointsOfDevice> {
    let mut runs: Vec<(SeriesId, BadRun)> =
        bad.runs().filter(|(id, run)| lasts(run, now) && series.binary_search(id).is_ok()).collect();
    runs.sort_unstable_by_key(|(id, _)| *id);
    let mut found: BTreeMap<(String, String), BadPointsOfDevice> = BTreeMap::new();
    for (id, run) in runs {
        let Some(info) = catalogue.get(id) else { continue };
        let device = info.labels.get("device").cloned().unwrap_or_default();
        let reason = run.fault.to_string();
        let entry = found.entry((device.clone(), reason.clone())).or_insert_with(|| BadPointsOfDevice {
            device,
            reason,
            fault: run.fault,
            count: 0,
            points: Vec::new(),
            since: run.since,
        });
        entry.count += 1;
        entry.since = entry.since.min(run.since);
        if entry.points.len() < NAMED_MAX {
            entry.points.push(info.name.clone());
        }
    }
    found.into_values().collect()
}

fn lasts(run: &BadRun, now: Timestamp) -> bool {
    let lasted = now.0.saturating_sub(run.since.0);
    (run.readings >= READINGS_LEAST && lasted >= LASTS_LEAST_MS) || lasted >= LASTS_LONG_MS
}
