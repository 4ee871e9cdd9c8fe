use super::super::commit::{ClockReading, Codec, seal};
use super::*;
use crate::database::{Batch, EngineKind};
use crate::model::{ClockState, Epoch, Fault, Gap, GapReason, Records, Row, SeriesId};

/// A store of commits of one reading each: sequence, boot, wall minus monotonic clock, time.
fn stored(directory: &std::path::Path, commits: &[(u64, u8, i64, i64)]) -> Database {
    let database = Database::open(&directory.join("database"), EngineKind::Sled).unwrap();
    let mut codec = Codec::new().unwrap();
    let mut batch = Batch::default();
    for (sequence, boot, wall_minus_monotonic_ms, time) in commits {
        let row = Row::all_bad([SeriesId(1)].into(), Timestamp(*time), Fault::Timeout);
        let boot = BootId([*boot; 16]);
        let clock = ClockReading { boot, state: ClockState::Local, wall_minus_monotonic_ms: *wall_minus_monotonic_ms };
        let mut bytes = codec.encode(Lane::Telemetry, &Records::Readings(vec![row]), clock).unwrap();
        seal(&mut bytes, Epoch([1; 16]), Sequence(*sequence));
        batch.put(&commit_key(Lane::Telemetry, *sequence), &bytes);
    }
    database.apply(batch).unwrap();
    database
}

fn first_since(database: &Database, from: i64, last: u64) -> u64 {
    Stored { database }.first_since(Timestamp(from), last).unwrap()
}

#[test]
fn holes_hide_nothing_that_is_older_than_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    // Undelivered commits of an outage, history that retention removed behind them, and what is new.
    let kept = (1..=40).chain(700..=720).chain(990..=1000);
    let commits: Vec<_> = kept.map(|sequence: u64| (sequence, 1, 50, 1000 * sequence.cast_signed())).collect();
    let database = stored(directory.path(), &commits);
    let gap = Gap {
        lane: Lane::Telemetry,
        first: Sequence(800),
        last: Sequence(900),
        records: 1,
        first_time: Timestamp(800_000),
        last_time: Timestamp(900_000),
        reason: GapReason::StoreFull,
    };
    let clock = ClockReading { boot: BootId([9; 16]), state: ClockState::Local, wall_minus_monotonic_ms: 1 << 50 };
    let mut bytes = Codec::new().unwrap().encode(Lane::Telemetry, &Records::Gap(gap), clock).unwrap();
    seal(&mut bytes, Epoch([1; 16]), Sequence(750));
    let mut batch = Batch::default();
    batch.put(&commit_key(Lane::Telemetry, 750), &bytes);
    database.apply(batch).unwrap();

    for from in 1..=1000_i64 {
        let found = first_since(&database, 1000 * from, 1000);
        let first = commits.iter().find(|commit| commit.3 >= 1000 * from).unwrap().0;
        let before = commits.iter().rev().find(|commit| commit.0 < first).map_or(0, |commit| commit.0);
        assert!(before < found && found <= first, "from {from}: {found} and not {first}");
    }
    assert_eq!(first_since(&database, 1_000_001, 1000), 1001);
    assert_eq!(first_since(&database, i64::MIN, 1000), 1);
}

#[test]
fn a_clock_that_was_set_back_hides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // The clock is an hour ahead until the commit 500.
    let ahead = |sequence: u64| if sequence <= 500 { 3_600_000 } else { 0 };
    let commit = |sequence: u64| (sequence, 1, ahead(sequence), 1000 * sequence.cast_signed() + ahead(sequence));
    let commits: Vec<_> = (1..=1000).map(commit).collect();
    let database = stored(directory.path(), &commits);

    assert_eq!(first_since(&database, 3_600_000 + 480_000, 1000), 480);
    assert!(first_since(&database, 900_000, 1000) <= 900);
}

#[test]
fn what_is_recent_may_lie_in_the_boot_before() {
    let directory = tempfile::tempdir().unwrap();
    let commit = |sequence: u64| {
        let boot = if sequence < 300 { 1 } else { 2 };
        (sequence, boot, 1_000_000 * i64::from(boot), 10_000_000 + 1000 * sequence.cast_signed())
    };
    let commits: Vec<_> = (100..=400).map(commit).collect();
    let database = stored(directory.path(), &commits);

    for sequence in [100, 101, 250, 299, 300, 301, 400] {
        assert_eq!(first_since(&database, 10_000_000 + 1000 * sequence, 400), sequence.cast_unsigned());
    }
    assert_eq!(first_since(&database, 0, 400), 100);
}
