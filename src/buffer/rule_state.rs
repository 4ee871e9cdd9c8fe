//! What the rules have to remember across a restart: one small value, written in the same batch as the alarms that go
//! with it. So after a kill at any time either both are there or neither is.

use crate::database::{Batch, Database, DatabaseError};

const KEY: &[u8] = b"r";

/// The value, and whether it is on disk. The buffer does not know what it means.
#[derive(Debug, Default)]
pub struct RuleState {
    value: Vec<u8>,
    /// Counts the values.
    number: u64,
    saved: u64,
}

impl RuleState {
    /// What `database` holds. A damaged value counts as none.
    pub fn load(database: &Database) -> Result<Self, DatabaseError> {
        let stored = database.get(KEY)?;
        let value = stored.as_deref().map(|bytes| match bytes.split_last_chunk::<4>() {
            Some((value, checksum)) if crc32c::crc32c(value).to_le_bytes() == *checksum => value.to_vec(),
            Some(_) | None => {
                tracing::warn!("state of the rules is damaged; they begin anew");
                Vec::new()
            }
        });
        Ok(Self { value: value.unwrap_or_default(), number: 0, saved: 0 })
    }

    /// The value; empty when there is none.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Replaces the value.
    pub fn set(&mut self, value: Vec<u8>) {
        self.value = value;
        self.number += 1;
    }

    /// Whether it has to be written.
    pub fn is_unsaved(&self) -> bool {
        self.number != self.saved
    }

    /// Puts the value into `batch` when that is due. Returns its number, for [`adopt`](Self::adopt).
    pub fn put(&self, batch: &mut Batch) -> u64 {
        if self.is_unsaved() {
            let mut bytes = self.value.clone();
            bytes.extend(crc32c::crc32c(&self.value).to_le_bytes());
            batch.put(KEY, &bytes);
        }
        self.number
    }

    /// The value with this number is durable.
    pub fn adopt(&mut self, number: u64) {
        self.saved = number;
    }

    /// The database can be asked for the first time: `stored` holds, unless rules have begun anew meanwhile.
    pub fn take_up(&mut self, stored: Self) {
        if self.number == 0 {
            *self = stored;
        }
    }

    /// A new database has begun: what was in the old one has to be written again.
    pub fn begin_anew(&mut self) {
        self.number += 1;
    }
}
