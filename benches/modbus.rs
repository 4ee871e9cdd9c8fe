//! Planning and decoding of Modbus reads: `cargo bench --bench modbus`.

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use lineside::modbus::{codec, plan};
use lineside::profile::{ModbusProfile, Protocol, file, shipped};

fn main() {
    divan::main();
}

fn profile(id: &str) -> ModbusProfile {
    let text = shipped::text(id).expect("a shipped profile");
    match file::parse(id, id, text).expect("a shipped profile is valid").protocol {
        Protocol::Modbus(modbus) => modbus,
        Protocol::Text(_) => unreachable!("the benchmarks name Modbus profiles only"),
    }
}

fn everything(modbus: &ModbusProfile) -> Vec<plan::PlanPoint> {
    let interval = Duration::from_secs(1);
    (0..modbus.points.len()).map(|point| plan::PlanPoint { point, interval }).collect()
}

/// All points of one device, as at start-up.
#[divan::bench(args = ["eastron-sdm630", "abb-b23", "banner-qm42vt2"])]
fn plan_a_device(bencher: Bencher<'_, '_>, id: &str) {
    let modbus = profile(id);
    let wanted = everything(&modbus);

    bencher
        .counter(ItemsCount::new(wanted.len()))
        .bench(|| plan::plan(black_box(&modbus.points), black_box(&wanted), &plan::Terms::fewest(modbus.limits)));
}

/// One answer of the device to each of its requests: floats, scaled integers with sentinels, short integers.
#[divan::bench(args = ["eastron-sdm630", "abb-b23", "banner-qm42vt2"])]
fn decode_a_device(bencher: Bencher<'_, '_>, id: &str) {
    let modbus = profile(id);
    let wanted: Vec<_> = everything(&modbus).into_iter().filter(|wanted| modbus.points[wanted.point].polled).collect();
    let plan = plan::plan(&modbus.points, &wanted, &plan::Terms::fewest(modbus.limits))
        .expect("a shipped profile can be planned");
    let answer: Vec<u16> = (0..125).map(|word| 0x4366 ^ (word * 37)).collect();

    bencher.counter(ItemsCount::new(wanted.len())).bench(|| {
        for block in plan.groups.iter().flat_map(|group| &group.blocks) {
            for part in &block.points {
                let point = &modbus.points[part.point];
                let words = &answer[usize::from(part.offset)..][..usize::from(point.encoding.width())];
                black_box(codec::decode(point, black_box(words), None));
            }
        }
    });
}

/// Reading a profile file, as at start-up and on reload.
#[divan::bench(args = ["eastron-sdm630", "mettler-mt-sics"])]
fn read_a_profile(id: &str) {
    let text = shipped::text(id).expect("a shipped profile");
    black_box(file::parse(id, id, black_box(text)).expect("a shipped profile is valid"));
}
