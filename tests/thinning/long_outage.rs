//! Seven days without a broker, in simulated time, with the least room that the engine may be given.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lineside::buffer::ReadLimit;
use lineside::database::disk_bytes;
use lineside::model::{Lane, Sequence, Window};

use super::ledger::Ledger;
use super::store::{self, Store};
use super::week::Week;

const DAYS: u64 = 7;

/// Ten readings a second; `LINESIDE_LONG=1` for a thousand.
fn readings_a_second() -> u32 {
    if std::env::var_os("LINESIDE_LONG").is_some() { 1000 } else { 10 }
}

#[tokio::test]
async fn after_a_week_without_broker_every_reading_is_delivered_thinned_or_in_a_gap_record() {
    let directory = tempfile::tempdir().unwrap();
    let limit = store::engine().limit_least();
    let store = Store::thinning(directory.path(), limit);
    let week = Week { series: readings_a_second() };

    // Given a week of readings, one commit of each ten seconds.
    let begun = Instant::now();
    let peak = Peak::of(directory.path());
    let mut longest = Duration::ZERO;
    for second in 0..DAYS * 86_400 {
        store.handle.append(vec![week.row(second)]).await.unwrap();
        if second % 10 == 9 {
            let asked = Instant::now();
            store.handle.flush().await.unwrap();
            longest = longest.max(asked.elapsed());
        }
    }
    store.handle.flush().await.unwrap();
    let stored = begun.elapsed();
    let full = store.handle.status().borrow().clone();
    let largest = peak.end();
    assert!(largest <= limit, "{largest} bytes on disk");
    assert!(full.live_bytes <= full.live_bytes_max, "{full:?}");

    // When it is delivered, batch by batch.
    let begun = Instant::now();
    let mut ledger = Ledger::default();
    let mut from = Sequence::FIRST;
    loop {
        let limit = ReadLimit { commits: usize::MAX, records: 20_000 };
        let commits = store.handle.read(Lane::Telemetry, from, limit).await.unwrap();
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { break };
        from = last.header.sequence.next();
        store
            .handle
            .delivered(first.header.epoch, Lane::Telemetry, first.header.sequence, last.header.sequence)
            .await
            .unwrap();
        commits.iter().for_each(|commit| ledger.take(commit, &week));
    }
    store.handle.flush().await.unwrap();
    let drained = begun.elapsed();

    // Then nothing is left, and each reading is accounted for once.
    ledger.assert_complete(&store, week.readings(DAYS * 86_400));
    let marks = store.handle.watermarks().borrow().telemetry;
    assert_eq!((marks.pending_commits, marks.oldest_undelivered), (0, marks.durable_last.next()));
    assert!(ledger.raw_from.unwrap() > ledger.newest_window.unwrap(), "only the oldest are thinned: {ledger:?}");
    assert!(ledger.aggregates_of(Window::Minute) > 0 && ledger.aggregates_of(Window::TenMinutes) > 0, "{ledger:?}");
    report(&ledger, limit, largest, stored, drained);
    println!("longest save, with what keeps the limit: {longest:.0?}");
    store.close().await;
    let verify = ["store", "verify", "--store", directory.path().to_str().unwrap()];
    let verified = Command::new(env!("CARGO_BIN_EXE_lineside")).args(verify).output().unwrap();
    // This test gives its series no names, and nothing else is to be found.
    let verified = String::from_utf8(verified.stdout).unwrap();
    let findings = verified.lines().skip_while(|line| !line.contains("finding")).skip(1);
    let others: Vec<_> = findings
        .filter(|line| !line.ends_with("is not in the catalogue") && !line.contains("--json has all"))
        .collect();
    assert!(verified.contains("telemetry") && others.is_empty(), "{verified}");
}

/// The most that a directory takes on disk, looked at all the time and not only when the store looks itself.
struct Peak {
    bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    fn of(directory: &Path) -> Self {
        let (bytes, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (directory, bytes, is_over) = (directory.to_owned(), bytes.clone(), is_over.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    bytes.fetch_max(disk_bytes(&directory), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Self { bytes, is_over, thread }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.bytes.load(Ordering::Relaxed)
    }
}

fn report(ledger: &Ledger, limit: u64, largest: u64, stored: Duration, drained: Duration) {
    println!(
        "{} readings a second for {DAYS} days, limit {limit} bytes, at most {largest} on disk",
        readings_a_second()
    );
    println!("delivered {} as taken, {} thinned, {} in gap records", ledger.raw, ledger.replaced, ledger.dropped);
    let (minutes, tens) = (ledger.aggregates_of(Window::Minute), ledger.aggregates_of(Window::TenMinutes));
    println!("aggregates: {minutes} of a minute, {tens} of ten minutes; {} of windows that were cut", ledger.cut);
    println!("stored in {stored:.0?}, drained in {drained:.0?}");
}
