//! Lines as instruments send them, and lines as nobody should.

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::model::Scale;

fn point(name: &str, kind: ValueKind) -> TextPoint {
    TextPoint { name: name.to_owned(), kind, scale: Scale::ONE, unit: String::new(), unit_group: None, range: None }
}

fn pattern(expression: &str, meaning: LineMeaning) -> LinePattern {
    LinePattern { expression: Regex::new(expression).unwrap(), meaning }
}

fn profile(checksum: Checksum, patterns: Vec<LinePattern>, points: Vec<TextPoint>) -> TextProfile {
    TextProfile { ask: None, frame_end: b"\r\n".to_vec(), frame_max: 80, checksum, patterns, points, interval: None }
}

fn scale() -> LineReader {
    let weight = TextPoint {
        unit: "g".to_owned(),
        unit_group: Some(("unit".to_owned(), "g".to_owned())),
        range: Some((-100.0, 3200.0)),
        ..point("weight_g", ValueKind::F64)
    };
    let value = r"\s+(?<weight_g>[-+]?\s*\S+)\s+(?<unit>\S+)$";
    let patterns = vec![
        pattern(&format!("^S S{value}"), LineMeaning::Good),
        pattern(&format!("^S D{value}"), LineMeaning::Unstable),
        pattern(r"^S [+-]$", LineMeaning::DeviceFault),
        pattern(r"^S I$", LineMeaning::NotAvailable),
        pattern(r"^I4 A", LineMeaning::Ignore),
    ];
    LineReader::new(&profile(Checksum::None, patterns, vec![weight]))
}

fn single(reader: &LineReader, line: &str) -> Observed {
    match reader.read(line.as_bytes()) {
        LineReading::Points { observed, .. } => {
            assert_eq!(observed.len(), 1, "{line}");
            observed[0].clone()
        }
        other => panic!("{line}: {other:?}"),
    }
}

fn number(text: &str, kind: ValueKind) -> Result<Value, Fault> {
    parse(text, kind)
}

#[test]
fn a_scale_says_stable_moving_overload_and_busy() {
    let scale = scale();
    assert_eq!(single(&scale, "S S     100.00 g"), Observed::Good(Value::F64(100.0)));
    assert_eq!(single(&scale, "S S      -2.50 g"), Observed::Good(Value::F64(-2.5)));
    assert_eq!(single(&scale, "S S -     2.50 g"), Observed::Good(Value::F64(-2.5)));
    assert_eq!(single(&scale, "S D      99.87 g"), Observed::Uncertain(Value::F64(99.87), Doubt::Unstable));
    assert_eq!(single(&scale, "S +"), Observed::Bad(Fault::DeviceFault));
    assert_eq!(single(&scale, "S -"), Observed::Bad(Fault::DeviceFault));
    assert_eq!(single(&scale, "S I"), Observed::Bad(Fault::NotAvailable));
    assert_eq!(scale.read(b"I4 A \"0123456789\""), LineReading::Ignored);
    assert_eq!(scale.read(b"ES"), LineReading::NoMatch);
}

#[test]
fn a_scale_that_was_switched_to_another_unit_gives_no_value() {
    assert_eq!(single(&scale(), "S S      0.100 kg"), Observed::Bad(Fault::NoMatch));
}

#[test]
fn a_value_outside_its_range_is_bad() {
    assert_eq!(single(&scale(), "S S    3200.00 g"), Observed::Good(Value::F64(3200.0)));
    assert_eq!(single(&scale(), "S S    3200.01 g"), Observed::Bad(Fault::OutOfRange));
}

#[test]
fn a_range_is_in_engineering_units() {
    let speed = TextPoint { scale: Scale::new(0.1, 0.0), range: Some((0.0, 10.0)), ..point("speed", ValueKind::Int) };
    let reader =
        LineReader::new(&profile(Checksum::None, vec![pattern("^(?<speed>.*)$", LineMeaning::Good)], vec![speed]));
    assert_eq!(single(&reader, "100"), Observed::Good(Value::Int(100)));
    assert_eq!(single(&reader, "101"), Observed::Bad(Fault::OutOfRange));
}

#[test]
fn an_unreadable_number_is_not_a_number() {
    assert_eq!(single(&scale(), "S S    ------ g"), Observed::Bad(Fault::NotANumber));
    let bad =
        ["", "inf", "NaN", "1,5", "1_000", "0x10", "--1", "+-1", "1e", "e5", ".", "1e999", "1.2.3", "١", "1 2", "-"];
    for text in bad {
        assert_eq!(number(text, ValueKind::F64), Err(Fault::NotANumber), "{text}");
    }
    for (text, value) in [("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("+ 007.50", 7.5), ("-1.5E-3", -0.0015)] {
        assert_eq!(number(text, ValueKind::F64), Ok(Value::F64(value)), "{text}");
    }
    assert_eq!(number("1e39", ValueKind::F32), Err(Fault::NotANumber));
}

#[test]
fn whole_numbers_do_not_wrap() {
    assert_eq!(number("-9223372036854775808", ValueKind::Int), Ok(Value::Int(i64::MIN)));
    assert_eq!(number("9223372036854775808", ValueKind::Int), Err(Fault::OutOfRange));
    assert_eq!(number(&"9".repeat(60), ValueKind::Int), Err(Fault::OutOfRange));
    assert_eq!(number("-1", ValueKind::Uint), Err(Fault::OutOfRange));
    assert_eq!(number("12.0", ValueKind::Int), Err(Fault::NotANumber));
}

#[test]
fn an_empty_field_is_not_available_and_a_missing_one_too() {
    let points = vec![point("speed_kn", ValueKind::F64), point("mode", ValueKind::Text)];
    let expression = r"^\$VTG,(?<speed_kn>[^,]*)(,(?<mode>\w))?\*\w\w$";
    let reader = LineReader::new(&profile(Checksum::None, vec![pattern(expression, LineMeaning::Good)], points));
    let LineReading::Points { observed, .. } = reader.read(b"$VTG,*00") else { panic!("must match") };
    assert_eq!(observed, [Observed::Bad(Fault::NotAvailable), Observed::Bad(Fault::NotAvailable)]);
}

fn stream() -> LineReader {
    let points = vec![point("depth_m", ValueKind::F64), point("heading_deg", ValueKind::F64)];
    let patterns = vec![
        pattern(r"^\$\w\wDPT,(?<depth_m>[^,]*),", LineMeaning::Good),
        pattern(r"^\$\w\wHDT,(?<heading_deg>[^,]*),T", LineMeaning::Good),
        pattern(r"^\$\w\wGSV,", LineMeaning::Ignore),
    ];
    LineReader::new(&profile(Checksum::Nmea, patterns, points))
}

#[test]
fn each_sentence_fills_its_own_points() {
    let stream = stream();
    assert_eq!(stream.points(0), [0]);
    assert_eq!(stream.points(1), [1]);
    let heading = LineReading::Points { pattern: 1, observed: vec![Observed::Good(Value::F64(274.07))] };
    assert_eq!(stream.read(b"$HEHDT,274.07,T*19"), heading);
}

#[test]
fn a_damaged_sentence_names_its_points_where_it_can() {
    let stream = stream();
    assert_eq!(stream.read(b"$HEHDT,274.17,T*19"), LineReading::BadChecksum { pattern: Some(1) });
    assert_eq!(stream.read(b"$HEH?T,274.07,T*19"), LineReading::BadChecksum { pattern: None });
    assert_eq!(stream.read(b"$GPGSV,1,1,00*00"), LineReading::BadChecksum { pattern: None });
}

#[test]
fn noise_does_not_become_text() {
    let reader = LineReader::new(&profile(
        Checksum::None,
        vec![pattern("^T (?<text>.*)$", LineMeaning::Good)],
        vec![point("text", ValueKind::Text)],
    ));
    let read = |line: &[u8]| reader.read(line);
    let one = |observed| LineReading::Points { pattern: 0, observed: vec![observed] };
    assert_eq!(read(b"T lot 7 "), one(Observed::Good(Value::Text("lot 7".into()))));
    assert_eq!(read(b"T lot \xff"), one(Observed::Bad(Fault::Garbage)));
    assert_eq!(read(b"T lo\x02t"), one(Observed::Bad(Fault::Garbage)));
}

#[test]
fn no_bytes_upset_a_reader() {
    let (scale, stream) = (scale(), stream());
    proptest!(|(bytes in any::<Vec<u8>>(), tail in "[-+0-9.eE ]{0,40}")| {
        for start in [&b""[..], b"S S ", b"S D ", b"$GPDPT,", b"$HEHDT,"] {
            let line = [start, tail.as_bytes(), &bytes[..], b" g"].concat();
            scale.read(&line);
            stream.read(&line);
        }
    });
}

#[test]
fn what_a_scale_prints_is_what_is_read() {
    let scale = scale();
    proptest!(|(hundredths in -10_000i64..320_000)| {
        let grams = hundredths as f64 / 100.0;
        let line = format!("S S {grams:>10.2} g");
        prop_assert_eq!(single(&scale, &line), Observed::Good(Value::F64(grams)));
    });
}
