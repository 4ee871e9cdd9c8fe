use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::frame::{Encoder, End};
use super::log::HEAD;
use super::*;
use crate::buffer::commit::ClockReading;
use crate::model::{ClockState, Observed, Value};

/// A clock of the boot with this number.
struct Boot(u8);

impl Clock for Boot {
    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(100)
    }

    fn state(&self) -> ClockState {
        ClockState::Local
    }

    fn boot(&self) -> BootId {
        BootId([self.0; 16])
    }
}

const EPOCH: Epoch = Epoch([7; 16]);

fn open_in(directory: &Path, boot: u8) -> (Wal, Option<Found>) {
    Wal::open(WalPlace::In(vec![directory.to_owned()]), Path::new("/nowhere"), EPOCH, Arc::new(Boot(boot)))
}

fn accepted(numbers: std::ops::Range<i64>) -> Accepted {
    let row = |number| Row {
        series: [SeriesId(1)].into(),
        time: Timestamp(number),
        observed: vec![Observed::Good(Value::Int(number))],
    };
    Accepted { rows: numbers.map(row).collect(), alarms: Vec::new(), state: None, room: None }
}

/// Times of the rows that are found, in their order.
fn rows(found: Option<&Found>) -> Vec<i64> {
    let frames = found.into_iter().flat_map(Found::frames);
    let rows = frames.filter_map(|frame| match frame {
        Frame::Appended(appended) => Some(appended.rows),
        Frame::Series { .. } | Frame::Save { .. } | Frame::HandedOver(_) => None,
    });
    rows.flatten().map(|row| row.time.0).collect()
}

fn file_in(directory: &Path) -> PathBuf {
    std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn what_was_appended_is_found_by_the_next_process_of_this_boot_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, found) = open_in(directory.path(), 1);
    assert!(found.is_none());
    wal.append(accepted(0..3), drop);
    wal.append(accepted(3..5), drop);
    drop(wal);

    let (wal, found) = open_in(directory.path(), 1);
    assert_eq!(rows(found.as_ref()), [0, 1, 2, 3, 4]);
    assert_eq!((found.unwrap().epoch, wal.ends().rows), (EPOCH, 5));
    wal.append(accepted(5..6), drop);
    drop(wal);
    let (wal, found) = open_in(directory.path(), 1);
    assert_eq!(rows(found.as_ref()), [0, 1, 2, 3, 4, 5], "goes on where the process before stopped");
    drop(wal);

    let (wal, found) = open_in(directory.path(), 2);
    assert!(found.is_none());
    wal.append(accepted(8..9), drop);
    drop(wal);
    assert_eq!(rows(open_in(directory.path(), 2).1.as_ref()), [8]);
}

#[test]
fn a_torn_end_is_cut_off_and_damage_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open_in(directory.path(), 1);
    (0..3).for_each(|number| wal.append(accepted(number..number + 1), drop));
    drop(wal);
    let path = file_in(directory.path());
    let whole = std::fs::read(&path).unwrap();

    for cut in 1..12 {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (wal, found) = open_in(directory.path(), 1);
        assert_eq!(rows(found.as_ref()), [0, 1], "{cut} bytes less");
        assert_eq!(wal.status().discarded_bytes, 0, "torn by the kill");
        // What comes next stands behind what is whole.
        wal.append(accepted(9..10), drop);
        drop(wal);
        assert_eq!(rows(open_in(directory.path(), 1).1.as_ref()), [0, 1, 9]);
    }
    let frame = (whole.len() - HEAD as usize) / 3;
    for at in (HEAD as usize + frame + 4..HEAD as usize + 2 * frame).step_by(3) {
        std::fs::write(&path, &whole).unwrap();
        File::options().write(true).open(&path).unwrap().write_all_at(&[!whole[at]], at as u64).unwrap();
        let (wal, found) = open_in(directory.path(), 1);
        assert_eq!(rows(found.as_ref()), [0], "damaged at {at}");
        assert_eq!(wal.status().discarded_bytes, 2 * frame as u64);
    }
}

#[test]
fn the_generation_of_the_database_tells_what_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open_in(directory.path(), 1);
    let positions = |rows| Positions { rows, ..Positions::default() };
    wal.append(accepted(0..3), drop);
    wal.note_save(5, &positions(2));
    wal.append(accepted(3..6), drop);
    wal.note_save(6, &positions(5));
    drop(wal);

    let found = open_in(directory.path(), 1).1.unwrap();

    let placed = [4, 5, 6, 9].map(|generation| found.placed(generation).rows);
    assert_eq!(placed, [0, 2, 5, 5]);
}

#[test]
fn it_is_emptied_when_all_of_it_is_durable_and_cut_at_its_front_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open_in(directory.path(), 1);
    let mut generation = 0;
    let mut next = 0;
    let mut longest = 0;
    let mut save = |wal: &Wal, until: i64| {
        generation += 1;
        let positions = Positions { rows: until as u64, ..Positions::default() };
        wal.note_save(generation, &positions);
        wal.made_durable(&positions);
    };
    // The queue always holds something that the save does not.
    for _ in 0..200 {
        wal.append(accepted(next..next + 1000), drop);
        next += 1000;
        save(&wal, next - 10);
        longest = longest.max(wal.status().bytes);
    }
    assert!(longest < 256 << 10, "{longest} bytes");
    drop(wal);
    let (wal, found) = open_in(directory.path(), 1);
    let found = rows(found.as_ref());
    assert!(found.ends_with(&((next - 10)..next).collect::<Vec<_>>()), "nothing that is needed is cut off");

    save(&wal, next);
    assert_eq!(wal.status().bytes, HEAD);
    wal.remove();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_log_that_somebody_removed_is_made_anew_with_the_next_save() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open_in(directory.path(), 1);
    std::fs::remove_file(file_in(directory.path())).unwrap();

    wal.append(accepted(0..1), drop);
    wal.note_save(1, &wal.ends());
    wal.made_durable(&wal.ends());
    wal.append(accepted(1..2), drop);

    drop(wal);
    assert_eq!(rows(open_in(directory.path(), 1).1.as_ref()), [1]);
}

#[test]
fn where_there_is_no_log_everything_else_works_and_the_status_says_why() {
    let (wal, found) = open_in(Path::new("/absent"), 1);
    wal.append(accepted(0..1), drop);
    wal.note_save(1, &wal.ends());
    wal.made_durable(&wal.ends());

    assert!(found.is_none() && wal.ends().rows == 1);
    assert!(!wal.status().kept);
    assert_eq!(wal.status().not_kept_because.unwrap(), "/absent: no such file or directory");
    let (wal, _) = Wal::open(WalPlace::Off, Path::new("/nowhere"), EPOCH, Arc::new(Boot(1)));
    assert_eq!(wal.status(), WalStatus::default());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_frames_or_an_end(bytes: Vec<u8>, kind in 0..6_u8) {
        let mut frames = Frames::new(&bytes, BootId([1; 16]));
        frames.by_ref().for_each(drop);
        let mut payload = vec![kind];
        payload.extend(&bytes);
        let mut framed = (payload.len() as u32).to_le_bytes().to_vec();
        framed.extend(crc32c::crc32c(&payload).to_le_bytes());
        framed.extend(payload);
        let mut frames = Frames::new(&framed, BootId([1; 16]));
        frames.by_ref().for_each(drop);
        proptest::prop_assert!(frames.end != End::Torn);
    }
}

#[test]
fn a_frame_comes_back_as_it_was() {
    let clock = ClockReading { boot: BootId([3; 16]), state: ClockState::Unsynchronised, wall_minus_monotonic_ms: -7 };
    let at = Positions { rows: 1, alarms: 2, states: 3, series: 4 };
    let monotonic = Duration::from_millis(12_345);
    let Accepted { rows, .. } = accepted(5..8);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::default();
    encoder.appended(&mut bytes, &at, (clock, monotonic), &rows, &[], Some(b"remembered"));
    Encoder::series(&mut bytes, SeriesId(9), b"{}");

    let frames: Vec<Frame> = Frames::new(&bytes, clock.boot).collect();

    let state = Some(b"remembered".to_vec());
    let appended = Appended { at, clock, monotonic, rows, alarms: Vec::new(), state };
    assert_eq!(frames, [Frame::Appended(appended), Frame::Series { id: SeriesId(9), series: b"{}".to_vec() }]);
}
