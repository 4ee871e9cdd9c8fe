//! A note beside the database of how far the lanes had come.
//!
//! Damage at the end of the engine's log looks to it like a write that was cut off: it drops the end and goes on. Then
//! sequences that were published would be given again. The mark, written after each flush, tells. It costs no flush of
//! its own: a power cut can make it old by the time the system takes to write it, but never ahead of the database.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::lane::LaneState;
use super::room::Run;
use super::varint::Reader;
use crate::model::{Epoch, Gap, GapReason};

const LENGTH: usize = 16 + 2 * 16 + 4;

/// The mark in the directory of a store.
#[derive(Debug)]
pub struct Mark(PathBuf);

impl Mark {
    /// The mark in the directory of the store, whether it is there or not.
    pub fn beside(directory: &Path) -> Self {
        Self(directory.join("mark"))
    }

    /// Notes how far `lanes` have come. Only for what is durable.
    pub fn write(&self, epoch: Epoch, lanes: &[LaneState; 2]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(epoch.0);
        for lane in lanes {
            bytes.extend(lane.next.to_le_bytes());
            bytes.extend(lane.records_ever.to_le_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        File::options().create(true).truncate(false).write(true).open(&self.0)?.write_all_at(&bytes, 0)
    }

    /// The epoch it is about.
    pub fn epoch(&self) -> Option<Epoch> {
        self.read().map(|noted| noted.0)
    }

    /// Moves `lanes` on to where they had been. Returns what is lost in between.
    pub fn restore(&self, epoch: Epoch, lanes: &mut [LaneState; 2]) -> Vec<Gap> {
        let Some(noted) = self.read().filter(|noted| noted.0 == epoch).map(|noted| noted.1) else { return Vec::new() };
        let behind = lanes.iter_mut().zip(noted).filter(|(lane, (next, _))| lane.next < *next);
        behind
            .map(|(lane, (next, records_ever))| {
                let mut run = Run::missing(lane.next, next - 1);
                run.records = records_ever.saturating_sub(lane.records_ever);
                lane.drop_run(run.first, run.last);
                lane.next = next;
                lane.records_ever = lane.records_ever.max(records_ever);
                run.gap(lane.lane, GapReason::Damaged)
            })
            .collect()
    }

    /// Whether there was a database with another epoch: it is gone.
    pub fn is_of_another(&self, epoch: Epoch) -> bool {
        self.read().is_some_and(|noted| noted.0 != epoch)
    }

    /// Epoch, and next sequence and records ever of both lanes.
    fn read(&self) -> Option<(Epoch, [(u64, u64); 2])> {
        let mut bytes = [0; LENGTH];
        File::open(&self.0).ok()?.read_exact_at(&mut bytes, 0).ok()?;
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body).to_le_bytes() != *checksum {
            return None;
        }
        let mut reader = Reader::new(body);
        let epoch = Epoch(reader.array().ok()?);
        let mut number = || reader.array().ok().map(u64::from_le_bytes);
        Some((epoch, [(number()?, number()?), (number()?, number()?)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Lane, Sequence};

    fn lanes(next: u64, records_ever: u64) -> [LaneState; 2] {
        [LaneState::new(Lane::Alarms), LaneState { next, records_ever, ..LaneState::new(Lane::Telemetry) }]
    }

    #[test]
    fn lanes_that_fell_back_go_on_where_they_had_been_and_the_loss_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let epoch = Epoch([1; 16]);
        Mark::beside(directory.path()).write(epoch, &lanes(90, 8000)).unwrap();
        let mark = Mark::beside(directory.path());

        let mut fallen_back = lanes(70, 6500);
        let gaps = mark.restore(epoch, &mut fallen_back);

        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].first, gaps[0].last, gaps[0].records), (Sequence(70), Sequence(89), 1500));
        assert_eq!(fallen_back[1].next, 90);
        assert!(mark.restore(epoch, &mut lanes(90, 8000)).is_empty());
        assert!(mark.restore(Epoch([2; 16]), &mut lanes(1, 0)).is_empty());
        assert!(mark.is_of_another(Epoch([2; 16])) && !mark.is_of_another(epoch));
    }
}
