//! What is done with bytes from outside: by the fuzz targets, and by the test that replays their corpus.
//!
//! None of these may panic, hang, or take memory without bound, whatever the bytes are.

use std::sync::LazyLock;

use lineside::commands::verb::Verb;
use lineside::commands::{desired as configuration, order};
use lineside::config::RemoteConfig;
use lineside::instrument::frame::{Frame, LineCutter};
use lineside::instrument::pattern::{LineReader, LineReading};
use lineside::modbus::frame::{self, ReadRequest};
use lineside::modbus::mbap;
use lineside::modbus::objects::{self, ObjectsRequest};
use lineside::modbus::rtu::{self, Progress, STRAY_MAX, Shape};
use lineside::modbus::trace::{FrameLog, Traced};
use lineside::model::UnitId;
use lineside::profile::{Profile, Protocol, Table, TextProfile, file, shipped};

/// The answer to some request: the first four bytes say to which one.
pub fn frames(bytes: &[u8]) {
    let [unit, table, count, object, received @ ..] = bytes else { return };
    let table = match table % 4 {
        0 => Table::Coils,
        1 => Table::DiscreteInputs,
        2 => Table::HoldingRegisters,
        _ => Table::InputRegisters,
    };
    let Ok(unit) = UnitId::tcp(i64::from(*unit)) else { return };
    let request = ReadRequest { unit, table, address: u16::from(*object), count: u16::from(*count % 125) + 1 };
    let mut words = Vec::new();
    let (unit_id, function, sent) = (unit.get(), request.table.read_function(), request.to_rtu());
    let shape = Shape::Data(request.data_bytes());
    let awaited = rtu::Awaited { unit: unit_id, function, echo: Some(&sent), shape, behind_max: STRAY_MAX };
    let _ = awaited.failed(received);
    if let Progress::Whole { start, end } = awaited.progress(received) {
        let pdu = &received[start + 1..end - 2];
        if request.take_answer(received[start], pdu, &mut words).is_ok() {
            assert_eq!(words.len(), usize::from(request.count), "an answer gives what was asked for");
        }
    }
    let objects = rtu::Awaited { function: objects::FUNCTION, shape: Shape::Objects, ..awaited };
    let _ = (objects.progress(received), objects.failed(received));
    let data_bytes = Some(request.data_bytes());
    for transaction in [None, Some(u16::from(*object))] {
        let missing = [1, 2];
        let awaited = mbap::Awaited { transaction, missing: &missing, unit: Some(unit_id), function, data_bytes };
        let _ = (awaited.step(received), awaited.failed(received), mbap::overdue(received, &missing));
    }
    if let Some(found) = frame::split_rtu(received) {
        assert!(found.length <= received.len(), "a frame ends where its bytes do");
    }
    let mut stream = received;
    while let Ok(Some(found)) = frame::split_tcp(stream) {
        let _ = request.take_answer(found.unit, found.pdu, &mut words);
        stream = &stream[found.length..];
    }
    let asked = ObjectsRequest { unit, code: 1 + count % 4, object: *object };
    let _ = asked.take_answer(unit.get(), received);
    for is_tcp in [false, true] {
        let mut log = FrameLog::new(is_tcp);
        let mut shown = log.add(Traced::Sent(&request.to_rtu())).len();
        shown += received.chunks(7).map(|chunk| log.add(Traced::Received(chunk)).len()).sum::<usize>();
        shown += log.finish().len();
        assert!(shown <= received.len() + 1, "no line without bytes");
    }
}

/// What a text instrument sends: the first byte says to which of the shipped profiles, the second how it is cut up.
pub fn lines(bytes: &[u8]) {
    static INSTRUMENTS: LazyLock<Vec<(TextProfile, LineReader)>> = LazyLock::new(instruments);
    let [which, piece, received @ ..] = bytes else { return };
    let (profile, reader) = &INSTRUMENTS[usize::from(*which) % INSTRUMENTS.len()];
    let mut cutter = LineCutter::new(&profile.frame_end, profile.frame_max);
    for mut piece in received.chunks(1 + usize::from(*piece)) {
        while let Some(frame) = cutter.take(&mut piece) {
            let Frame::Line(line) = frame else { continue };
            assert!(!line.is_empty() && line.len() <= profile.frame_max, "a line of {}", line.len());
            if let LineReading::Points { pattern, observed } = reader.read(line) {
                assert_eq!(observed.len(), reader.points(pattern).len(), "as many readings as points");
            }
        }
    }
}

fn instruments() -> Vec<(TextProfile, LineReader)> {
    let shipped = shipped::ids().filter_map(|id| file::parse(id, id, shipped::text(id)?).ok());
    let text = |profile: Profile| match profile.protocol {
        Protocol::Text(text) => {
            let reader = LineReader::new(&text);
            Some((text, reader))
        }
        Protocol::Modbus(_) => None,
    };
    shipped.filter_map(text).collect()
}

/// A profile file.
pub fn profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(faults) = file::parse("fuzz.toml", "fuzz", text) {
        assert!(!faults.is_empty(), "what is refused has a reason");
        faults.iter().for_each(|fault| drop(fault.to_string()));
    }
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = lineside::config::parse(text, "fuzz.toml", "/nonexistent".as_ref()) {
        assert!(!error.faults.is_empty(), "what is refused has a reason");
        drop(error.to_string());
    }
}

/// A file of rules.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(faults) = lineside::rules::file::parse(text, "fuzz.yml") {
        assert!(!faults.is_empty(), "what is refused has a reason");
        faults.iter().for_each(|fault| drop(fault.to_string()));
    }
}

/// What arrives as a command. True when it is one.
pub fn is_command(bytes: &[u8]) -> bool {
    let read = order::parse(bytes, "7").map(|(_, order)| Verb::parse(&order.command, &order.arguments));
    matches!(read, Ok(Ok(_)))
}

/// What arrives as a command.
pub fn command(bytes: &[u8]) {
    is_command(bytes);
}

/// What arrives as a configuration: nobody's key is known here, so nothing is genuine.
pub fn desired(bytes: &[u8]) {
    let read = configuration::verify(&RemoteConfig::default(), "lyon/gw-01", bytes);
    let refusal = read.expect_err("without keys nothing is genuine");
    drop(refusal.refusal.to_string());
}

/// Any payload, as `lineside decode` takes it.
pub fn payload(bytes: &[u8]) {
    if let Err(error) = lineside::encoding::decode_any(bytes) {
        assert!(!error.to_string().contains('\n'), "one line says what is wrong");
    }
}
