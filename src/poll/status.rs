//! What a link and its devices do, for people to look at.

use std::fmt::Display;
use std::time::Duration;

use serde::{Serialize, Serializer};

use tokio::time::Instant;

use crate::modbus::PollError;
use crate::model::{Fault, Name, Timestamp};

pub use super::health::DeviceState;
pub use super::identity::{IdentityState, IdentityStatus};

/// A snapshot of one link. Counters count from the start of the agent.
#[derive(Debug, Clone, Serialize)]
pub struct LinkStatus {
    /// Name of the link.
    #[serde(serialize_with = "as_text")]
    pub name: Name,
    /// Where it leads, as text.
    pub endpoint: String,
    /// Whether the connection or port is open.
    pub connected: bool,
    /// Why it is not, or was not last time.
    pub last_error: Option<String>,
    /// Polls (one group of one device each) whose time has come, the skipped ones included.
    pub polls_due: u64,
    /// Polls carried out, whatever the devices answered.
    pub polls_done: u64,
    /// Polls left out because the link or the receiver of the readings was busy.
    pub polls_skipped: u64,
    /// How often the wall clock was seen to step.
    pub clock_steps: u64,
    /// Time in which the link was occupied by requests, answers and the silences they need, in milliseconds.
    pub busy_ms: u64,
    /// Share of the last seconds in which the link was occupied, 0 to 1.
    pub busy_ratio: f64,
    /// The devices, in the order of the configuration.
    pub devices: Vec<DeviceStatus>,
}

/// A snapshot of one device.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceStatus {
    /// Name of the device.
    #[serde(serialize_with = "as_text")]
    pub name: Name,
    /// How it behaves.
    pub state: DeviceState,
    /// Who it is; `None` until it was identified, and where its profile has nothing to tell.
    pub identity: Option<IdentityStatus>,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Requests answered with words.
    pub answers: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Answers with a bad checksum.
    pub crc_errors: u64,
    /// Answers of another unit, function or length, and bytes that are no frame.
    pub bad_frames: u64,
    /// Answers that were an exception.
    pub exceptions: u64,
    /// Requests that failed with the link.
    pub link_failures: u64,
    /// Answers that came too late and were dropped.
    pub stale_dropped: u64,
    /// Time of the last answer.
    pub last_answer: Option<Timestamp>,
    /// Why the last request that failed did.
    pub last_error: Option<String>,
    /// From sending a request to its answer.
    pub round_trip: RoundTrip,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl LinkStatus {
    pub(super) fn new(name: Name, endpoint: String, devices: impl Iterator<Item = Name>) -> Self {
        Self {
            name,
            endpoint,
            connected: false,
            last_error: None,
            polls_due: 0,
            polls_done: 0,
            polls_skipped: 0,
            clock_steps: 0,
            busy_ms: 0,
            busy_ratio: 0.0,
            devices: devices.map(DeviceStatus::new).collect(),
        }
    }
}

impl DeviceStatus {
    fn new(name: Name) -> Self {
        Self {
            name,
            state: DeviceState::Answering,
            identity: None,
            requests: 0,
            answers: 0,
            timeouts: 0,
            crc_errors: 0,
            bad_frames: 0,
            exceptions: 0,
            link_failures: 0,
            stale_dropped: 0,
            last_answer: None,
            last_error: None,
            round_trip: RoundTrip::default(),
        }
    }
}

impl DeviceStatus {
    /// Counts one request and what came of it.
    pub(super) fn count(&mut self, now: Timestamp, took: Duration, outcome: Result<(), &PollError>) {
        let error = match outcome {
            Ok(()) => {
                self.requests += 1;
                self.answers += 1;
                self.last_answer = Some(now);
                self.round_trip.add(took);
                return;
            }
            Err(error) => error,
        };
        match error.fault() {
            Fault::LinkDown => self.link_failures += 1,
            fault => {
                self.requests += 1;
                match fault {
                    Fault::Exception(_) => {
                        self.exceptions += 1;
                        self.last_answer = Some(now);
                    }
                    Fault::Timeout => self.timeouts += 1,
                    Fault::BadChecksum => self.crc_errors += 1,
                    _ => self.bad_frames += 1,
                }
            }
        }
        self.last_error = Some(error.to_string());
    }
}

/// Span over which the load of a link is averaged.
const LOAD_SPAN: Duration = Duration::from_secs(10);

/// How much of the time a link is occupied.
pub(super) struct Load {
    /// Occupied since the start.
    pub(super) busy: Duration,
    span_start: Instant,
    busy_at_span_start: Duration,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self { busy: Duration::ZERO, span_start: now, busy_at_span_start: Duration::ZERO }
    }

    /// Share of the present span in which the link was occupied; begins a new span when this one is over.
    pub(super) fn ratio(&mut self, now: Instant) -> f64 {
        let span = now - self.span_start;
        let busy = self.busy - self.busy_at_span_start;
        if span >= LOAD_SPAN {
            self.span_start = now;
            self.busy_at_span_start = self.busy;
        }
        (busy.as_secs_f64() / span.as_secs_f64().max(f64::EPSILON)).min(1.0)
    }
}

/// Upper ends of the buckets of [`RoundTrip`], in microseconds; the last bucket has none.
pub const ROUND_TRIP_BUCKETS_US: [u64; 12] =
    [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RoundTrip {
    /// Shortest, in microseconds.
    pub min_us: u64,
    /// Longest, in microseconds.
    pub max_us: u64,
    /// All together, in microseconds.
    pub total_us: u64,
    /// Answers up to each of [`ROUND_TRIP_BUCKETS_US`], and beyond.
    pub buckets: [u64; 13],
}

impl RoundTrip {
    /// Counts one answer.
    pub fn add(&mut self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.min_us = if self.count() == 0 { took_us } else { self.min_us.min(took_us) };
        self.max_us = self.max_us.max(took_us);
        self.total_us = self.total_us.saturating_add(took_us);
        self.buckets[ROUND_TRIP_BUCKETS_US.partition_point(|end| *end < took_us)] += 1;
    }

    /// How many answers were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Mean, in microseconds; `None` before the first answer.
    pub fn mean_us(&self) -> Option<u64> {
        self.total_us.checked_div(self.count())
    }

    /// The end of the bucket below which this share (0 to 1) of the answers lies, in microseconds; `None` before
    /// the first answer.
    pub fn percentile_us(&self, share: f64) -> Option<u64> {
        let wanted = (share * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen > 0 && seen >= wanted
        })?;
        Some(ROUND_TRIP_BUCKETS_US.get(bucket).map_or(self.max_us, |end| self.max_us.min(*end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_summed_up_in_buckets() {
        let mut trips = RoundTrip::default();
        assert_eq!((trips.mean_us(), trips.percentile_us(0.5)), (None, None));

        for took_ms in [1, 1, 1, 40] {
            trips.add(Duration::from_millis(took_ms));
        }

        assert_eq!((trips.min_us, trips.max_us, trips.mean_us()), (1_000, 40_000, Some(10_750)));
        assert_eq!(trips.percentile_us(0.5), Some(1_000));
        assert_eq!(trips.percentile_us(0.99), Some(40_000));
    }
}
