//! Both engines under the same tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn all_of(database: &Database) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut seen = Vec::new();
    database
        .visit(b"", &[0xff; 40], |key, value| {
            seen.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    seen
}

#[test]
fn a_batch_is_there_after_flush_and_reopen() {
    for kind in EngineKind::ALL {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        let database = Database::open(&path, kind).unwrap();
        let mut batch = Batch::default();
        batch.put(b"a1", b"one");
        batch.put(b"a2", b"two");
        batch.put(b"b1", b"other");
        batch.remove(b"a9");

        database.apply(batch).unwrap();
        database.flush().unwrap();
        drop(database);
        let database = Database::open(&path, kind).unwrap();

        assert_eq!(database.get(b"a2").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(database.last_key(b"a", b"a\xff").unwrap().as_deref(), Some(&b"a2"[..]));
        assert_eq!(database.last_key(b"a3", b"a\xff").unwrap(), None);
        let mut seen = Vec::new();
        database
            .visit(b"a", b"a\xff", |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen.len(), 2);
        assert!(disk_bytes(&path) > 0);
    }
}

#[test]
fn files_that_are_no_database_are_damage_and_a_missing_permission_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage");
    std::fs::create_dir(&garbage).unwrap();
    std::fs::write(garbage.join("conf"), [0xff; 64]).unwrap();
    std::fs::write(garbage.join("db"), [0xa5; 4096]).unwrap();
    let log = directory.path().join("log");
    std::fs::create_dir(&log).unwrap();
    std::fs::write(log.join("00000001.segment"), [0xa5; 8192]).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();

    for kind in EngineKind::ALL {
        assert!(matches!(Database::open(&garbage, kind), Err(DatabaseError::Damaged { .. })));
        assert!(matches!(Database::open(&log, kind), Err(DatabaseError::Damaged { .. })));
        assert!(matches!(Database::open(&file.join("below"), kind), Err(DatabaseError::Unavailable { .. })));
    }
}

#[test]
fn a_database_is_opened_by_the_engine_that_wrote_it() {
    for kind in EngineKind::ALL {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        assert_eq!(EngineKind::found_in(&path), None);
        let database = Database::open(&path, kind).unwrap();
        let mut batch = Batch::default();
        batch.put(b"a", b"one");
        database.apply(batch).unwrap();
        database.flush().unwrap();
        drop(database);

        for other in EngineKind::ALL {
            let database = Database::open(&path, other).unwrap();
            assert_eq!(database.kind(), kind);
            assert_eq!(database.get(b"a").unwrap().as_deref(), Some(&b"one"[..]));
        }
        assert_eq!(EngineKind::found_in(&path), Some(kind));
    }
}

/// A closed database of `kind` with values in many batches.
fn filled(path: &Path, kind: EngineKind) {
    let database = Database::open(path, kind).unwrap();
    for number in 0..200_u32 {
        let mut batch = Batch::default();
        batch.put(&number.to_be_bytes(), &[number as u8; 3000]);
        database.apply(batch).unwrap();
        database.flush().unwrap();
    }
}

/// The content of every file of a database.
fn files_of(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_of(&entry.path()));
        } else {
            files.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn a_database_that_is_only_read_is_not_changed() {
    for kind in EngineKind::ALL {
        let directory = tempfile::tempdir().unwrap();
        let (path, scratch) = (directory.path().join("database"), directory.path().join("scratch"));
        assert!(matches!(Database::open_to_read(&path, &scratch), Err(DatabaseError::Unavailable { .. })));
        filled(&path, kind);
        let before = files_of(&path);

        let database = Database::open_to_read(&path, &scratch).unwrap();
        let refused = database.apply(Batch::default()).unwrap_err();
        database.flush().unwrap();
        let verification = database.verify().unwrap();

        assert_eq!(all_of(&database).len(), 200);
        assert!(refused.to_string().ends_with("only to be read"), "{refused}");
        assert_eq!((verification.values, verification.damaged), (200, 0), "{verification:?}");
        assert!(verification.bytes > 600_000);
        drop(database);
        assert_eq!(files_of(&path), before);
        assert_eq!(scratch.exists(), !kind.reads_in_place());
    }
}

#[test]
fn verification_tells_what_is_damaged_and_the_rest_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("database");
    filled(&path, EngineKind::Segments);
    let first = path.join("00000001.segment");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[100] ^= 1;
    bytes[50_000..58_000].fill(0);
    std::fs::write(&first, bytes).unwrap();

    let database = Database::open_to_read(&path, Path::new("unused")).unwrap();
    let verification = database.verify().unwrap();

    assert!(database.has_losses());
    assert!(verification.damaged >= 2, "{verification:?}");
    assert!(verification.damage.iter().all(|what| what.starts_with("00000001.segment: ")), "{verification:?}");
    assert!((195..199).contains(&verification.values), "{verification:?}");
    assert_eq!(all_of(&database).len() as u64, verification.values);
}

#[derive(Debug, Clone)]
enum Deed {
    Apply(Vec<(u16, Option<usize>)>),
    Flush,
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    // Values large enough that a log has to begin new segments and give up old ones.
    let change = (0_u16..300, proptest::option::weighted(0.6, 0_usize..9000));
    prop_oneof![
        12 => proptest::collection::vec(change, 1..40).prop_map(Deed::Apply),
        6 => Just(Deed::Flush),
        1 => Just(Deed::Reopen),
    ]
}

fn run(kind: EngineKind, deeds: Vec<Deed>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("database");
    let mut database = Database::open(&path, kind).unwrap();
    let mut model = BTreeMap::new();
    let mut filling = 0_u8;
    for deed in deeds {
        match deed {
            Deed::Apply(changes) => {
                let mut batch = Batch::default();
                for (number, length) in changes {
                    let key = [b"k".as_slice(), &number.to_be_bytes()].concat();
                    filling = filling.wrapping_add(1);
                    match length {
                        Some(length) => {
                            batch.put(&key, &vec![filling; length]);
                            model.insert(key, vec![filling; length]);
                        }
                        None => {
                            batch.remove(&key);
                            model.remove(&key);
                        }
                    }
                }
                database.apply(batch).unwrap();
            }
            Deed::Flush => database.flush().unwrap(),
            Deed::Reopen => {
                drop(database);
                database = Database::open(&path, kind).unwrap();
                assert!(!database.has_losses());
                assert!(all_of(&database).into_iter().eq(model.clone()));
            }
        }
    }
    assert!(all_of(&database).into_iter().eq(model.clone()));
    let last = model.last_key_value().map(|(key, _)| key.clone());
    assert_eq!(database.last_key(b"", &[0xff; 40]).unwrap(), last);
    database.flush().unwrap();
    drop(database);
    let database = Database::open(&path, kind).unwrap();
    assert!(all_of(&database).into_iter().eq(model.clone()));
    let live: usize = model.iter().map(|(key, value)| key.len() + value.len()).sum();
    if kind == EngineKind::Segments {
        let bound = live as u64 * 3 / 2 + (1 << 20) + (512 << 10);
        assert!(disk_bytes(&path) <= bound, "{} on disk for {live}", disk_bytes(&path));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_database_is_an_ordered_map(deeds in proptest::collection::vec(deed(), 1..120)) {
        for kind in EngineKind::ALL {
            run(kind, deeds.clone());
        }
    }
}
