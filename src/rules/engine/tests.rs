use std::sync::Arc;

use promql_parser::parser;

use super::*;
use crate::model::{AlarmState, Fault, Priority, Scale, Transition};
use crate::rules::alarm::{AlarmPolicy, OnBad};
use crate::rules::bounded::BoundBy;
use crate::rules::live::NAME;
use crate::rules::spec::{AlertSpec, Place};

mod general;

const SECOND: Duration = Duration::from_secs(1);

fn alert(name: &str, expression: &str) -> RuleSpec {
    let spec = AlertSpec {
        policy: AlarmPolicy::default(),
        priority: Priority::High,
        shelve_most: 3600 * SECOND,
        clear: None,
        suppressed_by: Vec::new(),
        annotations: BTreeMap::from([("summary".to_owned(), "{{ $labels.device }} at {{ $value }}".to_owned())]),
        on_arrival: false,
        bound: None,
        on_raised: Vec::new(),
        on_cleared: Vec::new(),
    };
    let labels = BTreeMap::from([("team".to_owned(), "mechanics".to_owned())]);
    let expression = parser::parse(expression).unwrap();
    RuleSpec {
        place: Place::default(),
        name: name.to_owned(),
        expression,
        labels,
        kind: RuleKind::Alert(Box::new(spec)),
    }
}

fn with(mut rule: RuleSpec, change: impl FnOnce(&mut AlertSpec)) -> RuleSpec {
    if let RuleKind::Alert(spec) = &mut rule.kind {
        change(spec);
    }
    rule
}

fn record(name: &str, expression: &str) -> RuleSpec {
    let expression = parser::parse(expression).unwrap();
    RuleSpec {
        place: Place::default(),
        name: name.to_owned(),
        expression,
        labels: BTreeMap::new(),
        kind: RuleKind::Record,
    }
}

/// Series 0 and 1 are the temperature of two presses, series 2 says whether press-1 runs.
fn engine(rules: Vec<RuleSpec>) -> Engine {
    let spec = GroupSpec { name: "test".to_owned(), interval: SECOND, query_offset: Duration::ZERO, limit: 0, rules };
    let names = [("temperature_c", "press-1"), ("temperature_c", "press-2"), ("running", "press-1")];
    let series = (0..).zip(names).map(|(id, (name, device))| {
        let labels = [(NAME, name), ("device", device)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        SeriesSpec { id: Some(SeriesId(id)), labels: Arc::new(labels.into()), scale: Scale::ONE, look_back: 3 * SECOND }
    });
    let setup = RuleSetup { groups: vec![spec], series: series.collect(), ..RuleSetup::default() };
    Engine::new(setup, Timestamp(0)).unwrap()
}

/// A row of one reading for series `id`.
fn row(second: i64, id: u32, value: f64) -> Row {
    let observed = if value.is_nan() { Observed::Bad(Fault::Timeout) } else { Observed::Good(Value::F64(value)) };
    Row { series: [SeriesId(id)].into(), time: Timestamp(second * 1000), observed: vec![observed] }
}

/// One value each second from `from` on, evaluated each second. What was announced, and when.
fn run(engine: &mut Engine, from: i64, values: &[f64]) -> Vec<(i64, Transition)> {
    let mut announced = Vec::new();
    for (second, value) in (from..).zip(values) {
        let mut outcome = Outcome::default();
        engine.take(&[row(second, 0, *value)], &mut outcome);
        engine.advance(Timestamp(second * 1000), &mut outcome);
        announced.extend(outcome.alarms.iter().map(|alarm| (alarm.time.0 / 1000, alarm.transition)));
    }
    announced
}

const BAD: f64 = f64::NAN;

#[test]
fn a_transition_is_complete_in_itself() {
    let mut engine = engine(vec![alert("Hot", "temperature_c > 80")]);
    let mut outcome = Outcome::default();

    engine.take(&[row(1, 0, 85.5), row(1, 1, 20.0)], &mut outcome);
    engine.advance(Timestamp(1000), &mut outcome);

    let [raised] = outcome.alarms.as_slice() else { panic!("{outcome:?}") };
    assert_eq!((raised.name.as_str(), raised.time, raised.value), ("Hot", Timestamp(1000), Some(85.5)));
    assert_eq!(raised.labels["device"], "press-1");
    assert_eq!(raised.labels["team"], "mechanics");
    assert_eq!(raised.annotations["summary"], "press-1 at 85.5");
    assert_eq!(raised.readings[0].series, "temperature_c{device=\"press-1\"}");
    assert_eq!((raised.readings.len(), raised.readings[0].value), (1, Some(85.5)));
    assert_eq!((raised.state, raised.priority), (AlarmState::UnacknowledgedActive, Priority::High));
}

#[test]
fn one_bad_reading_neither_clears_nor_fires_and_a_silent_device_holds() {
    let mut engine = engine(vec![alert("Hot", "temperature_c > 80")]);

    let announced = run(&mut engine, 1, &[90.0, BAD, 90.0, BAD, BAD, BAD, BAD, BAD, 20.0]);

    assert_eq!(announced, [(1, Transition::Raised), (9, Transition::Cleared)]);
}

#[test]
fn what_bad_inputs_do_can_be_said() {
    let resolve = |spec: &mut AlertSpec| spec.policy.on_bad = OnBad::Resolve;
    let mut engine = engine(vec![with(alert("Hot", "temperature_c > 80"), resolve)]);

    let announced = run(&mut engine, 1, &[90.0, BAD, BAD, BAD, BAD]);

    assert_eq!(announced, [(1, Transition::Raised), (4, Transition::Cleared)]);
}

#[test]
fn a_hysteresis_has_two_thresholds() {
    let clear = |spec: &mut AlertSpec| spec.clear = Some(parser::parse("temperature_c < 70").unwrap());
    let mut engine = engine(vec![with(alert("Hot", "temperature_c > 80"), clear)]);

    let announced = run(&mut engine, 1, &[75.0, 85.0, 75.0, 79.0, 69.0, 75.0]);

    assert_eq!(announced, [(2, Transition::Raised), (5, Transition::Cleared)]);
}

#[test]
fn windows_and_recorded_series_feed_rules() {
    let rules = vec![
        record("temperature:mean", "avg by (device) (avg_over_time(temperature_c[3s]))"),
        alert("Warm", "temperature:mean > 50"),
    ];
    let mut engine = engine(rules);

    let announced = run(&mut engine, 1, &[0.0, 0.0, 90.0, 90.0, 90.0, 0.0, 0.0]);

    assert_eq!(announced, [(4, Transition::Raised), (7, Transition::Cleared)]);
}

#[test]
fn with_arrival_each_sample_is_evaluated_at_once() {
    let mut engine = engine(vec![with(alert("Hot", "temperature_c > 80"), |spec| spec.on_arrival = true)]);
    let mut outcome = Outcome::default();

    engine.take(&[row(0, 0, 90.0), row(0, 1, 90.0)], &mut outcome);

    assert_eq!(outcome.alarms.len(), 2);
    assert_eq!(outcome.alarms[0].time, Timestamp(0));
}

#[test]
fn what_arrived_is_not_taken_back_by_an_evaluation_that_was_due_before() {
    let mut engine = engine(vec![with(alert("Hot", "temperature_c > 80"), |spec| spec.on_arrival = true)]);
    let mut outcome = Outcome::default();
    let early = |millis, value| Row { time: Timestamp(millis), ..row(0, 0, value) };

    engine.take(&[early(900, 90.0), early(1050, 20.0)], &mut outcome);
    engine.advance(Timestamp(1000), &mut outcome);

    let announced: Vec<(i64, Transition)> = outcome.alarms.iter().map(|it| (it.time.0, it.transition)).collect();
    assert_eq!(announced, [(900, Transition::Raised), (1050, Transition::Cleared)]);
}

#[test]
fn an_alarm_that_rests_on_a_reading_that_was_lost_stays_until_there_is_a_newer_one() {
    let mut before = engine(vec![alert("Hot", "temperature_c > 80")]);
    assert_eq!(run(&mut before, 1, &[20.0, 90.0]), [(2, Transition::Raised)]);

    // The second reading is not stored when the agent is killed.
    let mut after = engine(vec![alert("Hot", "temperature_c > 80")]);
    let mut outcome = Outcome::default();
    let until = after.restore(&before.remember(), Timestamp(2500), &mut outcome).unwrap();
    after.skip_to(until);
    after.take_history(&[row(1, 0, 20.0)]);
    after.advance(Timestamp(3000), &mut outcome);

    assert_eq!(outcome.alarms, []);
    assert_eq!(run(&mut after, 4, &[90.0, 20.0]), [(5, Transition::Cleared)]);
}

#[test]
fn a_remembered_alarm_is_cleared_by_the_first_reading_that_arrives() {
    let rules = || vec![with(alert("Hot", "temperature_c > 80"), |spec| spec.on_arrival = true)];
    let mut before = engine(rules());
    assert_eq!(run(&mut before, 1, &[90.0]), [(1, Transition::Raised)]);
    let mut after = engine(rules());
    let mut outcome = Outcome::default();
    after.restore(&before.remember(), Timestamp(1500), &mut outcome);

    after.take(&[row(2, 1, 20.0)], &mut outcome);
    assert_eq!(outcome.alarms, []);
    after.take(&[row(3, 0, 20.0)], &mut outcome);

    assert_eq!(outcome.alarms.iter().map(|it| it.transition).collect::<Vec<_>>(), [Transition::Cleared]);
}

#[test]
fn an_alarm_that_another_explains_is_not_announced() {
    let rules = vec![
        alert("Stopped", "running == 0"),
        with(alert("Hot", "temperature_c > 80"), |spec| spec.suppressed_by = vec!["Stopped".to_owned()]),
    ];
    let mut engine = engine(rules);
    let mut outcome = Outcome::default();

    engine.take(&[row(1, 2, 0.0), row(1, 0, 90.0), row(1, 1, 90.0)], &mut outcome);
    engine.advance(Timestamp(1000), &mut outcome);

    let named: Vec<(&str, &str)> =
        outcome.alarms.iter().map(|alarm| (alarm.name.as_str(), alarm.labels["device"].as_str())).collect();
    assert_eq!(named, [("Stopped", "press-1"), ("Hot", "press-2")]);
}

#[test]
fn ranges_can_be_bounded_by_count_pause_and_state() {
    let bounded = |bound| move |spec: &mut AlertSpec| spec.bound = Some(bound);
    let matcher = |name: &str| promql_parser::label::Matcher::new(promql_parser::label::MatchOp::Equal, NAME, name);
    let rules = |bound| vec![with(alert("Mean", "avg_over_time(temperature_c[1h]) > 50"), bounded(bound))];

    let mut count = engine(rules(BoundBy::Count(2)));
    let announced = run(&mut count, 1, &[0.0, 0.0, 0.0, 60.0, 60.0, 0.0]);
    assert_eq!(announced, [(5, Transition::Raised), (6, Transition::Cleared)]);

    let mut session = engine(rules(BoundBy::Session(2 * SECOND)));
    assert_eq!(run(&mut session, 1, &[0.0, 0.0, 0.0, BAD, 60.0]), [(5, Transition::Raised)]);

    let mut state = engine(rules(BoundBy::State(vec![matcher("running")])));
    let mut outcome = Outcome::default();
    state.take(&[row(1, 2, 0.0), row(4, 2, 1.0)], &mut outcome);
    assert_eq!(run(&mut state, 1, &[0.0, 0.0, 0.0, 60.0, 60.0]), [(4, Transition::Raised)]);
}

#[test]
fn timers_go_on_after_a_restart_as_if_nothing_had_happened() {
    let rules = || {
        let delayed = |spec: &mut AlertSpec| spec.policy.delay = 5 * SECOND;
        vec![with(alert("Hot", "avg_over_time(temperature_c[4s]) > 80"), delayed)]
    };
    let values = [0.0, 90.0, 90.0, 99.0, 95.0, 92.0, 91.0, 90.0, 90.0, 90.0, 90.0, 0.0, 0.0, 0.0];
    let undisturbed = run(&mut engine(rules()), 1, &values);
    assert_eq!(undisturbed.len(), 2, "{undisturbed:?}");

    for killed in 1..values.len() {
        // Given an engine that is killed after some seconds: what it remembers may be older than what is stored.
        let mut before = engine(rules());
        let announced = run(&mut before, 1, &values[..killed]);
        let remembered = before.remember();

        // When another takes up what it remembered, and the history.
        let mut after = engine(rules());
        let mut outcome = Outcome::default();
        let until = after.restore(&remembered, Timestamp(0), &mut outcome).unwrap();
        after.skip_to(until);
        let history: Vec<Row> = (1..).zip(&values[..killed]).map(|(second, value)| row(second, 0, *value)).collect();
        after.take_history(&history);
        assert_eq!(outcome.alarms, []);

        // Then the two together say what one would have said.
        let rest = run(&mut after, killed as i64 + 1, &values[killed..]);
        assert_eq!([announced, rest].concat(), undisturbed, "killed after {killed} s");
    }
}

#[test]
fn an_alarm_whose_rule_is_gone_is_ended() {
    let mut before = engine(vec![alert("Hot", "temperature_c > 80")]);
    run(&mut before, 1, &[90.0]);

    let mut outcome = Outcome::default();
    engine(vec![]).restore(&before.remember(), Timestamp(2000), &mut outcome);

    assert_eq!(outcome.alarms.iter().map(|alarm| alarm.transition).collect::<Vec<_>>(), [Transition::Cleared]);
}

#[test]
fn people_can_acknowledge_and_shelve() {
    let waits = |spec: &mut AlertSpec| spec.policy.acknowledge = true;
    let mut engine = engine(vec![with(alert("Hot", "temperature_c > 80"), waits)]);
    run(&mut engine, 1, &[90.0, 20.0]);
    let press = BTreeMap::from([("device".to_owned(), "press-1".to_owned())]);

    let acknowledged = engine.request(Timestamp(3000), "Hot", &press, AlarmRequest::Acknowledge, "eva");
    let again = engine.request(Timestamp(3000), "Hot", &press, AlarmRequest::Acknowledge, "eva");

    assert_eq!(acknowledged[0].as_ref().unwrap().record.by.as_deref(), Some("eva"));
    assert!(again.is_empty() && engine.views().is_empty());
}

#[test]
fn a_window_that_reaches_into_a_hole_says_so() {
    let mut engine = engine(vec![alert("Hot", "avg_over_time(temperature_c[1m]) > 80")]);
    engine.note_hole(Timestamp(0), Timestamp(900));
    let mut outcome = Outcome::default();

    engine.take(&[row(1, 0, 90.0)], &mut outcome);
    engine.advance(Timestamp(1000), &mut outcome);

    assert!(outcome.alarms[0].annotations["hole"].contains("did not run"));
}
