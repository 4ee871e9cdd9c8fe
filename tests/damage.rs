//! Damaged databases: every one opens by itself, what is undamaged of it is still there, and what is not is named.
//!
//! What is damaged is known from outside: every commit was found in the files as they were, byte by byte.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lineside::buffer::history::HistorySpan;
use lineside::buffer::{BufferError, Watermarks};
use lineside::database::{Database, EngineKind};
use lineside::model::{Commit, Gap, GapReason, Lane, Records, Sequence, SeriesId, SeriesInfo, Timestamp, ValueKind};
use store::{ALL, Counter, Store, alarm, files, numbers};

const PLENTY: u64 = 64 << 20;

/// Damaged databases of each engine.
const CASES: u64 = 500;
const CASES_LONG: u64 = 20_000;

/// Commits that were delivered before, of each lane: history.
const DELIVERED: u64 = 20;

const SERIES: usize = 5;

type Place = (Lane, u64);

/// File, place in it, and bytes of one copy of a commit.
type Copied = (PathBuf, usize, Vec<u8>);

/// A store before anything happened to it.
struct Original {
    directory: tempfile::TempDir,
    watermarks: Watermarks,
    series: Vec<SeriesId>,
    taken: i64,
    /// Commits that are to be delivered, and where each of them stands in the files.
    pending: BTreeMap<Place, (Commit, Vec<Copied>)>,
}

impl Original {
    /// One that was closed in order, or whose process was killed, after `commits` commits in each lane. Whether they are
    /// even or odd decides in which half of the mark the last note stands.
    async fn fill(is_closed: bool, commits: i64) -> Self {
        let work = tempfile::tempdir().unwrap();
        let store = Store::open(work.path(), PLENTY);
        let series = store.handle.register(series()).await.unwrap();
        let mut counter = Counter::default();
        for number in 0..commits {
            store.handle.append(counter.rows(&[150, 250])).await.unwrap();
            store.handle.append_alarms(vec![alarm(number)]).await.unwrap();
            store.handle.flush().await.unwrap();
            if number == 100 {
                for lane in Lane::ALL {
                    store.deliver(lane, 1, DELIVERED).await;
                }
            }
        }
        let mut pending = BTreeMap::new();
        for lane in Lane::ALL {
            for commit in store.read_all(lane, ALL).await {
                pending.insert((lane, commit.header.sequence.0), (commit, Vec::new()));
            }
        }
        let watermarks = *store.handle.watermarks().borrow();
        let directory = tempfile::tempdir().unwrap();
        if is_closed {
            store.close().await;
            copy(work.path(), directory.path());
        } else {
            copy(work.path(), directory.path());
            store.close().await;
        }
        let mut this = Self { directory, watermarks, series, taken: counter.0, pending };
        this.locate(work.path());
        this
    }

    /// Finds every copy of each pending commit.
    fn locate(&mut self, work: &Path) {
        let database = Database::open(&work.join("database"), store::engine()).unwrap();
        let mut by_beginning: BTreeMap<Vec<u8>, (Place, Vec<u8>)> = BTreeMap::new();
        for place in self.pending.keys() {
            let lane = u8::from(place.0 == Lane::Telemetry);
            let key = [&[b'c', lane][..], &place.1.to_be_bytes()].concat();
            let bytes = database.get(&key).unwrap().unwrap();
            by_beginning.insert(bytes[..BEGINNING].to_vec(), (*place, bytes));
        }
        for path in files(&self.directory.path().join("database")) {
            let bytes = std::fs::read(&path).unwrap();
            let name = path.strip_prefix(self.directory.path()).unwrap().to_owned();
            for at in (0..bytes.len().saturating_sub(BEGINNING)).filter(|at| bytes[*at] == 1) {
                if let Some((place, whole)) = by_beginning.get(&bytes[at..at + BEGINNING])
                    && bytes[at..].starts_with(whole)
                {
                    self.pending.get_mut(place).unwrap().1.push((name.clone(), at, whole.clone()));
                }
            }
        }
        assert!(self.pending.values().all(|(_, copies)| !copies.is_empty()));
    }

    /// What is lost lies between the times that the gap record names, and those are known where there is something on both
    /// sides.
    fn assert_times(&self, gap: &Gap, what: &str) {
        let times = |commit: &Commit| match &commit.records {
            Records::Readings(rows) => rows.iter().map(|row| row.time).collect(),
            Records::Alarms(alarms) => alarms.iter().map(|alarm| alarm.time).collect(),
            Records::Gap(_) | Records::Thinned(_) | Records::ClockOffset(_) => Vec::new(),
        };
        let is_known = gap.first_time != Timestamp::default();
        let lost = self.pending.range((gap.lane, gap.first.0)..=(gap.lane, gap.last.0));
        for time in lost.flat_map(|(_, (commit, _))| times(commit)).filter(|_| is_known) {
            assert!((gap.first_time..=gap.last_time).contains(&time), "{what}: {time} is not in {gap:?}");
        }
        let last = self.watermarks.lane(gap.lane).durable_last;
        assert!(is_known || gap.first.0 == DELIVERED + 1 || gap.last == last, "{what}: {gap:?} has no times");
    }

    /// Whether one of the two notes in the mark is left.
    fn has_a_note(&self, directory: &Path) -> bool {
        const SLOT: usize = 4096;
        let notes = |directory: &Path| std::fs::read(directory.join("mark")).unwrap_or_default();
        let (was, is) = (notes(self.directory.path()), notes(directory));
        was.chunks(SLOT).zip(is.chunks(SLOT)).any(|(was, is)| was == is)
    }

    /// The pending commits of which one copy at least has every byte.
    fn undamaged(&self, directory: &Path) -> BTreeSet<Place> {
        let mut files: BTreeMap<&Path, Vec<u8>> = BTreeMap::new();
        let mut undamaged = BTreeSet::new();
        for (place, (_, copies)) in &self.pending {
            for (name, at, whole) in copies {
                let file = files.entry(name).or_insert_with(|| std::fs::read(directory.join(name)).unwrap_or_default());
                if file.get(*at..).is_some_and(|rest| rest.starts_with(whole)) {
                    undamaged.insert(*place);
                }
            }
        }
        undamaged
    }
}

/// Version and checksum of a commit, and some of its epoch.
const BEGINNING: usize = 12;

fn series() -> Vec<SeriesInfo> {
    let info = |number| SeriesInfo {
        name: format!("point_{number}"),
        labels: Default::default(),
        unit: "W".into(),
        kind: ValueKind::Int,
        scale: Default::default(),
        states: Default::default(),
    };
    (0..SERIES).map(info).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Flips a bit, zeroes a page, fills it with anything, cuts off the end, or removes the file.
fn damage(path: &Path, random: &mut fastrand::Rng) -> String {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let at = random.u64(..length.max(1));
    let page = 4096.min(length.saturating_sub(at)) as usize;
    let kinds = if random.u8(..4) == 0 { 5 } else { 4 };
    let kind = random.u8(..kinds);
    match kind {
        0 => {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << random.u8(..8))], at).unwrap();
        }
        1 => file.write_all_at(&vec![0; page], at).unwrap(),
        2 => file.write_all_at(&(0..page).map(|_| random.u8(..)).collect::<Vec<_>>(), at).unwrap(),
        3 => file.set_len(at).unwrap(),
        _ => std::fs::remove_file(path).unwrap(),
    }
    let what = ["a bit flipped", "a page zeroed", "a page of anything", "cut off", "removed"][usize::from(kind)];
    format!("{} of {length}: {what} at {at}; ", path.file_name().unwrap().display())
}

/// Damages the store, mostly in one place. Says what it did, and whether what lies beside the database is damaged too.
fn damage_somewhere(directory: &Path, random: &mut fastrand::Rng) -> (String, bool) {
    let database = directory.join("database");
    let mut what = String::new();
    if random.u8(..40) == 0 {
        std::fs::remove_dir_all(&database).unwrap();
        what.push_str("no database; ");
    } else {
        for _ in 0..if random.u8(..4) == 0 { random.u8(2..6) } else { 1 } {
            let files = files(&database);
            if !files.is_empty() {
                what.push_str(&damage(&files[random.usize(..files.len())], random));
            }
        }
    }
    let beside = ["mark", "catalogue", "format"][random.usize(..3)];
    let hits_beside = random.u8(..10) == 0;
    if hits_beside {
        what.push_str(&damage(&directory.join(beside), random));
    }
    (what, hits_beside)
}

/// What a store holds: commits, and the gap records among them.
struct Content {
    commits: BTreeMap<Place, Commit>,
    gaps: Vec<Gap>,
    alarms: Vec<String>,
    marks: Watermarks,
}

impl Content {
    /// All of it. Reading may find damage that was not seen before: then it is read again.
    async fn of(store: &Store) -> Self {
        let begun = Instant::now();
        loop {
            let flushed = store.handle.flush().await;
            let read = match flushed {
                Ok(()) => Self::read(store).await,
                Err(error) => Err(error),
            };
            match read {
                // What the reading has found out is said, too.
                Ok(this) if store.handle.flush().await.is_ok() && *store.handle.watermarks().borrow() == this.marks => {
                    return this;
                }
                Ok(_) => {}
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
        }
    }

    async fn read(store: &Store) -> Result<Self, BufferError> {
        let marks = *store.handle.watermarks().borrow();
        let mut this = Self { commits: BTreeMap::new(), gaps: Vec::new(), alarms: Vec::new(), marks };
        for lane in Lane::ALL {
            let mut from = Sequence::FIRST;
            loop {
                let read = store.handle.read(lane, from, ALL).await?;
                let Some(last) = read.last() else { break };
                from = last.header.sequence.next();
                read.into_iter().for_each(|commit| this.take(lane, commit));
            }
        }
        Ok(this)
    }

    fn take(&mut self, lane: Lane, commit: Commit) {
        match &commit.records {
            Records::Gap(gap) => self.gaps.push(gap.clone()),
            Records::Alarms(alarms) => self.alarms.extend(alarms.iter().map(|alarm| alarm.name.clone())),
            Records::Readings(_) | Records::Thinned(_) | Records::ClockOffset(_) => {}
        }
        self.commits.insert((lane, commit.header.sequence.0), commit);
    }

    fn names(&self, place: &Place) -> bool {
        self.gaps.iter().any(|gap| gap.lane == place.0 && gap.first.0 <= place.1 && place.1 <= gap.last.0)
    }
}

/// What came of one damaged store.
#[derive(Default)]
struct Outcome {
    saved: usize,
    lost: usize,
    is_rebuilt: bool,
}

async fn damaged(original: &Original, seed: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    copy(original.directory.path(), directory.path());
    let (what, hits_beside) = damage_somewhere(directory.path(), &mut random);
    let what = format!("case {seed}: {what}");
    let undamaged = original.undamaged(directory.path());
    let has_a_note = original.has_a_note(directory.path());

    let store = Store::open(directory.path(), PLENTY);
    let first = Content::of(&store).await;
    let mut counter = Counter(original.taken);
    store.handle.append(counter.rows(&[7])).await.unwrap();
    let content = Content::of(&store).await;
    let marks = *store.handle.watermarks().borrow();
    let catalogue = store.handle.catalogue().await.unwrap();
    let damage_status = store.handle.status().borrow().clone();

    // Nothing undamaged is lost, nothing is another than it was, and all of it is where it was. Without a note, what stands
    // behind damage may be what a power cut left of a write.
    for place in undamaged.iter().filter(|_| has_a_note) {
        assert_eq!(first.commits.get(place), Some(&original.pending[place].0), "{what}: {place:?} is undamaged");
    }
    for (place, commit) in &content.commits {
        let was = original.pending.get(place).map(|(was, _)| was);
        let last = original.watermarks.lane(place.0).durable_last.0;
        assert!(was == Some(commit) || place.1 > last || hits_beside, "{what}: {place:?} was never to be delivered");
    }
    // What is damaged is named, and nothing else.
    let lost: Vec<&Place> = original.pending.keys().filter(|place| !content.commits.contains_key(place)).collect();
    if !hits_beside {
        assert_eq!(marks.epoch, original.watermarks.epoch, "{what}");
        let unnamed: Vec<_> = lost.iter().filter(|place| !content.names(place)).collect();
        assert!(unnamed.is_empty(), "{what}: {unnamed:?} are lost in silence");
        let of_gaps = content.gaps.iter().map(|gap| gap.last.0 - gap.first.0 + 1).sum::<u64>();
        assert_eq!(of_gaps, lost.len() as u64, "{what}: {:?}", content.gaps);
        assert!(content.gaps.iter().all(|gap| gap.reason == GapReason::Damaged));
        let readings = |gap: &&Gap| gap.lane == Lane::Telemetry;
        if let [only] = content.gaps.iter().filter(readings).collect::<Vec<_>>()[..] {
            assert_eq!(only.records, 400 * (only.last.0 - only.first.0 + 1), "{what}: {only:?}");
        }
        assert_eq!(damage_status.damaged, lost.len() as u64, "{what}");
        content.gaps.iter().for_each(|gap| original.assert_times(gap, &what));
    }
    // No sequence is given twice, the catalogue is whole, and it goes on.
    assert!(content.commits.values().flat_map(numbers).any(|number| number == original.taken), "{what}");
    // Without a note, the last files may go with every trace of how far it had come.
    if marks.epoch == original.watermarks.epoch && has_a_note {
        for lane in Lane::ALL {
            assert!(marks.lane(lane).durable_last >= original.watermarks.lane(lane).durable_last, "{what}");
        }
    }
    for (id, info) in original.series.iter().zip(series()) {
        let known = catalogue.get(*id).map(|known| known.as_ref() == &info);
        assert!(known == Some(true) || hits_beside, "{what}: {id:?} {known:?}");
    }
    let is_told = content.alarms.iter().any(|name| name == "StoreDamaged");
    let is_known = has_a_note && !(lost.is_empty() && damage_status.quarantined == 0);
    assert!(is_told || !is_known, "{what}: nobody is told");

    // The next start finds nothing wrong any more.
    store.close().await;
    let store = Store::open(directory.path(), PLENTY);
    let again = Content::of(&store).await;
    let status = store.handle.status().borrow().clone();
    assert_eq!((status.quarantined, status.damaged), (0, 0), "{what}: again at the next start");
    assert!(again.commits == content.commits, "{what}: not the same at the next start");
    store.close().await;
    Outcome { saved: undamaged.len(), lost: lost.len(), is_rebuilt: damage_status.quarantined > 0 }
}

fn cases() -> u64 {
    let number = std::env::var("LINESIDE_TEST_DAMAGES").ok().map(|text| text.parse().expect("a number"));
    let is_long = std::env::var_os("LINESIDE_LONG").is_some();
    number.unwrap_or(if is_long { CASES_LONG } else { CASES })
}

#[test]
fn damaged_databases_open_and_keep_what_is_undamaged_and_name_the_rest() {
    const THREADS: u64 = 4;
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kinds = [(true, 120), (false, 120), (true, 121), (false, 121)];
    let originals = kinds.map(|(is_closed, commits)| runtime().block_on(Original::fill(is_closed, commits)));
    let only = std::env::var("LINESIDE_TEST_DAMAGE").ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = only.map_or_else(|| (0..cases()).collect(), |seed| vec![seed]);

    let outcomes: Vec<Option<Outcome>> = std::thread::scope(|scope| {
        let part = |thread: u64| {
            let (originals, seeds) = (&originals, &seeds);
            scope.spawn(move || {
                let mine = seeds.iter().filter(|seed| *seed % THREADS == thread);
                let original = |seed: u64| &originals[(seed / THREADS) as usize % originals.len()];
                // One that fails hides no other.
                let case = |seed: u64| runtime().block_on(damaged(original(seed), seed));
                mine.map(|seed| catch_unwind(AssertUnwindSafe(|| case(*seed))).ok()).collect::<Vec<_>>()
            })
        };
        let parts: Vec<_> = (0..THREADS).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });

    let failed = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    assert_eq!(failed, 0, "of {} damaged databases; LINESIDE_TEST_DAMAGE=<case> repeats one", outcomes.len());
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    let sum = |part: fn(&Outcome) -> usize| outcomes.iter().map(part).sum::<usize>();
    let (saved, lost) = (sum(|outcome| outcome.saved), sum(|outcome| outcome.lost));
    let rebuilt = outcomes.iter().filter(|outcome| outcome.is_rebuilt).count();
    println!(
        "{}: {} damaged databases, {rebuilt} made anew; {saved} undamaged commits kept, {lost} damaged ones named",
        store::engine(),
        outcomes.len(),
    );
    assert!(only.is_some() || lost > outcomes.len() / 4, "the damage hit nothing");
}

#[tokio::test]
async fn what_is_asked_first_about_a_damaged_commit_is_answered_with_the_rest() {
    let original = Original::fill(true, 120).await;
    let place = (Lane::Telemetry, 30);
    for (name, at, whole) in &original.pending[&place].1 {
        let file = std::fs::File::options().write(true).open(original.directory.path().join(name)).unwrap();
        file.write_all_at(&[!whole[whole.len() / 2]], (at + whole.len() / 2) as u64).unwrap();
    }
    let store = Store::open(original.directory.path(), PLENTY);

    let mut found = Vec::new();
    let mut next = Some(Sequence::FIRST);
    while let Some(from) = next {
        let page = store.handle.page(Lane::Telemetry, HistorySpan::default(), from).await.unwrap();
        found.extend(page.commits.iter().map(|commit| commit.sequence.0));
        next = page.next;
    }

    let oldest = if store::engine() == EngineKind::Sled { DELIVERED + 1 } else { 1 };
    assert_eq!(found[..99], (oldest..=120).filter(|it| *it != 30).collect::<Vec<_>>()[..99], "{found:?}");
    store.handle.overview().await.unwrap();
    store.close().await;
}
