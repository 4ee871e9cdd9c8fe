//! What goes into an engine, and what comes out of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::DeviceSeries;
use crate::model::{AlarmRecord, Timestamp};
use crate::rules::live::{Labels, SeriesSpec};
use crate::rules::spec::{Action, GroupSpec, InterlockSpec, Place};
use crate::rules::text::Surroundings;

/// Why an expression with `@` and a fixed time is refused by the agent.
pub const FIXED_TIME: &str = "@ with a fixed time looks at samples of the past, and the gateway keeps only those that \
                              the windows of its rules reach from now on: use offset, or @ start() and @ end(); \
                              lineside rules eval looks at stored readings";

/// Why a rule cannot be evaluated here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The ranges of the expression cannot be bounded.
    #[error(
        "rule {rule} of group {group}: edge.window bounds ranges such as avg_over_time(selector[5m]), and this expression has none of that form: {expression}"
    )]
    Form {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
        /// The expression.
        expression: String,
        /// Where it stands.
        place: Place,
    },
    /// The windows of all rules would take more memory than they may.
    #[error(
        "rule {rule} of group {group}: its windows would take {rule_mib} MiB, all together {total_mib} MiB of the {limit_mib} MiB that rules.memory allows: shorten the window, select fewer series, or record an average first"
    )]
    TooLarge {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
        /// What this rule takes, in MiB.
        rule_mib: u64,
        /// What all rules take, in MiB.
        total_mib: u64,
        /// What they may take, in MiB.
        limit_mib: u64,
        /// Where it stands.
        place: Place,
    },
    /// The expression looks at a fixed time.
    #[error("rule {rule} of group {group}: {FIXED_TIME}")]
    FixedTime {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
        /// Where it stands.
        place: Place,
    },
    /// A rule records what it depends on itself, through others or not.
    #[error("rule {rule} of group {group} depends on its own result")]
    Cycle {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
        /// Where it stands.
        place: Place,
    },
    /// An alarm is explained by itself, through others or not: it would come and go with every evaluation.
    #[error(
        "alarm {rule} of group {group} is suppressed by itself ({path}): take one of these names out of edge.suppressed_by"
    )]
    Suppression {
        /// Group of the rule.
        group: String,
        /// Name of the rule.
        rule: String,
        /// Names of alarms, each suppressed by the next.
        path: String,
        /// Where it stands.
        place: Place,
    },
}

impl EngineError {
    /// Where the rule stands.
    pub fn place(&self) -> &Place {
        match self {
            Self::Form { place, .. }
            | Self::FixedTime { place, .. }
            | Self::Cycle { place, .. }
            | Self::Suppression { place, .. }
            | Self::TooLarge { place, .. } => place,
        }
    }
}

/// A result of a recording rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Labels of the series, its name among them.
    pub labels: Labels,
    /// Time of the evaluation.
    pub time: Timestamp,
    /// The result.
    pub value: f64,
}

/// What came of some samples or some time.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Transitions, in order.
    pub alarms: Vec<AlarmRecord>,
    /// Results of recording rules.
    pub recorded: Vec<Recorded>,
    /// Series of recording rules that have no result any more.
    pub ended: Vec<Labels>,
    /// What to do.
    pub actions: Vec<Action>,
    /// What has to be remembered has changed.
    pub is_changed: bool,
}

/// Figures about the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct EngineStatus {
    /// Groups in force.
    pub groups: usize,
    /// Rules in force.
    pub rules: usize,
    /// Series that some rule selects.
    pub series: usize,
    /// Samples taken.
    pub samples: u64,
    /// Samples that were older than one already taken.
    pub out_of_order: u64,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Evaluations that had no result because the expression allows none over these series.
    #[serde(default)]
    pub failures: u64,
    /// Alarms that are not normal.
    pub active: usize,
    /// Bytes of samples and windows.
    pub bytes: usize,
}

/// What an engine is made of.
#[derive(Debug, Clone, Default)]
pub struct RuleSetup {
    /// The rules.
    pub groups: Vec<GroupSpec>,
    /// Conditions of writes.
    pub interlocks: Vec<InterlockSpec>,
    /// The series there are.
    pub series: Vec<SeriesSpec>,
    /// Which of them tell whether a device answers.
    pub devices: Vec<DeviceSeries>,
    /// Labels that every recorded series gets where it has none of that name: site and gateway.
    pub external: BTreeMap<String, String>,
    /// For so long results stand for their series; three intervals of their group when nothing is said.
    pub look_back: Option<Duration>,
    /// Most bytes that the windows may take once they are full; no limit when nothing is said.
    pub memory_limit: Option<u64>,
    /// What templates can name beside labels and value.
    pub surroundings: Surroundings,
    /// Expressions may look at fixed times: all samples are there from the beginning, as in unit tests.
    pub allows_fixed_times: bool,
}

impl RuleSetup {
    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.interlocks.is_empty()
    }
}
