//! What is known of the clocks of boots: which offset corrects which times, and whether one is still to be found out.

use super::commit::Envelope;
use crate::database::{Batch, Database, DatabaseError};
use crate::model::{BootId, ClockOffset, ClockOffsets, ClockState};

const KEY: &[u8] = b"o";

/// Boots whose clock was set after readings were taken; those before them have long left the history.
const OFFSETS_KEPT: usize = 64;

/// The offsets, and whether they are on disk. They stand in records too: this is what spares looking for those.
#[derive(Debug, Default)]
pub struct Clocks {
    offsets: ClockOffsets,
    /// The boot of which something is stored that was taken before its clock was right.
    open: Option<BootId>,
    /// Counts the changes.
    number: u64,
    saved: u64,
}

impl Clocks {
    /// What `database` holds.
    pub fn load(database: &Database) -> Result<Self, DatabaseError> {
        let stored = database.get(KEY)?;
        let offsets = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Self { offsets: offsets.unwrap_or_default(), open: None, number: 0, saved: 0 })
    }

    /// Takes up what a database holds, besides what became known before it was open.
    pub fn take_up(&mut self, loaded: Self) {
        let own = std::mem::replace(&mut self.offsets, loaded.offsets);
        own.iter().for_each(|offset| self.offsets.note(*offset));
        self.open = self.open.or(loaded.open);
        self.number += 1;
    }

    /// What is known.
    pub fn offsets(&self) -> &ClockOffsets {
        &self.offsets
    }

    /// Takes note of a stored commit: an offset is waited for when its clock was not right and nothing corrects it.
    pub fn note(&mut self, commit: &Envelope) {
        let header = &commit.header;
        let is_wrong = header.clock == ClockState::Unsynchronised;
        if is_wrong && self.offsets.correction_ms(header, commit.last_time).is_none() {
            self.open = Some(header.boot);
        }
    }

    /// The clock of `boot` is right: whether that is news that something stored waits for.
    pub fn is_waited_for(&self, boot: BootId) -> bool {
        self.open == Some(boot)
    }

    /// Takes up `offset`, which is in a record.
    pub fn settle(&mut self, offset: ClockOffset) {
        self.open = self.open.filter(|open| *open != offset.boot);
        self.offsets.note(offset);
        self.offsets.keep_newest(OFFSETS_KEPT);
        self.number += 1;
    }

    /// Whether it has to be written.
    pub fn is_unsaved(&self) -> bool {
        self.number != self.saved
    }

    /// Puts the offsets into `batch` when that is due. Returns their number, for [`adopt`](Self::adopt).
    pub fn put(&self, batch: &mut Batch) -> u64 {
        if self.is_unsaved()
            && let Ok(bytes) = serde_json::to_vec(&self.offsets)
        {
            batch.put(KEY, &bytes);
        }
        self.number
    }

    /// The offsets with this number are durable.
    pub fn adopt(&mut self, number: u64) {
        self.saved = number;
    }

    /// A new database has begun: what was in the old one has to be written again.
    pub fn begin_anew(&mut self) {
        self.number += 1;
    }
}
