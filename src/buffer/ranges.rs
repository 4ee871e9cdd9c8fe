//! Sets of sequences as ranges: what was delivered, what was dropped.

use super::varint::{self, Malformed, Reader};

/// A set of numbers from 1 on, kept as ranges that neither overlap nor touch, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `first` to `last`, both included.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // Ranges that touch are joined, hence the one on either side.
        let begin = self.0.partition_point(|range| range.1.saturating_add(1) < first);
        let end = self.0.partition_point(|range| range.0 <= last.saturating_add(1));
        let joined = match self.0.get(begin..end) {
            Some([only]) => (only.0.min(first), only.1.max(last)),
            Some([lowest, .., highest]) => (lowest.0.min(first), highest.1.max(last)),
            Some([]) | None => (first, last),
        };
        self.0.splice(begin..end, [joined]);
    }

    /// Takes `first` to `last`, both included, out.
    pub fn remove(&mut self, first: u64, last: u64) {
        let begin = self.0.partition_point(|range| range.1 < first);
        let end = self.0.partition_point(|range| range.0 <= last);
        if begin >= end {
            return;
        }
        let below = (self.0[begin].0, first.saturating_sub(1));
        let above = (last.saturating_add(1), self.0[end - 1].1);
        let left = [below, above].into_iter().filter(|range| range.0 <= range.1);
        self.0.splice(begin..end, left.collect::<Vec<_>>());
    }

    /// Whether `number` is in the set.
    #[cfg(test)]
    pub fn contains(&self, number: u64) -> bool {
        self.range_from(number).is_some_and(|range| range.0 <= number)
    }

    /// The lowest number from `from` on that is not in the set.
    pub fn first_absent(&self, from: u64) -> u64 {
        match self.range_from(from) {
            Some((first, last)) if first <= from => last + 1,
            Some(_) | None => from,
        }
    }

    /// The lowest number from `from` on that is in the set.
    pub fn first_present(&self, from: u64) -> Option<u64> {
        self.range_from(from).map(|range| range.0.max(from))
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// All ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Appends the set as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.0.len() as u64);
        let mut end = 0;
        for (first, last) in &self.0 {
            varint::put(out, first - end);
            varint::put(out, last - first);
            end = *last;
        }
    }

    /// Reads a set that [`encode`](Self::encode) wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(reader.len() / 2)?;
        let mut ranges = Self(Vec::with_capacity(count));
        let mut end = 0_u64;
        for _ in 0..count {
            let first = end.checked_add(reader.number()?).ok_or(Malformed("range too high"))?;
            let last = first.checked_add(reader.number()?).ok_or(Malformed("range too high"))?;
            ranges.insert(first, last);
            end = last;
        }
        Ok(ranges)
    }

    /// The range that holds `number`, or the next one above it.
    fn range_from(&self, number: u64) -> Option<(u64, u64)> {
        self.0.get(self.0.partition_point(|range| range.1 < number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set(deeds in proptest::collection::vec((any::<bool>(), 1_u64..60, 0_u64..10), 0..40)) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (adds, first, length) in deeds {
                if adds {
                    ranges.insert(first, first + length);
                    set.extend(first..=first + length);
                } else {
                    ranges.remove(first, first + length);
                    (first..=first + length).for_each(|number| { set.remove(&number); });
                }
            }

            for number in 1..75 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
                prop_assert_eq!(ranges.first_absent(number), (number..).find(|n| !set.contains(n)).unwrap());
                prop_assert_eq!(ranges.first_present(number), set.range(number..).next().copied());
            }
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let mut bytes = Vec::new();
            ranges.encode(&mut bytes);
            prop_assert_eq!(Ranges::decode(&mut Reader::new(&bytes)), Ok(ranges));
        }

        #[test]
        fn any_bytes_are_ranges_or_an_error(bytes: Vec<u8>) {
            let _ = Ranges::decode(&mut Reader::new(&bytes));
        }
    }
}
