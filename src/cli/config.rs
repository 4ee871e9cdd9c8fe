//! `lineside config`: configurations that came from afar, on the spot.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::AgentClient;
use super::table::Table;
use super::{AgentOption, Exit, Failure, user, write_json, written};
use crate::diagnostics::protocol::{Notice, Request};
use crate::model::Timestamp;

/// Lines of one file that are compared; longer ones are only said to differ.
const LINES_MAX: usize = 2000;

/// Show configurations that came from afar, compare them, or go back to an earlier one.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Every revision: when, by whom, and what became of it.
    History {
        /// One JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        agent: AgentOption,
    },
    /// What differs between two revisions; exit code 1 when anything does.
    Diff {
        /// Earlier revision.
        from: u64,
        /// Later revision.
        to: u64,
        #[command(flatten)]
        agent: AgentOption,
    },
    /// Try an earlier revision again, and keep it when it proves itself. 0 is the owner's own configuration.
    Rollback {
        /// Which revision.
        revision: u64,
        /// One JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        agent: AgentOption,
    },
}

impl ConfigCommand {
    pub fn run(self) -> Result<Exit, Failure> {
        let mut out = anstream::stdout().lock();
        match self.deed {
            Deed::History { json, agent } => {
                let history = ask(&agent, &Request::ConfigHistory)?;
                written(if json { write_json(&mut out, &history) } else { table(&history).write(&mut out, 0) })?;
                Ok(Exit::Done)
            }
            Deed::Diff { from, to, agent } => {
                let history = ask(&agent, &Request::ConfigHistory)?;
                let differences = differences(&files(&history, from)?, &files(&history, to)?)?;
                written(differences.iter().try_for_each(|line| writeln!(out, "{line}")))?;
                Ok(if differences.is_empty() { Exit::Done } else { Exit::Findings })
            }
            Deed::Rollback { revision, json, agent } => {
                let by = user();
                let step = ask(&agent, &Request::ConfigRollback { revision, by })?;
                let standing = step["standing"].as_str().unwrap_or_default();
                written(match json {
                    true => write_json(&mut out, &step),
                    false => writeln!(out, "revision {revision}: {standing}{}", reasons(&step)),
                })?;
                Ok(if standing == "confirmed" { Exit::Done } else { Exit::Findings })
            }
        }
    }
}

fn table(history: &Value) -> Table {
    let mut table = Table::new(["revision", "standing", "time", "by", "reasons"]);
    for step in history["revisions"].as_array().into_iter().flatten() {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let time = step["time"].as_i64().map_or_else(String::new, |time| Timestamp(time).to_string());
        let in_force = step["revision"] == history["in_force"] && step["standing"] == "confirmed";
        let standing = if in_force { "in force".to_owned() } else { text("standing") };
        table.row([
            step["revision"].to_string(),
            standing,
            time,
            text("by"),
            reasons(step).trim_start_matches(": ").to_owned(),
        ]);
    }
    table
}

fn reasons(step: &Value) -> String {
    let all = step["reasons"].as_array().into_iter().flatten().map(|reason| {
        let words = ["file", "key", "reason"].map(|key| reason[key].as_str().unwrap_or_default());
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ")
    });
    let all = all.collect::<Vec<_>>().join("; ");
    if all.is_empty() { all } else { format!(": {all}") }
}

/// Where the files of a revision are.
fn files(history: &Value, revision: u64) -> Result<PathBuf, Failure> {
    let steps = history["revisions"].as_array().into_iter().flatten();
    let kept = steps.filter(|step| step["revision"] == revision).filter_map(|step| step["files"].as_str()).next_back();
    let missing = || match revision {
        0 => "revision 0 is the owner's own file; compare two that came from afar".to_owned(),
        _ => format!("the files of revision {revision} are not kept; `lineside config history` shows those that are"),
    };
    kept.map(PathBuf::from).ok_or_else(|| Failure::Refused(missing()))
}

/// Lines that only one side has, file by file.
fn differences(from: &Path, to: &Path) -> Result<Vec<String>, Failure> {
    let mut names = BTreeSet::new();
    for side in [from, to] {
        collect(side, side, &mut names).map_err(|error| Failure::Refused(format!("{}: {error}", side.display())))?;
    }
    let mut all = Vec::new();
    for name in names {
        let [a, b] = [from, to].map(|side| std::fs::read_to_string(side.join(&name)).unwrap_or_default());
        if a != b {
            all.push(format!("--- {name}"));
            all.extend(compared(&a, &b));
        }
    }
    Ok(all)
}

fn collect(root: &Path, directory: &Path, into: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, into)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            into.insert(name.display().to_string());
        }
    }
    Ok(())
}

/// `-` before lines that went, `+` before those that came: what is left of the longest common sequence.
fn compared(a: &str, b: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    if a.len().max(b.len()) > LINES_MAX {
        return vec!["differs".to_owned()];
    }
    let mut common = vec![vec![0_u16; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = match a[i] == b[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("-{}", a[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", b[j]));
            j += 1;
        }
    }
    lines
}

fn ask(agent: &AgentOption, request: &Request) -> Result<Value, Failure> {
    let line = AgentClient::ask(&agent.socket(), request)?.next_line()?.unwrap_or_default();
    match serde_json::from_str(&line) {
        Ok(Notice::Refused(reason)) => Err(Failure::Refused(reason)),
        Ok(Notice::Error(reason)) => Err(Failure::Unreachable(reason)),
        _ => serde_json::from_str(&line)
            .map_err(|_| Failure::Unreachable(format!("the agent's answer is not understood: {line}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(compared("a\nb\nc", "a\nx\nc\nd"), ["-b", "+x", "+d"]);
        assert!(compared("a\nb", "a\nb").is_empty());
        assert_eq!(compared("", "a"), ["+a"]);
    }
}
