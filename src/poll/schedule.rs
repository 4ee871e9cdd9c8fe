//! When to poll what. Pure: the caller says what time it is.
//!
//! Of what is due, the poll whose deadline is nearest goes first: the next tick of its group. As long as a link has time
//! for everything no order loses less. When a tick was missed all the same there is more to do than fits, and for a while
//! every group moves its mark by one interval with each turn, and the lowest mark goes first: all lose the same part of
//! their polls. Groups without pause fill what is left. Probes of silent devices, and what was put off, wait for a moment
//! in which nothing else is due, but not for ever.
//!
//! Due times are multiples of the interval since 1970 on the wall clock, so that time stamps of all devices line up.
//! They are waited for on the monotonic clock; an anchor ties the two together. Slow drift moves the anchor, a step
//! of the wall clock takes the phase anew without counting polls as missed.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// Wall and monotonic clock apart by more than this since the last look: the wall clock was set.
const STEP_AT_LEAST: i64 = 20_000_000;
/// What polls without pause count as an interval when there is more to do than fits.
const NO_PAUSE: Duration = Duration::from_secs(1);
/// So long after a missed tick all lose alike.
const CROWDED_FOR: Duration = Duration::from_secs(10);
/// No group makes up for more than so many polls that it was not given.
const MADE_UP_FOR: f64 = 2.0;
/// A probe waits no longer than this for a moment in which nothing is due.
const PROBE_WAITS_MOST: Duration = Duration::from_secs(5);
/// The same for what was put off.
const AGAIN_WAITS_MOST: Duration = Duration::from_secs(1);
/// Differences below this are the rounding of the wall clock to milliseconds.
const DRIFT_AT_LEAST: i64 = 2_000_000;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Index of the device on the link.
    pub device: usize,
    /// What to read from it.
    pub work: Work,
    /// Ticks of the same group that have passed unused since the one that is due.
    pub missed: u64,
    /// How long it has been due.
    pub late: Duration,
}

/// What to read from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// All blocks of the group with this index.
    Group(usize),
    /// What was put off in the group with this index.
    Again(usize),
    /// The cheapest request, to see whether the device is back.
    Probe,
}

/// The due times of all groups of all devices on one link.
#[derive(Debug)]
pub struct Schedule {
    anchor: Anchor,
    entries: Vec<Entry>,
    devices: Vec<DeviceTimes>,
    steps: u64,
    /// There is more to do than fits until then, as far as can be seen.
    crowded_until: Option<Instant>,
    /// The highest mark of an entry at its turn, in seconds.
    mark: f64,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    instant: Instant,
    wall_ns: i64,
}

#[derive(Debug)]
struct Entry {
    device: usize,
    group: usize,
    tick: Tick,
    /// The interval that it has when nothing hastens it.
    interval: Duration,
    /// Among those due at the same moment, whoever waited longest for a turn goes first.
    last_turn: Option<Instant>,
    /// When what was put off is due.
    again: Option<Instant>,
    /// Intervals of the turns it has had, in seconds.
    mark: f64,
}

#[derive(Debug)]
enum Tick {
    /// On the grid: interval and next due time on the wall clock, in nanoseconds.
    Grid { interval_ns: i64, due_ns: i64 },
    /// Again and again; waiting since its last turn.
    BackToBack { since: Instant },
}

#[derive(Debug, Clone, Copy, Default)]
struct DeviceTimes {
    hold: Option<Instant>,
    probe: Option<Instant>,
    haste: Option<Haste>,
}

/// A device is polled faster for a while.
#[derive(Debug, Clone, Copy)]
struct Haste {
    interval: Duration,
    until: Instant,
}

impl Schedule {
    /// Schedules `groups`, as (device, group of the device, interval); an interval of zero means back to back.
    pub fn new(groups: &[(usize, usize, Duration)], now: Instant, wall: Timestamp) -> Self {
        let anchor = Anchor { instant: now, wall_ns: nanos(wall) };
        let entry = |&(device, group, interval): &(usize, usize, Duration)| {
            let tick = match i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX) {
                0 => Tick::BackToBack { since: now },
                interval_ns => Tick::Grid { interval_ns, due_ns: next_multiple(anchor.wall_ns, interval_ns) },
            };
            Entry { device, group, tick, interval, last_turn: None, again: None, mark: 0.0 }
        };
        let entries: Vec<Entry> = groups.iter().map(entry).collect();
        let devices = groups.iter().map(|(device, ..)| device + 1).max().unwrap_or(0);
        let devices = vec![DeviceTimes::default(); devices];
        Self { anchor, entries, devices, steps: 0, crowded_until: None, mark: 0.0 }
    }

    /// Compares the clocks. Call it before [`take`](Self::take) and at least each second: a step of the wall clock
    /// is noticed here.
    pub fn follow(&mut self, now: Instant, wall: Timestamp) {
        self.end_haste(now);
        let difference = nanos(wall).saturating_sub(self.anchor.wall_at(now));
        if difference.abs() < DRIFT_AT_LEAST {
            return;
        }
        self.anchor = Anchor { instant: now, wall_ns: nanos(wall) };
        if difference.abs() > STEP_AT_LEAST {
            self.steps += 1;
            for entry in &mut self.entries {
                entry.tick.restart(now, self.anchor.wall_ns);
            }
        }
    }

    /// How often the wall clock was seen to step.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// When [`take`](Self::take) will next have something.
    pub fn next_due(&self) -> Option<Instant> {
        let probes = self.devices.iter().filter_map(DeviceTimes::probe_at);
        let groups = self.entries.iter().filter_map(|entry| self.ready_at(entry));
        let again = self.entries.iter().filter_map(|entry| self.again_at(entry));
        probes.chain(groups).chain(again).min()
    }

    /// What goes first of the work that is due, if any. The next due time of a group is set by it; a probe stays due
    /// until [`suspend`](Self::suspend) or [`resume`](Self::resume) says what came of it.
    pub fn take(&mut self, now: Instant) -> Option<Due> {
        let probe = (0..self.devices.len())
            .filter_map(|device| Some((self.devices[device].probe_at()?, device)))
            .filter(|(due, _)| *due <= now)
            .min();
        let again = (0..self.entries.len())
            .filter_map(|index| Some((self.again_at(&self.entries[index])?, index)))
            .filter(|(due, _)| *due <= now)
            .min();
        let group = self.first_of_due(now);
        let is_free = |due: Instant, most: Duration| group.is_none() || due + most <= now;
        if let Some((due, index)) = again.filter(|(due, _)| is_free(*due, AGAIN_WAITS_MOST)) {
            let Entry { device, group, again, .. } = &mut self.entries[index];
            *again = None;
            return Some(Due { device: *device, work: Work::Again(*group), missed: 0, late: now - due });
        }
        if let Some((due, device)) = probe.filter(|(due, _)| is_free(*due, PROBE_WAITS_MOST)) {
            return Some(Due { device, work: Work::Probe, missed: 0, late: now - due });
        }
        group.map(|index| self.turn(index, now))
    }

    /// The turn of a group that is due.
    fn turn(&mut self, index: usize, now: Instant) -> Due {
        let due = self.due_at(&self.entries[index]);
        let wall_ns = self.anchor.wall_at(now);
        let mark = self.mark;
        let Entry { device, group, tick, last_turn, again, mark: own, .. } = &mut self.entries[index];
        *last_turn = Some(now);
        *again = None;
        let interval = tick.interval();
        let missed = tick.advance(now, wall_ns);
        *own = own.max(mark - MADE_UP_FOR * interval.as_secs_f64());
        self.mark = mark.max(*own);
        *own += interval.as_secs_f64();
        if missed > 0 {
            let until = now + CROWDED_FOR.max(2 * interval);
            self.crowded_until = Some(self.crowded_until.map_or(until, |known| known.max(until)));
        }
        let late = now.saturating_duration_since(due);
        Due { device: *device, work: Work::Group(*group), missed, late }
    }

    /// The group that goes first of those that are due.
    fn first_of_due(&self, now: Instant) -> Option<usize> {
        let all = self.entries.iter().enumerate();
        let due = all.filter(|(_, entry)| self.ready_at(entry).is_some_and(|ready| ready <= now));
        if self.crowded_until.is_some_and(|until| now < until) {
            let lowest = |one: &Entry, other: &Entry| {
                one.mark.total_cmp(&other.mark).then(self.due_at(one).cmp(&self.due_at(other)))
            };
            return due.min_by(|(_, one), (_, other)| lowest(one, other)).map(|(index, _)| index);
        }
        // Those without pause have no deadline and come last.
        let order = |entry: &Entry| {
            let deadline = self.deadline(entry);
            (deadline.is_none(), deadline, self.due_at(entry), entry.last_turn)
        };
        due.min_by_key(|(index, entry)| (order(entry), *index)).map(|(index, _)| index)
    }

    /// By when a group has to have its turn; `None` for one without pause.
    fn deadline(&self, entry: &Entry) -> Option<Instant> {
        match entry.tick {
            Tick::Grid { .. } => Some(self.due_at(entry) + entry.tick.interval()),
            Tick::BackToBack { .. } => None,
        }
    }

    /// Nothing of this device, not even a probe, before `until`; later ticks count as missed.
    pub fn hold(&mut self, device: usize, until: Instant) {
        self.devices[device].hold = Some(until);
    }

    /// What was put off in a group is due at `at`. False when the group itself is due before: nothing is put off then.
    pub fn again(&mut self, device: usize, group: usize, at: Instant) -> bool {
        let place = self.entries.iter().position(|entry| entry.device == device && entry.group == group);
        let Some(place) = place else { return false };
        let is_before = self.due_at(&self.entries[place]) > at;
        if is_before {
            self.entries[place].again = Some(at);
        }
        is_before
    }

    /// Instead of its groups, a probe of this device at `probe_at`.
    pub fn suspend(&mut self, device: usize, probe_at: Instant) {
        self.devices[device].probe = Some(probe_at);
    }

    /// The groups of this device again, from their next due times on.
    pub fn resume(&mut self, device: usize, now: Instant) {
        self.devices[device].probe = None;
        let wall_ns = self.anchor.wall_at(now);
        for entry in self.entries.iter_mut().filter(|entry| entry.device == device) {
            entry.tick.restart(now, wall_ns);
        }
    }

    /// Polls what of this device is slower at `interval`, which is not zero, until `until`. What hastens it already
    /// stays: the shorter interval and the later end count.
    pub fn hasten(&mut self, device: usize, interval: Duration, until: Instant, now: Instant) {
        let Some(times) = self.devices.get_mut(device) else { return };
        let before = times.haste.unwrap_or(Haste { interval, until });
        let haste = Haste { interval: interval.min(before.interval), until: until.max(before.until) };
        times.haste = Some(haste);
        let wall_ns = self.anchor.wall_at(now);
        for entry in self.entries.iter_mut().filter(|entry| entry.device == device) {
            entry.tick.pace(haste.interval.min(entry.interval), now, wall_ns);
        }
    }

    fn end_haste(&mut self, now: Instant) {
        let wall_ns = self.anchor.wall_at(now);
        for (device, times) in self.devices.iter_mut().enumerate() {
            if times.haste.take_if(|haste| haste.until <= now).is_some() {
                for entry in self.entries.iter_mut().filter(|entry| entry.device == device) {
                    entry.tick.pace(entry.interval, now, wall_ns);
                }
            }
        }
    }

    fn due_at(&self, entry: &Entry) -> Instant {
        match entry.tick {
            Tick::Grid { due_ns, .. } => self.anchor.instant_at(due_ns),
            Tick::BackToBack { since } => since,
        }
    }

    /// `None` while a probe takes the place of the device's groups, and when nothing was put off.
    fn again_at(&self, entry: &Entry) -> Option<Instant> {
        let DeviceTimes { hold, probe, .. } = self.devices[entry.device];
        let again = entry.again.filter(|_| probe.is_none())?;
        Some(hold.map_or(again, |hold| hold.max(again)))
    }

    /// `None` while a probe takes the place of the device's groups.
    fn ready_at(&self, entry: &Entry) -> Option<Instant> {
        let DeviceTimes { hold, probe, .. } = self.devices[entry.device];
        let due = self.due_at(entry);
        probe.is_none().then(|| hold.map_or(due, |hold| hold.max(due)))
    }
}

impl DeviceTimes {
    fn probe_at(&self) -> Option<Instant> {
        let probe = self.probe?;
        Some(self.hold.map_or(probe, |hold| hold.max(probe)))
    }
}

impl Anchor {
    fn wall_at(&self, instant: Instant) -> i64 {
        let since = |later: Instant, earlier: Instant| i64::try_from((later - earlier).as_nanos()).unwrap_or(i64::MAX);
        if instant >= self.instant {
            self.wall_ns.saturating_add(since(instant, self.instant))
        } else {
            self.wall_ns.saturating_sub(since(self.instant, instant))
        }
    }

    fn instant_at(&self, wall_ns: i64) -> Instant {
        let span = Duration::from_nanos(wall_ns.abs_diff(self.wall_ns));
        if wall_ns >= self.wall_ns {
            self.instant + span
        } else {
            self.instant.checked_sub(span).unwrap_or(self.instant)
        }
    }
}

impl Tick {
    fn interval(&self) -> Duration {
        match self {
            Self::Grid { interval_ns, .. } => Duration::from_nanos(interval_ns.unsigned_abs()),
            Self::BackToBack { .. } => NO_PAUSE,
        }
    }

    /// Takes the tick that is due and gives how many more have passed since.
    fn advance(&mut self, now: Instant, wall_ns: i64) -> u64 {
        match self {
            Self::Grid { interval_ns, due_ns } => {
                let missed = wall_ns.saturating_sub(*due_ns).max(0) / *interval_ns;
                *due_ns = due_ns.saturating_add((missed + 1).saturating_mul(*interval_ns));
                missed.unsigned_abs()
            }
            Self::BackToBack { since } => {
                *since = now;
                0
            }
        }
    }

    /// Another interval from the next tick on; what is back to back stays so.
    fn pace(&mut self, interval: Duration, now: Instant, wall_ns: i64) {
        if let Self::Grid { interval_ns, .. } = self {
            let wanted = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
            if std::mem::replace(interval_ns, wanted) != wanted {
                self.restart(now, wall_ns);
            }
        }
    }

    fn restart(&mut self, now: Instant, wall_ns: i64) {
        match self {
            Self::Grid { interval_ns, due_ns } => *due_ns = next_multiple(wall_ns, *interval_ns),
            Self::BackToBack { since } => *since = now,
        }
    }
}

fn nanos(wall: Timestamp) -> i64 {
    wall.0.saturating_mul(NANOS_PER_MILLI)
}

/// The first multiple of `interval_ns` at or after `wall_ns`.
fn next_multiple(wall_ns: i64, interval_ns: i64) -> i64 {
    let into = wall_ns.rem_euclid(interval_ns);
    if into == 0 { wall_ns } else { wall_ns.saturating_add(interval_ns - into) }
}

#[cfg(test)]
mod tests;
