//! Bytes from outside: the corpus of the fuzz targets is replayed and mutated for a moment. The long mode is `fuzz/run`,
//! which fuzzes the same targets guided by coverage, ten minutes each.

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
/// How long each target is given inputs that nobody wrote.
const MUTATING: Duration = Duration::from_secs(1);

/// Files that the project has anyway are samples too, as in `fuzz/run`.
const SAMPLES: [(&str, &str); 4] = [
    ("profile", "firmware-profiles"),
    ("profile", "tests/fixtures/profiles"),
    ("rules", "deploy/rules"),
    ("config", "tests/fixtures/config"),
];

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = files_below(&root.join("fuzz/corpus").join(target));
    for (_, directory) in SAMPLES.iter().filter(|(of, _)| *of == target) {
        files.extend(files_below(&root.join(directory)));
    }
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// What this thread has had of a processor: a machine that is busy makes nothing hang.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
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
    let begun = Instant::now();
    let mut runs = 0_u64;
    while begun.elapsed() < MUTATING {
        let bytes = mutate(&mut random, &samples);
        let started = processor_time();
        if catch_unwind(AssertUnwindSafe(|| harness(&bytes))).is_err() {
            let kept = std::env::temp_dir().join(format!("lineside-fuzz-{target}-{seed:x}-{runs}"));
            std::fs::write(&kept, &bytes).unwrap();
            panic!("{target}: crash on {}; put it into fuzz/corpus/{target}", kept.display());
        }
        assert!(
            processor_time() - started < Duration::from_secs(10),
            "{target}: hangs on {:?}",
            String::from_utf8_lossy(&bytes)
        );
        runs += 1;
    }
    println!("{target}: {} samples replayed, {runs} mutations in {MUTATING:?}, no crash", samples.len());
}

#[test]
fn no_frame_makes_it_crash() {
    replay_and_mutate("frames", harness::frames);
}

#[test]
fn no_line_of_an_instrument_makes_it_crash() {
    replay_and_mutate("lines", harness::lines);
}

#[test]
fn no_profile_makes_it_crash() {
    replay_and_mutate("profile", harness::profile);
}

#[test]
fn no_configuration_makes_it_crash() {
    replay_and_mutate("config", harness::config);
}

#[test]
fn no_rules_make_it_crash() {
    replay_and_mutate("rules", harness::rules);
}

#[test]
fn no_command_makes_it_crash() {
    let understood = corpus("command").iter().filter(|(_, bytes)| harness::is_command(bytes)).count();
    assert!(understood >= 4, "{understood} of the samples reach behind the first checks");
    replay_and_mutate("command", harness::command);
}

#[test]
fn no_configuration_from_afar_makes_it_crash() {
    replay_and_mutate("desired", harness::desired);
}

#[test]
fn no_payload_makes_it_crash() {
    replay_and_mutate("payload", harness::payload);
}
