//! What a consumer makes of everything that was delivered: each sequence has to be there once, each aggregate right.

use std::collections::BTreeMap;

use lineside::model::{Aggregate, Commit, Observed, Records, Sequence, Summary, Timestamp, Window};

use super::store::Store;
use super::week::Week;

/// Everything that was delivered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// How often each range is accounted for: its last sequence by its first.
    ranges: Vec<(Sequence, Sequence)>,
    /// Readings that came as they were taken.
    pub raw: u64,
    /// Readings that aggregates stand for.
    pub replaced: u64,
    /// Readings that are gone.
    pub dropped: u64,
    /// Readings counted in aggregates.
    counted: u64,
    /// Time of the oldest reading.
    pub raw_from: Option<Timestamp>,
    /// Beginning of the newest window.
    pub newest_window: Option<Timestamp>,
    aggregates: BTreeMap<Window, u64>,
    /// Aggregates whose window was cut.
    pub cut: u64,
}

impl Ledger {
    /// Takes a delivered commit, and holds what it says against what was taken in `week`.
    pub fn take(&mut self, commit: &Commit, week: &Week) {
        self.ranges.push((commit.header.sequence, commit.header.sequence));
        match &commit.records {
            Records::Readings(rows) => {
                for row in rows {
                    assert_eq!(*row, week.row(Week::second(row.time)), "a reading is not what was taken");
                    self.raw_from = Some(self.raw_from.map_or(row.time, |from| from.min(row.time)));
                }
                self.raw += commit.records.count() as u64;
            }
            Records::Gap(gap) => {
                assert!(gap.first_time <= gap.last_time);
                self.ranges.push((gap.first, gap.last));
                self.dropped += gap.records;
            }
            Records::Thinned(thinned) => {
                for replaced in &thinned.replaces {
                    self.ranges.push((replaced.first, replaced.last));
                    self.replaced += replaced.readings;
                }
                *self.aggregates.entry(thinned.window).or_default() += thinned.aggregates.len() as u64;
                thinned.aggregates.iter().for_each(|aggregate| self.check(aggregate, thinned.window, week));
            }
            Records::Alarms(_) | Records::ClockOffset(_) => panic!("only readings were stored"),
        }
    }

    pub fn aggregates_of(&self, window: Window) -> u64 {
        self.aggregates.get(&window).copied().unwrap_or_default()
    }

    fn check(&mut self, aggregate: &Aggregate, window: Window, week: &Week) {
        self.counted += u64::from(aggregate.count + aggregate.bad);
        self.newest_window = self.newest_window.max(Some(aggregate.start));
        assert_eq!(window.start(aggregate.start), aggregate.start);
        let begin = Week::second(aggregate.start);
        let taken = u64::from(window.seconds());
        if u64::from(aggregate.count + aggregate.bad) != taken {
            self.cut += 1;
            return;
        }
        let observed: Vec<Observed> =
            (begin..begin + taken).map(|second| week.observed(aggregate.series.0, second)).collect();
        let values: Vec<_> = observed.iter().filter_map(Observed::value).collect();
        assert_eq!(aggregate.count as usize, values.len());
        match &aggregate.summary {
            Summary::Text(text) => {
                assert_eq!(
                    Some(text),
                    values.last().and_then(|value| match value {
                        lineside::model::Value::Text(text) => Some(text),
                        _ => None,
                    })
                );
            }
            Summary::Numbers { min, max, mean, last } => {
                let numbers: Vec<f64> = values.iter().filter_map(|value| value.number()).collect();
                let lowest = numbers.iter().copied().fold(f64::INFINITY, f64::min);
                let highest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let middle = numbers.iter().sum::<f64>() / numbers.len() as f64;
                assert_eq!((*min, *max, Some(last)), (lowest, highest, numbers.last()), "{aggregate:?}");
                assert!((mean - middle).abs() <= 1e-9 * (1.0 + middle.abs()), "{aggregate:?} and not {middle}");
            }
            Summary::Nothing => assert!(values.is_empty()),
        }
    }

    /// Each sequence that was ever given is delivered or named, and none twice.
    pub fn assert_every_sequence_once(&mut self, store: &Store) {
        self.ranges.sort_unstable();
        let mut next = Sequence(1);
        for (first, last) in &self.ranges {
            assert_eq!(*first, next, "accounted for up to {next}, then {first} to {last}");
            next = last.next();
        }
        assert_eq!(next, store.handle.watermarks().borrow().telemetry.durable_last.next());
    }

    /// Each of `taken` readings is delivered, thinned or in a gap record, and none twice.
    pub fn assert_complete(&mut self, store: &Store, taken: u64) {
        self.assert_every_sequence_once(store);
        assert_eq!(self.raw + self.replaced + self.dropped, taken, "{self:?}");
        assert_eq!(self.counted, self.replaced);
    }
}
