//! The one-page decoder in `deploy/` reads what the agent encodes, with code generated from the published schema.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lineside::encoding::{Batch, BatchHeader, Order, Withheld, columnar};
use lineside::model::{
    Aggregate, BootId, ClockOffset, ClockOffsets, ClockState, Commit, CommitHeader, Doubt, Epoch, Fault, Gap,
    GapReason, Lane, Name, Observed, Records, Replaced, Row, Sequence, SeriesId, Summary, Thinned, Timestamp, Value,
    Window,
};
use serde_json::{Value as Json, json};

/// A Python with the packages of `deploy/decode.py`.
fn python() -> PathBuf {
    let chosen = std::env::var_os("LINESIDE_TEST_PYTHON").map(PathBuf::from);
    let python =
        chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python").to_path_buf());
    assert!(
        python.exists(),
        "{} is missing: tests/run installs it, or set LINESIDE_TEST_PYTHON to a Python with zstandard, protobuf, \
         pcodec, numpy and grpcio-tools",
        python.display()
    );
    python
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The decoder, ready to run on these payloads; the folder holds them and the code generated from the schema.
fn decoder(payloads: &[Vec<u8>]) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut generator = Command::new(python());
    generator.args(["-m", "grpc_tools.protoc", "--python_out"]).arg(folder.path());
    run(generator.arg("-I").arg(deploy("")).arg(deploy("lineside.proto")));

    let mut decoder = Command::new(python());
    decoder.arg(deploy("decode.py")).env("PYTHONPATH", folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    for (number, payload) in payloads.iter().enumerate() {
        let path = folder.path().join(format!("{number}.batch"));
        std::fs::write(&path, payload).expect("a file");
        decoder.arg(path);
    }
    (decoder, folder)
}

/// What the decoder prints for these payloads, in order of sequence and index.
fn decoded_by_python(payloads: &[Vec<u8>]) -> Vec<Json> {
    let (mut decoder, _folder) = decoder(payloads);
    let lines = run(&mut decoder);
    let mut readings: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    readings.sort_by_key(|reading| (reading["sequence"].as_u64(), reading["index"].as_u64()));
    readings
}

fn decoded_here(payloads: &[Vec<u8>]) -> Vec<Json> {
    let batches = payloads.iter().map(|payload| columnar::decode(payload).expect("a payload"));
    let readings = batches.flat_map(|batch| batch.readings).map(|reading| {
        json!({
            "sequence": reading.sequence.0,
            "index": reading.index,
            "series": reading.series.0,
            "time_ms": reading.time.0,
            "value": reading.observed.value().map(plain),
            "quality": reading.observed.quality().code(),
        })
    });
    readings.collect()
}

/// What the Python decoder makes of aggregates.
fn aggregates_here(payload: &[u8]) -> Vec<Json> {
    let thinned = columnar::decode(payload).expect("a payload").thinned;
    let all = thinned.iter().flat_map(|it| it.aggregates.iter().map(move |(index, aggregate)| (it, index, aggregate)));
    let shown = all.map(|(it, index, aggregate)| {
        let mut value = json!({
            "window_s": it.window.seconds(),
            "count": aggregate.count,
            "bad": aggregate.bad,
            "last_time_ms": aggregate.last_time.0,
        });
        let fields = value.as_object_mut().unwrap();
        match &aggregate.summary {
            Summary::Nothing => {}
            Summary::Text(text) => drop(fields.insert("last".into(), json!(**text))),
            Summary::Numbers { min, max, mean, last } => {
                for (key, number) in [("min", min), ("max", max), ("mean", mean), ("last", last)] {
                    fields.insert(key.into(), json!(number));
                }
            }
        }
        json!({
            "sequence": it.sequence.0,
            "index": index,
            "series": aggregate.series.0,
            "time_ms": aggregate.start.0,
            "value": value,
            "quality": null,
        })
    });
    shown.collect()
}

fn thinned() -> Batch {
    let aggregate = |series, minute: i64, summary| {
        let start = Timestamp(1_763_877_600_000 + 60_000 * minute);
        let (count, bad, last_time) = (59, 1, Timestamp(start.0 + 59_250));
        Aggregate { series: SeriesId(series), start, count, bad, last_time, summary }
    };
    let aggregates = vec![
        aggregate(3, 0, Summary::numbers(229.4, 231.5, 230.123, 230.0)),
        aggregate(3, 1, Summary::numbers(-7.0, 1e9, 12.5, 5.0)),
        aggregate(5, 0, Summary::Text("running".into())),
        aggregate(8, 0, Summary::Nothing),
    ];
    let replaces = vec![Replaced { first: Sequence(10), last: Sequence(90), readings: 240 }];
    let records = Records::Thinned(Thinned { window: Window::Minute, replaces, aggregates });
    Batch { header: header(), commits: vec![commit(100, records)], withheld: Withheld::default() }
}

#[test]
fn the_python_decoder_reads_aggregates_whole_and_in_parts() {
    let (first, second) = thinned().halves().unwrap();
    for batch in [thinned(), first, second] {
        let payload = columnar::encode(&batch).unwrap();

        let python = decoded_by_python(std::slice::from_ref(&payload));

        let here = aggregates_here(&payload);
        assert_eq!(python.len(), here.len());
        for (mut python, mut here) in python.into_iter().zip(here) {
            let mean = |of: &mut Json| of["value"].as_object_mut().unwrap().remove("mean").and_then(|it| it.as_f64());
            let means = mean(&mut python).zip(mean(&mut here));
            assert!(means.is_none_or(|(a, b)| (a - b).abs() <= 1e-15 * b.abs()), "{means:?}");
            for key in ["min", "max", "last"] {
                let number = |of: &Json| of["value"][key].as_f64();
                assert_eq!(number(&python), number(&here));
            }
            assert_eq!(python["value"]["count"], here["value"]["count"]);
            assert_eq!(python["value"]["last_time_ms"], here["value"]["last_time_ms"]);
            assert_eq!((&python["index"], &python["time_ms"]), (&here["index"], &here["time_ms"]));
        }
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Int(number) => json!(number),
        Value::Uint(number) => json!(number),
        Value::Bool(bit) => json!(bit),
        Value::Text(text) => json!(**text),
        Value::F32(_) | Value::F64(_) => json!(value.number()),
    }
}

/// The parser of JSON may be off by the last bit of a double.
fn agree(python: &Json, here: &Json) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-15 * b.abs();
    let keys = ["sequence", "index", "series", "time_ms", "quality"];
    let numbers = (python["value"].as_f64(), here["value"].as_f64());
    let same_value = python["value"] == here["value"]
        || here["value"].is_f64() && matches!(numbers, (Some(a), Some(b)) if near(a, b));
    keys.iter().all(|key| python[key] == here[key]) && same_value
}

fn header() -> BatchHeader {
    BatchHeader {
        site: Name::new("lyon").expect("a name"),
        gateway: Name::new("gw-01").expect("a name"),
        epoch: Epoch([0x5f; 16]),
        lane: Lane::Telemetry,
        first: Sequence(1),
        last: Sequence(1_000_000),
        oldest_undelivered: Sequence(1),
        order: Order::Backlog,
        part: None,
    }
}

fn commit(sequence: u64, records: Records) -> Commit {
    let boot = BootId([(sequence / 40) as u8; 16]);
    let clock = ClockState::Synchronised;
    let header = CommitHeader {
        epoch: Epoch([0x5f; 16]),
        sequence: Sequence(sequence),
        boot,
        clock,
        wall_minus_monotonic_ms: 9,
    };
    Commit { header, records }
}

/// A batch of `rows` commits, each of one row in which every reading is what `observed` says.
fn batch(first: u64, rows: u64, observed: impl Fn(&mut fastrand::Rng, u64) -> Vec<Observed>) -> Batch {
    let mut dice = fastrand::Rng::with_seed(first);
    let commits = (first..first + rows).map(|sequence| {
        let observed = observed(&mut dice, sequence - first);
        let series: Arc<[SeriesId]> = (0..observed.len() as u32).map(|place| SeriesId(3 * place + 5)).collect();
        let time = Timestamp(1_763_877_600_000 + 1000 * sequence.cast_signed() + dice.i64(0..9));
        commit(sequence, Records::Readings(vec![Row { series, time, observed }]))
    });
    Batch { header: header(), commits: commits.collect(), withheld: Withheld::default() }
}

/// Every kind of value, small and extreme, and every way to be less than good.
fn everything(dice: &mut fastrand::Rng, row: u64) -> Vec<Observed> {
    let text = ["stopped", "running", "é\"\\"][dice.usize(0..3)];
    let doubt = [Doubt::Unstable, Doubt::UnknownFirmware, Doubt::UnsureMap][dice.usize(0..3)];
    let fault = [Fault::Timeout, Fault::NoMatch, Fault::Exception(2)][dice.usize(0..3)];
    let mut observed: Vec<Observed> = [
        Value::Int(dice.i64(-300..300)),
        Value::Int(dice.i64(..)),
        Value::Int(10 * dice.i64(0..9) + 4),
        Value::Int(70_000 * row.cast_signed() + dice.i64(0..70_000)),
        Value::Int([i64::MIN, i64::MAX][dice.usize(0..2)]),
        Value::Uint(dice.u64(..)),
        Value::Uint(u64::MAX - dice.u64(0..9)),
        Value::F32(dice.i32(-5000..5000) as f32 / 10.0),
        Value::F32((dice.f32() - 0.5) * 1e9),
        Value::F32(-0.0),
        Value::F64(f64::from(dice.i32(-50_000..50_000)) / 1000.0),
        Value::F64((dice.f64() - 0.5) * 1e-7),
        Value::Bool(dice.bool()),
        Value::Text(text.into()),
    ]
    .into_iter()
    .map(Observed::Good)
    .collect();
    observed.push(if dice.bool() { Observed::Bad(fault) } else { Observed::Good(Value::Int(1)) });
    observed.push(if dice.bool() {
        Observed::Bad(Fault::Timeout)
    } else {
        Observed::Uncertain(Value::F32(0.1), doubt)
    });
    observed.push(Observed::Bad(Fault::LinkDown));
    observed
}

#[test]
fn the_python_decoder_reads_what_the_agent_encodes() {
    let gap = Gap {
        lane: Lane::Telemetry,
        first: Sequence(1),
        last: Sequence(2),
        records: 9,
        first_time: Timestamp(0),
        last_time: Timestamp(1),
        reason: GapReason::StoreFull,
    };
    // Given a minute of everything, single rows, a batch of several tables and groups, and what holds no reading.
    let mut mixed = batch(100, 60, everything);
    mixed.commits.push(commit(160, Records::Gap(gap)));
    let single = batch(200, 1, everything);
    let large = batch(1000, 2500, |dice, row| {
        (0..20).map(|_| Observed::Good(Value::Int(row.cast_signed() * 7 + dice.i64(0..300)))).collect()
    });
    let empty = Batch { header: header(), commits: Vec::new(), withheld: Withheld::default() };
    let (first, second) = batch(5000, 1, everything).halves().unwrap();
    let mut thinned = batch(6000, 60, everything);
    let is_kept_back = |place: &usize| !place.is_multiple_of(3);
    for commit in 0..60 {
        (17 * commit..17 * (commit + 1)).filter(is_kept_back).for_each(|at| thinned.withheld.add(commit, at % 17));
    }

    // When both decoders read them.
    let payloads = [mixed, single, large, empty, first, second, thinned].map(|batch| columnar::encode(&batch).unwrap());
    let python = decoded_by_python(&payloads);

    // Then they see the same readings.
    let here = decoded_here(&payloads);
    assert_eq!(python.len(), here.len());
    assert_eq!(here.len(), 60 * 17 + 17 + 2500 * 20 + 17 + 60 * 17 / 3);
    for (python, here) in python.iter().zip(&here) {
        assert!(agree(python, here), "Python reads {python}, Rust {here}");
    }
}

#[test]
fn the_python_decoder_corrects_times_of_a_clock_that_was_wrong() {
    // Given a boot whose clock began ten years behind, and a record in a later batch that says so.
    let mut wrong = batch(100, 60, everything);
    let boot = BootId([7; 16]);
    let behind_ms = 315_360_000_000;
    for (place, commit) in wrong.commits.iter_mut().enumerate() {
        commit.header.boot = boot;
        commit.header.clock = if place < 30 { ClockState::Unsynchronised } else { ClockState::Synchronised };
        commit.header.wall_minus_monotonic_ms = 1_763_877_600_000;
    }
    let offset = ClockOffset { boot, monotonic_ms: 130_000, wall_minus_monotonic_ms: 1_763_877_600_000 + behind_ms };
    let said = commit(160, Records::ClockOffset(offset));
    let later = Batch { header: header(), commits: vec![said], withheld: Withheld::default() };
    let mut offsets = ClockOffsets::default();
    offsets.note(offset);
    let payloads = [wrong, later].map(|batch| columnar::encode(&batch).unwrap());

    let python = decoded_by_python(&payloads);

    let here = decoded_here(&payloads);
    let decoded = columnar::decode(&payloads[0]).unwrap();
    assert_eq!(columnar::decode(&payloads[1]).unwrap().clock_offsets, [(Sequence(160), offset)]);
    assert_eq!(python.len(), here.len());
    let mut corrected = 0;
    for (python, here) in python.iter().zip(&here) {
        let of = decoded.commit(Sequence(here["sequence"].as_u64().unwrap())).unwrap();
        let time = here["time_ms"].as_i64().unwrap();
        assert_eq!(python["time_ms"], offsets.correct(of, Timestamp(time)).0, "{python}");
        corrected += usize::from(python["time_ms"].as_i64() == Some(time + behind_ms));
    }
    assert_eq!(corrected, 30 * 17);
}

#[test]
fn the_python_decoder_refuses_what_is_no_batch() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();

    let (mut decoder, _folder) = decoder(&[bomb]);
    let output = decoder.output().unwrap();

    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("not a lineside payload"), "{complaint}");
}
