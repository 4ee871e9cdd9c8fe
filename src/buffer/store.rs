//! The database with everything that has to change together with it.
//!
//! What is closed waits in memory until the next [`save`](Store::save). A save is one batch - commits, removals, gap
//! records, state of the lanes, numbered by a *generation* - and one durable flush. When it fails nobody knows whether
//! the batch is on disk. The database is then opened again, and the generation it holds tells.

mod clock;
mod save;
mod taking_up;

use std::sync::Arc;
use std::time::Instant;

use super::catalogue::{Catalogue, SeriesIds};
use super::clocks::Clocks;
use super::commit::{ClockReading, Codec, Envelope, seal};
use super::compaction::Rewrite;
use super::lane::LaneState;
use super::loaded::{commit_key, new_epoch, state_key};
use super::mark::Mark;
use super::names::NameCopy;
use super::opening::Opening;
use super::place::Place;
use super::recovery::Trouble;
use super::resend::Resend;
use super::retention::Budget;
use super::room::{Gone, Room, join};
use super::rule_state::RuleState;
use super::tally::Tallies;
use super::thin::Stage;
use super::volatile::Volatile;
use super::waiting::{Closed, Waiting};
use super::wal::{Found, Positions, Wal, WalPlace};
use super::{BufferError, BufferSettings, WhenFull};
use crate::clock::Clock;
use crate::database::{Batch, Database, DatabaseError};
use crate::model::{AlarmRecord, Epoch, Gap, GapReason, Lane, Records, Row, Sequence, SeriesId, SeriesInfo, Timestamp};

pub use save::{Counters, LostRun, Save};

/// Undelivered commits are dropped this share of the budget at once, so that gap records stay few.
const CHUNKS: u64 = 25;

/// How long a flush that does not end is waited for, in all: a disk may come back, and then nothing is lost. An engine
/// that hangs by itself does not.
const STUCK_LONGEST: std::time::Duration = std::time::Duration::from_secs(600);

/// Everything that is stored. Belongs to one thread.
pub struct Store {
    pub(super) place: Place,
    pub(super) mark: Mark,
    pub(super) names: NameCopy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) codec: Codec,
    pub(super) database: Option<Database>,
    /// The database while it is being opened.
    pub(super) opening: Option<Opening>,
    /// What was set aside for the new database that is being opened, and why.
    pub(super) aside: Option<(std::path::PathBuf, String)>,
    /// Whether there ever was an open database.
    pub(super) has_opened: bool,
    pub(super) lanes: [LaneState; 2],
    pub(super) lost_runs: Vec<LostRun>,
    /// Gap records to write with the next save.
    pub(super) gaps: Vec<Gap>,
    pub(super) deliveries_missed: Vec<(Epoch, Lane, u64, u64)>,
    pub(super) unsaved: bool,
    /// Something may be gone that no gap record names: to be looked for with the next save.
    pub(super) unnamed_due: bool,
    /// Whether an alarm says that something is damaged.
    pub(super) is_damage_told: bool,
    /// Alarms of its own that were raised and are not cleared.
    pub(super) alarms: Vec<AlarmRecord>,
    pub(super) epoch: Epoch,
    pub(super) generation: u64,
    pub(super) ids: SeriesIds,
    /// Whether some of them were given while the database could not take them.
    pub(super) ids_unsaved: bool,
    pub(super) rule_state: RuleState,
    pub(super) resend: Resend,
    pub(super) clocks: Clocks,
    pub(super) waiting: [Waiting; 2],
    pub(super) volatile: Volatile,
    /// Changes with the epochs of which records may be delivered.
    pub(super) others_version: u32,
    pub(super) in_doubt: Option<Save>,
    pub(super) budget: Budget,
    /// The database written anew, while that goes on.
    pub(super) copy: Option<Rewrite>,
    pub(super) limit_bytes: u64,
    when_full: WhenFull,
    pub(super) read_failures: u32,
    pub(super) save_failures: u32,
    /// Sequence and time of the oldest pending commit of each lane, found out once.
    pub(super) oldest_pending: [(u64, Option<Timestamp>); 2],
    pub(super) counters: Counters,
    pub(super) wal: Wal,
    /// What a process that died left in it, until the database is open.
    pub(super) found: Option<Found>,
    /// What of the log was put into commits, or is otherwise known to the store.
    pub(super) closed: Positions,
    /// What of the log is durable.
    pub(super) durable: Positions,
    pub(super) trouble: Option<Trouble>,
    /// Since when the engine hangs.
    pub(super) stuck: Option<Instant>,
}

pub(super) fn at(lane: Lane) -> usize {
    match lane {
        Lane::Alarms => 0,
        Lane::Telemetry => 1,
    }
}

impl Store {
    /// Opens the store in `place`. A database that does not open is set aside, and a new one begins. While the disk
    /// takes nothing, the store works in memory.
    pub fn open(
        place: Place,
        settings: &BufferSettings,
        wal: WalPlace,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BufferError> {
        let codec = Codec::new()
            .map_err(|error| BufferError::Unavailable { path: place.path().to_owned(), reason: error.to_string() })?;
        let mark = Mark::beside(place.path());
        let kept_by = place.kept_by();
        let epoch = mark.read().map_or_else(new_epoch, |noted| noted.epoch);
        let (wal, found) = Wal::open(wal, place.path(), epoch, clock.clone());
        let closed = wal.ends();
        let mut store = Self {
            unsaved: false,
            unnamed_due: false,
            is_damage_told: false,
            alarms: Vec::new(),
            gaps: Vec::new(),
            names: NameCopy::beside(place.path()),
            place,
            epoch,
            mark,
            clock,
            codec,
            database: None,
            opening: None,
            aside: None,
            has_opened: false,
            lanes: Lane::ALL.map(LaneState::new),
            lost_runs: Vec::new(),
            deliveries_missed: Vec::new(),
            generation: 0,
            ids: SeriesIds::default(),
            ids_unsaved: false,
            rule_state: RuleState::default(),
            resend: Resend::default(),
            clocks: Clocks::default(),
            waiting: Default::default(),
            volatile: Volatile::new(new_epoch()),
            others_version: 0,
            in_doubt: None,
            budget: Budget::new(settings.limit_bytes, kept_by),
            copy: None,
            limit_bytes: settings.limit_bytes,
            when_full: settings.when_full,
            read_failures: 0,
            save_failures: 0,
            oldest_pending: [(0, None); 2],
            counters: Counters::default(),
            wal,
            found,
            closed,
            durable: Positions::default(),
            trouble: None,
            stuck: None,
        };
        if !store.is_open_again() {
            store.recall_ids();
        }
        store.see_disk();
        Ok(store)
    }

    /// Closes a commit of `records`. Returns the length of its bytes.
    pub fn close(&mut self, lane: Lane, records: &Records) -> usize {
        self.close_at(lane, records, self.clock_reading())
    }

    /// Closes a commit of `records` that were taken with `clock`. Returns the length of its bytes.
    pub fn close_at(&mut self, lane: Lane, records: &Records, clock: ClockReading) -> usize {
        let position = match lane {
            Lane::Alarms => self.closed.alarms,
            Lane::Telemetry => self.closed.rows,
        };
        let Some(closed) = self.encode(lane, records, clock, position) else { return 0 };
        let length = closed.bytes.len();
        self.waiting[at(lane)].push(closed);
        length
    }

    /// Closes a commit of appended rows.
    pub fn close_rows(&mut self, rows: Vec<Row>, clock: ClockReading) -> usize {
        self.closed.rows += rows.len() as u64;
        self.close_at(Lane::Telemetry, &Records::Readings(rows), clock)
    }

    /// Closes a commit of appended alarms.
    pub fn close_alarms(&mut self, alarms: &[AlarmRecord]) {
        self.closed.alarms += alarms.len() as u64;
        self.close(Lane::Alarms, &Records::Alarms(alarms.to_vec()));
    }

    /// Takes over what the rules have to remember.
    pub fn set_rule_state(&mut self, state: Vec<u8>) {
        self.closed.states += 1;
        self.rule_state.set(state);
    }

    /// A commit of `records`, which end at `position` of the write-ahead log.
    fn encode(&mut self, lane: Lane, records: &Records, clock: ClockReading, position: u64) -> Option<Closed> {
        match Closed::encode(&mut self.codec, lane, records, clock) {
            Ok(closed) => {
                if let Ok(envelope) = Envelope::read(&closed.bytes) {
                    self.clocks.note(&envelope);
                }
                Some(Closed { position, ..closed })
            }
            Err(error) => {
                tracing::error!(%lane, %error, "records cannot be stored");
                self.counters.dropped += records.count() as u64;
                None
            }
        }
    }

    /// Whether so much waits that it should not wait for the end of the interval.
    pub fn is_save_due(&self) -> bool {
        self.trouble.is_none() && self.waiting_bytes() >= self.budget.batch_bytes() / 2
    }

    /// Whether the next save has something to do.
    pub fn has_unsaved(&self) -> bool {
        self.unsaved
            || self.ids_unsaved
            || self.rule_state.is_unsaved()
            || self.resend.is_unsaved()
            || self.clocks.is_unsaved()
            || self.in_doubt.is_some()
            || self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    /// Whether the last save failed, so that another has to be tried.
    pub fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether the engine has been hanging for so long that only a new process can help.
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_some_and(|since| since.elapsed() > STUCK_LONGEST)
    }

    /// Makes durable all that waits. What cannot be written now goes on waiting. Says whether nothing waits any more.
    pub fn save(&mut self) -> bool {
        let mut looked = false;
        while self.has_unsaved() || self.database.is_none() {
            if !self.is_open_again() || !self.takes_writes() {
                self.tell_trouble();
                return false;
            }
            let before = self.counters.bytes_written;
            match self.save_some() {
                Ok(()) => {
                    self.save_failures = 0;
                    self.end_trouble();
                    self.look_at_disk(self.counters.bytes_written - before);
                    looked = true;
                }
                Err(error) => {
                    self.save_failures += u32::from(matches!(error, DatabaseError::Damaged { .. }));
                    self.begin_trouble(&error);
                    return false;
                }
            }
        }
        if !looked {
            self.look_at_disk(0);
        }
        true
    }

    fn save_some(&mut self) -> Result<(), DatabaseError> {
        // First, so that it never lacks an id.
        self.names.update(&mut self.ids);
        let mut batch = Batch::default();
        let save = self.prepare(&mut batch)?;
        self.wal.note_save(save.generation, &save.positions);
        let begun = Instant::now();
        let written = self.write(batch);
        self.counters.longest_flush = self.counters.longest_flush.max(begun.elapsed());
        match written {
            Ok(()) => {
                self.adopt(save);
                Ok(())
            }
            Err(error) => {
                self.in_doubt = Some(save);
                Err(error)
            }
        }
    }

    /// Puts what waits into `batch`, with the removals and gap records it takes.
    fn prepare(&mut self, batch: &mut Batch) -> Result<Save, DatabaseError> {
        let mut lanes = self.lanes.clone();
        let mut gaps = self.gaps.clone();
        for LostRun { lane, run, tally } in &self.lost_runs {
            (run.first..=run.last).for_each(|sequence| batch.remove(&commit_key(*lane, sequence)));
            lanes[at(*lane)].stored.take(tally.total());
            lanes[at(*lane)].pending.take(*tally);
            gaps.push(run.gap(*lane, GapReason::Damaged));
        }
        let names_all = self.unnamed_due;
        if names_all || !self.lost_runs.is_empty() {
            self.say_unnamed(&lanes, &mut gaps)?;
        }
        let mut aggregates = Vec::new();
        let gone = self.make_room(&mut lanes, batch, &mut gaps, &mut aggregates)?;
        let mut save = Save {
            generation: self.generation + 1,
            lanes,
            closed: Vec::new(),
            lost: [None; 2],
            names_all,
            gone,
            bytes: 0,
            rule_state: None,
            ids: self.ids.len(),
            resend: self.resend.put(batch),
            clocks: self.clocks.put(batch),
            positions: Positions { series: self.closed.series, ..self.durable },
        };
        if self.ids_unsaved {
            self.ids.write_all(batch);
        }
        for lane in Lane::ALL {
            let (lost, closed) = self.waiting[at(lane)].take(self.budget.batch_bytes());
            save.lost[at(lane)] = lost;
            save.closed.extend(closed);
            gaps.extend(lost.map(|lost| save.lanes[at(lane)].name_lost(lost)));
        }
        // Never ahead of the alarms that go with it.
        if self.waiting[at(Lane::Alarms)].is_empty() {
            save.rule_state = Some(self.rule_state.put(batch));
            save.positions.states = self.closed.states;
        }
        for closed in &save.closed {
            let position = match closed.lane {
                Lane::Alarms => &mut save.positions.alarms,
                Lane::Telemetry => &mut save.positions.rows,
            };
            *position = closed.position.max(*position);
        }
        for closed in &mut save.closed {
            save.bytes += put(batch, &mut save.lanes[at(closed.lane)], closed, self.epoch);
        }
        for mut closed in aggregates {
            save.bytes += put(batch, &mut save.lanes[at(closed.lane)], &mut closed, self.epoch);
        }
        join(&mut gaps);
        let clock = self.clock_reading();
        for gap in gaps {
            let lane = gap.lane;
            match Closed::encode(&mut self.codec, lane, &Records::Gap(gap), clock) {
                Ok(mut closed) => save.bytes += put(batch, &mut save.lanes[at(lane)], &mut closed, self.epoch),
                Err(error) => tracing::error!(%lane, %error, "gap record cannot be stored"),
            }
        }
        for state in &save.lanes {
            let value = state.encode(save.generation);
            save.bytes += value.len() as u64;
            batch.put(&state_key(state.lane), &value);
        }
        Ok(save)
    }

    fn make_room(
        &mut self,
        lanes: &mut [LaneState; 2],
        batch: &mut Batch,
        gaps: &mut Vec<Gap>,
        aggregates: &mut Vec<Closed>,
    ) -> Result<Gone, DatabaseError> {
        let batch_bytes = self.budget.batch_bytes();
        let incoming: usize = self.waiting.iter().map(|waiting| waiting.bytes().min(batch_bytes)).sum();
        let need = self.budget.excess(lanes.iter().map(|lane| lane.stored.bytes).sum(), incoming as u64);
        if need == 0 {
            return Ok(Gone::default());
        }
        let database = self.database.as_ref().expect("saving needs an open database");
        let share = match self.when_full {
            WhenFull::Thin => Some(self.budget.alive() / Stage::ALL.len() as u64),
            WhenFull::DropOldest => None,
        };
        let (epoch, codec, chunk) = (self.epoch, &mut self.codec, self.budget.alive() / CHUNKS);
        Room { database, epoch, codec, batch, gaps, aggregates, share, chunk }.free(lanes, need)
    }

    /// Takes over the state after a batch that is durable.
    pub(super) fn adopt(&mut self, save: Save) {
        self.generation = save.generation;
        self.lanes = save.lanes;
        self.durable = save.positions;
        self.wal.made_durable(&self.durable);
        let is_dealt_with = save.names_all || !self.lost_runs.is_empty();
        self.lost_runs.clear();
        self.gaps.clear();
        let noted = self.noted();
        if let Err(error) = self.mark.write(&noted) {
            tracing::debug!(%error, "mark not written");
        }
        if is_dealt_with {
            self.end_damage();
        }
        self.unsaved = false;
        self.ids_unsaved &= save.ids < self.ids.len();
        self.resend.adopt(save.resend);
        self.clocks.adopt(save.clocks);
        save.rule_state.into_iter().for_each(|number| self.rule_state.adopt(number));
        let lost: u64 = save.lost.iter().flatten().map(|lost| lost.records).sum();
        let Gone { thinned, dropped } = save.gone;
        if dropped > 0 || lost > 0 {
            tracing::warn!(store_full = dropped, not_writable = lost, "records dropped undelivered");
        }
        if thinned > 0 && self.counters.thinned == 0 {
            tracing::warn!("the store is full: the oldest undelivered readings become aggregates");
        }
        self.counters.thinned += thinned;
        self.counters.dropped += dropped + lost;
        self.counters.flushes += 1;
        self.counters.bytes_written += save.bytes;
        self.counters.commits += save.closed.len() as u64;
        let is_own = |closed: &&Closed| closed.lane == Lane::Telemetry && !closed.is_taken_up;
        let telemetry = save.closed.iter().filter(is_own);
        self.counters.readings_stored += telemetry.map(|closed| u64::from(closed.records)).sum::<u64>();
    }

    /// The ids of `series`; new ones are durable no later than the first readings that use them.
    pub fn register(&mut self, series: &[SeriesInfo]) -> Result<Vec<SeriesId>, BufferError> {
        let (known, first_new) = (self.ids.len(), self.ids.next_id());
        let registered = self.ids.register(series).map_err(|error| BufferError::NotWritable {
            reason: format!("series cannot be written as JSON: {error}"),
        })?;
        if self.ids.len() > known {
            self.names.outdate();
            self.ids_unsaved = true;
            let new = self.ids.iter().filter(|(id, _)| id.0 >= first_new.0);
            self.wal.add_series(new);
            self.closed.series = self.wal.ends().series;
        }
        Ok(registered)
    }

    /// All series of this epoch.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue { epoch: self.epoch, series: self.ids.all(), others: self.other_epochs() }
    }

    pub(super) fn not_writable(&self) -> BufferError {
        let reason = self.trouble.as_ref().map_or("the store is closed", |trouble| &trouble.reason);
        BufferError::NotWritable { reason: reason.to_owned() }
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(Waiting::bytes).sum()
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[at(lane)]
    }

    pub(super) fn lane_mut(&mut self, lane: Lane) -> &mut LaneState {
        &mut self.lanes[at(lane)]
    }
}

/// Puts a commit into `batch` under the next sequence of its lane. Returns the bytes it takes.
fn put(batch: &mut Batch, lane: &mut LaneState, closed: &mut Closed, epoch: Epoch) -> u64 {
    let sequence = lane.next;
    lane.next += 1;
    seal(&mut closed.bytes, epoch, Sequence(sequence));
    let key = commit_key(lane.lane, sequence);
    batch.put(&key, &closed.bytes);
    let tallies = Tallies::of_stored(&closed.bytes);
    if closed.is_new {
        lane.records_ever += u64::from(closed.records);
    }
    lane.stored.add(tallies.total());
    lane.pending.add(tallies);
    (key.len() + closed.bytes.len()) as u64
}
