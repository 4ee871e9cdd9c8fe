//! The list of problems: everything that needs a person, in the order of urgency. One pure function over the snapshot of
//! the agent yields it; `status`, the health message, `fleet`, `alarms` and the remote command `status` show this list
//! and no other.
//!
//! ```json
//! { "key": "device-silent/press-1", "severity": "major", "area": "devices", "about": { "device": "press-1" },
//!   "since": 1764504191000, "text": "press-1 does not answer: no answer within 500 ms",
//!   "remedy": "check its power, its wiring and its unit id" }
//! ```
//!
//! Text and remedy together are one sentence: the fault, the place, the reason, and the step to take. `key` names the
//! same problem for as long as it lasts, also where figures in the text change; two lists with the same keys say the
//! same. The list is bounded: [`PROBLEMS_MAX`] problems, each with texts of [`TEXT_MAX`] characters.
//!
//! One file for each area. A stage that has something to say keeps the fact as a typed field of its own status; the file
//! of its area turns it into a problem.

mod configuration;
mod devices;
mod machine;
mod mqtt;
mod remote;
mod rules;
mod store;

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::Status;
use crate::model::Timestamp;

/// Most problems in a list; a last one counts those left out. A plant with two hundred dead devices on forty links fits.
pub const PROBLEMS_MAX: usize = 60;

/// Most characters of a text or a remedy: reasons come from devices and brokers, and may be long.
pub const TEXT_MAX: usize = 400;

/// How urgent a problem is (the perceived severities of ITU-T X.733, 8.1.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Readings are lost, or will be: act at once.
    Critical,
    /// A part does not do its work: act soon.
    Major,
    /// Everything works; somebody should look at it in time.
    Minor,
    /// Nothing is wrong: a fact that a person on the spot should know.
    Notice,
}

impl Severity {
    /// True where something is wrong: exit codes and the colours of a fleet follow it.
    pub fn is_trouble(self) -> bool {
        match self {
            Self::Critical | Self::Major | Self::Minor => true,
            Self::Notice => false,
        }
    }
}

impl Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::Major => "major",
            Self::Minor => "minor",
            Self::Notice => "notice",
        })
    }
}

/// The part of the gateway that has the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The store and its disk.
    Store,
    /// Remote commands and configurations.
    Remote,
    /// The broker and delivery to it.
    Mqtt,
    /// Links, devices and points.
    Devices,
    /// Rules, alarms and their actions.
    Rules,
    /// Clock, memory, wear, and the configuration as a whole.
    Machine,
}

/// The thing that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum About {
    /// A point of a device.
    Point {
        /// Name of the device.
        device: String,
        /// Name of the point.
        point: String,
    },
    /// A device.
    Device {
        /// Name of the device.
        device: String,
    },
    /// A link.
    Link {
        /// Name of the link.
        link: String,
    },
    /// An alarm.
    Alarm {
        /// Name of the alarm.
        alarm: String,
        /// Its labels, those of the gateway left out.
        labels: BTreeMap<String, String>,
    },
    /// A rule.
    Rule {
        /// Name of the rule.
        rule: String,
    },
}

impl About {
    /// The device concerned, where there is one.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Point { device, .. } | Self::Device { device } => Some(device),
            Self::Alarm { labels, .. } => labels.get("device").map(String::as_str),
            Self::Link { .. } | Self::Rule { .. } => None,
        }
    }
}

/// One thing that needs a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Names the same problem for as long as it lasts.
    pub key: String,
    /// How urgent it is.
    pub severity: Severity,
    /// The part that has it.
    pub area: Area,
    /// The thing concerned; nothing where it is the gateway as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// Since when, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The fault, the place and the reason, without a full stop.
    pub text: String,
    /// The step to take, where the text does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    fn new(area: Area, severity: Severity, key: impl Into<String>, text: impl Into<String>) -> Self {
        let (key, text) = (printable(&key.into()), printable(&text.into()));
        Self { key, severity, area, about: None, since: None, text, remedy: None }
    }

    fn about(self, about: About) -> Self {
        Self { about: Some(about), ..self }
    }

    fn since(self, since: Option<Timestamp>) -> Self {
        Self { since, ..self }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(printable(&remedy.into())), ..self }
    }
}

impl Problem {
    /// Since when, where the text does not say it itself.
    pub fn since_beside(&self) -> Option<Timestamp> {
        self.since.filter(|since| !self.text.contains(&since.to_string()))
    }
}

/// The problem as one sentence, with the time in UTC.
impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        match self.since_beside() {
            Some(since) => write!(f, " (since {since})"),
            None => Ok(()),
        }
    }
}

/// Everything that needs a person, the most urgent first.
pub fn list(status: &Status) -> Vec<Problem> {
    let mut problems = store::problems(status);
    problems.extend(remote::problems(status));
    problems.extend(mqtt::problems(status));
    problems.extend(devices::problems(status));
    problems.extend(rules::problems(status));
    problems.extend(configuration::problems(status));
    problems.extend(machine::problems(status));
    bounded(problems)
}

/// The list in order and within its bound.
fn bounded(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.severity);
    let excess = problems.len().saturating_sub(PROBLEMS_MAX);
    if excess > 0 {
        // The last line takes a place of its own.
        let left_out = problems.split_off(PROBLEMS_MAX - 1);
        let severity = left_out.first().map_or(Severity::Minor, |problem| problem.severity);
        let text = format!("{} more problems are not listed", left_out.len());
        problems.push(
            Problem::new(Area::Machine, severity, "more", text).remedy("solve those above first, the others follow"),
        );
    }
    problems
}

/// Text from outside without control characters, and no longer than [`TEXT_MAX`] characters.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(TEXT_MAX));
    for (number, character) in text.chars().enumerate() {
        if number == TEXT_MAX {
            shown.push('…');
            break;
        }
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// A short name for a text that has no other.
fn digest(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

/// The first reason, and the number of the others.
fn joined(reasons: &[String]) -> String {
    match reasons {
        [] => "no reason is known".to_owned(),
        [only] => only.clone(),
        [first, more @ ..] => format!("{first} (and {} more faults; the log has them all)", more.len()),
    }
}

/// `a, b, c and 9 more`.
fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let count = names.len();
    let mut text = names.take(SHOWN).collect::<Vec<&str>>().join(", ");
    if count > SHOWN {
        text.push_str(&format!(" and {} more", count - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(severity: Severity, key: &str) -> Problem {
        Problem::new(Area::Devices, severity, key, "text")
    }

    #[test]
    fn the_most_urgent_comes_first_and_equals_keep_their_order() {
        let listed = bounded(vec![
            problem(Severity::Minor, "a"),
            problem(Severity::Critical, "b"),
            problem(Severity::Major, "c"),
            problem(Severity::Major, "d"),
        ]);

        assert_eq!(listed.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["b", "c", "d", "a"]);
    }

    #[test]
    fn a_long_list_ends_with_the_number_of_those_left_out() {
        let listed = bounded((0..500).map(|number| problem(Severity::Major, &number.to_string())).collect());

        assert_eq!(listed.len(), PROBLEMS_MAX);
        assert_eq!(listed[PROBLEMS_MAX - 1].text, "441 more problems are not listed");
        assert_eq!(bounded((0..60).map(|number| problem(Severity::Major, &number.to_string())).collect()).len(), 60);
    }

    #[test]
    fn what_a_device_says_cannot_move_the_cursor_or_flood_the_screen() {
        let said = Problem::new(Area::Devices, Severity::Major, "a", format!("\x1b[2J\r\n{}", "x".repeat(10_000)));

        assert!(said.text.starts_with("\\u{1b}[2J\\r\\nx"), "{}", said.text);
        assert_eq!(said.text.chars().filter(|c| *c == 'x').count() + "\x1b[2J\r\n".chars().count(), TEXT_MAX);
    }

    #[test]
    fn a_problem_is_the_same_after_its_way_through_json() {
        let all = [
            About::Point { device: "a".into(), point: "b".into() },
            About::Device { device: "a".into() },
            About::Link { link: "a".into() },
            About::Alarm { alarm: "a".into(), labels: BTreeMap::from([("line".into(), "b".into())]) },
            About::Rule { rule: "a".into() },
        ];
        for about in all {
            let sent = problem(Severity::Major, "k").about(about).since(Some(Timestamp(7))).remedy("look");
            let json = serde_json::to_string(&sent).unwrap();
            assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), sent, "{json}");
        }
    }

    #[test]
    fn a_problem_reads_as_one_sentence() {
        let said = problem(Severity::Major, "k").since(Some(Timestamp(1_700_000_000_123))).remedy("look");

        assert_eq!(said.to_string(), "text; look (since 2023-11-14T22:13:20.123Z)");
    }
}
