//! A serial adapter that is pulled out of a running gateway and put back.

#![cfg(test)]

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use lineside::simulator::{Endpoint, Keep, LineFormat, Pace, Place, Servers};
use support::installation::{Installation, NO_BROKER};
use support::meters;
use tokio::time::Instant;

/// Longest time from plugging in to the first good reading.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// A line with one meter, found under `path` as adapters are below /dev/serial/by-id.
fn plug(path: &Path) -> (Servers, Endpoint) {
    let mut servers = Servers::default();
    let format = LineFormat::modbus(19_200, Pace::Real);
    let endpoint = servers.rtu(format, vec![meters::device(1, 2)], Keep::Counters).unwrap();
    symlink(endpoint.port(), path).unwrap();
    (servers, endpoint)
}

async fn unplug((servers, _): (Servers, Endpoint), path: &Path) {
    std::fs::remove_file(path).unwrap();
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_is_pulled_out_and_put_back_is_in_use_again_within_five_seconds() {
    let place = tempfile::Builder::new().prefix("lineside-test-").tempdir().unwrap();
    let path = place.path().join("usb-Adapter-if00-port0");
    let mut adapter = plug(&path);
    let Place::Serial(settings) = adapter.1.place().clone() else { unreachable!("the endpoint is a line") };
    let port = meters::serial(path.to_str().unwrap(), &settings);
    let links = format!("\n[[link]]\nname = \"hall-a\"\n{port}\ntimeout = \"200ms\"\n")
        + &meters::meter(1, "hall-a", "meter", "500ms");
    let installation = Installation::new(NO_BROKER, &[("meter", &meters::profile(2))], &links);
    let mut agent = installation.start().await;
    let mut tail = agent.tail();

    for round in 1..=3 {
        tail.until("a good reading", |reading| reading.quality == "good").await;

        unplug(adapter, &path).await;
        for _ in 0..2 {
            tail.until("link down", |reading| reading.quality == "bad: link down").await;
        }
        // Away for longer than the first waits, so that the agent has begun to wait longer.
        let meanwhile = tail.during(Duration::from_secs(3 * round)).await;
        assert!(meanwhile.iter().all(|reading| reading.quality == "bad: link down"), "{meanwhile:?}");
        assert_eq!(agent.status().await["links"][0]["connected"], false);

        let plugged_in = Instant::now();
        adapter = plug(&path);
        let back = tail.until("a good reading", |reading| reading.quality == "good").await;
        meters::assert_true_or_bad(&back);
        println!("away for {} s, back {:?} after it was plugged in", 3 * round, plugged_in.elapsed());
        assert!(plugged_in.elapsed() < BACK_WITHIN, "{:?}", plugged_in.elapsed());
        agent.assert_running();
    }
    assert_eq!(agent.status().await["links"][0]["connected"], true);
    assert_eq!(agent.stop().await.code(), Some(0));
}
