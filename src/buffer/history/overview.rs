//! What a store says about itself as a whole.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::buffer::clocks::Clocks;
use crate::buffer::commit::Envelope;
use crate::buffer::lane::LaneState;
use crate::buffer::loaded::{commit_key, sequence_of};
use crate::buffer::place;
use crate::buffer::resend::Resend;
use crate::buffer::tally::Tally;
use crate::database::{Database, DatabaseError, disk_bytes};
use crate::model::{ClockOffsets, Epoch, Lane, Sequence, Timestamp};

/// A store at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Format of the directory.
    pub format: u32,
    /// What keeps the database.
    pub engine: String,
    /// Life of the database.
    pub epoch: Epoch,
    /// Both lanes.
    pub lanes: Vec<LaneOverview>,
    /// Bytes that the directory takes on disk.
    pub disk_bytes: u64,
    /// What is known of the clocks of boots.
    pub clock_offsets: ClockOffsets,
    /// Databases that could not be used, oldest first.
    pub set_aside: Vec<SetAside>,
}

/// One lane at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOverview {
    /// Which one.
    pub lane: Lane,
    /// The oldest stored commit.
    pub first: Option<Sequence>,
    /// The last sequence given; 0 when there never was one.
    pub last: Sequence,
    /// Time of the oldest record of the oldest stored commit.
    pub first_time: Option<Timestamp>,
    /// Time of the newest record of the newest stored commit.
    pub last_time: Option<Timestamp>,
    /// All stored commits.
    pub stored: Tally,
    /// Those still to be delivered.
    pub pending: Tally,
    /// Records of all commits that ever were, gap records not counted.
    pub records_ever: u64,
    /// What the consumer knows all about: delivered, or named in a gap record that was delivered.
    pub delivered: Vec<(u64, u64)>,
    /// What is gone and named in a gap record still to be delivered.
    pub dropped: Vec<(u64, u64)>,
    /// What is to be sent again.
    pub resend: Vec<(u64, u64)>,
}

/// A database that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Name of its directory.
    pub name: String,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

impl Overview {
    /// What is to be seen of the store in the directory `path`, whose open database is `database`.
    pub(in crate::buffer) fn of(
        path: &Path,
        database: &Database,
        epoch: Epoch,
        lanes: &[LaneState; 2],
        resend: &Resend,
        clocks: &Clocks,
    ) -> Result<Self, DatabaseError> {
        let of_lane = |state| LaneOverview::of(database, state, resend);
        let aside = |path: std::path::PathBuf| SetAside {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            disk_bytes: disk_bytes(&path),
        };
        Ok(Self {
            format: place::FORMAT,
            engine: database.kind().word().to_owned(),
            epoch,
            lanes: lanes.iter().map(of_lane).collect::<Result<_, _>>()?,
            disk_bytes: disk_bytes(path),
            clock_offsets: clocks.offsets().clone(),
            set_aside: place::set_aside_in(path).into_iter().map(aside).collect(),
        })
    }

    /// One lane of it.
    pub fn lane(&self, lane: Lane) -> Option<&LaneOverview> {
        self.lanes.iter().find(|found| found.lane == lane)
    }
}

impl LaneOverview {
    fn of(database: &Database, state: &LaneState, resend: &Resend) -> Result<Self, DatabaseError> {
        let lane = state.lane;
        let (mut first, mut first_time) = (None, None);
        database.visit(&commit_key(lane, 0), &commit_key(lane, u64::MAX), |key, value| {
            first = Some(Sequence(sequence_of(key)));
            first_time = Envelope::read(value).ok().map(|envelope| envelope.first_time);
            ControlFlow::Break(())
        })?;
        let newest = database.last_key(&commit_key(lane, 0), &commit_key(lane, u64::MAX))?;
        let newest = newest.map(|key| database.get(&key)).transpose()?.flatten();
        let last_time = newest.and_then(|value| Envelope::read(&value).ok()).map(|envelope| envelope.last_time);
        Ok(Self {
            lane,
            first,
            last: Sequence(state.last()),
            first_time,
            last_time,
            stored: state.stored,
            pending: state.pending.total(),
            records_ever: state.records_ever,
            delivered: state.settled.iter().collect(),
            dropped: state.dropped.iter().collect(),
            resend: resend.of(lane).iter().collect(),
        })
    }
}
