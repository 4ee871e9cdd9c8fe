//! Registers to observations. A reading never costs an allocation, text and clocks excepted.

use std::sync::Arc;

use super::number;
use crate::model::{Doubt, Fault, Observed, Value};
use crate::profile::{ByteOrder, Encoding, Point, WordOrder};

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
    let plain = match point.encoding {
        Encoding::Text { .. } => return decode_text(point.byte_order, words),
        Encoding::WideText { .. } => return decode_wide_text(point.byte_order, words),
        Encoding::Clock(layout) => {
            let words: Vec<u16> = words.iter().map(|word| point.byte_order.of(*word)).collect();
            layout.seconds(&words, raw).map(Value::Int).map_err(|_| Fault::OutOfRange)?
        }
        encoding => plain_value(encoding, raw)?,
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

/// The bits of the point, right-aligned; 0 for text and for clocks that are no number.
fn raw_bits(point: &Point, words: &[u16]) -> u64 {
    let order = if point.table.holds_bits() { ByteOrder::HighFirst } else { point.byte_order };
    let join = |bits: u64, word: &u16| bits << 16 | u64::from(order.of(*word));
    match (point.encoding, words) {
        (Encoding::Text { .. } | Encoding::WideText { .. }, _) => 0,
        (Encoding::Clock(_), words) if words.len() > 4 => 0,
        (Encoding::Bit(bit), [word]) => u64::from(order.of(*word)).checked_shr(u32::from(bit)).unwrap_or(0) & 1,
        (Encoding::Bits { first, length } | Encoding::SignedBits { first, length }, [word]) => {
            let shifted = u64::from(order.of(*word)).checked_shr(u32::from(first)).unwrap_or(0);
            shifted & u64::MAX.checked_shr(64 - u32::from(length.min(16))).unwrap_or(0)
        }
        (_, words) => match point.word_order {
            WordOrder::HighFirst => words.iter().fold(0, join),
            WordOrder::LowFirst => words.iter().rev().fold(0, join),
        },
    }
}

/// The value of the bits before any scaling. `as` cuts to the width of the encoding, no more.
///
/// [`Fault::NotANumber`] where decimal digits are none; text and clocks are read elsewhere.
fn plain_value(encoding: Encoding, raw: u64) -> Result<Value, Fault> {
    let digits = |number: Option<i64>| number.map(Value::Int).ok_or(Fault::NotANumber);
    Ok(match encoding {
        Encoding::U16 | Encoding::Bits { .. } => Value::Int(i64::from(raw as u16)),
        Encoding::I16 => Value::Int(i64::from((raw as u16).cast_signed())),
        Encoding::U32 => Value::Int(i64::from(raw as u32)),
        Encoding::I32 => Value::Int(i64::from((raw as u32).cast_signed())),
        Encoding::U48 => Value::Int(raw.cast_signed()),
        Encoding::I48 => Value::Int(signed(raw, 48)),
        Encoding::U64 => Value::Uint(raw),
        Encoding::I64 => Value::Int(raw.cast_signed()),
        Encoding::F16 => Value::F32(number::half_to_single(raw as u16)),
        Encoding::F32 => Value::F32(f32::from_bits(raw as u32)),
        Encoding::F64 => Value::F64(f64::from_bits(raw)),
        Encoding::Bit(_) => Value::Bool(raw != 0),
        Encoding::SignedBits { length, .. } => Value::Int(signed(raw, u32::from(length))),
        Encoding::SignMagnitude { registers } => {
            Value::Int(number::of_sign_magnitude(raw, 16 * u32::from(registers.clamp(1, 4))))
        }
        Encoding::Bcd { .. } => return digits(number::of_bcd(raw)),
        Encoding::Modulo10000 { registers, signed } => return digits(number::of_modulo_10000(raw, registers, signed)),
        Encoding::Text { .. } | Encoding::WideText { .. } | Encoding::Clock(_) => return Err(Fault::WrongAnswer),
    })
}

/// Two's complement in the lowest `bits` bits.
fn signed(raw: u64, bits: u32) -> i64 {
    let unused = 64 - bits.clamp(1, 64);
    (raw << unused).cast_signed() >> unused
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

/// Printable text up to the first NUL; what fills up its end, blanks, 0xFF or both, dropped. Anything else is garbage.
fn decode_text(order: ByteOrder, words: &[u16]) -> Result<Value, Fault> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| order.of(*word).to_be_bytes()).collect();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let end = bytes[..end].iter().rposition(|byte| !matches!(byte, b' ' | 0xFF)).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| Fault::Garbage)?;
    let is_filler = bytes.iter().all(|byte| matches!(byte, 0 | b' ' | 0xFF));
    // Nothing but 0xFF is what a memory holds that was never written.
    printable(text, is_filler && bytes.iter().any(|byte| *byte != 0xFF))
}

/// The same with one character a register; 0xFFFF fills up, too.
fn decode_wide_text(order: ByteOrder, words: &[u16]) -> Result<Value, Fault> {
    let units: Vec<u16> = words.iter().map(|word| order.of(*word)).collect();
    let is_filler = |unit: &u16| matches!(unit, 0x20 | 0xFF | 0xFFFF);
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    let end = units[..end].iter().rposition(|unit| !is_filler(unit)).map_or(0, |last| last + 1);
    let text = String::from_utf16(&units[..end]).map_err(|_| Fault::Garbage)?;
    let is_empty = units.iter().all(|unit| *unit == 0 || is_filler(unit));
    printable(&text, is_empty && units.iter().any(|unit| matches!(unit, 0 | 0x20)))
}

/// Text without control characters. One that reads as empty where the registers are not is garbage: the order of
/// bytes, or the characters a register, are others than the profile says.
fn printable(text: &str, is_empty: bool) -> Result<Value, Fault> {
    let text = text.trim_end();
    let is_garbage = text.chars().any(char::is_control) || text.is_empty() && !is_empty;
    if is_garbage { Err(Fault::Garbage) } else { Ok(Value::Text(Arc::from(text))) }
}

#[cfg(test)]
mod tests;
