//! What a database says about itself when it is opened, and the keys under which it does.

use std::ops::ControlFlow;
use std::path::Path;

use super::catalogue::SeriesIds;
use super::clocks::Clocks;
use super::commit::{Codec, Envelope, lane_code};
use super::lane::LaneState;
use super::resend::Resend;
use super::rule_state::RuleState;
use super::tally::{Tallies, Tally};
use crate::database::{Batch, Database, DatabaseError, EngineKind};
use crate::model::{Epoch, Gap, Lane};

const EPOCH_KEY: &[u8] = b"m";

/// The key of a commit: keys of a lane are in the order of its sequences.
pub fn commit_key(lane: Lane, sequence: u64) -> [u8; 10] {
    let mut key = [b'c'; 10];
    key[1] = lane_code(lane);
    key[2..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The sequence in the key of a commit.
pub fn sequence_of(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The key of the state of a lane.
pub fn state_key(lane: Lane) -> [u8; 2] {
    [b's', lane_code(lane)]
}

/// An open database and what it holds besides commits.
#[derive(Debug)]
pub struct Loaded {
    /// The database.
    pub database: Database,
    /// Its life.
    pub epoch: Epoch,
    /// Number of the last batch.
    pub generation: u64,
    /// Both lanes, in the order of [`Lane::ALL`].
    pub lanes: [LaneState; 2],
    /// The catalogue.
    pub ids: SeriesIds,
    /// What the rules have to remember.
    pub rule_state: RuleState,
    /// What is to be sent again.
    pub resend: Resend,
    /// What is known of the clocks.
    pub clocks: Clocks,
}

impl Loaded {
    /// Opens the database at `path`, or makes a new one with a new epoch. Durable in either case.
    pub fn open(path: &Path, for_new: EngineKind) -> Result<Self, DatabaseError> {
        let database = Database::open(path, for_new)?;
        let damaged = |detail: &str| DatabaseError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
        let epoch = match database.get(EPOCH_KEY)? {
            Some(bytes) => Epoch(bytes.try_into().map_err(|_| damaged("epoch is not 16 bytes"))?),
            None if is_empty(&database)? => begin(&database)?,
            None => return Err(damaged("commits without an epoch")),
        };
        let (alarms, alarms_generation) = load_lane(&database, Lane::Alarms)?;
        let (telemetry, telemetry_generation) = load_lane(&database, Lane::Telemetry)?;
        let ids = SeriesIds::load(&database)?;
        let rule_state = RuleState::load(&database)?;
        let resend = Resend::load(&database)?;
        let mut clocks = Clocks::load(&database)?;
        for lane in Lane::ALL {
            newest(&database, lane)?.into_iter().for_each(|envelope| clocks.note(&envelope));
        }
        let generation = alarms_generation.max(telemetry_generation);
        Ok(Self { database, epoch, generation, lanes: [alarms, telemetry], ids, rule_state, resend, clocks })
    }
}

fn newest(database: &Database, lane: Lane) -> Result<Option<Envelope>, DatabaseError> {
    let key = database.last_key(&commit_key(lane, 0), &commit_key(lane, u64::MAX))?;
    let value = key.map(|key| database.get(&key)).transpose()?.flatten();
    Ok(value.and_then(|value| Envelope::read(&value).ok()))
}

fn is_empty(database: &Database) -> Result<bool, DatabaseError> {
    Ok(database.last_key(&[0], b"zz")?.is_none())
}

fn begin(database: &Database) -> Result<Epoch, DatabaseError> {
    let epoch = new_epoch();
    let mut batch = Batch::default();
    batch.put(EPOCH_KEY, &epoch.0);
    database.apply(batch)?;
    database.flush()?;
    Ok(epoch)
}

/// An epoch that never was.
pub fn new_epoch() -> Epoch {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    Epoch(bytes)
}

fn load_lane(database: &Database, lane: Lane) -> Result<(LaneState, u64), DatabaseError> {
    let newest = database.last_key(&commit_key(lane, 0), &commit_key(lane, u64::MAX))?;
    let newest = newest.map_or(0, |key| sequence_of(&key));
    let stored = database.get(&state_key(lane))?;
    match stored.map(|bytes| LaneState::decode(lane, &bytes)) {
        Some(Ok((state, generation))) if newest < state.next => Ok((state, generation)),
        None if newest == 0 => Ok((LaneState::new(lane), 0)),
        Some(_) | None => {
            tracing::warn!(%lane, "state of a lane is damaged; counting its commits");
            Ok((recount(database, lane)?, 0))
        }
    }
}

/// The state as the commits themselves tell it. What was delivered is not known any more, so all of it is pending.
fn recount(database: &Database, lane: Lane) -> Result<LaneState, DatabaseError> {
    let mut state = LaneState::new(lane);
    let mut named = Vec::new();
    let mut codec = Codec::new().ok();
    database.visit(&commit_key(lane, 0), &commit_key(lane, u64::MAX), |key, value| {
        let sequence = sequence_of(key);
        state.settle(state.next, sequence.saturating_sub(1));
        state.next = sequence + 1;
        let tally = Tally::of_stored(value);
        state.records_ever += tally.records;
        state.stored.add(tally);
        state.pending.add(Tallies::of_stored(value));
        named.extend(codec.iter_mut().flat_map(|codec| codec.named(value)));
        ControlFlow::Continue(())
    })?;
    // What stored commits say to be gone was not delivered.
    named.retain(|gap: &Gap| gap.lane == lane && gap.last.0 < state.next);
    for gap in named {
        state.settled.remove(gap.first.0, gap.last.0);
        state.drop_run(gap.first.0, gap.last.0);
    }
    state.history_from = 1;
    Ok(state)
}
