//! The open commit: rows gathered until they are worth a stored value. Pure.

use std::collections::HashMap;

use crate::model::{Row, SeriesId, Timestamp, Window};

/// Most readings gathered into one commit.
pub const READINGS_PER_COMMIT: usize = 1024;

/// Alarm transitions in one commit.
pub const ALARMS_PER_COMMIT: usize = 16;

/// Encoded length aimed at: above it the engine stores less densely.
const LENGTH_AIMED_AT: usize = 4096;

/// Fewest readings per commit, however long they are.
const READINGS_AT_LEAST: usize = 16;

/// Rows waiting to become a commit.
#[derive(Debug)]
pub struct Gather {
    rows: Vec<Row>,
    readings: usize,
    readings_aimed_at: usize,
    /// Time of the newest row of each shape, by its first series.
    newest: HashMap<SeriesId, Timestamp>,
}

impl Default for Gather {
    fn default() -> Self {
        Self { rows: Vec::new(), readings: 0, readings_aimed_at: READINGS_PER_COMMIT, newest: HashMap::new() }
    }
}

impl Gather {
    /// Adds rows that belong together. `close` is given what has to become a commit before or while they are added:
    /// the open rows when the new ones do not fit, and full commits of the new ones when they alone are too many. In no
    /// commit the time of a series runs backwards, whatever the clock does.
    pub fn add(&mut self, rows: Vec<Row>, mut close: impl FnMut(Vec<Row>) -> usize) {
        let readings: usize = rows.iter().map(|row| row.observed.len()).sum();
        if self.readings > 0 && (self.readings + readings > self.readings_aimed_at || self.ends_before(&rows)) {
            self.close(&mut close);
        }
        for row in rows {
            let is_too_much = self.readings + row.observed.len() > self.readings_aimed_at;
            if self.readings > 0 && (is_too_much || self.runs_back(&row)) {
                self.close(&mut close);
            }
            self.readings += row.observed.len();
            self.newest.extend(row.series.first().map(|shape| (*shape, row.time)));
            self.rows.push(row);
        }
        if self.readings >= self.readings_aimed_at {
            self.close(&mut close);
        }
    }

    fn runs_back(&self, row: &Row) -> bool {
        let newest = row.series.first().and_then(|shape| self.newest.get(shape));
        newest.is_some_and(|newest| row.time < *newest)
    }

    /// Whether the open rows are of an earlier minute than all of `rows`: a commit within one minute can be thinned
    /// without cutting the minute.
    fn ends_before(&self, rows: &[Row]) -> bool {
        let newest = self.rows.last().map(|row| Window::Minute.start(row.time));
        let oldest = rows.iter().map(|row| Window::Minute.start(row.time)).min();
        newest < oldest
    }

    /// Closes the open commit, if there is one. `close` says how long it became.
    pub fn close(&mut self, mut close: impl FnMut(Vec<Row>) -> usize) {
        if self.rows.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        self.newest.clear();
        let readings = std::mem::take(&mut self.readings).max(1);
        let length = close(rows).max(1);
        // Follows the plant slowly, so that one odd commit does not change the size of the next.
        let fitting = readings * LENGTH_AIMED_AT / length;
        let aim = (3 * self.readings_aimed_at + fitting.min(READINGS_PER_COMMIT)) / 4;
        self.readings_aimed_at = if fitting >= READINGS_PER_COMMIT && aim + 4 > READINGS_PER_COMMIT {
            READINGS_PER_COMMIT
        } else {
            aim.max(READINGS_AT_LEAST)
        };
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fault;

    fn rows(lengths: &[usize]) -> Vec<Row> {
        let row =
            |length: &usize| Row::all_bad((0..*length as u32).map(SeriesId).collect(), Timestamp(0), Fault::Timeout);
        lengths.iter().map(row).collect()
    }

    fn commits(appends: &[&[usize]], length_of_reading: usize) -> Vec<Vec<usize>> {
        let mut gather = Gather::default();
        let mut commits = Vec::new();
        let mut close = |rows: Vec<Row>| {
            let lengths: Vec<usize> = rows.iter().map(|row| row.observed.len()).collect();
            let length = lengths.iter().sum::<usize>() * length_of_reading;
            commits.push(lengths);
            length
        };
        appends.iter().for_each(|append| gather.add(rows(append), &mut close));
        gather.close(&mut close);
        commits
    }

    #[test]
    fn an_append_that_fits_stays_in_one_commit() {
        assert_eq!(commits(&[&[600], &[300], &[200, 100], &[9]], 1), [vec![600, 300], vec![200, 100, 9]]);
    }

    #[test]
    fn an_append_too_large_for_one_commit_is_cut_between_rows() {
        assert_eq!(
            commits(&[&[10], &[600, 400, 500, 2000, 1]], 1),
            [vec![10], vec![600, 400], vec![500], vec![2000], vec![1]]
        );
    }

    #[test]
    fn a_series_that_runs_backwards_begins_another_commit() {
        let row = |series: u32, time| Row::all_bad([SeriesId(series)].into(), Timestamp(time), Fault::Timeout);
        let mut gather = Gather::default();
        let mut commits = Vec::new();
        let mut close = |rows: Vec<Row>| {
            commits.push(rows.iter().map(|row| row.time.0).collect::<Vec<_>>());
            1
        };

        gather.add(vec![row(1, 5), row(2, 3), row(1, 5)], &mut close);
        gather.add(vec![row(2, 4), row(1, 4), row(2, 4)], &mut close);
        gather.close(&mut close);

        assert_eq!(commits, [vec![5, 3, 5, 4], vec![4, 4]]);
    }

    #[test]
    fn a_commit_ends_with_its_minute_unless_an_append_reaches_over_it() {
        let row = |time| Row::all_bad([SeriesId(1)].into(), Timestamp(time), Fault::Timeout);
        let mut gather = Gather::default();
        let mut commits: Vec<Vec<i64>> = Vec::new();
        let mut close = |rows: Vec<Row>| {
            commits.push(rows.iter().map(|row| row.time.0).collect());
            1
        };
        gather.add(vec![row(58_000)], &mut close);
        gather.add(vec![row(59_999), row(60_001)], &mut close);
        gather.add(vec![row(61_000)], &mut close);
        gather.add(vec![row(120_000)], &mut close);
        gather.close(&mut close);

        assert_eq!(commits, [vec![58_000, 59_999, 60_001, 61_000], vec![120_000]]);
    }

    #[test]
    fn commits_shrink_until_they_have_the_length_aimed_at() {
        let appends: Vec<&[usize]> = vec![&[10]; 2000];

        let last = commits(&appends, 40).iter().rev().nth(1).unwrap().iter().sum::<usize>() * 40;

        assert!((LENGTH_AIMED_AT - 400..=LENGTH_AIMED_AT + 400).contains(&last), "{last}");
    }
}
