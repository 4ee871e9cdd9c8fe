//! Decoding, by example and for any words at all.

use proptest::prelude::*;

use super::*;
use crate::model::Scale;
use crate::profile::Table;

fn point(encoding: Encoding) -> Point {
    Point::plain("value", Table::HoldingRegisters, 0, encoding)
}

/// The registers of `bits`, as a device with this word order holds them.
fn registers(bits: u64, width: u16, order: WordOrder) -> Vec<u16> {
    let mut words: Vec<u16> = (0..width).rev().map(|word| (bits >> (16 * word)) as u16).collect();
    if order == WordOrder::LowFirst {
        words.reverse();
    }
    words
}

fn good(encoding: Encoding, words: &[u16]) -> Value {
    match decode(&point(encoding), words, None) {
        Observed::Good(value) => value,
        other => panic!("{encoding:?} {words:x?}: {other:?}"),
    }
}

#[test]
fn integers_stay_as_the_device_sent_them() {
    assert_eq!(good(Encoding::U16, &[0xFFFE]), Value::Int(65534));
    assert_eq!(good(Encoding::I16, &[0xFFFE]), Value::Int(-2));
    assert_eq!(good(Encoding::U32, &[0xFFFF, 0xFFFE]), Value::Int(4_294_967_294));
    assert_eq!(good(Encoding::I32, &[0xFFFF, 0xFFFE]), Value::Int(-2));
    assert_eq!(good(Encoding::U64, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]), Value::Uint(u64::MAX - 1));
    assert_eq!(good(Encoding::I64, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]), Value::Int(-2));
    let tenths = Point { scale: Scale::new(0.1, 0.0), ..point(Encoding::U16) };
    assert_eq!(decode(&tenths, &[2301], None), Observed::Good(Value::Int(2301)));
}

#[test]
fn the_low_register_may_come_first() {
    let swapped = Point { word_order: WordOrder::LowFirst, ..point(Encoding::I32) };

    assert_eq!(decode(&swapped, &[0x0001, 0x0002], None), Observed::Good(Value::Int(0x0002_0001)));
}

#[test]
fn bits_and_fields_of_a_register_are_cut_out() {
    assert_eq!(good(Encoding::Bit(0), &[0b10]), Value::Bool(false));
    assert_eq!(good(Encoding::Bit(15), &[0x8000]), Value::Bool(true));
    assert_eq!(good(Encoding::Bits { first: 4, length: 4 }, &[0xABCD]), Value::Int(0xC));
    assert_eq!(good(Encoding::Bits { first: 0, length: 16 }, &[0xABCD]), Value::Int(0xABCD));
}

#[test]
fn a_sentinel_is_not_a_value() {
    let point = Point { sentinels: vec![0x7FFF_FFFF], ..point(Encoding::I32) };

    assert_eq!(decode(&point, &[0x7FFF, 0xFFFF], None), Observed::Bad(Fault::NotAvailable));
    assert_eq!(decode(&point, &[0xFFFF, 0xFFFF], None), Observed::Good(Value::Int(-1)));
}

#[test]
fn what_is_no_number_is_bad_and_not_zero() {
    for single in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let words = registers(u64::from(single.to_bits()), 2, WordOrder::HighFirst);
        assert_eq!(decode(&point(Encoding::F32), &words, None), Observed::Bad(Fault::NotANumber));
    }
    let words = registers(f64::NAN.to_bits(), 4, WordOrder::HighFirst);
    assert_eq!(decode(&point(Encoding::F64), &words, None), Observed::Bad(Fault::NotANumber));
}

#[test]
fn the_range_is_checked_on_the_engineering_value() {
    let volts = Point { scale: Scale::new(0.1, 0.0), range: Some((0.0, 500.0)), ..point(Encoding::U16) };

    assert_eq!(decode(&volts, &[5000], None), Observed::Good(Value::Int(5000)));
    assert_eq!(decode(&volts, &[5001], None), Observed::Bad(Fault::OutOfRange));
}

#[test]
fn a_single_at_the_end_of_the_range_counts_as_the_decimal_it_reads_as() {
    let point = Point { range: Some((0.0, 0.1)), ..point(Encoding::F32) };
    let words = |single: f32| registers(u64::from(single.to_bits()), 2, WordOrder::HighFirst);

    assert_eq!(decode(&point, &words(0.1), None), Observed::Good(Value::F32(0.1)));
    assert_eq!(decode(&point, &words(0.100_001), None), Observed::Bad(Fault::OutOfRange));
}

#[test]
fn a_scale_factor_register_gives_decimals() {
    let scaled = Point { scale_factor: Some(0), ..point(Encoding::I16) };

    assert_eq!(decode(&scaled, &[2301], Some(Ok(-1))), Observed::Good(Value::F64(230.1)));
    assert_eq!(decode(&scaled, &[7], Some(Ok(-10))), Observed::Good(Value::F64(7e-10)));
    assert_eq!(decode(&scaled, &[0xFFFF], Some(Ok(3))), Observed::Good(Value::F64(-1000.0)));
    let fault = Err(Fault::BadScaleFactor);
    assert_eq!(decode(&scaled, &[2301], Some(fault)), Observed::Bad(Fault::BadScaleFactor));
    assert_eq!(decode(&scaled, &[2301], Some(Err(Fault::Timeout))), Observed::Bad(Fault::Timeout));
    assert_eq!(decode(&scaled, &[2301], None), Observed::Bad(Fault::BadScaleFactor));
}

#[test]
fn a_scale_factor_is_a_small_power_or_none() {
    let factor = Point { sentinels: vec![5], ..point(Encoding::I16) };

    assert_eq!(decode_scale_factor(&factor, &[0xFFF6]), Ok(-10));
    assert_eq!(decode_scale_factor(&factor, &[10]), Ok(10));
    for bad in [11, 0xFFF5, 0x8000, 5] {
        assert_eq!(decode_scale_factor(&factor, &[bad]), Err(Fault::BadScaleFactor), "{bad:#x}");
    }
    assert_eq!(decode_scale_factor(&factor, &[]), Err(Fault::WrongAnswer));
}

#[test]
fn a_doubtful_map_gives_doubtful_values() {
    let unsure = Point { unsure: Some("sign not agreed".to_owned()), ..point(Encoding::I16) };

    assert_eq!(decode(&unsure, &[1], None), Observed::Uncertain(Value::Int(1), Doubt::UnsureMap));
}

#[test]
fn text_ends_at_the_first_nul_and_loses_blanks_at_its_end() {
    let text = |words: &[u16]| decode(&point(Encoding::Text { registers: 3 }), words, None);

    assert_eq!(text(&[0x4232, 0x3320, 0x2020]), Observed::Good(Value::Text("B23".into())));
    assert_eq!(text(&[0x4232, 0x0033, 0xFFFF]), Observed::Good(Value::Text("B2".into())));
    assert_eq!(text(&[0, 0, 0]), Observed::Good(Value::Text("".into())));
    assert_eq!(text(&[0xC3A9, 0x2020, 0]), Observed::Good(Value::Text("é".into())));
    assert_eq!(text(&[0xFFFF, 0xFFFF, 0xFFFF]), Observed::Bad(Fault::Garbage));
    assert_eq!(text(&[0x4107, 0x4242, 0]), Observed::Bad(Fault::Garbage));
}

#[test]
fn an_answer_of_another_length_is_never_a_value() {
    assert_eq!(decode(&point(Encoding::F32), &[0x4366], None), Observed::Bad(Fault::WrongAnswer));
    assert_eq!(decode(&point(Encoding::U16), &[], None), Observed::Bad(Fault::WrongAnswer));
}

fn any_order() -> impl Strategy<Value = WordOrder> {
    prop_oneof![Just(WordOrder::HighFirst), Just(WordOrder::LowFirst)]
}

fn any_encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        Just(Encoding::U16),
        Just(Encoding::I16),
        Just(Encoding::U32),
        Just(Encoding::I32),
        Just(Encoding::U64),
        Just(Encoding::I64),
        Just(Encoding::F32),
        Just(Encoding::F64),
        any::<u8>().prop_map(Encoding::Bit),
        any::<(u8, u8)>().prop_map(|(first, length)| Encoding::Bits { first, length }),
        (0u16..20).prop_map(|registers| Encoding::Text { registers }),
    ]
}

proptest! {
    #[test]
    fn signed_numbers_come_back(number: i64, order in any_order()) {
        for (encoding, expected) in [
            (Encoding::I16, i64::from(number as i16)),
            (Encoding::U16, i64::from(number as u16)),
            (Encoding::I32, i64::from(number as i32)),
            (Encoding::U32, i64::from(number as u32)),
            (Encoding::I64, number),
        ] {
            let point = Point { word_order: order, ..point(encoding) };
            let words = registers(number as u64, encoding.width(), order);
            prop_assert_eq!(decode(&point, &words, None), Observed::Good(Value::Int(expected)));
        }
    }

    #[test]
    fn numbers_of_64_bits_and_floats_come_back(bits: u64, order in any_order()) {
        let observe = |encoding: Encoding| {
            let point = Point { word_order: order, ..point(encoding) };
            decode(&point, &registers(bits, encoding.width(), order), None)
        };
        let single = f32::from_bits(bits as u32);
        let double = f64::from_bits(bits);

        prop_assert_eq!(observe(Encoding::U64), Observed::Good(Value::Uint(bits)));
        let expected = if single.is_finite() { Observed::Good(Value::F32(single)) } else { Observed::Bad(Fault::NotANumber) };
        prop_assert_eq!(observe(Encoding::F32), expected);
        let expected = if double.is_finite() { Observed::Good(Value::F64(double)) } else { Observed::Bad(Fault::NotANumber) };
        prop_assert_eq!(observe(Encoding::F64), expected);
    }

    #[test]
    fn decimals_stay_decimals(number: i16, digits in 0i16..=10) {
        let scaled = Point { scale_factor: Some(0), ..point(Encoding::I16) };
        let expected: f64 = format!("{number}e-{digits}").parse().unwrap();

        let observed = decode(&scaled, &[number.cast_unsigned()], Some(Ok(-digits)));

        prop_assert_eq!(observed, Observed::Good(Value::F64(expected)));
    }

    #[test]
    fn printable_text_comes_back(text in "[!-~]{0,12}") {
        let mut bytes = text.clone().into_bytes();
        bytes.resize(12, 0);
        let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();

        let observed = decode(&point(Encoding::Text { registers: 6 }), &words, None);

        prop_assert_eq!(observed, Observed::Good(Value::Text(text.as_str().into())));
    }

    #[test]
    fn no_words_make_it_panic_or_give_another_kind_of_value(
        encoding in any_encoding(),
        order in any_order(),
        words in proptest::collection::vec(any::<u16>(), 0..20),
        factor: Option<i16>,
        fits: bool,
    ) {
        let point = Point {
            word_order: order,
            scale_factor: factor.map(|_| 0),
            range: Some((-1e6, 1e6)),
            sentinels: vec![0, u64::MAX],
            ..point(encoding)
        };
        let length = if fits { usize::from(encoding.width()) } else { words.len() };
        let words: Vec<u16> = words.into_iter().cycle().take(length).collect();

        let observed = decode(&point, &words, factor.map(|factor| decode_scale_factor(&point, &[factor.cast_unsigned()])));

        let is_number = !matches!(encoding, Encoding::Text { .. });
        if let (Some(value), true) = (observed.value(), is_number) {
            prop_assert_eq!(value.kind(), point.kind());
        }
    }
}

#[test]
fn what_fills_up_a_text_is_no_part_of_it() {
    let text = |words: &[u16]| good(Encoding::Text { registers: words.len() as u16 }, words);
    let shown = |text: &str| Value::Text(Arc::from(text));
    // "Hello", filled with 0xFF, with blanks and 0xFF, with zeros, and with zeros behind which something is left.
    assert_eq!(text(&[0x4865, 0x6C6C, 0x6FFF, 0xFFFF]), shown("Hello"));
    assert_eq!(text(&[0x4865, 0x6C6C, 0x6F20, 0x20FF, 0xFFFF]), shown("Hello"));
    assert_eq!(text(&[0x4865, 0x6C6C, 0x6F00, 0x0000]), shown("Hello"));
    assert_eq!(text(&[0x4865, 0x6C6C, 0x6F00, 0x4142]), shown("Hello"));
    for empty in [0x0000, 0x2020] {
        assert_eq!(text(&[empty, empty]), shown(""));
    }
}

#[test]
fn a_text_that_reads_as_empty_where_the_registers_are_not_is_bad() {
    let wide = [0x0053, 0x004E, 0x0034, 0x0032];
    assert_eq!(decode(&point(Encoding::Text { registers: 4 }), &wide, None), Observed::Bad(Fault::Garbage));
    assert_eq!(good(Encoding::WideText { registers: 4 }, &wide), Value::Text(Arc::from("SN42")));
    let filled = [0x0053, 0x004E, 0x0020, 0xFFFF];
    assert_eq!(good(Encoding::WideText { registers: 4 }, &filled), Value::Text(Arc::from("SN")));
    let late = [0x0000, 0x004E];
    assert_eq!(decode(&point(Encoding::WideText { registers: 2 }), &late, None), Observed::Bad(Fault::Garbage));
}

#[test]
fn the_low_byte_may_come_first() {
    let swapped = |encoding| Point { byte_order: ByteOrder::LowFirst, ..point(encoding) };
    // "Github", and struct.pack of 230.7: BADC and DCBA.
    let text = swapped(Encoding::Text { registers: 3 });
    assert_eq!(decode(&text, &[0x6947, 0x6874, 0x6275], None), Observed::Good(Value::Text(Arc::from("Github"))));
    assert_eq!(decode(&swapped(Encoding::F32), &[0x6643, 0x33B3], None), Observed::Good(Value::F32(230.7)));
    let both = Point { word_order: WordOrder::LowFirst, ..swapped(Encoding::F32) };
    assert_eq!(decode(&both, &[0x33B3, 0x6643], None), Observed::Good(Value::F32(230.7)));
    assert_eq!(decode(&swapped(Encoding::Bit(0)), &[0x0100], None), Observed::Good(Value::Bool(true)));
}

#[test]
fn numbers_of_every_other_form_are_read() {
    assert_eq!(good(Encoding::U48, &[1, 2, 3]), Value::Int(0x0001_0002_0003));
    assert_eq!(good(Encoding::I48, &[0xFFFF, 0xFFFF, 0xFFFE]), Value::Int(-2));
    assert_eq!(good(Encoding::F16, &[0x4D33]), Value::F32(20.796_875));
    assert_eq!(good(Encoding::SignMagnitude { registers: 1 }, &[0x84D2]), Value::Int(-1234));
    assert_eq!(good(Encoding::Bcd { registers: 2 }, &[0x0012, 0x3456]), Value::Int(123_456));
    assert_eq!(
        good(Encoding::Modulo10000 { registers: 3, signed: false }, &[12, 3456, 789]),
        Value::Int(1_234_560_789)
    );
    // 0xF6 and 0x12 as the halves of one register.
    assert_eq!(good(Encoding::SignedBits { first: 8, length: 8 }, &[0xF612]), Value::Int(-10));
    assert_eq!(good(Encoding::SignedBits { first: 0, length: 8 }, &[0xF612]), Value::Int(18));
    for (encoding, words) in [
        (Encoding::Bcd { registers: 1 }, &[0x12A4][..]),
        (Encoding::Modulo10000 { registers: 2, signed: false }, &[1, 10_000]),
        (Encoding::F16, &[0x7E00]),
    ] {
        assert_eq!(decode(&point(encoding), words, None), Observed::Bad(Fault::NotANumber), "{encoding:?}");
    }
}

#[test]
fn a_clock_is_seconds_since_1970_and_bad_where_it_is_no_time() {
    let layout = |text| {
        let form = crate::profile::clock::ClockForm::parse(text, true).unwrap();
        Encoding::Clock(crate::profile::clock::ClockLayout { form, offset_min: 0 })
    };
    assert_eq!(good(layout("YM Dh ms"), &[0x2402, 0x2912, 0x3456]), Value::Int(1_709_210_096));
    let low_first = Point { word_order: WordOrder::LowFirst, ..point(layout("unix32")) };
    assert_eq!(decode(&low_first, &[0x79F0, 0x65E0], None), Observed::Good(Value::Int(1_709_210_096)));
    let no_time = decode(&point(layout("YM Dh ms")), &[0x2413, 0x2912, 0x3456], None);
    assert_eq!(no_time, Observed::Bad(Fault::OutOfRange));
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(
        number in -9_999_i64..=9_999, low_word in any::<bool>(), low_byte in any::<bool>(),
    ) {
        use Encoding::{Bcd, F16, F32, F64, I16, I32, I48, I64, Modulo10000, SignMagnitude, SignedBits, U16, U32, U48, U64};
        let encodings = [
            U16, I16, U32, I32, U48, I48, U64, I64, F32, F64, F16,
            SignMagnitude { registers: 1 }, SignMagnitude { registers: 2 },
            Bcd { registers: 1 }, Bcd { registers: 2 }, Bcd { registers: 3 }, Bcd { registers: 4 },
            Modulo10000 { registers: 2, signed: false }, Modulo10000 { registers: 4, signed: true },
            SignedBits { first: 1, length: 15 },
        ];
        for encoding in encodings {
            let mut point = point(encoding);
            point.word_order = if low_word { WordOrder::LowFirst } else { WordOrder::HighFirst };
            point.byte_order = if low_byte { ByteOrder::LowFirst } else { ByteOrder::HighFirst };
            let mut words = vec![0; usize::from(encoding.width())];
            let written = crate::modbus::encode::encode(
                &point, crate::modbus::encode::Quantity::Number(number as f64), None, &mut words,
            );
            if written.is_ok() {
                let read = decode(&point, &words, None).value().and_then(Value::number).unwrap();
                let step = if encoding == F16 { number.abs() as f64 / 2048.0 } else { 0.0 };
                prop_assert!((read - number as f64).abs() <= step, "{encoding:?} {words:x?}: {read}");
            } else {
                prop_assert!(number < 0, "{encoding:?}");
            }
        }
    }
}
