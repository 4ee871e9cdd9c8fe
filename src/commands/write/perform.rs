//! Tries a wish on the device: looks, writes once, and reads back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::guard::Ticket;
use super::permission::Place;
use super::sent::engineering;
use crate::clock::Clock;
use crate::commands::answer::{Outcome, State};
use crate::commands::execute::Services;
use crate::commands::fail_point;
use crate::config::{Compared, Interlock};
use crate::diagnostics::socket::shown;
use crate::modbus::PollError;
use crate::modbus::encode::bits_of;
use crate::modbus::write::WriteWith;
use crate::poll::{LinkHandle, WriteFailure, WriteOrder};
use crate::profile::Encoding;

/// Exception code of a function that a device does not have (Modbus Application Protocol 1.1b3, 7).
const ILLEGAL_FUNCTION: u8 = 1;

/// A number of half precision is at most this part away from what it stands for.
const HALF_STEP: f64 = 1.0 / 2048.0;

/// Doubles that show the same decimal differ by less than this part of them.
const SAME: f64 = 1e-6;

/// How long a device that has accepted a write may take until it shows it.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(10);

/// Until the first look at it; twice as long before each further one.
const ACCEPTED_PAUSE: Duration = Duration::from_millis(250);

impl Services {
    /// Tries a wish. The request that writes goes out at most once, and only while nothing forbids it.
    pub(in crate::commands) async fn write(&self, ticket: &Ticket, clock: &dyn Clock) -> Outcome {
        let tag = super::guard::tag(&ticket.wish);
        let Some(link) = self.directory.borrow().links.get(ticket.place.link.as_str()).cloned() else {
            return Outcome::failed(format!("{tag}: its link is gone"));
        };
        let before = match read_point(&link, &ticket.place).await {
            Ok(before) => before,
            Err(reason) => return Outcome::failed(format!("{tag} cannot be read, so it is not written: {reason}")),
        };
        if let Err(reason) = ticket.sent.in_step(before, &ticket.place.point, &ticket.config) {
            return Outcome::failed(reason);
        }
        for interlock in &ticket.config.interlocks {
            if let Err(reason) = self.allows(interlock).await {
                return Outcome::failed(format!("interlock {interlock}: {reason}"));
            }
        }
        let facts = facts(ticket, before);
        if ticket.wish.dry_run {
            return Outcome::done(with(facts, "dry_run", true.into()));
        }
        if let Some(expires) = ticket.expires.filter(|expires| *expires <= clock.wall()) {
            return Outcome::failed(format!("expired at {expires} while the device was asked; nothing is written"));
        }
        fail_point::reached("write-before-send");
        let order = WriteOrder {
            device: ticket.config.device.clone(),
            point: ticket.place.index,
            meant: ticket.place.point.clone(),
            words: ordered(&ticket.place, &ticket.sent.words),
            with: ticket.place.with,
        };
        let written = link.write(order).await;
        fail_point::reached("write-sent");
        let outcome = match written {
            Err(failure @ (WriteFailure::NotSent(_) | WriteFailure::NotIdentified | WriteFailure::Elsewhere)) => {
                Outcome { result: facts, ..Outcome::failed(format!("{tag}: nothing was written: {failure}")) }
            }
            Err(failure @ WriteFailure::Refused(_)) => match refused(&failure) {
                Refusal::Final => {
                    let hint = refusal_hint(ticket.place.with, &failure);
                    Outcome { result: facts, ..Outcome::failed(format!("{tag}: {failure}{hint}")) }
                }
                Refusal::Busy => busy(&link, ticket, facts, &failure.to_string()).await,
                Refusal::Accepted => accepted(&link, ticket, facts).await,
                Refusal::Doubtful => read_back(&link, ticket, facts, Some(format!("not confirmed: {failure}"))).await,
            },
            Err(failure @ WriteFailure::Unanswered(_)) => {
                read_back(&link, ticket, facts, Some(format!("not answered ({failure})"))).await
            }
            Ok(()) => read_back(&link, ticket, facts, None).await,
        };
        fail_point::reached("write-read-back");
        outcome
    }

    /// What a tag shows now, for a write of which nobody knows whether it took effect.
    pub(in crate::commands) async fn look_at(&self, place: &Place) -> Value {
        let link = self.directory.borrow().links.get(place.link.as_str()).cloned();
        match link {
            Some(link) => match read_point(&link, place).await {
                Ok(value) => json!({ "read_back": value }),
                Err(reason) => json!({ "read_back": null, "not_read_because": reason }),
            },
            None => Value::Null,
        }
    }

    async fn allows(&self, interlock: &Interlock) -> Result<(), String> {
        match interlock {
            Interlock::Compared(compared) => self.compares(compared).await,
            Interlock::Condition(condition) => self.holds(&condition.text).await,
        }
    }

    /// Whether PromQL over the live series has a result; what it looks at is polled first.
    async fn holds(&self, text: &str) -> Result<(), String> {
        for device in self.rules.interlock_devices(text).await? {
            let (link, name) = self.device(&device)?;
            link.poll_now(&name).await.map_err(|error| format!("{device}: {error}"))?;
        }
        self.rules.allows(text).await
    }

    /// Whether a tag compares so with a number: read now, from a device that is what it should be, beyond doubt.
    async fn compares(&self, interlock: &Compared) -> Result<(), String> {
        let directory = self.directory.borrow().clone();
        let link = directory.devices.get(interlock.device.as_str()).and_then(|link| directory.links.get(link));
        let link = link.ok_or_else(|| format!("there is no device {}", interlock.device))?;
        let rows = link.read_device(&interlock.device).await.map_err(|error| error.to_string())?;
        let info_of = |id| directory.catalogue.as_ref().and_then(|catalogue| catalogue.get(id).cloned());
        let mut readings = rows.iter().flat_map(|row| shown(row, &info_of));
        let reading = readings.find(|reading| reading.point == interlock.point);
        let reading = reading.ok_or("the point is not read; it must be among the tags of the device")?;
        if reading.quality != crate::model::Quality::GOOD.to_string() {
            return Err(format!("the reading is not good: {}", reading.quality));
        }
        let value = match &reading.value {
            Value::Bool(bit) => f64::from(u8::from(*bit)),
            other => other.as_f64().ok_or("the reading is no number")?,
        };
        match interlock.comparison.holds(value, interlock.number) {
            true => Ok(()),
            false => Err(format!("it is {value}")),
        }
    }
}

/// The engineering value that a point shows now.
async fn read_point(link: &LinkHandle, place: &Place) -> Result<f64, String> {
    let (point, width) = (&place.point, place.point.encoding.width());
    let words =
        link.read_raw(place.unit, point.table, point.address, width).await.map_err(|error| error.to_string())?;
    engineering(point, &words)
}

/// What an exception says about a write that was sent (Modbus Application Protocol 1.1b3, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Nothing was done: the request is illegal there, or has not reached the device.
    Final,
    /// The device has no time now, and has done nothing.
    Busy,
    /// The device has accepted it and is at it.
    Accepted,
    /// The device failed meanwhile, or a gateway has heard no answer: it may be done, or half.
    Doubtful,
}

fn refused(failure: &WriteFailure) -> Refusal {
    let WriteFailure::Refused(PollError::Exception(code)) = failure else { return Refusal::Doubtful };
    match code {
        1..=3 | 7 | 10 => Refusal::Final,
        5 => Refusal::Accepted,
        6 => Refusal::Busy,
        _ => Refusal::Doubtful,
    }
}

/// The device has accepted the write, which takes a while: read back until it is done.
async fn accepted(link: &LinkHandle, ticket: &Ticket, facts: Value) -> Outcome {
    let until = Instant::now() + ACCEPTED_WITHIN;
    let mut pause = ACCEPTED_PAUSE;
    loop {
        sleep_until((Instant::now() + pause).min(until)).await;
        let shown = read_point(link, &ticket.place).await;
        let is_done = shown.as_ref().is_ok_and(|shown| fits(*shown, ticket));
        if !is_done && Instant::now() < until {
            pause *= 2;
            continue;
        }
        let facts = with(with(facts, "sent", true.into()), "accepted", true.into());
        let result = with(facts, "read_back", shown.clone().map_or(Value::Null, Value::from));
        if is_done {
            return Outcome::done(result);
        }
        let within = ACCEPTED_WITHIN.as_secs();
        let seen = shown.map_or_else(
            |reason| format!("it cannot be read back: {reason}"),
            |shown| format!("it reads back as {shown}"),
        );
        let reason =
            format!("accepted, not done: the device acknowledged the write (exception 5), and after {within} s {seen}");
        return Outcome { state: State::Unknown, reason: Some(reason), result, parts: Vec::new() };
    }
}

/// The device says that it has no time. What it shows decides whether to believe it.
async fn busy(link: &LinkHandle, ticket: &Ticket, facts: Value, failure: &str) -> Outcome {
    let was_there = facts["before"].as_f64().is_some_and(|before| fits(before, ticket));
    match read_point(link, &ticket.place).await {
        Ok(shown) if was_there || !fits(shown, ticket) => {
            let result = with(facts, "read_back", shown.into());
            Outcome { result, ..Outcome::failed(format!("not done, and not tried again: {failure}")) }
        }
        Ok(_) | Err(_) => read_back(link, ticket, facts, Some(format!("not confirmed: {failure}"))).await,
    }
}

/// Whether a value is the one that was sent.
fn fits(shown: f64, ticket: &Ticket) -> bool {
    let sent = ticket.sent.value;
    let tolerance = ticket.config.tolerance.max(resolution(ticket)).max(sent.abs() * SAME);
    (shown - sent).abs() <= tolerance
}

/// What the device shows after the write, and what that means.
async fn read_back(link: &LinkHandle, ticket: &Ticket, facts: Value, doubt: Option<String>) -> Outcome {
    let shown = read_point(link, &ticket.place).await;
    let fits = shown.as_ref().is_ok_and(|shown| fits(*shown, ticket));
    let facts = with(facts, "sent", true.into());
    let result = with(facts, "read_back", shown.clone().map_or(Value::Null, Value::from));
    match (doubt, shown, fits) {
        (None, Ok(_), true) => Outcome::done(result),
        (None, Ok(shown), false) => {
            Outcome { result, ..Outcome::failed(format!("it was written, and reads back as {shown}")) }
        }
        (None, Err(reason), _) => {
            Outcome { result, ..Outcome::failed(format!("it was written, and cannot be read back: {reason}")) }
        }
        (Some(doubt), shown, fits) => {
            let seen = match shown {
                Ok(_) if fits => "it reads back as wished".to_owned(),
                Ok(shown) => format!("it reads back as {shown}"),
                Err(reason) => format!("and it cannot be read back: {reason}"),
            };
            let reason = Some(format!("the write was sent and {doubt}; {seen}"));
            Outcome { state: State::Unknown, reason, result, parts: Vec::new() }
        }
    }
}

/// The words of the order to write: the registers, or for bits of one what stays of it and what its bits become (Modbus
/// Application Protocol 1.1b3, 6.16).
fn ordered(place: &Place, registers: &[u16]) -> Vec<u16> {
    match place.with {
        WriteWith::Single | WriteWith::Multiple | WriteWith::ReadWrite => registers.to_vec(),
        WriteWith::Mask | WriteWith::ReadModifyWrite => {
            std::iter::once(!bits_of(&place.point)).chain(registers.iter().copied()).collect()
        }
    }
}

/// What to do about a device that does not know the function it was written with.
fn refusal_hint(with: WriteWith, failure: &WriteFailure) -> &'static str {
    let is_unknown = matches!(failure, WriteFailure::Refused(PollError::Exception(ILLEGAL_FUNCTION)));
    match with {
        WriteWith::Mask if is_unknown => {
            "; it has no function 22 (mask write). If nobody else writes this register, function = \"read-modify-write\" in \
             its [[write]] reads, changes and writes it whole"
        }
        WriteWith::ReadWrite if is_unknown => "; it has no function 23: leave function out of its [[write]]",
        WriteWith::Single
        | WriteWith::Multiple
        | WriteWith::Mask
        | WriteWith::ReadModifyWrite
        | WriteWith::ReadWrite => "",
    }
}

/// Half of what one step of the register means.
fn resolution(ticket: &Ticket) -> f64 {
    let point = &ticket.place.point;
    if point.encoding == Encoding::F16 {
        return ticket.wish.value.abs() * HALF_STEP;
    }
    let is_whole = !matches!(point.encoding, Encoding::F32 | Encoding::F64);
    if is_whole { (point.scale.multiplier / point.scale.divisor).abs() / 2.0 } else { 0.0 }
}

fn facts(ticket: &Ticket, before: f64) -> Value {
    json!({
        "device": ticket.wish.device,
        "point": ticket.wish.point,
        "value": ticket.wish.value,
        "sent_value": ticket.sent.value,
        "before": before,
        "unit_id": ticket.place.unit.get(),
        "address": ticket.place.point.address,
        "registers": ticket.sent.words,
    })
}

fn with(mut facts: Value, key: &str, value: Value) -> Value {
    facts[key] = value;
    facts
}
