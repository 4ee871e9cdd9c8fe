//! What a link will do with its schedule: how late polls start, and which part of them is done. Pure: the schedule itself
//! is run through, with predicted times in place of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::schedule::{Schedule, Work};
use crate::modbus::timing::LinkLoad;
use crate::model::Timestamp;

/// Turns that are run through at most: enough for the worst to have happened, and over in milliseconds.
const TURNS_MAX: usize = 10_000;
/// So many of the longest interval are run through.
const ROUNDS: u32 = 10;

/// What becomes of all polls at one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntervalForecast {
    /// How often; never zero.
    pub interval: Duration,
    /// The latest that a poll starts after its time.
    pub late_most: Duration,
    /// Part of the polls that are done, 0 to 1.
    pub kept: f64,
}

#[derive(Default)]
struct Tally {
    late_most: Duration,
    done: u64,
    missed: u64,
}

/// Runs through the schedule of a link, the shortest interval first. All groups are due at once when it begins: it does
/// not get worse than that. `now` is any moment.
pub fn forecast(load: &LinkLoad, now: Instant) -> Vec<IntervalForecast> {
    let groups: Vec<(usize, usize, Duration)> = load
        .devices
        .iter()
        .enumerate()
        .flat_map(|(device, load)| {
            load.groups.iter().enumerate().map(move |(group, load)| (device, group, load.interval))
        })
        .collect();
    let longest = groups.iter().map(|(.., interval)| *interval).max().unwrap_or_default();
    let mut schedule = Schedule::new(&groups, now, Timestamp(0));
    let mut tallies: BTreeMap<Duration, Tally> = BTreeMap::new();
    let (mut moment, end) = (now, now + longest * ROUNDS);
    for _ in 0..TURNS_MAX {
        let Some(due) = schedule.take(moment) else {
            match schedule.next_due() {
                Some(next) if next < end => moment = next,
                Some(_) | None => break,
            }
            continue;
        };
        let Work::Group(group) = due.work else { continue };
        let group = &load.devices[due.device].groups[group];
        let tally = tallies.entry(group.interval).or_default();
        tally.late_most = tally.late_most.max(due.late);
        tally.done += 1;
        tally.missed += due.missed;
        // Time goes on even where nothing is predicted to take any.
        moment += group.round_time.max(Duration::from_micros(1));
        if moment >= end {
            break;
        }
    }
    let forecast = |(interval, tally): (Duration, Tally)| IntervalForecast {
        interval,
        late_most: tally.late_most,
        kept: tally.done as f64 / (tally.done + tally.missed).max(1) as f64,
    };
    tallies.into_iter().filter(|(interval, _)| !interval.is_zero()).map(forecast).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::timing::{DeviceLoad, GroupLoad};
    use crate::model::Name;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Devices with one group each, as interval and time of a round.
    fn load(groups: &[(Duration, Duration)]) -> LinkLoad {
        let device = |(index, (interval, round_time)): (usize, &(Duration, Duration))| DeviceLoad {
            device: Name::new(&format!("d{index}")).unwrap(),
            groups: vec![GroupLoad { interval: *interval, requests: 1, registers: 2, round_time: *round_time }],
            identification: None,
        };
        LinkLoad {
            requests_per_second: 0.0,
            registers_per_second: 0.0,
            busy: 0.0,
            back_to_back: None,
            slowest_answer: None,
            devices: groups.iter().enumerate().map(device).collect(),
        }
    }

    #[test]
    fn polls_that_are_due_together_wait_for_each_other() {
        let found = forecast(&load(&[(ms(1000), ms(30)), (ms(1000), ms(40)), (ms(5000), ms(100))]), Instant::now());

        let shown: Vec<(u64, u128, f64)> =
            found.iter().map(|one| (one.interval.as_secs(), one.late_most.as_millis(), one.kept)).collect();
        assert_eq!(shown, [(1, 30, 1.0), (5, 70, 1.0)]);
    }

    #[test]
    fn what_does_not_fit_is_lost_in_equal_parts() {
        let found = forecast(&load(&[(ms(100), ms(80)), (ms(500), ms(200)), (ms(5000), ms(2000))]), Instant::now());

        assert!(found.iter().all(|one| (0.5..0.8).contains(&one.kept)), "{found:?}");
    }

    #[test]
    fn polls_without_pause_delay_others_by_one_round_at_most() {
        let found = forecast(&load(&[(Duration::ZERO, ms(30)), (ms(1000), ms(10))]), Instant::now());

        assert_eq!(found.len(), 1);
        assert!(found[0].late_most <= ms(30) && found[0].kept > 0.99, "{found:?}");
    }
}
