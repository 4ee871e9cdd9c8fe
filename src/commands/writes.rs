//! The part of the task that writes: permissions, the lock, and values that return.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Outcome, State};
use super::gate::Genuine;
use super::lent::Lent;
use super::write::guard::Origin;
use super::write::lease::{Leased, Leases};
use super::write::lock::WriteLock;
use super::write::pace::{Pace, Written};
use super::write::{Ticket, Wish, WriteGuard};
use super::{Carried, Commands};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::mqtt::SessionState;

/// How often it is looked whether a value has to return.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Without the broker for so long a value returns for which the configuration does not say any more.
const LINK_LOST: Duration = Duration::from_secs(30);

/// A guard that knows when each tag was written last, as far as `pace` does.
pub(super) fn guard(lock: WriteLock, pace: &Result<Pace, String>, clock: &dyn Clock) -> WriteGuard {
    let mut guard = WriteGuard::new(lock);
    for written in pace.iter().flat_map(|pace| pace.all()) {
        guard.was_written(&written.tag, written.passed(clock), clock.monotonic());
    }
    guard
}

/// What became of a value that had to return.
pub(super) struct Returned {
    device: String,
    point: String,
    outcome: Outcome,
}

/// Values that return, and since when there is no broker.
pub(super) struct Returning {
    pub leases: Lent<Leases>,
    pub next_look: Instant,
    lost_since: Option<Instant>,
    under_way: bool,
    /// How often in a row nothing could be returned.
    failures: u32,
}

impl Returning {
    pub fn new(leases: Result<Leases, String>) -> Self {
        Self { leases: leases.into(), next_look: Instant::now(), lost_since: None, under_way: false, failures: 0 }
    }

    /// When to look next; never while nothing is leased.
    pub fn next(&self) -> Option<Instant> {
        let is_empty = self.leases.get().map_or(true, |leases| leases.all().is_empty());
        (!is_empty).then_some(self.next_look)
    }
}

impl Commands {
    /// Lets a wish pass the guard.
    pub(super) fn admit_write(
        &mut self,
        wish: &Wish,
        origin: Origin,
        expires: Option<Timestamp>,
    ) -> Result<Ticket, String> {
        let has_lease = self.guard.place(&wish.device, &wish.point).is_ok_and(|(config, _)| config.lease.is_some());
        if let (true, Err(trouble)) = (has_lease, self.returning.leases.get()) {
            return Err(format!("nobody knows which values have to return: {trouble}"));
        }
        let ticket = self.guard.admit(wish, origin, expires, self.parts.clock.monotonic())?;
        if let (false, Err(trouble)) = (ticket.config.interval.is_zero(), self.pace.get()) {
            self.guard.release(wish);
            return Err(format!("nobody knows when which tag was written last: {trouble}"));
        }
        Ok(ticket)
    }

    /// Remembers that the tag is about to be written, before it is.
    pub(super) async fn note_pace(&mut self, ticket: &Ticket) -> Result<(), String> {
        if ticket.wish.dry_run || ticket.config.interval.is_zero() {
            return Ok(());
        }
        self.remember_write(&ticket.wish).await
    }

    async fn remember_write(&mut self, wish: &Wish) -> Result<(), String> {
        let (written, named) = (Written::now(wish, &*self.parts.clock), self.guard.names());
        self.pace.with(move |pace| pace.note(written, |tag| named.contains(tag))).await?
    }

    /// Remembers when the value returns, before it is written.
    pub(super) async fn begin_lease(&mut self, ticket: &mut Ticket) -> Result<(), String> {
        let Some(span) = ticket.lease.filter(|_| !ticket.wish.dry_run) else { return Ok(()) };
        let leased = Leased::new(&ticket.wish, span, ticket.from_afar, &*self.parts.clock);
        let leases = self.returning.leases.get()?;
        if leases.all().is_empty() {
            // Whether there was a broker before does not matter: nobody looked.
            self.returning.lost_since = None;
        }
        ticket.replaces = leases.of(&ticket.wish.device, &ticket.wish.point).cloned();
        self.returning.next_look = Instant::now();
        self.returning.leases.with(move |leases| leases.begin(leased)).await?
    }

    /// The wish was tried: its tag is free again, and a value that was surely not written need not return.
    pub(super) async fn end_write(&mut self, ticket: &Ticket, outcome: &Outcome) {
        self.guard.release(&ticket.wish);
        let was_sent = outcome.state != State::Failed || outcome.result["sent"] == true;
        if was_sent || ticket.wish.dry_run || ticket.lease.is_none() {
            return;
        }
        let (device, point) = (ticket.wish.device.clone(), ticket.wish.point.clone());
        let before = ticket.replaces.clone();
        let forgotten = self.returning.leases.with(move |leases| match before {
            Some(before) => leases.begin(before),
            None => leases.end(&device, &point),
        });
        if let Err(error) = forgotten.await.and_then(|done| done) {
            tracing::warn!(error, "a lease cannot be forgotten: the value will return");
        }
    }

    /// Sends back what has to return: its time is over, or nobody could take it back.
    pub(super) fn look_at_leases(&mut self) {
        let now = Instant::now();
        self.returning.next_look = now + LOOK_EVERY;
        let is_connected = self
            .parts
            .outlet
            .borrow()
            .as_ref()
            .is_some_and(|outlet| matches!(*outlet.session.state().borrow(), SessionState::Connected(_)));
        let lost_since = &mut self.returning.lost_since;
        *lost_since = if is_connected { None } else { Some(lost_since.unwrap_or(now)) };
        let lost_for = lost_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let Ok(leases) = self.returning.leases.get() else { return };
        let is_due = |leased: &&Leased| {
            let place = self.guard.place(&leased.device, &leased.point).ok();
            let patience = place.and_then(|(config, _)| config.lease).map_or(LINK_LOST, |lease| lease.without_broker);
            let is_lost = leased.from_afar && !is_connected && lost_for >= patience;
            is_lost || leased.is_over(&*self.parts.clock)
        };
        let due = leases.all().iter().find(is_due).cloned();
        let (Some(due), false) = (due, self.returning.under_way) else { return };
        self.returning.under_way = true;
        tracing::info!(device = due.device, point = due.point, is_connected, "a value returns to its safe one");
        let ticket = self.guard.way_back(&due.device, &due.point);
        let (services, clock) = (self.parts.services.clone(), self.parts.clock.clone());
        self.returns.spawn(async move {
            let outcome = match ticket {
                Ok(ticket) => services.write(&ticket, &*clock).await,
                Err(reason) => Outcome::failed(reason),
            };
            Returned { device: due.device, point: due.point, outcome }
        });
    }

    /// A value has returned, or will be tried again.
    pub(super) async fn has_returned(&mut self, returned: Returned) {
        self.returning.under_way = false;
        let Returned { device, point, outcome } = returned;
        let reason = outcome.reason.unwrap_or_default();
        if outcome.state != State::Done {
            self.returning.failures += 1;
            match self.returning.failures.is_power_of_two() {
                true => tracing::warn!(device, point, reason, "a value could not return to its safe one"),
                false => tracing::debug!(device, point, reason, "a value could not return to its safe one"),
            }
            self.note_refused("lease", "(lease)", &format!("{device}/{point} could not return: {reason}")).await;
            // A device that is away is not asked every second.
            self.returning.next_look = Instant::now() + 5 * LOOK_EVERY;
            return;
        }
        self.returning.failures = 0;
        tracing::info!(device, point, "a value has returned to its safe one");
        let wish = Wish { device: device.clone(), point: point.clone(), value: 0.0, dry_run: false, span: None };
        self.guard.was_written(&super::write::guard::tag(&wish), Duration::ZERO, self.parts.clock.monotonic());
        if let Err(error) = self.remember_write(&wish).await {
            tracing::warn!(error, "that a value was written cannot be remembered");
        }
        self.note("write", "(lease)", &format!("{device}/{point} has returned to {}", outcome.result["value"])).await;
        let ended = self.returning.leases.with(move |leases| leases.end(&device, &point));
        if let Err(error) = ended.await.and_then(|done| done) {
            tracing::warn!(error, "that a value has returned cannot be remembered");
        }
    }

    /// Tags whose value has to return to a safe one.
    pub(super) fn leased(&self) -> Vec<String> {
        let leases = self.returning.leases.get().map_or_else(|_| Vec::new(), |leases| leases.all().to_vec());
        leases.into_iter().map(|leased| format!("{}/{}", leased.device, leased.point)).collect()
    }

    /// What may be written, for people.
    pub(super) fn shown_permissions(&self) -> Value {
        let tags = self.guard.permissions().iter().map(|permission| {
            let config = &permission.config;
            json!({
                "device": config.device.as_str(),
                "point": config.point,
                "range": [config.range.0, config.range.1],
                "role": config.role,
                "in_force": permission.place.is_ok(),
                "reason": permission.place.as_ref().err(),
                "pin": permission.pin,
            })
        });
        json!({ "locked": self.guard.lock().is_locked(), "tags": tags.collect::<Vec<_>>() })
    }

    /// What a write of which nobody knows whether it took effect shows now.
    pub(super) async fn look_back(&self, arguments: &Value) -> Value {
        let Ok(wish) = serde_json::from_value::<Wish>(arguments.clone()) else { return Value::Null };
        match self.guard.place(&wish.device, &wish.point) {
            Ok((_, place)) => self.parts.services.look_at(place).await,
            Err(reason) => json!({ "read_back": null, "not_read_because": reason }),
        }
    }

    /// Frees what a write held.
    pub(super) async fn settle_write(&mut self, carried: &Carried) {
        if let Some(ticket) = &carried.ticket {
            self.end_write(ticket, &carried.outcome).await;
        }
    }
}

/// The wish of a command that writes.
pub(super) fn wish(genuine: &Genuine) -> Option<&Wish> {
    match &genuine.verb {
        super::verb::Verb::Write(wish) => Some(wish),
        _ => None,
    }
}
