//! Points whose readings are all bad: since when, and why. A point that gives a value again is forgotten.

use std::collections::HashMap;

use crate::model::{Fault, Observed, Row, SeriesId, Timestamp};

/// A run of bad readings of one series without any other between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRun {
    /// Time of the first.
    pub since: Timestamp,
    /// Why the newest has no value.
    pub fault: Fault,
    /// How many there are.
    pub readings: u32,
}

/// Series whose newest reading is bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadPoints(HashMap<SeriesId, BadRun>);

impl BadPoints {
    /// Takes the readings of one row. Costs nothing for good readings while no point is bad.
    pub(super) fn take(&mut self, row: &Row) {
        for (series, observed) in row.series.iter().zip(&row.observed) {
            match observed {
                Observed::Bad(fault) => {
                    let run = BadRun { since: row.time, fault: *fault, readings: 0 };
                    let run = self.0.entry(*series).or_insert(run);
                    run.fault = *fault;
                    run.readings = run.readings.saturating_add(1);
                }
                Observed::Good(_) | Observed::Uncertain(..) if self.0.is_empty() => {}
                Observed::Good(_) | Observed::Uncertain(..) => drop(self.0.remove(series)),
            }
        }
    }

    /// Every run.
    pub fn runs(&self) -> impl Iterator<Item = (SeriesId, BadRun)> {
        self.0.iter().map(|(series, run)| (*series, *run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value;

    fn row(time: i64, observed: [Observed; 2]) -> Row {
        Row { series: [SeriesId(1), SeriesId(2)].into(), time: Timestamp(time), observed: observed.into() }
    }

    #[test]
    fn a_run_lasts_from_its_first_bad_reading_to_the_next_value() {
        let (good, bad) = (Observed::Good(Value::Int(1)), Observed::Bad(Fault::Exception(2)));
        let mut points = BadPoints::default();

        points.take(&row(1, [good.clone(), bad.clone()]));
        points.take(&row(2, [good.clone(), bad.clone()]));
        points.take(&row(3, [good.clone(), Observed::Bad(Fault::Timeout)]));

        let run = BadRun { since: Timestamp(1), fault: Fault::Timeout, readings: 3 };
        assert_eq!(points.runs().collect::<Vec<_>>(), [(SeriesId(2), run)]);
        points.take(&row(4, [good.clone(), good]));
        assert_eq!(points.runs().count(), 0);
    }
}
