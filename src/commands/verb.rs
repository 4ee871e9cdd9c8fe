//! What can be commanded, with which arguments, and who may. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::write::Wish;
use crate::buffer::history::HistorySpan;
use crate::config::Role;
use crate::model::{Lane, Sequence, Timestamp};
use crate::settings::{nearest, parse_duration};

/// Most lines of the log in one answer.
pub const LOG_LINES_MAX: usize = 200;

/// A changed log level returns by itself, at the latest after so long.
pub const LOG_LEVEL_LONGEST: Duration = Duration::from_secs(4 * 3600);

/// One command with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Every stage of the agent.
    Status,
    /// Poll a device now, and store what it says.
    PollNow(OneDevice),
    /// Read tags of a device now; nothing is stored.
    Read(ReadTags),
    /// Read registers or bits now.
    ReadRaw(ReadRaw),
    /// Write a tag, within the bounds that the owner set.
    Write(Wish),
    /// A person has seen an alarm.
    AlarmAck(WhichAlarm),
    /// A person does not want to hear of an alarm for a while.
    AlarmShelve(Shelve),
    /// More or less in the log for a while.
    LogLevel(LogLevel),
    /// The latest lines of the log.
    LogTail(LogTail),
    /// Send stored readings, or alarms, to the broker again, under the sequences they have.
    Resend(Resend),
    /// Drop what was learned of a device: what it refuses, how fast it answers.
    Forget(OneDevice),
    /// Stop in order and start again.
    Restart,
    /// What the makers need to find a fault, without secrets, in parts.
    SupportBundle,
}

/// Arguments of `poll-now` and `forget`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneDevice {
    /// Name of the device.
    pub device: String,
}

/// Arguments of `read` for tags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadTags {
    /// Name of the device.
    pub device: String,
    /// Names of its points; all when none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<String>,
}

/// Arguments of `read` for a raw range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRaw {
    /// Name of the link.
    pub link: String,
    /// Address on the link.
    pub unit_id: u8,
    /// `coil`, `discrete`, `holding` or `input`.
    pub table: String,
    /// First address, from 0.
    pub address: u16,
    /// How many.
    pub count: u16,
}

/// Arguments of `alarm-ack`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichAlarm {
    /// Name of the alarms.
    pub name: String,
    /// Labels that they must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Arguments of `alarm-shelve`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shelve {
    /// Name of the alarms.
    pub name: String,
    /// Labels that they must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For how long; at most as long as the rule allows.
    #[serde(rename = "for")]
    pub span: Span,
}

/// Arguments of `log-level`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// What to log, as in `RUST_LOG`: `debug`, `lineside::poll=trace,info`.
    pub level: String,
    /// For how long.
    #[serde(rename = "for")]
    pub span: Span,
}

/// Arguments of `log-tail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogTail {
    /// How many lines, at most 200.
    #[serde(default = "fifty")]
    pub lines: usize,
}

fn fifty() -> usize {
    50
}

/// Arguments of `resend`: at least one of the four bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// Nothing older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
    /// Nothing of this time or newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Sequence of the first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Sequence of the last commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Alarm transitions instead of readings.
    #[serde(default)]
    pub alarms: bool,
}

impl Resend {
    fn checked(self) -> Result<Self, String> {
        if [self.first, self.last].iter().all(Option::is_none) && [self.from, self.until].iter().all(Option::is_none) {
            return Err("resend: which part? \"from\", \"until\", \"first\" or \"last\" says so".to_owned());
        }
        let span = self.span();
        if span.first > span.last || span.from >= span.until {
            return Err("resend: the end of the range is before its beginning".to_owned());
        }
        Ok(self)
    }

    /// What it means to the store.
    pub fn span(&self) -> HistorySpan {
        let all = HistorySpan::default();
        HistorySpan {
            first: self.first.map_or(all.first, Sequence),
            last: self.last.map_or(all.last, Sequence),
            from: self.from.map_or(all.from, |moment| moment.0),
            until: self.until.map_or(all.until, |moment| moment.0),
            gaps_only: false,
        }
    }

    /// Which lane is meant.
    pub fn lane(&self) -> Lane {
        if self.alarms { Lane::Alarms } else { Lane::Telemetry }
    }
}

/// A moment: milliseconds since 1970, or RFC 3339 with its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Timestamp")]
pub struct Moment(pub Timestamp);

impl TryFrom<Value> for Moment {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let text = || value.as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
        let moment = value.as_i64().or_else(text);
        moment
            .map(|moment| Self(Timestamp(moment)))
            .ok_or("must be a time such as \"2026-11-25T06:00:00Z\", or a whole number of milliseconds since 1970")
    }
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

/// A span of time as people write it: `"30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct Span(pub Duration);

impl TryFrom<Value> for Span {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let span = value.as_str().and_then(parse_duration).filter(|span| !span.is_zero());
        span.map(Self).ok_or("a span of time must be a whole number with a unit such as \"30s\", \"30m\" or \"8h\"")
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        crate::settings::show_duration(span.0)
    }
}

impl Verb {
    /// Every command by its name.
    pub const NAMES: [&str; 12] = [
        "status",
        "poll-now",
        "read",
        "write",
        "alarm-ack",
        "alarm-shelve",
        "log-level",
        "log-tail",
        "resend",
        "forget",
        "restart",
        "support-bundle",
    ];

    /// The command of that name with these arguments.
    ///
    /// # Errors
    /// Says what is not understood.
    pub fn parse(command: &str, arguments: &Value) -> Result<Self, String> {
        match command {
            "status" => none(command, arguments).map(|()| Self::Status),
            "poll-now" => some(command, arguments).map(Self::PollNow),
            "read" if arguments.get("link").is_some() => some(command, arguments).map(Self::ReadRaw),
            "read" => some(command, arguments).map(Self::Read),
            "write" => some(command, arguments).map(Self::Write),
            "alarm-ack" => some(command, arguments).map(Self::AlarmAck),
            "alarm-shelve" => some(command, arguments).map(Self::AlarmShelve),
            "log-level" => some(command, arguments).and_then(LogLevel::checked).map(Self::LogLevel),
            "log-tail" if arguments.is_null() => Ok(Self::LogTail(LogTail { lines: fifty() })),
            "log-tail" => some(command, arguments).and_then(LogTail::checked).map(Self::LogTail),
            "resend" => some(command, arguments).and_then(Resend::checked).map(Self::Resend),
            "forget" => some(command, arguments).map(Self::Forget),
            "restart" => none(command, arguments).map(|()| Self::Restart),
            "support-bundle" => none(command, arguments).map(|()| Self::SupportBundle),
            _ => {
                let meant = nearest(Self::NAMES, command).map(|name| format!("; did you mean {name}?"));
                let (written, known) = (cut(command), Self::NAMES.join(", "));
                Err(format!("no command {written:?}{}; commands are {known}", meant.unwrap_or_default()))
            }
        }
    }

    /// The least role that may do this.
    pub fn role(&self) -> Role {
        match self {
            Self::Status | Self::Read(_) | Self::ReadRaw(_) | Self::LogTail(_) => Role::Viewer,
            Self::PollNow(_)
            | Self::Write(_)
            | Self::AlarmAck(_)
            | Self::AlarmShelve(_)
            | Self::LogLevel(_)
            | Self::Resend(_)
            | Self::Forget(_) => Role::Operator,
            Self::Restart | Self::SupportBundle => Role::Engineer,
        }
    }

    /// Whether anything is different afterwards: such a command is refused when it cannot be journalled.
    pub fn changes(&self) -> bool {
        match self {
            Self::Status | Self::Read(_) | Self::ReadRaw(_) | Self::LogTail(_) | Self::SupportBundle => false,
            Self::PollNow(_)
            | Self::Write(_)
            | Self::AlarmAck(_)
            | Self::AlarmShelve(_)
            | Self::LogLevel(_)
            | Self::Resend(_)
            | Self::Forget(_)
            | Self::Restart => true,
        }
    }
}

impl LogLevel {
    fn checked(self) -> Result<Self, String> {
        if self.span.0 > LOG_LEVEL_LONGEST {
            return Err("log-level: \"for\" must be at most 4h".to_owned());
        }
        Ok(self)
    }
}

impl LogTail {
    fn checked(self) -> Result<Self, String> {
        if !(1..=LOG_LINES_MAX).contains(&self.lines) {
            return Err(format!("log-tail: \"lines\" must be 1 to {LOG_LINES_MAX}"));
        }
        Ok(self)
    }
}

fn none(command: &str, arguments: &Value) -> Result<(), String> {
    let is_empty = arguments.is_null() || arguments.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty { Ok(()) } else { Err(format!("{command} takes no arguments")) }
}

fn some<T: DeserializeOwned>(command: &str, arguments: &Value) -> Result<T, String> {
    // Whoever gives no arguments is told which one is missing.
    let none = Value::Object(serde_json::Map::new());
    let arguments = if arguments.is_null() { &none } else { arguments };
    serde_path_to_error::deserialize(arguments).map_err(|error| match error.path().to_string().as_str() {
        "." => format!("{command}: {}", error.inner()),
        key => format!("{command}: {key:?}: {}", error.inner()),
    })
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_command_is_understood_by_its_name() {
        let device = json!({ "device": "press-1" });
        let raw = json!({ "link": "hall", "unit_id": 1, "table": "holding", "address": 0, "count": 2 });
        assert_eq!(Verb::parse("poll-now", &device), Ok(Verb::PollNow(OneDevice { device: "press-1".to_owned() })));
        assert!(matches!(Verb::parse("read", &device), Ok(Verb::Read(_))));
        assert!(matches!(Verb::parse("read", &raw), Ok(Verb::ReadRaw(_))));
        assert_eq!(Verb::parse("status", &json!({})), Ok(Verb::Status));
        assert_eq!(Verb::parse("log-tail", &Value::Null), Ok(Verb::LogTail(LogTail { lines: 50 })));
        assert_eq!(Verb::parse("forget", &device), Ok(Verb::Forget(OneDevice { device: "press-1".to_owned() })));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let refused = |command: &str, arguments: Value| Verb::parse(command, &arguments).unwrap_err();

        let read = json!({ "link": "hall", "unit_id": "one", "table": "holding", "address": 0, "count": 2 });
        assert_eq!(refused("read", read), "read: \"unit_id\": invalid type: string \"one\", expected u8");
        assert!(refused("log-tail", json!({ "lines": -1 })).starts_with("log-tail: \"lines\": invalid value"));
        assert_eq!(refused("forget", Value::Null), "forget: missing field `device`");
    }

    #[test]
    fn what_is_sent_again_is_named_by_times_or_sequences() {
        let resend = |arguments: Value| Verb::parse("resend", &arguments);
        let times = json!({ "from": "2023-11-14T22:13:20Z", "until": 1_700_000_001_000_i64 });
        let Ok(Verb::Resend(wanted)) = resend(times) else { panic!("not understood") };
        let span = wanted.span();
        assert_eq!((span.from, span.until), (Timestamp(1_700_000_000_000), Timestamp(1_700_000_001_000)));
        assert_eq!((span.last, wanted.lane()), (Sequence(u64::MAX), Lane::Telemetry));

        let refused = |arguments| resend(arguments).unwrap_err();
        assert!(refused(json!({ "alarms": true })).starts_with("resend: which part?"));
        assert!(refused(json!({ "first": 9, "last": 8 })).ends_with("before its beginning"));
        assert!(refused(json!({ "from": 5, "until": 5 })).ends_with("before its beginning"));
        assert!(refused(json!({ "from": "2h" })).contains("must be a time such as"));
        assert!(refused(json!({ "first": -1 })).starts_with("resend: "));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let refused = |command, arguments| Verb::parse(command, &arguments).unwrap_err();
        assert!(refused("reboot", Value::Null).starts_with("no command \"reboot\"; commands are status, poll-now"));
        assert_eq!(refused("status", json!({ "a": 1 })), "status takes no arguments");
        assert!(
            refused("poll-now", json!({ "device": "a", "b": 1 })).starts_with("poll-now: \"b\": unknown field `b`")
        );
        for span in [json!("10"), json!(10), json!("0s"), Value::Null] {
            assert!(refused("log-level", json!({ "level": "debug", "for": span })).contains("with a unit"));
        }
        assert!(refused("statsu", Value::Null).starts_with("no command \"statsu\"; did you mean status?"));
        assert_eq!(refused("forget", Value::Null), "forget: missing field `device`");
        assert!(refused("resend", Value::Null).starts_with("resend: which part?"));
        assert_eq!(
            refused("log-level", json!({ "level": "debug", "for": "5h" })),
            "log-level: \"for\" must be at most 4h"
        );
        assert_eq!(refused("log-tail", json!({ "lines": 0 })), "log-tail: \"lines\" must be 1 to 200");
    }
}
