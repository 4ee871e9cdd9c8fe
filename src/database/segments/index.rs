//! Where each key stands: an ordered index of about a dozen bytes for each key.
//!
//! A backlog of weeks is hundreds of thousands of commits, and memory is scarce. So keys are kept in blocks of up to
//! [`BLOCK`], each key without what it shares with the one before it, and a block is unpacked to be changed.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::format::KEY_MAX;

/// Keys in one block: unpacking that many takes about a microsecond.
const BLOCK: usize = 32;

/// A key, without memory of its own.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    length: u8,
    bytes: [u8; KEY_MAX],
}

impl Key {
    /// The key of these bytes; `None` when they are too many.
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { length: key.len() as u8, bytes })
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// Where the operation stands that put a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Number of the segment.
    pub segment: u32,
    /// Place of the operation in it.
    pub offset: u64,
    /// Length of the value.
    pub length: u32,
    /// The oldest segment in which an older value of the key may still stand.
    pub oldest: u32,
}

/// Every key that is there, with its place.
#[derive(Default)]
pub struct Index {
    /// By the first key of the block. No block is empty.
    blocks: BTreeMap<Key, Box<[u8]>>,
    keys: usize,
    unpacked: Vec<(Key, Location)>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Index {
    /// Where `key` stands.
    pub fn get(&self, key: &Key) -> Option<Location> {
        let (_, block) = self.blocks.range(..=*key).next_back()?;
        entries(block).find(|(found, _)| found == key).map(|(_, location)| location)
    }

    /// Notes where `key` stands. Returns where it stood.
    pub fn insert(&mut self, key: Key, location: Location) -> Option<Location> {
        let first = self.block_of(&key).unwrap_or(key);
        let mut unpacked = self.unpack(&first);
        let before = match unpacked.binary_search_by(|(found, _)| found.cmp(&key)) {
            Ok(at) => Some(std::mem::replace(&mut unpacked[at].1, location)),
            Err(at) => {
                unpacked.insert(at, (key, location));
                self.keys += 1;
                None
            }
        };
        if unpacked.len() > BLOCK {
            // Keys mostly come in rising order: then the full block stays full.
            let at = if unpacked.last().is_some_and(|(last, _)| *last == key) { BLOCK } else { BLOCK / 2 };
            self.pack(&unpacked[at..]);
            unpacked.truncate(at);
        }
        self.pack(&unpacked);
        self.unpacked = unpacked;
        before
    }

    /// Forgets `key`. Returns where it stood.
    pub fn remove(&mut self, key: &Key) -> Option<Location> {
        let first = self.block_of(key).filter(|first| first <= key)?;
        if !entries(self.blocks.get(&first)?).any(|(found, _)| found == *key) {
            return None;
        }
        let mut unpacked = self.unpack(&first);
        let at = unpacked.iter().position(|(found, _)| found == key);
        let removed = at.map(|at| unpacked.remove(at).1);
        self.pack(&unpacked);
        self.unpacked = unpacked;
        self.keys -= usize::from(removed.is_some());
        removed
    }

    /// The keys of one block from `first` on, `first` itself only when `is_included`: empty when there are no more.
    pub fn some_from(&self, first: &Key, is_included: bool) -> Vec<(Key, Location)> {
        let is_wanted = |(key, _): &(Key, Location)| if is_included { key >= first } else { key > first };
        let within = self.blocks.range(..=*first).next_back();
        let found: Vec<_> = within.into_iter().flat_map(|(_, block)| entries(block)).filter(is_wanted).collect();
        if !found.is_empty() {
            return found;
        }
        let after = self.blocks.range((Bound::Excluded(*first), Bound::Unbounded)).next();
        after.into_iter().flat_map(|(_, block)| entries(block)).filter(is_wanted).collect()
    }

    /// How many keys there are from `first` to `last`, both included.
    pub fn count(&self, first: &Key, last: &Key) -> u64 {
        let before = self.blocks.range(..=*first).next_back().map_or(*first, |(block, _)| *block);
        let blocks = self.blocks.range(before..=*last);
        let keys = blocks.flat_map(|(_, block)| entries(block)).map(|(key, _)| key);
        keys.filter(|key| (first..=last).contains(&key)).count() as u64
    }

    /// The last key up to `last`, included.
    pub fn last_up_to(&self, last: &Key) -> Option<Key> {
        let (_, block) = self.blocks.range(..=*last).next_back()?;
        entries(block).map(|(key, _)| key).take_while(|key| key <= last).last()
    }

    /// First key of the block in which `key` belongs.
    fn block_of(&self, key: &Key) -> Option<Key> {
        let before = self.blocks.range(..=*key).next_back();
        before.or_else(|| self.blocks.iter().next()).map(|(first, _)| *first)
    }

    /// Takes a block out.
    fn unpack(&mut self, first: &Key) -> Vec<(Key, Location)> {
        let mut unpacked = std::mem::take(&mut self.unpacked);
        unpacked.clear();
        if let Some(block) = self.blocks.remove(first) {
            unpacked.extend(entries(&block));
        }
        unpacked
    }

    fn pack(&mut self, unpacked: &[(Key, Location)]) {
        let Some((first, _)) = unpacked.first() else { return };
        let mut packed = Vec::with_capacity(unpacked.len() * 12);
        let mut before: &[u8] = &[];
        let mut place = (0, 0);
        for (key, location) in unpacked {
            let key = key.as_slice();
            let shared = key.iter().zip(before).take_while(|(left, right)| left == right).count();
            packed.push(shared as u8);
            packed.push((key.len() - shared) as u8);
            packed.extend(&key[shared..]);
            put(&mut packed, zigzag(i64::from(location.segment) - place.0));
            put(&mut packed, zigzag(location.offset as i64 - place.1));
            put(&mut packed, u64::from(location.length));
            put(&mut packed, u64::from(location.segment - location.oldest.min(location.segment)));
            before = key;
            place = (i64::from(location.segment), location.offset as i64 + i64::from(location.length));
        }
        self.blocks.insert(*first, packed.into_boxed_slice());
    }
}

/// What a block holds.
fn entries(block: &[u8]) -> impl Iterator<Item = (Key, Location)> + '_ {
    let mut rest = block;
    let mut key = Key { length: 0, bytes: [0; KEY_MAX] };
    let mut place = (0_i64, 0_i64);
    std::iter::from_fn(move || {
        let (&[shared, own], after) = rest.split_first_chunk::<2>()?;
        let (suffix, after) = after.split_at(usize::from(own));
        key.bytes[usize::from(shared)..usize::from(shared + own)].copy_from_slice(suffix);
        key.length = shared + own;
        rest = after;
        let segment = place.0 + unzigzag(take(&mut rest));
        let offset = place.1 + unzigzag(take(&mut rest));
        let length = take(&mut rest) as u32;
        let oldest = (segment - take(&mut rest) as i64) as u32;
        place = (segment, offset + i64::from(length));
        Some((key, Location { segment: segment as u32, offset: offset as u64, length, oldest }))
    })
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let Some((byte, after)) = rest.split_first() else { break };
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u16) -> Key {
        Key::new(&[b"c".as_slice(), &number.to_be_bytes()[usize::from(number.is_multiple_of(3))..]].concat()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_index_is_an_ordered_map(deeds: Vec<(bool, u16, u32, u32)>) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            for (is_put, number, segment, length) in deeds {
                let key = key(number % 500);
                let location = Location { segment, offset: u64::from(length) * 7, length, oldest: segment / 2 };
                if is_put {
                    prop_assert_eq!(index.insert(key, location), model.insert(key, location));
                } else {
                    prop_assert_eq!(index.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(index.get(&key), model.get(&key).copied());
            }
            prop_assert_eq!(index.keys, model.len());
            let mut cursor = (Key::new(b"").unwrap(), true);
            let mut seen = Vec::new();
            loop {
                let some = index.some_from(&cursor.0, cursor.1);
                let Some((last, _)) = some.last() else { break };
                cursor = (*last, false);
                seen.extend(some);
            }
            prop_assert!(seen.iter().map(|(key, _)| key.as_slice()).eq(model.keys().map(Key::as_slice)));
            prop_assert_eq!(index.count(&key(100), &key(300)), model.range(key(100)..=key(300).max(key(100))).count() as u64);
            for number in 0..500 {
                let last = index.last_up_to(&key(number));
                prop_assert!(last.as_ref() == model.range(..=key(number)).next_back().map(|(key, _)| key));
            }
        }
    }

    #[test]
    fn a_key_takes_about_a_dozen_bytes() {
        let mut index = Index::default();
        for number in 0..100_000_u64 {
            let key = Key::new(&[b"ct".as_slice(), &number.to_be_bytes()].concat()).unwrap();
            let (segment, offset) = (number as u32 / 500, number % 500 * 1000);
            index.insert(key, Location { segment, offset, length: 980, oldest: segment });
        }
        let packed: usize = index.blocks.values().map(|block| block.len()).sum();
        assert!(packed < 1_200_000, "{packed}");
        assert!(index.blocks.len() <= 100_000 / BLOCK + 1);
    }
}
