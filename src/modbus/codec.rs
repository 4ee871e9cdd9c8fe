//! Registers -> observations. Pure.

use crate::model::{Fault, Observed, Value};
use crate::profile::{Encoding, Point};

/// What the registers of `point` say.
pub fn decode(point: &Point, words: &[u16], factor: Option<Result<i16, Fault>>) -> Observed {
    let raw = words.iter().fold(0_u64, |raw, word| raw << 16 | u64::from(*word));
    let value = match point.encoding {
        Encoding::U16 | Encoding::U32 => Value::Int(raw as i64),
        Encoding::I16 => Value::Int(i64::from(raw as u16 as i16)),
        Encoding::I32 => Value::Int(i64::from(raw as u32 as i32)),
        Encoding::I64 => Value::Int(raw as i64),
        Encoding::U64 => Value::Uint(raw),
        Encoding::F32 => Value::F32(f32::from_bits(raw as u32)),
        Encoding::F64 => Value::F64(f64::from_bits(raw)),
        Encoding::Bit(bit) => Value::Bool(raw >> bit & 1 == 1),
        Encoding::Bits { first, length } => Value::Int((raw >> first & ((1 << length) - 1)) as i64),
        Encoding::Text { .. } => Value::Text(format!("{raw:x}").into()),
    };
    match factor {
        None => Observed::Good(value),
        Some(Ok(power)) => {
            Observed::Good(Value::F64(value.number().unwrap_or_default() * 10_f64.powi(i32::from(power))))
        }
        Some(Err(fault)) => Observed::Bad(fault),
    }
}

/// The power of ten that the registers of a scale factor say.
pub fn decode_scale_factor(_point: &Point, words: &[u16]) -> Result<i16, Fault> {
    match words {
        [word] if (-10..=10).contains(&(*word as i16)) => Ok(*word as i16),
        _ => Err(Fault::BadScaleFactor),
    }
}
