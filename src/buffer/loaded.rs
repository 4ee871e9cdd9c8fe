//! What a database says about itself when it is opened, and the keys under which it does.

use std::path::Path;

use super::catalogue::SeriesIds;
use super::clocks::Clocks;
use super::commit::{Envelope, lane_code};
use super::lane::LaneState;
use super::resend::Resend;
use super::restoring::{Beside, Damage, Lanes, Restoring};
use super::rule_state::RuleState;
use super::salvage::commits_in;
use crate::database::{Database, DatabaseError, EngineKind};
use crate::model::{Epoch, Lane};

/// The key of the epoch.
pub const EPOCH_KEY: &[u8] = b"m";

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
    /// What was found damaged, if anything was.
    pub damage: Option<Damage>,
}

impl Loaded {
    /// Opens the database at `path`, or makes a new one. Durable in either case. What is damaged is put together again as
    /// far as it can be ([`restoring`](super::restoring)); of `unseen` what belongs there is put back. When it has to be
    /// opened once more, what the engine has cut off of it is there.
    pub fn open(
        path: &Path,
        for_new: EngineKind,
        beside: &Beside,
        unseen: &mut Vec<Vec<u8>>,
    ) -> Result<Self, DatabaseError> {
        let database = Database::open(path, for_new)?;
        unseen.extend(commits_in(&database.take_leftovers()));
        let restoring = Restoring::of(&database, beside, path)?;
        let (epoch, Lanes { states: lanes, generation, damage }) = (restoring.epoch, restoring.lanes(path, unseen)?);
        let ids = SeriesIds::load(&database)?;
        let rule_state = RuleState::load(&database)?;
        let resend = Resend::load(&database)?;
        let mut clocks = Clocks::load(&database)?;
        for lane in Lane::ALL {
            newest(&database, lane)?.into_iter().for_each(|envelope| clocks.note(&envelope));
        }
        Ok(Self { database, epoch, generation, lanes, ids, rule_state, resend, clocks, damage })
    }
}

/// The envelope of the newest commit of `lane`.
pub fn newest(database: &Database, lane: Lane) -> Result<Option<Envelope>, DatabaseError> {
    let key = database.last_key(&commit_key(lane, 0), &commit_key(lane, u64::MAX))?;
    let value = key.map(|key| database.get(&key)).transpose()?.flatten();
    Ok(value.and_then(|value| Envelope::read(&value).ok()))
}

/// An epoch that never was.
pub fn new_epoch() -> Epoch {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    Epoch(bytes)
}
