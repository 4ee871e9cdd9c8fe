//! A few hundred bytes cost a decoder of payloads no more memory than a large honest batch: `lineside decode` stays within
//! 64 MiB, `deploy/decode.py` within 256 MiB above its imports.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Most readings in one batch (`READINGS_MAX` of the columnar encoding).
const READINGS_MAX: u64 = 1 << 17;

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A field of wire type 0.
fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3, &mut out);
    varint(value, &mut out);
    out
}

/// A field of wire type 2.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(field << 3 | 2, &mut out);
    varint(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

/// The payload of a batch of one commit with these fields: numbers as in `deploy/lineside.proto`.
fn payload(fields: &[Vec<u8>]) -> Vec<u8> {
    let head =
        [number(1, 1), bytes(2, b"lyon"), bytes(3, b"gw-01"), bytes(4, &[7; 16]), number(12, 1), bytes(13, &[8; 16])];
    zstd::bulk::compress(&[head.concat(), fields.concat()].concat(), 3).unwrap()
}

fn table(rows: u64, series: usize) -> Vec<u8> {
    bytes(15, &[number(1, rows), bytes(2, &vec![2; series])].concat())
}

/// Columns of zeroes; the last one is of this kind.
fn columns(count: usize, kind: u8) -> Vec<u8> {
    let mut kinds = vec![0; count];
    kinds[count - 1] = kind;
    bytes(16, &[bytes(1, &kinds), bytes(3, &vec![0; count])].concat())
}

/// Payloads that are in order, however much they hold: exit code 0.
fn honest() -> Vec<(&'static str, Vec<u8>)> {
    let most = usize::try_from(READINGS_MAX).unwrap();
    let text = "x".repeat(4096);
    vec![
        ("as many rows as allowed", payload(&[table(READINGS_MAX, 1), columns(8, 0)])),
        ("as many series as allowed", payload(&[table(1, most), columns(7 + most, 0)])),
        ("a long text in many readings", payload(&[table(10_000, 1), columns(8, 5), bytes(18, text.as_bytes())])),
    ]
}

/// Payloads that are refused: exit code 2.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let json = |item: &str| format!("{{\"a\":[{}0]}}", item.repeat(2_000_000)).into_bytes();
    vec![
        ("one row more than allowed", payload(&[table(READINGS_MAX + 1, 1), columns(8, 0)])),
        ("a text of a megabyte", payload(&[table(1, 1), columns(8, 5), bytes(18, &[b'x'; 1 << 20])])),
        ("a million tables", payload(&[table(1, 1).repeat(500_000)])),
        ("columns without tables", payload(&[columns(3_900_000, 0)])),
        ("nothing but zeroes", zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap()),
        ("JSON of many numbers", json("0,")),
        ("JSON of many lists", json("[],")),
        ("a file of zeroes", vec![0; 40 << 20]),
    ]
}

#[test]
fn lineside_decode_takes_any_payload_in_64_mib() {
    let directory = tempfile::tempdir().unwrap();
    let cases = honest().into_iter().map(|case| (case, 0)).chain(refused().into_iter().map(|case| (case, 2)));
    for ((name, payload), exit) in cases {
        let file = directory.path().join("payload");
        std::fs::write(&file, payload).unwrap();
        for json in [&[][..], &["--json"]] {
            let mut command = Command::new("prlimit");
            command.arg("--data=67108864").arg(env!("CARGO_BIN_EXE_lineside")).arg("decode").args(json).arg(&file);
            let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();

            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(exit), "{name} {json:?}: {said}");
        }
    }
}

#[test]
fn the_decoder_in_python_takes_any_payload_in_256_mib() {
    let directory = tempfile::tempdir().unwrap();
    let python = std::env::var_os("LINESIDE_TEST_PYTHON")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python"), PathBuf::from);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut generator = Command::new(&python);
    generator.args(["-m", "grpc_tools.protoc", "--python_out"]).arg(directory.path());
    assert!(generator.arg("-I").arg(&deploy).arg(deploy.join("lineside.proto")).status().unwrap().success());

    let cases = honest().into_iter().map(|case| (case, true)).chain(refused().into_iter().map(|case| (case, false)));
    for ((name, payload), is_honest) in cases {
        let file = directory.path().join("payload");
        std::fs::write(&file, payload).unwrap();
        // The highest memory of the process, in KiB, when all is imported and at the end.
        let script = "import resource, runpy, sys\nimport numpy, zstandard, lineside_pb2\nfrom pcodec import wrapped\n\
                      peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n\
                      try:\n    runpy.run_path(sys.argv.pop(1), run_name='__main__')\nexcept Exception as error:\n    \
                      print(error, file=sys.stderr)\nprint('took', peak() - before, file=sys.stderr)";
        let mut command = Command::new(&python);
        command.args(["-c", script]).arg(deploy.join("decode.py")).arg(&file).env("PYTHONPATH", directory.path());
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();

        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(!output.stdout.is_empty(), is_honest, "{name}: {said}");
        let took = said.lines().find_map(|line| line.strip_prefix("took ")?.parse::<u64>().ok());
        let took = took.unwrap_or_else(|| panic!("{name}: {said}"));
        println!("{name}: {} MiB", took >> 10);
        assert!(took < 256 << 10, "{name}: {} MiB", took >> 10);
    }
}
