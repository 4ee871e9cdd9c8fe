//! Samples in a row: as they come while there is room, and closed in as few bytes as they need. Pure.
//!
//! What is polled comes at nearly equal intervals and has few digits. So a closed chunk keeps its times as small
//! distances from an even grid and its values as whole numbers with a common power of ten, wherever that gives back
//! every bit of them: five to six bytes for a sample in place of twelve.

use super::ring::Sample;
use crate::model::Timestamp;

/// Samples in a chunk: few enough to run through at every evaluation, many enough that summaries of chunks are small
/// beside them.
pub const CHUNK: usize = 64;

/// Powers of ten that a double holds exactly, and that values of devices need.
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

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
    base: i64,
    times: Times,
    values: Values,
}

/// Milliseconds from the first sample.
#[derive(Debug)]
enum Times {
    /// So far from where an even grid of this step would have them. Of a whole chunk.
    Near { step: u32, off: Box<[i8; CHUNK]> },
    /// As they are.
    Any(Box<[u32]>),
}

#[derive(Debug)]
enum Values {
    /// All the same.
    Same(f64),
    /// Whole numbers, to be divided by this power of ten. Of a whole chunk.
    Decimal { power: u8, numbers: Box<[i32; CHUNK]> },
    /// As they are.
    Any(Box<[f64]>),
}

impl Closed {
    fn of(open: &Open) -> Self {
        Self { base: open.base, times: Times::of(&open.offsets), values: Values::of(&open.values) }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        match &self.times {
            Times::Near { .. } => CHUNK,
            Times::Any(offsets) => offsets.len(),
        }
    }

    /// Time of the oldest sample.
    pub fn first(&self) -> Timestamp {
        Timestamp(self.base)
    }

    /// Time of the newest sample.
    pub fn last(&self) -> Timestamp {
        self.time(self.len() - 1)
    }

    fn time(&self, place: usize) -> Timestamp {
        Timestamp(self.base + self.times.offset(place))
    }

    /// The sample at `place`, which is below the length.
    pub fn sample(&self, place: usize) -> Sample {
        let value = match &self.values {
            Values::Same(value) => *value,
            Values::Decimal { power, numbers } => f64::from(numbers[place]) / POWERS[usize::from(*power)],
            Values::Any(values) => values[place],
        };
        Sample { time: self.time(place), value }
    }

    /// All samples, the oldest first.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        (0..self.len()).map(|place| self.sample(place))
    }

    /// Bytes, its own among them.
    pub fn bytes(&self) -> usize {
        let times = match &self.times {
            Times::Near { .. } => size_of::<[i8; CHUNK]>(),
            Times::Any(offsets) => size_of_val::<[u32]>(offsets),
        };
        let values = match &self.values {
            Values::Same(_) => 0,
            Values::Decimal { .. } => size_of::<[i32; CHUNK]>(),
            Values::Any(values) => size_of_val::<[f64]>(values),
        };
        size_of::<Self>() + times + values
    }
}

impl Times {
    fn of(offsets: &[u32]) -> Self {
        let step = offsets.last().copied().unwrap_or(0) / (CHUNK as u32 - 1);
        let off = |place: usize| i8::try_from(i64::from(*offsets.get(place)?) - i64::from(step) * place as i64).ok();
        let mut all = Box::new([0; CHUNK]);
        let is_near = offsets.len() == CHUNK
            && all.iter_mut().enumerate().all(|(place, to)| off(place).map(|off| *to = off).is_some());
        if is_near { Self::Near { step, off: all } } else { Self::Any(offsets.into()) }
    }

    fn offset(&self, place: usize) -> i64 {
        match self {
            Self::Near { step, off } => i64::from(*step) * place as i64 + i64::from(off[place]),
            Self::Any(offsets) => i64::from(offsets[place]),
        }
    }
}

impl Values {
    fn of(values: &[f64]) -> Self {
        let first = values.first().copied().unwrap_or(0.0);
        if values.iter().all(|value| value.to_bits() == first.to_bits()) {
            return Self::Same(first);
        }
        // The digits of the whole chunk: the least power of ten with which every value is a whole number.
        let mut power = 0;
        for value in values {
            while power < POWERS.len() && whole(*value, POWERS[power]).is_none() {
                power += 1;
            }
        }
        let mut numbers = Box::new([0; CHUNK]);
        let is_decimal = values.len() == CHUNK
            && POWERS.get(power).is_some_and(|divisor| {
                numbers.iter_mut().zip(values).all(|(to, value)| whole(*value, *divisor).map(|it| *to = it).is_some())
            });
        if is_decimal { Self::Decimal { power: power as u8, numbers } } else { Self::Any(values.into()) }
    }
}

/// The whole number which, divided by `divisor`, is `value` to the last bit.
fn whole(value: f64, divisor: f64) -> Option<i32> {
    let product = (value * divisor).round();
    let number = product as i32;
    (f64::from(number) == product && (f64::from(number) / divisor).to_bits() == value.to_bits()).then_some(number)
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
    fn readings_of_a_device_take_half_of_the_bytes() {
        let readings: Vec<(i64, f64)> = (0..64)
            .map(|at| (1_700_000_000_000 + at * 1000 + at % 7, 230.0 + (at * 37 % 100) as f64 / 100.0))
            .collect();

        let closed = closed(&readings);

        assert!(closed.bytes() <= 6 * CHUNK, "{} bytes", closed.bytes());
        assert!(matches!(closed.values, Values::Decimal { .. }) && matches!(closed.times, Times::Near { .. }));
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
