use super::*;
use crate::profile::{Encoding, Registers};

const LIMITS: ReadLimits = ReadLimits { registers: 10, bits: 16, gap: 0 };

fn point(name: &str, table: Table, address: u16, encoding: Encoding) -> Point {
    Point::plain(name, table, address, encoding)
}

fn meter() -> Device {
    let mut watts = point("power_w", Table::InputRegisters, 4, Encoding::I16);
    watts.scale_factor = Some(1);
    let mut points = vec![
        watts,
        point("factor", Table::InputRegisters, 5, Encoding::I16),
        point("long", Table::HoldingRegisters, 100, Encoding::Text { registers: 20 }),
    ];
    points.extend((0..10).map(|address| point(&format!("coil_{address}"), Table::Coils, address, Encoding::Bit(0))));
    Device::new(1, points, LIMITS)
}

fn ask(device: &mut Device, request: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let _kind = device.answer(request, &mut answer);
    answer
}

#[test]
fn a_value_set_by_name_is_read_from_its_registers() {
    let mut device = meter();

    device.set("factor", Quantity::Number(2.0)).unwrap();
    device.set("power_w", Quantity::Number(-4200.0)).unwrap();

    assert_eq!(ask(&mut device, &[4, 0, 4, 0, 2]), [4, 4, 0xff, 0xd6, 0, 2]);
}

#[test]
fn bits_are_packed_with_the_lowest_address_in_the_lowest_bit() {
    let mut device = meter();
    for coil in ["coil_0", "coil_3", "coil_9"] {
        device.set(coil, Quantity::Number(1.0)).unwrap();
    }
    assert_eq!(ask(&mut device, &[1, 0, 0, 0, 10]), [1, 2, 0b1001, 0b10]);
}

#[test]
fn what_a_device_does_not_have_or_allow_is_an_exception() {
    let mut device = meter();

    assert_eq!(ask(&mut device, &[4, 0, 4, 0, 3]), [0x84, ILLEGAL_DATA_ADDRESS]);
    assert_eq!(ask(&mut device, &[3, 0, 4, 0, 1]), [0x83, ILLEGAL_DATA_ADDRESS]);
    assert_eq!(ask(&mut device, &[3, 0, 100, 0, 11]), [0x83, ILLEGAL_DATA_VALUE]);
    assert_eq!(ask(&mut device, &[3, 0, 100, 0, 0]), [0x83, ILLEGAL_DATA_VALUE]);
    assert_eq!(ask(&mut device, &[3, 0]), [0x83, ILLEGAL_DATA_VALUE]);
    assert_eq!(ask(&mut device, &[0x2b, 14, 1, 0]), [0xab, ILLEGAL_FUNCTION]);
}

#[test]
fn registers_that_belong_together_are_refused_in_part() {
    let mut first = point("first", Table::HoldingRegisters, 10, Encoding::U16);
    first.read_whole = Some(Registers { address: 10, count: 4 });
    let mut device = Device::new(1, vec![first, point("before", Table::HoldingRegisters, 9, Encoding::U16)], LIMITS);

    assert_eq!(ask(&mut device, &[3, 0, 10, 0, 4])[..2], [3, 8]);
    assert_eq!(ask(&mut device, &[3, 0, 9, 0, 5])[..2], [3, 10]);
    assert_eq!(ask(&mut device, &[3, 0, 10, 0, 1]), [0x83, ILLEGAL_DATA_ADDRESS]);
    assert_eq!(ask(&mut device, &[3, 0, 11, 0, 3]), [0x83, ILLEGAL_DATA_ADDRESS]);
    assert_eq!(ask(&mut device, &[3, 0, 9, 0, 1])[..2], [3, 2]);
}

#[test]
fn what_was_written_is_read_back() {
    let mut device = meter();

    assert_eq!(ask(&mut device, &[6, 0, 100, 0x12, 0x34]), [6, 0, 100, 0x12, 0x34]);
    assert_eq!(ask(&mut device, &[16, 0, 101, 0, 2, 4, 0, 7, 0, 8]), [16, 0, 101, 0, 2]);
    assert_eq!(ask(&mut device, &[5, 0, 2, 0xff, 0]), [5, 0, 2, 0xff, 0]);
    assert_eq!(ask(&mut device, &[15, 0, 4, 0, 3, 1, 0b101]), [15, 0, 4, 0, 3]);

    assert_eq!(ask(&mut device, &[3, 0, 100, 0, 3]), [3, 6, 0x12, 0x34, 0, 7, 0, 8]);
    assert_eq!(ask(&mut device, &[1, 0, 0, 0, 8]), [1, 1, 0b101_0100]);
    assert_eq!(ask(&mut device, &[5, 0, 2, 1, 0]), [0x85, ILLEGAL_DATA_VALUE]);
    assert_eq!(ask(&mut device, &[16, 0, 101, 0, 2, 4, 0, 7, 0]), [0x90, ILLEGAL_DATA_VALUE]);
}

#[test]
fn a_counter_of_requests_gives_each_answer_its_own_number() {
    let mut device = meter().moving(vec![(Some(1), Course::Requests)], Duration::ZERO, 1).unwrap();
    let numbers: Vec<u8> = (1..=4)
        .map(|millis| {
            device.advance(Duration::from_millis(millis));
            ask(&mut device, &[4, 0, 5, 0, 1])[3]
        })
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn registers_are_renewed_no_faster_than_the_device_measures() {
    let walk = Course::Walk { mean: 0.0, spread: 1000.0, memory: Duration::from_secs(1) };
    let mut device = meter().moving(vec![(Some(1), walk)], Duration::from_millis(100), 1).unwrap();
    let mut read_at = |millis| {
        device.advance(Duration::from_millis(millis));
        ask(&mut device, &[4, 0, 5, 0, 1])
    };

    let first = read_at(100);
    assert_eq!(read_at(150), first);
    assert_ne!(read_at(200), first);
}

#[test]
fn a_name_or_a_value_that_does_not_fit_is_refused() {
    let mut device = meter();
    assert!(matches!(device.set("pressure", Quantity::Number(1.0)), Err(SimulatorError::NoSuchPoint { .. })));
    assert!(matches!(device.set("factor", Quantity::Number(1e6)), Err(SimulatorError::CannotShow { .. })));
}

#[test]
fn bits_are_written_by_mask_and_registers_while_they_are_read() {
    let mut device = Device::of_registers(1, [(Table::HoldingRegisters, 4, &[0x0012, 7][..])]);
    // The example of the specification.
    assert_eq!(ask(&mut device, &[22, 0, 4, 0, 0xF2, 0, 0x25]), [22, 0, 4, 0, 0xF2, 0, 0x25]);
    assert_eq!(ask(&mut device, &[3, 0, 4, 0, 1]), [3, 2, 0, 0x17]);
    assert_eq!(ask(&mut device, &[23, 0, 4, 0, 2, 0, 5, 0, 1, 2, 1, 2]), [23, 4, 0, 0x17, 1, 2]);
    assert_eq!(ask(&mut device, &[22, 0, 9, 0, 0xF2, 0, 0x25]), [0x96, ILLEGAL_DATA_ADDRESS]);
}

#[test]
fn registers_of_32_bits_have_four_data_bytes_each() {
    let mut device = Device::new(1, vec![point("total", Table::HoldingRegisters32, 5001, Encoding::U32)], LIMITS);
    device.set("total", Quantity::Number(65_538.0)).unwrap();

    assert_eq!(ask(&mut device, &[3, 0x13, 0x89, 0, 1]), [3, 4, 0, 1, 0, 2]);
}

#[test]
fn scattered_registers_are_where_the_point_says() {
    let mut total = point("total", Table::HoldingRegisters, 10, Encoding::U32);
    total.scattered = [10, 20].into();
    let mut device = Device::new(1, vec![total], LIMITS);
    device.set("total", Quantity::Number(65_538.0)).unwrap();

    assert_eq!(ask(&mut device, &[3, 0, 10, 0, 1]), [3, 2, 0, 1]);
    assert_eq!(ask(&mut device, &[3, 0, 20, 0, 1]), [3, 2, 0, 2]);
}
