//! Whether a wish to write may be tried at all, before anything is read from the device. Pure but for the lock.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease::Leased;
use super::lock::WriteLock;
use super::permission::{Permission, Place};
use crate::commands::verb::Span;
use crate::config::{Role, WriteConfig};
use crate::modbus::encode::{Quantity, encode};
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
    /// From the gateway itself: whoever may use its socket, and its rules.
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
    /// The registers.
    pub words: Vec<u16>,
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
    last: HashMap<String, Duration>,
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
        let words = words(&place, wish.value).map_err(|reason| format!("{tag}: {reason}"))?;
        let lease = lease(wish, &config)?;
        if self.under_way.contains(&tag) {
            return Err(format!("{tag} is being written"));
        }
        if let Some(last) = self.last.get(&tag) {
            let passed = now.saturating_sub(*last);
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
            self.last.insert(tag.clone(), now);
        }
        self.under_way.insert(tag);
        let from_afar = matches!(origin, Origin::Afar(_));
        Ok(Ticket { wish: wish.clone(), config, place, words, expires, lease, from_afar, replaces: None })
    }

    /// The wish was tried.
    pub fn release(&mut self, wish: &Wish) {
        self.under_way.remove(&tag(wish));
    }

    /// The way back to the safe value: within no bounds but its own.
    pub fn way_back(&self, device: &str, point: &str) -> Result<Ticket, String> {
        let (config, place) = self.place(device, point)?;
        let safe = config.lease.ok_or("it has no safe value any more")?.safe;
        let words = words(place, safe)?;
        let wish = Wish { device: device.to_owned(), point: point.to_owned(), value: safe, dry_run: false, span: None };
        // However far it is, and whatever else is wrong in the plant: that it is safe, the owner has said.
        let config = WriteConfig { step: None, interlocks: Vec::new(), ..config.clone() };
        let place = place.clone();
        Ok(Ticket { wish, config, place, words, expires: None, lease: None, from_afar: false, replaces: None })
    }
}

/// `press-1/setpoint_c`.
pub fn tag(wish: &Wish) -> String {
    format!("{}/{}", wish.device, wish.point)
}

fn in_range(value: f64, config: &WriteConfig) -> Result<(), String> {
    let (least, greatest) = config.range;
    if value.is_finite() && (least..=greatest).contains(&value) {
        return Ok(());
    }
    Err(format!("{}/{} = {value}: must be {least} to {greatest}", config.device, config.point))
}

/// Whether a value may follow another one.
pub fn in_step(value: f64, before: f64, config: &WriteConfig) -> Result<(), String> {
    match config.step {
        Some(step) if (value - before).abs() > step => Err(format!(
            "{}/{} = {value}: it is {before}, and one write may change it by {step} at most",
            config.device, config.point
        )),
        Some(_) | None => Ok(()),
    }
}

/// The registers that show `value`.
fn words(place: &Place, value: f64) -> Result<Vec<u16>, String> {
    let mut words = vec![0; usize::from(place.point.encoding.width())];
    if place.point.table.holds_bits() && value != 0.0 && value != 1.0 {
        return Err("a coil is 0 or 1".to_owned());
    }
    encode(&place.point, Quantity::Number(value), None, &mut words).map_err(|error| error.to_string())?;
    Ok(words)
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
