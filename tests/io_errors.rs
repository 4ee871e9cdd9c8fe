//! The n-th write or sync of a store fails, for every n, or is slow: nothing is called stored that is not.
//!
//! A preloaded library makes a call fail, strace makes one last. `LINESIDE_LONG=1` tries up to the 2,000th.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lineside::model::Lane;
use store::{ALL, Counter, NEVER, Store, numbers};

const DIRECTORY: &str = "LINESIDE_TEST_STORE";
const ROUNDS: &str = "LINESIDE_TEST_ROUNDS";
const PLENTY: u64 = 64 << 20;

/// Readings of one commit.
const READINGS: i64 = 60;

/// What an error may cost in time: the store opens its database again.
const RECOVERY: Duration = Duration::from_secs(20);

/// Runs in the child: stores, says what is durable, and goes on after an error.
#[test]
fn child_stores_in_spite_of_errors() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let rounds: u32 = std::env::var(ROUNDS).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Opening may meet the error too; the service manager starts the agent again.
        let opening = || Store::try_open(Path::new(&directory), PLENTY, NEVER);
        let store = opening().unwrap_or_else(|_| opening().unwrap());
        let mut counter = Counter::default();
        for _ in 0..rounds {
            store.handle.append(counter.rows(&[READINGS as usize])).await.unwrap();
            let begun = Instant::now();
            while let Err(error) = store.handle.flush().await {
                assert!(begun.elapsed() < RECOVERY, "{error}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            println!("durable {}", store.handle.watermarks().borrow().telemetry.durable_last);
        }
        store.close().await;
    });
}

/// Memory where the system has such a directory.
fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("lineside-test-").tempdir_in(parent).unwrap()
}

/// The test `child` of this program, in a process of its own.
fn child(command: &mut Command, child: &str, rounds: u32, directory: &Path) -> Output {
    let arguments = ["--exact", &store::test_name(module_path!(), child), "--nocapture"];
    command.args(arguments).env(DIRECTORY, directory.join("store")).env(ROUNDS, rounds.to_string());
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what the tests need"))
}

/// The library that makes a call fail.
fn faults(directory: &Path) -> PathBuf {
    let library = directory.join("nth_error.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/nth_error.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output();
    let compiled = compiled.expect("cc can be run; tests/run installs what the tests need");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}

/// Opens the store without faults and looks for everything that the child called durable. Returns how much that is.
fn check(output: &Output, directory: &Path, what: &str) -> u64 {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}: {said}{}", String::from_utf8_lossy(&output.stderr));
    let durable = said.lines().filter_map(|line| line.strip_prefix("durable ")).next_back();
    let durable: u64 = durable.unwrap_or_else(|| panic!("{what}: {said}")).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&directory.join("store"), PLENTY);
        let last = store.handle.watermarks().borrow().telemetry.durable_last.0;
        assert!(last >= durable, "{what}: {durable} was called durable, {last} is there");
        let commits = store.read_all(Lane::Telemetry, ALL).await;
        let all: Vec<i64> = commits.iter().flat_map(numbers).collect();
        assert_eq!(all, (0..durable as i64 * READINGS).collect::<Vec<_>>(), "{what}");
        store.close().await;
    });
    durable
}

/// Lets the `number`-th call fail, of the process or of each thread, and looks at what is left. Says whether there were
/// so many calls.
fn try_error(library: &Path, call: &str, number: u32, scope: &str) -> bool {
    let directory = directory();
    let errors = [libc::EIO, libc::ENOSPC];
    let error = errors[number as usize % errors.len()];
    let rounds = number + 4;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("LD_PRELOAD", library).env("LINESIDE_TEST_FAIL_CALL", call);
    command.env("LINESIDE_TEST_FAIL_AT", number.to_string()).env("LINESIDE_TEST_FAIL_ERROR", error.to_string());
    command.env("LINESIDE_TEST_FAIL_SCOPE", scope);
    let output = child(&mut command, "child_stores_in_spite_of_errors", rounds, directory.path());
    let what = format!("{call} {number} of a {scope}, error {error}");
    assert_eq!(check(&output, directory.path(), &what), u64::from(rounds), "{what}");
    String::from_utf8_lossy(&output.stderr).contains("error met")
}

#[test]
fn an_error_on_any_write_or_sync_makes_nothing_stored_that_is_not() {
    let most = if std::env::var_os("LINESIDE_LONG").is_some() { 2000 } else { 200 };
    let directory = directory();
    let library = faults(directory.path());
    let (next, met) = (AtomicU32::new(1), AtomicU32::new(0));
    let one_after_the_other = || {
        let numbers = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number <= most);
        for number in std::iter::from_fn(numbers) {
            for call in ["write", "sync"] {
                met.fetch_add(u32::from(try_error(&library, call, number, "process")), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(one_after_the_other);
        one_after_the_other();
    });
    assert_eq!(met.load(Ordering::Relaxed), most * 2, "errors that were met");
}

/// A disk that fails again and again, each time the database was opened anew and did something, damages nothing: what is
/// stored stays where it is, and what was not is stored in the end.
#[test]
fn errors_that_come_back_after_every_recovery_do_not_cost_a_healthy_database() {
    let directory = directory();
    let library = faults(directory.path());
    for call in ["write", "sync"] {
        for number in 3..=12 {
            assert!(try_error(&library, call, number, "thread"), "{call} {number}");
        }
    }
}

/// Runs in the child: appends as fast as a plant does, while one flush is slow.
#[test]
fn child_appends_during_a_slow_flush() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::try_open(Path::new(&directory), PLENTY, Duration::from_millis(100)).unwrap();
        let mut counter = Counter::default();
        let mut longest = Duration::ZERO;
        let begun = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while begun.elapsed() < Duration::from_secs(7) {
            tick.tick().await;
            let asked = Instant::now();
            store.handle.append(counter.rows(&[READINGS as usize])).await.unwrap();
            longest = longest.max(asked.elapsed());
        }
        store.handle.flush().await.unwrap();
        println!("appended {}", counter.0);
        println!("longest append {}", longest.as_millis());
        println!("longest flush {}", store.handle.status().borrow().longest_flush.as_millis());
        store.close().await;
    });
}

#[test]
fn a_flush_that_takes_five_seconds_holds_up_no_append_and_loses_nothing() {
    let directory = directory();
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"]);
    command.arg("inject=fdatasync:delay_enter=5000000:when=10").arg(std::env::current_exe().unwrap());
    let output = child(&mut command, "child_appends_during_a_slow_flush", 0, directory.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let number = |start: &str| -> i64 {
        let found = said.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("{start}: {said}")).parse().unwrap()
    };

    assert!(number("longest flush ") >= 5000, "{said}");
    // A poll is skipped when its answer waits longer than its interval.
    assert!(number("longest append ") < 1000, "{said}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&directory.path().join("store"), PLENTY);
        let commits = store.read_all(Lane::Telemetry, ALL).await;
        let all: Vec<i64> = commits.iter().flat_map(numbers).collect();
        assert_eq!(all, (0..number("appended ")).collect::<Vec<_>>());
        store.close().await;
    });
}
