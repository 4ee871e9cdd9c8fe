use super::*;

const HOT: Condition = Condition::Holds(90.0);
const COOL: Condition = Condition::Gone(None);

/// Feeds one condition for each second, from second 0 on, and returns what was announced when.
fn run(alarm: &mut Alarm, policy: &AlarmPolicy, from: i64, conditions: &[Condition]) -> Vec<(i64, Transition)> {
    let at = |(second, condition): (i64, &Condition)| {
        let change = alarm.evaluate(Timestamp(second * 1000), *condition, false, policy)?;
        Some((second, change.transition))
    };
    (from..).zip(conditions).filter_map(at).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_alarm_without_any_policy_is_raised_and_cleared_at_once() {
    let (mut alarm, policy) = (Alarm::default(), AlarmPolicy::default());

    let announced = run(&mut alarm, &policy, 0, &[COOL, HOT, HOT, COOL, COOL]);

    assert_eq!(announced, [(1, Transition::Raised), (3, Transition::Cleared)]);
    assert!(alarm.is_idle());
}

#[test]
fn the_condition_has_to_hold_throughout_the_delays() {
    let policy = AlarmPolicy { delay: seconds(2), keep_firing: seconds(2), ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();

    let announced = run(&mut alarm, &policy, 0, &[HOT, HOT, COOL, HOT, HOT, HOT, COOL, HOT, COOL, COOL, COOL]);

    assert_eq!(announced, [(5, Transition::Raised), (10, Transition::Cleared)]);
}

#[test]
fn between_the_thresholds_an_alarm_stays_what_it_is_and_no_delay_runs() {
    let policy = AlarmPolicy { delay: seconds(1), keep_firing: seconds(1), ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();

    let steps = [HOT, Condition::Between, HOT, HOT, Condition::Between, COOL, Condition::Between, COOL, COOL];
    let announced = run(&mut alarm, &policy, 0, &steps);

    assert_eq!(announced, [(3, Transition::Raised), (8, Transition::Cleared)]);
}

#[test]
fn bad_inputs_do_what_the_policy_says() {
    let steps = [HOT, Condition::Unknown, COOL, Condition::Unknown, COOL];
    let announced = |on_bad| run(&mut Alarm::default(), &AlarmPolicy { on_bad, ..AlarmPolicy::default() }, 0, &steps);

    assert_eq!(announced(OnBad::Hold), [(0, Transition::Raised), (2, Transition::Cleared)]);
    assert_eq!(announced(OnBad::Resolve), [(0, Transition::Raised), (1, Transition::Cleared)]);
    let fired = [(0, Transition::Raised), (2, Transition::Cleared), (3, Transition::Raised), (4, Transition::Cleared)];
    assert_eq!(announced(OnBad::Fire), fired);
}

#[test]
fn a_delay_starts_anew_when_nobody_saw_the_condition_hold() {
    let policy = AlarmPolicy { delay: seconds(2), ..AlarmPolicy::default() };

    let announced = run(&mut Alarm::default(), &policy, 0, &[HOT, HOT, Condition::Unknown, HOT, HOT, HOT]);

    assert_eq!(announced, [(5, Transition::Raised)]);
}

#[test]
fn an_alarm_that_went_unseen_waits_for_its_acknowledgement() {
    let policy = AlarmPolicy { acknowledge: true, ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();

    run(&mut alarm, &policy, 0, &[HOT, COOL]);
    assert_eq!(alarm.state(), AlarmState::ReturnedUnacknowledged);
    assert_eq!(run(&mut alarm, &policy, 2, &[HOT]), [(2, Transition::Raised)]);
    let seen = alarm.acknowledge().unwrap();
    assert_eq!(seen, Change { transition: Transition::Acknowledged, state: AlarmState::AcknowledgedActive });
    assert_eq!(run(&mut alarm, &policy, 3, &[COOL]), [(3, Transition::Cleared)]);

    assert_eq!(alarm.state(), AlarmState::Normal);
    assert_eq!(alarm.acknowledge(), Err(NotPossible::NothingToAcknowledge));
}

#[test]
fn a_latched_alarm_is_held_until_it_is_reset() {
    let policy = AlarmPolicy { latch: true, ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();

    run(&mut alarm, &policy, 0, &[HOT]);
    assert_eq!(alarm.reset(), Err(NotPossible::StillActive));
    run(&mut alarm, &policy, 1, &[COOL]);
    assert_eq!(alarm.state(), AlarmState::LatchedUnacknowledged);
    assert_eq!(alarm.acknowledge().unwrap().state, AlarmState::LatchedAcknowledged);
    assert_eq!(run(&mut alarm, &policy, 2, &[HOT, COOL]), [(2, Transition::Raised), (3, Transition::Cleared)]);

    assert_eq!(alarm.reset().unwrap(), Change { transition: Transition::Reset, state: AlarmState::Normal });
    assert_eq!(alarm.reset(), Err(NotPossible::NotLatched));
}

#[test]
fn a_shelved_alarm_is_silent_and_shows_where_it_is_when_the_time_is_over() {
    let (mut alarm, policy) = (Alarm::default(), AlarmPolicy::default());

    assert_eq!(alarm.shelve(Timestamp(3000)).unwrap().state, AlarmState::Shelved);
    let announced = run(&mut alarm, &policy, 0, &[HOT, COOL, HOT, HOT, COOL]);

    assert_eq!(announced, [(3, Transition::Unshelved), (4, Transition::Cleared)]);
    assert_eq!(alarm.unshelve(), Err(NotPossible::Already));
}

#[test]
fn what_another_alarm_explains_is_not_announced() {
    let (mut alarm, policy) = (Alarm::default(), AlarmPolicy::default());
    let mut at = |second: i64, condition, suppressed| {
        alarm.evaluate(Timestamp(second * 1000), condition, suppressed, &policy).map(|change| change.transition)
    };

    assert_eq!(at(0, HOT, true), None);
    assert_eq!(at(1, COOL, true), None);
    assert_eq!(at(2, HOT, false), Some(Transition::Raised));
    assert_eq!(at(3, HOT, true), Some(Transition::Suppressed));
    assert_eq!(at(4, HOT, false), Some(Transition::Unsuppressed));
    assert_eq!(at(5, COOL, false), Some(Transition::Cleared));
}

#[test]
fn an_alarm_out_of_service_says_nothing_until_it_returns() {
    let (mut alarm, policy) = (Alarm::default(), AlarmPolicy::default());

    alarm.remove_from_service().unwrap();
    assert_eq!(run(&mut alarm, &policy, 0, &[HOT, COOL, HOT]), []);
    assert_eq!(alarm.shelve(Timestamp(9000)), Err(NotPossible::Covered));

    assert_eq!(alarm.return_to_service().unwrap().state, AlarmState::UnacknowledgedActive);
}

#[test]
fn a_flapping_alarm_is_held_until_it_was_quiet() {
    let limit = FlapLimit { raises: 3, within: seconds(10) };
    let policy = AlarmPolicy { flap: Some(limit), ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();

    let flapping: Vec<Condition> = (0..60).map(|second| if second % 2 == 0 { HOT } else { COOL }).collect();
    let announced = run(&mut alarm, &policy, 0, &flapping);
    assert_eq!(announced.len(), 5, "{announced:?}");
    assert!(alarm.flaps(&policy));

    let quiet = run(&mut alarm, &policy, 60, &[COOL; 30]);
    assert_eq!(quiet, [(69, Transition::Cleared)]);
    assert!(alarm.is_idle());
}

#[test]
fn an_alarm_survives_its_stored_form() {
    let policy = AlarmPolicy { delay: seconds(5), ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();
    run(&mut alarm, &policy, 0, &[HOT, HOT]);

    let stored = serde_json::to_string(&alarm).unwrap();
    let mut restored: Alarm = serde_json::from_str(&stored).unwrap();

    assert_eq!(restored, alarm);
    assert_eq!(run(&mut restored, &policy, 2, &[HOT, HOT, HOT, HOT]), [(5, Transition::Raised)]);
}

#[test]
fn an_alarm_whose_rule_is_gone_ends() {
    let policy = AlarmPolicy { latch: true, ..AlarmPolicy::default() };
    let mut alarm = Alarm::default();
    run(&mut alarm, &policy, 0, &[HOT]);

    assert_eq!(alarm.retire(), Some(Change { transition: Transition::Cleared, state: AlarmState::Normal }));
    assert_eq!(alarm.retire(), None);
}
