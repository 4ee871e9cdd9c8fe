//! Conditions of writes: evaluated when somebody wants to write, over the series as they are then. Pure.
//!
//! A rule may do without a series; an interlock may not. Each series that it looks at must have a value that is fresh
//! and beyond doubt, or the write is not allowed, whatever the expression makes of it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::Engine;
use crate::model::{Observed, Quality, Timestamp};
use crate::rules::eval::check::selectors;
use crate::rules::eval::shown;
use crate::rules::general::General;
use crate::rules::live::{LiveTable, NAME};
use crate::rules::plan::Cell;
use crate::rules::spec::InterlockSpec;
use crate::rules::unmatched;

/// Step of subqueries that do not say.
pub const STEP: Duration = Duration::from_secs(1);

/// Series whose values are named when an interlock forbids a write.
const SERIES_SHOWN: usize = 4;

/// All interlocks, and which series cannot be relied on now.
#[derive(Debug, Default)]
pub(super) struct Interlocks {
    all: Vec<Interlock>,
    doubts: HashMap<usize, Quality>,
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Interlock {
    text: String,
    condition: General,
    inputs: Vec<Input>,
}

/// A selector of an interlock.
#[derive(Debug)]
struct Input {
    selector: usize,
    shown: String,
    /// Alarms are series only while they are active.
    may_be_missing: bool,
}

impl Interlocks {
    /// Notes in `table` what the interlocks look at.
    pub fn new(specs: Vec<InterlockSpec>, table: &mut LiveTable) -> Self {
        let of = |spec: InterlockSpec| {
            let found = selectors(&spec.expression, STEP);
            let condition = General::new(&spec.expression, 0, STEP, table);
            let input = |(selected, selector): (&crate::rules::eval::check::Selected, usize)| {
                let is_alert = |matcher: &promql_parser::label::Matcher| {
                    matcher.name == NAME && matches!(matcher.value.as_str(), "ALERTS" | "ALERTS_FOR_STATE")
                };
                let may_be_missing = selected.matchers.iter().any(is_alert);
                Input { selector, shown: unmatched::shown(&selected.matchers), may_be_missing }
            };
            let inputs = found.iter().zip(condition.selectors()).map(input).collect();
            Interlock { text: spec.text, condition, inputs }
        };
        Self { all: specs.into_iter().map(of).collect(), doubts: HashMap::new(), cells: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Remembers whether the newest reading of a series can be relied on.
    pub fn note(&mut self, position: usize, observed: &Observed) {
        if self.all.is_empty() {
            return;
        }
        match observed.quality() {
            Quality::GOOD => drop(self.doubts.remove(&position)),
            doubt => drop(self.doubts.insert(position, doubt)),
        }
    }

    fn find(&self, text: &str) -> Result<usize, String> {
        let found = self.all.iter().position(|interlock| interlock.text == text);
        found.ok_or_else(|| "it is not in force; lineside check says why".to_owned())
    }

    fn allows(&mut self, table: &LiveTable, text: &str, time: Timestamp) -> Result<(), String> {
        let interlock = self.find(text)?;
        let interlock = &mut self.all[interlock];
        let mut seen = Vec::new();
        for input in interlock.inputs.iter().filter(|input| !input.may_be_missing) {
            let members = table.selector(input.selector).members();
            if members.is_empty() {
                return Err(format!("there is no series {}", input.shown));
            }
            for position in members {
                let labels = &table.series(*position).spec.labels;
                if let Some(doubt) = self.doubts.get(position) {
                    return Err(format!("{} is {doubt}", shown(labels)));
                }
                let Some(sample) = table.series(*position).at(time) else {
                    return Err(format!("{} has no fresh value", shown(labels)));
                };
                let device = labels.get("device").map(|device| format!("{device}/")).unwrap_or_default();
                let name = labels.get(NAME).map_or("", String::as_str);
                seen.push(format!("{device}{name} is {}", sample.value));
            }
        }
        self.cells.clear();
        interlock.condition.evaluate(table, time, &mut self.cells);
        match interlock.condition.failure() {
            Some(failure) => Err(failure.to_string()),
            None if self.cells.is_empty() => {
                let more = if seen.len() > SERIES_SHOWN { ", ..." } else { "" };
                seen.truncate(SERIES_SHOWN);
                let now = if seen.is_empty() { String::new() } else { format!(": {}{more}", seen.join(", ")) };
                Err(format!("it does not hold now{now}"))
            }
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Whether the interlock that is written so allows a write at `time`.
    ///
    /// # Errors
    /// Why not: it does not hold, a series is missing, stale or in doubt, or the expression has no result.
    pub fn allows(&mut self, text: &str, time: Timestamp) -> Result<(), String> {
        self.interlocks.allows(&self.table, text, time)
    }

    /// Names of the devices whose series an interlock looks at.
    ///
    /// # Errors
    /// It is not among the interlocks of this engine.
    pub fn interlock_devices(&self, text: &str) -> Result<BTreeSet<String>, String> {
        let interlock = &self.interlocks.all[self.interlocks.find(text)?];
        let members = interlock.inputs.iter().flat_map(|input| self.table.selector(input.selector).members());
        Ok(members.filter_map(|position| self.table.series(*position).spec.labels.get("device").cloned()).collect())
    }
}
