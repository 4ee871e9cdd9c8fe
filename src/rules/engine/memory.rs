//! What the windows of all rules will take once they are full, so that rules are refused before memory is gone.

use super::{Engine, EngineError, Rule};
use crate::rules::live::Series;
use crate::rules::plan::Plan;

/// A sample and its share of what its chunk takes beside.
const BYTES_PER_SAMPLE: f64 = 12.5;

/// A series is looked back at for so many of its intervals.
const INTERVALS: f64 = super::LOOK_BACK_INTERVALS as f64;

impl Engine {
    /// The rules with the longest windows over the most series, when all windows together would take more than `limit`
    /// bytes.
    pub(super) fn too_large(&self, limit: u64) -> Vec<EngineError> {
        let total: f64 = self.table.all().iter().map(|series| bytes(series, series.keep().as_secs_f64())).sum();
        if total <= limit as f64 {
            return Vec::new();
        }
        let rules = self.groups.iter().flat_map(|group| {
            group.rules.iter().zip(&group.spec.rules).map(move |(rule, spec)| {
                let plan = match rule {
                    Rule::Record(recording) => &recording.plan,
                    Rule::Alert(alert) => alert.plan(),
                };
                (group, spec, self.bytes_of(plan))
            })
        });
        let rules: Vec<_> = rules.collect();
        let most = rules.iter().map(|(.., bytes)| *bytes).fold(0.0, f64::max);
        let largest = rules.into_iter().filter(|(.., bytes)| *bytes * 2.0 >= most);
        largest
            .map(|(group, spec, bytes)| EngineError::TooLarge {
                group: group.spec.name.clone(),
                rule: spec.name.clone(),
                rule_mib: mib(bytes),
                total_mib: mib(total),
                limit_mib: limit >> 20,
                place: spec.place.clone(),
            })
            .collect()
    }

    fn bytes_of(&self, plan: &Plan) -> f64 {
        let reach = plan.reach(&self.table) as f64 / 1000.0;
        let selectors = plan.selectors(&self.table);
        let members = selectors.iter().flat_map(|selector| self.table.selector(*selector).members());
        members.map(|position| bytes(self.table.series(*position), reach)).sum()
    }
}

fn bytes(series: &Series, seconds: f64) -> f64 {
    let interval = (series.spec.look_back.as_secs_f64() / INTERVALS).max(0.001);
    seconds / interval * BYTES_PER_SAMPLE
}

fn mib(bytes: f64) -> u64 {
    (bytes / f64::from(1 << 20)).ceil() as u64
}
