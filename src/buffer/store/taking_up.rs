//! Taking up what a process that died had accepted and not stored.

use std::collections::HashSet;

use super::{Store, at};
use crate::buffer::commit::ClockReading;
use crate::buffer::gather::ALARMS_PER_COMMIT;
use crate::buffer::open_commit::OpenCommit;
use crate::buffer::waiting::Closed;
use crate::buffer::wal::{Appended, Found, Frame, Positions};
use crate::model::{Lane, Records, Row, SeriesId};

/// What is being taken up.
struct TakingUp<'a> {
    store: &'a mut Store,
    /// What of it was put into commits so far.
    closed: Positions,
    /// Position of the next row.
    next_row: u64,
    commits: [Vec<Closed>; 2],
    readings: u64,
    alarms: u64,
    /// Readings of series that nobody knows: the log lacks the frame that names them.
    unknown: u64,
}

impl Store {
    /// Puts what was found in the write-ahead log, and the database does not hold, before everything that waits. The
    /// database has just been opened.
    pub(in crate::buffer) fn take_up(&mut self) {
        let Some(found) = self.found.take() else { return };
        if found.epoch != self.epoch {
            tracing::warn!("the open commit of the process before belongs to another store; it is dropped");
            self.wal.discard(found.length());
            self.durable = self.durable.max(&found.end);
            return;
        }
        let placed = found.placed(self.generation);
        self.durable = self.durable.max(&placed);
        let mut taking_up = TakingUp {
            store: self,
            closed: placed,
            next_row: placed.rows,
            commits: Default::default(),
            readings: 0,
            alarms: 0,
            unknown: 0,
        };
        taking_up.run(&found, &placed);
        let TakingUp { commits, readings, alarms, unknown, .. } = taking_up;
        for (waiting, commits) in self.waiting.iter_mut().zip(commits) {
            waiting.put_back(None, commits);
        }
        self.counters.taken_up += readings;
        self.counters.dropped += unknown;
        if readings + alarms > 0 {
            tracing::info!(readings, alarms, "took up what the process before had accepted and not stored");
        }
        if unknown > 0 {
            tracing::error!(
                readings = unknown,
                "readings of the process before are of series that nobody knows; dropped"
            );
        }
    }

    /// Commits of `lane` up to `position` go out although they are not stored, and must not be stored later.
    pub(in crate::buffer) fn hand_over(&mut self, lane: Lane, position: u64) {
        match lane {
            Lane::Alarms => self.durable.alarms = position,
            Lane::Telemetry => self.durable.rows = position,
        }
        self.wal.hand_over(&self.durable);
    }
}

impl TakingUp<'_> {
    fn run(&mut self, found: &Found, placed: &Positions) {
        let mut known: HashSet<SeriesId> = self.store.ids.iter().map(|(id, _)| id).collect();
        let mut open: Option<OpenCommit> = None;
        for frame in found.frames() {
            match frame {
                Frame::Series { id, series } => {
                    known.insert(id);
                    self.add_series(id, &series);
                }
                Frame::Appended(appended) => {
                    let open = open.get_or_insert_with(|| OpenCommit::new(appended.clock));
                    self.add(open, appended, placed, &known);
                }
                Frame::Save { .. } | Frame::HandedOver(_) => {}
            }
        }
        if let Some(open) = &mut open {
            open.close(&mut |rows, clock| self.close_rows(rows, clock));
        }
    }

    fn add_series(&mut self, id: SeriesId, series: &[u8]) {
        let store = &mut *self.store;
        if store.ids.get(series) != Some(id) {
            store.ids.insert(id, series);
            store.names.outdate();
            store.ids_unsaved = true;
        }
    }

    fn add(&mut self, open: &mut OpenCommit, appended: Appended, placed: &Positions, known: &HashSet<SeriesId>) {
        let Appended { at, clock, monotonic, rows, alarms, state } = appended;
        open.see(clock, monotonic, &mut |rows, clock| self.close_rows(rows, clock));
        let skipped = count_before(at.rows, placed.rows).min(rows.len());
        if skipped < rows.len() {
            self.begin_at(open, at.rows + skipped as u64);
            self.next_row = at.rows + rows.len() as u64;
            if self.are_known(&rows, known) {
                open.append(rows, skipped, monotonic, &mut |rows, clock| self.close_rows(rows, clock));
            }
        }
        let skipped = count_before(at.alarms, placed.alarms).min(alarms.len());
        self.closed.alarms = self.closed.alarms.max(at.alarms + skipped as u64);
        for alarms in alarms[skipped..].chunks(ALARMS_PER_COMMIT) {
            self.alarms += alarms.len() as u64;
            self.closed.alarms += alarms.len() as u64;
            let records = Records::Alarms(alarms.to_vec());
            self.push(Lane::Alarms, &records, clock, self.closed.alarms);
        }
        if let Some(state) = state.filter(|_| at.states >= placed.states) {
            self.store.rule_state.set(state);
        }
    }

    /// The next row is the one at `position`: the log lacks those between, when an append could not be written.
    fn begin_at(&mut self, open: &mut OpenCommit, position: u64) {
        if self.next_row != position {
            open.close(&mut |rows, clock| self.close_rows(rows, clock));
            self.closed.rows = position;
        }
    }

    /// Whether all series of `rows` are in the catalogue. An id that is not must not become that of another series.
    fn are_known(&mut self, rows: &[Row], known: &HashSet<SeriesId>) -> bool {
        let mut unknown = rows.iter().flat_map(|row| row.series.iter()).filter(|id| !known.contains(id)).peekable();
        if unknown.peek().is_none() {
            return true;
        }
        unknown.for_each(|id| self.store.ids.never_again(*id));
        self.unknown += count(rows);
        // What follows begins a commit of its own.
        self.next_row = u64::MAX;
        false
    }

    fn close_rows(&mut self, rows: Vec<Row>, clock: ClockReading) -> usize {
        self.readings += count(&rows);
        self.closed.rows += rows.len() as u64;
        self.push(Lane::Telemetry, &Records::Readings(rows), clock, self.closed.rows)
    }

    fn push(&mut self, lane: Lane, records: &Records, clock: ClockReading, position: u64) -> usize {
        let Some(closed) = self.store.encode(lane, records, clock, position) else { return 0 };
        let length = closed.bytes.len();
        self.commits[at(lane)].push(Closed { is_taken_up: true, ..closed });
        length
    }
}

fn count(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.observed.len() as u64).sum()
}

/// How many of what begins at `first` are before `position`.
fn count_before(first: u64, position: u64) -> usize {
    usize::try_from(position.saturating_sub(first)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::buffer::place::Place;
    use crate::buffer::wal::{Accepted, WalPlace};
    use crate::buffer::{BufferSettings, WhenFull};
    use crate::clock::SystemClock;
    use crate::database::{Batch, EngineKind};
    use crate::model::{Observed, Scale, SeriesInfo, Timestamp, Value, ValueKind};

    fn open(path: &Path) -> Store {
        let settings = BufferSettings {
            path: path.join("store"),
            limit_bytes: 16 << 20,
            commit_interval: Duration::from_secs(1),
            commit_interval_max: Duration::from_secs(1),
            engine: EngineKind::Segments,
            when_full: WhenFull::Thin,
        };
        let place = Place::claim(&settings.path).unwrap();
        Store::open(place, &settings, WalPlace::In(vec![path.to_owned()]), Arc::new(SystemClock::new(true))).unwrap()
    }

    fn accept(store: &mut Store, times: std::ops::Range<i64>) {
        let id = store.register(&[series()]).unwrap()[0];
        let row =
            |time| Row { series: [id].into(), time: Timestamp(time), observed: vec![Observed::Good(Value::Int(1))] };
        let accepted = Accepted { rows: times.map(row).collect(), alarms: Vec::new(), state: None, room: None };
        let clock = store.clock_reading();
        store.wal.clone().append(accepted, |accepted| _ = store.close_rows(accepted.rows, clock));
    }

    fn series() -> SeriesInfo {
        let (name, unit, kind, scale) = ("level".into(), "mm".into(), ValueKind::Int, Scale::ONE);
        SeriesInfo { name, labels: Arc::default(), unit, kind, scale, states: Default::default() }
    }

    fn waiting(store: &Store) -> u64 {
        store.waiting[at(Lane::Telemetry)].count().1
    }

    #[test]
    fn a_batch_that_was_applied_before_the_kill_is_not_stored_again_and_one_that_was_not_is() {
        for is_applied in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let mut store = open(directory.path());
            accept(&mut store, 0..3);
            assert!(store.save());
            accept(&mut store, 3..10);
            // As a save does, until the process is killed.
            let mut batch = Batch::default();
            let save = store.prepare(&mut batch).unwrap();
            store.wal.note_save(save.generation, &save.positions);
            accept(&mut store, 10..12);
            if is_applied {
                store.write(batch).unwrap();
            }
            drop(store);

            let mut store = open(directory.path());

            let expected = if is_applied { 2 } else { 9 };
            assert_eq!((waiting(&store), store.counters.taken_up), (expected, expected));
            assert!(store.save());
            assert_eq!(store.lane(Lane::Telemetry).records_ever, 12);
            // And it goes on from there.
            accept(&mut store, 12..13);
            drop(store);
            assert_eq!(waiting(&open(directory.path())), 1);
        }
    }
}
