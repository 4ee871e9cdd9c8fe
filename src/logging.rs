//! The log of the process: to standard error, as much as is wanted, and its latest lines for whoever asks.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{Layer, Registry, fmt, prelude::*, reload};

use crate::clock::{Clock, SystemClock};
use crate::model::Timestamp;

/// Lines that are kept.
const LINES_KEPT: usize = 200;

/// Longest line that is kept, in bytes.
const LINE_MAX: usize = 500;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// What it says, without colours.
    pub text: String,
}

/// Asks for lines of the log, and for more or fewer of them. Clones concern the same log.
#[derive(Clone)]
pub struct LogHandle {
    filter: Option<reload::Handle<Targets, Registry>>,
    usual: Targets,
    lines: Arc<Lines>,
}

/// The latest lines. Locked for a moment only, and by whoever logs, on any thread: a channel would have to be waited for.
struct Lines {
    are_kept: AtomicBool,
    kept: Mutex<VecDeque<LogLine>>,
    clock: SystemClock,
}

/// Starts the log: `RUST_LOG` decides how much (`info`, `lineside::poll=debug,warn`), `default` otherwise.
pub fn start(default: &str) -> LogHandle {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let usual = wanted.or_else(|| default.parse().ok()).unwrap_or_default();
    let (filter, handle) = reload::Layer::new(usual.clone());
    let lines = Arc::new(Lines::new());
    let layer = fmt::layer().with_writer(Tee(lines.clone())).with_ansi(io::stderr().is_terminal());
    // systemd's journal stamps the lines itself.
    let layer = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => layer.without_time().boxed(),
        None => layer.boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    LogHandle { filter: Some(handle), usual, lines }
}

impl LogHandle {
    /// Of a process whose log is not ours: there are no lines, and their level stays.
    pub fn none() -> Self {
        Self { filter: None, usual: Targets::default(), lines: Arc::new(Lines::new()) }
    }

    /// Keeps lines from now on; before, they cost nothing.
    pub fn keep_lines(&self) {
        self.lines.are_kept.store(true, Ordering::Relaxed);
    }

    /// The latest `count` lines, oldest first.
    pub fn latest(&self, count: usize) -> Vec<LogLine> {
        let kept = self.lines.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(count)).cloned().collect()
    }

    /// Logs what `level` says, as in `RUST_LOG`.
    ///
    /// # Errors
    /// Says what is not understood.
    pub fn change(&self, level: &str) -> Result<(), String> {
        check_level(level)?;
        let targets: Targets = level.parse().map_err(|error| format!("level {level:?}: {error}"))?;
        self.set(targets)
    }

    /// Logs as much as at the start.
    pub fn restore(&self) {
        if let Err(error) = self.set(self.usual.clone()) {
            tracing::debug!(error, "the log level stays");
        }
    }

    fn set(&self, targets: Targets) -> Result<(), String> {
        let filter = self.filter.as_ref().ok_or("the log of this process has no level to change")?;
        filter.reload(targets).map_err(|error| error.to_string())
    }
}

/// A word that is no level would be taken for a target: everything else would fall silent.
fn check_level(level: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word.trim()));
    let is_good = |part: &str| match part.split_once('=') {
        Some((target, word)) => target.trim().starts_with("lineside") && is_level(word),
        None => is_level(part),
    };
    match level.split(',').find(|part| !is_good(part)) {
        Some(part) => Err(format!(
            "level {part:?}: must be off, error, warn, info, debug or trace, or one of these for a part of the program, \
             such as lineside::poll=debug"
        )),
        None => Ok(()),
    }
}

impl Lines {
    fn new() -> Self {
        let kept = Mutex::new(VecDeque::new());
        Self { are_kept: AtomicBool::new(false), kept, clock: SystemClock::new(false) }
    }

    fn keep(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let plain = anstream::adapter::strip_str(text.trim_end()).to_string();
        let text: String = plain.char_indices().take_while(|(at, _)| *at < LINE_MAX).map(|(_, c)| c).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(LogLine { time: self.clock.wall(), text });
    }
}

/// Writes to standard error, and to the latest lines where they are kept.
struct Tee(Arc<Lines>);

impl<'a> MakeWriter<'a> for Tee {
    type Writer = TeeWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        TeeWriter(&self.0)
    }
}

struct TeeWriter<'a>(&'a Lines);

impl Write for TeeWriter<'_> {
    /// A line at a time: that is how it is called.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.are_kept.load(Ordering::Relaxed) {
            self.0.keep(line);
        }
        io::stderr().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_lines_are_kept_without_colours_and_not_without_being_asked() {
        let log = LogHandle::none();
        let mut writer = TeeWriter(&log.lines);
        writer.write_all(b"before\n").unwrap();
        log.keep_lines();
        for number in 0..LINES_KEPT + 5 {
            writer.write_all(format!("\u{1b}[32m INFO\u{1b}[0m line {number}\n").as_bytes()).unwrap();
        }

        let latest = log.latest(2);

        assert_eq!(
            latest.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
            [" INFO line 203", " INFO line 204"]
        );
        assert_eq!(log.latest(usize::MAX).len(), LINES_KEPT);
        assert!(log.change("debug").is_err());
    }

    #[test]
    fn a_word_that_is_no_level_does_not_silence_the_log() {
        for good in ["debug", "info,lineside::poll=trace", "WARN", "lineside=debug, warn"] {
            assert_eq!(check_level(good), Ok(()));
        }
        for bad in ["debgu", "", "info,", "lineside::poll", "rumqttc=trace", "lineside=loud"] {
            assert!(check_level(bad).unwrap_err().contains("off, error, warn, info, debug or trace"), "{bad}");
        }
    }
}
