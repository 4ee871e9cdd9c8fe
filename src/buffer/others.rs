//! Records that are to be delivered under another epoch than that of the open database.

use super::ReadLimit;
use super::store::{Store, at};
use super::waiting::Closed;
use crate::model::{Commit, Epoch, Lane, Records, Sequence};

/// Commits of another epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherCommits {
    /// The epoch of all of them.
    pub epoch: Epoch,
    /// The lane of all of them.
    pub lane: Lane,
    /// An unbroken run, at least one.
    pub commits: Vec<Commit>,
    /// Whatever is older in this epoch and lane was delivered, or is named in a gap record that was.
    pub oldest_undelivered: Sequence,
    /// Whether they were taken just now, or long ago.
    pub is_live: bool,
}

/// How much is to be delivered under other epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct OtherMarks {
    /// Changes with the list of epochs, [`Catalogue::others`](super::Catalogue::others).
    #[serde(skip)]
    pub version: u32,
    /// Commits of alarms.
    pub alarms: u64,
    /// Commits of telemetry.
    pub commits: u64,
    /// Readings in them.
    pub readings: u64,
}

impl Store {
    /// The next commits to deliver under another epoch, alarms first. What waits while the disk takes nothing gets its
    /// identity here, and goes out without having been stored.
    pub fn read_other(&mut self, limit: ReadLimit) -> Option<OtherCommits> {
        Lane::ALL.into_iter().find_map(|lane| self.read_volatile(lane, limit))
    }

    fn read_volatile(&mut self, lane: Lane, limit: ReadLimit) -> Option<OtherCommits> {
        if self.goes_out_unstored(lane) {
            let clock = self.clock_reading();
            let codec = &mut self.codec;
            let close = |gap| match Closed::encode(codec, lane, &Records::Gap(gap), clock) {
                Ok(closed) => Some(closed),
                Err(error) => {
                    tracing::error!(%lane, %error, "gap record cannot be sent");
                    None
                }
            };
            let (lost, position) = self.volatile.take_over(lane, &mut self.waiting[at(lane)], close);
            self.counters.dropped += lost;
            position.into_iter().for_each(|position| self.hand_over(lane, position));
        }
        let commits = self.volatile.read(lane, limit, &mut self.codec);
        let epoch = self.volatile.epoch;
        let oldest_undelivered = self.volatile.oldest_undelivered(lane);
        (!commits.is_empty()).then_some(OtherCommits { epoch, lane, commits, oldest_undelivered, is_live: true })
    }

    /// Alarms do not wait for a disk; readings wait a while, to become durable after all.
    fn goes_out_unstored(&self, lane: Lane) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| match lane {
            Lane::Alarms => true,
            Lane::Telemetry => trouble.is_lasting(),
        })
    }

    /// Notes what was delivered under another epoch, if there still is something of it.
    pub(super) fn delivered_other(&mut self, epoch: Epoch, lane: Lane, first: Sequence, last: Sequence) {
        if epoch == self.volatile.epoch {
            self.volatile.delivered(lane, first, last, &mut self.codec);
        }
    }

    /// How much there is.
    pub(super) fn other_marks(&self) -> OtherMarks {
        let of_lane = |lane: Lane| {
            let (commits, records) = self.volatile.pending(lane);
            let waiting = if self.goes_out_unstored(lane) { self.waiting[at(lane)].count() } else { (0, 0) };
            (commits + waiting.0, records + waiting.1)
        };
        let (alarms, _) = of_lane(Lane::Alarms);
        let (commits, readings) = of_lane(Lane::Telemetry);
        OtherMarks { version: self.others_version, alarms, commits, readings }
    }

    /// Epochs in which the ids of this one mean the same, and of which records may be delivered.
    pub(super) fn other_epochs(&self) -> Vec<Epoch> {
        let is_used = self.volatile.is_used() || self.goes_out_unstored(Lane::Telemetry);
        is_used.then_some(self.volatile.epoch).into_iter().collect()
    }
}
