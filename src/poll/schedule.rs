//! When to poll what. Pure: the caller says what time it is.
//!
//! Due times are multiples of the interval since 1970 on the wall clock, so that time stamps of all devices line up.
//! They are waited for on the monotonic clock; an anchor ties the two together. Slow drift moves the anchor, a step
//! of the wall clock takes the phase anew without counting polls as missed.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// Wall and monotonic clock apart by more than this since the last look: the wall clock was set.
const STEP_AT_LEAST: i64 = 20_000_000;
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
}

/// What to read from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// All blocks of the group with this index.
    Group(usize),
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
            Entry { device, group, tick, interval, last_turn: None }
        };
        let entries: Vec<Entry> = groups.iter().map(entry).collect();
        let devices = groups.iter().map(|(device, ..)| device + 1).max().unwrap_or(0);
        Self { anchor, entries, devices: vec![DeviceTimes::default(); devices], steps: 0 }
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
        probes.chain(groups).min()
    }

    /// The work that has been due longest, if any. The next due time of a group is set by it; a probe stays due
    /// until [`suspend`](Self::suspend) or [`resume`](Self::resume) says what came of it.
    pub fn take(&mut self, now: Instant) -> Option<Due> {
        let probe = (0..self.devices.len())
            .filter_map(|device| Some((self.devices[device].probe_at()?, device)))
            .filter(|(due, _)| *due <= now)
            .min();
        let entry = (0..self.entries.len())
            .filter(|index| self.ready_at(&self.entries[*index]).is_some_and(|ready| ready <= now))
            .map(|index| (self.due_at(&self.entries[index]), self.entries[index].last_turn, index))
            .min();
        match (probe, entry) {
            (Some((due, device)), other) if other.is_none_or(|(entry_due, ..)| due <= entry_due) => {
                Some(Due { device, work: Work::Probe, missed: 0 })
            }
            (_, Some((.., index))) => {
                let wall_ns = self.anchor.wall_at(now);
                let Entry { device, group, tick, last_turn, .. } = &mut self.entries[index];
                *last_turn = Some(now);
                let missed = tick.advance(now, wall_ns);
                Some(Due { device: *device, work: Work::Group(*group), missed })
            }
            (_, None) => None,
        }
    }

    /// Nothing of this device, not even a probe, before `until`; later ticks count as missed.
    pub fn hold(&mut self, device: usize, until: Instant) {
        self.devices[device].hold = Some(until);
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
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Wall clock 600 ms past a full second at `start`.
    fn schedule(groups: &[(usize, usize, Duration)]) -> (Schedule, Instant) {
        let start = Instant::now();
        (Schedule::new(groups, start, Timestamp(1_000_600)), start)
    }

    fn group(device: usize, group: usize, missed: u64) -> Option<Due> {
        Some(Due { device, work: Work::Group(group), missed })
    }

    #[test]
    fn polls_are_due_at_full_intervals_of_the_wall_clock() {
        let (mut schedule, start) = schedule(&[(0, 0, SECOND), (0, 1, ms(250))]);

        assert_eq!(schedule.next_due(), Some(start + ms(150)));
        assert_eq!(schedule.take(start + ms(149)), None);
        assert_eq!(schedule.take(start + ms(150)), group(0, 1, 0));
        assert_eq!(schedule.next_due(), Some(start + ms(400)));
        assert_eq!(schedule.take(start + ms(400)), group(0, 0, 0));
        assert_eq!(schedule.take(start + ms(400)), group(0, 1, 0));
        assert_eq!(schedule.take(start + ms(400)), None);
    }

    #[test]
    fn ticks_that_pass_while_busy_are_missed_not_made_up_for() {
        let (mut schedule, start) = schedule(&[(0, 0, ms(100))]);
        assert_eq!(schedule.take(start), group(0, 0, 0));

        let late = start + ms(570);

        assert_eq!(schedule.take(late), group(0, 0, 4));
        assert_eq!(schedule.take(late), None);
        assert_eq!(schedule.next_due(), Some(start + ms(600)));
    }

    #[test]
    fn what_waits_longest_goes_first_and_back_to_back_takes_turns() {
        let (mut schedule, start) = schedule(&[(0, 0, Duration::ZERO), (1, 0, Duration::ZERO), (2, 0, ms(100))]);
        let mut turns = [0; 3];

        for request in 0..1000 {
            let due = schedule.take(start + ms(request)).unwrap();
            turns[due.device] += 1;
        }

        // Ties go to the lower index, so the two that share the rest may differ by one turn now and then.
        let [first, second, timed]: [i32; 3] = turns;
        assert_eq!((first + second, timed), (990, 10));
        assert!((first - second).abs() <= 2, "{first} and {second}");
    }

    #[test]
    fn devices_that_ask_for_more_than_fits_take_turns() {
        for request_ms in [26, 33, 70, 99, 101] {
            let (mut schedule, start) = schedule(&[(0, 0, ms(50)), (1, 0, ms(50)), (2, 0, ms(50))]);
            let mut turns = [0; 3];

            for request in 0..300 {
                turns[schedule.take(start + ms(request * request_ms)).unwrap().device] += 1;
            }

            assert_eq!(turns, [100; 3], "requests of {request_ms} ms");
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_takes_the_phase_anew_without_missed_polls() {
        let (mut schedule, start) = schedule(&[(0, 0, SECOND)]);

        schedule.follow(start + ms(100), Timestamp(9_000_900));
        assert_eq!(schedule.next_due(), Some(start + ms(200)));
        assert_eq!(schedule.take(start + ms(200)), group(0, 0, 0));

        schedule.follow(start + ms(300), Timestamp(1_000));
        assert_eq!(schedule.next_due(), Some(start + ms(300)));
        assert_eq!(schedule.take(start + ms(300)), group(0, 0, 0));
        assert_eq!(schedule.next_due(), Some(start + ms(1300)));
        assert_eq!(schedule.steps(), 2);
    }

    #[test]
    fn slow_drift_is_followed_without_being_called_a_step() {
        let (mut schedule, start) = schedule(&[(0, 0, SECOND)]);
        let mut fastest = start;

        for second in 0..100_u64 {
            let now = start + SECOND * u32::try_from(second).unwrap();
            // 500 ppm fast.
            let wall = 1_000_600 + second * 1000 + second / 2;
            schedule.follow(now, Timestamp(i64::try_from(wall).unwrap()));
            schedule.take(now);
            fastest = schedule.next_due().unwrap();
        }

        assert_eq!(schedule.steps(), 0);
        let drifted = start + ms(100 * 1000 - 600) - fastest;
        assert!((ms(46)..=ms(51)).contains(&drifted), "{drifted:?}");
    }

    #[test]
    fn the_rounding_of_the_wall_clock_is_no_drift() {
        let (mut schedule, start) = schedule(&[(0, 0, SECOND)]);

        schedule.follow(start + ms(10), Timestamp(1_000_609));
        schedule.follow(start + ms(10), Timestamp(1_000_611));

        assert_eq!(schedule.next_due(), Some(start + ms(400)));
    }

    #[test]
    fn a_suspended_device_is_only_probed_and_others_go_on() {
        let (mut schedule, start) = schedule(&[(0, 0, ms(100)), (1, 0, ms(100))]);
        schedule.suspend(0, start + ms(1000));

        assert_eq!(schedule.take(start), group(1, 0, 0));
        assert_eq!(schedule.take(start), None);
        assert_eq!(schedule.take(start + ms(950)), group(1, 0, 8));
        let probe = Some(Due { device: 0, work: Work::Probe, missed: 0 });
        assert_eq!(schedule.take(start + ms(1000)), probe);
        schedule.suspend(0, start + ms(3000));
        assert_eq!(schedule.take(start + ms(1000)), group(1, 0, 0));
        assert_eq!(schedule.take(start + ms(1000)), None);

        schedule.resume(0, start + ms(1010));
        assert_eq!(schedule.next_due(), Some(start + ms(1100)));
        assert_eq!(schedule.take(start + ms(1100)), group(0, 0, 0));
    }

    #[test]
    fn a_held_device_waits_and_what_it_missed_is_counted() {
        let (mut schedule, start) = schedule(&[(0, 0, ms(100))]);
        schedule.hold(0, start + ms(250));

        assert_eq!(schedule.next_due(), Some(start + ms(250)));
        assert_eq!(schedule.take(start + ms(249)), None);
        assert_eq!(schedule.take(start + ms(250)), group(0, 0, 2));
    }

    #[test]
    fn a_hastened_device_is_polled_faster_for_a_while() {
        let (mut schedule, start) = schedule(&[(0, 0, SECOND), (0, 1, ms(50)), (1, 0, SECOND)]);
        let polled = |schedule: &mut Schedule, from: u64, to: u64| {
            let mut turns = [0; 3];
            for at in from..to {
                let wall = Timestamp(1_000_600 + i64::try_from(at).unwrap());
                schedule.follow(start + ms(at), wall);
                while let Some(due) = schedule.take(start + ms(at)) {
                    let Work::Group(group) = due.work else { panic!("no probes here") };
                    turns[due.device * 2 + group] += 1;
                }
            }
            turns
        };
        schedule.hasten(0, ms(100), start + ms(2000), start);
        schedule.hasten(0, ms(500), start + ms(1000), start);

        assert_eq!(polled(&mut schedule, 0, 2000), [20, 40, 2]);
        assert_eq!(polled(&mut schedule, 2000, 4000), [2, 40, 2]);
        assert_eq!(schedule.steps(), 0);
    }
}
