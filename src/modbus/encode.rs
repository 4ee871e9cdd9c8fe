//! An engineering value as the registers a device would show: the inverse of decoding.

use super::number;
use crate::model::ValueKind;
use crate::profile::clock::ClockLayout;
use crate::profile::{Encoding, Point, WordOrder};

/// What a simulated point shall show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity<'a> {
    /// Engineering value; 0 and not 0 for bits.
    Number(f64),
    /// Text; cut where the registers end.
    Text(&'a str),
    /// The first sentinel of the point, or not-a-number where a floating point point has none.
    NotAvailable,
}

/// Why a value cannot be put into the registers of a point.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The raw number is outside what the encoding holds.
    #[error("raw value {raw} does not fit the encoding")]
    DoesNotFit {
        /// After scale and offset were taken away.
        raw: f64,
    },
    /// The raw number means "not available".
    #[error("raw value {raw:#x} means not available")]
    ReadsAsSentinel {
        /// The bit pattern, right-aligned.
        raw: u64,
    },
    /// Text for a number, a number for text, or "not available" where nothing says so.
    #[error("the point cannot show that kind of value")]
    WrongKind,
}

/// Writes `quantity` into `words`, the registers of `point` (or the one bit, 0 or 1, of a bit table).
///
/// `factor` is the power of ten of the point's scale factor register, where it has one. Bits of a register that
/// belong to other points stay as they are.
pub fn encode(
    point: &Point,
    quantity: Quantity<'_>,
    factor: Option<i16>,
    words: &mut [u16],
) -> Result<(), EncodeError> {
    match quantity {
        Quantity::Text(text) => encode_text(point, text, words),
        Quantity::NotAvailable => encode_sentinel(point, words),
        Quantity::Number(_) if point.encoding.kind() == ValueKind::Text => Err(EncodeError::WrongKind),
        Quantity::Number(value) => {
            let raw = raw_number(point, value, factor);
            if let Encoding::Clock(layout) = point.encoding {
                return encode_clock(point, layout, raw, words);
            }
            let pattern = pattern(point.encoding, raw)?;
            if point.sentinels.contains(&pattern) {
                return Err(EncodeError::ReadsAsSentinel { raw: pattern });
            }
            place(point, pattern, words);
            Ok(())
        }
    }
}

/// The bits of its register that belong to `point`, set, in the order of bytes that goes on the wire.
pub fn bits_of(point: &Point) -> u16 {
    let bits = match point.encoding {
        Encoding::Bit(bit) => 1_u16.checked_shl(u32::from(bit)).unwrap_or(0),
        Encoding::Bits { first, length } | Encoding::SignedBits { first, length } => ones(length) << first,
        _ => u16::MAX,
    };
    point.byte_order.of(bits)
}

/// The number before scale, offset and power of ten; a bit has none of them.
fn raw_number(point: &Point, value: f64, factor: Option<i16>) -> f64 {
    let scale = point.scale;
    let without_factor = match factor {
        Some(exponent) if exponent >= 0 => value / 10f64.powi(i32::from(exponent)),
        Some(exponent) => value * 10f64.powi(-i32::from(exponent)),
        None => value,
    };
    (without_factor - scale.offset) * scale.divisor / scale.multiplier
}

/// The bit pattern of a raw number, right-aligned; integers are rounded.
fn pattern(encoding: Encoding, raw: f64) -> Result<u64, EncodeError> {
    let rounded = raw.round();
    let within = |least: f64, most: f64| {
        if (least..=most).contains(&rounded) { Ok(()) } else { Err(EncodeError::DoesNotFit { raw }) }
    };
    // The largest doubles below 2^63 and 2^64; the limits themselves are no doubles.
    let (below_2_63, below_2_64) = (9_223_372_036_854_774_784.0, 18_446_744_073_709_549_568.0);
    match encoding {
        Encoding::U16 => within(0.0, f64::from(u16::MAX)).map(|()| rounded as u64),
        Encoding::I16 => {
            within(f64::from(i16::MIN), f64::from(i16::MAX)).map(|()| u64::from((rounded as i16).cast_unsigned()))
        }
        Encoding::U32 => within(0.0, f64::from(u32::MAX)).map(|()| rounded as u64),
        Encoding::I32 => {
            within(f64::from(i32::MIN), f64::from(i32::MAX)).map(|()| u64::from((rounded as i32).cast_unsigned()))
        }
        Encoding::U64 => within(0.0, below_2_64).map(|()| rounded as u64),
        Encoding::I64 => within(-below_2_63, below_2_63).map(|()| (rounded as i64).cast_unsigned()),
        Encoding::U48 => within(0.0, BELOW_2_48).map(|()| rounded as u64),
        Encoding::I48 => {
            within(-BELOW_2_47 - 1.0, BELOW_2_47).map(|()| (rounded as i64).cast_unsigned() & (u64::MAX >> 16))
        }
        Encoding::F16 => number::half_of(raw).map(u64::from).ok_or(EncodeError::DoesNotFit { raw }),
        Encoding::F32 => Ok(u64::from((raw as f32).to_bits())),
        Encoding::F64 => Ok(raw.to_bits()),
        Encoding::Bit(_) => Ok(u64::from(raw != 0.0)),
        Encoding::Bits { length, .. } => within(0.0, f64::from(ones(length))).map(|()| rounded as u64),
        Encoding::SignedBits { length, .. } => {
            let most = f64::from(ones(length) >> 1);
            within(-most - 1.0, most).map(|()| u64::from((rounded as i16).cast_unsigned() & ones(length)))
        }
        Encoding::SignMagnitude { registers } => {
            digits(raw, |whole| number::to_sign_magnitude(whole, 16 * u32::from(registers.clamp(1, 3))))
        }
        Encoding::Bcd { registers } => digits(raw, |whole| number::to_bcd(whole, 4 * u32::from(registers))),
        Encoding::Modulo10000 { registers, signed } => {
            digits(raw, |whole| number::to_modulo_10000(whole, registers, signed))
        }
        Encoding::Text { .. } | Encoding::WideText { .. } | Encoding::Clock(_) => Err(EncodeError::WrongKind),
    }
}

/// The largest numbers of 48 bits without and with a sign.
const BELOW_2_48: f64 = 281_474_976_710_655.0;
const BELOW_2_47: f64 = 140_737_488_355_327.0;

/// The pattern that `write` makes of the whole number nearest to `raw`.
fn digits(raw: f64, write: impl Fn(i64) -> Option<u64>) -> Result<u64, EncodeError> {
    // Whole numbers beyond are not told apart by doubles.
    let is_exact = raw.abs() <= 9_007_199_254_740_992.0;
    let pattern = is_exact.then(|| write(raw.round() as i64)).flatten();
    pattern.ok_or(EncodeError::DoesNotFit { raw })
}

/// A number with the lowest `length` bits set.
fn ones(length: u8) -> u16 {
    u16::MAX >> (16 - u32::from(length.clamp(1, 16)))
}

/// Puts a right-aligned bit pattern into the registers.
fn place(point: &Point, pattern: u64, words: &mut [u16]) {
    let order = point.byte_order;
    let replace = |word: u16, bits: u16, first: u8| {
        let kept = order.of(word) & !(bits << first);
        order.of(kept | (pattern as u16) << first)
    };
    match point.encoding {
        Encoding::Bit(_) if point.table.holds_bits() => words[0] = pattern as u16,
        Encoding::Bit(bit) => words[0] = replace(words[0], 1, bit),
        Encoding::Bits { first, length } | Encoding::SignedBits { first, length } => {
            words[0] = replace(words[0], ones(length), first);
        }
        Encoding::U16
        | Encoding::I16
        | Encoding::U32
        | Encoding::I32
        | Encoding::U48
        | Encoding::I48
        | Encoding::U64
        | Encoding::I64
        | Encoding::F16
        | Encoding::F32
        | Encoding::F64
        | Encoding::SignMagnitude { .. }
        | Encoding::Bcd { .. }
        | Encoding::Modulo10000 { .. }
        | Encoding::Clock(_)
        | Encoding::WideText { .. }
        | Encoding::Text { .. } => {
            let width = usize::from(point.encoding.width());
            for (position, word) in words[..width].iter_mut().enumerate() {
                let significance = match point.word_order {
                    WordOrder::HighFirst => width - 1 - position,
                    WordOrder::LowFirst => position,
                };
                *word = order.of(pattern.checked_shr(16 * significance as u32).unwrap_or(0) as u16);
            }
        }
    }
}

fn encode_clock(point: &Point, layout: ClockLayout, raw: f64, words: &mut [u16]) -> Result<(), EncodeError> {
    let number = layout.show(raw.round() as i64, words).map_err(|_| EncodeError::DoesNotFit { raw })?;
    match number {
        Some(number) => place(point, number, words),
        None => words.iter_mut().for_each(|word| *word = point.byte_order.of(*word)),
    }
    Ok(())
}

fn encode_text(point: &Point, text: &str, words: &mut [u16]) -> Result<(), EncodeError> {
    match point.encoding {
        Encoding::Text { registers } => {
            let mut bytes = text.bytes().chain(std::iter::repeat(0));
            for word in &mut words[..usize::from(registers)] {
                let pair = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                *word = point.byte_order.of(u16::from_be_bytes(pair));
            }
            Ok(())
        }
        Encoding::WideText { registers } => {
            let mut units = text.encode_utf16().chain(std::iter::repeat(0));
            words[..usize::from(registers)].fill_with(|| point.byte_order.of(units.next().unwrap_or(0)));
            Ok(())
        }
        _ => Err(EncodeError::WrongKind),
    }
}

fn encode_sentinel(point: &Point, words: &mut [u16]) -> Result<(), EncodeError> {
    let pattern = match (point.sentinels.first(), point.encoding) {
        (Some(sentinel), _) => *sentinel,
        (None, Encoding::F16) => 0x7E00,
        (None, Encoding::F32) => u64::from(f32::NAN.to_bits()),
        (None, Encoding::F64) => f64::NAN.to_bits(),
        (None, _) => return Err(EncodeError::WrongKind),
    };
    place(point, pattern, words);
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::Scale;
    use crate::profile::Table;

    fn point(encoding: Encoding) -> Point {
        Point::plain("point", Table::HoldingRegisters, 0, encoding)
    }

    fn words(point: &Point, quantity: Quantity<'_>, factor: Option<i16>) -> Result<Vec<u16>, EncodeError> {
        let mut words = vec![0; usize::from(point.encoding.width())];
        encode(point, quantity, factor, &mut words).map(|()| words)
    }

    #[test]
    fn every_encoding_shows_its_number() {
        let cases: [(Encoding, f64, &[u16]); 12] = [
            (Encoding::U16, 65535.0, &[0xffff]),
            (Encoding::I16, -2.0, &[0xfffe]),
            (Encoding::U32, 65_538.0, &[1, 2]),
            (Encoding::I32, -2.0, &[0xffff, 0xfffe]),
            (Encoding::U64, 4_294_967_298.0, &[0, 1, 0, 2]),
            (Encoding::I64, -1.0, &[0xffff, 0xffff, 0xffff, 0xffff]),
            (Encoding::F32, 230.5, &[0x4366, 0x8000]),
            (Encoding::F64, 1.0, &[0x3ff0, 0, 0, 0]),
            (Encoding::Bit(3), 1.0, &[8]),
            (Encoding::Bits { first: 4, length: 3 }, 5.0, &[0x50]),
            (Encoding::Bits { first: 0, length: 16 }, 65535.0, &[0xffff]),
            (Encoding::Bit(15), 7.0, &[0x8000]),
        ];
        for (encoding, value, expected) in cases {
            assert_eq!(words(&point(encoding), Quantity::Number(value), None).unwrap(), expected, "{encoding:?}");
        }
    }

    #[test]
    fn the_low_register_comes_first_where_the_device_has_it_so() {
        let mut low_first = point(Encoding::U64);
        low_first.word_order = WordOrder::LowFirst;
        let value = Quantity::Number(281_483_566_841_860.0);
        assert_eq!(words(&low_first, value, None).unwrap(), [4, 3, 2, 1]);
    }

    #[test]
    fn scale_offset_and_power_of_ten_are_taken_away() {
        let mut volts = point(Encoding::U16);
        volts.scale = Scale::new(0.1, 0.0);
        let mut celsius = point(Encoding::I16);
        celsius.scale = Scale::new(0.5, -40.0);
        let mut watts = point(Encoding::I16);
        watts.scale_factor = Some(1);

        assert_eq!(words(&volts, Quantity::Number(230.1), None).unwrap(), [2301]);
        assert_eq!(words(&celsius, Quantity::Number(-41.0), None).unwrap(), [0xfffe]);
        assert_eq!(words(&watts, Quantity::Number(1500.0), Some(2)).unwrap(), [15]);
        assert_eq!(words(&watts, Quantity::Number(1.5), Some(-1)).unwrap(), [15]);
    }

    #[test]
    fn bits_of_other_points_in_the_register_stay() {
        let mut register = [0b1010_0000_0000_0101];
        encode(&point(Encoding::Bit(2)), Quantity::Number(0.0), None, &mut register).unwrap();
        encode(&point(Encoding::Bits { first: 8, length: 4 }), Quantity::Number(9.0), None, &mut register).unwrap();
        assert_eq!(register, [0b1010_1001_0000_0001]);
    }

    #[test]
    fn text_fills_its_registers_and_ends_with_zeroes() {
        let text = point(Encoding::Text { registers: 3 });
        assert_eq!(words(&text, Quantity::Text("B23"), None).unwrap(), [0x4232, 0x3300, 0]);
        assert_eq!(words(&text, Quantity::Text("longer than six"), None).unwrap(), [0x6c6f, 0x6e67, 0x6572]);
    }

    #[test]
    fn not_available_is_the_sentinel_or_not_a_number() {
        let mut with_sentinel = point(Encoding::U32);
        with_sentinel.sentinels = vec![0xffff_ffff];
        assert_eq!(words(&with_sentinel, Quantity::NotAvailable, None).unwrap(), [0xffff, 0xffff]);
        assert_eq!(words(&point(Encoding::F32), Quantity::NotAvailable, None).unwrap(), [0x7fc0, 0]);
        assert_eq!(words(&point(Encoding::U16), Quantity::NotAvailable, None), Err(EncodeError::WrongKind));
    }

    #[test]
    fn what_a_register_cannot_show_is_refused() {
        let mut with_sentinel = point(Encoding::U16);
        with_sentinel.sentinels = vec![0xffff];
        let refused = |point: &Point, value| words(point, Quantity::Number(value), None).unwrap_err();

        assert_eq!(refused(&with_sentinel, 65535.0), EncodeError::ReadsAsSentinel { raw: 0xffff });
        assert_eq!(refused(&point(Encoding::U16), -1.0), EncodeError::DoesNotFit { raw: -1.0 });
        assert_eq!(refused(&point(Encoding::I16), 32768.0), EncodeError::DoesNotFit { raw: 32768.0 });
        assert_eq!(refused(&point(Encoding::Bits { first: 0, length: 2 }), 4.0), EncodeError::DoesNotFit { raw: 4.0 });
        assert!(matches!(refused(&point(Encoding::U32), f64::NAN), EncodeError::DoesNotFit { .. }));
        assert_eq!(refused(&point(Encoding::Text { registers: 2 }), 1.0), EncodeError::WrongKind);
    }
}
