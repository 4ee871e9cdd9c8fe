//! The stages while they work: redrawn on a terminal, a line each second otherwise.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::consumer::Arrived;
use crate::cli::table::{bytes, count};
use crate::diagnostics::Status;
use crate::mqtt::SessionState;
use crate::poll::status::DeviceState;

/// A view of the running demo.
pub(super) struct View {
    kind: Kind,
}

enum Kind {
    Quiet,
    Lines { last_second: u64 },
    Live { lines: Vec<ProgressBar>, frame: MultiProgress },
}

/// One line for each stage.
const STAGES: usize = 7;

impl View {
    /// A view that says something only when `wanted`, and redraws itself on a terminal.
    pub fn new(wanted: bool, terminal: bool) -> Self {
        let kind = match (wanted, terminal) {
            (false, _) => Kind::Quiet,
            (true, false) => Kind::Lines { last_second: u64::MAX },
            (true, true) => {
                let frame = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                let line = |_| frame.add(ProgressBar::new(1).with_style(style.clone()));
                let lines = (0..STAGES).map(line).collect();
                Kind::Live { lines, frame }
            }
        };
        Self { kind }
    }

    /// Shows the state of all stages.
    pub fn show(&mut self, elapsed: Duration, broker_is_up: bool, status: &Status, arrived: &Arrived) {
        match &mut self.kind {
            Kind::Quiet => {}
            Kind::Lines { last_second } => {
                if *last_second != elapsed.as_secs() {
                    *last_second = elapsed.as_secs();
                    eprintln!("{}", one_line(elapsed, broker_is_up, status, arrived));
                }
            }
            Kind::Live { lines, .. } => {
                for (line, text) in lines.iter().zip(stages(elapsed, broker_is_up, status, arrived)) {
                    line.set_message(text);
                }
            }
        }
    }

    /// Leaves the last picture where it is.
    pub fn end(&mut self) {
        if let Kind::Live { lines, frame } = &self.kind {
            for line in lines {
                line.abandon();
            }
            // A terminal that has gone needs no blank line.
            let _ = frame.println("");
        }
    }
}

fn one_line(elapsed: Duration, broker_is_up: bool, status: &Status, arrived: &Arrived) -> String {
    let broker = if broker_is_up { "up  " } else { "AWAY" };
    format!(
        "{:>4}s  broker {broker}  taken {:>8}  backlog {:>7}  delivered {:>8}  decoded {:>8}  devices {}",
        elapsed.as_secs(),
        count(status.ingest.readings()),
        count(status.lanes.telemetry.pending_readings),
        count(status.uplink.readings),
        count(arrived.readings),
        devices(status),
    )
}

fn stages(elapsed: Duration, broker_is_up: bool, status: &Status, arrived: &Arrived) -> [String; STAGES] {
    let session = match status.mqtt.as_ref().map(|mqtt| &mqtt.state) {
        Some(SessionState::Connected(_)) => "connected".to_owned(),
        Some(SessionState::Connecting { attempts, .. }) => format!("connecting, {attempts} attempts failed"),
        None => "-".to_owned(),
    };
    let broker = if broker_is_up { "up" } else { "AWAY for five seconds" };
    let ingest = &status.ingest;
    let store = &status.store;
    [
        format!("lineside demo, {} s (Ctrl-C ends it)", elapsed.as_secs()),
        format!("  plant      {}", devices(status)),
        format!("  poll       {:>9} readings, {} without value", count(ingest.readings()), count(ingest.bad)),
        format!(
            "  store      {:>9} stored, {} in history and backlog",
            count(store.readings_stored),
            bytes(store.live_bytes)
        ),
        format!("  backlog    {:>9} waiting", count(status.lanes.telemetry.pending_readings)),
        format!("  uplink     {:>9} delivered; broker {broker}; {session}", count(status.uplink.readings)),
        format!(
            "  consumer   {:>9} decoded in {} batches, {} repeats discarded, {} alarms",
            count(arrived.readings),
            count(arrived.batches),
            count(arrived.repeats),
            count(arrived.alarms)
        ),
    ]
}

fn devices(status: &Status) -> String {
    let all = || status.links.iter().flat_map(|link| &link.devices);
    let silent: Vec<&str> =
        all().filter(|device| device.state != DeviceState::Answering).map(|device| device.name.as_str()).collect();
    match silent.is_empty() {
        true => format!("{} answer", all().count()),
        false => format!("{} answer, silent: {}", all().count() - silent.len(), silent.join(", ")),
    }
}
