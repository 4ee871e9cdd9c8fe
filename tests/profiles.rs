//! The shipped profiles load, plan and decode as recorded; broken ones are refused with all their faults at once.
//!
//! A new file in `golden/` or a new pair in `fixtures/profiles/` needs no code here.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

#[path = "profiles/golden.rs"]
mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lineside::modbus::{codec, plan};
use lineside::model::{Observed, Scale, Value};
use lineside::profile::identification::VersionSource;
use lineside::profile::text::LineMeaning;
use lineside::profile::{ModbusProfile, Pacing, Point, Profile, Protocol, Table, TextProfile, file, shipped};

const SECOND: Duration = Duration::from_secs(1);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn file_stems(directory: &str, extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(project(directory)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn shipped_profile(id: &str) -> Profile {
    match file::parse(id, id, shipped::text(id).unwrap()) {
        Ok(profile) => profile,
        Err(faults) => panic!("{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>()),
    }
}

#[test]
fn every_profile_is_compiled_in_and_has_a_golden_record() {
    let compiled_in: BTreeSet<String> = shipped::ids().map(str::to_owned).collect();

    assert_eq!(compiled_in, file_stems("firmware-profiles", "toml"));
    assert_eq!(compiled_in, file_stems("tests/golden", "txt"));
}

#[test]
fn the_directory_gives_what_was_compiled_in() {
    for id in shipped::ids() {
        assert_eq!(file::load(&project("firmware-profiles"), id).unwrap(), shipped_profile(id));
    }
}

/// Points of meters are called by what they measure, so that one rule fits all meters.
#[test]
fn units_and_names_agree() {
    let suffixes = [
        ("_l_per_min", "l/min"),
        ("_mm_per_s", "mm/s"),
        ("_in_per_s", "in/s"),
        ("_percent", "%"),
        ("_m_per_s", "m/s"),
        ("_l_per_h", "l/h"),
        ("_mohm", "MΩ"),
        ("_ohm", "Ω"),
        ("_vah", "VAh"),
        ("_ah", "Ah"),
        ("_kvarh", "kvarh"),
        ("_kvar", "kvar"),
        ("_varh", "varh"),
        ("_kva", "kVA"),
        ("_var", "var"),
        ("_kwh", "kWh"),
        ("_deg", "deg"),
        ("_min", "min"),
        ("_rpm", "rpm"),
        ("_kw", "kW"),
        ("_va", "VA"),
        ("_wh", "Wh"),
        ("_hz", "Hz"),
        ("_nm", "Nm"),
        ("_hp", "hp"),
        ("_ma", "mA"),
        ("_v", "V"),
        ("_a", "A"),
        ("_w", "W"),
        ("_c", "°C"),
        ("_f", "°F"),
        ("_k", "K"),
        ("_g", "g"),
        ("_s", "s"),
        ("_h", "h"),
        ("_d", "d"),
        ("", ""),
    ];
    for id in shipped::ids() {
        let named: Vec<(String, String)> = match shipped_profile(id).protocol {
            Protocol::Modbus(modbus) => modbus.points.into_iter().map(|point| (point.name, point.unit)).collect(),
            Protocol::Text(text) => text.points.into_iter().map(|point| (point.name, point.unit)).collect(),
        };
        for (name, unit) in named {
            let suffix = suffixes.iter().find(|(suffix, _)| name.ends_with(suffix)).unwrap();
            assert_eq!(suffix.1, unit, "{id}: {name}");
        }
    }
}

#[test]
fn golden_registers_plan_and_decode_as_recorded() {
    for id in shipped::ids() {
        let golden = fs::read_to_string(project(&format!("tests/golden/{id}.txt"))).unwrap();
        match shipped_profile(id).protocol {
            Protocol::Modbus(modbus) if golden.contains("\nrequest ") => Dump::read(&golden).check(id, &modbus),
            Protocol::Modbus(_) => {}
            Protocol::Text(text) => check_lines(id, &text, &golden),
        }
    }
}

/// Each part of a golden file is a device with one firmware: it is served by the simulator, identified and read by a
/// poller, and every point of the profile must be what the file says.
#[tokio::test]
async fn golden_devices_are_identified_and_read_as_recorded() {
    for id in shipped::ids() {
        let mut profile = shipped_profile(id);
        let Protocol::Modbus(modbus) = &mut profile.protocol else { continue };
        modbus.pacing = Pacing::default();
        let golden = fs::read_to_string(project(&format!("tests/golden/{id}.txt"))).unwrap();
        let parts: Vec<&str> = golden.split("\ndevice ").collect();
        let parts = if parts.len() > 1 { &parts[1..] } else { &parts[..] };
        assert!(parts.len() >= modbus.maps.len(), "{id}: a part for each of {} maps", modbus.maps.len());
        let mut maps = BTreeSet::new();
        let profile = Arc::new(profile);
        for part in parts {
            let dump = Dump::read(part);
            let (read, map) = golden::read(&profile, &dump).await;
            assert_eq!(read, dump.values, "{id}: device {}", part.lines().next().unwrap());
            maps.extend(map);
        }
        let Protocol::Modbus(modbus) = &profile.protocol else { continue };
        if !modbus.models.is_empty() {
            assert!(maps.len() > 1, "{id}: devices with different models");
            continue;
        }
        let all: BTreeSet<String> = modbus.maps.iter().map(|map| map.name.clone()).collect();
        assert_eq!(maps, all, "{id}: each map has a part");
    }
}

/// The table in the README is made of the profiles: this test says what it must be.
#[test]
fn the_readme_lists_every_profile() {
    let mut table = "| Profile | Device | Points | Maps | Recognised by |\n|---|---|---|---|---|\n".to_owned();
    for id in shipped::ids() {
        let profile = shipped_profile(id);
        let (points, maps, marks) = match &profile.protocol {
            Protocol::Modbus(modbus) => (modbus.points.len(), maps_of(modbus), marks_of(modbus)),
            Protocol::Text(text) => (text.points.len(), "lines of text".to_owned(), String::new()),
        };
        table += &format!("| `{id}` | {} {} | {points} | {maps} | {marks} |\n", profile.manufacturer, profile.model);
    }
    let readme = fs::read_to_string(project("README.md")).unwrap();
    assert!(readme.contains(&table), "README.md must have this table:\n{table}");
}

fn maps_of(modbus: &ModbusProfile) -> String {
    if !modbus.models.is_empty() {
        return "as the device lays out its SunSpec models".to_owned();
    }
    let names: Vec<&str> = modbus.maps.iter().skip(1).map(|map| map.name.as_str()).collect();
    if names.is_empty() { "one".to_owned() } else { format!("another {}", names.join("; ")) }
}

/// What shows the model, and where the firmware comes from.
fn marks_of(modbus: &ModbusProfile) -> String {
    let identification = &modbus.identification;
    let model = if identification.models.is_empty() { None } else { Some("model") };
    let firmware = match identification.versions.first() {
        Some(VersionSource::Probe { .. }) => Some("what it refuses"),
        Some(VersionSource::Place(_)) => Some("firmware"),
        None if modbus.needs_firmware() => Some("`firmware` in the configuration"),
        None => None,
    };
    model.into_iter().chain(firmware).collect::<Vec<_>>().join(", ")
}

/// What a golden file of a Modbus device says: requests, registers, values.
#[derive(Default)]
struct Dump {
    requests: Vec<String>,
    /// The firmware that the operator names.
    configured: Option<String>,
    objects: Vec<(u8, String)>,
    registers: BTreeMap<(&'static str, u16), u16>,
    values: BTreeMap<String, String>,
}

impl Dump {
    fn read(golden: &str) -> Self {
        let mut dump = Self::default();
        for line in golden.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(request) = line.strip_prefix("request ") {
                dump.requests.push(request.to_owned());
            } else if let Some(registers) = line.strip_prefix("registers ") {
                dump.read_registers(registers);
            } else if let Some(firmware) = line.strip_prefix("configured ") {
                dump.configured = Some(firmware.to_owned());
            } else if let Some((number, text)) = line.strip_prefix("object ").and_then(|line| line.split_once(' ')) {
                dump.objects.push((number.parse().unwrap(), text.to_owned()));
            } else if let Some((name, value)) = line.split_once(" = ") {
                dump.values.insert(name.to_owned(), value.to_owned());
            }
        }
        dump
    }

    fn read_registers(&mut self, line: &str) {
        let (place, words) = line.split_once(": ").unwrap();
        let (table, address) = place.split_once(' ').unwrap();
        let table = ["coil", "discrete", "holding", "input"].into_iter().find(|known| *known == table).unwrap();
        let first: u16 = address.parse().unwrap();
        for (address, word) in (first..).zip(words.split(' ')) {
            self.registers.insert((table, address), u16::from_str_radix(word, 16).unwrap());
        }
    }

    fn words(&self, point: &Point) -> Vec<u16> {
        let addresses = point.address..=point.address + (point.encoding.width() - 1);
        addresses.map(|address| self.registers[&(table_name(point.table), address)]).collect()
    }

    fn check(&self, id: &str, modbus: &ModbusProfile) {
        let wanted = |point: usize| plan::PlanPoint { point, interval: SECOND };
        let polled: Vec<_> =
            (0..modbus.points.len()).filter(|point| modbus.points[*point].polled).map(wanted).collect();
        let everything: Vec<_> = (0..modbus.points.len()).map(wanted).collect();
        let of_polled = plan::plan(&modbus.points, &polled, &plan::Terms::fewest(modbus.limits)).unwrap();
        let of_everything = plan::plan(&modbus.points, &everything, &plan::Terms::fewest(modbus.limits)).unwrap();

        let requests: Vec<String> = of_polled.groups[0].blocks.iter().map(request).collect();
        assert_eq!(requests, self.requests, "{id}");
        let mut values = BTreeMap::new();
        for block in &of_everything.groups[0].blocks {
            let read =
                |address: u16| self.registers.get(&(table_name(block.table), address)).copied().unwrap_or(0xDEAD);
            let answer: Vec<u16> = (0..block.count).map(|offset| read(block.address + offset)).collect();
            for part in &block.points {
                let point = &modbus.points[part.point];
                let words = &answer[usize::from(part.offset)..][..usize::from(point.encoding.width())];
                let factor = point.scale_factor.map(|factor| {
                    codec::decode_scale_factor(&modbus.points[factor], &self.words(&modbus.points[factor]))
                });
                values.insert(point.name.clone(), show(point, &codec::decode(point, words, factor)));
            }
        }
        assert_eq!(values, self.values, "{id}");
    }
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Coils => "coil",
        Table::DiscreteInputs => "discrete",
        Table::HoldingRegisters => "holding",
        Table::InputRegisters => "input",
        Table::HoldingRegisters32 => "holding32",
        Table::InputRegisters32 => "input32",
    }
}

fn request(block: &plan::Block) -> String {
    format!("{} {} {}", table_name(block.table), block.address, block.count)
}

/// `230.1 V`, `42 (Siemens)`, `"B23"`, `bad: not available`.
fn show(point: &Point, observed: &Observed) -> String {
    let Some(value) = observed.value() else { return observed.quality().to_string() };
    let shown = match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Bool(bit) => bit.to_string(),
        Value::Int(number) if point.states.contains_key(number) => format!("{number} ({})", point.states[number]),
        Value::Uint(number) if point.listed_scale() == Scale::ONE => number.to_string(),
        number => point.listed_scale().apply(number.number().unwrap()).to_string(),
    };
    let unit = if point.unit.is_empty() { String::new() } else { format!(" {}", point.unit) };
    match observed {
        Observed::Uncertain(_, doubt) => format!("{shown}{unit} (uncertain: {doubt})"),
        Observed::Good(_) | Observed::Bad(_) => format!("{shown}{unit}"),
    }
}

/// Pairs of a line of the instrument and, behind `->`, what the profile makes of it.
fn check_lines(id: &str, text: &TextProfile, golden: &str) {
    let lines: Vec<&str> = golden.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(!lines.is_empty());
    for pair in lines.chunks(2) {
        assert_eq!(format!("-> {}", understand(text, pair[0])), pair[1], "{id}: {}", pair[0]);
    }
}

fn understand(text: &TextProfile, line: &str) -> String {
    let Some(pattern) = text.patterns.iter().find(|pattern| pattern.expression.is_match(line)) else {
        return "no match".to_owned();
    };
    let meaning = match pattern.meaning {
        LineMeaning::Good => "good",
        LineMeaning::Unstable => "unstable",
        LineMeaning::DeviceFault => "device_fault",
        LineMeaning::NotAvailable => "not_available",
        LineMeaning::Ignore => "ignore",
    };
    let found = pattern.expression.captures(line).unwrap();
    let groups = pattern.expression.capture_names().flatten();
    groups.fold(meaning.to_owned(), |shown, name| format!("{shown} {name}={}", &found[name]))
}

#[test]
fn a_pattern_speaks_about_the_points_it_names_and_a_bare_fault_about_all() {
    let Protocol::Text(nmea) = shipped_profile("generic-nmea0183").protocol else { panic!("speaks text") };
    let Protocol::Text(scale) = shipped_profile("mettler-mt-sics").protocol else { panic!("speaks text") };
    let of_nmea: Vec<Vec<usize>> = nmea.patterns.iter().map(|pattern| nmea.points_of(pattern)).collect();
    let of_scale: Vec<Vec<usize>> = scale.patterns.iter().map(|pattern| scale.points_of(pattern)).collect();

    assert_eq!(of_nmea, [vec![0, 1], vec![0, 1], vec![2], vec![2], vec![]]);
    assert_eq!(of_scale, [[0], [0], [0], [0], [0]]);
}

#[test]
fn broken_profiles_are_refused_with_all_faults_at_once() {
    let cases = file_stems("tests/fixtures/profiles", "toml");
    assert!(!cases.is_empty());
    for case in cases {
        let text = fs::read_to_string(project(&format!("tests/fixtures/profiles/{case}.toml"))).unwrap();
        let expected = fs::read_to_string(project(&format!("tests/fixtures/profiles/{case}.error.txt"))).unwrap();

        let faults = file::parse(&format!("{case}.toml"), &case, &text).unwrap_err();

        let shown: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        assert_eq!(shown, expected, "{case}");
    }
}

#[test]
fn all_that_a_point_can_say_is_read() {
    let text = fs::read_to_string(project("tests/fixtures/everything.toml")).unwrap();

    let profile = file::parse("everything.toml", "everything", &text).unwrap();

    let Protocol::Modbus(modbus) = profile.protocol else { panic!("speaks Modbus") };
    let mut shown = format!("{:?}\n{:?}\n", modbus.limits, modbus.pacing);
    modbus.points.iter().for_each(|point| shown += &format!("{point:?}\n"));
    let expected = fs::read_to_string(project("tests/fixtures/everything.expected.txt")).unwrap();
    assert_eq!(shown, expected);
}
