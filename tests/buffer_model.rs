//! The buffer against a plain model in memory: random appends, reads, deliveries and restarts.

#![cfg(test)]

#[path = "support/store.rs"]
mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lineside::buffer::ReadLimit;
use lineside::model::{Commit, Gap, GapReason, Lane, Records, Sequence, SeriesInfo, ValueKind};
use proptest::prelude::*;
use store::{ALL, Counter, Store, alarm, numbers};

const PLENTY: u64 = 64 << 20;

#[derive(Debug, Clone)]
enum Deed {
    Append(Vec<usize>),
    Alarms(usize),
    Flush,
    Deliver { lane: Lane, from: prop::sample::Index, count: u64 },
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    let lane = prop_oneof![Just(Lane::Alarms), Just(Lane::Telemetry)];
    prop_oneof![
        6 => proptest::collection::vec(prop_oneof![1_usize..80, 900_usize..1100], 1..4).prop_map(Deed::Append),
        2 => (1_usize..20).prop_map(Deed::Alarms),
        3 => Just(Deed::Flush),
        3 => (lane, any::<prop::sample::Index>(), 1_u64..6)
            .prop_map(|(lane, from, count)| Deed::Deliver { lane, from, count }),
        1 => Just(Deed::Reopen),
    ]
}

/// What the buffer should hold.
#[derive(Default)]
struct Model {
    taken: Counter,
    alarms: i64,
    seen: HashMap<(Lane, Sequence), Records>,
    delivered: HashMap<Lane, BTreeSet<u64>>,
}

impl Model {
    /// Compares everything that can be read with everything that should be.
    async fn compare(&mut self, store: &Store) {
        for lane in Lane::ALL {
            let commits = store.read_all(lane, ReadLimit { commits: 3, records: 200 }).await;
            assert_eq!(commits, store.read_all(lane, ALL).await);
            for commit in &commits {
                let records = commit.records.clone();
                let seen = self.seen.entry((lane, commit.header.sequence)).or_insert(records);
                assert_eq!(*seen, commit.records, "a sequence means the same for ever");
            }
            let watermark = *store.handle.watermarks().borrow().lane(lane);
            let delivered = self.delivered.entry(lane).or_default();
            let pending: Vec<u64> =
                (1..=watermark.durable_last.0).filter(|number| !delivered.contains(number)).collect();
            assert_eq!(commits.iter().map(|commit| commit.header.sequence.0).collect::<Vec<_>>(), pending);
            let oldest = pending.first().copied().unwrap_or(watermark.durable_last.0 + 1);
            assert_eq!(watermark.oldest_undelivered.0, oldest);
            assert_eq!(watermark.pending_commits, pending.len() as u64);
            let records: usize = commits.iter().map(|commit| commit.records.count()).sum();
            assert_eq!(watermark.pending_readings, records as u64);
            assert_eq!(watermark.oldest_pending_time.is_some(), !pending.is_empty());
        }
        assert_eq!(self.all_numbers(Lane::Telemetry), (0..self.taken.0).collect::<Vec<_>>());
        assert_eq!(self.all_numbers(Lane::Alarms), (0..self.alarms).collect::<Vec<_>>());
    }

    /// The numbers of all records ever seen, in the order of their sequences.
    fn all_numbers(&self, lane: Lane) -> Vec<i64> {
        let in_order: BTreeMap<Sequence, &Records> =
            self.seen.iter().filter(|(key, _)| key.0 == lane).map(|(key, records)| (key.1, records)).collect();
        let numbers = |records: &Records| match records {
            Records::Alarms(alarms) => alarms.iter().map(|alarm| alarm.value.unwrap() as i64).collect(),
            Records::Readings(rows) => {
                rows.iter().flat_map(|row| row.time.0..row.time.0 + row.series.len() as i64).collect()
            }
            Records::ClockOffset(_) => Vec::new(),
            Records::Gap(_) | Records::Thinned(_) => panic!("nothing was to be lost: {records:?}"),
        };
        in_order.into_values().flat_map(|records| -> Vec<i64> { numbers(records) }).collect()
    }
}

async fn run(deeds: Vec<Deed>) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path(), PLENTY);
    let mut model = Model::default();
    for deed in deeds {
        match deed {
            Deed::Append(lengths) => store.handle.append(model.taken.rows(&lengths)).await.unwrap(),
            Deed::Alarms(count) => {
                let alarms = (model.alarms..model.alarms + count as i64).map(alarm).collect();
                model.alarms += count as i64;
                store.handle.append_alarms(alarms).await.unwrap();
            }
            Deed::Flush => {
                store.handle.flush().await.unwrap();
                model.compare(&store).await;
            }
            Deed::Deliver { lane, from, count } => {
                store.handle.flush().await.unwrap();
                model.compare(&store).await;
                let durable = store.handle.watermarks().borrow().lane(lane).durable_last.0;
                let first = 1 + from.index(durable as usize + 1) as u64;
                store.deliver(lane, first, first + count).await;
                model.delivered.entry(lane).or_default().extend(first..=durable.min(first + count));
            }
            Deed::Reopen => {
                store.close().await;
                store = Store::open(directory.path(), PLENTY);
                model.compare(&store).await;
            }
        }
    }
    store.handle.flush().await.unwrap();
    model.compare(&store).await;
    store.close().await;
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_buffer_behaves_like_the_model(deeds in proptest::collection::vec(deed(), 1..30)) {
        block_on(run(deeds));
    }
}

/// Smallest limit there is, of which about 1.5 MiB may be alive: a few dozen appends fill it.
fn least() -> u64 {
    store::engine().limit_least()
}

/// What a store that has to give up commits may not forget about any of them.
#[derive(Default)]
struct FullModel {
    taken: Counter,
    seen: BTreeMap<u64, Records>,
    delivered: BTreeSet<u64>,
    named: BTreeSet<u64>,
}

impl FullModel {
    /// Each sequence is readable, delivered, or named in a gap record; and what was read once never changes.
    async fn compare(&mut self, store: &Store) {
        let commits = store.read_all(Lane::Telemetry, ALL).await;
        let mut readable = BTreeSet::new();
        for commit in commits {
            let sequence = commit.header.sequence.0;
            if let Records::Gap(gap) = &commit.records {
                self.take_gap(gap);
            }
            readable.insert(sequence);
            let seen = self.seen.entry(sequence).or_insert_with(|| commit.records.clone());
            assert_eq!(*seen, commit.records, "a sequence means the same for ever");
        }
        let telemetry = store.handle.watermarks().borrow().telemetry;
        for sequence in 1..=telemetry.durable_last.0 {
            let places = [&readable, &self.delivered, &self.named].map(|set| set.contains(&sequence));
            assert!(places.contains(&true), "{sequence} is gone without a word");
            assert!(!(places[0] && places[1]), "{sequence} was delivered and is read again");
        }
        assert!(telemetry.durable_last.0 >= readable.last().copied().unwrap_or(0));
        let status = store.handle.status().borrow().clone();
        assert!(status.disk_bytes <= least(), "{status:?}");
        assert_eq!((status.quarantined, status.damaged), (0, 0));
    }

    /// A gap record names what was read before as it was.
    fn take_gap(&mut self, gap: &Gap) {
        assert_eq!(gap.reason, GapReason::StoreFull);
        let sequences = gap.first.0..=gap.last.0;
        let known: Vec<&Records> = sequences.clone().filter_map(|sequence| self.seen.get(&sequence)).collect();
        let is_of_readings = |records: &&Records| matches!(records, Records::Readings(_));
        if known.len() as u64 == gap.last.0 - gap.first.0 + 1 && known.iter().all(is_of_readings) {
            assert_eq!(known.iter().map(|records| records.count() as u64).sum::<u64>(), gap.records, "{gap:?}");
        }
        self.named.extend(sequences);
    }
}

async fn run_full(deeds: Vec<Deed>) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path(), least());
    let mut model = FullModel::default();
    for deed in deeds {
        match deed {
            Deed::Append(lengths) => {
                for _ in 0..10 {
                    store.handle.append(model.taken.rows(&lengths)).await.unwrap();
                }
            }
            Deed::Alarms(_) => {}
            Deed::Flush => {
                store.handle.flush().await.unwrap();
                model.compare(&store).await;
            }
            Deed::Deliver { from, count, .. } => {
                store.handle.flush().await.unwrap();
                model.compare(&store).await;
                let watermarks = *store.handle.watermarks().borrow();
                let (epoch, durable) = (watermarks.epoch, watermarks.telemetry.durable_last.0);
                let first = 1 + from.index(durable as usize + 1) as u64;
                let last = first + count * 10;
                store.handle.delivered(epoch, Lane::Telemetry, Sequence(first), Sequence(last)).await.unwrap();
                model.delivered.extend(first..=durable.min(last));
            }
            Deed::Reopen => {
                store.close().await;
                store = Store::open(directory.path(), least());
                model.compare(&store).await;
            }
        }
    }
    store.handle.flush().await.unwrap();
    model.compare(&store).await;
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_that_is_full_forgets_nothing_without_a_word(deeds in proptest::collection::vec(deed(), 40..80)) {
        block_on(run_full(deeds));
    }
}

/// Appends until the store has dropped something several times, with a delivery in the middle now and then.
/// Returns how many readings were delivered.
async fn overfill(store: &Store, counter: &mut Counter, deliveries: &[u64]) -> i64 {
    let mut delivered = 0;
    for round in 0..400 {
        store.handle.append(counter.rows(&[250, 250, 250])).await.unwrap();
        store.handle.flush().await.unwrap();
        if deliveries.contains(&round) {
            let last = store.handle.watermarks().borrow().telemetry.durable_last;
            // The newest of all may be a gap record: delivered, it would no longer say what is gone.
            let some = store.handle.read(Lane::Telemetry, Sequence(last.0.saturating_sub(20)), ALL).await.unwrap();
            let newest = some.iter().rev().find(|commit| !numbers(commit).is_empty()).unwrap();
            delivered += numbers(newest).len() as i64;
            store.deliver(Lane::Telemetry, newest.header.sequence.0, newest.header.sequence.0).await;
        }
    }
    delivered
}

#[tokio::test]
async fn what_a_full_store_drops_is_named_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), least());
    let mut counter = Counter::default();
    let deliveries = [100, 101, 180, 230];

    let delivered = overfill(&store, &mut counter, &deliveries).await;
    let commits = store.read_all(Lane::Telemetry, ALL).await;

    let gaps: Vec<&Gap> = commits
        .iter()
        .filter_map(|commit| match &commit.records {
            Records::Gap(gap) => Some(gap),
            Records::Readings(_) | Records::Thinned(_) | Records::Alarms(_) | Records::ClockOffset(_) => None,
        })
        .collect();
    let kept: i64 = commits.iter().map(|commit| numbers(commit).len() as i64).sum();
    let dropped: u64 = gaps.iter().map(|gap| gap.records).sum();
    assert!(dropped > 0 && gaps.iter().all(|gap| gap.reason == GapReason::StoreFull));
    assert_eq!(kept + dropped as i64 + delivered, counter.0);
    let mut accounted: Vec<u64> = commits.iter().map(|commit| commit.header.sequence.0).collect();
    accounted.extend(gaps.iter().flat_map(|gap| gap.first.0..=gap.last.0));
    accounted.sort_unstable();
    accounted.dedup();
    let watermark = store.handle.watermarks().borrow().telemetry;
    assert_eq!(accounted.len(), watermark.durable_last.0 as usize - deliveries.len(), "each sequence, and none twice");
    assert_eq!(watermark.oldest_undelivered, Sequence(1), "until the gap record is delivered");
    assert!(gaps.iter().all(|gap| gap.first_time <= gap.last_time));
    let disk_bytes = store.handle.status().borrow().disk_bytes;
    assert!(disk_bytes <= least(), "{disk_bytes} with {}", watermark.pending_bytes);
    assert!(gaps.len() < commits.len() / 4, "{} gaps among {}", gaps.len(), commits.len());

    let last = watermark.durable_last;
    store.deliver(Lane::Telemetry, 1, last.0).await;
    store.handle.flush().await.unwrap();
    assert_eq!(store.handle.watermarks().borrow().telemetry.oldest_undelivered, last.next());
    store.close().await;
}

#[tokio::test]
async fn history_goes_before_anything_undelivered() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), least());
    let mut counter = Counter::default();
    store.handle.append(counter.rows(&[100])).await.unwrap();
    store.handle.append_alarms(vec![alarm(0)]).await.unwrap();
    store.handle.flush().await.unwrap();

    for _ in 0..400 {
        store.handle.append(counter.rows(&[250, 250, 250])).await.unwrap();
        store.handle.flush().await.unwrap();
        let last = store.handle.watermarks().borrow().telemetry.durable_last;
        store.deliver(Lane::Telemetry, 2, last.0).await;
    }

    let left = store.read_all(Lane::Telemetry, ALL).await;
    let status = store.handle.status().borrow().clone();
    assert_eq!(left.len(), 1);
    assert_eq!(numbers(&left[0]), (0..100).collect::<Vec<_>>());
    assert_eq!(store.read_all(Lane::Alarms, ALL).await.len(), 1);
    assert_eq!(status.dropped, 0);
    assert!(status.live_bytes <= status.live_bytes_max);
    assert!(status.disk_bytes <= least(), "{status:?}");
    assert!(status.history_commits > 10);
    store.close().await;
}

#[tokio::test]
async fn sequences_go_on_after_the_lane_was_emptied_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut counter = Counter::default();
    let store = Store::open(directory.path(), least());
    overfill(&store, &mut counter, &[]).await;
    let before = *store.handle.watermarks().borrow();
    store.deliver(Lane::Telemetry, 1, before.telemetry.durable_last.0).await;
    store.close().await;

    let store = Store::open(directory.path(), least());
    store.handle.append(counter.rows(&[1])).await.unwrap();
    store.handle.flush().await.unwrap();

    let after = *store.handle.watermarks().borrow();
    assert_eq!(after.epoch, before.epoch);
    assert_eq!(after.telemetry.durable_last, before.telemetry.durable_last.next());
    assert_eq!(after.telemetry.oldest_undelivered, after.telemetry.durable_last);
    store.close().await;
}

fn series(name: &str, unit: &str) -> SeriesInfo {
    SeriesInfo {
        name: name.into(),
        labels: Arc::new(BTreeMap::from([("device".into(), "press-1".into())])),
        unit: unit.into(),
        kind: ValueKind::F32,
        scale: lineside::model::Scale::new(0.1, 0.3),
        states: BTreeMap::from([(-1, "off".into())]),
    }
}

#[tokio::test]
async fn an_equal_series_keeps_its_id_and_a_changed_one_gets_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), PLENTY);
    let ids = store.handle.register(vec![series("a", "W"), series("b", "W"), series("a", "W")]).await.unwrap();
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
    store.close().await;

    let store = Store::open(directory.path(), PLENTY);
    let again = store.handle.register(vec![series("b", "W"), series("a", "kW"), series("a", "W")]).await.unwrap();
    let catalogue = store.handle.catalogue().await.unwrap();

    assert_eq!((again[0], again[2]), (ids[1], ids[0]));
    assert!(!ids.contains(&again[1]));
    assert_eq!(catalogue.series.len(), 3);
    assert_eq!(*catalogue.series[2].1, series("a", "kW"));
    store.close().await;
}

#[tokio::test]
async fn commits_become_durable_within_the_interval_without_being_asked() {
    let directory = tempfile::tempdir().unwrap();
    let interval = std::time::Duration::from_millis(20);
    let store = Store::try_open(directory.path(), PLENTY, interval).unwrap();
    let mut watermarks = store.handle.watermarks();

    store.handle.append(Counter::default().rows(&[3])).await.unwrap();
    watermarks.wait_for(|seen| seen.telemetry.durable_last == Sequence(1)).await.unwrap();
    store.handle.append_alarms(vec![alarm(1)]).await.unwrap();
    watermarks.wait_for(|seen| seen.alarms.pending_commits == 1).await.unwrap();

    let commits: Vec<Commit> = store.read_all(Lane::Telemetry, ALL).await;
    assert_eq!(numbers(&commits[0]), [0, 1, 2]);
    store.close().await;
}
