//! Giving up segments of which little is alive.

use std::io;
use std::os::unix::fs::FileExt;

use super::format::{BATCH_HEAD, Deed, OPERATION_HEAD, Operation};
use super::index::Location;
use super::scan::{FoundOperation, scan};
use super::{Log, files, put_bytes, removal_bytes};

/// Bytes of segments given up after one flush: more than one brings, and not so many that the next commit waits long.
const AT_ONCE: u64 = 8 << 20;

/// Bytes copied in one batch.
const BATCH_BYTES: usize = 256 << 10;

impl Log {
    /// Gives up segments as long as there is too much garbage. Everything has to be durable.
    pub fn tidy(&mut self) -> io::Result<()> {
        let mut given_up = 0;
        while given_up < AT_ONCE {
            let Some(segment) = self.next_to_give_up() else { break };
            given_up += self.ledger.bytes(segment);
            self.give_up(segment)?;
        }
        Ok(())
    }

    fn next_to_give_up(&self) -> Option<u32> {
        let is_full = |segment: &u32| *segment != self.segment;
        let damaged = self.damaged.iter().copied().find(is_full).filter(|_| self.is_given_up);
        damaged.or_else(|| self.ledger.to_give_up(self.segment))
    }

    /// Copies what is still needed of `segment`, makes it durable, and removes the file.
    fn give_up(&mut self, segment: u32) -> io::Result<()> {
        let mut needed = Vec::new();
        let mut live = 0;
        let file = files::open(&self.directory, segment)?;
        scan(&file, segment, |found| {
            for operation in found.operations {
                if self.is_alive(&operation, segment) {
                    live += operation.bytes();
                    needed.push(operation);
                } else if matches!(operation.deed, Deed::Remove(span) if self.ledger.is_needed(span, segment)) {
                    needed.push(operation);
                }
            }
        })?;
        if live != self.ledger.live_in(segment) {
            self.doubt(segment);
            let text = format!("segment {segment:08x}: what was in it cannot be read any more");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut rest = needed.as_slice();
        while !rest.is_empty() {
            rest = self.copy_some(rest, segment, &file)?;
        }
        if let Some(dirty) = self.dirty()? {
            dirty.sync()?;
            self.durable = self.next - 1;
            self.is_new = false;
        }
        self.read.take_if(|(open, _)| *open == segment);
        files::remove(&self.directory, segment)?;
        self.ledger.remove(segment);
        self.damaged.remove(&segment);
        Ok(())
    }

    fn is_alive(&self, operation: &FoundOperation, segment: u32) -> bool {
        let is_here = |location: Location| location.segment == segment && location.offset == operation.offset;
        operation.deed == Deed::Put && self.index.get(&operation.key).is_some_and(is_here)
    }

    /// Copies the first of `operations` in one batch. Returns those that are left.
    fn copy_some<'a>(
        &mut self,
        operations: &'a [FoundOperation],
        segment: u32,
        file: &std::fs::File,
    ) -> io::Result<&'a [FoundOperation]> {
        self.begin_segment_if_full()?;
        let start = self.ledger.bytes(self.segment);
        let mut batch = vec![0; BATCH_HEAD];
        let mut written = 0;
        let mut taken = 0;
        for operation in operations {
            if batch.len() >= BATCH_BYTES {
                break;
            }
            taken += 1;
            let offset = start + batch.len() as u64;
            written += u32::from(match operation.deed {
                Deed::Put => self.copy_put(operation, segment, file, offset, &mut batch)?,
                Deed::Remove(_) => self.copy_removal(operation, offset, &mut batch),
            });
        }
        if written > 0 {
            self.finish(&mut batch, written, start)?;
        }
        Ok(&operations[taken..])
    }

    fn copy_put(
        &mut self,
        operation: &FoundOperation,
        segment: u32,
        file: &std::fs::File,
        offset: u64,
        batch: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let key = operation.key;
        let mut value = vec![0; operation.length as usize];
        file.read_exact_at(&mut value, operation.offset + (OPERATION_HEAD + key.as_slice().len()) as u64)?;
        Operation { deed: Deed::Put, key: key.as_slice(), value: &value }.write(batch, self.segment, offset);
        let oldest = self.index.get(&key).map(|before| before.oldest).filter(|oldest| *oldest != segment);
        let oldest = oldest.unwrap_or(self.segment);
        self.index.insert(key, Location { segment: self.segment, offset, length: operation.length, oldest });
        self.ledger.add_live(self.segment, put_bytes(&key, operation.length));
        Ok(true)
    }

    /// A removal goes on being said while the key may stand in another segment, unless the key was put again.
    fn copy_removal(&mut self, operation: &FoundOperation, offset: u64, batch: &mut Vec<u8>) -> bool {
        let Deed::Remove(span) = operation.deed else { return false };
        if let Some(location) = self.index.get(&operation.key) {
            let oldest = location.oldest.min(span.from);
            self.index.insert(operation.key, Location { oldest, ..location });
            return false;
        }
        let key = operation.key.as_slice();
        Operation { deed: operation.deed, key, value: &[] }.write(batch, self.segment, offset);
        self.ledger.add_removal(self.segment, span, removal_bytes(key));
        true
    }
}
