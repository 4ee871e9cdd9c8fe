//! Bytes from outside: the corpus of the fuzz targets is replayed and mutated, for a moment in the normal run, for
//! `LINESIDE_FUZZ_SECONDS` each in the long one. `fuzz/` has the same targets for `cargo fuzz`, which is guided by coverage.

#![cfg(test)]

#[path = "../fuzz/harness.rs"]
mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One mutation in so many puts a piece of another sample in.
const SPLICE_EACH: u32 = 4;
/// Longest input, in bytes.
const LONGEST: usize = 64 << 10;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn seconds() -> u64 {
    let written = std::env::var("LINESIDE_FUZZ_SECONDS").ok();
    written.map_or(2, |text| text.parse().expect("LINESIDE_FUZZ_SECONDS is a number of seconds"))
}

fn mutate(random: &mut fastrand::Rng, samples: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = random.choice(samples).expect("a corpus").1.clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            2 => bytes.insert(at, random.u8(..)),
            3 => drop(bytes.drain(at..(at + random.usize(0..32)).min(bytes.len()))),
            4 if random.u32(0..SPLICE_EACH) == 0 => {
                let other = &random.choice(samples).expect("a corpus").1;
                let from = random.usize(0..=other.len());
                let piece = &other[from..(from + random.usize(0..256)).min(other.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            // Numbers are where parsers break: a digit becomes another, or many.
            _ => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
                if let Some(at) = random.choice(&digits) {
                    let many = "9".repeat(random.usize(0..25));
                    let digits = random.u64(..).to_string();
                    drop(bytes.splice(*at..=*at, digits.bytes().take(3).chain(many.bytes())));
                }
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn replay_and_mutate(target: &str, harness: fn(&[u8])) {
    let samples = corpus(target);
    assert!(samples.len() >= 8, "{target}: a corpus of {}", samples.len());
    for (path, bytes) in &samples {
        assert!(catch_unwind(|| harness(bytes)).is_ok(), "{}: crash", path.display());
    }
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (begun, span) = (Instant::now(), Duration::from_secs(seconds()));
    let mut runs = 0_u64;
    while begun.elapsed() < span {
        let bytes = mutate(&mut random, &samples);
        let started = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| harness(&bytes))).is_err() {
            let kept = std::env::temp_dir().join(format!("lineside-fuzz-{target}-{seed:x}-{runs}"));
            std::fs::write(&kept, &bytes).unwrap();
            panic!("{target}: crash on {}; put it into fuzz/corpus/{target}", kept.display());
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{target}: hangs on {:?}",
            String::from_utf8_lossy(&bytes)
        );
        runs += 1;
    }
    println!("{target}: {} samples replayed, {runs} mutations in {span:?}, no crash", samples.len());
}

#[test]
fn no_frame_makes_it_crash() {
    replay_and_mutate("frames", harness::frames);
}

#[test]
fn no_profile_makes_it_crash() {
    replay_and_mutate("profile", harness::profile);
}

#[test]
fn no_configuration_makes_it_crash() {
    replay_and_mutate("config", harness::config);
}
