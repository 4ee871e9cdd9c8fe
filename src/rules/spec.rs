//! What a rule is, once its file has been read. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use promql_parser::parser::Expr;
use serde::{Deserialize, Serialize};

use super::alarm::AlarmPolicy;
use super::bounded::BoundBy;
use crate::model::{Priority, Timestamp};

/// Rules that are evaluated together, in their order.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    /// Name, unique in its file.
    pub name: String,
    /// Time between evaluations, which are aligned to the clock. Not zero.
    pub interval: Duration,
    /// How far behind the clock the group looks.
    pub query_offset: Duration,
    /// Most results of one rule; zero for no limit.
    pub limit: usize,
    /// The rules.
    pub rules: Vec<RuleSpec>,
}

/// A condition of writes, evaluated on request.
#[derive(Debug, Clone)]
pub struct InterlockSpec {
    /// As it is written.
    pub text: String,
    /// What it says.
    pub expression: Expr,
}

/// Where a rule is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file; empty for what nobody wrote.
    pub file: String,
    /// Line, from 1 on.
    pub line: usize,
    /// Column, from 1 on.
    pub column: usize,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct RuleSpec {
    /// Where its expression stands.
    pub place: Place,
    /// Name of the alarm, or of the series that it records.
    pub name: String,
    /// The expression.
    pub expression: Expr,
    /// Labels that every result gets; templates for alarms.
    pub labels: BTreeMap<String, String>,
    /// What becomes of the results.
    pub kind: RuleKind,
}

impl RuleSpec {
    /// Whether it raises alarms.
    pub fn is_alert(&self) -> bool {
        matches!(self.kind, RuleKind::Alert(_))
    }
}

/// What becomes of the results of a rule.
#[derive(Debug, Clone)]
pub enum RuleKind {
    /// A series of its own.
    Record,
    /// Alarms, one for each set of labels.
    Alert(Box<AlertSpec>),
}

/// What an alert has beyond its expression.
#[derive(Debug, Clone)]
pub struct AlertSpec {
    /// Delays, latch and the like.
    pub policy: AlarmPolicy,
    /// How soon somebody has to act.
    pub priority: Priority,
    /// The longest that it can be shelved.
    pub shelve_most: Duration,
    /// The alarm is gone when this has a result, and not before.
    pub clear: Option<Expr>,
    /// Names of alarms that explain this one.
    pub suppressed_by: Vec<String>,
    /// Texts for people, with templates.
    pub annotations: BTreeMap<String, String>,
    /// Evaluated with every sample, not only at the interval.
    pub on_arrival: bool,
    /// Which samples of a range count; all when nothing is said.
    pub bound: Option<BoundBy>,
    /// Done when the alarm is raised.
    pub on_raised: Vec<ActionSpec>,
    /// Done when it is cleared.
    pub on_cleared: Vec<ActionSpec>,
}

/// What a rule does beside telling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionSpec {
    /// Write a tag.
    Write {
        /// The device; a template.
        device: String,
        /// The point.
        point: String,
        /// The value.
        value: f64,
        /// The rule was pushed, or what it looks at was: its writes are writes from afar.
        from_afar: bool,
    },
    /// Poll a device more often for a while.
    PollFaster {
        /// The device; a template.
        device: String,
        /// How often.
        interval: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// Send readings at full rate from around the event.
    Capture {
        /// A selector of the series.
        series: String,
        /// From so long before.
        before: Duration,
        /// To so long after.
        after: Duration,
    },
    /// Publish a message.
    Publish {
        /// Last level of the topic, below `event` of the gateway.
        topic: String,
        /// Text; a template.
        payload: String,
    },
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The alarm that asks for it.
    pub alarm: String,
    /// Labels of that alarm.
    pub labels: BTreeMap<String, String>,
    /// When it asked.
    pub time: Timestamp,
    /// What, with templates filled in.
    pub what: ActionSpec,
}

/// What is asked, in a few words: `poll_faster press-1`.
impl fmt::Display for ActionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { device, point, value, .. } => write!(f, "write {device}/{point} = {value}"),
            Self::PollFaster { device, .. } => write!(f, "poll_faster {device}"),
            Self::Capture { series, .. } => write!(f, "capture {series}"),
            Self::Publish { topic, .. } => write!(f, "publish {topic}"),
        }
    }
}
