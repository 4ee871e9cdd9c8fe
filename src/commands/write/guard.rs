//! Whether a wish to write may be tried at all, before anything is read from the device. Pure but for the lock.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease::Leased;
use super::lock::WriteLock;
use super::permission::{Permission, Place};
use super::sent::{Sent, in_range};
use crate::commands::verb::Span;
use crate::config::{Role, WriteConfig};
use crate::model::Timestamp;

/// Arguments of `write`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Name of the device.
    pub device: String,
    /// Name of its point.
    pub point: String,
    /// Engineering value; 0 or 1 for a coil.
    pub value: f64,
    /// Do everything but write.
    #[serde(default)]
    pub dry_run: bool,
    /// After how long the value returns to the safe one; as long as the owner allows without it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// Where a wish comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From afar, with this role.
    Afar(Role),
    /// From the gateway itself: whoever may use its socket, and the owner's rules.
    Here,
}

/// A wish that may be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    /// What is wished.
    pub wish: Wish,
    /// Within which bounds.
    pub config: WriteConfig,
    /// Where.
    pub place: Place,
    /// What goes out.
    pub sent: Sent,
    /// After this moment it must not be written any more.
    pub expires: Option<Timestamp>,
    /// After how long the value returns to the safe one.
    pub lease: Option<Duration>,
    /// Whether it comes from afar: such a value returns as well when nobody there can take it back.
    pub from_afar: bool,
    /// When the value that it takes the place of would have returned.
    pub replaces: Option<Leased>,
}

/// Knows what may be written and what was written lately.
#[derive(Debug)]
pub struct WriteGuard {
    permissions: Vec<Permission>,
    lock: WriteLock,
    /// When each tag was written last: milliseconds since boot, below zero for a time before it.
    last: HashMap<String, i64>,
    under_way: HashSet<String>,
}

impl WriteGuard {
    /// A guard that allows nothing yet.
    pub fn new(lock: WriteLock) -> Self {
        Self { permissions: Vec::new(), lock, last: HashMap::new(), under_way: HashSet::new() }
    }

    /// Other permissions are in force from now on; pace and writes under way stay.
    pub fn replace(&mut self, permissions: Vec<Permission>) {
        self.permissions = permissions;
    }

    /// A tag was written `passed` before `now`, the time since boot.
    pub fn was_written(&mut self, tag: &str, passed: Duration, now: Duration) {
        let at = millis(now).saturating_sub(millis(passed));
        let last = self.last.entry(tag.to_owned()).or_insert(at);
        *last = at.max(*last);
    }

    /// All tags that the owner names, whatever else stands against writing them.
    pub fn names(&self) -> HashSet<String> {
        let named = |permission: &Permission| format!("{}/{}", permission.config.device, permission.config.point);
        self.permissions.iter().map(named).collect()
    }

    /// All of them.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// The lock.
    pub fn lock(&self) -> &WriteLock {
        &self.lock
    }

    /// The permission for a tag, where it is in force.
    pub fn place(&self, device: &str, point: &str) -> Result<(&WriteConfig, &Place), String> {
        let found = self
            .permissions
            .iter()
            .find(|permission| permission.config.device.as_str() == device && permission.config.point == point);
        let permission = found.ok_or_else(|| format!("the owner does not allow to write {device}/{point}"))?;
        let place = permission.place.as_ref().map_err(|reason| format!("{device}/{point}: {reason}"))?;
        Ok((&permission.config, place))
    }

    /// Lets a wish pass to where the device is asked; to be [released](Self::release) afterwards. `now` is the time
    /// since boot.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(
        &mut self,
        wish: &Wish,
        origin: Origin,
        expires: Option<Timestamp>,
        now: Duration,
    ) -> Result<Ticket, String> {
        let tag = tag(wish);
        let (config, place) = self.place(&wish.device, &wish.point)?;
        let (config, place) = (config.clone(), place.clone());
        if let Origin::Afar(role) = origin {
            if self.lock.is_locked() {
                return Err("writing from afar is locked on this gateway (lineside writes off)".to_owned());
            }
            if role < config.role {
                return Err(format!("{tag} needs the role {}, the key has {role}", config.role));
            }
        }
        in_range(wish.value, &config)?;
        let sent = Sent::new(&place.point, wish.value).map_err(|reason| format!("{tag}: {reason}"))?;
        sent.in_range(wish.value, &place.point, &config)?;
        let lease = lease(wish, &config)?;
        if self.under_way.contains(&tag) {
            return Err(format!("{tag} is being written"));
        }
        if let Some(last) = self.last.get(&tag) {
            let passed = Duration::from_millis(u64::try_from(millis(now).saturating_sub(*last)).unwrap_or(0));
            if passed < config.interval {
                let left = config.interval - passed;
                return Err(format!(
                    "{tag} was written {:.1} s ago: it may be again in {:.1} s",
                    passed.as_secs_f64(),
                    left.as_secs_f64()
                ));
            }
        }
        if !wish.dry_run {
            self.was_written(&tag, Duration::ZERO, now);
        }
        self.under_way.insert(tag);
        let from_afar = matches!(origin, Origin::Afar(_));
        Ok(Ticket { wish: wish.clone(), config, place, sent, expires, lease, from_afar, replaces: None })
    }

    /// The wish was tried.
    pub fn release(&mut self, wish: &Wish) {
        self.under_way.remove(&tag(wish));
    }

    /// The way back to the safe value: within no bounds but its own.
    pub fn way_back(&self, device: &str, point: &str) -> Result<Ticket, String> {
        let (config, place) = self.place(device, point)?;
        let safe = config.lease.ok_or("it has no safe value any more")?.safe;
        let sent = Sent::new(&place.point, safe)?;
        let wish = Wish { device: device.to_owned(), point: point.to_owned(), value: safe, dry_run: false, span: None };
        // However far it is, and whatever else is wrong in the plant: that it is safe, the owner has said.
        let config = WriteConfig { step: None, interlocks: Vec::new(), ..config.clone() };
        let place = place.clone();
        Ok(Ticket { wish, config, place, sent, expires: None, lease: None, from_afar: false, replaces: None })
    }
}

/// `press-1/setpoint_c`.
pub fn tag(wish: &Wish) -> String {
    format!("{}/{}", wish.device, wish.point)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn lease(wish: &Wish, config: &WriteConfig) -> Result<Option<Duration>, String> {
    match (config.lease, wish.span) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(format!("{} has no safe value to return to: leave out \"for\"", tag(wish))),
        (Some(lease), None) => Ok(Some(lease.longest)),
        (Some(lease), Some(span)) if span.0 <= lease.longest => Ok(Some(span.0)),
        (Some(lease), Some(_)) => {
            Err(format!("{} may be set for {} at most", tag(wish), crate::settings::show_duration(lease.longest)))
        }
    }
}

#[cfg(test)]
mod tests;
