//! How many readings make a batch of the wanted size, learned from the batches before. Pure.

/// Bytes a reading is taken to need before the first batch has been measured.
const FIRST_GUESS: f64 = 4.0;

/// Most readings in one batch: bounds the memory of encoding, whatever the readings compress to.
const READINGS_MAX: usize = 65_536;

/// Share of the allowed size that is aimed at, so that few batches have to be cut.
const AIM: f64 = 0.9;

/// Weight of the newest batch in the running mean.
const WEIGHT: f64 = 0.3;

/// Sizes of payloads to one topic, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PayloadSizes {
    /// Larger ones are certain not to be taken.
    pub most: usize,
    /// Batches are cut to this size. A record that is larger by itself is sent all the same, up to the most.
    pub aim: usize,
}

/// Learns the payload bytes a reading needs.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchSizer {
    bytes_per_reading: f64,
}

impl Default for BatchSizer {
    fn default() -> Self {
        Self { bytes_per_reading: FIRST_GUESS }
    }
}

impl BatchSizer {
    /// Readings to put into a batch of at most `payload_max` bytes; at least one.
    pub fn readings(&self, payload_max: usize) -> usize {
        let readings = payload_max as f64 * AIM / self.bytes_per_reading;
        (readings as usize).clamp(1, READINGS_MAX)
    }

    /// Takes note of what `readings` became.
    pub fn observe(&mut self, readings: usize, payload_bytes: usize) {
        if readings == 0 {
            return;
        }
        let seen = payload_bytes as f64 / readings as f64;
        // A batch larger than expected counts in full: cutting costs more than a batch that is a little small.
        let weight = if seen > self.bytes_per_reading { 1.0 } else { WEIGHT };
        self.bytes_per_reading += weight * (seen - self.bytes_per_reading);
        self.bytes_per_reading = self.bytes_per_reading.max(0.01);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_approach_the_wanted_size() {
        let mut sizer = BatchSizer::default();

        for _ in 0..20 {
            let readings = sizer.readings(100_000);
            sizer.observe(readings, readings * 2);
        }

        let payload = sizer.readings(100_000) * 2;
        assert!((85_000..=100_000).contains(&payload), "{payload}");
    }

    #[test]
    fn readings_that_compress_to_nothing_do_not_fill_the_memory() {
        let mut sizer = BatchSizer::default();
        for _ in 0..100 {
            sizer.observe(100_000, 1);
        }
        assert_eq!(sizer.readings(1 << 20), READINGS_MAX);
        assert!(BatchSizer::default().readings(1) == 1);
    }
}
