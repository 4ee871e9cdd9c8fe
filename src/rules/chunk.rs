//! Samples in a row: as they come while there is room, and closed in as few bytes as they need. Pure.
//!
//! What is polled comes at nearly equal intervals and has few digits. So a closed chunk keeps its times as small
//! distances from an even grid and its values as whole numbers with a common power of ten, wherever that gives back
//! every bit of them, and of each only as many bits as tell the samples of the chunk apart: two to four bytes for a
//! sample in place of twelve.

use super::ring::Sample;
use crate::model::Timestamp;

/// Samples in a chunk: few enough to run through at every evaluation, many enough that summaries of chunks are small
/// beside them.
pub const CHUNK: usize = 64;

/// Powers of ten that a double holds exactly, and that values of devices need.
const POWERS: [f64; 13] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Up to here a double holds every whole number.
const MOST_WHOLE: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

/// A chunk that takes samples.
#[derive(Debug, Default)]
pub(super) struct Open {
    base: i64,
    offsets: Vec<u32>,
    values: Vec<f64>,
}

impl Open {
    /// Takes a sample, which is newer than all before. False when there is no room for it: the chunk has to be closed
    /// first.
    pub fn push(&mut self, sample: Sample) -> bool {
        if self.values.is_empty() {
            self.base = sample.time.0;
        }
        match u32::try_from(sample.time.0.saturating_sub(self.base)) {
            Ok(offset) if self.values.len() < CHUNK => {
                self.offsets.push(offset);
                self.values.push(sample.value);
                true
            }
            _ => false,
        }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The sample at `place`, which is below the length.
    pub fn sample(&self, place: usize) -> Sample {
        Sample { time: Timestamp(self.base + i64::from(self.offsets[place])), value: self.values[place] }
    }

    /// All samples, the oldest first.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        (0..self.len()).map(|place| self.sample(place))
    }

    /// The samples in as few bytes as they need; the chunk is empty then and keeps its memory.
    pub fn close(&mut self) -> Closed {
        let closed = Closed::of(self);
        self.clear();
        closed
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.offsets.clear();
        self.values.clear();
    }

    /// Bytes beyond its own.
    pub fn bytes(&self) -> usize {
        self.offsets.capacity() * size_of::<u32>() + self.values.capacity() * size_of::<f64>()
    }
}

/// A chunk that takes no more samples.
#[derive(Debug)]
pub(super) struct Closed {
    /// Where the even grid of the times begins, less what the earliest is off it.
    start: i64,
    /// The least of the numbers, or the bits of a double.
    least: i64,
    /// How much later and greater each sample is than that: all times in `time_bits` each, then all values.
    words: Box<[u64]>,
    step: u32,
    count: u8,
    time_bits: u8,
    value_bits: u8,
    /// The values are whole numbers to be divided by this power of ten; or [`DOUBLES`].
    power: u8,
}

/// In place of a power of ten: the numbers are the bits of doubles.
const DOUBLES: u8 = u8::MAX;

impl Closed {
    fn of(open: &Open) -> Self {
        let count = open.len();
        let step =
            open.offsets.last().copied().unwrap_or(0) / u32::try_from(count).unwrap_or(0).saturating_sub(1).max(1);
        let off = |place: usize| i64::from(open.offsets[place]) - i64::from(step) * place as i64;
        let earliest = (0..count).map(off).min().unwrap_or(0);
        let times: Vec<u64> = (0..count).map(|place| off(place).abs_diff(earliest)).collect();
        let (power, least, numbers) = numbers_of(&open.values);
        let (time_bits, value_bits) = (bits(&times), bits(&numbers));
        let first_value = words(count, time_bits);
        let mut words = vec![0; first_value + words(count, value_bits)].into_boxed_slice();
        pack(&times, time_bits, &mut words[..first_value]);
        pack(&numbers, value_bits, &mut words[first_value..]);
        let start = open.base + earliest;
        Self { start, least, words, step, count: count as u8, time_bits, value_bits, power }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Time of the oldest sample.
    pub fn first(&self) -> Timestamp {
        self.time(0)
    }

    /// Time of the newest sample.
    pub fn last(&self) -> Timestamp {
        self.time(self.len() - 1)
    }

    fn time(&self, place: usize) -> Timestamp {
        let later = unpack(&self.words, self.time_bits, place);
        Timestamp(self.start + i64::from(self.step) * place as i64 + later as i64)
    }

    /// The sample at `place`, which is below the length.
    pub fn sample(&self, place: usize) -> Sample {
        let first_value = words(self.len(), self.time_bits);
        let number = (self.least as u64).wrapping_add(unpack(&self.words[first_value..], self.value_bits, place));
        let value = match self.power {
            DOUBLES => f64::from_bits(number),
            power => (number as i64) as f64 / POWERS[usize::from(power)],
        };
        Sample { time: self.time(place), value }
    }

    /// All samples, the oldest first.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        (0..self.len()).map(|place| self.sample(place))
    }

    /// Bytes, its own among them.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val::<[u64]>(&self.words)
    }
}

/// Values as whole numbers: what they are, the least of them, and how much greater each is.
fn numbers_of(values: &[f64]) -> (u8, i64, Vec<u64>) {
    let first = values.first().copied().unwrap_or(0.0);
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        return (DOUBLES, first.to_bits() as i64, vec![0; values.len()]);
    }
    // The digits of the whole chunk: the least power of ten with which every value is a whole number.
    let mut power = 0;
    for value in values {
        while power < POWERS.len() && whole(*value, POWERS[power]).is_none() {
            power += 1;
        }
    }
    let numbers = POWERS.get(power).and_then(|divisor| values.iter().map(|value| whole(*value, *divisor)).collect());
    let Some(numbers): Option<Vec<i64>> = numbers else {
        return (DOUBLES, 0, values.iter().map(|value| value.to_bits()).collect());
    };
    let least = numbers.iter().copied().min().unwrap_or(0);
    (power as u8, least, numbers.iter().map(|number| number.abs_diff(least)).collect())
}

/// The whole number which, divided by `divisor`, is `value` to the last bit.
fn whole(value: f64, divisor: f64) -> Option<i64> {
    let product = (value * divisor).round();
    let number = product as i64;
    let is_exact = product.abs() <= MOST_WHOLE && (number as f64 / divisor).to_bits() == value.to_bits();
    is_exact.then_some(number)
}

/// As many bits as the greatest of `numbers` needs.
fn bits(numbers: &[u64]) -> u8 {
    let greatest = numbers.iter().copied().max().unwrap_or(0);
    (u64::BITS - greatest.leading_zeros()) as u8
}

/// Words that `count` numbers of `bits` each take.
fn words(count: usize, bits: u8) -> usize {
    (count * usize::from(bits)).div_ceil(64)
}

/// Puts each number behind the other.
fn pack(numbers: &[u64], bits: u8, words: &mut [u64]) {
    for (place, number) in numbers.iter().enumerate().filter(|_| bits > 0) {
        let at = place * usize::from(bits);
        let (word, shift) = (at / 64, at % 64);
        words[word] |= number << shift;
        if shift + usize::from(bits) > 64 {
            words[word + 1] |= number >> (64 - shift);
        }
    }
}

/// The number at `place`.
fn unpack(words: &[u64], bits: u8, place: usize) -> u64 {
    if bits == 0 {
        return 0;
    }
    let at = place * usize::from(bits);
    let (word, shift) = (at / 64, at % 64);
    let mut number = words[word] >> shift;
    if shift + usize::from(bits) > 64 {
        number |= words[word + 1] << (64 - shift);
    }
    number & (u64::MAX >> (64 - u32::from(bits)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn closed(samples: &[(i64, f64)]) -> Closed {
        let mut open = Open::default();
        for (time, value) in samples {
            assert!(open.push(Sample { time: Timestamp(*time), value: *value }));
        }
        open.close()
    }

    #[test]
    fn readings_of_a_device_take_a_quarter_of_the_bytes() {
        let readings: Vec<(i64, f64)> = (0..64)
            .map(|at| (1_700_000_000_000 + at * 1000 + at % 7, 230.0 + (at * 37 % 100) as f64 / 100.0))
            .collect();

        let closed = closed(&readings);

        assert!(closed.bytes() <= 2 * CHUNK, "{} bytes", closed.bytes());
        assert_eq!((closed.power, closed.time_bits, closed.value_bits), (2, 3, 7));
    }

    #[test]
    fn what_is_no_plain_number_comes_back_too() {
        let odd = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::MIN, 1e-300, 0.1 + 0.2, super::super::ring::END];
        let samples: Vec<(i64, f64)> = odd.iter().enumerate().map(|(at, value)| (at as i64, *value)).collect();

        let closed = closed(&samples);

        let bits: Vec<u64> = (0..closed.len()).map(|at| closed.sample(at).value.to_bits()).collect();
        assert_eq!(bits, odd.map(f64::to_bits));
    }

    proptest! {
        #[test]
        fn every_sample_comes_back_to_the_last_bit(
            steps in prop::collection::vec((1_i64..5000, prop_oneof![
                any::<f64>(), any::<f32>().prop_map(f64::from), (-100_000_i32..100_000).prop_map(|n| f64::from(n) / 100.0),
                Just(5.0),
            ]), 1..=CHUNK),
            begin in -1_000_000_000_000_i64..3_000_000_000_000,
        ) {
            let mut time = begin;
            let samples: Vec<(i64, f64)> = steps.into_iter().map(|(step, value)| { time += step; (time, value) }).collect();

            let closed = closed(&samples);

            prop_assert_eq!((closed.first().0, closed.last().0), (samples[0].0, time));
            for (place, (time, value)) in samples.iter().enumerate() {
                let found = closed.sample(place);
                prop_assert_eq!((found.time.0, found.value.to_bits()), (*time, value.to_bits()));
            }
        }
    }
}
