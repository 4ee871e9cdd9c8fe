//! What happens when the database fails: it is opened again, or set aside for a new one.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::BufferError;
use super::lane::LaneState;
use super::loaded::{Loaded, commit_key};
use super::place::{Place, io_text};
use super::room::Run;
use super::store::{LostRun, Save, Store, at};
use crate::clock::Clock;
use crate::database::{Batch, DatabaseError};
use crate::model::{AlarmRecord, AlarmState, Gap, GapReason, Lane, Priority, Records, Sequence, Transition};

/// Failures to read, or to save, in a row, the database opened anew each time, after which it counts as lost.
const FAILURES: u32 = 3;

impl Store {
    /// Whether the database is open, opening it if it can be opened.
    pub(super) fn is_open_again(&mut self) -> bool {
        if self.database.is_some() {
            return true;
        }
        if self.stuck {
            return false;
        }
        let opened = match Loaded::open(&self.place.database(), self.place.engine()) {
            Ok(_) if self.read_failures.max(self.save_failures) >= FAILURES => Err(DatabaseError::Damaged {
                path: self.place.database(),
                detail: "it opens, but cannot be used".to_owned(),
            }),
            other => other,
        };
        match opened {
            Ok(loaded) => self.resume(loaded),
            Err(DatabaseError::Damaged { detail, .. }) if self.place.probe().is_ok() => {
                return self.begin_anew(&detail);
            }
            Err(error) => {
                self.begin_trouble(&error);
                return false;
            }
        }
        true
    }

    fn resume(&mut self, loaded: Loaded) {
        let is_same = loaded.epoch == self.epoch;
        self.ids = loaded.ids;
        self.database = Some(loaded.database);
        match self.in_doubt.take() {
            Some(save) if is_same && save.generation == loaded.generation => self.adopt(save),
            Some(save) => self.put_back(save),
            None => {}
        }
        // In memory there may be deliveries that were not saved, so memory is believed as long as it fits.
        if !is_same || self.generation != loaded.generation {
            self.epoch = loaded.epoch;
            self.generation = loaded.generation;
            self.lanes = loaded.lanes;
            self.gaps = self.mark.restore(self.epoch, &mut self.lanes);
            self.unsaved |= !self.gaps.is_empty();
        }
        for LostRun { lane, run, .. } in &self.lost_runs {
            self.lanes[at(*lane)].drop_run(run.first, run.last);
        }
        for (lane, first, last) in std::mem::take(&mut self.deliveries_missed) {
            self.delivered(lane, Sequence(first), Sequence(last));
        }
    }

    fn put_back(&mut self, save: Save) {
        let mut by_lane = [Vec::new(), Vec::new()];
        save.closed.into_iter().for_each(|closed| by_lane[at(closed.lane)].push(closed));
        for ((waiting, closed), lost) in self.waiting.iter_mut().zip(by_lane).zip(save.lost) {
            waiting.put_back(lost, closed);
        }
    }

    /// Sets the database aside while running, and begins a new one with the same catalogue and what waits.
    fn begin_anew(&mut self, detail: &str) -> bool {
        let clock = self.clock.clone();
        let begun = set_aside(&self.place, clock.as_ref(), detail).and_then(|path| {
            let unavailable =
                |error| BufferError::Unavailable { path: self.place.path().to_owned(), reason: text(&error) };
            let loaded = Loaded::open(&self.place.database(), self.place.engine()).map_err(unavailable)?;
            let mut batch = Batch::default();
            self.ids.write_all(&mut batch);
            loaded.database.apply(batch).and_then(|()| loaded.database.flush()).map_err(unavailable)?;
            Ok((path, loaded))
        });
        match begun {
            Ok((path, mut loaded)) => {
                loaded.ids = self.ids.clone();
                self.rule_state.begin_anew();
                self.lost_runs.clear();
                self.deliveries_missed.clear();
                self.read_failures = 0;
                self.save_failures = 0;
                self.oldest_pending = [(0, None); 2];
                if let Some(save) = self.in_doubt.take() {
                    self.put_back(save);
                }
                self.resume(loaded);
                self.report_loss(&format!("{detail}; what was in it is kept in {}", path.display()));
                true
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                false
            }
        }
    }

    /// Adds gap records for what is gone and named by no stored commit any more: the one that named it is damaged itself.
    pub(super) fn say_unnamed(&mut self, lanes: &[LaneState; 2], gaps: &mut Vec<Gap>) -> Result<(), DatabaseError> {
        let database = self.database.as_ref().expect("saving needs an open database");
        let codec = &mut self.codec;
        for state in lanes {
            let mut unnamed = state.dropped.clone();
            gaps.iter().filter(|gap| gap.lane == state.lane).for_each(|gap| unnamed.remove(gap.first.0, gap.last.0));
            if unnamed.iter().next().is_none() {
                continue;
            }
            let mut from = 0;
            while let Some((first, last)) = state.pending_run(from) {
                database.visit(&commit_key(state.lane, first), &commit_key(state.lane, last), |_, value| {
                    codec.named(value).iter().for_each(|gap| unnamed.remove(gap.first.0, gap.last.0));
                    ControlFlow::Continue(())
                })?;
                from = last + 1;
            }
            let gap = |(first, last)| Run::missing(first, last).gap(state.lane, GapReason::Damaged);
            gaps.extend(unnamed.iter().map(gap));
        }
        Ok(())
    }

    pub(super) fn report_loss(&mut self, detail: &str) {
        self.counters.quarantined += 1;
        let alarm = AlarmRecord {
            name: "StoreDamaged".to_owned(),
            labels: Default::default(),
            time: self.clock.wall(),
            transition: Transition::Raised,
            state: AlarmState::UnacknowledgedActive,
            priority: Priority::High,
            value: None,
            annotations: [
                ("summary".to_owned(), "the store was damaged; a new one has begun".to_owned()),
                ("description".to_owned(), detail.to_owned()),
            ]
            .into(),
            readings: Vec::new(),
            by: None,
        };
        self.close(Lane::Alarms, &Records::Alarms(vec![alarm]));
    }

    /// While writing fails, asks the disk first: a failing engine has to be opened anew each time.
    pub(super) fn takes_writes(&mut self) -> bool {
        if self.trouble.is_none() {
            return true;
        }
        match self.place.probe() {
            Ok(()) => true,
            Err(error) => {
                self.trouble = Some(io_text(&error));
                false
            }
        }
    }

    /// Notes what failed. The engine refuses everything after an error of its own, so it has to be opened again.
    pub(super) fn begin_trouble(&mut self, error: &DatabaseError) {
        if self.trouble.is_none() {
            tracing::error!(%error, "store cannot be used");
        }
        self.stuck |= matches!(error, DatabaseError::Stuck { .. });
        self.trouble = Some(text(error));
        self.database = None;
    }

    pub(super) fn note_read(&mut self, result: &Result<(), DatabaseError>) {
        match result {
            Ok(()) => self.read_failures = 0,
            Err(error) => {
                self.read_failures += u32::from(matches!(error, DatabaseError::Damaged { .. }));
                self.begin_trouble(error);
            }
        }
    }

    pub(super) fn end_trouble(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("store can be used again");
        }
    }
}

pub(super) fn set_aside(place: &Place, clock: &dyn Clock, detail: &str) -> Result<PathBuf, BufferError> {
    let aside = place
        .set_aside(clock.wall())
        .map_err(|error| BufferError::Unavailable { path: place.path().to_owned(), reason: io_text(&error) })?;
    tracing::error!(detail, kept = %aside.display(), "store is damaged; a new one begins");
    Ok(aside)
}

pub(super) fn text(error: &DatabaseError) -> String {
    match error {
        DatabaseError::Unavailable { source, .. } => io_text(source),
        DatabaseError::Damaged { .. } | DatabaseError::Stuck { .. } => error.to_string(),
    }
}
