//! The bytes of a segment.
//!
//! ```text
//! segment   head (16): "lineside log 1", two zeros
//! batch     head (32): magic, operations u32, length of all that follows u32, number u64, durable u64, CRC32C
//! operation head (11): kind u8, length of key u16, length of value u32, CRC32C; key; value
//! ```
//!
//! Numbers are little-endian. Every checksum begins with the number of the segment and the place in it, so that bytes
//! count only where they were written. Batches are numbered in the order written; `durable` is the last one that was
//! durable when this one was written, and so tells a later reader what is damage and what an end cut off. The value of
//! a removal says in which segments the key may still stand: from u32, to u32.

/// First bytes of a segment.
pub const SEGMENT_HEAD: &[u8; 16] = b"lineside log 1\0\0";

/// Length of the head of a batch.
pub const BATCH_HEAD: usize = 32;

/// Length of the head of an operation.
pub const OPERATION_HEAD: usize = 11;

/// First bytes of a batch.
pub const MAGIC: [u8; 4] = *b"\xb5LB\x01";

/// Longest key.
pub const KEY_MAX: usize = 31;

/// Longest value: more than a batch of the buffer holds.
pub const VALUE_MAX: usize = 64 << 20;

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// Segments in which a key may stand, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First.
    pub from: u32,
    /// Last.
    pub to: u32,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Sets the key to the value.
    Put,
    /// Removes the key from where it may still stand.
    Remove(Span),
}

/// Head of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// How many operations follow.
    pub operations: u32,
    /// Bytes that follow.
    pub length: u32,
    /// Number of the batch.
    pub number: u64,
    /// Number of the last batch that was durable before.
    pub durable: u64,
}

impl BatchHead {
    /// Puts the head at the beginning of `batch`, which stands at `offset` of `segment`.
    pub fn write(&self, batch: &mut [u8], segment: u32, offset: u64) {
        batch[..4].copy_from_slice(&MAGIC);
        batch[4..8].copy_from_slice(&self.operations.to_le_bytes());
        batch[8..12].copy_from_slice(&self.length.to_le_bytes());
        batch[12..20].copy_from_slice(&self.number.to_le_bytes());
        batch[20..28].copy_from_slice(&self.durable.to_le_bytes());
        let checksum = checksum(segment, offset, &[&batch[..28]]);
        batch[28..32].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The head that stands at `offset` of `segment`, if there is one.
    pub fn read(bytes: &[u8], segment: u32, offset: u64) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(28)?;
        if !head.starts_with(&MAGIC) || u32_at(rest, 0)? != checksum(segment, offset, &[head]) {
            return None;
        }
        Some(Self {
            operations: u32_at(head, 4)?,
            length: u32_at(head, 8)?,
            number: u64_at(head, 12)?,
            durable: u64_at(head, 20)?,
        })
    }

    /// Where the batch ends that stands at `offset`.
    pub fn end(&self, offset: u64) -> u64 {
        offset + BATCH_HEAD as u64 + u64::from(self.length)
    }
}

/// Lengths in the head of an operation: not checked until the whole operation is.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    /// Bytes of the key.
    pub key: usize,
    /// Bytes of the value.
    pub value: usize,
}

impl Lengths {
    /// Lengths that the head of an operation states; `None` when no operation has such.
    pub fn read(head: &[u8]) -> Option<Self> {
        if !matches!(*head.first()?, PUT | REMOVE) {
            return None;
        }
        let key = usize::from(u16::from_le_bytes([*head.get(1)?, *head.get(2)?]));
        let value = u32_at(head, 3)? as usize;
        (key <= KEY_MAX && value <= VALUE_MAX).then_some(Self { key, value })
    }

    /// Bytes of the whole operation.
    pub fn whole(self) -> usize {
        OPERATION_HEAD + self.key + self.value
    }
}

/// An operation as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// What it does.
    pub deed: Deed,
    /// To which key.
    pub key: &'a [u8],
    /// The value of a put; empty for a removal.
    pub value: &'a [u8],
}

impl<'a> Operation<'a> {
    /// Adds the operation to `out`; it stands at `offset` of `segment`.
    pub fn write(&self, out: &mut Vec<u8>, segment: u32, offset: u64) {
        let span = match self.deed {
            Deed::Put => Vec::new(),
            Deed::Remove(span) => [span.from.to_le_bytes(), span.to.to_le_bytes()].concat(),
        };
        let value = if span.is_empty() { self.value } else { &span };
        let mut head = [0; 7];
        head[0] = if span.is_empty() { PUT } else { REMOVE };
        head[1..3].copy_from_slice(&(self.key.len() as u16).to_le_bytes());
        head[3..7].copy_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend(head);
        out.extend(checksum(segment, offset, &[&head, self.key, value]).to_le_bytes());
        out.extend(self.key);
        out.extend(value);
    }

    /// The operation in `bytes`, which stand at `offset` of `segment`; `None` when they are damaged.
    pub fn read(bytes: &'a [u8], segment: u32, offset: u64) -> Option<Self> {
        let lengths = Lengths::read(bytes)?;
        let (head, rest) = bytes.split_at_checked(OPERATION_HEAD)?;
        let (key, rest) = rest.split_at_checked(lengths.key)?;
        let value = rest.get(..lengths.value)?;
        if u32_at(head, 7)? != checksum(segment, offset, &[&head[..7], key, value]) {
            return None;
        }
        match head[0] {
            PUT => Some(Self { deed: Deed::Put, key, value }),
            REMOVE => {
                let span = Span { from: u32_at(value, 0)?, to: u32_at(value, 4)? };
                Some(Self { deed: Deed::Remove(span), key, value: &[] })
            }
            _ => None,
        }
    }
}

fn checksum(segment: u32, offset: u64, parts: &[&[u8]]) -> u32 {
    let start = crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), &offset.to_le_bytes());
    parts.iter().fold(start, |sum, part| crc32c::crc32c_append(sum, part))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
