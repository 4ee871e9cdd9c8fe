//! Who did what, and who was refused: a log in which each line holds the hash of the line before, so that no line can be
//! changed or left out unseen. Blocks.
//!
//! ```text
//! remote/audit              the latest lines
//! remote/audit.1            the lines before
//! remote/audit.damaged-<n>  lines of which some are damaged: kept until somebody has looked at them
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log_file::{LogFile, LogFileError, read_whole_lines, sync_directory};
use super::signature::digest;
use crate::model::{AlarmRecord, AlarmState, Priority, Timestamp, Transition};

/// A file of this many bytes is put aside, and the one put aside before goes.
const LENGTH_MAX: u64 = 1 << 20;

/// Refusals of one kind are written once in so long, then with their count.
const REFUSALS_EVERY: Duration = Duration::from_secs(60);

/// Longest text of a line, in characters.
const TEXT_MAX: usize = 400;

/// How the file of a damaged log is called, before its number.
const DAMAGED: &str = "damaged-";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// From 1, without gaps.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// `command`, `answer`, `write`, `configuration`, `lock`, `refusal`, or `log` about itself.
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
    concern: Option<String>,
}

impl Audit {
    /// Opens the log in `directory`. A damaged one is kept aside, and a new one goes on with its numbers: a check of
    /// all of them finds what is missing.
    pub fn open(directory: &Path, now: Timestamp) -> Self {
        let (path, last) = (directory.join("audit"), (0, String::new()));
        let mut audit = Self { path, file: None, last, refusals: HashMap::new(), concern: None };
        let mut opened = LogFile::open::<AuditLine>(&audit.path);
        let mut damage = None;
        if let Err(LogFileError::Damaged { line, .. }) = opened
            && let Some(aside) = audit.set_aside()
        {
            damage = Some(format!("line {line} of the log is damaged; it is kept in {}", aside.display()));
            opened = LogFile::open(&audit.path);
        }
        match opened {
            Ok((file, _)) => {
                audit.file = Some(file);
                let known = lines(directory).lines.pop();
                audit.last = known.map_or((0, String::new()), |line| (line.number, line.hash));
            }
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be used");
                audit.concern = Some(format!("what is done from afar is not written down: {error}"));
            }
        }
        if let Some(damage) = damage {
            tracing::error!(damage, "the audit log was damaged; a new one goes on");
            audit.note(now, "log", "", &damage);
        }
        if let Some(aside) = damaged(directory).first() {
            audit.concern.get_or_insert(format!(
                "the audit log was damaged: look at it with `lineside audit verify`, then move {} away",
                aside.display()
            ));
        }
        audit
    }

    /// What somebody has to look after, if anything.
    pub fn concern(&self) -> Option<&str> {
        self.concern.as_deref()
    }

    /// Moves the log out of the way. Returns where it is now.
    fn set_aside(&self) -> Option<PathBuf> {
        let free =
            (1..).map(|number| self.path.with_extension(format!("{DAMAGED}{number}"))).find(|path| !path.exists());
        let aside = free.expect("there are more numbers than files");
        let moved = std::fs::rename(&self.path, &aside).and_then(|()| sync_directory(&self.path));
        moved.inspect_err(|error| tracing::error!(%error, "the damaged audit log cannot be kept aside")).ok()?;
        Some(aside)
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

/// What can be read of a log.
#[derive(Debug, Default)]
pub struct AuditLines {
    /// Oldest first.
    pub lines: Vec<AuditLine>,
    /// Files that cannot be read, and lines that are damaged.
    pub faults: Vec<String>,
}

/// The lines in `directory`.
pub fn lines(directory: &Path) -> AuditLines {
    let path = directory.join("audit");
    let mut all = AuditLines::default();
    let files = std::iter::once(old(&path)).chain(damaged(directory)).chain([path]);
    for file in files.filter(|file| file.exists()) {
        match read_whole_lines::<AuditLine>(&file) {
            Ok((lines, damaged)) => {
                all.lines.extend(lines);
                all.faults.extend(damaged.iter().map(|line| format!("{}: line {line} is damaged", file.display())));
            }
            Err(error) => all.faults.push(format!("{}: {error}", file.display())),
        }
    }
    all
}

/// The damaged logs that are kept in `directory`, oldest first.
fn damaged(directory: &Path) -> Vec<PathBuf> {
    let paths = (1..).map(|number| directory.join("audit").with_extension(format!("{DAMAGED}{number}")));
    paths.take_while(|path| path.exists()).collect()
}

/// Whether no line was changed or left out.
pub fn verify(all: &AuditLines) -> AuditReport {
    let mut report = AuditReport {
        lines: all.lines.len() as u64,
        first: all.lines.first().map_or(0, |line| line.number),
        faults: all.faults.clone(),
    };
    let mut before: Option<&AuditLine> = None;
    for line in &all.lines {
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
        let mut audit = Audit::open(directory, Timestamp(1));
        (0..count).for_each(|number| drop(audit.note(Timestamp(1), "command", "anna", &format!("status {number}"))));
        lines(directory).lines
    }

    #[test]
    fn a_line_that_is_changed_left_out_or_swapped_is_found() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), 3);
        let lines = written(directory.path(), 3);
        let verify = |lines: &[AuditLine]| verify(&AuditLines { lines: lines.to_vec(), faults: Vec::new() });
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
        let mut audit = Audit::open(directory.path(), Timestamp(1));
        let text = "x".repeat(TEXT_MAX);
        (0..2500).for_each(|_| drop(audit.note(Timestamp(1), "command", "anna", &text)));
        assert!(directory.path().join("audit.1").exists());

        let lines = written(directory.path(), 1);

        assert_eq!(verify(&super::lines(directory.path())).faults, Vec::<String>::new());
        assert_eq!(lines.last().unwrap().number, 2501);
    }

    #[test]
    fn a_damaged_log_is_kept_and_the_next_one_goes_on_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), 5);
        let path = directory.path().join("audit");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("status 2", "status 9", 1)).unwrap();

        let mut audit = Audit::open(directory.path(), Timestamp(2));
        assert!(audit.note(Timestamp(3), "write", "bert", "setpoint").is_some());

        assert!(audit.concern().unwrap().contains("audit.damaged-1"), "{audit:?}");
        let all = lines(directory.path());
        let numbers: Vec<u64> = all.lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 4, 5, 6, 7]);
        assert!(all.lines[4].text.contains("line 3 of the log is damaged"), "{:?}", all.lines[4]);
        let faults = verify(&all).faults;
        assert!(faults[0].ends_with("audit.damaged-1: line 3 is damaged"), "{faults:?}");
        assert_eq!(faults[1..], ["lines are missing between 2 and 4"]);
        drop(audit);
        assert!(Audit::open(directory.path(), Timestamp(4)).concern().is_some(), "until it is moved away");
        std::fs::remove_file(directory.path().join("audit.damaged-1")).unwrap();
        assert!(Audit::open(directory.path(), Timestamp(5)).concern().is_none());
    }

    #[test]
    fn a_flood_of_refusals_is_one_line_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(directory.path(), Timestamp(1));
        let mut refused = |time: i64, kind: &str| {
            if let Some(more) = audit.refusal_due(Timestamp(time), kind) {
                audit.note(Timestamp(time), "refusal", "", &format!("{kind}: no{more}")).unwrap();
            }
        };
        (0..1000).for_each(|number| refused(number * 100, "signature"));
        refused(5, "role");

        let lines = lines(directory.path()).lines;
        assert_eq!(lines.len(), 3);
        assert!(lines[1].text.contains("(599 more of this kind"), "{}", lines[1].text);
    }
}
