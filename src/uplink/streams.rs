//! Which stream is to be sent next: what is new, or what was kept.

use std::time::Duration;

use tokio::time::Instant;

use super::Uplink;
use super::backlog::Backlog;
use super::flight::DELIVERIES_MAX;
use super::progress::Stream;
use crate::config::BacklogOrder;
use crate::encoding::Order;
use crate::model::{Lane, Sequence};

/// Live data that waits for longer is live no more: it joins the backlog, and what is new goes out at once again.
const LAG_MOST: Duration = Duration::from_secs(60);

/// Alarms under way at once while none was seen to pass the broker: each takes seconds, and telemetry needs its places.
const ALARMS_TRIED: usize = 2;

impl Uplink {
    /// When the database was lost, sequences begin anew.
    pub(super) fn follow_epoch(&mut self) {
        let marks = *self.watermarks.borrow();
        if self.epoch != marks.epoch {
            self.epoch = marks.epoch;
            for lane in Lane::ALL {
                self.progress(lane).backlog_until = marks.lane(lane).durable_last;
                self.abandon(lane);
            }
        }
    }

    pub(super) fn begin_session(&mut self, generation: u64, session_present: bool) {
        let marks = *self.watermarks.borrow();
        for (lane, mark) in [(Lane::Alarms, marks.alarms), (Lane::Telemetry, marks.telemetry)] {
            let progress = self.progress(lane);
            progress.backlog_until = mark.durable_last;
            progress.retry_at = None;
            (progress.is_trying, progress.is_held, progress.untried) = (false, false, Sequence::FIRST);
            self.abandon(lane);
        }
        self.others.start_over();
        self.refused_size = None;
        self.catalogue_retry_at = None;
        let was_interrupted = self.cataloguing.take().is_some();
        self.catalogue_due |= was_interrupted || self.generation.is_none() || !session_present;
        self.generation = Some(generation);
    }

    /// Gives up what is under way: it is still in the store and will be read again.
    pub(super) fn abandon(&mut self, lane: Lane) {
        self.flight.abandon(lane);
        self.progress(lane).live.start_over(Sequence::FIRST);
        if lane == Lane::Telemetry {
            self.backlog = None;
            self.split();
        }
    }

    /// What waits already becomes the backlog, so that what is new need not wait for it.
    fn split(&mut self) {
        let mark = self.watermarks.borrow().telemetry;
        let is_beside = self.settings.backlog.order == BacklogOrder::LiveFirst;
        if !is_beside || mark.durable_last < mark.oldest_undelivered {
            return;
        }
        self.backlog = Some(Backlog::new(Sequence::FIRST, mark.durable_last));
        self.telemetry.live.start_over(mark.durable_last.next());
        self.telemetry.backlog_until = mark.durable_last;
        self.telemetry.waiting_since = None;
    }

    /// Live data that could not keep up joins the backlog.
    pub(super) fn let_go_of_what_lags(&mut self) {
        let last = self.watermarks.borrow().telemetry.durable_last;
        let lag = self.telemetry.lag(last, Instant::now());
        let may_split = self.settings.backlog.order == BacklogOrder::LiveFirst && self.telemetry.may_retry();
        if !may_split || lag < LAG_MOST.max(2 * self.settings.batch.max_age) {
            return;
        }
        let first = self.telemetry.live.first_uncovered();
        let is_added = match &mut self.backlog {
            Some(backlog) => backlog.add(first, last),
            None => {
                self.backlog = Some(Backlog::new(first, last));
                true
            }
        };
        if is_added {
            tracing::debug!(%first, %last, "live data lags and joins the backlog");
            self.telemetry.live.start_over(last.next());
            self.telemetry.backlog_until = last;
            self.telemetry.waiting_since = None;
        }
    }

    /// Whether the backlog may have one more batch under way: one place is kept for what is new.
    pub(super) fn backlog_has_room(&self) -> bool {
        let most = if self.is_slow { 1 } else { DELIVERIES_MAX - 1 };
        let may_send = self.telemetry.may_retry() && !self.waits_for_trial();
        self.backlog.is_some()
            && self.generation.is_some()
            && may_send
            && self.flight.has_room()
            && self.flight.backlog() < most
    }

    /// Whether a batch is on its way to see if the broker passes it on: the others wait for that.
    fn waits_for_trial(&self) -> bool {
        self.telemetry.is_trying && self.flight.of(Lane::Telemetry) > 0
    }

    pub(super) fn alarms_are_due(&self) -> bool {
        let mark = self.watermarks.borrow().alarms;
        let (progress, under_way) = (&self.alarms, self.flight.of(Lane::Alarms));
        let is_untried = progress.live.next >= progress.untried;
        let may_send = match (progress.is_held, progress.is_trying) {
            (true, _) => is_untried && under_way < ALARMS_TRIED,
            (false, true) => progress.may_retry() && under_way < if is_untried { ALARMS_TRIED } else { 1 },
            (false, false) => progress.may_retry(),
        };
        may_send && self.flight.has_room_for_alarms() && progress.has_more(&mark)
    }

    /// When alarms that did not pass the broker are due again, the oldest goes first.
    pub(super) fn retry_held_alarms(&mut self) {
        let progress = &mut self.alarms;
        if progress.is_held && progress.may_retry() {
            progress.is_held = false;
            progress.live.start_over(Sequence::FIRST);
        }
    }

    pub(super) fn telemetry_is_due(&mut self, payload_aim: usize) -> bool {
        let mark = self.watermarks.borrow_and_update().telemetry;
        if !self.telemetry.has_more(&mark) {
            self.telemetry.waiting_since = None;
            return false;
        }
        let since = *self.telemetry.waiting_since.get_or_insert_with(Instant::now);
        let is_old = since.elapsed() >= self.settings.batch.max_age;
        let passed = self.telemetry.live.passed.map_or(0, |passed| passed.readings);
        let under_way = (self.flight.records(Lane::Telemetry) + passed) as u64;
        let waiting = match &self.backlog {
            None => mark.pending_readings.saturating_sub(under_way),
            Some(_) => self.telemetry.live.waiting(mark.durable_last),
        };
        let is_full = waiting >= self.sizer.readings(payload_aim) as u64;
        let is_backlog = self.telemetry.live.next <= self.telemetry.backlog_until
            && mark.oldest_undelivered <= self.telemetry.backlog_until;
        self.telemetry.may_retry() && !self.waits_for_trial() && (is_old || is_full || is_backlog)
    }

    /// The stream of telemetry that is sent as `order`.
    pub(super) fn stream(&mut self, order: Order) -> &mut Stream {
        match (order, &mut self.backlog) {
            (Order::Backlog, Some(backlog)) => &mut backlog.stream,
            (Order::Live, _) | (Order::Backlog, None) => &mut self.telemetry.live,
        }
    }

    /// Notes that there is nothing to send as `order` for now.
    pub(super) fn note_empty(&mut self, order: Order) {
        if order == Order::Live {
            self.telemetry.waiting_since = None;
            return;
        }
        let has_more = self.backlog.as_mut().is_some_and(|backlog| backlog.stream.cover() || backlog.go_on());
        if !has_more {
            tracing::info!("the backlog is sent");
            self.backlog = None;
        }
    }
}
