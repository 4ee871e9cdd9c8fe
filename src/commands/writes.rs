//! The part of the task that writes: permissions, the lock, and values that return.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Outcome, State};
use super::gate::Genuine;
use super::write::guard::Origin;
use super::write::lease::{Leased, Leases};
use super::write::{Ticket, Wish};
use super::{Carried, Commands};
use crate::model::Timestamp;
use crate::mqtt::SessionState;

/// How often it is looked whether a value has to return.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Without the broker for so long, whoever set a value cannot take it back: it returns by itself.
const LINK_LOST: Duration = Duration::from_secs(30);

/// What became of a value that had to return.
pub(super) struct Returned {
    device: String,
    point: String,
    outcome: Outcome,
}

/// Values that return, and since when there is no broker.
pub(super) struct Returning {
    pub leases: Result<Leases, String>,
    pub next_look: Instant,
    lost_since: Option<Instant>,
    under_way: bool,
}

impl Returning {
    pub fn new(leases: Result<Leases, String>) -> Self {
        Self { leases, next_look: Instant::now(), lost_since: None, under_way: false }
    }

    /// When to look next; never while nothing is leased.
    pub fn next(&self) -> Option<Instant> {
        let is_empty = self.leases.as_ref().map_or(true, |leases| leases.all().is_empty());
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
        if let (true, Err(trouble)) = (has_lease, &self.returning.leases) {
            return Err(format!("nobody knows which values have to return: {trouble}"));
        }
        self.guard.admit(wish, origin, expires, self.parts.clock.monotonic())
    }

    /// Remembers when the value returns, before it is written.
    pub(super) fn begin_lease(&mut self, ticket: &mut Ticket) -> Result<(), String> {
        let Some(span) = ticket.lease.filter(|_| !ticket.wish.dry_run) else { return Ok(()) };
        let Ok(leases) = &mut self.returning.leases else { return Err("leases cannot be remembered".to_owned()) };
        self.returning.next_look = Instant::now();
        let (device, point) = (ticket.wish.device.clone(), ticket.wish.point.clone());
        ticket.replaces = leases.until(&device, &point);
        leases.begin(Leased { device, point, until: self.parts.clock.wall().after(span) })
    }

    /// The wish was tried: its tag is free again, and a value that was surely not written need not return.
    pub(super) fn end_write(&mut self, ticket: &Ticket, outcome: &Outcome) {
        self.guard.release(&ticket.wish);
        let was_sent = outcome.state != State::Failed || outcome.result["sent"] == true;
        let Ok(leases) = &mut self.returning.leases else { return };
        if was_sent || ticket.wish.dry_run || ticket.lease.is_none() {
            return;
        }
        let (device, point) = (ticket.wish.device.clone(), ticket.wish.point.clone());
        let forgotten = match ticket.replaces {
            Some(until) => leases.begin(Leased { device, point, until }),
            None => leases.end(&device, &point),
        };
        if let Err(error) = forgotten {
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
        let is_lost = lost_since.is_some_and(|since| now >= since + LINK_LOST);
        let Ok(leases) = &self.returning.leases else { return };
        let wall = self.parts.clock.wall();
        let due = leases.all().iter().find(|leased| is_lost || leased.until <= wall).cloned();
        let (Some(due), false) = (due, self.returning.under_way) else { return };
        self.returning.under_way = true;
        tracing::info!(device = due.device, point = due.point, is_lost, "a value returns to its safe one");
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
    pub(super) fn has_returned(&mut self, returned: Returned) {
        self.returning.under_way = false;
        let Returned { device, point, outcome } = returned;
        if outcome.state != State::Done {
            tracing::warn!(device, point, reason = outcome.reason, "a value could not return to its safe one");
            // A device that is away is not asked every second.
            self.returning.next_look = Instant::now() + 5 * LOOK_EVERY;
            return;
        }
        tracing::info!(device, point, "a value has returned to its safe one");
        if let Ok(leases) = &mut self.returning.leases
            && let Err(error) = leases.end(&device, &point)
        {
            tracing::warn!(error, "that a value has returned cannot be remembered");
        }
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
    pub(super) fn settle_write(&mut self, carried: &Carried) {
        if let Some(ticket) = &carried.ticket {
            self.end_write(ticket, &carried.outcome);
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
