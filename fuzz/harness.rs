//! What is done with bytes from outside: by the fuzz targets, and by the test that replays their corpus.
//!
//! None of these may panic, hang, or take memory without bound, whatever the bytes are.

use lineside::modbus::frame::{self, ReadRequest};
use lineside::modbus::objects::{self, ObjectsRequest};
use lineside::modbus::trace::{FrameLog, Traced};
use lineside::model::UnitId;
use lineside::profile::Table;

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
    let _ = frame::rtu_progress(&request, received);
    if frame::take_rtu(&request, received, &mut words).is_ok() {
        assert_eq!(words.len(), usize::from(request.count), "an answer gives what was asked for");
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
    if let Ok((unit, pdu)) = objects::rtu_parts(received) {
        let _ = asked.take_answer(unit, pdu);
    }
    for is_tcp in [false, true] {
        let mut log = FrameLog::new(is_tcp);
        let mut shown = log.add(Traced::Sent(&request.to_rtu())).len();
        shown += received.chunks(7).map(|chunk| log.add(Traced::Received(chunk)).len()).sum::<usize>();
        shown += log.finish().len();
        assert!(shown <= received.len() + 1, "no line without bytes");
    }
}

/// A profile file.
pub fn profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(faults) = lineside::profile::file::parse("fuzz.toml", "fuzz", text) {
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
