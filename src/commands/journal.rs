//! What was commanded, so that nothing is carried out twice: written before a command is carried out, and after.
//!
//! The journal lies beside the database of the readings, not in it, and survives its quarantine. While it cannot be read
//! or written, nothing that changes anything is carried out. Blocks.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Outcome, State};
use super::gate::Genuine;
use super::log_file::LogFile;
use crate::model::Timestamp;

/// Commands whose answers are kept. Older ones are still refused by their counter.
const KEPT: usize = 200;

/// A journal of this many bytes is written anew with what is kept.
const LENGTH_MAX: u64 = 512 << 10;

/// Longest result that is kept, in bytes of JSON.
const RESULT_MAX: usize = 2048;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The highest counter of a key.
    Counter { key: String, counter: u64 },
    /// A command is about to be carried out.
    Begun(Entry),
    /// This came of it.
    Ended { id: String, end: End },
}

/// A command that passed every check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Chosen by the sender.
    pub id: String,
    /// Who sent it.
    pub key: String,
    /// Its counter.
    pub counter: u64,
    /// SHA-256 of the signed text.
    pub digest: String,
    /// What was to be done.
    pub command: String,
    /// With what.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub arguments: Value,
    /// When it was accepted.
    pub time: Timestamp,
    /// What came of it; nothing while it is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// `Done`, `Failed` or `Unknown`.
    pub state: State,
    /// Why it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The result, unless it is long.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// When.
    pub time: Timestamp,
}

/// The journal, and what it says.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<LogFile>,
    /// Why it cannot be used, if it cannot.
    trouble: Option<String>,
    entries: HashMap<String, Entry>,
    order: VecDeque<String>,
    counters: HashMap<String, u64>,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if need be. What prevents that is remembered, not returned: the
    /// gateway polls all the same.
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("journal");
        let mut journal = Self {
            path,
            file: None,
            trouble: None,
            entries: HashMap::new(),
            order: VecDeque::new(),
            counters: HashMap::new(),
        };
        journal.reopen();
        journal
    }

    /// Why the journal cannot be used, if it cannot.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The highest counter of each key.
    pub fn counters(&self) -> HashMap<String, u64> {
        self.counters.clone()
    }

    /// The command with this id, if it is known still.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The latest commands, the newest first.
    pub fn latest(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().rev().filter_map(|id| self.entries.get(id))
    }

    /// Commands that were begun and of which nobody knows what came.
    pub fn unfinished(&self) -> Vec<Entry> {
        self.order.iter().filter_map(|id| self.entries.get(id)).filter(|entry| entry.end.is_none()).cloned().collect()
    }

    /// Remembers that a command is about to be carried out; durable when this returns.
    ///
    /// # Errors
    /// It is not known to be durable: the command must not be carried out.
    pub fn begin(&mut self, genuine: &Genuine, time: Timestamp) -> Result<(), String> {
        let order = &genuine.order;
        let entry = Entry {
            id: order.id.clone(),
            key: genuine.key.clone(),
            counter: order.counter,
            digest: genuine.digest.clone(),
            command: order.command.clone(),
            arguments: short(&order.arguments),
            time,
            end: None,
        };
        self.write(Line::Begun(entry))
    }

    /// Remembers what came of a command.
    ///
    /// # Errors
    /// After a restart it will be unknown.
    pub fn end(&mut self, id: &str, outcome: &Outcome, time: Timestamp) -> Result<(), String> {
        let end = End { state: outcome.state, reason: outcome.reason.clone(), result: short(&outcome.result), time };
        self.write(Line::Ended { id: id.to_owned(), end })
    }

    fn write(&mut self, line: Line) -> Result<(), String> {
        // A full disk may have room again.
        self.reopen();
        let Some(file) = &mut self.file else {
            return Err(self.trouble.clone().unwrap_or_default());
        };
        if let Err(error) = file.append(&line) {
            self.file = None;
            self.trouble = Some(error.to_string());
            return Err(error.to_string());
        }
        let is_long = file.length() > LENGTH_MAX;
        self.note(line);
        if is_long {
            self.shorten();
        }
        Ok(())
    }

    fn reopen(&mut self) {
        if self.file.is_some() {
            return;
        }
        let directory = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let opened = directory.map_err(|error| format!("{}: {error}", self.path.display()));
        match opened.and_then(|()| LogFile::open(&self.path).map_err(|error| error.to_string())) {
            Ok((file, lines)) => {
                (self.entries, self.order) = (HashMap::new(), VecDeque::new());
                lines.into_iter().for_each(|line| self.note(line));
                (self.file, self.trouble) = (Some(file), None);
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    fn note(&mut self, line: Line) {
        match line {
            Line::Counter { key, counter } => self.count(key, counter),
            Line::Begun(entry) => {
                self.count(entry.key.clone(), entry.counter);
                self.order.push_back(entry.id.clone());
                self.entries.insert(entry.id.clone(), entry);
                if self.order.len() > KEPT
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.entries.remove(&oldest);
                }
            }
            Line::Ended { id, end } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.end = Some(end);
                }
            }
        }
    }

    fn count(&mut self, key: String, counter: u64) {
        let known = self.counters.entry(key).or_default();
        *known = counter.max(*known);
    }

    /// Writes what is kept into a new file.
    fn shorten(&mut self) {
        let counters = self.counters.iter().map(|(key, counter)| Line::Counter { key: key.clone(), counter: *counter });
        let entries = self.order.iter().filter_map(|id| self.entries.get(id)).map(|entry| Line::Begun(entry.clone()));
        let lines: Vec<Line> = counters.chain(entries).collect();
        if let Some(file) = &mut self.file
            && let Err(error) = file.rewrite(lines)
        {
            tracing::warn!(%error, "the journal of commands could not be shortened");
        }
    }
}

fn short(value: &Value) -> Value {
    let length = value.to_string().len();
    if length <= RESULT_MAX { value.clone() } else { serde_json::json!({ "not_kept": format!("{length} bytes") }) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::order::Order;
    use crate::commands::verb::Verb;
    use crate::config::Role;

    fn command(id: u64) -> Genuine {
        let order = Order {
            id: id.to_string(),
            gateway: "lyon/gw-01".to_owned(),
            expires: Timestamp(1),
            counter: id,
            command: "status".to_owned(),
            arguments: Value::Null,
        };
        Genuine { order, verb: Verb::Status, key: "anna".to_owned(), role: Role::Viewer, digest: format!("d{id}") }
    }

    #[test]
    fn a_command_that_was_begun_is_known_after_a_crash_and_its_counter_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&directory.path().join("remote"));
        journal.begin(&command(7), Timestamp(1)).unwrap();
        journal.end("7", &Outcome::done(json!(42)), Timestamp(2)).unwrap();
        journal.begin(&command(8), Timestamp(3)).unwrap();
        drop(journal);

        let journal = Journal::open(&directory.path().join("remote"));

        assert_eq!(journal.counters(), HashMap::from([("anna".to_owned(), 8)]));
        assert_eq!(journal.entry("7").unwrap().end.as_ref().unwrap().result, json!(42));
        assert_eq!(journal.unfinished().iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["8"]);
    }

    #[test]
    fn a_long_journal_keeps_the_latest_and_every_counter() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path());
        let text = "x".repeat(1500);
        for id in 1..=600 {
            journal.begin(&command(id), Timestamp(1)).unwrap();
            journal.end(&id.to_string(), &Outcome::done(json!(text)), Timestamp(2)).unwrap();
        }
        let length = std::fs::metadata(directory.path().join("journal")).unwrap().len();
        assert!(length < 2 * LENGTH_MAX, "{length}");

        let journal = Journal::open(directory.path());

        assert_eq!(journal.counters()["anna"], 600);
        assert_eq!((journal.latest().count(), journal.entry("600").is_some()), (KEPT, true));
        assert!(journal.entry("1").is_none());
    }

    #[test]
    fn a_damaged_journal_says_so_and_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path());
        (1..=3).for_each(|id| journal.begin(&command(id), Timestamp(1)).unwrap());
        drop(journal);
        let path = directory.path().join("journal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let mut journal = Journal::open(directory.path());

        assert!(journal.trouble().unwrap().contains("line 1 is damaged"), "{:?}", journal.trouble());
        assert!(journal.begin(&command(9), Timestamp(1)).is_err());
    }
}
