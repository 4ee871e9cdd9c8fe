//! Readings of a plant, each of which can be made again from its series and time.

use std::sync::Arc;

use lineside::model::{Fault, Observed, Row, SeriesId, Timestamp, Value};

/// Begins at the full hour, so that windows are whole.
const BEGIN: i64 = 1_763_877_600_000;

/// A plant of so many series, read once a second.
pub struct Week {
    pub series: u32,
}

impl Week {
    /// The reading of all series at `second`.
    pub fn row(&self, second: u64) -> Row {
        let series: Arc<[SeriesId]> = (0..self.series).map(SeriesId).collect();
        let observed = (0..self.series).map(|series| self.observed(series, second)).collect();
        Row { series, time: Self::time(second), observed }
    }

    pub fn time(second: u64) -> Timestamp {
        Timestamp(BEGIN + 1000 * second.cast_signed())
    }

    /// The second that a time lies in.
    pub fn second(time: Timestamp) -> u64 {
        u64::try_from((time.0 - BEGIN) / 1000).unwrap()
    }

    /// Readings in so many seconds.
    pub fn readings(&self, seconds: u64) -> u64 {
        seconds * u64::from(self.series)
    }

    /// Counters, measurements with decimals and without, switches, texts, and now and then no answer.
    pub fn observed(&self, series: u32, second: u64) -> Observed {
        let noise = noise(u64::from(series) << 32 | second);
        Observed::Good(match series % 10 {
            0 => Value::Int((second * 3 + noise % 3).cast_signed()),
            1 => Value::F32(230.0 + (noise % 60) as f32 / 10.0),
            2 => Value::Int(2300 + (noise % 40).cast_signed()),
            3 => Value::Bool((second / 90).is_multiple_of(2)),
            4 => Value::F64(50.0 + (noise % 1000) as f64 / 1e4),
            5 => Value::Text(["stopped", "running"][(second / 700 % 2) as usize].into()),
            6 if noise.is_multiple_of(7) => return Observed::Bad(Fault::Timeout),
            _ => Value::F32((noise % 100_000) as f32 / 8.0),
        })
    }
}

/// Any number becomes another that looks random.
fn noise(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}
