//! Registers that a device refuses for a while: they come back soon, and those refused for good cost next to nothing.

use super::*;

/// One that is always given, and twenty that are not, each in a request of its own.
const RANGES: usize = 21;

fn address(range: usize) -> u16 {
    200 * range as u16
}

/// Gives every register but those beyond the first range before `from`. Counts what it is asked of them.
async fn refuse_until(mut line: DuplexStream, from: Instant, asked_in_vain: Arc<AtomicU64>) {
    let mut request = [0; 12];
    while line.read_exact(&mut request).await.is_ok() {
        let at = u16::from_be_bytes([request[8], request[9]]);
        let pdu = if at > 0 && Instant::now() < from {
            asked_in_vain.fetch_add(1, Ordering::Relaxed);
            vec![0x83, 2]
        } else {
            let count = u16::from_be_bytes([request[10], request[11]]);
            let words = (at..at + count).flat_map(|address| address.to_be_bytes());
            [3, 2 * count as u8].into_iter().chain(words).collect()
        };
        let length = [0, pdu.len() as u8 + 1];
        let frame = [&request[..4], &length, &request[6..7], &pdu].concat();
        if line.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn device(interval: Duration) -> DeviceConfig {
    let points: String =
        (0..RANGES).map(|range| format!("  {{ name = \"p{range}\", address = {} }},\n", address(range))).collect();
    let text = format!(
        "manufacturer = \"Acme\"\nmodel = \"shy\"\nmodbus = {{ table = \"holding\", encoding = \"u16\" }}\n\
         point = [\n{points}]\n"
    );
    let tag = |point: usize| TagConfig {
        point,
        interval,
        series: Arc::new(SeriesInfo {
            name: format!("p{point}"),
            labels: Arc::default(),
            unit: String::new(),
            kind: ValueKind::Int,
            scale: Scale::ONE,
            states: BTreeMap::new(),
        }),
        forward: None,
    };
    DeviceConfig {
        name: Name::new("shy").unwrap(),
        unit: Some(UnitId::serial(1).unwrap()),
        profile: Arc::new(file::parse("shy.toml", "shy", &text).unwrap()),
        firmware: None,
        labels: BTreeMap::new(),
        tags: (0..RANGES).map(tag).collect(),
    }
}

/// Polls a device that refuses twenty ranges for `refusing`, until all are good or `most` has passed. Gives how long that
/// took, and how often refused registers were asked for.
async fn poll_until_all_are_good(interval: Duration, refusing: Duration, most: Duration) -> (Option<Duration>, u64) {
    let endpoint = Endpoint::Tcp { host: "memory".to_owned(), port: 502 };
    let (near, far) = tokio::io::duplex(4096);
    let begun = Instant::now();
    let asked_in_vain = Arc::new(AtomicU64::new(0));
    tokio::spawn(refuse_until(far, begun + refusing, Arc::clone(&asked_in_vain)));
    let client = Client::in_memory(near, &endpoint, TIMEOUT);
    let link = LinkConfig {
        name: Name::new("hall").unwrap(),
        endpoint,
        timeout: TIMEOUT,
        timeout_min: TIMEOUT,
        accepted: Accepted::default(),
        devices: vec![device(interval)],
    };
    let series = vec![(0..RANGES as u32).map(SeriesId).collect()];
    let (sender, mut cycles) = mpsc::channel(64);
    let (mut poller, _handle) = Poller::new(link, series, Arc::new(RuntimeClock(begun)), sender).unwrap();
    poller.connection.set(client);
    let stop = CancellationToken::new();
    let running = tokio::spawn(poller.run(stop.clone()));

    let mut good = std::collections::BTreeSet::new();
    let mut took = None;
    while begun.elapsed() < most {
        let cycle = cycles.recv().await.expect("the poller runs");
        for row in cycle.rows {
            for (series, observed) in row.series.iter().zip(&row.observed) {
                match observed {
                    Observed::Good(value) => {
                        assert_eq!(*value, Value::Int(i64::from(address(series.0 as usize))));
                        good.insert(*series);
                    }
                    Observed::Uncertain(..) | Observed::Bad(_) => drop(good.remove(series)),
                }
            }
        }
        if good.len() == RANGES {
            took = Some(begun.elapsed());
            break;
        }
    }
    stop.cancel();
    running.await.unwrap();
    (took, asked_in_vain.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn twenty_ranges_that_come_back_are_all_back_within_a_minute() {
    for (interval, refusing) in [(1, 20), (1, 100), (10, 20), (10, 600), (30, 300)] {
        let (interval, refusing) = (Duration::from_secs(interval), Duration::from_secs(refusing));

        let (took, _) = poll_until_all_are_good(interval, refusing, refusing + Duration::from_secs(600)).await;

        let took = took.expect("all come back") - refusing;
        println!("polled each {interval:?}, refused for {refusing:?}: all back {took:?} later");
        // A look comes with a poll.
        assert!(
            took <= Duration::from_secs(60).max(Duration::from_secs(50) + interval),
            "{interval:?} {refusing:?}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_hardly_asked_for_in_a_day() {
    let day = Duration::from_secs(24 * 3600);

    let (took, asked) = poll_until_all_are_good(Duration::from_secs(10), 2 * day, day).await;

    println!("refused for good: asked {asked} times in a day");
    assert_eq!(took, None);
    // Forty looks of one request in the first half hour, then fewer and fewer; and what finding out took.
    assert!((20..150).contains(&asked), "{asked}");
}
