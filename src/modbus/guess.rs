//! Where in some registers is the number that a display shows? Pure.
//!
//! Every encoding, word order and usual scale is tried at every address. What fits is put in the order of likelihood:
//! a floating-point number that reads exactly so is hardly ever chance, a scaled 16-bit one often is.

use super::codec;
use crate::model::ValueKind;
use crate::profile::{ByteOrder, Encoding, Point, Table, WordOrder};

/// Scales of whole numbers, the likeliest first.
const SCALES: [f64; 7] = [1.0, 0.1, 0.01, 0.001, 10.0, 100.0, 1000.0];
/// Scales of floating-point numbers: kilo and milli of what the display shows.
const FLOAT_SCALES: [f64; 3] = [1.0, 0.001, 1000.0];

/// The number that a display shows, and how far from it counts as the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// The number.
    pub value: f64,
    /// Half of its last digit, or what the reader allows.
    pub tolerance: f64,
}

impl Shown {
    /// What is written, such as `231.4`: everything that is shown so counts. `None` when it is no number.
    pub fn parse(text: &str) -> Option<Self> {
        let value: f64 = text.trim().parse().ok().filter(|value: &f64| value.is_finite())?;
        let decimals = text.trim().split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let digits = i32::try_from(decimals).ok()?;
        Some(Self { value, tolerance: 0.5 * 10_f64.powi(-digits) })
    }
}

/// One way to read the number that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// Protocol address of the first register, from 0.
    pub address: u16,
    /// How it is read.
    pub encoding: Encoding,
    /// Which register comes first; of no meaning for one register.
    pub word_order: WordOrder,
    /// Which byte of a register comes first.
    pub byte_order: ByteOrder,
    /// What the raw number is multiplied with.
    pub scale: f64,
    /// What it gives.
    pub value: f64,
}

/// Everything in `runs` (first address and registers) that reads as what is shown, the likeliest first.
pub fn guess(runs: &[(u16, Vec<u16>)], shown: Shown) -> Vec<Guess> {
    let mut found: Vec<(u8, f64, Guess)> = Vec::new();
    for (first, words) in runs {
        for offset in 0..words.len() {
            let Ok(address) = u16::try_from(usize::from(*first) + offset) else { break };
            found.extend(at(address, &words[offset..], shown));
        }
    }
    found.sort_by(|(rank, distance, one), (other_rank, other_distance, other)| {
        (rank, one.address).cmp(&(other_rank, other.address)).then(distance.total_cmp(other_distance))
    });
    found.into_iter().map(|(.., guess)| guess).collect()
}

/// What fits at one address, with its rank and how far it is off.
fn at(address: u16, words: &[u16], shown: Shown) -> Vec<(u8, f64, Guess)> {
    let mut found = Vec::new();
    for (encoding, rank) in ENCODINGS {
        let is_float = encoding.kind() != ValueKind::Int && encoding != Encoding::U64;
        let is_signed = is_signed(encoding);
        // A number that is not negative reads the same either way.
        if is_signed && shown.value >= 0.0 || !is_signed && !is_float && shown.value < 0.0 {
            continue;
        }
        let scales = if is_float { &FLOAT_SCALES[..] } else { &SCALES[..] };
        for (word_order, byte_order, unusual) in orders(encoding) {
            let Some(raw) = read(encoding, word_order, byte_order, words) else { continue };
            // A register of zeros before a short number says nothing more than the short number.
            let is_padded = !is_float && encoding.width() > 1 && raw.abs() < 65_536.0;
            for (position, scale) in scales.iter().enumerate() {
                let value = raw * scale;
                let distance = (value - shown.value).abs();
                // Rounding of the product must not count against it.
                if distance <= shown.tolerance * (1.0 + 1e-9) {
                    let unlikely = 2 * u8::from(is_padded) + u8::from(position > 0) + unusual;
                    let guess = Guess { address, encoding, word_order, byte_order, scale: *scale, value };
                    found.push((rank + unlikely, distance, guess));
                }
            }
        }
    }
    found
}

/// Encodings of numbers and how unlikely each is by itself: what few devices have comes behind what most do.
const ENCODINGS: [(Encoding, u8); 18] = [
    (Encoding::F32, 0),
    (Encoding::F64, 0),
    (Encoding::U32, 2),
    (Encoding::I32, 2),
    (Encoding::U16, 4),
    (Encoding::I16, 4),
    (Encoding::Bcd { registers: 2 }, 5),
    (Encoding::Modulo10000 { registers: 2, signed: false }, 5),
    (Encoding::Modulo10000 { registers: 3, signed: false }, 5),
    (Encoding::U64, 6),
    (Encoding::I64, 6),
    (Encoding::U48, 7),
    (Encoding::I48, 7),
    (Encoding::Bcd { registers: 1 }, 7),
    (Encoding::Bcd { registers: 4 }, 7),
    (Encoding::SignMagnitude { registers: 1 }, 7),
    (Encoding::SignMagnitude { registers: 2 }, 7),
    (Encoding::F16, 8),
];

fn is_signed(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::I16 | Encoding::I32 | Encoding::I48 | Encoding::I64 | Encoding::SignMagnitude { .. })
}

/// Orders of words and bytes to try, and how much less likely each makes a reading. Bytes the other way round are tried
/// for what most devices have: of any two bytes some scale makes something.
fn orders(encoding: Encoding) -> Vec<(WordOrder, ByteOrder, u8)> {
    use ByteOrder::{HighFirst, LowFirst};
    let words = [WordOrder::HighFirst, WordOrder::LowFirst];
    let words = if encoding.width() == 1 { &words[..1] } else { &words[..] };
    let is_usual = matches!(encoding, Encoding::F32 | Encoding::F64 | Encoding::U32 | Encoding::I32);
    let swapped = words.iter().filter(|_| is_usual).map(|order| (*order, LowFirst, 1));
    words.iter().map(|order| (*order, HighFirst, 0)).chain(swapped).collect()
}

fn read(encoding: Encoding, word_order: WordOrder, byte_order: ByteOrder, words: &[u16]) -> Option<f64> {
    let words = words.get(..usize::from(encoding.width()))?;
    let point = Point { word_order, byte_order, ..Point::plain("", Table::HoldingRegisters, 0, encoding) };
    codec::decode(&point, words, None).value().and_then(crate::model::Value::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(words: &[u16], shown: &str) -> Guess {
        guess(&[(100, words.to_vec())], Shown::parse(shown).unwrap())[0]
    }

    fn float(value: f32) -> [u16; 2] {
        let bits = value.to_bits();
        [(bits >> 16) as u16, bits as u16]
    }

    #[test]
    fn a_float_is_found_in_either_word_order() {
        let [high, low] = float(231.43);

        let found = best(&[7, high, low, 9], "231.4");
        assert_eq!((found.address, found.encoding, found.word_order), (101, Encoding::F32, WordOrder::HighFirst));
        let found = best(&[7, low, high, 9], "231.4");
        assert_eq!((found.address, found.encoding, found.word_order), (101, Encoding::F32, WordOrder::LowFirst));
        assert_eq!(found.scale, 1.0);
    }

    #[test]
    fn bytes_the_other_way_round_and_decimal_digits_are_found() {
        let [high, low] = float(231.43).map(u16::swap_bytes);
        let found = best(&[7, low, high, 9], "231.4");
        assert_eq!((found.address, found.encoding), (101, Encoding::F32));
        assert_eq!((found.word_order, found.byte_order), (WordOrder::LowFirst, ByteOrder::LowFirst));
        let found = best(&[7, 0x0012, 0x3456, 9], "123456");
        assert_eq!((found.address, found.encoding), (101, Encoding::Bcd { registers: 2 }));
        let found = best(&[65_535, 12, 3456, 65_535], "123456");
        assert_eq!((found.address, found.encoding), (101, Encoding::Modulo10000 { registers: 2, signed: false }));
        let found = best(&[7, 0x84D2, 9], "-1234");
        assert_eq!((found.address, found.encoding), (101, Encoding::SignMagnitude { registers: 1 }));
    }

    #[test]
    fn scaled_whole_numbers_are_found_and_negative_ones_are_signed() {
        let found = best(&[3, 2314, 5], "231.4");
        assert_eq!((found.address, found.encoding, found.scale), (101, Encoding::U16, 0.1));
        let found = best(&[3, 65_436, 5], "-10.0");
        assert_eq!((found.address, found.encoding, found.scale), (101, Encoding::I16, 0.1));
        let found = best(&[0, 0x0012, 0xD687, 0], "1234567");
        assert_eq!((found.address, found.encoding, found.word_order), (101, Encoding::U32, WordOrder::HighFirst));
    }

    #[test]
    fn as_many_digits_as_are_shown_have_to_fit() {
        assert!(guess(&[(0, vec![2314])], Shown::parse("231.5").unwrap()).is_empty());
        assert_eq!(best(&[2314], "231").scale, 0.1);
        assert_eq!(Shown::parse("12,5"), None);
        assert_eq!(Shown::parse("NaN"), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_there_is_found(value in -1.0e6_f32..1.0e6, at in 0_usize..20, noise in 0_u16..) {
            let mut words = vec![noise; 24];
            words[at..at + 2].copy_from_slice(&float(value));
            let found = guess(&[(0, words)], Shown { value: value.into(), tolerance: 1e-6 * f64::from(value.abs()) });
            let is_it = |one: &Guess| usize::from(one.address) == at && one.encoding == Encoding::F32 && one.scale == 1.0;
            proptest::prop_assert!(value == 0.0 || found.iter().any(is_it));
        }
    }
}
