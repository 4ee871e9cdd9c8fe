//! How far a search on a bus or in a network is, on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::table::span;

/// Columns of the bar.
const BAR: usize = 24;
/// A terminal is not written to more often.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// A bar on standard error; nothing where that is no terminal.
pub(super) struct Progress {
    total: usize,
    done: usize,
    begun: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { total: total.max(1), done: 0, begun: Instant::now(), shown: None, is_terminal }
    }

    /// One of all steps begins, and so many devices were found before it.
    pub(super) fn step(&mut self, what: &str, found: usize) {
        self.reach(self.done + 1, &format!("{what}, {found} found"));
    }

    /// So many of all steps are behind.
    pub(super) fn reach(&mut self, done: usize, what: &str) {
        self.done = done;
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY);
        if self.is_terminal && is_due {
            self.shown = Some(Instant::now());
            // A bar that nobody sees is no loss.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", self.line(what, self.begun.elapsed()));
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&self, what: &str, elapsed: Duration) -> String {
        let done = self.done.min(self.total);
        let filled = BAR * done / self.total;
        let left = elapsed.mul_f64((self.total - done) as f64 / done.max(1) as f64);
        format!(
            "[{}{}] {:>3} %  {what}, {} left",
            "#".repeat(filled),
            ".".repeat(BAR - filled),
            100 * done / self.total,
            span(left)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_long() {
        let mut progress = Progress::new(40);
        progress.done = 10;

        let line = progress.line("unit 10, 2 found", Duration::from_secs(20));

        assert_eq!(line, "[######..................]  25 %  unit 10, 2 found, 1 min 0 s left");
    }
}
