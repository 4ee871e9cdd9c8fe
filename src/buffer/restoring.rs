//! Putting a store together again after damage: which life it is, what its lanes were, and what is found of them.

use std::path::{Path, PathBuf};

use super::commit::{Codec, Envelope};
use super::lane::LaneState;
use super::loaded::{EPOCH_KEY, commit_key, new_epoch, newest, sequence_of, state_key};
use super::mark::Noted;
use super::ranges::Ranges;
use super::reckon::{Reckoned, reckon};
use super::salvage::{Salvage, survey};
use super::store::at;
use crate::database::{Batch, Database, DatabaseError};
use crate::model::{BootId, Epoch, Gap, Lane, Sequence};

/// Sequences passed over when the mark may be old: many times what is given while the system takes its time to write it.
const SEQUENCES_PASSED_OVER: u64 = 1 << 20;

/// What is known beside the database.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// How far it had come.
    pub noted: Option<Noted>,
    /// The boot that this is.
    pub boot: Option<BootId>,
    /// What was set aside of it, and is still to be gone through.
    pub aside: Vec<PathBuf>,
}

/// What damage did to a database.
#[derive(Debug, Default)]
pub struct Damage {
    /// The files are gone, or were set aside; the same life goes on in new ones.
    pub is_rebuilt: bool,
    /// Gap records for what is missing.
    pub gaps: Vec<Gap>,
    /// Commits that are missing, and were to be delivered.
    pub lost: u64,
    /// Commits of the history that are missing: they were delivered.
    pub lost_history: u64,
    /// Commits that were found although the database did not know them any more.
    pub brought_back: u64,
}

/// The lanes of a database.
pub struct Lanes {
    /// In the order of [`Lane::ALL`].
    pub states: [LaneState; 2],
    /// Number of the last batch.
    pub generation: u64,
    /// What was found damaged, if anything was.
    pub damage: Option<Damage>,
}

/// A database that has been opened.
pub struct Restoring<'a> {
    database: &'a Database,
    /// Its life.
    pub epoch: Epoch,
    noted: Option<Noted>,
    boot: Option<BootId>,
    aside: &'a [PathBuf],
    /// It holds nothing of its life.
    is_empty: bool,
}

impl<'a> Restoring<'a> {
    /// Finds out which life `database`, in the directory `path`, belongs to. One that is known goes on, also when the
    /// files are gone; a new one begins only when nothing is known.
    pub fn of(database: &'a Database, beside: &'a Beside, path: &Path) -> Result<Self, DatabaseError> {
        let (boot, aside) = (beside.boot, beside.aside.as_slice());
        let this = |epoch, noted: Option<Noted>, is_empty| {
            let noted = noted.filter(|noted| noted.epoch == epoch);
            Self { database, epoch, noted, boot, aside, is_empty }
        };
        let stored = database.get(EPOCH_KEY)?.and_then(|bytes| bytes.try_into().ok()).map(Epoch);
        let surveyed = || aside.iter().find_map(|directory| survey(directory));
        if let Some(epoch) = stored {
            let noted = beside.noted.clone().or_else(surveyed);
            return Ok(this(epoch, noted, false));
        }
        let is_empty = database.last_key(&[0], b"zz")?.is_none();
        let noted = beside.noted.clone().or_else(surveyed);
        // Every commit says to which life it belongs.
        let of_commits = || Lane::ALL.into_iter().find_map(|lane| newest(database, lane).ok().flatten());
        let of_commits = if is_empty { None } else { of_commits().map(|envelope: Envelope| envelope.header.epoch) };
        let epoch = match of_commits.or(noted.as_ref().map(|noted| noted.epoch)) {
            Some(epoch) => epoch,
            None if is_empty => new_epoch(),
            None => {
                let detail = "nothing tells to which epoch it belongs".to_owned();
                return Err(DatabaseError::Damaged { path: path.to_owned(), detail });
            }
        };
        let mut batch = Batch::default();
        batch.put(EPOCH_KEY, &epoch.0);
        database.apply(batch)?;
        database.flush()?;
        Ok(this(epoch, noted, is_empty))
    }

    /// The lanes. After damage, what is missing of them is looked for in every file below `path`.
    /// `unseen` are commits that the engine does not know, and that may have been durable.
    pub fn lanes(&self, path: &Path, unseen: &[Vec<u8>]) -> Result<Lanes, DatabaseError> {
        let [(alarms, first), (telemetry, second)] = [self.stored(Lane::Alarms)?, self.stored(Lane::Telemetry)?];
        let stored = [alarms, telemetry];
        let mut brought_back = self.bring_back(unseen, &stored)?;
        let noted = self.noted.as_ref().filter(|_| self.is_empty).map_or(0, |noted| noted.generation);
        let generation = first.max(second).max(noted);
        let is_rebuilt = !self.aside.is_empty() || (self.is_empty && self.noted.is_some());
        let is_damaged =
            is_rebuilt || self.is_mark_damaged() || self.database.has_losses() || !self.are_right(&stored)?;
        if !is_damaged {
            let [alarms, telemetry] = stored;
            let or_new = |state: Option<LaneState>, lane| state.unwrap_or_else(|| LaneState::new(lane));
            let states = [or_new(alarms, Lane::Alarms), or_new(telemetry, Lane::Telemetry)];
            return Ok(Lanes { states, generation, damage: None });
        }
        tracing::warn!(path = %path.display(), "the store is damaged; counting its commits");
        let mut reckoned = self.reckon(&stored)?;
        let wanted = reckoned.each_ref().map(|lane| ranges_of(&lane.gaps));
        if wanted.iter().any(|ranges| ranges.iter().next().is_some()) {
            let mut salvage = Salvage { database: self.database, epoch: self.epoch, wanted };
            let mut found = 0;
            for directory in self.aside.iter().map(PathBuf::as_path).chain([path]) {
                found += salvage.run(directory)?;
            }
            if found > 0 {
                tracing::warn!(commits = found, "found in damaged files");
                brought_back += found;
                reckoned = self.reckon(&stored)?;
            }
        }
        let lost = reckoned.iter().map(|lane| lane.lost).sum();
        let lost_history = reckoned.iter().map(|lane| lane.lost_history).sum();
        let [alarms, telemetry] = reckoned;
        let gaps = alarms.gaps.into_iter().chain(telemetry.gaps).collect();
        let damage = Some(Damage { is_rebuilt, gaps, lost, lost_history, brought_back });
        Ok(Lanes { states: [alarms.state, telemetry.state], generation, damage })
    }

    /// Puts back the commits that an engine has cut off as the end of a write, but which had been durable: the mark knows.
    /// When the last note is damaged, a commit that nothing was promised of comes back too: it is whole, and does no harm.
    fn bring_back(&self, unseen: &[Vec<u8>], stored: &[Option<LaneState>; 2]) -> Result<u64, DatabaseError> {
        let Ok(mut codec) = Codec::new() else { return Ok(0) };
        let noted = |lane: Lane| self.noted.as_ref().map(|noted| &noted.lanes[at(lane)]);
        let mut batch = Batch::default();
        let mut count = 0;
        for value in unseen {
            let Ok((lane, commit)) = codec.decode(value) else { continue };
            let header = commit.header;
            let sequence = header.sequence.0;
            let key = commit_key(lane, sequence);
            let was_durable = match &self.noted {
                Some(noted) => noted.is_damaged_in(self.boot) || sequence < noted.lanes[at(lane)].next,
                None => stored[at(lane)].as_ref().is_some_and(|lane| sequence < lane.next),
            };
            let mut states = noted(lane).into_iter().chain(&stored[at(lane)]);
            let is_wanted = states.all(|state| state.is_to_be_delivered(sequence));
            let is_ours = header.epoch == self.epoch && was_durable && is_wanted;
            if is_ours && self.database.get(&key)?.is_none() {
                batch.put(&key, value);
                count += 1;
            }
        }
        if count > 0 {
            tracing::warn!(commits = count, "brought back what was taken for the end of a write");
            self.database.apply(batch)?;
            self.database.flush()?;
        }
        Ok(count)
    }

    /// What the database says of `lane`, if that can be read, and the number of the batch it was part of.
    fn stored(&self, lane: Lane) -> Result<(Option<LaneState>, u64), DatabaseError> {
        let stored = self.database.get(&state_key(lane))?;
        let decoded = stored.and_then(|bytes| LaneState::decode(lane, &bytes).ok());
        Ok(decoded.map_or((None, 0), |(state, generation)| (Some(state), generation)))
    }

    /// Whether what is stored of the lanes agrees with their commits and with the mark.
    fn are_right(&self, stored: &[Option<LaneState>; 2]) -> Result<bool, DatabaseError> {
        for lane in Lane::ALL {
            let newest = self.database.last_key(&commit_key(lane, 0), &commit_key(lane, u64::MAX))?;
            let newest = newest.map_or(0, |key| sequence_of(&key));
            let next = stored[at(lane)].as_ref().map_or(Sequence::FIRST.0, |state| state.next);
            let noted = self.noted.as_ref().map_or(Sequence::FIRST.0, |noted| noted.lanes[at(lane)].next);
            let known = stored[at(lane)].as_ref().map_or(0, |state| state.stored.commits);
            let there = self.database.count(&commit_key(lane, 0), &commit_key(lane, u64::MAX));
            if newest >= next || noted > next || there.is_some_and(|there| there != known) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn reckon(&self, stored: &[Option<LaneState>; 2]) -> Result<[Reckoned; 2], DatabaseError> {
        let lane = |lane: Lane| {
            let (noted, stored) = (self.noted.as_ref(), stored[at(lane)].as_ref());
            let passed_over = if self.may_have_given_more(lane, stored) { SEQUENCES_PASSED_OVER } else { 0 };
            let reckoned = reckon(self.database, lane, stored, noted, passed_over)?;
            let mut batch = Batch::default();
            reckoned.revived.iter().for_each(|sequence| batch.remove(&commit_key(lane, *sequence)));
            self.database.apply(batch)?;
            Ok(reckoned)
        };
        Ok([lane(Lane::Alarms)?, lane(Lane::Telemetry)?])
    }

    fn is_mark_damaged(&self) -> bool {
        self.noted.as_ref().is_some_and(|noted| noted.is_damaged_in(self.boot))
    }

    /// Whether sequences may have been given of which neither the mark nor the database knows.
    fn may_have_given_more(&self, lane: Lane, stored: Option<&LaneState>) -> bool {
        let Some(noted) = &self.noted else { return true };
        let is_exact = noted.boot.is_some() && noted.boot == self.boot;
        self.is_mark_damaged() || !is_exact && stored.is_none_or(|stored| stored.next < noted.lanes[at(lane)].next)
    }
}

fn ranges_of(gaps: &[Gap]) -> Ranges {
    let mut ranges = Ranges::default();
    gaps.iter().for_each(|gap| ranges.insert(gap.first.0, gap.last.0));
    ranges
}
