//! Who did what, and who was refused: a log in which each line holds the hash of the line before, so that no line can be
//! changed or left out unseen. Blocks.
//!
//! ```text
//! remote/audit      the latest lines
//! remote/audit.1    the lines before
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log_file::{LogFile, read_lines};
use super::signature::digest;
use crate::model::{AlarmRecord, AlarmState, Priority, Timestamp, Transition};

/// A file of this many bytes is put aside, and the one put aside before goes.
const LENGTH_MAX: u64 = 1 << 20;

/// Refusals of one kind are written once in so long, then with their count.
const REFUSALS_EVERY: Duration = Duration::from_secs(60);

/// Longest text of a line, in characters.
const TEXT_MAX: usize = 400;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// From 1, without gaps.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// `command`, `answer`, `write`, `configuration`, `lock` or `refusal`.
    pub kind: String,
    /// Who.
    pub by: String,
    /// What, for people.
    pub text: String,
    /// Hash of the line before; of the first one empty.
    pub previous: String,
    /// SHA-256 of everything above.
    pub hash: String,
}

impl AuditLine {
    fn hash_of(&self) -> String {
        let Self { number, time, kind, by, text, previous, .. } = self;
        let json = serde_json::json!([number, time, kind, by, text, previous]);
        digest(json.to_string().as_bytes())
    }
}

/// What a check of the log found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Lines that were read.
    pub lines: u64,
    /// Number of the first one that is still there.
    pub first: u64,
    /// Everything that is wrong.
    pub faults: Vec<String>,
}

/// The log, to be added to.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Option<LogFile>,
    last: (u64, String),
    /// Refusals by kind: since when, and how many are not written.
    refusals: HashMap<String, (Timestamp, u64)>,
}

impl Audit {
    /// Opens the log in `directory`. What prevents that is logged: a gateway whose log is damaged goes on in a new one.
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("audit");
        let mut audit = Self { path, file: None, last: (0, String::new()), refusals: HashMap::new() };
        match LogFile::open::<AuditLine>(&audit.path) {
            Ok((file, lines)) => {
                audit.file = Some(file);
                let put_aside = || read_lines::<AuditLine>(&old(&audit.path)).ok()?.pop();
                if let Some(line) = lines.into_iter().next_back().or_else(put_aside) {
                    audit.last = (line.number, line.hash);
                }
            }
            Err(error) => tracing::error!(%error, "the audit log cannot be used"),
        }
        audit
    }

    /// Adds a line; durable when this returns true.
    pub fn note(&mut self, time: Timestamp, kind: &str, by: &str, text: &str) -> Option<AuditLine> {
        self.file.as_ref()?;
        let text = text.chars().take(TEXT_MAX).collect();
        let (number, previous) = (self.last.0 + 1, self.last.1.clone());
        let mut line =
            AuditLine { number, time, kind: kind.to_owned(), by: by.to_owned(), text, previous, hash: String::new() };
        line.hash = line.hash_of();
        if let Some(file) = &mut self.file
            && let Err(error) = file.append(&line)
        {
            tracing::error!(%error, "a line of the audit log cannot be written");
            return None;
        }
        self.last = (number, line.hash.clone());
        self.put_aside();
        Some(line)
    }

    /// Counts a refusal. The first of a kind in a minute is to be written, with how many came since the one before.
    pub fn refusal_due(&mut self, time: Timestamp, kind: &str) -> Option<String> {
        let (since, left_out) = self.refusals.get(kind).copied().unwrap_or((Timestamp(i64::MIN), 0));
        if time.since(since) < REFUSALS_EVERY && since <= time {
            self.refusals.insert(kind.to_owned(), (since, left_out + 1));
            return None;
        }
        self.refusals.insert(kind.to_owned(), (time, 0));
        Some(if left_out > 0 { format!(" ({left_out} more of this kind since the last line)") } else { String::new() })
    }

    fn put_aside(&mut self) {
        if self.file.as_ref().is_none_or(|file| file.length() < LENGTH_MAX) {
            return;
        }
        if let Err(error) = std::fs::rename(&self.path, old(&self.path)) {
            tracing::warn!(%error, "the audit log cannot be put aside");
            return;
        }
        self.file = LogFile::open::<AuditLine>(&self.path).ok().map(|(file, _)| file);
    }
}

/// A line as the consumers of alarms get it.
pub fn record(line: &AuditLine) -> AlarmRecord {
    let labels = [("kind", &line.kind), ("by", &line.by)].map(|(key, value)| (key.to_owned(), value.clone()));
    let annotations =
        [("summary", line.text.clone()), ("number", line.number.to_string()), ("hash", line.hash.clone())];
    AlarmRecord {
        name: "Audit".to_owned(),
        labels: labels.into(),
        time: line.time,
        transition: Transition::Raised,
        state: AlarmState::Normal,
        priority: Priority::Low,
        value: None,
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        readings: Vec::new(),
        by: Some(line.by.clone()),
    }
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// The lines in `directory`, oldest first.
///
/// # Errors
/// A file cannot be read, or a line of it is damaged.
pub fn lines(directory: &Path) -> Result<Vec<AuditLine>, String> {
    let path = directory.join("audit");
    let mut all = Vec::new();
    for file in [old(&path), path] {
        if file.exists() {
            all.extend(read_lines::<AuditLine>(&file).map_err(|error| error.to_string())?);
        }
    }
    Ok(all)
}

/// Whether no line was changed or left out.
pub fn verify(lines: &[AuditLine]) -> AuditReport {
    let mut report = AuditReport {
        lines: lines.len() as u64,
        first: lines.first().map_or(0, |line| line.number),
        faults: Vec::new(),
    };
    let mut before: Option<&AuditLine> = None;
    for line in lines {
        if line.hash != line.hash_of() {
            report.faults.push(format!("line {} is not what was written", line.number));
        }
        match before {
            Some(before) if line.number != before.number + 1 => {
                report.faults.push(format!("lines are missing between {} and {}", before.number, line.number));
            }
            Some(before) if line.previous != before.hash => {
                report.faults.push(format!("line {} does not follow line {}", line.number, before.number));
            }
            None if line.number == 1 && !line.previous.is_empty() => {
                report.faults.push("line 1 follows another one".to_owned());
            }
            Some(_) | None => {}
        }
        before = Some(line);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(directory: &Path, count: u64) -> Vec<AuditLine> {
        let mut audit = Audit::open(directory);
        (0..count).for_each(|number| drop(audit.note(Timestamp(1), "command", "anna", &format!("status {number}"))));
        lines(directory).unwrap()
    }

    #[test]
    fn a_line_that_is_changed_left_out_or_swapped_is_found() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), 3);
        let lines = written(directory.path(), 3);
        assert_eq!(verify(&lines), AuditReport { lines: 6, first: 1, faults: Vec::new() });

        let mut changed = lines.clone();
        changed[2].by = "bert".to_owned();
        assert_eq!(verify(&changed).faults, ["line 3 is not what was written"]);
        let mut forged = changed;
        forged[2].hash = forged[2].hash_of();
        assert_eq!(verify(&forged).faults, ["line 4 does not follow line 3"]);
        let mut left_out = lines.clone();
        left_out.remove(3);
        assert_eq!(verify(&left_out).faults, ["lines are missing between 3 and 5"]);
    }

    #[test]
    fn the_chain_goes_on_in_the_next_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(directory.path());
        let text = "x".repeat(TEXT_MAX);
        (0..2500).for_each(|_| drop(audit.note(Timestamp(1), "command", "anna", &text)));
        assert!(directory.path().join("audit.1").exists());

        let lines = written(directory.path(), 1);

        assert_eq!(verify(&lines).faults, Vec::<String>::new());
        assert_eq!(lines.last().unwrap().number, 2501);
    }

    #[test]
    fn a_flood_of_refusals_is_one_line_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(directory.path());
        let mut refused = |time: i64, kind: &str| {
            if let Some(more) = audit.refusal_due(Timestamp(time), kind) {
                audit.note(Timestamp(time), "refusal", "", &format!("{kind}: no{more}")).unwrap();
            }
        };
        (0..1000).for_each(|number| refused(number * 100, "signature"));
        refused(5, "role");

        let lines = lines(directory.path()).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].text.contains("(599 more of this kind"), "{}", lines[1].text);
    }
}
