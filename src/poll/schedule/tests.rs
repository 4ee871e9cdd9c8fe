//! Schedules by example.

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

/// What is taken, however late.
fn taken(schedule: &mut Schedule, now: Instant) -> Option<Due> {
    schedule.take(now).map(|due| Due { late: Duration::ZERO, ..due })
}

fn group(device: usize, group: usize, missed: u64) -> Option<Due> {
    Some(Due { device, work: Work::Group(group), missed, late: Duration::ZERO })
}

#[test]
fn polls_are_due_at_full_intervals_of_the_wall_clock() {
    let (mut schedule, start) = schedule(&[(0, 0, SECOND), (0, 1, ms(250))]);

    assert_eq!(schedule.next_due(), Some(start + ms(150)));
    assert_eq!(taken(&mut schedule, start + ms(149)), None);
    assert_eq!(taken(&mut schedule, start + ms(150)), group(0, 1, 0));
    assert_eq!(schedule.next_due(), Some(start + ms(400)));
    assert_eq!(taken(&mut schedule, start + ms(400)), group(0, 1, 0));
    assert_eq!(taken(&mut schedule, start + ms(400)), group(0, 0, 0));
    assert_eq!(taken(&mut schedule, start + ms(400)), None);
}

#[test]
fn ticks_that_pass_while_busy_are_missed_not_made_up_for() {
    let (mut schedule, start) = schedule(&[(0, 0, ms(100))]);
    assert_eq!(taken(&mut schedule, start), group(0, 0, 0));

    let late = start + ms(570);

    assert_eq!(taken(&mut schedule, late), group(0, 0, 4));
    assert_eq!(taken(&mut schedule, late), None);
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
fn the_nearest_deadline_goes_first() {
    let (mut schedule, start) = schedule(&[(0, 0, 2 * SECOND), (1, 0, ms(200)), (2, 0, ms(100))]);
    for now in (0..1400).step_by(100) {
        while schedule.take(start + ms(now)).is_some() {}
    }

    // All are due; the one polled most often cannot wait, the one polled each two seconds can.
    let order: Vec<usize> = std::iter::from_fn(|| schedule.take(start + ms(1400))).map(|due| due.device).collect();

    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn a_link_that_has_time_for_all_misses_nothing_whatever_the_intervals() {
    let (mut schedule, start) = schedule(&[(0, 0, ms(100)), (1, 0, ms(250)), (2, 0, ms(500))]);
    let (mut now, mut missed) = (start, 0);

    while now < start + 100 * SECOND {
        match schedule.take(now) {
            Some(due) => {
                missed += due.missed;
                now += [ms(30), ms(40), ms(40)][due.device];
            }
            None => now = schedule.next_due().unwrap(),
        }
    }

    assert_eq!(missed, 0);
}

#[test]
fn when_there_is_too_much_to_do_all_lose_the_same_part_of_their_polls() {
    // 160 % of the time, at intervals of a tenth of a second, half a second and five seconds.
    let groups = [(0, 0, ms(100)), (1, 0, ms(500)), (2, 0, 5 * SECOND)];
    let (mut schedule, start) = schedule(&groups);
    let (mut now, mut done, mut due) = (start, [0_u64; 3], [0_u64; 3]);

    while now < start + 500 * SECOND {
        match schedule.take(now) {
            Some(taken) => {
                done[taken.device] += 1;
                due[taken.device] += 1 + taken.missed;
                now += [ms(80), ms(200), ms(2000)][taken.device];
            }
            None => now = schedule.next_due().unwrap(),
        }
    }

    let kept: Vec<f64> = done.iter().zip(due).map(|(done, due)| *done as f64 / due as f64).collect();
    let (least, most) = (kept.iter().copied().fold(1.0, f64::min), kept.iter().copied().fold(0.0, f64::max));
    assert!(most - least < 0.05 && least > 0.58 && most < 0.68, "{kept:?}");
}

#[test]
fn a_step_of_the_wall_clock_takes_the_phase_anew_without_missed_polls() {
    let (mut schedule, start) = schedule(&[(0, 0, SECOND)]);

    schedule.follow(start + ms(100), Timestamp(9_000_900));
    assert_eq!(schedule.next_due(), Some(start + ms(200)));
    assert_eq!(taken(&mut schedule, start + ms(200)), group(0, 0, 0));

    schedule.follow(start + ms(300), Timestamp(1_000));
    assert_eq!(schedule.next_due(), Some(start + ms(300)));
    assert_eq!(taken(&mut schedule, start + ms(300)), group(0, 0, 0));
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

    assert_eq!(taken(&mut schedule, start), group(1, 0, 0));
    assert_eq!(taken(&mut schedule, start), None);
    assert_eq!(taken(&mut schedule, start + ms(950)), group(1, 0, 8));
    let probe = Some(Due { device: 0, work: Work::Probe, missed: 0, late: Duration::ZERO });
    assert_eq!(taken(&mut schedule, start + ms(1000)), group(1, 0, 0), "what is due goes before a probe");
    assert_eq!(taken(&mut schedule, start + ms(1000)), probe);
    schedule.suspend(0, start + ms(3000));
    assert_eq!(taken(&mut schedule, start + ms(1000)), None);

    schedule.resume(0, start + ms(1010));
    assert_eq!(schedule.next_due(), Some(start + ms(1100)));
    assert_eq!(taken(&mut schedule, start + ms(1100)), group(0, 0, 0));
}

#[test]
fn a_probe_does_not_wait_for_ever() {
    let (mut schedule, start) = schedule(&[(0, 0, ms(100)), (1, 0, ms(100))]);
    schedule.suspend(0, start);

    // The other is due at every look.
    let first_probe = (0..200_u64).find(|look| {
        let due = schedule.take(start + ms(100 * look)).unwrap();
        due.work == Work::Probe
    });

    assert_eq!(first_probe, Some(50));
}

#[test]
fn what_was_put_off_comes_before_the_next_poll_or_not_at_all() {
    let (mut schedule, start) = schedule(&[(0, 0, ms(200)), (1, 0, ms(200))]);
    assert_eq!(taken(&mut schedule, start), group(0, 0, 0));
    assert_eq!(taken(&mut schedule, start), group(1, 0, 0));

    assert!(schedule.again(0, 0, start + ms(100)));
    assert!(!schedule.again(1, 0, start + ms(200)), "the next poll is due then");

    assert_eq!(schedule.next_due(), Some(start + ms(100)));
    assert_eq!(taken(&mut schedule, start + ms(99)), None);
    assert_eq!(
        taken(&mut schedule, start + ms(100)),
        Some(Due { device: 0, work: Work::Again(0), missed: 0, late: Duration::ZERO })
    );
    assert_eq!(taken(&mut schedule, start + ms(199)), None);
    assert!(schedule.again(0, 0, start + ms(199)));
    schedule.suspend(0, start + ms(5000));
    assert_eq!(taken(&mut schedule, start + ms(199)), None, "a device that is left alone is not asked again either");
}

#[test]
fn a_held_device_waits_and_what_it_missed_is_counted() {
    let (mut schedule, start) = schedule(&[(0, 0, ms(100))]);
    schedule.hold(0, start + ms(250));

    assert_eq!(schedule.next_due(), Some(start + ms(250)));
    assert_eq!(taken(&mut schedule, start + ms(249)), None);
    assert_eq!(taken(&mut schedule, start + ms(250)), group(0, 0, 2));
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
