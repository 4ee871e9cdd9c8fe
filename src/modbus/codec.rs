//! Registers to observations. A reading never costs an allocation, text excepted.

use std::sync::Arc;

use crate::model::{Doubt, Fault, Observed, Value};
use crate::profile::{Encoding, Point, WordOrder};

/// Largest power of ten that a scale factor register may hold, either way (SunSpec Device Information Model 1.1, 4.6).
const SCALE_FACTOR_MAX: i16 = 10;

/// Exact powers of ten: all of these are whole doubles.
const POWERS_OF_TEN: [f64; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// What `words`, the registers of `point` (one word, 0 or 1, where items are bits), say.
///
/// `factor` is what the scale factor register of the point said, `None` when it has none. Bad with
/// [`Fault::WrongAnswer`] when the number of words is not that of the point.
pub fn decode(point: &Point, words: &[u16], factor: Option<Result<i16, Fault>>) -> Observed {
    match decode_value(point, words, factor) {
        Ok(value) if point.unsure.is_some() => Observed::Uncertain(value, Doubt::UnsureMap),
        Ok(value) => Observed::Good(value),
        Err(fault) => Observed::Bad(fault),
    }
}

/// The power of ten, -10 to 10, that a scale factor register holds.
///
/// # Errors
///
/// [`Fault::BadScaleFactor`] when it is not available or outside that range, [`Fault::WrongAnswer`] when `words` is
/// not one register.
pub fn decode_scale_factor(point: &Point, words: &[u16]) -> Result<i16, Fault> {
    let [word] = words else { return Err(Fault::WrongAnswer) };
    let factor = word.cast_signed();
    let is_valid = (-SCALE_FACTOR_MAX..=SCALE_FACTOR_MAX).contains(&factor);
    if is_valid && !point.sentinels.contains(&u64::from(*word)) { Ok(factor) } else { Err(Fault::BadScaleFactor) }
}

fn decode_value(point: &Point, words: &[u16], factor: Option<Result<i16, Fault>>) -> Result<Value, Fault> {
    if words.len() != usize::from(point.encoding.width()) {
        return Err(Fault::WrongAnswer);
    }
    let raw = raw_bits(point, words);
    if point.sentinels.contains(&raw) {
        return Err(Fault::NotAvailable);
    }
    let plain = match plain_value(point.encoding, raw) {
        Some(plain) => plain,
        None => return decode_text(words),
    };
    let value = match (point.scale_factor, factor) {
        (None, _) if point.computed => Value::F64(point.scale.apply(plain.number().unwrap_or(f64::NAN))),
        (None, _) => plain,
        (Some(_), Some(factor)) => Value::F64(scaled(point, &plain, factor?)),
        (Some(_), None) => return Err(Fault::BadScaleFactor),
    };
    check_number(&value)?;
    check_range(point, &value)?;
    Ok(value)
}

/// The bits of the point, right-aligned; 0 for text.
fn raw_bits(point: &Point, words: &[u16]) -> u64 {
    let join = |bits: u64, word: &u16| bits << 16 | u64::from(*word);
    match (point.encoding, words) {
        (Encoding::Text { .. }, _) => 0,
        (Encoding::Bit(bit), [word]) => u64::from(*word).checked_shr(u32::from(bit)).unwrap_or(0) & 1,
        (Encoding::Bits { first, length }, [word]) => {
            let shifted = u64::from(*word).checked_shr(u32::from(first)).unwrap_or(0);
            shifted & u64::MAX.checked_shr(64 - u32::from(length.min(16))).unwrap_or(0)
        }
        (_, words) => match point.word_order {
            WordOrder::HighFirst => words.iter().fold(0, join),
            WordOrder::LowFirst => words.iter().rev().fold(0, join),
        },
    }
}

/// The value of the bits before any scaling; `None` for text. `as` cuts to the width of the encoding, no more.
fn plain_value(encoding: Encoding, raw: u64) -> Option<Value> {
    Some(match encoding {
        Encoding::U16 | Encoding::Bits { .. } => Value::Int(i64::from(raw as u16)),
        Encoding::I16 => Value::Int(i64::from((raw as u16).cast_signed())),
        Encoding::U32 => Value::Int(i64::from(raw as u32)),
        Encoding::I32 => Value::Int(i64::from((raw as u32).cast_signed())),
        Encoding::U64 => Value::Uint(raw),
        Encoding::I64 => Value::Int(raw.cast_signed()),
        Encoding::F32 => Value::F32(f32::from_bits(raw as u32)),
        Encoding::F64 => Value::F64(f64::from_bits(raw)),
        Encoding::Bit(_) => Value::Bool(raw != 0),
        Encoding::Text { .. } => return None,
    })
}

/// The engineering value of a point with a scale factor register. Negative powers divide, so that decimals stay
/// decimals: 2301 with -1 is 230.1.
fn scaled(point: &Point, plain: &Value, factor: i16) -> f64 {
    let number = plain.number().unwrap_or(f64::NAN);
    let power = POWERS_OF_TEN.get(usize::from(factor.unsigned_abs())).copied().unwrap_or(f64::NAN);
    point.scale.apply(if factor < 0 { number / power } else { number * power })
}

fn check_number(value: &Value) -> Result<(), Fault> {
    let finite = match value {
        Value::F32(single) => single.is_finite(),
        Value::F64(double) => double.is_finite(),
        Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Text(_) => true,
    };
    if finite { Ok(()) } else { Err(Fault::NotANumber) }
}

fn check_range(point: &Point, value: &Value) -> Result<(), Fault> {
    let Some((lowest, highest)) = point.range else { return Ok(()) };
    let fits = |number: f64| (lowest..=highest).contains(&point.listed_scale().apply(number));
    let fits = match value {
        // A single at the very end of the range counts as the decimal it reads as, which takes longer to find out.
        Value::F32(single) => fits(f64::from(*single)) || value.number().is_some_and(fits),
        Value::Int(_) | Value::Uint(_) | Value::F64(_) => value.number().is_some_and(fits),
        Value::Bool(_) | Value::Text(_) => true,
    };
    if fits { Ok(()) } else { Err(Fault::OutOfRange) }
}

/// Printable text up to the first NUL, blanks at its end dropped. Anything else is garbage, not text.
fn decode_text(words: &[u16]) -> Result<Value, Fault> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).take_while(|byte| *byte != 0).collect();
    let text = std::str::from_utf8(&bytes).map_err(|_| Fault::Garbage)?.trim_end();
    if text.chars().any(char::is_control) { Err(Fault::Garbage) } else { Ok(Value::Text(Arc::from(text))) }
}

#[cfg(test)]
mod tests;
