//! A note beside the database of how far the lanes had come and what of them was delivered.
//!
//! A damaged database may open and lack its end, or parts of it, or not open at all. The note tells which sequences were
//! given, so that none is given twice and what is gone can be named, and which were delivered, so that they need not go
//! out again. It is written after each flush and costs no flush of its own: a power cut can make it old by the time the
//! system takes to write it, but never ahead of the database.
//!
//! ```text
//! two slots (4096 each), written in turn, so that one is whole:
//! head (8): "lsmark 2"; number u64; generation u64; epoch 16; boot 16;
//! each lane: length u32, its state as in the database; CRC-32C of it all
//! ```
//!
//! Before this, the mark was one record of 52 bytes without what was delivered; it is still read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::lane::LaneState;
use super::ranges::Ranges;
use super::varint::{Malformed, Reader};
use crate::model::{BootId, Epoch, Lane};

const SLOT: usize = 4096;
const HEAD: &[u8; 8] = b"lsmark 2";

/// Ranges of a lane that always fit. With more, the newest are left out: then more goes out again than need be.
const RANGES_NOTED: usize = 32;

const OLD_LENGTH: usize = 16 + 2 * 16 + 4;

/// The mark in the directory of a store.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    /// Number of the last note.
    number: u64,
}

/// What is noted.
#[derive(Debug, Clone)]
pub struct Noted {
    /// Life of the database.
    pub epoch: Epoch,
    /// Boot in which it was noted: in the same one it is exact. Not known of a note of an earlier release.
    pub boot: Option<BootId>,
    /// Number of the last batch.
    pub generation: u64,
    /// Both lanes, in the order of [`Lane::ALL`].
    pub lanes: [LaneState; 2],
    /// Whether it says what was delivered.
    pub is_full: bool,
    /// Whether it is the last that was noted: not when what was noted in the other slot cannot be read.
    pub is_newest: bool,
}

impl Noted {
    /// Whether more was noted, which is damaged, as `boot` sees it: in another boot a power cut may have torn it, and
    /// then the database tells what was durable.
    pub fn is_damaged_in(&self, boot: Option<BootId>) -> bool {
        !self.is_newest && self.boot.is_some() && self.boot == boot
    }
}

impl Mark {
    /// The mark in the directory of the store, whether it is there or not.
    pub fn beside(directory: &Path) -> Self {
        let path = directory.join("mark");
        let number = slots(&path).map(|(number, _)| number).max().unwrap_or(0);
        Self { path, number }
    }

    /// Notes how far `lanes` have come. Only for what is durable.
    pub fn write(&mut self, noted: &Noted) -> io::Result<()> {
        self.number += 1;
        let mut bytes = encode(self.number, noted, &noted.lanes);
        if bytes.len() > SLOT {
            bytes = encode(self.number, noted, &noted.lanes.each_ref().map(shortened));
        }
        let file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
        file.write_all_at(&bytes, self.number % 2 * SLOT as u64)
    }

    /// What is noted, if that can be read.
    pub fn read(&self) -> Option<Noted> {
        let slots: Vec<(u64, Noted)> = slots(&self.path).collect();
        // Only the first note has none beside it.
        let is_newest = slots.len() == 2 || matches!(slots[..], [(1, _)]);
        let newest = slots.into_iter().max_by_key(|(number, _)| *number);
        newest.map(|(_, noted)| Noted { is_newest, ..noted }).or_else(|| old(&self.path))
    }
}

/// The lane with fewer ranges. What is left out counts as not delivered, and as not named.
fn shortened(lane: &LaneState) -> LaneState {
    let some = |ranges: &Ranges| {
        let mut some = Ranges::default();
        ranges.iter().take(RANGES_NOTED).for_each(|(first, last)| some.insert(first, last));
        some
    };
    LaneState { settled: some(&lane.settled), dropped: some(&lane.dropped), ..lane.clone() }
}

fn encode(number: u64, noted: &Noted, lanes: &[LaneState; 2]) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.extend(noted.generation.to_le_bytes());
    bytes.extend(noted.epoch.0);
    bytes.extend(noted.boot.unwrap_or(BootId([0; 16])).0);
    for lane in lanes {
        let state = lane.encode(noted.generation);
        bytes.extend((state.len() as u32).to_le_bytes());
        bytes.extend(state);
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn slots(path: &Path) -> impl Iterator<Item = (u64, Noted)> {
    let file = File::open(path).ok();
    (0..2_u64).filter_map(move |slot| {
        let mut bytes = vec![0; SLOT];
        let read = file.as_ref()?.read_at(&mut bytes, slot * SLOT as u64).ok()?;
        decode(&bytes[..read]).ok()
    })
}

fn decode(bytes: &[u8]) -> Result<(u64, Noted), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != *HEAD {
        return Err(Malformed("no mark"));
    }
    let number = u64::from_le_bytes(reader.array()?);
    let generation = u64::from_le_bytes(reader.array()?);
    let epoch = Epoch(reader.array()?);
    let boot = Some(BootId(reader.array()?));
    let mut lane = |lane| {
        let length = u32::from_le_bytes(reader.array()?) as usize;
        LaneState::decode(lane, reader.bytes(length)?).map(|(state, _)| state)
    };
    let lanes = [lane(Lane::Alarms)?, lane(Lane::Telemetry)?];
    let body = &bytes[..bytes.len() - reader.len()];
    if u32::from_le_bytes(reader.array()?) != crc32c::crc32c(body) {
        return Err(Malformed("checksum does not match"));
    }
    Ok((number, Noted { epoch, boot, generation, lanes, is_full: true, is_newest: true }))
}

/// The mark of an earlier release: epoch, and next sequence and records ever of both lanes.
fn old(path: &Path) -> Option<Noted> {
    let mut bytes = [0; OLD_LENGTH];
    File::open(path).ok()?.read_exact_at(&mut bytes, 0).ok()?;
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body).to_le_bytes() != *checksum {
        return None;
    }
    let mut reader = Reader::new(body);
    let epoch = Epoch(reader.array().ok()?);
    let mut lane = |lane| {
        let mut number = || reader.array().ok().map(u64::from_le_bytes);
        Some(LaneState { next: number()?.max(1), records_ever: number()?, ..LaneState::new(lane) })
    };
    let lanes = [lane(Lane::Alarms)?, lane(Lane::Telemetry)?];
    Some(Noted { epoch, boot: None, generation: 0, lanes, is_full: false, is_newest: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(generation: u64) -> Noted {
        let mut telemetry = LaneState { next: 90, records_ever: 8000, ..LaneState::new(Lane::Telemetry) };
        telemetry.settle(1, generation);
        let lanes = [LaneState::new(Lane::Alarms), telemetry];
        let (epoch, boot) = (Epoch([1; 16]), Some(BootId([2; 16])));
        Noted { epoch, boot, generation, lanes, is_full: true, is_newest: true }
    }

    #[test]
    fn the_newest_whole_note_counts() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::beside(directory.path());
        assert!(mark.read().is_none());
        mark.write(&noted(0)).unwrap();
        assert!(mark.read().unwrap().is_newest, "there was none before");
        (1..=3).for_each(|generation| mark.write(&noted(generation)).unwrap());
        let mut again = Mark::beside(directory.path());
        again.write(&noted(4)).unwrap();
        let read = again.read().unwrap();
        assert_eq!((read.generation, read.lanes[1].oldest_undelivered(), read.boot), (4, 5, Some(BootId([2; 16]))));
        assert!(read.is_newest);

        let file = File::options().write(true).open(directory.path().join("mark")).unwrap();
        file.write_all_at(&[0xff; 8], SLOT as u64 + 40).unwrap();

        let read = again.read().unwrap();
        assert_eq!((read.generation, read.is_newest), (3, false));
    }

    #[test]
    fn a_note_of_many_ranges_is_shortened_and_one_of_an_earlier_release_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut many = noted(1);
        (0..2000_u64).for_each(|number| many.lanes[1].settled.insert(100_000 * number + 3, 100_000 * number + 4));
        Mark::beside(directory.path()).write(&many).unwrap();
        let read = Mark::beside(directory.path()).read().unwrap();
        assert!(read.lanes[1].settled.iter().count() <= RANGES_NOTED);
        assert_eq!((read.lanes[1].next, read.lanes[1].records_ever), (90, 8000));

        let mut old = [
            [3; 16].as_slice(),
            &[[7_u64, 60, 12, 700]].concat().iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>(),
        ]
        .concat();
        old.extend(crc32c::crc32c(&old).to_le_bytes());
        std::fs::write(directory.path().join("mark"), old).unwrap();
        let read = Mark::beside(directory.path()).read().unwrap();
        assert_eq!((read.epoch, read.is_full, read.lanes[0].next, read.lanes[1].next), (Epoch([3; 16]), false, 7, 12));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_mark_or_none(bytes: Vec<u8>) {
            let _ = decode(&[HEAD.as_slice(), &bytes].concat());
        }
    }
}
