//! What happens when the database fails: it is opened again, or set aside for a new one.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::BufferError;
use super::lane::LaneState;
use super::loaded::{Loaded, commit_key};
use super::mark::Noted;
use super::opening::Opening;
use super::place::{Place, io_text};
use super::restoring::{Beside, Damage};
use super::retention::Budget;
use super::room::Run;
use super::store::{LostRun, Save, Store, at};
use crate::clock::Clock;
use crate::database::{DatabaseError, EngineKind, distrust};
use crate::model::{AlarmRecord, AlarmState, Gap, GapReason, Lane, Priority, Records, Sequence, Timestamp, Transition};

/// Failures to read, or to save, in a row, the database opened anew each time, after which it counts as lost.
const FAILURES: u32 = 3;

/// How long the thread of the store waits for a database to open before it goes on without. Half of what may pass
/// between the start and the first poll.
const OPENING_PATIENCE: Duration = Duration::from_secs(1);

const DAMAGED: &str = "StoreDamaged";

const NEWER: &str = "StoreNewer";

const NOT_WRITABLE: &str = "StoreNotWritable";

/// Names of the alarms that the store itself raises.
pub const STORE_ALARMS: [&str; 3] = [DAMAGED, NEWER, NOT_WRITABLE];

/// A disk that takes nothing for so long is in trouble: until then readings wait, to become durable after all.
const PASSING: Duration = Duration::from_secs(5);

/// Why nothing becomes durable.
#[derive(Debug)]
pub struct Trouble {
    /// What the system said.
    pub reason: String,
    since: Instant,
    /// Since when, for people.
    pub since_wall: Timestamp,
    /// Whether an alarm says so.
    is_told: bool,
}

impl Trouble {
    /// Whether it has lasted so long that readings go out without having been stored.
    pub fn is_lasting(&self) -> bool {
        self.since.elapsed() >= PASSING
    }
}

impl Store {
    /// Whether the database is open, opening it if it can be opened.
    pub(super) fn is_open_again(&mut self) -> bool {
        if self.database.is_some() {
            return true;
        }
        if let Err(error) = self.place.secure() {
            self.fail(match error {
                BufferError::Unavailable { reason, .. } => reason,
                other => other.to_string(),
            });
            return false;
        }
        match self.opened() {
            Some(Ok(loaded)) => {
                self.resume(loaded);
                true
            }
            // A new database that is damaged at once says more about the disk than about the database.
            Some(Err(DatabaseError::Damaged { detail, .. })) if self.aside.is_none() && self.place.probe().is_ok() => {
                self.begin_anew(detail)
            }
            Some(Err(error)) => {
                self.begin_trouble(&error);
                false
            }
            // It cannot be opened while a flush hangs: that one is the reason.
            None if self.stuck.is_some() => false,
            None => {
                self.fail("the database takes long to open".to_owned());
                false
            }
        }
    }

    /// The database, if it opens soon. `None` while it is being opened.
    fn opened(&mut self) -> Option<Result<Loaded, DatabaseError>> {
        let path = self.place.database();
        let opening = match self.opening.take() {
            Some(opening) => opening,
            None => match self.begin_opening() {
                Ok(opening) => opening,
                Err(source) => return Some(Err(DatabaseError::Unavailable { path, source })),
            },
        };
        let Some(result) = opening.result(OPENING_PATIENCE, path.clone()) else {
            self.opening = Some(opening);
            return None;
        };
        Some(match result {
            Ok(_) if self.read_failures.max(self.save_failures) >= FAILURES => {
                Err(DatabaseError::Damaged { path, detail: "it opens, but cannot be used".to_owned() })
            }
            result => result,
        })
    }

    fn begin_opening(&mut self) -> io::Result<Opening> {
        if self.read_failures + self.save_failures > 0 {
            distrust(&self.place.database());
        }
        let noted = if self.has_opened { Some(self.noted()) } else { self.mark.read() };
        let aside = self.place.to_salvage();
        Opening::begin(&self.place, Beside { noted, boot: Some(self.clock.boot()), aside })
    }

    /// What is known of the open database without asking it.
    pub(super) fn noted(&self) -> Noted {
        let (epoch, boot, generation, lanes) =
            (self.epoch, Some(self.clock.boot()), self.generation, self.lanes.clone());
        Noted { epoch, boot, generation, lanes, is_full: true, is_newest: true }
    }

    fn resume(&mut self, mut loaded: Loaded) {
        let damage = loaded.damage.take();
        let is_same = loaded.epoch == self.epoch;
        let is_first = !std::mem::replace(&mut self.has_opened, true);
        let given = std::mem::replace(&mut self.ids, loaded.ids);
        self.ids_unsaved = self.ids.take_over(&given);
        self.database = Some(loaded.database);
        self.rule_state.take_up(loaded.rule_state);
        if is_first || !is_same {
            self.resend = loaded.resend;
            self.clocks.take_up(loaded.clocks);
        }
        match self.in_doubt.take() {
            Some(save) if is_same && save.generation == loaded.generation => self.adopt(save),
            Some(save) => self.put_back(save),
            None => {}
        }
        // In memory there may be deliveries that were not saved, so memory is believed as long as it fits.
        if is_first || !is_same || self.generation != loaded.generation || damage.is_some() {
            self.epoch = loaded.epoch;
            self.generation = loaded.generation;
            self.lanes = loaded.lanes;
            self.oldest_pending = [(0, None); 2];
        }
        for LostRun { lane, run, .. } in &self.lost_runs {
            self.lanes[at(*lane)].drop_run(run.first, run.last);
        }
        for (epoch, lane, first, last) in std::mem::take(&mut self.deliveries_missed) {
            self.delivered(epoch, lane, Sequence(first), Sequence(last));
        }
        if let Some(damage) = damage {
            self.take_note_of(damage);
        }
        self.take_up();
        self.wal.set_epoch(self.epoch);
        if let Some((format, path)) = self.place.take_newer() {
            let summary = format!("the store is of a newer release (format {format}); a new one has begun");
            let description =
                format!("it is kept as it was in {}, for a release that knows its format", path.display());
            self.raise(NEWER, Transition::Raised, &summary, &description);
            self.raise(NEWER, Transition::Cleared, &summary, &description);
        }
    }

    /// Sees to it that what is missing is named, and says what happened.
    fn take_note_of(&mut self, damage: Damage) {
        let known = self.names.read(true);
        self.ids_unsaved |= self.ids.take_over(&known);
        self.gaps = damage.gaps;
        self.unsaved = true;
        self.unnamed_due = true;
        self.counters.damaged += damage.lost;
        self.counters.quarantined += u64::from(damage.is_rebuilt);
        let mut description = match damage.lost {
            0 => "nothing is lost that was still to be delivered".to_owned(),
            lost => format!("{lost} commits are lost and named in gap records"),
        };
        if damage.lost_history > 0 {
            let lost = damage.lost_history;
            description.push_str(&format!("; {lost} delivered commits are gone from the local history"));
        }
        if damage.brought_back > 0 {
            description.push_str(&format!("; {} commits were found in damaged files", damage.brought_back));
        }
        let summary = match self.aside.take() {
            Some((_, detail)) => {
                description = format!("{detail}; {description}");
                "the store was damaged; a new one goes on with what can be read of it"
            }
            None if damage.is_rebuilt => "the files of the store were gone or empty; a new one goes on in its place",
            None => "the store was damaged; what is undamaged is kept",
        };
        self.raise_damage(summary, &description);
    }

    /// Says that `lost` commits turned out to be damaged or missing.
    pub(super) fn tell_damage(&mut self, lost: u64) {
        let description = format!("{lost} commits are lost and named in gap records");
        self.raise_damage("the store was damaged; what is undamaged is kept", &description);
    }

    fn raise_damage(&mut self, summary: &str, description: &str) {
        tracing::error!(description, "{summary}");
        if !std::mem::replace(&mut self.is_damage_told, true) {
            self.raise(DAMAGED, Transition::Raised, summary, description);
        }
    }

    /// What is damaged is dealt with: everything that is lost is named.
    pub(super) fn end_damage(&mut self) {
        self.unnamed_due = false;
        for path in self.place.to_salvage() {
            if let Err(error) = self.place.end_salvage(&path) {
                tracing::warn!(%error, path = %path.display(), "a damaged database that was gone through cannot be renamed");
            }
        }
        if let Some(database) = &self.database {
            database.give_up_damaged();
        }
        if std::mem::take(&mut self.is_damage_told) {
            let lost = self.counters.damaged;
            let description = format!("{lost} commits lost since the start, each named in a gap record");
            self.raise(DAMAGED, Transition::Cleared, "the store is whole again", &description);
        }
    }

    /// The ids as they are known without a database.
    pub(super) fn recall_ids(&mut self) {
        if !self.has_opened && self.ids.len() == 0 {
            let was_there = EngineKind::found_in(&self.place.database()).is_some();
            self.ids = self.names.read(was_there);
        }
    }

    fn put_back(&mut self, save: Save) {
        let mut by_lane = [Vec::new(), Vec::new()];
        save.closed.into_iter().for_each(|closed| by_lane[at(closed.lane)].push(closed));
        for ((waiting, closed), lost) in self.waiting.iter_mut().zip(by_lane).zip(save.lost) {
            waiting.put_back(lost, closed);
        }
    }

    /// Sets the database aside, and begins a new one with the same catalogue and what waits.
    fn begin_anew(&mut self, detail: String) -> bool {
        self.recall_ids();
        let clock = self.clock.clone();
        match set_aside(&self.place, clock.as_ref(), &detail) {
            Ok(path) => {
                self.aside = Some((path, detail));
                self.budget = Budget::new(self.limit_bytes, self.place.kept_by());
                self.rule_state.begin_anew();
                self.resend.begin_anew();
                self.clocks.begin_anew();
                self.lost_runs.clear();
                self.deliveries_missed.clear();
                self.read_failures = 0;
                self.save_failures = 0;
                self.is_open_again()
            }
            Err(error) => {
                self.fail(error.to_string());
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

    /// Adds an alarm of the store's own.
    pub(super) fn raise(&mut self, name: &str, transition: Transition, summary: &str, description: &str) {
        let alarm = AlarmRecord {
            name: name.to_owned(),
            labels: Default::default(),
            time: self.clock.wall(),
            transition,
            state: match transition {
                Transition::Cleared => AlarmState::Normal,
                _ => AlarmState::UnacknowledgedActive,
            },
            priority: Priority::High,
            value: None,
            annotations: [
                ("summary".to_owned(), summary.to_owned()),
                ("description".to_owned(), description.to_owned()),
            ]
            .into(),
            readings: Vec::new(),
            by: None,
        };
        self.alarms.retain(|known| known.name != alarm.name);
        if transition == Transition::Raised {
            self.alarms.push(alarm.clone());
        }
        self.close(Lane::Alarms, &Records::Alarms(vec![alarm]));
    }

    /// Raises an alarm, once, when the disk takes nothing for long.
    pub(super) fn tell_trouble(&mut self) {
        let Some(trouble) = self.trouble.as_mut().filter(|trouble| trouble.is_lasting() && !trouble.is_told) else {
            return;
        };
        trouble.is_told = true;
        self.others_version += 1;
        let reason = trouble.reason.clone();
        let summary = format!("the store cannot be written: {reason}");
        let description = "polling and rules go on; the newest readings wait in memory and go out without being stored";
        self.raise(NOT_WRITABLE, Transition::Raised, &summary, description);
    }

    /// While writing fails, asks the disk first: a failing engine has to be opened anew each time.
    pub(super) fn takes_writes(&mut self) -> bool {
        if self.trouble.is_none() {
            return true;
        }
        match self.place.probe() {
            Ok(()) => true,
            Err(error) => {
                self.fail(io_text(&error));
                false
            }
        }
    }

    /// Notes what failed. The engine refuses everything after an error of its own, so it has to be opened again.
    pub(super) fn begin_trouble(&mut self, error: &DatabaseError) {
        if matches!(error, DatabaseError::Stuck { .. }) {
            self.stuck.get_or_insert_with(Instant::now);
        }
        self.database = None;
        self.copy = None;
        self.fail(text(error));
    }

    fn fail(&mut self, reason: String) {
        match &mut self.trouble {
            Some(trouble) if trouble.reason == reason => {}
            Some(trouble) => {
                tracing::warn!(reason, before = trouble.reason, "store still cannot be used");
                trouble.reason = reason;
            }
            None => {
                tracing::error!(reason, path = %self.place.path().display(), "store cannot be used; readings wait in memory");
                let (since, since_wall) = (Instant::now(), self.clock.wall());
                self.trouble = Some(Trouble { reason, since, since_wall, is_told: false });
            }
        }
    }

    pub(super) fn note_read<T>(&mut self, result: &Result<T, DatabaseError>) {
        match result {
            Ok(_) => self.read_failures = 0,
            Err(error) => {
                self.read_failures += u32::from(matches!(error, DatabaseError::Damaged { .. }));
                self.begin_trouble(error);
            }
        }
    }

    pub(super) fn end_trouble(&mut self) {
        self.stuck = None;
        let Some(trouble) = self.trouble.take() else { return };
        tracing::info!(after = ?trouble.since.elapsed(), "store can be used again");
        if trouble.is_told {
            let description = format!("it could not be since {}: {}", trouble.since_wall, trouble.reason);
            self.raise(NOT_WRITABLE, Transition::Cleared, "the store can be written again", &description);
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
