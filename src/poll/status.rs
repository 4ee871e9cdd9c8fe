//! What a link and its devices do, for people to look at.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde::{Serialize, Serializer};

use tokio::time::Instant;

use crate::modbus::PollError;
use crate::model::{Fault, Name, Timestamp};

pub use super::health::DeviceState;
pub use super::identity::{IdentityState, IdentityStatus};
use super::learned::LearnedStatus;

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
    /// After so many answers the other side closes each connection; `None` where it does not, or not yet as a habit.
    pub closes_after: Option<u32>,
    /// Connections that the other side has closed.
    pub reconnects_closed: u64,
    /// Connections given up because each answer was that of the request before.
    pub reconnects_behind: u64,
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
    /// The same, predicted from the poll plan and what is known of the devices that answer; above 1 it cannot keep up.
    pub predicted_ratio: f64,
    /// Part of the polls of the last seconds that were done, 0 to 1.
    pub kept_ratio: f64,
    /// There is more to do than the link has time for: every device loses the same part of its polls.
    pub overloaded: bool,
    /// Polls at each interval.
    pub intervals: Vec<IntervalStatus>,
    /// The devices, in the order of the configuration.
    pub devices: Vec<DeviceStatus>,
}

/// The polls of a link at one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IntervalStatus {
    /// How often, in milliseconds.
    pub interval_ms: u64,
    /// The latest that a poll has started after its time, in milliseconds.
    pub late_max_ms: u64,
    /// The same, predicted.
    pub predicted_late_max_ms: u64,
}

/// Lines without meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnmatchedLines {
    /// When the first came.
    pub since: Timestamp,
    /// How many came.
    pub count: u64,
    /// The last, printable.
    pub last: String,
}

/// A snapshot of one device.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceStatus {
    /// Name of the device.
    #[serde(serialize_with = "as_text")]
    pub name: Name,
    /// How it behaves.
    pub state: DeviceState,
    /// Why it may refuse what it is asked for, when its addresses look like those of manuals.
    pub address_hint: Option<String>,
    /// Who it is; `None` until it was identified, and where its profile has nothing to tell.
    pub identity: Option<IdentityStatus>,
    /// Polls whose time has come, the skipped ones included.
    pub polls_due: u64,
    /// Polls left out because the link was busy.
    pub polls_skipped: u64,
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
    /// Answers that were an exception, those of gateways on the way included.
    pub exceptions: u64,
    /// The same, by code.
    pub exceptions_by_code: BTreeMap<u8, u64>,
    /// Requests that failed with the link.
    pub link_failures: u64,
    /// Answers that came too late and were dropped.
    pub stale_dropped: u64,
    /// Bytes around its answers that belonged to nothing: on a serial line from missing bias or termination, on TCP what it
    /// sends too much.
    pub stray_bytes: u64,
    /// Answers around which there were such bytes.
    pub stray_answers: u64,
    /// Requests asked once more because the connection was closed before their answer.
    pub asked_anew: u64,
    /// Time of the last answer.
    pub last_answer: Option<Timestamp>,
    /// Why the last request that failed did.
    pub last_error: Option<String>,
    /// Lines of a text instrument that no pattern of its profile fits, since the last one that fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<UnmatchedLines>,
    /// From sending a request to its answer.
    pub round_trip: RoundTrip,
    /// What was learned of it, and how long its answers are waited for.
    pub learned: LearnedStatus,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl LinkStatus {
    /// A link of which nothing is known yet.
    pub fn new(name: Name, endpoint: String, devices: impl Iterator<Item = Name>) -> Self {
        Self {
            name,
            endpoint,
            connected: false,
            last_error: None,
            closes_after: None,
            reconnects_closed: 0,
            reconnects_behind: 0,
            polls_due: 0,
            polls_done: 0,
            polls_skipped: 0,
            clock_steps: 0,
            busy_ms: 0,
            busy_ratio: 0.0,
            predicted_ratio: 0.0,
            kept_ratio: 1.0,
            overloaded: false,
            intervals: Vec::new(),
            devices: devices.map(DeviceStatus::new).collect(),
        }
    }
}

impl DeviceStatus {
    /// A device that was not asked yet.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            state: DeviceState::Answering,
            address_hint: None,
            identity: None,
            polls_due: 0,
            polls_skipped: 0,
            requests: 0,
            answers: 0,
            timeouts: 0,
            crc_errors: 0,
            bad_frames: 0,
            exceptions: 0,
            exceptions_by_code: BTreeMap::new(),
            link_failures: 0,
            stale_dropped: 0,
            stray_bytes: 0,
            stray_answers: 0,
            asked_anew: 0,
            last_answer: None,
            last_error: None,
            unmatched: None,
            round_trip: RoundTrip::default(),
            learned: LearnedStatus::default(),
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
            // Nobody sent anything: it says nothing of the device.
            Err(error) if error.is_of_the_asker() => return,
            Err(error) => error,
        };
        match error.fault() {
            Fault::LinkDown => self.link_failures += 1,
            fault => {
                self.requests += 1;
                match fault {
                    Fault::Exception(code) => {
                        self.exceptions += 1;
                        *self.exceptions_by_code.entry(code).or_default() += 1;
                        if error.is_answer() {
                            self.last_answer = Some(now);
                        }
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
    /// Polls due and skipped when the span began.
    polls_at_span_start: (u64, u64),
    /// The link was somebody else's in the present span: what was skipped was not too much to do.
    is_lent: bool,
}

/// More than this part of the polls left out, over a span, is more than a hiccup.
const SKIPPED_MOST: f64 = 0.02;

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            busy: Duration::ZERO,
            span_start: now,
            busy_at_span_start: Duration::ZERO,
            polls_at_span_start: (0, 0),
            is_lent: false,
        }
    }

    /// The link has been somebody else's.
    pub(super) fn was_lent(&mut self) {
        self.is_lent = true;
    }

    /// Renews what is said of the present span; begins a new span when this one is over.
    pub(super) fn show(&mut self, now: Instant, status: &mut LinkStatus) {
        let span = now - self.span_start;
        let busy = self.busy - self.busy_at_span_start;
        let (due, skipped) = self.polls_at_span_start;
        let (due, skipped) = (status.polls_due - due, status.polls_skipped - skipped);
        status.busy_ms = u64::try_from(self.busy.as_millis()).unwrap_or(u64::MAX);
        status.busy_ratio = (busy.as_secs_f64() / span.as_secs_f64().max(f64::EPSILON)).min(1.0);
        status.kept_ratio = 1.0 - skipped as f64 / due.max(1) as f64;
        if span >= LOAD_SPAN {
            let is_lent = std::mem::take(&mut self.is_lent);
            status.overloaded = !is_lent && skipped as f64 > SKIPPED_MOST * due as f64;
            self.span_start = now;
            self.busy_at_span_start = self.busy;
            self.polls_at_span_start = (status.polls_due, status.polls_skipped);
        }
    }
}

/// Upper ends of the buckets of [`RoundTrip`], in microseconds; the last bucket has none.
pub const ROUND_TRIP_BUCKETS_US: [u64; 12] =
    [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(into = "ShownRoundTrip")]
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

/// Round trips as they are shown: with percentiles, in microseconds; zero before the first answer.
#[derive(Debug, Serialize)]
struct ShownRoundTrip {
    min_us: u64,
    mean_us: u64,
    p50_us: u64,
    p95_us: u64,
    p99_us: u64,
    max_us: u64,
    total_us: u64,
    buckets: [u64; 13],
}

impl From<RoundTrip> for ShownRoundTrip {
    fn from(trip: RoundTrip) -> Self {
        let percentile = |share| trip.percentile_us(share).unwrap_or(0);
        Self {
            min_us: trip.min_us,
            mean_us: trip.mean_us().unwrap_or(0),
            p50_us: percentile(0.5),
            p95_us: percentile(0.95),
            p99_us: percentile(0.99),
            max_us: trip.max_us,
            total_us: trip.total_us,
            buckets: trip.buckets,
        }
    }
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
