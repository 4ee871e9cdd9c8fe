//! Numbers as devices keep them beside two's complement and IEEE single and double: half precision, sign and magnitude,
//! decimal digits, registers that count to 9999. Bits are right-aligned, the most significant register first. Pure.

/// Largest number of one register that counts in decimal.
const REGISTER_MOST: i64 = 9999;

/// The single with the value of a half (IEEE 754-2019, 3.4: binary16).
pub fn half_to_single(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let (exponent, fraction) = (u32::from(half >> 10 & 0x1F), u32::from(half & 0x3FF));
    match exponent {
        // Subnormal: whole steps of 2^-24.
        0 => f32::from_bits(sign | (fraction as f32 * 2_f32.powi(-24)).to_bits()),
        0x1F => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

/// The half nearest to a number, of two as near the even one; `None` when it is too large for one.
pub fn half_of(number: f64) -> Option<u16> {
    let sign = if number.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = number.abs();
    if magnitude.is_nan() {
        return Some(0x7E00);
    }
    // Below the least normal number steps do not shrink any more.
    let exponent = (magnitude.max(2_f64.powi(-14)).log2().floor() as i32).clamp(-14, 15);
    let steps = (magnitude / 2_f64.powi(exponent - 10)).round_ties_even();
    if steps > 2047.5 && exponent == 15 {
        return None;
    }
    let bits = steps as u32 + ((exponent + 14) as u32 * 1024);
    // A fraction that rounds up to 2048 carries into the exponent, as it must.
    u16::try_from(bits).ok().filter(|bits| *bits < 0x7C00).map(|bits| sign | bits)
}

/// The number whose highest of `bits` bits is the sign.
pub fn of_sign_magnitude(raw: u64, bits: u32) -> i64 {
    let sign = 1_u64 << (bits - 1);
    let magnitude = (raw & (sign - 1)).cast_signed();
    if raw & sign == 0 { magnitude } else { -magnitude }
}

/// `number` as a sign and its magnitude in `bits` bits, up to 63; `None` when it does not fit.
pub fn to_sign_magnitude(number: i64, bits: u32) -> Option<u64> {
    let sign = 1_u64 << (bits - 1);
    let magnitude = number.unsigned_abs();
    (magnitude < sign).then_some(if number < 0 { sign | magnitude } else { magnitude })
}

/// The number whose decimal digits are the four bits each of `raw`; `None` when one of them is no digit.
pub fn of_bcd(raw: u64) -> Option<i64> {
    let digits = (0..16).rev().map(|digit| raw >> (4 * digit) & 0xF);
    digits.map(u64::cast_signed).try_fold(0, |number, digit| (digit <= 9).then_some(10 * number + digit))
}

/// The `digits` decimal digits of `number`, four bits each; `None` when it has more or is negative.
pub fn to_bcd(number: i64, digits: u32) -> Option<u64> {
    let mut rest = u64::try_from(number).ok()?;
    let mut raw = 0;
    for digit in 0..digits {
        raw |= (rest % 10) << (4 * digit);
        rest /= 10;
    }
    (rest == 0).then_some(raw)
}

/// The number of `registers` registers that count to 9999 each; where they are `signed` each from -9999. `None` when
/// one holds more.
pub fn of_modulo_10000(raw: u64, registers: u16, signed: bool) -> Option<i64> {
    (0..registers).rev().try_fold(0_i64, |number, register| {
        let word = (raw >> (16 * register)) as u16;
        let word = if signed { i64::from(word.cast_signed()) } else { i64::from(word) };
        (word.abs() <= REGISTER_MOST).then_some(10_000 * number + word)
    })
}

/// `number` in `registers` registers that count to 9999 each, all with its sign; `None` when it does not fit.
pub fn to_modulo_10000(number: i64, registers: u16, signed: bool) -> Option<u64> {
    if number < 0 && !signed {
        return None;
    }
    let mut rest = number;
    let mut raw = 0;
    for register in 0..registers {
        let word = i16::try_from(rest % 10_000).ok()?.cast_unsigned();
        raw |= u64::from(word) << (16 * register);
        rest /= 10_000;
    }
    (rest == 0).then_some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // struct.pack(">e", number) of Python.
    #[test]
    fn halves_are_those_of_ieee_754() {
        let cases = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x3555, 0.333_251_953_125),
            (0x4D33, 20.796_875),
            (0x7BFF, 65_504.0),
            (0x0400, 6.103_515_625e-5),
            (0x03FF, 6.097_555_160_522_461e-5),
            (0x0001, 5.960_464_477_539_063e-8),
        ];
        for (half, number) in cases {
            assert_eq!(f64::from(half_to_single(half)), number, "{half:04x}");
            assert_eq!(half_of(number), Some(half), "{number}");
        }
        assert_eq!(half_of(21.3), Some(0x4D53));
        assert_eq!(half_of(-1e-3), Some(0x9419));
        assert_eq!(half_of(65_519.0), Some(0x7BFF));
        assert_eq!(half_of(65_520.0), None);
        assert_eq!(half_of(f64::INFINITY), None);
        assert!(half_to_single(0x7C00).is_infinite() && half_to_single(0xFC01).is_nan());
    }

    #[test]
    fn every_finite_half_is_the_half_of_itself() {
        for half in 0..=u16::MAX {
            let single = half_to_single(half);
            if single.is_finite() {
                assert_eq!(half_of(f64::from(single)), Some(half), "{half:04x}");
            }
        }
    }

    #[test]
    fn digits_and_signs_read_as_people_write_them() {
        assert_eq!(of_sign_magnitude(0x84D2, 16), -1234);
        assert_eq!(of_sign_magnitude(0x8000, 16), 0);
        assert_eq!(of_sign_magnitude(0x0001_0000, 32), 65_536);
        assert_eq!(of_bcd(0x0012_3456), Some(123_456));
        assert_eq!(of_bcd(0x12A4), None);
        // 12 * 10000^2 + 3456 * 10000 + 789
        assert_eq!(of_modulo_10000(0x000C_0D80_0315, 3, false), Some(1_234_560_789));
        assert_eq!(of_modulo_10000(0xFFFF_FFFE, 2, true), Some(-10_002));
        assert_eq!(of_modulo_10000(0x2710, 2, false), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number in any::<i64>(), registers in 1_u16..=4) {
            let bits = 16 * u32::from(registers.min(2));
            if let Some(raw) = to_sign_magnitude(number % 70_000, bits) {
                prop_assert_eq!(of_sign_magnitude(raw, bits), number % 70_000);
            }
            let bound = 10_i64.pow(4 * u32::from(registers));
            let number = number % bound;
            prop_assert_eq!(to_bcd(number, 4 * u32::from(registers)).and_then(of_bcd), (number >= 0).then_some(number));
            let signed = to_modulo_10000(number, registers, true);
            prop_assert_eq!(signed.and_then(|raw| of_modulo_10000(raw, registers, true)), Some(number));
            let unsigned = to_modulo_10000(number, registers, false);
            prop_assert_eq!(unsigned.and_then(|raw| of_modulo_10000(raw, registers, false)), (number >= 0).then_some(number));
            prop_assert_eq!(to_bcd(bound, 4 * u32::from(registers)), None);
            prop_assert_eq!(to_modulo_10000(-bound, registers, true), None);
        }
    }
}
